//! One copy of a message: what is wanted of it, and the bytes that come of that.

use std::collections::HashSet;
use std::ops::Range;

use bytes::Bytes;

use super::Arrival;
use super::counts::Stopwatch;
use super::plan::Basis;
use super::wanted::Wanted;
use crate::config::Protected;
use crate::consent::{Person, Store};
use crate::faults;
use crate::live::Live;
use crate::message::header::fields;
use crate::message::transfer::{Edit, apply};
use crate::policy::conditions::from_domain;
use crate::policy::swap::shortfall;
use crate::policy::{Footer, Kind, LinkFate, Mode, Outcome, Request};
use crate::record::digest;
use crate::rewrite::downstream::{self, Esp};
use crate::rewrite::notice::{Need, NoPlace, Notice, Question, Texts};
use crate::rewrite::swap::{Gate, Swap};
use crate::rewrite::token::{self, Holder, Mint, Token};
use crate::rewrite::{Copy, LinkTreatment, Opens, Order, RewriteError, Verify, Way, edits, rewrite};
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
    pub(super) basis: &'a Basis<'a>,
    pub(super) inquiry: Inquiry<'a>,
    /// The texts into which something can be put, where that may be.
    pub(super) texts: Option<&'a Texts<'a>>,
    /// Who the recipients are, in their order.
    pub(super) people: &'a [Person],
}

/// What tells copies of different bytes apart.
pub(super) type Fingerprint = [u8; 32];

/// What a copy is to be, once it is known what can be put into it.
struct Treatment {
    wanted: Wanted,
    added: Vec<Placed>,
    /// Why trackers go although that was not wanted.
    no_place: Option<&'static str>,
    /// Whose the copy is, where it is one person's.
    holder: Option<Holder>,
    /// The one address that takes the place of all trackers.
    once: Option<String>,
}

impl Copying<'_> {
    /// A copy for these recipients; or what is said instead. What is wanted of it may have several forms, where all lead to the same
    /// bytes.
    pub(super) fn make(&self, wanted: &[Wanted], recipients: &[usize]) -> Result<Made, Reply> {
        let (first, others) = wanted.split_first().unwrap_or((&Wanted::STRICTEST, &[]));
        let mut made = self.make_one(*first, recipients)?;
        for other in others {
            let treatment = self.treatment(*other, recipients);
            let (done, shortfall) = self.done(&treatment, made.swapped);
            made.done = made.done.join(done);
            made.shortfall = made.shortfall.or(shortfall);
        }
        Ok(made)
    }

    fn make_one(&self, wanted: Wanted, recipients: &[usize]) -> Result<Made, Reply> {
        faults::point("rewrite");
        let Copying { live, arrival, basis, .. } = self;
        if basis.chosen.mailstream.mode == Mode::Observe {
            let bytes = self.depart(arrival.message.clone(), Vec::new(), Outcome::Keep)?;
            return Ok(Made { bytes, done: Outcome::Keep, shortfall: None, removed: 0, swapped: 0 });
        }
        let treatment = self.treatment(wanted, recipients);
        let opens = self.opens(&treatment);
        if !matches!(opens, Opens::Keep) && has_protected_tracker(&basis.analysis) {
            metrics::counter!("pixelward_protected_total").increment(1);
            if live.config.policy.protected == Protected::Reject {
                return Err(Reply::new(550, PROTECTED));
            }
        }
        let order = self.order(treatment.wanted, opens, &treatment.added);
        let made = rewrite(&live.detector, &arrival.message, &basis.analysis, &order);
        self.finish(&treatment, &order, made)
    }

    /// Tells copies of different bytes apart without making them; `None` where no copy leaves.
    pub(super) fn fingerprint(&self, wanted: Wanted, recipients: &[usize]) -> Option<Fingerprint> {
        let Copying { live, arrival, basis, .. } = self;
        let treatment = self.treatment(wanted, recipients);
        let opens = self.opens(&treatment);
        let keeps = matches!(opens, Opens::Keep);
        if !keeps
            && live.config.policy.protected == Protected::Reject
            && has_protected_tracker(&basis.analysis)
        {
            return None;
        }
        let order = self.order(treatment.wanted, opens, &treatment.added);
        let edits = edits(&basis.analysis, &order);
        // Where nothing is changed, it is of no matter what was wanted, unless the next hop's service is told of it.
        let matters = !edits.is_empty() || basis.analysis.trouble.is_some() || arrival.outbound.esp.is_some();
        let mut described = vec![u8::from(matters && keeps)];
        for edit in &edits {
            for number in [edit.range.start, edit.range.end, edit.with.len()] {
                described.extend_from_slice(&(number as u64).to_le_bytes());
            }
            described.extend_from_slice(&edit.with);
        }
        Some(digest::bytes(&described))
    }

    /// What can be put into a copy, and what has to go since something cannot.
    fn treatment(&self, wanted: Wanted, recipients: &[usize]) -> Treatment {
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
        Treatment { wanted, added, no_place, holder, once }
    }

    /// What happens to what reports an open.
    fn opens<'t>(&'t self, treatment: &'t Treatment) -> Opens<'t> {
        let Treatment { wanted, holder, once, .. } = treatment;
        let public_url = self.basis.chosen.controller.public_url.as_deref();
        match (wanted.opens, holder, once, public_url) {
            (Outcome::Keep, ..) => Opens::Keep,
            (Outcome::SwapGated, Some(holder), _, Some(public_url)) => {
                Opens::Swap(Swap::Gate(self.gate(holder, public_url, *wanted)))
            }
            (Outcome::SwapDay | Outcome::SwapShared, _, Some(address), _) => Opens::Swap(Swap::Once(address)),
            (Outcome::Strip | Outcome::SwapGated | Outcome::SwapDay | Outcome::SwapShared, ..) => {
                Opens::Strip
            }
        }
    }

    /// What was done in a copy in which so many trackers were swapped, and why it is less than was wanted.
    fn done(&self, treatment: &Treatment, swapped: usize) -> (Outcome, Option<&'static str>) {
        let wanted = treatment.wanted.opens;
        let failed = wanted.is_swap() && swapped == 0 && self.trackers() > 0;
        let done = if failed { Outcome::Strip } else { wanted };
        (done, treatment.no_place.or(failed.then_some(shortfall::NOT_SWAPPABLE)))
    }

    /// How many trackers of opens can be taken out.
    fn trackers(&self) -> usize {
        self.basis.analysis.sightings.iter().filter(|sighting| sighting.is_removable_tracker()).count()
    }

    /// Whether a copy without trackers needs the link, too.
    fn need_of_all(&self, wanted: Wanted) -> Need {
        let mailstream = self.basis.chosen.mailstream;
        let asks = mailstream.kind == Kind::ConsentRequest && wanted.request == Request::Asks;
        if mailstream.footer == Footer::Always || asks { wanted.need } else { Need::AtMarks }
    }

    /// What is to be done to the copy.
    fn order<'o>(&'o self, wanted: Wanted, opens: Opens<'o>, added: &'o [Placed]) -> Order<'o> {
        let treatment = self.basis.chosen.mailstream.treatment;
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
        treatment: &Treatment,
        order: &Order<'_>,
        made: Result<Copy, RewriteError>,
    ) -> Result<Made, Reply> {
        let arrival = self.arrival;
        let untouched = || (arrival.message.clone(), Vec::new(), 0, Way::Ordered);
        let (bytes, edits, swapped, way) = match made {
            Ok(Copy::Untouched) => untouched(),
            Ok(Copy::Rewritten { bytes, edits, swapped, way }) => (bytes, edits, swapped, way),
            Err(error) => {
                metrics::counter!("pixelward_unreadable_messages_total").increment(1);
                tracing::error!(id = %arrival.id, message_id = %arrival.message_id(), %error, "a message waits with its sender");
                return Err(Reply::new(451, UNCHECKED));
            }
        };
        if way == Way::Strict {
            metrics::counter!("pixelward_strict_rewrites_total").increment(1);
            tracing::error!(id = %arrival.id, "a scan of the rewritten message was not clean; every remote request was taken out");
        }
        let (done, shortfall) = self.done(treatment, swapped);
        let bytes = self.depart(bytes, edits, done)?;
        let removed = if done == Outcome::Keep { 0 } else { self.trackers().saturating_sub(swapped) };
        if done != Outcome::Keep {
            note_personal(&self.basis.analysis, order);
        }
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
        Some(Holder { controller: self.basis.chosen.controller.name.clone(), person, issued: self.basis.at })
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
            mailstream: &self.basis.chosen.mailstream.name,
            country: token::top_level_domain(address),
        }
    }

    /// The one address that takes the place of all trackers of a copy whose reader need not agree.
    fn once(&self, wanted: Wanted, holder: Option<&Holder>) -> Option<String> {
        let mailstream = self.basis.chosen.mailstream.name.to_string();
        let token = match wanted.opens {
            Outcome::SwapDay => {
                let country = token::top_level_domain(wanted.owner.map_or("", |own| self.address(own)));
                Token::Day { holder: holder?.clone(), mailstream, country: country.to_owned() }
            }
            Outcome::SwapShared => Token::Shared {
                controller: self.basis.chosen.controller.name.clone(),
                mailstream,
                // A campaign is what one mailstream sends on one day: anything finer could be one person's.
                campaign: self.basis.at.day().to_le_bytes(),
            },
            Outcome::Keep | Outcome::SwapGated | Outcome::Strip => return None,
        };
        self.url(&token)
    }

    fn url(&self, token: &Token) -> Option<String> {
        let public_url = self.basis.chosen.controller.public_url.as_deref()?;
        self.mint.url(public_url, token, self.live.config.public.token_key)
    }

    /// What is put into the texts of a copy: the link to the preference page, and the question or not.
    fn placed(&self, wanted: Wanted, recipients: &[usize]) -> Result<Vec<Placed>, NoPlace> {
        let Some(texts) = self.texts else { return Ok(Vec::new()) };
        let question = match wanted.request {
            Request::Goes => Question::Goes,
            Request::None | Request::Asks | Request::Rejects => Question::Stays,
        };
        let public_url = self.basis.chosen.controller.public_url.as_deref();
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
            fragments: self.live.fragments(&self.basis.chosen.controller.name),
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
        if !self.basis.controls.is_empty() {
            bytes = without_controls(self.live, &bytes);
            edits.extend(cuts(&self.basis.controls));
        }
        if let Some(esp) = arrival.outbound.esp.filter(|_| opens != Outcome::Keep) {
            edits.extend(downstream::edits(&arrival.message, esp).map_err(unreadable)?);
            bytes = told_not_to_track(&bytes, esp)?;
        }
        faults::point("sign");
        sign(self, bytes, &edits)
    }
}

/// What the client hears of a message that could not be checked for trackers.
pub(super) const UNCHECKED: &str = "4.6.0 The message cannot be checked for trackers, try again later";
/// What it hears of a tracker in a part that must not be edited.
const PROTECTED: &str = "5.7.1 A signed or encrypted part holds a tracking pixel that the recipient did not agree to; send it without";

/// The message without its control fields.
pub(super) fn without_controls(live: &Live, bytes: &Bytes) -> Bytes {
    let marks = live.config.policy.rulebook.marks(bytes);
    if marks.cuts.is_empty() { bytes.clone() } else { Bytes::from(apply(bytes, &cuts(&marks.cuts))) }
}

/// The message with the fields by which the next hop's service is told not to track.
pub(super) fn told_not_to_track(bytes: &Bytes, esp: Esp) -> Result<Bytes, Reply> {
    Ok(Bytes::from(apply(bytes, &downstream::edits(bytes, esp).map_err(unreadable)?)))
}

fn unreadable(error: downstream::NoObject) -> Reply {
    Reply::new(550, &format!("5.6.0 {error}"))
}

fn cuts(ranges: &[Range<usize>]) -> Vec<Edit> {
    ranges.iter().cloned().map(Edit::cut_inside).collect()
}

/// Whether a tracker stands in a part that must not be edited.
fn has_protected_tracker(analysis: &Analysis<'_>) -> bool {
    analysis.sightings.iter().any(|sighting| {
        sighting.protection.is_some() && sighting.verdict == Verdict::Tracker && sighting.axis() == Axis::Open
    })
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
        controller: order.basis.chosen.controller.name.as_str(),
        tied: tied.map(|controller| controller.name.as_str()).collect(),
    };
    let signed = live.signers.sign(&bytes, &sender, order.basis.at.0.div_euclid(1000));
    clock.leave("sign");
    match signed {
        Signed::Nothing => Ok(bytes),
        Signed::Withheld(domain) => {
            metrics::counter!("pixelward_signatures_withheld_total").increment(1);
            tracing::warn!(
                id = %order.arrival.id,
                controller = sender.controller,
                domain,
                "a message was not signed: the keys of this domain belong to other controllers; \
                 see controllers in [[dkim.key]]"
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
    let Copying { live, arrival, basis, .. } = order;
    metrics::counter!("pixelward_signatures_broken_total").increment(broken.len() as u64);
    // Where policy is only observed, it is no reason to reject.
    let rejects =
        basis.chosen.mailstream.mode == Mode::Enforce && live.config.dkim.on_broken == OnBroken::Reject;
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
        .filter(|field| rewritten.get(field.range.clone()).is_some_and(|field| signatures.contains(field)))
        .map(|field| Edit::cut_inside(field.range))
        .collect();
    Ok(Bytes::from(apply(&rewritten, &cuts)))
}
