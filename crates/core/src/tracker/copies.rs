//! The texts of the last copies of each campaign, with what a pass over them left behind: of the next copy, only
//! what differs is read.
//!
//! Promised: what is found is what a pass over all of it finds (`scan::trail`), and memory is bounded. A text is kept
//! only once two copies of its campaign had to be read as a whole, and is not told to anybody.

mod comparison;
pub(super) mod form;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::analysis::Detector;
use super::campaign::Key;
use super::catalogue::Catalogue;
use super::scan::trail::Trail;
use super::scan::{self, Extent, Links};
use crate::message::text::Original;
use crate::message::transfer::Edit;
use crate::message::{Leaf, Text};
use comparison::changes;
use form::Form;

/// Shorter texts are read about as quickly as compared, and longer ones are no campaign's.
const LENGTHS: std::ops::RangeInclusive<usize> = 2048..=1 << 20;
/// How many texts are kept of one part of a campaign, and so how many a copy is compared with.
const MODELS: usize = 2;
/// How many parts of campaigns are remembered at most.
const MAX_PARTS: usize = 1024;
/// How long a part is remembered that no copy comes of.
const MAX_AGE: Duration = Duration::from_secs(600);
/// How many copies are read as a whole before one is compared again, where that brought nothing.
const REST: u8 = 16;
/// How many copies in a row may be unlike those before.
const UNLIKE: u8 = 4;
/// About how many tags are read in the time that a change takes which is no other token of a link.
const TAGS_PER_CHANGE: usize = 4;
/// About how many tags are read in the time that the comparison takes.
const TAGS_PER_TEXT: usize = 64;
/// How many copies are asked for the blanks of a model.
const CHANCES: u8 = 3;
/// How often that may be somewhere else in the one text than in the other, which takes longer to be found.
const MAX_SHIFTS: usize = 128;
/// The same for what is not decoded yet: lines that are filled anew differ up to the end of their paragraph.
const MAX_SHIFTS_OF_LINES: usize = 16;

/// Which text it is, and what is looked for in it. Only an answer to the same question can be used again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) campaign: Key,
    /// The number of the leaf.
    pub(super) leaf: usize,
    pub(super) base: Option<String>,
    pub(super) extent: Extent,
    pub(super) links: Links,
}

/// A text that was read as a whole.
#[derive(Debug)]
pub(super) struct Model {
    text: Original,
    /// With what was found, before anything of it was weighed.
    trail: Trail,
}

/// A model, and what became of it.
#[derive(Debug)]
pub(super) struct Sample {
    model: Arc<Model>,
    /// The same with blanks, once a copy has shown them. It keeps the model, and never this.
    form: OnceLock<Arc<Form>>,
    /// How many copies may still be asked for that.
    chances: AtomicU8,
}

impl Sample {
    fn of(text: Original, trail: Trail) -> Sample {
        let model = Arc::new(Model { text, trail });
        Sample { model, form: OnceLock::new(), chances: AtomicU8::new(CHANCES) }
    }
}

impl Model {
    /// About the most bytes that it takes, with its form.
    fn size(&self) -> usize {
        self.text.size() + self.trail.size() + self.room()
    }

    /// The most bytes that the form may take.
    fn room(&self) -> usize {
        4 * self.text.bytes().len()
    }
}

/// What came of looking for a model.
#[derive(Debug)]
pub(super) enum Found {
    /// The text is one with its blanks filled.
    Filled(Arc<Form>),
    /// The text is like one.
    Like(Likeness),
    /// It is like none, and may become one.
    Unlike,
    /// It takes less time to read it as a whole.
    NotWorthIt,
}

/// A model for a text, and the changes that lead to it.
#[derive(Debug)]
pub(super) struct Likeness {
    sample: Arc<Sample>,
    changes: Vec<Edit>,
}

impl Likeness {
    /// How many changes there are for which something must be read, as far as that is known before: most links of most
    /// copies have tokens of their own, of which little is read.
    fn to_read(&self) -> usize {
        self.changes.len().saturating_sub(self.sample.model.trail.links())
    }
}

impl Found {
    /// What a pass finds in the text, and the trail of that pass. `None` where all of it must be read.
    pub(super) fn read<'t>(
        &'t self,
        text: &'t [u8],
        inquiry: (Option<&str>, Extent, Links),
    ) -> Option<(scan::Found<'t>, Trail)> {
        match self {
            Found::Like(like) => like.sample.model.trail.copy(text, &like.changes, inquiry),
            Found::Filled(_) | Found::Unlike | Found::NotWorthIt => None,
        }
    }

    /// Has the model become a form, if this copy of it, which was read, shows its blanks.
    pub(super) fn show_blanks(
        &self,
        detector: &Detector,
        leaf: &Leaf,
        inquiry: (Option<&str>, Extent, Links),
    ) {
        let Found::Like(Likeness { sample, changes }) = self else { return };
        let takes = |left: u8| left.checked_sub(1);
        let is_asked = sample.form.get().is_none()
            && sample.chances.fetch_update(Ordering::Relaxed, Ordering::Relaxed, takes).is_ok();
        if is_asked && let Some(form) = Form::of(detector, &sample.model, changes, leaf, inquiry) {
            let _ = sample.form.set(Arc::new(form));
        }
    }

    /// Whether the text is worth to be kept.
    pub(super) fn is_new(&self) -> bool {
        matches!(self, Found::Unlike)
    }
}

/// What is kept of one part of a campaign.
#[derive(Debug)]
struct Part {
    samples: Vec<Arc<Sample>>,
    used: Instant,
    /// How many copies in a row were unlike all models.
    unlike: u8,
    /// How many copies are still read as a whole without a comparison.
    rest: u8,
    /// How many copies are still compared as texts alone: their lines are filled anew.
    refilled: u8,
}

impl Part {
    /// About the most bytes that it takes.
    fn size(&self) -> usize {
        self.samples.iter().map(|sample| sample.model.size()).sum()
    }
}

#[derive(Debug, Default)]
struct Kept {
    parts: HashMap<Question, Part>,
    bytes: usize,
}

/// The texts that are kept.
#[derive(Debug, Default)]
pub(super) struct Copies {
    kept: Mutex<Kept>,
    /// The most bytes that they take; 0 if none are kept.
    most: usize,
    /// Whether a copy is compared even if that takes longer than to read it as a whole.
    compares_each: bool,
    read: AtomicU64,
    filled: AtomicU64,
}

impl Copies {
    /// Keeps texts of so many bytes.
    pub(super) fn of(most: usize) -> Copies {
        Copies { most, ..Copies::default() }
    }

    /// The same, and compares each copy.
    pub(super) fn comparing_each(most: usize) -> Copies {
        Copies { compares_each: true, ..Copies::of(most) }
    }

    pub(super) fn forget(&self) {
        *self.kept() = Kept::default();
    }

    /// Whether the text of a leaf is one of which copies are looked for.
    pub(super) fn take(&self, leaf: &Leaf) -> bool {
        self.most > 0 && LENGTHS.contains(&leaf.body.len())
    }

    /// How many texts were read by what they differ in.
    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// How many of them were forms with their blanks filled.
    pub(super) fn filled(&self) -> u64 {
        self.filled.load(Ordering::Relaxed)
    }

    pub(super) fn count_filled(&self) {
        self.count();
        self.filled.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count(&self) {
        self.read.fetch_add(1, Ordering::Relaxed);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Whoever panicked left whole texts behind.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The text of a leaf of the message `raw`, and what it is like.
    pub(super) fn text_of<'a>(
        &self,
        question: &Question,
        raw: &'a [u8],
        leaf: &Leaf,
        catalogue: &Catalogue,
    ) -> (Text<'a>, Found) {
        let (samples, compares_lines, was_unlike) = {
            let mut kept = self.kept();
            let Some(part) = kept.parts.get_mut(question) else {
                return (Text::new(raw, leaf), Found::Unlike);
            };
            part.used = Instant::now();
            if part.rest > 0 {
                part.rest -= 1;
                return (Text::new(raw, leaf), Found::NotWorthIt);
            }
            let compares_lines = part.refilled == 0;
            part.refilled = part.refilled.saturating_sub(1);
            (part.samples.clone(), compares_lines, part.unlike > 0)
        };
        let forms = || samples.iter().rev().filter_map(|sample| sample.form.get());
        let filled = |form: &Arc<Form>| {
            if was_unlike && let Some(part) = self.kept().parts.get_mut(question) {
                part.unlike = 0;
            }
            Found::Filled(Arc::clone(form))
        };
        if let Some((form, text)) = forms().find_map(|form| Some((form, form.text_of(raw, leaf, catalogue)?)))
        {
            return (text, filled(form));
        }
        let mut of_lines = samples.iter().rev().filter(|_| compares_lines);
        let copy = of_lines.find_map(|sample| {
            let Model { text: known, .. } = &*sample.model;
            let changes = changes(known.raw()?, raw.get(leaf.body.clone())?, MAX_SHIFTS_OF_LINES)?;
            let (text, changes) = known.copy(raw, leaf, changes)?;
            Some((text, Likeness { sample: Arc::clone(sample), changes }))
        });
        let has_layout = copy.is_some() || !compares_lines;
        let (text, like) = match copy {
            Some((text, like)) => (text, Some(like)),
            None => {
                let text = Text::new(raw, leaf);
                if let Some(form) = forms().find(|form| form.is_filled_by(text.bytes(), catalogue)) {
                    return (text, filled(form));
                }
                let like = samples.iter().cloned().rev().find_map(|sample| {
                    let changes = changes(sample.model.text.bytes(), text.bytes(), MAX_SHIFTS)?;
                    Some(Likeness { sample, changes })
                });
                (text, like)
            }
        };
        (text, self.found(question, like, has_layout))
    }

    /// Whether a likeness is of use. `has_layout` is false where only the texts showed it.
    fn found(&self, question: &Question, like: Option<Likeness>, has_layout: bool) -> Found {
        let Some(like) = like else { return Found::Unlike };
        let is_worth_it = like.sample.model.trail.tags() > TAGS_PER_CHANGE * like.to_read() + TAGS_PER_TEXT;
        if let Some(part) = self.kept().parts.get_mut(question) {
            part.unlike = 0;
            part.rest = if is_worth_it { 0 } else { REST };
            if !has_layout {
                part.refilled = REST;
            }
        }
        if is_worth_it { Found::Like(like) } else { Found::NotWorthIt }
    }

    /// Keeps a text that had to be read as a whole, if it is not the first one of its campaign. `trail` is asked for
    /// only then.
    pub(super) fn keep(&self, question: &Question, text: &Text<'_>, trail: impl FnOnce() -> Trail) {
        let now = Instant::now();
        if self.is_first(question, now) {
            return;
        }
        let sample = Arc::new(Sample::of(text.kept(), trail()));
        let mut kept = self.kept();
        let Kept { parts, bytes } = &mut *kept;
        if let Some(part) = parts.get_mut(question) {
            *bytes += sample.model.size();
            part.samples.push(sample);
            part.unlike += 1;
            if part.unlike > UNLIKE && !self.compares_each {
                (part.unlike, part.rest) = (0, REST);
            }
            if part.samples.len() > MODELS {
                *bytes -= part.samples.remove(0).model.size();
            }
        }
        kept.shrink(self.most, now);
    }

    fn is_first(&self, question: &Question, now: Instant) -> bool {
        let mut kept = self.kept();
        if kept.parts.contains_key(question) {
            return false;
        }
        if kept.parts.len() >= MAX_PARTS {
            kept.forget_one();
        }
        kept.parts.insert(
            question.clone(),
            Part { samples: Vec::new(), used: now, unlike: 0, rest: 0, refilled: 0 },
        );
        true
    }
}

impl Kept {
    /// Drops what was not used for long, and then what was not used for longest, until the rest has room.
    fn shrink(&mut self, most: usize, now: Instant) {
        let bytes = &mut self.bytes;
        self.parts.retain(|_, part| {
            let stays = now.duration_since(part.used) < MAX_AGE;
            if !stays {
                *bytes -= part.size();
            }
            stays
        });
        while self.bytes > most && !self.parts.is_empty() {
            self.forget_one();
        }
    }

    fn forget_one(&mut self) {
        let oldest =
            self.parts.iter().min_by_key(|(_, part)| part.used).map(|(question, _)| question.clone());
        if let Some(part) = oldest.and_then(|question| self.parts.remove(&question)) {
            self.bytes -= part.size();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{LazyLock, Weak};

    use super::*;
    use crate::message::Structure;
    use crate::message::transfer::apply;
    use crate::tracker::Inquiry;
    use crate::tracker::facts::{Facts, Known};

    static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(Catalogue::shipped);

    fn lines(token: impl Fn(usize) -> String) -> Vec<u8> {
        let words = "<p>Some words of a letter, in lines that are long enough.</p>".repeat(3);
        let lines = (0..40).map(|number| {
            format!("{words}{number}<a href=\"https://a.example/{}\">x</a>\r\n", token(number))
        });
        lines.collect::<String>().into_bytes()
    }

    #[test]
    fn changes_lead_from_one_text_to_another() {
        let one = lines(|number| format!("Zk3Qw9XvT2aB7Lm{number}"));
        let same_length = lines(|number| format!("Ab4Rx0YwU3bC8Mn{number}"));
        let other_length = lines(|number| "x".repeat(number));
        for other in [&one, &same_length, &other_length] {
            let changes = changes(&one, other, MAX_SHIFTS).unwrap();
            assert_eq!(&apply(&one, &changes), other);
            assert!(changes.len() <= 40);
            let small = changes.iter().filter(|change| change.range.len() <= 32).count();
            assert!(small + 2 >= changes.len(), "{changes:?}");
        }
        for (one, other) in [("", "a"), ("a", ""), ("abc", "xbc"), ("", "")] {
            let found = changes(one.as_bytes(), other.as_bytes(), MAX_SHIFTS);
            assert!(found.is_none_or(|found| apply(one.as_bytes(), &found) == other.as_bytes()));
        }
        assert!(changes(&one, &vec![b'-'; one.len()], MAX_SHIFTS).is_none(), "too much differs");
    }

    fn question(leaf: usize) -> Question {
        Question {
            campaign: Key::of("shop", b"From: a@shop.example\r\n\r\n"),
            leaf,
            base: None,
            extent: Extent::Trackers,
            links: Links::Note,
        }
    }

    /// What the text of a message is like that has nothing else.
    fn like(copies: &Copies, question: &Question, text: &[u8]) -> Found {
        let (raw, leaf) = message(text);
        copies.text_of(question, &raw, &leaf, &CATALOGUE).1
    }

    fn keep(copies: &Copies, question: &Question, text: &[u8], trail: impl FnOnce() -> Trail) {
        let (raw, leaf) = message(text);
        copies.keep(question, &Text::new(&raw, &leaf), trail);
    }

    fn message(text: &[u8]) -> (Vec<u8>, Leaf) {
        let raw = [b"Content-Type: text/html\r\n\r\n", text].concat();
        let leaf = Structure::read(&raw).leaves.remove(0);
        (raw, leaf)
    }

    fn read(text: &[u8]) -> Trail {
        scan::places_with_trail(text, None, Extent::Trackers, Links::Note).1.unwrap()
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let text = "<p>a</p>".repeat(512).into_bytes();
        let size = Model { text: Original::Plain(text.clone()), trail: read(&text) }.size();
        let copies = Copies::of(10 * size);
        for leaf in 0..40 {
            keep(&copies, &question(leaf), &text, || unreachable!("the first one is not kept"));
            assert!(matches!(like(&copies, &question(leaf), &text), Found::Unlike));
            for _ in 0..MODELS + 1 {
                keep(&copies, &question(leaf), &text, || read(&text));
            }
            let found = like(&copies, &question(leaf), &text);
            assert!(matches!(found, Found::Like(like) if like.changes.is_empty()));
        }
        let kept = copies.kept();
        let bytes: usize = kept.parts.values().map(Part::size).sum();
        assert!(kept.bytes == bytes && bytes <= 10 * size && bytes >= size, "{bytes}");
        drop(kept);
        assert!(
            matches!(like(&copies, &question(0), &text), Found::Unlike),
            "what was not used for longest is gone"
        );
    }

    #[test]
    fn lines_that_are_filled_anew_are_not_compared_for_a_while() {
        let letter = |name: &str| {
            let lines = String::from_utf8(lines(|number| format!("Zk3Qw9XvT2aB7Lm{number}"))).unwrap();
            let filled = |line: &str| {
                let line = format!("<b>{name}</b>{}", line.replace('=', "=3D"));
                let (mut filled, mut column) = (String::new(), 0);
                for word in line.split_inclusive(' ') {
                    if column + word.len() > 72 {
                        (filled, column) = (filled + "=\r\n", 0);
                    }
                    filled.push_str(word);
                    column += word.len();
                }
                filled
            };
            let body = lines.lines().map(filled).collect::<Vec<String>>().join("\r\n<p>The same.</p>\r\n");
            let head = "Content-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n";
            [head, &body].concat().into_bytes()
        };
        let copies = Copies::of(1 << 20);
        let found = |name: &str| {
            let raw = letter(name);
            let leaf = Structure::read(&raw).leaves.remove(0);
            let (text, found) = copies.text_of(&question(0), &raw, &leaf, &CATALOGUE);
            copies.keep(&question(0), &text, || {
                let read = scan::places_with_trail(text.bytes(), None, Extent::Trackers, Links::Note);
                read.1.unwrap().with_found(&read.0)
            });
            let refilled = copies.kept().parts.get(&question(0)).map(|part| part.refilled);
            (matches!(found, Found::Like(_)), refilled.unwrap())
        };
        assert_eq!([found("Ann"), found("Ann"), found("Eve")], [(false, 0), (false, 0), (true, 0)]);
        assert_eq!(found("Maximilian"), (true, REST));
        for left in (0..REST).rev() {
            assert_eq!(found("Robert"), (true, left));
        }
        assert_eq!([found("Robert"), found("Jo")], [(true, 0), (true, REST)]);
    }

    #[test]
    fn what_is_forgotten_is_gone_with_its_form() {
        let letter = |token: &str| lines(|number| format!("c/{token}{:08}/{number}", 0));
        let detector = Detector::default().comparing_each_copy(1 << 20);
        let inquiry = Inquiry { links: Links::Note, ..Inquiry::to(&[]) };
        for token in ["Zk3Qw9XvT2aB7Lm", "Zk3Qw9XvT2aB7Lm", "Ab4Rx0YwU3bC8Mn", "8pRsYd4HcJ6Zk3Q"] {
            let (raw, _) = message(&letter(token));
            assert!(detector.analyse(&raw, &inquiry).trouble.is_none());
        }
        assert_eq!((detector.copies_read(), detector.copies_filled()), (2, 1));
        let copies = detector.copies();
        let samples: Vec<Weak<Sample>> =
            copies.kept().parts.values().flat_map(|part| &part.samples).map(Arc::downgrade).collect();
        let models: Vec<Weak<Model>> =
            samples.iter().filter_map(|sample| Some(Arc::downgrade(&sample.upgrade()?.model))).collect();
        assert!(
            !models.is_empty() && samples.iter().any(|sample| sample.upgrade().unwrap().form.get().is_some())
        );
        copies.forget();
        assert!(models.iter().all(|model| model.upgrade().is_none()));
    }

    #[test]
    fn what_addresses_of_links_say_counts_among_the_bytes() {
        let text = lines(|number| format!("Zk3Qw9XvT2aB7Lm{number}"));
        let (mut found, trail) = scan::places_with_trail(&text, None, Extent::Trackers, Links::Note);
        let trail = trail.unwrap().with_found(&found);
        let facts = Facts { straight: Some(vec![b'a'; 100]), ..Facts::default() };
        let known = Some(Known::All(Arc::new(facts)));
        found.places.iter_mut().for_each(|place| place.link.clone_from(&known));
        let more = trail.with_found(&found).size() - trail.size();
        assert_eq!((trail.links(), more), (40, 40 * (size_of::<Facts>() + 100)));
    }

    #[test]
    fn what_brings_nothing_is_left_for_a_while() {
        let one = lines(|number| format!("Zk3Qw9XvT2aB7Lm{number}"));
        let copies = Copies::of(1 << 20);
        for _ in 0..2 {
            keep(&copies, &question(0), &one, || read(&one));
        }
        let is_like = |text: &[u8]| matches!(like(&copies, &question(0), text), Found::Like(_));
        let rests = || {
            let rests = (0..REST).all(|_| matches!(like(&copies, &question(0), &one), Found::NotWorthIt));
            rests && is_like(&one)
        };
        assert!(is_like(&one));
        // A change for every four tags takes longer than the tags.
        let dense = lines(|number| format!("{number}"));
        assert!(matches!(like(&copies, &question(0), &dense), Found::NotWorthIt));
        assert!(rests());
        // Each is unlike those before.
        for _ in 0..UNLIKE {
            assert!(is_like(&one));
            keep(&copies, &question(0), &one, || read(&one));
        }
        for _ in 0..=UNLIKE {
            keep(&copies, &question(0), &one, || read(&one));
        }
        assert!(rests());
    }
}
