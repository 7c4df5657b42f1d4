//! What two texts differ in.

use crate::message::transfer::Edit;
use crate::same;

/// The most changes that lead from one text to another.
const MAX_CHANGES: usize = 512;
/// How many bytes must be the same for two texts to be taken to go on together.
const SAME: usize = 16;
/// How far is looked for where they do.
const REACH: usize = 512;

/// The changes that lead from one text to another: sorted, not overlapping. `None` where they are too many, or too
/// much differs, or what follows stands somewhere else more than `most_shifts` times.
pub(super) fn changes(old: &[u8], new: &[u8], most_shifts: usize) -> Option<Vec<Edit>> {
    let most = old.len().min(new.len()) / 4;
    let (mut changes, mut differing, mut shifts) = (Vec::new(), 0, most_shifts);
    let (mut left, mut there) = (old, new);
    loop {
        let same = same::at_start(left, there);
        (left, there) = (left.get(same..)?, there.get(same..)?);
        if left.is_empty() && there.is_empty() {
            return Some(changes);
        }
        let (before, behind) = meeting(left, there, &mut shifts)?;
        let start = old.len() - left.len();
        changes.push(Edit::replace(start..start + before, there.get(..behind)?));
        differing += before + behind;
        if changes.len() > MAX_CHANGES || differing > most {
            return None;
        }
        (left, there) = (left.get(before..)?, there.get(behind..)?);
    }
}

/// How many bytes of each text differ before they go on together; `shifts` says how often that may still be somewhere
/// else.
fn meeting(one: &[u8], other: &[u8], shifts: &mut usize) -> Option<(usize, usize)> {
    let both = one.len().min(other.len()).saturating_sub(SAME).min(REACH);
    // Most often, something of the same length stands there.
    if let Some(length) =
        (1..=both).find(|start| one.get(*start..start + SAME) == other.get(*start..start + SAME))
    {
        return Some((length, length));
    }
    *shifts = shifts.checked_sub(1)?;
    let near = other.get(..other.len().min(REACH + SAME))?;
    let shifted = (0..REACH)
        .step_by(SAME)
        .find_map(|start| Some((start, memchr::memmem::find(near, one.get(start..start + SAME)?)?)));
    if let Some((before, behind)) = shifted {
        let ends = one.get(..before)?.iter().rev().zip(other.get(..behind)?.iter().rev());
        let same = ends.take_while(|(one, other)| one == other).count();
        return Some((before - same, behind - same));
    }
    // Nothing need follow at the end of both.
    (one.len().max(other.len()) <= REACH).then_some((one.len(), other.len()))
}
