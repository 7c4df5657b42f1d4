//! What is left to do where analysis, decision or rewrite ends in an internal error: the message is stripped
//! of every remote request by code that weighs nothing, so that it neither stops the mail nor leaves as it
//! came. Observed mail is passed on as it is.

use bytes::Bytes;

use super::copy::{Made, told_not_to_track, without_controls};
use super::{Decided, Group, Message, Plan, Settings, is_observed};
use crate::consent::Person;
use crate::faults;
use crate::guarded::{Panicked, guarded};
use crate::message::header::fields;
use crate::message::transfer::{Edit, apply};
use crate::policy::{Chosen, Decision, Done, MailKind, Outcome, Request};
use crate::rewrite::{LinksDone, Protected, without_requests};
use crate::sign::OnBroken;
use crate::smtp::Reply;

/// What the client hears of a message that could not be checked for trackers.
pub const UNCHECKED: &str = "4.6.0 The message cannot be checked for trackers, try again later";

/// Whose mail a message is, and of which kind; where even that fails, the strictest.
pub(super) fn chosen<'a>(settings: &Settings<'a>, message: &Message<'_>) -> Chosen<'a> {
    let rulebook = settings.rulebook;
    guarded(|| rulebook.choose(&message.origin, &rulebook.marks(message.bytes)))
        .unwrap_or_else(|_| rulebook.unmatched())
}

/// The plan for a message of which nothing could be decided: one copy for everybody.
pub fn plan_after<'a>(
    settings: &Settings<'a>,
    message: &Message<'_>,
    chosen: Option<Chosen<'a>>,
    person: impl Fn(&str) -> Person,
) -> (Chosen<'a>, Plan) {
    let chosen = chosen.unwrap_or_else(|| self::chosen(settings, message));
    let one = |address: &&str| Decided {
        person: guarded(|| person(address)).unwrap_or(Person([0; 16])),
        decision: Decision::after_internal_error(chosen.mailstream),
        possible: Outcome::Strip,
        shortfall: None,
        request: Request::None,
        asks: Vec::new(),
    };
    let decided: Vec<Decided> = message.recipients.iter().map(one).collect();
    let recipients = (0..decided.len()).collect();
    let groups = vec![Group { recipients, wanted: Ok(Vec::new()) }];
    let plan =
        Plan { decided, groups, found: 0, links: 0, unreadable: 0, asked_too_early: 0, is_joined: false };
    (chosen, plan)
}

/// The copy that can leave after an internal error.
///
/// # Errors
///
/// What the recipients hear where none can, and the second error where stripping ended in one, too.
pub fn copy_after(
    settings: &Settings<'_>,
    message: &Message<'_>,
    chosen: Chosen<'_>,
) -> Result<Made, (Reply, Option<Panicked>)> {
    let made = |bytes: Bytes, done| {
        let links = LinksDone::default();
        Made { bytes, done, shortfall: None, removed: 0, swapped: 0, links }
    };
    if is_observed(chosen) {
        let bytes = guarded(|| without_controls(settings.rulebook, message.bytes));
        return Ok(made(bytes.unwrap_or_else(|_| message.bytes.clone()), Done::Of(Outcome::Keep)));
    }
    match guarded(|| stripped(settings, message, chosen)) {
        Ok(Ok((bytes, is_changed))) => {
            Ok(made(bytes, if is_changed { Done::Of(Outcome::Strip) } else { Done::Nothing }))
        }
        Ok(Err(reply)) => Err((reply, None)),
        Err(second) => Err((Reply::new(451, UNCHECKED), Some(second))),
    }
}

/// The message without any remote request, and whether one was there.
fn stripped(
    settings: &Settings<'_>,
    message: &Message<'_>,
    chosen: Chosen<'_>,
) -> Result<(Bytes, bool), Reply> {
    faults::point("strip");
    let wait = || Reply::new(451, UNCHECKED);
    if chosen.mailstream.kind == MailKind::ConsentRequest {
        // Nobody can say who of its recipients may be asked (N19), and its marks would be left unfilled.
        return Err(wait());
    }
    let bare = without_requests(settings.detector, message.bytes).map_err(|_| wait())?;
    if bare.protected_part_loads && settings.protected == Protected::Reject {
        return Err(wait());
    }
    let mut bytes = without_controls(settings.rulebook, &bare.bytes);
    if let Some(esp) = message.esp {
        bytes = told_not_to_track(&bytes, esp)?;
    }
    if bytes == *message.bytes {
        return Ok((bytes, false));
    }
    // Nobody says which signatures still hold.
    let signatures = fields(&bytes, 0).filter(|field| field.is(&bytes, "DKIM-Signature"));
    let cuts: Vec<Edit> = signatures.map(|field| Edit::cut_inside(field.range)).collect();
    if !cuts.is_empty() && settings.on_broken == OnBroken::Reject {
        return Err(wait());
    }
    Ok((Bytes::from(apply(&bytes, &cuts)), bare.is_changed))
}
