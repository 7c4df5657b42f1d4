//! The stations of the line that compute, each as a guarded step: analyse, look up and decide, plan, rewrite
//! and sign. What becomes of a message is decided in [`crate::plan`]; here it gets threads, and is counted
//! and logged.
//!
//! `proof` notes what these stations did, and `supply` gives them what they ask for: both name their types.

use std::sync::Arc;

use super::counts::{Stopwatch, note_decided, note_found, note_requests, station};
use super::step::{PLAIN_BYTES, RECIPIENT_WORK};
use super::{Arrival, Pipeline, proof};
use crate::consent::{Controller, Person, Standing, Store, Timestamp};
use crate::guarded::{Panicked, guarded};
use crate::plan::{
    self, Decided, Draft, Group, Made, Message, Notes, People, Plan, Reading, Settings, decide_each,
};
use crate::policy::{Chosen, Mode};
use crate::rewrite::Verify;
use crate::rewrite::notice::Texts;
use crate::rewrite::reader_token::Mint;
use crate::smtp::Reply;
use crate::tracker::Key;

/// One message at the stations that compute.
pub(super) struct Line<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) arrival: &'a Arrival,
    pub(super) settings: &'a Settings<'a>,
    pub(super) message: &'a Message<'a>,
    pub(super) people: &'a Known<'a>,
}

/// The plan for a message, and what is recorded about it.
pub(super) struct Account {
    pub(super) plan: Plan,
    pub(super) at: Timestamp,
    pub(super) controller: Arc<str>,
    pub(super) controller_name: Controller,
    pub(super) mailstream: Arc<str>,
    pub(super) is_observed: bool,
    pub(super) evidence_days: Option<u16>,
    pub(super) trackers: proof::Trackers,
    /// Whether the message never came, so that nothing was decided.
    pub(super) is_unread: bool,
}

/// Recipients as the store knows them.
pub(super) struct Known<'a> {
    pub(super) store: &'a Store,
    pub(super) mint: &'a Mint,
}

impl People for Known<'_> {
    fn person(&self, address: &str) -> Person {
        self.store.person(address)
    }

    fn standing(&self, controller: &Controller, person: Person) -> Option<Arc<Standing>> {
        let standing = self.store.lookup(controller, person).inspect_err(|error| {
            metrics::counter!("pixelward_store_errors_total").increment(1);
            tracing::error!(%error, "consent could not be looked up; it counts as refused");
        });
        standing.ok()
    }

    fn may_hold(&self, person: Person) -> bool {
        self.store.pseudonym(person).is_ok()
    }

    fn mint(&self) -> &Mint {
        self.mint
    }
}

impl<'a> Line<'a> {
    /// Analyse.
    pub(super) async fn analyse(&self) -> Result<Reading<'a>, Panicked> {
        let Line { pipeline, arrival, settings, message, .. } = self;
        let mut clock = Stopwatch::started();
        let learns = pipeline.campaigns.follows_any();
        let analyse = || {
            let mut campaign = None;
            let learnt = |chosen: Chosen<'_>| {
                campaign = learns.then(|| Key::of(&chosen.controller.label, message.bytes));
                campaign.map(|key| pipeline.campaigns.snapshot(key))
            };
            let reading = plan::read(settings, message, None, learnt);
            if let Some(key) = campaign {
                pipeline.campaigns.learn(key, &reading.analysis.seen, message.at.0);
            }
            reading
        };
        let reading = pipeline.steps.run(&arrival.message, arrival.message.len(), analyse).await;
        clock.leave(station!("analyse"));
        reading
    }

    /// Look up, decide.
    pub(super) async fn decide<'r>(
        &self,
        reading: &'r Reading<'_>,
    ) -> Result<(Option<Texts<'r>>, Vec<Decided>), Panicked> {
        let Line { pipeline, arrival, settings, message, people } = self;
        let mut clock = Stopwatch::started();
        let decide = || {
            let texts = reading.texts(message);
            let decided = decide_each(settings, message, reading, texts.as_ref(), *people);
            note_decided(reading.chosen, &decided);
            (texts, decided)
        };
        let work = reading.analysis.text_bytes() / 2 + message.recipients.len() * RECIPIENT_WORK;
        let decided = pipeline.steps.run(&arrival.message, work, decide).await;
        clock.leave(station!("decide"));
        decided
    }

    /// Says who shares a copy, and who gets none.
    pub(super) async fn plan(
        &self,
        reading: &Reading<'_>,
        draft: &Draft<'_>,
        decided: Vec<Decided>,
    ) -> Result<Account, Panicked> {
        let Line { pipeline, arrival, settings, message, .. } = self;
        let work = reading.analysis.text_bytes() / 4 + decided.len() * RECIPIENT_WORK;
        let plan = || {
            let plan = draft.plan(decided);
            note_found(&reading.analysis);
            if plan.is_joined {
                metrics::counter!("pixelward_groups_joined_total").increment(1);
            }
            if plan.asked_too_early > 0 {
                note_requests("rejected", plan.asked_too_early);
                tracing::warn!(
                    id = %arrival.id, recipients = plan.asked_too_early,
                    "a request for consent came too early"
                );
            }
            let trackers = proof::trackers(&reading.analysis, settings.detector, message.recipients);
            Account { trackers, ..Account::of(reading.chosen, plan, message.at) }
        };
        pipeline.steps.run(&arrival.message, work, plan).await
    }

    /// Rewrite, sign: the copy of a group, or what its recipients hear.
    pub(super) async fn copy(
        &self,
        draft: &Draft<'_>,
        group: &Group,
        chosen: Chosen<'_>,
    ) -> Result<Made, Reply> {
        let Line { pipeline, arrival, .. } = self;
        let mut notes = Notes::default();
        let mut clock = Stopwatch::started();
        let make = || {
            let unsigned = draft.rewrite(group, &mut notes)?;
            let mut clock = Stopwatch::started();
            let made = draft.sign(unsigned, &mut notes);
            clock.leave(station!("sign"));
            made
        };
        let made = pipeline.steps.run(&arrival.message, self.copy_work(draft), make).await;
        self.tell(&notes, chosen);
        let made = made.unwrap_or_else(|fault| self.copy_after(chosen, &fault));
        clock.leave(station!("rewrite"));
        made.inspect_err(|reply| {
            tracing::warn!(
                id = %arrival.id, message_id = %arrival.message_id(), %reply, "a copy was not relayed"
            );
        })
    }

    /// How many bytes are gone through for a copy: all are put in their place, and a scan of the result reads
    /// what lies around the edits, or all of it. A signature needs each byte of the body.
    fn copy_work(&self, draft: &Draft<'_>) -> usize {
        let length = self.arrival.message.len();
        match self.settings.verify {
            Verify::Full => 2 * length,
            Verify::Off | Verify::Difference if self.settings.signers.is_empty() => {
                draft.text_bytes() + length / PLAIN_BYTES
            }
            Verify::Off | Verify::Difference => length,
        }
    }

    /// The plan for a message of which nothing could be decided, and the copy for all of its recipients.
    pub(super) fn plan_after(&self, fault: &Panicked) -> (Account, Result<Made, Reply>) {
        let Line { settings, message, people, .. } = self;
        let (chosen, plan) = plan::plan_after(settings, message, None, |address| people.person(address));
        note_decided(chosen, &plan.decided);
        (Account::of(chosen, plan, message.at), self.copy_after(chosen, fault))
    }

    /// The copy that can leave after an internal error, which is logged here; or what its recipients hear.
    fn copy_after(&self, chosen: Chosen<'_>, fault: &Panicked) -> Result<Made, Reply> {
        let arrival = self.arrival;
        metrics::counter!("pixelward_internal_errors_total").increment(1);
        let message_id = guarded(|| arrival.message_id()).unwrap_or_default();
        let made = plan::copy_after(self.settings, self.message, chosen);
        match &made {
            Ok(_) if chosen.mailstream.mode == Mode::Observe => tracing::error!(
                id = %arrival.id, message_id, site = fault.site,
                "internal error: an observed message was not analysed and leaves as it came; please report it"
            ),
            Ok(_) => {
                metrics::counter!("pixelward_strict_rewrites_total").increment(1);
                tracing::error!(
                    id = %arrival.id, message_id, site = fault.site,
                    "internal error: the message could not be treated as decided, so every remote request \
                     was taken \
                     out; please report it"
                );
            }
            Err((reply, None)) => tracing::error!(
                id = %arrival.id, message_id, site = fault.site, %reply,
                "internal error: the message waits with its sender; please report it"
            ),
            Err((_, Some(second))) => tracing::error!(
                id = %arrival.id, message_id, site = fault.site, second_site = second.site,
                "internal error, and another one while every remote request was taken out: the message waits \
                 with \
                 its sender; please report it"
            ),
        }
        made.map_err(|(reply, _)| reply)
    }

    /// Counts and logs what happened while a copy was made.
    fn tell(&self, notes: &Notes, chosen: Chosen<'_>) {
        let id = &self.arrival.id;
        if notes.has_protected_tracker {
            metrics::counter!("pixelward_protected_total").increment(1);
        }
        if let Some(error) = &notes.failure {
            metrics::counter!("pixelward_unreadable_messages_total").increment(1);
            let message_id = self.arrival.message_id();
            tracing::error!(%id, message_id, %error, "a message waits with its sender");
        }
        if notes.is_strict {
            metrics::counter!("pixelward_strict_rewrites_total").increment(1);
            tracing::error!(
                %id, "a scan of the rewritten message was not clean; every remote request was taken out"
            );
        }
        for done in &notes.personal {
            metrics::counter!("pixelward_identifying_images_total", "done" => *done).increment(1);
        }
        if notes.broken_signatures > 0 {
            metrics::counter!("pixelward_signatures_broken_total").increment(notes.broken_signatures as u64);
        }
        if notes.lacks_key {
            tracing::warn!(
                %id, signatures = notes.broken_signatures,
                "an edit breaks a DKIM signature; let the signer stand behind this relay, or give it a \
                 [[dkim.key]]"
            );
        }
        if let Some(domain) = &notes.withheld {
            metrics::counter!("pixelward_signatures_withheld_total").increment(1);
            tracing::warn!(
                %id, controller = chosen.controller.name.as_str(), domain,
                "a message was not signed: the keys of this domain belong to other controllers; see \
                 controllers \
                 in [[dkim.key]]"
            );
        }
        if notes.is_signed {
            metrics::counter!("pixelward_signed_total").increment(1);
        }
    }
}

impl Account {
    pub(super) fn of(chosen: Chosen<'_>, plan: Plan, at: Timestamp) -> Account {
        Account {
            plan,
            at,
            controller: Arc::clone(&chosen.controller.label),
            controller_name: chosen.controller.name.clone(),
            mailstream: Arc::clone(&chosen.mailstream.name),
            is_observed: chosen.mailstream.mode == Mode::Observe,
            evidence_days: chosen.controller.evidence_days,
            trackers: proof::Trackers::default(),
            is_unread: false,
        }
    }
}
