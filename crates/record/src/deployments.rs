//! Which rules were in force when: each start and each reload that brings other rules, notices, vendors or
//! keys into force leaves an entry in the audit trail, and beside it a snapshot of what was declared.
//!
//! Promised: the entry has the fingerprint of the snapshot, so that a snapshot which was changed later is not
//! taken for what was deployed. Absent: secrets, and whatever is no rule, such as addresses and limits.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::audit::{Audit, Chained, DEPLOYED, Entry};
use crate::chain::{ChainError, at, sha256};
use crate::consent::Timestamp;

/// What the fingerprint is called where there was nothing before.
const NOTHING: &str = "none";
/// The maximum number of characters that an entry says about what changed.
const MAX_SAID: usize = 2000;
/// The maximum number of names of one kind in an entry.
const MAX_NAMES: usize = 20;
/// The maximum size of a snapshot, in bytes.
const MAX_SNAPSHOT: u64 = 64 << 20;

/// What is declared of one thing, such as the fields of a mailstream.
pub type Fields = BTreeMap<String, String>;

/// Everything that is declared: by area (`controllers`, `mailstreams`, ...), then by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The areas.
    #[serde(flatten)]
    pub areas: BTreeMap<String, BTreeMap<String, Fields>>,
}

/// How something changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It is new.
    Added,
    /// It is no longer there.
    Removed,
    /// Some fields are different.
    Changed,
}

/// Something that changed from one snapshot to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The area.
    pub area: String,
    /// The name.
    pub name: String,
    /// How it changed.
    pub kind: Kind,
    /// The fields that differ; of something new or gone, all.
    pub fields: Vec<FieldChange>,
}

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldChange {
    /// The name of the field.
    pub name: String,
    /// The value before; empty if there was none.
    pub from: String,
    /// The value after; empty if there is none.
    pub to: String,
}

/// What an entry of the trail says about a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    /// The fingerprint of what was in force before; `None` if nothing was.
    pub before: Option<String>,
    /// The fingerprint of what came into force.
    pub after: String,
    /// How it came into force, and what changed.
    pub said: String,
}

impl Snapshot {
    /// Adds a thing to an area.
    pub fn add(&mut self, area: &str, name: impl Into<String>, fields: Fields) {
        self.areas.entry(area.to_owned()).or_default().insert(name.into(), fields);
    }

    /// Returns what of it concerns one controller: its own declarations, and what holds for all.
    #[must_use]
    pub fn of(&self, controller: &str) -> Snapshot {
        let owner = |name: &str| name.split('/').next() == Some(controller);
        let areas = self.areas.iter().filter(|(area, _)| *area != "dkim");
        let own = areas.map(|(area, things)| {
            let is_owned = matches!(area.as_str(), "controllers" | "mailstreams" | "notices");
            let kept = things.iter().filter(|(name, _)| !is_owned || owner(name));
            (area.clone(), kept.map(|(name, fields)| (name.clone(), fields.clone())).collect())
        });
        Snapshot { areas: own.collect() }
    }

    /// Returns the bytes of its file, which are the same for the same contents.
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// Returns the SHA-256 of its bytes, in hexadecimal.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.bytes())
    }

    /// Returns where snapshots are kept beside an audit trail.
    pub fn folder(trail: &Path) -> PathBuf {
        trail.join("deployed")
    }

    /// Reads the snapshot with this fingerprint; `None` if there is none, or if it is not what it was.
    pub fn read(trail: &Path, wanted: &str) -> Option<Snapshot> {
        let is_plain = wanted.len() == 64 && wanted.bytes().all(|byte| byte.is_ascii_hexdigit());
        let path = Snapshot::folder(trail).join(format!("{wanted}.json"));
        let is_small = std::fs::metadata(&path).ok()?.len() <= MAX_SNAPSHOT;
        let bytes = (is_plain && is_small).then(|| std::fs::read(&path).ok()).flatten()?;
        (fingerprint(&bytes) == wanted).then(|| serde_json::from_slice(&bytes).ok()).flatten()
    }

    fn write(&self, trail: &Path) -> Result<(), ChainError> {
        use std::os::unix::fs::DirBuilderExt;
        let folder = Snapshot::folder(trail);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(at(&folder))?;
        let path = folder.join(format!("{}.json", self.fingerprint()));
        pixelward_files::replace(&path, &self.bytes()).map(drop).map_err(at(&path))
    }

    /// Lists what changed since another snapshot.
    pub fn since(&self, before: &Snapshot) -> Vec<Difference> {
        let none = BTreeMap::new();
        let areas: BTreeSet<&String> = self.areas.keys().chain(before.areas.keys()).collect();
        let mut all = Vec::new();
        for area in areas {
            let old = before.areas.get(area).unwrap_or(&none);
            let new = self.areas.get(area).unwrap_or(&none);
            let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                let kind = match (old.contains_key(name), new.contains_key(name)) {
                    (false, _) => Kind::Added,
                    (_, false) => Kind::Removed,
                    _ => Kind::Changed,
                };
                let fields = changed(old.get(name), new.get(name));
                if kind != Kind::Changed || !fields.is_empty() {
                    all.push(Difference { area: area.clone(), name: name.clone(), kind, fields });
                }
            }
        }
        all
    }
}

fn fingerprint(bytes: &[u8]) -> String {
    hex::encode(sha256(bytes))
}

fn changed(old: Option<&Fields>, new: Option<&Fields>) -> Vec<FieldChange> {
    let names: BTreeSet<&String> = old.into_iter().chain(new).flat_map(BTreeMap::keys).collect();
    let of = |fields: Option<&Fields>, name: &String| {
        fields.and_then(|fields| fields.get(name)).cloned().unwrap_or_default()
    };
    let changes = names.into_iter().map(|name| FieldChange {
        name: name.clone(),
        from: of(old, name),
        to: of(new, name),
    });
    changes.filter(|change| change.from != change.to).collect()
}

/// Notes that this came into force, unless it already was. Returns whether an entry was written.
///
/// # Errors
///
/// When the trail or the snapshot cannot be written.
pub fn note(
    audit: &mut Audit,
    trail: &Path,
    snapshot: &Snapshot,
    (actor, how): (&str, &str),
    now: Timestamp,
) -> Result<bool, ChainError> {
    let after = snapshot.fingerprint();
    let newest = audit.deployments(1)?.into_iter().next().and_then(|entry| Deployed::of(&entry));
    if newest.as_ref().is_some_and(|newest| newest.after == after) {
        return Ok(false);
    }
    snapshot.write(trail)?;
    let old = newest.as_ref().and_then(|newest| Snapshot::read(trail, &newest.after));
    let said = match (&newest, old) {
        (Some(_), None) => "what was in force before cannot be read".to_owned(),
        (_, old) => summary(&snapshot.since(&old.unwrap_or_default())),
    };
    let before = newest.map_or_else(|| NOTHING.to_owned(), |newest| newest.after);
    let entry = Entry {
        at: now.0,
        token: String::new(),
        actor: actor.to_owned(),
        action: DEPLOYED.to_owned(),
        controller: None,
        person: None,
        detail: Some(format!("{before} {after} {how}: {said}")),
    };
    audit.write(&entry)?;
    Ok(true)
}

/// Names what changed in one line.
fn summary(differences: &[Difference]) -> String {
    let mut areas: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for Difference { area, name, kind, fields } in differences {
        let said = match kind {
            Kind::Added => format!("+{name}"),
            Kind::Removed => format!("-{name}"),
            Kind::Changed => {
                let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
                format!("{name} ({})", names.join(", "))
            }
        };
        areas.entry(area).or_default().push(said);
    }
    let mut line = String::new();
    for (area, names) in areas {
        let separator = if line.is_empty() { "" } else { "; " };
        let shown = names.iter().take(MAX_NAMES).cloned().collect::<Vec<_>>().join(", ");
        let _ = write!(line, "{separator}{area} {shown}");
        if names.len() > MAX_NAMES {
            let _ = write!(line, " and {} more", names.len() - MAX_NAMES);
        }
    }
    line.chars().take(MAX_SAID).collect()
}

impl Deployed {
    /// Reads what an entry says; `None` if it is about something else.
    pub fn of(entry: &Chained) -> Option<Deployed> {
        let detail = entry.entry.detail.as_deref().filter(|_| entry.entry.action == DEPLOYED)?;
        let mut words = detail.splitn(3, ' ');
        let (before, after, said) = (words.next()?, words.next()?, words.next()?);
        let before = Some(before.to_owned()).filter(|before| before != NOTHING);
        Some(Deployed { before, after: after.to_owned(), said: said.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn snapshot(mode: &str, with_offers: bool) -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.add("controllers", "shop", fields(&[("on_grant", "gate")]));
        snapshot.add("mailstreams", "shop/news", fields(&[("mode", mode), ("purposes", "a, b")]));
        if with_offers {
            snapshot.add("mailstreams", "shop/offers", fields(&[("mode", "enforce")]));
        }
        snapshot
    }

    #[test]
    fn only_what_changed_is_noted_and_a_forged_snapshot_is_not_read() {
        let folder = std::env::temp_dir().join(format!("pixelward-deployed-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let mut audit = Audit::open(&folder).unwrap();
        let mut noted = |snapshot: &Snapshot| {
            let done = note(&mut audit, &folder, snapshot, ("ann", "start"), Timestamp(1)).unwrap();
            (done, Deployed::of(&audit.deployments(1).unwrap()[0]).unwrap())
        };
        let (first, second) = (snapshot("observe", false), snapshot("enforce", true));
        let (done, deployed) = noted(&first);
        assert!(done && deployed.before.is_none());
        assert_eq!(deployed.said, "start: controllers +shop; mailstreams +shop/news");
        assert!(!noted(&first).0);
        let (done, deployed) = noted(&second);
        assert!(done);
        assert_eq!(deployed.before, Some(first.fingerprint()));
        assert_eq!(deployed.said, "start: mailstreams shop/news (mode), +shop/offers");
        assert_eq!(noted(&first).1.said, "start: mailstreams shop/news (mode), -shop/offers");
        // It is known again after a restart.
        drop(audit);
        let mut audit = Audit::open(&folder).unwrap();
        assert!(!note(&mut audit, &folder, &first, ("ann", "start"), Timestamp(2)).unwrap());
        assert_eq!(
            audit.deployments(9).unwrap().iter().map(|entry| entry.number).collect::<Vec<_>>(),
            [3, 2, 1]
        );
        assert_eq!(Snapshot::read(&folder, &second.fingerprint()), Some(second.clone()));
        let path = Snapshot::folder(&folder).join(format!("{}.json", second.fingerprint()));
        std::fs::write(&path, first.bytes()).unwrap();
        assert_eq!(Snapshot::read(&folder, &second.fingerprint()), None);
        assert_eq!(Snapshot::read(&folder, "../../etc/passwd"), None);
        let _ = std::fs::remove_dir_all(&folder);
    }

    #[test]
    fn differences_have_both_values() {
        let found = snapshot("enforce", true).since(&snapshot("observe", false));
        let mode = FieldChange { name: "mode".into(), from: "observe".into(), to: "enforce".into() };
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].kind, &found[0].fields), (Kind::Changed, &vec![mode]));
        assert_eq!((found[1].kind, found[1].name.as_str()), (Kind::Added, "shop/offers"));
        assert!(snapshot("observe", true).since(&snapshot("observe", true)).is_empty());
    }
}
