//! Moments in time.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Returns the current time of the system's clock.
    pub fn now() -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// Returns this moment plus this many days.
    pub fn plus_days(self, days: i64) -> Timestamp {
        Timestamp(self.0.saturating_add(days.saturating_mul(86_400_000)))
    }

    /// Returns the day in UTC, counted from 1970-01-01.
    pub fn day(self) -> i64 {
        self.0.div_euclid(86_400_000)
    }

    /// Returns the first moment of its day, in UTC.
    #[must_use]
    pub fn start_of_day(self) -> Timestamp {
        Timestamp(self.0.saturating_sub(self.0.rem_euclid(86_400_000)))
    }

    /// Parses RFC 3339 (`2026-07-14T08:00:00Z`) or a date alone, which means its first moment in UTC.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Timestamp, String> {
        let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
        let parsed = OffsetDateTime::parse(&whole, &Rfc3339).map_err(|_| {
            format!(
                "invalid time {text:?}: use one such as 2026-07-14T08:00:00Z or \
                                  2026-07-14"
            )
        })?;
        let millis = parsed.unix_timestamp_nanos() / 1_000_000;
        i64::try_from(millis).map(Timestamp).map_err(|_| format!("{text:?} is out of range"))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000);
        match moment.ok().and_then(|moment| moment.format(&Rfc3339).ok()) {
            Some(text) => f.write_str(&text),
            None => write!(f, "{} ms", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        assert_eq!(Timestamp::parse("1970-01-02T00:00:01+00:00"), Ok(Timestamp(86_401_000)));
        assert_eq!(Timestamp::parse("1970-01-02"), Ok(Timestamp(86_400_000)));
        assert_eq!(Timestamp(86_401_000).to_string(), "1970-01-02T00:00:01Z");
        assert!(Timestamp::parse("yesterday").is_err());
        assert!(Timestamp::parse("2026-02-30").is_err());
    }
}
