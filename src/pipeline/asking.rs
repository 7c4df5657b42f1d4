//! Mail that asks for consent: that it asked is recorded, so that nobody asks again too soon (N19).

use super::{Arrival, Pipeline};
use crate::consent::{Change, Controller, Details, Person, State, StoreError, Timestamp};
use crate::plan::Decided;

impl Pipeline {
    /// Records whom a message asked. The message has left, so that it could not be recorded is an alarm and
    /// nothing more.
    pub(super) fn note_asked(&self, arrival: &Arrival, asked: Vec<(Person, Change)>) {
        let id = arrival.id.clone();
        let failed = move |error: StoreError| {
            metrics::counter!("pixelward_store_errors_total").increment(1);
            tracing::error!(
                %id, %error,
                "that people were asked for their consent could not be recorded: they may be asked again too \
                 soon"
            );
        };
        let alarm = failed.clone();
        let sent = self.store.record_later(asked, move |outcome| match outcome {
            // Where the person answered meanwhile, that stands; nobody asks again soon in either case.
            Ok(applied) => tracing::debug!(?applied, "it was recorded who was asked"),
            Err(error) => failed(error),
        });
        let _ = sent.map_err(alarm);
    }
}

/// That a person was asked.
pub(super) fn question(
    arrival: &Arrival,
    controller: &Controller,
    decided: &Decided,
    at: Timestamp,
) -> Change {
    let details = Details {
        method: Some("request_by_mail".to_owned()),
        channel: Some("mail".to_owned()),
        evidence: Some(format!("message {}", arrival.id)),
        actor: Some("pixelward".to_owned()),
        ..Details::default()
    };
    let change = Change::new(controller.clone(), decided.asks.clone(), State::Asked, at);
    Change { asked_at: Some(at), details, ..change }
}
