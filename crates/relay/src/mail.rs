//! A message on its way, as its delivery and what tells the sender of it see it.

use crate::smtp::session::Envelope;

/// How a client expects its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// One reply for all recipients: SMTP.
    One,
    /// One per recipient: LMTP (RFC 2033), PRDR.
    Each,
}

/// A message on its way.
#[derive(Clone, Copy, Debug)]
pub struct Mail<'a> {
    /// The listener through which it came.
    pub listener: &'a str,
    /// The relay's id of the message.
    pub id: &'a str,
    /// The host name of the relay.
    pub host_name: &'a str,
    /// Sender and recipients.
    pub envelope: &'a Envelope,
    /// The relay's trace header.
    pub head: &'a [u8],
    /// The message as received.
    pub message: &'a [u8],
    /// How the client expects its reply.
    pub answers: Answers,
}
