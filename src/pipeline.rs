//! The straight line that every message takes. This file alone knows the order:
//!
//! ```text
//! listen -> session -> receive -> analyse -> look up -> decide -> rewrite -> sign -> deliver -> record
//! ```
//!
//! What comes before `analyse` is in [`crate::server`]; it hands an [`Arrival`] to [`Pipeline::handle`].

mod copy;
mod proof;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

use crate::consent::upkeep::{self, Retention};
use crate::consent::{
    Change, Controller, Details, Permission, Person, Standing, State, Store, StoreError, Timestamp,
};
use crate::live::{Live, Outbound};
use crate::message::header::fields;
use crate::policy::jurisdiction::InForce;
use crate::policy::swap::{self, shortfall};
use crate::policy::{
    Chosen, Decision, Facts, Footer, Kind, LinkFate, Mode, Origin, Outcome, Purpose, Request, Rule, decide,
    request,
};
use crate::record::digest::{self, BodyHash};
use crate::record::evidence::Evidence;
use crate::record::evidence::record::Sighted;
use crate::record::{self, Line};
use crate::relay::delivery::{self, Answers};
use crate::relay::ledger::{Fate, Key as LedgerKey};
use crate::relay::{Ledger, Mail, Parcel, Transaction};
use crate::rewrite::LinkTreatment;
use crate::rewrite::notice::{Need, Texts};
use crate::rewrite::token::Mint;
use crate::server::Budget;
use crate::smtp::session::{Envelope, Protocol};
use crate::smtp::{Reply, reply::Class};
use crate::tracker::{Analysis, Axis, Campaigns, Inquiry, Key, Verdict};
use copy::{Copying, Made, Wanted};

/// The most Received fields before a message is taken to run in circles (RFC 5321 section 6.3).
const MAX_HOPS: usize = 50;

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

/// Our own name for a message, for the log and the trace header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageId(String);

impl MessageId {
    /// A name that no other message of this relay has.
    pub fn new() -> MessageId {
        const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let micros = Timestamp::now().0.unsigned_abs() << 12;
        let mut number = micros | (COUNT.fetch_add(1, Ordering::Relaxed) & 0xfff);
        let mut text = Vec::with_capacity(12);
        for _ in 0..12 {
            text.push(ALPHABET.get((number & 31) as usize).copied().unwrap_or(b'0'));
            number >>= 5;
        }
        text.reverse();
        MessageId(String::from_utf8_lossy(&text).into_owned())
    }
}

impl Default for MessageId {
    fn default() -> MessageId {
        MessageId::new()
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A message that a client has handed over whole.
#[derive(Debug)]
pub struct Arrival {
    /// Our name for it.
    pub id: MessageId,
    /// Who sends, and the recipients that the next hop accepted.
    pub envelope: Envelope,
    /// The message: lines ending in CRLF, dots unstuffed.
    pub message: Bytes,
    /// The listener it came through.
    pub listener: String,
    /// Where it goes.
    pub outbound: Arc<Outbound>,
    /// By when the client must have an answer.
    pub deadline: Instant,
    /// The client.
    pub peer: SocketAddr,
    /// The client's host name, where a proxy told it.
    pub client_name: Option<String>,
    /// TLS version and cipher suite towards the client.
    pub tls: Option<String>,
    /// How the client hears what became of it.
    pub answers: Answers,
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

impl Arrival {
    /// The Message-ID field, cut and cleaned for the log.
    pub fn message_id(&self) -> String {
        let field = fields(&self.message, 0).find(|field| field.is(&self.message, "Message-ID"));
        let value = field
            .map(|field| String::from_utf8_lossy(field.value(&self.message)).into_owned())
            .unwrap_or_default();
        value.chars().filter(|own| own.is_ascii_graphic()).take(200).collect()
    }

    /// What the connection and the envelope say of it.
    fn origin(&self) -> Origin<'_> {
        Origin {
            listener: &self.listener,
            // A name in a verified certificate is as good as a login.
            login: self.envelope.login.as_deref().or(self.envelope.certificate.as_deref()),
            sender: self.envelope.sender.address.as_str(),
        }
    }

    /// The id under which the client knows the message, where its newest Received field gives one.
    fn client_id(&self) -> String {
        let field = fields(&self.message, 0).find(|field| field.is(&self.message, "Received"));
        let value = field
            .map(|field| String::from_utf8_lossy(field.value(&self.message)).into_owned())
            .unwrap_or_default();
        let mut words = value.split([' ', '\t', '\r', '\n', ';']).filter(|word| !word.is_empty());
        let id = words.by_ref().find(|word| word.eq_ignore_ascii_case("id")).and_then(|_| words.next());
        id.unwrap_or_default().chars().filter(|own| own.is_ascii_graphic()).take(64).collect()
    }
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
    sightings: Vec<Sighted<'static>>,
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
        witness: Option<Witness>,
    ) -> Arc<Pipeline> {
        Pipeline::made(live, store, ledger, witness, None)
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
                found.differing == 0 && found.damaged_slots == 0
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
        self.record(arrival, &enforced, &handled);
        if let Some(evidence) = &self.evidence {
            evidence.note(proof::note(arrival, enforced, &handled, hashes));
        }
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

    /// Records whom a message asked. The message has left, so that it could not be recorded is an alarm and nothing more.
    fn note_asked(&self, arrival: &Arrival, asked: Vec<(Person, Change)>) {
        let id = arrival.id.clone();
        let failed = move |error: StoreError| {
            metrics::counter!("pixelward_store_errors_total").increment(1);
            tracing::error!(%id, %error, "that people were asked for their consent could not be recorded: they may be asked again too soon");
        };
        let alarm = failed.clone();
        let sent = self.store.record_later(asked, move |outcome| {
            let _ = outcome.map_err(failed);
        });
        let _ = sent.map_err(alarm);
    }

    /// That a person was asked, so that nobody asks again too soon (N19).
    fn question(&self, arrival: &Arrival, enforced: &Enforced, decided: &Decided) -> Change {
        let details = Details {
            method: Some("request_by_mail".to_owned()),
            channel: Some("mail".to_owned()),
            evidence: Some(format!("message {}", arrival.id)),
            actor: Some("pixelward".to_owned()),
            ..Details::default()
        };
        let controller = enforced.controller_name.clone();
        let change = Change::new(controller, decided.asks.clone(), State::Asked, enforced.at);
        Change { asked_at: Some(enforced.at), details, ..change }
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
        let analysis = live.detector.analyse(&arrival.message, &inquiry);
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
        note_decided(chosen, &decided);
        let found = note_found(&analysis);
        let pixels = analysis
            .sightings
            .iter()
            .filter(|own| own.verdict == Verdict::Tracker && own.axis() == Axis::Open);
        let pixels = pixels.count();
        let sightings = match &self.evidence {
            Some(_) => proof::sightings(&analysis, &live.detector),
            None => Vec::new(),
        };
        let people: Vec<Person> = decided.iter().map(|own| own.person).collect();
        let copying = Copying {
            live,
            mint: &self.mint,
            arrival,
            chosen,
            analysis: &analysis,
            inquiry,
            texts: texts.as_ref(),
            people: &people,
            now,
            controls: &marks.cuts,
        };
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
            sightings,
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
        let recorded = standing.as_ref().and_then(|own| own.jurisdiction.as_deref());
        let rules = in_force.applying(recorded, chosen.mailstream.declared(), address);
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

/// Whether anything may be put into the mail: the link to a preference page, or a question that not everybody is asked.
fn may_put_in(chosen: Chosen<'_>) -> bool {
    let mailstream = chosen.mailstream;
    let has_page = chosen.controller.public_url.is_some();
    mailstream.mode == Mode::Enforce && (has_page || mailstream.kind == Kind::ConsentRequest)
}

/// What is wanted of a recipient's copy, of a message with so many trackers.
fn wanted(chosen: Chosen<'_>, decided: &Decided, pixels: usize, recipient: usize) -> Wanted {
    let mailstream = chosen.mailstream;
    if mailstream.mode == Mode::Observe {
        return Wanted::AS_IT_CAME;
    }
    // Where links are left alone anyway, they divide no copies.
    let links = match mailstream.treatment.link_treatment {
        LinkTreatment::Keep => LinkFate::Stay,
        LinkTreatment::Unwrap => decided.decision.links,
    };
    let is_personal = matches!(decided.opens, Outcome::SwapGated | Outcome::SwapDay);
    Wanted {
        opens: decided.opens,
        links,
        request: decided.request,
        need: need(chosen, decided, pixels),
        owner: Some(recipient).filter(|_| is_personal && pixels > 0),
    }
}

/// Whether a copy needs a link to the preference page (N20, N24).
fn need(chosen: Chosen<'_>, decided: &Decided, pixels: usize) -> Need {
    let mailstream = chosen.mailstream;
    // Where no rule is applied, none asks for a link.
    let is_tracked = pixels > 0 && decided.opens != Outcome::Strip && decided.decision.rule != Rule::NoRules;
    match mailstream.footer {
        _ if chosen.controller.public_url.is_none() => Need::AtMarks,
        _ if mailstream.kind == Kind::ConsentRequest && decided.request == Request::Asks => Need::Anywhere,
        Footer::Always => Need::Anywhere,
        Footer::WhenTracked if is_tracked => Need::Anywhere,
        Footer::MarkerOnly if is_tracked => Need::MarkedOnly,
        Footer::WhenTracked | Footer::MarkerOnly => Need::AtMarks,
    }
}

/// What becomes of a request for consent, and what it asks a person about.
fn asking(
    chosen: Chosen<'_>,
    has_question: bool,
    standing: Option<&Standing>,
    now: Timestamp,
) -> (Request, Vec<Purpose>) {
    if chosen.mailstream.mode == Mode::Observe {
        return (Request::None, Vec::new());
    }
    let request = request(chosen.mailstream, has_question, standing, now);
    let (Request::Asks, Some(standing)) = (request, standing) else { return (request, Vec::new()) };
    let is_open = |own: &Purpose| matches!(standing.allows(*own, now), Permission::NotGranted(_));
    let asks = chosen.mailstream.purposes.iter().copied().filter(is_open).collect();
    (request, asks)
}

/// What those hear whom the message may not ask (N19).
fn not_to_be_asked(arrival: &Arrival, recipients: Vec<usize>) -> Option<Copied> {
    if recipients.is_empty() {
        return None;
    }
    note_requests("rejected", recipients.len());
    tracing::warn!(id = %arrival.id, recipients = recipients.len(), "a request for consent came too early");
    let reply = Reply::new(
        550,
        "5.7.1 This mail asks for consent to tracking, and the recipient may not be asked now; `pixelward consent may-ask` says when",
    );
    Some(Copied::rejected(reply, Outcome::Strip, recipients))
}

/// Recipients by what is wanted of their copy, in the order in which it first appears. What is more than `most` groups joins to one, with what
/// satisfies all of them.
fn groups(wanted: &[(usize, Wanted)], most: usize) -> Vec<(Wanted, Vec<usize>)> {
    let mut groups: Vec<(Wanted, Vec<usize>)> = Vec::new();
    for (index, wanted) in wanted {
        match groups.iter_mut().find(|(own, _)| own == wanted) {
            Some((_, recipients)) => recipients.push(*index),
            None => groups.push((*wanted, vec![*index])),
        }
    }
    if groups.len() > most {
        let beyond = groups.split_off(most.saturating_sub(1));
        let joined = beyond.iter().map(|(wanted, _)| *wanted).reduce(Wanted::join);
        metrics::counter!("pixelward_groups_joined_total").increment(1);
        let recipients = beyond.into_iter().flat_map(|(_, recipients)| recipients).collect();
        groups.push((joined.unwrap_or(Wanted::STRICTEST), recipients));
    }
    groups
}

/// Why a recipient's copy is not what was decided.
fn fell_short(decided: &Decided, copied: &Copied) -> Option<&'static str> {
    let is_shared = decided.opens.is_swap() && copied.done == Outcome::Strip && copied.copy.is_ok();
    let known = decided.shortfall.or(copied.shortfall);
    known.or(is_shared.then_some(shortfall::SHARED_COPY))
}

fn count(result: &'static str) {
    metrics::counter!("pixelward_messages_total", "result" => result).increment(1);
}

fn loops(arrival: &Arrival) -> Option<Reply> {
    let hops = fields(&arrival.message, 0)
        .filter(|field| field.is(&arrival.message, "Received"))
        .take(MAX_HOPS + 1)
        .count();
    (hops > MAX_HOPS).then(|| {
        tracing::error!(id = %arrival.id, "a message runs in circles; look at the relayhost settings on its way");
        Reply::new(554, "5.4.6 Too many hops: the message runs in circles")
    })
}

/// Counts what was decided, by whose mail it is, of which kind, and by which rules.
fn note_requests(result: &'static str, recipients: usize) {
    metrics::counter!("pixelward_consent_requests_total", "result" => result).increment(recipients as u64);
}

fn note_decided(chosen: Chosen<'_>, decided: &[Decided]) {
    let (controller, mailstream) = (&chosen.controller.label, &chosen.mailstream.name);
    if chosen.mailstream.is_unmatched() {
        metrics::counter!("pixelward_unmatched_messages_total", "controller" => Arc::clone(controller))
            .increment(1);
    }
    for Decided { decision, .. } in decided {
        metrics::counter!(
            "pixelward_recipients_total",
            "decision" => decision.rule.name(),
            "controller" => Arc::clone(controller),
            "mailstream" => Arc::clone(mailstream),
            "version" => Arc::clone(&decision.version),
        )
        .increment(1);
    }
}

/// Counts what was found; gives how many trackers of opens.
fn note_found(analysis: &Analysis<'_>) -> usize {
    let mut found = 0;
    for sighting in analysis.sightings.iter().filter(|sighting| sighting.verdict == Verdict::Tracker) {
        match sighting.axis() {
            Axis::Link => {}
            Axis::Open | Axis::Receipt => {
                found += 1;
                metrics::counter!("pixelward_trackers_found_total", "carrier" => sighting.carrier.name())
                    .increment(1);
            }
        }
    }
    metrics::counter!("pixelward_links_with_token_total").increment(analysis.links as u64);
    metrics::counter!("pixelward_opaque_images_kept_total").increment(analysis.opaque_pictures as u64);
    found
}

/// Our trace header (RFC 5321 section 4.4).
fn received(live: &Live, arrival: &Arrival) -> String {
    let client = &arrival.envelope.client;
    // RFC 3848: S for TLS, A for a login.
    let with = match (client.protocol, &arrival.tls, &arrival.envelope.login) {
        (Protocol::Smtp, _, _) => "SMTP",
        (Protocol::Esmtp, None, None) => "ESMTP",
        (Protocol::Esmtp, None, Some(_)) => "ESMTPA",
        (Protocol::Esmtp, Some(_), None) => "ESMTPS",
        (Protocol::Esmtp, Some(_), Some(_)) => "ESMTPSA",
        (Protocol::Lmtp, None, None) => "LMTP",
        (Protocol::Lmtp, None, Some(_)) => "LMTPA",
        (Protocol::Lmtp, Some(_), None) => "LMTPS",
        (Protocol::Lmtp, Some(_), Some(_)) => "LMTPSA",
    };
    let tls = arrival.tls.as_ref().map_or(String::new(), |tls| format!("\r\n\t({tls})"));
    let date = OffsetDateTime::now_utc().format(&Rfc2822).unwrap_or_default();
    let address = match arrival.peer.ip().to_canonical() {
        std::net::IpAddr::V4(address) => address.to_string(),
        std::net::IpAddr::V6(address) => format!("IPv6:{address}"),
    };
    let clean = |text: &str| text.chars().filter(|own| own.is_ascii_graphic()).collect::<String>();
    let name = arrival.client_name.as_ref().map_or(String::new(), |name| format!("{} ", clean(name)));
    format!(
        "Received: from {} ({name}[{address}]){tls}\r\n\tby {} (pixelward) with {with} id {};\r\n\t{date}\r\n",
        clean(&client.name),
        live.config.relay.host_name,
        arrival.id,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_messages_differ() {
        let names: std::collections::HashSet<String> =
            (0..4000).map(|_| MessageId::new().to_string()).collect();
        assert_eq!(names.len(), 4000);
        assert!(names.iter().all(|name| name.len() == 12));
    }
}
