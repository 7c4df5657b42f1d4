//! What readers reach on the running relay: pixels of ours and the preference page.

use crate::support;
use std::time::Instant;

use crate::http::Answer;
use crate::readers::{Readers, TARGET};
use crate::support::{Client, Folder, NextHop, PATIENCE, Step, newsletter};
use pixelward::consent::Timestamp;
use serde_json::json;

/// The answer that every pixel gives but a gate that leads on.
fn is_blank(answer: &Answer, why: &str) {
    let mut fields: Vec<&str> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["cache-control", "connection", "content-length", "content-type", "date"], "{why}");
    let told =
        [answer.header("content-type"), answer.header("cache-control"), answer.header("content-length")];
    assert_eq!((answer.status, told), (200, [Some("image/gif"), Some("no-store"), Some("43")]), "{why}");
}

#[test]
fn a_gate_leads_on_for_those_who_agreed_and_stops_at_once_when_they_withdraw() {
    let readers = Readers::start();
    let gate = readers.gate("ann@home.example");
    let plain = readers.get("/p/none").body;
    let blank = |path: &str, why: &str| {
        let answer = readers.get(path);
        is_blank(&answer, why);
        assert_eq!(answer.body, plain, "{why}");
    };
    blank(&gate, "unknown");
    readers.say("ann@home.example", "granted");
    let onward = readers.get(&gate);
    assert_eq!((onward.status, onward.header("location")), (302, Some(TARGET)));
    assert_eq!(
        (onward.header("cache-control"), onward.header("referrer-policy")),
        (Some("no-store"), Some("no-referrer"))
    );
    assert!(onward.header("set-cookie").is_none() && onward.body.is_empty());
    is_blank(&readers.ask("HEAD", &gate, &[], ""), "HEAD");
    for method in ["OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE"] {
        is_blank(&readers.ask(method, &gate, &[], ""), method);
    }
    blank(&gate.replace("/p/", "/d/"), "another kind");
    blank(&gate[..gate.len() - 1], "cut");
    blank(&readers.gate("bob@home.example"), "of somebody else");
    let old = Timestamp::now().plus_days(-366);
    blank(&readers.gate_to("ann@home.example", TARGET, old), "too old");
    for target in
        ["http://127.0.0.1/", "http://localhost/a", "file:///etc/passwd", "https://[::1]/", "javascript:0"]
    {
        blank(&readers.gate_to("ann@home.example", target, Timestamp::now()), target);
    }
    readers.say("ann@home.example", "withdrawn");
    blank(&gate, "withdrawn");
    readers.say("eve@home.example", "granted");
    let eves = readers.gate("eve@home.example");
    assert_eq!(readers.get(&eves).status, 302);
    readers.erase("eve@home.example");
    blank(&eves, "erased");
    let log = readers.served.relay.log.all().join("\n");
    assert!(!log.contains(&gate[8..40]) && !log.contains("ann@") && !log.contains("vendor.example"), "{log}");
}

#[test]
fn a_pixel_that_is_opened_as_a_page_leads_nowhere_and_records_nothing() {
    const VISITS: [&[(&str, &str)]; 5] = [
        &[("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")],
        &[("Sec-Fetch-Dest", "iframe"), ("Sec-Fetch-Mode", "navigate")],
        &[("Sec-Fetch-Dest", "empty"), ("Sec-Fetch-Mode", "cors")],
        &[("Sec-Fetch-Mode", "navigate"), ("Accept", "image/*")],
        &[("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8")],
    ];
    let readers = Readers::start();
    readers.say("ann@home.example", "granted");
    let gate = readers.gate("ann@home.example");
    let day = readers.day("ann@home.example", "orders");
    let paths = [
        gate.clone(),
        readers.gate("bob@home.example"),
        readers.gate_to("ann@home.example", "http://127.0.0.1/", Timestamp::now()),
        "/shop/p/none".to_owned(),
        day.clone(),
        readers.shared("club", "letter", 1),
    ];
    let visit = |path: &str, fields: &[(&str, &str)]| {
        let answer = readers.ask("GET", path, fields, "");
        assert_eq!(answer.header("location"), None, "{path}");
        is_page(&answer, path)
    };
    let page = visit("/shop/p/none", VISITS[0]);
    assert!(page.contains("This is the address of an invisible picture"), "{page}");
    for (path, fields) in paths.iter().flat_map(|path| VISITS.map(|fields| (path, fields))) {
        assert_eq!(visit(path, fields), page, "{path} {fields:?}");
    }
    let german = visit(&gate, &[VISITS[0], &[("Accept-Language", "de")]].concat());
    assert!(german.contains("lang=\"de\"") && german.contains("eines unsichtbaren Bildes"), "{german}");
    assert!(visit(&format!("{gate}?lang=nl"), VISITS[0]).contains("een onzichtbare afbeelding"));
    // A picture is loaded as before, by browsers that say so, and by proxies that say nothing.
    for fields in [
        &[
            ("Sec-Fetch-Dest", "image"),
            ("Sec-Fetch-Mode", "no-cors"),
            ("Accept", "image/avif,image/*,*/*;q=0.8"),
        ][..],
        &[("Accept", "*/*")],
        &[],
    ] {
        let onward = readers.ask("GET", &gate, fields, "");
        assert_eq!((onward.status, onward.header("location")), (302, Some(TARGET)), "{fields:?}");
    }
    let mut readers = readers;
    readers.served.relay.signal("TERM");
    assert!(readers.served.relay.wait().success());
    let file = readers.served.relay.folder.0.join("data/consent/days.log");
    let opened = pixelward::consent::days::Table::load(&file)
        .map_or(0, |table| table.len() + table.counted("club").len());
    assert_eq!(opened, 0, "a visit is no opening");
}

#[test]
fn a_day_pixel_keeps_one_day_and_not_of_those_who_said_no() {
    let readers = Readers::start();
    let file = readers.served.relay.folder.0.join("data/consent/days.log");
    for (address, mailstream) in [("ann@home.example", "orders"), ("bob@home.example", "news")] {
        is_blank(&readers.get(&readers.day(address, mailstream)), address);
    }
    readers.say("eve@home.example", "refused");
    is_blank(&readers.get(&readers.day("eve@home.example", "orders")), "refused");
    is_blank(&readers.get(&readers.day("ann@home.example", "orders")), "again");
    is_blank(&readers.ask("HEAD", &readers.day("joe@home.example", "orders"), &[], ""), "HEAD");
    let mut readers = readers;
    readers.served.relay.signal("TERM");
    assert!(readers.served.relay.wait().success());
    let table = pixelward::consent::days::Table::load(&file).unwrap();
    assert_eq!(table.len(), 1);
    let bytes = std::fs::read(&file).unwrap();
    assert!(memchr::memmem::find(&bytes, &readers.key.person("ann@home.example").0).is_none());
}

#[test]
fn shared_pixels_are_counted_where_the_rules_allow_it() {
    let readers = Readers::start();
    for campaign in [1, 1, 2] {
        is_blank(&readers.get(&readers.shared("club", "letter", campaign)), "club");
    }
    is_blank(&readers.get(&readers.shared("shop", "news", 1)), "no such exemption");
    is_blank(&readers.get(&readers.shared("nobody", "news", 1)), "no such controller");
    let mut readers = readers;
    readers.served.relay.signal("TERM");
    assert!(readers.served.relay.wait().success());
    let file = readers.served.relay.folder.0.join("data/consent/days.log");
    let table = pixelward::consent::days::Table::load(&file).unwrap();
    let opens = |controller| table.counted(controller).iter().map(|item| item.opens).collect::<Vec<_>>();
    assert_eq!((opens("club"), opens("shop")), (vec![2, 1], vec![]));
}

/// What a page has in an element, roughly: for tests that know what they look for.
fn field(page: &str, name: &str) -> String {
    let start = format!("name=\"{name}\" value=\"");
    page.split(&start).nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned()
}

/// Like every page, whatever it says.
fn is_page(answer: &Answer, why: &str) -> String {
    assert_eq!((answer.status, answer.body.len()), (200, 24 * 1024), "{why}");
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-robots-tag", "noindex, nofollow"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{why}");
    }
    let policy = answer.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert!(answer.header("set-cookie").is_none());
    answer.text()
}

fn states(readers: &Readers, address: &str) -> String {
    let token = readers.served.token("consent:read", "shop");
    let body = serde_json::json!({ "address": address }).to_string();
    let found = readers.served.ask(&token, "POST", "/v1/controllers/shop/consent/lookup", &body).json();
    let mut said: Vec<String> = found["purposes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| format!("{}={}", entry["purpose"].as_str().unwrap(), entry["state"].as_str().unwrap()))
        .collect();
    said.sort();
    said.join(" ")
}

#[test]
fn a_choice_is_shown_made_and_taken_back_by_one_press() {
    let readers = Readers::start();
    let link = readers.link("annette@home.example");
    let page = is_page(&readers.ask("GET", &link, &[("Accept-Language", "fr-FR,fr;q=0.9")], ""), "first");
    assert!(
        page.contains("a…e@h….example")
            && page.contains("Shop Example")
            && page.contains("<html lang=\"fr\">")
    );
    assert!(page.contains("Vous n’avez pas encore répondu"), "{page}");
    assert!(!page.contains("checked"));
    // One purpose yes, the other no.
    let form = field(&page, "form");
    let choice = [
        ("form", form.as_str()),
        ("action", "choose"),
        ("campaign_performance", "yes"),
        ("personalisation", "no"),
    ];
    let shown = is_page(&readers.post(&link, &choice), "chosen");
    assert!(
        shown.contains("Your choice is saved")
            && shown.contains("Accepted: Measure results.")
            && shown.contains("Refused: Personalise emails."),
        "{shown}"
    );
    assert_eq!(
        states(&readers, "annette@home.example"),
        "campaign_performance=granted personalisation=refused"
    );
    // The same form again does nothing.
    let again = [("form", form.as_str()), ("action", "accept")];
    assert!(is_page(&readers.post(&link, &again), "again").contains("This form was already sent"));
    assert_eq!(
        states(&readers, "annette@home.example"),
        "campaign_performance=granted personalisation=refused"
    );
    // Without a form, none of another person, and nothing chosen.
    let other = field(&is_page(&readers.get(&readers.link("bob@home.example")), "bob"), "form");
    for form in ["", "00", other.as_str()] {
        let sent = is_page(&readers.post(&link, &[("form", form), ("action", "accept")]), "forged form");
        assert!(sent.contains("This form was already sent"));
    }
    let fresh = || field(&is_page(&readers.get(&link), "fresh"), "form");
    let nothing =
        is_page(&readers.post(&link, &[("form", fresh().as_str()), ("action", "choose")]), "nothing");
    assert!(nothing.contains("Please answer for at least one purpose"));
    let accepted = is_page(&readers.post(&link, &[("form", fresh().as_str()), ("action", "accept")]), "all");
    assert!(accepted.contains("Measure results, Personalise emails"), "{accepted}");
    let gate = readers.gate("annette@home.example");
    assert_eq!(readers.get(&gate).status, 302);
    // One press, without a form token.
    let stopped = is_page(&readers.post(&link, &[("action", "withdraw")]), "stopped");
    assert!(stopped.contains("You have refused all purposes. Any consent you gave earlier is withdrawn."));
    // The mailstreams unwrap links, and gates hold for mail that she has; nothing goes on without her.
    assert!(
        stopped.contains("Without your consent to link tracking")
            && stopped.contains("emails you already have")
    );
    assert!(!stopped.contains("Your refusal does not change this"), "{stopped}");
    is_blank(&readers.get(&gate), "stopped");
    assert!(states(&readers, "annette@home.example").contains("campaign_performance=withdrawn"));
    assert!(states(&readers, "annette@home.example").contains("deliverability=objected"));
    let records = readers.served.relay.command(&["consent", "export", "annette@home.example"]);
    let export: serde_json::Value = serde_json::from_slice(&records.stdout).unwrap();
    let first = &export["records"][0];
    assert_eq!((first["method"].as_str(), first["channel"].as_str()), (Some("preference_page"), Some("web")));
    assert_eq!(first["scope"].as_str(), Some("address"));
    let preview = readers.served.relay.folder.0.join("page.html");
    let arguments =
        ["page", "preview", "--controller", "shop", "--lang", "en", "--to", preview.to_str().unwrap()];
    let said = String::from_utf8(readers.served.relay.command(&arguments).stdout).unwrap();
    assert!(said.contains(first["text_hash"].as_str().unwrap()), "{said} {first}");
    assert!(said.contains(first["notice_version"].as_str().unwrap()), "{said}");
}

#[test]
fn an_old_link_withdraws_and_grants_nothing() {
    let readers = Readers::start();
    readers.say("ann@home.example", "granted");
    let link = readers.link_of("ann@home.example", Timestamp::now().plus_days(-181));
    let page = is_page(&readers.get(&link), "old");
    assert!(
        page.contains("more than 180 days old")
            && !page.contains("name=\"form\"")
            && !page.contains("type=\"radio\"")
    );
    readers.say("bob@home.example", "refused");
    let bobs = readers.link_of("bob@home.example", Timestamp::now().plus_days(-181));
    let young = readers.link("bob@home.example");
    let form = field(&is_page(&readers.get(&young), "young"), "form");
    is_page(&readers.post(&bobs, &[("form", form.as_str()), ("action", "accept")]), "old accept");
    assert!(!states(&readers, "bob@home.example").contains("granted"));
    is_page(&readers.post(&link, &[("action", "withdraw")]), "withdraw");
    assert!(!states(&readers, "ann@home.example").contains("granted"));
}

const ONE_CLICK: &str = "Recorded: all purposes are refused, and any consent given earlier is withdrawn.\n";

#[test]
fn a_mail_program_withdraws_by_itself_as_often_as_it_likes() {
    let readers = Readers::start();
    readers.say("ann@home.example", "granted");
    let old = readers.link_of("ann@home.example", Timestamp::now().plus_days(-3000));
    let target = format!("{old}/withdraw");
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    for method in ["PUT", "OPTIONS"] {
        assert_eq!(readers.ask(method, &target, &[], "").status, 405);
    }
    // Who opens it in a browser gets to the page.
    for method in ["GET", "HEAD"] {
        let led = readers.ask(method, &target, &[], "");
        let page = old.rsplit('/').next().unwrap();
        assert_eq!((led.status, led.header("location")), (303, Some(&*format!("../{page}"))));
    }
    assert_eq!(readers.ask("POST", &target, &form, "List-Unsubscribe=Grant").status, 400);
    assert!(states(&readers, "ann@home.example").contains("campaign_performance=granted"));
    let head = readers.served.relay.folder.0.join("head");
    let first = readers.ask("POST", &target, &form, "List-Unsubscribe=One-Click");
    assert_eq!((first.status, first.text().as_str()), (200, ONE_CLICK));
    assert!(first.header("set-cookie").is_none() && first.header("location").is_none());
    let after = states(&readers, "ann@home.example");
    assert!(after.contains("campaign_performance=withdrawn") && !after.contains("granted"), "{after}");
    let before = std::fs::read(&head).unwrap();
    for body in ["", "List-Unsubscribe=One-Click"] {
        assert_eq!(readers.ask("POST", &target, &form, body).status, 200);
    }
    assert_eq!(std::fs::read(&head).unwrap(), before, "nothing more was recorded");
    let forged = readers.ask("POST", "/shop/c/none/withdraw", &form, "");
    assert_eq!((forged.status, forged.body), (200, first.body));
}

#[test]
fn a_minted_link_opens_the_page_and_a_day_pixel_in_real_mail_tells_who_reads() {
    let hop = NextHop::start();
    let readers = Readers::with(hop.port, "", "");
    let token = readers.served.token("consent:read,consent:write,statistics:read", "shop");
    let ask = |method: &str, path: &str, body: serde_json::Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        readers.served.ask(&token, method, &format!("/v1/controllers/shop/{path}"), &body)
    };
    let minted = ask("POST", "links", json!({"addresses": ["annette@home.example", "bob@home.example"]}));
    let links = minted.json()["links"].clone();
    assert_eq!((minted.status, links.as_array().unwrap().len()), (200, 2), "{}", minted.text());
    let path = links[0].as_str().unwrap().strip_prefix("http://127.0.0.1:1").unwrap();
    assert!(is_page(&readers.get(path), "minted").contains("a…e@h….example"));
    assert_eq!(ask("POST", "links", json!({"addresses": []})).status, 400);
    assert_eq!(ask("POST", "links", json!({"addresses": vec!["a@b.example"; 1001]})).status, 400);
    // Mail to three people, one of whom said no; then one that is rejected.
    readers.say("eve@home.example", "refused");
    let mut client = Client::greeted(readers.served.relay.port);
    for to in ["ann@home.example", "bob@home.example", "eve@home.example"] {
        let reply = client.message("orders@shop.example", &[to], &newsletter(to).0);
        assert!(reply.starts_with("250"), "{reply}");
    }
    hop.set(&[(Step::Rcpt, support::Answer::Say("550 5.1.1 No such mailbox"))]);
    assert_eq!(client.say("MAIL FROM:<orders@shop.example>"), 250);
    assert_eq!(client.say("RCPT TO:<gone@home.example>"), 550);
    hop.set(&[(Step::Dot, support::Answer::Say("554 5.7.1 No"))]);
    assert_eq!(client.say("RSET"), 250);
    let reply = client.message("orders@shop.example", &["gone@home.example"], &newsletter("gone").0);
    assert!(reply.starts_with("554"), "{reply}");
    let deliveries = hop.wait(3);
    let data = String::from_utf8_lossy(&deliveries[0].data).replace("=\r\n", "");
    let pixel = data.split("http://127.0.0.1:1").find(|piece| piece.starts_with("/shop/d/")).unwrap();
    let pixel: String =
        pixel.chars().take_while(|character| !matches!(character, '"' | '\'' | ' ' | '>')).collect();
    is_blank(&readers.get(&pixel), "of ann's mail");
    let since = json!(Timestamp::now().to_string());
    let addresses =
        ["ann@home.example", "bob@home.example", "eve@home.example", "gone@home.example", "joe@home.example"];
    let asked = json!({"addresses": addresses, "since": since});
    let wanted = ["active 0", "inactive 0", "unmeasured 0", "unmeasured 2", "unmeasured 0"];
    let found = || -> Vec<String> {
        let answer = ask("POST", "inactive", asked.clone());
        let all =
            answer.json()["addresses"].as_array().unwrap_or_else(|| panic!("{}", answer.text())).clone();
        all.iter()
            .map(|entry| format!("{} {}", entry["reading"].as_str().unwrap(), entry["bounced"]))
            .collect()
    };
    // Evidence is written beside the mail path, several times a second.
    let deadline = Instant::now() + PATIENCE;
    while found() != wanted {
        assert!(Instant::now() < deadline, "{:?}", found());
    }
    let list = readers.served.relay.folder.file("addresses.txt", &addresses.join("\n"));
    let arguments = [
        "inactive",
        "--since",
        &since.as_str().unwrap()[..10],
        "--controller",
        "shop",
        list.to_str().unwrap(),
    ];
    // The command reads the file, which is written about once a second.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let said = readers.served.relay.command(&arguments);
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        if said.contains("ann@home.example,active,0") && said.contains("gone@home.example,unmeasured,2") {
            assert!(said.contains("bob@home.example,inactive,0"), "{said}");
            break;
        }
        assert!(Instant::now() < deadline, "{said}");
    }
    readers.erase("ann@home.example");
    assert_eq!(found()[0], "unmeasured 0");
    assert_eq!(ask("GET", "shared-opens", serde_json::Value::Null).json(), json!({"campaigns": []}));
}

#[test]
fn a_new_link_is_mailed_to_those_who_are_known_and_to_nobody_else() {
    let hop = NextHop::start();
    let readers = Readers::with(hop.port, "sender = \"privacy@shop.example\"", "");
    for address in ["annette@home.example", "eve@home.example"] {
        readers.say(address, "refused");
    }
    let form = is_page(&readers.get("/shop/c/?lang=fr"), "form");
    assert!(form.contains("Recevoir un nouveau lien") && form.contains("type=\"email\""));
    let ask = |address: &str| is_page(&readers.post("/shop/c/?lang=fr", &[("address", address)]), address);
    let told = ask("Annette@home.example");
    assert!(told.contains("Si un choix est enregistré pour cette adresse"), "{told}");
    let mail = hop.wait(1).remove(0);
    assert!(
        mail.mail.starts_with("MAIL FROM:<privacy@shop.example>")
            && mail.rcpts == ["RCPT TO:<annette@home.example>"]
    );
    // Unknown, known to another controller alone, no address at all, too soon again: told the same, and
    // nothing is mailed.
    let club = ["consent", "set", "joe@home.example", "refused", "--controller", "club"];
    assert!(readers.served.relay.command(&club).status.success());
    for address in [
        "bob@home.example",
        "joe@home.example",
        "annette@home.example",
        "",
        "a\r\nRCPT TO:<b@c.example>",
        "@",
    ] {
        assert_eq!(
            ask(&address.replace(' ', "+").replace('\r', "%0D").replace('\n', "%0A")),
            told,
            "{address}"
        );
    }
    ask("eve@home.example");
    assert_eq!(hop.wait(2)[1].rcpts, ["RCPT TO:<eve@home.example>"]);
    assert_eq!(hop.count(), 2);
    let text = String::from_utf8(mail.data).unwrap().replace("=\r\n", "");
    assert!(text.contains("Content-Language: fr") && text.contains("Auto-Submitted: auto-replied"), "{text}");
    let link = text.split("http://127.0.0.1:1").nth(1).unwrap().split_whitespace().next().unwrap();
    assert!(is_page(&readers.get(link), "mailed").contains("a…e@h….example"), "{link}");
    assert!(!text.contains("<img") && !readers.served.relay.log.all().join("\n").contains("annette@"));
    // Whose page it is, is told by the path; where nobody is written from, nothing can be asked.
    assert!(!is_page(&readers.get("/club/c/"), "club").contains("type=\"email\""));
}

#[test]
fn check_says_whether_readers_come_here() {
    let readers = Readers::start();
    let config = readers.served.relay.folder.0.join("config.toml");
    let written = std::fs::read_to_string(&config).unwrap();
    let check = |text: &str| {
        std::fs::write(&config, text).unwrap();
        String::from_utf8(readers.served.relay.command(&["check"]).stdout).unwrap()
    };
    let said = check(&written);
    assert!(
        said.contains("WRONG   controller shop: public_url") && said.contains("start the server in front"),
        "{said}"
    );
    let said = check(&written.replace("127.0.0.1:1/", &format!("127.0.0.1:{}/", readers.port)));
    assert!(
        said.contains("readers of shop reach this relay")
            && said.contains("readers of club reach this relay"),
        "{said}"
    );
    let said = check(&written.replace("[public]\naddress = \"127.0.0.1:0\"", "[public]\naddress = \"\""));
    assert!(said.contains("note    controller shop has a public_url, but public.address is"), "{said}");
    let said = check(&written.replace("127.0.0.1:1/", &format!("127.0.0.1:{}/", readers.served.port)));
    assert!(said.contains("it answers 404") && said.contains("pass requests on"), "{said}");
}

#[test]
fn a_relay_whose_readers_reach_another_one_says_so() {
    let other = Readers::start();
    let folder = Readers::configured(1, "", "");
    // The same store key, as two relays behind one name would have: links of one are valid at the other.
    let key = |folder: &Folder| folder.0.join("data/consent/store.key");
    std::fs::create_dir_all(folder.0.join("data/consent")).unwrap();
    std::fs::copy(key(&other.served.relay.folder), key(&folder)).unwrap();
    let config = folder.0.join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let there = format!("http://127.0.0.1:{}/shop", other.port);
    std::fs::write(&config, text.replace("http://127.0.0.1:1/shop", &there)).unwrap();
    let relay = Readers::in_folder(folder).served.relay;
    let warned = relay.log.wait("a warning", |line| line.contains("another relay answers there"));
    assert!(warned.contains("WARN") && warned.contains("shop"), "{warned}");
    let check = relay.command(&["check"]);
    let said = String::from_utf8(check.stdout).unwrap();
    assert!(!check.status.success() && said.contains("another relay answers there"), "{said}");
}

#[test]
fn one_press_apart_from_the_page_refuses_everything_and_looking_at_it_nothing() {
    let readers = Readers::start();
    readers.say("ann@home.example", "granted");
    let link = readers.link("ann@home.example");
    let refuse = format!("{link}/refuse");
    let head = readers.served.relay.folder.0.join("head");
    let before = std::fs::read(&head).ok();
    // Programs that follow links look, and press nothing.
    for method in ["GET", "HEAD", "GET"] {
        assert_eq!(readers.ask(method, &refuse, &[], "").status, 200);
    }
    assert_eq!(std::fs::read(&head).ok(), before);
    let page = is_page(&readers.get(&refuse), "refuse");
    assert_eq!(page.matches("<button").count(), 1, "{page}");
    assert!(page.contains("value=\"refuse\"") && page.contains("a…@h….example"), "{page}");
    assert!(page.contains("You are not unsubscribed"), "{page}");
    let token = link.rsplit('/').next().unwrap();
    assert!(page.contains(&format!("href=\"../{token}?lang=en\"")), "{page}");
    let stopped = is_page(&readers.post(&refuse, &[("action", "refuse")]), "pressed");
    assert!(stopped.contains("You have refused all purposes"), "{stopped}");
    let after = states(&readers, "ann@home.example");
    assert!(after.contains("campaign_performance=withdrawn") && !after.contains("granted"), "{after}");
    // An old link does it, too, and one that is none leads to the page that says so.
    readers.say("bob@home.example", "granted");
    let old = readers.link_of("bob@home.example", Timestamp::now().plus_days(-3000));
    is_page(&readers.post(&format!("{old}/refuse"), &[("action", "refuse")]), "old");
    assert!(!states(&readers, "bob@home.example").contains("granted"));
    let forged = readers.get("/shop/c/none/refuse");
    assert_eq!((forged.status, forged.header("location")), (303, Some("../none")));
}

#[test]
fn a_link_about_links_unfolds_the_choice_purpose_by_purpose() {
    let readers = Readers::start();
    let link = readers.link("ann@home.example");
    let folded = is_page(&readers.get(&link), "folded");
    let unfolded = is_page(&readers.get(&format!("{link}?about=links")), "unfolded");
    assert!(!folded.contains("<details open") && unfolded.contains("<details open"), "{unfolded}");
}
