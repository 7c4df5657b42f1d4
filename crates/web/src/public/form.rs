//! Forms: what a browser sends, and the token that lets a form be sent only once.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use url::form_urlencoded;

use crate::consent::seal::Sealer;
use crate::consent::{StoreKey, Timestamp};

/// The maximum size of a body, in bytes; our forms have about 300.
const MAX_BODY: usize = 8 * 1024;
/// The maximum number of fields in a form.
const MAX_FIELDS: usize = 32;
/// How long a form can be sent.
pub(super) const LIFE: Duration = Duration::from_secs(60 * 60);
/// The maximum number of used forms to remember; beyond it the oldest is forgotten.
const MAX_USED: usize = 100_000;
/// The number of random bytes at the start of a token: enough to recognise a form.
const MARK: usize = 12;

/// Lets each form be sent once, within an hour.
pub(super) struct Forms {
    sealer: Sealer,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    known: HashSet<[u8; MARK]>,
    order: VecDeque<[u8; MARK]>,
}

impl Forms {
    /// Creates forms with a key of their own.
    pub(super) fn new(key: &StoreKey) -> Forms {
        Forms { sealer: Sealer::new(&key.derived("forms")), used: Mutex::new(Used::default()) }
    }

    /// Creates a token for one form on the page of this link.
    pub(super) fn issue(&self, link: &str, now: Timestamp) -> String {
        hex::encode(self.sealer.seal(&now.0.to_le_bytes(), link.as_bytes()))
    }

    /// Returns whether a form was issued for this link within the hour and has not been sent before. From now
    /// on it counts as sent.
    pub(super) fn redeem(&self, link: &str, form: &str, now: Timestamp) -> bool {
        let Ok(sealed) = hex::decode(form) else { return false };
        let Some(mark) = sealed.first_chunk::<MARK>().copied() else { return false };
        let Ok(plain) = self.sealer.open(&sealed, link.as_bytes()) else { return false };
        let Ok(issued) = <[u8; 8]>::try_from(plain.as_slice()).map(i64::from_le_bytes) else { return false };
        if !(0..=LIFE.as_millis() as i64).contains(&now.0.saturating_sub(issued)) {
            return false;
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if !used.known.insert(mark) {
            return false;
        }
        used.order.push_back(mark);
        if used.order.len() > MAX_USED
            && let Some(oldest) = used.order.pop_front()
        {
            used.known.remove(&oldest);
        }
        true
    }
}

/// The fields of a form, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Returns the first value of a field.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Reads a form.
///
/// # Errors
///
/// The status that says what is wrong, independent of the link and its holder.
pub(super) async fn read(headers: &HeaderMap, body: Body, patience: Duration) -> Result<Fields, StatusCode> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    fields(&whole(headers, body, patience).await?)
}

/// Reads the whole body.
///
/// # Errors
///
/// When it is too large, late or incomplete.
pub(super) async fn whole(headers: &HeaderMap, body: Body, patience: Duration) -> Result<Bytes, StatusCode> {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > MAX_BODY as u64) {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let collected = tokio::time::timeout(patience, Limited::new(body, MAX_BODY).collect()).await;
    match collected.map_err(|_| StatusCode::REQUEST_TIMEOUT)? {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Err(_) => Err(StatusCode::BAD_REQUEST),
    }
}

fn fields(body: &[u8]) -> Result<Fields, StatusCode> {
    let pairs = form_urlencoded::parse(body).take(MAX_FIELDS + 1);
    let pairs: Vec<_> = pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    if pairs.len() > MAX_FIELDS { Err(StatusCode::BAD_REQUEST) } else { Ok(Fields(pairs)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_sent_once_within_the_hour_on_its_own_page() {
        let forms = Forms::new(&StoreKey::new([5; 32]));
        let now = Timestamp(1_000_000_000);
        let later = |millis: i64| Timestamp(now.0 + millis);
        let form = forms.issue("link", now);
        assert!(!forms.redeem("another link", &form, now));
        assert!(!forms.redeem("link", &form, later(LIFE.as_millis() as i64 + 1)));
        assert!(!forms.redeem("link", &form, later(-1)));
        assert!(forms.redeem("link", &form, later(LIFE.as_millis() as i64)));
        assert!(!forms.redeem("link", &form, later(LIFE.as_millis() as i64)));
        let other = Forms::new(&StoreKey::new([6; 32]));
        assert!(!other.redeem("link", &forms.issue("link", now), now));
        for junk in ["", "0", "zz", "\u{e9}\u{e9}", &"0".repeat(24), &"0".repeat(100_000)] {
            assert!(!forms.redeem("link", junk, now), "{junk}");
        }
        let upper = forms.issue("link", now).to_uppercase();
        assert!(forms.redeem("link", &upper, now) && !forms.redeem("link", &upper.to_lowercase(), now));
    }

    #[test]
    fn sent_forms_are_forgotten_beyond_a_bound() {
        let forms = Forms::new(&StoreKey::new([5; 32]));
        for number in 0..MAX_USED + 10 {
            assert!(forms.redeem("link", &forms.issue("link", Timestamp(0)), Timestamp(0)), "{number}");
        }
        let used = forms.used.lock().unwrap();
        assert_eq!((used.known.len(), used.order.len()), (MAX_USED, MAX_USED));
    }

    #[test]
    fn fields_are_read_as_browsers_write_them() {
        let read = fields(b"a=b+c%40d&e=%C3%A9&a=x&f").unwrap();
        assert_eq!(
            (read.get("a"), read.get("e"), read.get("f"), read.get("g")),
            (Some("b c@d"), Some("\u{e9}"), Some(""), None)
        );
        assert_eq!(fields("a=b&".repeat(MAX_FIELDS + 1).as_bytes()), Err(StatusCode::BAD_REQUEST));
        assert!(fields(&[0xff, b'=', 0, b'%', b'&', b'=']).is_ok());
    }
}
