//! Arbitrary messages with one pixel: what leaves is the message without the pixel, and every byte that had
//! no reason to change is the one that came.

use std::sync::LazyLock;

use bytes::Bytes;
use pixelward::message::transfer::{Decoded, encode_base64};
use pixelward::message::{Content, Structure, Transfer};
use pixelward::rewrite::{Copy, Order, rewrite};
use pixelward::tracker::{Detector, Inquiry};
use proptest::prelude::*;

static DETECTOR: LazyLock<Detector> = LazyLock::new(Detector::default);

const PIXEL: &str = "<img src=\"https://click.shop.example/wf/open?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6\" \
                     width=\"0\" height=\"0\" alt=\"\">";

fn quoted_printable(text: &str) -> String {
    let mut out = String::new();
    let mut column = 0;
    let lines: Vec<&str> = text.split("\r\n").collect();
    for (number, line) in lines.iter().enumerate() {
        for (index, byte) in line.bytes().enumerate() {
            let last = index + 1 == line.len();
            let plain = (33..=126).contains(&byte) && byte != b'=' || byte == b' ' && !last;
            let piece = if plain { char::from(byte).to_string() } else { format!("={byte:02X}") };
            if column + piece.len() > 75 {
                out.push_str("=\r\n");
                column = 0;
            }
            column += piece.len();
            out.push_str(&piece);
        }
        if number + 1 < lines.len() {
            out.push_str("\r\n");
            column = 0;
        }
    }
    out
}

fn base64(text: &str) -> String {
    let all = encode_base64(text.as_bytes());
    all.as_bytes()
        .chunks(76)
        .map(|line| String::from_utf8(line.to_vec()).unwrap())
        .collect::<Vec<_>>()
        .join("\r\n")
}

fn encoded(text: &str, transfer: Transfer) -> (&'static str, String) {
    match transfer {
        Transfer::Identity => ("8bit", text.to_owned()),
        Transfer::QuotedPrintable => ("quoted-printable", quoted_printable(text)),
        Transfer::Base64 => ("base64", base64(text)),
        Transfer::Uuencode | Transfer::Yenc => unreachable!("none of those that are drawn"),
    }
}

fn transfer() -> impl Strategy<Value = Transfer> {
    prop_oneof![Just(Transfer::Identity), Just(Transfer::QuotedPrintable), Just(Transfer::Base64)]
}

/// Markup that loads nothing, in lines.
fn markup() -> impl Strategy<Value = String> {
    "(<p>|</p>|<br>|[a-z \u{e9}=.]{1,40}|&amp;|\r\n|<b class=x>|</b>|<!-- c -->){0,60}"
}

/// The HTML text of the first HTML part, decoded.
fn html(raw: &[u8]) -> Vec<u8> {
    let structure = Structure::read(raw);
    let leaf = structure.leaves.iter().find(|leaf| leaf.content == Content::Html).unwrap();
    Decoded::new(&raw[leaf.body.clone()], leaf.transfer).bytes.into_owned()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn only_the_pixel_goes(before in markup(), after in markup(), beside in "[ \
        -~\r\n]{0,200}", way in transfer(), pixel in any::<bool>()) {
        let beside = beside.replace(['\r', '\n', '-'], " ");
        let pixel = if pixel { PIXEL } else { "" };
        let (name, body) = encoded(&format!("<html>{before}<i></i>{pixel}<i></i>{after}</html>"), way);
        let head = format!(
            "Subject: a\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; \
             boundary=b\r\n\r\n{beside}\r\n--b\r\n\
             Content-Type: text/plain\r\n\r\n{beside}\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\n\
             Content-Transfer-Encoding: {name}\r\n\r\n"
        );
        let tail = format!("\r\n--b\r\nContent-Type: image/png\r\n\r\n{beside}\r\n--b--\r\n{beside}\r\n");
        let raw = Bytes::from(format!("{head}{body}{tail}"));
        let detector = &*DETECTOR;
        let inquiry = Inquiry::to(&[]);
        let analysis = detector.analyse(&raw, &inquiry);
        let order = Order::strip(inquiry);
        match rewrite(detector, &raw, &analysis, &order).unwrap() {
            Copy::Untouched => prop_assert!(pixel.is_empty()),
            Copy::Rewritten { bytes, edits, .. } => {
                prop_assert!(!pixel.is_empty());
                prop_assert!(bytes.starts_with(head.as_bytes()) && bytes.ends_with(tail.as_bytes()));
                let wanted = format!("<html>{before}<i></i><i></i>{after}</html>");
                let got = String::from_utf8(html(&bytes)).unwrap().replace("<!---->", "").replace("<!-- \
                    -->", "");
                prop_assert_eq!(got, wanted);
                // Whole lines before and behind the edit are those that came.
                let edit = &edits[0];
                let (before, after) = (&raw[..edit.range.start], &raw[edit.range.end..]);
                let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                let line_length = after.iter().position(|byte| *byte == b'\n').map_or(after.len(), |at| at + 1);
                let line_end = edit.range.end + line_length;
                prop_assert_eq!(edits.len(), 1);
                prop_assert!(bytes.starts_with(&raw[..line_start]));
                prop_assert!(bytes.ends_with(&raw[line_end..]));
                let longest = |raw: &[u8]| raw.split(|byte| *byte == b'\n').map(<[u8]>::len).max();
                prop_assert!(longest(&bytes) <= longest(&raw).max(Some(77)));
            }
        }
    }
}
