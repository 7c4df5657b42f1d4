//! What tracked links lead to, asked of the sender's own service where neither the links nor its list say it.
//!
//! Promised: mail waits for an answer no longer than the configured limit, and not at all for a while after the
//! service failed; what was told is remembered for an hour. Whatever goes wrong, links stay as they are, and are
//! counted as left.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::live::Lookup;

/// For how long what was told is remembered.
const TOLD: Duration = Duration::from_secs(3600);
/// For how long it is remembered that nothing was told.
const UNTOLD: Duration = Duration::from_secs(300);
/// For how long a service that failed is not asked.
const PAUSE: Duration = Duration::from_secs(30);
/// The maximum number of links that are remembered.
const MAX_KNOWN: usize = 20_000;
/// The longest answer.
const MAX_ANSWER: usize = 1024 * 1024;

/// What was told about links, for all controllers.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    /// By controller and link.
    known: Mutex<HashMap<(String, String), Told>>,
    /// Until when services are not asked, by controller.
    paused: Mutex<HashMap<String, Instant>>,
}

#[derive(Clone, Debug)]
struct Told {
    page: Option<String>,
    until: Instant,
}

#[derive(Serialize)]
struct Question<'a> {
    controller: &'a str,
    links: Vec<&'a str>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    pages: HashMap<String, String>,
}

impl Lookups {
    /// The pages of links, each given as a sighting has it and as browsers ask for it; by the former.
    pub(crate) async fn told(&self, lookup: &Lookup, links: Vec<(String, String)>) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let unknown = self.remembered(lookup.controller.as_str(), links, &mut found);
        if unknown.is_empty() || self.is_paused(lookup.controller.as_str()) {
            return found;
        }
        let question = Question {
            controller: lookup.controller.as_str(),
            links: unknown.iter().map(|(_, address)| address.as_str()).collect(),
        };
        let Ok(question) = serde_json::to_string(&question) else { return found };
        let answer = lookup.service.ask(question, MAX_ANSWER, lookup.limit).await;
        let read = answer.and_then(|bytes| {
            serde_json::from_slice::<Answer>(&bytes)
                .map_err(|error| format!("its answer is malformed: {error}"))
        });
        let mut pages = match read {
            Ok(answer) => answer.pages,
            Err(error) => {
                metrics::counter!("pixelward_link_lookups_total", "result" => "failed").increment(1);
                tracing::warn!(
                    controller = lookup.controller.as_str(), %error,
                    "links_lookup failed: tracked links of which nobody says what they lead to stay"
                );
                hold(&self.paused).insert(lookup.controller.as_str().to_owned(), Instant::now() + PAUSE);
                return found;
            }
        };
        metrics::counter!("pixelward_link_lookups_total", "result" => "answered").increment(1);
        let mut known = hold(&self.known);
        for (link, address) in unknown {
            let page = pages.remove(&address);
            let until = Instant::now() + if page.is_some() { TOLD } else { UNTOLD };
            if known.len() >= MAX_KNOWN {
                known.retain(|_, told| told.until > Instant::now());
            }
            if known.len() >= MAX_KNOWN {
                known.clear();
            }
            known.insert(
                (lookup.controller.as_str().to_owned(), link.clone()),
                Told { page: page.clone(), until },
            );
            found.extend(page.map(|page| (link, page)));
        }
        found
    }

    /// Adds the pages that are remembered; gives the links of which nothing is.
    fn remembered(
        &self,
        controller: &str,
        links: Vec<(String, String)>,
        found: &mut Vec<(String, String)>,
    ) -> Vec<(String, String)> {
        let (known, now) = (hold(&self.known), Instant::now());
        let mut unknown = Vec::new();
        for (link, address) in links {
            match known.get(&(controller.to_owned(), link.clone())).filter(|told| told.until > now) {
                Some(Told { page, .. }) => found.extend(page.clone().map(|page| (link, page))),
                None => unknown.push((link, address)),
            }
        }
        unknown
    }

    fn is_paused(&self, controller: &str) -> bool {
        hold(&self.paused).get(controller).is_some_and(|until| *until > Instant::now())
    }
}

fn hold<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
