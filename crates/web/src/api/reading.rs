//! Who still reads, and how often all readers together opened campaigns.

use std::sync::Arc;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::links::bounded;
use super::model::{Address, Moment, read};
use super::{Answered, Call, json};
use crate::hygiene::{Reading, Somebody, known};
use crate::problem::Problem;

/// The people to ask about.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadingOf {
    /// The controller's addresses, at most 1,000.
    #[schema(min_items = 1, max_items = 1000)]
    addresses: Vec<Address>,
    /// The first day. Days of last open have no time, so it counts from the beginning of its day in UTC.
    since: Moment,
}

/// The readings of some addresses.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReadingSince {
    /// One reading per address, in the same order.
    addresses: Vec<AddressReading>,
}

/// Whether the person still reads.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AddressReading {
    /// active: opened something since then. inactive: received mail with a day pixel since then, and opened
    /// none. unmeasured: unknown, which must not be a reason to drop anyone.
    reading: Reading,
    /// The number of messages to it that were rejected permanently (5xx) since then.
    bounced: u64,
}

pub(super) async fn reading(call: Call) -> Answered {
    call.query(&[])?;
    let ReadingOf { addresses, since } = read(&call.body)?;
    bounded(addresses.len())?;
    let controller = call.controller()?.clone();
    let evidence = call.live.config.evidence.directory.clone();
    let store = Arc::clone(&call.api.store);
    let work = tokio::task::spawn_blocking(move || {
        let somebody = |address: &Address| {
            let person = store.person(&address.0);
            Somebody {
                pseudonym: store.known_pseudonym(person),
                last_open: store.last_open(&controller, person),
            }
        };
        let people = addresses.iter().map(somebody).collect();
        known(&evidence, controller.as_str(), since.0.start_of_day(), people, store.measured_since())
    });
    let all = work.await.map_err(|_| Problem::internal())?;
    let all = all.map_err(|error| {
        tracing::error!(%error, "the audit records cannot be read");
        Problem::internal()
    })?;
    let addresses = all
        .into_iter()
        .map(|reading| AddressReading { reading: reading.reading, bounced: reading.bounced })
        .collect();
    json(StatusCode::OK, &ReadingSince { addresses })
}

/// How often campaigns were opened.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SharedOpens {
    /// The campaigns, by mailstream.
    campaigns: Vec<CampaignOpens>,
}

/// How often one campaign was opened.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CampaignOpens {
    /// The mailstream.
    mailstream: String,
    /// The campaign's identifier in the addresses of its pixels.
    campaign: String,
    /// How often its pixel was fetched. Nobody knows by whom.
    opens: u64,
    /// The day of the last fetch.
    #[schema(format = Date)]
    last_day: String,
}

pub(super) async fn shared_opens(call: Call) -> Answered {
    call.query(&[])?;
    let counted = call.api.store.shared_opens(call.controller()?);
    let campaigns = counted.into_iter().map(|campaign| CampaignOpens {
        mailstream: campaign.mailstream,
        campaign: campaign.campaign.iter().map(|byte| format!("{byte:02x}")).collect(),
        opens: campaign.opens,
        last_day: campaign.last.to_string(),
    });
    json(StatusCode::OK, &SharedOpens { campaigns: campaigns.collect() })
}
