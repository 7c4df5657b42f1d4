//! Finds audit records. Segments whose summaries rule out a match are not opened.

use std::path::Path;

use memchr::memmem::Finder;

use super::files::Folder;
use super::headline::Headline;
use super::record::{Record, Tag};
use super::summary::{FieldKind, Summary};
use crate::chain::{ChainError, ChainHash, Head, Link};
use crate::consent::{Pseudonym, Timestamp};

/// A query; a criterion that is not set matches everything.
#[derive(Debug, Default)]
pub struct Query {
    /// The recipient.
    pub person: Option<Pseudonym>,
    /// The keyed hash of the Message-ID.
    pub message_id: Option<Tag>,
    /// The relay's id of the message.
    pub id: Option<String>,
    /// The next hop's id of it.
    pub queue_id: Option<String>,
    /// The earliest time.
    pub since: Option<Timestamp>,
    /// The time before which records were made.
    pub until: Option<Timestamp>,
    /// The controller.
    pub controller: Option<String>,
    /// The mailstream.
    pub mailstream: Option<String>,
    /// The outcome that was decided or done.
    pub outcome: Option<String>,
    /// The vendor of a tracker that was found, ignoring case.
    pub vendor: Option<String>,
    /// The campaign.
    pub campaign: Option<String>,
}

/// A matching record, with its place in the chain.
#[derive(Clone, Debug)]
pub struct Found {
    /// The chain: for how many days it is kept.
    pub days: u16,
    /// The number of the segment.
    pub segment: u32,
    /// The link.
    pub link: Link,
    /// The contents.
    pub record: Record<'static>,
}

impl Found {
    /// Opens the subject and the Message-ID for this recipient; `None` if the record has none, or is about
    /// somebody else.
    pub fn headline(&self, pseudonym: &Pseudonym) -> Option<Headline> {
        let folder = Folder::of(Path::new(""), self.days);
        let sealed = self.record.headline.as_deref()?;
        Headline::opened(sealed, pseudonym, &folder.scope(self.segment), &self.record.id)
    }
}

/// Statistics of a search.
#[derive(Debug, Default)]
pub struct Looked {
    /// Segments that were opened.
    pub opened: usize,
    /// Segments that their summaries ruled out.
    pub passed_over: usize,
    /// What could not be read.
    pub troubles: Vec<ChainError>,
}

/// The order of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    Oldest,
    /// Newest first.
    Newest,
}

impl Query {
    /// Returns whether a segment may contain a match.
    fn may_be_in(&self, summary: &Summary, person: Option<&Tag>) -> bool {
        let names = [
            (FieldKind::Controller, &self.controller),
            (FieldKind::Mailstream, &self.mailstream),
            (FieldKind::Outcome, &self.outcome),
        ];
        person.is_none_or(|tag| summary.may_have(tag))
            && self.message_id.as_ref().is_none_or(|tag| summary.may_have(tag))
            && self.since.is_none_or(|since| summary.last.is_some_and(|last| last >= since))
            && self.until.is_none_or(|until| summary.first.is_some_and(|first| first < until))
            && names
                .into_iter()
                .all(|(kind, name)| name.as_ref().is_none_or(|name| summary.may_name(kind, name)))
            && self.vendor.as_ref().is_none_or(|vendor| summary.may_name_vendor(vendor))
    }

    /// Returns whether a record matches. `person` is the tag in its segment.
    fn fits(&self, record: &Record<'_>, person: Option<&Tag>) -> bool {
        let at = Timestamp(record.at);
        let is = |wanted: &Option<String>, text: &str| wanted.as_ref().is_none_or(|wanted| wanted == text);
        person.is_none_or(|tag| record.person.as_ref() == Some(tag))
            && self.message_id.is_none_or(|tag| record.message_id == Some(tag))
            && self.since.is_none_or(|since| at >= since)
            && self.until.is_none_or(|until| at < until)
            && is(&self.id, &record.id)
            && is(&self.queue_id, record.queue_id.as_deref().unwrap_or_default())
            && is(&self.controller, &record.controller)
            && is(&self.mailstream, &record.mailstream)
            && is(&self.campaign, record.campaign.as_deref().unwrap_or_default())
            && (is(&self.outcome, &record.decided) || is(&self.outcome, &record.done))
            && self.vendor.as_ref().is_none_or(|vendor| {
                record.sightings.iter().any(|sighting| sighting.vendor.eq_ignore_ascii_case(vendor))
            })
    }
}

/// Passes matching records to `each`, chain by chain and segment by segment, in the requested order; within a
/// segment the oldest is first. `each` gets those of one segment and returns whether to continue with the
/// chain.
///
/// # Errors
///
/// When the directory cannot be read. Other unreadable parts are listed in the result.
pub fn look(
    directory: &Path,
    query: &Query,
    order: Order,
    mut each: impl FnMut(Vec<Found>) -> bool,
) -> Result<Looked, ChainError> {
    let mut looked = Looked::default();
    for folder in Folder::all(directory)? {
        let mut segments = folder.segments()?;
        if order == Order::Newest {
            segments.reverse();
        }
        for number in segments {
            let tag = query.person.as_ref().map(|person| person.tag(&folder.scope(number)));
            let summary =
                std::fs::read(folder.summary(number)).ok().and_then(|bytes| Summary::decode(&bytes));
            if summary.is_some_and(|summary| !query.may_be_in(&summary, tag.as_ref())) {
                looked.passed_over += 1;
                continue;
            }
            looked.opened += 1;
            match fitting(&folder, number, query, tag.as_ref()) {
                Ok((found, trouble)) => {
                    looked.troubles.extend(trouble);
                    if !each(found) {
                        break;
                    }
                }
                Err(trouble) => looked.troubles.push(trouble),
            }
        }
    }
    Ok(looked)
}

/// Returns the bytes that a matching record must contain: most records need not be decoded then.
fn needles<'a>(query: &'a Query, tag: Option<&'a Tag>) -> Vec<Finder<'a>> {
    let tags = [tag, query.message_id.as_ref()].into_iter().flatten().map(|tag| &tag[..]);
    let texts = [&query.id, &query.queue_id, &query.mailstream, &query.campaign];
    let texts = texts.into_iter().flatten().map(|name| name.as_bytes());
    tags.chain(texts).map(Finder::new).collect()
}

/// Returns the matching records of a segment, up to any damage. Only their own links in the chain are
/// checked; `verify` checks the whole.
fn fitting(
    folder: &Folder,
    number: u32,
    query: &Query,
    tag: Option<&Tag>,
) -> Result<(Vec<Found>, Option<ChainError>), ChainError> {
    let segment = folder.read(number)?;
    let mut head = segment.start().unwrap_or(Head::EMPTY);
    let mut before: ChainHash = head.hash;
    let mut found = Vec::new();
    let mut forged = None;
    let needles = needles(query, tag);
    let walked = segment.skim(&mut head, |head, place, payload| {
        let may_fit = needles.iter().all(|needle| needle.find(payload).is_some());
        let record = may_fit.then(|| Record::decode(payload).ok()).flatten();
        if let Some(record) = record.filter(|record| query.fits(record, tag)) {
            let link = Link { number: head.count, before, payload: payload.to_vec(), hash: head.hash };
            match link.is_sound() {
                true => found.push(Found { days: folder.days, segment: number, link, record }),
                false => forged = forged.or(Some(place)),
            }
        }
        before = head.hash;
    });
    let forged = forged.map(|place| ChainError::Damaged {
        path: segment.path.clone(),
        offset: place.into(),
        what: "a record does not match its hash",
    });
    Ok((found, walked.err().or(forged)))
}

/// Returns the newest matching records, newest first, at most `limit`.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn newest(directory: &Path, query: &Query, limit: usize) -> Result<(Vec<Found>, Looked), ChainError> {
    let mut all = Vec::new();
    let (mut chain, mut of_chain) = (None, 0);
    let looked = look(directory, query, Order::Newest, |found| {
        let days = found.first().map(|found| found.days);
        if days.is_some() && days != chain {
            (chain, of_chain) = (days, 0);
        }
        of_chain += found.len();
        all.extend(found);
        // Memory stays bounded by the limit and one segment.
        keep_newest(&mut all, limit);
        of_chain < limit
    })?;
    Ok((all, looked))
}

fn keep_newest(found: &mut Vec<Found>, limit: usize) {
    found.sort_by_key(|found| std::cmp::Reverse((found.record.at, found.link.number)));
    found.truncate(limit);
}
