//! Connectors, which write each choice to the contact that a sending service keeps.

use std::path::PathBuf;

use super::reader::Section;
use super::{count, web_url};
use pixelward_core::consent::Controller;
use pixelward_core::policy::Purpose;

/// What writes a controller's choices to one service.
#[derive(Clone, Debug)]
pub struct Connector {
    /// The controller.
    pub controller: Controller,
    /// The name, unique for the controller.
    pub name: String,
    /// The service: a named one, or a file that describes it.
    pub service: Service,
    /// The start of each URL instead of the service's: scheme, host and port.
    pub base_url: Option<String>,
    /// The file with the credential; `None` if the service wants none.
    pub credential_file: Option<PathBuf>,
    /// Certificate authorities for the service's certificate; by default, the system's.
    pub ca_file: Option<PathBuf>,
    /// What must all be granted before the service is told so.
    pub purposes: Vec<Purpose>,
    /// What the service's description leaves open, such as the name of an account.
    pub variables: Vec<(String, String)>,
    /// What knows the service's names for people.
    pub resolver: Option<Resolver>,
    /// The maximum number of requests per second; by default, the service's.
    pub requests_per_second: Option<u32>,
    /// The largest burst of requests; by default, the service's.
    pub burst: Option<u32>,
    /// The maximum number of people written at the same time; by default, the service's.
    pub concurrency: Option<usize>,
    /// The names of the `[[api.incoming]]` through which the same service reports changes.
    pub same_as: Vec<String>,
    /// Whether nothing is sent, and changes wait.
    pub is_paused: bool,
    /// The maximum number of changes that wait.
    pub max_waiting: u64,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// One that comes with the program.
    Named(String),
    /// One that a file describes.
    File(PathBuf),
}

/// An endpoint of the controller's own that knows the service's names for people.
#[derive(Clone, Debug)]
pub struct Resolver {
    /// The URL.
    pub url: String,
    /// The file with the token that it wants to see.
    pub token_file: PathBuf,
    /// Certificate authorities for its certificate; by default, the system's.
    pub ca_file: Option<PathBuf>,
}

pub(super) fn connectors(root: &mut Section<'_>) -> Vec<Connector> {
    let connectors: Vec<Connector> = root.sections("connector", connector).into_iter().flatten().collect();
    for (index, one) in connectors.iter().enumerate() {
        let same = |other: &Connector| other.controller == one.controller && other.name == one.name;
        if connectors.iter().take(index).any(same) {
            root.problem(0, format!("two [[connector]] of {} are named {:?}", one.controller, one.name));
        }
    }
    connectors
}

fn connector(section: &mut Section<'_>) -> Option<Connector> {
    let controller = section.parsed("controller", str::parse::<Controller>);
    if controller.is_none() {
        section.problem(section.start_line(), "connector.controller is missing or invalid");
    }
    let named = section.string("service");
    let file = section.path("service_file");
    let service = match (named, file) {
        (Some(name), None) => Some(Service::Named(name)),
        (None, Some(file)) => Some(Service::File(file)),
        _ => {
            section.problem(section.start_line(), "connector needs either service or service_file");
            None
        }
    };
    let name = section.parsed("name", |text| text.parse::<Controller>().map(|name| name.as_str().to_owned()));
    let name = name.or_else(|| match &service {
        Some(Service::Named(name)) => Some(name.clone()),
        _ => {
            section.problem(section.start_line(), "connector.name is missing: a service_file needs one");
            None
        }
    });
    let purposes = purposes(section);
    let small = |number: u64| u32::try_from(number).ok().filter(|number| *number > 0);
    let connector = Connector {
        controller: controller?,
        name: name?,
        service: service?,
        base_url: section.parsed("base_url", base_url),
        credential_file: section.path("credential_file"),
        ca_file: section.path("ca_file"),
        purposes,
        variables: section.list("variables", variable),
        resolver: resolver(section),
        requests_per_second: small(section.number("requests_per_second", 0, 0..=100_000)),
        burst: small(section.number("burst", 0, 0..=100_000)),
        concurrency: Some(count(section.number("concurrency", 0, 0..=256))).filter(|number| *number > 0),
        same_as: section.list("same_as", |text| Ok(text.to_owned())),
        is_paused: section.flag("paused", false),
        max_waiting: section.number("max_waiting", 1_000_000, 1000..=100_000_000),
    };
    Some(connector)
}

fn purposes(section: &mut Section<'_>) -> Vec<Purpose> {
    let purposes = section.list("purposes", |text| {
        let found = Purpose::CONSENT.into_iter().find(|purpose| purpose.name() == text);
        found.ok_or_else(|| {
            let names: Vec<&str> = Purpose::CONSENT.iter().map(|purpose| purpose.name()).collect();
            format!("{text:?} is not a purpose that needs consent: use {}", names.join(", "))
        })
    });
    if purposes.is_empty() {
        section.problem(
            section.start_line(),
            "connector.purposes is missing: list what the service uses opens for; it is told \"granted\" only \
             if all of them are",
        );
    }
    purposes
}

fn variable(text: &str) -> Result<(String, String), String> {
    let wrong = || format!("{text:?} is not of the form \"name=value\"");
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    let is_name =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_'));
    is_name.then(|| (name.to_owned(), value.to_owned())).ok_or_else(wrong)
}

fn base_url(text: &str) -> Result<String, String> {
    let url = web_url(text)?;
    match (url.path(), url.query(), url.fragment()) {
        ("/" | "", None, None) => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err(format!("{text:?} must end after host and port")),
    }
}

fn resolver(section: &mut Section<'_>) -> Option<Resolver> {
    let url = section.parsed("resolver_url", |text| web_url(text).map(|_| text.to_owned()));
    let token_file = section.path("resolver_token_file");
    let ca_file = section.path("resolver_ca_file");
    match (url, token_file) {
        (Some(url), Some(token_file)) => Some(Resolver { url, token_file, ca_file }),
        (None, None) => None,
        _ => {
            let text = "connector.resolver_url and connector.resolver_token_file belong together";
            section.problem(section.start_line(), text);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Config;

    fn problems(connector: &str) -> String {
        let text = format!("[next_hop]\nhost = \"smtp.next-hop.example\"\n[[connector]]\n{connector}");
        Config::parse(&text).err().map_or(String::new(), |error| format!("{error:?}"))
    }

    const LEAST: &str = "controller = \"shop\"\nservice = \"brevo\"\npurposes = [\"campaign_performance\"]\n";

    #[test]
    fn a_connector_needs_a_controller_a_service_and_purposes() {
        assert_eq!(problems(LEAST), "");
        for (text, said) in [
            ("service = \"brevo\"\npurposes = [\"personalisation\"]", "connector.controller"),
            ("controller = \"shop\"\npurposes = [\"personalisation\"]", "either service or service_file"),
            ("controller = \"shop\"\nservice = \"brevo\"", "connector.purposes is missing"),
            (
                "controller = \"shop\"\nservice_file = \"x.toml\"\npurposes = [\"personalisation\"]",
                "needs one",
            ),
            (
                "controller = \"shop\"\nservice = \"brevo\"\npurposes = [\"deliverability\"]",
                "not a purpose that needs consent",
            ),
        ] {
            assert!(problems(text).contains(said), "{text}: {}", problems(text));
        }
        let twice = format!("{LEAST}[[connector]]\n{LEAST}");
        assert!(problems(&twice).contains("are named"));
    }

    #[test]
    fn a_service_and_a_resolver_are_reached_by_tls_or_on_this_machine() {
        let with = |line: &str| problems(&format!("{LEAST}{line}"));
        assert_eq!(with("base_url = \"http://127.0.0.1:8080/\""), "");
        assert!(with("base_url = \"http://api.esp.example\"").contains("cannot be used"));
        assert!(with("base_url = \"https://api.esp.example/v3\"").contains("must end after"));
        assert!(with("resolver_url = \"https://crm.shop.example/ids\"").contains("belong together"));
        assert!(with("variables = [\"list\"]").contains("name=value"));
    }
}
