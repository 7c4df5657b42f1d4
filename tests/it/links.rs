//! Consent to link tracking, end to end: links of two services in HTML and in plain text, for readers who agreed
//! to opens, to links, to both or to nothing; and clicks on gated links, by the consent of the moment.

use std::io::{BufReader, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pixelward::consent::Timestamp;
use pixelward::message::Shown;
use pixelward::rewrite::reader_token::{Token, TokenKind};
use pixelward::tracker::{Detector, Inquiry};

use crate::http::Request;
use crate::readers::Readers;
use crate::support::{Client, Delivery, Folder, NextHop, configuration, crlf, free_port, get};

const SENDER: &str = "news@shop.example";
const PUBLIC: &str = "http://127.0.0.1:1/shop";
/// As SendGrid writes them: nothing in them says what they lead to, so the list names each.
const SENDGRID: &str = "https://click.shop.example/ls/click?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6";
/// As Mailchimp writes them: the account, the link and the reader.
const MAILCHIMP: &str =
    "https://shop.us1.list-manage.example/track/click?u=a1b2c3d4e5f6a7b8c9d0e1f2a&id=0f1e2d3c4b";
const READER: &str = "&e=9a8b7c6d5e";
/// The page stands within.
const WITHIN: &str = "https://click.shop.example/r?u=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6\
                      &to=https%3A%2F%2Fshop.example%2Fwithin%3Fa%3D1";
/// The page is nowhere.
const NOWHERE: &str = "https://click.shop.example/ls/click?upn=u001.NqW8eRt5YuI2oPa6SdF3gHj9";
const UNSUBSCRIBE: &str = "https://click.shop.example/ls/click?upn=u001.UnSb7XcV4bNm1QwE9rTy6UiO2";

fn list() -> String {
    format!(
        "# SendGrid: one line for each link\n{SENDGRID} https://shop.example/sale?x=1&y=2\n\
         # Mailchimp: one line for all readers\n{MAILCHIMP} https://shop.example/shoes#top\n"
    )
}

struct Stage {
    hop: NextHop,
    readers: Readers,
    /// Where metrics are.
    private: u16,
}

impl Stage {
    fn start(links: &str) -> Stage {
        Stage::with(links, "")
    }

    /// With more lines of the controller.
    fn with(links: &str, more: &str) -> Stage {
        let hop = NextHop::start();
        let folder = Folder::new();
        let file = folder.file("links.txt", &list());
        let rest = format!(
            "[public]\naddress = \"127.0.0.1:0\"\n[api]\naddress = \"127.0.0.1:0\"\n[[controller]]\nname = \
             \"shop\"\nsender_domain = \"shop.example\"\npublic_url = \"{PUBLIC}\"\non_grant = \
             \"gate\"\njurisdiction = \"fr\"\nlinks_file = \"{}\"\n{more}\
             [[mailstream]]\nname = \"news\"\ncontroller = \"shop\"\npurposes = \
             [\"campaign_performance\", \"link_tracking\"]\nlinks = \"{links}\"\n",
            file.display()
        );
        let path = configuration(&folder, hop.port, "", "", &rest);
        let private = free_port();
        let config = std::fs::read_to_string(&path).unwrap();
        let with_metrics = format!("[private]\naddress = \"127.0.0.1:{private}\"");
        std::fs::write(&path, config.replace("[private]\naddress = \"\"", &with_metrics)).unwrap();
        Stage { readers: Readers::in_folder(folder), hop, private }
    }

    fn say(&self, address: &str, state: &str, purpose: &str) {
        let relay = &self.readers.served.relay;
        let said = ["consent", "set", address, state, "--evidence", "form/1", "--controller", "shop"];
        let output = relay.command(&[&said[..], &["--purposes", purpose]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Sends the campaign; what a reader gets of it in HTML and in plain text.
    fn copy(&self, to: &str) -> (String, String) {
        let before = self.hop.count();
        let reply = Client::greeted(self.readers.served.relay.port).message(SENDER, &[to], &campaign());
        assert!(reply.starts_with("250"), "{reply}");
        texts(&self.hop.wait(before + 1)[before])
    }

    /// The gates in a text, as paths, in their order.
    fn gates(text: &str) -> Vec<String> {
        let start = format!("{PUBLIC}/l/");
        let pieces = text.split(&start).skip(1);
        let token = |piece: &str| {
            let other = |character: char| !character.is_ascii_alphanumeric() && !"-_".contains(character);
            format!("/shop/l/{}", &piece[..piece.find(other).unwrap_or(piece.len())])
        };
        pieces.map(token).collect()
    }
}

fn campaign() -> String {
    let [mailchimp, within] = [format!("{MAILCHIMP}{READER}"), WITHIN.to_owned()];
    let attribute = |address: &str| address.replace('&', "&amp;");
    format!(
        "From: <{SENDER}>\nTo: <readers@shop.example>\nSubject: News\nMIME-Version: 1.0\n\
         List-Unsubscribe: <{UNSUBSCRIBE}>\n\
         Content-Type: multipart/alternative; boundary=b\n\n\
         --b\nContent-Type: text/plain; charset=utf-8\n\n\
         Sale: {SENDGRID}\nShoes ({mailchimp}).\nWithin <{within}>\nMore:\n{NOWHERE}\n\n\
         To unsubscribe, follow this link:\n{UNSUBSCRIBE}\n\
         --b\nContent-Type: text/html; charset=utf-8\n\n\
         <html><body><a href=\"{SENDGRID}\">Sale</a> <a href='{}'>Shoes</a>\n<a href=\"{}\">Within</a> <a \
         href=\"{NOWHERE}\">More</a>\n<a href=\"{UNSUBSCRIBE}\">Unsubscribe</a>\n\
         <img src=\"https://click.shop.example/wf/open?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6\" width=\"1\" \
         height=\"1\" alt=\"\">\n</body></html>\n--b--\n",
        attribute(&mailchimp),
        attribute(&within),
    )
}

fn texts(delivery: &Delivery) -> (String, String) {
    let raw = delivery.below_trace();
    assert!(raw.contains(&format!("List-Unsubscribe: <{UNSUBSCRIBE}>")), "{raw}");
    let detector = Detector::default();
    let analysis = detector.analyse(raw.as_bytes(), &Inquiry::to(&[]));
    let part = |shown: Shown| {
        let parts = analysis.parts();
        let part = parts.iter().find(|part| part.leaf.shown == shown).unwrap();
        String::from_utf8(part.bytes().to_vec()).unwrap()
    };
    (part(Shown::Markup).replace("&amp;", "&"), part(Shown::PlainAlternative))
}

/// The pages of the campaign, and what of it still reports.
const PAGES: [&str; 3] = [
    "https://shop.example/sale?x=1&y=2",
    "https://shop.example/shoes#top",
    "https://shop.example/within?a=1",
];

fn is_unwrapped(text: &str) -> bool {
    PAGES.iter().all(|page| text.contains(page))
        && ![SENDGRID, MAILCHIMP, WITHIN].iter().any(|link| text.contains(link))
}

fn is_as_it_came(text: &str) -> bool {
    [SENDGRID, MAILCHIMP, WITHIN].iter().all(|link| text.contains(link))
}

#[test]
fn consent_to_links_is_one_of_its_own() {
    let stage = Stage::start("unwrap");
    for address in ["ann@home.example", "bob@home.example"] {
        stage.say(address, "granted", "campaign_performance");
    }
    for address in ["ann@home.example", "cid@home.example"] {
        stage.say(address, "granted", "link_tracking");
    }
    stage.say("bob@home.example", "refused", "link_tracking");
    for (address, opens, links) in [
        ("ann@home.example", true, true),
        ("bob@home.example", true, false),
        ("cid@home.example", false, true),
        ("eve@home.example", false, false),
    ] {
        let (html, plain) = stage.copy(address);
        assert_eq!(html.contains(&format!("{PUBLIC}/p/")), opens, "{address}: {html}");
        for text in [&html, &plain] {
            assert_eq!((is_as_it_came(text), is_unwrapped(text)), (links, !links), "{address}: {text}");
            // What nobody can unwrap stays, and so does what unsubscribes.
            assert!(text.contains(NOWHERE) && text.contains(UNSUBSCRIBE), "{address}: {text}");
            // Mail that tracks has a way to withdraw.
            assert_eq!(text.contains(&format!("{PUBLIC}/c/")), opens || links, "{address}: {text}");
        }
    }
    // Of each form of the text: three links were unwrapped, one goes on reporting, and that is counted.
    let log = &stage.readers.served.relay.log;
    log.wait_for(2, "links were left", |line| {
        line.contains("links_unwrapped=6") && line.contains("links_left=2")
    });
    let metrics = get(stage.private, "/metrics");
    for line in ["pixelward_links_unwrapped_total 12", "pixelward_links_left_total 4"] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[test]
fn a_yes_to_everything_before_links_were_asked_about_is_none_to_links() {
    let stage = Stage::start("unwrap");
    stage.say("ann@home.example", "granted", "all");
    let (html, _) = stage.copy("ann@home.example");
    assert!(html.contains(&format!("{PUBLIC}/p/")) && is_unwrapped(&html), "{html}");
    // A no to everything is one to links, too.
    stage.say("bob@home.example", "granted", "link_tracking");
    assert!(is_as_it_came(&stage.copy("bob@home.example").0));
    stage.say("bob@home.example", "withdrawn", "all");
    assert!(is_unwrapped(&stage.copy("bob@home.example").0));
}

#[test]
fn a_gated_link_obeys_the_consent_of_the_moment() {
    let stage = Stage::start("gate");
    let (ann, bob) = ("ann@home.example", "bob@home.example");
    stage.say(ann, "granted", "link_tracking");
    let (html, plain) = stage.copy(ann);
    assert!(!html.contains("/p/") && !is_as_it_came(&html), "{html}");
    let mailchimp = format!("{MAILCHIMP}{READER}");
    for text in [&html, &plain] {
        let gates = Stage::gates(text);
        assert_eq!(gates.len(), 3, "{text}");
        assert!(text.contains(NOWHERE) && text.contains(UNSUBSCRIBE), "{text}");
        for (gate, original) in gates.iter().zip([SENDGRID, &mailchimp, WITHIN]) {
            let led = stage.readers.get(gate);
            assert_eq!((led.status, led.header("location")), (302, Some(original)));
            assert_eq!(led.header("referrer-policy"), Some("no-referrer"));
            // A program that looks ahead clicks nothing.
            let ahead = stage.readers.ask("HEAD", gate, &[], "");
            assert_ne!(ahead.header("location"), Some(original));
        }
    }
    // Without a yes, there is nothing to gate.
    let (bobs, _) = stage.copy(bob);
    assert!(is_unwrapped(&bobs) && Stage::gates(&bobs).is_empty(), "{bobs}");
    stage.say(ann, "withdrawn", "link_tracking");
    for text in [&html, &plain] {
        for (gate, page) in Stage::gates(text).iter().zip(PAGES) {
            let led = stage.readers.get(gate);
            assert_eq!((led.status, led.header("location")), (302, Some(page)));
        }
    }
    // The erased are led on, too.
    stage.say(bob, "granted", "link_tracking");
    let gate = Stage::gates(&stage.copy(bob).0).remove(0);
    assert_eq!(stage.readers.get(&gate).header("location"), Some(SENDGRID));
    stage.readers.erase(bob);
    assert_eq!(stage.readers.get(&gate).header("location"), Some(PAGES[0]));
}

#[test]
fn a_gate_leads_nowhere_but_to_what_was_sealed() {
    let stage = Stage::start("gate");
    let readers = &stage.readers;
    stage.say("ann@home.example", "granted", "link_tracking");
    let gate = |original: &str, target: &str, issued: Timestamp| {
        readers.sealed(&Token::Link {
            holder: readers.holder("ann@home.example", issued),
            mailstream: "news".to_owned(),
            country: "example".to_owned(),
            target: target.to_owned(),
            original: original.to_owned(),
        })
    };
    let (now, page) = (Timestamp::now(), PAGES[0]);
    assert_eq!(readers.get(&gate(SENDGRID, page, now)).header("location"), Some(SENDGRID));
    // What is too old reports nothing any more.
    assert_eq!(readers.get(&gate(SENDGRID, page, now.plus_days(-366))).header("location"), Some(page));
    for hostile in ["javascript:alert(1)", "http://127.0.0.1/", "https://a@b.example/", "//evil.example"] {
        let led = readers.get(&gate(hostile, hostile, now));
        assert_eq!((led.status, led.header("location")), (200, None), "{hostile}");
        assert!(led.text().contains("This link does not work"), "{}", led.text());
    }
    // Neither does a token of another kind open, nor one that was altered, nor none.
    let sealed = gate(SENDGRID, page, now);
    let altered = format!("{}{}", &sealed[..sealed.len() - 4], "AAAA");
    let pixel = readers.gate("ann@home.example").replace("/p/", "/l/");
    let choice = readers.link("ann@home.example").replace("/c/", "/l/");
    let as_pixel = sealed.replace("/l/", "/p/");
    for path in
        [&altered, &pixel, &choice, "/shop/l/", "/shop/l/AAAA", "/shop/l/https://evil.example/", &as_pixel]
    {
        assert_eq!(readers.get(path).header("location"), None, "{path}");
    }
    assert_eq!(TokenKind::Link.letter(), 'l');
}

/// The sender's service: it knows where one link leads, or hears and says nothing.
struct Service {
    port: u16,
    asked: Arc<Mutex<Vec<serde_json::Value>>>,
    heard: Arc<AtomicUsize>,
}

impl Service {
    fn start(answers: bool) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, heard): (Arc<Mutex<Vec<serde_json::Value>>>, Arc<AtomicUsize>) = Default::default();
        let (noted, counted) = (Arc::clone(&asked), Arc::clone(&heard));
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                if !answers {
                    silent.push(stream);
                    continue;
                }
                let mut out = stream.try_clone().unwrap();
                let request = Request::read(&mut BufReader::new(stream)).unwrap();
                noted.lock().unwrap().push(request.json());
                let pages =
                    serde_json::json!({ "pages": { NOWHERE: "https://shop.example/nowhere" } }).to_string();
                let _ = write!(
                    out,
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: \
                     close\r\n\r\n{pages}",
                    pages.len()
                );
            }
        });
        Service { port, asked, heard }
    }

    fn lines(&self, rest: &str) -> String {
        format!("links_lookup = \"http://127.0.0.1:{}/pages\"\n{rest}", self.port)
    }
}

#[test]
fn a_service_of_the_sender_says_what_neither_link_nor_list_says() {
    let service = Service::start(true);
    let stage = Stage::with("unwrap", &service.lines(""));
    for address in ["ann@home.example", "bob@home.example"] {
        let (html, plain) = stage.copy(address);
        for text in [&html, &plain] {
            assert!(is_unwrapped(text) && text.contains("https://shop.example/nowhere"), "{text}");
            assert!(!text.contains(NOWHERE) && text.contains(UNSUBSCRIBE), "{text}");
        }
    }
    // It was asked once, about that link alone.
    let asked = service.asked.lock().unwrap().clone();
    assert_eq!(asked, [serde_json::json!({ "controller": "shop", "links": [NOWHERE] })]);
    // Where nobody needs to know, nobody is asked.
    let other = Service::start(true);
    let stage = Stage::with("unwrap", &other.lines(""));
    stage.say("ann@home.example", "granted", "link_tracking");
    assert!(is_as_it_came(&stage.copy("ann@home.example").0));
    assert_eq!(other.heard.load(Ordering::SeqCst), 0);
}

#[test]
fn whoever_tries_a_message_is_told_of_links_what_mail_is_told() {
    let service = Service::start(true);
    let stage = Stage::with("unwrap", &service.lines(""));
    let (served, message) = (&stage.readers.served, crlf(&campaign()));
    let is_told = |copy: &[u8]| {
        let copy = String::from_utf8_lossy(copy).into_owned();
        assert!(copy.contains("https://shop.example/nowhere") && !copy.contains(NOWHERE), "{copy}");
    };
    let trial = serde_json::json!({
        "message": STANDARD.encode(&message), "recipient": "ann@home.example", "mailstream": "news",
    });
    let path = "/v1/controllers/shop/policy/what-if";
    let answer = served.ask(&served.token("policy:read", "all"), "POST", path, &trial.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    is_told(&STANDARD.decode(answer.json()["copy"].as_str().unwrap()).unwrap());
    let file = served.relay.folder.file("campaign.eml", &message);
    let arguments =
        ["rewrite", file.to_str().unwrap(), "--sender", SENDER, "--recipient", "ann@home.example"];
    let output = served.relay.command(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    is_told(&output.stdout);
    // The relay remembers what it was told, and the command has nothing to remember.
    assert_eq!(service.asked.lock().unwrap().len(), 2);
    stage.copy("ann@home.example");
    assert_eq!(service.asked.lock().unwrap().len(), 2);
}

#[test]
fn a_service_that_says_nothing_holds_mail_up_once_and_not_for_long() {
    let service = Service::start(false);
    let stage = Stage::with("unwrap", &service.lines("links_lookup_timeout_ms = 100\n"));
    for _ in 0..3 {
        let (html, _) = stage.copy("ann@home.example");
        assert!(is_unwrapped(&html) && html.contains(NOWHERE), "{html}");
    }
    stage.readers.served.relay.log.wait_for(1, "the failure", |line| {
        line.contains("links_lookup failed") && line.contains("it took more than 100 ms")
    });
    // While it fails, it is left alone.
    assert_eq!(service.heard.load(Ordering::SeqCst), 1);
    assert!(get(stage.private, "/metrics").contains("pixelward_link_lookups_total{result=\"failed\"} 1"));
}
