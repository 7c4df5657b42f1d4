//! The straight line that every message takes. This file alone knows the order:
//!
//! ```text
//! listen -> session -> receive -> analyse -> look up -> decide -> rewrite -> sign -> deliver -> record
//! ```
//!
//! What comes before `analyse` is in [`crate::server`]; it hands an [`Arrival`] to [`Pipeline::handle`].

mod arrival;
mod asking;
mod counts;
mod line;
mod log;
pub(crate) mod lookup;
mod proof;
mod refusal;
mod step;
mod supply;

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

use crate::consent::upkeep::{self, Retention};
use crate::consent::{Change, Controller, Person, Store, Timestamp};
use crate::faults;
use crate::guarded::{Panicked, guarded};
use crate::live::Live;
use crate::plan::trial::Links;
use crate::plan::{self, Decided, Draft, Group, Plan, Reading, UNCHECKED};
use crate::policy::Request;
use crate::record::digest::Digests;
use crate::record::evidence::Evidence;
use crate::record::evidence::refusals::Refused;
use crate::relay::delivery;
use crate::relay::ledger::{Fate, Key as LedgerKey};
use crate::relay::{Ledger, Mail, Parcel, Transaction, Via};
use crate::rewrite::reader_token::Mint;
use crate::server::Budget;
use crate::smtp::{Reply, reply::Class};
use crate::tracker::Campaigns;
use crate::web::Host;
use crate::web::live::{Reported, Standing};
pub use arrival::{Arrival, MessageId};
use arrival::{loops, received};
use asking::question;
use counts::{Stopwatch, count, note_copy, note_delivered, note_enforced, note_requests, station};
use line::{Account, Known, Line};
use log::{Common, Trace};
use step::{PLAIN_BYTES, Steps};
use supply::{Copied, Supply};

/// What a client hears while other copies take the memory there is for them.
const NO_ROOM: &str = "4.3.1 No room for the message now, try again later";
/// What memory for copies is counted in, in bytes.
const COPY_UNIT: usize = 4096;
/// Changed copies may take this part of what messages may take.
const COPY_PART: u64 = 4;

/// Sees each copy that the next hop took: the message as it came, who got the copy, and the copy.
pub type Witness = Box<dyn Fn(&Arrival, &[usize], &Bytes) + Send + Sync>;

/// Sees who was refused before their message was analysed: the recipients, and what each heard.
pub type Refusals = Box<dyn Fn(&Arrival, &[Reply], &Reply) + Send + Sync>;

/// Somebody who looks on: the demonstration does.
#[derive(Default)]
pub struct Onlooker {
    /// Sees copies.
    pub copies: Option<Witness>,
    /// Sees refusals.
    pub refusals: Option<Refusals>,
}

/// Everything a message meets.
pub struct Pipeline {
    live: ArcSwap<Live>,
    store: Arc<Store>,
    ledger: Ledger,
    onlooker: Onlooker,
    evidence: Option<Evidence>,
    campaigns: Campaigns,
    lookups: lookup::Lookups,
    mint: Mint,
    /// The memory that messages may take.
    pub budget: Budget,
    /// The memory that changed copies may take beside them, in units.
    copies: Arc<Semaphore>,
    copy_units: u32,
    digests: Digests,
    steps: Steps,
    /// What says how this relay stands among others, if there are any.
    others: OnceLock<Box<dyn Others>>,
}

/// The other relays of a cluster.
pub trait Others: Send + Sync {
    /// Says what keeps this relay from counting grants, or from taking new ones; `None` if nothing does.
    fn trouble(&self) -> Option<String>;

    /// Tells them the fingerprint of the rules that this relay goes by, in hexadecimal.
    fn declare(&self, fingerprint: &str);

    /// Asks all of them a question of the API.
    fn ask(&self, question: Vec<u8>) -> Pin<Box<dyn Future<Output = Vec<Reported>> + Send + '_>>;

    /// Says how this relay and the others stand.
    fn standing(&self) -> Option<Standing>;
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
    trace: Trace,
}

impl Handled {
    /// What was said, and nothing was delivered.
    fn said(replies: Vec<Reply>, whole: Reply) -> Handled {
        Handled { replies, whole, open: Vec::new(), trace: Trace::default() }
    }
}

impl Pipeline {
    /// A pipeline over this store, which leaves evidence where it is given somewhere to.
    pub fn new(live: Live, store: Arc<Store>, ledger: Ledger, evidence: Option<Evidence>) -> Arc<Pipeline> {
        Pipeline::made(live, store, ledger, Onlooker::default(), evidence)
    }

    /// Has the health of the relay tell how it stands among others.
    pub fn among(&self, others: Box<dyn Others>) {
        // There is one cluster at most, and it is joined once.
        let _ = self.others.set(others);
    }

    /// Tells the other relays, if there are any, which rules this one goes by.
    pub fn declare(&self, fingerprint: &str) {
        if let Some(others) = self.others.get() {
            others.declare(fingerprint);
        }
    }

    /// A pipeline whose messages somebody watches: the demonstration does.
    pub fn witnessed(
        live: Live,
        store: Arc<Store>,
        ledger: Ledger,
        evidence: Option<Evidence>,
        onlooker: Onlooker,
    ) -> Arc<Pipeline> {
        Pipeline::made(live, store, ledger, onlooker, evidence)
    }

    fn made(
        live: Live,
        store: Arc<Store>,
        ledger: Ledger,
        onlooker: Onlooker,
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
            onlooker,
            evidence,
            campaigns,
            lookups: lookup::Lookups::default(),
            mint,
            budget,
            copies,
            copy_units,
            digests: Digests::default(),
            steps: Steps::new(),
            others: OnceLock::new(),
        })
    }

    /// What holds now.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Replaces what can be replaced.
    pub fn reload(&self, live: Live) {
        self.live.store(Arc::new(live));
    }

    /// What the store needs once a day. What is wrong with it is logged.
    pub fn look_after_store(&self) {
        let live = self.live();
        let controllers = live.config.policy.rulebook.controllers();
        let retentions: Vec<Retention> = controllers
            .map(|controller| Retention {
                controller: controller.name.clone(),
                days: controller.retention_days,
            })
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
                "the consent store is damaged; nothing is granted that cannot be read. Run `pixelward \
                 consent verify`"
            );
        }
        metrics::gauge!("pixelward_consent_store_sound").set(if sound { 1.0 } else { 0.0 });
    }

    /// Takes a message through the rest of the line; gives what the client hears. 250 means that the next hop
    /// said 250.
    pub async fn handle(&self, arrival: &Arrival, transaction: &mut Transaction) -> Handled {
        let live = self.live();
        if let Some(reply) = guarded(|| loops(arrival)).unwrap_or_default() {
            return self.turned_away(arrival, reply);
        }
        let Some(room) = self.room(arrival).await else {
            return self.turned_away(arrival, Reply::new(452, NO_ROOM));
        };
        let started = Instant::now();
        let addresses = arrival.addresses();
        let (settings, message) = (live.settings(), arrival.to_be_planned(&live, &addresses));
        let people = Known { store: &self.store, mint: &self.mint };
        let line = Line { pipeline: self, arrival, settings: &settings, message: &message, people: &people };
        // The next hop may take long: of what is needed to make the one copy, nothing is kept meanwhile.
        let (account, made) = {
            let (account, draft);
            let reading = match line.analyse().await {
                Ok(reading) => reading,
                Err(fault) => return self.handle_after(&live, &line, &fault, room, transaction).await,
            };
            let (texts, decided) = match line.decide(&reading).await {
                Ok(decided) => decided,
                Err(fault) => return self.handle_after(&live, &line, &fault, room, transaction).await,
            };
            let told = self.asked_about_links(&live, &settings, &reading, &decided).await;
            draft =
                Draft::new(&settings, &message, &reading, texts.as_ref(), &people, &decided).with_asked(told);
            account = match line.plan(&reading, &draft, decided).await {
                Ok(account) => account,
                Err(fault) => return self.handle_after(&live, &line, &fault, room, transaction).await,
            };
            let [group] = &account.plan.groups[..] else {
                note_enforced(started.elapsed());
                let mut supply = Supply::in_turn(&line, &account, &draft, reading.chosen);
                return self.finish(&live, arrival, &account, &mut supply, transaction).await;
            };
            let made = line.copy(&draft, group, reading.chosen).await;
            (account, made)
        };
        note_enforced(started.elapsed());
        let has_own_bytes = made.as_ref().is_ok_and(|made| made.bytes.as_ptr() != arrival.message.as_ptr());
        let _room = has_own_bytes.then_some(room);
        let mut supply = Supply::ready(&line, made);
        self.finish(&live, arrival, &account, &mut supply, transaction).await
    }

    /// What the controller's service says about links of which nobody else does.
    async fn asked_about_links(
        &self,
        live: &Live,
        settings: &plan::Settings<'_>,
        reading: &Reading<'_>,
        decided: &[Decided],
    ) -> Vec<(String, String)> {
        let controller = &reading.chosen.controller.name;
        let Some(lookup) = live.lookups.iter().find(|lookup| lookup.controller == *controller) else {
            return Vec::new();
        };
        let links = guarded(|| plan::links_to_ask(settings, reading, decided)).unwrap_or_default();
        // Most controllers have no such service, and their mail needs no memory for it.
        Box::pin(self.lookups.told(lookup, links)).await
    }

    /// Everybody hears the same, and nothing was delivered.
    fn turned_away(&self, arrival: &Arrival, reply: Reply) -> Handled {
        let replies = vec![reply.clone(); arrival.envelope.recipients.len()];
        self.refused(arrival, "data", &replies, &reply, &Via::default());
        Handled::said(replies, reply)
    }

    /// The rest of the line for a message of which nothing could be decided.
    async fn handle_after(
        &self,
        live: &Live,
        line: &Line<'_>,
        fault: &Panicked,
        _room: OwnedSemaphorePermit,
        transaction: &mut Transaction,
    ) -> Handled {
        let arrival = line.arrival;
        let work = 2 * arrival.message.len();
        let planned = self.steps.run(&arrival.message, work, || line.plan_after(fault)).await;
        let Ok((account, made)) = planned else {
            tracing::error!(
                id = %arrival.id, site = fault.site,
                "internal error: a message waits with its sender; please report it"
            );
            return self.turned_away(arrival, Reply::new(451, UNCHECKED));
        };
        let mut supply = Supply::ready(line, made);
        self.finish(live, arrival, &account, &mut supply, transaction).await
    }

    /// Deliver, record.
    async fn finish(
        &self,
        live: &Live,
        arrival: &Arrival,
        account: &Account,
        supply: &mut Supply<'_>,
        transaction: &mut Transaction,
    ) -> Handled {
        let at_hand = supply.at_hand();
        // The next hop is waited for meanwhile.
        let hashes = self.hashes(arrival, &at_hand);
        let deliver = self.deliver(live, arrival, &account.plan, supply, transaction);
        let (handled, hashes) = tokio::join!(biased; deliver, hashes);
        let mut clock = Stopwatch::started();
        // The mail is on its way: whatever happens here, the client hears so.
        let recorded = self.steps.run(&arrival.message, 0, || {
            faults::point("record");
            self.record(arrival, account, &supply.copied, &handled);
            if let Some(evidence) = &self.evidence {
                let with_subject = evidence.wants_subjects();
                let copies = &supply.copied;
                evidence.note(proof::note(live, arrival, account, copies, &handled, hashes, with_subject));
            }
        });
        if let Err(Panicked { site }) = recorded.await {
            metrics::counter!("pixelward_internal_errors_total").increment(1);
            tracing::error!(
                id = %arrival.id, site,
                "internal error: what became of a message could not be recorded; please report it"
            );
        }
        clock.leave(station!("record"));
        handled
    }

    /// Waits until the delivery ledger is on the disk, with all that was cut short.
    pub async fn flush(&self) {
        self.ledger.flush().await;
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

    /// The client hung up before it could hear what became of its message: its retry is not to deliver it
    /// again.
    pub async fn unheard(&self, arrival: &Arrival, handled: &Handled) {
        let keys = self.ledger.keys(&arrival.listener, &arrival.envelope, &arrival.message);
        let taken =
            keys.into_iter().zip(&handled.replies).filter(|(_, reply)| reply.class() == Class::Positive);
        let taken: Vec<(LedgerKey, Option<Fate>)> =
            taken.map(|(key, _)| (key, Some(Fate::Accepted))).collect();
        tracing::warn!(id = %arrival.id, taken = taken.len(), "the client hung up before it heard what \
            became of its message");
        if !taken.is_empty() && self.ledger.note(taken).await.is_err() {
            tracing::error!(id = %arrival.id, "a retry of this message may be delivered twice");
        }
    }

    /// One log line for each recipient, and counters.
    fn record(&self, arrival: &Arrival, account: &Account, copies: &[Copied], handled: &Handled) {
        count(handled.whole.class());
        let common = Common::of(arrival, account, &handled.trace);
        let plan = &account.plan;
        let mut asked: Vec<(Person, Change)> = Vec::new();
        for (group, copied) in plan.groups.iter().zip(copies) {
            let mut was_taken = false;
            for recipient in &group.recipients {
                let (Some(decided), Some(reply)) =
                    (plan.decided.get(*recipient), handled.replies.get(*recipient))
                else {
                    continue;
                };
                let is_taken = reply.class() == Class::Positive;
                was_taken |= is_taken;
                if is_taken && !decided.asks.is_empty() {
                    asked.push((
                        decided.person,
                        question(arrival, &account.controller_name, decided, account.at),
                    ));
                }
                let effect = copied.effect(plan, *recipient, reply);
                if let Some(reason) = effect.shortfall {
                    let decided = decided.decision.outcome.name();
                    let labels = [("outcome", decided), ("reason", reason)];
                    metrics::counter!("pixelward_swaps_stripped_total", &labels).increment(1);
                }
                let handed = handled.trace.of(*recipient);
                common.recipient(handed, Some(decided.person), Some(&decided.decision), Some(effect), reply);
            }
            if was_taken {
                note_copy(copied.removed, copied.swapped, copied.links);
                if let (Some(witness), Some(bytes)) = (&self.onlooker.copies, &copied.bytes) {
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

    /// Room for what is held beside the message as it came, once there is some; `None` where none becomes
    /// free in time. That is one copy at a time, and what was read of the message while there may be several.
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
            |(number, group): (usize, &Group)| Parcel { number, recipients: group.recipients.clone() };
        let parcels: Vec<Parcel> = plan.groups.iter().enumerate().map(parcel).collect();
        transaction.finish_by(arrival.deadline);
        if let Some(ways) = arrival.divided(live) {
            transaction.divide(ways);
        }
        let started = Instant::now();
        let delivered = delivery::deliver(&mail, parcels, supply, transaction, &self.ledger).await;
        let spent = started.elapsed();
        note_delivered(spent);
        let connected = transaction.connecting();
        let trace = Trace {
            via: transaction.via(),
            vias: transaction.vias(),
            converted: transaction.converted().to_vec(),
            received: arrival.arrived.duration_since(arrival.began),
            treated: started.duration_since(arrival.arrived),
            connected,
            delivered: spent,
        };
        Handled { replies: delivered.replies, whole: delivered.whole, open: delivered.open, trace }
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
        let is_other = |copy: &&Bytes| copy.as_ptr() != arrival.message.as_ptr();
        let others = copies.iter().flatten().filter(is_other).count();
        let work = arrival.message.len() / PLAIN_BYTES * (1 + others);
        let hash = || {
            faults::point("hash");
            self.digests.bodies(&arrival.message, copies.iter().map(Option::as_deref))
        };
        self.steps.run(&arrival.message, work, hash).await.ok()
    }
}

impl Host for Pipeline {
    fn live(&self) -> Arc<crate::web::Live> {
        Arc::clone(&self.live.load().web)
    }

    fn mint(&self) -> &Mint {
        &self.mint
    }

    fn store_answers(&self) -> bool {
        let live = self.live.load();
        let controller = &live.config.policy.rulebook.default_controller().name;
        self.store.lookup(controller, Person([0; 16])).is_ok()
    }

    fn ledger_is_empty(&self) -> bool {
        self.ledger.is_empty()
    }

    fn held_bytes(&self) -> (u64, u64) {
        (self.budget.held(), self.budget.most())
    }

    fn refusals(&self) -> Vec<Refused> {
        self.evidence.as_ref().map(Evidence::refusals).unwrap_or_default()
    }

    fn ask_others(&self, question: Vec<u8>) -> Pin<Box<dyn Future<Output = Vec<Reported>> + Send + '_>> {
        match self.others.get() {
            Some(others) => others.ask(question),
            None => Box::pin(std::future::ready(Vec::new())),
        }
    }

    fn standing(&self) -> Option<Standing> {
        self.others.get()?.standing()
    }

    fn ask_about_links<'a>(
        &'a self,
        controller: &'a Controller,
        links: Links,
    ) -> Pin<Box<dyn Future<Output = Links> + Send + 'a>> {
        Box::pin(async move {
            let live = self.live.load();
            match live.lookups.iter().find(|lookup| lookup.controller == *controller) {
                Some(lookup) => self.lookups.told(lookup, links).await,
                None => Vec::new(),
            }
        })
    }

    fn trouble(&self) -> Option<String> {
        if let Some(why) = self.others.get().and_then(|others| others.trouble()) {
            return Some(why);
        }
        if !self.store_answers() {
            return Some("consent cannot be looked up; trackers are stripped for everybody".to_owned());
        }
        let evidence = self.evidence.as_ref().and_then(Evidence::trouble);
        evidence.map(|why| format!("evidence is being lost: {why}; mail flows"))
    }
}
