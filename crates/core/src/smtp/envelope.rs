//! The envelope of a message, and what is known about the client.

use super::address::Address;
use super::command::Parameters;
use super::xclient::Forwarded;

/// The greeting that the client used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HELO.
    Smtp,
    /// EHLO.
    Esmtp,
    /// LHLO.
    Lmtp,
}

/// The client as it greeted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The name it gave.
    pub name: String,
    /// The kind of greeting.
    pub protocol: Protocol,
}

/// The sender of a message, with the parameters of MAIL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The reverse path.
    pub address: Address,
    /// The parameters of MAIL.
    pub parameters: Parameters,
}

/// One recipient, with the parameters of RCPT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The forward path.
    pub address: Address,
    /// The parameters of RCPT.
    pub parameters: Parameters,
}

/// Sender and recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The client.
    pub client: Greeting,
    /// The sender.
    pub sender: Sender,
    /// The recipients that the next hop accepted.
    pub recipients: Vec<Recipient>,
    /// The login of the client, if it has logged in.
    pub login: Option<String>,
    /// The name in the client's verified certificate.
    pub certificate: Option<String>,
    /// What the client said about the message's origin.
    pub forwarded: Option<Box<Forwarded>>,
}

impl Envelope {
    /// Creates an envelope without recipients, of a client about which nothing more is known.
    pub fn new(client: Greeting, sender: Sender) -> Envelope {
        Envelope { client, sender, recipients: Vec::new(), login: None, certificate: None, forwarded: None }
    }
}

/// The identity that a client has shown or stated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The login.
    pub login: Option<String>,
    /// The name in its verified certificate.
    pub certificate: Option<String>,
    /// What it said about the origin of the next message.
    pub forwarded: Option<Box<Forwarded>>,
}
