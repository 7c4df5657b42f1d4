//! The REST API: its address and limits, and the receivers of changes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::Section;
use super::{address, count, pair, web_url};
use pixelward_core::consent::Controller;

/// The REST API.
#[derive(Clone, Debug)]
pub struct Api {
    /// The address; `None` to disable.
    pub address: Option<SocketAddr>,
    /// Certificate chain and key, PEM. Without them it is served in clear, on a loopback address only.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The file with the tokens, as hashes.
    pub tokens_file: PathBuf,
    /// The maximum number of requests per minute for one token.
    pub requests_per_minute: u32,
    /// The largest burst of requests for one token.
    pub burst: u32,
    /// The maximum number of concurrent connections.
    pub max_connections: usize,
    /// The maximum size in bytes of a body that is read as a whole.
    pub max_body_bytes: usize,
    /// How long a request may take, except for streams.
    pub request_timeout: Duration,
    /// How long a connection, or a stream within a request, may stall.
    pub idle_timeout: Duration,
    /// How many idempotency keys are remembered, each for a day.
    pub idempotency_keys: usize,
    /// The maximum age of the counts in statistics.
    pub statistics_max_age: Duration,
    /// The maximum number of changes that wait for one webhook.
    pub webhook_max_waiting: u64,
    /// The receivers of changes.
    pub webhooks: Vec<Webhook>,
    /// The vendors that report changes in their own formats.
    pub incoming: Vec<Incoming>,
}

/// A receiver of a controller's changes.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// The controller.
    pub controller: Controller,
    /// The URL to which changes are sent.
    pub url: String,
    /// The file with the secret that signs the requests.
    pub secret_file: PathBuf,
    /// Certificate authorities for the receiver's certificate; by default, the system's.
    pub ca_file: Option<PathBuf>,
}

/// A webhook through which a consent management vendor reports changes.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The name in the path.
    pub name: String,
    /// The controller.
    pub controller: Controller,
    /// The file that maps the vendor's fields to rows.
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

/// Checks settings that depend on each other.
fn check(api: &Api, section: &Section<'_>) {
    if api.certificate.is_none() && api.address.is_some_and(|address| !address.ip().is_loopback()) {
        section.problem(
            section.start_line(),
            "api.address is not a loopback address, so tokens would cross the network in clear: set \
             api.certificate and api.key",
        );
    }
    for (index, webhook) in api.webhooks.iter().enumerate() {
        if api.webhooks.iter().take(index).any(|other| other.controller == webhook.controller) {
            section.problem(
                section.start_line(),
                format!(
                    "two [[api.webhook]] belong to the controller {}: use one receiver that passes changes \
                     on",
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
        section.problem(section.start_line(), "api.webhook.url is missing or invalid");
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
