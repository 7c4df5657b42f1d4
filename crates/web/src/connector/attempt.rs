//! One attempt for one person: what holds is read, the service's name for the person is found, and the service is
//! asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::book::{Errand, Sample};
use super::choice::Choice;
use super::dead::Reason;
use super::round::Letter;
use super::service::{Call, Verdict};
use super::template::Filling;
use super::{Connector, MOST_OF_ANSWER};
use crate::consent::store::Entered;
use crate::consent::{Person, Store, Timestamp};
use crate::net::line::{Line, Reply};

/// How long one request may take: less than a turn has left when work begins.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one attempt came to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is done; the word is for the counts.
    Done(&'static str),
    /// It is done, and the service was not asked.
    NotAsked(&'static str),
    /// It cannot be done for this person; the status is 0 if the service was not asked.
    Dead(Reason, u16),
    /// The service said that it is asked too much.
    Busy(Option<Duration>),
    /// It failed, and may be tried again.
    Failed(Option<Duration>, String),
    /// Nobody can be told until somebody has looked.
    Locked(String),
}

/// A person, as the store knows them now.
struct Known {
    choice: Choice,
    /// Since when.
    since: Timestamp,
    external_id: Option<String>,
    newest: Entered,
}

impl Connector {
    /// Tries one person.
    pub(super) async fn attempt(
        self: &Arc<Connector>,
        line: &mut Option<Line>,
        errand: Option<Errand>,
        (person, letter): (Person, &Letter),
        store: &Arc<Store>,
    ) -> Outcome {
        let known = match self.known(person, store).await {
            Ok(Some(known)) => known,
            Ok(None) => return Outcome::NotAsked("gone"),
            Err(error) => return Outcome::Failed(None, format!("the store: {error}")),
        };
        if self.is_echo(person, letter, &known) {
            return Outcome::NotAsked("echo");
        }
        let id = match self.id(person, known.external_id.as_deref(), store).await {
            Ok(Some(id)) => id,
            Ok(None) => return Outcome::Dead(Reason::NoId, 0),
            Err(error) => return Outcome::Failed(None, error),
        };
        let time = known.since.to_string();
        let filling =
            Filling { id: &id, choice: self.service.values.of(known.choice), time: &time, credential: "" };
        match errand {
            None | Some(Errand::Sync) => self.write(line, &filling, person, known.choice).await,
            Some(Errand::Compare) => self.compare(line, &filling, person, known.choice).await,
            Some(Errand::DryRun) => self.only_say(&filling, known.choice),
        }
    }

    async fn known(&self, person: Person, store: &Arc<Store>) -> Result<Option<Known>, String> {
        let (store, controller) = (Arc::clone(store), self.waiting.controller.clone());
        let read = tokio::task::spawn_blocking(move || store.latest(&controller, person)).await;
        let read = read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let now = Timestamp::now();
        Ok(read.map(|(listed, newest)| {
            let choice = Choice::of(&listed.standing, &self.purposes, now);
            let ends = self.purposes.iter().filter_map(|purpose| listed.standing.of(*purpose)?.expires);
            // That a grant no longer holds is said by its end, and later than the grant was.
            let expired = ends.filter(|end| choice == Choice::Unknown && *end <= now).max();
            let since = expired.map_or(newest.change.event_at, |end| end.max(newest.change.event_at));
            Known { choice, since, external_id: listed.external_id, newest }
        }))
    }

    /// Returns whether the service itself reported what holds, and nothing else is to be told.
    fn is_echo(&self, person: Person, letter: &Letter, known: &Known) -> bool {
        let (newest, values) = (&known.newest, &self.service.values);
        let is_its_own = newest.change.details.actor.as_ref().is_some_and(|actor| self.own.contains(actor));
        is_its_own
            && letter.changes == [newest.number]
            // If it reported something else than what holds, it must hear what holds.
            && known.choice.is_said_by(newest.change.state)
            && !self.echoes.may_have_crossed(
                person,
                newest.number,
                |written| values.of(written) == values.of(known.choice),
                Instant::now(),
            )
    }

    async fn id(
        &self,
        person: Person,
        external_id: Option<&str>,
        store: &Store,
    ) -> Result<Option<String>, String> {
        match &self.resolver {
            None => Ok(external_id.filter(|id| !id.is_empty()).map(str::to_owned)),
            Some(resolver) => {
                let controller = &self.waiting.controller;
                let shown = store.outward(controller).shown(person);
                resolver.id((controller.as_str(), &self.name), &shown, external_id).await
            }
        }
    }

    async fn write(
        &self,
        line: &mut Option<Line>,
        filling: &Filling<'_>,
        person: Person,
        choice: Choice,
    ) -> Outcome {
        let call = &self.service.write;
        // The service may report it before it answers.
        let before = self.echoes.begin(person, choice, Instant::now());
        let outcome = match self.ask(line, call, filling).await {
            Ok(reply) => self.outcome(call.verdict(&reply), Outcome::Done("written")).await,
            Err(outcome) => outcome,
        };
        match outcome {
            Outcome::Done(_) => self.echoes.carried_out(person),
            Outcome::NotAsked(_) | Outcome::Dead(..) | Outcome::Busy(_) | Outcome::Locked(_) => {
                self.echoes.undo(person, before);
            }
            // It may have been carried out, or may still be.
            Outcome::Failed(..) => {}
        }
        outcome
    }

    async fn compare(
        &self,
        line: &mut Option<Line>,
        filling: &Filling<'_>,
        person: Person,
        choice: Choice,
    ) -> Outcome {
        let Some(read) = &self.service.read else { return Outcome::NotAsked("not_readable") };
        let reply = match self.ask(line, &read.call, filling).await {
            Ok(reply) => reply,
            Err(outcome) => return outcome,
        };
        match read.call.verdict(&reply) {
            Verdict::Done => match read.compare(&reply, choice) {
                Ok(()) => Outcome::Done("equal"),
                Err(found) => {
                    self.book.differs(person, choice, found);
                    Outcome::Done("")
                }
            },
            Verdict::Rejected(404) => Outcome::Done("not_known"),
            Verdict::Rejected(_) => Outcome::Done("not_readable"),
            other => self.outcome(other, Outcome::Done("equal")).await,
        }
    }

    fn only_say(&self, filling: &Filling<'_>, choice: Choice) -> Outcome {
        self.book.sample(|| {
            // What a resolver says may be an address.
            let shown = Filling { id: if self.resolver.is_some() { "…" } else { filling.id }, ..*filling };
            let (method, path, body) = self.service.write.shown(&shown);
            Sample { method, path, body }
        });
        Outcome::NotAsked(choice.name())
    }

    /// Returns what a verdict means for a person.
    async fn outcome(&self, verdict: Verdict, done: Outcome) -> Outcome {
        match verdict {
            Verdict::Done => done,
            Verdict::Again { wait, is_busy: true, .. } => Outcome::Busy(wait),
            Verdict::Again { wait, status, .. } => Outcome::Failed(wait, format!("it answered {status}")),
            Verdict::Rejected(404) => Outcome::Dead(Reason::NotKnown, 404),
            Verdict::Rejected(status) => Outcome::Dead(Reason::Rejected, status),
            Verdict::Locked(status) => {
                // The credential may have been replaced, or a token may have ended early.
                self.service.auth.forget().await;
                Outcome::Locked(format!("it answered {status}: it does not accept the credential"))
            }
        }
    }

    /// Asks the service, on a line that is kept.
    async fn ask(
        &self,
        line: &mut Option<Line>,
        call: &Call,
        filling: &Filling<'_>,
    ) -> Result<Reply, Outcome> {
        let field = self.service.auth.field().await.map_err(Outcome::Locked)?;
        let exchange = async {
            let build = || {
                let mut request = call.request(filling)?;
                if let Some((name, value)) = &field {
                    request.headers_mut().insert(name, value.clone());
                }
                Ok::<_, String>(request)
            };
            // A line that was kept may have ended meanwhile; to ask again is harmless.
            if let Some(mut kept) = line.take().filter(Line::is_open)
                && let Ok(reply) = kept.ask(build()?, MOST_OF_ANSWER).await
            {
                *line = Some(kept);
                return Ok(reply);
            }
            let mut fresh = self.service.endpoint.connect().await?;
            let reply = fresh.ask(build()?, MOST_OF_ANSWER).await?;
            *line = Some(fresh);
            Ok(reply)
        };
        match timeout(PATIENCE, exchange).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(Outcome::Failed(None, error)),
            Err(_) => Err(Outcome::Failed(None, format!("it took more than {} s", PATIENCE.as_secs()))),
        }
    }
}
