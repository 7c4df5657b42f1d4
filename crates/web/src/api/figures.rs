//! What was decided and found, by day, from the counts kept beside the audit records.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::relays::Unanswered;
use super::{Answered, Call, json};
use crate::consent::Timestamp;
use crate::problem::Problem;
use crate::record::statistics::hosts::HostRow;
use crate::record::statistics::{self, Counts};

/// The maximum number of days in memory: ten years.
const MAX_DAYS: usize = 3660;

/// The maximum number of hosts of unknown vendors in a list.
const MAX_HOSTS: usize = 100;

/// Counts by day.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Figures {
    /// The controller.
    controller: String,
    /// The days that have counts, oldest first.
    days: Vec<Day>,
    /// The relays of the cluster that did not answer; their counts are missing.
    unanswered: Vec<Unanswered>,
}

/// The counts of a day.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub(super) struct Day {
    /// The day, in UTC.
    #[schema(format = Date)]
    day: String,
    /// Recipients of messages.
    recipients: Vec<Recipients>,
    /// Trackers, each counted once per recipient.
    trackers: Vec<Trackers>,
    /// Tracked links that were to be changed, each counted once per recipient.
    #[serde(default)]
    links: Vec<TrackedLinks>,
    /// Recipients and trackers by hour, for today and yesterday only.
    hours: Vec<Hour>,
}

/// Counts of one hour and outcome.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Hour {
    /// The hour, in UTC: 0 to 23.
    hour: u8,
    /// The outcome that was carried out.
    done: String,
    /// The result of the delivery.
    result: String,
    /// The number of recipients.
    recipients: u64,
    /// The number of trackers.
    trackers: u64,
}

/// A count of recipients handled alike.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Recipients {
    /// The mailstream.
    mailstream: String,
    /// The rule that decided.
    rule: String,
    /// The outcome that was decided.
    decided: String,
    /// The outcome that was carried out.
    done: String,
    /// The result of the delivery.
    result: String,
    /// The number of recipients.
    count: u64,
}

impl Recipients {
    fn is_like(&self, other: &Recipients) -> bool {
        let key = |one: &Recipients| {
            [&one.mailstream, &one.rule, &one.decided, &one.done, &one.result].map(String::clone)
        };
        key(self) == key(other)
    }
}

/// A count of similar trackers.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Trackers {
    /// The mailstream.
    mailstream: String,
    /// The vendor.
    vendor: String,
    /// The carrier: the kind of place in which it was found.
    carrier: String,
    /// The outcome that was carried out.
    done: String,
    /// The number of trackers.
    count: u64,
}

impl Trackers {
    fn is_like(&self, other: &Trackers) -> bool {
        let key = |one: &Trackers| [&one.mailstream, &one.vendor, &one.carrier, &one.done].map(String::clone);
        key(self) == key(other)
    }
}

/// A count of tracked links handled alike.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct TrackedLinks {
    /// The mailstream.
    mailstream: String,
    /// What was done: unwrapped, gated, or left, where nobody said what they lead to: these go on reporting.
    done: String,
    /// The number of links.
    count: u64,
}

impl TrackedLinks {
    fn is_like(&self, other: &TrackedLinks) -> bool {
        self.mailstream == other.mailstream && self.done == other.done
    }
}

/// The trackers that were found, by vendor.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Vendors {
    /// The controller.
    controller: String,
    /// The vendors, those with the most trackers first; catalogue vendors without any come last.
    vendors: Vec<Vendor>,
    /// The hosts of trackers of unknown vendors, those with the most trackers first; at most 100.
    unknown_hosts: Vec<UnknownHost>,
    /// The relays of the cluster that did not answer; their counts are missing.
    unanswered: Vec<Unanswered>,
}

/// A host of trackers of an unknown vendor.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct UnknownHost {
    /// The registrable domain, preceded by one plain label if there is one; a star replaces anything that may
    /// be unique to a reader.
    host: String,
    /// The number of trackers.
    count: u64,
    /// The first day on which one was found.
    #[schema(format = Date)]
    first_day: String,
    /// The last day on which one was found.
    #[schema(format = Date)]
    last_day: String,
}

/// A vendor.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub(super) struct Vendor {
    /// The name; `unknown` for trackers of unknown vendors.
    name: String,
    /// True if the vendor is in the catalogue.
    in_catalogue: bool,
    /// The number of trackers found.
    count: u64,
    /// The number of these in copies from which trackers were removed.
    stripped: u64,
    /// The first day on which one was found.
    #[schema(format = Date)]
    first_day: Option<String>,
    /// The last day on which one was found.
    #[schema(format = Date)]
    last_day: Option<String>,
    /// The carriers in which they were found.
    carriers: BTreeMap<String, u64>,
    /// The mailstreams in which they were found.
    mailstreams: BTreeMap<String, u64>,
}

/// Counts that were read, by day, with the stamp of the file they were read from.
#[derive(Debug, Default)]
pub(super) struct Days(Mutex<BTreeMap<String, (Mark, Arc<Counts>)>>);

type Mark = (i64, i64, u64, u64);

impl Days {
    /// Returns the counts of all days from the first to the last, inclusive. Rereads a file if it has
    /// changed.
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

/// Returns the first and the last day that a request asks for, as `YYYY-MM-DD`.
///
/// # Errors
///
/// When one is no day, or the request asks for something else.
pub(super) fn days_asked(call: &Call) -> Result<(String, String), Problem> {
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
    Ok((first, last))
}

pub(super) async fn figures(call: Call) -> Answered {
    let (first, last) = days_asked(&call)?;
    let controller = call.controller()?.to_string();
    let counted = counted(&call, first, last).await?;
    let yesterday: String = call.now.plus_days(-1).to_string().chars().take(10).collect();
    let days = counted.into_iter().map(|(day, counts)| {
        let has_hours = day >= yesterday;
        let day_of_all = Day::of(day, &counts, &controller);
        Day { hours: if has_hours { day_of_all.hours } else { Vec::new() }, ..day_of_all }
    });
    let here = days.filter(|day| !day.recipients.is_empty() || !day.trackers.is_empty());
    let mut days: BTreeMap<String, Day> = here.map(|day| (day.day.clone(), day)).collect();
    let others = call.ask_others::<Figures>("figures").await?;
    for day in others.answers.into_iter().flat_map(|(_, figures)| figures.days) {
        match days.get_mut(&day.day) {
            Some(known) => known.add(day),
            None => drop(days.insert(day.day.clone(), day)),
        }
    }
    let days = days.into_values().collect();
    json(StatusCode::OK, &Figures { controller, days, unanswered: others.unanswered })
}

pub(super) async fn vendors(call: Call) -> Answered {
    call.query(&[])?;
    let controller = call.controller()?.to_string();
    let counted = counted(&call, String::new(), "9999".to_owned()).await?;
    let mut found: BTreeMap<String, Vendor> = BTreeMap::new();
    for name in call.live.treatment.detector.catalogue().vendors() {
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
    let others = call.ask_others::<Vendors>("trackers").await?;
    let mut unknown_hosts = unknown_hosts(&call, &controller).await?;
    for (_, theirs) in others.answers {
        for vendor in theirs.vendors {
            found.entry(vendor.name.clone()).or_default().add(vendor);
        }
        theirs.unknown_hosts.into_iter().for_each(|host| add_host(&mut unknown_hosts, host));
    }
    unknown_hosts.sort_by_key(|host| std::cmp::Reverse(host.count));
    unknown_hosts.truncate(MAX_HOSTS);
    let named = found.into_iter().map(|(name, vendor)| Vendor { name, ..vendor });
    let mut vendors: Vec<Vendor> = named.collect();
    vendors.sort_by_key(|vendor| std::cmp::Reverse(vendor.count));
    json(StatusCode::OK, &Vendors { controller, vendors, unknown_hosts, unanswered: others.unanswered })
}

/// Adds what another relay counted of a host.
fn add_host(hosts: &mut Vec<UnknownHost>, theirs: UnknownHost) {
    match hosts.iter_mut().find(|known| known.host == theirs.host) {
        Some(known) => {
            known.count += theirs.count;
            known.first_day = std::mem::take(&mut known.first_day).min(theirs.first_day);
            known.last_day = std::mem::take(&mut known.last_day).max(theirs.last_day);
        }
        None => hosts.push(theirs),
    }
}

impl Vendor {
    /// Adds what another relay counted.
    fn add(&mut self, theirs: Vendor) {
        self.in_catalogue |= theirs.in_catalogue;
        self.count += theirs.count;
        self.stripped += theirs.stripped;
        self.first_day = [self.first_day.take(), theirs.first_day].into_iter().flatten().min();
        self.last_day = self.last_day.take().max(theirs.last_day);
        theirs
            .carriers
            .into_iter()
            .for_each(|(name, count)| *self.carriers.entry(name).or_default() += count);
        for (name, count) in theirs.mailstreams {
            *self.mailstreams.entry(name).or_default() += count;
        }
    }
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
            tracing::error!("an internal error occurred while reading counts");
            Err(Problem::internal())
        }
    }
}

impl Day {
    /// Adds what another relay counted on this day.
    fn add(&mut self, theirs: Day) {
        for more in theirs.recipients {
            match self.recipients.iter_mut().find(|known| known.is_like(&more)) {
                Some(known) => known.count += more.count,
                None => self.recipients.push(more),
            }
        }
        for more in theirs.trackers {
            match self.trackers.iter_mut().find(|known| known.is_like(&more)) {
                Some(known) => known.count += more.count,
                None => self.trackers.push(more),
            }
        }
        for more in theirs.links {
            match self.links.iter_mut().find(|known| known.is_like(&more)) {
                Some(known) => known.count += more.count,
                None => self.links.push(more),
            }
        }
        for more in theirs.hours {
            let key = |hour: &Hour| (hour.hour, hour.done.clone(), hour.result.clone());
            match self.hours.iter_mut().find(|known| key(known) == key(&more)) {
                Some(known) => {
                    known.recipients += more.recipients;
                    known.trackers += more.trackers;
                }
                None => self.hours.push(more),
            }
        }
    }

    fn of(day: String, counts: &Counts, controller: &str) -> Day {
        let recipients = counts.recipients.iter().filter(|(kind, _)| kind.controller == controller);
        let trackers = counts.trackers.iter().filter(|(kind, _)| kind.controller == controller);
        let links = counts.links.iter().filter(|(kind, _)| kind.controller == controller);
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
            links: links
                .map(|(links, count)| TrackedLinks {
                    mailstream: links.mailstream.clone(),
                    done: links.done.clone(),
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
