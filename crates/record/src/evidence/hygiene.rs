//! Finds out about people who may no longer read: whether their mail really carried a day pixel, and whether
//! it was rejected.
//!
//! Only people who could be measured can be inactive (N26): those who refused, and those whose mail had no
//! pixel, must not be dropped for it. Rejected mail is a signal that needs no pixel at all (N31).

use std::path::Path;

use super::files::Folder;
use super::record::{Record, Tag};
use super::summary::{FieldKind, Summary};
use crate::chain::{ChainError, Head};
use crate::consent::{Pseudonym, Timestamp};
use crate::policy::Outcome;

/// What the audit records say about one person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// Whether an accepted message carried a day pixel.
    pub carried: bool,
    /// How many messages were rejected permanently (5xx).
    pub bounced: u64,
}

/// Collects what a controller's audit records say about people since a moment, in their order. One pass for
/// all of them; nothing can be said about erased people. `trouble` receives what cannot be read.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn signs(
    directory: &Path,
    controller: &str,
    since: Timestamp,
    people: &[Option<Pseudonym>],
    mut trouble: impl FnMut(ChainError),
) -> Result<Vec<Signs>, ChainError> {
    let mut signs = vec![Signs::default(); people.len()];
    for folder in Folder::all(directory)? {
        for number in folder.segments()? {
            let summary =
                std::fs::read(folder.summary(number)).ok().and_then(|bytes| Summary::decode(&bytes));
            let may_be = |summary: &Summary| {
                summary.last.is_some_and(|last| last >= since)
                    && summary.may_name(FieldKind::Controller, controller)
            };
            if !summary.as_ref().is_none_or(may_be) {
                continue;
            }
            let seen = match seen(&folder, number, controller, since) {
                Ok((seen, damage)) => {
                    damage.into_iter().for_each(&mut trouble);
                    seen
                }
                Err(error) => {
                    trouble(error);
                    continue;
                }
            };
            if seen.is_empty() {
                continue;
            }
            let scope = folder.scope(number);
            for (sign, person) in signs.iter_mut().zip(people) {
                let Some(found) = person.as_ref().and_then(|person| seen.get(&person.tag(&scope))) else {
                    continue;
                };
                sign.carried |= found.carried;
                sign.bounced = sign.bounced.saturating_add(found.bounced);
            }
        }
    }
    Ok(signs)
}

type Seen = std::collections::HashMap<Tag, Signs>;

/// Reads a segment, up to any damage.
fn seen(
    folder: &Folder,
    number: u32,
    controller: &str,
    since: Timestamp,
) -> Result<(Seen, Option<ChainError>), ChainError> {
    let segment = folder.read(number)?;
    let mut head = segment.start().unwrap_or(Head::EMPTY);
    let mut seen = Seen::new();
    let walked = segment.walk(&mut head, |_, payload| {
        let Ok(record) = Record::decode(payload) else { return };
        if record.controller != controller || Timestamp(record.at) < since {
            return;
        }
        let Some(person) = record.person else { return };
        let (carried, bounced) = (carries_day(&record), record.code / 100 == 5);
        if carried || bounced {
            let signs = seen.entry(person).or_default();
            signs.carried |= carried;
            signs.bounced += u64::from(bounced);
        }
    });
    Ok((seen, walked.err()))
}

/// Returns whether a day pixel was really in what the next hop accepted.
fn carries_day(record: &Record<'_>) -> bool {
    record.done == Outcome::SwapDay.name() && record.swapped > 0 && !record.observed && record.code / 100 == 2
}
