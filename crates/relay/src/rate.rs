//! The rate limit of a next hop.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a message may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// A token bucket with one token per message. It may be overdrawn while there is one left, so that several
/// copies of a message are sent together or not at all.
#[derive(Debug)]
pub struct Rate {
    per_second: f64,
    burst: f64,
    bucket: Mutex<(f64, Instant)>,
}

impl Rate {
    /// Creates a bucket with this rate per minute and burst. `None` for no limit (0).
    pub fn per_minute(messages: u32, burst: u32, now: Instant) -> Option<Rate> {
        let burst = f64::from(burst.max(1));
        (messages > 0).then(|| Rate {
            per_second: f64::from(messages) / 60.0,
            burst,
            bucket: Mutex::new((burst, now)),
        })
    }

    /// Takes tokens for messages that are sent together, and returns how long they have to wait.
    ///
    /// # Errors
    ///
    /// The time until there are tokens, if that is too long to wait. Then none is taken.
    pub fn take(&self, messages: usize, now: Instant) -> Result<Duration, Duration> {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.saturating_duration_since(bucket.1).as_secs_f64();
        let tokens = (bucket.0 + since * self.per_second).min(self.burst);
        let wait = Duration::from_secs_f64(((1.0 - tokens) / self.per_second).max(0.0));
        if wait > PATIENCE {
            return Err(wait);
        }
        *bucket = (tokens - messages as f64, now);
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_by_and_by() {
        let now = Instant::now();
        assert!(Rate::per_minute(0, 10, now).is_none());
        let rate = Rate::per_minute(60, 2, now).unwrap();
        let mut waits = (0..12).map(|_| rate.take(1, now).map(|wait| wait.as_secs()));
        assert_eq!(waits.by_ref().take(3).collect::<Vec<_>>(), [Ok(0), Ok(0), Ok(1)]);
        assert!(waits.all(|wait| wait.is_ok()));
        assert_eq!(rate.take(1, now).map_err(|wait| wait.as_secs()), Err(11), "nobody waits that long");
        assert_eq!(rate.take(1, now + Duration::from_secs(20)), Ok(Duration::ZERO));
    }

    #[test]
    fn copies_of_one_message_go_together() {
        let now = Instant::now();
        let rate = Rate::per_minute(1, 1, now).unwrap();
        assert_eq!(rate.take(3, now), Ok(Duration::ZERO));
        assert!(rate.take(1, now + Duration::from_secs(60)).is_err());
        assert_eq!(rate.take(1, now + Duration::from_secs(180)), Ok(Duration::ZERO));
    }
}
