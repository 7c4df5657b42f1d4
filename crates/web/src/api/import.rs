//! Imports: one JSON object per line in, one result per line out, in bounded memory.
//!
//! Lines are made durable in groups. Further lines are read once the results of earlier ones have been
//! consumed, so a client that writes but never reads is stopped and finally disconnected.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::{Answered, Api, Call, typed};
use crate::consent::Controller;
use crate::consent::import::{Prepared, Row, RowResult, json_row};
use crate::problem::{Problem, without_addresses};

/// The number of rows that are made durable together.
const GROUP: usize = 500;
/// The maximum number of bytes in such a group, except for its last line.
const GROUP_BYTES: usize = 1 << 20;
/// The longest line, in bytes.
const MAX_LINE: usize = 64 * 1024;
/// How long rows wait for others to join them.
const COMPANY: Duration = Duration::from_millis(50);
/// The number of groups of results that may wait to be sent.
const AHEAD: usize = 2;

/// A line of an import. docs/consent.md lists all columns; every value is a text, a number, a flag or a list
/// of texts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Line {
    /// The person's mail address.
    address: String,
    /// One of never_asked, asked, granted, refused, withdrawn and objected.
    state: String,
    /// When it was said.
    event_time: String,
    /// A reference to the proof of consent.
    evidence: Option<String>,
    /// The purposes concerned; by default, all that need consent, and of a yes those about opens.
    purposes: Option<Vec<String>>,
    /// The controller's name for the person.
    external_id: Option<String>,
}

/// The result of a line.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ImportResult {
    /// The line number, starting at 1.
    line: u64,
    /// One of recorded, recorded_without_grant, stale, superseded_by_withdrawal,
    /// holds_here and failed.
    result: &'static str,
    /// The number of the record in the journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<u64>,
    /// The time it was recorded with, if the claimed time was ahead of the relay's clock or earlier than the
    /// current state.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    recorded_as_of: Option<String>,
    /// The reason if the line was not recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl ImportResult {
    /// Returns whether the line failed because of an error in it.
    pub(super) fn is_failure(&self) -> bool {
        self.result == "failed"
    }

    /// The result of a row.
    pub(super) fn of(line: u64, result: RowResult) -> ImportResult {
        let mut recorded_as_of = None;
        let (result, record, detail) = match result {
            RowResult::Recorded(number) => ("recorded", Some(number), None),
            RowResult::RecordedWithoutGrant(number) => ("recorded_without_grant", Some(number), None),
            RowResult::Moved { record, event_time } => {
                recorded_as_of = Some(event_time);
                ("recorded", Some(record), None)
            }
            RowResult::Stale => ("stale", None, None),
            RowResult::SupersededByWithdrawal => ("superseded_by_withdrawal", None, None),
            RowResult::HoldsHere => ("holds_here", None, None),
            RowResult::Failed(error) => ("failed", None, Some(without_addresses(&error))),
        };
        ImportResult { line, result, record, recorded_as_of, detail }
    }
}

/// The summary of an import; the last line of the response.
#[derive(Debug, Default, Serialize)]
struct Summary {
    lines: u64,
    recorded: u64,
    recorded_without_grant: u64,
    stale: u64,
    superseded_by_withdrawal: u64,
    holds_here: u64,
    failed: u64,
    /// The reason if the remaining lines were not processed.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<String>,
}

impl Summary {
    fn add(&mut self, result: &ImportResult) {
        self.lines += 1;
        *match result.result {
            "recorded" => &mut self.recorded,
            "recorded_without_grant" => &mut self.recorded_without_grant,
            "stale" => &mut self.stale,
            "superseded_by_withdrawal" => &mut self.superseded_by_withdrawal,
            "holds_here" => &mut self.holds_here,
            _ => &mut self.failed,
        } += 1;
    }
}

pub(super) async fn import(mut call: Call) -> Answered {
    let mut shows_all = true;
    for (_, value) in call.query(&["results"])? {
        shows_all = match value.as_str() {
            "all" => true,
            "problems" => false,
            _ => return Err(Problem::malformed("results: expected all or problems")),
        };
    }
    let body = call.stream.get_mut().ok().and_then(Option::take).ok_or_else(Problem::internal)?;
    let (results, answer) = Channel::<Bytes, Infallible>::new(AHEAD);
    let import = Import {
        controller: call.controller()?.clone(),
        actor: call.actor(),
        idle: call.live.config.api.idle_timeout,
        api: Arc::clone(&call.api),
        shows_all,
        results,
        number: 0,
        waiting: Vec::new(),
        size: 0,
        summary: Summary::default(),
    };
    tokio::spawn(import.run(body));
    Ok(typed(StatusCode::OK, "application/x-ndjson", Body::new(answer)))
}

/// An import in progress.
struct Import {
    api: Arc<Api>,
    controller: Controller,
    actor: String,
    idle: Duration,
    shows_all: bool,
    results: Sender<Bytes, Infallible>,
    /// The number of the line read last.
    number: u64,
    /// Rows to be made durable and lines that failed, in order.
    waiting: Vec<(u64, Result<Row, String>)>,
    /// The number of bytes in the waiting lines.
    size: usize,
    summary: Summary,
}

/// The reason why an import stops early.
enum Stop {
    /// The client does not read the results.
    Deaf,
    /// An error that is reported to the client.
    Said(String),
}

impl Import {
    async fn run(mut self, body: Body) {
        let stop = self.lines(body).await;
        let stopped = match stop {
            Ok(()) => None,
            Err(Stop::Said(text)) => Some(text),
            Err(Stop::Deaf) => {
                tracing::debug!(lines = self.number, "an import ended because its results were not read");
                return;
            }
        };
        self.summary.stopped = stopped;
        let mut text =
            serde_json::to_vec(&serde_json::json!({ "summary": self.summary })).unwrap_or_default();
        text.push(b'\n');
        let _ = self.send(text).await;
    }

    async fn lines(&mut self, mut body: Body) -> Result<(), Stop> {
        let mut buffer = BytesMut::new();
        loop {
            let patience = if self.waiting.is_empty() { self.idle } else { COMPANY };
            match timeout(patience, body.frame()).await {
                Err(_) if self.waiting.is_empty() => {
                    return Err(Stop::Said("no line arrived in time".to_owned()));
                }
                Err(_) => self.record().await?,
                Ok(None) => break,
                Ok(Some(Err(_))) => return Err(Stop::Said("the body is incomplete".to_owned())),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.take(&mut buffer, &data).await?;
                    }
                }
            }
        }
        if !buffer.is_empty() {
            self.line(&buffer);
        }
        self.record().await
    }

    /// Takes in a chunk of the body, and the lines that it completes.
    async fn take(&mut self, buffer: &mut BytesMut, data: &[u8]) -> Result<(), Stop> {
        let mut rest = data;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, tail) = rest.split_at(end);
            rest = tail.get(1..).unwrap_or_default();
            if buffer.is_empty() {
                self.line(line);
            } else {
                buffer.extend_from_slice(line);
                self.line(buffer);
                buffer.clear();
            }
            if self.waiting.len() >= GROUP || self.size >= GROUP_BYTES {
                self.record().await?;
            }
        }
        buffer.extend_from_slice(rest);
        if buffer.len() > MAX_LINE {
            self.number += 1;
            self.record().await?;
            return Err(Stop::Said(format!("line {} has more than {MAX_LINE} bytes", self.number)));
        }
        Ok(())
    }

    /// Reads a line. An empty line is skipped.
    fn line(&mut self, line: &[u8]) {
        self.number += 1;
        if line.trim_ascii().is_empty() {
            return;
        }
        let read = match std::str::from_utf8(line) {
            Ok(_) if line.len() > MAX_LINE => Err(format!("the line has more than {MAX_LINE} bytes")),
            Ok(text) => json_row(text).and_then(|row| own_row(row, &self.controller, &self.actor)),
            Err(_) => Err("the line is not UTF-8".to_owned()),
        };
        self.size += line.len();
        self.waiting.push((self.number, read));
    }

    /// Makes the waiting rows durable, and reports their results.
    async fn record(&mut self) -> Result<(), Stop> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let waiting = std::mem::take(&mut self.waiting);
        self.size = 0;
        let rows: Vec<Row> = waiting.iter().filter_map(|(_, row)| row.as_ref().ok().cloned()).collect();
        let recorded = apply(&self.api, &self.controller, &rows).await;
        let mut recorded = recorded.map_err(|error| Stop::Said(error.detail().to_owned()))?.into_iter();
        let mut text = Vec::new();
        for (number, row) in waiting {
            let result = match row {
                Ok(_) => recorded.next().unwrap_or(RowResult::Failed("the store did not respond".to_owned())),
                Err(error) => RowResult::Failed(error),
            };
            let result = ImportResult::of(number, result);
            self.summary.add(&result);
            if self.shows_all || result.record.is_none() {
                serde_json::to_writer(&mut text, &result).map_err(|error| Stop::Said(error.to_string()))?;
                text.push(b'\n');
            }
        }
        if text.is_empty() { Ok(()) } else { self.send(text).await }
    }

    async fn send(&mut self, text: Vec<u8>) -> Result<(), Stop> {
        match timeout(self.idle, self.results.send_data(text.into())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Stop::Deaf),
        }
    }
}

/// Builds a row of this controller; a row cannot name another one.
pub(super) fn own_row(mut row: Row, controller: &Controller, actor: &str) -> Result<Row, String> {
    if !row.controller.is_empty() && row.controller != controller.as_str() {
        return Err("controller: differs from the controller in the path".to_owned());
    }
    if row.actor.trim().is_empty() {
        row.actor = actor.to_owned();
    }
    Ok(row)
}

/// Makes rows durable.
pub(super) async fn apply(
    api: &Api,
    controller: &Controller,
    rows: &[Row],
) -> Result<Vec<RowResult>, Problem> {
    let mut prepared = Prepared::of(&api.store, controller, rows);
    let changes = std::mem::take(&mut prepared.changes);
    if changes.is_empty() {
        return Ok(prepared.results(Vec::new()));
    }
    let applied =
        api.write(|store, done| store.record_later(changes, move |applied| drop(done.send(applied)))).await?;
    Ok(prepared.results(applied))
}
