//! The people signed in. The table is in memory: a restart signs everybody out, and rights are stored nowhere
//! else.
//!
//! A browser holds 256 random bits in a cookie; the table has only their SHA-256. Promised: an id is new at
//! each sign-in, expires after inactivity and in any case after a while, and can be ended by its owner, by an
//! operator, and by the identity provider.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::{constant_time, digest, hmac, rand};

use super::rights::Rights;
use super::text::Language;
use crate::config::console::Sessions as Limits;
use crate::consent::Timestamp;

/// A session.
#[derive(Clone, Debug)]
pub struct Session {
    /// The public name of the session; not a secret.
    pub name: String,
    /// The person, as the identity provider names them.
    pub subject: String,
    /// The person's rights.
    pub rights: Rights,
    /// The chosen language.
    pub language: Option<Language>,
    /// When it began.
    pub since: Timestamp,
    /// The identity provider's names for it.
    pub saml: Option<Federated>,
    form_key: [u8; 32],
    end: Instant,
    used: Instant,
}

/// The identity provider's names for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Federated {
    /// The person's name there.
    pub name_id: String,
    /// The format of that name.
    pub format: Option<String>,
    /// The session's index there.
    pub index: Option<String>,
}

/// A person about to be signed in.
#[derive(Clone, Debug)]
pub struct Newcomer {
    /// The person.
    pub subject: String,
    /// The person's rights.
    pub rights: Rights,
    /// The identity provider's names for the session.
    pub saml: Option<Federated>,
    /// The maximum duration, if the identity provider sets one.
    pub at_most: Option<Duration>,
}

/// All sessions.
#[derive(Debug)]
pub struct Sessions {
    limits: Limits,
    table: Mutex<HashMap<String, Session>>,
}

impl Session {
    /// Returns the token for a form of this session that is sent to this path.
    pub fn form_token(&self, path: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.form_key);
        hex::encode(hmac::sign(&key, path.as_bytes()).as_ref())
    }

    /// Verifies the token of a form.
    pub fn is_form_token(&self, path: &str, shown: &str) -> bool {
        let wanted = self.form_token(path);
        constant_time::verify_slices_are_equal(wanted.as_bytes(), shown.as_bytes()).is_ok()
    }

    fn is_over(&self, limits: Limits, now: Instant) -> bool {
        now >= self.end || now.saturating_duration_since(self.used) >= limits.idle
    }
}

impl Sessions {
    /// Creates an empty table.
    pub fn new(limits: Limits) -> Sessions {
        Sessions { limits, table: Mutex::new(HashMap::new()) }
    }

    /// Signs a person in under a new id. Returns the id, for the browser only; `None` if no randomness is
    /// available.
    pub fn open(&self, newcomer: Newcomer, now: Instant) -> Option<String> {
        let id = random()?;
        let mut form_key = [0; 32];
        rand::fill(&mut form_key).ok()?;
        let name = hashed(&id).chars().take(12).collect();
        let longest = newcomer.at_most.map_or(self.limits.absolute, |time| time.min(self.limits.absolute));
        let session = Session {
            name,
            subject: newcomer.subject,
            rights: newcomer.rights,
            language: None,
            since: Timestamp::now(),
            saml: newcomer.saml,
            form_key,
            end: now + longest,
            used: now,
        };
        let mut table = self.table(now);
        if table.len() >= self.limits.most {
            let oldest = table.iter().min_by_key(|(_, session)| session.used).map(|(key, _)| key.clone());
            oldest.into_iter().for_each(|key| drop(table.remove(&key)));
        }
        table.insert(hashed(&id), session);
        Some(id)
    }

    /// Returns the session of an id, and marks it as used.
    pub fn get(&self, id: &str, now: Instant) -> Option<Session> {
        let mut table = self.table(now);
        let session = table.get_mut(&hashed(id))?;
        session.used = now;
        Some(session.clone())
    }

    /// Returns the session of an id for a page that refreshes itself: nobody need be present, so it does not
    /// count as use.
    pub fn look(&self, id: &str, now: Instant) -> Option<Session> {
        self.table(now).get(&hashed(id)).cloned()
    }

    /// Changes the language of a session.
    pub fn speak(&self, id: &str, language: Language, now: Instant) {
        self.table(now)
            .get_mut(&hashed(id))
            .into_iter()
            .for_each(|session| session.language = Some(language));
    }

    /// Ends the session of an id.
    pub fn close(&self, id: &str, now: Instant) -> Option<Session> {
        self.table(now).remove(&hashed(id))
    }

    /// Ends matching sessions. Returns how many.
    pub fn close_where(&self, fits: impl Fn(&Session) -> bool, now: Instant) -> usize {
        let mut table = self.table(now);
        let before = table.len();
        table.retain(|_, session| !fits(session));
        before - table.len()
    }

    /// Lists all sessions, newest first.
    pub fn all(&self, now: Instant) -> Vec<Session> {
        let mut all: Vec<Session> = self.table(now).values().cloned().collect();
        all.sort_by_key(|session| std::cmp::Reverse(session.since));
        all
    }

    /// Returns the table without expired sessions.
    fn table(&self, now: Instant) -> MutexGuard<'_, HashMap<String, Session>> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.retain(|_, session| !session.is_over(self.limits, now));
        table
    }
}

/// Returns 256 random bits in hexadecimal; `None` if none are available.
pub fn random() -> Option<String> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).ok()?;
    Some(hex::encode(bytes))
}

fn hashed(id: &str) -> String {
    hex::encode(digest::digest(&digest::SHA256, id.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { idle: Duration::from_secs(60), absolute: Duration::from_secs(300), most: 3 }
    }

    fn newcomer(subject: &str) -> Newcomer {
        Newcomer { subject: subject.to_owned(), rights: Rights::everything(), saml: None, at_most: None }
    }

    #[test]
    fn a_session_ends_by_silence_and_in_any_case() {
        let (sessions, start) = (Sessions::new(limits()), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let id = sessions.open(newcomer("ann"), at(0)).unwrap();
        for seconds in [59, 118, 177, 236, 295] {
            assert!(sessions.get(&id, at(seconds)).is_some(), "{seconds}");
        }
        assert!(sessions.get(&id, at(300)).is_none());
        let id = sessions.open(newcomer("ann"), at(0)).unwrap();
        assert!(sessions.get(&id, at(60)).is_none());
        assert!(sessions.get(&id, at(1)).is_none(), "it does not come back");
        let id = sessions.open(newcomer("ann"), at(0)).unwrap();
        assert!(
            sessions.look(&id, at(59)).is_some() && sessions.look(&id, at(60)).is_none(),
            "a look is no use"
        );
        let short = Newcomer { at_most: Some(Duration::from_secs(10)), ..newcomer("ann") };
        let id = sessions.open(short, at(0)).unwrap();
        assert!(sessions.get(&id, at(9)).is_some() && sessions.get(&id, at(10)).is_none());
    }

    #[test]
    fn ids_are_new_and_the_one_silent_longest_makes_room() {
        let (sessions, start) = (Sessions::new(limits()), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let ids: Vec<String> =
            (0..4).map(|second| sessions.open(newcomer("ann"), at(second)).unwrap()).collect();
        assert!(sessions.get(&ids[0], at(4)).is_none());
        assert!(ids[1..].iter().all(|id| sessions.get(id, at(4)).is_some()));
        assert!(ids[1..].iter().all(|id| id.len() == 64 && *id != ids[0]));
    }

    #[test]
    fn a_token_goes_for_one_session_and_one_path() {
        let (sessions, now) = (Sessions::new(limits()), Instant::now());
        let session = || sessions.get(&sessions.open(newcomer("ann"), now).unwrap(), now).unwrap();
        let (this, other) = (session(), session());
        let token = this.form_token("/logout");
        assert!(this.is_form_token("/logout", &token));
        assert!(!this.is_form_token("/person", &token) && !other.is_form_token("/logout", &token));
        assert!(!this.is_form_token("/logout", ""));
    }

    #[test]
    fn sessions_are_ended_by_name() {
        let (sessions, now) = (Sessions::new(limits()), Instant::now());
        let ids: Vec<String> =
            ["ann", "bob"].map(|name| sessions.open(newcomer(name), now).unwrap()).to_vec();
        assert_eq!(sessions.close_where(|session| session.subject == "bob", now), 1);
        assert!(sessions.get(&ids[1], now).is_none());
        assert_eq!(sessions.close(&ids[0], now).unwrap().subject, "ann");
        assert!(sessions.all(now).is_empty());
    }
}
