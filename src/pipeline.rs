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
mod fallback;
mod plan;
mod proof;
mod step;
mod supply;
mod wanted;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

use crate::consent::upkeep::{self, Retention};
use crate::consent::{Change, Person, Store, Timestamp};
use crate::faults;
use crate::guarded::{Panicked, guarded};
use crate::live::Live;
use crate::policy::swap::shortfall;
use crate::policy::{Outcome, Request};
use crate::record::digest;
use crate::record::evidence::Evidence;
use crate::record::{self, Line};
use crate::relay::delivery;
use crate::relay::ledger::{Fate, Key as LedgerKey};
use crate::relay::{Copies, Ledger, Mail, Parcel, Transaction};
use crate::rewrite::notice::Texts;
use crate::rewrite::token::Mint;
use crate::server::Budget;
use crate::smtp::{Reply, reply::Class};
use crate::tracker::Campaigns;
pub use arrival::{Arrival, MessageId};
use arrival::{loops, received};
use asking::note_requests;
use copy::Copying;
use counts::{Stopwatch, count};
use plan::{Basis, Decided, Plan};
use step::{RECIPIENT_WORK, Steps};
use supply::{Copied, Supply};

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
    steps: Steps,
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pipeline({:?})", self.store)
    }
}

/// Where copies go.
enum Exit<'a> {
    /// To the next hop.
    NextHop(&'a mut Transaction),
    /// To somebody who looks at them: each with its recipients, or what they would hear instead.
    Shown(&'a mut Vec<(Vec<usize>, Result<Bytes, Reply>)>),
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

impl Handled {
    /// Everybody hears the same, and nothing was delivered.
    fn refused(arrival: &Arrival, reply: Reply) -> Handled {
        let replies = vec![reply.clone(); arrival.envelope.recipients.len()];
        Handled { replies, whole: reply, open: Vec::new() }
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
            steps: Steps::new(),
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

    /// What the relay cannot do at the moment, for those who watch it; `None` where it does all it should.
    /// Mail flows all the same.
    pub fn trouble(&self) -> Option<String> {
        if !self.store_answers() {
            return Some("consent cannot be looked up; trackers are stripped for everybody".to_owned());
        }
        let evidence = self.evidence.as_ref().and_then(Evidence::trouble);
        evidence.map(|why| format!("evidence is being lost: {why}; mail flows"))
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
        self.line(arrival, Exit::NextHop(transaction)).await
    }

    /// Takes a message through the line up to its delivery, and gives each copy with its recipients, or what they would hear instead.
    /// Nothing is delivered or recorded.
    pub async fn copies(&self, arrival: &Arrival) -> Vec<(Vec<usize>, Result<Bytes, Reply>)> {
        let mut copies = Vec::new();
        self.line(arrival, Exit::Shown(&mut copies)).await;
        copies
    }

    async fn line(&self, arrival: &Arrival, exit: Exit<'_>) -> Handled {
        let live = self.live();
        if let Some(reply) = guarded(|| loops(arrival)).unwrap_or_default() {
            return Handled::refused(arrival, reply);
        }
        let Some(room) = self.room(arrival).await else {
            let reply = Reply::new(452, "4.3.1 No room for the message now, try again later");
            return Handled::refused(arrival, reply);
        };
        let started = Instant::now();
        let addresses = arrival.addresses();
        // The next hop may take long: of what is needed to make the one copy, nothing is kept meanwhile.
        let (plan, made) = {
            let basis = match self.analysed(&live, arrival, &addresses).await {
                Ok(basis) => basis,
                Err(fault) => return self.handle_after(&live, arrival, &fault, room, exit).await,
            };
            let (texts, decided) = match self.decided(&live, arrival, &basis, &addresses).await {
                Ok(decided) => decided,
                Err(fault) => return self.handle_after(&live, arrival, &fault, room, exit).await,
            };
            let people: Vec<Person> = decided.iter().map(|decided| decided.person).collect();
            let copying = Copying {
                live: &live,
                mint: &self.mint,
                store: &self.store,
                arrival,
                basis: &basis,
                inquiry: basis.inquiry(&addresses),
                texts: texts.as_ref(),
                people: &people,
            };
            let plan = match self.planned(&copying, decided).await {
                Ok(plan) => plan,
                Err(fault) => return self.handle_after(&live, arrival, &fault, room, exit).await,
            };
            let [group] = &plan.groups[..] else {
                note_enforced(started);
                let mut supply = Supply::in_turn(self, &plan.groups, &copying);
                return self.finish(&live, arrival, &plan, &mut supply, exit).await;
            };
            let made = self.copy_for(&copying, group).await;
            (plan, made)
        };
        note_enforced(started);
        let has_own_bytes = made.as_ref().is_ok_and(|made| made.bytes.as_ptr() != arrival.message.as_ptr());
        let _room = has_own_bytes.then_some(room);
        let mut supply = Supply::ready(self, &plan.groups, made);
        self.finish(&live, arrival, &plan, &mut supply, exit).await
    }

    /// The rest of the line for a message of which nothing could be decided.
    async fn handle_after(
        &self,
        live: &Live,
        arrival: &Arrival,
        fault: &Panicked,
        _room: OwnedSemaphorePermit,
        exit: Exit<'_>,
    ) -> Handled {
        let work = 2 * arrival.message.len();
        let planned = self.steps.run(&arrival.message, work, || self.plan_after(live, arrival, fault)).await;
        let Ok((plan, made)) = planned else {
            tracing::error!(id = %arrival.id, site = fault.site, "internal error: a message waits with its sender; please report it");
            return Handled::refused(arrival, Reply::new(451, copy::UNCHECKED));
        };
        let mut supply = Supply::ready(self, &plan.groups, made);
        self.finish(live, arrival, &plan, &mut supply, exit).await
    }

    /// Analyse.
    async fn analysed<'a>(
        &self,
        live: &'a Live,
        arrival: &'a Arrival,
        addresses: &[&str],
    ) -> Result<Basis<'a>, Panicked> {
        let mut clock = Stopwatch::started();
        let analyse = || self.analyse(live, arrival, addresses);
        let basis = self.steps.run(&arrival.message, arrival.message.len(), analyse).await;
        clock.leave("analyse");
        basis
    }

    /// Look up, decide.
    async fn decided<'b>(
        &self,
        live: &Live,
        arrival: &Arrival,
        basis: &'b Basis<'_>,
        addresses: &[&str],
    ) -> Result<(Option<Texts<'b>>, Vec<Decided>), Panicked> {
        let mut clock = Stopwatch::started();
        let decide = || {
            let texts = basis.texts(&arrival.message);
            let decided = self.decide(live, basis, texts.as_ref(), addresses);
            (texts, decided)
        };
        let work = arrival.message.len() / 2 + addresses.len() * RECIPIENT_WORK;
        let decided = self.steps.run(&arrival.message, work, decide).await;
        clock.leave("decide");
        decided
    }

    /// Who shares a copy, and who gets none.
    async fn planned(&self, copying: &Copying<'_>, decided: Vec<Decided>) -> Result<Plan, Panicked> {
        let message = &copying.arrival.message;
        let work = message.len() / 4 + decided.len() * RECIPIENT_WORK;
        self.steps.run(message, work, || self.plan(copying, decided)).await
    }

    /// Deliver, record.
    async fn finish(
        &self,
        live: &Live,
        arrival: &Arrival,
        plan: &Plan,
        supply: &mut Supply<'_>,
        exit: Exit<'_>,
    ) -> Handled {
        let transaction = match exit {
            Exit::NextHop(transaction) => transaction,
            Exit::Shown(copies) => {
                for (number, group) in plan.groups.iter().enumerate() {
                    copies.push((group.recipients.clone(), supply.copy(number).await));
                }
                return Handled {
                    replies: Vec::new(),
                    whole: Reply::new(250, "2.0.0 Shown"),
                    open: Vec::new(),
                };
            }
        };
        let at_hand = supply.at_hand();
        // The next hop is waited for meanwhile.
        let hashes = self.hashes(arrival, &at_hand);
        let deliver = self.deliver(live, arrival, plan, supply, transaction);
        let (handled, hashes) = tokio::join!(biased; deliver, hashes);
        let mut clock = Stopwatch::started();
        // The mail is on its way: whatever happens here, the client hears so.
        let recorded = self.steps.run(&arrival.message, 0, || {
            faults::point("record");
            self.record(arrival, plan, &supply.copied, &handled);
            if let Some(evidence) = &self.evidence {
                evidence.note(proof::note(arrival, plan, &supply.copied, &handled, hashes));
            }
        });
        if let Err(Panicked { site }) = recorded.await {
            metrics::counter!("pixelward_internal_errors_total").increment(1);
            tracing::error!(
                id = %arrival.id, site,
                "internal error: what became of a message could not be recorded; please report it"
            );
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
    fn record(&self, arrival: &Arrival, plan: &Plan, copies: &[Copied], handled: &Handled) {
        count(handled.whole.class().name());
        let client_id = arrival.client_id();
        let mut asked: Vec<(Person, Change)> = Vec::new();
        for (group, copied) in plan.groups.iter().zip(copies) {
            let mut was_taken = false;
            for recipient in &group.recipients {
                let (Some(decided), Some(reply)) =
                    (plan.decided.get(*recipient), handled.replies.get(*recipient))
                else {
                    continue;
                };
                was_taken |= reply.class() == Class::Positive;
                if reply.class() == Class::Positive && !decided.asks.is_empty() {
                    asked.push((decided.person, self.question(arrival, plan, decided)));
                }
                let shortfall = shortfall_reason(decided, copied);
                if let Some(reason) = shortfall {
                    let wanted = decided.decision.outcome.name();
                    metrics::counter!("pixelward_swaps_stripped_total", "outcome" => wanted, "reason" => reason)
                        .increment(1);
                }
                let line = Line {
                    controller: &plan.controller,
                    mailstream: &plan.mailstream,
                    person: decided.person,
                    decision: &decided.decision,
                    shortfall,
                    done: copied.done.unwrap_or(decided.opens),
                    removed: copied.removed,
                    swapped: copied.swapped,
                    found: plan.found,
                };
                record::recipient(arrival, &client_id, &arrival.outbound.accepted_tracking, &line, reply);
            }
            if was_taken {
                metrics::counter!("pixelward_trackers_removed_total").increment(copied.removed as u64);
                metrics::counter!("pixelward_trackers_swapped_total").increment(copied.swapped as u64);
                if let (Some(witness), Some(bytes)) = (&self.witness, &copied.bytes) {
                    witness(arrival, &group.recipients, bytes);
                }
            }
        }
        let stripped = plan.decided.iter().filter(|decided| decided.request == Request::Goes).count();
        note_requests("stripped", stripped);
        note_requests("asked", asked.len());
        if !asked.is_empty() {
            self.note_asked(arrival, asked);
        }
    }

    /// Room for what is held beside the message as it came, once there is some; `None` where none becomes free in time. That is one
    /// copy at a time, and what was read of the message while there may be several.
    async fn room(&self, arrival: &Arrival) -> Option<OwnedSemaphorePermit> {
        let held = if arrival.envelope.recipients.len() > 1 { 2 } else { 1 };
        let wanted = u32::try_from(held * arrival.message.len() / COPY_UNIT + 1).unwrap_or(u32::MAX);
        // What is larger than all of it has it alone.
        let room = Arc::clone(&self.copies).acquire_many_owned(wanted.min(self.copy_units));
        timeout_at(arrival.deadline.into(), room).await.ok()?.ok()
    }

    /// Deliver: each copy to its recipients.
    async fn deliver(
        &self,
        live: &Live,
        arrival: &Arrival,
        plan: &Plan,
        supply: &mut Supply<'_>,
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
        let parcel =
            |(number, group): (usize, &plan::Group)| Parcel { number, recipients: group.recipients.clone() };
        let parcels: Vec<Parcel> = plan.groups.iter().enumerate().map(parcel).collect();
        transaction.finish_by(arrival.deadline);
        let started = Instant::now();
        let delivered = delivery::deliver(&mail, parcels, supply, transaction, &self.ledger).await;
        metrics::histogram!("pixelward_deliver_seconds").record(started.elapsed().as_secs_f64());
        Handled { replies: delivered.replies, whole: delivered.whole, open: delivered.open }
    }

    /// Whether evidence has the hashes of bodies.
    fn wants_hashes(&self) -> bool {
        self.evidence.as_ref().is_some_and(Evidence::wants_hashes)
    }

    /// The hashes of the body and of those of copies that are at hand, where evidence has them.
    async fn hashes(&self, arrival: &Arrival, copies: &[Option<Bytes>]) -> proof::Hashes {
        if !self.wants_hashes() {
            return None;
        }
        let work = arrival.message.len() / 2 * (1 + copies.iter().flatten().count());
        let hash = || {
            faults::point("hash");
            digest::bodies(&arrival.message, copies.iter().map(Option::as_deref))
        };
        self.steps.run(&arrival.message, work, hash).await.ok()
    }
}

/// Notes how long a message took up to its delivery.
fn note_enforced(started: Instant) {
    metrics::histogram!("pixelward_enforce_seconds").record(started.elapsed().as_secs_f64());
}

/// Why a recipient's copy is not what was decided.
fn shortfall_reason(decided: &Decided, copied: &Copied) -> Option<&'static str> {
    let is_shared = decided.opens.is_swap() && copied.done == Some(Outcome::Strip);
    let known = decided.shortfall.or(copied.shortfall);
    known.or(is_shared.then_some(shortfall::SHARED_COPY))
}
