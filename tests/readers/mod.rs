//! A relay with its public listener, and tokens as they stand in mail.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic
)]

use pixelward::consent::{Controller, StoreKey, Timestamp};
use pixelward::rewrite::reader_token::{self, Holder, Mint, Token};

use crate::http::{Answer, Connection, Served};
use crate::support::{Folder, Relay, configuration, free_port};

pub const TARGET: &str = "https://t.vendor.example/open?u=42";

/// What the configuration has besides the default. `{more}` stands for lines of [controller.page], `{public}`
/// for lines of [public].
const CONFIGURATION: &str = r#"[policy]
on_grant = "gate"
[public]
address = "127.0.0.1:0"
{public}
[api]
address = "127.0.0.1:0"
burst = 100000
requests_per_minute = 1000000
[[controller]]
name = "shop"
sender_domain = "shop.example"
public_url = "http://127.0.0.1:1/shop"
jurisdiction = "fr"
[controller.page]
title = "Shop Example"
privacy_url = "https://shop.example/privacy"
{more}
[[controller]]
name = "club"
sender_domain = "club.example"
public_url = "http://127.0.0.1:1/club"
jurisdiction = "it"
[[mailstream]]
name = "orders"
controller = "shop"
sender = "orders@shop.example"
purposes = ["deliverability"]
requested = "requested"
exemption = "deliverability"
links = "unwrap"
[[mailstream]]
name = "news"
controller = "shop"
purposes = ["campaign_performance", "personalisation"]
links = "unwrap"
[[mailstream]]
name = "letter"
controller = "club"
purposes = ["aggregate_statistics"]
exemption = "aggregate_statistics"
"#;

/// A relay that readers reach.
pub struct Readers {
    pub served: Served,
    /// The port of the public listener.
    pub port: u16,
    pub key: StoreKey,
    pub mint: Mint,
}

impl Readers {
    pub fn start() -> Readers {
        Readers::with(free_port(), "", "")
    }

    /// With this next hop, and more lines in [controller.page] of the shop and in [public].
    pub fn with(next_hop: u16, more: &str, public: &str) -> Readers {
        Readers::in_folder(Readers::configured(next_hop, more, public))
    }

    /// The folder of one that is not started yet.
    pub fn configured(next_hop: u16, more: &str, public: &str) -> Folder {
        let folder = Folder::new();
        let rest = CONFIGURATION.replace("{more}", more).replace("{public}", public);
        configuration(&folder, next_hop, "", "", &rest);
        folder
    }

    pub fn in_folder(folder: Folder) -> Readers {
        Readers::of(Relay::in_folder(folder))
    }

    pub fn of(relay: Relay) -> Readers {
        let line = relay
            .log
            .wait("the public listener", |line| line.contains("preference page and pixels are served"));
        let port = line.rsplit(':').next().unwrap().trim().parse().unwrap();
        let key = pixelward::consent::key_file::load(&relay.folder.0.join("data/consent/store.key")).unwrap();
        let mint = Mint::new(StoreKey::new(key.derived(Mint::LABEL)));
        Readers { served: Served::of(relay), port, key, mint }
    }

    pub fn holder(&self, address: &str, issued: Timestamp) -> Holder {
        Holder { controller: shop(), person: self.key.person(address), issued }
    }

    pub fn gate(&self, address: &str) -> String {
        self.gate_to(address, TARGET, Timestamp::now())
    }

    pub fn gate_to(&self, address: &str, target: &str, issued: Timestamp) -> String {
        self.sealed(&Token::Gate {
            holder: self.holder(address, issued),
            mailstream: "news".to_owned(),
            country: reader_token::top_level_domain(address).to_owned(),
            target: target.to_owned(),
        })
    }

    pub fn gated_link(&self, address: &str) -> String {
        self.sealed(&Token::Link {
            holder: self.holder(address, Timestamp::now()),
            mailstream: "news".to_owned(),
            country: reader_token::top_level_domain(address).to_owned(),
            target: "https://shop.example/sale".to_owned(),
            original: TARGET.to_owned(),
        })
    }

    pub fn day(&self, address: &str, mailstream: &str) -> String {
        self.sealed(&Token::Day {
            holder: self.holder(address, Timestamp::now()),
            mailstream: mailstream.to_owned(),
            country: reader_token::top_level_domain(address).to_owned(),
        })
    }

    pub fn shared(&self, controller: &str, mailstream: &str, campaign: u8) -> String {
        self.sealed(&Token::Shared {
            controller: controller.parse().unwrap(),
            mailstream: mailstream.to_owned(),
            campaign: [campaign; 8],
        })
    }

    pub fn link(&self, address: &str) -> String {
        self.link_of(address, Timestamp::now())
    }

    pub fn link_of(&self, address: &str, issued: Timestamp) -> String {
        let holder = self.holder(address, issued);
        self.sealed(&Token::Preference { holder, hint: reader_token::hint(address) })
    }

    /// The path of a token below the public address of the shop.
    pub fn sealed(&self, token: &Token) -> String {
        format!("/shop/{}/{}", token.kind().letter(), self.mint.seal(token, 1))
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "")
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let all = [&[("Connection", "close")], headers].concat();
        let mut connection = Connection::to(self.port);
        if method == "HEAD" {
            connection.send(&crate::http::head(method, path, &all, Some(0)));
            let (status, headers) = connection.answer_head().unwrap();
            return Answer { status, headers, body: Vec::new() };
        }
        connection.ask(method, path, &all, body.as_bytes())
    }

    /// Sends a form.
    pub fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let pairs: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.ask("POST", path, &[("Content-Type", "application/x-www-form-urlencoded")], &pairs.join("&"))
    }

    /// Records what somebody said to the shop, as an import would.
    pub fn say(&self, address: &str, state: &str) {
        let relay = &self.served.relay;
        let arguments = ["consent", "set", address, state, "--evidence", "test", "--controller", "shop"];
        let output = relay.command(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn erase(&self, address: &str) {
        let output = self.served.relay.command(&["consent", "erase", address]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

pub fn shop() -> Controller {
    "shop".parse().unwrap()
}
