//! The features that a session offers, and their announcement.

use super::reply::Reply;

/// The features of a session, and its limits.
#[derive(Clone, Debug)]
pub struct Features {
    /// The name used in the greeting.
    pub host_name: String,
    /// The maximum message size in bytes: the smaller of the relay's and the next hop's.
    pub max_message_bytes: u64,
    /// The maximum number of recipients per message (RFC 5321, section 4.5.3.1.8: at least 100).
    pub max_recipients: usize,
    /// Whether STARTTLS is offered: it is configured and TLS is not on yet.
    pub starttls: bool,
    /// Whether mail is accepted only over TLS.
    pub require_tls: bool,
    /// Whether the next hop accepts 8-bit bodies (RFC 6152), as far as known.
    pub eight_bit: bool,
    /// Whether the next hop accepts internationalised mail (RFC 6531), as far as known.
    pub smtputf8: bool,
    /// Whether the next hop accepts DSN parameters (RFC 3461), as far as known.
    pub dsn: bool,
    /// Whether clients speak LMTP here (RFC 2033).
    pub lmtp: bool,
    /// The state of AUTH.
    pub login: LoginOffer,
    /// Whether the client may send mail.
    pub permission: Permission,
    /// Whether the client may use XCLIENT.
    pub xclient: bool,
    /// Whether it may use XFORWARD.
    pub xforward: bool,
}

/// The state of AUTH (RFC 4954).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginOffer {
    /// There are no accounts here.
    None,
    /// It is offered once TLS is on.
    AfterTls,
    /// It is offered.
    Offered,
    /// The client has logged in.
    Done,
}

/// Whether a client may send mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// It may.
    Given,
    /// It may once it has logged in.
    AfterLogin,
    /// It may not.
    Denied,
}

impl Features {
    /// Returns the reply to EHLO. CHUNKING is not offered: no client needs it, and mail was lost over it
    /// elsewhere.
    pub(super) fn greeting(&self) -> Reply {
        let size = format!("SIZE {}", self.max_message_bytes);
        // RFC 9422.
        let limits = format!("LIMITS RCPTMAX={}", self.max_recipients);
        let mut lines = vec![self.host_name.as_str(), "PIPELINING", &size, &limits];
        let optional = [
            (self.starttls, "STARTTLS"),
            (self.login == LoginOffer::Offered, "AUTH PLAIN LOGIN"),
            (self.eight_bit, "8BITMIME"),
            (self.smtputf8, "SMTPUTF8"),
            (self.dsn, "DSN"),
            (!self.lmtp, "PRDR"),
            (self.xclient, "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"),
            (self.xforward, "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"),
        ];
        lines.extend(optional.into_iter().filter(|(on, _)| *on).map(|(_, keyword)| keyword));
        lines.push("ENHANCEDSTATUSCODES");
        Reply::lines(250, lines)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The features of a relay whose next hop lacks SMTPUTF8.
    pub(in crate::smtp) fn features() -> Features {
        Features {
            host_name: "relay.example".to_owned(),
            max_message_bytes: 1000,
            max_recipients: 2,
            starttls: true,
            require_tls: false,
            eight_bit: true,
            smtputf8: false,
            dsn: true,
            lmtp: false,
            login: LoginOffer::None,
            permission: Permission::Given,
            xclient: false,
            xforward: false,
        }
    }

    #[test]
    fn only_what_is_there_is_announced() {
        let reply = features().greeting();
        let keywords = reply.keywords();
        assert_eq!(
            keywords,
            [
                "PIPELINING",
                "SIZE 1000",
                "LIMITS RCPTMAX=2",
                "STARTTLS",
                "8BITMIME",
                "DSN",
                "PRDR",
                "ENHANCEDSTATUSCODES"
            ]
        );
    }
}
