//! Charts as inline SVG: columns over time, and a bar beside a number. A table below repeats what a chart
//! shows, for readers who cannot see it.

use maud::{Markup, html};

use super::text::{Language, Text};

/// The dimensions of a chart, in its own units.
#[derive(Clone, Copy)]
struct Shape {
    /// The class by which the style sheet selects it.
    class: &'static str,
    width: u32,
    height: u32,
    /// The number of labels below.
    names: usize,
    /// Whether columns show their values when pointed at.
    speaks: bool,
}

/// For most screens and paper, and for narrow screens, on which the wide version's letters would be too
/// small.
const SHAPES: [Shape; 2] = [
    Shape { class: "chart broad", width: 720, height: 190, names: 6, speaks: true },
    Shape { class: "chart slim", width: 340, height: 190, names: 4, speaks: false },
];
/// Space for the numbers on the left, and for the days below.
const MARGIN: (u32, u32) = (46, 22);
/// The maximum number of colours.
const COLOURS: usize = 6;

/// The events of a period: a count for each name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The period.
    pub time: String,
    /// The period in few characters.
    pub short: String,
    /// The counts, one for each name.
    pub parts: Vec<u64>,
}

/// A drawing.
fn drawn(language: Language, title: &str, names: &[String], times: &[Column], shape: Shape) -> Markup {
    let Shape { width, height, .. } = shape;
    let (left, below) = MARGIN;
    let sum = |column: &Column| column.parts.iter().sum::<u64>();
    let most = ceiling(times.iter().map(sum).max().unwrap_or(0));
    let room = f64::from(height - below - 8);
    let step = f64::from(width - left) / times.len().max(1) as f64;
    let scaled = |count: u64| count as f64 / most as f64 * room;
    let base = f64::from(height - below);
    html! {
        svg class=(shape.class) viewBox=(format!("0 0 {width} {height}")) role="img" aria-label=(title) {
            @for part in [0, 1, 2] {
                @let count = most * part / 2;
                @let y = base - scaled(count);
                line class="axis" x1=(left) x2=(width) y1=(tenth(y)) y2=(tenth(y)) {}
                text x=(left - 6) y=(tenth(y + 4.0)) text-anchor="end" { (short(count)) }
            }
            @for (index, column) in times.iter().enumerate() {
                @let x = f64::from(left) + step * index as f64 + step * 0.1;
                @for (place, count) in column.parts.iter().enumerate().filter(|(_, count)| **count > 0) {
                    @let under: u64 = column.parts.iter().take(place).sum();
                    @let high = scaled(*count);
                    rect class=(colour(place)) x=(tenth(x)) width=(tenth((step * 0.8).max(1.0)))
                        y=(tenth(base - scaled(under) - high)) height=(tenth(high)) {
                        @if shape.speaks {
                            title {
                                (column.time)
                                ": "
                                (names.get(place).map_or("", String::as_str))
                                " "
                                (language.number(*count))
                            }
                        }
                    }
                }
                @if index % times.len().div_ceil(shape.names).max(1) == 0 {
                    text x=(tenth((x + step * 0.4).max(f64::from(left) + 12.0))) y=(height - 6)
                        text-anchor="middle" {
                        (column.short)
                    }
                }
            }
        }
    }
}

/// Draws stacked columns, one for each period.
pub fn columns(language: Language, title: &str, names: &[String], times: &[Column]) -> Markup {
    let occurs =
        |place: usize| times.iter().any(|column| column.parts.get(place).is_some_and(|count| *count > 0));
    html! {
        figure {
            @for shape in SHAPES { (drawn(language, title, names, times, shape)) }
            ul class="legend" {
                @for (place, name) in names.iter().enumerate().filter(|(place, _)| occurs(*place)) {
                    li {
                        svg viewBox="0 0 10 10" aria-hidden="true" {
                            rect class=(colour(place)) width="10" height="10" rx="2" {}
                        }
                        (name)
                    }
                }
            }
            details class="noprint" {
                summary {
                    (language.say(&Text("The same as a table", "Dasselbe als Tabelle", "Le même en tableau")))
                }
                div class="wide" tabindex="0" { table {
                    thead { tr {
                        th scope="col" { (language.say(&Text("When", "Wann", "Quand"))) }
                        @for name in names { th scope="col" class="count" { (name) } }
                    } }
                    tbody {
                        @for column in times.iter().rev() {
                            tr {
                                th scope="row" class="nowrap" { (column.time) }
                                @for count in &column.parts { td class="count" { (language.number(*count)) } }
                            }
                        }
                    }
                } }
            }
        }
    }
}

/// Draws a bar that shows a number's share of the whole.
pub fn bar(count: u64, whole: u64) -> Markup {
    let part = if whole == 0 { 0.0 } else { count as f64 / whole as f64 * 100.0 };
    html! {
        svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" {
            rect class="rest" width="100" height="6" {}
            rect class="s1" width=(tenth(part.min(100.0))) height="6" {}
        }
    }
}

fn colour(place: usize) -> &'static str {
    const NAMES: [&str; COLOURS] = ["s1", "s2", "s3", "s4", "s5", "s6"];
    NAMES.get(place.min(COLOURS - 1)).copied().unwrap_or("s6")
}

/// Rounds up to a round, even number, so that its half is whole.
fn ceiling(most: u64) -> u64 {
    let mut step = 1u64;
    loop {
        for multiple in [2, 4, 6, 8, 10] {
            let candidate = step.saturating_mul(multiple);
            if candidate >= most {
                return candidate;
            }
        }
        step = step.saturating_mul(10);
    }
}

fn tenth(number: f64) -> String {
    format!("{number:.1}")
}

/// Formats a number in few characters.
fn short(count: u64) -> String {
    match count {
        0..=9_999 => count.to_string(),
        10_000..=9_999_999 => format!("{}k", count / 1000),
        _ => format!("{}M", count / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_with_round_numbers() {
        for (most, expected) in
            [(0, 2), (1, 2), (3, 4), (5, 6), (11, 20), (41, 60), (999, 1000), (1001, 2000)]
        {
            assert_eq!(ceiling(most), expected);
        }
        assert!(ceiling(u64::MAX) >= u64::MAX / 2);
    }

    #[test]
    fn no_days_one_day_and_many_days_are_drawn() {
        let column = |number: u64| Column {
            time: format!("2026-11-{number:02}"),
            short: format!("{number}"),
            parts: vec![number, 0, 7],
        };
        let names = ["a", "b", "c"].map(str::to_owned);
        for count in [0u64, 1, 30, 400] {
            let days: Vec<Column> = (1..=count).map(column).collect();
            let drawn = columns(Language::En, "title", &names, &days).into_string();
            assert_eq!(drawn.matches("<rect class=\"s1\" x=").count() as u64, 2 * count);
            // What never occurs has no place in the legend.
            assert!(!drawn.contains("</svg>b</li>"));
            assert_eq!(drawn.matches("</svg>c</li>").count(), usize::from(count > 0));
            assert!(!drawn.contains("NaN") && !drawn.contains("inf") && !drawn.contains("style="));
        }
    }
}
