//! Next hops, certificates and limits in use.

use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Answered, Call, json};
use crate::consent::Timestamp;
use crate::live::Live;
use crate::relay::{Pool, TlsMode};

/// How delivery is at this moment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Delivery {
    /// Whether consent can be looked up. Where it cannot, trackers are stripped for everybody.
    store_answers: bool,
    /// Whether evidence is kept.
    evidence_enabled: bool,
    /// Whether nothing is unfinished: no client may come again with mail of which some recipients have their copy.
    ledger_empty: bool,
    /// Bytes of messages that are held at the moment.
    held_bytes: u64,
    /// The most that may be held.
    most_held_bytes: u64,
    /// Where clients connect.
    listeners: Vec<Listener>,
    /// Where mail goes.
    next_hops: Vec<NextHop>,
}

/// A listener.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Listener {
    /// Its name.
    name: String,
    /// Its address.
    address: String,
    /// Whether it has TLS.
    tls: bool,
    /// When its certificate ends.
    #[schema(format = DateTime)]
    certificate_ends: Option<String>,
}

/// A next hop.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NextHop {
    /// Its name or address.
    host: String,
    /// Its port.
    port: u16,
    /// implicit, required, opportunistic or none.
    tls: &'static str,
    /// Whether it was reached since the start.
    seen: bool,
    /// How often it failed since it last could be used.
    failures: u32,
    /// For how many seconds it rests before it is tried before the others again; 0 where it does not.
    rests_s: u64,
    /// Connections in use.
    used: usize,
    /// Connections that wait for their next message.
    idle: usize,
    /// The most connections.
    most: usize,
    /// How many messages it is sent in a minute; 0 for as many as there are.
    messages_per_minute: u32,
}

pub(super) async fn delivery(call: Call) -> Answered {
    call.query(&[])?;
    let (api, live) = (Arc::clone(&call.api), Arc::clone(&call.live));
    let store_answers = {
        let api = Arc::clone(&api);
        tokio::task::spawn_blocking(move || api.pipeline.store_answers()).await.unwrap_or(false)
    };
    let now = Instant::now();
    let delivery = Delivery {
        store_answers,
        evidence_enabled: live.config.evidence.enabled,
        ledger_empty: api.pipeline.ledger_is_empty(),
        held_bytes: api.pipeline.budget.held(),
        most_held_bytes: api.pipeline.budget.most(),
        listeners: listeners(&live),
        next_hops: live.pools().into_iter().map(|pool| NextHop::of(pool, now)).collect(),
    };
    json(StatusCode::OK, &delivery)
}

fn listeners(live: &Live) -> Vec<Listener> {
    let each = live.config.listeners.iter().zip(&live.tls);
    each.map(|(listener, tls)| Listener {
        name: listener.name.clone(),
        address: listener.address.to_string(),
        tls: tls.is_some(),
        certificate_ends: tls
            .as_ref()
            .and_then(|certificate| certificate.end())
            .map(|seconds| Timestamp(seconds * 1000).to_string()),
    })
    .collect()
}

impl NextHop {
    fn of(pool: &Arc<Pool>, now: Instant) -> NextHop {
        let (used, idle) = pool.connections();
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
        }
    }
}
