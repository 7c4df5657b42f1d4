//! Everything that an authority may ask about a controller, in one archive.

use std::io::{self, Write};

use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, HeaderValue};

use super::{Answered, Call, typed};
use crate::consent::Timestamp;
use crate::problem::Problem;
use crate::record::archive::{self, ArchiveError, Sources, Wanted};

/// The maximum size of an archive that is sent, in bytes. Larger ones are made by the command.
const MAX_ARCHIVE: usize = 48 << 20;

/// Bytes up to a limit.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_ARCHIVE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) async fn made(call: Call) -> Answered {
    let (mut since, mut until) = (None, None);
    for (name, value) in call.query(&["since", "until"])? {
        let day = Timestamp::parse(&value).ok().filter(|_| value.len() == 10);
        let day =
            day.ok_or_else(|| Problem::malformed(format!("{name}: expected a day such as 2026-11-24")))?;
        match name.as_str() {
            "since" => since = Some(day),
            // The last day is included.
            _ => until = Some(day.plus_days(1)),
        }
    }
    let controller = call.controller()?.clone();
    let name = format!("pixelward-{controller}.tar.gz");
    let wanted = Wanted { controller: Some(controller), since, until };
    let (api, live, now) = (call.api.clone(), call.live.clone(), call.now);
    let _turn = call.api.searches.acquire().await.map_err(|_| Problem::internal())?;
    let work = move || {
        let sources = Sources {
            evidence: &live.config.evidence.directory,
            consent: &live.config.consent.directory,
            trail: api.trail.directory(),
            store_key: api.store.store_key(),
        };
        let mut out = Bounded(Vec::new());
        archive::write(&mut out, sources, &wanted, now).map(|_| out.0)
    };
    let made = tokio::task::spawn_blocking(work).await.map_err(|_| Problem::internal())?;
    let bytes = made.map_err(|error| match &error {
        ArchiveError::Write(cause) if cause.kind() == io::ErrorKind::FileTooLarge => Problem::conflict(
            "archive-too-large",
            "The archive is too large to be sent. Choose a shorter period, or use the command pixelward \
             evidence archive",
        ),
        _ => {
            tracing::error!(%error, "an archive cannot be made");
            Problem::unavailable("The archive cannot be made; the log says why")
        }
    })?;
    let mut response = typed(StatusCode::OK, "application/gzip", bytes);
    let disposition = HeaderValue::try_from(format!("attachment; filename=\"{name}\""));
    response.headers_mut().insert(CONTENT_DISPOSITION, disposition.map_err(|_| Problem::internal())?);
    Ok(response)
}
