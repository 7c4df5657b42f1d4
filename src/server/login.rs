//! Logging in: the exchange behind AUTH with the client, and what a wrong password costs.

use std::sync::Arc;
use std::time::Instant;

use super::connection::{Conversation, Ended};
use super::users::{Users, Verdict};
use crate::smtp::auth::{Auth, Credentials, MAX_LINE, Step};
use crate::smtp::features::LoginOffer;
use crate::smtp::reply::Reply;

/// How many logins of a session may fail.
const MAX_FAILURES: u32 = 4;

impl Conversation<'_> {
    /// The logins of this listener.
    pub(super) fn users(&self) -> Option<Arc<Users>> {
        self.live().users.get(self.index).cloned().flatten()
    }

    /// How AUTH stands.
    pub(super) fn login_offer(&self) -> LoginOffer {
        let has_users = self.live().users.get(self.index).is_some_and(Option::is_some);
        // Nobody guesses passwords from where a login leads to nothing.
        match (has_users && self.may_log_in(), self.identity.login.is_some()) {
            (false, _) => LoginOffer::None,
            (true, _) if !self.wire.stream.is_tls() => LoginOffer::AfterTls,
            (true, true) => LoginOffer::Done,
            (true, false) => LoginOffer::Offered,
        }
    }

    /// Asks for what the mechanism wants, and looks at it.
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
            return self.error(Reply::new(454, "4.7.0 Logins cannot be looked at now")).await;
        };
        let login = credentials.login.clone();
        let verdict = users.verify(credentials).await;
        metrics::counter!("pixelward_logins_total", "result" => name(verdict)).increment(1);
        match verdict {
            Verdict::Right => {
                self.identity.login = Some(login);
                self.say(&Reply::new(235, "2.7.0 Logged in"));
                Ok(())
            }
            Verdict::Busy => {
                self.error(Reply::new(454, "4.7.0 Too many logins at once, try again later")).await
            }
            Verdict::Wrong => self.wrong_password().await,
        }
    }

    async fn wrong_password(&mut self) -> Result<(), Ended> {
        self.failed_logins += 1;
        let address = self.peer.ip();
        let delay = self.place.clients().login_failed(address, Instant::now());
        tracing::warn!(peer = %address, listener = %self.settings.name, failed = self.failed_logins, "a login failed");
        self.pause(delay).await?;
        if self.failed_logins >= MAX_FAILURES {
            self.say(&Reply::new(421, "4.7.0 Too many logins failed"));
            self.flush().await?;
            return Err(Ended::Done);
        }
        self.error(Reply::new(535, "5.7.8 Login and password do not belong together")).await
    }
}

fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Right => "right",
        Verdict::Wrong => "wrong",
        Verdict::Busy => "busy",
    }
}
