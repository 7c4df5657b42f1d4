//! One mail transaction with a next hop, beside the one that a client has with us.

use std::sync::Arc;

use super::connection::{Capabilities, Connection};
use super::error::{RelayError, concerns_us};
use super::pool::{Origin, Pool};
use crate::smtp::Reply;
use crate::smtp::data::dots_to_stuff;
use crate::smtp::reply::Class;
use crate::smtp::session::{Recipient, Sender};

/// A transaction that may or may not have reached the next hop yet.
#[derive(Debug)]
pub struct Transaction {
    pub(super) pool: Arc<Pool>,
    pub(super) connection: Option<Connection>,
    sender: Sender,
}

/// What the next hop says of a sender and of recipients.
#[derive(Debug)]
pub struct Answers {
    /// Of the sender; `None` where it was asked before.
    pub sender: Option<Reply>,
    /// Of each recipient, in order. An answer that concerns us and not the recipient puts off that recipient alone.
    pub recipients: Vec<Result<Reply, RelayError>>,
}

impl Transaction {
    /// A transaction for this sender. Nothing is sent yet.
    pub fn new(pool: Arc<Pool>, sender: Sender) -> Transaction {
        Transaction { pool, connection: None, sender }
    }

    /// Puts the sender to the next hop where that was not done, and recipients with it, in as few round trips as it allows.
    ///
    /// # Errors
    ///
    /// When the next hop cannot be asked, or answers what concerns us and not the mail.
    pub async fn ask(&mut self, recipients: &[Recipient]) -> Result<Answers, RelayError> {
        let (mut connection, ask_sender, origin) = match self.connection.take() {
            Some(connection) => (connection, false, Origin::New),
            None => {
                let (connection, origin) = self.pool.take().await?;
                (connection, true, origin)
            }
        };
        if ask_sender && self.sender.parameters.has("SMTPUTF8") && !connection.capabilities.smtputf8 {
            self.pool.give_back(connection);
            let refused = Reply::new(550, "5.6.7 The next hop does not take internationalised mail");
            return Ok(Answers { sender: Some(refused.clone()), recipients: unasked(&refused, recipients) });
        }
        let mut asked = self.ask_over(&mut connection, ask_sender, recipients).await;
        // What waited may have been closed meanwhile: that costs one silent attempt, not a deferral.
        let was_stale = match &asked {
            Err(error) => error.is_lost_connection(),
            Ok(answers) => answers.sender.as_ref().is_some_and(|reply| reply.code() == 421),
        };
        if origin == Origin::Reused && was_stale {
            connection = self.pool.fresh().await?;
            asked = self.ask_over(&mut connection, true, recipients).await;
        }
        let answers = asked?;
        if let Some(reply) = answers.sender.as_ref().filter(|reply| concerns_us(reply)) {
            return Err(RelayError::Unwilling { at: "MAIL", reply: reply.clone() });
        }
        match &answers.sender {
            Some(reply) if reply.class() != Class::Positive => self.pool.give_back(connection),
            _ => self.connection = Some(connection),
        }
        Ok(answers)
    }

    pub(super) async fn ask_over(
        &self,
        connection: &mut Connection,
        ask_sender: bool,
        recipients: &[Recipient],
    ) -> Result<Answers, RelayError> {
        let limit = self.pool.hop.timeouts.command;
        let mut commands = Vec::with_capacity(recipients.len() + 1);
        if ask_sender {
            commands.push(mail_line(&self.sender, &connection.capabilities));
        }
        commands.extend(recipients.iter().map(|recipient| rcpt_line(recipient, &connection.capabilities)));
        let mut replies = Vec::with_capacity(commands.len());
        if connection.capabilities.pipelining {
            connection.command(&commands.concat(), "MAIL or RCPT", limit).await?;
            for _ in &commands {
                replies.push(connection.reply("MAIL or RCPT", limit).await?);
            }
        } else {
            for command in &commands {
                connection.command(command, "MAIL or RCPT", limit).await?;
                replies.push(connection.reply("MAIL or RCPT", limit).await?);
                if ask_sender && replies.first().is_some_and(|reply: &Reply| reply.class() != Class::Positive)
                {
                    break;
                }
            }
        }
        let mut replies = replies.into_iter();
        let sender = if ask_sender { replies.next() } else { None };
        let recipients = match &sender {
            Some(reply) if reply.class() != Class::Positive => unasked(reply, recipients),
            _ => replies.map(about_the_recipient).collect::<Result<_, _>>()?,
        };
        Ok(Answers { sender, recipients })
    }

    /// Hands the message over: `head` and `message` one behind the other, each line ending in CRLF. Gives the next hop's final reply.
    ///
    /// A connection that was lost before DATA is replaced once, and everything said again; a recipient that is then no longer
    /// accepted ends it, before anything is delivered.
    ///
    /// # Errors
    ///
    /// When the next hop gives no answer about the mail. After the final dot the message may have been delivered all the same.
    pub async fn deliver(
        &mut self,
        recipients: &[Recipient],
        head: &[u8],
        message: &[u8],
    ) -> Result<Reply, RelayError> {
        let limit = self.pool.hop.timeouts.data;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.again(recipients).await?,
        };
        let said = match connection.command("DATA\r\n", "DATA", limit).await {
            Ok(()) => connection.reply("DATA", limit).await,
            Err(error) => Err(error),
        };
        let reply = match said {
            Err(error) if error.is_lost_connection() => {
                connection = self.again(recipients).await?;
                connection.command("DATA\r\n", "DATA", limit).await?;
                connection.reply("DATA", limit).await?
            }
            Ok(reply) if reply.code() == 421 => {
                connection = self.again(recipients).await?;
                connection.command("DATA\r\n", "DATA", limit).await?;
                connection.reply("DATA", limit).await?
            }
            other => other?,
        };
        if concerns_us(&reply) || reply.class() == Class::Positive {
            return Err(RelayError::Unwilling { at: "DATA", reply });
        }
        if reply.class() != Class::Intermediate {
            return Ok(reply);
        }
        self.send(&mut connection, head, message, b".\r\n").await?;
        let reply = connection.reply("final dot", self.pool.hop.timeouts.dot).await?;
        if concerns_us(&reply) || reply.class() == Class::Intermediate {
            return Err(RelayError::Unwilling { at: "final dot", reply });
        }
        connection.messages += 1;
        self.pool.give_back(connection);
        Ok(reply)
    }

    /// The same transaction on a fresh connection.
    async fn again(&mut self, recipients: &[Recipient]) -> Result<Connection, RelayError> {
        let mut connection = self.pool.fresh().await?;
        let answers = self.ask_over(&mut connection, true, recipients).await?;
        for reply in answers.sender.into_iter().map(Ok).chain(answers.recipients) {
            let reply = reply?;
            if reply.class() != Class::Positive {
                return Err(RelayError::Unwilling { at: "MAIL or RCPT, asked again", reply });
            }
        }
        Ok(connection)
    }

    /// Sends `head` and `message` with dots stuffed, and `end` behind them.
    pub(super) async fn send(
        &self,
        connection: &mut Connection,
        head: &[u8],
        message: &[u8],
        end: &[u8],
    ) -> Result<(), RelayError> {
        let mut slices: Vec<&[u8]> = vec![head];
        let mut at = 0;
        for dot in dots_to_stuff(message, true) {
            slices.push(message.get(at..dot).unwrap_or_default());
            slices.push(b".");
            at = dot;
        }
        slices.push(message.get(at..).unwrap_or_default());
        slices.push(end);
        connection.message(&slices, self.pool.hop.timeouts.write).await
    }

    /// What the next hop of this transaction announced, where it was asked already.
    pub fn capabilities(&self) -> Option<&Capabilities> {
        self.connection.as_ref().map(|connection| &connection.capabilities)
    }

    /// Gives the transaction up. The connection is reset and kept, or closed where it does not answer at once.
    pub async fn abandon(mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        if self.reset(&mut connection).await {
            self.pool.give_back(connection);
        }
    }

    /// Ends the transaction of a connection. Whether it answers.
    pub(super) async fn reset(&self, connection: &mut Connection) -> bool {
        let limit = std::time::Duration::from_secs(5);
        let reset = match connection.command("RSET\r\n", "RSET", limit).await {
            Ok(()) => connection.reply("RSET", limit).await,
            Err(error) => Err(error),
        };
        reset.is_ok_and(|reply| reply.class() == Class::Positive)
    }

    /// Another transaction with the same next hop.
    pub fn beside(&self, sender: Sender) -> Transaction {
        Transaction::new(Arc::clone(&self.pool), sender)
    }

    /// Where it leads.
    pub fn next_hop(&self) -> String {
        self.pool.hop.to_string()
    }
}

/// What recipients hear that were put together with a sender who was not accepted: nobody answers for them. The client acts on what
/// MAIL was answered.
fn unasked(sender: &Reply, recipients: &[Recipient]) -> Vec<Result<Reply, RelayError>> {
    let reply = match sender.class() {
        Class::Permanent => Reply::new(503, "5.5.1 The sender was not accepted"),
        _ => Reply::new(451, "4.5.1 The sender was not accepted now"),
    };
    recipients.iter().map(|_| Ok(reply.clone())).collect()
}

/// An answer to RCPT. The one that ends the conversation ends the transaction; another that concerns us and not the mail puts off this
/// recipient alone.
fn about_the_recipient(reply: Reply) -> Result<Result<Reply, RelayError>, RelayError> {
    let unwilling = |reply| RelayError::Unwilling { at: "RCPT", reply };
    match reply.code() {
        421 => Err(unwilling(reply)),
        _ if concerns_us(&reply) => Ok(Err(unwilling(reply))),
        _ => Ok(Ok(reply)),
    }
}

/// MAIL with the parameters that the next hop announced. SIZE is passed on as the client gave it: an estimate, and a rewritten
/// message is not larger by more than a trace header.
fn mail_line(sender: &Sender, capabilities: &Capabilities) -> String {
    let mut line = format!("MAIL FROM:<{}>", sender.address.as_str());
    for parameter in sender.parameters.iter() {
        let known = match parameter.name().to_ascii_uppercase().as_str() {
            "BODY" => capabilities.eight_bit,
            "SMTPUTF8" => capabilities.smtputf8,
            "RET" | "ENVID" => capabilities.dsn,
            "SIZE" => capabilities.size.is_some(),
            _ => false,
        };
        if known {
            line.push(' ');
            line.push_str(parameter.as_str());
        }
    }
    line.push_str("\r\n");
    line
}

fn rcpt_line(recipient: &Recipient, capabilities: &Capabilities) -> String {
    let mut line = format!("RCPT TO:<{}>", recipient.address.as_str());
    if capabilities.dsn {
        for parameter in recipient.parameters.iter() {
            line.push(' ');
            line.push_str(parameter.as_str());
        }
    }
    line.push_str("\r\n");
    line
}
