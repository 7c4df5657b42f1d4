//! One copy of a message: what is wanted of it, and the bytes that come of that.

use std::collections::HashSet;
use std::ops::Range;

use bytes::Bytes;

use super::Arrival;
use super::counts::Stopwatch;
use super::wanted::Wanted;
use crate::config::Protected;
use crate::consent::{Person, Store, Timestamp};
use crate::live::Live;
use crate::message::header::fields;
use crate::message::transfer::{Edit, apply};
use crate::policy::conditions::from_domain;
use crate::policy::swap::shortfall;
use crate::policy::{Chosen, Footer, Kind, LinkFate, Mode, Outcome, Request};
use crate::rewrite::notice::{Need, NoPlace, Notice, Question, Texts};
use crate::rewrite::swap::{Gate, Swap};
use crate::rewrite::token::{self, Holder, Mint, Token};
use crate::rewrite::{Copy, LinkTreatment, Opens, Order, Verify, Way, downstream, rewrite};
use crate::sign::{OnBroken, Sender, Sign, Signed, broken_signatures};
use crate::smtp::Reply;
use crate::tracker::{Analysis, Axis, Extent, Inquiry, Placed, Remedy, Verdict};

/// A copy that can leave.
pub(super) struct Made {
    pub(super) bytes: Bytes,
    /// What was done, which can be stricter than what was wanted, and why it is.
    pub(super) done: Outcome,
    pub(super) shortfall: Option<&'static str>,
    /// How many trackers were taken out, and how many now lead to an address of ours.
    pub(super) removed: usize,
    pub(super) swapped: usize,
}

/// What copies are made from.
pub(super) struct Copying<'a> {
    pub(super) live: &'a Live,
    pub(super) mint: &'a Mint,
    pub(super) store: &'a Store,
    pub(super) arrival: &'a Arrival,
    pub(super) chosen: Chosen<'a>,
    pub(super) analysis: &'a Analysis<'a>,
    pub(super) inquiry: Inquiry<'a>,
    /// The texts into which something can be put, where that may be.
    pub(super) texts: Option<&'a Texts<'a>>,
    /// Who the recipients are, in their order.
    pub(super) people: &'a [Person],
    pub(super) now: Timestamp,
    /// Where control fields stand in the message: they are not relayed.
    pub(super) controls: &'a [Range<usize>],
}

impl Copying<'_> {
    /// A copy for these recipients; or what is said instead.
    pub(super) fn make(&self, wanted: Wanted, recipients: &[usize]) -> Result<Made, Reply> {
        let Copying { live, arrival, chosen, .. } = self;
        if chosen.mailstream.mode == Mode::Observe {
            let bytes = self.depart(arrival.message.clone(), Vec::new(), Outcome::Keep)?;
            return Ok(Made { bytes, done: Outcome::Keep, shortfall: None, removed: 0, swapped: 0 });
        }
        // What is stripped since several people share it needs no link any more.
        let need = if wanted.opens == Outcome::Strip { self.need_of_all(wanted) } else { wanted.need };
        let wanted = Wanted { need, ..wanted };
        let (wanted, added, no_place) = match self.placed(wanted, recipients) {
            Ok(added) => (wanted, added, None),
            Err(NoPlace) => {
                // What made the link necessary goes; marks are filled all the same.
                let without = Wanted { opens: Outcome::Strip, need: Need::AtMarks, owner: None, ..wanted };
                let added = self.placed(without, recipients).unwrap_or_default();
                let reason = (wanted.opens != Outcome::Strip).then_some(shortfall::NO_PLACE_FOR_LINK);
                (without, added, reason)
            }
        };
        let holder = self.holder(wanted);
        let once = self.once(wanted, holder.as_ref());
        let opens = match (wanted.opens, &holder, &once, chosen.controller.public_url.as_deref()) {
            (Outcome::Keep, ..) => Opens::Keep,
            (Outcome::SwapGated, Some(holder), _, Some(public_url)) => {
                Opens::Swap(Swap::Gate(self.gate(holder, public_url, wanted)))
            }
            (Outcome::SwapDay | Outcome::SwapShared, _, Some(address), _) => Opens::Swap(Swap::Once(address)),
            (Outcome::Strip | Outcome::SwapGated | Outcome::SwapDay | Outcome::SwapShared, ..) => {
                Opens::Strip
            }
        };
        if !matches!(opens, Opens::Keep) {
            protected(live, self.analysis)?;
        }
        let order = self.order(wanted, opens, &added);
        let made = rewrite(&live.detector, &arrival.message, self.analysis, &order);
        self.finish(wanted, no_place, &order, made)
    }

    /// Whether a copy without trackers needs the link, too.
    fn need_of_all(&self, wanted: Wanted) -> Need {
        let mailstream = self.chosen.mailstream;
        let asks = mailstream.kind == Kind::ConsentRequest && wanted.request == Request::Asks;
        if mailstream.footer == Footer::Always || asks { wanted.need } else { Need::AtMarks }
    }

    /// What is to be done to the copy.
    fn order<'o>(&'o self, wanted: Wanted, opens: Opens<'o>, added: &'o [Placed]) -> Order<'o> {
        let treatment = self.chosen.mailstream.treatment;
        // Whoever agreed to trackers keeps every other picture, too.
        let extent = if wanted.opens == Outcome::SwapGated { Extent::Trackers } else { self.inquiry.extent };
        Order {
            opens,
            added,
            inquiry: Inquiry { extent, ..self.inquiry },
            receipts: treatment.receipts,
            personal: treatment.personal,
            links: match wanted.links {
                LinkFate::Stay => LinkTreatment::Keep,
                LinkFate::Treat => treatment.link_treatment,
            },
            verify: self.live.config.policy.verify,
        }
    }

    fn finish(
        &self,
        wanted: Wanted,
        no_place: Option<&'static str>,
        order: &Order<'_>,
        made: Result<Copy, crate::rewrite::RewriteError>,
    ) -> Result<Made, Reply> {
        let arrival = self.arrival;
        let untouched = || (arrival.message.clone(), Vec::new(), 0, Way::Ordered);
        let (bytes, edits, swapped, way) = match made {
            Ok(Copy::Untouched) => untouched(),
            Ok(Copy::Rewritten { bytes, edits, swapped, way }) => (bytes, edits, swapped, way),
            Err(error) => {
                metrics::counter!("pixelward_unreadable_messages_total").increment(1);
                tracing::error!(id = %arrival.id, message_id = %arrival.message_id(), %error, "a message waits with its sender");
                return Err(Reply::new(
                    451,
                    "4.6.0 The message cannot be checked for trackers, try again later",
                ));
            }
        };
        if way == Way::Strict {
            metrics::counter!("pixelward_strict_rewrites_total").increment(1);
            tracing::error!(id = %arrival.id, "a scan of the rewritten message was not clean; every remote request was taken out");
        }
        let trackers = self.analysis.sightings.iter().filter(|own| own.is_removable_tracker()).count();
        let failed = wanted.opens.is_swap() && swapped == 0 && trackers > 0;
        let done = if failed { Outcome::Strip } else { wanted.opens };
        let bytes = self.depart(bytes, edits, done)?;
        let removed = if done == Outcome::Keep { 0 } else { trackers.saturating_sub(swapped) };
        if done != Outcome::Keep {
            note_personal(self.analysis, order);
        }
        let shortfall = no_place.or(failed.then_some(shortfall::NOT_SWAPPABLE));
        Ok(Made { bytes, done, shortfall, removed, swapped })
    }

    /// Whose a personal copy is.
    fn holder(&self, wanted: Wanted) -> Option<Holder> {
        self.holder_of(wanted.owner?)
    }

    /// Who was erased and is written to again is somebody new: what is sealed for them opens.
    fn holder_of(&self, recipient: usize) -> Option<Holder> {
        let person = *self.people.get(recipient)?;
        self.store.pseudonym(person).ok()?;
        Some(Holder { controller: self.chosen.controller.name.clone(), person, issued: self.now })
    }

    /// The address of a recipient.
    fn address(&self, recipient: usize) -> &str {
        self.inquiry.recipients.get(recipient).copied().unwrap_or_default()
    }

    fn gate<'g>(&'g self, holder: &'g Holder, public_url: &'g str, wanted: Wanted) -> Gate<'g> {
        let address = wanted.owner.map_or("", |own| self.address(own));
        Gate {
            mint: self.mint,
            key: self.live.config.public.token_key,
            public_url,
            holder,
            mailstream: &self.chosen.mailstream.name,
            country: token::top_level_domain(address),
        }
    }

    /// The one address that takes the place of all trackers of a copy whose reader need not agree.
    fn once(&self, wanted: Wanted, holder: Option<&Holder>) -> Option<String> {
        let mailstream = self.chosen.mailstream.name.to_string();
        let token = match wanted.opens {
            Outcome::SwapDay => {
                let country = token::top_level_domain(wanted.owner.map_or("", |own| self.address(own)));
                Token::Day { holder: holder?.clone(), mailstream, country: country.to_owned() }
            }
            Outcome::SwapShared => Token::Shared {
                controller: self.chosen.controller.name.clone(),
                mailstream,
                // A campaign is what one mailstream sends on one day: anything finer could be one person's.
                campaign: self.now.day().to_le_bytes(),
            },
            Outcome::Keep | Outcome::SwapGated | Outcome::Strip => return None,
        };
        self.url(&token)
    }

    fn url(&self, token: &Token) -> Option<String> {
        let public_url = self.chosen.controller.public_url.as_deref()?;
        self.mint.url(public_url, token, self.live.config.public.token_key)
    }

    /// What is put into the texts of a copy: the link to the preference page, and the question or not.
    fn placed(&self, wanted: Wanted, recipients: &[usize]) -> Result<Vec<Placed>, NoPlace> {
        let Some(texts) = self.texts else { return Ok(Vec::new()) };
        let question = match wanted.request {
            Request::Goes => Question::Goes,
            Request::None | Request::Asks | Request::Rejects => Question::Stays,
        };
        let public_url = self.chosen.controller.public_url.as_deref();
        let link = public_url.map(|public_url| match recipients {
            [only] if texts.has_place() || wanted.need != Need::AtMarks => {
                self.personal_link(*only).unwrap_or_else(|| format!("{public_url}/c/"))
            }
            // Whoever shares a copy shares no token.
            _ => format!("{public_url}/c/"),
        });
        Notice {
            link: link.as_deref(),
            public_url: public_url.unwrap_or_default(),
            need: wanted.need,
            question,
            fragments: self.live.fragments(&self.chosen.controller.name),
        }
        .place(texts)
    }

    fn personal_link(&self, recipient: usize) -> Option<String> {
        let hint = token::hint(self.address(recipient));
        self.url(&Token::Preference { holder: self.holder_of(recipient)?, hint })
    }

    /// Control fields go, the next hop's service is told where trackers went, and signatures go that all the edits broke. `edits` are those
    /// that led from the message to `bytes`.
    fn depart(&self, mut bytes: Bytes, mut edits: Vec<Edit>, opens: Outcome) -> Result<Bytes, Reply> {
        let arrival = self.arrival;
        if !self.controls.is_empty() {
            let marks = self.live.config.policy.rulebook.marks(&bytes);
            bytes = Bytes::from(apply(&bytes, &cuts(&marks.cuts)));
            edits.extend(cuts(self.controls));
        }
        if let Some(esp) = arrival.outbound.esp.filter(|_| opens != Outcome::Keep) {
            let unreadable = |error: downstream::NoObject| Reply::new(550, &format!("5.6.0 {error}"));
            let told = apply(&bytes, &downstream::edits(&bytes, esp).map_err(unreadable)?);
            edits.extend(downstream::edits(&arrival.message, esp).map_err(unreadable)?);
            bytes = Bytes::from(told);
        }
        sign(self, bytes, &edits)
    }
}

fn cuts(ranges: &[Range<usize>]) -> Vec<Edit> {
    ranges.iter().cloned().map(Edit::cut_inside).collect()
}

/// A tracker in a part that must not be edited.
fn protected(live: &Live, analysis: &Analysis<'_>) -> Result<(), Reply> {
    let protected = analysis.sightings.iter().any(|sighting| {
        sighting.protection.is_some() && sighting.verdict == Verdict::Tracker && sighting.axis() == Axis::Open
    });
    if !protected {
        return Ok(());
    }
    metrics::counter!("pixelward_protected_total").increment(1);
    match live.config.policy.protected {
        Protected::Pass => Ok(()),
        Protected::Reject => Err(Reply::new(
            550,
            "5.7.1 A signed or encrypted part holds a tracking pixel that the recipient did not agree to; send it without",
        )),
    }
}

/// Counts what was done with pictures that tell readers apart.
fn note_personal(analysis: &Analysis<'_>, order: &Order<'_>) {
    let personal = analysis.sightings.iter().filter(|sighting| sighting.verdict == Verdict::Personal);
    for sighting in personal {
        let done = match order.edit(sighting) {
            None => "kept",
            edit if edit == sighting.remedy(Remedy::Unwrap) => "unwrapped",
            edit if edit == sighting.remedy(Remedy::DropParameter) => "parameter_dropped",
            Some(_) => "stripped",
        };
        metrics::counter!("pixelward_identifying_images_total", "done" => done).increment(1);
    }
}

/// Signatures that the edits broke go, or the message does; and ours comes, where there is a key and nothing was changed that was not scanned again.
fn sign(order: &Copying<'_>, rewritten: Bytes, edits: &[Edit]) -> Result<Bytes, Reply> {
    let live = order.live;
    let broken = match edits {
        [] => Vec::new(),
        _ => broken_signatures(&order.arrival.message, &rewritten),
    };
    let bytes = if broken.is_empty() { rewritten } else { without_broken(order, rewritten, &broken)? };
    let was_verified = edits.is_empty() || live.config.policy.verify == Verify::On;
    let is_wanted = live.config.dkim.sign == Sign::Missing || !broken.is_empty();
    let resigns = broken.is_empty() || live.config.dkim.on_broken == OnBroken::Resign;
    if live.signers.is_empty() || !was_verified || !is_wanted || !resigns {
        return Ok(bytes);
    }
    let domain = from_domain(&bytes).unwrap_or_default();
    let mut clock = Stopwatch::started();
    let origin = order.arrival.origin();
    let tied = live.config.policy.rulebook.tied(&origin);
    let sender = Sender {
        domain: &domain,
        controller: order.chosen.controller.name.as_str(),
        tied: tied.map(|controller| controller.name.as_str()).collect(),
    };
    let signed = live.signers.sign(&bytes, &sender, order.now.0.div_euclid(1000));
    clock.leave("sign");
    match signed {
        Signed::Nothing => Ok(bytes),
        Signed::Withheld(domain) => {
            metrics::counter!("pixelward_signatures_withheld_total").increment(1);
            tracing::warn!(
                id = %order.arrival.id,
                controller = sender.controller,
                domain,
                "a message was not signed: the keys of this domain belong to other controllers; see controllers in [[dkim.key]]"
            );
            Ok(bytes)
        }
        Signed::Fields(fields) => {
            metrics::counter!("pixelward_signed_total").increment(1);
            Ok(Bytes::from([fields.as_bytes(), &bytes].concat()))
        }
    }
}

fn without_broken(order: &Copying<'_>, rewritten: Bytes, broken: &[Range<usize>]) -> Result<Bytes, Reply> {
    let Copying { live, arrival, chosen, .. } = order;
    metrics::counter!("pixelward_signatures_broken_total").increment(broken.len() as u64);
    // Where policy is only observed, it is no reason to reject.
    let rejects = chosen.mailstream.mode == Mode::Enforce && live.config.dkim.on_broken == OnBroken::Reject;
    if live.signers.is_empty() || rejects {
        tracing::warn!(
            id = %arrival.id,
            signatures = broken.len(),
            "an edit breaks a DKIM signature; let the signer stand behind this relay, or give it a [[dkim.key]]"
        );
    }
    if rejects {
        return Err(Reply::new(
            550,
            "5.7.7 Taking out trackers would break the DKIM signature; sign behind this relay",
        ));
    }
    // The header was not changed but for fields that went, so the signatures are found by what they say.
    let signatures: HashSet<&[u8]> =
        broken.iter().filter_map(|range| arrival.message.get(range.clone())).collect();
    let cuts: Vec<Edit> = fields(&rewritten, 0)
        .filter(|field| rewritten.get(field.range.clone()).is_some_and(|own| signatures.contains(own)))
        .map(|field| Edit::cut_inside(field.range))
        .collect();
    Ok(Bytes::from(apply(&rewritten, &cuts)))
}
