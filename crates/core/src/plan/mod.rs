//! The plan for one message: what becomes of it for each recipient, and the copies that can leave.
//!
//! ```text
//! analyse -> look up -> decide -> rewrite -> sign
//! ```
//!
//! Nothing else decides that. The pipeline takes these steps one by one, since each may have to leave the
//! network's threads; `pixelward rewrite`, the API's what-if and `pixelward policy explain` take the same
//! steps through [`trial`]. Three words are kept apart: what was *decided* ([`Decided::decision`]), what of
//! it is *possible* ([`Decided::possible`]), and what was *done* ([`Done`]), which is only known once a copy
//! was made.
//!
//! Absent: sockets, clocks, logs and counters. What the relay tells of a copy stands in its [`Notes`].

mod asking;
mod copy;
pub mod explain;
mod fallback;
mod signature;
pub mod trial;
mod wanted;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::consent::{Controller, Person, Standing, Timestamp};
use crate::faults;
use crate::policy::jurisdiction::InForce;
use crate::policy::possible::possible;
use crate::policy::{
    Chosen, Decision, Done, Facts, Instruction, LinkFate, Mode, Origin, Outcome, Purpose, Request, Rulebook,
    decide,
};
use crate::rewrite::downstream::Esp;
use crate::rewrite::notice::{Fragments, Texts};
use crate::rewrite::reader_token::Mint;
use crate::rewrite::{LinkMap, LinkTreatment, Protected, Targets, Verify};
use crate::sign::{OnBroken, Sign, Signers};
use crate::smtp::Reply;
use crate::tracker::{Analysis, Axis, Detector, Inquiry, Remedy, Snapshot, Verdict};
pub use asking::TOO_EARLY;
use asking::asking;
use copy::Fingerprint;
pub use copy::{Made, Notes};
pub use fallback::{UNCHECKED, copy_after, plan_after};
use wanted::{Changeable, Wanted, groups, may_put_in, wanted};

/// What the configuration says about the treatment of mail.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// Finds trackers.
    pub detector: &'a Detector,
    /// Says whose mail a message is, of which kind, and by which rules it is judged.
    pub rulebook: &'a Rulebook,
    /// What is put into the mail of controllers that have texts of their own.
    pub fragments: &'a [(Controller, Fragments)],
    /// What is put into the mail of the others.
    pub default_fragments: &'a Fragments,
    /// What tracked links of controllers lead to, where those say so.
    pub link_maps: &'a [(Controller, Arc<LinkMap>)],
    /// What happens to a message with a tracker in a part that must not be edited.
    pub protected: Protected,
    /// Whether a rewritten message is scanned again.
    pub verify: Verify,
    /// The number of the key that tokens are sealed with.
    pub token_key: u8,
    /// The keys that mail is signed with.
    pub signers: &'a Signers,
    /// Which mail is signed.
    pub sign: Sign,
    /// What happens to signatures that an edit breaks.
    pub on_broken: OnBroken,
}

impl Settings<'_> {
    fn fragments(&self, controller: &Controller) -> &Fragments {
        let found = self.fragments.iter().find(|(name, _)| name == controller);
        found.map_or(self.default_fragments, |(_, fragments)| fragments)
    }

    fn targets(&self, controller: &Controller) -> Targets {
        let found = self.link_maps.iter().find(|(name, _)| name == controller);
        Targets::listed(found.map(|(_, list)| Arc::clone(list)))
    }
}

/// A message, and what the connection and the envelope say of it.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Lines ending in CRLF, dots unstuffed.
    pub bytes: &'a Bytes,
    /// Where it comes from.
    pub origin: Origin<'a>,
    /// The recipients' addresses, in their order.
    pub recipients: &'a [&'a str],
    /// The most copies it may be divided into.
    pub max_copies: usize,
    /// The service that the next hop belongs to, which is told not to track.
    pub esp: Option<Esp>,
    /// When it came.
    pub at: Timestamp,
}

/// What is known of recipients.
pub trait People: Sync {
    /// Whom an address belongs to.
    fn person(&self, address: &str) -> Person;
    /// What somebody said to a controller; `None` where that cannot be looked up: then nothing counts as
    /// granted.
    fn standing(&self, controller: &Controller, person: Person) -> Option<Arc<Standing>>;
    /// Whether a token can be sealed for somebody. A person who was erased and is written to again is a new
    /// one, which has to be noted first.
    fn may_hold(&self, person: Person) -> bool;
    /// Seals what stands in our addresses.
    fn mint(&self) -> &Mint;
}

/// A message as far as it was read, before anything is decided.
#[derive(Debug)]
pub struct Reading<'a> {
    /// Whose mail it is, and of which kind.
    pub chosen: Chosen<'a>,
    /// What the sending application says of consent.
    instruction: Instruction,
    /// Where control fields stand: they are not relayed.
    controls: Vec<Range<usize>>,
    learnt: Option<Snapshot>,
    /// What was found in it.
    pub analysis: Analysis<'a>,
}

/// What was decided for one recipient.
#[derive(Debug)]
pub struct Decided {
    /// Who it is.
    pub person: Person,
    /// The decision, with its reason.
    pub decision: Decision,
    /// What of it is possible.
    pub possible: Outcome,
    /// Why that is less than was decided.
    pub shortfall: Option<&'static str>,
    /// Whether the message may ask this person.
    pub request: Request,
    /// The purposes it asks about, as far as they are not agreed to.
    pub asks: Vec<Purpose>,
}

/// Recipients who get the same copy, or hear the same instead of one.
#[derive(Debug)]
pub struct Group {
    /// Their places among the recipients.
    pub recipients: Vec<usize>,
    /// What their copy is to be; what they hear where they get none. There are several only where all of them
    /// lead to the same bytes.
    wanted: Result<Vec<Wanted>, Reply>,
}

/// What is to be done with a message.
#[derive(Debug)]
pub struct Plan {
    /// For each recipient, in their order.
    pub decided: Vec<Decided>,
    /// Who shares a copy.
    pub groups: Vec<Group>,
    /// How many trackers of opens and requests for a receipt were found.
    pub found: usize,
    /// Links that report who followed them, where links are looked at.
    pub links: usize,
    /// Text parts that cannot be read.
    pub unreadable: usize,
    /// How many recipients may not be asked for their consent yet, and hear so (N19).
    pub asked_too_early: usize,
    /// Whether more copies were wanted than may be made, so that some recipients share the strictest.
    pub is_joined: bool,
}

impl Plan {
    /// What is said of a recipient in the end: what was done, and why it is less than was decided. `made`
    /// tells of the copy.
    pub fn told(&self, recipient: usize, made: Option<(Done, Option<&'static str>)>) -> Told {
        let Some(decided) = self.decided.get(recipient) else { return Told::default() };
        let Some((done, shortfall)) = made else {
            return Told { done: Done::Nothing, shortfall: decided.shortfall.filter(|_| self.found > 0) };
        };
        let is_shared = decided.possible.is_swap() && done == Done::Of(Outcome::Strip);
        let shortfall = decided
            .shortfall
            .or(shortfall)
            .or(is_shared.then_some(crate::policy::possible::shortfall::SHARED_COPY));
        // Nothing fell short where there was nothing to do.
        Told { done, shortfall: shortfall.filter(|_| done != Done::Nothing) }
    }
}

/// What is said of a recipient in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// What was done in the recipient's copy.
    pub done: Done,
    /// Why that is less than was decided.
    pub shortfall: Option<&'static str>,
}

/// Reads a message: whose mail it is, and what stands in it. `learnt` is what the campaign it belongs to has
/// taught; `chosen` stands in for what the rulebook would choose.
pub fn read<'a>(
    settings: &Settings<'a>,
    message: &Message<'a>,
    chosen: Option<Chosen<'a>>,
    learn: impl FnOnce(Chosen<'_>) -> Option<Snapshot>,
) -> Reading<'a> {
    faults::point("choose");
    let marks = settings.rulebook.marks(message.bytes);
    let chosen = chosen.unwrap_or_else(|| settings.rulebook.choose(&message.origin, &marks));
    let learnt = learn(chosen);
    faults::point("analyse");
    let inquiry = inquiry(chosen, learnt.as_ref(), message);
    let analysis = settings.detector.analyse(message.bytes, &inquiry);
    Reading { chosen, instruction: marks.instruction, controls: marks.cuts, learnt, analysis }
}

impl<'a> Reading<'a> {
    /// The texts into which something can be put, where that may be.
    pub fn texts(&self, message: &Message<'_>) -> Option<Texts<'_>> {
        may_put_in(self.chosen).then(|| Texts::of(&self.analysis, message.bytes))
    }
}

/// What is looked for, in the message and in what becomes of it.
fn inquiry<'q>(chosen: Chosen<'_>, learnt: Option<&'q Snapshot>, message: &Message<'q>) -> Inquiry<'q> {
    let treatment = chosen.mailstream.treatment;
    Inquiry {
        recipients: message.recipients,
        extent: treatment.extent,
        links: treatment.links,
        unreadable: treatment.unreadable,
        learnt,
        now: message.at.0,
    }
}

/// Decides for each recipient.
pub fn decide_each(
    settings: &Settings<'_>,
    message: &Message<'_>,
    reading: &Reading<'_>,
    texts: Option<&Texts<'_>>,
    people: &dyn People,
) -> Vec<Decided> {
    faults::point("decide");
    let in_force = settings.rulebook.jurisdictions.at(message.at);
    let has_question = texts.is_some_and(Texts::has_question);
    let one = |address: &&str| {
        let person = people.person(address);
        let standing = people.standing(&reading.chosen.controller.name, person);
        decide_one(
            reading.chosen,
            &in_force,
            has_question,
            (person, standing.as_deref(), address),
            (reading.instruction, message.at),
        )
    };
    message.recipients.iter().map(one).collect()
}

/// Decides for one recipient: who it is, what they said (`None` where that cannot be looked up), and their
/// address; by what the sending application says, at a moment.
pub fn decide_one(
    chosen: Chosen<'_>,
    in_force: &InForce<'_>,
    has_question: bool,
    (person, standing, address): (Person, Option<&Standing>, &str),
    (instruction, now): (Instruction, Timestamp),
) -> Decided {
    let rules = in_force.applying(standing, chosen.mailstream.declared(), address);
    let decision = decide(&Facts {
        rules: &rules,
        mailstream: chosen.mailstream,
        on_grant: chosen.controller.on_grant,
        standing,
        instruction,
        now,
    });
    let (possible, shortfall) = possible(decision.outcome, chosen.controller.public_url.as_deref());
    let (request, asks) = asking(chosen, has_question, standing, now);
    Decided { person, decision, possible, shortfall, request, asks }
}

/// How many links of one message are asked about.
const MAX_ASKED: usize = 200;

/// The tracked links of which nobody has said what they lead to, where a recipient's copy needs that: each as a
/// sighting has it, and as browsers ask for it.
pub fn links_to_ask(
    settings: &Settings<'_>,
    reading: &Reading<'_>,
    decided: &[Decided],
) -> Vec<(String, String)> {
    let treatment = reading.chosen.mailstream.treatment.link_treatment;
    let is_needed = |decided: &Decided| match (treatment, decided.decision.links) {
        (LinkTreatment::Keep, _) | (_, LinkFate::Stay) | (LinkTreatment::Unwrap, LinkFate::Granted) => false,
        (LinkTreatment::Gate, LinkFate::Granted) | (_, LinkFate::Treat) => true,
    };
    if is_observed(reading.chosen) || !decided.iter().any(is_needed) {
        return Vec::new();
    }
    let targets = settings.targets(&reading.chosen.controller.name);
    let mut asked: Vec<(String, String)> = Vec::new();
    for link in tracked_links(&reading.analysis) {
        let is_known = targets.of(&link.url).is_some()
            || link.remedy(Remedy::Unwrap).is_some()
            || asked.iter().any(|(known, _)| *known == link.url);
        if asked.len() < MAX_ASKED && !is_known {
            asked.extend(reading.analysis.address(link).map(|address| (link.url.clone(), address)));
        }
    }
    asked
}

/// What copies of a message are made from.
pub struct Draft<'a> {
    settings: &'a Settings<'a>,
    message: &'a Message<'a>,
    reading: &'a Reading<'a>,
    texts: Option<&'a Texts<'a>>,
    people: &'a dyn People,
    /// Who the recipients are, in their order.
    persons: Vec<Person>,
    inquiry: Inquiry<'a>,
    /// What is known of what tracked links lead to.
    targets: Targets,
}

impl<'a> Draft<'a> {
    /// How many bytes of text the message holds.
    pub fn text_bytes(&self) -> usize {
        self.reading.analysis.text_bytes()
    }

    /// What copies for these recipients are made from.
    pub fn new(
        settings: &'a Settings<'a>,
        message: &'a Message<'a>,
        reading: &'a Reading<'a>,
        texts: Option<&'a Texts<'a>>,
        people: &'a dyn People,
        decided: &[Decided],
    ) -> Draft<'a> {
        let persons = decided.iter().map(|decided| decided.person).collect();
        let inquiry = inquiry(reading.chosen, reading.learnt.as_ref(), message);
        let targets = settings.targets(&reading.chosen.controller.name);
        Draft { settings, message, reading, texts, people, persons, inquiry, targets }
    }

    /// The same, with what a look-up told about tracked links of the message.
    #[must_use]
    pub fn with_asked(self, told: impl IntoIterator<Item = (String, String)>) -> Draft<'a> {
        let targets = self.targets.and_asked(told);
        Draft { targets, ..self }
    }

    /// Says who shares a copy, and who gets none.
    pub fn plan(&self, decided: Vec<Decided>) -> Plan {
        faults::point("plan");
        let found = trackers(&self.reading.analysis).count();
        let changeable = Changeable {
            pixels: trackers(&self.reading.analysis).filter(|sighting| sighting.axis() == Axis::Open).count(),
            links: tracked_links(&self.reading.analysis).count(),
        };
        let rejected =
            |index: &usize| decided.get(*index).is_some_and(|decided| decided.request == Request::Rejects);
        let (early, asked): (Vec<usize>, Vec<usize>) = (0..decided.len()).partition(rejected);
        let wanted: Vec<(usize, Wanted)> = asked
            .into_iter()
            .filter_map(|index| {
                let decided = decided.get(index)?;
                Some((index, wanted(self.reading.chosen, decided, changeable, index)))
            })
            .collect();
        let (by_wanted, is_joined) = groups(&wanted, self.message.max_copies);
        let asked_too_early = early.len();
        let mut groups = Vec::new();
        if !early.is_empty() {
            groups.push(Group { recipients: early, wanted: Err(Reply::new(550, TOO_EARLY)) });
        }
        groups.extend(self.with_equal_copies_joined(by_wanted));
        let (links, unreadable) = (self.reading.analysis.links, self.reading.analysis.unreadable);
        Plan { decided, groups, found, links, unreadable, asked_too_early, is_joined }
    }

    /// Joins groups whose copies have the same bytes: they need one transaction.
    fn with_equal_copies_joined(&self, groups: Vec<(Wanted, Vec<usize>)>) -> Vec<Group> {
        let is_one = groups.len() == 1;
        let mut known: HashMap<Fingerprint, usize> = HashMap::new();
        let mut joined: Vec<Group> = Vec::with_capacity(groups.len());
        for (wanted, recipients) in groups {
            let fingerprint = if is_one { None } else { self.fingerprint(wanted, &recipients) };
            let same = fingerprint.map(|fingerprint| *known.entry(fingerprint).or_insert(joined.len()));
            match same.and_then(|at| joined.get_mut(at)) {
                Some(Group { recipients: all, wanted: Ok(each) }) => {
                    all.extend(recipients);
                    each.push(wanted);
                }
                _ => joined.push(Group { recipients, wanted: Ok(vec![wanted]) }),
            }
        }
        joined
    }
}

/// The trackers of a message that report an open or a receipt.
pub fn trackers<'s>(analysis: &'s Analysis<'_>) -> impl Iterator<Item = &'s crate::tracker::Sighting> {
    let is_one = |sighting: &&crate::tracker::Sighting| {
        sighting.verdict == Verdict::Tracker && sighting.axis() != Axis::Link
    };
    analysis.sightings.iter().filter(is_one)
}

/// The links of a message that report who follows them, and that can be edited.
pub fn tracked_links<'s>(analysis: &'s Analysis<'_>) -> impl Iterator<Item = &'s crate::tracker::Sighting> {
    analysis.sightings.iter().filter(|sighting| sighting.is_tracked_link())
}

/// Whether a mailstream is only observed.
fn is_observed(chosen: Chosen<'_>) -> bool {
    chosen.mailstream.mode == Mode::Observe
}
