//! What the client was refused before its message came is recorded like everything else.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::connection::Conversation;
use crate::pipeline::Arrival;
use crate::relay::{Answers, Via};
use crate::smtp::command::Command;
use crate::smtp::reply::{Class, Reply};
use crate::smtp::session::{Envelope, Recipient, Session};

impl Conversation<'_> {
    /// Records recipients of the open message who were refused at this command; without any, its sender.
    pub(super) fn note_refused(&self, at: &'static str, refused: Vec<(Recipient, Reply)>, about: &Reply) {
        let via = self.transaction.as_ref().map(|transaction| transaction.via()).unwrap_or_default();
        self.note_refused_by(&via, at, refused, about);
    }

    /// The same for what this next hop refused.
    pub(super) fn note_refused_by(
        &self,
        via: &Via,
        at: &'static str,
        refused: Vec<(Recipient, Reply)>,
        about: &Reply,
    ) {
        let envelope = match (&self.session, self.put_off.as_deref()) {
            (Session::Open(envelope), _) | (_, Some(envelope)) => envelope,
            _ => return,
        };
        let (recipients, replies): (Vec<Recipient>, Vec<Reply>) = refused.into_iter().unzip();
        let envelope = Envelope { recipients, ..without_recipients(envelope) };
        let Some(arrival) = self.unread(envelope) else { return };
        self.pipeline.refused(&arrival, at, &replies, about, via);
    }

    /// Records a recipient whom the session refused by itself, if that is what this line was about.
    pub(super) fn note_refused_line(&self, line: &[u8], reply: &Reply) {
        if reply.class() == Class::Positive
            || !line.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"RCPT"))
        {
            return;
        }
        if let Ok(Command::Rcpt(address, parameters)) = Command::read(line) {
            self.note_refused("rcpt", vec![(Recipient { address, parameters }, reply.clone())], reply);
        }
    }

    /// Returns a message that never came.
    fn unread(&self, envelope: Envelope) -> Option<Arrival> {
        let sender = envelope.sender.address.as_str();
        let login = envelope.login.as_deref().or(envelope.certificate.as_deref());
        let found = || self.live().outbound(&self.settings.name, login, sender, None).cloned();
        let outbound = self.outbound.as_ref().map(Arc::clone).or_else(found)?;
        let now = Instant::now();
        Some(Arrival {
            id: self.id.clone(),
            envelope,
            message: Bytes::new(),
            listener: self.settings.name.clone(),
            outbound,
            began: self.began,
            arrived: now,
            deadline: now,
            peer: self.peer,
            client_name: self.told.name.clone(),
            tls: None,
            answers: Answers::One,
        })
    }
}

/// Returns a copy of an envelope for other recipients.
pub(super) fn without_recipients(envelope: &Envelope) -> Envelope {
    Envelope {
        login: envelope.login.clone(),
        certificate: envelope.certificate.clone(),
        forwarded: envelope.forwarded.clone(),
        ..Envelope::new(envelope.client.clone(), envelope.sender.clone())
    }
}
