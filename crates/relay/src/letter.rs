//! Sends a message of the relay's own to one recipient; only its sender waits for the result.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::RelayError;
use super::route::Route;
use super::transaction::Transaction;
use crate::smtp::Reply;
use crate::smtp::address::Address;
use crate::smtp::command::Parameters;
use crate::smtp::reply::Class;
use crate::smtp::session::{Recipient, Sender};

/// The total time limit.
const PATIENCE: Duration = Duration::from_secs(120);

/// Hands over a message with CRLF line endings. Returns the next hop's reply: to the message, or to whatever
/// it rejected before.
///
/// # Errors
///
/// When no next hop replies about it.
pub async fn send(
    route: &Arc<Route>,
    sender: Address,
    recipient: Address,
    message: &[u8],
) -> Result<Reply, RelayError> {
    let sender = Sender { address: sender, parameters: Parameters::default() };
    let recipient = Recipient { address: recipient, parameters: Parameters::default() };
    let mut transaction = Transaction::new(Arc::clone(route), sender);
    transaction.finish_by(Instant::now() + PATIENCE);
    let said = handed_over(&mut transaction, &recipient, message).await;
    transaction.abandon().await;
    said
}

async fn handed_over(
    transaction: &mut Transaction,
    recipient: &Recipient,
    message: &[u8],
) -> Result<Reply, RelayError> {
    let answers = transaction.ask(std::slice::from_ref(recipient)).await?;
    for said in answers.sender.into_iter().map(Ok).chain(answers.recipients) {
        let said = said?;
        if said.class() != Class::Positive {
            return Ok(said);
        }
    }
    let end: &[u8] = if message.ends_with(b"\r\n") { b".\r\n" } else { b"\r\n.\r\n" };
    match transaction.load(b"", message, end).await? {
        Some(refused) => Ok(refused),
        None => transaction.outcome().await,
    }
}
