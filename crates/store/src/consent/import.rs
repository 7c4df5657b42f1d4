//! Reads rows of consent from files: CSV with a header row, or one JSON object per line, with the same names.

use std::io::{BufRead, Read};

use serde::{Deserialize, Serialize};

use super::person::{Controller, Person};
use super::record::{Change, Scope, State, Timing};
use super::store::{Applied, Store, StoreError};
use super::timestamp::Timestamp;
use crate::policy::Purpose;

/// The columns of a file.
pub const COLUMNS: [&str; 21] = [
    "address",
    "controller",
    "state",
    "purposes",
    "event_time",
    "asked_at",
    "notice_sent_at",
    "collected_at",
    "method",
    "channel",
    "notice_version",
    "text_hash",
    "evidence",
    "actor",
    "expires",
    "do_not_ask_before",
    "jurisdiction",
    "no_track",
    "external_id",
    "scope",
    "comment",
];

/// Columns about mail rather than tracking. Consent to receive mail is not consent to be tracked (N15).
const NOT_TRACKING: [&str; 10] = [
    "marketing_opt_in",
    "opt_in",
    "optin",
    "subscribed",
    "subscription",
    "newsletter",
    "email_consent",
    "marketing_consent",
    "double_opt_in",
    "status",
];

/// A row of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Row {
    /// The person's mail address.
    pub address: String,
    /// The controller; if empty, that of the command.
    pub controller: String,
    /// One of never_asked, asked, granted, refused, withdrawn and objected.
    pub state: String,
    /// Purposes separated by spaces or commas; `all` or nothing for those of opens that need consent,
    /// and in a refusal for `link_tracking`, too.
    pub purposes: String,
    /// When it was said, such as 2026-07-14T08:00:00Z or 2026-07-14.
    pub event_time: String,
    /// When the person was asked.
    pub asked_at: String,
    /// When the notice was sent (N29).
    pub notice_sent_at: String,
    /// When the address was collected; needs evidence (N29).
    pub collected_at: String,
    /// The method.
    pub method: String,
    /// The channel.
    pub channel: String,
    /// The version of the notice that was shown.
    pub notice_version: String,
    /// The SHA-256 of the text that was shown, in hexadecimal.
    pub text_hash: String,
    /// A reference to the proof of consent. A grant without it does not count (N22).
    pub evidence: String,
    /// The person or program that entered it.
    pub actor: String,
    /// When a grant expires.
    pub expires: String,
    /// The time before which the person must not be asked again (N19).
    pub do_not_ask_before: String,
    /// The jurisdiction whose rules apply to the person.
    pub jurisdiction: String,
    /// `true` if the person must never be tracked (N32).
    pub no_track: String,
    /// The controller's name for the person.
    pub external_id: String,
    /// How far the choice reaches: `address` or `account`; empty if that is not known.
    pub scope: String,
    /// A comment, which is not kept.
    pub comment: String,
}

/// The result of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
#[serde(rename_all = "snake_case", tag = "result", content = "detail")]
pub enum RowResult {
    /// Durably recorded under this number of the journal.
    Recorded(u64),
    /// Durably recorded, but not as a grant, because proof of consent is missing (N22).
    RecordedWithoutGrant(u64),
    /// Durably recorded, but with another time than the row claims, which is ahead of the clock or not later
    /// than a current state that is.
    Moved {
        /// The number in the journal.
        record: u64,
        /// The time it was recorded with.
        event_time: String,
    },
    /// Something newer is known.
    Stale,
    /// The person withdrew, and the row does not supersede that.
    SupersededByWithdrawal,
    /// It holds at this relay, durably, and elsewhere once the other relays can be reached.
    HoldsHere,
    /// Not recorded, with the reason.
    Failed(String),
}

impl RowResult {
    /// Returns whether the row did not take effect.
    pub fn is_failure(&self) -> bool {
        matches!(self, RowResult::Failed(_))
    }
}

impl Row {
    /// Reads the change that the row describes.
    ///
    /// # Errors
    ///
    /// What is wrong with it, without repeating the address.
    pub fn change(&self, controller: &Controller) -> Result<Change, String> {
        let change = self.said(controller)?;
        match change.timing {
            Timing::Claimed => Ok(change),
            Timing::Now => Err("event_time: missing; give the time when it was said".to_owned()),
        }
    }

    /// Reads a row whose event happens now unless it has a time.
    ///
    /// # Errors
    ///
    /// What is wrong with it, without repeating the address.
    pub fn said(&self, controller: &Controller) -> Result<Change, String> {
        if !self.address.contains('@') {
            return Err("address: expected a mail address".to_owned());
        }
        let controller =
            if self.controller.is_empty() { controller.clone() } else { self.controller.parse()? };
        let state = State::named(self.state.trim())
            .ok_or("state: expected never_asked, asked, granted, refused, withdrawn or objected")?;
        let time = |name: &str, text: &str| match text.trim() {
            "" => Ok(None),
            text => Timestamp::parse(text).map(Some).map_err(|error| format!("{name}: {error}")),
        };
        let purposes = purposes(&self.purposes, covered(state))?;
        let mut change = match time("event_time", &self.event_time)? {
            Some(event_at) => Change::new(controller, purposes, state, event_at),
            None => Change::now(controller, purposes, state),
        };
        change.asked_at = time("asked_at", &self.asked_at)?;
        change.notice_sent_at = time("notice_sent_at", &self.notice_sent_at)?;
        change.collected_at = time("collected_at", &self.collected_at)?;
        if change.collected_at.is_some() && self.evidence.trim().is_empty() {
            return Err("collected_at: needs evidence".to_owned());
        }
        change.expires = time("expires", &self.expires)?;
        change.do_not_ask_before = time("do_not_ask_before", &self.do_not_ask_before)?;
        change.no_track = match self.no_track.trim() {
            "" => None,
            "true" | "yes" | "1" => Some(true),
            "false" | "no" | "0" => Some(false),
            _ => return Err("no_track: expected true or false".to_owned()),
        };
        let text = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        change.jurisdiction = text(&self.jurisdiction);
        if change.jurisdiction.as_ref().is_some_and(|name| name.len() > 32) {
            return Err("jurisdiction: it is too long".to_owned());
        }
        change.details.method = text(&self.method);
        change.details.channel = text(&self.channel);
        change.details.notice_version = text(&self.notice_version);
        change.details.text_hash = text(&self.text_hash);
        change.details.evidence = text(&self.evidence);
        change.details.actor = text(&self.actor);
        change.details.external_id = text(&self.external_id);
        change.details.scope = match self.scope.trim() {
            "" => None,
            name => Some(Scope::named(name).ok_or("scope: expected address or account")?),
        };
        Ok(change)
    }
}

/// What a row covers that names no purposes: a yes to everything is one to what opens are used for, since whoever
/// gave it need not have been asked about links; a no to everything is one to links, too.
const fn covered(state: State) -> &'static [Purpose] {
    match state {
        State::NeverAsked | State::Asked | State::Granted => &Purpose::CONSENT_TO_OPENS,
        State::Refused | State::Withdrawn | State::Objected => &Purpose::CONSENT,
    }
}

/// Parses purposes: names separated by spaces or commas, `all` or nothing for those of `all`.
///
/// # Errors
///
/// The first unknown name.
pub fn purposes(text: &str, all: &[Purpose]) -> Result<Vec<Purpose>, String> {
    let names: Vec<&str> = text.split([' ', ',', ';', '|']).filter(|name| !name.is_empty()).collect();
    match names.as_slice() {
        [] | ["all"] => Ok(all.to_vec()),
        names => names
            .iter()
            .map(|name| {
                name.parse().map_err(|error: crate::policy::purpose::UnknownPurpose| error.to_string())
            })
            .collect(),
    }
}

/// Records rows in order; they are durable once this returns.
///
/// # Errors
///
/// When the store could not make them durable.
pub fn apply(store: &Store, controller: &Controller, rows: &[Row]) -> Result<Vec<RowResult>, StoreError> {
    let mut prepared = Prepared::of(store, controller, rows);
    let applied = store.record(std::mem::take(&mut prepared.changes))?;
    Ok(prepared.results(applied))
}

/// Records one row, with the current time if it has none; it is durable once this returns.
///
/// # Errors
///
/// When the store could not make it durable.
pub fn say(store: &Store, controller: &Controller, row: &Row) -> Result<RowResult, StoreError> {
    let change = match row.said(controller) {
        Ok(change) => change,
        Err(error) => return Ok(RowResult::Failed(error)),
    };
    let unproved = is_unproved(&change);
    let applied = store.record(vec![(store.person(&row.address), change)])?;
    Ok(applied.first().map_or_else(missing, |applied| outcome(applied, unproved)))
}

/// Returns whether it is a grant without proof of consent (N22).
fn is_unproved(change: &Change) -> bool {
    change.state == State::Granted && change.details.evidence.is_none()
}

/// Rows on their way into the store.
#[derive(Debug)]
pub struct Prepared {
    /// The changes to record.
    pub changes: Vec<(Person, Change)>,
    /// For each row, why it is not recorded, or whether it is a grant without proof.
    rows: Vec<Result<bool, String>>,
}

impl Prepared {
    /// Reads the changes of rows.
    pub fn of(store: &Store, controller: &Controller, rows: &[Row]) -> Prepared {
        let mut prepared = Prepared { changes: Vec::with_capacity(rows.len()), rows: Vec::new() };
        for row in rows {
            let change = row.change(controller);
            prepared.rows.push(match change {
                Ok(change) => {
                    let unproved = is_unproved(&change);
                    prepared.changes.push((store.person(&row.address), change));
                    Ok(unproved)
                }
                Err(error) => Err(error),
            });
        }
        prepared
    }

    /// Returns the results of the rows from those of the changes.
    pub fn results(self, applied: Vec<Applied>) -> Vec<RowResult> {
        let mut applied = applied.into_iter();
        let mut result = |row: Result<bool, String>| match row {
            Ok(unproved) => applied.next().map_or_else(missing, |applied| outcome(&applied, unproved)),
            Err(error) => RowResult::Failed(error),
        };
        self.rows.into_iter().map(&mut result).collect()
    }
}

fn missing() -> RowResult {
    RowResult::Failed("the store did not respond".to_owned())
}

/// What is said of a grant that the relays together cannot make durable now.
pub const NOT_NOW: &str = "not recorded: the relays together cannot make it durable now; `pixelward cluster \
                           status` says why. Try again later";

/// What is said of a change whose outcome is unknown.
pub const UNCONFIRMED: &str = "the other relays did not confirm it in time, so whether it was recorded is \
                               unknown. Say it again: what was recorded is not recorded twice";

fn outcome(applied: &Applied, unproved: bool) -> RowResult {
    match applied {
        Applied::Recorded(number) | Applied::Moved { number, .. } if unproved => {
            RowResult::RecordedWithoutGrant(*number)
        }
        Applied::Moved { number, at } => RowResult::Moved { record: *number, event_time: at.to_string() },
        Applied::Recorded(number) => RowResult::Recorded(*number),
        Applied::Stale => RowResult::Stale,
        Applied::SupersededByWithdrawal => RowResult::SupersededByWithdrawal,
        Applied::InFuture => RowResult::Failed("event_time is in the future".to_owned()),
        Applied::Conflicting => RowResult::Failed("the current consent is not the expected one".to_owned()),
        Applied::HoldsHere => RowResult::HoldsHere,
        Applied::NotNow => RowResult::Failed(NOT_NOW.to_owned()),
        Applied::Unconfirmed => RowResult::Failed(UNCONFIRMED.to_owned()),
    }
}

/// A row with its line number, or what is wrong with the line.
pub type Line = (u64, Result<Row, String>);

/// Reads the rows of a CSV file.
///
/// # Errors
///
/// When there is an unknown column, or the header cannot be read.
pub fn csv_rows<R: Read>(file: R) -> Result<impl Iterator<Item = Line>, String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(false).from_reader(file);
    let headers = reader.headers().map_err(|error| format!("the header row: {error}"))?.clone();
    for column in &headers {
        check_column(column)?;
    }
    if !headers.iter().any(|column| column == "address") {
        return Err("the header row has no column address".to_owned());
    }
    Ok(reader.into_records().map(move |record| match record {
        Ok(record) => {
            let line = record.position().map_or(0, csv::Position::line);
            (line, record.deserialize(Some(&headers)).map_err(|error| error.to_string()))
        }
        Err(error) => (error.position().map_or(0, csv::Position::line), Err(error.to_string())),
    }))
}

fn check_column(column: &str) -> Result<(), String> {
    if COLUMNS.contains(&column) {
        return Ok(());
    }
    if is_about_mail(column) {
        return Err(format!(
            "the column {column:?} is about receiving mail, and consent to mail is not consent to tracking. \
             Leave it out, and import only what people said about tracking"
        ));
    }
    Err(format!("unknown column {column:?}: use {}", COLUMNS.join(", ")))
}

/// Returns whether a name is about receiving mail rather than tracking (N15).
pub fn is_about_mail(name: &str) -> bool {
    let folded: String = name.to_ascii_lowercase().replace(['-', ' '], "_");
    NOT_TRACKING.contains(&folded.as_str())
}

/// Describes an unknown name. It is repeated only if it cannot be anything but a name.
pub fn unknown_name(name: &str) -> String {
    if is_about_mail(name) {
        return format!(
            "unknown field `{name}`: it is about receiving mail, and consent to mail is not consent to \
             tracking"
        );
    }
    let is_near =
        |text: &str| text.len() > 3 && name.len() > 3 && (text.starts_with(name) || name.starts_with(text));
    match COLUMNS.into_iter().find(|column| is_near(column)) {
        Some(column) => format!("unknown field; did you mean `{column}`?"),
        None => "unknown field".to_owned(),
    }
}

/// Reads the rows of a file with one JSON object per line. Empty lines are skipped.
pub fn json_rows<R: BufRead>(file: R) -> impl Iterator<Item = Line> {
    (1u64..).zip(file.lines()).filter_map(|(number, line)| match line {
        Err(error) => Some((number, Err(error.to_string()))),
        Ok(line) if line.trim().is_empty() => None,
        Ok(line) => Some((number, json_row(&line))),
    })
}

/// The fields of a JSON object. A duplicate name is an error, because nobody can say which value was meant.
struct Fields(serde_json::Map<String, serde_json::Value>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Fields, D::Error> {
        struct Reader;
        impl<'de> serde::de::Visitor<'de> for Reader {
            type Value = Fields;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = serde_json::Map::new();
                while let Some((name, value)) = map.next_entry()? {
                    if fields.insert(name, value).is_some() {
                        return Err(serde::de::Error::custom("duplicate name"));
                    }
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// Reads the row of one line.
///
/// # Errors
///
/// What is wrong with it.
pub fn json_row(line: &str) -> Result<Row, String> {
    let Fields(fields) = serde_json::from_str(line).map_err(|error| match error.is_data() {
        true => "expected a JSON object with unique names".to_owned(),
        false => format!("invalid JSON: {error}"),
    })?;
    let mut texts = serde_json::Map::new();
    for (name, value) in &fields {
        check_column(name)?;
        let text = match value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Bool(flag) => flag.to_string(),
            serde_json::Value::Number(number) => number.to_string(),
            serde_json::Value::Null => String::new(),
            serde_json::Value::Array(items) => {
                items.iter().filter_map(serde_json::Value::as_str).collect::<Vec<_>>().join(" ")
            }
            serde_json::Value::Object(_) => return Err(format!("{name}: expected a text")),
        };
        texts.insert(name.clone(), text.into());
    }
    serde_json::from_value(texts.into()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_lines_are_named_and_do_not_stop_the_rest() {
        let file =
            "address,state,event_time\na@b.example,granted,2026-01-01\nx\nc@d.example,refused,2026-01-02\n";
        let rows: Vec<Line> = csv_rows(file.as_bytes()).unwrap().collect();
        let lines: Vec<(u64, bool)> = rows.iter().map(|(line, row)| (*line, row.is_ok())).collect();
        assert_eq!(lines, [(2, true), (3, false), (4, true)]);
    }

    #[test]
    fn consent_to_mail_is_refused_as_consent_to_tracking() {
        let error = csv_rows(&b"address,marketing_opt_in\n"[..]).err().unwrap();
        assert!(error.contains("consent to mail is not consent"), "{error}");
        let error = csv_rows(&b"address,colour\n"[..]).err().unwrap();
        assert!(error.contains("colour"), "{error}");
        let (_, row) = json_rows(&b"{\"address\":\"a@b.example\",\"subscribed\":true}\n"[..]).next().unwrap();
        assert!(row.unwrap_err().contains("about receiving mail"));
        for line in ["{\"state\":\"granted\",\"state\":\"refused\"}", "[]", "\"a@b.example\""] {
            assert!(json_row(line).unwrap_err().contains("unique names"), "{line}");
        }
        assert!(
            json_row(&format!("{{\"address\":{}", "[".repeat(10_000))).unwrap_err().contains("invalid JSON")
        );
    }

    #[test]
    fn what_a_row_lacks_is_said() {
        let row = |state: &str, time: &str, purposes: &str| Row {
            address: "a@b.example".to_owned(),
            state: state.to_owned(),
            event_time: time.to_owned(),
            purposes: purposes.to_owned(),
            ..Row::default()
        };
        let controller = "shop".parse().unwrap();
        let granted = row("granted", "2026-01-01", "").change(&controller).unwrap();
        assert_eq!((granted.purposes, granted.details.scope), (Purpose::CONSENT_TO_OPENS.to_vec(), None));
        let of_account = Row { scope: "account".to_owned(), ..row("refused", "2026-01-01", "all") };
        let refused = of_account.change(&controller).unwrap();
        let scope = Some(crate::consent::record::Scope::Account);
        assert_eq!((refused.purposes, refused.details.scope), (Purpose::CONSENT.to_vec(), scope));
        for (row, word) in [
            (row("yes", "2026-01-01", ""), "state"),
            (row("granted", "", ""), "event_time"),
            (row("granted", "soon", ""), "event_time"),
            (row("granted", "2026-01-01", "fun"), "fun"),
            (Row { scope: "house".to_owned(), ..row("refused", "2026-01-01", "") }, "scope"),
            (Row::default(), "address"),
            (
                Row { collected_at: "2026-01-01".to_owned(), ..row("never_asked", "2026-01-01", "") },
                "collected_at",
            ),
        ] {
            let error = row.change(&controller).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn json_rows_may_hold_lists_and_flags() {
        let line = b"{\"address\":\"a@b.example\",\"state\":\"granted\",\"event_time\":\"2026-01-01\",\
            \"purposes\":[\"personalisation\"],\"no_track\":false}";
        let (_, row) = json_rows(&line[..]).next().unwrap();
        let change = row.unwrap().change(&"shop".parse().unwrap()).unwrap();
        assert_eq!(change.purposes, [Purpose::Personalisation]);
        assert_eq!(change.no_track, Some(false));
    }
}
