//! Links to the preference page, for controllers to put into their own mail or account pages.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::model::{Address, MAX_ADDRESSES, read};
use super::{Answered, Call, json};
use crate::problem::Problem;
use crate::rewrite::reader_token::{Holder, Token, hint};

/// The people for whom links are requested.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LinksFor {
    /// Their addresses, at most 1,000.
    #[schema(min_items = 1, max_items = 1000)]
    addresses: Vec<Address>,
}

/// Links to the preference page.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Links {
    /// One link per address, in the same order. Each is personal: whoever has it can choose for that person.
    links: Vec<String>,
    /// For how many days they can grant consent. They can withdraw for ever.
    grant_days: u16,
}

pub(super) async fn mint(call: Call) -> Answered {
    call.query(&[])?;
    let LinksFor { addresses } = read(&call.body)?;
    bounded(addresses.len())?;
    let controller = call.controller()?.clone();
    let rulebook = &call.live.config.policy.rulebook;
    let named = rulebook.named(Some(controller.as_str()), None).map_err(|_| Problem::internal())?;
    let public_url = named.controller.public_url.clone().ok_or_else(|| {
        Problem::conflict(
            "no-public-url",
            "The controller has no public_url in the configuration, so links cannot be made",
        )
    })?;
    let (now, key) = (call.now, call.live.config.public.token_key);
    let api = std::sync::Arc::clone(&call.api);
    let links = call.api.ask(move |store| {
        let link = |address: &Address| {
            let person = store.person(&address.0);
            // A person who was erased and is written to again is a new person.
            store.pseudonym(person).ok()?;
            let token = Token::Preference {
                holder: Holder { controller: controller.clone(), person, issued: now },
                hint: hint(&address.0),
            };
            api.host.mint().url(&public_url, &token, key)
        };
        Ok(addresses.iter().map(link).collect::<Option<Vec<String>>>())
    });
    let links = links.await?.ok_or_else(Problem::internal)?;
    json(StatusCode::OK, &Links { links, grant_days: call.live.config.public.grant_days })
}

/// Checks that there is at least one address and not too many.
pub(super) fn bounded(count: usize) -> Result<(), Problem> {
    match count {
        1..=MAX_ADDRESSES => Ok(()),
        _ => Err(Problem::malformed(format!("addresses: expected 1 to {MAX_ADDRESSES}"))),
    }
}
