//! What is to be done with a message: what was decided for each recipient, and who shares a copy.

use std::collections::HashMap;
use std::sync::Arc;

use super::asking::{asking, reject_early_requests};
use super::copy::{Copying, Fingerprint};
use super::counts::{note_decided, note_found};
use super::wanted::{Wanted, groups, may_put_in, wanted};
use super::{Arrival, Pipeline, proof};
use crate::consent::{Controller, Person, Timestamp};
use crate::faults;
use crate::live::Live;
use crate::policy::jurisdiction::InForce;
use crate::policy::swap::possible;
use crate::policy::{Chosen, Decision, Facts, Mode, Outcome, Purpose, Request, decide};
use crate::relay::delivery::Answers;
use crate::rewrite::notice::Texts;
use crate::smtp::Reply;
use crate::tracker::{Analysis, Axis, Inquiry, Key, Snapshot, Verdict};

/// A message as far as it was read, before anything is decided.
pub(super) struct Basis<'a> {
    pub(super) at: Timestamp,
    pub(super) chosen: Chosen<'a>,
    /// Where control fields stand: they are not relayed.
    pub(super) controls: Vec<std::ops::Range<usize>>,
    pub(super) learnt: Option<Snapshot>,
    pub(super) analysis: Analysis<'a>,
}

/// What was decided for one recipient.
pub(super) struct Decided {
    pub(super) person: Person,
    pub(super) decision: Decision,
    /// What of it is possible, and why that is not all that was decided.
    pub(super) opens: Outcome,
    pub(super) shortfall: Option<&'static str>,
    /// Whether the message may ask this person.
    pub(super) request: Request,
    /// What it asks about, as far as that is not agreed to.
    pub(super) asks: Vec<Purpose>,
}

/// Recipients who get the same copy, or hear the same instead of one.
pub(super) struct Group {
    pub(super) recipients: Vec<usize>,
    /// What is wanted of the copy. There are several only where all of them lead to the same bytes.
    pub(super) wanted: Result<Vec<Wanted>, Reply>,
}

/// What is to be done with a message.
pub(super) struct Plan {
    pub(super) at: Timestamp,
    pub(super) controller: Arc<str>,
    pub(super) controller_name: Controller,
    pub(super) mailstream: Arc<str>,
    pub(super) observed: bool,
    pub(super) evidence_days: Option<u16>,
    pub(super) decided: Vec<Decided>,
    /// How many trackers of opens were found.
    pub(super) found: usize,
    pub(super) trackers: proof::Trackers,
    pub(super) groups: Vec<Group>,
}

impl Plan {
    /// A plan in which nobody gets a copy yet.
    pub(super) fn of(chosen: Chosen<'_>, at: Timestamp, decided: Vec<Decided>) -> Plan {
        Plan {
            at,
            controller: Arc::clone(&chosen.controller.label),
            controller_name: chosen.controller.name.clone(),
            mailstream: Arc::clone(&chosen.mailstream.name),
            observed: chosen.mailstream.mode == Mode::Observe,
            evidence_days: chosen.controller.evidence_days,
            decided,
            found: 0,
            trackers: proof::Trackers::default(),
            groups: Vec::new(),
        }
    }
}

impl<'a> Basis<'a> {
    /// The texts into which something can be put, where that may be.
    pub(super) fn texts(&self, message: &[u8]) -> Option<Texts<'_>> {
        may_put_in(self.chosen).then(|| Texts::of(&self.analysis, message))
    }

    /// What is looked for, in the message and in what becomes of it.
    pub(super) fn inquiry<'q>(&'q self, addresses: &'q [&'q str]) -> Inquiry<'q> {
        inquiry(self.chosen, self.learnt.as_ref(), addresses, self.at)
    }
}

fn inquiry<'q>(
    chosen: Chosen<'_>,
    learnt: Option<&'q Snapshot>,
    addresses: &'q [&'q str],
    at: Timestamp,
) -> Inquiry<'q> {
    let treatment = chosen.mailstream.treatment;
    Inquiry { recipients: addresses, extent: treatment.extent, links: treatment.links, learnt, now: at.0 }
}

impl Pipeline {
    /// Analyse: whose mail it is, and what stands in it.
    pub(super) fn analyse<'a>(&self, live: &'a Live, arrival: &'a Arrival, addresses: &[&str]) -> Basis<'a> {
        let at = Timestamp::now();
        faults::point("choose");
        let rulebook = &live.config.policy.rulebook;
        let marks = rulebook.marks(&arrival.message);
        let chosen = rulebook.choose(&arrival.origin(), &marks);
        let campaign = Key::of(&chosen.controller.label, &arrival.message);
        let learnt = (live.config.tracker.campaigns > 0).then(|| self.campaigns.snapshot(campaign));
        faults::point("analyse");
        let analysis =
            live.detector.analyse(&arrival.message, &inquiry(chosen, learnt.as_ref(), addresses, at));
        if learnt.is_some() {
            self.campaigns.learn(campaign, &analysis.seen, at.0);
        }
        Basis { at, chosen, controls: marks.cuts, learnt, analysis }
    }

    /// Look up, decide.
    pub(super) fn decide(
        &self,
        live: &Live,
        basis: &Basis<'_>,
        texts: Option<&Texts<'_>>,
        addresses: &[&str],
    ) -> Vec<Decided> {
        faults::point("decide");
        let in_force = live.config.policy.rulebook.jurisdictions.at(basis.at);
        let has_question = texts.is_some_and(Texts::has_question);
        let one = |address: &&str| self.decide_one(basis, &in_force, has_question, address);
        let decided: Vec<Decided> = addresses.iter().map(one).collect();
        note_decided(basis.chosen, &decided);
        decided
    }

    fn decide_one(
        &self,
        basis: &Basis<'_>,
        in_force: &InForce<'_>,
        has_question: bool,
        address: &str,
    ) -> Decided {
        let (chosen, now) = (basis.chosen, basis.at);
        let person = self.store.person(address);
        let standing = self.store.lookup(&chosen.controller.name, person).inspect_err(|error| {
            metrics::counter!("pixelward_store_errors_total").increment(1);
            tracing::error!(%error, "consent could not be looked up; it counts as refused");
        });
        let standing = standing.ok();
        let rules = in_force.applying(standing.as_deref(), chosen.mailstream.declared(), address);
        let decision = decide(&Facts {
            rules: &rules,
            mailstream: chosen.mailstream,
            on_grant: chosen.controller.on_grant,
            standing: standing.as_deref(),
            now,
        });
        let (opens, shortfall) = possible(decision.outcome, chosen.controller.public_url.as_deref());
        let (request, asks) = asking(chosen, has_question, standing.as_deref(), now);
        Decided { person, decision, opens, shortfall, request, asks }
    }

    /// Who shares a copy, and who gets none.
    pub(super) fn plan(&self, copying: &Copying<'_>, decided: Vec<Decided>) -> Plan {
        faults::point("plan");
        let Copying { live, arrival, basis, .. } = copying;
        let analysis = &basis.analysis;
        let pixels = analysis
            .sightings
            .iter()
            .filter(|sighting| sighting.verdict == Verdict::Tracker && sighting.axis() == Axis::Open)
            .count();
        let (asked, early): (Vec<usize>, Vec<usize>) = (0..decided.len()).partition(|index| {
            decided.get(*index).is_some_and(|decided| decided.request != Request::Rejects)
        });
        let of = |index: usize| {
            decided.get(index).map(|decided| (index, wanted(basis.chosen, decided, pixels, index)))
        };
        let wanted: Vec<(usize, Wanted)> = asked.into_iter().filter_map(of).collect();
        let most = if arrival.answers == Answers::Each { usize::MAX } else { live.config.relay.max_groups };
        let mut plan = Plan::of(basis.chosen, basis.at, decided);
        plan.found = note_found(analysis);
        if self.evidence.is_some() {
            plan.trackers = proof::trackers(analysis, &live.detector, copying.inquiry.recipients);
        }
        plan.groups.extend(reject_early_requests(arrival, early));
        plan.groups.extend(with_equal_copies_joined(copying, groups(&wanted, most)));
        plan
    }
}

/// Joins groups whose copies have the same bytes: they need one transaction.
fn with_equal_copies_joined(copying: &Copying<'_>, groups: Vec<(Wanted, Vec<usize>)>) -> Vec<Group> {
    let is_one = groups.len() == 1;
    let mut known: HashMap<Fingerprint, usize> = HashMap::new();
    let mut joined: Vec<Group> = Vec::with_capacity(groups.len());
    for (wanted, recipients) in groups {
        let fingerprint = if is_one { None } else { copying.fingerprint(wanted, &recipients) };
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
