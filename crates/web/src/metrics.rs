//! Metrics and health checks, for this machine, and for those who are listed or have the token.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time;
use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;

use crate::config::{Network, PrivateAccess};
use crate::live::Host;
use crate::private_file::is_open_to_others;
use crate::smtp::reply::Class;

/// Starts collecting metrics.
///
/// # Errors
///
/// When a collector exists already.
pub fn start() -> Result<PrometheusHandle, String> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), BUCKETS)
        .map_err(|error| error.to_string())?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|error| error.to_string())?;
    describe();
    begin();
    Ok(handle)
}

/// Initialises counters used in alarms to zero. To Prometheus, a counter that first appears as 1 has not
/// grown, and the first fault would go unnoticed.
fn begin() {
    for name in FROM_ZERO {
        metrics::counter!(*name).increment(0);
    }
    for reason in ["queue_full", "not_written"] {
        metrics::counter!("pixelward_evidence_lost_total", "reason" => reason).increment(0);
    }
    for result in [Class::Positive, Class::Transient, Class::Permanent] {
        metrics::counter!("pixelward_messages_total", "result" => result.name()).increment(0);
    }
    for result in [Class::Transient, Class::Permanent] {
        metrics::counter!("pixelward_recipients_refused_total", "result" => result.name()).increment(0);
    }
    for result in ["right", "wrong", "refused", "busy"] {
        metrics::counter!("pixelward_logins_total", "result" => result).increment(0);
    }
}

/// Initialises those without labels.
const FROM_ZERO: &[&str] = &[
    "pixelward_accept_errors_total",
    "pixelward_connections_refused_total",
    "pixelward_groups_joined_total",
    "pixelward_mta_sts_fetch_errors_total",
    "pixelward_mta_sts_testing_failures_total",
    "pixelward_next_hop_errors_total",
    "pixelward_session_panics_total",
    "pixelward_internal_errors_total",
    "pixelward_signatures_broken_total",
    "pixelward_store_errors_total",
    "pixelward_strict_rewrites_total",
    "pixelward_unreadable_messages_total",
    "pixelward_unreadable_parts_total",
    "pixelward_connector_missed_total",
    "pixelward_webhook_missed_total",
    "pixelward_cluster_stops_total",
];

/// The buckets of durations, in seconds: from 25 microseconds for one station of a small message to the
/// longest wait for a next hop.
const BUCKETS: &[f64] = &[
    0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
    0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 540.0,
];

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("pixelward_connections_total", "Connections accepted from clients");
    describe_counter!(
        "pixelward_connections_refused_total",
        "Connections refused because there were too many"
    );
    describe_counter!(
        "pixelward_accept_errors_total",
        "Failures to accept a connection, usually for lack of open files"
    );
    describe_counter!("pixelward_protocol_errors_total", "Commands that were malformed or out of order");
    describe_counter!("pixelward_tls_errors_total", "Clients with which TLS could not be established");
    describe_counter!(
        "pixelward_logins_total",
        "Logins by result: right, wrong, refused (not checked because of earlier failures) or busy"
    );
    describe_counter!(
        "pixelward_proxy_refused_total",
        "Connections dropped because they came from no trusted proxy or named no client"
    );
    describe_counter!(
        "pixelward_messages_held_back_total",
        "Messages deferred because their client had sent too many within a minute"
    );
    describe_counter!("pixelward_messages_total", "Messages by result");
    describe_counter!(
        "pixelward_recipients_refused_total",
        "Recipients refused before their message was analysed, by result; a refused sender counts as one"
    );
    describe_counter!(
        "pixelward_messages_refused_total",
        "Messages rejected for their size, their header, their line endings or lack of memory"
    );
    describe_counter!(
        "pixelward_recipients_total",
        "Recipients of messages, by what was decided for them, controller, mailstream and version of the \
         rules"
    );
    describe_counter!("pixelward_unmatched_messages_total", "Messages that match no mailstream");
    describe_counter!(
        "pixelward_swaps_stripped_total",
        "Recipients whose trackers were to be swapped and were removed instead, by reason"
    );
    describe_counter!(
        "pixelward_trackers_swapped_total",
        "Trackers replaced by an address of ours in copies that left"
    );
    describe_counter!(
        "pixelward_links_unwrapped_total",
        "Tracked links that lead straight to their page in copies that left"
    );
    describe_counter!(
        "pixelward_links_gated_total",
        "Tracked links that ask for the consent of the moment in copies that left"
    );
    describe_counter!(
        "pixelward_links_left_total",
        "Tracked links that go on reporting in copies that left although they were to be changed"
    );
    describe_counter!(
        "pixelward_link_lookups_total",
        "Questions to links_lookup services by result: answered or failed"
    );
    describe_counter!(
        "pixelward_consent_requests_total",
        "Recipients of mail that asks for consent, by whether they were asked, or the question or the mail \
         came too early"
    );
    describe_counter!("pixelward_trackers_found_total", "Trackers found, by carrier");
    describe_counter!("pixelward_trackers_removed_total", "Trackers removed from copies that left");
    describe_counter!(
        "pixelward_strict_rewrites_total",
        "Messages from which every remote request was removed because a scan of the result was not clean"
    );
    describe_counter!(
        "pixelward_unreadable_messages_total",
        "Messages that did not leave because they could not be analysed"
    );
    describe_counter!(
        "pixelward_unreadable_parts_total",
        "Text parts that cannot be read, in messages as received"
    );
    describe_counter!(
        "pixelward_signatures_broken_total",
        "DKIM signatures that an edit broke, or would \
                                                            have broken"
    );
    describe_counter!("pixelward_signed_total", "Copies signed with a key of ours");
    describe_counter!(
        "pixelward_signatures_withheld_total",
        "Copies left unsigned because the keys of their domain belong to other controllers"
    );
    describe_counter!("pixelward_protected_total", "Messages with a tracker in a signed or encrypted part");
    describe_counter!("pixelward_store_errors_total", "Consent lookups that failed and counted as refused");
    describe_gauge!(
        "pixelward_consent_store_sound",
        "1 if the last daily verification of the consent store found nothing wrong"
    );
    describe_cluster();
    describe_counter!("pixelward_evidence_records_total", "Audit records written");
    describe_counter!(
        "pixelward_evidence_lost_total",
        "Audit records lost, by reason: the queue was full, or they could not be written"
    );
    describe_counter!("pixelward_next_hop_errors_total", "Times the next hop could not be used");
    describe_counter!(
        "pixelward_next_hop_connections_total",
        "Connections to next hops by how these were known: none, pkix, fingerprint, mta-sts or dane"
    );
    describe_counter!(
        "pixelward_mta_sts_fetch_errors_total",
        "Times the MTA-STS policy of a domain could not be fetched"
    );
    describe_counter!(
        "pixelward_mta_sts_testing_failures_total",
        "Times an exchanger did not fulfil the MTA-STS policy that its domain only tests"
    );
    describe_counter!(
        "pixelward_internal_errors_total",
        "Messages that could not be handled as decided because of an internal error"
    );
    describe_counter!("pixelward_session_panics_total", "Sessions lost to an internal error");
    describe_gauge!(
        "pixelward_certificate_expiry_timestamp_seconds",
        metrics::Unit::Seconds,
        "When the certificate of a listener expires, in seconds since 1970"
    );
    describe_gauge!("pixelward_in_flight_bytes", metrics::Unit::Bytes, "Bytes of messages in memory");
    describe_gauge!(
        "pixelward_in_flight_limit_bytes",
        metrics::Unit::Bytes,
        "The maximum number of message bytes in memory"
    );
    describe_counter!(
        "pixelward_links_with_token_total",
        "Links that report who followed them, in messages as received"
    );
    describe_counter!(
        "pixelward_opaque_images_kept_total",
        "Images with an address that could identify the reader and no other sign of tracking; they were left"
    );
    describe_counter!(
        "pixelward_identifying_images_total",
        "Visible images that identify the reader, by what was done"
    );
    describe_counter!(
        "pixelward_groups_joined_total",
        "Messages that needed more different copies than max_groups, so that some recipients shared a \
         stripped one"
    );
    describe_counter!(
        "pixelward_next_hop_rate_limited_total",
        "Transactions deferred because messages_per_minute of a next hop was reached"
    );
    describe_counter!(
        "pixelward_notifications_total",
        "Reports to senders about recipients whose copy was rejected while others' were accepted"
    );
    describe_gauge!(
        "pixelward_ledger_entries",
        "Copies that the delivery ledger remembers until a retry, or for six days"
    );
    describe_histogram!(
        "pixelward_station_seconds",
        metrics::Unit::Seconds,
        "Time at one station: analyse, decide (including the lookup), rewrite (including second scan and \
         signature), sign, record"
    );
    describe_histogram!(
        "pixelward_enforce_seconds",
        metrics::Unit::Seconds,
        "Time to analyse, decide and rewrite a message"
    );
    describe_histogram!(
        "pixelward_deliver_seconds",
        metrics::Unit::Seconds,
        "Time to hand a message to the next hop"
    );
}

/// What a relay says of itself as one of several.
fn describe_cluster() {
    use metrics::{describe_counter, describe_gauge};

    describe_gauge!("pixelward_cluster_fresh", "1 while this relay hears the others, and grants count");
    describe_gauge!(
        "pixelward_cluster_durable",
        "1 while the servers of the cluster promise that what they acknowledge is on disk"
    );
    describe_gauge!(
        "pixelward_cluster_untold",
        "Withdrawals and erasures that hold here and that the other relays were not told yet"
    );
    describe_gauge!(
        "pixelward_cluster_other_rules",
        "Relays that have gone by other rules than this one for five minutes"
    );
    describe_gauge!("pixelward_cluster_keys", "1 while the keys that messages need this week are here");
    describe_counter!(
        "pixelward_cluster_stops_total",
        "Times that a missing message, or a journal that differs, stopped granting here"
    );
}

/// How often samples are sorted into their buckets. Until then each uses memory, whether or not anybody asks
/// for metrics.
const SORTED_EVERY: Duration = Duration::from_secs(5);

/// Sorts samples, for ever.
pub async fn sort(handle: PrometheusHandle) {
    let mut turns = tokio::time::interval(SORTED_EVERY);
    loop {
        turns.tick().await;
        handle.run_upkeep();
    }
}

/// What the private listener serves.
#[derive(Clone)]
struct Shown {
    handle: PrometheusHandle,
    host: Arc<dyn Host>,
}

/// Serves `/metrics` and `/healthz`.
///
/// # Errors
///
/// When the address is not available.
pub fn serve(
    listener: TcpListener,
    access: &PrivateAccess,
    handle: PrometheusHandle,
    host: Arc<dyn Host>,
) -> io::Result<impl Future<Output = ()> + use<>> {
    let token = access.token_file.as_deref().map(token).transpose()?;
    let networks: Arc<[Network]> = access.networks.clone().into();
    let metrics = get(metrics_page).layer(middleware::from_fn_with_state(token.map(Arc::from), with_token));
    let routes = Router::new()
        .route("/metrics", metrics)
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(Shown { handle, host })
        .layer(middleware::from_fn_with_state(networks, from_networks))
        .into_make_service_with_connect_info::<SocketAddr>();
    Ok(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "metrics are not served any more");
        }
    })
}

/// Reads the token that the metrics need.
fn token(path: &Path) -> io::Result<String> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if is_open_to_others(path, &std::fs::metadata(path).map_err(named)?) {
        return Err(io::Error::other(format!("{}: others may read it; run chmod 600 on it", path.display())));
    }
    let text = std::fs::read_to_string(path).map_err(named)?;
    match text.trim() {
        "" => Err(io::Error::other(format!("{}: there is no token in it", path.display()))),
        token => Ok(token.to_owned()),
    }
}

/// Answers only those in a listed network, and this machine; everybody if there is no list.
async fn from_networks(
    State(networks): State<Arc<[Network]>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let address = peer.ip().to_canonical();
    let is_listed = networks.is_empty() || networks.iter().any(|network| network.contains(address));
    if address.is_loopback() || is_listed {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "this address is not in private.networks\n").into_response()
    }
}

/// Answers only who shows the token, if there is one.
async fn with_token(State(token): State<Option<Arc<str>>>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let shown = shown.and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default();
    let is_right = |token: &Arc<str>| constant_time::verify_slices_are_equal(shown, token.as_bytes()).is_ok();
    if token.as_ref().is_none_or(is_right) {
        next.run(request).await
    } else {
        let wanted = [(header::WWW_AUTHENTICATE, "Bearer")];
        (StatusCode::UNAUTHORIZED, wanted, "the token of private.token_file is needed\n").into_response()
    }
}

async fn metrics_page(State(shown): State<Shown>) -> String {
    page(&shown.handle, &*shown.host)
}

/// Returns the current metrics in Prometheus format.
pub fn page(handle: &PrometheusHandle, host: &dyn Host) -> String {
    let (held, most) = host.held_bytes();
    metrics::gauge!("pixelward_in_flight_bytes").set(held as f64);
    metrics::gauge!("pixelward_in_flight_limit_bytes").set(most as f64);
    handle.render()
}

/// Returns whether consent can be looked up and audit records are kept.
async fn ready(State(shown): State<Shown>) -> (StatusCode, String) {
    match shown.host.trouble() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(trouble) => (StatusCode::SERVICE_UNAVAILABLE, format!("{trouble}\n")),
    }
}
