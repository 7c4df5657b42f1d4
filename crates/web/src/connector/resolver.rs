//! Asks the controller's own endpoint under which name the service knows a person. The answer is used once: it is
//! neither kept nor logged.

use std::path::PathBuf;
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::config;
use crate::mapping::secret;
use crate::net::ask::Service;

/// The maximum size of an answer, in bytes.
const MOST: usize = 16 << 10;
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The endpoint.
#[derive(Debug)]
pub(super) struct Resolver {
    service: Service,
    token_file: PathBuf,
}

#[derive(Serialize)]
struct Question<'a> {
    controller: &'a str,
    connector: &'a str,
    person: &'a str,
    external_id: Option<&'a str>,
}

#[derive(Deserialize)]
struct Answer {
    id: Option<String>,
}

impl Resolver {
    pub(super) fn of(settings: &config::connector::Resolver) -> Result<Resolver, String> {
        let service = Service::new(&settings.url, settings.ca_file.as_deref())
            .map_err(|error| format!("connector.resolver_url: {error}"))?;
        let resolver = Resolver { service, token_file: settings.token_file.clone() };
        resolver.token()?;
        Ok(resolver)
    }

    fn token(&self) -> Result<HeaderValue, String> {
        let token =
            secret(&self.token_file).map_err(|error| format!("connector.resolver_token_file {error}"))?;
        let written = [b"Bearer ".as_slice(), &token].concat();
        let mut value = HeaderValue::from_bytes(&written)
            .map_err(|_| "connector.resolver_token_file has characters that cannot be sent".to_owned())?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Returns the service's name for a person; `None` if there is none.
    ///
    /// # Errors
    ///
    /// When the endpoint does not answer as it should.
    pub(super) async fn id(
        &self,
        (controller, connector): (&str, &str),
        person: &str,
        external_id: Option<&str>,
    ) -> Result<Option<String>, String> {
        let question = Question { controller, connector, person, external_id };
        let question = serde_json::to_string(&question).map_err(|error| error.to_string())?;
        let headers = HeaderMap::from_iter([(AUTHORIZATION, self.token()?)]);
        let reply = self.service.reply(question, headers, MOST, PATIENCE).await;
        let reply = reply.map_err(|error| format!("the resolver: {error}"))?;
        match reply.status {
            200 => {
                // What is wrong with the answer is not quoted: it may contain an address.
                let answer: Answer = serde_json::from_slice(&reply.body)
                    .map_err(|_| "the resolver's answer is not {\"id\": \"...\"}".to_owned())?;
                Ok(answer.id.filter(|id| !id.is_empty()))
            }
            404 => Ok(None),
            other => Err(format!("the resolver answered {other}")),
        }
    }
}
