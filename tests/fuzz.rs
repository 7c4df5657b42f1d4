//! A fuzzer that needs no other compiler: changed messages of our own, and real ones where they are at hand,
//! through each area of `fuzz/areas.rs`. Each area takes `PIXELWARD_FUZZ_SECONDS`, or 2. An input that fails
//! is kept below `target/tmp/fuzz`, and `PIXELWARD_FUZZ_INPUT` names one to be tried again. Those that failed
//! once stand in `fuzz/found`, and are tried first.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../fuzz/areas.rs"]
#[allow(unreachable_pub, reason = "the targets of cargo-fuzz call it, too")]
mod areas;
mod mail;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use areas::AREAS;
use mail::{own_messages, real_messages};
use pixelward::guarded::guarded;
use pixelward::message::{Content, Structure, Text};

/// Inputs are not longer: what hangs on length is for `benches/linear.rs`.
const LONGEST: usize = 64 * 1024;

/// Pieces that mean something to what reads them.
const PIECES: [&str; 64] = [
    "<img src=\"",
    "<img src=//t.news.example/wf/open?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6 width=1 height=1>",
    "\">",
    "'>",
    "?format=png",
    "?format=jpeg",
    "//h",
    "http:",
    "https://",
    "=3D",
    "=\r\n",
    "=",
    "<!--",
    "-->",
    "<!--[if mso]>",
    "<![endif]-->",
    "<style>",
    "</style>",
    "<svg>",
    "</svg>",
    "<math>",
    "url(",
    ")",
    "@import \"",
    "\\75",
    "\\",
    "/*",
    "*/",
    "&#104;",
    "&amp;",
    "&",
    "<base href=\"",
    "srcset=\"",
    " 1x, ",
    " 2x",
    "<iframe srcdoc=\"",
    "style=\"display:none;",
    "width:1px",
    "<title>",
    "<textarea>",
    "</body>",
    "\r\n\r\n",
    "\r\n",
    "\r\n ",
    "--b\r\n",
    "--b--\r\n",
    "Content-Type: multipart/mixed; boundary=b\r\n\r\n",
    "Content-Type: message/rfc822\r\n\r\n",
    "Content-Type: text/html; charset=utf-16\r\n",
    "Content-Type: text/calendar\r\n",
    "Content-Transfer-Encoding: base64\r\n",
    "Content-Transfer-Encoding: quoted-printable\r\n",
    "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; ",
    "d=shop.example; s=a; h=from:subject; ",
    "bh=; b=AA==\r\n",
    "l=5; ",
    "l=99999999999999999999; ",
    "X-Kind: watched\r\n",
    "Disposition-Notification-To: a@b.example\r\n",
    "{{pixelward.preferences}}",
    "{{pixelward.request}}",
    "ann@home.example",
    "\u{0}",
    "\u{feff}",
];

struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize
    }

    fn below(&mut self, most: usize) -> usize {
        self.next() % most.max(1)
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// A place within an input, with a length from there on, short ones more often.
    fn range(&mut self, input: &[u8]) -> std::ops::Range<usize> {
        let start = self.below(input.len() + 1);
        let most = match self.below(4) {
            0 => 4,
            1 => 64,
            2 => 1024,
            _ => input.len(),
        };
        start..(start + self.below(most + 1)).min(input.len())
    }
}

/// An input that comes of a seed by some changes.
fn changed(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = random.of(seeds).clone();
    for _ in 0..=random.below(6) {
        let range = random.range(&input);
        match random.below(8) {
            0 | 1 => drop(input.splice(range.start..range.start, random.of(&PIECES).bytes())),
            2 => drop(input.splice(range, random.of(&PIECES).bytes())),
            3 => drop(input.drain(range)),
            4 => {
                let twice = input[range.clone()].to_vec();
                drop(input.splice(range.end..range.end, twice));
            }
            5 => {
                let other = random.of(seeds);
                let piece = other[random.range(other)].to_vec();
                drop(input.splice(range, piece));
            }
            6 => {
                for at in range.take(8) {
                    input[at] = random.next() as u8;
                }
            }
            _ => {
                if let Some(byte) = input.get_mut(range.start) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
    input.truncate(LONGEST);
    input
}

/// What an area begins with.
fn seeds(area: &str) -> Vec<Vec<u8>> {
    let messages = own_messages().into_iter().chain(real_messages(&format!("fuzz {area}")));
    let messages: Vec<Vec<u8>> =
        messages.map(|(_, raw)| raw.to_vec()).filter(|raw| raw.len() <= LONGEST).collect();
    let texts = |raw: &Vec<u8>| -> Vec<Vec<u8>> {
        let structure = Structure::read(raw);
        let html = structure.leaves.iter().filter(|leaf| leaf.content == Content::Html);
        html.map(|leaf| Text::new(raw, leaf).bytes().to_vec()).collect()
    };
    let behind = |start: &[u8], rest: &[u8]| [start, rest].concat();
    match area {
        "html" => messages.iter().flat_map(texts).collect(),
        "css" => messages.iter().flat_map(texts).filter_map(|html| styles(&html)).collect(),
        "transfer" => {
            let body =
                |raw: &Vec<u8>| memchr::memmem::find(raw, b"\r\n\r\n").map(|at| raw[at + 4..].to_vec());
            messages.iter().filter_map(body).map(|body| behind(&[6; 13], &body)).collect()
        }
        "dkim" => {
            let field = PIECES[52..55].concat();
            messages.iter().map(|raw| [&[9, 0, 5], field.as_bytes(), raw].concat()).collect()
        }
        "whole" => {
            messages.iter().zip((0u8..=255).cycle()).map(|(raw, which)| behind(&[which], raw)).collect()
        }
        _ => messages,
    }
}

/// The style sheets of a document.
fn styles(html: &[u8]) -> Option<Vec<u8>> {
    let start = memchr::memmem::find(html, b"<style>")? + 7;
    let end = memchr::memmem::find(&html[start..], b"</style>")?;
    Some(html[start..start + end].to_vec())
}

fn found(area: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/found").join(area);
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn run(area: &str) {
    let (_, check) = AREAS.into_iter().find(|(name, _)| *name == area).unwrap();
    if let Some(path) = std::env::var_os("PIXELWARD_FUZZ_INPUT") {
        return check(&std::fs::read(path).unwrap());
    }
    for (path, input) in found(area) {
        assert!(guarded(|| check(&input)).is_ok(), "{} fails again", path.display());
    }
    let seconds = std::env::var("PIXELWARD_FUZZ_SECONDS").map_or(2, |text| text.parse().unwrap());
    let number = std::env::var("PIXELWARD_FUZZ_SEED")
        .map_or_else(|_| RandomState::new().build_hasher().finish(), |text| text.parse().unwrap());
    let (mut random, seeds) = (Random(number | 1), seeds(area));
    assert!(!seeds.is_empty());
    let (started, mut tried) = (Instant::now(), 0u64);
    while started.elapsed() < Duration::from_secs(seconds) {
        let input = changed(&mut random, &seeds);
        if let Err(error) = guarded(|| check(&input)) {
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
            std::fs::create_dir_all(&folder).unwrap();
            let path = folder.join(format!("{area}-{number}-{tried}"));
            std::fs::write(&path, &input).unwrap();
            panic!("{area}: {error}; the input is {}", path.display());
        }
        tried += 1;
    }
    println!(
        "{area}: {tried} inputs from {} seeds in {seconds} s, nothing found (seed {number})",
        seeds.len()
    );
}

macro_rules! areas {
    ($($area:ident),*) => {$(
        #[test]
        fn $area() {
            run(stringify!($area));
        }
    )*};
}

areas!(mime, html, css, transfer, difference, dkim, whole);
