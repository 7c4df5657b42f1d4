//! The console beside a running relay, without single sign-on: who gets in, what pages show, and what is
//! written down about it.
#![cfg(feature = "console")]

use crate::support;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::console::{Browser, Console, encoded, token, wait_until_noted, with_mail};
use crate::esp::{CREDENTIAL, Esp, PLAIN, Plain};
use crate::http::{CONTROLLERS, Served};
use crate::secure::Authority;
use crate::support::{Answer, Client, Folder, NextHop, Step, newsletter, program};
use crate::tls_hop::{Files, Server};
use hyper::Method;
use pixelward::console::{Need, ROUTES};
use serde_json::{Value, json};

/// The one script that pages load: the console's own.
const SCRIPT: &str = "<script src=\"/console.js\" defer></script>";

fn hash_of(location: &str) -> String {
    location.split("/person/").nth(1).unwrap().split('?').next().unwrap().to_owned()
}

#[test]
fn a_link_opens_the_console_once_and_nothing_is_shown_without() {
    let served = Served::with("");
    let console = Console::beside(&served, "");
    let mut browser = console.browser();
    assert_eq!(browser.get("/").status, 401);
    let secret = console.link(&served);
    // Looking at a link does not use it up, and a cookie of one's own choosing is no session, before or
    // after.
    browser.cookies.insert("pixelward-console".to_owned(), "0".repeat(64));
    for _ in 0..3 {
        assert_eq!(browser.get(&format!("/login/link?secret={secret}")).status, 200);
    }
    assert_eq!(browser.send("/login/link", &[("secret", "0")]).status, 403);
    let mut other = browser.clone();
    let opened = browser.send("/login/link", &[("secret", &secret)]);
    assert_eq!(opened.status, 303);
    let cookie = opened.header("set-cookie").unwrap().to_owned();
    assert!(
        cookie.starts_with("pixelward-console=")
            && cookie.contains("HttpOnly")
            && cookie.contains("SameSite=Lax"),
        "{cookie}"
    );
    assert_ne!(browser.cookies["pixelward-console"], "0".repeat(64));
    assert_eq!(other.send("/login/link", &[("secret", &secret)]).status, 403);
    assert_eq!((browser.get("/").status, other.get("/").status), (200, 401));
    // A second sign-in gives another id and ends the first session.
    let before = browser.clone().cookies["pixelward-console"].clone();
    let again = console.link(&served);
    assert_eq!(browser.send("/login/link", &[("secret", &again)]).status, 303);
    other.cookies.insert("pixelward-console".to_owned(), before);
    assert_eq!((browser.get("/").status, other.get("/").status), (200, 401));
    // Signing out ends it for everybody who has the cookie.
    let kept = browser.clone();
    let page = browser.page("/account");
    assert_eq!(browser.submit(&page, "/logout", &[]).header("location"), Some("/signed-out"));
    assert_eq!((browser.get("/").status, kept.clone().get("/").status), (401, 401));
}

#[test]
fn a_form_counts_with_the_token_of_its_session_and_path_and_from_here_alone() {
    let served = Served::with("");
    let console = Console::beside(&served, "");
    let (mut browser, mut other) = (console.signed_in(&served), console.signed_in(&served));
    let page = browser.page("/person");
    let own = token(&page, "/language");
    let form = |token: &str| format!("token={token}&language=de&back=/account");
    let kind = ("Content-Type", "application/x-www-form-urlencoded");
    let here = format!("http://127.0.0.1:{}", console.port);
    let check = |browser: &mut Browser, headers: &[(&str, &str)], body: &str, expected: u16| {
        let answer = browser.ask("POST", "/language", &[&[kind], headers].concat(), body);
        assert_eq!(answer.status, expected, "{headers:?} {body}: {}", answer.text());
    };
    check(&mut browser, &[], &form(""), 403);
    check(&mut browser, &[], &form(&token(&page, "/logout")), 403);
    check(&mut browser, &[], &form(&token(&other.page("/person"), "/language")), 403);
    check(&mut browser, &[("Sec-Fetch-Site", "cross-site")], &form(&own), 403);
    check(&mut browser, &[("Sec-Fetch-Site", "same-site")], &form(&own), 403);
    check(&mut browser, &[("Origin", "https://eve.example")], &form(&own), 403);
    check(&mut browser, &[("Origin", "null")], &form(&own), 403);
    check(&mut browser, &[("Host", "eve.example")], &form(&own), 421);
    check(&mut browser, &[("Origin", &here), ("Sec-Fetch-Site", "same-origin")], &form(&own), 303);
    assert!(browser.page("/account").contains("Angemeldet als"));
    // Nobody is led elsewhere.
    for back in ["https://eve.example/", "//eve.example/", "/\\eve.example", ""] {
        let answer = browser.send("/language", &[("token", &own), ("language", "fr"), ("back", back)]);
        assert_eq!(answer.header("location"), Some("/"), "{back}");
    }
}

#[test]
fn every_answer_is_for_nobody_else_and_loads_nothing() {
    let served = Served::with("");
    let console = Console::beside(&served, "");
    let mut browser = console.signed_in(&served);
    for route in ROUTES {
        let path = route.path.replace("{person}", &"0".repeat(32)).replace("{id}", "none");
        let is_post = route.method == Method::POST;
        let answer = if is_post { browser.send(&path, &[]) } else { browser.get(&path) };
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{route:?}: {policy}"
        );
        let scripts = policy.split("script-src").nth(1).map(|item| item.split(';').next().unwrap());
        assert!(scripts.is_none_or(|script| script.trim() == "'self'"), "{route:?}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{route:?}");
        assert!(answer.header("cache-control").is_some(), "{route:?}");
        let page = answer.text().replace(SCRIPT, "");
        for loading in ["<script", "onclick=", "style=\"", "src=\"http", "@import", "url("] {
            assert!(!page.contains(loading), "{route:?}: {loading}");
        }
        for other in ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
            assert_eq!(browser.ask(other, &path, &[], "").status, 405, "{other} {route:?}");
        }
        let is_open = route.need == Need::Nobody;
        let mut nobody = console.browser();
        let status = if is_post { nobody.send(&path, &[]).status } else { nobody.get(&path).status };
        assert_eq!(status == 401, !is_open, "{route:?}: {status}");
    }
    assert_eq!(browser.get("/nothing").status, 404);
}

#[test]
fn an_officer_finds_a_person_sees_why_and_hands_on_the_proof() {
    let (served, _hop) = with_mail();
    let console = Console::beside(&served, "");
    let mut browser = console.signed_in(&served);
    let shop = |path: &str| format!("{path}?controller=shop");
    let overview = browser.page(&shop("/"));
    assert!(overview.contains("trackers removed") && overview.contains("2026"), "{overview}");
    // By the address, which stands in no page and no log from then on.
    let page = browser.page(&shop("/person"));
    let found = browser.submit(&page, "/person", &[("address", "Bob@Home.example"), ("controller", "shop")]);
    assert_eq!(found.status, 303, "{}", found.text());
    let person = hash_of(found.header("location").unwrap());
    let page = browser.page(&shop(&format!("/person/{person}")));
    for part in ["refused", "form/17", "the person refused", "newsletter"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.to_lowercase().contains("bob@") && !page.contains("home.example"));
    // Why that message was stripped.
    let story =
        page.split("href=\"/messages/").nth(1).unwrap().split('"').next().unwrap().replace("&amp;", "&");
    let told = browser.page(&format!("/messages/{story}"));
    assert!(told.contains("Decided: trackers removed, because the person refused"), "{told}");
    // The proof is what the chain has, as the relay's own command says.
    let path = format!("/messages/{}", story.replacen('?', "/export?", 1));
    let export: Value = serde_json::from_str(&browser.page(&path)).unwrap();
    let lines: Vec<String> = export["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let mut line = entry["record"].clone();
            line["proof"] = entry["proof"].clone();
            line.to_string()
        })
        .collect();
    assert_eq!(lines.len(), 1);
    let file = served.relay.folder.file("export.ndjson", &format!("{}\n", lines.join("\n")));
    let verified = served.relay.command(&["evidence", "verify", "--export", file.to_str().unwrap()]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let all: Value = serde_json::from_str(&browser.page(&shop(&format!("/person/{person}/export")))).unwrap();
    assert_eq!(
        (all["person"].as_str(), all["messages"].as_array().unwrap().len()),
        (Some(person.as_str()), 1)
    );
    assert!(!all["consent"].is_null());
    let print = shop(&format!("/person/{person}/print"));
    assert!(browser.page(&print).contains("How this can be checked"));
    // The page to print speaks the language of the session.
    let page = browser.page("/person");
    for (language, words) in [
        ("de", "Wie sich das prüfen lässt"),
        ("fr", "Comment le vérifier"),
        ("en", "How this can be checked"),
    ] {
        browser.submit(&page, "/language", &[("language", language), ("back", "/account")]);
        assert!(browser.page(&print).contains(words), "{language}");
    }
    // All of it is in the audit trail, and its chain is whole.
    let audit = browser.page("/audit");
    for deed in [
        "signed in",
        "looked for a person",
        "looked at a person",
        "exported a person",
        "looked at a message",
        "exported a message",
    ] {
        assert!(audit.contains(deed), "{deed}: {audit}");
    }
    let verified = served.relay.command(&["audit", "verify"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let exported = String::from_utf8(served.relay.command(&["audit", "export"]).stdout).unwrap();
    assert!(
        exported.contains("person.exported") && exported.contains(&person) && !exported.contains('@'),
        "{exported}"
    );
    for line in console.log.all().iter().chain(&served.relay.log.all()) {
        assert!(!line.to_lowercase().contains("bob@home.example"), "{line}");
    }
}

#[test]
fn a_withdrawal_and_an_erasure_are_recorded_with_their_reasons() {
    let (served, _hop) = with_mail();
    let console = Console::beside(&served, "");
    let mut browser = console.signed_in(&served);
    let page = browser.page("/person?controller=shop");
    let found = browser.submit(&page, "/person", &[("address", "ann@home.example"), ("controller", "shop")]);
    let path = found.header("location").unwrap().to_owned();
    let person = hash_of(&path);
    let page = browser.page(&path);
    assert!(page.contains("granted"), "{page}");
    let withdraw = format!("/person/{person}/withdraw");
    let fields = |reason, purpose| {
        [("controller", "shop"), ("reason", reason), ("state", "withdrawn"), ("purpose", purpose)]
    };
    assert_eq!(browser.submit(&page, &withdraw, &fields("", "all")).status, 400);
    // One purpose alone, and then the rest.
    let said = browser.submit(&page, &withdraw, &fields("call of 2 November", "personalisation"));
    let page = browser.page(said.header("location").unwrap());
    assert!(page.contains("<strong>withdrawn</strong>, personalisation. It counts"), "{page}");
    let said = browser.submit(&page, &withdraw, &fields("letter of 3 November", "all"));
    let page = browser.page(said.header("location").unwrap());
    for part in ["<strong>withdrawn</strong>, every purpose.", "letter of 3 November", "one-time link"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    // The address of the page claims nothing by itself.
    assert!(!browser.page(&format!("{path}&recorded=99")).contains("Recorded as entry"));
    assert!(!browser.page(&format!("/person?controller=shop&erased={person}")).contains("Erased:"));
    // It acts on the very next message.
    let mut client = Client::greeted(served.relay.port);
    let (message, bare) = newsletter("ann@home.example");
    assert!(client.message("news@shop.example", &["ann@home.example"], &message).starts_with("250"));
    let delivered = _hop.wait(3).pop().unwrap();
    assert_eq!(delivered.below_trace().trim_end(), support::crlf(&bare).trim_end());
    let erase = format!("/person/{person}/erase");
    assert_eq!(
        browser.submit(&page, &erase, &[("controller", "shop"), ("reason", "request 12")]).status,
        400,
        "without being sure"
    );
    let sure = [("controller", "shop"), ("reason", "request 12"), ("sure", "yes")];
    let said = browser.submit(&page, &erase, &sure);
    assert_eq!(said.status, 303);
    let told = browser.page(said.header("location").unwrap());
    assert!(told.contains("Erased: nothing is recorded any more about person"), "{told}");
    let page = browser.page(&path);
    assert!(
        page.contains("has recorded nothing about this person") && page.contains("No matching records"),
        "{page}"
    );
    assert!(browser.page("/audit").contains("request 12"));
}

#[test]
fn a_page_that_renews_itself_does_not_keep_a_session_alive() {
    let served = Served::with("");
    let console = Console::beside(&served, "[session]\nidle_s = 5\n");
    let mut browser = console.signed_in(&served);
    assert!(browser.page("/").contains("data-renew=\"60\""));
    // A page that asks the relay nothing, so that it can be asked for as often as that takes.
    let renewal = "/account?renewal=1";
    let since = Instant::now();
    while browser.get(renewal).status != 401 {
        assert!(since.elapsed() < support::PATIENCE);
        std::thread::yield_now();
    }
    assert_eq!(browser.get("/").status, 401);
}

#[test]
fn pages_show_rules_trackers_delivery_and_a_report() {
    let (served, hop) = with_mail();
    let console = Console::beside(&served, "");
    let mut browser = console.signed_in(&served);
    let rules = browser.page("/streams?controller=shop");
    assert!(rules.contains("newsletter") && rules.contains("fr/2026") && rules.contains("CNIL"), "{rules}");
    let trackers = browser.page("/trackers?controller=shop");
    assert!(trackers.contains("SendGrid") && trackers.contains("vendors of the catalogue"), "{trackers}");
    let delivery = browser.page("/delivery");
    assert!(
        delivery.contains(&format!("localhost:{}", hop.port)) && delivery.contains("answers"),
        "{delivery}"
    );
    let report = browser.page("/report?controller=shop&since=2026-01-01");
    assert!(
        report.contains("Handled: 2 copies of messages. Found in them: ")
            && report.contains("How these figures are computed"),
        "{report}"
    );
    assert_eq!(browser.get("/report?controller=shop&since=x").status, 400);
    let found = browser.page("/messages?controller=shop&outcome=strip");
    assert_eq!(found.matches("href=\"/messages/").count(), 1, "{found}");
    let page = browser.page("/messages?controller=shop");
    let by_id =
        browser.submit(&page, "/messages", &[("controller", "shop"), ("message_id", "<1@shop.example>")]);
    assert_eq!(by_id.text().matches("href=\"/messages/").count(), 2, "{}", by_id.text());
    assert!(browser.page("/messages?controller=club").contains("No matching records"));
    assert_eq!(browser.get("/messages?controller=nobody").status, 403);
}

#[test]
fn delivery_lists_the_last_refusals_of_all_controllers_and_every_certificate() {
    let hop = NextHop::behaving(&[
        (Step::Rcpt, Answer::Say("550 5.1.1 <gone@home.example>: no such user")),
        (Step::Dot, Answer::Say("452 4.2.2 full")),
        (Step::Dot, Answer::Say("554 5.7.1 <script>spam</script>")),
    ]);
    let authority = Authority::new();
    let pair = authority.issue_until("readers.example", 2031);
    let folder = Folder::new();
    let rest = format!(
        "{CONTROLLERS}[api]\naddress = \"127.0.0.1:0\"\nburst = 100000\nrequests_per_minute = 1000000\n\
         [public]\naddress = \"127.0.0.1:0\"\n{}\n",
        pair.lines()
    );
    support::configuration(&folder, hop.port, "", "", &rest);
    let served = Served::of(support::Relay::in_folder(folder));
    let console = Console::beside(&served, "");
    let mut browser = console.signed_in(&served);
    assert!(browser.page("/delivery").contains("None since audit records are kept."));
    let said =
        |sender: &str, to: &str| Client::greeted(served.relay.port).message(sender, &[to], &newsletter(to).0);
    let mut client = Client::greeted(served.relay.port);
    client.say("MAIL FROM:<news@shop.example>");
    assert_eq!(client.say("RCPT TO:<gone@home.example>"), 550);
    assert!(said("news@shop.example", "ann@home.example").starts_with("452"));
    assert!(said("news@club.example", "bob@home.example").starts_with("554"));
    let deadline = Instant::now() + support::PATIENCE;
    let page = loop {
        let page = browser.page("/delivery");
        if page.contains("554 5.7.1") && page.contains("452 4.2.2") {
            break page;
        }
        assert!(Instant::now() < deadline, "{page}");
        std::thread::yield_now();
    };
    for part in [
        "refused by policy (554 5.7.1)",
        "the mailbox is full (452 4.2.2)",
        "<td>club</td>",
        "<td>shop</td>",
        "controller=club",
        "pages and pixels for readers",
        "2031-01-01",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("script>spam") && !page.contains("home.example"), "{page}");
    // They are known again after a restart, from the records.
    let served = Served::of(served.relay.killed());
    let console = Console::beside(&served, "");
    let page = console.signed_in(&served).page("/delivery");
    assert!(page.contains("refused by policy (554 5.7.1)"), "{page}");
}

#[test]
fn delivery_shows_how_each_connector_stands_in_every_language() {
    let esp = Esp::start(Plain);
    let folder = Folder::new();
    let file = folder.file("plain.toml", PLAIN);
    let key = folder.file("key", &format!("{CREDENTIAL}\n"));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let connector = |controller: &str, name: &str, more: &str| {
        format!(
            "[[connector]]\ncontroller = \"{controller}\"\nname = \"{name}\"\nservice_file = {file:?}\n\
             base_url = {:?}\ncredential_file = {key:?}\npurposes = [\"campaign_performance\"]\n{more}\n",
            esp.base()
        )
    };
    let rest = format!(
        "{CONTROLLERS}[api]\naddress = \"127.0.0.1:0\"\nburst = 100000\nrequests_per_minute = 1000000\n{}{}",
        connector("shop", "plain", ""),
        connector("club", "later", "paused = true")
    );
    support::configuration(&folder, support::free_port(), "", "", &rest);
    let served = Served::of(support::Relay::in_folder(folder));
    let token = served.token("consent:read,consent:write", "all");
    esp.books.lock().unwrap().unknown.insert("bob".to_owned());
    let say = |name: &str| {
        let body = json!({"address": format!("{name}@home.example"), "state": "granted", "evidence": "form/1",
            "purposes": ["campaign_performance"], "external_id": name});
        let answer = served.ask(&token, "PUT", "/v1/controllers/shop/consent", &body.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    let standing = || served.ask(&token, "GET", "/v1/controllers/shop/connectors/plain", "").json();
    let until = |what: &str, holds: &dyn Fn(&Value) -> bool| {
        let deadline = Instant::now() + support::PATIENCE;
        while !holds(&standing()) {
            assert!(Instant::now() < deadline, "{what}: {}", standing());
            std::thread::park_timeout(Duration::from_millis(5));
        }
    };
    let console = Console::beside(&served, "");
    let mut browser = console.signed_in(&served);
    let page = browser.page("/delivery");
    assert!(page.contains("none since the start") && page.contains("paused"), "{page}");
    for name in ["ann", "bob", "cat"] {
        say(name);
    }
    until("two are told of", &|page| page["waiting"] == 0 && page["results"]["written"] == 2);
    // Ann's contact is changed there, and then all are compared.
    esp.books.lock().unwrap().contacts.get_mut("ann").unwrap().0 = json!(false);
    let order = json!({"action": "compare"}).to_string();
    let path = "/v1/controllers/shop/connectors/plain/actions";
    assert_eq!(served.ask(&token, "POST", path, &order).status, 202);
    until("all are compared", &|page| page["walk"]["finished_at"].is_string());
    // Another change finds the credential no longer accepted.
    esp.books.lock().unwrap().locks_out = true;
    say("dan");
    until("it stopped", &|page| page["stopped"].is_string());
    for (code, paused, parts, alarm) in [
        (
            "en",
            "paused",
            ["Connectors", "stopped: it answered 401", "Comparison, 3 people, finished 2"],
            "A connector stopped: shop: plain",
        ),
        (
            "de",
            "ausgesetzt",
            ["Konnektoren", "angehalten: it answered 401", "Vergleich, 3 Personen, fertig am "],
            "Ein Konnektor hat angehalten: shop: plain",
        ),
        (
            "fr",
            "suspendu",
            ["Connecteurs", "arrêté : it answered 401", "Comparaison, 3 personnes, terminé le "],
            "Connecteur arrêté : shop: plain",
        ),
    ] {
        let account = browser.page("/account");
        browser.submit(&account, "/language", &[("language", code), ("back", "/account")]);
        let page = browser.page("/delivery");
        for part in parts {
            assert!(page.contains(part), "{part}: {page}");
        }
        let rows: Vec<&str> = page.split("<tr id=\"connector-").skip(1).collect();
        let shop = rows.iter().find(|row| row.starts_with("shop-plain")).unwrap();
        let shop = shop.split("</tr>").next().unwrap();
        assert!(shop.contains("<td class=\"number\">1</td>"), "a change waits: {shop}");
        assert_eq!(shop.matches("<span class=\"warn\">1</span>").count(), 2, "Bob, and a difference: {shop}");
        assert!(!shop.contains("home.example") && !shop.contains(CREDENTIAL), "{shop}");
        let club = rows.iter().find(|row| row.starts_with("club-later")).unwrap();
        assert!(club.split("</tr>").next().unwrap().contains(paused), "{club}");
        assert!(browser.page("/").contains(alarm), "{alarm}");
    }
    esp.check();
}

#[test]
fn delivery_says_how_a_next_hop_was_known_and_when_its_certificate_ends() {
    let authority = Authority::new();
    let pair = authority.issue_until("localhost", 2032);
    let case = Files::new().case_of("hop", &pair.certificate, &pair.key, &authority.file);
    let mut hop = Server::start(&[case]);
    let folder = Folder::new();
    let tls = format!("tls = \"required\"\nca_file = {:?}", authority.file);
    let rest = format!("{CONTROLLERS}[api]\naddress = \"127.0.0.1:0\"\n");
    support::configuration(&folder, hop.ports[0], "", &tls, &rest);
    let served = Served::of(support::Relay::in_folder(folder));
    let console = Console::beside(&served, "");
    let mut browser = console.signed_in(&served);
    let before = browser.page("/delivery");
    assert!(before.contains("not used since the start") && !before.contains("2032-01-01"), "{before}");
    let reply = Client::greeted(served.relay.port).message(
        "news@shop.example",
        &["ann@home.example"],
        "Subject: a\r\n\r\na\r\n",
    );
    assert!(reply.starts_with("250"), "{reply} {:?}", hop.heard());
    let after = browser.page("/delivery");
    assert!(after.contains("<td>pkix</td>") && after.contains("2032-01-01"), "{after}");
}

#[test]
fn a_message_to_many_shows_some_recipients_at_a_time() {
    let (served, _hop) = with_mail();
    let console = Console::beside(&served, "");
    let mut browser = console.signed_in(&served);
    let to: Vec<String> = (0..45).map(|number| format!("p{number}@home.example")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let (message, _) = newsletter(to[0]);
    assert!(
        Client::greeted(served.relay.port).message("news@shop.example", &to, &message).starts_with("250")
    );
    wait_until_noted(&served, 47);
    let link = |page: &str, words: &str| {
        let before = page.split(words).next().filter(|piece| piece.len() < page.len());
        let path =
            before.and_then(|value| value.rsplit("href=\"").next()).and_then(|value| value.split('"').next());
        path.unwrap_or_else(|| panic!("no link {words}: {page}")).replace("&amp;", "&")
    };
    let messages = browser.page("/messages?controller=shop");
    assert!(messages.contains("trackers removed: 45 recipients"), "{messages}");
    let mut page = browser.page(&link(&messages, ": 45 recipients"));
    let mut seen = vec![page.matches("<article>").count()];
    for words in [">Recipients 21–40<", ">Recipients 41–45<"] {
        page = browser.page(&link(&page, words));
        seen.push(page.matches("<article>").count());
    }
    assert_eq!(seen, [20, 20, 5]);
    assert!(page.contains("Recipient 45: ") && page.contains("trackers removed: 45"), "{page}");
    link(&page, ">Recipients 21–40<");
}

/// The newsletter with these lines in its header.
fn newsletter_with(to: &str, lines: &str) -> String {
    newsletter(to).0.replacen("Date: ", &format!("{lines}Date: "), 1)
}

#[test]
fn the_messages_of_a_campaign_share_a_row_and_its_tag_leads_to_them() {
    let (served, _hop) = with_mail();
    let console = Console::beside(&served, "");
    let mut browser = console.signed_in(&served);
    for number in 0..16 {
        let to = format!("p{number}@home.example");
        let message = newsletter_with(&to, "X-Campaign: autumn & sale\nList-Id: <news.shop.example>\n");
        let mut client = Client::greeted(served.relay.port);
        assert!(client.message("news@shop.example", &[&to], &message).starts_with("250"));
    }
    wait_until_noted(&served, 18);
    let page = browser.page("/messages?controller=shop");
    assert!(page.contains("trackers removed: 16 messages, 16 recipients"), "{page}");
    let tag = "href=\"/messages?campaign=autumn%20%26%20sale&amp;controller=shop\"";
    assert!(page.contains(&format!("class=\"tag\" {tag}>autumn &amp; sale</a>")), "{page}");
    let stories = |page: &str| page.matches("href=\"/messages/").count();
    assert_eq!(stories(&page), 2, "{page}");
    let of_it = browser.page("/messages?campaign=autumn%20%26%20sale&controller=shop");
    assert_eq!(stories(&of_it), 16, "{of_it}");
    assert!(browser.page("/messages?campaign=other&controller=shop").contains("No matching records"));
    let found = served.relay.command(&["evidence", "find", "--campaign", "autumn & sale"]);
    assert_eq!(String::from_utf8(found.stdout).unwrap().lines().count(), 16);
}

#[test]
fn an_officer_reads_the_subject_once_the_recipient_is_named_and_until_they_are_erased() {
    let (served, _hop) = crate::console::with_mail_and("[evidence]\nsubjects = true\n");
    let console = Console::beside(&served, "");
    let mut browser = console.signed_in(&served);
    let mut client = Client::greeted(served.relay.port);
    let to = ["ann@home.example", "bob@home.example", "eve@home.example"];
    let message = newsletter(to[0]).0.replacen("Subject: News", "Subject: =?utf-8?q?F=C3=BCr_Ann?=", 1);
    assert!(client.message("news@shop.example", &to, &message).starts_with("250"));
    wait_until_noted(&served, 5);
    let page = browser.page("/messages?controller=shop");
    let link = page.split("href=\"/messages/").nth(1).unwrap().split('"').next().unwrap();
    let path = format!("/messages/{}", link.replace("&amp;", "&"));
    let story = browser.page(&path);
    assert!(!story.contains("Für Ann") && !story.contains("1@shop.example"), "{story}");
    let action = path.split('?').next().unwrap().to_owned();
    let at = story.split("name=\"at\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let mut named = |address: &str| {
        let fields = [("controller", "shop"), ("at", at.as_str()), ("address", address)];
        let opened = browser.submit(&story, &action, &fields);
        assert_eq!(opened.status, 303, "{}", opened.text());
        browser.get(opened.header("location").unwrap())
    };
    let told = named("Ann@Home.example").text();
    for part in [
        "<strong>Für Ann</strong>",
        "1@shop.example",
        "granted",
        "?controller=shop#record-",
        "/trackers?controller=shop#vendor-sendgrid\"",
        "/streams?controller=shop#fr/",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(told.contains("reports to") && told.contains("click.shop.example"), "{told}");
    assert_eq!(told.matches("<article>").count(), 1);
    assert!(named("eve@home.example").text().contains("Für Ann"));
    assert_eq!(named("nobody@home.example").status, 404);
    // It is nobody's any more once its reader is erased.
    let erased = served.relay.command(&["consent", "erase", "eve@home.example"]);
    assert!(erased.status.success(), "{}", String::from_utf8_lossy(&erased.stderr));
    assert_eq!(named("eve@home.example").status, 404);
    assert!(named("bob@home.example").text().contains("Für Ann"));
    let verified = served.relay.command(&["evidence", "verify"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    for line in served.relay.log.all() {
        assert!(!line.contains("Für Ann"), "{line}");
    }
}

#[test]
fn messages_are_found_by_their_recipient_and_the_search_is_noted() {
    let (served, _hop) = with_mail();
    let console = Console::beside(&served, "");
    let mut browser = console.signed_in(&served);
    let page = browser.page("/messages?controller=shop");
    let mut rows = |address: &str| {
        let found =
            browser.submit(&page, "/messages/recipient", &[("controller", "shop"), ("address", address)]);
        assert_eq!(found.status, 200, "{address}");
        found.text().matches("href=\"/messages/").count()
    };
    assert_eq!([rows("Bob@Home.example"), rows("ann@home.example"), rows("nobody@home.example")], [1, 1, 0]);
    assert!(browser.page("/audit").contains("looked for a person"));
}

#[test]
fn the_overview_tells_answers_over_time_and_what_exemptions_were_used_for() {
    let legal = "[[mailstream]]\nname = \"notices\"\ncontroller = \"shop\"\n\
                 list_id = \"notices.legal.example\"\n\
                 purposes = [\"legal_notice\"]\nexemption = \"legal_notice\"\nrequested = \"requested\"\n\
                 jurisdiction = \"it\"\n";
    let (served, _hop) = crate::console::with_mail_and(legal);
    let console = Console::beside(&served, "");
    let mut browser = console.signed_in(&served);
    let overview = browser.page("/?controller=shop");
    assert!(overview.contains("No exemption was used in this period."), "{overview}");
    let message = newsletter_with("eve@home.example", "List-Id: <notices.legal.example>\n");
    let message = message.replacen("news@shop.example", "news@legal.example", 1);
    let mut client = Client::greeted(served.relay.port);
    assert!(client.message("news@shop.example", &["eve@home.example"], &message).starts_with("250"));
    wait_until_noted(&served, 3);
    let token = served.token("consent:write", "shop");
    let said = serde_json::json!({"address": "ann@home.example", "state": "withdrawn", "channel": "web shop",
        "purposes": ["personalisation"]});
    let answer = served.ask(&token, "PUT", "/v1/controllers/shop/consent", &said.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    // Answers are counted in the background.
    let deadline = Instant::now() + support::PATIENCE;
    let mut overview = browser.page("/?controller=shop");
    while !overview.contains("web shop") && Instant::now() < deadline {
        overview = browser.page("/?controller=shop");
    }
    for part in ["Answers over time", "web shop", "<td>notices</td><td>left as it was</td>", "50\u{a0}%"] {
        assert!(overview.contains(part), "{part}: {overview}");
    }
    let of_source = browser.page("/?controller=shop&source=web%20shop&purpose=personalisation");
    let rows = of_source.split("Yes of all answers").nth(1).unwrap().split("</table>").next().unwrap();
    assert_eq!(rows.matches("<tr>").count(), 1, "{of_source}");
    let club = browser.page("/?controller=club");
    assert!(club.contains("Nobody answered in this period."), "{club}");
}

#[test]
fn history_tells_which_rules_came_into_force_when_and_by_whom() {
    let (served, _hop) = with_mail();
    let console = Console::beside(&served, "");
    let mut browser = console.signed_in(&served);
    let is_noted = |line: &str| line.contains("other rules are in force");
    served.relay.log.wait_for(1, "the first version", is_noted);
    let page = browser.page("/history?controller=shop");
    assert_eq!(page.matches("<article id=\"deployed-").count(), 1, "{page}");
    for part in ["The first version on record", "started by", "shop/newsletter", "in force", "SendGrid"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let path = served.relay.folder.0.join("config.toml");
    let first = std::fs::read_to_string(&path).unwrap();
    let reload = |text: &str, count: usize| {
        std::fs::write(&path, text).unwrap();
        served.relay.signal("HUP");
        served.relay.log.wait_for(count, "the next version", is_noted);
    };
    let offers = "[[mailstream]]\nname = \"offers\"\ncontroller = \"shop\"\n\
                  list_id = \"offers.shop.example\"\n\
                  requested = \"requested\"\n";
    reload(&format!("{first}{offers}"), 2);
    // What is no rule changes nothing.
    let rest = first.replacen("purposes = [\"campaign_performance\"]", "purposes = [\"personalisation\"]", 1);
    assert_ne!(rest, first);
    served.relay.signal("HUP");
    served.relay.log.wait_for(2, "another reload", |line| line.contains("were read again"));
    reload(&rest, 3);
    let page = browser.page("/history?controller=shop");
    assert_eq!(page.matches("<article id=\"deployed-").count(), 3, "{page}");
    for part in [
        "reloaded by",
        "<strong>Added: </strong>shop/offers",
        "<strong>Removed: </strong>shop/offers",
        "<code>purposes</code>: <del>campaign_performance</del> → <ins>personalisation</ins>",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(browser.page("/history?controller=club").contains("Nothing changed for this controller."));
    let audit = browser.page("/audit");
    assert_eq!(audit.matches("brought other rules into force").count(), 3, "{audit}");
    assert!(audit.contains("reload: mailstreams shop/newsletter (purposes), -shop/offers"), "{audit}");
    let verified = served.relay.command(&["audit", "verify"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    // A snapshot that somebody changed is not taken for what was in force.
    let snapshots = std::fs::read_dir(served.relay.folder.0.join("data/audit/deployed")).unwrap();
    for snapshot in snapshots {
        let path = snapshot.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"enforce\"", "\"observe\"")).unwrap();
    }
    let page = browser.page("/history?controller=shop");
    assert_eq!(page.matches("What changed cannot be shown").count(), 3, "{page}");
}

#[test]
fn what_if_shows_a_message_before_and_after_and_keeps_nothing() {
    let (served, _hop) = with_mail();
    let console = Console::beside(&served, "");
    let mut browser = console.signed_in(&served);
    let page = browser.page("/what-if?controller=shop");
    let message = support::crlf(&newsletter("eve@home.example").0);
    let token = token(&page, "/what-if");
    let field = |name: &str, value: &str| {
        format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let mut tried_with = |state: &str, message: &str, kept: &str| {
        let file = format!(
            "--B\r\nContent-Disposition: form-data; name=\"file\"; \
             filename=\"m.eml\"\r\n\r\n{message}\r\n--B--\r\n"
        );
        let fields = [
            ("token", token.as_str()),
            ("controller", "shop"),
            ("mailstream", "newsletter"),
            ("state", state),
            ("text", ""),
            ("kept", kept),
        ];
        let body: String = fields.iter().map(|(name, value)| field(name, value)).collect::<String>() + &file;
        browser.ask("POST", "/what-if", &[("Content-Type", "multipart/form-data; boundary=B")], &body)
    };
    let empty = tried_with("refused", "", "");
    assert_eq!(empty.status, 400);
    assert!(empty.text().contains("choose a file, or paste the source"), "{}", empty.text());
    let mut tried = |state: &str, message: &str| tried_with(state, message, "");
    let refused = tried("refused", &message);
    assert_eq!(refused.status, 200, "{}", refused.text());
    let text = refused.text();
    assert!(
        text.contains("Trackers would be removed")
            && text.contains("SendGrid")
            && text.contains("iframe sandbox=\"\""),
        "{text}"
    );
    assert!(!text.contains("src=\"https://cdn.shop.example") && !text.contains("srcdoc=\"<"), "{text}");
    // The file is kept for the next try, which may only choose another answer.
    let kept = text.split("name=\"kept\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert!(tried("granted", &message).text().contains("It would leave as it came"));
    assert!(tried_with("granted", "", &kept).text().contains("It would leave as it came"));
    let mut tried = |state: &str, message: &str| tried_with(state, message, "");
    // A message that would attack the page stays text within a frame.
    let hostile =
        "From: a\r\nContent-Type: text/html\r\n\r\n\"><script>alert(1)</script><img src=x onerror=alert(1)>";
    let text = tried("refused", hostile).text();
    assert!(!text.replace(SCRIPT, "").contains("<script") && !text.contains("<img"), "{text}");
    let evidence = String::from_utf8(served.relay.command(&["evidence", "find"]).stdout).unwrap();
    assert_eq!(evidence.lines().count(), 2, "{evidence}");
}

#[test]
fn without_the_relay_pages_say_so() {
    let served = Served::with("");
    let console = Console::beside(&served, "");
    let mut browser = console.signed_in(&served);
    served.relay.signal("KILL");
    let deadline = Instant::now() + support::PATIENCE;
    // What was just asked may still be known.
    while browser.get("/").status != 502 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(50));
    }
    let page = browser.get("/").text();
    assert!(
        page.contains("The relay does not answer") && page.contains("Mail may be flowing all the same"),
        "{page}"
    );
    assert_eq!(browser.get(&format!("/person/{}", encoded(&"0".repeat(32)))).status, 502);
}

#[test]
fn what_is_wrong_with_the_configuration_stops_the_start() {
    let folder = Folder::new();
    let config = folder.file("console.toml", "colour = 1\n[server]\naddress = \"0.0.0.0:0\"\n");
    let run = || {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_pixelward-console"));
        program.arg("--config").arg(&config).output().unwrap()
    };
    let said = String::from_utf8(run().stderr).unwrap();
    assert!(said.contains("unknown setting colour") && said.contains("one-time links"), "{said}");
    let metadata = folder.file(
        "idp.xml",
        "<EntityDescriptor xmlns=\"urn:oasis:names:tc:SAML:2.0:metadata\" \
                                           entityID=\"x\"><IDPSSODescriptor>\
        <SingleSignOnService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect\" \
        Location=\"https://idp.example/\"/></IDPSSODescriptor>\
        </EntityDescriptor>",
    );
    folder.file(
        "console.toml",
        &format!(
            "[server]\naddress = \"127.0.0.1:0\"\npublic_url \
             = \"https://console.example\"\n[saml]\nentity_id = \"https://console.example/saml/metadata\"\n\
             idp_metadata_file = {metadata:?}\n[[saml.role]]\nattribute = \"a\"\nvalue = \"b\"\nrole \
             = \"viewer\"\ncontroller = \"all\"\n"
        ),
    );
    let said = String::from_utf8(run().stderr).unwrap();
    assert!(said.contains("no signing key"), "{said}");
    let link = program().arg("console-link").arg("--config").arg(&config).output().unwrap();
    assert!(String::from_utf8(link.stderr).unwrap().contains("single sign-on"));
}
