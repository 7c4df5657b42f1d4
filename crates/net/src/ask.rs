//! Asks a service one question in JSON: verified TLS, or clear text on this machine; no redirects, within limits.

use std::path::Path;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HeaderMap};
use hyper::{Request, Uri};
use tokio::time::timeout;

use super::line::{Endpoint, Reply};

/// A service.
pub struct Service {
    endpoint: Endpoint,
    path: String,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Service({:?})", self.endpoint)
    }
}

impl Service {
    /// Creates a service at this URL.
    ///
    /// # Errors
    ///
    /// When it is no URL, or certificates cannot be loaded.
    pub fn new(url: &str, ca_file: Option<&Path>) -> Result<Service, String> {
        let uri: Uri = url.parse().map_err(|_| format!("{url:?} is not a web address"))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Service { endpoint: Endpoint::of(url, ca_file)?, path })
    }

    /// Posts a question. The answer must have status 200 and at most `most` bytes, within `limit`.
    ///
    /// # Errors
    ///
    /// When it does not, or the service cannot be reached.
    pub async fn ask(&self, question: String, most: usize, limit: Duration) -> Result<Bytes, String> {
        let reply = self.reply(question, HeaderMap::new(), most, limit).await?;
        if reply.status != 200 {
            return Err(format!("it answered {}", reply.status));
        }
        Ok(reply.body)
    }

    /// Posts a question with more header fields, and returns the answer whatever its status is.
    ///
    /// # Errors
    ///
    /// When there is none within `limit`, it is longer than `most` bytes, or the service cannot be reached.
    pub async fn reply(
        &self,
        question: String,
        headers: HeaderMap,
        most: usize,
        limit: Duration,
    ) -> Result<Reply, String> {
        let answered = timeout(limit, self.exchange(question, headers, most)).await;
        answered.map_err(|_| format!("it took more than {} ms", limit.as_millis()))?
    }

    async fn exchange(&self, question: String, headers: HeaderMap, most: usize) -> Result<Reply, String> {
        let mut request = Request::post(self.path.as_str())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .header(CONNECTION, "close")
            .body(Full::new(Bytes::from(question)))
            .map_err(|error| error.to_string())?;
        request.headers_mut().extend(headers);
        self.endpoint.connect().await?.ask(request, most).await
    }
}
