//! Who still reads, and how often campaigns were opened by all together.

use std::sync::Arc;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::links::bounded;
use super::model::{Address, Moment, read};
use super::{Answered, Call, json};
use crate::web::hygiene::{Reading, Somebody, known};
use crate::web::problem::Problem;

/// About whom is asked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadingOf {
    /// The controller's own addresses, 1,000 at most.
    #[schema(min_items = 1, max_items = 1000)]
    addresses: Vec<Address>,
    /// Since when. Days of last open know no time, so it counts from the beginning of its day, by UTC.
    since: Moment,
}

/// Who still reads.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReadingSince {
    /// For each address, in their order.
    addresses: Vec<AddressReading>,
}

/// Whether somebody still reads.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AddressReading {
    /// active: opened something since. inactive: got mail with a day pixel since, and opened none. unmeasured: nothing can be said, and nobody may
    /// be dropped for that (N26).
    reading: Reading,
    /// How many mails to it were rejected for good (5xx) since.
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
        tracing::error!(%error, "the evidence cannot be read");
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
    /// By mailstream and campaign.
    campaigns: Vec<CampaignOpens>,
}

/// How often one was.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CampaignOpens {
    /// The kind of mail.
    mailstream: String,
    /// What stands for the campaign in the addresses of its pixels.
    campaign: String,
    /// How often its pixel was fetched. Nobody knows by whom (N14).
    opens: u64,
    /// On which day last.
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
