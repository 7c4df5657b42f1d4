//! What is read of a message only where it differs from another one, against an analysis of all of it: the second
//! look at an edited message (`tracker::difference`), and the look at the copies of a campaign. For the area
//! `difference` of `areas.rs`, and for `tests/it/difference.rs`.

use std::borrow::Cow;
use std::rc::Rc;

use pixelward::message::transfer::{Edit, apply, normalise};
use pixelward::tracker::{Analysis, Detector, Inquiry, Links, Remedy, Sighting};

/// What is put into a message.
const PIECES: [&str; 44] = [
    "",
    "",
    " ",
    "\r\n",
    "x",
    "<",
    ">",
    "\"",
    "'",
    "=",
    "=3D",
    "=\r\n",
    "&nbsp;",
    "</",
    "<!--",
    "-->",
    "<!--[if mso]>",
    "<![endif]-->",
    "<p>some words</p>",
    "<div style=\"display:none\">",
    "<div hidden>",
    "</div>",
    "</td></tr></table>",
    "<table><tr><td>",
    "<a href=\"https://news.example/\">",
    "</a>",
    "</body></html>",
    "<body>",
    "<style>.x{display:none}</style>",
    "<style>",
    "</style>",
    "<base href=\"https://t.news.example/\">",
    "<div style=\"background:var(--x)\">",
    "<svg><style>",
    "<title>",
    "<textarea>",
    "<picture>",
    "<source srcset=\"https://cdn.news.example/p?e=1 2x\">",
    "</picture>",
    "<img src=\"https://t.news.example/wf/open?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6\" width=1 height=1>",
    "<img src=\"https://t.news.example/wf/open?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6\">",
    "<img src=\"https://cdn.news.example/p?e=ann@home.example&amp;w=1\" width=140 height=40>",
    "<img src=\"https://cdn.news.example/logo.png\" width=140 height=40>",
    "<td background=\"https://t.news.example/o?u=5f2b1c0e9d8a7b6c5d4e3f2a1b0c9d8e\">",
];

/// Numbers that look drawn, the same for the same seed.
pub struct Numbers(u64);

impl Numbers {
    pub fn of(seed: u64) -> Numbers {
        Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or_default() % most.max(1)
    }

    fn edit(&mut self, length: usize) -> Edit {
        let start = self.below(length + 1);
        let most = [1, 8, 80, 800][self.below(4)];
        Edit::replace(start..(start + self.below(most)).min(length), PIECES[self.below(PIECES.len())])
    }
}

/// Edits of a message: of its raw bytes, or of its texts and with some of its sightings taken out.
pub fn edits(raw: &[u8], analysis: &Analysis<'_>, numbers: &mut Numbers) -> Vec<Edit> {
    let how_many = 1 + numbers.below(3);
    let parts = analysis.parts();
    if parts.is_empty() || numbers.below(4) == 0 {
        return normalise((0..how_many).map(|_| numbers.edit(raw.len())).collect());
    }
    let placed: Vec<_> = (0..how_many)
        .map(|_| {
            let part = &parts[numbers.below(parts.len())];
            part.placed(numbers.edit(part.bytes().len()))
        })
        .collect();
    analysis.edits(&placed, |sighting| {
        // A link leads straight on, or elsewhere.
        let mut elsewhere = || sighting.led_to(["https://news.example/a?b=c&d=\"'", "x"][numbers.below(2)]);
        let edit = taken_out(sighting).or_else(|| elsewhere().map(Cow::Owned));
        edit.filter(|_| numbers.below(2) == 0)
    })
}

fn told<'s>(sightings: impl Iterator<Item = &'s Sighting>) -> Vec<String> {
    let mut all: Vec<String> = sightings
        .map(|sighting| {
            let Sighting { carrier, url, signals, verdict, protection, part, .. } = sighting;
            let can_go = sighting.removal().is_some();
            format!("{part} {carrier} {verdict:?} {protection:?} {can_go} {url} {signals:?}")
        })
        .collect();
    all.sort();
    all
}

/// Compares both ways to look at a message after edits; says whether the quick one had an answer.
pub fn has_answer(
    detector: &Detector,
    raw: &[u8],
    analysis: &Analysis<'_>,
    edits: &[Edit],
    inquiry: &Inquiry<'_>,
) -> bool {
    let edited = apply(raw, edits);
    let inquiry = Inquiry { links: Links::Ignore, ..*inquiry };
    let Some(difference) = detector.difference(analysis, edits, &edited, &inquiry) else { return false };
    let whole = detector.analyse(&edited, &inquiry);
    assert!(whole.trouble.is_none(), "a message that cannot be read has no answer");
    assert_eq!(told(difference.sightings()), told(whole.sightings.iter()), "{edits:?}");
    true
}

thread_local! {
    /// Reads what differs, where it has read another copy. Tests beside this one have copies of their own.
    static REMEMBERING: Rc<Detector> = Rc::new(Detector::default().comparing_each_copy(1 << 24));
}

/// Another copy of the same campaign: tokens are others, and in every other copy some are shorter or longer. In one of
/// three, something else differs, too.
pub fn copy(raw: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    const TOKEN: usize = 12;
    let keeps_lengths = numbers.below(2) == 0;
    let mut copy = Vec::with_capacity(raw.len() + 64);
    for run in raw.chunk_by(|one, next| one.is_ascii_alphanumeric() == next.is_ascii_alphanumeric()) {
        let is_token = run.len() >= TOKEN && run.iter().any(u8::is_ascii_digit);
        if !is_token || numbers.below(4) == 0 {
            copy.extend_from_slice(run);
            continue;
        }
        let is_as_long = keeps_lengths || numbers.below(4) > 0;
        let length = if is_as_long { run.len() } else { 1 + numbers.below(2 * run.len()) };
        copy.extend((0..length).map(|_| b"abcdefGHIJ0123456789"[numbers.below(20)]));
    }
    match numbers.below(3) {
        0 => apply(&copy, &[numbers.edit(copy.len())]),
        _ => copy,
    }
}

/// Another copy of a message: what differs in `other` is filled with something else. `None` where that has another
/// length.
fn filled(raw: &[u8], other: &[u8], numbers: &mut Numbers) -> Option<Vec<u8>> {
    if raw.len() != other.len() {
        return None;
    }
    let is_plain = numbers.below(4) > 0;
    let mut another = |(known, there): (&u8, &u8)| match known == there {
        true => *known,
        false if is_plain => b"abcdefGHIJ0123456789"[numbers.below(20)],
        false => b"click-baja_\"&=%/ login0"[numbers.below(23)],
    };
    Some(raw.iter().zip(other).map(&mut another).collect())
}

/// How a copy was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// All of it was read.
    No,
    /// What differs was.
    Like,
    /// It was seen to be one with nothing but its blanks filled.
    Filled,
}

/// Compares both ways to look at copies of a message that was read and edited before, and at those copies after edits:
/// at this one, and at one that differs where another one did. Says how they were read.
pub fn are_known_copies(
    detector: &Detector,
    raw: &[u8],
    copy: &[u8],
    numbers: &mut Numbers,
    inquiry: &Inquiry<'_>,
) -> [Known; 2] {
    let other = self::copy(raw, numbers);
    let how = of_known_copies(detector, &[raw, raw, &other], copy, numbers, inquiry);
    let of_form = filled(raw, &other, numbers).map(|filled| {
        of_known_copies(detector, &[raw, raw, &other, &other, &other], &filled, numbers, inquiry)
    });
    [how, of_form.unwrap_or(Known::No)]
}

/// The same of a copy that comes behind these others.
pub fn of_known_copies(
    detector: &Detector,
    others: &[&[u8]],
    copy: &[u8],
    numbers: &mut Numbers,
    inquiry: &Inquiry<'_>,
) -> Known {
    let remembering = REMEMBERING.with(Rc::clone);
    remembering.forget_copies();
    // Each is edited as it would be: what is noted then is used by the next one.
    for before in others {
        let analysis = remembering.analyse(before, inquiry);
        let edits = emptied(&analysis);
        let inquiry = Inquiry { links: Links::Ignore, ..*inquiry };
        remembering.difference(&analysis, &edits, &apply(before, &edits), &inquiry);
    }
    let (read, filled) = (remembering.copies_read(), remembering.copies_filled());
    let analysis = remembering.analyse(copy, inquiry);
    let is_known = match (remembering.copies_filled() > filled, remembering.copies_read() > read) {
        (true, _) => Known::Filled,
        (false, true) => Known::Like,
        (false, false) => Known::No,
    };
    if is_known != Known::No {
        let whole = detector.analyse(copy, inquiry);
        let told = |analysis: &Analysis<'_>| {
            let Analysis { sightings, opaque_pictures, links, unreadable, seen, trouble, .. } = analysis;
            format!("{sightings:#?} {opaque_pictures} {links} {unreadable} {seen:?} {trouble:?}")
        };
        assert_same(&told(&analysis), &told(&whole));
        let [as_noted, wanted] = [&analysis, &whole].map(|analysis| format!("{:#?}", emptied(analysis)));
        assert_same(&as_noted, &wanted);
        for edits in [emptied(&whole), edits(copy, &whole, numbers)] {
            has_answer(detector, copy, &analysis, &edits, inquiry);
        }
    }
    is_known
}

/// The edits that take out all that can go and unwrap all that can be.
fn emptied(analysis: &Analysis<'_>) -> Vec<Edit> {
    analysis.edits(&[], taken_out)
}

/// The edit that takes out what can go or unwraps what can be.
fn taken_out(sighting: &Sighting) -> Option<Cow<'_, Edit>> {
    sighting.removal().or_else(|| sighting.remedy(Remedy::Unwrap)).map(Cow::Borrowed)
}

/// Shows the lines that differ, which are few of many.
fn assert_same(found: &str, wanted: &str) {
    let differing = found.lines().zip(wanted.lines()).filter(|(found, wanted)| found != wanted);
    let differing: Vec<_> = differing.take(10).collect();
    assert!(found == wanted, "a copy was read wrongly: {differing:#?}");
}
