//! What an API answers when it cannot do what it is asked: problem details (RFC 9457).
//!
//! Promised: no answer repeats an address. What a caller wrote is not quoted, and whatever still looks like an address is left out.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::consent::StoreError;

/// What went wrong.
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
    /// Which problem it is: `urn:pixelward:problem:` and a word.
    #[serde(rename = "type")]
    kind: String,
    /// The same for people.
    title: String,
    /// The status of the answer.
    status: u16,
    /// What is wrong here. Names fields, never what stands in them.
    detail: String,
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

    /// 400: the request is not what the description of the API says.
    pub fn malformed(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "malformed", "The request is malformed", detail)
    }

    /// 401: no token, or none that counts. Why is not said to those who may be guessing.
    pub fn unauthorised() -> Problem {
        let detail = "Send a token that is in force: Authorization: Bearer pxw_…";
        let mut problem =
            Problem::new(StatusCode::UNAUTHORIZED, "unauthorised", "Missing or invalid token", detail);
        problem.headers.push((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"pixelward\"")));
        problem
    }

    /// 403: the token lacks a scope or a controller.
    pub fn forbidden(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "forbidden", "Insufficient scope", detail)
    }

    /// 404: there is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// 405: the thing is there, and does not know the method.
    pub fn method_not_allowed() -> Problem {
        let detail = "The Allow field of this answer names the methods there are";
        Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "The method is not allowed here",
            detail,
        )
    }

    /// 406: none of the forms there are is wanted.
    pub fn not_acceptable(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", "Not acceptable", detail)
    }

    /// 408: the request did not come in time.
    pub fn too_slow() -> Problem {
        Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "too-slow",
            "The request took too long",
            "The body did not come in time",
        )
    }

    /// 409: it does not go with what stands.
    pub fn conflict(kind: &'static str, detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, kind, "It does not go with what stands", detail)
    }

    /// 412: something else stands than If-Match says.
    pub fn changed_meanwhile() -> Problem {
        Problem::new(
            StatusCode::PRECONDITION_FAILED,
            "changed-meanwhile",
            "Something else stands than was asked for",
            "The consent has another ETag than If-Match or If-None-Match wants; look it up again",
        )
    }

    /// 413: the body is too large.
    pub fn too_large(limit: usize) -> Problem {
        let detail = format!("The body may have {limit} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large", detail)
    }

    /// 415: the body is of another type.
    pub fn wrong_type(wanted: &str) -> Problem {
        let detail = format!("Content-Type: expected {wanted}");
        Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "wrong-type",
            "The body is of a type that is not read here",
            detail,
        )
    }

    /// 422: the idempotency key was used for something else.
    pub fn key_reused() -> Problem {
        Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency-key-reused",
            "The Idempotency-Key was used for another request",
            "Each request has a key of its own; the same key means the same request once more",
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

    /// 500: a fault of ours. What it is stands in the log.
    pub fn internal() -> Problem {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Internal error",
            "The log of the relay says what it is",
        )
    }

    /// 503: not now.
    pub fn unavailable(detail: impl Into<String>) -> Problem {
        let mut problem =
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Service unavailable", detail);
        problem.headers.push((RETRY_AFTER, HeaderValue::from_static("5")));
        problem
    }

    /// 507: the disk is full.
    pub fn full() -> Problem {
        let mut problem = Problem::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "disk-full",
            "The disk of the consent store is full",
            "Nothing was recorded; what was recorded before is safe",
        );
        problem.headers.push((RETRY_AFTER, HeaderValue::from_static("30")));
        problem
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What is wrong, for one line of an import.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The answer.
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
            (StoreError::Closed, _) => Problem::unavailable("The consent store takes no more writes"),
            _ => {
                tracing::error!(%error, "a request to the API failed");
                Problem::internal()
            }
        }
    }
}

/// The text without any word that could be an address.
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
