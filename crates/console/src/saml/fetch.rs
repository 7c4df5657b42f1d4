//! Fetches an identity provider's metadata.

use std::time::Duration;

use hyper::{Method, Uri};

use crate::client::{ApiError, Client};
use crate::config::console::Metadata;

/// The maximum size of metadata, in bytes.
const MAX: u64 = 4 << 20;
/// The time limit for fetching it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Returns the text of the metadata.
pub(super) async fn metadata(source: &Metadata) -> Result<String, String> {
    match source {
        Metadata::File(path) => {
            let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
            let length = tokio::fs::metadata(path).await.map_err(|error| named(&error))?.len();
            if length > MAX {
                return Err(named(&format!("it is larger than {MAX} bytes")));
            }
            tokio::fs::read_to_string(path).await.map_err(|error| named(&error))
        }
        Metadata::Url(url, ca_file) => {
            let client = Client::to(url, ca_file.as_deref(), PATIENCE)?;
            let uri: Uri = url.parse().map_err(|_| format!("invalid web address {url:?}"))?;
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            let kinds = "application/samlmetadata+xml, application/xml, text/xml, */*;q=0.1";
            let answer = client.ask(Method::GET, path, kinds, None).await;
            let body = answer
                .map_err(|error| match error {
                    ApiError::Unreachable(why) => format!("{url}: {why}"),
                    ApiError::Refused { status, .. } => format!("{url}: the answer is {status}"),
                })?
                .body;
            if body.len() as u64 > MAX {
                return Err(format!("{url}: it is larger than {MAX} bytes"));
            }
            String::from_utf8(body.to_vec()).map_err(|_| format!("{url}: it is not UTF-8"))
        }
    }
}
