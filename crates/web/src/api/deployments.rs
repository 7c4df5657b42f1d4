//! Which rules and notices were in force when, and what changed from one version to the next.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::audit::on_disk;
use super::{Answered, Call, json};
use crate::consent::Timestamp;
use crate::record::audit::Chained;
use crate::record::deployments::{Deployed, Difference, FieldChange, Kind, Snapshot};

/// The maximum number of versions in a response.
const MOST: usize = 100;

/// The versions of the rules and notices.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Deployments {
    /// The versions, newest first; at most 100.
    versions: Vec<Deployment>,
    /// The notices that readers were shown, newest first.
    notices: Vec<NoticeVersion>,
    /// True if there are older versions.
    more: bool,
}

/// A version of the rules and notices.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Deployment {
    /// The number of its entry in the audit trail.
    number: u64,
    /// Since when it was in force.
    #[schema(format = DateTime)]
    since: String,
    /// Until when it was in force; null if it is.
    #[schema(format = DateTime)]
    until: Option<String>,
    /// The user or service manager that ran the relay.
    actor: String,
    /// How it came into force: start or reload.
    how: String,
    /// The SHA-256 of what was declared.
    fingerprint: String,
    /// That of the version before; null for the first one.
    before: Option<String>,
    /// What changed; null if the snapshots of this version or of the one before cannot be read or were
    /// changed.
    changes: Option<Vec<Change>>,
}

/// Something that changed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Change {
    /// The area: catalogue, controllers, dkim, jurisdictions, mailstreams, notices or program.
    area: String,
    /// The name: that of a controller, a controller and a mailstream or a language, a vendor or a key.
    name: String,
    /// How it changed: added, removed or changed.
    kind: &'static str,
    /// The fields that differ.
    fields: Vec<ChangedField>,
}

/// A field that differs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChangedField {
    /// The name of the field.
    name: String,
    /// The value before; empty if there was none.
    from: String,
    /// The value after; empty if there is none.
    to: String,
}

/// A notice that readers were shown.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NoticeVersion {
    /// The controller.
    controller: String,
    /// The language.
    language: String,
    /// The version, as records of choices name it.
    version: String,
    /// The SHA-256 of its text.
    text_hash: String,
    /// Since when it was shown.
    #[schema(format = DateTime)]
    since: String,
    /// Until when it was shown; null if it is.
    #[schema(format = DateTime)]
    until: Option<String>,
    /// Its text.
    text: String,
}

pub(super) async fn list(call: Call) -> Answered {
    call.query(&[])?;
    let directory = call.api.trail.directory().to_owned();
    let entries = on_disk(&call.api, |trail| trail.deployments(MOST + 1)).await?;
    let only = call.grant.as_ref().and_then(|grant| grant.controller.as_ref()).map(ToString::to_string);
    let made = tokio::task::spawn_blocking(move || {
        let read = |fingerprint: &str| Snapshot::read(&directory, fingerprint);
        Deployments::of(&entries, read, only.as_deref())
    });
    json(StatusCode::OK, &made.await.map_err(|_| crate::problem::Problem::internal())?)
}

impl Deployments {
    /// Builds the response from the newest entries, of which one more than is shown was asked for.
    fn of(entries: &[Chained], read: impl Fn(&str) -> Option<Snapshot>, only: Option<&str>) -> Deployments {
        let mut notices = Notices::default();
        let mut versions = Vec::new();
        // Oldest first, so that each has the one before at hand.
        let shown = entries.iter().take(MOST).rev();
        let mut last: Option<(String, Snapshot)> = None;
        for (entry, deployed) in shown.filter_map(|entry| Some((entry, Deployed::of(entry)?))) {
            let since = Timestamp(entry.entry.at).to_string();
            let snapshot = read(&deployed.after);
            let before = match (&deployed.before, last.take()) {
                (None, _) => Some(Snapshot::default()),
                (Some(wanted), Some((known, snapshot))) if *wanted == known => Some(snapshot),
                (Some(wanted), _) => read(wanted),
            };
            let changes = snapshot.as_ref().zip(before).map(|(after, before)| {
                let seen = after.since(&before).into_iter().filter(|change| is_seen(change, only));
                seen.map(Change::of).collect()
            });
            if let Some(snapshot) = &snapshot {
                notices.take(snapshot, &since, only);
            }
            versions.iter_mut().rev().take(1).for_each(|newest: &mut Deployment| {
                newest.until = Some(since.clone());
            });
            versions.push(Deployment {
                number: entry.number,
                since,
                until: None,
                actor: entry.entry.actor.clone(),
                how: deployed.said.split(':').next().unwrap_or_default().to_owned(),
                fingerprint: deployed.after.clone(),
                before: deployed.before,
                changes,
            });
            last = snapshot.map(|snapshot| (deployed.after, snapshot));
        }
        versions.reverse();
        Deployments { versions, notices: notices.done(), more: entries.len() > MOST }
    }
}

/// Returns whether a token for one controller may see a change.
fn is_seen(change: &Difference, only: Option<&str>) -> bool {
    let Some(only) = only else { return true };
    match change.area.as_str() {
        "controllers" => change.name == only,
        "mailstreams" | "notices" => change.name.split('/').next() == Some(only),
        // Whose keys there are concerns the operator.
        "dkim" => false,
        _ => true,
    }
}

impl Change {
    fn of(difference: Difference) -> Change {
        let Difference { area, name, kind, fields } = difference;
        let kind = match kind {
            Kind::Added => "added",
            Kind::Removed => "removed",
            Kind::Changed => "changed",
        };
        let field = |FieldChange { name, from, to }| ChangedField { name, from, to };
        Change { area, name, kind, fields: fields.into_iter().map(field).collect() }
    }
}

/// The notices of all versions, oldest first, and by page the place of the one that is shown.
#[derive(Default)]
struct Notices {
    all: Vec<NoticeVersion>,
    shown: BTreeMap<String, usize>,
}

impl Notices {
    /// Takes in the notices of the next version.
    fn take(&mut self, snapshot: &Snapshot, since: &str, only: Option<&str>) {
        let none = BTreeMap::new();
        let pages = snapshot.areas.get("notices").unwrap_or(&none);
        let shown = std::mem::take(&mut self.shown);
        for (page, place) in shown {
            let Some(known) = self.all.get_mut(place) else { continue };
            let is_same =
                pages.get(&page).is_some_and(|fields| fields.get("text_hash") == Some(&known.text_hash));
            match is_same {
                true => drop(self.shown.insert(page, place)),
                false => known.until = Some(since.to_owned()),
            }
        }
        for (page, fields) in pages {
            let Some((controller, language)) = page.split_once('/') else { continue };
            if self.shown.contains_key(page) || only.is_some_and(|only| only != controller) {
                continue;
            }
            let of = |name: &str| fields.get(name).cloned().unwrap_or_default();
            self.shown.insert(page.clone(), self.all.len());
            self.all.push(NoticeVersion {
                controller: controller.to_owned(),
                language: language.to_owned(),
                version: of("version"),
                text_hash: of("text_hash"),
                since: since.to_owned(),
                until: None,
                text: of("text"),
            });
        }
    }

    fn done(mut self) -> Vec<NoticeVersion> {
        self.all.reverse();
        self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::audit::Entry;
    use crate::record::deployments::Fields;

    fn snapshot(text: &str) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for controller in ["shop", "club"] {
            let fields = [("version", "1"), ("text_hash", text), ("text", text)];
            let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
            snapshot.add("notices", format!("{controller}/en"), Fields::from(fields));
        }
        snapshot
    }

    #[test]
    fn each_version_ends_when_the_next_begins_and_a_notice_when_its_text_does() {
        let all = [snapshot("a"), snapshot("a"), snapshot("b")].map(|one| (one.fingerprint(), one));
        let entry = |number: u64, before: &str, after: &str| Chained {
            number,
            hash: [0; 32],
            entry: Entry {
                at: i64::try_from(number).unwrap() * 1000,
                token: String::new(),
                actor: "root".to_owned(),
                action: crate::record::audit::DEPLOYED.to_owned(),
                controller: None,
                person: None,
                detail: Some(format!("{before} {after} start: x")),
            },
        };
        let entries = [entry(9, &all[0].0, &all[2].0), entry(4, "none", &all[0].0)];
        let read = |wanted: &str| all.iter().find(|(name, _)| name == wanted).map(|(_, one)| one.clone());
        let made = Deployments::of(&entries, read, None);
        let ends: Vec<_> = made.versions.iter().map(|version| version.until.as_deref()).collect();
        assert_eq!(ends, [None, Some("1970-01-01T00:00:09Z")]);
        assert_eq!(made.versions[0].changes.as_ref().unwrap().len(), 2);
        assert_eq!(made.notices.len(), 4);
        assert_eq!(made.notices[3].until.as_deref(), Some("1970-01-01T00:00:09Z"));
        let shop = Deployments::of(&entries, read, Some("shop"));
        assert_eq!((shop.notices.len(), shop.versions[0].changes.as_ref().unwrap().len()), (2, 1));
        // What cannot be read is told from what did not change.
        let lost = Deployments::of(&entries, |_| None, None);
        assert!(lost.versions.iter().all(|version| version.changes.is_none()));
    }
}
