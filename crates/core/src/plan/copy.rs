//! One copy of a message: what is wanted of it, and the bytes that come of that.
//!
//! Its last step is the signature's (`signature`), which adds to the notes of the copy.

use std::ops::Range;

use bytes::Bytes;

use super::wanted::Wanted;
use super::{Draft, Group, UNCHECKED, is_observed, signature, trackers};
use crate::faults;
use crate::message::transfer::{Edit, apply};
use crate::policy::possible::shortfall;
use crate::policy::{Done, Footer, LinkFate, MailKind, Outcome, Request, Rulebook};
use crate::rewrite::downstream::{self, Esp};
use crate::rewrite::notice::{Need, NoPlace, Notice, Question};
use crate::rewrite::reader_token::{self, Holder, Token};
use crate::rewrite::swap::{Gate, Swap};
use crate::rewrite::{
    Copy, Fate, LinkOrder, LinkTreatment, LinksDone, Opens, Order, Protected, RewriteError, Way, edits,
    fates, links_done, rewrite,
};
use crate::smtp::Reply;
use crate::tracker::{Axis, Extent, Inquiry, Placed, Remedy, Sighting, Verdict};

/// A copy that can leave.
#[derive(Clone, Debug)]
pub struct Made {
    /// The message, below our trace fields.
    pub bytes: Bytes,
    /// What was done in it, which can be stricter than what was wanted.
    pub done: Done,
    /// Why it is less than was wanted.
    pub shortfall: Option<&'static str>,
    /// How many trackers were taken out.
    pub removed: usize,
    /// How many trackers now lead to an address of ours.
    pub swapped: usize,
    /// What became of links that report who follows them.
    pub links: LinksDone,
}

/// What those who watch the relay learn of a copy.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// A tracker that should go stands in a part that must not be edited.
    pub has_protected_tracker: bool,
    /// The scan of the rewritten message was not clean, and every remote request was taken out.
    pub is_strict: bool,
    /// Why no copy could be made that may leave.
    pub failure: Option<RewriteError>,
    /// What was done with each picture that tells readers apart.
    pub personal: Vec<&'static str>,
    /// How many signatures the edits broke.
    pub broken_signatures: usize,
    /// Nobody signs again what was broken.
    pub lacks_key: bool,
    /// Whether the copy was signed.
    pub is_signed: bool,
    /// A domain whose keys belong to other controllers, so that the copy was not signed.
    pub withheld: Option<String>,
}

/// A copy before it is signed.
pub struct Unsigned {
    made: Made,
    /// What led from the message to it.
    edits: Vec<Edit>,
}

/// Tells copies of different bytes apart.
pub(super) type Fingerprint = [u8; 32];

/// What a copy is to be, once it is known what can be put into it.
struct Design {
    wanted: Wanted,
    added: Vec<Placed>,
    /// Why trackers go although that was not wanted.
    no_place: Option<&'static str>,
    /// Whose the copy is, where it is one person's.
    holder: Option<Holder>,
    /// The one address that takes the place of all trackers.
    once: Option<String>,
}

impl Draft<'_> {
    /// The copy of a group, signed.
    ///
    /// # Errors
    ///
    /// What the recipients hear instead.
    pub fn copy(&self, group: &Group, notes: &mut Notes) -> Result<Made, Reply> {
        self.sign(self.rewrite(group, notes)?, notes)
    }

    /// Rewrites: the copy of a group, before it is signed.
    ///
    /// # Errors
    ///
    /// What the recipients hear instead.
    pub fn rewrite(&self, group: &Group, notes: &mut Notes) -> Result<Unsigned, Reply> {
        let wanted = group.wanted.as_deref().map_err(Reply::clone)?;
        let (first, others) = wanted.split_first().unwrap_or((&Wanted::STRICTEST, &[]));
        let mut unsigned = self.rewrite_one(*first, &group.recipients, notes)?;
        let made = &mut unsigned.made;
        for other in others {
            let design = self.design(*other, &group.recipients);
            made.shortfall = made.shortfall.or(self.shortfall(&design, made.swapped, made.done));
        }
        Ok(unsigned)
    }

    /// Signs a copy, and takes out the signatures that its edits broke.
    ///
    /// # Errors
    ///
    /// What the recipients hear where that is a reason to reject.
    pub fn sign(&self, unsigned: Unsigned, notes: &mut Notes) -> Result<Made, Reply> {
        faults::point("sign");
        let Unsigned { made, edits } = unsigned;
        let bytes = signature::settle(self, made.bytes, &edits, notes)?;
        Ok(Made { bytes, ..made })
    }

    /// What an order does with each sighting of the message, for those who ask.
    pub fn fates(&self, group: &Group) -> Vec<Fate> {
        let Some(wanted) = group.wanted.as_ref().ok().and_then(|wanted| wanted.first()) else {
            return Vec::new();
        };
        let design = self.design(*wanted, &group.recipients);
        fates(&self.reading.analysis, &self.order(&design, self.opens(&design)))
    }

    fn rewrite_one(
        &self,
        wanted: Wanted,
        recipients: &[usize],
        notes: &mut Notes,
    ) -> Result<Unsigned, Reply> {
        faults::point("rewrite");
        let Draft { settings, message, reading, .. } = self;
        if is_observed(reading.chosen) {
            let done = if trackers(&reading.analysis).next().is_some() {
                Done::Of(Outcome::Keep)
            } else {
                Done::Nothing
            };
            let bytes = message.bytes.clone();
            let links = LinksDone::default();
            let made = Made { bytes, done, shortfall: None, removed: 0, swapped: 0, links };
            return self.departing(Unsigned { made, edits: Vec::new() }, Outcome::Keep);
        }
        let design = self.design(wanted, recipients);
        let opens = self.opens(&design);
        if !matches!(opens, Opens::Keep) && self.has_protected_tracker() {
            notes.has_protected_tracker = true;
            if settings.protected == Protected::Reject {
                return Err(Reply::new(550, PROTECTED));
            }
        }
        let order = self.order(&design, opens);
        let made = rewrite(settings.detector, message.bytes, &reading.analysis, &order);
        self.finish(&design, &order, made, notes)
    }

    /// Tells copies of different bytes apart without making them; `None` where no copy leaves.
    pub(super) fn fingerprint(&self, wanted: Wanted, recipients: &[usize]) -> Option<Fingerprint> {
        let Draft { settings, message, reading, .. } = self;
        let design = self.design(wanted, recipients);
        let opens = self.opens(&design);
        let keeps = matches!(opens, Opens::Keep);
        if !keeps && settings.protected == Protected::Reject && self.has_protected_tracker() {
            return None;
        }
        let order = self.order(&design, opens);
        let edits = edits(&reading.analysis, &order);
        // Where nothing is changed, it is of no matter what was wanted, unless the next hop's service is told
        // of it.
        let matters = !edits.is_empty() || reading.analysis.trouble.is_some() || message.esp.is_some();
        let mut described = vec![u8::from(matters && keeps)];
        for edit in &edits {
            for number in [edit.range.start, edit.range.end, edit.with.len()] {
                described.extend_from_slice(&(number as u64).to_le_bytes());
            }
            described.extend_from_slice(&edit.with);
        }
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &described);
        hash.as_ref().try_into().ok()
    }

    /// What can be put into a copy, and what has to go since something cannot.
    fn design(&self, wanted: Wanted, recipients: &[usize]) -> Design {
        // What is stripped since several people share it needs no link any more.
        let tracks = wanted.opens != Outcome::Strip || wanted.links == LinkFate::Granted;
        let need = if tracks { wanted.need } else { self.need_of_all(wanted) };
        let wanted = Wanted { need, ..wanted };
        let (wanted, added, no_place) = match self.placed(wanted, recipients) {
            Ok(added) => (wanted, added, None),
            Err(NoPlace) => {
                // What made the link necessary goes; marks are filled all the same.
                let links = match wanted.links {
                    LinkFate::Stay => LinkFate::Stay,
                    LinkFate::Granted | LinkFate::Treat => LinkFate::Treat,
                };
                let without =
                    Wanted { opens: Outcome::Strip, links, need: Need::AtMarks, owner: None, ..wanted };
                let added = self.placed(without, recipients).unwrap_or_default();
                let reason = tracks.then_some(shortfall::NO_PLACE_FOR_LINK);
                (without, added, reason)
            }
        };
        let holder = self.holder(wanted);
        let once = self.once(wanted, holder.as_ref());
        Design { wanted, added, no_place, holder, once }
    }

    /// What happens to what reports an open.
    fn opens<'t>(&'t self, design: &'t Design) -> Opens<'t> {
        let Design { wanted, holder, once, .. } = design;
        let public_url = self.reading.chosen.controller.public_url.as_deref();
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

    /// What was done in a copy in which so many trackers were swapped. It is read off what the order does, so
    /// that nothing is claimed that did not happen.
    fn done(&self, order: &Order<'_>, wanted: Outcome, swapped: usize) -> Done {
        if swapped > 0 {
            return Done::Of(wanted);
        }
        let places =
            || self.reading.analysis.sightings.iter().filter(|sighting| sighting.axis() != Axis::Link);
        let goes = |sighting: &Sighting| sighting.protection.is_none() && order.edit(sighting).is_some();
        if places().any(goes) {
            return Done::Of(Outcome::Strip);
        }
        match places().any(|sighting| sighting.verdict == Verdict::Tracker) {
            true => Done::Of(Outcome::Keep),
            false => Done::Nothing,
        }
    }

    /// Why what was done is less than was wanted.
    fn shortfall(&self, design: &Design, swapped: usize, done: Done) -> Option<&'static str> {
        let wanted = design.wanted.opens;
        let failed = wanted.is_swap() && swapped == 0 && self.removable_trackers() > 0;
        let stays =
            wanted != Outcome::Keep && done == Done::Of(Outcome::Keep) && self.has_protected_tracker();
        design
            .no_place
            .or(failed.then_some(shortfall::NOT_SWAPPABLE))
            .or(stays.then_some(shortfall::PROTECTED_PART))
    }

    /// How many trackers of opens can be taken out.
    fn removable_trackers(&self) -> usize {
        self.reading.analysis.sightings.iter().filter(|sighting| sighting.is_removable_tracker()).count()
    }

    /// Whether a tracker stands in a part that must not be edited.
    fn has_protected_tracker(&self) -> bool {
        trackers(&self.reading.analysis)
            .any(|sighting| sighting.protection.is_some() && sighting.axis() == Axis::Open)
    }

    /// Whether a copy without trackers needs the link, too.
    fn need_of_all(&self, wanted: Wanted) -> Need {
        let mailstream = self.reading.chosen.mailstream;
        let asks = mailstream.kind == MailKind::ConsentRequest && wanted.request == Request::Asks;
        if mailstream.footer == Footer::Always || asks { wanted.need } else { Need::AtMarks }
    }

    /// What is to be done to the copy.
    fn order<'o>(&'o self, design: &'o Design, opens: Opens<'o>) -> Order<'o> {
        let treatment = self.reading.chosen.mailstream.treatment;
        // Whoever agreed to trackers keeps every other picture, too.
        let is_gated = design.wanted.opens == Outcome::SwapGated;
        let extent = if is_gated { Extent::Trackers } else { self.inquiry.extent };
        Order {
            opens,
            added: &design.added,
            inquiry: Inquiry { extent, ..self.inquiry },
            receipts: treatment.receipts,
            personal: treatment.personal,
            links: self.links(design),
            verify: self.settings.verify,
        }
    }

    /// What is done with tracked links.
    fn links<'o>(&'o self, design: &'o Design) -> LinkOrder<'o> {
        let chosen = self.reading.chosen;
        let wanted = design.wanted;
        match (wanted.links, chosen.mailstream.treatment.link_treatment) {
            (LinkFate::Stay, _) | (_, LinkTreatment::Keep) | (LinkFate::Granted, LinkTreatment::Unwrap) => {
                LinkOrder::Keep
            }
            (LinkFate::Granted, LinkTreatment::Gate) => {
                match (&design.holder, chosen.controller.public_url.as_deref()) {
                    (Some(holder), Some(public_url)) => {
                        LinkOrder::Gate(self.gate(holder, public_url, wanted), &self.targets)
                    }
                    _ => LinkOrder::Unwrap(&self.targets),
                }
            }
            (LinkFate::Treat, LinkTreatment::Unwrap | LinkTreatment::Gate) => {
                LinkOrder::Unwrap(&self.targets)
            }
        }
    }

    fn finish(
        &self,
        design: &Design,
        order: &Order<'_>,
        made: Result<Copy, RewriteError>,
        notes: &mut Notes,
    ) -> Result<Unsigned, Reply> {
        let (bytes, edits, swapped, links, way) = match made {
            Ok(Copy::Untouched) => {
                let links = links_done(&self.reading.analysis, order);
                (self.message.bytes.clone(), Vec::new(), 0, links, Way::Ordered)
            }
            Ok(Copy::Rewritten { bytes, edits, swapped, links, way }) => (bytes, edits, swapped, links, way),
            Err(error) => {
                notes.failure = Some(error);
                return Err(Reply::new(451, UNCHECKED));
            }
        };
        notes.is_strict = way == Way::Strict;
        let wanted = design.wanted.opens;
        let done = match way {
            Way::Ordered => self.done(order, wanted, swapped),
            Way::Strict => Done::Of(Outcome::Strip),
        };
        let shortfall = self.shortfall(design, swapped, done);
        let removed =
            if wanted == Outcome::Keep { 0 } else { self.removable_trackers().saturating_sub(swapped) };
        if wanted != Outcome::Keep {
            notes.personal = self.personal(order);
        }
        let made = Made { bytes, done, shortfall, removed, swapped, links };
        self.departing(Unsigned { made, edits }, wanted)
    }

    /// What an order does with pictures that tell readers apart.
    fn personal(&self, order: &Order<'_>) -> Vec<&'static str> {
        let personal =
            self.reading.analysis.sightings.iter().filter(|sighting| sighting.verdict == Verdict::Personal);
        personal
            .map(|sighting| match order.edit(sighting) {
                None => "kept",
                edit if edit == sighting.remedy(Remedy::Unwrap) => "unwrapped",
                edit if edit == sighting.remedy(Remedy::DropParameter) => "parameter_dropped",
                Some(_) => "stripped",
            })
            .collect()
    }

    /// Whose a personal copy is.
    fn holder(&self, wanted: Wanted) -> Option<Holder> {
        self.holder_of(wanted.owner?)
    }

    /// Who was erased and is written to again is somebody new: what is sealed for them opens.
    fn holder_of(&self, recipient: usize) -> Option<Holder> {
        let person = *self.persons.get(recipient)?;
        let controller = self.reading.chosen.controller.name.clone();
        self.people.may_hold(person).then_some(Holder { controller, person, issued: self.message.at })
    }

    /// The address of a recipient.
    fn address(&self, recipient: usize) -> &str {
        self.message.recipients.get(recipient).copied().unwrap_or_default()
    }

    fn gate<'g>(&'g self, holder: &'g Holder, public_url: &'g str, wanted: Wanted) -> Gate<'g> {
        let address = wanted.owner.map_or("", |owner| self.address(owner));
        Gate {
            mint: self.people.mint(),
            key: self.settings.token_key,
            public_url,
            holder,
            mailstream: &self.reading.chosen.mailstream.name,
            country: reader_token::top_level_domain(address),
        }
    }

    /// The one address that takes the place of all trackers of a copy whose reader need not agree.
    fn once(&self, wanted: Wanted, holder: Option<&Holder>) -> Option<String> {
        let mailstream = self.reading.chosen.mailstream.name.to_string();
        let token = match wanted.opens {
            Outcome::SwapDay => {
                let country =
                    reader_token::top_level_domain(wanted.owner.map_or("", |owner| self.address(owner)));
                Token::Day { holder: holder?.clone(), mailstream, country: country.to_owned() }
            }
            Outcome::SwapShared => Token::Shared {
                controller: self.reading.chosen.controller.name.clone(),
                mailstream,
                // A campaign is what one mailstream sends on one day: anything finer could be one person's.
                campaign: self.message.at.day().to_le_bytes(),
            },
            Outcome::Keep | Outcome::SwapGated | Outcome::Strip => return None,
        };
        self.url(&token)
    }

    fn url(&self, token: &Token) -> Option<String> {
        let public_url = self.reading.chosen.controller.public_url.as_deref()?;
        self.people.mint().url(public_url, token, self.settings.token_key)
    }

    /// What is put into the texts of a copy: the link to the preference page, and the question or not.
    fn placed(&self, wanted: Wanted, recipients: &[usize]) -> Result<Vec<Placed>, NoPlace> {
        let Some(texts) = self.texts else { return Ok(Vec::new()) };
        let question = match wanted.request {
            Request::Goes => Question::Goes,
            Request::None | Request::Asks | Request::Rejects => Question::Stays,
        };
        let public_url = self.reading.chosen.controller.public_url.as_deref();
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
            fragments: self.settings.fragments(&self.reading.chosen.controller.name),
        }
        .place(texts)
    }

    fn personal_link(&self, recipient: usize) -> Option<String> {
        let hint = reader_token::hint(self.address(recipient));
        self.url(&Token::Preference { holder: self.holder_of(recipient)?, hint })
    }

    /// The copy without control fields, and with what tells the next hop's service not to track where
    /// trackers go.
    fn departing(&self, unsigned: Unsigned, opens: Outcome) -> Result<Unsigned, Reply> {
        let Unsigned { mut made, mut edits } = unsigned;
        if !self.reading.controls.is_empty() {
            made.bytes = without_controls(self.settings.rulebook, &made.bytes);
            edits.extend(cuts(&self.reading.controls));
        }
        if let Some(esp) = self.message.esp.filter(|_| opens != Outcome::Keep) {
            edits.extend(downstream::edits(self.message.bytes, esp).map_err(unreadable)?);
            made.bytes = told_not_to_track(&made.bytes, esp)?;
        }
        Ok(Unsigned { made, edits })
    }
}

/// What recipients hear of a tracker in a part that must not be edited.
const PROTECTED: &str = "5.7.1 A signed or encrypted part holds a tracking pixel that the recipient did not \
                         agree to; send it without";

/// The message without its control fields.
pub(super) fn without_controls(rulebook: &Rulebook, bytes: &Bytes) -> Bytes {
    let marks = rulebook.marks(bytes);
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
