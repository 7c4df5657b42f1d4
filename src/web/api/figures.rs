//! What was decided and found, by day, from the counts that are written as evidence is.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Answered, Call, json};
use crate::consent::Timestamp;
use crate::record::statistics::hosts::HostRow;
use crate::record::statistics::{self, Counts};
use crate::web::problem::Problem;

/// The most days that are kept in memory: ten years.
const MAX_DAYS: usize = 3660;

/// The most hosts of unknown vendors that are listed.
const MAX_HOSTS: usize = 100;

/// What was counted, by day.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Figures {
    /// Whose.
    controller: String,
    /// The days that have counts, the oldest first.
    days: Vec<Day>,
}

/// The counts of a day.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Day {
    /// Which, by UTC.
    #[schema(format = Date)]
    day: String,
    /// Recipients of messages.
    recipients: Vec<Recipients>,
    /// Trackers, each counted once for each recipient.
    trackers: Vec<Trackers>,
    /// Both by hour; of today and yesterday alone.
    hours: Vec<Hour>,
}

/// The counts of an hour, of one kind.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Hour {
    /// Which, by UTC: 0 to 23.
    hour: u8,
    /// What was done.
    done: String,
    /// What became of it.
    result: String,
    /// How many recipients.
    recipients: u64,
    /// How many trackers.
    trackers: u64,
}

/// Recipients of one kind.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Recipients {
    /// Which kind of mail.
    mailstream: String,
    /// Why it was decided so.
    rule: String,
    /// What was decided.
    decided: String,
    /// What was done.
    done: String,
    /// What became of it.
    result: String,
    /// How many.
    count: u64,
}

/// Trackers of one kind.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Trackers {
    /// Which kind of mail.
    mailstream: String,
    /// Whose they are.
    vendor: String,
    /// In which kind of place.
    carrier: String,
    /// What was done.
    done: String,
    /// How many.
    count: u64,
}

/// Whose trackers were found.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Vendors {
    /// In the mail of which controller.
    controller: String,
    /// Those with the most trackers first; those of the catalogue of whom nothing was found come last.
    vendors: Vec<Vendor>,
    /// Where those report to whose vendor nobody knows, those with the most trackers first; 100 at most.
    unknown_hosts: Vec<UnknownHost>,
}

/// A host of trackers whose vendor nobody knows.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UnknownHost {
    /// The registrable domain, with one plain label before it where there is one; a star stands for whatever may have been made for one reader.
    host: String,
    /// How many trackers.
    count: u64,
    /// The first day with one.
    #[schema(format = Date)]
    first_day: String,
    /// The last day with one.
    #[schema(format = Date)]
    last_day: String,
}

/// A vendor.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Vendor {
    /// The name; `unknown` stands for trackers whose vendor nobody knows.
    name: String,
    /// Whether the catalogue has it.
    in_catalogue: bool,
    /// How many trackers were found.
    count: u64,
    /// How many of these in copies from which trackers were taken out.
    stripped: u64,
    /// The first day with one.
    #[schema(format = Date)]
    first_day: Option<String>,
    /// The last day with one.
    #[schema(format = Date)]
    last_day: Option<String>,
    /// In which kinds of places.
    carriers: BTreeMap<String, u64>,
    /// In which kinds of mail.
    mailstreams: BTreeMap<String, u64>,
}

/// Counts that were read, by day, with the mark of the file they were read from.
#[derive(Debug, Default)]
pub(super) struct Days(Mutex<BTreeMap<String, (Mark, Arc<Counts>)>>);

type Mark = (i64, i64, u64, u64);

impl Days {
    /// The counts of all days between these two, both included. A file is read again where it has changed.
    fn between(
        &self,
        directory: &Path,
        first: &str,
        last: &str,
    ) -> Result<Vec<(String, Arc<Counts>)>, String> {
        let days = statistics::days(directory).map_err(|error| error.to_string())?;
        let wanted = days.into_iter().filter(|day| day.as_str() >= first && day.as_str() <= last);
        wanted.map(|day| self.of(directory, &day).map(|counts| (day, counts))).collect()
    }

    fn of(&self, directory: &Path, day: &str) -> Result<Arc<Counts>, String> {
        let file = statistics::file_of(directory, day);
        let named = |error: std::io::Error| format!("{}: {error}", file.display());
        let metadata = std::fs::metadata(&file).map_err(named)?;
        let mark = (metadata.mtime(), metadata.mtime_nsec(), metadata.len(), metadata.ino());
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counts)) = known().get(day).filter(|(seen, _)| *seen == mark) {
            return Ok(Arc::clone(counts));
        }
        let counts = Arc::new(statistics::counts_of(&file)?);
        let mut known = known();
        known.insert(day.to_owned(), (mark, Arc::clone(&counts)));
        while known.len() > MAX_DAYS {
            known.pop_first();
        }
        Ok(counts)
    }
}

pub(super) async fn figures(call: Call) -> Answered {
    let (mut first, mut last) = (String::new(), "9999".to_owned());
    for (name, value) in call.query(&["since", "until"])? {
        if value.len() != 10 || Timestamp::parse(&value).is_err() {
            return Err(Problem::malformed(format!("{name}: expected a day such as 2026-11-24")));
        }
        match name.as_str() {
            "since" => first = value,
            _ => last = value,
        }
    }
    let controller = call.controller()?.to_string();
    let counted = counted(&call, first, last).await?;
    let yesterday: String = call.now.plus_days(-1).to_string().chars().take(10).collect();
    let days = counted.into_iter().map(|(day, counts)| {
        let has_hours = day >= yesterday;
        let day_of_all = Day::of(day, &counts, &controller);
        Day { hours: if has_hours { day_of_all.hours } else { Vec::new() }, ..day_of_all }
    });
    let days = days.filter(|day| !day.recipients.is_empty() || !day.trackers.is_empty()).collect();
    json(StatusCode::OK, &Figures { controller, days })
}

pub(super) async fn vendors(call: Call) -> Answered {
    call.query(&[])?;
    let controller = call.controller()?.to_string();
    let counted = counted(&call, String::new(), "9999".to_owned()).await?;
    let mut found: BTreeMap<String, Vendor> = BTreeMap::new();
    for name in call.live.detector.catalogue().vendors() {
        let vendor = found.entry(name.to_owned()).or_default();
        vendor.in_catalogue = true;
    }
    for (day, counts) in &counted {
        let of_it = counts.trackers.iter().filter(|(kind, _)| kind.controller == controller);
        for (kind, count) in of_it {
            let vendor = found.entry(kind.vendor.clone()).or_default();
            vendor.count += count;
            vendor.stripped += if kind.done == "strip" { *count } else { 0 };
            vendor.first_day.get_or_insert_with(|| day.clone());
            vendor.last_day = Some(day.clone());
            *vendor.carriers.entry(kind.carrier.clone()).or_default() += count;
            *vendor.mailstreams.entry(kind.mailstream.clone()).or_default() += count;
        }
    }
    let named = found.into_iter().map(|(name, vendor)| Vendor { name, ..vendor });
    let mut vendors: Vec<Vendor> = named.collect();
    vendors.sort_by_key(|vendor| std::cmp::Reverse(vendor.count));
    let unknown_hosts = unknown_hosts(&call, &controller).await?;
    json(StatusCode::OK, &Vendors { controller, vendors, unknown_hosts })
}

async fn unknown_hosts(call: &Call, controller: &str) -> Result<Vec<UnknownHost>, Problem> {
    let directory = call.live.config.evidence.directory.clone();
    let read = tokio::task::spawn_blocking(move || statistics::hosts::read(&directory)).await;
    let rows = read.map_err(|error| error.to_string()).and_then(|result| result).map_err(|error| {
        tracing::error!(%error, "the hosts of unknown vendors cannot be read");
        Problem::internal()
    })?;
    let mut hosts: Vec<UnknownHost> = rows
        .into_iter()
        .filter(|row| row.controller == controller)
        .map(|HostRow { host, count, first_day, last_day, .. }| UnknownHost {
            host,
            count,
            first_day,
            last_day,
        })
        .collect();
    hosts.sort_by_key(|host| std::cmp::Reverse(host.count));
    hosts.truncate(MAX_HOSTS);
    Ok(hosts)
}

async fn counted(call: &Call, first: String, last: String) -> Result<Vec<(String, Arc<Counts>)>, Problem> {
    let (api, directory) = (Arc::clone(&call.api), call.live.config.evidence.directory.clone());
    let read = tokio::task::spawn_blocking(move || api.days.between(&directory, &first, &last)).await;
    match read {
        Ok(Ok(days)) => Ok(days),
        Ok(Err(error)) => {
            tracing::error!(%error, "the counts of a day cannot be read");
            Err(Problem::internal())
        }
        Err(_) => {
            tracing::error!("reading counts ended in an internal error");
            Err(Problem::internal())
        }
    }
}

impl Day {
    fn of(day: String, counts: &Counts, controller: &str) -> Day {
        let recipients = counts.recipients.iter().filter(|(kind, _)| kind.controller == controller);
        let trackers = counts.trackers.iter().filter(|(kind, _)| kind.controller == controller);
        let hours = counts.hours.iter().filter(|(kind, _)| kind.controller == controller);
        Day {
            hours: hours
                .map(|(hour, count)| Hour {
                    hour: hour.hour,
                    done: hour.done.clone(),
                    result: hour.result.clone(),
                    recipients: count.recipients,
                    trackers: count.trackers,
                })
                .collect(),
            day,
            recipients: recipients
                .map(|(recipients, count)| Recipients {
                    mailstream: recipients.mailstream.clone(),
                    rule: recipients.rule.clone(),
                    decided: recipients.decided.clone(),
                    done: recipients.done.clone(),
                    result: recipients.result.clone(),
                    count: *count,
                })
                .collect(),
            trackers: trackers
                .map(|(trackers, count)| Trackers {
                    mailstream: trackers.mailstream.clone(),
                    vendor: trackers.vendor.clone(),
                    carrier: trackers.carrier.clone(),
                    done: trackers.done.clone(),
                    count: *count,
                })
                .collect(),
        }
    }
}
