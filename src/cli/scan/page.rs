//! Renders a report as one HTML page that loads nothing: no script, no link, and no image but those drawn in
//! it.
//!
//! Whatever comes from messages is escaped.

use std::fmt::Write as _;

use super::report::{Listed, OfSender, Report, Tracker};

/// The maximum number of bars in a chart; the rest becomes one.
const MAX_BARS: usize = 12;
/// The maximum number of senders in the table.
const MAX_ROWS: usize = 100;
/// The maximum number of characters of a label beside a bar.
const MAX_LABEL: usize = 38;

/// Writes the page; `date` is when the scan was made.
pub(super) fn page(report: &Report, date: &str) -> String {
    let mut out = HEAD.to_owned();
    let _ = write!(
        out,
        "<header><h1>Open tracking in {}</h1><p class=\"soft\">Scanned on {}, by pixelward \
         {}.</p></header><main>",
        plural(report.messages, "message"),
        escaped(date),
        env!("CARGO_PKG_VERSION"),
    );
    out += &overview(report);
    out += &outcomes(report);
    out += &section(
        ("vendors", "Trackers by vendor"),
        "The services that learn of an open, as far as the form of the address shows.",
        "Vendor",
        &ranked(report.vendors.iter().map(|(name, count)| (name.clone(), *count))),
        report.trackers,
    );
    out += &section(
        ("carriers", "Trackers by carrier"),
        "The place in the message from which the mail program loads something.",
        "Carrier",
        &ranked(report.carriers.iter().map(|(name, count)| (carrier(name), *count))),
        report.trackers,
    );
    out += &section(
        ("evidence", "Trackers by kind of signal"),
        "What indicates a tracker. Most have several kinds of signals, so the shares add up to more than 100 \
         %.",
        "Evidence",
        &ranked(report.facts.iter().map(|(name, count)| ((*name).to_owned(), *count))),
        report.trackers,
    );
    if report.tracked_links > 0 {
        out += &section(
            ("links", "Tracked links by vendor"),
            "Whose servers learn that a link was followed. Links are counted; what becomes of them is a setting of its own.",
            "Vendor",
            &ranked(report.links.iter().map(|(name, count)| (name.clone(), *count))),
            report.tracked_links,
        );
    }
    out += &senders(report);
    out += &messages(report);
    out += "</main><footer><p class=\"soft\">Nothing was fetched to make this page, and it loads nothing. \
            Readable mail addresses in a tracker's URL are left out, as are common encodings of those in To, \
            Cc and Delivered-To. Subjects are not shown.</p></footer></body></html>\n";
    out
}

fn overview(report: &Report) -> String {
    let mut out = String::from(
        "<section aria-labelledby=\"overview\"><h2 id=\"overview\">At a glance</h2><dl class=\"tiles\">",
    );
    let share = percent(report.with_trackers, report.messages);
    let senders = report.senders.values().filter(|sender| sender.trackers > 0).count() as u64;
    let more = if report.other_senders.trackers > 0 { "+" } else { "" };
    for (name, value) in [
        ("messages", grouped(report.messages)),
        ("with trackers", format!("{} <small>{share}</small>", grouped(report.with_trackers))),
        ("trackers", grouped(report.trackers)),
        ("senders that track", format!("{}{more}", grouped(senders))),
    ] {
        let _ = write!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    out += "</dl>";
    if report.messages > 0 {
        let width = 640.0 * report.with_trackers as f64 / report.messages as f64;
        let _ = write!(
            out,
            "<svg class=\"share\" viewBox=\"0 0 640 14\" role=\"img\" aria-labelledby=\"share-title \
             share-desc\"><title id=\"share-title\">Share of messages with trackers</title><desc \
             id=\"share-desc\">{} of {} messages, {share}</desc><rect class=\"rest\" width=\"640\" \
             height=\"14\" rx=\"4\"/><rect class=\"bar\" width=\"{width:.1}\" height=\"14\" rx=\"4\"/></svg>",
            grouped(report.with_trackers),
            grouped(report.messages),
        );
    }
    if report.failed > 0 {
        let _ = write!(
            out,
            "<p><strong>{} could not be read</strong> and {} not counted here.</p>",
            plural(report.failed, "item"),
            if report.failed == 1 { "is" } else { "are" }
        );
    }
    out + "</section>"
}

/// Renders who gets what.
fn outcomes(report: &Report) -> String {
    let removable = report.trackers - report.protected.min(report.trackers);
    let row = |said: &str, what: &str, changed: u64, gone: u64, left: u64| {
        format!(
            "<tr><th scope=\"row\">{said}</th><td>{what}</td>{}{}{}</tr>",
            number(changed),
            number(gone),
            number(left)
        )
    };
    let mut out = String::from(
        "<section aria-labelledby=\"outcomes\"><h2 id=\"outcomes\">What would be stripped, and for whom</h2>",
    );
    let _ = write!(
        out,
        "<p>Silence is not consent: a recipient who was never asked gets the same message as one who \
         refused, without trackers. {} would change for them, and {} would be removed, {} among these. The \
         rest of each message stays as it is. A recipient who agreed to every purpose gets the message with \
         its trackers, unless the copy is shared with somebody who did not.</p>",
        capital(&plural(report.changeable, "message")),
        plural(removable, "tracker"),
        plural(report.receipts, "receipt request"),
    );
    out += "<div class=\"wide\"><table class=\"outcome\"><caption>Outcome by what the recipient said, with \
            default settings</caption><thead><tr><th scope=\"col\">Recipient</th><th \
            scope=\"col\">Gets</th><th scope=\"col\" class=\"n\">Messages changed</th><th scope=\"col\" \
            class=\"n\">Trackers removed</th><th scope=\"col\" class=\"n\">Trackers \
            left</th></tr></thead><tbody>";
    let without = "the message without trackers and receipt requests";
    out += &row("refused", without, report.changeable, removable, report.protected);
    out += &row("was never asked", without, report.changeable, removable, report.protected);
    out += &row("granted", "the message as it came", 0, 0, report.trackers);
    out += "</tbody></table></div><ul>";
    let _ = write!(
        out,
        "<li><strong>{}</strong> in signed or encrypted parts of {}. No relay can remove these without \
         breaking the signature or the encryption: such a message is returned to its sender, or passed \
         unchanged if the operator chose so.</li>",
        capital(&plural(report.protected, "tracker")),
        plural(report.with_protected, "message"),
    );
    let _ = write!(
        out,
        "<li><strong>{}</strong>: header fields that ask the reader's mail program for a read receipt.</li>",
        capital(&plural(report.receipts, "receipt request")),
    );
    if report.unreadable > 0 {
        let _ = write!(
            out,
            "<li><strong>{}</strong> could not be read completely. Every remote request is removed from \
             these, or they wait with their sender.</li>",
            capital(&plural(report.unreadable, "message")),
        );
    }
    if report.unreadable_parts > 0 {
        let _ = write!(
            out,
            "<li><strong>{}</strong> in an encoding that nobody knows: what is in them cannot be said. They stay \
             and are counted, unless <code>policy.unreadable</code> says otherwise.</li>",
            capital(&plural(report.unreadable_parts, "text part")),
        );
    }
    out + "</ul></section>"
}

/// Renders a chart with its table; shares are of `trackers`.
fn section(
    (id, title): (&str, &str),
    about: &str,
    column: &str,
    rows: &[(String, u64)],
    trackers: u64,
) -> String {
    let mut out = format!(
        "<section aria-labelledby=\"{id}\"><h2 id=\"{id}\">{title}</h2><p class=\"soft\">{about}</p>"
    );
    if rows.is_empty() {
        return out + "<p>None was found.</p></section>";
    }
    let _ = write!(
        out,
        "<div class=\"pair\"><figure>{}</figure><table><caption>{title}</caption><thead><tr><th \
         scope=\"col\">{column}</th><th scope=\"col\" class=\"n\">Number</th><th scope=\"col\" \
         class=\"n\">Of trackers</th></tr></thead><tbody>",
        chart(id, title, rows),
    );
    for (name, count) in rows {
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}</th>{}<td class=\"n\">{}</td></tr>",
            escaped(name),
            number(*count),
            percent(*count, trackers)
        );
    }
    out + "</tbody></table></div></section>"
}

/// Draws horizontal bars, the longest first.
fn chart(id: &str, title: &str, rows: &[(String, u64)]) -> String {
    const HEIGHT: usize = 26;
    const LEFT: f64 = 270.0;
    const LONGEST: f64 = 300.0;
    let mut bars: Vec<(String, u64)> = rows.iter().take(MAX_BARS).cloned().collect();
    let rest: u64 = rows.iter().skip(MAX_BARS).map(|(_, count)| count).sum();
    if rest > 0 {
        bars.push((format!("{} others", rows.len() - MAX_BARS), rest));
    }
    let most = bars.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
    let described: Vec<String> =
        bars.iter().map(|(name, count)| format!("{name}: {}", grouped(*count))).collect();
    let mut out = format!(
        "<svg viewBox=\"0 0 640 {}\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\">\
         <title id=\"{id}-title\">{title}</title><desc id=\"{id}-desc\">{}</desc>",
        bars.len() * HEIGHT,
        escaped(&described.join("; ")),
    );
    for (index, (name, count)) in bars.iter().enumerate() {
        let middle = index * HEIGHT + HEIGHT / 2;
        let width = (LONGEST * *count as f64 / most as f64).max(2.0);
        let class = if index == MAX_BARS { "rest" } else { "bar" };
        let _ = write!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{LEFT}\" y=\"{}\" width=\"{width:.1}\" height=\"18\" rx=\"3\"/>\
             <text class=\"value\" x=\"{:.1}\" y=\"{}\">{}</text>",
            LEFT - 10.0,
            middle + 5,
            escaped(&label(name)),
            middle - 9,
            LEFT + width + 8.0,
            middle + 5,
            grouped(*count),
        );
    }
    out + "</svg>"
}

fn senders(report: &Report) -> String {
    let mut rows: Vec<(&str, OfSender)> =
        report.senders.iter().map(|(name, tally)| (name.as_str(), *tally)).collect();
    rows.sort_by_key(|(name, tally)| (std::cmp::Reverse((tally.trackers, tally.messages)), *name));
    let mut out = String::from(
        "<section aria-labelledby=\"senders\"><h2 id=\"senders\">By sender</h2><p class=\"soft\">The domain \
         of the From field, which was not authenticated.</p><div class=\"wide\"><table><caption>Messages and \
         trackers by From domain</caption><thead><tr><th scope=\"col\">From domain</th><th scope=\"col\" \
         class=\"n\">Messages</th><th scope=\"col\" class=\"n\">With trackers</th><th scope=\"col\" \
         class=\"n\">Trackers</th></tr></thead><tbody>",
    );
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
    for (name, tally) in rows {
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}</th>{}{}{}</tr>",
            escaped(name),
            number(tally.messages),
            number(tally.with_trackers),
            number(tally.trackers)
        );
    }
    out + "</tbody></table></div></section>"
}

fn messages(report: &Report) -> String {
    let mut out =
        String::from("<section aria-labelledby=\"messages\"><h2 id=\"messages\">Messages with trackers</h2>");
    if report.listed.is_empty() {
        return out + "<p>None was found.</p></section>";
    }
    out += "<p class=\"soft\">Addresses are shown as text and shortened. Do not open them: some belong to \
            fraudsters.</p><div class=\"wide\"><table class=\"list\"><caption>Each message with what would \
            be removed from it</caption><thead><tr><th scope=\"col\">Message</th><th \
            scope=\"col\">Sender</th><th scope=\"col\">Trackers</th></tr></thead><tbody>";
    for message in &report.listed {
        out += &listed(message);
    }
    out += "</tbody></table></div>";
    if report.unlisted() > 0 {
        let _ = write!(
            out,
            "<p><strong>{} more</strong> with trackers are counted above and not listed here.</p>",
            plural(report.unlisted(), "message")
        );
    }
    out + "</section>"
}

fn listed(message: &Listed) -> String {
    let mut out = format!(
        "<tr><th scope=\"row\">{}</th><td>{}</td><td><ul>",
        escaped(&message.name),
        escaped(&message.sender)
    );
    for tracker in &message.trackers {
        out += &one(tracker);
    }
    if message.more > 0 {
        let _ = write!(out, "<li>and {} more</li>", message.more);
    }
    out + "</ul></td></tr>"
}

fn one(tracker: &Tracker) -> String {
    let kept = if tracker.protected { " <em>Cannot be removed: signed or encrypted.</em>" } else { "" };
    format!(
        "<li><strong>{}</strong>, {}: {}.{kept} <code>{}</code></li>",
        escaped(&tracker.vendor),
        escaped(&carrier(tracker.carrier)),
        escaped(&tracker.why),
        escaped(&tracker.url)
    )
}

/// Describes a carrier for a reader who does not know HTML.
fn carrier(name: &str) -> String {
    let text = match name {
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
    };
    text.to_owned()
}

fn ranked(rows: impl Iterator<Item = (String, u64)>) -> Vec<(String, u64)> {
    let mut rows: Vec<(String, u64)> = rows.collect();
    rows.sort_by(|(a, more), (b, less)| less.cmp(more).then_with(|| a.cmp(b)));
    rows
}

fn number(count: u64) -> String {
    format!("<td class=\"n\">{}</td>", grouped(count))
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

/// Escapes a text for any place in the page. Characters that would hide or reverse their neighbours become
/// U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => {
                out.push('\u{fffd}');
            }
            _ if character.is_control() => out.push('\u{fffd}'),
            _ => out.push(character),
        }
    }
    out
}

const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta name="referrer" content="no-referrer"/>
<meta name="robots" content="noindex"/>
<title>Open tracking report</title>
<style>
:root{color-scheme:light dark;--page:#fff;--card:#f5f6f8;--text:#1b1f24;--soft:#57606a;--line:#d5d9df;
--bar:#2f6fb3;--rest:#c3cad3}
@media (prefers-color-scheme:dark){:root{--page:#14171b;--card:#1e2329;--text:#e7eaee;--soft:#a3acb8;
--line:#363d47;--bar:#6ba6e8;--rest:#49525e}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1080px;padding:2rem 1.5rem;background:var(--page);color:var(--text);
font:16px/1.5 system-ui,"Segoe UI",Roboto,"Noto Sans",sans-serif}
h1{font-size:1.8rem;line-height:1.2;margin:0}h2{font-size:1.25rem;margin:0 0 .4rem}
section{border-top:1px solid var(--line);margin-top:2rem;padding-top:1.4rem}
p{margin:.4rem 0 .8rem;max-width:75ch}.soft{color:var(--soft)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:.8rem;margin:.6rem 0 1rem}
.tiles div{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.7rem 1rem;
display:flex;flex-direction:column-reverse}
dt{color:var(--soft);font-size:.9rem}dd{margin:0;font-size:1.7rem;font-weight:600}dd small{font-size:1rem;
font-weight:400;color:var(--soft)}
figure{margin:0;position:sticky;top:1rem}svg{display:block;width:100%;height:auto}svg text{fill:var(--text);
font-size:13px}svg .value{fill:var(--soft)}
.bar{fill:var(--bar)}.rest{fill:var(--rest)}.share{margin:.2rem 0 1rem}
.pair{display:grid;grid-template-columns:3fr 2fr;gap:2rem;align-items:start}.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.92rem}caption{text-align:left;color:var(--soft);
font-size:.85rem;padding-bottom:.3rem}
th,td{border-bottom:1px solid var(--line);padding:.35rem .6rem .35rem 0;text-align:left;vertical-align:top;
overflow-wrap:anywhere}
tbody th{font-weight:400}thead th{font-weight:600}.n{text-align:right;white-space:nowrap;
font-variant-numeric:tabular-nums;overflow-wrap:normal}
thead th.n{white-space:normal}
.outcome{min-width:600px}.outcome tbody th{white-space:nowrap}
.list{table-layout:fixed;min-width:640px}.list th:first-child{width:24%}.list th:nth-child(2){width:17%}
.list ul{margin:0;padding:0;list-style:none}.list li+li{margin-top:.4rem}.list code{display:block}
code{font:.85em ui-monospace,Menlo,Consolas,monospace;color:var(--soft);overflow-wrap:anywhere}
footer{margin-top:2rem;border-top:1px solid var(--line);padding-top:.8rem;font-size:.9rem}
@media (max-width:760px){.pair{grid-template-columns:1fr}figure{position:static}}
@media print{:root{color-scheme:light;--page:#fff;--card:#fff;--text:#000;--soft:#333;--line:#bbb;--bar:#444;
--rest:#bbb}
body{max-width:none;padding:0;font-size:11px}tr,svg,.tiles{break-inside:avoid}h2{break-after:avoid}
thead{display:table-header-group}
.bar,.rest{print-color-adjust:exact;-webkit-print-color-adjust:exact}figure{position:static;max-width:75%}
.pair{grid-template-columns:1fr;gap:1rem}.wide{overflow:visible}.list,.outcome{min-width:0}}
</style></head><body>
"#;

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
        assert!(text.matches("&lt;script&gt;alert(&#39;1&#39;)").count() >= 8, "{text}");
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
