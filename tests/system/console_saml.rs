//! Single sign-on end to end: pysaml2 from PyPI as the identity provider, and the whole table of routes,
//! roles and methods.
#![cfg(feature = "console")]

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::console::single_sign_on::{ROLES, Signed};
use crate::console::{Browser, Console, browsed, token};
use crate::http::Served;
use crate::support::{Lines, free_port};
use hyper::Method;
use pixelward::console::{ROUTES, Route};

/// What each person gets at each route: nobody, nora (no role), vera (viewer), olga (officer), sam (officer
/// of shop), omar (operator), all looking at the controller shop. `y` is let through, `n` is not.
const EXPECTED: &[(&str, &str)] = &[
    ("GET /", "nnyyyy"),
    ("GET /person", "nnnyyn"),
    ("POST /person", "nnnyyn"),
    ("GET /person/{person}", "nnnyyn"),
    ("GET /person/{person}/export", "nnnyyn"),
    ("GET /person/{person}/print", "nnnyyn"),
    ("POST /person/{person}/withdraw", "nnnyyn"),
    ("POST /person/{person}/erase", "nnnynn"),
    ("GET /messages", "nnnyyy"),
    ("POST /messages", "nnnyyy"),
    ("POST /messages/recipient", "nnnyyn"),
    ("GET /messages/{id}", "nnnyyy"),
    ("POST /messages/{id}", "nnnyyn"),
    ("GET /messages/{id}/export", "nnnyyy"),
    ("GET /streams", "nnyyyy"),
    ("GET /streams/page", "nnyyyy"),
    ("GET /history", "nnyyyy"),
    ("GET /what-if", "nnnyyy"),
    ("POST /what-if", "nnnyyy"),
    ("GET /trackers", "nnyyyy"),
    ("GET /delivery", "nnyyny"),
    ("GET /cluster", "nnyyny"),
    ("GET /audit", "nnnyny"),
    ("GET /audit/export", "nnnyny"),
    ("GET /report/archive", "nnnyyn"),
    ("GET /report", "nnyyyy"),
    ("GET /style.css", "yyyyyy"),
    ("GET /mark.svg", "yyyyyy"),
    ("GET /console.js", "yyyyyy"),
    ("GET /login", "yyyyyy"),
    ("GET /login/link", "yyyyyy"),
    ("POST /login/link", "yyyyyy"),
    ("GET /signed-out", "yyyyyy"),
    ("GET /saml/metadata", "yyyyyy"),
    ("GET /saml/login", "yyyyyy"),
    ("POST /saml/acs", "-"),
    ("GET /saml/finish", "-"),
    ("GET /saml/logout", "-"),
    ("POST /language", "nyyyyy"),
    ("GET /account", "nyyyyy"),
    ("POST /account/end", "nnnnny"),
    ("POST /logout", "nyyyyy"),
];

#[test]
fn each_route_is_open_to_those_with_its_role_and_controller_and_to_nobody_else() {
    let signed = Signed::with_mail("");
    let people = ["nora", "vera", "olga", "sam", "omar"];
    assert_eq!(EXPECTED.len(), ROUTES.len(), "the table has every route");
    let ann = "{\"address\": \"ann@home.example\", \"state\": \"refused\"}";
    let writer = signed.served.token("consent:write", "shop");
    let said = signed.served.ask(&writer, "PUT", "/v1/controllers/shop/consent", ann).json();
    let person = said["consent"]["person"].as_str().unwrap().to_owned();
    let reader = signed.served.token("evidence:read", "shop");
    let found = signed.served.ask(&reader, "POST", "/v1/controllers/shop/evidence/search", "{}").json();
    let record = &found["records"][0]["record"];
    let (id, at) = (record["id"].as_str().unwrap(), record["time"].as_str().unwrap());
    let story = format!("/messages/{id}?at={}&", crate::console::encoded(at));
    let asked = |route: &Route, browser: &mut Browser, controller: &str| {
        let path = route.path.replace("{person}", &person).replace("{id}", id);
        match route.method {
            Method::GET => browser.get(&format!("{path}?controller={controller}")).status,
            _ => {
                // Each session has its own token for each path; one that has none for it gets as far as its
                // roles.
                let page = browser.get("/account").text();
                let form = token_for(&page, &path, &story, browser, controller);
                let fields = [
                    ("token", form.as_str()),
                    ("controller", controller),
                    ("reason", "x"),
                    ("sure", "yes"),
                    ("text", "From: a\r\n\r\nb"),
                ];
                browser.send(&path, &[&fields[..], &[("address", "x@home.example")]].concat()).status
            }
        }
    };
    let mut browsers: Vec<Browser> = people.iter().map(|person| signed.signed_in(person)).collect();
    let mut checked = 0;
    // Signing out comes last, in the table as here.
    for (name, expected) in EXPECTED.iter().filter(|(_, expected)| *expected != "-") {
        let (method, path) = name.split_once(' ').unwrap();
        let is_it = |route: &&Route| route.path == path && route.method.as_str() == method;
        let route = ROUTES.iter().find(is_it).unwrap_or_else(|| panic!("{name}"));
        let letters: Vec<char> = expected.chars().collect();
        let nobody = asked(route, &mut signed.console.browser(), "shop");
        assert_eq!(nobody == 401, letters[0] == 'n', "{name} as nobody: {nobody}");
        for ((who, browser), letter) in people.iter().zip(&mut browsers).zip(&letters[1..]) {
            let status = asked(route, browser, "shop");
            assert!(status < 500, "{name} as {who}: {status}");
            let is_refused = matches!(status, 401 | 403);
            assert_eq!(is_refused, *letter == 'n', "{name} as {who}: {status}");
            checked += 1;
        }
        // Roles of one controller are none for another.
        let scoped = *expected == "nnnyyn" || *expected == "nnnyyy";
        if scoped {
            let status = asked(route, &mut browsers[3], "club");
            assert_eq!(status, 403, "{name} as sam, for club");
        }
    }
    assert_eq!(checked, 5 * (ROUTES.len() - 3));
}

/// The token for a path: from a page that has the form, where there is one that this session sees.
fn token_for(account: &str, path: &str, story: &str, browser: &mut Browser, controller: &str) -> String {
    let marker = format!("method=\"post\" action=\"{path}\"");
    if account.contains(&marker) {
        return token(account, path);
    }
    let of_person = path.rsplit_once('/').map_or("", |(item, _)| item);
    let pages = ["/person", "/messages", "/what-if", of_person].map(|page| format!("{page}?"));
    for page in pages.iter().map(String::as_str).chain([story]) {
        let text = browser.get(&format!("{page}controller={controller}")).text();
        if text.contains(&marker) {
            return token(&text, path);
        }
    }
    String::new()
}

#[test]
fn somebody_signs_in_by_their_organisation_and_out_again_everywhere() {
    let signed = Signed::on("");
    let mut browser = signed.signed_in("olga");
    let account = browser.page("/account");
    assert!(account.contains("olga") && account.contains("officer of all"), "{account}");
    // A response counts once, and a person whom no rule names may do nothing.
    let mut other = signed.console.browser();
    let response = signed.response(&mut other, "olga");
    let accepted = other.send("/saml/acs", &[("SAMLResponse", &response)]);
    assert_eq!(other.send("/saml/acs", &[("SAMLResponse", &response)]).status, 403);
    // Another browser that is led there does not get in: nobody is signed in as somebody else without wanting
    // to.
    let to = accepted.header("location").unwrap().to_owned();
    let mut victim = signed.console.browser();
    assert_eq!(victim.get(&to).status, 403);
    victim.get("/saml/login");
    assert_eq!(victim.get(&to).status, 403);
    assert!(signed.signed_in("nora").page("/account").contains("none: nothing can be seen"));
    // Links are for those without single sign-on.
    assert_eq!(
        (victim.get("/login/link").status, victim.send("/login/link", &[("secret", "x")]).status),
        (404, 404)
    );
    // A response that nobody asked for, and one that was changed.
    let unasked = signed.response(&mut signed.console.browser(), "olga");
    let changed = unasked.replacen(&unasked[100..104], "AAAA", 1);
    assert_eq!(victim.send("/saml/acs", &[("SAMLResponse", &changed)]).status, 403);
    assert_eq!(victim.send("/saml/acs", &[("SAMLResponse", "x")]).status, 403);
    assert_eq!(victim.get("/saml/acs").status, 405);
    assert_eq!(victim.get("/saml/logout?SAMLRequest=x").status, 403);
    // Out, here and at the identity provider, which sends the browser back.
    let out = browser.submit(&account, "/logout", &[]);
    assert_eq!(browser.get("/account").status, 401);
    let at_idp = signed.at_idp(out.header("location").unwrap());
    let back = at_idp.header("location").unwrap_or_else(|| panic!("{}", at_idp.text())).to_owned();
    let back = back.strip_prefix(&format!("http://127.0.0.1:{}", signed.console.port)).unwrap().to_owned();
    assert_eq!(browser.get(&back).header("location"), Some("/signed-out"));
    // The names of people are in the audit trail, and not in the log.
    assert!(signed.signed_in("omar").page("/audit").contains("olga"));
    assert!(signed.console.log.all().iter().all(|line| !line.contains("olga")));
}

/// For how many seconds a session may be silent where that is looked at. Signing in and a look at one page
/// take less.
const IDLE: &str = "20";

#[test]
fn in_a_browser_people_see_what_their_roles_show_and_an_officer_s_task_takes_five_clicks() {
    let signed = Signed::with_mail("");
    let pictures = std::env::var("PIXELWARD_PICTURES").unwrap_or_default();
    browsed("browse.mjs", &[&format!("http://127.0.0.1:{}", signed.console.port), &pictures]);
}

#[test]
fn in_a_browser_silence_ends_a_session() {
    let idle = "8";
    let signed = Signed::on(&format!("[session]\nidle_s = {idle}\n"));
    browsed("browse-silence.mjs", &[&format!("http://127.0.0.1:{}", signed.console.port), idle]);
}

#[test]
fn in_a_browser_people_sign_in_and_out_by_simplesamlphp() {
    let served = Served::with("burst = 100000\nrequests_per_minute = 1000000");
    let (port, idp_port) = (free_port(), free_port());
    let (base, idp_base) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{idp_port}"));
    let folder = served.relay.folder.0.join("simplesamlphp");
    for name in ["log", "tmp", "session", "cert", "data"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
    }
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=idp.example"])
        .args(["-keyout", "idp.key", "-out", "idp.crt"])
        .current_dir(folder.join("cert"))
        .output()
        .unwrap();
    assert!(made.status.success());
    let files = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/console/simplesamlphp");
    let copied = Command::new("cp")
        .arg("-r")
        .args([&format!("{files}/config"), &format!("{files}/metadata")])
        .arg(&folder)
        .status();
    assert!(copied.unwrap().success());
    let pages = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("simplesamlphp/usr/share/simplesamlphp/www");
    assert!(pages.exists(), "{} is missing; `make test-packages` puts it there", pages.display());
    let mut php = Command::new("php")
        .args(["-S", &format!("127.0.0.1:{idp_port}"), "-t"])
        .arg(&pages)
        .env("PIXELWARD_FOLDER", &folder)
        .env("PIXELWARD_BASE", &idp_base)
        .env("PIXELWARD_CONSOLE", &base)
        .env("SIMPLESAMLPHP_CONFIG_DIR", folder.join("config"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    Lines::follow(php.stderr.take().unwrap()).wait("PHP's server", |line| line.contains("started"));
    let signed = Signed {
        idp: php,
        idp_port,
        console: Console::on(
            port,
            &served,
            &format!("public_url = \"{base}\""),
            &format!(
                "[session]\nidle_s = {IDLE}\n[saml]\nentity_id = \"{base}/saml/metadata\"\n\
             idp_metadata_url = \"{idp_base}/saml2/idp/metadata.php\"\n{ROLES}"
            ),
        ),
        served,
    };
    let end = format!("{idp_base}/saml2/idp/SingleLogoutService.php?ReturnTo={base}/signed-out");
    browsed("browse-simplesamlphp.mjs", &[&format!("http://127.0.0.1:{}", signed.console.port), IDLE, &end]);
}
