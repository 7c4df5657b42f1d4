//! Idempotency keys: a repeated request gets the first response and is done only once.
//!
//! Kept in memory, for a day, and bounded. After a restart, or if there were too many keys, a request is done
//! again; what it records is then older than what is known and changes nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode};
use bytes::Bytes;

use crate::problem::Problem;

/// How long a response is kept.
pub(super) const KEPT: Duration = Duration::from_secs(24 * 3600);
/// The maximum size of a response that is kept, in bytes; those to writes are far smaller.
const MAX_ANSWER: usize = 16 * 1024;

/// The SHA-256 of what makes up a request.
pub(super) type Fingerprint = [u8; 32];

/// The responses that are kept.
#[derive(Debug)]
pub(super) struct Replays {
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    answers: HashMap<String, Entry>,
    /// Keys with the time since which they are kept, oldest first.
    order: VecDeque<(String, Instant)>,
}

#[derive(Debug)]
struct Entry {
    fingerprint: Fingerprint,
    since: Instant,
    /// `None` while the request is in progress.
    answer: Option<Given>,
}

/// A response as it was given.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Given {
    /// Repeats the response.
    pub(super) fn response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response.headers_mut().insert("idempotency-replayed", axum::http::HeaderValue::from_static("true"));
        response
    }
}

/// What to do with a request that has a key.
#[derive(Debug)]
pub(super) enum Turn {
    /// A new request: do it.
    First(Claim),
    /// A repeated request: this was the response.
    Again(Given),
}

/// A key whose request is in progress. Dropped without a response, it is free again.
#[derive(Debug)]
pub(super) struct Claim {
    replays: Arc<Replays>,
    key: String,
    is_answered: bool,
}

impl Replays {
    /// Creates a store for at most this many keys.
    pub(super) fn new(most: usize) -> Arc<Replays> {
        Arc::new(Replays { most, kept: Mutex::new(Kept::default()) })
    }

    /// Looks up a request with a key; `key` includes the token.
    ///
    /// # Errors
    ///
    /// 422 if the key was used for a different request, 409 if the same request is in progress.
    pub(super) fn turn(
        self: &Arc<Replays>,
        key: String,
        fingerprint: Fingerprint,
        now: Instant,
    ) -> Result<Turn, Problem> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.forget(now, self.most);
        if let Some(entry) = kept.answers.get(&key) {
            if entry.fingerprint != fingerprint {
                return Err(Problem::key_reused());
            }
            return match &entry.answer {
                Some(answer) => Ok(Turn::Again(answer.clone())),
                None => Err(Problem::conflict(
                    "in-progress",
                    "A request with this Idempotency-Key is still in progress",
                )),
            };
        }
        kept.answers.insert(key.clone(), Entry { fingerprint, since: now, answer: None });
        kept.order.push_back((key.clone(), now));
        Ok(Turn::First(Claim { replays: Arc::clone(self), key, is_answered: false }))
    }
}

impl Kept {
    /// Forgets keys older than a day, and the oldest if there are too many.
    fn forget(&mut self, now: Instant, most: usize) {
        while let Some((key, since)) = self.order.front() {
            let is_over = now.saturating_duration_since(*since) >= KEPT;
            if !is_over && self.order.len() < most {
                break;
            }
            if self.answers.get(key).is_some_and(|answer| answer.since == *since) {
                self.answers.remove(key);
            }
            self.order.pop_front();
        }
    }
}

impl Claim {
    /// Keeps a response, unless the failure was on our side: it may succeed next time.
    pub(super) fn answered(mut self, answer: Given) {
        if answer.status.is_server_error() || answer.body.len() > MAX_ANSWER {
            return;
        }
        let replays = Arc::clone(&self.replays);
        let mut kept = replays.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = kept.answers.get_mut(&self.key) {
            entry.answer = Some(answer);
        }
        // If it was forgotten meanwhile, there is nothing to take back.
        self.is_answered = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.is_answered {
            let mut kept = self.replays.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.answers.remove(&self.key);
        }
    }
}

/// Hashes what makes up a request.
pub(super) fn fingerprint(pieces: &[&[u8]]) -> Fingerprint {
    let mut context = digest::Context::new(&digest::SHA256);
    for piece in pieces {
        context.update(&(piece.len() as u64).to_le_bytes());
        context.update(piece);
    }
    let mut out = [0; 32];
    out.iter_mut().zip(context.finish().as_ref()).for_each(|(target, byte)| *target = *byte);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Given {
        Given {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::from_static(b"done"),
        }
    }

    fn check(replays: &Arc<Replays>, key: &str, body: &str, now: Instant) -> String {
        match replays.turn(key.to_owned(), fingerprint(&[body.as_bytes()]), now) {
            Ok(Turn::First(claim)) => {
                claim.answered(answer(200));
                "done".to_owned()
            }
            Ok(Turn::Again(_)) => "again".to_owned(),
            Err(problem) => problem.status().as_u16().to_string(),
        }
    }

    #[test]
    fn the_same_is_done_once_a_day_and_a_key_means_one_thing() {
        let replays = Replays::new(100);
        let now = Instant::now();
        assert_eq!(check(&replays, "a", "x", now), "done");
        assert_eq!(check(&replays, "a", "x", now), "again");
        assert_eq!(check(&replays, "a", "y", now), "422");
        assert_eq!(check(&replays, "b", "y", now), "done");
        let later = now + KEPT - Duration::from_secs(1);
        assert_eq!(check(&replays, "a", "x", later), "again");
        assert_eq!(check(&replays, "a", "y", now + KEPT), "done");
        assert_ne!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"a", b"bc"]));
    }

    #[test]
    fn while_it_is_being_done_nobody_else_does_it_and_a_failure_is_tried_again() {
        let replays = Replays::new(100);
        let now = Instant::now();
        let Ok(Turn::First(claim)) = replays.turn("a".to_owned(), fingerprint(&[b"x"]), now) else {
            panic!("it is not the first");
        };
        assert_eq!(check(&replays, "a", "x", now), "409");
        claim.answered(answer(507));
        assert_eq!(check(&replays, "a", "x", now), "done");
    }

    #[test]
    fn memory_has_an_end() {
        let replays = Replays::new(10);
        let now = Instant::now();
        for number in 0..1000 {
            assert_eq!(check(&replays, &number.to_string(), "x", now), "done");
        }
        let kept = replays.kept.lock().unwrap();
        assert!(kept.answers.len() <= 10 && kept.order.len() <= 10);
        drop(kept);
        assert_eq!(check(&replays, "999", "x", now), "again");
        assert_eq!(check(&replays, "1", "x", now), "done");
    }
}
