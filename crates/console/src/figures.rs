//! Figures for several days, summed up as pages show them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::chart::Column;
use super::value::{list, number, text};
use crate::consent::Timestamp;

/// The outcomes in the order in which charts stack them.
pub const OUTCOMES: [&str; 6] = ["strip", "keep", "swap_gated", "swap_day", "swap_shared", "nothing"];

/// The sums over several days.
#[derive(Debug, Default)]
pub struct Sums {
    /// Copies for recipients.
    pub recipients: u64,
    /// Trackers, once per recipient.
    pub trackers: u64,
    /// Trackers in copies that were stripped.
    pub stripped: u64,
    /// Tracked links that go on reporting without consent, once per recipient; by day only.
    pub links_left: u64,
    /// Recipients by the outcome carried out.
    pub by_done: BTreeMap<String, u64>,
    /// Recipients by the rule that decided.
    pub by_rule: BTreeMap<String, u64>,
    /// Recipients by the result of the delivery.
    pub by_result: BTreeMap<String, u64>,
    /// Recipients by mailstream.
    pub by_mailstream: BTreeMap<String, u64>,
    /// Trackers by vendor.
    pub by_vendor: BTreeMap<String, u64>,
    /// Trackers by carrier.
    pub by_carrier: BTreeMap<String, u64>,
    /// Recipients by day and outcome, without gaps.
    pub outcomes: Vec<Column>,
    /// Trackers by day: removed, and left.
    pub found: Vec<Column>,
}

impl Sums {
    /// Sums up the API's figures from the first to the last day, inclusive.
    pub fn of(figures: &Value, first: &str, last: &str) -> Sums {
        let mut sums = Sums::default();
        let mut by_day: BTreeMap<String, (Vec<u64>, Vec<u64>)> = BTreeMap::new();
        for day in days_between(first, last) {
            by_day.insert(day, (vec![0; OUTCOMES.len()], vec![0; 2]));
        }
        for day in list(figures, "days") {
            let Some((outcomes, found)) = by_day.get_mut(text(day, "day")) else { continue };
            for recipients in list(day, "recipients") {
                sums.take_recipients(recipients, outcomes);
            }
            for trackers in list(day, "trackers") {
                sums.take_trackers(trackers, found);
            }
            let links = list(day, "links").iter().filter(|links| text(links, "done") == "left");
            sums.links_left += links.map(|links| number(links, "count")).sum::<u64>();
        }
        let column = |(day, parts): (&String, &Vec<u64>)| Column {
            time: day.clone(),
            short: day.get(5..).unwrap_or_default().to_owned(),
            parts: parts.clone(),
        };
        sums.outcomes = by_day.iter().map(|(day, (outcomes, _))| column((day, outcomes))).collect();
        sums.found = by_day.iter().map(|(day, (_, found))| column((day, found))).collect();
        sums
    }

    /// Sums up the API's figures of the 24 hours that end with the current one. Vendors and carriers are not
    /// known by hour.
    pub fn of_hours(figures: &Value, now: Timestamp) -> Sums {
        let mut sums = Sums::default();
        let hour = |at: Timestamp| at.to_string().chars().take(13).collect::<String>();
        let mut by_hour: BTreeMap<String, (Vec<u64>, Vec<u64>)> = BTreeMap::new();
        for back in 0..24 {
            let key = hour(Timestamp(now.0 - back * 3_600_000));
            by_hour.insert(key, (vec![0; OUTCOMES.len()], vec![0; 2]));
        }
        for day in list(figures, "days") {
            for hour in list(day, "hours") {
                let name = format!("{}T{:02}", text(day, "day"), number(hour, "hour"));
                let Some((outcomes, found)) = by_hour.get_mut(&name) else { continue };
                let (done, trackers) = (text(hour, "done"), number(hour, "trackers"));
                sums.count_recipients(hour, number(hour, "recipients"), outcomes);
                sums.count_trackers(done, trackers, found);
            }
        }
        let column = |(hour, parts): (&String, &Vec<u64>)| Column {
            time: format!("{}:00", hour.replace('T', " ")),
            short: format!("{}:00", hour.get(11..).unwrap_or_default()),
            parts: parts.clone(),
        };
        sums.outcomes = by_hour.iter().map(|(hour, (outcomes, _))| column((hour, outcomes))).collect();
        sums.found = by_hour.iter().map(|(hour, (_, found))| column((hour, found))).collect();
        sums
    }

    fn take_recipients(&mut self, recipients: &Value, outcomes: &mut [u64]) {
        self.count_recipients(recipients, number(recipients, "count"), outcomes);
    }

    fn count_recipients(&mut self, recipients: &Value, count: u64, outcomes: &mut [u64]) {
        self.recipients += count;
        for (sums, name) in [
            (&mut self.by_done, "done"),
            (&mut self.by_rule, "rule"),
            (&mut self.by_result, "result"),
            (&mut self.by_mailstream, "mailstream"),
        ] {
            *sums.entry(text(recipients, name).to_owned()).or_default() += count;
        }
        let place = OUTCOMES.iter().position(|name| *name == text(recipients, "done"));
        place.and_then(|place| outcomes.get_mut(place)).into_iter().for_each(|sum| *sum += count);
    }

    fn take_trackers(&mut self, trackers: &Value, found: &mut [u64]) {
        let count = number(trackers, "count");
        *self.by_vendor.entry(text(trackers, "vendor").to_owned()).or_default() += count;
        *self.by_carrier.entry(text(trackers, "carrier").to_owned()).or_default() += count;
        self.count_trackers(text(trackers, "done"), count, found);
    }

    fn count_trackers(&mut self, done: &str, count: u64, found: &mut [u64]) {
        let is_stripped = done == "strip";
        self.trackers += count;
        self.stripped += if is_stripped { count } else { 0 };
        found.get_mut(usize::from(!is_stripped)).into_iter().for_each(|sum| *sum += count);
    }
}

/// Returns the pairs with the largest numbers first, at most this many.
pub fn greatest(counts: &BTreeMap<String, u64>, most: usize) -> Vec<(&str, u64)> {
    let mut all: Vec<(&str, u64)> = counts.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    all.truncate(most);
    all
}

/// Returns the day of a moment, in UTC.
pub fn day(at: Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}

/// Lists all days from the first to the last, inclusive; at most 3,660.
fn days_between(first: &str, last: &str) -> Vec<String> {
    let (Ok(mut at), Ok(end)) = (Timestamp::parse(first), Timestamp::parse(last)) else { return Vec::new() };
    let mut days = Vec::new();
    while at <= end && days.len() < 3660 {
        days.push(day(at));
        at = at.plus_days(1);
    }
    days
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_without_mail_are_there_and_those_outside_are_not() {
        let row = |day: &str, done: &str, count: u64| {
            serde_json::json!({
                "day": day,
                "recipients":
                    [{"mailstream": "news", "rule": "refused", "decided": done, "done": done,
                    "result": "accepted", "count": count}],
                "trackers":
                    [{"mailstream": "news", "vendor": "SendGrid", "carrier": "img", "done": done,
                    "count": 2 * count}],
            })
        };
        let figures = serde_json::json!({"days":
            [row("2026-10-30", "strip", 9), row("2026-10-31", "strip", 3), row("2026-11-02", "keep", 1)]});
        let sums = Sums::of(&figures, "2026-10-31", "2026-11-02");
        assert_eq!((sums.recipients, sums.trackers, sums.stripped), (4, 8, 6));
        let days: Vec<&str> = sums.outcomes.iter().map(|column| column.time.as_str()).collect();
        assert_eq!(days, ["2026-10-31", "2026-11-01", "2026-11-02"]);
        assert_eq!(
            sums.found.iter().map(|column| column.parts.clone()).collect::<Vec<_>>(),
            [[6, 0], [0, 0], [0, 2]]
        );
        assert_eq!(greatest(&sums.by_done, 1), [("strip", 3)]);
        assert!(Sums::of(&figures, "x", "2026-11-02").outcomes.is_empty());
    }

    #[test]
    fn hours_are_the_last_24_and_those_without_mail_are_there() {
        let hour = |hour: u64, done: &str| {
            serde_json::json!({"hour": hour, "done": done, "result": "accepted", "recipients": 2,
            "trackers": 3})
        };
        let figures = serde_json::json!({"days": [
            {"day": "2026-11-24", "hours": [hour(14, "strip"), hour(15, "strip"), hour(23, "keep")]},
            {"day": "2026-11-25", "hours": [hour(0, "strip"), hour(14, "swap_day"), hour(15, "strip")]},
        ]});
        let sums = Sums::of_hours(&figures, Timestamp::parse("2026-11-25T14:59:59Z").unwrap());
        assert_eq!((sums.recipients, sums.trackers, sums.stripped), (8, 12, 6));
        let shown = |column: &Column| (column.time.clone(), column.short.clone(), column.parts.clone());
        assert_eq!(sums.found.len(), 24);
        assert_eq!(shown(&sums.found[0]), ("2026-11-24 15:00".to_owned(), "15:00".to_owned(), vec![3, 0]));
        assert_eq!(shown(&sums.found[23]), ("2026-11-25 14:00".to_owned(), "14:00".to_owned(), vec![0, 3]));
        assert_eq!(sums.outcomes[1].parts, [0; OUTCOMES.len()]);
        assert_eq!(sums.by_result["accepted"], 8);
    }
}
