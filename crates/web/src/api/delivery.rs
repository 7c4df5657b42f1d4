//! Next hops, certificates and current resource usage.

use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Answered, Call, json};
use crate::consent::Timestamp;
use crate::live::Live;
use crate::record::evidence::refusals::Refused;
use crate::relay::{Pool, TlsMode};

/// The current state of delivery.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Delivery {
    /// True if consent can be looked up. Otherwise trackers are stripped for everybody.
    store_answers: bool,
    /// True if audit records are being kept.
    evidence_enabled: bool,
    /// True if no delivery is unfinished, so that no client will retry mail that some recipients already
    /// have.
    ledger_empty: bool,
    /// Bytes of messages currently in memory.
    held_bytes: u64,
    /// The maximum number of message bytes in memory.
    most_held_bytes: u64,
    /// The listeners, where clients connect.
    listeners: Vec<Listener>,
    /// The certificates of the API and of the preference page, where they have one.
    certificates: Vec<Certificate>,
    /// The next hops, where mail goes.
    next_hops: Vec<NextHop>,
    /// The last refusals of all controllers, newest first; at most 50, and none unless audit records are
    /// kept.
    refusals: Vec<Refusal>,
    /// The connectors of all controllers, as this relay knows them.
    connectors: Vec<crate::connector::view::Standing>,
}

/// A certificate of a web listener.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Certificate {
    /// The listener: api or public.
    name: &'static str,
    /// The address it listens on.
    address: String,
    /// When the certificate expires.
    #[schema(format = DateTime)]
    certificate_ends: Option<String>,
}

/// A reply with which mail to some recipients of a message was not accepted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Refusal {
    /// When it was decided what to do with the message.
    #[schema(format = DateTime)]
    time: String,
    /// The relay's id of the message.
    id: String,
    /// The controller.
    controller: String,
    /// The mailstream.
    mailstream: String,
    /// The next hops of its route.
    route: String,
    /// True if the message was received; false if its recipients were refused before.
    received: bool,
    /// The result: deferred or rejected.
    result: String,
    /// The code of the reply.
    code: u16,
    /// The enhanced status code of the reply; empty in records of earlier versions.
    status: String,
    /// How many recipients heard it.
    recipients: u64,
}

/// A listener.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Listener {
    /// The name of the listener.
    name: String,
    /// The address it listens on.
    address: String,
    /// True if the listener offers TLS.
    tls: bool,
    /// When the listener's certificate expires.
    #[schema(format = DateTime)]
    certificate_ends: Option<String>,
}

/// A next hop.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NextHop {
    /// The host name or address.
    host: String,
    /// The port.
    port: u16,
    /// The TLS mode: implicit, required, opportunistic or none.
    tls: &'static str,
    /// True if it has been reached since the relay started.
    seen: bool,
    /// The number of failures since it could last be used.
    failures: u32,
    /// The number of seconds for which other next hops are preferred; 0 if it is used normally.
    rests_s: u64,
    /// Connections in use.
    used: usize,
    /// Idle connections that wait for the next message.
    idle: usize,
    /// The maximum number of connections.
    most: usize,
    /// The maximum number of messages per minute; 0 for no limit.
    messages_per_minute: u32,
    /// How the next hop was known when a connection was last made: dane, mta-sts, pkix, fingerprint or none;
    /// null before the first one.
    authentication: Option<&'static str>,
    /// When the certificate that it showed then expires; null without TLS.
    #[schema(format = DateTime)]
    certificate_ends: Option<String>,
}

pub(super) async fn delivery(call: Call) -> Answered {
    call.query(&[])?;
    let (api, live) = (Arc::clone(&call.api), Arc::clone(&call.live));
    let store_answers = {
        let api = Arc::clone(&api);
        tokio::task::spawn_blocking(move || api.host.store_answers()).await.unwrap_or(false)
    };
    let now = Instant::now();
    let (held_bytes, most_held_bytes) = api.host.held_bytes();
    let delivery = Delivery {
        store_answers,
        evidence_enabled: live.config.evidence.enabled,
        ledger_empty: api.host.ledger_is_empty(),
        held_bytes,
        most_held_bytes,
        listeners: listeners(&live),
        certificates: certificates(&live),
        refusals: api.host.refusals().into_iter().map(Refusal::from).collect(),
        next_hops: live.pools().into_iter().map(|pool| NextHop::of(pool, now)).collect(),
        connectors: api.connectors.list(None),
    };
    json(StatusCode::OK, &delivery)
}

fn certificates(live: &Live) -> Vec<Certificate> {
    let all = [
        ("api", live.config.api.address, &live.api_tls),
        ("public", live.config.public.address, &live.public_tls),
    ];
    let served = all.into_iter().filter_map(|(name, address, tls)| Some((name, address?, tls)));
    served
        .map(|(name, address, tls)| Certificate {
            name,
            address: address.to_string(),
            certificate_ends: tls.as_ref().and_then(|tls| tls.end()).map(moment),
        })
        .collect()
}

fn moment(seconds: i64) -> String {
    Timestamp(seconds.saturating_mul(1000)).to_string()
}

fn listeners(live: &Live) -> Vec<Listener> {
    let each = live.config.listeners.iter().zip(live.tls.iter());
    each.map(|(listener, tls)| Listener {
        name: listener.name.clone(),
        address: listener.address.to_string(),
        tls: tls.is_some(),
        certificate_ends: tls.as_ref().and_then(|certificate| certificate.end()).map(moment),
    })
    .collect()
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Refusal {
        let Refused { at, id, controller, mailstream, route, is_received, result, code, status, recipients } =
            refused;
        Refusal {
            time: at.to_string(),
            id,
            controller,
            mailstream,
            route,
            received: is_received,
            result,
            code,
            status,
            recipients,
        }
    }
}

impl NextHop {
    fn of(pool: &Arc<Pool>, now: Instant) -> NextHop {
        let (used, idle) = pool.connections();
        let shown = pool.shown();
        NextHop {
            host: pool.hop.host.clone(),
            port: pool.hop.port,
            tls: match pool.hop.tls {
                TlsMode::Implicit => "implicit",
                TlsMode::Required => "required",
                TlsMode::Opportunistic => "opportunistic",
                TlsMode::None => "none",
            },
            seen: pool.capabilities().is_some(),
            failures: pool.health.failures(),
            rests_s: pool.health.rests_until(now).map_or(0, |until| (until - now).as_secs().max(1)),
            used,
            idle,
            most: pool.hop.max_connections,
            messages_per_minute: pool.hop.messages_per_minute,
            authentication: shown.map(|(authentication, _)| authentication.name()),
            certificate_ends: shown.and_then(|(_, end)| end).map(moment),
        }
    }
}
