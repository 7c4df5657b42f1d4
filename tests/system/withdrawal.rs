//! A withdrawal and mail that was delivered before it: real Postfix sends, real Chromium reads, and the
//! vendor of the pixel counts.

use crate::browser;

use crate::browser::{Counter, Scratch, scripted};
use crate::mta::Postfix;
use crate::mta::sink::Sink;
use crate::support::{Client, Relay, crlf, free_port};
use pixelward::message::Shown;
use pixelward::tracker::{Detector, Inquiry};
use serde_json::{Value, json};

const PATH: &str = "/wf/open?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6";

/// The document that a mail client shows of a message.
fn document(raw: &[u8]) -> String {
    let detector = Detector::default();
    let analysis = detector.analyse(raw, &Inquiry::to(&[]));
    let part = analysis.parts().into_iter().find(|part| part.leaf.shown == Shown::Markup).unwrap();
    String::from_utf8(part.bytes().to_vec()).unwrap()
}

/// Opens a message as its reader does: a fresh profile each time, so that nothing comes from a cache.
fn read(document: &str) {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    let scratch = Scratch::new(&format!("withdrawal-{number}"));
    let file = scratch.0.join("message.html");
    std::fs::write(&file, document).unwrap();
    let rules = "--host-resolver-rules=MAP t.vendor.example 127.0.0.1 , MAP * ~NOTFOUND , EXCLUDE 127.0.0.1";
    browser::open(&file, &scratch, &[rules, "--dump-dom"]);
}

/// The address of the preference page in a document.
fn link(document: &str, public_url: &str) -> String {
    let start = document.find(&format!("{public_url}/c/")).expect("the message has a link");
    let rest = &document[start..];
    rest[..rest.find(['"', '<']).unwrap()].to_owned()
}

/// Presses "stop tracking" on the page of somebody who agreed, and accepts on that of somebody who was never
/// asked; gives the titles of the pages that say so.
fn press(withdraws: &str, accepts: &str) -> Value {
    scripted("pages.cjs", &[&json!({"granted": withdraws, "unknown": accepts}).to_string(), "press"])
}

#[test]
fn what_was_delivered_falls_silent_with_one_press() {
    let (vendor, sink, port) = (Counter::start(), Sink::start(), free_port());
    let public_url = format!("http://127.0.0.1:{port}");
    let relay = Relay::with(
        sink.port,
        "",
        "",
        &format!(
            "[public]\naddress = \"127.0.0.1:{port}\"\n[[controller]]\nname = \"shop\"\nfrom_domain \
             = \"shop.example\"\non_grant = \"gate\"\n\
             public_url = \"{public_url}\"\njurisdiction = \"fr\"\n[controller.page]\ntitle = \"Shop \
             Example\"\n\
             [[mailstream]]\nname = \"news\"\ncontroller = \"shop\"\nfooter = \"always\"\npurposes = \
             [\"campaign_performance\"]\n"
        ),
    );
    let said = ["--controller", "shop", "--purposes", "campaign_performance", "--evidence", "form/1"];
    let output = relay.command(&[&["consent", "set", "ann@home.example", "granted"][..], &said].concat());
    assert!(output.status.success());
    let postfix = Postfix::start(&format!(
        "relayhost = [127.0.0.1]:{}\ndefault_destination_recipient_limit = \
         1\nsmtp_destination_recipient_limit = 1",
        relay.port
    ));
    let message = |subject: &str| {
        crlf(&format!(
            "From: Shop <news@shop.example>\nTo: <readers@shop.example>\nSubject: {subject}\nMIME-Version: \
             1.0\n\
             Content-Type: text/html; charset=utf-8\n\n<html><body><p>News</p>\n\
             <img src=\"http://t.vendor.example:{}{PATH}\" width=\"1\" height=\"1\" \
             alt=\"\"></body></html>\n",
            vendor.port
        ))
    };
    let sent = |subject: &str| {
        let to = ["ann@home.example", "bob@home.example"];
        let before = sink.taken().len();
        let reply = Client::greeted(postfix.port).message("news@shop.example", &to, &message(subject));
        assert!(reply.starts_with("250"), "{reply}");
        let taken = sink.wait(before + 2, |_| true).split_off(before);
        to.map(|address| {
            let copy = taken.iter().find(|taken| taken.to[0].contains(address)).unwrap();
            document(&copy.message)
        })
    };
    let [ann, bob] = sent("one");
    assert!(ann.contains(&format!("{public_url}/p/")) && !ann.contains("vendor.example"), "{ann}");
    assert!(!bob.contains("/p/") && !bob.contains("vendor.example"), "{bob}");
    // She agreed, so her opening reaches the vendor, through the gate; his does not.
    read(&ann);
    assert_eq!((vendor.requests(), vendor.asked().into_iter().collect()), (1, vec![PATH.to_owned()]));
    read(&bob);
    assert_eq!(vendor.requests(), 1);
    // She withdraws on the page that the same message leads to; he agrees on his.
    let pressed = press(&link(&ann, &public_url), &link(&bob, &public_url));
    assert_eq!(pressed["pressed"]["granted"], "Gespeichert: Sie haben abgelehnt", "{pressed}");
    assert_eq!(pressed["pressed"]["unknown"], "Ihre Entscheidung ist gespeichert", "{pressed}");
    // The same message, opened again, fires nothing.
    read(&ann);
    assert_eq!(vendor.requests(), 1);
    let [ann, bob] = sent("two");
    assert!(!ann.contains("/p/") && !ann.contains("vendor.example"), "{ann}");
    assert!(bob.contains(&format!("{public_url}/p/")), "{bob}");
    read(&bob);
    assert_eq!(vendor.requests(), 2);
}
