//! The last refusals, kept in memory while records are written: a search through all records would take too
//! long for a page that is looked at every few seconds.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::record::Record;
use crate::consent::Timestamp;

/// How many are kept.
const MOST: usize = 50;

/// A reply with which mail to some recipients of a message was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// When it was decided what to do with the message.
    pub at: Timestamp,
    /// The relay's id of the message.
    pub id: String,
    /// The controller.
    pub controller: String,
    /// The mailstream.
    pub mailstream: String,
    /// The next hops of its route.
    pub route: String,
    /// Whether the message was there, so that something could be decided.
    pub is_received: bool,
    /// The result: `deferred` or `rejected`.
    pub result: String,
    /// The code of the reply.
    pub code: u16,
    /// Its enhanced status code; empty in records of earlier versions.
    pub status: String,
    /// How many recipients heard it.
    pub recipients: u64,
}

/// The last refusals, for the writer and those who ask.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<Mutex<VecDeque<Refused>>>);

impl Refusals {
    /// Takes in a record, if it is one of a refusal. Recipients of a message who heard the same count
    /// together.
    pub fn take(&self, record: &Record<'_>) {
        if record.code / 100 < 4 {
            return;
        }
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let status = record.status.as_deref().unwrap_or_default();
        let is_same = |known: &&mut Refused| {
            known.id == record.id && known.code == record.code && known.status == status
        };
        if let Some(known) = last.iter_mut().rev().find(is_same) {
            known.recipients += 1;
            return;
        }
        if last.len() >= MOST {
            last.pop_front();
        }
        last.push_back(Refused {
            at: Timestamp(record.at),
            id: record.id.to_string(),
            controller: record.controller.to_string(),
            mailstream: record.mailstream.to_string(),
            route: record.route.to_string(),
            is_received: record.rule != super::note::NOT_RECEIVED,
            result: record.result.to_string(),
            code: record.code,
            status: status.to_owned(),
            recipients: 1,
        });
    }

    /// Returns them, newest first.
    pub fn newest(&self) -> Vec<Refused> {
        let mut all: Vec<Refused> =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        all.sort_by_key(|refused| std::cmp::Reverse(refused.at));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_who_heard_the_same_count_together_and_the_oldest_go() {
        let refusals = Refusals::default();
        for number in 0..60u16 {
            for code in [250, 550, 550, 451] {
                let id = format!("id{number}");
                let at = i64::from(number);
                refusals.take(&Record { id: id.into(), at, code, ..Record::default() });
            }
        }
        let all = refusals.newest();
        assert_eq!(all.len(), MOST);
        let first: Vec<_> =
            all.iter().take(2).map(|one| (one.id.as_str(), one.code, one.recipients)).collect();
        assert_eq!(first, [("id59", 550, 2), ("id59", 451, 1)]);
        assert_eq!(all[MOST - 1].id, "id35");
    }
}
