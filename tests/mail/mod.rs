//! Test messages, and what becomes of them.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

pub mod newsletters;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use bytes::Bytes;
use pixelward::rewrite::{Copy, Order, rewrite};
use pixelward::tracker::{Detector, Extent, Inquiry};

pub static DETECTOR: LazyLock<Detector> = LazyLock::new(Detector::default);

/// A file with CRLF line ends.
pub fn read(path: &Path) -> Bytes {
    let text = std::fs::read(path).unwrap();
    let mut out = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line)).ok_or(line);
        match line {
            Ok(line) => out.extend_from_slice(&[line, b"\r\n"].concat()),
            Err(line) => out.extend_from_slice(line),
        }
    }
    Bytes::from(out)
}

/// All messages below `tests/messages`.
pub fn messages() -> Vec<(PathBuf, Bytes)> {
    in_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/messages"))
}

/// All messages that the project has: short ones below `tests/messages` and newsletters.
pub fn own_messages() -> Vec<(PathBuf, Bytes)> {
    messages().into_iter().chain(newsletters::newsletters()).collect()
}

/// Real messages: an extra, in the folder that `PIXELWARD_CORPUS` names. Where it names none, that is said
/// and there are none.
pub fn real_messages(test: &str) -> Vec<(PathBuf, Bytes)> {
    let Some(corpus) = std::env::var_os("PIXELWARD_CORPUS") else {
        // Past the harness, which shows only what failed tests say.
        let said =
            format!("{test}: skipped for real messages, since PIXELWARD_CORPUS names no folder of them\n");
        let _ = std::io::stderr().write_all(said.as_bytes());
        return Vec::new();
    };
    let folders = ["tracked", "clean", "carriers"].map(|folder| Path::new(&corpus).join(folder));
    let found: Vec<(PathBuf, Bytes)> = folders.iter().flat_map(|folder| in_folder(folder)).collect();
    assert!(!found.is_empty(), "PIXELWARD_CORPUS names {}, which has no messages", corpus.display());
    found
}

/// All messages in a folder, by name.
pub fn in_folder(folder: &Path) -> Vec<(PathBuf, Bytes)> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "eml"))
        .collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), read(&path))).collect()
}

/// What leaves for somebody who did not agree.
pub fn rewritten(raw: &Bytes, extent: Extent) -> Bytes {
    let inquiry = Inquiry { extent, ..Inquiry::to(&["ann@home.example"]) };
    let order = Order::strip(inquiry);
    let analysis = DETECTOR.analyse(raw, &inquiry);
    match rewrite(&DETECTOR, raw, &analysis, &order).unwrap() {
        Copy::Untouched => raw.clone(),
        Copy::Rewritten { bytes, .. } => bytes,
    }
}
