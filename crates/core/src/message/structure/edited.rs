//! Whether a structure is still the same after edits of the bytes.

use std::ops::Range;

use super::{ARMOUR, BodyElsewhere, Content, HeaderBlock, LOOKED_AT, Leaf, Structure};
use crate::message::transfer::{Edit, Transfer};

impl Structure {
    /// Whether the structure of `edited`, which is `raw` after these edits, is this one of `raw`, moved by them: the
    /// same parts are taken for the same. The edits are sorted and do not overlap.
    pub fn is_same_in(&self, raw: &[u8], edits: &[Edit], edited: &[u8]) -> bool {
        self.stays(raw, edits, edited) || self.is_moved_to(&Structure::read(edited), edits)
    }

    /// Whether the edits show that: where each one lies well within a part of which its header says what it is, and
    /// makes no line that could part the message or begin armour (RFC 2046 section 5.1.1, RFC 9580 section 6.2). A line
    /// that is gone did neither, since it stood in the part.
    fn stays(&self, raw: &[u8], edits: &[Edit], edited: &[u8]) -> bool {
        let overlap = |[one, other]: &[Leaf; 2]| other.body.start < one.body.end;
        if self.trouble.is_some() || self.has_other_readings || self.leaves.array_windows().any(overlap) {
            return false;
        }
        let mut shift = 0isize;
        // How far `edited` was gone through, and where the line starts that is open there.
        let (mut at, mut line) = (0, 0);
        let begins = |line: usize| edited.get(line..).is_some_and(|line| line.starts_with(b"--"));
        // The part that the edit before left what it is; then so do those further behind in it.
        let mut part: Option<&Leaf> = None;
        edits.iter().all(|edit| {
            let Range { start, end } = edit.range;
            let there = start.saturating_add_signed(shift);
            shift += edit.with.len() as isize - edit.range.len() as isize;
            let between = edited.get(at..there).unwrap_or_default();
            line = memchr::memrchr2(b'\r', b'\n', between).map_or(line, |end| at + end + 1);
            let mut makes_dashes = begins(line);
            for end in memchr::memchr2_iter(b'\r', b'\n', &edit.with) {
                line = there + end + 1;
                makes_dashes |= begins(line);
            }
            at = there + edit.with.len();
            if part.is_none_or(|leaf| leaf.body.end <= end) {
                let leaf = self.leaves.get(self.leaves.partition_point(|leaf| leaf.body.end <= end));
                part = leaf.filter(|leaf| leaf.body.start < start && stays_within(leaf, raw, start));
            }
            !makes_dashes && part.is_some()
        })
    }

    /// Whether `other` is this structure, moved by edits of the bytes.
    fn is_moved_to(&self, other: &Structure, edits: &[Edit]) -> bool {
        // What is put in where a part starts or ends belongs to it.
        let shift = |before: &dyn Fn(&Edit) -> bool| {
            let before = edits.iter().filter(|edit| before(edit));
            before.map(|edit| edit.with.len() as isize - edit.range.len() as isize).sum::<isize>()
        };
        let start = |at: usize| {
            at.saturating_add_signed(shift(&|edit| edit.range.start < at && edit.range.end <= at))
        };
        let end = |at: usize| at.saturating_add_signed(shift(&|edit| edit.range.end <= at));
        let is_same = |known: &Leaf, other: &Leaf| {
            let body = start(known.body.start)..end(known.body.end);
            other.body == body
                && other.number == known.number
                && other.content == known.content
                && other.transfer == known.transfer
                && other.charset == known.charset
                && other.base == known.base
                && other.protection == known.protection
                && other.is_unreadable == known.is_unreadable
        };
        let moved = |block: &HeaderBlock| HeaderBlock { start: start(block.start), ..block.clone() };
        let moved_body = |body: &BodyElsewhere| {
            let field = start(body.field.start)..start(body.field.end);
            BodyElsewhere { field, ..body.clone() }
        };
        self.trouble == other.trouble
            && self.leaves.len() == other.leaves.len()
            && self.leaves.iter().zip(&other.leaves).all(|(known, other)| is_same(known, other))
            && self.header_blocks.iter().map(moved).eq(other.header_blocks.iter().cloned())
            && self.bodies_elsewhere.iter().map(moved_body).eq(other.bodies_elsewhere.iter().cloned())
    }
}

/// Whether an edit that starts here leaves a leaf what it is, as far as that hangs on how its body begins.
fn stays_within(leaf: &Leaf, raw: &[u8], start: usize) -> bool {
    let before = raw.get(leaf.body.start..start.min(leaf.body.start + LOOKED_AT)).unwrap_or_default();
    leaf.is_by_header
        && leaf.protection.is_none()
        && match leaf.content {
            Content::Html => before.trim_ascii_start().len() >= ARMOUR.len(),
            // Armour stands in a line as it is.
            Content::Text => matches!(leaf.transfer, Transfer::Identity | Transfer::QuotedPrintable),
            Content::File | Content::Style | Content::Message | Content::Calendar | Content::Other => false,
        }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::transfer::{apply, normalise};

    const HTML: &str =
        "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n";

    /// Edits a message; says whether the edits alone show that its structure stays, which it then does.
    fn stays(raw: &str, edits: Vec<Edit>) -> bool {
        let raw = raw.as_bytes();
        let edits = normalise(edits.into_iter().filter(|edit| edit.range.end <= raw.len()).collect());
        let edited = apply(raw, &edits);
        let structure = Structure::read(raw);
        let is_shown = structure.stays(raw, &edits, &edited);
        let is_so = structure.is_moved_to(&Structure::read(&edited), &edits);
        assert!(is_so || !is_shown, "{edits:?}\n{}", String::from_utf8_lossy(&edited));
        assert_eq!(structure.is_same_in(raw, &edits, &edited), is_so);
        is_shown
    }

    fn message(types: [&str; 2], body: &str) -> String {
        let parts = types.map(|kind| format!("--b\r\n{kind}{body}\r\n"));
        format!(
            "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n{}--b--\r\n",
            parts.concat()
        )
    }

    #[test]
    fn an_edit_within_words_leaves_the_structure() {
        let words = "<p>Some words of a letter.</p>\r\n<p>And more of them.</p>\r\n<p>The end.</p>";
        let plain = "Content-Type: text/plain\r\n\r\n";
        for (types, is_shown) in [
            ([plain, HTML], true),
            ([HTML, plain], true),
            ([HTML, "Content-Type: text/x-other\r\n\r\n"], false),
            ([HTML, "\r\n"], false),
            (["Content-Type: text/html; charset=other\r\n\r\n", HTML], false),
            ([HTML, "Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n"], false),
            ([HTML, "Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\n"], false),
        ] {
            let raw = message(types, words);
            let edits =
                raw.match_indices("more").map(|(at, text)| Edit::replace(at..at + text.len(), "a few"));
            assert_eq!(stays(&raw, edits.collect()), is_shown, "{types:?}");
        }
        let raw = message([plain, HTML], words);
        let line = raw.find("<p>And").unwrap();
        for with in ["--b", "--", "a\r\n--b", "a\r\n--", "\r--", "-----BEGIN PGP MESSAGE-----"] {
            assert!(!stays(&raw, vec![Edit::replace(line..line, with)]), "{with}");
            assert!(
                stays(&raw, vec![Edit::replace(line + 2..line + 2, with)]) || with.contains('\r'),
                "{with}"
            );
        }
        let dashes = message([plain, HTML], "<p>One</p>\r\n--c\r\n<p>Two and more</p>\r\n-x\r\n<p>end</p>");
        for (from, to, is_shown) in [
            ("--c", "<p>Two", true),
            ("ne<", "--c", true),
            ("</p>\r\n--", "--c", true),
            ("\n--c", "--c", false),
            ("c\r", "<p>Two", false),
            ("wo", " and", true),
            ("more", "</p>\r\n-x", true),
        ] {
            let (start, end) = (dashes.find(from).unwrap(), dashes.find(to).unwrap());
            assert_eq!(stays(&dashes, vec![Edit::cut(start..end)]), is_shown, "{from} {to}");
            assert!(!stays(&dashes, vec![Edit::replace(start..end, "\r\n--")]));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn what_edits_show_is_so(
            kinds in prop::array::uniform2(prop::sample::select(vec![
                HTML,
                "Content-Type: text/html\r\n\r\n",
                "Content-Type: text/plain\r\n\r\n",
                "Content-Type: multipart/alternative; boundary=c\r\n\r\n",
                "Content-Type: message/rfc822\r\n\r\nSubject: a\r\nContent-Type: text/html\r\n\r\n",
                "\r\n",
            ])),
            lines in prop::collection::vec("[a-c<>=]{0,9}|--[bc]|--|-|-----BEGIN PGP A| |Content-Type: a/b|", 0..24),
            edits in prop::collection::vec(
                (0usize..600, 0usize..30, "[a-c-]{0,3}|\r\n|\r|\n|--b\r\n|-----BEGIN PGP A|\r\n--c|-"),
                0..4,
            ),
        ) {
            let raw = message(kinds, &lines.join("\r\n"));
            let edits = edits.into_iter().map(|(start, length, with)| Edit::replace(start..start + length, with));
            let _ = stays(&raw, edits.collect());
        }
    }
}
