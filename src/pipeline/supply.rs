//! Copies for delivery, each made when its turn comes, and what is noted of each for the log and the evidence.

use bytes::Bytes;

use super::Pipeline;
use super::copy::{Copying, Made};
use super::counts::Stopwatch;
use super::fallback::copy_after;
use super::plan::Group;
use crate::policy::Outcome;
use crate::record::digest::{self, BodyHash};
use crate::relay::{Copies, Making};
use crate::smtp::Reply;

/// What became of a group's copy.
#[derive(Default)]
pub(super) struct Copied {
    /// Its bytes, as long as they are needed.
    pub(super) bytes: Option<Bytes>,
    /// What was said instead of a copy.
    pub(super) rejected: Option<Reply>,
    pub(super) done: Option<Outcome>,
    /// Why that is less than was decided.
    pub(super) shortfall: Option<&'static str>,
    pub(super) removed: usize,
    pub(super) swapped: usize,
    /// The hash of its body, where it was computed.
    pub(super) hash: Option<BodyHash>,
}

impl Copied {
    fn of(made: Result<Made, Reply>) -> Copied {
        match made {
            Ok(Made { bytes, done, shortfall, removed, swapped }) => {
                let done = Some(done);
                Copied { bytes: Some(bytes), done, shortfall, removed, swapped, ..Copied::default() }
            }
            Err(reply) => Copied { rejected: Some(reply), ..Copied::default() },
        }
    }
}

/// The copies of one message.
pub(super) struct Supply<'a> {
    pipeline: &'a Pipeline,
    groups: &'a [Group],
    /// What copies are made from that are not there yet.
    copying: Option<&'a Copying<'a>>,
    pub(super) copied: Vec<Copied>,
}

impl<'a> Supply<'a> {
    /// The one copy of a message.
    pub(super) fn ready(
        pipeline: &'a Pipeline,
        groups: &'a [Group],
        made: Result<Made, Reply>,
    ) -> Supply<'a> {
        Supply { pipeline, groups, copying: None, copied: vec![Copied::of(made)] }
    }

    /// Copies that are made one after the other.
    pub(super) fn in_turn(
        pipeline: &'a Pipeline,
        groups: &'a [Group],
        copying: &'a Copying<'a>,
    ) -> Supply<'a> {
        let copied = groups.iter().map(|_| Copied::default()).collect();
        Supply { pipeline, groups, copying: Some(copying), copied }
    }

    /// The bytes of copies that are there, to be hashed while the next hop is waited for.
    pub(super) fn at_hand(&self) -> Vec<Option<Bytes>> {
        self.copied.iter().map(|copied| copied.bytes.clone()).collect()
    }

    async fn make(&mut self, number: usize) -> Result<Bytes, Reply> {
        let missing = || Reply::new(451, "4.3.0 Try again later");
        if let Some(bytes) = self.copied.get(number).and_then(|copied| copied.bytes.clone()) {
            return Ok(bytes);
        }
        if let Some(reply) = self.copied.get(number).and_then(|copied| copied.rejected.clone()) {
            return Err(reply);
        }
        let (Some(group), Some(copying)) = (self.groups.get(number), self.copying) else {
            return Err(missing());
        };
        let made = self.pipeline.copy_for(copying, group).await;
        let mut copied = Copied::of(made);
        let outcome = match (&copied.bytes, &copied.rejected) {
            (Some(bytes), _) => Ok(bytes.clone()),
            (None, Some(reply)) => Err(reply.clone()),
            (None, None) => Err(missing()),
        };
        // All copies together may be many times what the message is.
        if self.pipeline.witness.is_none() {
            copied.hash = copied
                .bytes
                .take()
                .filter(|_| self.pipeline.wants_hashes())
                .map(|bytes| digest::body(&bytes));
        }
        if let Some(place) = self.copied.get_mut(number) {
            *place = copied;
        }
        outcome
    }
}

impl Copies for Supply<'_> {
    fn copy(&mut self, number: usize) -> Making<'_> {
        Box::pin(self.make(number))
    }
}

impl Pipeline {
    /// Rewrite, sign: the copy of a group, or what its recipients hear.
    pub(super) async fn copy_for(&self, copying: &Copying<'_>, group: &Group) -> Result<Made, Reply> {
        let wanted = match &group.wanted {
            Ok(wanted) => wanted,
            Err(reply) => return Err(reply.clone()),
        };
        let Copying { live, arrival, basis, .. } = copying;
        let make = || copying.make(wanted, &group.recipients);
        let mut clock = Stopwatch::started();
        let made = match self.steps.run(&arrival.message, 2 * arrival.message.len(), make).await {
            Ok(made) => made,
            Err(fault) => copy_after(live, arrival, basis.chosen, &fault),
        };
        clock.leave("rewrite");
        made.inspect_err(|reply| {
            tracing::warn!(id = %arrival.id, message_id = %arrival.message_id(), %reply, "a copy was not relayed");
        })
    }
}
