//! Verifies all audit records: each chain from its beginning, its summaries, and its end at the second place.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::Settings;
use super::export::Claim;
use super::files::{Folder, Segment};
use super::log::head_copy;
use super::record::Record;
use super::summary::{Gathering, Summary};
use crate::chain::segment::End;
use crate::chain::{ChainError, ChainHash, Head, read_head};

/// The result.
#[derive(Debug, Default, Serialize)]
pub struct Verified {
    /// The chains.
    pub chains: Vec<Chain>,
    /// Everything that does not match, in words.
    pub problems: Vec<String>,
}

/// A chain.
#[derive(Debug, Serialize)]
pub struct Chain {
    /// For how many days it is kept.
    pub days: u16,
    /// Its segments.
    pub segments: usize,
    /// How many expired records were deleted.
    pub deleted: u64,
    /// The number of its last record.
    pub records: u64,
    /// The chain's hash up to the last one, in hexadecimal.
    pub hash: String,
}

/// How often a chain is read again if something is deleted meanwhile.
const ATTEMPTS: u32 = 3;

/// Verifies everything.
///
/// # Errors
///
/// When the directory cannot be read. Damage is listed in the result.
pub fn verify(settings: &Settings) -> Result<Verified, ChainError> {
    let mut verified = Verified::default();
    for folder in Folder::all(&settings.directory)? {
        for attempt in 1..=ATTEMPTS {
            let kept_from = folder.kept_from()?;
            let mut problems = Vec::new();
            let looked = chain(&folder, settings, kept_from, &mut problems);
            // An expired segment that was deleted meanwhile is not damage.
            if attempt < ATTEMPTS && folder.kept_from()? != kept_from {
                continue;
            }
            verified.problems.append(&mut problems);
            match looked {
                Ok(chain) => verified.chains.push(chain),
                Err(error) => verified.problems.push(error.to_string()),
            }
            break;
        }
    }
    Ok(verified)
}

fn chain(
    folder: &Folder,
    settings: &Settings,
    start: Head,
    problems: &mut Vec<String>,
) -> Result<Chain, ChainError> {
    // The known end is read first, because a running relay continues.
    let known = head_copy(folder, settings).map(|path| read_head(&path)).transpose()?.flatten();
    let mut way = Way { head: start, known, is_known: known.is_none_or(|known| known.count <= start.count) };
    let segments = folder.segments()?;
    let mut expected = segments.first().copied().unwrap_or(1);
    let mut is_whole = true;
    for number in &segments {
        if *number != expected {
            problems.push(format!("{}: segment {expected} is missing", folder.path.display()));
            is_whole = false;
        }
        expected = number + 1;
        let before = problems.len();
        match folder.read(*number) {
            Ok(segment) => {
                // One fault is not reported again for all later segments.
                way.head = segment.start().filter(|_| !is_whole).unwrap_or(way.head);
                let is_last = segments.last() == Some(number);
                way.through(folder, *number, &segment, is_last, problems);
            }
            Err(error) => problems.push(error.to_string()),
        }
        is_whole = problems.len() == before;
    }
    if let (Some(known), false) = (known, way.is_known) {
        problems.push(format!(
            "{}: it once had {} records and ends with {}, or they were different",
            folder.path.display(),
            known.count,
            way.head.count
        ));
    }
    Ok(Chain {
        days: folder.days,
        segments: segments.len(),
        deleted: start.count,
        records: way.head.count,
        hash: hex::encode(way.head.hash),
    })
}

/// The progress through a chain.
struct Way {
    head: Head,
    known: Option<Head>,
    /// Whether the known end was seen.
    is_known: bool,
}

impl Way {
    /// Walks through one segment.
    fn through(
        &mut self,
        folder: &Folder,
        number: u32,
        segment: &Segment,
        is_last: bool,
        problems: &mut Vec<String>,
    ) {
        let mut gathering = Gathering::default();
        let Way { head, known, is_known } = self;
        let walked = segment.walk(head, |head, payload| {
            *is_known |= *known == Some(*head);
            match Record::decode(payload) {
                Ok(record) => gathering.take(&record),
                Err(error) => problems.push(format!("record {}: {error}", head.count)),
            }
        });
        match walked {
            Ok(End::Whole) => {}
            // A record that is being written is incomplete.
            Ok(End::Torn { .. }) if is_last => {}
            Ok(End::Torn { offset, .. }) => {
                problems
                    .push(format!("{}: it ends within a record at byte {offset}", segment.path.display()));
            }
            Err(error) => problems.push(error.to_string()),
        }
        let file = folder.summary(number);
        if let Ok(bytes) = std::fs::read(&file)
            && Summary::decode(&bytes) != Some(gathering.done())
        {
            problems.push(format!("{}: does not match its segment", file.display()));
        }
    }
}

/// The lines that claim records of a segment, by number and hash.
type Claimed = HashMap<(u64, ChainHash), Vec<usize>>;

/// Finds the lines of an export that do not prove what they say, or that are not in the chain.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn differing<'a>(
    settings: &Settings,
    lines: impl Iterator<Item = (usize, &'a str)>,
) -> Result<Vec<usize>, ChainError> {
    let mut wrong = Vec::new();
    let mut claimed: BTreeMap<(u16, u32), Claimed> = BTreeMap::new();
    for (line, text) in lines {
        let claim = serde_json::from_str::<Claim>(text).ok();
        match claim.as_ref().and_then(|claim| Some((&claim.proof, claim.link()?))) {
            Some((proof, link)) => {
                let segment = claimed.entry((proof.chain, proof.segment)).or_default();
                segment.entry((link.number, link.hash)).or_default().push(line);
            }
            None => wrong.push(line),
        }
    }
    for ((days, number), mut links) in claimed {
        let folder = Folder::of(&settings.directory, days);
        if let Ok(segment) = folder.read(number) {
            let mut head = segment.start().unwrap_or(Head::EMPTY);
            // What comes before damage counts.
            let _ = segment.walk(&mut head, |head, _| drop(links.remove(&(head.count, head.hash))));
        }
        wrong.extend(links.into_values().flatten());
    }
    wrong.sort_unstable();
    Ok(wrong)
}
