//! What is valid only once: requests, assertions, and the step from a response to a session. All of it is
//! bounded.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::{constant_time, digest};

use super::SamlError;
use crate::consent::Timestamp;
use crate::session::random;

/// The SHA-256 of a browser's cookie.
pub(super) type Browser = [u8; 32];

/// Hashes a cookie's value for comparison.
fn browser(cookie: &str) -> Browser {
    let mut hash = [0; 32];
    let digest = digest::digest(&digest::SHA256, cookie.as_bytes());
    hash.iter_mut().zip(digest.as_ref()).for_each(|(target, byte)| *target = *byte);
    hash
}

/// The requests that were sent, and the browsers that sent them.
#[derive(Debug)]
pub(super) struct Requests {
    lifetime: Duration,
    most: usize,
    open: Mutex<HashMap<String, (Browser, Instant)>>,
}

impl Requests {
    pub(super) fn new(lifetime: Duration, most: usize) -> Requests {
        Requests { lifetime, most, open: Mutex::new(HashMap::new()) }
    }

    /// Notes a request. If there are too many, the oldest is dropped.
    pub(super) fn add(&self, id: &str, cookie: &str, now: Instant) {
        let mut open = self.open(now);
        if open.len() >= self.most {
            let oldest = open.iter().min_by_key(|(_, (_, since))| *since).map(|(id, _)| id.clone());
            oldest.into_iter().for_each(|id| {
                open.remove(&id);
            });
        }
        open.insert(id.to_owned(), (browser(cookie), now));
    }

    /// Returns the browser of a request, if it is open.
    pub(super) fn browser(&self, id: &str, now: Instant) -> Option<Browser> {
        self.open(now).get(id).map(|(what, _)| *what)
    }

    /// Closes a request; returns whether it was open.
    pub(super) fn take(&self, id: &str, now: Instant) -> bool {
        self.open(now).remove(id).is_some()
    }

    fn open(&self, now: Instant) -> MutexGuard<'_, HashMap<String, (Browser, Instant)>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, (_, since)| now.saturating_duration_since(*since) < self.lifetime);
        open
    }
}

/// The people who were verified and wait for their browser to return.
#[derive(Debug)]
pub(super) struct Pending<T> {
    lifetime: Duration,
    most: usize,
    waiting: Mutex<HashMap<String, (T, Browser, Instant)>>,
}

impl<T> Pending<T> {
    pub(super) fn new(lifetime: Duration, most: usize) -> Pending<T> {
        Pending { lifetime, most, waiting: Mutex::new(HashMap::new()) }
    }

    /// Returns the key under which they may sign in; `None` if there is no room.
    pub(super) fn add(&self, who: T, browser: &Browser, now: Instant) -> Option<String> {
        let key = random()?;
        let mut waiting = self.waiting(now);
        if waiting.len() >= self.most {
            return None;
        }
        waiting.insert(key.clone(), (who, *browser, now));
        Some(key)
    }

    /// Returns who waits under a key, if the cookie is that of the browser which asked. A key that another
    /// browser uses is spent.
    pub(super) fn take(&self, key: &str, cookie: &str, now: Instant) -> Option<T> {
        let mut waiting = self.waiting(now);
        let (_, wanted, _) = waiting.get(key)?;
        let is_same = constant_time::verify_slices_are_equal(wanted, &browser(cookie)).is_ok();
        waiting.remove(key).filter(|_| is_same).map(|(who, _, _)| who)
    }

    fn waiting(&self, now: Instant) -> MutexGuard<'_, HashMap<String, (T, Browser, Instant)>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, (_, _, since)| now.saturating_duration_since(*since) < self.lifetime);
        waiting
    }
}

/// Ids that were used, for as long as they could be replayed.
#[derive(Debug)]
pub(super) struct Used {
    most: usize,
    ids: Mutex<HashMap<String, Timestamp>>,
}

impl Used {
    pub(super) fn new(most: usize) -> Used {
        Used { most, ids: Mutex::new(HashMap::new()) }
    }

    /// Uses an id, until `end`.
    pub(super) fn claim(&self, id: &str, end: Timestamp, now: Timestamp) -> Result<(), SamlError> {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.retain(|_, end| *end > now);
        if ids.contains_key(id) {
            return Err(SamlError::Unfit("it was already used"));
        }
        if ids.len() >= self.most {
            return Err(SamlError::Full);
        }
        ids.insert(id.to_owned(), end);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_counts_once_for_a_while() {
        let (requests, start) = (Requests::new(Duration::from_secs(10), 2), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        requests.add("a", "x", at(0));
        assert_eq!(requests.browser("a", at(9)), Some(browser("x")));
        assert!(requests.take("a", at(9)) && !requests.take("a", at(9)));
        ["a", "b", "c"].iter().zip(0..).for_each(|(id, second)| requests.add(id, "x", at(second)));
        assert!(!requests.take("a", at(3)), "the oldest went");
        assert!(requests.take("b", at(10)) && !requests.take("c", at(12)));
    }

    #[test]
    fn only_the_browser_that_asked_comes_in_and_once() {
        let (pending, now) = (Pending::new(Duration::from_secs(10), 1), Instant::now());
        let key = pending.add("ann", &browser("x"), now).unwrap();
        assert_eq!(pending.add("bob", &browser("y"), now), None, "there is no room");
        assert_eq!(pending.take("0", "x", now), None);
        assert_eq!(pending.take(&key, "x", now), Some("ann"));
        assert_eq!(pending.take(&key, "x", now), None);
        let key = pending.add("ann", &browser("x"), now).unwrap();
        assert_eq!(pending.take(&key, "y", now), None);
        assert_eq!(
            pending.take(&key, "x", now),
            None,
            "a key that was shown by another browser is worth nothing any more"
        );
    }

    #[test]
    fn an_id_is_used_once_until_its_end() {
        let used = Used::new(2);
        assert_eq!(used.claim("a", Timestamp(10), Timestamp(0)), Ok(()));
        assert!(used.claim("a", Timestamp(20), Timestamp(9)).is_err());
        assert_eq!(used.claim("b", Timestamp(20), Timestamp(9)), Ok(()));
        assert_eq!(used.claim("c", Timestamp(20), Timestamp(9)), Err(SamlError::Full));
        assert_eq!(used.claim("a", Timestamp(30), Timestamp(10)), Ok(()));
    }
}
