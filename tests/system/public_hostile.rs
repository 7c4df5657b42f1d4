//! Forged tokens, scanners, hostile bodies and slow clients on the public listener.

use crate::support;
use std::io::{Read, Write};
use std::time::Duration;

use crate::http::{Connection, head};
use crate::readers::Readers;
use crate::support::PATIENCE;
use pixelward::consent::Timestamp;
use pixelward::rewrite::reader_token::TokenKind;

/// A number of the environment: long forms of tests set it.
fn count(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Random numbers that are the same in each run (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut own = self.0;
        own = (own ^ (own >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        own = (own ^ (own >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        own ^ (own >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }
}

const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A token that nobody sealed: one that was, altered, or none at all.
fn forged(random: &mut Random, sealed: &[(TokenKind, String)]) -> (TokenKind, String) {
    let (own, token) = &sealed[random.below(sealed.len())];
    let mut bytes = token.clone().into_bytes();
    let kind = match random.below(6) {
        0 => {
            let at = random.below(bytes.len());
            let other = LETTERS[random.below(LETTERS.len())];
            bytes[at] = if bytes[at] == other { b'A' + (bytes[at] == b'A') as u8 } else { other };
            *own
        }
        1 => {
            bytes.truncate(random.below(bytes.len()));
            *own
        }
        2 => {
            let more = 1 + random.below(8);
            bytes.extend((0..more).map(|_| LETTERS[random.below(LETTERS.len())]));
            *own
        }
        // Used as another kind.
        3 => {
            let others: Vec<TokenKind> = TokenKind::ALL.into_iter().filter(|kind| kind != own).collect();
            others[random.below(others.len())]
        }
        // Two halves of two tokens.
        4 => {
            let (_, other) = &sealed[random.below(sealed.len())];
            let at = 1 + random.below(bytes.len().min(other.len()) - 1);
            let joined = [&bytes[..at], &other.as_bytes()[at..]].concat();
            if sealed.iter().any(|(_, known)| known.as_bytes() == joined) {
                bytes.reverse();
            } else {
                bytes = joined;
            }
            *own
        }
        _ => {
            let length = random.below(300);
            bytes = (0..length).map(|_| LETTERS[random.below(LETTERS.len())]).collect();
            TokenKind::ALL[random.below(TokenKind::ALL.len())]
        }
    };
    (kind, String::from_utf8(bytes).unwrap())
}

fn samples(readers: &Readers) -> Vec<(TokenKind, String)> {
    let last = |path: String| path.rsplit('/').next().unwrap().to_owned();
    vec![
        (TokenKind::Preference, last(readers.link("ann@home.example"))),
        (TokenKind::Gate, last(readers.gate("ann@home.example"))),
        (TokenKind::Link, last(readers.gated_link("ann@home.example"))),
        (TokenKind::Day, last(readers.day("ann@home.example", "orders"))),
        (TokenKind::Shared, last(readers.shared("club", "letter", 1))),
        (TokenKind::Preference, last(readers.link("bob@home.example"))),
        (TokenKind::Gate, last(readers.gate("bob@home.example"))),
    ]
}

#[test]
fn no_forged_or_altered_token_is_accepted() {
    let readers = Readers::start();
    let sealed = samples(&readers);
    let (all, mut random, mut accepted) = (count("PIXELWARD_FORGED", 100_000), Random(1), 0u64);
    for _ in 0..all {
        let (kind, token) = forged(&mut random, &sealed);
        // The last letter has bits that stand for nothing; spelled otherwise, they must not pass either.
        accepted += u64::from(readers.mint.open(kind, &token).is_ok());
    }
    println!("{all} forged or altered tokens, {accepted} accepted");
    assert_eq!(accepted, 0);
    assert!(sealed.iter().all(|(kind, token)| readers.mint.open(*kind, token).is_ok()));
    // Some of them over the wire: a picture or the page for links that cannot be used, as for no token at
    // all.
    let (plain, nowhere) = (readers.get("/shop/c/none"), readers.get("/shop/l/none"));
    for _ in 0..200 {
        let (kind, token) = forged(&mut random, &sealed);
        let answer = readers.get(&format!("/shop/{}/{token}", kind.letter()));
        if kind == TokenKind::Preference && !token.is_empty() {
            assert_eq!((answer.status, answer.body), (200, plain.body.clone()), "{token}");
        } else if kind == TokenKind::Link && !token.is_empty() {
            // A click is answered with a page, and nobody is led anywhere.
            assert_eq!(answer.header("location"), None);
            assert_eq!((answer.status, answer.body), (nowhere.status, nowhere.body.clone()), "{token}");
        } else if !matches!(kind, TokenKind::Preference | TokenKind::Link) {
            assert_eq!((answer.status, answer.body.len()), (200, 43), "{token}");
        }
    }
}

#[test]
fn scanners_that_fetch_everything_change_nothing() {
    let readers = Readers::start();
    for address in ["ann@home.example", "eve@home.example"] {
        readers.say(address, "granted");
    }
    let folder = readers.served.relay.folder.0.clone();
    let state = || {
        (
            std::fs::read(folder.join("head")).unwrap(),
            std::fs::read(folder.join("data/consent/days.log")).unwrap(),
        )
    };
    let link = readers.link("ann@home.example");
    let paths = [
        link.clone(),
        format!("{link}?lang=fr&action=accept"),
        format!("{link}?action=withdraw"),
        format!("{link}/withdraw"),
        readers.link("bob@home.example"),
        readers.link_of("eve@home.example", Timestamp::now().plus_days(-400)),
        readers.gate("ann@home.example"),
        readers.gate("bob@home.example"),
        readers.gated_link("ann@home.example"),
        readers.shared("shop", "news", 1),
        "/shop/c/?address=ann@home.example".to_owned(),
        "/shop/c/ping".to_owned(),
        "/".to_owned(),
    ];
    let before = state();
    let all = count("PIXELWARD_SCANS", 1000) as usize;
    let mut connection = Connection::to(readers.port);
    for number in 0..all {
        let (path, method) =
            (&paths[number % paths.len()], ["GET", "HEAD", "OPTIONS"][number / paths.len() % 3]);
        connection.send(&head(method, path, &[], Some(0)));
        let (status, headers) = connection.answer_head().unwrap();
        assert!(status < 500, "{method} {path}: {status}");
        let length = headers.iter().find(|(name, _)| name == "content-length").map_or("0", |(_, item)| item);
        if method != "HEAD" {
            let mut body = vec![0; length.parse().unwrap()];
            connection.read_exact(&mut body);
        }
    }
    assert_eq!(state(), before);
    println!("{all} fetches changed nothing");
}

#[test]
fn known_unknown_and_erased_readers_get_answers_of_one_status_and_length() {
    let readers = Readers::start();
    for (address, state) in
        [("yes@home.example", "granted"), ("no@home.example", "refused"), ("gone@home.example", "granted")]
    {
        readers.say(address, state);
    }
    let people = ["yes@home.example", "no@home.example", "nobody@home.example", "gone@home.example"];
    let paths: Vec<[String; 4]> = people
        .iter()
        .map(|person| {
            let link = readers.link(person);
            [link.clone(), readers.day(person, "orders"), readers.gate(person), format!("{link}/withdraw")]
        })
        .collect();
    readers.erase("gone@home.example");
    let forged = ["/shop/c/none", "/shop/d/none", "/shop/p/none", "/shop/c/none/withdraw"].map(str::to_owned);
    let all: Vec<&[String; 4]> = paths.iter().chain([&forged]).collect();
    for method in ["GET", "HEAD", "OPTIONS", "POST"] {
        for route in 0..4 {
            let told: Vec<_> = all
                .iter()
                .map(|item| {
                    let body = if route == 0 { "action=choose&form=00" } else { "" };
                    let kind = [("Content-Type", "application/x-www-form-urlencoded")];
                    let answer =
                        readers.ask(method, &item[route], &kind, if method == "POST" { body } else { "" });
                    let mut fields: Vec<String> =
                        answer.headers.iter().map(|(name, _)| name.clone()).collect();
                    fields.sort();
                    (answer.status, answer.header("content-length").map(str::to_owned), fields)
                })
                .collect();
            for (index, own) in told.iter().enumerate() {
                // A gate that leads on for who agreed is what a gate is for.
                let is_open = route == 2 && index == 0 && method == "GET";
                assert_eq!(is_open, own.0 == 302, "{method} {route} {index}: {own:?}");
                assert!(is_open || *own == told[1], "{method} {route} {index}: {own:?} {:?}", told[1]);
            }
        }
    }
    // Whoever asks for a new link is told the same.
    let asked: Vec<_> =
        people.iter().map(|person| readers.post("/shop/c/", &[("address", person)]).body).collect();
    assert!(asked.iter().all(|item| *item == asked[0]));
}

#[test]
fn hostile_bodies_are_turned_away_and_the_listener_goes_on() {
    let readers = Readers::with(support::free_port(), "", "request_timeout_s = 1\nidle_timeout_s = 1");
    let link = readers.link("ann@home.example");
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let many = vec!["a=b"; 5000].join("&");
    let huge = "x".repeat(1 << 20);
    for path in [link.as_str(), "/shop/c/none", "/shop/c/"] {
        assert_eq!(readers.ask("POST", path, &form, &huge).status, 413, "{path}");
        assert_eq!(readers.ask("POST", path, &form, &many).status, if many.len() > 8192 { 413 } else { 400 });
        assert_eq!(readers.ask("POST", path, &form, &vec!["a=b"; 100].join("&")).status, 400, "{path}");
        for kind in ["multipart/form-data; boundary=b", "application/json", "text/plain", ""] {
            assert_eq!(
                readers.ask("POST", path, &[("Content-Type", kind)], "action=accept").status,
                415,
                "{path}"
            );
        }
        for junk in ["", "%", "action", "action=%00%ff&form=%", "action=accept&form=\u{1f600}"] {
            assert_eq!(readers.ask("POST", path, &form, junk).status, 200, "{path} {junk}");
        }
        // A body that never comes.
        let mut slow = Connection::to(readers.port);
        slow.send(&head("POST", path, &form, Some(100)));
        assert_eq!(slow.answer().status, 408, "{path}");
        // One without an end.
        let mut endless = Connection::to(readers.port);
        endless.send(&head("POST", path, &form, None));
        let _ = std::io::Write::write_all(
            &mut endless.writer(),
            format!("{:x}\r\n{huge}\r\n", huge.len()).as_bytes(),
        );
        assert_eq!(endless.try_answer().map_or(413, |item| item.status), 413);
    }
    // A header that never ends, and one that is too long.
    let mut slow = Connection::to(readers.port);
    slow.send(b"GET /c/none HTTP/1.1\r\nHost: a");
    slow.writer().set_read_timeout(Some(PATIENCE)).unwrap();
    let mut rest = Vec::new();
    let _ = slow.writer().read_to_end(&mut rest);
    let mut long = Connection::to(readers.port);
    let _ = std::io::Write::write_all(
        &mut long.writer(),
        format!("GET /c/{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(100_000)).as_bytes(),
    );
    assert!(long.try_answer().is_none_or(|value| value.status >= 400));
    for path in [link.as_str(), "/shop/p/none"] {
        assert_eq!(readers.get(path).status, 200);
    }
}

#[test]
fn those_beyond_the_limit_of_connections_wait_and_are_served() {
    let readers = Readers::with(support::free_port(), "", "max_connections = 2");
    let mut held: Vec<Connection> = (0..2).map(|_| Connection::to(readers.port)).collect();
    for own in &mut held {
        assert_eq!(own.ask("GET", "/shop/p/none", &[], b"").status, 200);
    }
    let mut third = Connection::to(readers.port);
    third.send(&head("GET", "/shop/p/none", &[], Some(0)));
    third.writer().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(third.try_answer().is_none(), "the third was answered");
    third.writer().set_read_timeout(Some(PATIENCE)).unwrap();
    held.pop();
    assert_eq!(third.answer().status, 200);
}

#[test]
fn requests_that_never_come_whole_hold_no_reader_up() {
    let readers = Readers::with(support::free_port(), "", "max_connections = 256");
    let half: Vec<Connection> = (0..300).map(|_| Connection::to(readers.port)).collect();
    for (number, own) in half.iter().enumerate() {
        // Some say nothing at all. Those whose seat was given away do not hear it yet.
        let start: &[u8] = if number % 3 == 0 { b"" } else { b"GET /shop/p/none HTTP/1.1\r\nHost: " };
        let _ = own.writer().write_all(start);
    }
    for path in ["/shop/p/none", &readers.link("bob@home.example")] {
        assert_eq!(readers.get(path).status, 200, "{path}");
    }
}
