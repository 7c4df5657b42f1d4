//! The straight line that every message takes. This file alone knows the order:
//!
//! ```text
//! listen -> session -> receive -> analyse -> look up -> decide -> rewrite -> sign -> deliver -> record
//! ```
//!
//! What comes before `analyse` is in [`crate::server`]; it hands an [`Arrival`] to [`Pipeline::handle`].

mod arrival;
mod asking;
mod copy;
mod counts;
mod proof;
mod wanted;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

use crate::consent::upkeep::{self, Retention};
use crate::consent::{Change, Controller, Person, Store, Timestamp};
use crate::live::Live;
use crate::policy::jurisdiction::InForce;
use crate::policy::swap::{self, shortfall};
use crate::policy::{Chosen, Decision, Facts, Mode, Outcome, Purpose, Request, decide};
use crate::record::digest::{self, BodyHash};
use crate::record::evidence::Evidence;
use crate::record::{self, Line};
use crate::relay::delivery::{self, Answers};
use crate::relay::ledger::{Fate, Key as LedgerKey};
use crate::relay::{Ledger, Mail, Parcel, Transaction};
use crate::rewrite::notice::Texts;
use crate::rewrite::token::Mint;
use crate::server::Budget;
use crate::smtp::{Reply, reply::Class};
use crate::tracker::{Axis, Campaigns, Inquiry, Key, Verdict};
pub use arrival::{Arrival, MessageId};
use arrival::{loops, received};
use asking::{asking, not_to_be_asked, note_requests};
use copy::{Copying, Made};
use counts::{Stopwatch, count, note_decided, note_found};
use wanted::{Wanted, groups, may_put_in, wanted};

/// What memory for copies is counted in, in bytes.
const COPY_UNIT: usize = 4096;
/// Changed copies may take this part of what messages may take.
const COPY_PART: u64 = 4;

/// Sees each copy that the next hop took: the message as it came, who got the copy, and the copy.
pub type Witness = Box<dyn Fn(&Arrival, &[usize], &Bytes) + Send + Sync>;

/// Everything a message meets.
pub struct Pipeline {
    live: ArcSwap<Live>,
    store: Arc<Store>,
    ledger: Ledger,
    witness: Option<Witness>,
    evidence: Option<Evidence>,
    campaigns: Campaigns,
    mint: Mint,
    /// The memory that messages may take.
    pub budget: Budget,
    /// The memory that changed copies may take beside them, in units.
    copies: Arc<Semaphore>,
    copy_units: u32,
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pipeline({:?})", self.store)
    }
}

/// What became of a message.
#[derive(Debug)]
pub struct Handled {
    /// For each recipient, in order.
    pub replies: Vec<Reply>,
    /// For all of them together.
    pub whole: Reply,
    open: Vec<LedgerKey>,
}

/// What was decided for one recipient.
struct Decided {
    person: Person,
    decision: Decision,
    /// What is done of it, and why it is not all that was decided.
    opens: Outcome,
    shortfall: Option<&'static str>,
    /// Whether the message may ask this person.
    request: Request,
    /// What it asks about, as far as that is not agreed to.
    asks: Vec<Purpose>,
}

/// What was decided for each recipient, and the copies that come of it.
struct Enforced {
    at: Timestamp,
    controller: Arc<str>,
    controller_name: Controller,
    mailstream: Arc<str>,
    observed: bool,
    evidence_days: Option<u16>,
    decided: Vec<Decided>,
    found: usize,
    trackers: proof::Trackers,
    copies: Vec<Copied>,
}

/// The hash of a message's body, and those of its copies; `None` where nobody wants them.
type Hashes = Option<(BodyHash, Vec<Option<BodyHash>>)>;

/// One copy of a message as it is to leave, or what is said instead.
struct Copied {
    recipients: Vec<usize>,
    copy: Result<Bytes, Reply>,
    done: Outcome,
    /// Why that is less than was decided.
    shortfall: Option<&'static str>,
    removed: usize,
    swapped: usize,
}

impl Copied {
    fn of(made: Made, recipients: Vec<usize>) -> Copied {
        let Made { bytes, done, shortfall, removed, swapped } = made;
        Copied { recipients, copy: Ok(bytes), done, shortfall, removed, swapped }
    }

    fn rejected(reply: Reply, done: Outcome, recipients: Vec<usize>) -> Copied {
        Copied { recipients, copy: Err(reply), done, shortfall: None, removed: 0, swapped: 0 }
    }

    /// Takes in another copy of the same bytes.
    fn take_in(&mut self, other: Copied) {
        self.recipients.extend(other.recipients);
        self.done = self.done.join(other.done);
        self.shortfall = self.shortfall.or(other.shortfall);
    }
}

impl Enforced {
    /// Whether a copy has bytes of its own, beside those of the message as it came.
    fn has_own_bytes(&self, message: &Bytes) -> bool {
        self.copies.iter().any(|own| own.copy.as_ref().is_ok_and(|copy| copy.as_ptr() != message.as_ptr()))
    }
}

impl Pipeline {
    /// A pipeline over this store, which leaves evidence where it is given somewhere to.
    pub fn new(live: Live, store: Arc<Store>, ledger: Ledger, evidence: Option<Evidence>) -> Arc<Pipeline> {
        Pipeline::made(live, store, ledger, None, evidence)
    }

    /// A pipeline whose messages somebody watches: the demonstration does.
    pub fn witnessed(
        live: Live,
        store: Arc<Store>,
        ledger: Ledger,
        evidence: Option<Evidence>,
        witness: Option<Witness>,
    ) -> Arc<Pipeline> {
        Pipeline::made(live, store, ledger, witness, evidence)
    }

    fn made(
        live: Live,
        store: Arc<Store>,
        ledger: Ledger,
        witness: Option<Witness>,
        evidence: Option<Evidence>,
    ) -> Arc<Pipeline> {
        let budget = Budget::new(live.config.relay.max_in_flight_bytes);
        let units = live.config.relay.max_in_flight_bytes / COPY_PART / COPY_UNIT as u64;
        let copy_units = u32::try_from(units).unwrap_or(u32::MAX >> 4).clamp(1, u32::MAX >> 4);
        let copies = Arc::new(Semaphore::new(copy_units as usize));
        let campaigns = Campaigns::new(live.config.tracker.campaigns);
        let mint = Mint::new(store.derived_key(Mint::LABEL));
        let live = ArcSwap::from_pointee(live);
        Arc::new(Pipeline {
            live,
            store,
            ledger,
            witness,
            evidence,
            campaigns,
            mint,
            budget,
            copies,
            copy_units,
        })
    }

    /// What holds now.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Seals and opens what stands in the addresses that we put into mail.
    pub fn mint(&self) -> &Mint {
        &self.mint
    }

    /// Replaces what can be replaced.
    pub fn reload(&self, live: Live) {
        self.live.store(Arc::new(live));
    }

    /// Whether no client may come again with mail of which some recipients have their copy.
    pub fn ledger_is_empty(&self) -> bool {
        self.ledger.is_empty()
    }

    /// Whether consent can be looked up.
    pub fn store_answers(&self) -> bool {
        let live = self.live();
        let controller = &live.config.policy.rulebook.default_controller().name;
        self.store.lookup(controller, Person([0; 16])).is_ok()
    }

    /// What the store needs once a day. What is wrong with it is logged.
    pub fn look_after_store(&self) {
        let live = self.live();
        let controllers = live.config.policy.rulebook.controllers();
        let retentions: Vec<Retention> = controllers
            .map(|own| Retention { controller: own.name.clone(), days: own.retention_days })
            .collect();
        let sound = match upkeep::once(&self.store, &retentions, Timestamp::now()) {
            Ok((erased, found)) => {
                tracing::info!(
                    erased,
                    records = found.records,
                    people = found.people,
                    "the consent store was looked through"
                );
                for file in &found.damaged_files {
                    tracing::error!(%file, "a file of the consent store is damaged");
                }
                found.is_sound()
            }
            Err(error) => {
                tracing::error!(%error, "the consent store could not be looked through");
                false
            }
        };
        if !sound {
            tracing::error!(
                "the consent store is damaged; nothing is granted that cannot be read. Run `pixelward consent verify`"
            );
        }
        metrics::gauge!("pixelward_consent_store_sound").set(if sound { 1.0 } else { 0.0 });
    }

    /// Takes a message through the rest of the line; gives what the client hears. 250 means that the next hop said 250.
    pub async fn handle(&self, arrival: &Arrival, transaction: &mut Transaction) -> Handled {
        let live = self.live();
        let refused = |reply: Reply| Handled {
            replies: vec![reply.clone(); arrival.envelope.recipients.len()],
            whole: reply,
            open: Vec::new(),
        };
        if let Some(reply) = loops(arrival) {
            return refused(reply);
        }
        let Some(room) = self.room(arrival).await else {
            return refused(Reply::new(452, "4.3.1 No room for the message now, try again later"));
        };
        let started = Instant::now();
        let enforced = self.enforce(&live, arrival);
        let _room = enforced.has_own_bytes(&arrival.message).then_some(room);
        metrics::histogram!("pixelward_enforce_seconds").record(started.elapsed().as_secs_f64());
        // The next hop is waited for meanwhile.
        let hashes = async { self.hashes(arrival, &enforced) };
        let deliver = self.deliver(&live, arrival, &enforced, transaction);
        let (handled, hashes) = tokio::join!(biased; deliver, hashes);
        let mut clock = Stopwatch::started();
        self.record(arrival, &enforced, &handled);
        if let Some(evidence) = &self.evidence {
            evidence.note(proof::note(arrival, enforced, &handled, hashes));
        }
        clock.leave("record");
        handled
    }

    /// Nothing more comes: what evidence waits is written.
    pub fn close(&self) {
        self.evidence.iter().for_each(Evidence::close);
    }

    /// The client has heard what became of its message: the ledger need not remember it.
    pub fn settled(&self, handled: &Handled) {
        if !handled.open.is_empty() {
            self.ledger.close(&handled.open);
        }
    }

    /// The client hung up before it could hear what became of its message: its retry is not to deliver it again.
    pub async fn unheard(&self, arrival: &Arrival, handled: &Handled) {
        let keys = self.ledger.keys(&arrival.listener, &arrival.envelope, &arrival.message);
        let taken =
            keys.into_iter().zip(&handled.replies).filter(|(_, reply)| reply.class() == Class::Positive);
        let taken: Vec<(LedgerKey, Option<Fate>)> =
            taken.map(|(key, _)| (key, Some(Fate::Accepted))).collect();
        tracing::warn!(id = %arrival.id, taken = taken.len(), "the client hung up before it heard what became of its message");
        if !taken.is_empty() && self.ledger.note(taken).await.is_err() {
            tracing::error!(id = %arrival.id, "a retry of this message may be delivered twice");
        }
    }

    /// One log line for each recipient, and counters.
    fn record(&self, arrival: &Arrival, enforced: &Enforced, handled: &Handled) {
        count(handled.whole.class().name());
        let client_id = arrival.client_id();
        let mut asked: Vec<(Person, Change)> = Vec::new();
        for copied in &enforced.copies {
            let mut was_taken = false;
            for own in &copied.recipients {
                let (Some(decided), Some(reply)) = (enforced.decided.get(*own), handled.replies.get(*own))
                else {
                    continue;
                };
                was_taken |= reply.class() == Class::Positive;
                if reply.class() == Class::Positive && !decided.asks.is_empty() {
                    asked.push((decided.person, self.question(arrival, enforced, decided)));
                }
                if let Some(reason) = fell_short(decided, copied) {
                    let wanted = decided.decision.outcome.name();
                    metrics::counter!("pixelward_swaps_stripped_total", "outcome" => wanted, "reason" => reason)
                        .increment(1);
                }
                let line = Line {
                    controller: &enforced.controller,
                    mailstream: &enforced.mailstream,
                    person: decided.person,
                    decision: &decided.decision,
                    shortfall: fell_short(decided, copied),
                    done: copied.done,
                    removed: copied.removed,
                    swapped: copied.swapped,
                    found: enforced.found,
                };
                record::recipient(arrival, &client_id, &arrival.outbound.accepted_tracking, &line, reply);
            }
            if was_taken {
                metrics::counter!("pixelward_trackers_removed_total").increment(copied.removed as u64);
                metrics::counter!("pixelward_trackers_swapped_total").increment(copied.swapped as u64);
                if let (Some(witness), Ok(bytes)) = (&self.witness, &copied.copy) {
                    witness(arrival, &copied.recipients, bytes);
                }
            }
        }
        let stripped = enforced.decided.iter().filter(|own| own.request == Request::Goes).count();
        note_requests("stripped", stripped);
        note_requests("asked", asked.len());
        if !asked.is_empty() {
            self.note_asked(arrival, asked);
        }
    }

    /// Analyse, look up, decide, rewrite, sign: once for each copy that is wanted.
    fn enforce(&self, live: &Live, arrival: &Arrival) -> Enforced {
        let recipients: Vec<&str> =
            arrival.envelope.recipients.iter().map(|recipient| recipient.address.as_str()).collect();
        let now = Timestamp::now();
        let rulebook = &live.config.policy.rulebook;
        let marks = rulebook.marks(&arrival.message);
        let chosen = rulebook.choose(&arrival.origin(), &marks);
        let campaign = Key::of(&chosen.controller.label, &arrival.message);
        let learnt = (live.config.tracker.campaigns > 0).then(|| self.campaigns.snapshot(campaign));
        let inquiry = Inquiry {
            recipients: &recipients,
            extent: chosen.mailstream.treatment.extent,
            links: chosen.mailstream.treatment.links,
            learnt: learnt.as_ref(),
            now: now.0,
        };
        let mut clock = Stopwatch::started();
        let analysis = live.detector.analyse(&arrival.message, &inquiry);
        clock.leave("analyse");
        let texts = may_put_in(chosen).then(|| Texts::of(&analysis, &arrival.message));
        let has_question = texts.as_ref().is_some_and(Texts::has_question);
        if learnt.is_some() {
            self.campaigns.learn(campaign, &analysis.seen, now.0);
        }
        let in_force = rulebook.jurisdictions.at(now);
        let decided: Vec<Decided> = recipients
            .iter()
            .map(|address| self.decide(chosen, &in_force, has_question, address, now))
            .collect();
        clock.leave("decide");
        note_decided(chosen, &decided);
        let found = note_found(&analysis);
        let pixels = analysis
            .sightings
            .iter()
            .filter(|own| own.verdict == Verdict::Tracker && own.axis() == Axis::Open);
        let pixels = pixels.count();
        let trackers = match &self.evidence {
            Some(_) => proof::trackers(&analysis, &live.detector, inquiry.recipients),
            None => proof::Trackers::default(),
        };
        let people: Vec<Person> = decided.iter().map(|own| own.person).collect();
        let copying = Copying {
            live,
            mint: &self.mint,
            store: &self.store,
            arrival,
            chosen,
            analysis: &analysis,
            inquiry,
            texts: texts.as_ref(),
            people: &people,
            now,
            controls: &marks.cuts,
        };
        let mut clock = Stopwatch::started();
        let most = if arrival.answers == Answers::Each { usize::MAX } else { live.config.relay.max_groups };
        let (asked, not_asked): (Vec<usize>, Vec<usize>) = (0..decided.len())
            .partition(|own| decided.get(*own).is_some_and(|own| own.request != Request::Rejects));
        let of = |index: usize| decided.get(index).map(|own| (index, wanted(chosen, own, pixels, index)));
        let wanted: Vec<(usize, Wanted)> = asked.into_iter().filter_map(of).collect();
        let mut copies: Vec<Copied> = not_to_be_asked(arrival, not_asked).into_iter().collect();
        for (wanted, recipients) in groups(&wanted, most) {
            let copied = match copying.make(wanted, &recipients) {
                Ok(made) => Copied::of(made, recipients),
                Err(reply) => {
                    tracing::warn!(id = %arrival.id, message_id = %arrival.message_id(), %reply, "a copy was not relayed");
                    Copied::rejected(reply, wanted.opens, recipients)
                }
            };
            match copies.iter_mut().find(|own| own.copy == copied.copy) {
                // Equal bytes need one transaction.
                Some(same) => same.take_in(copied),
                None => copies.push(copied),
            }
        }
        clock.leave("rewrite");
        let (controller, mailstream) = (&chosen.controller.label, &chosen.mailstream.name);
        Enforced {
            at: now,
            controller: Arc::clone(controller),
            controller_name: chosen.controller.name.clone(),
            mailstream: Arc::clone(mailstream),
            observed: chosen.mailstream.mode == Mode::Observe,
            evidence_days: chosen.controller.evidence_days,
            decided,
            found,
            trackers,
            copies,
        }
    }

    /// Room for a copy beside the message as it came, once there is some; `None` where none becomes free in time.
    async fn room(&self, arrival: &Arrival) -> Option<OwnedSemaphorePermit> {
        let wanted = u32::try_from(arrival.message.len() / COPY_UNIT + 1).unwrap_or(u32::MAX);
        // What is larger than all of it has it alone.
        let room = Arc::clone(&self.copies).acquire_many_owned(wanted.min(self.copy_units));
        timeout_at(arrival.deadline.into(), room).await.ok()?.ok()
    }

    /// Deliver: each copy to its recipients.
    async fn deliver(
        &self,
        live: &Live,
        arrival: &Arrival,
        enforced: &Enforced,
        transaction: &mut Transaction,
    ) -> Handled {
        let head = received(live, arrival);
        let mail = Mail {
            listener: &arrival.listener,
            id: &arrival.id.0,
            host_name: &live.config.relay.host_name,
            envelope: &arrival.envelope,
            head: head.as_bytes(),
            message: &arrival.message,
            answers: arrival.answers,
        };
        let parcels: Vec<Parcel> = enforced
            .copies
            .iter()
            .map(|own| Parcel { recipients: own.recipients.clone(), copy: own.copy.clone() })
            .collect();
        transaction.finish_by(arrival.deadline);
        let started = Instant::now();
        let delivered = delivery::deliver(&mail, parcels, transaction, &self.ledger).await;
        metrics::histogram!("pixelward_deliver_seconds").record(started.elapsed().as_secs_f64());
        Handled { replies: delivered.replies, whole: delivered.whole, open: delivered.open }
    }

    /// The hashes of the bodies, where evidence has them.
    fn hashes(&self, arrival: &Arrival, enforced: &Enforced) -> Hashes {
        self.evidence.as_ref().filter(|own| own.wants_hashes())?;
        let copies = enforced.copies.iter().map(|own| own.copy.as_ref().ok().map(|own| &own[..]));
        Some(digest::bodies(&arrival.message, copies))
    }

    /// Look up, decide.
    fn decide(
        &self,
        chosen: Chosen<'_>,
        in_force: &InForce<'_>,
        has_question: bool,
        address: &str,
        now: Timestamp,
    ) -> Decided {
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
        let (opens, shortfall) = swap::possible(decision.outcome, chosen.controller.public_url.as_deref());
        let (request, asks) = asking(chosen, has_question, standing.as_deref(), now);
        Decided { person, decision, opens, shortfall, request, asks }
    }
}

/// Why a recipient's copy is not what was decided.
fn fell_short(decided: &Decided, copied: &Copied) -> Option<&'static str> {
    let is_shared = decided.opens.is_swap() && copied.done == Outcome::Strip && copied.copy.is_ok();
    let known = decided.shortfall.or(copied.shortfall);
    known.or(is_shared.then_some(shortfall::SHARED_COPY))
}
