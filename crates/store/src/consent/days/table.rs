//! The rows and counts in memory, and their frames in the file: length, type, content, and CRC-32 of these.

use std::collections::{BTreeSet, HashMap};

use super::{Campaign, Day, Tag, scope};

/// The maximum number of kinds of mail. Their names come from our own tokens, so there are as many as were
/// ever configured.
const MAX_SCOPES: usize = 4096;
/// The maximum number of counted campaigns of one kind of mail; beyond it, the one that was opened longest
/// ago is dropped.
const MAX_CAMPAIGNS: usize = 10_000;

/// The type of a frame.
const SCOPE: u8 = 1;
const ROW: u8 = 2;
const REMOVED: u8 = 3;
const COUNT: u8 = 4;
const SINCE: u8 = 5;
/// The size of a frame without its content.
const AROUND: usize = 1 + 1 + 4;
/// The size of the frame of a row, and the maximum size of that of a count.
pub(super) const FRAME: usize = AROUND + 2 + 16 + 2;

/// All rows and counts.
#[derive(Debug, Default)]
pub struct Table {
    scopes: Vec<Scope>,
    /// The day since which nothing was lost; `None` if nothing ever was.
    pub measured_since: Option<Day>,
}

/// One kind of mail.
#[derive(Debug)]
struct Scope {
    controller: String,
    mailstream: String,
    rows: HashMap<Tag, Day>,
    counts: HashMap<Campaign, (u64, Day)>,
}

/// How often a campaign was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The kind of mail.
    pub mailstream: String,
    /// The campaign.
    pub campaign: Campaign,
    /// The number of opens.
    pub opens: u64,
    /// The day of the last open.
    pub last: Day,
}

impl Table {
    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.scopes.iter().map(|scope| scope.rows.len()).sum()
    }

    /// Returns whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the newest day of a person in all mail of a controller. `tag` returns the person's tag in a
    /// scope.
    pub fn newest(&self, controller: &str, tag: impl Fn(&[u8]) -> Tag) -> Option<Day> {
        let with_rows =
            self.scopes.iter().filter(|scope| scope.controller == controller && !scope.rows.is_empty());
        with_rows.filter_map(|held| held.rows.get(&tag(&scope(controller, &held.mailstream))).copied()).max()
    }

    /// Returns the counts of a controller, by kind of mail and campaign.
    pub fn counted(&self, controller: &str) -> Vec<Counted> {
        let scopes = self.scopes.iter().filter(|scope| scope.controller == controller);
        let mut all: Vec<Counted> = scopes
            .flat_map(|scope| {
                scope.counts.iter().map(|(campaign, (opens, last))| Counted {
                    mailstream: scope.mailstream.clone(),
                    campaign: *campaign,
                    opens: *opens,
                    last: *last,
                })
            })
            .collect();
        all.sort_by(|one, other| (&one.mailstream, one.campaign).cmp(&(&other.mailstream, other.campaign)));
        all
    }

    /// Returns the number of a kind of mail; `None` if there are too many.
    pub(super) fn place(&mut self, controller: &str, mailstream: &str) -> Option<u16> {
        let is_it = |scope: &Scope| scope.controller == controller && scope.mailstream == mailstream;
        if let Some(known) = self.scopes.iter().position(is_it) {
            return u16::try_from(known).ok();
        }
        if self.scopes.len() >= MAX_SCOPES {
            return None;
        }
        self.scopes.push(Scope {
            controller: controller.to_owned(),
            mailstream: mailstream.to_owned(),
            rows: HashMap::new(),
            counts: HashMap::new(),
        });
        u16::try_from(self.scopes.len() - 1).ok()
    }

    /// Takes in a day; returns whether that changed something.
    pub(super) fn note(&mut self, number: u16, tag: Tag, day: Day) -> bool {
        let Some(scope) = self.scopes.get_mut(usize::from(number)) else { return false };
        match scope.rows.get(&tag) {
            Some(known) if *known >= day => false,
            Some(_) | None => {
                scope.rows.insert(tag, day);
                true
            }
        }
    }

    /// Counts opens; returns whether another campaign was dropped for them.
    pub(super) fn count(&mut self, number: u16, campaign: Campaign, day: Day, more: u64) -> bool {
        let Some(scope) = self.scopes.get_mut(usize::from(number)) else { return false };
        if let Some((opens, last)) = scope.counts.get_mut(&campaign) {
            (*opens, *last) = (opens.saturating_add(more), day.max(*last));
            return false;
        }
        let is_full = scope.counts.len() >= MAX_CAMPAIGNS;
        if is_full {
            let oldest = scope.counts.iter().min_by_key(|(campaign, (_, last))| (*last, **campaign));
            let oldest = oldest.map(|(campaign, _)| *campaign);
            oldest.map(|campaign| scope.counts.remove(&campaign));
        }
        scope.counts.insert(campaign, (more, day));
        is_full
    }

    /// Removes the rows of a person; returns which there were.
    pub(super) fn remove(&mut self, tag: impl Fn(&[u8]) -> Tag) -> Vec<(u16, Tag)> {
        let mut removed = Vec::new();
        for (number, held) in (0..).zip(&mut self.scopes) {
            let tag = tag(&scope(&held.controller, &held.mailstream));
            if held.rows.remove(&tag).is_some() {
                removed.push((number, tag));
            }
        }
        removed
    }

    pub(super) fn expire(&mut self, controller: &str, before: Day) -> u64 {
        let held = |scope: &Scope| scope.rows.len() + scope.counts.len();
        let mut gone = 0;
        for scope in self.scopes.iter_mut().filter(|scope| scope.controller == controller) {
            let had = held(scope);
            scope.rows.retain(|_, day| *day >= before);
            scope.counts.retain(|_, (_, last)| *last >= before);
            gone += had - held(scope);
        }
        gone as u64
    }

    /// Returns how many bytes a file needs for everything.
    pub(super) fn size(&self) -> usize {
        let of = |scope: &Scope| {
            let names = AROUND + 2 + 1 + scope.controller.len() + scope.mailstream.len();
            names + FRAME * (scope.rows.len() + scope.counts.len())
        };
        self.scopes.iter().map(of).sum::<usize>() + AROUND + 2
    }

    /// Returns the frames of everything.
    pub(super) fn frames(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size());
        if let Some(day) = self.measured_since {
            frame(&mut out, SINCE, &[&day.0.to_le_bytes()]);
        }
        for (number, scope) in (0..).zip(&self.scopes) {
            self.name(&mut out, number);
            scope.rows.iter().for_each(|(tag, day)| row(&mut out, number, tag, *day));
            scope.counts.iter().for_each(|(campaign, opens)| count(&mut out, number, campaign, *opens));
        }
        out
    }

    /// Returns the frames of some rows and counts. Each kind of mail is named before them; a repeated name
    /// does no harm.
    pub(super) fn some(&self, rows: &[(u16, Tag, Day)], counts: &BTreeSet<(u16, Campaign)>) -> Vec<u8> {
        let mut out = Vec::new();
        let scopes: BTreeSet<u16> =
            rows.iter().map(|row| row.0).chain(counts.iter().map(|count| count.0)).collect();
        scopes.iter().for_each(|number| self.name(&mut out, *number));
        rows.iter().for_each(|(number, tag, day)| row(&mut out, *number, tag, *day));
        for (number, campaign) in counts {
            let known = self.scopes.get(usize::from(*number)).and_then(|scope| scope.counts.get(campaign));
            known.iter().for_each(|opens| count(&mut out, *number, campaign, **opens));
        }
        out
    }

    /// Returns the frames that remove rows. Their kinds of mail are named before them: those rows may never
    /// have been written.
    pub(super) fn gone(&self, rows: &[(u16, Tag)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, tag) in rows {
            self.name(&mut out, *number);
            frame(&mut out, REMOVED, &[&number.to_le_bytes(), tag]);
        }
        out
    }

    fn name(&self, out: &mut Vec<u8>, number: u16) {
        let Some(scope) = self.scopes.get(usize::from(number)) else { return };
        let length = u8::try_from(scope.controller.len()).unwrap_or(0);
        let names = [&[length], scope.controller.as_bytes(), scope.mailstream.as_bytes()].concat();
        frame(out, SCOPE, &[&number.to_le_bytes(), &names]);
    }

    /// Takes in the frame at the beginning of `bytes`; returns its length, `None` if there is no complete
    /// one.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Option<usize> {
        let content = Table::frame(bytes)?;
        let length = content.len();
        let (&kind, content) = content.split_first()?;
        let (number, content) = content.split_first_chunk::<2>()?;
        self.read(kind, u16::from_le_bytes(*number), content)?;
        Some(length + 5)
    }

    /// Returns the content of the frame at the beginning of `bytes`; `None` if there is no complete one.
    pub(super) fn frame(bytes: &[u8]) -> Option<&[u8]> {
        let (&length, rest) = bytes.split_first()?;
        let (content, rest) = rest.split_at_checked(usize::from(length))?;
        let (crc, _) = rest.split_first_chunk::<4>()?;
        let is_whole = content.len() > 2 && crc32fast::hash(content) == u32::from_le_bytes(*crc);
        is_whole.then_some(content)
    }

    fn read(&mut self, kind: u8, number: u16, content: &[u8]) -> Option<()> {
        match kind {
            SCOPE => {
                let (&length, names) = content.split_first()?;
                let (controller, mailstream) = names.split_at_checked(usize::from(length))?;
                let [controller, mailstream] =
                    [controller, mailstream].map(|name| std::str::from_utf8(name).ok());
                (self.place(controller?, mailstream?)? == number).then_some(())
            }
            ROW => {
                let (tag, day) = content.split_first_chunk::<16>()?;
                let day = Day(u16::from_le_bytes(day.try_into().ok()?));
                self.scopes.get_mut(usize::from(number))?.rows.insert(*tag, day);
                Some(())
            }
            REMOVED => {
                self.scopes.get_mut(usize::from(number))?.rows.remove(content.first_chunk::<16>()?);
                Some(())
            }
            SINCE => {
                self.measured_since = self.measured_since.max(Some(Day(number)));
                Some(())
            }
            COUNT => {
                let (campaign, rest) = content.split_first_chunk::<8>()?;
                let (opens, last) = rest.split_first_chunk::<8>()?;
                let last = Day(u16::from_le_bytes(last.try_into().ok()?));
                let counts = &mut self.scopes.get_mut(usize::from(number))?.counts;
                counts.insert(*campaign, (u64::from_le_bytes(*opens), last));
                Some(())
            }
            _ => None,
        }
    }
}

fn row(out: &mut Vec<u8>, number: u16, tag: &Tag, day: Day) {
    frame(out, ROW, &[&number.to_le_bytes(), tag, &day.0.to_le_bytes()]);
}

fn count(out: &mut Vec<u8>, number: u16, campaign: &Campaign, (opens, last): (u64, Day)) {
    frame(out, COUNT, &[&number.to_le_bytes(), campaign, &opens.to_le_bytes(), &last.0.to_le_bytes()]);
}

fn frame(out: &mut Vec<u8>, kind: u8, pieces: &[&[u8]]) {
    let length = 1 + pieces.iter().map(|piece| piece.len()).sum::<usize>();
    // The longest has two names of 64 bytes.
    out.push(u8::try_from(length).unwrap_or(u8::MAX));
    let start = out.len();
    out.push(kind);
    pieces.iter().for_each(|piece| out.extend_from_slice(piece));
    let crc = crc32fast::hash(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&crc.to_le_bytes());
}
