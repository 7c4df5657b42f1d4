//! Addresses of ours in mail, end to end: gates, day pixels, shared pixels, the link to the preference page,
//! and questions that not everybody reads.

use crate::support::{Client, Delivery, NextHop, Relay, crlf, newsletter};
use pixelward::consent::StoreKey;
use pixelward::message::transfer::Transfer;
use pixelward::rewrite::reader_token::{Mint, Token, TokenKind};
use pixelward::tracker::{Detector, Inquiry};

const SENDER: &str = "news@shop.example";
const PIXEL: &str = "https://click.shop.example/wf/open?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6";
const URL: &str = "https://choice.shop.example";
const SHOP: &str = "[[controller]]\nname = \"shop\"\nfrom_domain = \"shop.example\"\npublic_url \
                    = \"https://choice.shop.example/\"\non_grant = \"gate\"\njurisdiction = \"fr\"\n";

fn stream(rest: &str) -> String {
    format!(
        "{SHOP}[[mailstream]]\nname = \"news\"\ncontroller = \"shop\"\nsender = \"{SENDER}\"\npurposes = \
         [\"campaign_performance\"]\n{rest}\n"
    )
}

struct Stage {
    hop: NextHop,
    relay: Relay,
}

impl Stage {
    fn start(rest: &str) -> Stage {
        let hop = NextHop::start();
        let relay = Relay::with(hop.port, "", "", rest);
        Stage { hop, relay }
    }

    fn command(&self, arguments: &[&str]) -> String {
        let output = self.relay.command(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn say(&self, address: &str, state: &str) {
        let whose = ["--controller", "shop", "--purposes", "campaign_performance", "--evidence", "form/1"];
        self.command(&[&["consent", "set", address, state][..], &whose].concat());
    }

    fn send(&self, to: &[&str], message: &str, copies: usize) -> Vec<Delivery> {
        let before = self.hop.count();
        let reply = Client::greeted(self.relay.port).message(SENDER, to, message);
        assert!(reply.starts_with("250"), "{reply}");
        self.hop.wait(before + copies).split_off(before)
    }

    fn logged(&self, count: usize, words: &[&str]) {
        self.relay.log.wait_for(count, &words.join(" "), |line| words.iter().all(|word| line.contains(word)));
    }

    fn mint(&self) -> Mint {
        let key =
            pixelward::consent::key_file::load(&self.relay.folder.0.join("data/consent/store.key")).unwrap();
        Mint::new(StoreKey::new(key.derived(Mint::LABEL)))
    }

    /// The tokens of one kind in a message, opened, as they stand in its texts.
    fn tokens(&self, delivery: &Delivery, kind: TokenKind) -> Vec<Token> {
        let raw = delivery.below_trace();
        let detector = Detector::default();
        let analysis = detector.analyse(raw.as_bytes(), &Inquiry::to(&[]));
        let start = format!("{URL}/{}/", kind.letter());
        let mut found = Vec::new();
        for part in analysis.parts() {
            assert!(matches!(part.leaf.transfer, Transfer::Identity | Transfer::QuotedPrintable));
            let text = String::from_utf8_lossy(part.bytes()).into_owned();
            for piece in text.split(&start).skip(1) {
                let end = piece
                    .find(|character: char| !character.is_ascii_alphanumeric() && !"-_".contains(character));
                let token = &piece[..end.unwrap_or(piece.len())];
                if !token.is_empty() {
                    found.push(self.mint().open(kind, token).unwrap());
                }
            }
        }
        found
    }
}

#[test]
fn whoever_agreed_gets_gates_and_a_link_and_nobody_else_does() {
    let mut stage = Stage::start(&stream(""));
    let (with, without) = newsletter("ann@home.example");
    stage.say("ann@home.example", "granted");
    let copy = &stage.send(&["ann@home.example"], &with, 1)[0];
    let gates = stage.tokens(copy, TokenKind::Gate);
    let [Token::Gate { holder, mailstream, country, target }] = gates.as_slice() else { panic!("{gates:?}") };
    assert_eq!((holder.controller.as_str(), mailstream.as_str()), ("shop", "news"));
    assert_eq!((country.as_str(), target.as_str()), ("example", PIXEL));
    // One link in each form of the text, both hers.
    let links = stage.tokens(copy, TokenKind::Preference);
    assert_eq!(links.len(), 2);
    for link in links {
        let Token::Preference { holder: own, hint } = link else { panic!() };
        assert_eq!((own.person, hint.as_str()), (holder.person, "a…@h….example"));
    }
    assert!(!copy.below_trace().contains("wf/open") && !copy.below_trace().contains("ann@home.example/"));
    stage.logged(1, &["decision=\"swap_gated\"", "done=\"swap_gated\"", "removed=0", "swapped=1"]);
    // Who refused, and who was never asked, gets what was there without the tracker, and no word more.
    stage.say("bob@home.example", "refused");
    for address in ["bob@home.example", "eve@home.example"] {
        assert_eq!(stage.send(&[address], &with, 1)[0].below_trace(), crlf(&without));
    }
    // A withdrawal acts on the very next message.
    stage.say("ann@home.example", "withdrawn");
    assert_eq!(stage.send(&["ann@home.example"], &with, 1)[0].below_trace(), crlf(&without));
    // Mail without a tracker leaves as it came, whatever was said.
    stage.say("cid@home.example", "granted");
    assert_eq!(stage.send(&["cid@home.example"], &without, 1)[0].below_trace(), crlf(&without));
    // What was written down is whole once the relay has ended.
    stage.relay.signal("TERM");
    assert!(stage.relay.wait().success());
    let found = stage.command(&["evidence", "find", "--person", "ann@home.example", "--json"]);
    assert!(found.contains("\"swapped\":1") && found.contains("\"decided\":\"swap_gated\""), "{found}");
}

#[test]
fn a_pixel_of_one_person_stands_in_no_copy_of_another() {
    let stage = Stage::start(&stream(""));
    let (with, without) = newsletter("list@shop.example");
    let names: Vec<String> = (0..10).map(|number| format!("p{number}@home.example")).collect();
    let people: Vec<&str> = names.iter().map(String::as_str).collect();
    people.iter().for_each(|person| stage.say(person, "granted"));
    let copies = stage.send(&people[..3], &with, 3);
    let mut holders = Vec::new();
    for copy in &copies {
        assert_eq!(copy.rcpts.len(), 1);
        let Token::Gate { holder, .. } = stage.tokens(copy, TokenKind::Gate).remove(0) else { panic!() };
        holders.push(holder.person);
    }
    holders.dedup();
    assert_eq!(holders.len(), 3);
    // Beyond max_groups people share a copy, which then has nobody's pixel.
    let copies = stage.send(&people, &with, 8);
    let shared = copies.iter().find(|copy| copy.rcpts.len() > 1).unwrap();
    assert_eq!((shared.rcpts.len(), shared.below_trace()), (3, crlf(&without)));
    stage.logged(3, &["decision=\"swap_gated\"", "shortfall=\"copy_is_shared\"", "done=\"strip\""]);
}

#[test]
fn what_needs_no_consent_gets_a_pixel_that_can_do_no_more() {
    let rest = "requested = \"requested\"\nexemption = \"deliverability\"\n";
    let day = stream(rest).replace("campaign_performance", "deliverability");
    let stage = Stage::start(&day);
    let (with, without) = newsletter("ann@home.example");
    let second = with.replace("</body>", "<img \
                                          src=3D\"https://click.shop.example/wf/open?upn=3Du002.Zk3Qw9XvT2aB7LmN\" width=3D\"1\" height=3D\"1\"></body>");
    let copy = &stage.send(&["ann@home.example"], &second, 1)[0];
    let days = stage.tokens(copy, TokenKind::Day);
    let [Token::Day { mailstream, holder, .. }] = days.as_slice() else { panic!("{days:?}") };
    assert_eq!((mailstream.as_str(), holder.controller.as_str()), ("news", "shop"));
    assert!(!copy.below_trace().contains("wf/open"));
    assert_eq!(stage.tokens(copy, TokenKind::Preference).len(), 2);
    stage.logged(1, &["decision=\"swap_day\"", "done=\"swap_day\"", "removed=1", "swapped=1"]);
    // Not after a no.
    let said = ["--controller", "shop", "--purposes", "campaign_performance"];
    stage.command(&[&["consent", "set", "bob@home.example", "refused"][..], &said].concat());
    assert_eq!(stage.send(&["bob@home.example"], &with, 1)[0].below_trace(), crlf(&without));

    let shared = stream("exemption = \"aggregate_statistics\"\n")
        .replace("campaign_performance", "aggregate_statistics")
        .replace("\"fr\"", "\"it\"");
    let stage = Stage::start(&shared);
    // Everybody shares one address, so all of them share one copy, with a link that is nobody's.
    let copies = stage.send(&["ann@home.example", "bob@home.example"], &with, 1);
    let counters = stage.tokens(&copies[0], TokenKind::Shared);
    assert!(
        matches!(counters.as_slice(), [Token::Shared { mailstream, .. }] if mailstream == "news"),
        "{counters:?}"
    );
    assert_eq!(stage.tokens(&copies[0], TokenKind::Preference), []);
    assert!(copies[0].below_trace().contains("https://choice.shop.example/c/\r\n"));
    let again = stage.send(&["eve@home.example"], &with, 1);
    assert_eq!(stage.tokens(&again[0], TokenKind::Shared), counters);
}

#[test]
fn where_no_link_can_stand_nothing_tracks() {
    let stage = Stage::start(&stream("footer = \"marker_only\"\n"));
    let (with, without) = newsletter("ann@home.example");
    stage.say("ann@home.example", "granted");
    assert_eq!(stage.send(&["ann@home.example"], &with, 1)[0].below_trace(), crlf(&without));
    stage.logged(1, &["decision=\"swap_gated\"", "shortfall=\"no_place_for_link\"", "done=\"strip\""]);
    // A mark in each form of the text, one of them cut in two by a soft line break.
    let marked = with
        .replace("News of the week.\n", "News of the week. {{pixelward.preferences}}\n")
        .replace("</body>", "<a href=3D\"%7B%7Bpixelward.pref=\nerences%7D%7D\">choice</a></body>");
    let copy = &stage.send(&["ann@home.example"], &marked, 1)[0];
    assert_eq!(stage.tokens(copy, TokenKind::Preference).len(), 2);
    assert_eq!(stage.tokens(copy, TokenKind::Gate).len(), 1);
    assert!(!copy.below_trace().contains("<div lang"));
    // Marks are filled in every copy, with a link of nobody's where several share it.
    let shared = &stage.send(&["bob@home.example", "eve@home.example"], &marked, 1)[0];
    assert_eq!(stage.tokens(shared, TokenKind::Preference), []);
    let text = shared.below_trace();
    assert!(text.contains("News of the week. https://choice.shop.example/c/\r\n"), "{text}");
    assert!(!text.contains("pixelward.pref") && !text.contains("wf/open"), "{text}");
    // A signed text takes no link, so its tracker has to go, and it cannot.
    let signed = format!(
        "From: {SENDER}\nContent-Type: multipart/signed; boundary=s\n\n--s\nContent-Type: text/html\n\n<img \
         src=\"{PIXEL}\" width=1 height=1>\n--s\n\
         Content-Type: application/pgp-signature\n\nx\n--s--\n"
    );
    let reply = Client::greeted(stage.relay.port).message(SENDER, &["ann@home.example"], &signed);
    assert!(reply.starts_with("550 5.7.1"), "{reply}");
}

#[test]
fn a_tracker_that_stays_comes_with_a_link_where_there_is_a_page() {
    let keeping = stream("").replace("\"gate\"", "\"keep\"");
    let stage = Stage::start(&keeping);
    let (with, _) = newsletter("ann@home.example");
    for address in ["ann@home.example", "bob@home.example"] {
        stage.say(address, "granted");
    }
    let copy = &stage.send(&["ann@home.example"], &with, 1)[0];
    assert_eq!(stage.tokens(copy, TokenKind::Preference).len(), 2);
    assert!(copy.below_trace().contains("wf/open"));
    let shared = &stage.send(&["ann@home.example", "bob@home.example"], &with, 1)[0];
    assert_eq!(stage.tokens(shared, TokenKind::Preference), []);
    assert!(shared.below_trace().contains("https://choice.shop.example/c/\r\n"));
    // No rule asks for a link where none is applied.
    let stage = Stage::start(&stream("jurisdiction = \"none\"\n").replace("\"gate\"", "\"keep\""));
    assert_eq!(stage.send(&["ann@home.example"], &with, 1)[0].below_trace(), crlf(&with));
}

#[test]
fn nobody_is_asked_again_too_soon() {
    let ask = stream("").replace("purposes", "kind = \"consent_request\"\npurposes");
    let mut stage = Stage::start(&ask);
    let (with, without) = newsletter("ann@home.example");
    let copy = &stage.send(&["ann@home.example"], &with, 1)[0];
    assert_eq!(
        (stage.tokens(copy, TokenKind::Gate), stage.tokens(copy, TokenKind::Preference).len()),
        (Vec::new(), 2)
    );
    stage.logged(1, &["rule=\"consent_request\"", "done=\"strip\""]);
    // That she was asked is on record, so that the same mail a day later does not reach her, and reaches
    // others.
    let asked =
        |stage: &Stage| stage.command(&["consent", "get", "ann@home.example", "--controller", "shop"]);
    let recorded = (0..200).any(|_| asked(&stage).contains("asked"));
    assert!(recorded, "{}", asked(&stage));
    let reply = Client::greeted(stage.relay.port).message(SENDER, &["ann@home.example"], &with);
    assert!(reply.starts_with("550 5.7.1 This mail asks for consent"), "{reply}");
    stage.send(&["eve@home.example"], &with, 1);
    stage.relay = stage.relay.killed();
    let reply = Client::greeted(stage.relay.port).message(SENDER, &["ann@home.example"], &with);
    assert!(reply.starts_with("550 5.7.1"), "{reply}");

    // In other mail, a question that its author marked is read by those alone who may be asked.
    let stage = Stage::start(&stream(""));
    let question = "<p>May we? {{pixelward.preferences}}</p>";
    let asking =
        with.replace("</body>", &format!("{{{{pixelward.request}}}}{question}{{{{pixelward.end}}}}</body>"));
    stage.say("bob@home.example", "refused");
    let left = stage.send(&["bob@home.example"], &asking, 1)[0].below_trace();
    // A line that was too long before is broken in other places.
    assert_eq!(left.replace("=\r\n", ""), crlf(&without));
    let copy = &stage.send(&["ann@home.example"], &asking, 1)[0];
    assert_eq!(stage.tokens(copy, TokenKind::Preference).len(), 1);
    assert!(copy.below_trace().contains("May we?"));
}
