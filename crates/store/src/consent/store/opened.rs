//! Opens that need no consent: the day of a person's last one, and how often all readers together opened a
//! campaign.

use std::sync::PoisonError;

use super::{Shared, Store, StoreError, io_error};
use crate::consent::days::{Campaign, Counted, Day, scope};
use crate::consent::ordered::{Open, Opened};
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
        let day = Day::of(at);
        let is_noted = self.shared.note_open(controller.as_str(), mailstream, person, day);
        if is_noted {
            self.tell(controller, mailstream, Opened::By(person), day);
        }
        is_noted
    }

    /// Tells other relays of an open, if there are any.
    fn tell(&self, controller: &Controller, mailstream: &str, what: Opened, day: Day) {
        if let Some(order) = self.shared.order.get() {
            let (controller, mailstream) = (controller.to_string(), mailstream.to_owned());
            order.opened(Open { controller, mailstream, what, day });
        }
    }

    /// Takes in an open of which another relay tells.
    pub fn take_open(&self, open: &Open) {
        match open.what {
            Opened::By(person) => {
                self.shared.note_open(&open.controller, &open.mailstream, person, open.day);
            }
            Opened::Campaign(campaign, opens) => {
                self.shared.days.count(&open.controller, &open.mailstream, campaign, open.day, opens);
            }
        }
    }

    /// Notes that opens of which other relays told were missed: days count from this one on.
    pub fn lose_opens(&self, since: Day) {
        self.shared.days.lose(since);
    }

    /// Returns the day on which a person last opened mail of a controller.
    pub fn last_open(&self, controller: &Controller, person: Person) -> Option<Day> {
        let pseudonym = self.known_pseudonym(person)?;
        self.shared.days.look(|table| table.newest(controller.as_str(), |scope| pseudonym.tag(scope)))
    }

    /// Returns the day before which days of last open were lost; `None` if none ever were. While other relays
    /// cannot be heard, nothing is known of any day.
    pub fn measured_since(&self) -> Option<Day> {
        if self.shared.order.get().is_some_and(|order| !order.is_fresh()) {
            return Some(Day(u16::MAX));
        }
        self.shared.days.look(|table| table.measured_since)
    }

    /// Counts that somebody opened a campaign.
    pub fn count_open(&self, controller: &Controller, mailstream: &str, campaign: Campaign, at: Timestamp) {
        let day = Day::of(at);
        self.shared.days.count(controller.as_str(), mailstream, campaign, day, 1);
        self.tell(controller, mailstream, Opened::Campaign(campaign, 1), day);
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
    /// Notes an open; returns whether there is anybody to note it for.
    fn note_open(&self, controller: &str, mailstream: &str, person: Person, day: Day) -> bool {
        // Held until the row is written, so that none comes back after an erasure.
        let pseudonyms = self.pseudonyms.read().unwrap_or_else(PoisonError::into_inner);
        let Some(pseudonym) = pseudonyms.of(person) else { return false };
        self.days.note(controller, mailstream, pseudonym.tag(&scope(controller, mailstream)), day);
        true
    }

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
