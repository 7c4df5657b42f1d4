//! Announces a sender and recipients to the next hops of a route: to the first, and to the following ones as
//! long as nobody was accepted and a next hop only put the mail off, or could not be used.
//!
//! Promised: a reply that a next hop gave is passed on, also if the connection is lost after it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::connection::{Capabilities, Connection};
use super::error::{RelayError, Step, concerns_us, note_error};
use super::pool::Lease;
use super::transaction::{PATIENCE, Transaction};
use crate::smtp::Reply;
use crate::smtp::reply::Class;
use crate::smtp::session::{Recipient, Sender};

/// The next hop's replies about a sender and recipients.
#[derive(Debug, Default)]
pub struct Answers {
    /// About the sender; `None` if it was asked before.
    pub sender: Option<Reply>,
    /// About each recipient, in order. A reply that concerns the relay and not the recipient defers only that
    /// recipient.
    pub recipients: Vec<Result<Reply, RelayError>>,
}

/// The answers as they come, for somebody who passes them on meanwhile.
#[derive(Debug, Default)]
pub struct Heard(Mutex<Answers>);

impl Heard {
    /// Takes those that came since it was called last.
    pub fn take(&self) -> Answers {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn sender(&self, reply: Reply) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).sender = Some(reply);
    }

    fn recipients(&self, answers: impl Iterator<Item = Result<Reply, RelayError>>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).recipients.extend(answers);
    }
}

/// One question to the next hops, and what is known of its answers.
struct Round<'a> {
    recipients: &'a [Recipient],
    heard: &'a Heard,
    /// How many recipients, from the first on, have their final answer.
    told: usize,
    /// The answers of those who follow; another next hop may give better ones.
    open: Vec<Result<Reply, RelayError>>,
    /// How many were accepted.
    accepted: usize,
    /// Whether the answer about the sender is final.
    has_sender: bool,
    /// The reply of a next hop that put off the sender.
    deferral: Option<Reply>,
}

impl<'a> Round<'a> {
    fn new(recipients: &'a [Recipient], heard: &'a Heard) -> Round<'a> {
        let (told, accepted, has_sender) = (0, 0, false);
        Round { recipients, heard, told, open: Vec::new(), accepted, has_sender, deferral: None }
    }

    /// Returns the numbers of those who are still to be asked.
    fn left(&self) -> impl Iterator<Item = usize> + '_ {
        let is_left = |number: &usize| self.open.get(number - self.told).is_none_or(is_put_off);
        (self.told..self.recipients.len()).filter(is_left)
    }

    fn has_put_off(&self) -> bool {
        self.open.iter().any(is_put_off)
    }

    /// Returns whether no other next hop is asked after this one.
    fn is_final(&self, is_last: bool) -> bool {
        is_last || self.accepted > 0 || !self.has_put_off()
    }

    /// Notes the answer for a recipient; they come in order.
    fn note(&mut self, number: usize, answer: Result<Reply, RelayError>) {
        self.accepted += usize::from(matches!(&answer, Ok(reply) if reply.class() == Class::Positive));
        match number.checked_sub(self.told).and_then(|open| self.open.get_mut(open)) {
            Some(earlier) => *earlier = answer,
            None => self.open.push(answer),
        }
    }

    /// Notes that the conversation ended: those who have no answer yet get none from this next hop.
    fn lose(&mut self, error: RelayError) {
        note_error();
        tracing::debug!(%error, "a next hop ended the conversation before it had answered for all");
        let missing = self.recipients.len() - self.told - self.open.len();
        let others = (1..missing).map(|_| Err(RelayError::Unanswered));
        self.open.extend(std::iter::once(Err(error)).take(missing).chain(others));
    }

    /// Makes all answers final.
    fn tell(&mut self) {
        self.told += self.open.len();
        self.heard.recipients(self.open.drain(..));
    }

    fn tell_sender(&mut self, reply: &Reply) {
        if !std::mem::replace(&mut self.has_sender, true) {
            self.heard.sender(reply.clone());
        }
    }

    /// Makes it final that the sender was not accepted, so that nobody answers for the recipients. The client
    /// acts on the reply to MAIL; if it heard that the sender was accepted, its recipients get this reply.
    fn refuse(&mut self, sender: &Reply, was_accepted: bool) {
        let reply = match sender.class() {
            _ if was_accepted || self.has_sender => sender.clone(),
            Class::Permanent => Reply::new(503, "5.5.1 The sender was not accepted"),
            _ => Reply::new(451, "4.5.1 The sender was not accepted, try again later"),
        };
        if !was_accepted {
            self.tell_sender(sender);
        }
        let left: Vec<usize> = self.left().collect();
        left.into_iter().for_each(|number| self.note(number, Ok(reply.clone())));
        self.tell();
    }
}

/// Returns whether another next hop may give a better answer.
fn is_put_off(answer: &Result<Reply, RelayError>) -> bool {
    answer.as_ref().map_or(true, |reply| reply.class() == Class::Transient)
}

/// What was said over one connection.
struct Said {
    /// About the sender, if it was asked.
    sender: Option<Reply>,
    /// Whether the conversation ended before everybody had an answer.
    is_lost: bool,
    /// Whether the next hop now waits for a message that nobody is to get (RFC 2920, section 3.1).
    is_stuck: bool,
}

impl Said {
    /// Returns whether the connection can be used on.
    fn goes_on(&self) -> bool {
        !self.is_lost && !self.is_stuck
    }
}

impl Transaction {
    /// Announces the sender (if that was not done) and recipients to the next hop, in as few round trips as
    /// it allows. If a next hop cannot be used, or only puts the mail off, the following one is asked.
    ///
    /// # Errors
    ///
    /// When no next hop can be asked, or all replies concern the relay and not the mail.
    pub async fn ask(&mut self, recipients: &[Recipient]) -> Result<Answers, RelayError> {
        let heard = Heard::default();
        self.ask_telling(recipients, &heard).await?;
        Ok(heard.take())
    }

    /// Like [`Transaction::ask`], but puts answers into `heard` as soon as they are final, in order.
    ///
    /// # Errors
    ///
    /// The same; then those who have not been answered yet get no answer.
    pub async fn ask_telling(&mut self, recipients: &[Recipient], heard: &Heard) -> Result<(), RelayError> {
        let mut round = Round::new(recipients, heard);
        let mut asked = None;
        if let Some(mut lease) = self.lease.take().filter(|lease| !lease.owes_data) {
            let is_last = self.accepted > 0 || self.route().pools().len() == 1;
            let said = self.ask_over(&mut lease, false, is_last, &mut round).await?;
            let pool = Arc::clone(lease.pool());
            self.keep(lease, &said, &round);
            if round.is_final(is_last) {
                round.tell();
                return Ok(());
            }
            self.abandon().await;
            asked = Some(pool);
        }
        let mut attempts = self.attempts();
        if let Some(pool) = asked {
            attempts.leave_out(&pool);
        }
        loop {
            let began = Instant::now();
            let lease = attempts.next(self.limit(PATIENCE)).await;
            self.connecting += began.elapsed();
            let lease = match lease {
                Ok(lease) => lease,
                Err(error) => {
                    self.asked = attempts.last_failed().or(self.asked.take());
                    self.authentication = None;
                    return self.conclude(round, error);
                }
            };
            if !self.is_counted {
                lease.pool().turn(1).await?;
                self.is_counted = true;
            }
            let pool = Arc::clone(lease.pool());
            self.asked = Some(Arc::clone(&pool));
            self.authentication = Some(lease.authentication);
            match self.ask_first(lease, &mut round, !attempts.has_more()).await {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    self.abandon().await;
                    attempts.put_off(&pool);
                }
                Err(error) => attempts.failed(&pool, error),
            }
        }
    }

    /// Asks over a connection without a transaction. An idle one may have been closed meanwhile: that costs
    /// one silent attempt, not a deferral. Returns whether the answers are final.
    async fn ask_first(
        &mut self,
        mut lease: Lease,
        round: &mut Round<'_>,
        is_last: bool,
    ) -> Result<bool, RelayError> {
        let is_last = is_last || self.accepted > 0;
        if !lease.capabilities.smtputf8 && !self.sender.address.as_str().is_ascii() {
            let refused = self.lacks_smtputf8();
            lease.give_back();
            let is_final = is_last || refused.class() == Class::Permanent;
            match is_final {
                true => round.refuse(&refused, self.begun),
                false => round.deferral = Some(refused),
            }
            return Ok(is_final);
        }
        let mut asked = self.ask_over(&mut lease, true, is_last, round).await;
        let is_gone = match &asked {
            Err(error) => error.is_lost_connection(),
            Ok(said) => {
                let is_refused = said.sender.as_ref().is_some_and(|reply| reply.code() == 421);
                is_refused || said.is_lost && round.accepted == 0
            }
        };
        if lease.has_waited && is_gone {
            lease = lease.renewed().await?;
            asked = self.ask_over(&mut lease, true, is_last, round).await;
        }
        let said = asked?;
        if let Some(reply) = said.sender.as_ref().filter(|reply| reply.class() != Class::Positive) {
            if concerns_us(reply, Step::Mail) {
                return Err(RelayError::Unwilling { at: "MAIL", reply: reply.clone() });
            }
            let is_final = is_last || reply.class() == Class::Permanent;
            match is_final {
                true => round.refuse(reply, self.begun),
                false => round.deferral = Some(reply.clone()),
            }
            if said.goes_on() {
                lease.give_back();
            }
            return Ok(is_final);
        }
        self.begun = true;
        self.keep(lease, &said, round);
        let is_final = round.is_final(is_last);
        if is_final {
            round.tell();
        }
        Ok(is_final)
    }

    /// Keeps the connection if its transaction goes on, and counts whom it accepted.
    fn keep(&mut self, lease: Lease, said: &Said, round: &Round<'_>) {
        self.authentication = Some(lease.authentication);
        self.loses_notify |= !lease.capabilities.dsn && round.accepted > 0;
        let before = if said.sender.is_some() { 0 } else { self.held };
        self.accepted += round.accepted;
        self.held = before + round.accepted;
        if round.accepted > 0 {
            self.preferred = Some(Arc::clone(lease.pool()));
        }
        self.lease = Some(lease).filter(|_| said.goes_on());
    }

    /// Makes what is known final, as no next hop is left.
    fn conclude(&self, mut round: Round<'_>, error: RelayError) -> Result<(), RelayError> {
        let has_all = round.told + round.open.len() == round.recipients.len();
        let deferral = round.deferral.take().or_else(|| self.put_off.last().map(|(_, reply)| reply.clone()));
        match deferral.filter(|_| self.accepted == 0) {
            _ if has_all && (round.has_sender || self.begun && !round.recipients.is_empty()) => round.tell(),
            Some(reply) => round.refuse(&reply, self.begun),
            None => return Err(error),
        }
        Ok(())
    }

    /// Sends MAIL, if the sender is to be asked, and RCPT for those who are left. `is_last` says that no
    /// other next hop can give better answers, so that each is final as it comes.
    ///
    /// # Errors
    ///
    /// When the sender was asked and not answered.
    async fn ask_over(
        &self,
        lease: &mut Lease,
        ask_sender: bool,
        is_last: bool,
        round: &mut Round<'_>,
    ) -> Result<Said, RelayError> {
        let limit = self.limit(lease.hop().timeouts.command);
        let numbers: Vec<usize> = round.left().collect();
        let streams = round.open.is_empty();
        let mut said = Said { sender: None, is_lost: false, is_stuck: false };
        if ask_sender {
            let reply = self.introduce(lease, round, &numbers, limit).await?;
            let is_accepted = reply.class() == Class::Positive;
            if is_accepted && !self.begun {
                round.tell_sender(&reply);
            }
            said.sender = Some(reply);
            if !is_accepted {
                let asked = numbers.iter().filter_map(|number| round.recipients.get(*number));
                let asked = asked.filter(|recipient| fits(recipient, &lease.capabilities)).count();
                said.is_lost = lease.capabilities.pipelining && !skip(lease, asked, limit).await;
                said.is_stuck = !said.is_lost && is_stuck(lease, limit).await;
                return Ok(said);
            }
        } else if lease.capabilities.pipelining {
            let commands = rcpt_lines(round.recipients, &numbers, &lease.capabilities);
            if let Err(error) = lease.command(&commands, "RCPT", limit).await {
                said.is_lost = true;
                round.lose(error);
                return Ok(said);
            }
        }
        for number in numbers {
            let Some(recipient) = round.recipients.get(number) else { break };
            let answer = match fits(recipient, &lease.capabilities) {
                true => answer_about(lease, recipient, limit).await,
                false => Ok(Ok(self.lacks_smtputf8())),
            };
            match answer {
                Ok(answer) => round.note(number, answer),
                Err(error) => {
                    said.is_lost = true;
                    round.lose(error);
                    break;
                }
            }
            if streams && (is_last || round.accepted > 0 || !round.has_put_off()) {
                round.tell();
            }
        }
        if round.accepted == 0 && !said.is_lost {
            said.is_stuck = is_stuck(lease, limit).await;
        }
        Ok(said)
    }

    /// Returns whether DATA goes out together with these recipients. Several may need different copies, and a
    /// next hop that waits for a message takes no other command.
    fn sends_data_ahead(&self, lease: &Lease, recipients: &[Recipient]) -> bool {
        let [recipient] = recipients else { return false };
        let announced = &lease.capabilities;
        self.data_follows
            && self.ways.is_none()
            && lease.hop().pipeline_data
            && announced.pipelining
            && fits(recipient, announced)
            // Without DSN, the message may have to begin anew with an empty return path.
            && (announced.dsn || !recipient.parameters.has("NOTIFY"))
    }

    /// Returns what those hear whose address a next hop cannot take. For good only if no next hop of the
    /// route can.
    pub(super) fn lacks_smtputf8(&self) -> Reply {
        match self.route().all_lack(|capabilities| !capabilities.smtputf8) {
            true => Reply::new(550, "5.6.7 The next hop does not accept internationalised mail"),
            false => Reply::new(
                451,
                "4.6.7 No next hop that accepts internationalised mail can be used now, try again later",
            ),
        }
    }

    /// Sends MAIL, and RCPT with it if the next hop allows that. Returns the reply to MAIL.
    async fn introduce(
        &self,
        lease: &mut Lease,
        round: &Round<'_>,
        numbers: &[usize],
        limit: Duration,
    ) -> Result<Reply, RelayError> {
        let told = self
            .client
            .as_ref()
            .map_or_else(Vec::new, |client| client.commands(&lease.capabilities.xforward));
        let mail = mail_line(&self.sender, &lease.capabilities, self.has_empty_path);
        if lease.capabilities.pipelining {
            let rcpt = rcpt_lines(round.recipients, numbers, &lease.capabilities);
            lease.owes_data = self.sends_data_ahead(lease, round.recipients);
            let data = if lease.owes_data { "DATA\r\n" } else { "" };
            lease.command(&[&told.concat(), &mail, &rcpt, data].concat(), "MAIL", limit).await?;
            for _ in &told {
                lease.reply("XFORWARD", limit).await?;
            }
        } else {
            for command in &told {
                lease.command(command, "XFORWARD", limit).await?;
                lease.reply("XFORWARD", limit).await?;
            }
            lease.command(&mail, "MAIL", limit).await?;
        }
        lease.reply("MAIL", limit).await
    }
}

/// Returns the next hop's answer about a recipient, after asking it if that was not done with MAIL. A reply
/// that concerns the relay and not the mail defers only this recipient.
///
/// # Errors
///
/// When there is none, and will be none for others either.
async fn answer_about(
    lease: &mut Lease,
    recipient: &Recipient,
    limit: Duration,
) -> Result<Result<Reply, RelayError>, RelayError> {
    if !lease.capabilities.pipelining {
        let command = rcpt_line(recipient, &lease.capabilities);
        lease.command(&command, "RCPT", limit).await?;
    }
    let reply = lease.reply("RCPT", limit).await?;
    lease.rejected += u32::from(reply.class() != Class::Positive);
    let unwilling = |reply| RelayError::Unwilling { at: "RCPT", reply };
    match reply.code() {
        421 => Err(unwilling(reply)),
        _ if concerns_us(&reply, Step::Rcpt) => {
            note_error();
            Ok(Err(unwilling(reply)))
        }
        _ => Ok(Ok(reply)),
    }
}

/// Reads the replies for recipients that were announced together with a sender who was not accepted. Returns
/// whether they came.
async fn skip(connection: &mut Connection, count: usize, limit: Duration) -> bool {
    for _ in 0..count {
        if connection.reply("RCPT", limit).await.map_or(true, |reply| reply.code() == 421) {
            return false;
        }
    }
    true
}

/// Reads the reply to a DATA that was sent ahead for nobody. Returns whether the next hop waits for a message all
/// the same, or says nothing that can be relied on.
async fn is_stuck(connection: &mut Connection, limit: Duration) -> bool {
    if !connection.owes_data {
        return false;
    }
    let reply = connection.data_reply(limit).await;
    reply.map_or(true, |reply| reply.class() == Class::Intermediate || reply.code() == 421)
}

/// Builds MAIL with the parameters that the next hop announced. SIZE is passed on as the client gave it: an
/// estimate, and a rewritten message is larger by no more than a trace header.
fn mail_line(sender: &Sender, capabilities: &Capabilities, has_empty_path: bool) -> String {
    let is_empty = has_empty_path && !capabilities.dsn;
    let mut line = format!("MAIL FROM:<{}>", if is_empty { "" } else { sender.address.as_str() });
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

/// Returns whether a next hop can be asked about a recipient.
fn fits(recipient: &Recipient, capabilities: &Capabilities) -> bool {
    capabilities.smtputf8 || recipient.address.as_str().is_ascii()
}

fn rcpt_lines(recipients: &[Recipient], numbers: &[usize], capabilities: &Capabilities) -> String {
    let asked = numbers.iter().filter_map(|number| recipients.get(*number));
    let asked = asked.filter(|recipient| fits(recipient, capabilities));
    asked.map(|recipient| rcpt_line(recipient, capabilities)).collect()
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
