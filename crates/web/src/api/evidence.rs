//! Audit records: what was done with which mail.

use std::sync::Arc;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::model::{Limit, Moment, Name, Text, Who, person, read};
use super::relays::Unanswered;
use super::{Answered, Call, json};
use crate::consent::{Pseudonym, StoreKey, Timestamp};
use crate::problem::Problem;
use crate::record::evidence::MessageIds;
use crate::record::evidence::export::{Proof, Shown};
use crate::record::evidence::find::{Found, Query, newest};

/// The number of records in a response by default.
const FEW: usize = 100;

/// Search criteria. A criterion that is not given matches everything.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// The recipient.
    recipient: Option<Who>,
    /// The Message-ID of the message.
    message_id: Option<Text>,
    /// The relay's id of the message.
    id: Option<Text>,
    /// The earliest time.
    since: Option<Moment>,
    /// The time before which the records were made.
    until: Option<Moment>,
    /// The mailstream.
    mailstream: Option<Name>,
    /// The outcome that was decided or done.
    outcome: Option<Text>,
    /// The vendor of a tracker that was found; `unknown` for unknown vendors.
    vendor: Option<Text>,
    /// The campaign, as the sender calls it.
    campaign: Option<Text>,
    /// The maximum number of records.
    limit: Option<Limit>,
    /// True to include each record's proof that it is part of the chain.
    #[serde(default)]
    proof: bool,
    /// True to include the subject and the Message-ID, if they are kept. They open for the recipient that is
    /// asked for, and for nobody else.
    #[serde(default)]
    headlines: bool,
}

/// The records found.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Records {
    /// The records, newest first.
    records: Vec<Record>,
    /// True if there may be more records.
    more: bool,
    /// True if all segments that could contain a match were read, at all relays; false if some are damaged, or a
    /// relay did not answer.
    complete: bool,
    /// The relays of the cluster that did not answer; their records are missing.
    unanswered: Vec<Unanswered>,
}

/// An audit record.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Record {
    /// The contents, as `pixelward evidence find --json` prints them.
    #[schema(value_type = Object)]
    record: serde_json::Value,
    /// The record's place in the chain; null unless requested.
    #[schema(value_type = Option<Object>)]
    proof: Option<serde_json::Value>,
    /// The subject; null unless requested and kept, and unless the record is about the recipient asked for.
    subject: Option<String>,
    /// The Message-ID in clear; null likewise.
    message_id: Option<String>,
    /// The relay that handled the message and has the record; null for a relay that is not part of a cluster.
    relay: Option<String>,
}

pub(super) async fn search(call: Call) -> Answered {
    call.query(&[])?;
    let wanted: Wanted = read(&call.body)?;
    let limit = wanted.limit.map_or(FEW, |limit| limit.0);
    let (here, others) = tokio::join!(here(&call, wanted, limit), call.ask_others("search_evidence"));
    let (mut all, others) = (here?, others?);
    for (relay, found) in others.answers {
        let Records { records, more, complete, .. } = found;
        all.more |= more;
        all.complete &= complete;
        all.records.extend(records.into_iter().map(|record| Record { relay: Some(relay.clone()), ..record }));
    }
    // Each relay's are in order already, and stay so among those of one moment.
    all.records.sort_by_key(|record| std::cmp::Reverse(record.time()));
    all.more |= all.records.len() > limit;
    all.records.truncate(limit);
    all.complete &= others.unanswered.is_empty();
    all.unanswered = others.unanswered;
    json(StatusCode::OK, &all)
}

/// Searches the records of this relay.
async fn here(call: &Call, wanted: Wanted, limit: usize) -> Result<Records, Problem> {
    let (proof, headlines) = (wanted.proof, wanted.headlines);
    let asked_for = wanted.recipient.clone();
    let nothing = Records { records: Vec::new(), more: false, complete: true, unanswered: Vec::new() };
    let Some(query) = query(call, wanted)? else { return Ok(nothing) };
    let reader = if headlines { recipient(call, asked_for.as_ref())? } else { None };
    let directory = call.live.config.evidence.directory.clone();
    let _turn = call.api.searches.acquire().await.map_err(|_| Problem::internal())?;
    let looked = tokio::task::spawn_blocking(move || newest(&directory, &query, limit)).await;
    let (found, looked) = match looked {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::error!(%error, "the audit records cannot be read");
            return Err(Problem::internal());
        }
        Err(_) => {
            tracing::error!("an internal error occurred while searching the audit records");
            return Err(Problem::internal());
        }
    };
    looked.troubles.iter().for_each(|trouble| tracing::error!(%trouble, "some audit records cannot be read"));
    let relay = call.relay();
    let records: Result<Vec<Record>, serde_json::Error> =
        found.iter().map(|item| Record::of(item, proof, reader.as_ref(), relay.as_ref())).collect();
    let records = records.map_err(|_| Problem::internal())?;
    let (more, complete) = (records.len() >= limit, looked.troubles.is_empty());
    Ok(Records { records, more, complete, ..nothing })
}

/// Builds the query; `None` if nothing can match, because the person was erased or the text is not a
/// Message-ID.
fn query(call: &Call, wanted: Wanted) -> Result<Option<Query>, Problem> {
    let store = Arc::clone(&call.api.store);
    let pseudonym = recipient(call, wanted.recipient.as_ref())?;
    if wanted.recipient.is_some() && pseudonym.is_none() {
        return Ok(None);
    }
    let message_id = match &wanted.message_id {
        None => None,
        Some(Text(text)) => {
            let key: StoreKey = store.derived_key(MessageIds::LABEL);
            let Some(tag) = MessageIds::new(key).tag(text) else { return Ok(None) };
            Some(tag)
        }
    };
    Ok(Some(Query {
        queue_id: None,
        person: pseudonym,
        message_id,
        id: wanted.id.map(|id| id.0),
        since: wanted.since.map(|since| since.0),
        until: wanted.until.map(|until| until.0),
        controller: Some(call.controller()?.to_string()),
        mailstream: wanted.mailstream.map(|mailstream| mailstream.0),
        outcome: wanted.outcome.map(|outcome| outcome.0),
        vendor: wanted.vendor.map(|vendor| vendor.0),
        campaign: wanted.campaign.map(|campaign| campaign.0),
    }))
}

/// Returns what a recipient's tags and headlines are made from; `None` without a recipient, and for one who
/// was erased.
fn recipient(call: &Call, who: Option<&Who>) -> Result<Option<Pseudonym>, Problem> {
    let Some(Who(text)) = who else { return Ok(None) };
    let store = &call.api.store;
    let meant = |shown| call.controller().map(|controller| store.outward(controller).meant(shown));
    let person = person(text).map(meant).transpose()?.unwrap_or_else(|| store.person(text));
    Ok(store.known_pseudonym(person))
}

impl Record {
    /// Returns when it was made.
    fn time(&self) -> Option<Timestamp> {
        self.record.get("time")?.as_str().and_then(|time| Timestamp::parse(time).ok())
    }

    fn of(
        found: &Found,
        proof: bool,
        reader: Option<&Pseudonym>,
        relay: Option<&String>,
    ) -> Result<Record, serde_json::Error> {
        let record = serde_json::to_value(Shown::from(&found.record))?;
        let proof = if proof { Some(serde_json::to_value(Proof::of(found))?) } else { None };
        let headline = reader.and_then(|pseudonym| found.headline(pseudonym));
        let (subject, message_id) = headline.map(|headline| (headline.subject, headline.message_id)).unzip();
        Ok(Record { record, proof, subject, message_id, relay: relay.cloned() })
    }
}
