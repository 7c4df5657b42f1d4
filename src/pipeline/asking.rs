//! Mail that asks for consent: whom it may ask (N17, N19), and that it asked.

use super::plan::{Decided, Group, Plan};
use super::{Arrival, Pipeline};
use crate::consent::{Change, Details, Permission, Person, Standing, State, StoreError, Timestamp};
use crate::policy::{Chosen, Mode, Purpose, Request, request};
use crate::smtp::Reply;

/// What becomes of a request for consent, and what it asks a person about.
pub(super) fn asking(
    chosen: Chosen<'_>,
    has_question: bool,
    standing: Option<&Standing>,
    now: Timestamp,
) -> (Request, Vec<Purpose>) {
    if chosen.mailstream.mode == Mode::Observe {
        return (Request::None, Vec::new());
    }
    let request = request(chosen.mailstream, has_question, standing, now);
    let (Request::Asks, Some(standing)) = (request, standing) else { return (request, Vec::new()) };
    let is_open = |own: &Purpose| matches!(standing.allows(*own, now), Permission::NotGranted(_));
    let asks = chosen.mailstream.purposes.iter().copied().filter(is_open).collect();
    (request, asks)
}

/// Rejects a message for those whom it may not ask yet (N19).
pub(super) fn reject_early_requests(arrival: &Arrival, recipients: Vec<usize>) -> Option<Group> {
    if recipients.is_empty() {
        return None;
    }
    note_requests("rejected", recipients.len());
    tracing::warn!(id = %arrival.id, recipients = recipients.len(), "a request for consent came too early");
    let reply = Reply::new(
        550,
        "5.7.1 This mail asks for consent to tracking, and the recipient may not be asked now; `pixelward consent may-ask` says when",
    );
    Some(Group { recipients, wanted: Err(reply) })
}

impl Pipeline {
    /// Records whom a message asked. The message has left, so that it could not be recorded is an alarm and nothing more.
    pub(super) fn note_asked(&self, arrival: &Arrival, asked: Vec<(Person, Change)>) {
        let id = arrival.id.clone();
        let failed = move |error: StoreError| {
            metrics::counter!("pixelward_store_errors_total").increment(1);
            tracing::error!(%id, %error, "that people were asked for their consent could not be recorded: they may be asked again too soon");
        };
        let alarm = failed.clone();
        let sent = self.store.record_later(asked, move |outcome| match outcome {
            // Where the person answered meanwhile, that stands; nobody asks again soon in either case.
            Ok(applied) => tracing::debug!(?applied, "it was recorded who was asked"),
            Err(error) => failed(error),
        });
        let _ = sent.map_err(alarm);
    }

    /// That a person was asked, so that nobody asks again too soon (N19).
    pub(super) fn question(&self, arrival: &Arrival, plan: &Plan, decided: &Decided) -> Change {
        let details = Details {
            method: Some("request_by_mail".to_owned()),
            channel: Some("mail".to_owned()),
            evidence: Some(format!("message {}", arrival.id)),
            actor: Some("pixelward".to_owned()),
            ..Details::default()
        };
        let controller = plan.controller_name.clone();
        let change = Change::new(controller, decided.asks.clone(), State::Asked, plan.at);
        Change { asked_at: Some(plan.at), details, ..change }
    }
}

pub(super) fn note_requests(result: &'static str, recipients: usize) {
    metrics::counter!("pixelward_consent_requests_total", "result" => result).increment(recipients as u64);
}
