//! Everything that an authority may ask for, in one archive: audit records, the consent journal, the audit
//! trail, rules and notices, the ends of the chains, and how to verify all of it without this program.
//!
//! Promised: each line carries its link of its chain; an archive of everything has every line of every chain.
//! An archive for one controller has no line about another. Memory is bounded by the size of a part. Absent:
//! addresses, and subjects in clear.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde_json::{Value, json};

use crate::audit::{self, Entry};
use crate::chain::{Head, Link, sha256};
use crate::consent::said::{self, Said};
use crate::consent::view;
use crate::consent::{Controller, Outward, StoreKey, Timestamp};
use crate::deployments::{Deployed, Snapshot};
use crate::evidence::export::Line;
use crate::evidence::files::Folder;
use crate::evidence::find::{Order, Query, look};

const README: &str = include_str!("README.txt");
const VERIFY: &str = include_str!("verify.py");
/// The size at which a part is closed, in bytes.
const PART: usize = 8 << 20;
const BLOCK: usize = 512;
/// The most characters of a name in an archive of the form ustar.
const MAX_NAME: usize = 100;

/// Where everything is.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The directory of the audit records.
    pub evidence: &'a Path,
    /// The directory of the consent store.
    pub consent: &'a Path,
    /// The directory of the audit trail.
    pub trail: &'a Path,
    /// The key by which people are known.
    pub store_key: &'a StoreKey,
}

/// What an archive is to contain.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The controller; `None` for all of them.
    pub controller: Option<Controller>,
    /// The earliest time.
    pub since: Option<Timestamp>,
    /// The time before which it happened.
    pub until: Option<Timestamp>,
}

impl Wanted {
    fn is_everything(&self) -> bool {
        self.controller.is_none() && self.since.is_none() && self.until.is_none()
    }

    fn is_in(&self, at: Timestamp) -> bool {
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }

    fn is_about(&self, controller: &str) -> bool {
        self.controller.as_ref().is_none_or(|wanted| wanted.as_str() == controller)
    }

    /// Describes it in words.
    fn said(&self) -> String {
        let whose = self.controller.as_ref().map_or_else(
            || "everything on record, of all controllers".to_owned(),
            |controller| format!("what is on record about the controller {controller}"),
        );
        let since = self.since.map_or(String::new(), |since| format!(", since {since}"));
        let until = self.until.map_or(String::new(), |until| format!(", before {until}"));
        format!("{whose}{since}{until}")
    }
}

/// What an archive contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The number of audit records.
    pub evidence: u64,
    /// The number of entries of the consent journal.
    pub consent: u64,
    /// The number of entries of the audit trail.
    pub audit: u64,
}

/// Why an archive could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be written.
    #[error("the archive cannot be written: {0}")]
    Write(#[from] io::Error),
    /// What belongs in it cannot be read.
    #[error("{0}")]
    Read(String),
}

/// Writes an archive (tar, compressed with gzip).
///
/// # Errors
///
/// When something cannot be read or written. An archive with gaps would be worse than none.
pub fn write(
    out: impl Write,
    sources: Sources<'_>,
    wanted: &Wanted,
    now: Timestamp,
) -> Result<Contents, ArchiveError> {
    let day: String = now.to_string().chars().take(10).collect();
    let whose = wanted.controller.as_ref().map_or(String::new(), |controller| format!("-{controller}"));
    let mut tar = Tar::new(out, format!("pixelward{whose}-{day}"), now);
    let mut contents = Contents::default();
    let mut heads = serde_json::Map::new();
    heads.insert("complete".to_owned(), wanted.is_everything().into());
    heads.insert("evidence".to_owned(), evidence(&mut tar, sources, wanted, &mut contents)?);
    heads.insert("consent".to_owned(), consent(&mut tar, sources, wanted, &mut contents)?);
    let (audit, deployed) = trail(&mut tar, sources, wanted, &mut contents)?;
    heads.insert("audit".to_owned(), audit);
    rules(&mut tar, sources, wanted, &deployed)?;
    tar.add("heads.json", &pretty(&Value::Object(heads)))?;
    let is_whole = wanted.controller.is_none();
    let readme = README
        .replace("{scope}", &wanted.said())
        .replace("{made}", &now.to_string())
        .replace("{version}", env!("CARGO_PKG_VERSION"))
        .replace("{rules}", if is_whole { ", which is the SHA-256 of the file" } else { "" })
        .replace("{complete}", if wanted.is_everything() { " and none is missing" } else { "" });
    tar.add("README.txt", readme.as_bytes())?;
    tar.add("verify.py", VERIFY.as_bytes())?;
    tar.finish()?;
    Ok(contents)
}

fn read(error: impl std::fmt::Display) -> ArchiveError {
    ArchiveError::Read(error.to_string())
}

fn pretty(value: &Value) -> Vec<u8> {
    serde_json::to_vec_pretty(value).unwrap_or_default()
}

/// Returns what stands in heads.json about a chain.
fn head(begins: &Head, ends: &Head) -> Value {
    json!({
        "begins": hex::encode(begins.hash), "ends": hex::encode(ends.hash),
        "first": begins.count + 1, "last": ends.count,
    })
}

fn proof(link: &Link) -> Value {
    json!({
        "record": link.number, "hash_before": hex::encode(link.before),
        "payload": hex::encode(&link.payload), "hash": hex::encode(link.hash),
    })
}

fn evidence<W: Write>(
    tar: &mut Tar<W>,
    sources: Sources<'_>,
    wanted: &Wanted,
    contents: &mut Contents,
) -> Result<Value, ArchiveError> {
    let query = Query {
        controller: wanted.controller.as_ref().map(ToString::to_string),
        since: wanted.since,
        until: wanted.until,
        ..Query::default()
    };
    let mut ends: BTreeMap<u16, Head> = BTreeMap::new();
    let mut begins: BTreeMap<u16, Head> = BTreeMap::new();
    for folder in Folder::all(sources.evidence).map_err(read)? {
        let start = folder.kept_from().map_err(read)?;
        begins.insert(folder.days, start);
        ends.insert(folder.days, start);
    }
    let mut lines = Lines::new("evidence");
    let mut failed = None;
    let looked = look(sources.evidence, &query, Order::Oldest, |found| {
        for item in &found {
            // The head of an archive of everything is that of its last line: the relay goes on meanwhile.
            ends.insert(item.days, Head { count: item.link.number, hash: item.link.hash });
            contents.evidence += 1;
            failed = failed.take().or_else(|| lines.add(tar, &Line::from(item)).err());
        }
        failed.is_none()
    });
    let looked = looked.map_err(read)?;
    failed.map_or(Ok(()), Err)?;
    if let Some(trouble) = looked.troubles.first() {
        return Err(read(trouble));
    }
    lines.close(tar)?;
    let chains = ends.iter().map(|(days, ends)| {
        let begins = begins.get(days).copied().unwrap_or(Head::EMPTY);
        (days.to_string(), head(&begins, ends))
    });
    Ok(Value::Object(chains.collect()))
}

fn consent<W: Write>(
    tar: &mut Tar<W>,
    sources: Sources<'_>,
    wanted: &Wanted,
    contents: &mut Contents,
) -> Result<Value, ArchiveError> {
    let mut lines = Lines::new("consent");
    let mut failed = None;
    let mut outward: BTreeMap<String, Outward> = BTreeMap::new();
    let end = said::each(sources.consent, sources.store_key, |said| {
        let Some(line) = consent_line(&said, sources.store_key, wanted, &mut outward) else { return };
        contents.consent += 1;
        failed = failed.take().or_else(|| lines.add(tar, &line).err());
    });
    let end = end.map_err(read)?;
    failed.map_or(Ok(()), Err)?;
    lines.close(tar)?;
    Ok(json!({ "consent": head(&Head::EMPTY, &end) }))
}

/// Returns the line of an entry of the journal; `None` if it is not wanted.
fn consent_line(
    said: &Said<'_>,
    store_key: &StoreKey,
    wanted: &Wanted,
    outward: &mut BTreeMap<String, Outward>,
) -> Option<Value> {
    let proof = proof(&said.link());
    let Some(entered) = &said.entered else {
        // An erasure, or a mark of a cluster: it belongs to no controller.
        return wanted.is_everything().then(|| json!({ "record": said.number, "proof": proof }));
    };
    let controller = &entered.change.controller;
    if !wanted.is_about(controller.as_str()) || !wanted.is_in(entered.recorded_at) {
        return None;
    }
    let known = outward.entry(controller.to_string()).or_insert_with(|| Outward::of(store_key, controller));
    let mut line = serde_json::to_value(view::Record::of(entered)).unwrap_or_default();
    if let Some(fields) = line.as_object_mut() {
        fields.insert("person".to_owned(), said.person.map(|person| known.shown(person)).into());
        fields.insert("proof".to_owned(), proof);
    }
    Some(line)
}

/// Writes the audit trail. Returns where it begins and ends, and the deployments in it.
fn trail<W: Write>(
    tar: &mut Tar<W>,
    sources: Sources<'_>,
    wanted: &Wanted,
    contents: &mut Contents,
) -> Result<(Value, Vec<(Entry, Deployed)>), ArchiveError> {
    let mut lines = Lines::new("audit");
    let mut failed = None;
    let mut deployed = Vec::new();
    let mut end = Head::EMPTY;
    if sources.trail.exists() {
        end = audit::links(sources.trail, |link, chained| {
            let entry = &chained.entry;
            let deployment = Deployed::of(&chained);
            let controller = entry.controller.as_deref();
            // Rules that came into force before the period were in force in it.
            let is_about = deployment.is_some() || wanted.is_about(controller.unwrap_or_default());
            let is_wanted = is_about && (deployment.is_some() || wanted.is_in(Timestamp(entry.at)));
            if is_wanted && !(deployment.is_some() && wanted.controller.is_some()) {
                let mut line = serde_json::to_value(entry).unwrap_or_default();
                if let Some(fields) = line.as_object_mut() {
                    fields.insert("time".to_owned(), Timestamp(entry.at).to_string().into());
                    fields.insert("proof".to_owned(), proof(&link));
                }
                contents.audit += 1;
                failed = failed.take().or_else(|| lines.add(tar, &line).err());
            }
            deployed.extend(deployment.map(|deployment| (entry.clone(), deployment)));
        })
        .map_err(read)?;
    }
    failed.map_or(Ok(()), Err)?;
    lines.close(tar)?;
    Ok((json!({ "audit": head(&Head::EMPTY, &end) }), deployed))
}

/// Writes the rules and notices of all versions.
fn rules<W: Write>(
    tar: &mut Tar<W>,
    sources: Sources<'_>,
    wanted: &Wanted,
    deployed: &[(Entry, Deployed)],
) -> Result<(), ArchiveError> {
    let mut seen = BTreeSet::new();
    for (entry, deployment) in deployed {
        if !seen.insert(deployment.after.clone()) {
            continue;
        }
        let Some(snapshot) = Snapshot::read(sources.trail, &deployment.after) else {
            return Err(read(format!("the snapshot {} is missing or was changed", deployment.after)));
        };
        let day: String = Timestamp(entry.at).to_string().chars().take(10).collect();
        let short = deployment.after.get(..12).unwrap_or_default();
        match &wanted.controller {
            None => tar.add(&format!("rules/{}.json", deployment.after), &snapshot.bytes())?,
            Some(controller) => {
                tar.add(&format!("rules/{day}-{short}.json"), &snapshot.of(controller.as_str()).bytes())?;
            }
        }
        for (page, fields) in snapshot.areas.get("notices").into_iter().flatten() {
            let (Some((controller, language)), Some(text), Some(hash)) =
                (page.split_once('/'), fields.get("text"), fields.get("text_hash"))
            else {
                continue;
            };
            let name = format!("notices/{controller}-{language}-{}.txt", hash.get(..12).unwrap_or_default());
            if wanted.is_about(controller) && seen.insert(name.clone()) {
                tar.add(&name, text.as_bytes())?;
            }
        }
    }
    Ok(())
}

/// Lines that are written in parts.
struct Lines {
    folder: &'static str,
    part: u32,
    bytes: Vec<u8>,
}

impl Lines {
    fn new(folder: &'static str) -> Lines {
        Lines { folder, part: 1, bytes: Vec::new() }
    }

    fn add<W: Write>(&mut self, tar: &mut Tar<W>, line: &impl Serialize) -> Result<(), ArchiveError> {
        serde_json::to_writer(&mut self.bytes, line).map_err(|error| ArchiveError::Write(error.into()))?;
        self.bytes.push(b'\n');
        if self.bytes.len() >= PART { self.close(tar) } else { Ok(()) }
    }

    fn close<W: Write>(&mut self, tar: &mut Tar<W>) -> Result<(), ArchiveError> {
        if !self.bytes.is_empty() {
            tar.add(&format!("{}/{:06}.jsonl", self.folder, self.part), &self.bytes)?;
            self.bytes.clear();
            self.part += 1;
        }
        Ok(())
    }
}

/// A compressed tar (POSIX.1-1988, ustar), and the hashes of what is in it.
struct Tar<W: Write> {
    out: GzEncoder<W>,
    root: String,
    at: u64,
    sums: String,
}

impl<W: Write> Tar<W> {
    fn new(out: W, root: String, now: Timestamp) -> Tar<W> {
        let at = u64::try_from(now.0 / 1000).unwrap_or_default();
        Tar { out: GzEncoder::new(out, Compression::default()), root, at, sums: String::new() }
    }

    fn add(&mut self, name: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.sums.push_str(&format!("{}  {name}\n", hex::encode(sha256(bytes))));
        self.put(name, bytes)
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
        let name = format!("{}/{name}", self.root);
        if name.len() >= MAX_NAME {
            return Err(read(format!("the name {name} is too long for an archive")));
        }
        let mut header = [0u8; BLOCK];
        let fields: [(usize, String); 9] = [
            (0, name),
            (100, "0000600\0".to_owned()),
            (108, "0000000\0".to_owned()),
            (116, "0000000\0".to_owned()),
            (124, format!("{:011o}\0", bytes.len())),
            (136, format!("{:011o}\0", self.at)),
            // The checksum counts as spaces until it is known.
            (148, "        ".to_owned()),
            (156, "0".to_owned()),
            (257, "ustar\x0000".to_owned()),
        ];
        for (place, field) in &fields {
            put(&mut header, *place, field);
        }
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        put(&mut header, 148, &format!("{sum:06o}\0 "));
        self.out.write_all(&header)?;
        self.out.write_all(bytes)?;
        let rest = bytes.len().next_multiple_of(BLOCK) - bytes.len();
        self.out.write_all([0u8; BLOCK].get(..rest).unwrap_or_default())?;
        Ok(())
    }

    fn finish(mut self) -> Result<(), ArchiveError> {
        let sums = std::mem::take(&mut self.sums);
        self.put("SHA256SUMS", sums.as_bytes())?;
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.finish()?.flush()?;
        Ok(())
    }
}

fn put(header: &mut [u8; BLOCK], place: usize, field: &str) {
    header.iter_mut().skip(place).zip(field.bytes()).for_each(|(target, byte)| *target = byte);
}
