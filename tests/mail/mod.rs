//! Test messages, and what becomes of them.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use bytes::Bytes;
use pixelward::rewrite::{Copy, LinkTreatment, Opens, Order, Personal, Receipts, Verify, rewrite};
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

/// All messages in a folder, by name; none where it is not there.
pub fn in_folder(folder: &Path) -> Vec<(PathBuf, Bytes)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|own| own == "eml"))
        .collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), read(&path))).collect()
}

/// What leaves for somebody who did not agree.
pub fn rewritten(raw: &Bytes, extent: Extent) -> Bytes {
    let inquiry = Inquiry { extent, ..Inquiry::to(&["ann@home.example"]) };
    let order = Order {
        opens: Opens::Strip,
        added: &[],
        inquiry,
        receipts: Receipts::Strip,
        personal: Personal::Gentlest,
        links: LinkTreatment::Keep,
        verify: Verify::On,
    };
    let analysis = DETECTOR.analyse(raw, &inquiry);
    match rewrite(&DETECTOR, raw, &analysis, &order).unwrap() {
        Copy::Untouched => raw.clone(),
        Copy::Rewritten { bytes, .. } => bytes,
    }
}
