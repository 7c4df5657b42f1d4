//! Logins: the AUTH exchange with the client, and the cost of a wrong password.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::connection::{Conversation, Ended};
use super::guesses::{Guesses, Refused};
use super::users::{Users, Verdict};
use crate::smtp::auth::{Auth, Credentials, MAX_LINE, Step};
use crate::smtp::features::LoginOffer;
use crate::smtp::reply::Reply;

/// How many logins of a session may fail.
const MAX_FAILURES: u32 = 4;
/// Attempts at all listeners: a guesser at one is known at the others.
static GUESSES: LazyLock<Guesses> = LazyLock::new(Guesses::default);

/// The result of an attempt.
#[derive(Clone, Copy, Debug)]
enum Login {
    Right,
    Wrong(Duration),
    /// The password was not checked.
    Refused(Duration),
    /// The password was not checked because other attempts came first.
    Busy,
}

impl Conversation<'_> {
    /// The accounts of this listener.
    pub(super) fn users(&self) -> Option<Arc<Users>> {
        self.live().users.get(self.index).cloned().flatten()
    }

    /// Returns the state of AUTH.
    pub(super) fn login_offer(&self) -> LoginOffer {
        let has_users = self.live().users.get(self.index).is_some_and(Option::is_some);
        // Nobody guesses passwords from where a login would be useless.
        match (has_users && self.may_log_in(), self.identity.login.is_some()) {
            (false, _) => LoginOffer::None,
            (true, _) if !self.wire.stream.is_tls() => LoginOffer::AfterTls,
            (true, true) => LoginOffer::Done,
            (true, false) => LoginOffer::Offered,
        }
    }

    /// Runs the exchange of the mechanism, and checks the result.
    pub(super) async fn log_in(&mut self, auth: Auth) -> Result<(), Ended> {
        let mut step = auth.begin();
        loop {
            match step {
                Step::Ask(exchange, reply) => {
                    self.say(&reply);
                    step = exchange.step(&self.whole_line(MAX_LINE).await?);
                }
                Step::Over(reply) => return self.error(reply).await,
                Step::Shown(credentials) => return self.judge(credentials).await,
            }
        }
    }

    async fn judge(&mut self, credentials: Credentials) -> Result<(), Ended> {
        let Some(users) = self.users() else {
            return self.error(Reply::new(454, "4.7.0 Logins cannot be checked now")).await;
        };
        let login = credentials.login.clone();
        let attempted = self.attempt(&users, credentials).await;
        metrics::counter!("pixelward_logins_total", "result" => name(attempted)).increment(1);
        match attempted {
            Login::Right => {
                self.identity.login = Some(login);
                self.say(&Reply::new(235, "2.7.0 Logged in"));
                Ok(())
            }
            Login::Busy => {
                self.error(Reply::new(454, "4.7.0 Too many logins at once, try again later")).await
            }
            Login::Wrong(delay) => {
                let (peer, listener) = (self.peer.ip(), &self.settings.name);
                tracing::warn!(%peer, %listener, failed = self.failed_logins + 1, "a login failed");
                self.failed(delay, Reply::new(535, "5.7.8 Authentication failed")).await
            }
            Login::Refused(delay) => {
                let (peer, listener) = (self.peer.ip(), &self.settings.name);
                tracing::debug!(%peer, %listener, "a login was refused: too many failed from this address");
                self.failed(delay, Reply::new(454, "4.7.0 Too many failed logins, try again later")).await
            }
        }
    }

    /// Checks a password, if that is allowed now.
    async fn attempt(&self, users: &Users, credentials: Credentials) -> Login {
        let attempt = match GUESSES.begin(self.peer.ip(), &credentials.login).await {
            Ok(attempt) => attempt,
            Err(Refused::Guessing(delay)) => return Login::Refused(delay),
            Err(Refused::Busy) => return Login::Busy,
        };
        match users.verify(credentials, attempt.is_known).await {
            Verdict::Right => {
                attempt.right();
                Login::Right
            }
            Verdict::Wrong => Login::Wrong(attempt.wrong()),
            Verdict::Busy => {
                attempt.unknown();
                Login::Busy
            }
        }
    }

    /// Replies to a failed login, after a delay; the last one of a session ends it.
    async fn failed(&mut self, delay: Duration, reply: Reply) -> Result<(), Ended> {
        self.failed_logins += 1;
        self.pause(delay).await?;
        if self.failed_logins >= MAX_FAILURES {
            self.say(&Reply::new(421, "4.7.0 Too many failed logins"));
            self.flush().await?;
            return Err(Ended::Done);
        }
        self.error(reply).await
    }
}

const fn name(attempted: Login) -> &'static str {
    match attempted {
        Login::Right => "right",
        Login::Wrong(_) => "wrong",
        Login::Refused(_) => "refused",
        Login::Busy => "busy",
    }
}
