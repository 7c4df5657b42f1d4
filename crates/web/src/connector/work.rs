//! The work of a connector: round after round, several people at a time, each once at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::Connector;
use super::attempt::Outcome;
use super::book::Errand;
use super::dead::{Dead, Reason};
use super::round::{End, Letter, Round};
use crate::consent::{Permission, Person, Standing, Store, Timestamp};
use crate::outbox::{Now, Until, within};

/// How long work goes on before the turn is looked at again.
const SLICE: Duration = Duration::from_secs(5);
/// The maximum number of changes, or people, in a round.
const ROUND: usize = 1000;
/// How often it may fail for somebody while it works for others.
const FAILURES: u32 = 8;
/// How often the service is tried that does not accept the credential.
const LOCKED: Duration = Duration::from_secs(300);
/// How often people are tried again for whom the service failed.
const FAILED: Duration = Duration::from_secs(600);
/// How often expired grants are looked for.
const EXPIRED: Duration = Duration::from_secs(6 * 60 * 60);
/// How often people are looked for who were erased.
const ERASED: Duration = Duration::from_secs(6 * 60 * 60);
/// How often it is looked whether any of that is due.
const LOOK: Duration = Duration::from_secs(60);

/// What is done now and then.
struct Times {
    /// When those are tried again for whom the service failed.
    failed: Instant,
    /// When expired grants are looked for, and how far that has come.
    expired: Instant,
    search: Option<(u32, Timestamp)>,
    /// When people are looked for who were erased.
    erased: Instant,
    /// Whether the last round was one of a walk: changes take turns with it.
    was_walk: bool,
    /// Whether what else is due comes before changes: they take turns, too, or a service that cannot keep up with
    /// changes would never hear that a grant expired.
    is_due_first: bool,
}

/// Works for as long as the process lives.
pub(super) async fn work(connector: Arc<Connector>, store: Arc<Store>) {
    let waiting = &connector.waiting;
    let mut turn = waiting.turn(&store);
    waiting.begin(&store, &turn).await;
    connector.echoes.forget(store.head().count);
    let now = Instant::now();
    let mut times = Times {
        failed: now + FAILED,
        expired: now,
        search: None,
        erased: now,
        was_walk: false,
        is_due_first: true,
    };
    let mut round: Option<Arc<Round>> = None;
    loop {
        waiting.drop_told(&turn).await;
        connector.show();
        if Instant::now() >= times.erased {
            times.erased = Instant::now() + ERASED;
            if let Err(error) = connector.forget_the_erased(&store).await {
                connector.warn(&error);
            }
        }
        // Another relay may have told them meanwhile.
        round =
            round.filter(|round| !matches!(round.end, End::Changes(last) if last <= waiting.outbox.told()));
        if round.is_none() {
            round = match connector.next_round(&mut times, &store).await {
                Ok(found) => found.map(Arc::new),
                Err(error) => {
                    connector.warn(&error);
                    None
                }
            };
        }
        let pause = if connector.locked().is_some() { LOCKED } else { LOOK };
        let Some(current) = round.as_ref().filter(|_| !connector.is_waiting_for_help()) else {
            // Whoever changes something says so.
            let _ = tokio::time::timeout(pause, waiting.news.notified()).await;
            continue;
        };
        let until = match turn.come(waiting.outbox.told()).await {
            Now::Here(until) => until,
            Now::Elsewhere => {
                connector.echoes.forget(store.head().count);
                continue;
            }
        };
        connector.pass(current, &store, until).await;
        if current.left() == 0 {
            let end = current.end;
            round = None;
            if let Err(error) = connector.finished(end, &mut times).await {
                connector.warn(&error);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            turn.say(waiting.outbox.told(), waiting.outbox.waiting() == 0).await;
        }
    }
}

impl Connector {
    /// Returns what is to be done next; `None` if there is nothing.
    async fn next_round(&self, times: &mut Times, store: &Arc<Store>) -> Result<Option<Round>, String> {
        self.make_up_for_missed().await?;
        let walk = self.book.under_way();
        let is_walk_next = walk.is_some() && (!times.was_walk || self.is_paused);
        times.was_walk = false;
        if !is_walk_next && !self.is_paused {
            if times.is_due_first
                && let Some(round) = self.due(times, store).await?
            {
                times.is_due_first = false;
                return Ok(Some(round));
            }
            let (changes, _) =
                self.waiting.outbox.next(self.round_size()).map_err(|error| error.to_string())?;
            times.is_due_first = true;
            if let Some(round) = Round::of_changes(&changes) {
                return Ok(Some(round));
            }
            if let Some(round) = self.due(times, store).await? {
                return Ok(Some(round));
            }
        }
        match walk {
            Some((errand, from)) if errand != Errand::Sync || !self.is_paused => {
                times.was_walk = true;
                self.page(errand, from, store).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Returns what is due apart from changes and walks.
    async fn due(&self, times: &mut Times, store: &Arc<Store>) -> Result<Option<Round>, String> {
        let now = Instant::now();
        if now >= times.failed {
            times.failed = now + FAILED;
            self.dead.try_again(|dead| dead.reason == Reason::Failed);
        }
        if self.dead.has_again() {
            return Ok(Some(Round::of_people(End::Again, self.dead.take_again(self.round_size()))));
        }
        if times.search.is_none() && now >= times.expired {
            times.search = Some((0, Timestamp::now()));
        }
        match times.search {
            Some((from, until)) => self.expired(from, until, store).await.map(Some),
            None => Ok(None),
        }
    }

    /// Drops what is kept about people who were erased, whether or not anything can be told.
    async fn forget_the_erased(&self, store: &Arc<Store>) -> Result<(), String> {
        let (store, controller) = (Arc::clone(store), self.waiting.controller.clone());
        let people = self.dead.people();
        let read = tokio::task::spawn_blocking(move || {
            let is_gone =
                move |person: Person| store.latest(&controller, person).is_ok_and(|one| one.is_none());
            let gone: Vec<Person> = people.into_iter().filter(|person| is_gone(*person)).collect();
            (gone, is_gone)
        });
        let (gone, is_gone) = read.await.map_err(|error| error.to_string())?;
        self.dead.forget(&gone).map_err(|error| error.to_string())?;
        self.book.forget(is_gone).map_err(|error| error.to_string())
    }

    /// If changes found no room, or could not be noted, everybody is told.
    async fn make_up_for_missed(&self) -> Result<(), String> {
        let (_, missed) = self.waiting.outbox.next(0).map_err(|error| error.to_string())?;
        if missed > 0 {
            tracing::warn!(
                controller = %self.waiting.controller, connector = self.name, missed,
                "changes found no room in the outbox of a connector: all people are written"
            );
            self.book.begin(Errand::Sync).map_err(|error| error.to_string())?;
            self.waiting.sent(self.waiting.outbox.told(), missed).await?;
        }
        Ok(())
    }

    /// Returns how many people are in a round: not more than take some ten seconds.
    fn round_size(&self) -> usize {
        let per_second = usize::try_from(self.service.requests_per_second).unwrap_or(ROUND);
        per_second.saturating_mul(10).clamp(self.service.concurrency, ROUND.max(self.service.concurrency))
    }

    async fn page(&self, errand: Errand, from: u32, store: &Arc<Store>) -> Result<Round, String> {
        let (found, next) = self.listed(from, store, |_| true).await?;
        let people = found.len() as u64;
        Ok(Round::of_people(End::Walk { errand, from, next, people }, found))
    }

    /// Finds people whose grant has expired since the last search.
    async fn expired(&self, from: u32, until: Timestamp, store: &Arc<Store>) -> Result<Round, String> {
        let (since, purposes) = (self.book.expired_until(), self.purposes.clone());
        let has_expired = move |standing: &Standing| {
            purposes.iter().any(|purpose| {
                let end = standing.of(*purpose).and_then(|stand| stand.expires);
                end.is_some_and(|end| since < end && end <= until)
                    && !matches!(standing.allows(*purpose, until), Permission::Granted(_))
            })
        };
        let (found, next) = self.listed(from, store, has_expired).await?;
        Ok(Round::of_people(End::Expired { next, until }, found))
    }

    async fn listed(
        &self,
        from: u32,
        store: &Arc<Store>,
        is_wanted: impl Fn(&Standing) -> bool + Send + 'static,
    ) -> Result<(Vec<Person>, Option<u32>), String> {
        let (store, controller, size) =
            (Arc::clone(store), self.waiting.controller.clone(), self.round_size());
        let page = tokio::task::spawn_blocking(move || store.page(&controller, from, size)).await;
        let page = page.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let people = page.people.into_iter().filter(|listed| is_wanted(&listed.standing));
        Ok((people.map(|listed| listed.person).collect(), page.next))
    }

    /// Works on a round until it is done, or for a while, and not beyond the end of the turn.
    async fn pass(self: &Arc<Connector>, round: &Arc<Round>, store: &Arc<Store>, until: Option<Until>) {
        round.line_up(self.successes.load(Ordering::Relaxed));
        let end = Instant::now() + SLICE;
        let mut workers = JoinSet::new();
        for _ in 0..self.service.concurrency.min(round.left()) {
            let (connector, round, store) = (Arc::clone(self), Arc::clone(round), Arc::clone(store));
            workers.spawn(within(until, async move {
                connector.worker(&round, &store, end).await;
                Ok(())
            }));
        }
        while let Some(done) = workers.join_next().await {
            match done {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.warn(&error),
                Err(error) => self.warn(&format!("an internal error: {error}")),
            }
        }
    }

    /// Works on one person after another.
    async fn worker(self: &Arc<Connector>, round: &Round, store: &Arc<Store>, end: Instant) {
        let errand = match round.end {
            End::Walk { errand, .. } => Some(errand),
            End::Changes(_) | End::Again | End::Expired { .. } => None,
        };
        let mut line = None;
        loop {
            let now = Instant::now();
            if now >= end || self.locked().is_some() && !self.may_try_lock() {
                return;
            }
            let (person, letter) = match round.next(now) {
                None => return,
                Some(Err(until)) => {
                    tokio::time::sleep_until(until.min(end).into()).await;
                    continue;
                }
                Some(Ok(next)) => next,
            };
            if errand != Some(Errand::DryRun)
                && let Err(wait) = self.pace.take(now)
            {
                round.not_tried(person);
                tokio::time::sleep(wait.min(end.saturating_duration_since(now))).await;
                continue;
            }
            let outcome = self.attempt(&mut line, errand, (person, &letter), store).await;
            self.settle(round, errand, (person, &letter), outcome);
        }
    }

    /// Notes what an attempt came to.
    fn settle(
        &self,
        round: &Round,
        errand: Option<Errand>,
        (person, letter): (Person, &Letter),
        outcome: Outcome,
    ) {
        let now = Instant::now();
        let is_written = errand.is_none_or(|errand| errand == Errand::Sync);
        match outcome {
            Outcome::Done(result) => {
                self.unlock();
                self.pace.succeeded();
                self.successes.fetch_add(1, Ordering::Relaxed);
                self.state().succeeded = Some(Timestamp::now());
                self.done(round, errand, person, result);
            }
            Outcome::NotAsked(result) => self.done(round, errand, person, result),
            Outcome::Dead(reason, status) => {
                if status > 0 {
                    // The service works, even if not for this person.
                    self.pace.succeeded();
                    self.unlock();
                }
                if is_written {
                    self.bury(round, person, Dead { reason, status, at: Timestamp::now() });
                } else {
                    round.done(person);
                }
                self.note(errand, reason.name());
            }
            Outcome::Busy(wait) => {
                self.count("busy");
                self.pace.busy(wait, now);
                round.not_tried(person);
            }
            Outcome::Failed(wait, error) => {
                self.count("failed");
                self.pace.failed(wait, now);
                let failures = round.failed(person, self.successes.load(Ordering::Relaxed), now);
                tracing::debug!(
                    connector = self.name,
                    changes = letter.changes.len(),
                    error,
                    "an attempt failed"
                );
                self.note_failure(&error);
                // Who is among the dead letters already holds up nobody else.
                let most = if round.end == End::Again { 1 } else { FAILURES };
                if failures >= most {
                    if is_written {
                        let dead = Dead { reason: Reason::Failed, status: 0, at: Timestamp::now() };
                        self.bury(round, person, dead);
                    } else {
                        round.done(person);
                    }
                    self.note(errand, Reason::Failed.name());
                }
            }
            Outcome::Locked(why) => {
                self.count("locked");
                round.not_tried(person);
                self.lock(&why);
            }
        }
    }

    /// Notes that nothing is left to be done for somebody.
    fn done(&self, round: &Round, errand: Option<Errand>, person: Person, result: &'static str) {
        if errand.is_none_or(|errand| errand == Errand::Sync) {
            self.count(result);
            if let Err(error) = self.dead.end(person) {
                self.warn(&format!("its dead letters: {error}"));
            }
        }
        self.note(errand, result);
        round.done(person);
    }

    /// Puts somebody among the dead letters.
    fn bury(&self, round: &Round, person: Person, dead: Dead) {
        self.count(dead.reason.name());
        match self.dead.add(person, dead) {
            Ok(()) => round.done(person),
            // It stays in the round, and is tried again: better than lost.
            Err(error) => {
                round.failed(person, 0, Instant::now());
                self.warn(&format!("its dead letters: {error}"));
            }
        }
    }

    fn note(&self, errand: Option<Errand>, result: &str) {
        if errand.is_some() && !result.is_empty() {
            self.book.count(result);
        }
    }

    /// Makes durable what a round came to.
    async fn finished(self: &Arc<Connector>, end: End, times: &mut Times) -> Result<(), String> {
        let connector = Arc::clone(self);
        let saved = tokio::task::spawn_blocking(move || {
            connector.dead.sync()?;
            match end {
                End::Changes(last) => connector.waiting.outbox.sent(last, 0),
                End::Again => Ok(()),
                End::Walk { from, next, people, .. } => connector.book.advance(from, next, people),
                End::Expired { next: None, until } => connector.book.told_expired(until),
                End::Expired { .. } => Ok(()),
            }
        });
        saved.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        if let End::Expired { next, until } = end {
            times.search = next.map(|next| (next, until));
            if next.is_none() {
                times.expired = Instant::now() + EXPIRED;
            }
        }
        Ok(())
    }
}
