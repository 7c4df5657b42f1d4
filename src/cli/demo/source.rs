//! The lines of a message as it came and as it left, side by side in one list.

use maud::{Markup, html};

/// The maximum number of compared pairs of lines; beyond it, whatever lies between the first and the last
/// difference counts as replaced.
const MAX_PAIRS: usize = 1_000_000;
/// How many equal lines are shown around a difference.
const CONTEXT: usize = 3;
/// The maximum number of characters shown of a line.
const MAX_SHOWN: usize = 500;

/// A line, and in which version it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line<'a> {
    Both(&'a str),
    Before(&'a str),
    After(&'a str),
}

/// Shows what differs: removed lines, added ones, and a few around them.
pub(super) fn source(before: &[u8], after: &[u8]) -> Markup {
    let (before, after) = (String::from_utf8_lossy(before), String::from_utf8_lossy(after));
    let lines = compared(&before.lines().collect::<Vec<_>>(), &after.lines().collect::<Vec<_>>());
    let is_near = |at: usize| {
        let near = lines.get(at.saturating_sub(CONTEXT)..(at + CONTEXT + 1).min(lines.len()));
        near.unwrap_or_default().iter().any(|line| !matches!(line, Line::Both(_)))
    };
    let mut skipped = 0;
    html! {
        pre class="source" {
            @for (at, line) in lines.iter().enumerate() {
                @if is_near(at) {
                    (gap(std::mem::take(&mut skipped)))
                    @match line {
                        Line::Both(text) => { span { "  " (cut(text)) } }
                        Line::Before(text) => { del { "- " (cut(text)) } }
                        Line::After(text) => { ins { "+ " (cut(text)) } }
                    }
                    "\n"
                } @else {
                    ({ skipped += 1; "" })
                }
            }
            (gap(skipped))
        }
    }
}

fn gap(lines: usize) -> Markup {
    html! {
        @match lines {
            0 => {}
            1 => { i { "  … 1 line unchanged" } "\n" }
            _ => { i { "  … " (lines) " lines unchanged" } "\n" }
        }
    }
}

fn cut(line: &str) -> &str {
    line.char_indices().nth(MAX_SHOWN).map_or(line, |(at, _)| line.get(..at).unwrap_or(line))
}

/// Puts the lines of both versions into one list, with as many in common as there can be.
fn compared<'a>(before: &[&'a str], after: &[&'a str]) -> Vec<Line<'a>> {
    let start = before.iter().zip(after).take_while(|(one, other)| one == other).count();
    let (first, before) = before.split_at(start);
    let after = after.get(start..).unwrap_or_default();
    let end = before.iter().rev().zip(after.iter().rev()).take_while(|(one, other)| one == other).count();
    let (before, last) = before.split_at(before.len() - end);
    let after = after.get(..after.len() - end).unwrap_or_default();
    let mut lines: Vec<Line<'a>> = first.iter().map(|line| Line::Both(line)).collect();
    if before.len() * after.len() <= MAX_PAIRS {
        between(before, after, &mut lines);
    } else {
        lines.extend(before.iter().map(|line| Line::Before(line)));
        lines.extend(after.iter().map(|line| Line::After(line)));
    }
    lines.extend(last.iter().map(|line| Line::Both(line)));
    lines
}

/// Adds the lines of two versions by their longest common subsequence.
fn between<'a>(before: &[&'a str], after: &[&'a str], lines: &mut Vec<Line<'a>>) {
    let width = after.len() + 1;
    // How many lines the rests from here on have in common.
    let mut common = vec![0u32; (before.len() + 1) * width];
    let of =
        |common: &[u32], row: usize, column: usize| common.get(row * width + column).copied().unwrap_or(0);
    for (row, one) in before.iter().enumerate().rev() {
        for (column, other) in after.iter().enumerate().rev() {
            let most = if one == other {
                of(&common, row + 1, column + 1) + 1
            } else {
                of(&common, row + 1, column).max(of(&common, row, column + 1))
            };
            if let Some(cell) = common.get_mut(row * width + column) {
                *cell = most;
            }
        }
    }
    let (mut row, mut column) = (0, 0);
    loop {
        match (before.get(row), after.get(column)) {
            (Some(one), Some(other)) if one == other => {
                lines.push(Line::Both(one));
                (row, column) = (row + 1, column + 1);
            }
            (Some(one), other)
                if other.is_none() || of(&common, row + 1, column) >= of(&common, row, column + 1) =>
            {
                lines.push(Line::Before(one));
                row += 1;
            }
            (_, Some(other)) => {
                lines.push(Line::After(other));
                column += 1;
            }
            (_, None) => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_versions_can_be_read_from_the_list(
            before in prop::collection::vec("[a-c]{0,1}", 0..12),
            after in prop::collection::vec("[a-c]{0,1}", 0..12),
        ) {
            let before: Vec<&str> = before.iter().map(String::as_str).collect();
            let after: Vec<&str> = after.iter().map(String::as_str).collect();
            let lines = compared(&before, &after);
            let mut read: (Vec<&str>, Vec<&str>) = Default::default();
            for line in lines {
                match line {
                    Line::Both(text) => {
                        read.0.push(text);
                        read.1.push(text);
                    }
                    Line::Before(text) => read.0.push(text),
                    Line::After(text) => read.1.push(text),
                }
            }
            prop_assert_eq!(read, (before, after));
        }
    }

    #[test]
    fn what_was_removed_and_added_is_marked_and_the_rest_is_short() {
        let before: String = (0..40).map(|line| format!("line {line}\n")).collect();
        let after = before.replace("line 20\n", "<b>new</b>\n");
        let shown = source(before.as_bytes(), after.as_bytes()).into_string();
        assert!(shown.contains("<del>- line 20</del>"), "{shown}");
        assert!(shown.contains("<ins>+ &lt;b&gt;new&lt;/b&gt;</ins>"), "{shown}");
        for lines in [17, 16] {
            assert!(shown.contains(&format!("… {lines} lines unchanged")), "{shown}");
        }
        assert!(!shown.contains("line 12"), "{shown}");
    }
}
