//! The state machine of a conversation with a client.

use super::address::Address;
use super::auth::Auth;
use super::command::{Command, Parameters};
pub use super::envelope::{Envelope, Greeting, Identity, Protocol, Recipient, Sender};
use super::features::{Features, LoginOffer, Permission};
use super::reply::Reply;
use super::xclient::Attributes;

/// The state of a conversation.
#[derive(Clone, Debug)]
pub enum Session {
    /// No greeting yet.
    New,
    /// Between messages.
    Ready(Greeting),
    /// MAIL was accepted.
    Open(Envelope),
    /// The next hop was lost after MAIL, or MAIL was deferred: what still belongs to that message is deferred
    /// too. It must not get 503, which a client takes for the end of recipients accepted before.
    Deferred(Greeting),
    /// The conversation is over.
    Closed,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this.
    Say(Reply),
    /// Send this and close.
    Close(Reply),
    /// Send this and start TLS.
    StartTls(Reply),
    /// Run the AUTH exchange.
    LogIn(Auth),
    /// Apply what is said about the client, and greet again.
    Xclient(Attributes),
    /// Note what is said about the next message.
    Xforward(Attributes),
    /// Ask the next hop about the sender of the envelope that is now open.
    AskSender,
    /// Ask the next hop about this recipient.
    AskRecipient(Recipient),
    /// Abandon the current message, and send this.
    Abandon(Reply),
    /// Read the data of the message.
    ReadData,
}

impl Session {
    /// Handles one command of a client that has shown this `identity`. `waiting` recipients have been
    /// announced to the next hop and not been answered yet.
    pub fn step(
        self,
        command: Command,
        features: &Features,
        identity: &Identity,
        waiting: usize,
    ) -> (Session, Action) {
        use Session::{Closed, Deferred, New, Open, Ready};
        let say = |code, text: &str| Action::Say(Reply::new(code, text));
        match (self, command) {
            (_, Command::Quit) => (Closed, Action::Close(Reply::new(221, "2.0.0 Bye"))),
            (Closed, _) => (Closed, Action::Close(Reply::new(421, "4.3.0 Closed"))),
            (state, Command::Ehlo(_) | Command::Helo(_)) if features.lmtp => {
                (state, say(500, "5.5.1 This is LMTP: use LHLO"))
            }
            (state, Command::Lhlo(name)) if features.lmtp => state.greeted(name, Protocol::Lmtp, features),
            (state, Command::Lhlo(_)) => (state, say(500, "5.5.1 This is SMTP: use EHLO")),
            (state, Command::Ehlo(name)) => state.greeted(name, Protocol::Esmtp, features),
            (state, Command::Helo(name)) => state.greeted(name, Protocol::Smtp, features),
            (state, Command::Noop) => (state, say(250, "2.0.0 Ok")),
            (state, Command::Help) => (state, say(214, "2.0.0 See RFC 5321")),
            (state, Command::Vrfy) => (state, say(252, "2.5.2 Cannot verify; send mail to find out")),
            (New, Command::Rset) => (New, say(250, "2.0.0 Ok")),
            (Ready(client) | Deferred(client) | Open(Envelope { client, .. }), Command::Rset) => {
                (Ready(client), Action::Abandon(Reply::new(250, "2.0.0 Ok")))
            }
            (New | Ready(_), Command::StartTls) if features.starttls => {
                (New, Action::StartTls(Reply::new(220, "2.0.0 Ready to start TLS")))
            }
            (state, Command::StartTls) => (state, say(503, "5.5.1 TLS cannot be started now")),
            (state, Command::Auth(auth)) => log_in(state, auth, features),
            (state @ (Open(_) | Deferred(_)), Command::Xclient(_) | Command::Xforward(_)) => {
                (state, say(503, "5.5.1 A transaction is already in progress"))
            }
            (New | Ready(_), Command::Xclient(attributes)) if features.xclient => {
                (New, Action::Xclient(attributes))
            }
            (Ready(client), Command::Xforward(attributes)) if features.xforward => {
                (Ready(client), Action::Xforward(attributes))
            }
            (state, Command::Xclient(_)) => (state, say(550, "5.7.0 Not allowed from your address")),
            (state, Command::Xforward(_)) if !features.xforward => {
                (state, say(550, "5.7.0 Not allowed from your address"))
            }
            (Ready(client), Command::Mail(..)) if features.require_tls => {
                (Ready(client), say(530, "5.7.0 Must issue a STARTTLS command first"))
            }
            (Ready(client) | Deferred(client), Command::Mail(address, parameters)) => {
                sender(client, address, parameters, features, identity)
            }
            (Open(envelope), Command::Rcpt(address, parameters)) => {
                recipient(envelope, address, parameters, features, waiting)
            }
            (Open(envelope), Command::Data) if envelope.recipients.is_empty() => {
                (Open(envelope), say(554, "5.5.1 No valid recipients"))
            }
            (Open(envelope), Command::Data) => (Open(envelope), Action::ReadData),
            (Open(envelope), Command::Mail(..)) => {
                (Open(envelope), say(503, "5.5.1 A transaction is already in progress"))
            }
            (Deferred(client), Command::Rcpt(..) | Command::Data) => {
                (Deferred(client), say(451, "4.4.2 The message cannot be accepted now, try again later"))
            }
            (New, _) => (New, say(503, "5.5.1 Send EHLO first")),
            (Ready(client), _) => (Ready(client), say(503, "5.5.1 Send MAIL first")),
        }
    }

    fn greeted(self, name: String, protocol: Protocol, features: &Features) -> (Session, Action) {
        let reply = match protocol {
            Protocol::Smtp => Reply::new(250, &features.host_name),
            Protocol::Esmtp | Protocol::Lmtp => features.greeting(),
        };
        (Session::Ready(Greeting { name, protocol }), Action::Abandon(reply))
    }

    /// Returns whether a message was begun.
    pub fn has_envelope(&self) -> bool {
        matches!(self, Session::Open(_))
    }

    /// Notes that the current message cannot be accepted now.
    pub fn deferred(self) -> Session {
        match self.between_messages() {
            Session::Ready(client) => Session::Deferred(client),
            other => other,
        }
    }

    /// Notes that the next hop did not accept the sender, or the message is complete.
    pub fn between_messages(self) -> Session {
        match self {
            Session::Open(envelope) => Session::Ready(envelope.client),
            other => other,
        }
    }

    /// Notes that the next hop accepted a recipient.
    pub fn accepted(&mut self, recipient: Recipient) {
        if let Session::Open(envelope) = self {
            envelope.recipients.push(recipient);
        }
    }
}

/// Checks whether the client may log in now (RFC 4954, section 4).
fn log_in(state: Session, auth: Auth, features: &Features) -> (Session, Action) {
    let say = |state, code, text: &str| (state, Action::Say(Reply::new(code, text)));
    let greeted = match &state {
        Session::Ready(client) => client.protocol != Protocol::Smtp,
        Session::New => false,
        Session::Open(_) | Session::Deferred(_) | Session::Closed => {
            return say(state, 503, "5.5.1 AUTH is not allowed during a transaction");
        }
    };
    match features.login {
        LoginOffer::None => say(state, 502, "5.5.1 Command not supported here"),
        _ if !greeted => say(state, 503, "5.5.1 Send EHLO first"),
        LoginOffer::AfterTls => say(
            state,
            538,
            "5.7.11 Must issue a STARTTLS command first: passwords are \
                                                 not accepted in clear",
        ),
        LoginOffer::Done => say(state, 503, "5.5.1 Already authenticated"),
        LoginOffer::Offered => (state, Action::LogIn(auth)),
    }
}

fn sender(
    client: Greeting,
    address: Address,
    parameters: Parameters,
    features: &Features,
    identity: &Identity,
) -> (Session, Action) {
    let refuse = |code, text: &str| (Session::Ready(client.clone()), Action::Say(Reply::new(code, text)));
    match features.permission {
        Permission::Given => {}
        Permission::AfterLogin => return refuse(530, "5.7.0 Authentication required"),
        Permission::Denied => return refuse(554, "5.7.1 Client not allowed to send mail"),
    }
    if client.protocol == Protocol::Smtp && parameters.iter().next().is_some() {
        return refuse(555, "5.5.4 Parameters require EHLO");
    }
    let size = parameters.get("SIZE").and_then(|size| size.value()?.parse::<u64>().ok());
    if size.is_some_and(|size| size > features.max_message_bytes) {
        return refuse(552, "5.3.4 The message is larger than the announced limit");
    }
    if !address.as_str().is_ascii() && !parameters.has("SMTPUTF8") {
        return refuse(553, "5.6.7 The address needs SMTPUTF8");
    }
    let sender = Sender { address, parameters };
    let Identity { login, certificate, forwarded } = identity.clone();
    let envelope = Envelope { login, certificate, forwarded, ..Envelope::new(client, sender) };
    (Session::Open(envelope), Action::AskSender)
}

fn recipient(
    envelope: Envelope,
    address: Address,
    parameters: Parameters,
    features: &Features,
    waiting: usize,
) -> (Session, Action) {
    let refused = if envelope.recipients.len() + waiting >= features.max_recipients {
        // Not 550: after 452 the client sends the rest in a new transaction (RFC 5321, section 4.5.3.1.10).
        Some(Reply::new(452, "4.5.3 Too many recipients, send the rest in another transaction"))
    } else if !address.as_str().is_ascii() && !envelope.sender.parameters.has("SMTPUTF8") {
        Some(Reply::new(553, "5.6.7 The address needs SMTPUTF8"))
    } else if envelope.client.protocol == Protocol::Smtp && parameters.iter().next().is_some() {
        Some(Reply::new(555, "5.5.4 Parameters require EHLO"))
    } else {
        None
    };
    match refused {
        Some(reply) => (Session::Open(envelope), Action::Say(reply)),
        None => (Session::Open(envelope), Action::AskRecipient(Recipient { address, parameters })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::features::tests::features;

    fn check(dialogue: &str) {
        check_with(&features(), dialogue);
    }

    /// Plays a dialogue in which the next hop accepts everything.
    fn check_with(features: &Features, dialogue: &str) {
        let identity = Identity::default();
        let mut session = Session::New;
        let mut code = 0;
        for line in dialogue.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Some(wanted) = line.strip_prefix("S: ") {
                assert_eq!(code.to_string(), wanted, "in {dialogue}");
                continue;
            }
            let line = line.strip_prefix("C: ").expect("a line of the client or of the server");
            code = match Command::read(line.as_bytes()) {
                Err(reply) => reply.code(),
                Ok(command) => {
                    let (next, action) = session.step(command, features, &identity, 0);
                    session = next;
                    match action {
                        Action::Say(reply)
                        | Action::Close(reply)
                        | Action::StartTls(reply)
                        | Action::Abandon(reply) => reply.code(),
                        Action::LogIn(_) => 334,
                        Action::Xclient(_) => 220,
                        Action::Xforward(_) => 250,
                        Action::AskSender => 250,
                        Action::AskRecipient(recipient) => {
                            session.accepted(recipient);
                            250
                        }
                        Action::ReadData => {
                            session = session.between_messages();
                            354
                        }
                    }
                }
            };
        }
    }

    #[test]
    fn an_envelope_does_not_outlive_its_message() {
        check(
            "C: EHLO shop.example
             S: 250
             C: MAIL FROM:<news@shop.example>
             S: 250
             C: RCPT TO:<ann@home.example>
             S: 250
             C: DATA
             S: 354
             C: RCPT TO:<eve@home.example>
             S: 503",
        );
    }

    #[test]
    fn commands_out_of_order_change_nothing() {
        check(
            "C: MAIL FROM:<news@shop.example>
             S: 503
             C: HELO shop.example
             S: 250
             C: DATA
             S: 503
             C: RCPT TO:<ann@home.example>
             S: 503
             C: MAIL FROM:<news@shop.example>
             S: 250
             C: MAIL FROM:<news@shop.example>
             S: 503
             C: DATA
             S: 554
             C: RSET
             S: 250
             C: DATA
             S: 503",
        );
    }

    #[test]
    fn one_recipient_too_many_is_told_to_come_again() {
        check(
            "C: EHLO shop.example
             S: 250
             C: MAIL FROM:<> BODY=8BITMIME
             S: 250
             C: RCPT TO:<a@home.example>
             S: 250
             C: RCPT TO:<b@home.example>
             S: 250
             C: RCPT TO:<c@home.example>
             S: 452",
        );
    }

    #[test]
    fn a_size_and_an_address_beyond_what_is_announced_are_refused_at_mail() {
        check(
            "C: EHLO shop.example
             S: 250
             C: MAIL FROM:<a@b.example> SIZE=1001
             S: 552
             C: MAIL FROM:<j\u{fc}@b.example>
             S: 553",
        );
    }

    #[test]
    fn tls_forgets_the_greeting() {
        check(
            "C: EHLO shop.example
             S: 250
             C: STARTTLS
             S: 220
             C: MAIL FROM:<a@b.example>
             S: 503",
        );
    }

    #[test]
    fn a_login_has_its_place() {
        let stands = |login| Features { login, ..features() };
        check_with(
            &stands(LoginOffer::Offered),
            "C: AUTH PLAIN
             S: 503
             C: HELO shop.example
             S: 250
             C: AUTH PLAIN
             S: 503
             C: EHLO shop.example
             S: 250
             C: AUTH LOGIN
             S: 334
             C: MAIL FROM:<a@b.example> AUTH=<>
             S: 250
             C: AUTH LOGIN
             S: 503",
        );
        for (login, code) in [(LoginOffer::None, 502), (LoginOffer::AfterTls, 538), (LoginOffer::Done, 503)] {
            check_with(&stands(login), &format!("C: EHLO shop.example\n S: 250\n C: AUTH PLAIN\n S: {code}"));
        }
    }

    #[test]
    fn only_the_listed_may_tell_of_others_and_only_between_messages() {
        check_with(
            &Features { xclient: true, xforward: true, ..features() },
            "C: XFORWARD NAME=a.example
             S: 503
             C: XCLIENT NAME=a.example
             S: 220
             C: EHLO shop.example
             S: 250
             C: XCLIENT NAME=a.example
             S: 220
             C: MAIL FROM:<a@b.example>
             S: 503
             C: EHLO shop.example
             S: 250
             C: XFORWARD NAME=a.example
             S: 250
             C: XFORWARD FOO=a.example
             S: 501
             C: MAIL FROM:<a@b.example>
             S: 250
             C: XFORWARD NAME=a.example
             S: 503
             C: XCLIENT NAME=a.example
             S: 503",
        );
        check(
            "C: XCLIENT NAME=a.example
             S: 550
             C: EHLO shop.example
             S: 250
             C: XCLIENT NAME=a.example
             S: 550
             C: XFORWARD NAME=a.example
             S: 550",
        );
    }

    #[test]
    fn who_may_not_send_hears_it_at_mail() {
        for (permission, code) in [(Permission::AfterLogin, 530), (Permission::Denied, 554)] {
            let features = Features { permission, ..features() };
            check_with(
                &features,
                &format!(
                    "C: EHLO shop.example\n S: 250\n C: MAIL FROM:<a@b.example>\n S: {code}\n C: RCPT \
                     TO:<a@b.example>\n S: 503"
                ),
            );
        }
    }
}
