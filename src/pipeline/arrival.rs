//! A message as it comes into the line: what it is called, where it comes from, and the trace that it leaves
//! with.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::consent::Timestamp;
use crate::live::Live;
use crate::message::header::fields;
use crate::plan::Message;
use crate::policy::Origin;
use crate::relay::Answers;
use crate::relay::{Outbound, Ways};
use crate::smtp::Reply;
use crate::smtp::session::{Envelope, Protocol};

/// The most Received fields before a message is taken to run in circles (RFC 5321 section 6.3).
const MAX_HOPS: usize = 50;

/// The fields that name a campaign, the plainest first.
const CAMPAIGN_FIELDS: [&str; 5] = ["X-Campaign", "X-Campaign-ID", "X-CampaignID", "Feedback-ID", "List-Id"];
/// The most characters of a campaign's name.
const MAX_CAMPAIGN: usize = 100;

/// Our own name for a message, for the log and the trace header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageId(pub(super) String);

impl MessageId {
    /// A name that no other message of this relay has.
    pub fn new() -> MessageId {
        const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let micros = Timestamp::now().0.unsigned_abs() << 12;
        let mut number = micros | (COUNT.fetch_add(1, Ordering::Relaxed) & 0xfff);
        let mut text = [b'0'; 12];
        for place in text.iter_mut().rev() {
            *place = ALPHABET.get((number & 31) as usize).copied().unwrap_or(b'0');
            number >>= 5;
        }
        MessageId(graphic(&text, text.len()))
    }
}

impl Default for MessageId {
    fn default() -> MessageId {
        MessageId::new()
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A message that a client has handed over whole.
#[derive(Debug)]
pub struct Arrival {
    /// Our name for it.
    pub id: MessageId,
    /// Who sends, and the recipients that the next hop accepted.
    pub envelope: Envelope,
    /// The message: lines ending in CRLF, dots unstuffed.
    pub message: Bytes,
    /// The listener it came through.
    pub listener: String,
    /// Where it goes.
    pub outbound: Arc<Outbound>,
    /// When the client began with it.
    pub began: Instant,
    /// When it was there whole, or refused.
    pub arrived: Instant,
    /// By when the client must have an answer.
    pub deadline: Instant,
    /// The client.
    pub peer: SocketAddr,
    /// The client's host name, where a proxy told it.
    pub client_name: Option<String>,
    /// TLS version and cipher suite towards the client.
    pub tls: Option<String>,
    /// How the client hears what became of it.
    pub answers: Answers,
}

impl Arrival {
    /// The recipients' addresses, in their order.
    pub(super) fn addresses(&self) -> Vec<&str> {
        self.envelope.recipients.iter().map(|recipient| recipient.address.as_str()).collect()
    }

    /// The Message-ID field, cut and cleaned for the log.
    pub fn message_id(&self) -> String {
        let field = fields(&self.message, 0).find(|field| field.is(&self.message, "Message-ID"));
        field.map(|field| graphic(field.value(&self.message), 200)).unwrap_or_default()
    }

    /// What the sender calls the campaign that the message belongs to, cut and cleaned; empty where no field
    /// of the header says, or where what it says has a recipient's address in it.
    pub fn campaign(&self) -> String {
        let said = fields(&self.message, 0).filter_map(|field| {
            let rank = CAMPAIGN_FIELDS.iter().position(|name| field.is(&self.message, name))?;
            let name = campaign_name(field.value(&self.message));
            (!name.is_empty()).then_some((rank, name))
        });
        let name = said.min_by_key(|(rank, _)| *rank).map(|(_, name)| name).unwrap_or_default();
        let lower = name.to_ascii_lowercase();
        let names_reader = |address: &str| {
            let address = address.to_ascii_lowercase();
            lower.contains(&address) || lower.contains(&address.replace('@', "="))
        };
        if self.addresses().into_iter().any(names_reader) { String::new() } else { name }
    }

    /// What the connection and the envelope say of it.
    pub(super) fn origin(&self) -> Origin<'_> {
        Origin {
            listener: &self.listener,
            // A name in a verified certificate is as good as a login.
            login: self.envelope.login.as_deref().or(self.envelope.certificate.as_deref()),
            sender: self.envelope.sender.address.as_str(),
        }
    }

    /// The message as plans are made for it.
    pub(super) fn to_be_planned<'a>(&'a self, live: &Live, recipients: &'a [&'a str]) -> Message<'a> {
        Message {
            bytes: &self.message,
            origin: self.origin(),
            recipients,
            max_copies: match self.answers {
                Answers::Each => usize::MAX,
                Answers::One => live.config.relay.max_groups.min(self.most_connections(live)),
            },
            esp: self.outbound.esp,
            at: Timestamp::now(),
        }
    }

    /// How many connections the message may have, as far as is known, at the next hop with the fewest.
    fn most_connections(&self, live: &Live) -> usize {
        match live.ways(&self.origin(), &self.envelope.recipients) {
            None => self.outbound.route.most_connections(),
            Some(ways) => ways.iter().map(|way| way.route.most_connections()).min().unwrap_or(1),
        }
    }

    /// The ways its mail goes: the next hops of each route, the routes apart.
    pub(super) fn ways(&self, live: &Live) -> String {
        let names = |way: &Arc<Outbound>| way.conditions.next_hops.join(", ");
        let Some(ways) = live.ways(&self.origin(), &self.envelope.recipients) else {
            return names(&self.outbound);
        };
        let mut names: Vec<String> = ways.into_iter().map(names).collect();
        names.sort_unstable();
        names.dedup();
        names.join("; ")
    }

    /// Where its recipients go, and a notification to its sender, where that depends on the recipient.
    pub(super) fn divided(&self, live: &Live) -> Option<Ways> {
        let origin = self.origin();
        let ways = live.ways(&origin, &self.envelope.recipients)?;
        let back = live.outbound(origin.listener, origin.login, "", Some(origin.sender))?;
        let routes = ways.iter().map(|way| Arc::clone(&way.route)).collect();
        Some(Ways::new(routes, Arc::clone(&back.route)))
    }

    /// The id under which the client knows the message, where its newest Received field gives one.
    pub(super) fn client_id(&self) -> String {
        let field = fields(&self.message, 0).find(|field| field.is(&self.message, "Received"));
        let value = field
            .map(|field| String::from_utf8_lossy(field.value(&self.message)).into_owned())
            .unwrap_or_default();
        let mut words = value.split([' ', '\t', '\r', '\n', ';']).filter(|word| !word.is_empty());
        let id = words.by_ref().find(|word| word.eq_ignore_ascii_case("id")).and_then(|_| words.next());
        graphic(id.unwrap_or_default().as_bytes(), 64)
    }
}

/// A text for the log: what is printable ASCII in it, at most so many characters.
fn graphic(text: &[u8], most: usize) -> String {
    let mut clean = String::with_capacity(text.len().min(most));
    clean.extend(text.iter().filter(|byte| byte.is_ascii_graphic()).take(most).copied().map(char::from));
    clean
}

/// The name of a campaign: of a List-Id what is between its angle brackets (RFC 2919), else all of it.
fn campaign_name(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let inner = text.rsplit_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(inner, _)| inner);
    let words = inner.unwrap_or(&text).split_ascii_whitespace();
    let printable = |letter: &char| letter.is_ascii_graphic() || *letter == ' ';
    words.collect::<Vec<_>>().join(" ").chars().filter(printable).take(MAX_CAMPAIGN).collect()
}

/// What is said of a message that runs in circles.
pub(super) fn loops(arrival: &Arrival) -> Option<Reply> {
    let hops = fields(&arrival.message, 0)
        .filter(|field| field.is(&arrival.message, "Received"))
        .take(MAX_HOPS + 1)
        .count();
    (hops > MAX_HOPS).then(|| {
        tracing::error!(id = %arrival.id, "a message runs in circles; look at the relayhost settings on its \
                                           way");
        Reply::new(554, "5.4.6 Too many hops: the message runs in circles")
    })
}

/// Our trace header (RFC 5321 section 4.4).
pub(super) fn received(live: &Live, arrival: &Arrival) -> String {
    let client = &arrival.envelope.client;
    // RFC 3848: S for TLS, A for a login.
    let with = match (client.protocol, &arrival.tls, &arrival.envelope.login) {
        (Protocol::Smtp, _, _) => "SMTP",
        (Protocol::Esmtp, None, None) => "ESMTP",
        (Protocol::Esmtp, None, Some(_)) => "ESMTPA",
        (Protocol::Esmtp, Some(_), None) => "ESMTPS",
        (Protocol::Esmtp, Some(_), Some(_)) => "ESMTPSA",
        (Protocol::Lmtp, None, None) => "LMTP",
        (Protocol::Lmtp, None, Some(_)) => "LMTPA",
        (Protocol::Lmtp, Some(_), None) => "LMTPS",
        (Protocol::Lmtp, Some(_), Some(_)) => "LMTPSA",
    };
    let tls = arrival.tls.as_ref().map_or(String::new(), |tls| format!("\r\n\t({tls})"));
    let date = OffsetDateTime::now_utc().format(&Rfc2822).unwrap_or_default();
    let address = match arrival.peer.ip().to_canonical() {
        std::net::IpAddr::V4(address) => address.to_string(),
        std::net::IpAddr::V6(address) => format!("IPv6:{address}"),
    };
    let clean = |text: &str| graphic(text.as_bytes(), text.len());
    let name = arrival.client_name.as_ref().map_or(String::new(), |name| format!("{} ", clean(name)));
    format!(
        "Received: from {} ({name}[{address}]){tls}\r\n\tby {} (pixelward) with {with} id \
         {};\r\n\t{date}\r\n",
        clean(&client.name),
        live.config.relay.host_name,
        arrival.id,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_is_what_is_between_the_brackets_or_all_of_it() {
        let long = "x".repeat(200);
        for (value, name) in [
            (&b" autumn-sale\r\n"[..], "autumn-sale"),
            (b" \"Our news\" <news.shop.example>", "news.shop.example"),
            (b" 4711:shop:news:\r\n\tvendor", "4711:shop:news: vendor"),
            (b"  \r\n ", ""),
            (long.as_bytes(), &long[..MAX_CAMPAIGN]),
        ] {
            assert_eq!(campaign_name(value), name);
        }
    }

    #[test]
    fn names_of_messages_differ() {
        let names: std::collections::HashSet<String> =
            (0..4000).map(|_| MessageId::new().to_string()).collect();
        assert_eq!(names.len(), 4000);
        assert!(names.iter().all(|name| name.len() == 12));
    }
}
