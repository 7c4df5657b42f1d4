//! The conversation with one client: bytes in, commands through the session, replies out.
//!
//! [`Conversation`] is one type whose stages stand in files of their own: `permission`, `recipients`,
//! `refused`, `xclient` and `proxy` extend it, and it calls them in turn. Hence their circle.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::clients::Place;
use super::permission::Source;
use super::proxy;
use super::recipients::Batch;
use super::xclient::{Told, Trust};
use crate::config::{self, Listener, ListenerTls};
use crate::live::Live;
use crate::pipeline::{Handled, MessageId, Pipeline};
use crate::relay::{Outbound, Transaction};
use crate::smtp::BareNewline;
use crate::smtp::auth;
use crate::smtp::command::{Command, MAX_LINE};
use crate::smtp::features::Features;
use crate::smtp::reply::{Class, Reply};
use crate::smtp::session::{Action, Envelope, Identity, Session};
use crate::wire::{Stream, Wire};

/// How long a rejected client may take to read why.
const PARTING: Duration = Duration::from_secs(5);

/// How long a connection to the next hop waits for its client. Then it serves others, and the transaction is
/// begun anew when the message is complete.
const HOLD: Duration = Duration::from_secs(2);

/// How long it waits if others need a connection: longer than an active client takes.
const BRIEF_HOLD: Duration = Duration::from_millis(100);

const TOO_LONG: &str = "5.5.2 Line too long";

/// Reports that there are too many connections, and closes.
pub async fn turn_away(stream: TcpStream) {
    let mut wire = Wire::new(Stream::Clear(stream));
    let reply = Reply::new(421, "4.3.2 Too many connections, try again later");
    let _ = timeout(PARTING, wire.send(reply.wire())).await;
    metrics::counter!("pixelward_connections_refused_total").increment(1);
}

/// Why a conversation ended.
pub(super) enum Ended {
    /// It is complete.
    Done,
    /// The client closed the connection, or it broke.
    Lost(io::Error),
    /// The client timed out.
    TimedOut,
    /// The relay is stopping.
    Stopping,
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Ended {
        Ended::Lost(error)
    }
}

/// Talks to a client until one of the two ends the conversation.
pub async fn serve(
    mut stream: TcpStream,
    peer: SocketAddr,
    index: usize,
    pipeline: &Pipeline,
    mut place: Place,
    stop: watch::Receiver<bool>,
) {
    let live = pipeline.live();
    let Some(settings) = live.listeners.get(index).cloned() else { return };
    let Some((peer, source)) = proxy::client(&mut stream, peer, &settings).await else { return };
    if !place.is_for(peer.ip(), settings.max_connections_per_client) {
        return turn_away(stream).await;
    }
    let _ = stream.set_nodelay(true);
    metrics::counter!("pixelward_connections_total").increment(1);
    let deadline = Instant::now() + settings.session_timeout;
    let wire = Wire::new(Stream::Clear(stream));
    let trust = Trust::of(peer.ip(), source, &settings);
    let mut conversation = Conversation {
        wire,
        peer,
        source,
        index,
        settings,
        pipeline,
        place,
        stop,
        deadline,
        session: Session::New,
        identity: Identity::default(),
        trust,
        told: Told::default(),
        transaction: None,
        held_since: Instant::now(),
        id: MessageId::default(),
        began: std::time::Instant::now(),
        put_off: None,
        outbound: None,
        is_by_recipient: false,
        batch: Batch::default(),
        is_prompt: false,
        out: Vec::new(),
        errors: 0,
        failed_logins: 0,
        unsettled: None,
    };
    let ended = conversation.run().await;
    match &ended {
        Ok(()) | Err(Ended::Done) => {}
        Err(Ended::Lost(error)) => tracing::debug!(%peer, %error, "the connection was lost"),
        Err(Ended::TimedOut) => conversation.part("4.4.2 Timeout exceeded").await,
        Err(Ended::Stopping) => conversation.part("4.3.2 Service shutting down, try again later").await,
    }
    if !matches!(ended, Err(Ended::Lost(_))) {
        conversation.settle();
    }
    if let Some(mut transaction) = conversation.transaction.take() {
        transaction.abandon().await;
    }
}

/// A conversation with one client. Its parts are in the files of this directory.
pub(super) struct Conversation<'a> {
    pub(super) wire: Wire,
    pub(super) peer: SocketAddr,
    /// How its address is known.
    pub(super) source: Source,
    /// The listener's index in the configuration.
    pub(super) index: usize,
    pub(super) settings: Arc<Listener>,
    pub(super) pipeline: &'a Pipeline,
    pub(super) place: Place,
    stop: watch::Receiver<bool>,
    deadline: Instant,
    pub(super) session: Session,
    pub(super) identity: Identity,
    trust: Trust,
    /// What XCLIENT said.
    pub(super) told: Told,
    pub(super) transaction: Option<Box<Transaction>>,
    /// When the next hop was last used.
    pub(super) held_since: Instant,
    /// The id of the message at hand, and when it was begun.
    pub(super) id: MessageId,
    pub(super) began: std::time::Instant,
    /// The envelope of a message that was put off, for recipients who are still to come.
    pub(super) put_off: Option<Box<Envelope>>,
    /// Where its mail goes; that of the first recipient, if it depends on the recipient.
    pub(super) outbound: Option<Arc<Outbound>>,
    /// Whether the mail at hand goes different ways to different recipients.
    pub(super) is_by_recipient: bool,
    pub(super) batch: Batch,
    /// Whether its last message came at once.
    pub(super) is_prompt: bool,
    /// Replies that were not sent yet.
    out: Vec<u8>,
    errors: u32,
    pub(super) failed_logins: u32,
    /// What the client may not have heard yet.
    pub(super) unsettled: Option<Box<Handled>>,
}

impl Conversation<'_> {
    async fn run(&mut self) -> Result<(), Ended> {
        if !self.may_connect() {
            self.say(&Reply::new(554, "5.7.1 Client not allowed to send mail"));
            self.flush().await?;
            let (peer, listener) = (self.peer.ip(), &self.settings.name);
            if self.is_probe().await {
                tracing::debug!(%peer, %listener, "a connection closed without a word");
            } else {
                tracing::warn!(%peer, %listener, "a client outside of allowed_networks was rejected");
            }
            return Ok(());
        }
        if self.settings.tls == ListenerTls::Implicit {
            Box::pin(self.start_tls()).await?;
        }
        self.greet();
        self.flush().await?;
        loop {
            while let Some(line) = self.next_line(MAX_LINE).await? {
                self.line(&line).await?;
            }
            self.ask_next_hop().await?;
            self.flush().await?;
            self.fill().await?;
        }
    }

    /// Returns whether a client that was turned away only looked whether the port is open.
    async fn is_probe(&self) -> bool {
        match &self.wire.stream {
            Stream::Clear(tcp) => proxy::is_probe(tcp, proxy::PROBE_TIME).await,
            Stream::Tls(_) | Stream::Local(_) => false,
        }
    }

    pub(super) fn is_lmtp(&self) -> bool {
        self.settings.protocol == config::Protocol::Lmtp
    }

    /// Called when the client continues, so it has heard the result of its message.
    fn settle(&mut self) {
        if let Some(handled) = self.unsettled.take() {
            self.pipeline.settled(&handled);
        }
    }

    pub(super) fn live(&self) -> Arc<Live> {
        self.pipeline.live()
    }

    pub(super) fn say(&mut self, reply: &Reply) {
        self.out.extend_from_slice(reply.wire());
    }

    pub(super) async fn flush(&mut self) -> Result<(), Ended> {
        if self.out.is_empty() {
            return Ok(());
        }
        let out = std::mem::take(&mut self.out);
        let limit = self.settings.idle_timeout;
        timeout(limit, self.wire.send(&out)).await.map_err(|_| Ended::TimedOut)??;
        Ok(())
    }

    /// Waits for more from the client.
    async fn fill(&mut self) -> Result<(), Ended> {
        self.fill_into(None).await
    }

    /// Waits for more from the client, which is read into `room` where that is given. The next hop does not wait for
    /// long.
    pub(super) async fn fill_into(&mut self, mut room: Option<&mut Vec<u8>>) -> Result<(), Ended> {
        if let Some(transaction) = self.transaction.as_mut().filter(|transaction| transaction.is_open()) {
            let wanted = async {
                sleep_until(self.held_since + BRIEF_HOLD).await;
                transaction.is_wanted().await;
            };
            let read = tokio::select! {
                biased;
                read = self.wire.fill_into(room.as_deref_mut()) => Some(read),
                () = wanted => None,
                () = sleep_until(self.held_since + HOLD) => None,
            };
            match read {
                Some(Ok(0)) => return Err(Ended::Done),
                Some(Ok(_)) => return Ok(()),
                Some(Err(error)) => return Err(Ended::Lost(error)),
                None => transaction.abandon().await,
            }
        }
        let idle = !self.session.has_envelope();
        let limit = (Instant::now() + self.settings.idle_timeout).min(self.deadline);
        let read = async {
            tokio::select! {
                read = self.wire.fill_into(room) => read.map_err(Ended::from),
                () = super::listener::told_to_stop(&mut self.stop), if idle => Err(Ended::Stopping),
            }
        };
        match timeout_at(limit, read).await {
            Err(_) => Err(Ended::TimedOut),
            Ok(Ok(0)) => Err(Ended::Done),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(ended)) => Err(ended),
        }
    }

    /// Returns the next complete line. One that does not end in CRLF, or is longer than `most` bytes, ends
    /// the conversation.
    async fn next_line(&mut self, most: usize) -> Result<Option<Vec<u8>>, Ended> {
        let pending = self.wire.pending();
        let is_auth = pending.get(..5).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH "));
        let most = if is_auth { auth::MAX_LINE } else { most };
        let Some(end) = memchr::memchr(b'\n', pending) else {
            return if pending.len() >= most { Err(self.last_word(TOO_LONG).await) } else { Ok(None) };
        };
        if end >= most {
            return Err(self.last_word(TOO_LONG).await);
        }
        let ends_in_crlf = end > 0 && pending.get(end - 1) == Some(&b'\r');
        if !ends_in_crlf && self.settings.bare_newline == BareNewline::Reject {
            return Err(self.last_word("5.5.2 Lines must end with CRLF, not with LF alone").await);
        }
        Ok(self.wire.line())
    }

    /// Reads the next line of the client, at most `most` bytes long. Pending replies are sent first.
    pub(super) async fn whole_line(&mut self, most: usize) -> Result<Vec<u8>, Ended> {
        loop {
            if let Some(line) = self.next_line(most).await? {
                return Ok(line);
            }
            self.flush().await?;
            self.fill().await?;
        }
    }

    /// Reports what is wrong with a line; the conversation cannot continue.
    async fn last_word(&mut self, text: &str) -> Ended {
        metrics::counter!("pixelward_protocol_errors_total").increment(1);
        self.say(&Reply::new(500, text));
        self.flush().await.err().unwrap_or(Ended::Done)
    }

    /// Delays a client. When the relay stops, it does not wait for that.
    pub(super) async fn pause(&mut self, delay: Duration) -> Result<(), Ended> {
        let until = (Instant::now() + delay).min(self.deadline);
        tokio::select! {
            () = tokio::time::sleep_until(until) => Ok(()),
            () = super::listener::told_to_stop(&mut self.stop) => Err(Ended::Stopping),
        }
    }

    pub(super) fn features(&self) -> Features {
        let live = self.live();
        let login = self.identity.login.as_deref().or(self.identity.certificate.as_deref());
        let next_hop = live.capabilities(&self.settings.name, login);
        let ours = self.settings.max_message_bytes;
        let theirs = next_hop.as_ref().and_then(|hop| hop.size.flatten()).unwrap_or(u64::MAX);
        let tls = self.wire.stream.is_tls();
        Features {
            host_name: live.config.relay.host_name.clone(),
            max_message_bytes: ours.min(theirs),
            max_recipients: self.settings.max_recipients,
            starttls: !tls && matches!(self.settings.tls, ListenerTls::StartTls | ListenerTls::Required),
            require_tls: !tls && self.settings.tls == ListenerTls::Required,
            eight_bit: next_hop.as_ref().is_none_or(|hop| hop.eight_bit),
            smtputf8: next_hop.as_ref().is_none_or(|hop| hop.smtputf8),
            dsn: next_hop.as_ref().is_none_or(|hop| hop.dsn),
            lmtp: self.is_lmtp(),
            login: self.login_offer(),
            permission: self.permission(),
            xclient: self.trust.xclient,
            xforward: self.trust.xforward,
        }
    }

    /// Handles a line. Larger steps have their own allocation, so that an idle session does not hold it.
    async fn line(&mut self, line: &[u8]) -> Result<(), Ended> {
        self.settle();
        let command = match Command::read(line) {
            Ok(command) => command,
            Err(reply) => {
                self.ask_next_hop().await?;
                return self.error(reply).await;
            }
        };
        // Recipients are announced to the next hop together; anything else needs their replies first.
        if !matches!(command, Command::Rcpt(..)) {
            self.batch.data_follows = self.is_prompt && matches!(command, Command::Data);
            self.ask_next_hop().await?;
        }
        let features = self.features();
        let session = std::mem::replace(&mut self.session, Session::Closed);
        let (session, action) = session.step(command, &features, &self.identity, self.batch.recipients.len());
        self.session = session;
        match action {
            Action::Say(reply) => {
                self.ask_next_hop().await?;
                self.note_refused_line(line, &reply);
                if reply.class() == Class::Permanent { self.error(reply).await } else { self.answer(&reply) }
            }
            Action::Close(reply) => {
                if self.out.is_empty() || reply.code() == 221 {
                    self.say(&reply);
                }
                self.flush().await?;
                Err(Ended::Done)
            }
            Action::Abandon(reply) => {
                if let Some(mut transaction) = self.transaction.take() {
                    transaction.abandon().await;
                }
                self.identity.forwarded = None;
                self.put_off = None;
                self.answer(&reply)
            }
            Action::StartTls(reply) => {
                if !self.wire.pending().is_empty() {
                    // What came after STARTTLS in clear may be somebody else's: it is dropped with the
                    // session.
                    self.say(&Reply::new(503, "5.5.0 Nothing may follow STARTTLS before TLS has started"));
                    self.flush().await?;
                    return Err(Ended::Done);
                }
                self.say(&reply);
                self.flush().await?;
                Box::pin(self.start_tls()).await
            }
            Action::LogIn(auth) => Box::pin(self.log_in(auth)).await,
            Action::Xclient(attributes) => self.xclient(&attributes).await,
            Action::Xforward(attributes) => {
                self.xforward(&attributes);
                Ok(())
            }
            Action::AskSender => {
                // What was said is in the envelope now, and applies to this message only.
                self.identity.forwarded = None;
                (self.id, self.began) = (MessageId::new(), std::time::Instant::now());
                let rate = self.settings.max_messages_per_minute;
                if !self.place.clients().may_send(self.peer.ip(), rate, std::time::Instant::now()) {
                    metrics::counter!("pixelward_messages_held_back_total").increment(1);
                    let reply = Reply::new(451, "4.7.1 Too many messages, try again later");
                    self.note_refused("mail", Vec::new(), &reply);
                    self.no_transaction(Session::deferred);
                    return self.answer(&reply);
                }
                self.batch.sender = true;
                Ok(())
            }
            Action::AskRecipient(recipient) => {
                self.batch.recipients.push(recipient);
                Ok(())
            }
            Action::ReadData => Box::pin(self.data()).await,
        }
    }

    fn answer(&mut self, reply: &Reply) -> Result<(), Ended> {
        self.say(reply);
        Ok(())
    }

    /// Reports an error, and closes after too many of them.
    pub(super) async fn error(&mut self, reply: Reply) -> Result<(), Ended> {
        self.say(&reply);
        self.errors += 1;
        metrics::counter!("pixelward_protocol_errors_total").increment(1);
        if self.errors >= self.settings.max_errors {
            self.say(&Reply::new(421, "4.7.0 Too many errors"));
            self.flush().await?;
            return Err(Ended::Done);
        }
        Ok(())
    }

    /// Ends a conversation early.
    async fn part(&mut self, text: &str) {
        let reply = Reply::new(421, text);
        let _ = timeout(PARTING, self.wire.send(reply.wire())).await;
    }
}
