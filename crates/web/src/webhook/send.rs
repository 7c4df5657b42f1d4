//! Sends one request to a receiver: signed, over verified TLS, without following redirects.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONNECTION, CONTENT_TYPE};
use hyper::{Request, Uri};
use tokio::time::timeout;

use crate::net::line::Endpoint;

/// The total time allowed for a receiver.
const PATIENCE: Duration = Duration::from_secs(30);

/// A receiver.
pub(super) struct Receiver {
    endpoint: Endpoint,
    path: String,
    key: hmac::Key,
}

impl Receiver {
    /// Creates a receiver for this URL.
    pub(super) fn new(url: &str, secret: &[u8], ca_file: Option<&Path>) -> Result<Receiver, String> {
        let uri: Uri = url.parse().map_err(|_| format!("api.webhook.url {url:?} is not a web address"))?;
        let endpoint = Endpoint::of(url, ca_file).map_err(|error| format!("api.webhook: {error}"))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Receiver { endpoint, path, key: hmac::Key::new(hmac::HMAC_SHA256, secret) })
    }

    /// Sends a body. Only a 2xx response means that it was accepted.
    pub(super) async fn send(&self, body: String) -> Result<(), String> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let sent = timeout(PATIENCE, self.exchange(body, since.as_secs())).await;
        sent.map_err(|_| format!("it took more than {} s", PATIENCE.as_secs()))?
    }

    async fn exchange(&self, body: String, now: u64) -> Result<(), String> {
        let request = Request::post(self.path.as_str())
            .header(CONTENT_TYPE, "application/json")
            .header(CONNECTION, "close")
            .header("pixelward-signature", signature(&self.key, now, body.as_bytes()))
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        // The rest of the response is not read, so that the receiver cannot keep us busy.
        match self.endpoint.connect().await?.status(request).await? {
            200..=299 => Ok(()),
            other => Err(format!("it answered {other}")),
        }
    }
}

/// Computes the HMAC-SHA-256 under the secret of the time in seconds since 1970, a dot and the body.
fn signature(key: &hmac::Key, now: u64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(format!("{now}.").as_bytes());
    context.update(body);
    let tag: String = context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={now},v1={tag}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_moment_and_the_body() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        // printf '1.{}' | openssl dgst -sha256 -hmac key
        let expected = "t=1,v1=1ba6b8171186efc613e8bcc0cbdab2748f24984d7c5a84faa2637afa0e40d224";
        assert_eq!(signature(&key, 1, b"{}"), expected);
        assert_ne!(signature(&key, 2, b"{}"), expected);
    }
}
