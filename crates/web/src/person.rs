//! Renders everything recorded about one person as a page to read, print and pass on. It loads nothing and
//! has no script.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::consent::export::{Export, Proved};
use crate::consent::view::{Record, Standing};

const STYLE: &str = ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;\
                     margin:2rem auto;padding:0 1rem}h1{font-size:1.6rem}h2{font-size:1.25rem;\
                     margin-top:2.2rem}h3{font-size:1.05rem;margin-bottom:.4rem}\
                     table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;\
                     padding:.35rem .7rem .35rem 0;border-bottom:1px solid #8886}article{border:1px solid \
                     #8886;border-radius:.5rem;padding:.3rem 1rem 1rem;margin:1rem \
                     0;break-inside:avoid}dl{display:grid;grid-template-columns:minmax(9rem,max-content) \
                     1fr;gap:.25rem 1rem;margin:0}dt{font-weight:600}dd{margin:0;overflow-wrap:anywhere}\
                     code{font-size:.85em;overflow-wrap:anywhere}\
                     .soft{opacity:.75}@media(max-width:34rem){dl{grid-template-columns:1fr}\
                     dd{margin-bottom:.5rem}}";

/// Renders the page.
pub fn page(export: &Export) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                title { "What is recorded of one person" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { "What is recorded of one person" }
                    p {
                        "Taken from the consent journal on "
                        time datetime=(export.exported_at) { (readable(&export.exported_at)) }
                        ". The person is known under a keyed hash of the mail address, "
                        code { (export.person) }
                        ". The address itself is not kept."
                    }
                    @for standing in &export.standing { (stands(standing)) }
                    h2 { "Every record, oldest first" }
                    @for record in &export.records { (entry(record)) }
                    (how_to_check(export))
                }
            }
        }
    };
    page.into_string()
}

fn stands(standing: &Standing) -> Markup {
    html! {
        h2 { "Current consent towards " (standing.controller) }
        table {
            thead {
                tr {
                    th scope="col" { "Purpose" }
                    th scope="col" { "Last said" }
                    th scope="col" { "On" }
                    th scope="col" { "May opens be read for it?" }
                }
            }
            tbody {
                @for row in &standing.purposes {
                    tr {
                        th scope="row" { (words(&row.purpose)) }
                        td { (words(&row.state)) }
                        td {
                            (readable(&row.event_time))
                            @if let Some(end) = &row.expires { ", until " (readable(end)) }
                        }
                        td { @if row.allowed { "yes" } @else { "no" } " (record " (row.record) ")" }
                    }
                }
            }
        }
        @if standing.no_track { p { "This person is never to be tracked." } }
        @if let Some(end) = &standing.do_not_ask_before {
            p { "Do not ask again before " (readable(end)) "." }
        }
        @if let Some(rules) = &standing.jurisdiction { p { "Rules that apply: " (rules) "." } }
    }
}

fn entry(Proved { said: record, proof }: &Proved) -> Markup {
    let purposes: Vec<String> = record.purposes.iter().map(|purpose| words(purpose)).collect();
    let rows = [
        ("Said", Some(format!("{} about {}", state_of(record), purposes.join(", ")))),
        ("To", Some(record.controller.clone())),
        ("On", Some(readable(&record.event_time))),
        ("Said to apply to", record.claimed_time.as_deref().map(readable)),
        ("Recorded on", Some(readable(&record.recorded_at))),
        ("How", record.method.clone()),
        ("Where", record.channel.clone()),
        ("Notice shown", record.notice_version.clone()),
        ("SHA-256 of its text", record.text_hash.clone()),
        ("Evidence", record.evidence.clone()),
        ("Entered by", record.actor.clone()),
        ("Known to the controller as", record.external_id.clone()),
        ("Asked on", record.asked_at.as_deref().map(readable)),
        ("Informed on", record.notice_sent_at.as_deref().map(readable)),
        ("Address collected on", record.collected_at.as_deref().map(readable)),
        ("Ends on", record.expires.as_deref().map(readable)),
        ("Do not ask before", record.do_not_ask_before.as_deref().map(readable)),
        ("Rules", record.jurisdiction.clone()),
        ("Never track", record.no_track.map(|flag| if flag { "yes" } else { "no" }.to_owned())),
    ];
    html! {
        article {
            h3 { "Record " (record.record) }
            dl {
                @for (name, value) in rows {
                    @if let Some(value) = value { dt { (name) } dd { (value) } }
                }
                dt { "Chain before" } dd { code { (proof.hash_before) } }
                dt { "Chain hash including it" } dd { code { (proof.hash) } }
            }
        }
    }
}

fn how_to_check(export: &Export) -> Markup {
    html! {
        h2 { "How this can be checked" }
        p {
            "Each record of the journal carries the SHA-256 of the hash before it and of its bytes. A record \
             cannot be changed, added or left out "
            "without changing every later hash. When this page was made, the journal had "
            (export.journal_records)
            " records of all people, and its last hash was " code { (export.journal_hash) } "."
        }
        p class="soft" {
            "The same export as JSON contains the bytes of each record. "
            code { "pixelward consent verify --export FILE" }
            " compares it with the journal."
        }
    }
}

/// Returns a name such as `campaign_performance` in ordinary spelling.
/// Says what was recorded. A grant without proof is one, and does not count (N22).
fn state_of(record: &Record) -> String {
    match record.unproved_grant {
        true => "granted without proof, so it does not count,".to_owned(),
        false => words(&record.state),
    }
}

fn words(name: &str) -> String {
    name.replace('_', " ")
}

/// Formats a time without the letters of RFC 3339.
fn readable(time: &str) -> String {
    let whole = time.split('.').next().unwrap_or(time).trim_end_matches('Z');
    format!("{} UTC", whole.replacen('T', " ", 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::export::Proof;

    #[test]
    fn what_people_wrote_stays_text() {
        let hostile = Some("<script>alert(1)</script>\"'&".to_owned());
        let proof = Proof { hash_before: "00".into(), payload: "01".into(), hash: "02".into() };
        let record = Record {
            record: 1,
            controller: "shop".into(),
            purposes: vec!["personalisation".into()],
            state: "granted".into(),
            unproved_grant: false,
            event_time: "2026-09-01T10:00:00Z".into(),
            claimed_time: None,
            recorded_at: "2026-09-01T10:00:00.123Z".into(),
            asked_at: None,
            notice_sent_at: None,
            collected_at: None,
            expires: None,
            do_not_ask_before: None,
            jurisdiction: hostile.clone(),
            no_track: None,
            method: hostile.clone(),
            channel: hostile.clone(),
            notice_version: hostile.clone(),
            text_hash: None,
            evidence: hostile.clone(),
            actor: hostile.clone(),
            external_id: hostile,
        };
        let export = Export {
            exported_at: "2026-09-01T10:00:00Z".into(),
            person: "ab".into(),
            standing: vec![],
            records: vec![Proved { said: record, proof }],
            journal_records: 1,
            journal_hash: "02".into(),
        };
        let page = page(&export);
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;"));
        assert!(page.contains("2026-09-01 10:00:00 UTC"), "{page}");
    }
}
