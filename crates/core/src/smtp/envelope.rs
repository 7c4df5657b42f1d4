//! Who sends a message, to whom, and what is known of the client.

use super::address::Address;
use super::command::Parameters;
use super::xclient::Forwarded;

/// Which greeting the client used.
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
    /// How it greeted.
    pub protocol: Protocol,
}

/// The sender of a message, with the parameters of MAIL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The reverse path.
    pub address: Address,
    /// What the client asked for.
    pub parameters: Parameters,
}

/// One recipient, with the parameters of RCPT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The forward path.
    pub address: Address,
    /// What the client asked for.
    pub parameters: Parameters,
}

/// Who sends, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The client.
    pub client: Greeting,
    /// The sender.
    pub sender: Sender,
    /// The recipients that the next hop accepted.
    pub recipients: Vec<Recipient>,
    /// The login of the client, where it has logged in.
    pub login: Option<String>,
    /// The name in the client's verified certificate.
    pub certificate: Option<String>,
    /// What the client told of where it had the message from.
    pub forwarded: Option<Box<Forwarded>>,
}

impl Envelope {
    /// An envelope without recipients, of a client of whom nothing more is known.
    pub fn new(client: Greeting, sender: Sender) -> Envelope {
        Envelope { client, sender, recipients: Vec::new(), login: None, certificate: None, forwarded: None }
    }
}

/// What a client has shown of who it is, and told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its login.
    pub login: Option<String>,
    /// The name in its verified certificate.
    pub certificate: Option<String>,
    /// What it told of where it has the next message from.
    pub forwarded: Option<Box<Forwarded>>,
}
