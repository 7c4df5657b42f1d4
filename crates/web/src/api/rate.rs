//! Rate limiting per token.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The remaining allowance of each token. Tokens are few and made by the operator, so this stays small; full
/// buckets are forgotten.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<HashMap<String, Bucket>>);

#[derive(Debug)]
struct Bucket {
    left: f64,
    since: Instant,
}

/// The number of tokens above which full buckets are forgotten.
const MANY: usize = 1000;

impl Rates {
    /// Takes one request from a token's bucket; if it is empty, returns how many seconds to wait.
    pub(super) fn take(&self, id: &str, per_minute: u32, burst: u32, now: Instant) -> Result<(), u64> {
        let per_second = f64::from(per_minute) / 60.0;
        let most = f64::from(burst);
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MANY {
            let is_full = |bucket: &Bucket| {
                bucket.left + now.saturating_duration_since(bucket.since).as_secs_f64() * per_second >= most
            };
            buckets.retain(|_, bucket| !is_full(bucket));
        }
        let bucket = buckets.entry(id.to_owned()).or_insert(Bucket { left: most, since: now });
        let grown = now.saturating_duration_since(bucket.since).as_secs_f64() * per_second;
        bucket.left = (bucket.left + grown).min(most);
        bucket.since = now;
        if bucket.left < 1.0 {
            return Err(((1.0 - bucket.left) / per_second).ceil().clamp(1.0, 3600.0) as u64);
        }
        bucket.left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_token_has_its_burst_and_then_its_rate() {
        let rates = Rates::default();
        let start = Instant::now();
        let take = |id: &str, after: u64| rates.take(id, 60, 3, start + Duration::from_millis(after));
        for _ in 0..3 {
            assert_eq!(take("aa", 0), Ok(()));
        }
        assert_eq!(take("aa", 0), Err(1));
        assert_eq!(take("bb", 0), Ok(()));
        assert_eq!(take("aa", 1000), Ok(()));
        assert_eq!(take("aa", 1001), Err(1));
        for _ in 0..3 {
            assert_eq!(take("aa", 3_600_000), Ok(()));
        }
        assert_eq!(take("aa", 3_600_000), Err(1));
        assert_eq!(Rates::default().take("aa", 1, 1, start), Ok(()));
    }

    #[test]
    fn tokens_at_rest_are_forgotten() {
        let rates = Rates::default();
        let start = Instant::now();
        for number in 0..10 * MANY {
            let now = start + Duration::from_secs(number as u64);
            assert_eq!(rates.take(&number.to_string(), 6000, 10, now), Ok(()));
        }
        assert!(rates.0.lock().unwrap().len() <= MANY);
    }
}
