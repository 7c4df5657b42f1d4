//! Opens that need no consent: what this relay notes, the others are told, so that a reader who is active at one is
//! inactive at none. They travel beside the common order, and are not kept.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Inner, PAUSE, locked};
use crate::consent::ordered::{Open, Opened};
use crate::consent::{Day, StoreError};
use crate::engine::{Delivered, EngineError, Feed, Position};
use crate::message::{Body, Message, fresh_id};

/// How long opens are collected before the others are told.
const GATHERING: Duration = Duration::from_secs(10);
/// The most opens of one message.
const MAX_BATCH: usize = 2000;
/// The most opens that are kept for relays that cannot be told; beyond it, days before count as unknown there.
const MAX_WAITING: usize = 1 << 20;

/// Opens to be told.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    days: BTreeMap<(String, String, [u8; 16]), Day>,
    counts: BTreeMap<(String, String, [u8; 8]), (u64, Day)>,
    is_incomplete: bool,
}

impl Waiting {
    /// Adds an open. Of a person only the last day is kept.
    pub(super) fn add(&mut self, open: Open) {
        if self.days.len() + self.counts.len() >= MAX_WAITING {
            self.is_incomplete = true;
            return;
        }
        match open.what {
            Opened::By(person) => {
                let day = self.days.entry((open.controller, open.mailstream, person.0)).or_insert(open.day);
                *day = open.day.max(*day);
            }
            Opened::Campaign(campaign, more) => {
                let place = self.counts.entry((open.controller, open.mailstream, campaign));
                let (count, day) = place.or_insert((0, open.day));
                (*count, *day) = (count.saturating_add(more), open.day.max(*day));
            }
        }
    }

    /// Takes some out; `None` if there are none.
    fn take(&mut self) -> Option<(Vec<Open>, bool)> {
        let mut opens = Vec::new();
        while opens.len() < MAX_BATCH
            && let Some(((controller, mailstream, person), day)) = self.days.pop_first()
        {
            opens.push(Open {
                controller,
                mailstream,
                what: Opened::By(crate::consent::Person(person)),
                day,
            });
        }
        while opens.len() < MAX_BATCH
            && let Some(((controller, mailstream, campaign), (count, day))) = self.counts.pop_first()
        {
            opens.push(Open { controller, mailstream, what: Opened::Campaign(campaign, count), day });
        }
        let is_incomplete = std::mem::take(&mut self.is_incomplete);
        (!opens.is_empty() || is_incomplete).then_some((opens, is_incomplete))
    }
}

/// The position of the last message of opens that was taken in, in a file.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    position: Position,
}

impl Place {
    pub(super) fn open(path: &Path) -> io::Result<Place> {
        let position = match std::fs::read_to_string(path) {
            Ok(text) => text.trim().parse().map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(Place { path: path.to_owned(), position })
    }

    fn advance(&mut self, position: Position) -> io::Result<()> {
        self.position = position;
        pixelward_files::replace_unsynced(&self.path, format!("{position}\n").as_bytes())
    }
}

impl Inner {
    /// Tells the others of opens, for as long as the relay runs.
    pub(super) async fn tell_opens(&self) {
        loop {
            tokio::time::sleep(GATHERING).await;
            self.tell_waiting_opens().await;
        }
    }

    /// Tells the others of all opens that wait.
    pub(super) async fn tell_waiting_opens(&self) {
        loop {
            let Some((opens, is_incomplete)) = locked(&self.opens).take() else { return };
            let Ok(id) = fresh_id() else { return };
            if let Err(error) = self.publish(id, Body::Opens(opens.clone(), is_incomplete)).await {
                tracing::debug!(%error, "opens could not be told; they are told later");
                let mut waiting = locked(&self.opens);
                opens.into_iter().for_each(|open| waiting.add(open));
                waiting.is_incomplete |= is_incomplete;
                return;
            }
        }
    }

    /// Takes in what the others tell, for as long as the relay runs.
    pub(super) async fn follow_opens(self: Arc<Inner>) {
        loop {
            let from = locked(&self.opens_place).position + 1;
            let ended = match self.engine.follow_opens(from).await {
                Ok(feed) => self.read_opens(feed).await,
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "opens of other relays are not heard");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn read_opens(self: &Arc<Inner>, mut feed: Box<dyn Feed>) -> Result<(), EngineError> {
        loop {
            let delivered = feed.next().await?;
            let inner = Arc::clone(self);
            let taken = tokio::task::spawn_blocking(move || inner.take_opens(&delivered)).await;
            if let Ok(Err(error)) = taken {
                return Err(EngineError::Refused(error.to_string()));
            }
        }
    }

    /// Takes in one message of opens.
    fn take_opens(&self, delivered: &Delivered) -> Result<(), StoreError> {
        let store = self.store()?;
        let mut place = locked(&self.opens_place);
        let opened = Message::open(&delivered.bytes, &self.weeks);
        // A first message that is not the first of all: this relay was new then, and has all before in its file.
        let was_missed = place.position > 0 && delivered.position > place.position + 1;
        match opened {
            Ok(Message { node, body: Body::Opens(opens, is_incomplete), .. }) => {
                if node != self.settings.node {
                    opens.iter().for_each(|open| store.take_open(open));
                    if is_incomplete {
                        self.lose_opens(&store, "another relay could not tell of all opens");
                    }
                }
            }
            Ok(_) | Err(_) => self.lose_opens(&store, "a message of opens cannot be read"),
        }
        if was_missed {
            self.lose_opens(&store, "messages of opens are gone");
        }
        let noted = place.advance(delivered.position);
        noted.map_err(|source| StoreError::Io { what: "the place among the opens".to_owned(), source })
    }

    fn lose_opens(&self, store: &crate::consent::Store, why: &str) {
        tracing::warn!(why, "days of last open count from today on");
        store.lose_opens(Day::of((self.settings.clock)()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::Person;

    fn open(person: u8, day: u16) -> Open {
        let what = Opened::By(Person([person; 16]));
        Open { controller: "shop".to_owned(), mailstream: "news".to_owned(), what, day: Day(day) }
    }

    #[test]
    fn only_the_last_day_of_a_person_is_told() {
        let mut waiting = Waiting::default();
        [open(1, 7), open(1, 9), open(1, 8), open(2, 3)].into_iter().for_each(|open| waiting.add(open));
        for count in [2, 3] {
            let what = Opened::Campaign([1; 8], count);
            waiting.add(Open { what, ..open(0, 5) });
        }
        let (told, is_incomplete) = waiting.take().unwrap();
        let campaign = Open { what: Opened::Campaign([1; 8], 5), ..open(0, 5) };
        assert_eq!((told, is_incomplete), (vec![open(1, 9), open(2, 3), campaign], false));
        assert_eq!(waiting.take(), None);
    }

    #[test]
    fn a_place_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("opens.position");
        let mut place = Place::open(&path).unwrap();
        assert_eq!(place.position, 0);
        place.advance(12).unwrap();
        assert_eq!(Place::open(&path).unwrap().position, 12);
    }
}
