//! What a session offers its client, and how that is announced.

use super::reply::Reply;

/// What the session offers, and its limits.
#[derive(Clone, Debug)]
pub struct Features {
    /// The name we greet with.
    pub host_name: String,
    /// The largest message, in bytes: the smaller of ours and the next hop's.
    pub max_message_bytes: u64,
    /// The most recipients of one message (RFC 5321 section 4.5.3.1.8: at least 100).
    pub max_recipients: usize,
    /// Whether STARTTLS is offered: it is configured and TLS is not on yet.
    pub starttls: bool,
    /// Whether mail is only taken over TLS.
    pub require_tls: bool,
    /// Whether the next hop takes 8-bit bodies (RFC 6152), as last seen.
    pub eight_bit: bool,
    /// Whether the next hop takes internationalised mail (RFC 6531), as last seen.
    pub smtputf8: bool,
    /// Whether the next hop takes DSN parameters (RFC 3461), as last seen.
    pub dsn: bool,
    /// Whether clients speak LMTP here (RFC 2033).
    pub lmtp: bool,
    /// How AUTH stands.
    pub login: LoginOffer,
    /// Whether the client may send mail.
    pub permission: Permission,
    /// Whether the client may tell of others with XCLIENT.
    pub xclient: bool,
    /// Whether it may tell of messages with XFORWARD.
    pub xforward: bool,
}

/// How AUTH stands (RFC 4954).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginOffer {
    /// There are no logins here.
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
    /// The reply to EHLO. CHUNKING is not among it: no client needs it, and mail was lost over it elsewhere.
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

    /// What a relay offers whose next hop has no SMTPUTF8.
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
