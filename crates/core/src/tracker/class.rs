//! The kinds of characters that addresses are made of, how often they change, and runs of one kind.

use std::ops::Range;

use aho_corasick::{AhoCorasick, packed};

/// What kind of character a byte is, looked up: these loops see every address of every message.
#[derive(Clone, Copy)]
pub(super) struct Class(u8);

impl Class {
    const LOWER: u8 = 1;
    pub(super) const UPPER: u8 = 2;
    const DIGIT: u8 = 4;
    /// `-` and `_`.
    const JOINT: u8 = 8;
    const DOT: u8 = 16;
    const SLASH: u8 = 32;

    /// Where the kinds of letters and digits stand among the bits.
    const KIND: u8 = 6;
    const LOWER_KIND: u8 = 1;
    const UPPER_KIND: u8 = 2;
    const DIGIT_KIND: u8 = 3;

    #[allow(clippy::indexing_slicing, reason = "computed when the program is built")]
    const TABLE: [u8; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            table[byte] = match byte as u8 {
                b'a'..=b'z' => Class::LOWER | Class::LOWER_KIND << Class::KIND,
                b'A'..=b'Z' => Class::UPPER | Class::UPPER_KIND << Class::KIND,
                b'0'..=b'9' => Class::DIGIT | Class::DIGIT_KIND << Class::KIND,
                b'-' | b'_' => Class::JOINT,
                b'.' => Class::DOT,
                b'/' => Class::SLASH,
                _ => 0,
            };
            byte += 1;
        }
        table
    };

    #[inline]
    pub(super) fn of(byte: u8) -> Class {
        Class(Class::TABLE.get(usize::from(byte)).copied().unwrap_or(0))
    }

    #[inline]
    pub(super) fn is(self, classes: u8) -> bool {
        self.0 & classes != 0
    }

    #[inline]
    pub(super) fn is_alphanumeric(self) -> bool {
        self.is(Class::LOWER | Class::UPPER | Class::DIGIT)
    }

    /// What tokens are made of.
    #[inline]
    pub(super) fn is_of_a_token(self) -> bool {
        self.is(Class::LOWER | Class::UPPER | Class::DIGIT | Class::JOINT)
    }

    /// Which of these it is, or none of them: 0.
    #[inline]
    fn kind(self) -> u8 {
        self.0 >> Class::KIND
    }

    /// What the paths of files are made of.
    #[inline]
    pub(super) fn is_of_a_path(self) -> bool {
        self.0 != 0
    }

    /// What the names of files are made of.
    #[inline]
    pub(super) fn is_of_a_name(self) -> bool {
        self.0 & !Class::SLASH != 0
    }
}

/// A few texts, any of which is looked for.
#[derive(Debug)]
pub(super) struct Words {
    /// Compares many bytes at once, where the processor can.
    packed: Option<packed::Searcher>,
    all: AhoCorasick,
    words: Vec<Box<[u8]>>,
}

impl Words {
    pub(super) fn of<'w>(words: impl IntoIterator<Item = &'w [u8]> + Clone) -> Words {
        let packed = packed::Config::new().builder().extend(words.clone()).build();
        let all = AhoCorasick::new(words.clone()).expect("a few texts are no large automaton");
        Words { packed, all, words: words.into_iter().map(Box::from).collect() }
    }

    /// Whether one of them could stand partly within `blank` of a text, and partly not, whatever token stands there.
    pub(super) fn may_reach_into(&self, text: &[u8], blank: &Range<usize>) -> bool {
        let may_stand = |byte: u8, at: usize| match blank.contains(&at) {
            true => Class::of(byte).is_of_a_token(),
            false => text.get(at).is_some_and(|known| known.to_ascii_lowercase() == byte),
        };
        self.words.iter().any(|word| {
            let first = (blank.start + 1).saturating_sub(word.len());
            (first..blank.end).any(|start| {
                let reaches_out = start < blank.start || start + word.len() > blank.end;
                reaches_out && word.iter().zip(start..).all(|(byte, at)| may_stand(*byte, at))
            })
        })
    }

    /// Whether one of them stands in a text, whose ASCII letters count as lower-case ones.
    pub(super) fn stand_in(&self, text: &str) -> bool {
        in_lower_case(text, |lower| match &self.packed {
            Some(packed) => packed.find(lower).is_some(),
            None => self.all.is_match(lower),
        })
    }
}

/// Reads a text with its ASCII letters in lower case; most are short enough for the stack. Zeros stand behind a short
/// one: not much is compared at once in so little.
fn in_lower_case<T>(text: &str, read: impl FnOnce(&[u8]) -> T) -> T {
    match text.len() {
        0..=128 => read_on_stack::<128, T>(text, read),
        129..=512 => read_on_stack::<512, T>(text, read),
        _ => read(&text.as_bytes().to_ascii_lowercase()),
    }
}

fn read_on_stack<const ROOM: usize, T>(text: &str, read: impl FnOnce(&[u8]) -> T) -> T {
    const SHORTEST: usize = 64;
    let mut room = [0; ROOM];
    let whole = room.get_mut(..text.len().max(SHORTEST)).unwrap_or_default();
    if let Some(lower) = whole.get_mut(..text.len()) {
        lower.copy_from_slice(text.as_bytes());
        lower.make_ascii_lowercase();
    }
    read(whole)
}

/// The runs of at least so many bytes of one kind, one at least.
pub(super) fn runs(
    text: &[u8],
    at_least: usize,
    is_of_it: impl Fn(u8) -> bool,
) -> impl Iterator<Item = &[u8]> {
    // Each of them covers one of so many bytes.
    let mut probe = at_least.max(1) - 1;
    std::iter::from_fn(move || {
        loop {
            let (before, behind) = text.split_at_checked(probe).filter(|(_, behind)| !behind.is_empty())?;
            let tail = behind.iter().take_while(|byte| is_of_it(**byte)).count();
            let head =
                if tail == 0 { 0 } else { before.iter().rev().take_while(|byte| is_of_it(**byte)).count() };
            let run = text.get(probe - head..probe + tail)?;
            probe += tail + at_least.max(1);
            if run.len() >= at_least.max(1) {
                return Some(run);
            }
        }
    })
}

/// What a byte adds to the counts over a piece, by its kind and that of the byte before it. All counts stand in one
/// number, each in a lane of its own.
struct Pairs;

impl Pairs {
    /// The bits of a lane.
    const LANE: u32 = 12;
    /// How many bytes are counted before a lane could be full.
    const MOST: usize = (1 << Pairs::LANE) - 1;

    #[allow(clippy::indexing_slicing, reason = "computed when the program is built")]
    const ADDED: [u64; 16] = {
        let mut added = [0; 16];
        let mut pair = 0;
        while pair < 16 {
            let (last, kind) = (pair as u8 / 4, pair as u8 % 4);
            if kind != 0 {
                let turns = match (last, kind) {
                    (Class::DIGIT_KIND, Class::LOWER_KIND | Class::UPPER_KIND)
                    | (Class::LOWER_KIND, Class::UPPER_KIND | Class::DIGIT_KIND)
                    | (Class::UPPER_KIND, Class::DIGIT_KIND) => 1,
                    _ => 0,
                };
                let runs = if last == 0 { 1 } else { 0 };
                added[pair] = 1 << (Pairs::LANE * (kind as u32 - 1))
                    | turns << (Pairs::LANE * 3)
                    | runs << (Pairs::LANE * 4);
            }
            pair += 1;
        }
        added
    };
}

/// Counts over a piece.
#[derive(Default)]
pub(super) struct Classes {
    pub(super) lower: usize,
    pub(super) upper: usize,
    pub(super) digits: usize,
    pub(super) others: usize,
    /// Changes between letters and digits, and from lower to upper case.
    pub(super) turns: usize,
    /// Runs of letters and digits.
    pub(super) runs: usize,
}

impl Classes {
    pub(super) fn of(piece: &[u8]) -> Classes {
        let mut classes = Classes::default();
        let mut last = 0;
        for bytes in piece.chunks(Pairs::MOST) {
            let mut counted = 0u64;
            for &byte in bytes {
                let kind = Class::of(byte).kind();
                counted += Pairs::ADDED.get(usize::from(4 * last + kind)).copied().unwrap_or(0);
                last = kind;
            }
            let lane = |lane: u32| (counted >> (lane * Pairs::LANE)) as usize & Pairs::MOST;
            classes.lower += lane(0);
            classes.upper += lane(1);
            classes.digits += lane(2);
            classes.turns += lane(3);
            classes.runs += lane(4);
        }
        classes.others = piece.len() - classes.letters() - classes.digits;
        classes
    }

    pub(super) fn letters(&self) -> usize {
        self.lower + self.upper
    }

    /// 16 or more hexadecimal digits, with or without hyphens.
    pub(super) fn is_uuid_like(&self, piece: &[u8]) -> bool {
        let is_of_one = |byte: &u8| byte.is_ascii_hexdigit() || !byte.is_ascii_alphanumeric();
        self.digits > 3
            && self.others <= 4
            && self.letters() + self.digits >= 16
            && piece.iter().all(is_of_one)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_word_may_reach_into_a_blank() {
        let words = Words::of([&b"akid="[..], b"to/"]);
        for (text, blank, may_reach) in [
            ("a.example/xxxx=1", 10..14, true),
            ("a.example/xxxx/1", 10..14, true),
            ("a.example/AKxxxx=1", 12..16, true),
            ("a.example/akxxxx?1", 12..16, false),
            ("a.example/xxxx?1", 10..14, false),
            ("a.example/?akid=xxxx", 16..20, false),
        ] {
            assert_eq!(words.may_reach_into(text.as_bytes(), &blank), may_reach, "{text}");
        }
    }

    #[test]
    fn a_word_is_found_wherever_it_stands_by_either_way() {
        let with = Words::of([&b"baja"[..], b"opt-out", b"unsub"]);
        assert!(Words::of([]).packed.is_none());
        let without = Words { packed: None, all: with.all.clone(), words: with.words.clone() };
        for length in 0..600 {
            let filling = "x".repeat(length);
            for (word, is_one) in [("Baja", true), ("OPT-OUT", true), ("opt_out", false), ("unsu", false)] {
                for words in [&with, &without] {
                    assert_eq!(words.stand_in(&format!("{filling}{word}é{filling}")), is_one, "{word}");
                    assert_eq!(words.stand_in(&format!("{filling}{word}")), is_one, "{word}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_word_that_does_not_reach_into_a_blank_stands_before_in_or_behind_it(
            before in "[abA/=]{0,6}",
            token in "[abcAB-]{1,5}",
            known in "[a-c]{5}",
            behind in "[abA/=]{0,6}",
        ) {
            let words = Words::of([&b"a/b"[..], b"/ab-", b"bb=a", b"ab"]);
            let blank = before.len()..before.len() + token.len();
            let written = [&before, &known[..token.len()], &behind].concat();
            let stands_apart = [&before, &token, &behind].iter().any(|text| words.stand_in(text));
            let filled = [before.as_str(), &token, &behind].concat();
            if !words.may_reach_into(written.as_bytes(), &blank) {
                prop_assert_eq!(words.stand_in(&filled), stands_apart, "{}", filled);
            }
        }

        #[test]
        fn counts_in_lanes_are_counts(
            pieces in prop::collection::vec("[a-c]{0,9}|[A-C]{0,3}|[0-3]{0,5}|[-_.é]", 0..3000),
        ) {
            let piece = pieces.concat().into_bytes();
            let classes = Classes::of(&piece);
            let count = |is: fn(&u8) -> bool| piece.iter().filter(|byte| is(byte)).count();
            prop_assert_eq!(classes.lower, count(u8::is_ascii_lowercase));
            prop_assert_eq!(classes.upper, count(u8::is_ascii_uppercase));
            prop_assert_eq!(classes.digits, count(u8::is_ascii_digit));
            prop_assert_eq!(classes.others, count(|byte| !byte.is_ascii_alphanumeric()));
            let pairs = || [b'-'].iter().chain(&piece).zip(&piece);
            let runs = pairs().filter(|(last, byte)| !last.is_ascii_alphanumeric() && byte.is_ascii_alphanumeric());
            prop_assert_eq!(classes.runs, runs.count());
            let turns = pairs().filter(|(last, byte)| match byte {
                b'a'..=b'z' => last.is_ascii_digit(),
                b'A'..=b'Z' => last.is_ascii_digit() || last.is_ascii_lowercase(),
                b'0'..=b'9' => last.is_ascii_alphabetic(),
                _ => false,
            });
            prop_assert_eq!(classes.turns, turns.count());
        }
    }
}
