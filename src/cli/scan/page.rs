//! Renders a report as one HTML page that loads nothing: no script, no link, and no image but those drawn in
//! it.
//!
//! Whatever comes from messages is escaped.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::report::{Listed, OfSender, Report, Tracker};

/// The maximum number of bars in a chart; the rest becomes one.
const MAX_BARS: usize = 12;
/// The maximum number of senders in the table.
const MAX_ROWS: usize = 100;
/// The maximum number of characters of a label beside a bar.
const MAX_LABEL: usize = 38;

const STYLE: &str = include_str!("page.css");

/// Writes the page; `date` is when the scan was made.
pub(super) fn page(report: &Report, date: &str) -> String {
    let body = html! {
        header {
            h1 { "Open tracking in " (plural(report.messages, "message")) }
            p class="soft" { "Scanned on " (clean(date)) ", by pixelward " (env!("CARGO_PKG_VERSION")) "." }
        }
        main {
            (overview(report))
            (outcomes(report))
            (charts(report))
            (senders(report))
            (messages(report))
        }
        footer {
            p class="soft" {
                "Nothing was fetched to make this page, and it loads nothing. Readable mail addresses in a \
                 tracker's URL are left out, as are common encodings of those in To, Cc and Delivered-To. \
                 Subjects are not shown."
            }
        }
    };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                meta name="robots" content="noindex";
                title { "Open tracking report" }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    }
    .into_string()
}

/// Renders a section with its heading.
fn section(id: &str, title: &str, content: &Markup) -> Markup {
    html! {
        section aria-labelledby=(id) {
            h2 id=(id) { (title) }
            (content)
        }
    }
}

fn overview(report: &Report) -> Markup {
    let share = percent(report.with_trackers, report.messages);
    let senders = report.senders.values().filter(|sender| sender.trackers > 0).count() as u64;
    let more = if report.other_senders.trackers > 0 { "+" } else { "" };
    let content = html! {
        dl class="tiles" {
            div { dt { "messages" } dd { (grouped(report.messages)) } }
            div { dt { "with trackers" } dd { (grouped(report.with_trackers)) " " small { (share) } } }
            div { dt { "trackers" } dd { (grouped(report.trackers)) } }
            div { dt { "senders that track" } dd { (grouped(senders)) (more) } }
        }
        @if report.messages > 0 { (share_bar(report, &share)) }
        @if report.failed > 0 {
            p {
                strong { (plural(report.failed, "item")) " could not be read" }
                " and " (if report.failed == 1 { "is" } else { "are" }) " not counted here."
            }
        }
    };
    section("overview", "At a glance", &content)
}

/// Draws how many messages have trackers.
fn share_bar(report: &Report, share: &str) -> Markup {
    let width = 640.0 * report.with_trackers as f64 / report.messages as f64;
    html! {
        svg class="share" viewBox="0 0 640 14" role="img" aria-labelledby="share-title share-desc" {
            title id="share-title" { "Share of messages with trackers" }
            desc id="share-desc" {
                (grouped(report.with_trackers)) " of " (grouped(report.messages)) " messages, " (share)
            }
            rect class="rest" width="640" height="14" rx="4" {}
            rect class="bar" width=(format!("{width:.1}")) height="14" rx="4" {}
        }
    }
}

/// Renders who gets what.
fn outcomes(report: &Report) -> Markup {
    let removable = report.trackers - report.protected.min(report.trackers);
    let changeable = plural(report.changeable, "message");
    let content = html! {
        p {
            "Silence is not consent: a recipient who was never asked gets the same message as one who \
             refused, \
             without trackers. "
            (capital(&changeable)) " would change for them, and " (plural(removable, "tracker"))
            " would be removed, " (plural(report.receipts, "receipt request"))
            " among these. The rest of each message stays as it is. A recipient who agreed to every purpose \
             gets the message with its trackers, unless the copy is shared with somebody who did not."
        }
        (outcome_table(report, removable))
        ul {
            li {
                strong { (capital(&plural(report.protected, "tracker"))) }
                " in signed or encrypted parts of " (plural(report.with_protected, "message"))
                ". No relay can remove these without breaking the signature or the encryption: such a \
                 message \
                 is returned to its sender, or passed unchanged if the operator chose so."
            }
            li {
                strong { (capital(&plural(report.receipts, "receipt request"))) }
                ": header fields that ask the reader's mail program for a read receipt."
            }
            @if report.unreadable > 0 {
                li {
                    strong { (capital(&plural(report.unreadable, "message"))) }
                    " could not be read completely. Every remote request is removed from these, or they wait \
                     with their sender."
                }
            }
            @if report.unreadable_parts > 0 {
                li {
                    strong { (capital(&plural(report.unreadable_parts, "text part"))) }
                    " in an encoding that nobody knows: what is in them cannot be said. They stay and are \
                     counted, unless "
                    code { "policy.unreadable" }
                    " says otherwise."
                }
            }
        }
    };
    section("outcomes", "What would be stripped, and for whom", &content)
}

fn outcome_table(report: &Report, removable: u64) -> Markup {
    let without = "the message without trackers and receipt requests";
    let whole = "the message as it came";
    let rows = [
        ("refused", without, report.changeable, removable, report.protected),
        ("was never asked", without, report.changeable, removable, report.protected),
        ("granted", whole, 0, 0, report.trackers),
    ];
    html! {
        div class="wide" {
            table class="outcome" {
                caption { "Outcome by what the recipient said, with default settings" }
                thead {
                    tr {
                        th scope="col" { "Recipient" }
                        th scope="col" { "Gets" }
                        @for name in ["Messages changed", "Trackers removed", "Trackers left"] {
                            th scope="col" class="n" { (name) }
                        }
                    }
                }
                tbody {
                    @for (said, what, changed, gone, left) in rows {
                        tr {
                            th scope="row" { (said) }
                            td { (what) }
                            @for count in [changed, gone, left] { (number(count)) }
                        }
                    }
                }
            }
        }
    }
}

/// Renders what was found, by vendor, carrier, signal and link.
fn charts(report: &Report) -> Markup {
    let vendors = ranked(report.vendors.iter().map(|(name, count)| (name.clone(), *count)));
    let carriers = ranked(report.carriers.iter().map(|(name, count)| (carrier(name).to_owned(), *count)));
    let signals = ranked(report.facts.iter().map(|(name, count)| ((*name).to_owned(), *count)));
    let links = ranked(report.links.iter().map(|(name, count)| (name.clone(), *count)));
    html! {
        (Chart {
            id: "vendors",
            title: "Trackers by vendor",
            about: "The services that learn of an open, as far as the form of the address shows.",
            column: "Vendor",
            rows: vendors,
            whole: report.trackers,
        }.section())
        (Chart {
            id: "carriers",
            title: "Trackers by carrier",
            about: "The place in the message from which the mail program loads something.",
            column: "Carrier",
            rows: carriers,
            whole: report.trackers,
        }.section())
        (Chart {
            id: "signals",
            title: "Trackers by kind of signal",
            about: "What indicates a tracker. Most have several kinds of signals, so the shares add up to \
                    more \
                    than 100 %.",
            column: "Signal",
            rows: signals,
            whole: report.trackers,
        }.section())
        @if report.tracked_links > 0 {
            (Chart {
                id: "links",
                title: "Tracked links by vendor",
                about: "Whose servers learn that a link was followed. Links are counted; what becomes of \
                        them \
                        is a setting of its own.",
                column: "Vendor",
                rows: links,
                whole: report.tracked_links,
            }.section())
        }
    }
}

/// A chart with its table.
struct Chart {
    id: &'static str,
    title: &'static str,
    about: &'static str,
    column: &'static str,
    rows: Vec<(String, u64)>,
    /// Of which each row is a share.
    whole: u64,
}

impl Chart {
    fn section(&self) -> Markup {
        let content = html! {
            p class="soft" { (self.about) }
            @if self.rows.is_empty() {
                p { "None was found." }
            } @else {
                div class="pair" {
                    figure { (self.bars()) }
                    (self.table())
                }
            }
        };
        section(self.id, self.title, &content)
    }

    fn table(&self) -> Markup {
        html! {
            table {
                caption { (self.title) }
                thead {
                    tr {
                        th scope="col" { (self.column) }
                        th scope="col" class="n" { "Number" }
                        th scope="col" class="n" { "Of all" }
                    }
                }
                tbody {
                    @for (name, count) in &self.rows {
                        tr {
                            th scope="row" { (clean(name)) }
                            (number(*count))
                            td class="n" { (percent(*count, self.whole)) }
                        }
                    }
                }
            }
        }
    }

    /// Draws horizontal bars, the longest first.
    fn bars(&self) -> Markup {
        const HEIGHT: usize = 26;
        const LEFT: f64 = 270.0;
        const LONGEST: f64 = 300.0;
        let mut bars: Vec<(String, u64)> = self.rows.iter().take(MAX_BARS).cloned().collect();
        let rest: u64 = self.rows.iter().skip(MAX_BARS).map(|(_, count)| count).sum();
        if rest > 0 {
            bars.push((format!("{} others", self.rows.len() - MAX_BARS), rest));
        }
        let most = bars.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
        let described: Vec<String> =
            bars.iter().map(|(name, count)| format!("{}: {}", clean(name), grouped(*count))).collect();
        let (title, desc) = (format!("{}-title", self.id), format!("{}-desc", self.id));
        html! {
            svg viewBox=(format!("0 0 640 {}", bars.len() * HEIGHT)) role="img"
                aria-labelledby=(format!("{title} {desc}")) {
                title id=(title) { (self.title) }
                desc id=(desc) { (described.join("; ")) }
                @for (index, (name, count)) in bars.iter().enumerate() {
                    @let middle = index * HEIGHT + HEIGHT / 2;
                    @let width = (LONGEST * *count as f64 / most as f64).max(2.0);
                    text x=(LEFT - 10.0) y=(middle + 5) text-anchor="end" { (label(&clean(name))) }
                    rect class=(if index == MAX_BARS { "rest" } else { "bar" }) x=(LEFT) y=(middle - 9)
                        width=(format!("{width:.1}")) height="18" rx="3" {}
                    text class="value" x=(format!("{:.1}", LEFT + width + 8.0)) y=(middle + 5) {
                        (grouped(*count))
                    }
                }
            }
        }
    }
}

fn senders(report: &Report) -> Markup {
    let mut rows: Vec<(&str, OfSender)> =
        report.senders.iter().map(|(name, tally)| (name.as_str(), *tally)).collect();
    rows.sort_by_key(|(name, tally)| (std::cmp::Reverse((tally.trackers, tally.messages)), *name));
    let mut rest = report.other_senders;
    for (_, tally) in rows.iter().skip(MAX_ROWS) {
        rest.messages += tally.messages;
        rest.with_trackers += tally.with_trackers;
        rest.trackers += tally.trackers;
    }
    rows.truncate(MAX_ROWS);
    if rest.messages > 0 {
        rows.push(("all others", rest));
    }
    let content = html! {
        p class="soft" { "The domain of the From field, which was not authenticated." }
        div class="wide" {
            table {
                caption { "Messages and trackers by From domain" }
                thead {
                    tr {
                        th scope="col" { "From domain" }
                        @for name in ["Messages", "With trackers", "Trackers"] {
                            th scope="col" class="n" { (name) }
                        }
                    }
                }
                tbody {
                    @for (name, tally) in rows {
                        tr {
                            th scope="row" { (clean(name)) }
                            @for count in [tally.messages, tally.with_trackers, tally.trackers] {
                                (number(count))
                            }
                        }
                    }
                }
            }
        }
    };
    section("senders", "By sender", &content)
}

fn messages(report: &Report) -> Markup {
    let content = html! {
        @if report.listed.is_empty() {
            p { "None was found." }
        } @else {
            p class="soft" {
                "Addresses are shown as text and shortened. Do not open them: some belong to fraudsters."
            }
            div class="wide" {
                table class="list" {
                    caption { "Each message with what would be removed from it" }
                    thead {
                        tr {
                            @for name in ["Message", "Sender", "Trackers"] { th scope="col" { (name) } }
                        }
                    }
                    tbody { @for message in &report.listed { (listed(message)) } }
                }
            }
            @if report.unlisted() > 0 {
                p {
                    strong { (plural(report.unlisted(), "message")) " more" }
                    " with trackers are counted above and not listed here."
                }
            }
        }
    };
    section("messages", "Messages with trackers", &content)
}

fn listed(message: &Listed) -> Markup {
    html! {
        tr {
            th scope="row" { (clean(&message.name)) }
            td { (clean(&message.sender)) }
            td {
                ul {
                    @for tracker in &message.trackers { li { (one(tracker)) } }
                    @if message.more > 0 { li { "and " (message.more) " more" } }
                }
            }
        }
    }
}

fn one(tracker: &Tracker) -> Markup {
    html! {
        strong { (clean(&tracker.vendor)) }
        ", " (clean(carrier(tracker.carrier))) ": " (clean(&tracker.why)) "."
        @if tracker.protected { " " em { "Cannot be removed: signed or encrypted." } }
        " " code { (clean(&tracker.url)) }
    }
}

/// Describes a carrier for a reader who does not know HTML.
fn carrier(name: &str) -> &str {
    match name {
        "img" => "image",
        "srcset" => "image, one of several sizes",
        "input" => "image button",
        "background" => "background image",
        "style-attribute" => "style of an element",
        "style-sheet" => "style sheet",
        "link" => "linked resource",
        "media" => "video or sound",
        "embedded" => "embedded page or object",
        "svg" => "drawing (SVG)",
        "vml" => "Outlook drawing (VML)",
        "amp" => "AMP element",
        "refresh" => "page refresh",
        "receipt-header" => "header field",
        "unreadable-part" => "part that cannot be read",
        other => other,
    }
}

fn ranked(rows: impl Iterator<Item = (String, u64)>) -> Vec<(String, u64)> {
    let mut rows: Vec<(String, u64)> = rows.collect();
    rows.sort_by(|(a, more), (b, less)| less.cmp(more).then_with(|| a.cmp(b)));
    rows
}

fn number(count: u64) -> Markup {
    html! { td class="n" { (grouped(count)) } }
}

/// Formats a number: `12,345`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn plural(number: u64, noun: &str) -> String {
    match number {
        0 => format!("no {noun}s"),
        1 => format!("one {noun}"),
        many => format!("{} {noun}s", grouped(many)),
    }
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or(String::new(), |first| first.to_uppercase().chain(characters).collect())
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "0 %".to_owned();
    }
    let share = 100.0 * part as f64 / whole as f64;
    if share < 10.0 { format!("{share:.1} %") } else { format!("{share:.0} %") }
}

fn label(name: &str) -> String {
    if name.chars().count() <= MAX_LABEL {
        return name.to_owned();
    }
    name.chars().take(MAX_LABEL - 1).chain(['…']).collect()
}

/// Replaces characters that would hide or reverse their neighbours by U+FFFD.
fn clean(text: &str) -> String {
    let is_shown = |character: char| {
        let hides = matches!(
            character,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
        );
        !hides && !character.is_control()
    };
    text.chars().map(|character| if is_shown(character) { character } else { '\u{fffd}' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hostile() -> String {
        "</td><script>alert('1')</script>\"&\u{202e}\u{7}".to_owned()
    }

    #[test]
    fn what_comes_from_mail_stays_text() {
        let mut report = Report { messages: 1, with_trackers: 1, trackers: 1, ..Report::default() };
        report.vendors.insert(hostile(), 1);
        report.senders.insert(hostile(), OfSender { messages: 1, with_trackers: 1, trackers: 1 });
        let tracker =
            Tracker { vendor: hostile(), carrier: "img", url: hostile(), why: hostile(), protected: true };
        report.listed.push(Listed { name: hostile(), sender: hostile(), trackers: vec![tracker], more: 3 });
        let text = page(&report, &hostile());
        assert!(!text.contains("<script") && !text.contains('\u{202e}') && !text.contains('\u{7}'), "{text}");
        assert!(text.matches("&lt;script&gt;alert('1')").count() >= 8, "{text}");
        assert!(text.contains("and 3 more") && text.contains("Cannot be removed"));
    }

    #[test]
    fn long_tails_are_summed_up() {
        let mut report = Report::default();
        for number in 0..MAX_ROWS as u64 + 5 {
            report.vendors.insert(format!("vendor {number}"), 1);
            let tally = OfSender { messages: 2, with_trackers: 1, trackers: 1 };
            report.senders.insert(format!("s{number:03}.example"), tally);
        }
        let text = page(&report, "today");
        assert!(text.contains("93 others"), "{text}");
        assert!(text.contains("all others</th><td class=\"n\">10</td>"), "{text}");
    }

    #[test]
    fn nothing_found_makes_a_page_too() {
        let text = page(&Report::default(), "today");
        assert!(text.contains("Open tracking in no messages") && text.contains("None was found."), "{text}");
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(percent(1, 3), "33 %");
        assert_eq!(percent(1, 30), "3.3 %");
        assert_eq!(plural(2, "message"), "2 messages");
    }
}
