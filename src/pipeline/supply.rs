//! Copies for delivery, each made when its turn comes, and what is noted of each for the log and the
//! evidence.

use bytes::Bytes;

use super::line::{Account, Line};
use crate::plan::{Draft, Group, Made, Plan};
use crate::policy::{Chosen, Done};
use crate::record::Effect;
use crate::record::digest::{self, BodyHash};
use crate::relay::{Copies, Making};
use crate::rewrite::LinksDone;
use crate::smtp::Reply;
use crate::smtp::reply::Class;

/// What became of a group's copy.
#[derive(Default)]
pub(super) struct Copied {
    /// Its bytes, as long as they are needed.
    pub(super) bytes: Option<Bytes>,
    /// What was said instead of a copy.
    pub(super) rejected: Option<Reply>,
    /// What was done in it; `None` where there is none.
    pub(super) done: Option<Done>,
    /// Why that is less than was decided.
    pub(super) shortfall: Option<&'static str>,
    pub(super) removed: usize,
    pub(super) swapped: usize,
    pub(super) links: LinksDone,
    /// The hash of its body, where it was computed.
    pub(super) hash: Option<BodyHash>,
}

impl Copied {
    fn of(made: Result<Made, Reply>) -> Copied {
        match made {
            Ok(Made { bytes, done, shortfall, removed, swapped, links }) => Copied {
                bytes: Some(bytes),
                done: Some(done),
                shortfall,
                removed,
                swapped,
                links,
                ..Copied::default()
            },
            Err(reply) => Copied { rejected: Some(reply), ..Copied::default() },
        }
    }

    /// What the copy came to for a recipient who heard this. Nothing was done where the next hop did not take
    /// it.
    pub(super) fn effect(&self, plan: &Plan, recipient: usize, reply: &Reply) -> Effect {
        let made = self.done.filter(|_| reply.class() == Class::Positive);
        let told = plan.told(recipient, made.map(|done| (done, self.shortfall)));
        let count = |trackers: usize| if made.is_some() { trackers } else { 0 };
        Effect {
            done: told.done,
            shortfall: told.shortfall,
            removed: count(self.removed),
            swapped: count(self.swapped),
            links: if made.is_some() { self.links } else { LinksDone::default() },
        }
    }
}

/// The copies of one message.
pub(super) struct Supply<'a> {
    line: &'a Line<'a>,
    /// What copies are made from that are not there yet.
    unmade: Option<Unmade<'a>>,
    pub(super) copied: Vec<Copied>,
}

#[derive(Clone, Copy)]
struct Unmade<'a> {
    groups: &'a [Group],
    draft: &'a Draft<'a>,
    chosen: Chosen<'a>,
}

impl<'a> Supply<'a> {
    /// The one copy of a message.
    pub(super) fn ready(line: &'a Line<'a>, made: Result<Made, Reply>) -> Supply<'a> {
        Supply { line, unmade: None, copied: vec![Copied::of(made)] }
    }

    /// Copies that are made one after the other.
    pub(super) fn in_turn(
        line: &'a Line<'a>,
        account: &'a Account,
        draft: &'a Draft<'a>,
        chosen: Chosen<'a>,
    ) -> Supply<'a> {
        let groups = &account.plan.groups;
        let copied = groups.iter().map(|_| Copied::default()).collect();
        Supply { line, unmade: Some(Unmade { groups, draft, chosen }), copied }
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
        let Some(Unmade { groups, draft, chosen }) = self.unmade else { return Err(missing()) };
        let group = groups.get(number).ok_or_else(missing)?;
        let mut copied = Copied::of(self.line.copy(draft, group, chosen).await);
        let outcome = match (&copied.bytes, &copied.rejected) {
            (Some(bytes), _) => Ok(bytes.clone()),
            (None, Some(reply)) => Err(reply.clone()),
            (None, None) => Err(missing()),
        };
        // All copies together may be many times what the message is.
        let pipeline = self.line.pipeline;
        if pipeline.onlooker.copies.is_none() {
            let bytes = copied.bytes.take().filter(|_| pipeline.wants_hashes());
            copied.hash = bytes.map(|bytes| digest::body(&bytes));
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
