//! Opens that need no consent: the day of a person's last one, and how often all readers together opened a
//! campaign.

use std::sync::PoisonError;

use super::{Shared, Store, StoreError, io_error};
use crate::consent::days::{Campaign, Counted, Day, scope};
use crate::consent::{Controller, Person, Pseudonym, Timestamp};

impl Store {
    /// Records the day on which a person opened mail of a kind; returns whether there is anybody to record it
    /// for: nothing is kept about erased people.
    pub fn note_open(
        &self,
        controller: &Controller,
        mailstream: &str,
        person: Person,
        at: Timestamp,
    ) -> bool {
        // Held until the row is written, so that none comes back after an erasure.
        let pseudonyms = self.shared.pseudonyms.read().unwrap_or_else(PoisonError::into_inner);
        let Some(pseudonym) = pseudonyms.of(person) else { return false };
        let controller = controller.as_str();
        let tag = pseudonym.tag(&scope(controller, mailstream));
        self.shared.days.note(controller, mailstream, tag, Day::of(at));
        true
    }

    /// Returns the day on which a person last opened mail of a controller.
    pub fn last_open(&self, controller: &Controller, person: Person) -> Option<Day> {
        let pseudonym = self.known_pseudonym(person)?;
        self.shared.days.look(|table| table.newest(controller.as_str(), |scope| pseudonym.tag(scope)))
    }

    /// Returns the day before which days of last open were lost; `None` if none ever were.
    pub fn measured_since(&self) -> Option<Day> {
        self.shared.days.look(|table| table.measured_since)
    }

    /// Counts that somebody opened a campaign.
    pub fn count_open(&self, controller: &Controller, mailstream: &str, campaign: Campaign, at: Timestamp) {
        self.shared.days.count(controller.as_str(), mailstream, campaign, Day::of(at));
    }

    /// Returns how often the campaigns of a controller were opened.
    pub fn shared_opens(&self, controller: &Controller) -> Vec<Counted> {
        self.shared.days.look(|table| table.counted(controller.as_str()))
    }

    /// Forgets days and counts of a controller from before a day; returns how many.
    pub fn forget_opens(&self, controller: &Controller, before: Day) -> u64 {
        self.shared.days.expire(controller.as_str(), before)
    }

    /// Returns what makes the tags of a person; `None` if they were erased and have had no mail since.
    pub fn known_pseudonym(&self, person: Person) -> Option<Pseudonym> {
        self.shared.pseudonyms.read().unwrap_or_else(PoisonError::into_inner).of(person)
    }

    /// Writes pending days and counts; the end of a process may not drop the store.
    pub fn flush_opens(&self) {
        self.shared.days.flush();
    }

    /// Returns whether a person was erased, and has had no mail since.
    pub fn is_erased(&self, person: Person) -> bool {
        self.known_pseudonym(person).is_none()
    }
}

impl Shared {
    /// Removes the tags under which a person appears in audit records and in the days of last open, and those
    /// days themselves.
    pub(super) fn unname(&self, person: Person) -> Result<(), StoreError> {
        let mut pseudonyms = self.pseudonyms.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(pseudonym) = pseudonyms.of(person) {
            let removed = self.days.remove(|scope| pseudonym.tag(scope));
            removed.map_err(io_error("the days of last open"))?;
        }
        pseudonyms.erase(person).map_err(io_error("the pseudonyms"))?;
        Ok(())
    }
}
