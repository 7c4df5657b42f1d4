//! What this relay heard, which holds here at once and elsewhere when the common order has it: withdrawals,
//! refusals, objections and erasures.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::writer::settle_time;
use crate::consent::ordered::Heard;
use crate::consent::record::Change;
use crate::consent::standing::Standing;
use crate::consent::timestamp::Timestamp;
use crate::consent::{Controller, Person};

/// What was heard, with the id under which the order will have it.
type Waiting = ([u8; 16], Heard);

/// Changes and erasures by person. Nearly always there are none.
#[derive(Default)]
pub(super) struct Pending {
    count: AtomicUsize,
    people: RwLock<HashMap<Person, Vec<Waiting>>>,
}

impl Pending {
    /// Puts something in force under an id.
    pub(super) fn put(&self, id: [u8; 16], heard: Heard) {
        let mut people = self.people.write().unwrap_or_else(PoisonError::into_inner);
        let of_person = people.entry(heard.person()).or_default();
        if of_person.iter().all(|(known, _)| *known != id) {
            of_person.push((id, heard));
            self.count.fetch_add(1, Ordering::Release);
        }
    }

    /// Drops it, once the store has it.
    pub(super) fn drop_id(&self, id: &[u8; 16], person: Person) {
        let mut people = self.people.write().unwrap_or_else(PoisonError::into_inner);
        let Some(of_person) = people.get_mut(&person) else { return };
        let before = of_person.len();
        of_person.retain(|(known, _)| known != id);
        self.count.fetch_sub(before - of_person.len(), Ordering::Release);
        if of_person.is_empty() {
            people.remove(&person);
        }
    }

    /// Joins a standing with what was heard about the person since.
    pub(super) fn joined(
        &self,
        controller: &Controller,
        person: Person,
        standing: Arc<Standing>,
    ) -> Arc<Standing> {
        if self.count.load(Ordering::Acquire) == 0 {
            return standing;
        }
        let people = self.people.read().unwrap_or_else(PoisonError::into_inner);
        let Some(heard) = people.get(&person) else { return standing };
        let mut joined = (*standing).clone();
        for (_, heard) in heard {
            match heard {
                Heard::Erase(_) => joined = Standing::unknown(),
                Heard::Change(_, change) if change.controller == *controller => take(&mut joined, change),
                Heard::Change(..) => {}
            }
        }
        Arc::new(joined)
    }
}

/// Takes in a change that has no record yet.
fn take(standing: &mut Standing, change: &Change) {
    let mut change = change.clone();
    settle_time(&mut change, standing, Timestamp::now());
    let has_evidence = change.details.evidence.is_some();
    let _ = standing.merge(&change, 0, has_evidence);
}
