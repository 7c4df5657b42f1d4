//! What pages answer to questions that people have: what would stand in the place of a tracker, who the
//! unknown ones are, what the last hours brought, and how somebody objects of whom nothing is known.
#![cfg(feature = "console")]

use crate::support;
use std::time::Instant;

use crate::console::{Browser, Console, token};
use crate::http::Served;
use crate::support::{Client, Folder, NextHop, Relay, configuration, crlf, newsletter};
use pixelward::consent::Timestamp;

/// One controller whose pages are on the network, with a kind of mail for each swap.
const SHOP: &str = "[[controller]]\nname = \"shop\"\nsender_domain = \"shop.example\"\npublic_url \
                    = \"https://choice.shop.example/\"\non_grant = \"gate\"\n\
    jurisdiction = \"fr\"\n\
    [[mailstream]]\nname = \"news\"\ncontroller = \"shop\"\npurposes = [\"campaign_performance\"]\nrequested \
    = \"requested\"\nfrom_domain = \"shop.example\"\n\
    [[mailstream]]\nname = \"days\"\ncontroller = \"shop\"\npurposes = [\"deliverability\"]\nrequested \
    = \"requested\"\nexemption = \"deliverability\"\n\
    [[mailstream]]\nname = \"sums\"\ncontroller = \"shop\"\npurposes = [\"aggregate_statistics\"]\nexemption \
    = \"aggregate_statistics\"\njurisdiction = \"it\"\n\
    [[mailstream]]\nname = \"watched\"\ncontroller = \"shop\"\npurposes = [\"campaign_performance\"]\nmode \
    = \"observe\"\n";

fn start() -> (Served, NextHop) {
    let hop = NextHop::start();
    let folder = Folder::new();
    let api = "[api]\naddress = \"127.0.0.1:0\"\nburst = 100000\nrequests_per_minute = \
               1000000\nstatistics_max_age_s = 0\n";
    configuration(&folder, hop.port, "", "", &format!("{SHOP}{api}"));
    (Served::of(Relay::in_folder(folder)), hop)
}

/// What the page says of a message of this kind to somebody who said this.
fn tried(browser: &mut Browser, mailstream: &str, state: &str, message: &str) -> String {
    let page = browser.page("/what-if?controller=shop");
    let token = token(&page, "/what-if");
    let fields = [
        ("token", token.as_str()),
        ("controller", "shop"),
        ("mailstream", mailstream),
        ("state", state),
        ("text", message),
    ];
    let field = |(name, value): &(&str, &str)| {
        format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let body = fields.iter().map(field).collect::<String>() + "--B--\r\n";
    let answer =
        browser.ask("POST", "/what-if", &[("Content-Type", "multipart/form-data; boundary=B")], &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

#[test]
fn what_if_shows_a_swap_as_a_swap_in_the_language_of_the_page() {
    let (served, _hop) = start();
    let console = Console::beside(&served, "");
    let mut browser = console.signed_in(&served);
    let message = crlf(&newsletter("eve@home.example").0);
    for (mailstream, state, letter, name) in [
        ("news", "granted", "p", "gated pixel"),
        ("days", "", "d", "day pixel"),
        ("sums", "", "s", "shared pixel"),
    ] {
        let told = tried(&mut browser, mailstream, state, &message);
        assert!(told.contains("A pixel of the relay would replace the tracker."), "{told}");
        let row = format!("{name} <code>https://choice.shop.example/{letter}/…</code>");
        assert!(told.contains(&row), "{mailstream}: {told}");
        // In the copy stands the pixel of ours, and no tracker any more.
        let (before, after) = told.split_once("srcdoc=").unwrap().1.split_once("srcdoc=").unwrap();
        assert!(before.contains("tracker: click.shop.example") && !before.contains(name), "{before}");
        assert!(after.contains(name) && !after.contains("tracker: "), "{after}");
    }
    let told = tried(&mut browser, "news", "refused", &message);
    assert!(told.contains("Trackers would be removed.") && told.contains("<td>taken out</td>"), "{told}");
    let told = tried(&mut browser, "watched", "refused", &message);
    assert!(told.contains("the mailstream only observes") && told.contains("<td>stays</td>"), "{told}");
    for (code, words, english) in [
        (
            "de",
            [
                "Deshalb swap_gated: Tracker führen zu einer Adresse",
                "Pixel mit Einwilligungsprüfung <code>",
                "höchstens drei Pixel groß",
            ],
            "Therefore",
        ),
        (
            "fr",
            [
                "Donc swap_gated : les traceurs mènent à une adresse",
                "pixel soumis au consentement <code>",
                "trois pixels au plus",
            ],
            "Therefore",
        ),
    ] {
        let page = browser.page("/account");
        assert_eq!(
            browser.submit(&page, "/language", &[("language", code), ("back", "/account")]).status,
            303
        );
        let told = tried(&mut browser, "news", "granted", &message);
        words.iter().for_each(|word| assert!(told.contains(word), "{word}: {told}"));
        assert!(!told.contains(english) && !told.contains("at most three pixels"), "{told}");
    }
}

#[test]
fn a_grant_without_proof_is_said_to_be_one() {
    let (served, _hop) = start();
    let console = Console::beside(&served, "");
    let writer = served.token("consent:write", "shop");
    let grant = "{\"address\": \"ida@home.example\", \"state\": \"granted\"}";
    let said = served.ask(&writer, "PUT", "/v1/controllers/shop/consent", grant).json();
    assert_eq!(said["result"], "recorded_without_grant", "{said}");
    let mut browser = console.signed_in(&served);
    let page = browser.page("/person?controller=shop");
    let found = browser.submit(&page, "/person", &[("address", "ida@home.example"), ("controller", "shop")]);
    let path = found.header("location").unwrap().to_owned();
    let page = browser.page(&path);
    // For each purpose as it stands, and in the history.
    assert!(page.matches("granted without proof, so it does not count").count() > 4, "{page}");
    assert!(!page.contains("never asked") && page.contains("class=\"bad\">no<"), "{page}");
    let print = browser.page(&path.replacen('?', "/print?", 1));
    assert!(print.contains("granted without proof, so it does not count, about"), "{print}");
}

#[test]
fn somebody_of_whom_nothing_is_known_objects_in_advance() {
    let (served, hop) = start();
    let console = Console::beside(&served, "");
    let mut browser = console.signed_in(&served);
    let page = browser.page("/person?controller=shop");
    let found = browser.submit(&page, "/person", &[("address", "Eve@Home.example"), ("controller", "shop")]);
    let path = found.header("location").unwrap().to_owned();
    let page = browser.page(&path);
    assert!(
        page.contains("counts from the first message on") && !page.contains("Erase the person"),
        "{page}"
    );
    let objects = format!("{}/withdraw", path.split('?').next().unwrap());
    let fields = |reason, state, purpose| {
        [("controller", "shop"), ("reason", reason), ("state", state), ("purpose", purpose)]
    };
    assert_eq!(browser.submit(&page, &objects, &fields("", "objected", "all")).status, 400);
    for (state, purpose) in [("granted", "all"), ("", "all"), ("objected", ""), ("objected", "opens")] {
        let said = browser.submit(&page, &objects, &fields("letter", state, purpose));
        assert_eq!(said.status, 400, "{state:?} {purpose:?}");
    }
    let said = browser.submit(&page, &objects, &fields("letter of 5 November", "objected", "all"));
    assert_eq!(said.status, 303);
    let page = browser.page(said.header("location").unwrap());
    for words in [
        "Recorded as entry 1: <strong>objected</strong>, every purpose.",
        "letter of 5 November",
        "one-time link",
        "Erase the person",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(browser.page("/audit").contains("recorded an objection"));
    // An import of old yeses does not undo it, and it acts on the first message.
    let said = served.relay.command(&[
        "consent",
        "set",
        "eve@home.example",
        "granted",
        "--evidence",
        "form/1",
        "--controller",
        "shop",
        "--event-time",
        "2026-01-01",
    ]);
    assert!(String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).contains("superseded"));
    let (message, _) = newsletter("eve@home.example");
    assert!(
        Client::greeted(served.relay.port)
            .message("news@shop.example", &["eve@home.example"], &message)
            .starts_with("250")
    );
    let delivered = hop.wait(1).pop().unwrap();
    assert!(!delivered.below_trace().contains("click.shop.example"), "{}", delivered.below_trace());
    served.relay.log.wait("the decision", |line| line.contains("rule=\"refused\""));
    // By the API: a no of somebody unknown is taken, anything else is not.
    let writer = served.token("consent:write", "shop");
    let put = |digit: &str, state: &str| {
        let path = format!("/v1/controllers/shop/people/{}", digit.repeat(32));
        served
            .ask(&writer, "PUT", &path, &format!("{{\"state\": \"{state}\", \"evidence\": \"letter\"}}"))
            .status
    };
    let answers = [
        put("1", "granted"),
        put("2", "asked"),
        put("3", "refused"),
        put("4", "withdrawn"),
        put("5", "objected"),
    ];
    assert_eq!(answers, [404, 404, 200, 200, 200]);
}

#[test]
fn trackers_of_unknown_vendors_show_where_they_report_to_and_nothing_of_the_reader() {
    let (served, _hop) = start();
    let console = Console::beside(&served, "");
    let mut browser = console.signed_in(&served);
    let pixel = |url: &str| format!("<img src=\"{url}\" width=1 height=1 alt=\"\">");
    let message = |body: &str| {
        format!("From: <news@shop.example>\nSubject: News\nContent-Type: text/html\n\n<p>News</p>{body}\n")
    };
    for (to, url) in [
        ("ann@home.example", "https://beacon.tracking.test/reader/Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6?x=1"),
        ("bob@home.example", "https://beacon.tracking.test/reader/Aa3Qw9XvT2aB7LmN8pRsYd4HcJ7?x=1"),
        ("ann@home.example", "https://ann.personal.example/pixel?e=ann%40home.example"),
        ("ann@home.example", "https://u001zk3qw9xvt2ab7lmn8prsyd4hcj6.tokens.example/open?id=7"),
    ] {
        let reply =
            Client::greeted(served.relay.port).message("news@shop.example", &[to], &message(&pixel(url)));
        assert!(reply.starts_with("250"), "{reply}");
    }
    let since = Instant::now();
    let page = loop {
        let page = browser.page("/trackers?controller=shop");
        if ["beacon.tracking.test", "*.personal.example", "*.tokens.example"]
            .iter()
            .all(|item| page.contains(item))
        {
            break page;
        }
        assert!(since.elapsed() < support::PATIENCE, "{page}");
        std::thread::yield_now();
    };
    let today = &Timestamp::now().to_string()[..10];
    let row = page.split("<tr>").find(|piece| piece.contains("beacon.tracking.test")).unwrap();
    assert!(row.contains("<td class=\"count\">2</td>") && row.matches(today).count() == 2, "{row}");
    let file = std::fs::read_to_string(served.relay.folder.0.join("data/evidence/statistics/unknown.hosts"))
        .unwrap();
    for hidden in ["ann", "bob", "reader", "zk3qw9", "Zk3Qw9", "pixel"] {
        assert!(!file.contains(hidden), "{hidden}: {file}");
    }
    // The last day by hour has the same figures as the days.
    let hours = browser.page("/?controller=shop&hours=24");
    let days = browser.page("/?controller=shop&days=7");
    let cards =
        |page: &str| page.split("class=\"cards\"").nth(1).unwrap().split("<h2>").next().unwrap().to_owned();
    assert_eq!(cards(&hours), cards(&days));
    assert!(cards(&hours).contains("<strong>4</strong>"), "{hours}");
    assert!(hours.contains("Trackers by hour") && hours.contains(&format!("{today} ")), "{hours}");
}
