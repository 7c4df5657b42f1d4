//! How a record and a person's consent are shown outside of the store: in exports, on the socket, by the API.

use serde::{Deserialize, Serialize};

use super::store::Entered;
use super::{Controller, Permission, Timestamp};

/// A person's consent towards a controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ConsentStanding)]
pub struct Standing {
    /// The controller.
    pub controller: String,
    /// The consent by purpose.
    pub purposes: Vec<Purpose>,
    /// The jurisdiction whose rules apply, if a record names one.
    pub jurisdiction: Option<String>,
    /// True if the person must never be tracked.
    pub no_track: bool,
    /// The time before which the person must not be asked again.
    pub do_not_ask_before: Option<String>,
}

/// The consent for a purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ConsentPurpose)]
pub struct Purpose {
    /// The purpose.
    pub purpose: String,
    /// The state that was last recorded.
    pub state: String,
    /// When it was said.
    pub event_time: String,
    /// When a grant expires.
    pub expires: Option<String>,
    /// True if a tracker may stay for this purpose now.
    pub allowed: bool,
    /// The number of the record.
    pub record: u64,
}

impl Purpose {
    /// Lists the consent at `now` for every purpose that was mentioned.
    fn all(standing: &super::Standing, now: Timestamp) -> Vec<Purpose> {
        let shown = |(purpose, stand): (crate::policy::Purpose, &super::standing::Stand)| Purpose {
            purpose: purpose.name().to_owned(),
            state: stand.state.name().to_owned(),
            event_time: stand.event_at.to_string(),
            expires: stand.expires.map(|end| end.to_string()),
            allowed: matches!(standing.allows(purpose, now), Permission::Granted(_)),
            record: stand.record,
        };
        standing.all().map(shown).collect()
    }
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ConsentRecord)]
pub struct Record {
    /// The number in the journal.
    pub record: u64,
    /// The controller.
    pub controller: String,
    /// The purposes concerned.
    pub purposes: Vec<String>,
    /// The state that was recorded.
    pub state: String,
    /// True if it came as a grant, which does not count because nothing proves it.
    #[serde(default)]
    pub unproved_grant: bool,
    /// When it was said.
    #[schema(format = DateTime)]
    pub event_time: String,
    /// The claimed time, if it could not be used because it or the current state was ahead of the relay's
    /// clock.
    #[serde(default)]
    pub claimed_time: Option<String>,
    /// When it was recorded.
    #[schema(format = DateTime)]
    pub recorded_at: String,
    /// When the person was asked.
    pub asked_at: Option<String>,
    /// When the notice was sent.
    pub notice_sent_at: Option<String>,
    /// When the address was collected.
    pub collected_at: Option<String>,
    /// When a grant expires.
    pub expires: Option<String>,
    /// The time before which the person must not be asked again.
    pub do_not_ask_before: Option<String>,
    /// The jurisdiction whose rules apply to the person.
    pub jurisdiction: Option<String>,
    /// True if the person must never be tracked.
    pub no_track: Option<bool>,
    /// The method: a form, a call, a link.
    pub method: Option<String>,
    /// The channel: web, mail, shop.
    pub channel: Option<String>,
    /// The version of the notice that was shown.
    pub notice_version: Option<String>,
    /// The SHA-256 of the exact text that was shown.
    pub text_hash: Option<String>,
    /// A reference to the proof of consent.
    pub evidence: Option<String>,
    /// The person or program that entered it.
    pub actor: Option<String>,
    /// The controller's name for the person.
    pub external_id: Option<String>,
    /// How far the choice reaches, if that was said: address or account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

impl Standing {
    /// Shows a person's consent towards a controller at `now`.
    pub fn of(controller: &Controller, standing: &super::Standing, now: Timestamp) -> Standing {
        Standing {
            controller: controller.to_string(),
            purposes: Purpose::all(standing, now),
            jurisdiction: standing.jurisdiction(),
            no_track: standing.no_track(),
            do_not_ask_before: shown(standing.do_not_ask_before),
        }
    }
}

impl Record {
    /// Shows a record.
    pub fn of(entered: &Entered) -> Record {
        let change = &entered.change;
        let details = change.details.clone();
        Record {
            record: entered.number,
            controller: change.controller.to_string(),
            purposes: change.purposes.iter().map(|purpose| purpose.name().to_owned()).collect(),
            state: change.state.name().to_owned(),
            unproved_grant: change.is_unproved_grant,
            event_time: change.event_at.to_string(),
            claimed_time: shown(change.claimed_at),
            recorded_at: entered.recorded_at.to_string(),
            asked_at: shown(change.asked_at),
            notice_sent_at: shown(change.notice_sent_at),
            collected_at: shown(change.collected_at),
            expires: shown(change.expires),
            do_not_ask_before: shown(change.do_not_ask_before),
            jurisdiction: change.jurisdiction.clone(),
            no_track: change.no_track,
            method: details.method,
            channel: details.channel,
            notice_version: details.notice_version,
            text_hash: details.text_hash,
            evidence: details.evidence,
            actor: details.actor,
            external_id: details.external_id,
            scope: details.scope.map(|scope| scope.name().to_owned()),
        }
    }
}

pub(super) fn shown(time: Option<Timestamp>) -> Option<String> {
    time.map(|time| time.to_string())
}
