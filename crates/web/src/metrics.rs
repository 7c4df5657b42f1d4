//! Metrics and health, for this machine alone.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;

use crate::live::Host;
use crate::smtp::reply::Class;

/// Starts counting.
///
/// # Errors
///
/// When something counts already.
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

/// Counters that alarms ask about begin at zero. To Prometheus, one that first appears as 1 has not grown, and the first fault would go
/// unnoticed.
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
    for result in ["right", "wrong", "refused", "busy"] {
        metrics::counter!("pixelward_logins_total", "result" => result).increment(0);
    }
}

/// Those without labels.
const FROM_ZERO: &[&str] = &[
    "pixelward_accept_errors_total",
    "pixelward_connections_refused_total",
    "pixelward_groups_joined_total",
    "pixelward_next_hop_errors_total",
    "pixelward_session_panics_total",
    "pixelward_internal_errors_total",
    "pixelward_signatures_broken_total",
    "pixelward_store_errors_total",
    "pixelward_strict_rewrites_total",
    "pixelward_unreadable_messages_total",
    "pixelward_webhook_missed_total",
];

/// What times are sorted by, in seconds: 25 microseconds for one station of a small message up to the longest wait for a next hop.
const BUCKETS: &[f64] = &[
    0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
    0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 540.0,
];

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("pixelward_connections_total", "Connections accepted from clients");
    describe_counter!(
        "pixelward_connections_refused_total",
        "Connections turned away because there were too many"
    );
    describe_counter!(
        "pixelward_accept_errors_total",
        "Times that no connection could be accepted, for lack of open files most likely"
    );
    describe_counter!("pixelward_protocol_errors_total", "Commands that were malformed or out of order");
    describe_counter!("pixelward_tls_errors_total", "Clients with which TLS could not be started");
    describe_counter!(
        "pixelward_logins_total",
        "Logins by whether the password was right, wrong, or not looked at: too many were wrong, or waited"
    );
    describe_counter!(
        "pixelward_proxy_refused_total",
        "Connections dropped because they came from no trusted proxy or named no client"
    );
    describe_counter!(
        "pixelward_messages_held_back_total",
        "Messages put off because their client had sent too many within a minute"
    );
    describe_counter!("pixelward_messages_total", "Messages by what became of them");
    describe_counter!(
        "pixelward_messages_refused_total",
        "Messages refused for their size, their header, their line ends or lack of room"
    );
    describe_counter!(
        "pixelward_recipients_total",
        "Recipients of messages, by what was decided for them, controller, mailstream and version of the rules"
    );
    describe_counter!("pixelward_unmatched_messages_total", "Messages that no mailstream fits");
    describe_counter!(
        "pixelward_swaps_stripped_total",
        "Recipients whose trackers were to be swapped and were taken out, by reason"
    );
    describe_counter!(
        "pixelward_trackers_swapped_total",
        "Trackers that lead to an address of ours in copies that left"
    );
    describe_counter!(
        "pixelward_consent_requests_total",
        "Recipients of mail that asks for consent, by whether they were asked, or the question or the mail came too early"
    );
    describe_counter!("pixelward_trackers_found_total", "Trackers found, by carrier");
    describe_counter!("pixelward_trackers_removed_total", "Trackers taken out of copies that left");
    describe_counter!(
        "pixelward_strict_rewrites_total",
        "Messages from which every remote request was taken, since a scan of the result was not clean"
    );
    describe_counter!(
        "pixelward_unreadable_messages_total",
        "Messages that did not leave because they could not be analysed"
    );
    describe_counter!("pixelward_signatures_broken_total", "DKIM signatures that an edit would have broken");
    describe_counter!("pixelward_signed_total", "Copies that were signed with a key of ours");
    describe_counter!(
        "pixelward_signatures_withheld_total",
        "Copies that were not signed since the keys of their domain belong to other controllers"
    );
    describe_counter!("pixelward_protected_total", "Messages with a tracker in a signed or encrypted part");
    describe_counter!(
        "pixelward_store_errors_total",
        "Look-ups of consent that failed and counted as refused"
    );
    describe_gauge!(
        "pixelward_consent_store_sound",
        "1 where the last daily look through the consent store found nothing wrong"
    );
    describe_counter!("pixelward_evidence_records_total", "Records of evidence that were written");
    describe_counter!(
        "pixelward_evidence_lost_total",
        "Records of evidence that were lost, by why: the queue was full, or they could not be written"
    );
    describe_counter!("pixelward_next_hop_errors_total", "Times the next hop could not be used");
    describe_counter!(
        "pixelward_internal_errors_total",
        "Messages that could not be treated as decided because of an internal error"
    );
    describe_counter!("pixelward_session_panics_total", "Sessions lost to an internal error");
    describe_gauge!(
        "pixelward_certificate_expiry_timestamp_seconds",
        metrics::Unit::Seconds,
        "When the certificate of a listener ends, in seconds since 1970"
    );
    describe_gauge!("pixelward_in_flight_bytes", metrics::Unit::Bytes, "Bytes of messages held");
    describe_gauge!(
        "pixelward_in_flight_limit_bytes",
        metrics::Unit::Bytes,
        "The most bytes of messages that may be held"
    );
    describe_counter!(
        "pixelward_links_with_token_total",
        "Links that report who followed them, in messages as they came"
    );
    describe_counter!(
        "pixelward_opaque_images_kept_total",
        "Pictures with an address that could tell readers apart and no other sign of tracking; they were left"
    );
    describe_counter!(
        "pixelward_identifying_images_total",
        "Pictures that are there to be seen and tell readers apart, by what was done"
    );
    describe_counter!(
        "pixelward_groups_joined_total",
        "Messages with more kinds of copies than max_groups, so that some people shared a stripped one"
    );
    describe_counter!(
        "pixelward_next_hop_rate_limited_total",
        "Transactions put off because messages_per_minute of a next hop was reached"
    );
    describe_counter!(
        "pixelward_notifications_total",
        "Reports to senders about recipients whose copy was rejected while others' were taken"
    );
    describe_gauge!(
        "pixelward_ledger_entries",
        "Copies that the delivery ledger remembers until a retry or six days"
    );
    describe_histogram!(
        "pixelward_station_seconds",
        metrics::Unit::Seconds,
        "Time at one station: analyse, decide (look up included), rewrite (second scan and signature included), sign, record"
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

/// How often samples are sorted into their buckets. Until then each takes memory, whether somebody asks for metrics or not.
const SORTED_EVERY: Duration = Duration::from_secs(5);

/// Sorts samples for ever.
pub async fn sort(handle: PrometheusHandle) {
    let mut turns = tokio::time::interval(SORTED_EVERY);
    loop {
        turns.tick().await;
        handle.run_upkeep();
    }
}

/// What the private listener shows.
#[derive(Clone)]
struct Shown {
    handle: PrometheusHandle,
    host: Arc<dyn Host>,
}

/// Serves `/metrics` and `/healthz`.
///
/// # Errors
///
/// When the address cannot be had.
pub async fn serve(address: SocketAddr, handle: PrometheusHandle, host: Arc<dyn Host>) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let routes = Router::new()
        .route("/metrics", get(metrics_page))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(Shown { handle, host });
    axum::serve(listener, routes).await
}

async fn metrics_page(State(shown): State<Shown>) -> String {
    page(&shown.handle, &*shown.host)
}

/// What is counted and measured by now, as Prometheus reads it.
pub fn page(handle: &PrometheusHandle, host: &dyn Host) -> String {
    let (held, most) = host.held_bytes();
    metrics::gauge!("pixelward_in_flight_bytes").set(held as f64);
    metrics::gauge!("pixelward_in_flight_limit_bytes").set(most as f64);
    handle.render()
}

/// Ready means that consent can be looked up and evidence is kept.
async fn ready(State(shown): State<Shown>) -> (StatusCode, String) {
    match shown.host.trouble() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(trouble) => (StatusCode::SERVICE_UNAVAILABLE, format!("{trouble}\n")),
    }
}
