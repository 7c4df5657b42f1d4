//! What is changed in a message for a next hop that lacks an extension: 8-bit text becomes quoted-printable
//! without 8BITMIME (RFC 6152), and without DSN those who want no notification get their mail with an empty
//! return path (RFC 3461, section 5.2.2 (d)).

use super::dsn::wants_never;
use super::groups::Parcel;
use super::transaction::Transaction;
use crate::message::seven_bit;
use crate::smtp::session::Envelope;

/// Messages above this many bytes are converted beside the network's threads.
const LARGE: usize = 64 * 1024;

/// Returns a message without 8-bit text; `None` if it has none, or must stay as it is.
pub(super) async fn without_8_bit(message: &[u8]) -> Option<Vec<u8>> {
    if message.is_ascii() {
        return None;
    }
    if message.len() < LARGE {
        return seven_bit(message);
    }
    let message = message.to_vec();
    tokio::task::spawn_blocking(move || seven_bit(&message)).await.ok().flatten()
}

impl Transaction {
    /// Divides copies for a next hop without DSN, so that those who want no notification are apart from the
    /// others. Not where that takes more connections than there may be: it is a recommendation.
    pub(super) fn by_notify(&self, parcels: Vec<Parcel>, envelope: &Envelope) -> Vec<Parcel> {
        if !envelope.recipients.iter().any(wants_never) {
            return parcels;
        }
        let is_never = |index: &usize| envelope.recipients.get(*index).is_some_and(wants_never);
        let mut parts = Vec::with_capacity(parcels.len());
        for parcel in &parcels {
            let (never, others): (Vec<usize>, Vec<usize>) = match self.loses_notify_of(&parcel.recipients) {
                true => parcel.recipients.iter().partition(|index| is_never(index)),
                false => (Vec::new(), parcel.recipients.clone()),
            };
            let both = [others, never].into_iter().filter(|recipients| !recipients.is_empty());
            parts.extend(both.map(|recipients| Parcel { number: parcel.number, recipients }));
        }
        if parts.len() <= self.route().most_connections() { parts } else { parcels }
    }

    /// Returns whether recipients of one part want no notification, and the next hop would not know.
    pub(super) fn needs_empty_path(&self, recipients: &[usize], envelope: &Envelope) -> bool {
        let is_never = |index: &usize| envelope.recipients.get(*index).is_some_and(wants_never);
        !envelope.sender.address.is_null()
            && recipients.iter().all(is_never)
            && self.loses_notify_of(recipients)
    }

    /// Returns whether the next hop of these recipients lacks DSN, as far as is known.
    fn loses_notify_of(&self, recipients: &[usize]) -> bool {
        let announced = self.route_of(recipients).capabilities();
        self.loses_notify && self.is_on_route_of(recipients)
            || announced.is_some_and(|announced| !announced.dsn)
    }

    /// Notes that a part was converted.
    pub(super) fn note_converted(&mut self, recipients: &[usize], is_converted: bool) {
        if is_converted {
            self.converted.extend_from_slice(recipients);
        }
    }

    /// Returns the recipients whose copy was converted.
    pub fn converted(&self) -> &[usize] {
        &self.converted
    }
}
