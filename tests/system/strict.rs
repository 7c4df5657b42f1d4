//! Strict mode, "no request left": a page with every way to make a request that HTML has, and every test
//! message, opened in a browser beside a server that counts.

use std::collections::BTreeSet;

use crate::browser::{Counter, Scratch, open};
use crate::mail::{DETECTOR, messages, rewritten};
use bytes::Bytes;
use pixelward::message::transfer::encode_base64;
use pixelward::message::{Content, Structure, Text};
use pixelward::tracker::{Axis, Extent, Inquiry, Verdict};

/// The page, each address with a number of its own, and how many there are.
fn page(port: u16) -> (String, usize) {
    let source = include_str!("../messages/every-request.html");
    let host = format!("127.0.0.1:{port}");
    let mut html = String::new();
    let mut count = 0;
    for piece in source.split_inclusive("URL") {
        match piece.strip_suffix("URL") {
            Some(before) => {
                count += 1;
                html.push_str(&format!("{before}http://{host}/{count}"));
            }
            None => html.push_str(piece),
        }
    }
    let inner = encode_base64(format!("<img src='http://{host}/within-base64'>").as_bytes());
    (html.replace("BASE64IMG", &inner).replace("HOST", &host), count)
}

/// The markup of a message.
fn markup(raw: &[u8]) -> Option<Vec<u8>> {
    let structure = Structure::read(raw);
    let leaf = structure.leaves.iter().find(|leaf| leaf.content == Content::Html)?;
    Some(Text::new(raw, leaf).bytes().to_vec())
}

#[test]
fn no_way_to_make_a_request_is_left() {
    let (counter, scratch) = (Counter::start(), Scratch::new("strict"));
    let (html, count) = page(counter.port);
    assert!(count >= 240, "{count}");
    let before = scratch.0.join("before.html");
    std::fs::write(&before, &html).unwrap();
    open(&before, &scratch, &["--dump-dom"]);
    let asked = counter.asked().len();
    assert!(asked >= 80, "the page itself makes only {asked} requests: the browser does not load it");
    for encoding in ["8bit", "quoted-printable", "base64"] {
        let counter = Counter::start();
        let (html, _) = page(counter.port);
        let body = match encoding {
            "quoted-printable" => html.replace('=', "=3D"),
            "base64" => encode_base64(html.as_bytes()),
            _ => html,
        };
        let raw = format!(
            "Subject: a\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: \
             {encoding}\r\n\r\n{body}\r\n"
        );
        let left = rewritten(&Bytes::from(raw), Extent::EveryRequest);
        let left = markup(&left).unwrap();
        let after = scratch.0.join("after.html");
        std::fs::write(&after, &left).unwrap();
        open(&after, &scratch, &["--dump-dom"]);
        assert_eq!(counter.asked(), BTreeSet::new(), "{encoding}");
        let text = String::from_utf8_lossy(&left).into_owned();
        let host = format!("127.0.0.1:{}", counter.port);
        let at = text
            .find(&host)
            .map(|at| text.get(at.saturating_sub(80)..at + 40).unwrap_or_default().to_owned());
        assert_eq!(at, None, "{encoding}");
    }
}

/// A longer page, in which what stands in `BASE64[…]` is encoded.
fn long_page(port: u16) -> String {
    let source = include_str!("../messages/every-request-at-length.html")
        .replace("HOST", &format!("127.0.0.1:{port}"));
    let mut html = String::new();
    let mut rest = source.as_str();
    while let Some((before, behind)) = rest.split_once("BASE64[") {
        let end =
            [")", "\"", "'"].iter().filter_map(|quote| behind.find(&format!("]{quote}"))).min().unwrap();
        html.push_str(before);
        html.push_str(&encode_base64(&behind.as_bytes()[..end]));
        rest = &behind[end + 1..];
    }
    html + rest
}

#[test]
fn none_of_seven_hundred_ways_is_left_where_no_script_runs() {
    // Mail clients run no scripts, so the browser is told to run none.
    let no_scripts = "<meta http-equiv=\"Content-Security-Policy\" content=\"script-src 'none'\">";
    let scratch = Scratch::new("strict-long");
    let counter = Counter::start();
    let html = long_page(counter.port);
    let page = scratch.0.join("page.html");
    std::fs::write(&page, format!("{no_scripts}{html}")).unwrap();
    open(&page, &scratch, &["--dump-dom"]);
    let asked = counter.asked().len();
    assert!(asked >= 200, "the page itself makes only {asked} requests: the browser does not load it");
    let counter = Counter::start();
    let raw =
        format!("Subject: a\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{}", long_page(counter.port));
    let left = markup(&rewritten(&Bytes::from(raw), Extent::EveryRequest)).unwrap();
    std::fs::write(&page, [no_scripts.as_bytes(), &left].concat()).unwrap();
    open(&page, &scratch, &["--dump-dom"]);
    assert_eq!(counter.asked(), BTreeSet::new());
}

#[test]
fn no_test_message_makes_a_request() {
    let (counter, scratch) = (Counter::start(), Scratch::new("strict-messages"));
    let mut pages = [String::new(), String::new()];
    for (number, (_, raw)) in messages().into_iter().enumerate() {
        let text = String::from_utf8(raw.to_vec()).unwrap();
        let text = text
            .replace("https://t.news.example/", &format!("http://127.0.0.1:{}/{number}/", counter.port))
            .replace("//t.news.example/", &format!("//127.0.0.1:{}/{number}/", counter.port));
        let raw = Bytes::from(text);
        let strict = rewritten(&raw, Extent::EveryRequest);
        for (index, message) in [&raw, &strict].into_iter().enumerate() {
            // What is signed is never edited.
            let signed = raw.windows(16).any(|window| window == b"multipart/signed");
            let Some(html) = markup(message).filter(|_| !signed) else { continue };
            std::fs::write(scratch.0.join(format!("{index}-{number}.html")), html).unwrap();
            pages[index].push_str(&format!("<iframe src=\"{index}-{number}.html\"></iframe>\n"));
        }
    }
    let strict = scratch.0.join("strict.html");
    std::fs::write(&strict, &pages[1]).unwrap();
    open(&strict, &scratch, &["--dump-dom"]);
    assert_eq!(counter.asked(), BTreeSet::new());
    let original = scratch.0.join("original.html");
    std::fs::write(&original, &pages[0]).unwrap();
    open(&original, &scratch, &["--dump-dom"]);
    let asked = counter.asked().len();
    assert!(
        asked >= 50,
        "the messages themselves make only {asked} requests: the browser does not load them"
    );
}

/// The texts of a message that a browser reads, as files beside each other; what is asked for goes through a
/// proxy, in clear.
fn written(raw: &[u8], name: &str, scratch: &Scratch) -> Vec<String> {
    let structure = Structure::read(raw);
    let read = structure.leaves.iter().filter(|leaf| matches!(leaf.content, Content::Html | Content::Style));
    let unprotected = read.filter(|leaf| leaf.protection.is_none());
    let texts = unprotected.enumerate().map(|(number, leaf)| {
        let text = String::from_utf8_lossy(Text::new(raw, leaf).bytes()).replace("https:", "http:");
        let is_style = leaf.content == Content::Style;
        let text = if is_style { format!("<style>{text}</style><p>Text</p>") } else { text };
        let file = format!("{name}-{number}.html");
        std::fs::write(scratch.0.join(&file), text).unwrap();
        file
    });
    texts.collect()
}

#[test]
fn nothing_is_asked_for_that_was_removed_and_in_strict_mode_nothing_at_all() {
    let (proxy, scratch) = (Counter::start(), Scratch::new("proxy"));
    let through = format!("--proxy-server=http://127.0.0.1:{}", proxy.port);
    let mut pages = [String::new(), String::new(), String::new()];
    let (mut removed, mut kept) = (BTreeSet::new(), BTreeSet::new());
    for (number, (_, raw)) in messages().into_iter().enumerate() {
        // Each message asks hosts of its own, where it is written in clear.
        let raw = match std::str::from_utf8(&raw) {
            Ok(text) => Bytes::from(text.replace("t.news.example", &format!("t{number}.news.example"))),
            Err(_) => raw,
        };
        let inquiry = Inquiry::to(&["ann@home.example"]).everything();
        for sighting in DETECTOR.analyse(&raw, &inquiry).sightings {
            let goes = sighting.verdict != Verdict::Picture && sighting.protection.is_none();
            if sighting.axis() == Axis::Open {
                let asked = format!("http://{}", sighting.url);
                if goes {
                    removed.insert(asked)
                } else {
                    kept.insert(asked)
                };
            }
        }
        let copies = [raw.clone(), rewritten(&raw, Extent::Trackers), rewritten(&raw, Extent::EveryRequest)];
        for (index, copy) in copies.iter().enumerate() {
            for file in written(copy, &format!("{index}-{number}"), &scratch) {
                pages[index].push_str(&format!("<iframe src=\"{file}\"></iframe>\n"));
            }
        }
    }
    let asked = |name: &str, page: &String| -> BTreeSet<String> {
        let before = proxy.asked();
        let file = scratch.0.join(format!("{name}.html"));
        std::fs::write(&file, page).unwrap();
        open(&file, &scratch, &["--dump-dom", &through]);
        proxy.asked().difference(&before).filter(|url| url.contains("news.example")).cloned().collect()
    };
    let [original, default, strict] = &pages;
    assert_eq!(asked("strict", strict), BTreeSet::new());
    let leaked: Vec<String> = asked("default", default)
        .into_iter()
        .filter(|url| removed.contains(url) && !kept.contains(url))
        .collect();
    assert!(leaked.is_empty(), "{leaked:?}");
    let before: Vec<String> =
        asked("original", original).into_iter().filter(|url| removed.contains(url)).collect();
    assert!(before.len() >= 50, "the messages themselves ask for {} of them: {before:?}", before.len());
}
