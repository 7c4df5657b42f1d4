//! What carries messages between relays, reduced to what the replica needs of it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

/// The place of a message in the common order: 1 for the first, and one more for each that follows.
pub type Position = u64;

/// What a future of a trait object is.
pub type Eventually<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A message as the engine hands it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Its place.
    pub position: Position,
    /// When it was committed, by the engine's clock, in milliseconds since 1970.
    pub committed_at: i64,
    /// The message.
    pub bytes: Bytes,
}

/// Why the engine did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// No answer came in time: whether a message was published is unknown.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// It cannot be reached.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// It answered that it will not, or what it answered makes no sense.
    #[error("it refused: {0}")]
    Refused(String),
}

/// Whether a message that was acknowledged survives a power failure of a minority of machines, as far as the
/// engine's servers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Durable,
    /// It does not, or that is unknown.
    NotDurable {
        /// The reason, and what to change.
        why: String,
    },
}

impl Verdict {
    /// Returns whether grants may be acknowledged.
    pub fn is_durable(&self) -> bool {
        *self == Verdict::Durable
    }
}

/// The kind of a message, which the engine may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something that changes stores.
    Change,
    /// A key of somebody new.
    Key,
    /// An erasure.
    Erase,
    /// A relay's word on where it stands.
    Mark,
    /// Opens that need no consent. They are carried beside the common order, and not kept.
    Opens,
}

impl Kind {
    /// All kinds of the common order.
    pub const ALL: [Kind; 4] = [Kind::Change, Kind::Key, Kind::Erase, Kind::Mark];

    /// Returns the name used in subjects.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Change => "change",
            Kind::Key => "key",
            Kind::Erase => "erase",
            Kind::Mark => "mark",
            Kind::Opens => "opens",
        }
    }
}

/// Messages, one after another, from a position on.
pub trait Feed: Send {
    /// Returns the next message; waits for it.
    ///
    /// # Errors
    ///
    /// When the engine ended the feed: follow anew from the position that is wanted.
    fn next(&mut self) -> Eventually<'_, Result<Delivered, EngineError>>;

    /// Returns a message that is here already.
    fn ready(&mut self) -> Option<Delivered>;
}

/// The carrier of messages. It is trusted with delivery, not with the truth.
pub trait Engine: Send + Sync {
    /// Publishes a message. Under one id it is carried once, however often it is published within some minutes.
    ///
    /// # Errors
    ///
    /// When no acknowledgement came. It may have been published all the same.
    fn publish(
        &self,
        kind: Kind,
        id: [u8; 16],
        bytes: Bytes,
    ) -> Eventually<'_, Result<Position, EngineError>>;

    /// Follows the messages from a position on.
    ///
    /// # Errors
    ///
    /// When the engine cannot be reached.
    fn follow(&self, from: Position) -> Eventually<'_, Result<Box<dyn Feed>, EngineError>>;

    /// Follows the opens from a position on; older ones may be gone.
    ///
    /// # Errors
    ///
    /// When the engine cannot be reached.
    fn follow_opens(&self, from: Position) -> Eventually<'_, Result<Box<dyn Feed>, EngineError>>;

    /// Asks every server about one message: whoever serves the feed may lack it. `None` if nobody has it.
    ///
    /// # Errors
    ///
    /// When the engine cannot be reached.
    fn message(&self, position: Position) -> Eventually<'_, Result<Option<Delivered>, EngineError>>;

    /// Asks every server whether what it acknowledges is durable.
    fn durability(&self) -> Eventually<'_, Verdict>;
}
