//! Letters to send, and what is to become of them.

use crate::support::crlf;

/// A newsletter with one open pixel, and what it is without.
#[derive(Clone, Debug)]
pub struct Letter {
    pub with: String,
    pub without: String,
}

const PIXEL: &str = "<img src=\"https://click.shop.example/wf/open?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6\" \
                     width=\"1\" height=\"1\" alt=\"\">";

/// The place it had.
const BOX: &str = "<img width=\"1\" height=\"1\" alt=\"\">";

impl Letter {
    /// `name` is its subject; `text` stands in its plain part, lines ending in LF.
    pub fn new(name: &str, text: &str) -> Letter {
        let build = |pixel: &str| {
            format!(
                "From: Shop <news@shop.example>\nTo: undisclosed-recipients:;\nSubject: {name}\nDate: Mon, \
                 02 Nov 2026 09:00:00 +0000\n\
                 Message-ID: <{}@shop.example>\nMIME-Version: 1.0\nContent-Type: multipart/alternative; \
                 boundary=\"b\"\n\n\
                 --b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n{text}\n\
                 --b\nContent-Type: text/html; charset=utf-8\n\n<html><body><p>News of the week</p>\n\
                 <img src=\"https://cdn.shop.example/logo.png\" width=\"140\" \
                 height=\"40\">\n{pixel}</body></html>\n\n--b--\n",
                name.replace(|character: char| !character.is_ascii_alphanumeric(), "-")
            )
        };
        Letter { with: build(PIXEL), without: build(BOX) }
    }

    /// As it must arrive.
    pub fn arrives(&self, keeps: Keeps) -> Vec<u8> {
        crlf(match keeps {
            Keeps::Everything => &self.with,
            Keeps::NoTracker => &self.without,
        })
        .into_bytes()
    }
}

/// What of a letter reaches somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    Everything,
    NoTracker,
}

/// People who agreed, `yes` of them, and people who did not, `no` of them, none of whom another case has.
pub fn people(case: &str, yes: usize, no: usize) -> (Vec<String>, Vec<String>) {
    let list =
        |word: &str, count| (1..=count).map(|number| format!("{word}{number}-{case}@home.example")).collect();
    (list("yes", yes), list("no", no))
}
