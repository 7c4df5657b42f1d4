//! Before and after, as a browser without a network draws them: only what was removed is missing. The
//! pictures are kept under target/rendering.

use std::path::{Path, PathBuf};

use crate::browser::{Scratch, open};
use crate::mail::{own_messages, real_messages, rewritten};
use bytes::Bytes;
use pixelward::message::{Content, Structure, Text};
use pixelward::tracker::Extent;

const PIXEL: &str = "<img src=\"https://t.news.example/wf/open?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6\" \
                     width=\"1\" height=\"1\" alt=\"\" border=\"0\">";

/// The markup of a message, or nothing where it has none.
fn markup(raw: &[u8]) -> Option<Vec<u8>> {
    let structure = Structure::read(raw);
    let leaf = structure.leaves.iter().find(|leaf| leaf.content == Content::Html)?;
    Some(Text::new(raw, leaf).bytes().to_vec())
}

/// Width, height and pixels of a screenshot.
fn drawn(name: &str, html: &[u8], scratch: &Scratch, folder: &Path) -> (u32, u32, Vec<u8>) {
    let page = scratch.0.join(format!("{name}.html"));
    std::fs::write(&page, html).unwrap();
    let picture: PathBuf = folder.join(format!("{name}.png"));
    let _ = std::fs::remove_file(&picture);
    open(&page, scratch, &[&format!("--screenshot={}", picture.display()), "--window-size=800,1600"]);
    let decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&picture).unwrap()));
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    pixels.truncate(info.buffer_size());
    (info.width, info.height, pixels)
}

/// Rows of the two pictures that differ.
fn differing_rows(before: &(u32, u32, Vec<u8>), after: &(u32, u32, Vec<u8>)) -> usize {
    assert_eq!((before.0, before.1), (after.0, after.1));
    let row = before.2.len() / before.1 as usize;
    before.2.chunks(row).zip(after.2.chunks(row)).filter(|(before, after)| before != after).count()
}

/// Newsletters with the pixel where senders put it.
fn newsletters() -> Vec<(&'static str, String)> {
    let text = "<p style=\"font:16px/24px sans-serif\">News of the week, and some more of it.</p>";
    let picture = "<img src=\"https://cdn.news.example/logo.png\" width=\"140\" height=\"40\" alt=\"Logo\">";
    let page = |body: &str| format!("<!DOCTYPE html><html><body style=\"margin:0\">{body}</body></html>");
    vec![
        ("end-of-body", page(&format!("{text}{picture}{text}{PIXEL}"))),
        ("start-of-body", page(&format!("{PIXEL}{text}{picture}{text}"))),
        ("in-a-paragraph", page(&format!("<p>Read {PIXEL}on, and on.</p>{text}"))),
        (
            "in-a-cell",
            page(&format!(
                "<table width=\"600\"><tr><td>{text}</td></tr><tr><td>{text}{PIXEL}</td></tr></table>"
            )),
        ),
        ("in-a-hidden-box", page(&format!("{text}<div style=\"display:none\">{PIXEL}</div>{text}"))),
        ("between-blocks", page(&format!("<div>{text}</div>{PIXEL}<div>{text}</div>"))),
        ("in-a-list", page(&format!("<ul><li>One</li><li>Two{PIXEL}</li></ul>{text}"))),
        ("in-a-link", page(&format!("{text}<a href=\"https://news.example/\">{PIXEL}Read</a>{text}"))),
        (
            "as-a-background",
            page(&format!(
                "{text}<div style=\"height:40px;background:#eee \
                 url('https://t.news.example/wf/open?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6')\"></div>{text}"
            )),
        ),
        (
            "visible",
            page(&format!(
                "{text}<img src=\"https://t.news.example/wf/open?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6\" \
                 width=\"600\" height=\"80\" style=\"display:block\">{text}"
            )),
        ),
    ]
}

#[test]
fn only_what_was_removed_is_missing() {
    let scratch = Scratch::new("rendering");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/rendering");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, html) in newsletters() {
        let raw = Bytes::from(format!("Content-Type: text/html; charset=utf-8\r\n\r\n{html}\r\n"));
        let left = rewritten(&raw, Extent::Trackers);
        assert_ne!(left, raw, "{name}");
        let before = drawn(&format!("{name}-before"), html.as_bytes(), &scratch, &folder);
        let after = drawn(&format!("{name}-after"), &markup(&left).unwrap(), &scratch, &folder);
        // A picture that is seen and cannot be loaded is drawn as a broken one.
        let most = if name == "visible" { 80 } else { 0 };
        let differing = differing_rows(&before, &after);
        assert!(differing <= most, "{name}: {differing} rows differ");
    }
}

#[test]
fn long_newsletters_keep_their_look() {
    let scratch = Scratch::new("rendering-long");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/rendering");
    std::fs::create_dir_all(&folder).unwrap();
    let written = own_messages().into_iter().filter_map(|one| long(one, 15_000));
    let written = written.filter(|(_, raw, _)| rewritten(raw, Extent::Trackers) != *raw);
    let real = real_messages("long_newsletters_keep_their_look").into_iter();
    let real = real.filter(|(path, _)| path.parent().is_some_and(|folder| folder.ends_with("tracked")));
    let real = real.filter_map(|one| long(one, 20_000));
    let all: Vec<_> = written.step_by(3).chain(real.step_by(9).take(10)).collect();
    assert!(all.len() >= 4, "{}", all.len());
    for (path, raw, html) in all {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let left = markup(&rewritten(&raw, Extent::Trackers)).unwrap();
        let before = drawn(&format!("{name}-before"), &html, &scratch, &folder);
        let after = drawn(&format!("{name}-after"), &left, &scratch, &folder);
        assert_eq!(differing_rows(&before, &after), 0, "{name}: rows differ of {}", before.1);
    }
}

/// A message with its markup, where that is longer than `least` and can be drawn as it is.
fn long((path, raw): (PathBuf, Bytes), least: usize) -> Option<(PathBuf, Bytes, Vec<u8>)> {
    let html = markup(&raw).filter(|html| html.len() > least && std::str::from_utf8(html).is_ok())?;
    Some((path, raw, html))
}
