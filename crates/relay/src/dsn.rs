//! Builds a delivery status notification (RFC 3464), for the one case that needs it: a client gets one reply,
//! and some recipients were rejected after it.

use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address as Mailbox;
use mail_builder::headers::content_type::ContentType;
use mail_builder::headers::raw::Raw;
use mail_builder::mime::{BodyPart, MimePart};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::message::header;
use crate::smtp::Reply;
use crate::smtp::session::{Envelope, Recipient};

/// The contents of a notification.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    /// The host name of the relay.
    pub host_name: &'a str,
    /// The relay's id of the message.
    pub id: &'a str,
    /// The host that rejected it.
    pub next_hop: &'a str,
    /// Sender and recipients.
    pub envelope: &'a Envelope,
    /// The message as received.
    pub message: &'a [u8],
    /// What it tells of.
    pub event: Event,
}

/// What a notification tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Recipients were rejected.
    Failed,
    /// Recipients were accepted by a next hop that will not say whether the mail reached them.
    Relayed,
}

/// Returns whether somebody asked to be told of a success (RFC 3461, section 5.2.2): a next hop without DSN
/// does not know.
pub fn is_success_wanted(envelope: &Envelope, recipient: &Recipient) -> bool {
    let asks = recipient.parameters.get("NOTIFY").and_then(|notify| notify.value());
    let wants = asks.is_some_and(|asks| asks.split(',').any(|word| word.eq_ignore_ascii_case("SUCCESS")));
    wants && !envelope.sender.address.is_null()
}

/// Returns whether somebody asked never to be told of anything (RFC 3461, section 4.1).
pub fn wants_never(recipient: &Recipient) -> bool {
    let asks = recipient.parameters.get("NOTIFY").and_then(|notify| notify.value());
    asks.is_some_and(|asks| asks.eq_ignore_ascii_case("NEVER"))
}

/// Returns whether a rejection is to be reported: not to a null sender (RFC 5321, section 4.5.5), and not if
/// NOTIFY lacks FAILURE (RFC 3461, section 4.1).
pub fn is_wanted(envelope: &Envelope, recipient: &Recipient) -> bool {
    let asks = recipient.parameters.get("NOTIFY").and_then(|notify| notify.value());
    let wants = asks.is_none_or(|asks| asks.split(',').any(|word| word.eq_ignore_ascii_case("FAILURE")));
    wants && !envelope.sender.address.is_null()
}

impl Notice<'_> {
    /// Builds the notification about these recipients, with CRLF line endings. `None` if that fails.
    pub fn about(&self, rejected: &[(&Recipient, &Reply)]) -> Option<Vec<u8>> {
        let sender = self.envelope.sender.address.as_str();
        let postmaster =
            format!("MAILER-DAEMON@{}", self.host_name.trim_start_matches('[').trim_end_matches(']'));
        let report = ContentType::new("multipart/report").attribute("report-type", "delivery-status");
        let header = self.original_header();
        let machine = |kind: &'static str, text: String| {
            let encoding = if text.is_ascii() { "7bit" } else { "8bit" };
            MimePart::new(ContentType::new(kind), BodyPart::Text(text.into())).transfer_encoding(encoding)
        };
        let parts = vec![
            MimePart::new(ContentType::new("text/plain"), BodyPart::Text(self.text(rejected).into())),
            machine("message/delivery-status", self.status(rejected)),
            machine("text/rfc822-headers", header),
        ];
        MessageBuilder::new()
            .message_id(format!("{}.{}@{}", self.id, "dsn", postmaster.split('@').nth(1).unwrap_or_default()))
            .date(OffsetDateTime::now_utc().unix_timestamp())
            .from(Mailbox::new_address(Some("Mail delivery"), postmaster.as_str()))
            .to(Mailbox::new_address(None::<&str>, sender))
            .subject(match self.event {
                Event::Failed => "Your message was not delivered to some recipients",
                Event::Relayed => "Your message was relayed",
            })
            .header("Auto-Submitted", Raw::new("auto-replied"))
            .body(MimePart::new(report, BodyPart::Multipart(parts)))
            .write_to_vec()
            .ok()
    }

    /// Returns the name of the host that rejected it; that of this one for a socket, whose path is nobody's
    /// business.
    fn remote(&self) -> &str {
        if self.next_hop.starts_with("unix:") {
            return self.host_name;
        }
        self.next_hop.rsplit_once(':').map_or(self.next_hop, |(host, _)| host)
    }

    fn text(&self, rejected: &[(&Recipient, &Reply)]) -> String {
        let mut text = match self.event {
            Event::Failed => format!(
                "Your message was delivered to some of its recipients. {} rejected it for:\r\n\r\n",
                self.remote()
            ),
            Event::Relayed => format!(
                "{} accepted your message, and will not say whether it reached:\r\n\r\n",
                self.remote()
            ),
        };
        for (recipient, reply) in rejected {
            text.push_str(&format!("  <{}>: {}\r\n", recipient.address.as_str(), said(reply)));
        }
        text.push_str(match self.event {
            Event::Failed => "\r\nNone of them will receive it unless you send it again.\r\n",
            Event::Relayed => "\r\nYou may still be told if it is not delivered.\r\n",
        });
        text
    }

    /// Writes the fields for the message, then for each recipient (RFC 3464, section 2).
    fn status(&self, rejected: &[(&Recipient, &Reply)]) -> String {
        let date = OffsetDateTime::now_utc().format(&Rfc2822).unwrap_or_default();
        let mut status = format!("Reporting-MTA: dns; {}\r\nArrival-Date: {date}\r\n", self.host_name);
        if let Some(id) = self.envelope.sender.parameters.get("ENVID").and_then(|id| id.value()) {
            status.push_str(&format!("Original-Envelope-Id: {}\r\n", decoded(id)));
        }
        for (recipient, reply) in rejected {
            status.push_str("\r\n");
            if let Some(original) = recipient.parameters.get("ORCPT").and_then(|parameter| parameter.value())
            {
                status.push_str(&format!("Original-Recipient: {}\r\n", decoded(original)));
            }
            status.push_str(&format!(
                "Final-Recipient: rfc822; {}\r\n\
                 Action: {}\r\n\
                 Status: {}\r\n\
                 Remote-MTA: dns; {}\r\n\
                 Diagnostic-Code: smtp; {}\r\n",
                recipient.address.as_str(),
                match self.event {
                    Event::Failed => "failed",
                    Event::Relayed => "relayed",
                },
                reply.enhanced(),
                self.remote(),
                said(reply),
            ));
        }
        status
    }

    /// Returns the header of the message; the whole message is not sent back.
    fn original_header(&self) -> String {
        let end = header::length(self.message);
        String::from_utf8_lossy(self.message.get(..end).unwrap_or_default()).into_owned()
    }
}

fn said(reply: &Reply) -> String {
    format!("{} {}", reply.code(), reply.text())
}

/// Decodes xtext (RFC 3461, section 4); what would end a line becomes `?`.
fn decoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('+') {
        out.push_str(before);
        let byte = behind.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            Some(byte) => {
                out.push(if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '?' });
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                out.push('+');
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::command::Command;
    use crate::smtp::session::{Greeting, Protocol, Sender};

    fn envelope(mail: &str, rcpt: &str) -> Envelope {
        let Ok(Command::Mail(address, parameters)) = Command::read(mail.as_bytes()) else { panic!("{mail}") };
        let sender = Sender { address, parameters };
        let Ok(Command::Rcpt(address, parameters)) = Command::read(rcpt.as_bytes()) else { panic!("{rcpt}") };
        let client = Greeting { name: "shop.example".to_owned(), protocol: Protocol::Esmtp };
        Envelope { recipients: vec![Recipient { address, parameters }], ..Envelope::new(client, sender) }
    }

    #[test]
    fn a_notification_says_who_was_rejected_and_why() {
        let envelope = envelope(
            "MAIL FROM:<news@shop.example> ENVID=a+2Bb",
            "RCPT TO:<eve@home.example> ORCPT=rfc822;eve+2Bx@home.example",
        );
        let notice = Notice {
            host_name: "relay.example",
            id: "abc",
            next_hop: "mx.home.example:25",
            envelope: &envelope,
            event: Event::Failed,
            message: b"Subject: News\r\nMessage-ID: <1@shop.example>\r\n\r\nsecret\r\n",
        };
        let reply = Reply::new(550, "5.1.1 No such user");
        let notice = String::from_utf8(notice.about(&[(&envelope.recipients[0], &reply)]).unwrap()).unwrap();
        for line in [
            "Auto-Submitted: auto-replied\r\n",
            "Content-Type: multipart/report; report-type=\"delivery-status\"",
            "Reporting-MTA: dns; relay.example\r\n",
            "Original-Envelope-Id: a+b\r\n",
            "Original-Recipient: rfc822;eve+x@home.example\r\n\
             Final-Recipient: rfc822; eve@home.example\r\n\
             Action: failed\r\n\
             Status: 5.1.1\r\n",
            "Remote-MTA: dns; mx.home.example\r\nDiagnostic-Code: smtp; 550 5.1.1 No such user\r\n",
            "Subject: News\r\nMessage-ID: <1@shop.example>\r\n",
        ] {
            assert!(notice.contains(line), "{line} is missing in\n{notice}");
        }
        assert!(!notice.contains("secret"));
    }

    #[test]
    fn nobody_is_told_who_does_not_want_to_be() {
        let check = |mail: &str, notify: &str| {
            let envelope = envelope(mail, &format!("RCPT TO:<eve@home.example>{notify}"));
            is_wanted(&envelope, &envelope.recipients[0])
        };
        assert!(check("MAIL FROM:<news@shop.example>", ""));
        assert!(check("MAIL FROM:<news@shop.example>", " NOTIFY=SUCCESS,failure"));
        assert!(!check("MAIL FROM:<news@shop.example>", " NOTIFY=NEVER"));
        assert!(!check("MAIL FROM:<news@shop.example>", " NOTIFY=DELAY"));
        assert!(!check("MAIL FROM:<>", ""));
    }
}
