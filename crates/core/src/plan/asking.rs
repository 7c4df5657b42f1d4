//! Mail that asks for consent: whom it may ask (N17, N19).

use super::is_observed;
use crate::consent::{Permission, Standing, Timestamp};
use crate::policy::{Chosen, Purpose, Request, request};

/// What recipients hear whom a message may not ask for their consent yet (N19).
pub const TOO_EARLY: &str = "5.7.1 This mail asks for consent to tracking, and the recipient may not be \
                             asked now; \
                             `pixelward consent may-ask` says when";

/// What becomes of a request for consent, and what it asks a person about.
pub(super) fn asking(
    chosen: Chosen<'_>,
    has_question: bool,
    standing: Option<&Standing>,
    now: Timestamp,
) -> (Request, Vec<Purpose>) {
    if is_observed(chosen) {
        return (Request::None, Vec::new());
    }
    let request = request(chosen.mailstream, has_question, standing, now);
    let (Request::Asks, Some(standing)) = (request, standing) else { return (request, Vec::new()) };
    let is_open = |purpose: &Purpose| matches!(standing.allows(*purpose, now), Permission::NotGranted(_));
    let asks = chosen.mailstream.purposes.iter().copied().filter(is_open).collect();
    (request, asks)
}
