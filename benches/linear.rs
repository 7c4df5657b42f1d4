//! Bombs: time for twice the size against time for the size, of each kind of input that could cost more than it is long. It must not
//! exceed 2.3.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Instant;

use pixelward::tracker::{Detector, Inquiry, Links};

const PIXEL: &str = "https://t.news.example/wf/open?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6";
const MOST: f64 = 2.3;
const SIZE: usize = 400_000;

/// Each kind with the piece it repeats, and what stands before all of them.
fn bombs() -> Vec<(&'static str, String, String)> {
    let bomb = |name, before: &str, piece: &str| (name, before.to_owned(), piece.to_owned());
    vec![
        bomb("nested elements", "", "<div>"),
        bomb("nested tables", "", "<table><tr><td>"),
        bomb(
            "hidden elements around a pixel",
            "",
            &format!("<div style=\"display:none\"><img src=\"{PIXEL}\">"),
        ),
        bomb("end tags that close nothing", "<b>", "</i>"),
        bomb("attributes", "<img ", "a=b "),
        bomb("attributes that load", "<img ", "background=\"//t.news.example/open/1\" "),
        bomb("loads of a style attribute", "<p style=\"", "background:url(//t.news.example/open/1);"),
        bomb(
            "loads of an encoded style attribute",
            "<p style=\"&#32;",
            "background:url(//t.news.example/open/1);",
        ),
        bomb("unclosed comments", "", "<!--"),
        bomb("conditional comments", "", "<!--[if mso]>"),
        bomb("dashes in a comment", "<!--", "--"),
        bomb("unclosed quotes", "", "<img src=\""),
        bomb("style blocks", "", "<style>a{b:url(x)}</style>"),
        bomb("unclosed style blocks", "", "<style>"),
        bomb("style sheets within svg", "", "<svg><style>"),
        bomb("parentheses in a style sheet", "<style>", "url(("),
        bomb("blocks in a style sheet", "<style>", "@media{"),
        bomb("escapes in a style sheet", "<style>", "\\72"),
        bomb("character references", "<img src=\"//t.news.example/", "&amp;"),
        bomb("candidates of a srcset", "<img srcset=\"", "//t.news.example/o 1x, "),
        bomb("pixels", "", &format!("<img src=\"{PIXEL}\" width=1 height=1>")),
        bomb("suspects", "", "<img src=\"//t.news.example/a/b.php?id=77\">"),
        bomb("documents in attributes", "", "<iframe srcdoc=\"<img src=//t.news.example/o>\"></iframe>"),
        bomb("links", "", "<a href=\"//t.news.example/c/Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6\">"),
        bomb("scripts", "", "<script><!--"),
        bomb("open tags", "", "<"),
    ]
}

fn least(detector: &Detector, before: &str, piece: &str, size: usize) -> f64 {
    let html = format!("{before}{}", piece.repeat(size / piece.len()));
    let raw = format!("Content-Type: text/html\r\n\r\n{html}\r\n");
    let inquiry = Inquiry { links: Links::Note, ..Inquiry::to(&["ann@home.example"]) };
    (0..7)
        .map(|_| {
            let start = Instant::now();
            black_box(detector.analyse(raw.as_bytes(), &inquiry));
            start.elapsed().as_secs_f64()
        })
        .fold(f64::MAX, f64::min)
}

fn main() {
    let detector = Detector::default();
    let mut failed = false;
    for (name, before, piece) in bombs() {
        let (once, twice) =
            (least(&detector, &before, &piece, SIZE), least(&detector, &before, &piece, 2 * SIZE));
        let ratio = twice / once;
        failed |= ratio > MOST;
        println!("{ratio:>6.2}  {:>8.2} ms  {name}", once * 1e3);
    }
    if failed {
        println!("more than {MOST} times for twice the size");
        std::process::exit(1);
    }
}
