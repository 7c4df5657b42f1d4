//! The conversation with one client: bytes in, commands through the session, replies out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use crate::config::{self, Listener, ListenerTls};
use crate::live::{Live, Outbound};
use crate::pipeline::{Arrival, Handled, MessageId, Pipeline};
use crate::relay::{Answers, RelayError, Transaction};
use crate::smtp::BareNewline;
use crate::smtp::command::{Command, MAX_LINE};
use crate::smtp::data::{Data, DataReader};
use crate::smtp::reply::{Class, Reply};
use crate::smtp::session::{Action, Features, Recipient, Session};
use crate::wire::{Stream, Wire};

/// How long one who is turned away may take to read why.
const PARTING: Duration = Duration::from_secs(5);

/// How long a connection to the next hop waits for its client. Then it serves others, and the transaction is begun anew when the message is
/// whole.
const HOLD: Duration = Duration::from_secs(2);

/// Says that there are too many connections, and closes.
pub async fn turn_away(stream: TcpStream) {
    let mut wire = Wire::new(Stream::Clear(stream));
    let reply = Reply::new(421, "4.3.2 Too many connections, try again later");
    let _ = timeout(PARTING, wire.send(reply.wire())).await;
    metrics::counter!("pixelward_connections_refused_total").increment(1);
}

/// Why a conversation ended.
enum Ended {
    /// All is said.
    Done,
    /// The client hung up or the connection broke.
    Lost(io::Error),
    /// The client took too long.
    TimedOut,
    /// The relay stops.
    Stopping,
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Ended {
        Ended::Lost(error)
    }
}

/// Talks to a client until one of the two has enough.
pub async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    index: usize,
    pipeline: &Pipeline,
    stop: watch::Receiver<bool>,
) {
    let live = pipeline.live();
    let Some(settings) = live.config.listeners.get(index).cloned() else { return };
    let _ = stream.set_nodelay(true);
    metrics::counter!("pixelward_connections_total").increment(1);
    let deadline = Instant::now() + settings.session_timeout;
    let wire = Wire::new(Stream::Clear(stream));
    let mut conversation = Conversation {
        wire,
        peer,
        index,
        settings,
        pipeline,
        stop,
        deadline,
        session: Session::New,
        transaction: None,
        held_since: Instant::now(),
        outbound: None,
        batch: Batch::default(),
        out: Vec::new(),
        errors: 0,
        unsettled: None,
    };
    let ended = conversation.run().await;
    match &ended {
        Ok(()) | Err(Ended::Done) => {}
        Err(Ended::Lost(error)) => tracing::debug!(%peer, %error, "the connection was lost"),
        Err(Ended::TimedOut) => conversation.part("4.4.2 You took too long").await,
        Err(Ended::Stopping) => conversation.part("4.3.2 The service stops, try again later").await,
    }
    if !matches!(ended, Err(Ended::Lost(_))) {
        conversation.settle();
    }
    if let Some(mut transaction) = conversation.transaction.take() {
        transaction.abandon().await;
    }
}

/// What waits to be put to the next hop together.
#[derive(Default)]
struct Batch {
    sender: bool,
    recipients: Vec<Recipient>,
}

struct Conversation<'a> {
    wire: Wire,
    peer: SocketAddr,
    index: usize,
    settings: Listener,
    pipeline: &'a Pipeline,
    stop: watch::Receiver<bool>,
    deadline: Instant,
    session: Session,
    transaction: Option<Transaction>,
    /// When the next hop last heard of it.
    held_since: Instant,
    /// Where its mail goes.
    outbound: Option<Arc<Outbound>>,
    batch: Batch,
    /// Replies that were not sent yet.
    out: Vec<u8>,
    errors: u32,
    /// What the client may not have heard yet.
    unsettled: Option<Handled>,
}

impl Conversation<'_> {
    async fn run(&mut self) -> Result<(), Ended> {
        let allowed = self.peer.ip().is_loopback()
            || self.settings.allowed_networks.iter().any(|own| own.contains(self.peer.ip()));
        if !allowed {
            tracing::warn!(peer = %self.peer.ip(), listener = %self.settings.name, "a client outside of allowed_networks was turned away");
            self.say(&Reply::new(554, "5.7.1 You may not send mail here"));
            return self.flush().await;
        }
        if self.settings.tls == ListenerTls::Implicit {
            self.start_tls().await?;
        }
        let host_name = self.live().config.relay.host_name.clone();
        let protocol = if self.is_lmtp() { "LMTP" } else { "ESMTP" };
        self.say(&Reply::new(220, &format!("{host_name} {protocol} pixelward")));
        self.flush().await?;
        loop {
            while let Some(line) = self.next_line()? {
                self.line(&line).await?;
            }
            self.ask_next_hop().await;
            self.flush().await?;
            self.fill().await?;
        }
    }

    fn is_lmtp(&self) -> bool {
        self.settings.protocol == config::Protocol::Lmtp
    }

    /// The client goes on, so it has heard what became of its message.
    fn settle(&mut self) {
        if let Some(handled) = self.unsettled.take() {
            self.pipeline.settled(&handled);
        }
    }

    fn live(&self) -> Arc<Live> {
        self.pipeline.live()
    }

    fn say(&mut self, reply: &Reply) {
        self.out.extend_from_slice(reply.wire());
    }

    async fn flush(&mut self) -> Result<(), Ended> {
        if self.out.is_empty() {
            return Ok(());
        }
        let out = std::mem::take(&mut self.out);
        let limit = self.settings.idle_timeout;
        timeout(limit, self.wire.send(&out)).await.map_err(|_| Ended::TimedOut)??;
        Ok(())
    }

    /// Waits for more from the client. The next hop does not wait for long.
    async fn fill(&mut self) -> Result<(), Ended> {
        if let Some(transaction) = self.transaction.as_mut().filter(|own| own.is_open()) {
            match timeout_at(self.held_since + HOLD, self.wire.fill()).await {
                Ok(Ok(0)) => return Err(Ended::Done),
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => return Err(Ended::Lost(error)),
                Err(_) => transaction.abandon().await,
            }
        }
        let idle = !self.session.has_envelope();
        let limit = (Instant::now() + self.settings.idle_timeout).min(self.deadline);
        if idle {
            self.wire.shrink();
        }
        let read = async {
            tokio::select! {
                read = self.wire.fill() => read.map_err(Ended::from),
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

    /// The next command line, once it is whole. One that does not end in CRLF, or never ends, ends the conversation.
    fn next_line(&mut self) -> Result<Option<Vec<u8>>, Ended> {
        let pending = self.wire.pending();
        let Some(end) = memchr::memchr(b'\n', pending) else {
            if pending.len() >= MAX_LINE {
                return self.too_long();
            }
            return Ok(None);
        };
        if end >= MAX_LINE {
            return self.too_long();
        }
        let ends_in_crlf = end > 0 && pending.get(end - 1) == Some(&b'\r');
        if !ends_in_crlf && self.settings.bare_newline == BareNewline::Reject {
            self.say(&Reply::new(500, "5.5.2 A line ends with CRLF, not with LF alone"));
            return self.last_word();
        }
        Ok(self.wire.line())
    }

    fn too_long(&mut self) -> Result<Option<Vec<u8>>, Ended> {
        self.say(&Reply::new(500, "5.5.2 The line is too long"));
        self.last_word()
    }

    /// What was said is sent, and then the connection ends.
    fn last_word(&mut self) -> Result<Option<Vec<u8>>, Ended> {
        metrics::counter!("pixelward_protocol_errors_total").increment(1);
        self.wire.consume(usize::MAX);
        self.session = Session::Closed;
        Ok(Some(b"QUIT".to_vec()))
    }

    fn features(&self) -> Features {
        let live = self.live();
        let next_hop = live.capabilities(&self.settings.name);
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
        }
    }

    async fn line(&mut self, line: &[u8]) -> Result<(), Ended> {
        self.settle();
        let command = match Command::read(line) {
            Ok(command) => command,
            Err(reply) => {
                self.ask_next_hop().await;
                return self.error(reply).await;
            }
        };
        // Recipients are put to the next hop together; anything else needs their answers first.
        if !matches!(command, Command::Rcpt(..)) {
            self.ask_next_hop().await;
        }
        let features = self.features();
        let session = std::mem::replace(&mut self.session, Session::Closed);
        let (session, action) = session.step(command, &features, self.batch.recipients.len());
        self.session = session;
        match action {
            Action::Say(reply) => {
                self.ask_next_hop().await;
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
                self.answer(&reply)
            }
            Action::StartTls(reply) => {
                if !self.wire.pending().is_empty() {
                    // What came behind STARTTLS in clear may be somebody else's: it is dropped with the session.
                    self.say(&Reply::new(503, "5.5.0 Nothing may follow STARTTLS before TLS has started"));
                    self.flush().await?;
                    return Err(Ended::Done);
                }
                self.say(&reply);
                self.flush().await?;
                self.start_tls().await
            }
            Action::AskSender => {
                self.batch.sender = true;
                Ok(())
            }
            Action::AskRecipient(recipient) => {
                self.batch.recipients.push(recipient);
                Ok(())
            }
            Action::ReadData => self.data().await,
        }
    }

    fn answer(&mut self, reply: &Reply) -> Result<(), Ended> {
        self.say(reply);
        Ok(())
    }

    /// Says what was wrong, and closes after too many of these.
    async fn error(&mut self, reply: Reply) -> Result<(), Ended> {
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

    /// Puts what was gathered to the next hop, and says its answers.
    async fn ask_next_hop(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if !batch.sender && batch.recipients.is_empty() {
            return;
        }
        if batch.sender
            && let Session::Open(envelope) = &self.session
        {
            let sender = envelope.sender.clone();
            self.outbound = self.live().outbound(&self.settings.name, None, sender.address.as_str()).cloned();
            self.transaction =
                self.outbound.as_ref().map(|own| Transaction::new(Arc::clone(&own.route), sender));
        }
        let Some(transaction) = &mut self.transaction else { return };
        let asked = transaction.ask(&batch.recipients).await;
        self.held_since = Instant::now();
        match asked {
            Ok(answers) => {
                if let Some(reply) = &answers.sender {
                    // Begun anew for later recipients, it was answered before.
                    if batch.sender {
                        self.say(reply);
                    }
                    match reply.class() {
                        Class::Positive => {}
                        Class::Permanent => self.no_transaction(Session::between_messages),
                        _ => self.no_transaction(Session::deferred),
                    }
                }
                for (recipient, answer) in batch.recipients.into_iter().zip(answers.recipients) {
                    let reply = answer.unwrap_or_else(|error| self.alarm(&error));
                    self.say(&reply);
                    if reply.class() == Class::Positive {
                        self.session.accepted(recipient);
                    }
                }
            }
            Err(error) => {
                let reply = self.alarm(&error);
                for _ in 0..usize::from(batch.sender) + batch.recipients.len() {
                    self.say(&reply);
                }
                self.no_transaction(Session::deferred);
            }
        }
    }

    fn no_transaction(&mut self, next: impl FnOnce(Session) -> Session) {
        self.transaction = None;
        self.session = next(std::mem::replace(&mut self.session, Session::Closed));
    }

    fn alarm(&self, error: &RelayError) -> Reply {
        metrics::counter!("pixelward_next_hop_errors_total").increment(1);
        let next_hop = self.transaction.as_ref().map(Transaction::next_hop).unwrap_or_default();
        tracing::error!(%next_hop, %error, "the next hop could not be used; the client was told to try again later");
        error.reply()
    }

    async fn start_tls(&mut self) -> Result<(), Ended> {
        let live = self.live();
        let Some(config) = live.tls.get(self.index).cloned().flatten() else { return Err(Ended::Done) };
        let placeholder = Stream::Clear(unconnected()?);
        let Some(tcp) = std::mem::replace(&mut self.wire.stream, placeholder).into_clear() else {
            return Err(Ended::Done);
        };
        let accept = TlsAcceptor::from(config).accept(tcp);
        let tls = timeout(self.settings.idle_timeout, accept).await.map_err(|_| Ended::TimedOut)??;
        self.wire = Wire::new(Stream::Tls(Box::new(tls.into())));
        self.session = Session::New;
        Ok(())
    }

    async fn data(&mut self) -> Result<(), Ended> {
        self.say(&Reply::new(354, "End data with <CR><LF>.<CR><LF>"));
        self.flush().await?;
        let Session::Open(envelope) = std::mem::replace(&mut self.session, Session::Closed) else {
            return Err(Ended::Done);
        };
        self.session = Session::Open(envelope.clone());
        let largest = usize::try_from(self.features().max_message_bytes).unwrap_or(usize::MAX);
        let expected = envelope
            .sender
            .parameters
            .get("SIZE")
            .and_then(|size| size.value()?.parse().ok())
            .unwrap_or(64 * 1024);
        let mut reader = DataReader::new(largest, self.settings.bare_newline, expected);
        let mut share = self.pipeline.budget.share();
        loop {
            let (taken, ended) = reader.feed(self.wire.pending());
            self.wire.consume(taken);
            if !share.grow_to(reader.held()) {
                reader.give_up();
            }
            if ended {
                break;
            }
            self.fill().await?;
        }
        self.session = std::mem::replace(&mut self.session, Session::Closed).between_messages();
        let (Some(mut transaction), Some(outbound)) = (self.transaction.take(), self.outbound.clone()) else {
            return Err(Ended::Done);
        };
        let deadline = std::time::Instant::now() + self.settings.budget();
        let answers = if self.is_lmtp() || envelope.sender.parameters.has("PRDR") {
            Answers::Each
        } else {
            Answers::One
        };
        let recipients = envelope.recipients.len();
        match reader.finish() {
            Data::Message(message) => {
                let arrival = Arrival {
                    id: MessageId::new(),
                    envelope,
                    message,
                    listener: self.settings.name.clone(),
                    outbound,
                    deadline,
                    peer: self.peer,
                    tls: self.wire.stream.tls_description(),
                    answers,
                };
                let handled = self.pipeline.handle(&arrival, &mut transaction).await;
                transaction.abandon().await;
                self.say_outcome(&handled, answers);
                let left = self.client_left().await;
                if self.flush().await.is_err() || left {
                    self.pipeline.unheard(&arrival, &handled).await;
                    return Err(Ended::Done);
                }
                self.unsettled = Some(handled);
            }
            refused => {
                transaction.abandon().await;
                let reply = refusal(&refused);
                // With PRDR, an answer other than 353 is for all recipients.
                let times = if self.is_lmtp() { recipients } else { 1 };
                (0..times).for_each(|_| self.say(&reply));
            }
        }
        drop(share);
        Ok(())
    }

    /// One answer, or one for each recipient; with PRDR between 353 and one for all.
    fn say_outcome(&mut self, handled: &Handled, answers: Answers) {
        if answers == Answers::One {
            return self.say(&handled.whole);
        }
        if !self.is_lmtp() {
            self.say(&Reply::new(353, "An answer for each recipient follows"));
        }
        for reply in &handled.replies {
            self.say(reply);
        }
        if !self.is_lmtp() {
            self.say(&handled.whole);
        }
    }

    /// Whether the client hung up while its message was handled, so that it may not hear the answer. One that has said QUIT already and
    /// sends no more still listens: Exim does so behind its last message.
    async fn client_left(&mut self) -> bool {
        matches!(timeout(Duration::ZERO, self.wire.fill()).await, Ok(Ok(0) | Err(_)))
            && self.wire.pending().is_empty()
    }

    /// Ends a conversation that is not over.
    async fn part(&mut self, text: &str) {
        let reply = Reply::new(421, text);
        let _ = timeout(PARTING, self.wire.send(reply.wire())).await;
    }
}

fn refusal(data: &Data) -> Reply {
    metrics::counter!("pixelward_messages_refused_total").increment(1);
    match data {
        Data::TooLarge => Reply::new(552, "5.3.4 The message is larger than announced here"),
        Data::NoRoom => Reply::new(452, "4.3.1 No room for the message now, try again later"),
        Data::BareNewline => {
            Reply::new(550, "5.6.11 A line ends with CRLF: the message holds a bare CR or LF")
        }
        Data::Message(_) => Reply::new(451, "4.3.0 Try again later"),
    }
}

/// A socket that stands in for one that is being taken over by TLS.
fn unconnected() -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    TcpStream::from_std(socket.into())
}
