//! The error responses of an API: problem details (RFC 9457).
//!
//! Promised: no response repeats an address. What a client wrote is not quoted, and anything that still looks
//! like an address is left out.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::consent::StoreError;
use crate::consent::import::UNCONFIRMED;

/// An error.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// Problem details (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemDetails {
    /// The problem type: `urn:pixelward:problem:` and a word.
    #[serde(rename = "type")]
    kind: String,
    /// The problem type for people.
    title: String,
    /// The HTTP status.
    status: u16,
    /// The problem at hand. Names fields, never their values.
    detail: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.title, self.detail)
    }
}

impl Problem {
    fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Problem {
        Problem { status, kind, title, detail: without_addresses(&detail.into()), headers: Vec::new() }
    }

    /// 400: the request does not match the description of the API.
    pub fn malformed(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "malformed", "Malformed request", detail)
    }

    /// 401: a missing or invalid token. The reason is withheld from whoever may be guessing.
    pub fn unauthorised() -> Problem {
        let detail = "Send a valid token: Authorization: Bearer pxw_…";
        let mut problem =
            Problem::new(StatusCode::UNAUTHORIZED, "unauthorised", "Missing or invalid token", detail);
        problem.headers.push((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"pixelward\"")));
        problem
    }

    /// 403: the token lacks a scope or a controller.
    pub fn forbidden(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "forbidden", "Insufficient scope", detail)
    }

    /// 404: not found.
    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// 405: the method is not allowed here.
    pub fn method_not_allowed() -> Problem {
        let detail = "The Allow field of this response lists the allowed methods";
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed", detail)
    }

    /// 406: none of the available formats is acceptable.
    pub fn not_acceptable(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", "Not acceptable", detail)
    }

    /// 408: the request did not arrive in time.
    pub fn too_slow() -> Problem {
        Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "too-slow",
            "Request timeout",
            "The body did not arrive in time",
        )
    }

    /// 409: a conflict with the current state.
    pub fn conflict(kind: &'static str, detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, kind, "Conflict with the current state", detail)
    }

    /// 412: the current state is not the one that If-Match names.
    pub fn changed_meanwhile() -> Problem {
        Problem::new(
            StatusCode::PRECONDITION_FAILED,
            "changed-meanwhile",
            "Precondition failed",
            "The consent has changed: its ETag is not the one in If-Match or If-None-Match. Look it up again",
        )
    }

    /// 413: the body is too large.
    pub fn too_large(limit: usize) -> Problem {
        let detail = format!("The body may have at most {limit} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Body too large", detail)
    }

    /// 415: the body has an unsupported type.
    pub fn wrong_type(wanted: &str) -> Problem {
        let detail = format!("Content-Type: expected {wanted}");
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "wrong-type", "Unsupported content type", detail)
    }

    /// 422: the idempotency key was used for something else.
    pub fn key_reused() -> Problem {
        Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency-key-reused",
            "The Idempotency-Key was used for a different request",
            "Use a new key for each request; the same key means a repetition",
        )
    }

    /// 409: another relay of the cluster was asked the same.
    pub fn done_elsewhere() -> Problem {
        Problem::conflict(
            "done-elsewhere",
            "Another relay has taken a request with this Idempotency-Key, and keeps its answer. Ask for what holds \
             now, or send the request to that relay",
        )
    }

    /// 429: too many requests.
    pub fn too_many(seconds: u64) -> Problem {
        let mut problem = Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-requests",
            "Too many requests with this token",
            format!("Try again in {seconds} s"),
        );
        problem.headers.push((RETRY_AFTER, HeaderValue::from(seconds)));
        problem
    }

    /// 500: an internal error. Details are in the log.
    pub fn internal() -> Problem {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Internal error",
            "See the log of the relay",
        )
    }

    /// 503: not available now.
    pub fn unavailable(detail: impl Into<String>) -> Problem {
        let mut problem =
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Service unavailable", detail);
        problem.headers.push((RETRY_AFTER, HeaderValue::from_static("5")));
        problem
    }

    /// 504: the other relays did not confirm a change in time.
    pub fn unconfirmed() -> Problem {
        let title = "The outcome is unknown";
        Problem::new(StatusCode::GATEWAY_TIMEOUT, "outcome-unknown", title, UNCONFIRMED)
    }

    /// 507: the disk is full.
    pub fn full() -> Problem {
        let mut problem = Problem::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "disk-full",
            "The disk of the consent store is full",
            "Nothing was recorded; earlier records are safe",
        );
        problem.headers.push((RETRY_AFTER, HeaderValue::from_static("30")));
        problem
    }

    /// Returns the status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the problem for one line of an import.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Builds the response.
    pub fn response(self) -> Response<Body> {
        let details = ProblemDetails {
            kind: format!("urn:pixelward:problem:{}", self.kind),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
        };
        let body = serde_json::to_vec(&details).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(self.headers);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        match (&error, error.kind()) {
            (_, StorageFull | QuotaExceeded) => Problem::full(),
            (StoreError::Closed, _) => Problem::unavailable("The consent store accepts no more writes"),
            _ => {
                tracing::error!(%error, "an API request failed");
                Problem::internal()
            }
        }
    }
}

/// Removes every word that could be an address from a text.
pub fn without_addresses(text: &str) -> String {
    if !text.contains('@') {
        return text.to_owned();
    }
    let cleaned = |word: &str| if word.contains('@') { "[…]".to_owned() } else { word.to_owned() };
    text.split(' ').map(cleaned).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_is_repeated() {
        for text in ["state: \"ann@home.example\" is none", "ann@home.example", "a \"ann b\"@home.example c"]
        {
            let said = Problem::malformed(text);
            assert!(!said.detail().contains("home.example"), "{}", said.detail());
        }
        assert_eq!(Problem::malformed("limit: a number").detail(), "limit: a number");
    }

    #[test]
    fn a_full_disk_and_a_closed_store_are_told_apart() {
        let full = |kind: std::io::ErrorKind| {
            let source = std::io::Error::new(kind, "disk");
            Problem::from(StoreError::Io { what: "not recorded".to_owned(), source }).status().as_u16()
        };
        assert_eq!(full(std::io::ErrorKind::StorageFull), 507);
        assert_eq!(full(std::io::ErrorKind::QuotaExceeded), 507);
        assert_eq!(full(std::io::ErrorKind::PermissionDenied), 500);
        assert_eq!(Problem::from(StoreError::Closed).status().as_u16(), 503);
    }
}
