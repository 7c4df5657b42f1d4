//! The console as a child process beside a relay, and a browser of a kind: it keeps cookies and sends forms.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic
)]

pub mod single_sign_on;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::http::{Answer, CONTROLLERS, Connection, Served};
use crate::support::{Client, Folder, Lines, NextHop, PATIENCE, Relay, configuration, newsletter, program};

/// A relay with an API, a next hop, evidence and one message each to somebody who refused and somebody who
/// agreed.
pub fn with_mail() -> (Served, NextHop) {
    with_mail_and("")
}

/// The same, with more lines of its configuration.
pub fn with_mail_and(more: &str) -> (Served, NextHop) {
    let hop = NextHop::start();
    let folder = Folder::new();
    let rest = format!(
        "{CONTROLLERS}[[mailstream]]\nname = \"newsletter\"\ncontroller = \"shop\"\nfrom_domain \
         = \"shop.example\"\n\
         purposes = [\"campaign_performance\"]\nrequested = \"requested\"\njurisdiction = \"fr\"\n\
         [api]\naddress = \"127.0.0.1:0\"\nburst = 100000\nrequests_per_minute = \
         1000000\nstatistics_max_age_s = 0\n{more}"
    );
    configuration(&folder, hop.port, "", "", &rest);
    let served = Served::of(Relay::in_folder(folder));
    for (address, state) in [("ann@home.example", "granted"), ("bob@home.example", "refused")] {
        let said = served.relay.command(&[
            "consent",
            "set",
            address,
            state,
            "--evidence",
            "form/17",
            "--controller",
            "shop",
        ]);
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let mut client = Client::greeted(served.relay.port);
        let reply = client.message("news@shop.example", &[address], &newsletter(address).0);
        assert!(reply.starts_with("250"), "{reply}");
    }
    wait_until_noted(&served, 2);
    (served, hop)
}

/// Waits until the evidence of so many copies can be found, and they are counted.
pub fn wait_until_noted(served: &Served, copies: usize) {
    let token = served.token("evidence:read,statistics:read", "shop");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found =
            served.ask(&token, "POST", "/v1/controllers/shop/evidence/search", r#"{"limit": 1000}"#).json();
        let figures = served.ask(&token, "GET", "/v1/controllers/shop/figures", "").json();
        let days = figures["days"].as_array().unwrap();
        let counts = days.iter().flat_map(|day| day["recipients"].as_array().unwrap());
        let counted: u64 = counts.map(|count| count["count"].as_u64().unwrap()).sum();
        if found["records"].as_array().unwrap().len() == copies && counted == copies as u64 {
            break;
        }
        assert!(Instant::now() < deadline, "{found}");
        std::thread::yield_now();
    }
}

/// What the console's token may be used for.
pub const SCOPES: &str = "consent:read,consent:write,consent:erase,consent:export,policy:read,statistics:read,evidence:read,delivery:read,\
                          audit:read,audit:write";

/// A running console.
pub struct Console {
    pub port: u16,
    pub log: Lines,
    child: Child,
}

impl Console {
    /// On this port, beside a relay. `more` are lines of its configuration.
    pub fn on(port: u16, served: &Served, server: &str, more: &str) -> Console {
        let folder = &served.relay.folder;
        let token = served.token(SCOPES, "all");
        let file = folder.file("console.token", &token);
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        let data = folder.0.join("console");
        std::fs::create_dir_all(&data).unwrap();
        let config = folder.file(
            "console.toml",
            &format!(
                "data_directory = {data:?}\n[server]\naddress = \"127.0.0.1:{port}\"\n{server}\n[api]\nurl \
                 = \"http://127.0.0.1:{}\"\n\
                 token_file = {file:?}\n[log]\nformat = \"human\"\n{more}\n",
                served.port
            ),
        );
        let mut child = Command::new(env!("CARGO_BIN_EXE_pixelward-console"))
            .arg("--config")
            .arg(config)
            .env("NO_COLOR", "1")
            .env_remove("JOURNAL_STREAM")
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let log = Lines::follow(child.stderr.take().unwrap());
        let line = log.wait("the console", |line| line.contains("the console is served"));
        let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
        let port = address.rsplit(':').next().unwrap().parse().unwrap();
        Console { port, log, child }
    }

    pub fn beside(served: &Served, more: &str) -> Console {
        Console::on(0, served, "", more)
    }

    /// The secret of a new one-time link.
    pub fn link(&self, served: &Served) -> String {
        let config = served.relay.folder.0.join("console.toml");
        let made = program().arg("console-link").arg("--config").arg(config).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let text = String::from_utf8(made.stdout).unwrap();
        text.trim().split_once("secret=").unwrap().1.to_owned()
    }

    /// A browser that nobody has signed in with.
    pub fn browser(&self) -> Browser {
        Browser { port: self.port, cookies: BTreeMap::new() }
    }

    /// A browser of somebody who used a one-time link.
    pub fn signed_in(&self, served: &Served) -> Browser {
        let mut browser = self.browser();
        let answer = browser.send("/login/link", &[("secret", &self.link(served))]);
        assert_eq!((answer.status, answer.header("location")), (303, Some("/")), "{}", answer.text());
        browser
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a script of Playwright said, which must have ended well.
pub fn browsed(script: &str, arguments: &[&str]) {
    let packages = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("browser");
    assert!(packages.exists(), "{} is missing; `make test-packages` puts it there", packages.display());
    let output = Command::new("node")
        .arg(format!("{}/tests/console/{script}", env!("CARGO_MANIFEST_DIR")))
        .arg(&packages)
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}");
    assert!(
        output.status.success() && said.contains("all of it holds"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Keeps cookies, and sends forms.
#[derive(Clone, Debug)]
pub struct Browser {
    pub port: u16,
    pub cookies: BTreeMap<String, String>,
}

impl Browser {
    /// One request, on a connection of its own. No redirect is followed.
    pub fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let host = format!("127.0.0.1:{}", self.port);
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies = cookies.join("; ");
        let mut connection = Connection::to(self.port);
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head.push_str(&format!("Host: {host}\r\n"));
        }
        if !cookies.is_empty() {
            head.push_str(&format!("Cookie: {cookies}\r\n"));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        connection.send(format!("{head}\r\n{body}").as_bytes());
        let answer = connection.answer();
        for (_, cookie) in answer.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")) {
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            if cookie.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, &[], "")
    }

    /// A page that must be there.
    pub fn page(&mut self, path: &str) -> String {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.text()
    }

    /// A form with these fields.
    pub fn send(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        self.ask("POST", path, &[("Content-Type", "application/x-www-form-urlencoded")], &body.join("&"))
    }

    /// A form of a page, with the token that stands in it.
    pub fn submit(&mut self, page: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let token = token(page, path);
        let all = [&[("token", token.as_str())], fields].concat();
        self.send(path, &all)
    }
}

/// The token of the form that leads to this path.
pub fn token(page: &str, path: &str) -> String {
    let forms = page.split("<form ").skip(1).map(|piece| piece.split("</form>").next().unwrap());
    let mut fitting = forms.filter(|form| form.contains(&format!("action=\"{path}\"")));
    let value = fitting.find_map(|item| item.split("name=\"token\" value=\"").nth(1));
    let value = value.unwrap_or_else(|| panic!("no form with a token leads to {path}: {page}"));
    value.split('"').next().unwrap().to_owned()
}

pub fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
