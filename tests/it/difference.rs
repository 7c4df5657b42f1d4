//! The second look at a rewritten copy reads only what differs from the message that came, and the first look at a copy
//! of a campaign what differs from another one. Both must find what a scan of all of it finds, whatever differs.

#[path = "../../fuzz/difference.rs"]
#[allow(unreachable_pub, reason = "the fuzz areas call it, too")]
mod second_look;

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use pixelward::message::transfer::{Edit, apply, encode_base64};
use pixelward::tracker::{Detector, Extent, Inquiry, Links};
use proptest::prelude::*;
use second_look::{Known, Numbers, are_known_copies, copy, edits, has_answer, of_known_copies};

use crate::mail::{DETECTOR, own_messages, real_messages};

const PIXEL: &str = "<img src=\"https://t.news.example/wf/open?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6\" \
                     width=1 height=1>";

/// Edits a message in several ways and compares; says how often there was an answer.
fn check(raw: &[u8], seeds: std::ops::Range<u64>) -> u64 {
    let recipients = ["ann@home.example"];
    let mut answers = 0;
    for extent in [Extent::Trackers, Extent::EveryRequest] {
        let inquiry = Inquiry { extent, links: Links::Note, ..Inquiry::to(&recipients) };
        let analysis = DETECTOR.analyse(raw, &inquiry);
        for seed in seeds.clone() {
            let edits = edits(raw, &analysis, &mut Numbers::of(seed));
            answers += u64::from(has_answer(&DETECTOR, raw, &analysis, &edits, &inquiry));
        }
    }
    answers
}

#[test]
fn it_holds_for_our_own_messages_and_for_real_ones() {
    const SEEDS: u64 = 12;
    let (mut answers, mut asked) = (0, 0);
    for (_, raw) in own_messages().into_iter().chain(real_messages("difference")) {
        answers += check(&raw, 0..SEEDS);
        asked += 2 * SEEDS;
    }
    // Most of the short messages have edits that leave nothing as it was.
    assert!(4 * answers > asked, "{answers} of {asked}");
}

/// Compares other copies of a message; says how many were read as copies.
fn check_copies(raw: &[u8], seeds: std::ops::Range<u64>) -> u64 {
    let recipients = ["ann@home.example"];
    let mut known = 0;
    for (extent, links) in [(Extent::Trackers, Links::Note), (Extent::EveryRequest, Links::Ignore)] {
        let inquiry = Inquiry { extent, links, ..Inquiry::to(&recipients) };
        let analysis = DETECTOR.analyse(raw, &inquiry);
        for seed in seeds.clone() {
            let mut numbers = Numbers::of(seed);
            let edited = apply(raw, &edits(raw, &analysis, &mut numbers));
            for other in [copy(raw, &mut numbers), edited] {
                let how = are_known_copies(&DETECTOR, raw, &other, &mut numbers, &inquiry);
                known += u64::from(how[0] != Known::No);
            }
        }
    }
    known
}

#[test]
fn copies_of_our_own_messages_and_of_real_ones_are_read_rightly() {
    const SEEDS: u64 = 4;
    let (mut known, mut asked) = (0, 0);
    for (_, raw) in own_messages().into_iter().chain(real_messages("copies")) {
        let here = check_copies(&raw, 0..SEEDS);
        known += here;
        asked += if here > 0 { 4 * SEEDS } else { 0 };
    }
    // Many messages are too short, or have what speaks for all of them; and what is edited at random often has so.
    assert!(4 * known > asked && asked > 0, "{known} of {asked}");
}

/// A text of some length: the notes of a walk are kilobytes apart.
fn filled(pieces: &[String]) -> String {
    let words = "<p class=\"text\">Some words of a letter, in lines that are long enough.</p>\r\n".repeat(4);
    let rows = pieces.iter().map(|piece| format!("<table><tr><td>{words}</td></tr></table>{piece}\r\n"));
    rows.collect()
}

fn message(html: &str, encoding: usize) -> Bytes {
    let (name, body) = match encoding {
        0 => ("8bit", html.to_owned()),
        1 => ("quoted-printable", html.replace('=', "=3D").replace("letter,", "letter,=\r\n")),
        _ => {
            let encoded = encode_base64(html.as_bytes());
            let lines: Vec<&str> =
                (0..encoded.len()).step_by(76).map(|at| &encoded[at..(at + 76).min(encoded.len())]).collect();
            ("base64", lines.join("\r\n"))
        }
    };
    Bytes::from(format!(
        "Subject: a\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: \
         text/plain\r\n\r\nSome words.\r\n--b\r\nContent-Type: text/html; \
         charset=utf-8\r\nContent-Transfer-Encoding: {name}\r\n\r\n{body}\r\n--b--\r\n"
    ))
}

/// What a cut of the first `what` of a text leaves to be found, and whether the quick look could say it.
fn quick(html: &str, what: &str) -> bool {
    let raw = message(html, 0);
    let inquiry = Inquiry::to(&["ann@home.example"]);
    let analysis = DETECTOR.analyse(&raw, &inquiry);
    let at = memchr::memmem::find(&raw, what.as_bytes()).unwrap();
    has_answer(&DETECTOR, &raw, &analysis, &[Edit::cut(at..at + what.len())], &inquiry)
}

#[test]
fn what_speaks_for_all_of_a_text_has_all_of_it_read() {
    let rows = filled(&vec![String::new(); 20]);
    assert!(quick(&format!("<html><body>{rows}{PIXEL}{rows}</body></html>"), PIXEL));
    let sheet = "<style>.x{width:1px}</style>";
    assert!(quick(&format!("<html><head>{sheet}</head><body>{rows}{PIXEL}{rows}"), PIXEL));
    for (text, what) in [
        (format!("<base href=\"https://a.example/\">{rows}{PIXEL}{rows}"), PIXEL),
        (format!("{rows}{PIXEL}{rows}{sheet}{rows}"), sheet),
        (format!("{rows}{sheet}{rows}{PIXEL}"), sheet),
        (format!("<p style=\"--x:url(//a.example/b);color:var(--x)\">{rows}{PIXEL}{rows}"), PIXEL),
        (format!("<svg><style></style></svg>{rows}{PIXEL}{rows}"), PIXEL),
    ] {
        assert!(!quick(&text, what), "{what} in {} ...", &text[..40]);
    }
}

#[test]
fn what_is_put_into_a_links_address_may_end_it() {
    let rows = filled(&vec![String::new(); 20]);
    let address = "https://click.news.example/c/Zk3Qw9XvT2aB7LmN8pRs?to=https%3A%2F%2Fnews.example%2F";
    for (quote, with) in
        [("\"", "https://news.example/"), ("\"", "\">"), ("'", "'><!--"), ("", "a b>"), ("\"", "")]
    {
        let text = format!("<html><body>{rows}<a href={quote}{address}{quote}>more</a>{PIXEL}{rows}");
        let raw = message(&text, 0);
        let inquiry = Inquiry { links: Links::Note, ..Inquiry::to(&["ann@home.example"]) };
        let analysis = DETECTOR.analyse(&raw, &inquiry);
        let at = memchr::memmem::find(&raw, address.as_bytes()).unwrap();
        let edit = Edit::replace(at..at + address.len(), with);
        assert!(has_answer(&DETECTOR, &raw, &analysis, &[edit], &inquiry), "{with}");
    }
}

#[test]
fn an_address_that_reads_as_another_one_is_written_is_not_taken_for_it() {
    let rows = filled(&vec![String::new(); 20]);
    let written = |token: &str, and: &str| {
        let link = format!(
            "<a href=\"https://click.news.example/c/{token}/a{and}copy/b?to=https:%2F%2Fa.example\">"
        );
        message(&format!("<html><body>{rows}{link}more</a>{PIXEL}{rows}"), 1)
    };
    let raw = written("Zk3Qw9XvT2aB7LmN8pRsYd4H", "&amp;");
    let inquiry = Inquiry { links: Links::Note, ..Inquiry::to(&["ann@home.example"]) };
    for seed in 0..8 {
        let copy = written("8pRsYd4HZk3Qw9XvT2aB7LmN", "&");
        let how = are_known_copies(&DETECTOR, &raw, &copy, &mut Numbers::of(seed), &inquiry);
        assert_eq!(how[0], Known::Like);
    }
}

/// Pieces of a letter, each with a token in it.
const WITH_TOKEN: [&str; 20] = [
    "<a href=\"https://click.news.example/c/TOKEN/1?to=https%3A%2F%2Fnews.example%2Fa\">more</a>",
    "<a href=\"https://click.news.example/c/TOKEN/2?to=https%3A%2F%2Fnews.example%2Fb\">more</a>",
    "<a href='https://click.news.example/TOKEN'>more</a>",
    "<a href=\"https://news.example/c/TOKEN/x\">nobody's</a>",
    "<a href=\"https://news.example/a/ann@home.example/TOKEN/x\">nobody's, with the reader in it</a>",
    "<a href=\"https://news.example/unsubscribe/TOKEN\">a choice</a>",
    "<a href=\"https://news.example/c/TOKEN/y\">unsubscribe</a>",
    "<a href=\"https://news.example/c/ba-TOKEN/y\">maybe a choice</a>",
    "<a href=\"https://t.news.example/r?u=TOKEN&amp;to=https://shop.example/\">in the query</a>",
    "<a href=\"https://email.news.example/c/TOKEN\">of a vendor whose tokens begin in one way</a>",
    "<a href=\"https://email.news.example/c/eJTOKEN\">that way</a>",
    "<a href=\"https://go.news.example/f/a/TOKEN?akid=1\">of another one</a>",
    "<a href=\"https://click.news.example/c/TOKEN/3\"><img src=\"https://cdn.news.example/i/TOKEN.png\" width=99></a>",
    "<a href=\"https://click.news.example/c/TOKEN/4\">open<a href=\"https://click.news.example/c/TOKEN/5\">",
    "<img src=\"https://t.news.example/wf/open?upn=u001.TOKEN\" width=1 height=1>",
    "<img src=\"https://cdn.news.example/p/TOKEN/logo.png\" width=140 height=40 alt=logo>",
    "<img src=\"https://cdn.news.example/p/logo.png?e=TOKEN\" width=140 height=40>",
    "<td background=\"https://t.news.example/o?u=TOKEN\">",
    "<div style=\"background:url(https://t.news.example/o/TOKEN)\"></div>",
    "<p>Yours, TOKEN</p>",
];

/// Tokens that may mean something: the reader's address, words of a choice, of a click and of an act, a vendor's.
const ODD_TOKEN: &str = "[A-Za-z0-9_-]{32}|eJ[a-z0-9]{30}|[a-z]{12}[0-9]{20}|c8e1a72a02d6a4a87378d595632b02ac|\
     ja[a-z0-9]{30}|unsub[a-z0-9]{27}|click[0-9]{27}|YW5uQGhvbWUuZXhhbXBsZQ[a-z0-9]{10}|\
     akid[a-z]{24}0000|[0-9]{32}|(click|sign|log)-[a-z]{22}0[0-9]{5}";

/// How often copies of letters were seen to be forms.
static FILLED: AtomicUsize = AtomicUsize::new(0);

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    fn copies_that_differ_in_tokens(
        pieces in prop::collection::vec(prop::sample::select(&WITH_TOKEN[..]), 1..10),
        tokens in prop::array::uniform3(prop_oneof![6 => "[A-Za-z0-9]{30}[0-9]{2}", 1 => ODD_TOKEN]),
        encoding in 0usize..3,
        seed in any::<u64>(),
    ) {
        let [one, other, copy] = tokens.each_ref().map(|token| {
            let pieces: Vec<String> = pieces.iter().map(|piece| piece.replace("TOKEN", &token[..32])).collect();
            // Notes of the walk stand before each of them.
            let words = filled(&vec![String::new(); 8]);
            message(&format!("<html><body>{words}{}</body></html>", pieces.join(&words)), encoding)
        });
        let inquiry = Inquiry { links: Links::Note, ..Inquiry::to(&["ann@home.example"]) };
        let others = [&one[..], &one, &other, &other, &other];
        let how = of_known_copies(&DETECTOR, &others, &copy, &mut Numbers::of(seed), &inquiry);
        FILLED.fetch_add(usize::from(how == Known::Filled), Ordering::Relaxed);
    }
}

#[test]
fn copies_that_differ_in_tokens_alone_are_read_rightly() {
    copies_that_differ_in_tokens();
    assert!(FILLED.load(Ordering::Relaxed) > 60, "{FILLED:?}");
}

#[test]
fn a_boundary_that_an_edit_makes_has_all_of_it_read() {
    let rows = filled(&vec![String::new(); 20]);
    assert!(quick(&format!("{rows}\r\n-QQ-x\r\n\r\n{PIXEL}{rows}"), "QQ"));
    assert!(!quick(&format!("{rows}\r\n-QQ-b\r\n\r\n{PIXEL}{rows}"), "QQ"));
    assert!(!quick(&format!("{rows}\r\n QQ\r\n--b--\r\n{PIXEL}{rows}"), "QQ\r\n"));
}

#[test]
fn a_tracker_that_an_edit_lays_open_is_found() {
    let rows = filled(&vec![String::new(); 20]);
    for hiding in ["<title>", "<!--", "<textarea>", "<x a=\"", "<div hidden>"] {
        let text = format!("<html><body>{rows}{hiding}{rows}{PIXEL}--></title></textarea>\">{rows}{PIXEL}");
        assert!(quick(&text, hiding), "{hiding}");
    }
    // Seen only together: three of one address are a spacer, two are not.
    let spacer = "<img src=\"https://a.example/s?x=5f2b1c0e9d8a7b6c5d4e3f2a1b0c9d8e\" width=1 height=1>";
    assert!(quick(&format!("{rows}{spacer}{rows}{spacer}{rows}{spacer}{rows}"), spacer));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn it_holds_for_generated_messages(
        pieces in prop::collection::vec(crate::corpus::piece(), 0..60),
        encoding in 0usize..3,
        seed in any::<u64>(),
    ) {
        let raw = message(&filled(&pieces), encoding);
        check(&raw, seed..seed.saturating_add(6));
        check_copies(&raw, seed..seed.saturating_add(2));
    }
}

#[test]
fn another_extent_than_that_of_the_analysis_has_no_answer() {
    let raw = message(&filled(&vec![PIXEL.to_owned(); 20]), 0);
    let inquiry = Inquiry::to(&["ann@home.example"]);
    let analysis = Detector::default().analyse(&raw, &inquiry);
    assert!(!has_answer(&DETECTOR, &raw, &analysis, &[Edit::cut(2000..2004)], &inquiry.everything()));
}
