//! Tells the sender of a message what became of it, where no reply can: in a message of its own.

use super::dsn::{self, Event, Notice};
use super::groups::Answer;
use super::mail::Mail;
use super::transaction::Transaction;
use crate::smtp::Reply;
use crate::smtp::address::Address;
use crate::smtp::command::Parameters;
use crate::smtp::reply::Class;
use crate::smtp::session::{Recipient, Sender};

/// Notifies the sender of rejected recipients. Returns whether that is done, or not wanted.
pub(super) async fn notify(mail: &Mail<'_>, answers: &[Answer], transaction: &Transaction) -> bool {
    send_about(mail, Event::Failed, answers, transaction, |who, reply| {
        reply.class() == Class::Permanent && dsn::is_wanted(mail.envelope, who)
    })
    .await
}

/// Tells the sender of recipients for whom a success was to be reported that a next hop without DSN has their
/// mail (RFC 3461, section 5.2.2). If that does not work, the mail was delivered all the same.
pub(super) async fn relayed(mail: &Mail<'_>, answers: &[Answer], transaction: &Transaction) {
    let told = send_about(mail, Event::Relayed, answers, transaction, |who, reply| {
        reply.class() == Class::Positive && dsn::is_success_wanted(mail.envelope, who)
    });
    if !told.await {
        tracing::warn!(id = mail.id, "the sender could not be told that a message was relayed");
    }
}

/// Sends the sender a notification about those whom it concerns, one for each next hop that answered about
/// some. Returns whether that is done, or cannot be done.
async fn send_about(
    mail: &Mail<'_>,
    event: Event,
    answers: &[Answer],
    transaction: &Transaction,
    concerns: impl Fn(&Recipient, &Reply) -> bool,
) -> bool {
    let replies = mail.envelope.recipients.iter().zip(answers.iter().map(Answer::reply)).enumerate();
    let mut notices: Vec<(String, Vec<(&Recipient, &Reply)>)> = Vec::new();
    for (index, (who, reply)) in replies.filter(|(_, (who, reply))| concerns(who, reply)) {
        let next_hop = transaction.via_of(index).next_hop;
        match notices.iter_mut().find(|(known, _)| *known == next_hop) {
            Some((_, about)) => about.push((who, reply)),
            None => notices.push((next_hop, vec![(who, reply)])),
        }
    }
    let mut is_done = true;
    for (next_hop, about) in notices {
        // Most mail needs no notification, and no memory for one.
        is_done &= Box::pin(send(mail, event, &next_hop, &about, transaction)).await;
    }
    is_done
}

/// Sends the sender a notification about these recipients. Returns whether that is done, or cannot be done.
async fn send(
    mail: &Mail<'_>,
    event: Event,
    next_hop: &str,
    about: &[(&Recipient, &Reply)],
    transaction: &Transaction,
) -> bool {
    let notice = Notice {
        host_name: mail.host_name,
        id: mail.id,
        next_hop,
        envelope: mail.envelope,
        message: mail.message,
        event,
    };
    let Some(notice) = notice.about(about) else { return false };
    metrics::counter!("pixelward_notifications_total").increment(1);
    let Ok(nobody) = Address::bare("") else { return false };
    let sender = Sender { address: nobody, parameters: Parameters::default() };
    let to = Recipient { address: mail.envelope.sender.address.clone(), parameters: Parameters::default() };
    let mut beside = transaction.beside(sender);
    let asked = beside.ask(std::slice::from_ref(&to)).await;
    let refused = asked.and_then(|asked| {
        let said = asked.sender.into_iter().map(Ok).chain(asked.recipients);
        said.collect::<Result<Vec<Reply>, _>>()
            .map(|said| said.into_iter().find(|reply| reply.class() != Class::Positive))
    });
    let taken = match refused {
        Ok(Some(reply)) => Ok(reply),
        Ok(None) => match beside.load(b"", &notice, b".\r\n").await {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => beside.outcome().await,
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    beside.abandon().await;
    match taken {
        Ok(reply) if reply.class() == Class::Positive => true,
        // A retry does not help a sender who can never be notified.
        Ok(reply) if reply.class() == Class::Permanent => {
            tracing::error!(id = mail.id, %reply, "the sender cannot be notified");
            true
        }
        Ok(reply) => {
            tracing::error!(id = mail.id, %reply, "a notification was not accepted");
            false
        }
        Err(error) => {
            tracing::error!(id = mail.id, %error, "a notification was not accepted");
            false
        }
    }
}
