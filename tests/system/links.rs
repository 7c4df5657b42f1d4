//! A campaign with links as SendGrid and Mailchimp write them: real Postfix sends it to readers of all mixes, real
//! Chromium clicks, and the vendor and the shop count.

use crate::browser::{self, Counter, Scratch};
use crate::mta::Postfix;
use crate::mta::sink::Sink;
use crate::support::{Client, Folder, Relay, configuration, crlf, free_port};
use pixelward::message::Shown;
use pixelward::tracker::{Detector, Inquiry};

/// The paths of the vendor, without what tells readers and mails apart.
const SENDGRID: &str = "/ls/click?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6";
const OTHER: &str = "/ls/click?upn=u001.Nb5Vc7Xz1Lk3Jh9Gf2Ds4Aq6We8";
const MAILCHIMP: &str = "/track/click?u=a1b2c3d4e5f6a7b8c9d0e1f2a&id=0f1e2d3c4b";
const READER: &str = "&e=9a8b7c6d5e";
const NOWHERE: &str = "/ls/click?upn=u001.NqW8eRt5YuI2oPa6SdF3gHj9";
const UNSUBSCRIBE: &str = "/ls/click?upn=u001.UnSb7XcV4bNm1QwE9rTy6UiO2";

struct Stage {
    vendor: Counter,
    shop: Counter,
    sink: Sink,
    relay: Relay,
    postfix: Postfix,
    public_url: String,
}

impl Stage {
    fn start() -> Stage {
        let (vendor, shop, sink, port) = (Counter::start(), Counter::start(), Sink::start(), free_port());
        let public_url = format!("http://127.0.0.1:{port}");
        let folder = Folder::new();
        let (tracked, page) = (at("t.vendor.example", &vendor), at("www.shop.example", &shop));
        let list = folder.file(
            "links.txt",
            &format!(
                "{tracked}{SENDGRID} {page}/sale\n{tracked}{OTHER} {page}/other\n{tracked}{MAILCHIMP} \
                 {page}/shoes\n"
            ),
        );
        let rest = format!(
            "[public]\naddress = \"127.0.0.1:{port}\"\n[[controller]]\nname = \"shop\"\nfrom_domain = \
             \"shop.example\"\npublic_url = \"{public_url}\"\non_grant = \"gate\"\njurisdiction = \"fr\"\nlinks_file = \
             \"{}\"\n[controller.page]\ntitle = \"Shop Example\"\n[[mailstream]]\nname = \"news\"\ncontroller = \
             \"shop\"\npurposes = [\"campaign_performance\", \"link_tracking\"]\nlinks = \"gate\"\n",
            list.display()
        );
        configuration(&folder, sink.port, "", "", &rest);
        let relay = Relay::in_folder(folder);
        let postfix = Postfix::start(&format!(
            "relayhost = [127.0.0.1]:{}\ndefault_destination_recipient_limit = \
             1\nsmtp_destination_recipient_limit = 1",
            relay.port
        ));
        Stage { vendor, shop, sink, relay, postfix, public_url }
    }

    fn command(&self, arguments: &[&str]) -> String {
        let output = self.relay.command(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn say(&self, address: &str, state: &str, purpose: &str) {
        let said = ["consent", "set", address, state, "--controller", "shop", "--evidence", "form/1"];
        self.command(&[&said[..], &["--purposes", purpose]].concat());
    }

    fn campaign(&self) -> String {
        let tracked = at("t.vendor.example", &self.vendor);
        let within = format!(
            "{tracked}/redirect?u=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6&to=http%3A%2F%2Fwww.shop.example%3A{}%2Fwithin",
            self.shop.port
        );
        let link = |path: &str| format!("{tracked}{path}");
        let (sendgrid, other, mailchimp) =
            (link(SENDGRID), link(OTHER), link(&format!("{MAILCHIMP}{READER}")));
        let (nowhere, unsubscribe) = (link(NOWHERE), link(UNSUBSCRIBE));
        crlf(&format!(
            "From: Shop <news@shop.example>\nTo: <readers@shop.example>\nSubject: News\nList-Unsubscribe: \
             <{unsubscribe}>\nMIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=b\n\n--b\n\
             Content-Type: text/plain; charset=utf-8\n\nSale: {sendgrid}\nOther: {other}\nShoes: \
             {mailchimp}\nWithin: {within}\nMore: {nowhere}\n\nUnsubscribe: {unsubscribe}\n--b\n\
             Content-Type: text/html; charset=utf-8\n\n<html><body>\n<a id=\"sale\" href=\"{sendgrid}\">Sale</a>\n\
             <a id=\"other\" href=\"{other}\">Other</a>\n<a id=\"shoes\" href=\"{mailchimp}\">Shoes</a>\n\
             <a id=\"within\" href=\"{within}\">Within</a>\n<a id=\"more\" href=\"{nowhere}\">More</a>\n\
             <a id=\"unsubscribe\" href=\"{unsubscribe}\">Unsubscribe</a>\n</body></html>\n--b--\n"
        ))
    }
}

/// A host of this machine, with the port of a counter.
fn at(host: &str, counter: &Counter) -> String {
    format!("http://{host}:{}", counter.port)
}

/// A copy as its reader sees it: in HTML, and in plain text.
struct Copy {
    html: String,
    plain: String,
}

fn copy(raw: &[u8]) -> Copy {
    let detector = Detector::default();
    let analysis = detector.analyse(raw, &Inquiry::to(&[]));
    let parts = analysis.parts();
    let text = |shown: Shown| {
        let part = parts.iter().find(|part| part.leaf.shown == shown).unwrap();
        String::from_utf8(part.bytes().to_vec()).unwrap()
    };
    Copy { html: text(Shown::Markup), plain: text(Shown::PlainAlternative) }
}

/// Opens a message as its reader does, and clicks on a link.
fn click(html: &str, id: &str) {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    let scratch = Scratch::new(&format!("links-{number}"));
    let file = scratch.0.join("message.html");
    assert!(html.contains(&format!("id=\"{id}\"")), "{html}");
    let clicked = format!("<script>onload = () => document.getElementById(\"{id}\").click()</script></body>");
    std::fs::write(&file, html.replace("</body>", &clicked)).unwrap();
    let rules = "--host-resolver-rules=MAP *.vendor.example 127.0.0.1 , MAP *.shop.example 127.0.0.1 , MAP * \
                 ~NOTFOUND , EXCLUDE 127.0.0.1";
    browser::open(&file, &scratch, &[rules, "--dump-dom"]);
}

#[test]
fn whoever_refused_links_is_led_straight_and_a_withdrawal_reaches_delivered_mail() {
    let mut stage = Stage::start();
    let (ann, bob, cid, eve) =
        ("ann@home.example", "bob@home.example", "cid@home.example", "eve@home.example");
    stage.say(ann, "granted", "campaign_performance");
    stage.say(ann, "granted", "link_tracking");
    stage.say(bob, "granted", "campaign_performance");
    stage.say(bob, "refused", "link_tracking");
    stage.say(cid, "granted", "link_tracking");
    let to = [ann, bob, cid, eve];
    let reply = Client::greeted(stage.postfix.port).message("news@shop.example", &to, &stage.campaign());
    assert!(reply.starts_with("250"), "{reply}");
    let taken = stage.sink.wait(to.len(), |_| true);
    let copies = to.map(|address| {
        let delivered = taken.iter().find(|taken| taken.to[0].contains(address)).unwrap();
        copy(&delivered.message)
    });
    let [of_ann, of_bob, of_cid, of_eve] = &copies;
    let page = at("www.shop.example", &stage.shop);
    let pages = ["sale", "other", "shoes", "within"].map(|path| format!("{page}/{path}"));
    let gate = format!("{}/l/", stage.public_url);
    for (copy, agreed) in [(of_ann, true), (of_bob, false), (of_cid, true), (of_eve, false)] {
        for text in [&copy.html, &copy.plain] {
            assert_eq!(text.matches(&gate).count(), if agreed { 4 } else { 0 }, "{text}");
            assert!(pages.iter().all(|page| text.contains(page) != agreed), "{text}");
            for silent in [SENDGRID, OTHER, MAILCHIMP, "/redirect?u="] {
                assert!(!text.contains(silent), "{silent}: {text}");
            }
            assert!(text.contains(NOWHERE) && text.contains(UNSUBSCRIBE), "{text}");
        }
    }
    // Who refused is led straight to the page, and can unsubscribe.
    click(&of_bob.html, "sale");
    click(&of_bob.html, "shoes");
    assert!(stage.shop.asked().is_superset(&["/sale".to_owned(), "/shoes".to_owned()].into()));
    assert!(stage.vendor.asked().is_empty(), "{:?}", stage.vendor.asked());
    click(&of_bob.html, "unsubscribe");
    assert!(stage.vendor.asked().contains(UNSUBSCRIBE), "{:?}", stage.vendor.asked());
    // Who agreed is led through the vendor.
    click(&of_ann.html, "sale");
    assert!(stage.vendor.asked().contains(SENDGRID), "{:?}", stage.vendor.asked());
    // Once she withdrew, the message that she got before leads her straight, and the vendor hears nothing.
    stage.say(ann, "withdrawn", "link_tracking");
    let heard = stage.vendor.requests();
    for id in ["other", "shoes", "within"] {
        click(&of_ann.html, id);
    }
    assert_eq!(stage.vendor.requests(), heard, "{:?}", stage.vendor.asked());
    assert!(stage.shop.asked().is_superset(&["/other".to_owned(), "/within".to_owned()].into()));
    // What was done is on record, and what is open stands in the report.
    stage.relay.signal("TERM");
    assert!(stage.relay.wait().success());
    let found = stage.command(&["evidence", "find", "--person", bob, "--json"]);
    assert!(found.contains("\"links_unwrapped\":8") && found.contains("\"links_left\":2"), "{found}");
    let found = stage.command(&["evidence", "find", "--person", ann, "--json"]);
    assert!(found.contains("\"links_gated\":8"), "{found}");
    let report = stage.command(&["report"]);
    assert!(report.contains("OPEN RISK") && report.contains("links_file"), "{report}");
}
