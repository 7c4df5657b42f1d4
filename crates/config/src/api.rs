//! The REST API: where it is served, within which limits, and whom it tells of changes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::Section;
use super::{address, count, pair, web_url};
use pixelward_core::consent::Controller;

/// The REST API.
#[derive(Clone, Debug)]
pub struct Api {
    /// Where it is served; `None` for nowhere.
    pub address: Option<SocketAddr>,
    /// Certificate chain and key, in PEM. Without them it is served in clear, on a loopback address alone.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Where the tokens stand, as hashes.
    pub tokens_file: PathBuf,
    /// The most requests of one token in a minute.
    pub requests_per_minute: u32,
    /// How many of them may come at once.
    pub burst: u32,
    /// The most connections at once.
    pub max_connections: usize,
    /// The largest body of a request that is read as a whole, in bytes.
    pub max_body_bytes: usize,
    /// How long a request may take, streams apart.
    pub request_timeout: Duration,
    /// How long a connection, or a stream within a request, may stand still.
    pub idle_timeout: Duration,
    /// How many idempotency keys are remembered, for a day each.
    pub idempotency_keys: usize,
    /// How old the counts may be that statistics give.
    pub statistics_max_age: Duration,
    /// How many changes wait for one webhook at most.
    pub webhook_max_waiting: u64,
    /// Who is told of changes.
    pub webhooks: Vec<Webhook>,
    /// Who may tell of changes in a form of their own.
    pub incoming: Vec<Incoming>,
}

/// Somebody who is told of a controller's changes.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Whose changes.
    pub controller: Controller,
    /// Where they are sent.
    pub url: String,
    /// The file with the secret under which they are signed.
    pub secret_file: PathBuf,
    /// Authorities that the receiver's certificate is verified with; those of the system where there are none.
    pub ca_file: Option<PathBuf>,
}

/// A form in which a vendor of consent management tells of changes.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Its name in the path.
    pub name: String,
    /// Whose changes.
    pub controller: Controller,
    /// The file that maps what is told to rows.
    pub mapping: PathBuf,
}

pub(super) fn api(section: &mut Section<'_>, data_directory: &Path) -> Api {
    let default = Some(SocketAddr::from(([127, 0, 0, 1], 8026)));
    let chosen =
        section.parsed("address", |text| if text.is_empty() { Ok(None) } else { address(text).map(Some) });
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let api = Api {
        address: chosen.unwrap_or(default),
        certificate: pair(section),
        tokens_file: section.path("tokens_file").unwrap_or_else(|| data_directory.join("api.tokens")),
        requests_per_minute: small(section.number("requests_per_minute", 6000, 1..=10_000_000)),
        burst: small(section.number("burst", 500, 1..=1_000_000)),
        max_connections: count(section.number("max_connections", 256, 1..=100_000)),
        max_body_bytes: count(section.number("max_body_bytes", 1 << 20, 1024..=1 << 30)),
        request_timeout: section.seconds("request_timeout_s", 30, 1..=3600),
        idle_timeout: section.seconds("idle_timeout_s", 60, 1..=3600),
        idempotency_keys: count(section.number("idempotency_keys", 10_000, 1..=10_000_000)),
        statistics_max_age: section.seconds("statistics_max_age_s", 60, 0..=86_400),
        webhook_max_waiting: section.number("webhook_max_waiting", 1_000_000, 1000..=100_000_000),
        webhooks: section.sections("webhook", webhook).into_iter().flatten().collect(),
        incoming: section.sections("incoming", incoming).into_iter().flatten().collect(),
    };
    check(&api, section);
    api
}

/// What does not go together.
fn check(api: &Api, section: &Section<'_>) {
    if api.certificate.is_none() && api.address.is_some_and(|address| !address.ip().is_loopback()) {
        section.problem(
            section.start_line(),
            "api.address is no loopback address, so tokens would cross the network in clear: set api.certificate and api.key",
        );
    }
    for (index, webhook) in api.webhooks.iter().enumerate() {
        if api.webhooks.iter().take(index).any(|other| other.controller == webhook.controller) {
            section.problem(
                section.start_line(),
                format!(
                    "two [[api.webhook]] are of the controller {}: one receiver can pass on to others",
                    webhook.controller
                ),
            );
        }
    }
    for (index, incoming) in api.incoming.iter().enumerate() {
        let same = |other: &Incoming| other.controller == incoming.controller && other.name == incoming.name;
        if api.incoming.iter().take(index).any(same) {
            section.problem(
                section.start_line(),
                format!("two [[api.incoming]] of {} are named {:?}", incoming.controller, incoming.name),
            );
        }
    }
}

fn named(section: &mut Section<'_>, key: &'static str) -> Option<Controller> {
    let found = section.parsed(key, str::parse::<Controller>);
    if found.is_none() {
        section.problem(section.start_line(), format!("{}.{key} is missing", section.name()));
    }
    found
}

fn wanted(section: &mut Section<'_>, key: &'static str) -> Option<PathBuf> {
    let found = section.path(key);
    if found.is_none() {
        section.problem(section.start_line(), format!("{}.{key} is missing", section.name()));
    }
    found
}

fn webhook(section: &mut Section<'_>) -> Option<Webhook> {
    let controller = named(section, "controller");
    let url = section.parsed("url", |text| web_url(text).map(|_| text.to_owned()));
    if url.is_none() {
        section.problem(section.start_line(), "api.webhook.url is missing or cannot be used");
    }
    let secret_file = wanted(section, "secret_file");
    let ca_file = section.path("ca_file");
    Some(Webhook { controller: controller?, url: url?, secret_file: secret_file?, ca_file })
}

fn incoming(section: &mut Section<'_>) -> Option<Incoming> {
    let name = named(section, "name");
    let controller = named(section, "controller");
    let mapping = wanted(section, "mapping");
    Some(Incoming { name: name?.as_str().to_owned(), controller: controller?, mapping: mapping? })
}

#[cfg(test)]
mod tests {
    use crate::Config;

    fn problems(api: &str) -> String {
        let text = format!("[next_hop]\nhost = \"smtp.next-hop.example\"\n[api]\n{api}");
        Config::parse(&text).err().map_or(String::new(), |error| format!("{error:?}"))
    }

    #[test]
    fn tokens_do_not_cross_a_network_in_clear() {
        assert_eq!(problems("address = \"127.0.0.1:8026\""), "");
        assert!(problems("address = \"0.0.0.0:8026\"").contains("in clear"));
        assert_eq!(problems("address = \"0.0.0.0:8026\"\ncertificate = \"a\"\nkey = \"b\""), "");
        assert_eq!(problems("address = \"\""), "");
    }

    #[test]
    fn a_receiver_is_reached_by_tls_or_on_this_machine() {
        let webhook = |url: &str| {
            problems(&format!(
                "[[api.webhook]]\ncontroller = \"shop\"\nurl = \"{url}\"\nsecret_file = \"secret\""
            ))
        };
        for url in ["https://crm.shop.example/hook", "http://localhost:9000/", "http://[::1]:9000/hook"] {
            assert_eq!(webhook(url), "", "{url}");
        }
        for url in ["http://crm.shop.example/hook", "crm.shop.example", "ftp://localhost/", ""] {
            assert!(webhook(url).contains("api.webhook.url"), "{url}");
        }
        assert!(problems("[[api.incoming]]\nname = \"a\"").contains("mapping"));
    }
}
