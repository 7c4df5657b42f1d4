//! The data of a message: reading it, handing it on, and telling the client the result.

use std::time::Duration;

use tokio::time::timeout;

use super::connection::{Conversation, Ended};
use crate::message::header;
use crate::pipeline::{Arrival, Handled};
use crate::relay::Answers;
use crate::smtp::data::{Data, DataReader};
use crate::smtp::reply::Reply;
use crate::smtp::session::{Envelope, Recipient, Session};

/// How long the data of a message may take so that the next one is expected to come at once, too.
const PROMPT: Duration = Duration::from_secs(1);

impl Conversation<'_> {
    /// Reads a message to its end, and takes it through the pipeline.
    pub(super) async fn data(&mut self) -> Result<(), Ended> {
        self.say(&Reply::new(354, "End data with <CR><LF>.<CR><LF>"));
        self.flush().await?;
        let asked = std::time::Instant::now();
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
        let (taken, mut ended) = reader.feed(self.wire.pending());
        self.wire.consume(taken);
        loop {
            if !share.grow_to(reader.held()) {
                reader.give_up();
            }
            if ended {
                break;
            }
            ended = self.more_data(&mut reader).await?;
        }
        self.is_prompt = asked.elapsed() < PROMPT;
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
        match reader.finish() {
            Data::Message(message) if header::length(&message) > self.settings.max_header_bytes => {
                transaction.abandon().await;
                self.refuse(&Reply::new(552, "5.3.4 The header of the message is too large"), envelope);
            }
            Data::Message(message) => {
                let arrival = Arrival {
                    id: std::mem::take(&mut self.id),
                    envelope: Envelope { client: self.told_greeting(&envelope.client), ..envelope },
                    message,
                    listener: self.settings.name.clone(),
                    outbound,
                    began: self.began,
                    arrived: std::time::Instant::now(),
                    deadline,
                    peer: self.peer,
                    client_name: self.told.name.clone(),
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
                self.unsettled = Some(Box::new(handled));
            }
            refused => {
                transaction.abandon().await;
                self.refuse(&refusal(&refused), envelope);
            }
        }
        drop(share);
        Ok(())
    }

    /// Reads more of a message; returns whether its end was there. It is read to where it stays, if it can be.
    async fn more_data(&mut self, reader: &mut DataReader) -> Result<bool, Ended> {
        let held = reader.held();
        let Some(room) = reader.room() else {
            self.fill_into(None).await?;
            let (taken, ended) = reader.feed(self.wire.pending());
            self.wire.consume(taken);
            return Ok(ended);
        };
        self.fill_into(Some(room)).await?;
        let behind = reader.take(held);
        self.wire.put_back(behind.as_deref().unwrap_or_default());
        Ok(behind.is_some())
    }

    /// Rejects a message for all of its recipients.
    fn refuse(&mut self, reply: &Reply, mut envelope: Envelope) {
        metrics::counter!("pixelward_messages_refused_total").increment(1);
        let refused: Vec<(Recipient, Reply)> =
            envelope.recipients.drain(..).map(|recipient| (recipient, reply.clone())).collect();
        let recipients = refused.len();
        self.put_off = Some(Box::new(envelope));
        self.note_refused("data", refused, reply);
        self.put_off = None;
        // With PRDR, a reply other than 353 is for all recipients.
        let times = if self.is_lmtp() { recipients } else { 1 };
        (0..times).for_each(|_| self.say(reply));
    }

    /// Sends one reply, or one per recipient; with PRDR between 353 and one for all.
    fn say_outcome(&mut self, handled: &Handled, answers: Answers) {
        if answers == Answers::One {
            return self.say(&handled.whole);
        }
        if !self.is_lmtp() {
            self.say(&Reply::new(353, "One reply per recipient follows"));
        }
        for reply in &handled.replies {
            self.say(reply);
        }
        if !self.is_lmtp() {
            self.say(&handled.whole);
        }
    }

    /// Returns whether the client closed the connection while its message was handled, so that it may not
    /// hear the reply. One that has sent QUIT and nothing more still listens: Exim does so after its last
    /// message.
    async fn client_left(&mut self) -> bool {
        matches!(timeout(Duration::ZERO, self.wire.fill()).await, Ok(Ok(0) | Err(_)))
            && self.wire.pending().is_empty()
    }
}

fn refusal(data: &Data) -> Reply {
    match data {
        Data::TooLarge => Reply::new(552, "5.3.4 The message is larger than the announced limit"),
        Data::NoRoom => Reply::new(452, "4.3.1 No room for the message now, try again later"),
        Data::BareNewline => {
            Reply::new(550, "5.6.11 The message contains a bare CR or LF; lines must end with CRLF")
        }
        Data::Message(_) => Reply::new(451, "4.3.0 Try again later"),
    }
}
