//! A removal does not break what it leaves: a browser's parser reads the same tree, minus what was removed.

use crate::mail::rewritten;
use bytes::Bytes;
use pixelward::message::{Content, Structure, Text};
use pixelward::tracker::Extent;
use proptest::prelude::*;
use scraper::{Html, Node};

const TRACKER: &str = "t.news.example/wf/open?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6";

/// A tree as lines: depth, name and attributes, or text. What loads from the tracker is left out: a pixel
/// without width or height as a whole, of anything else the attribute; and in styles the address.
fn lines(html: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let document = Html::parse_document(html);
    walk(document.tree.root(), 0, &mut lines);
    lines
}

fn walk(node: ego_tree::NodeRef<'_, Node>, depth: usize, lines: &mut Vec<String>) {
    match node.value() {
        Node::Element(element) => {
            let is_pixel = element.name() == "img" && element.attr("width") == Some("0");
            if is_pixel && element.attr("src").is_some_and(|src| src.contains(TRACKER)) {
                return;
            }
            let attributes: Vec<String> = element
                .attrs()
                .filter(|(name, value)| *name == "style" || !value.contains(TRACKER))
                .map(|(name, value)| format!(" {name}={}", without(value)))
                .collect();
            lines.push(format!("{depth} <{}{}>", element.name(), attributes.concat()));
        }
        Node::Text(text) => match lines.last_mut() {
            // Two texts that a removed element parted are one.
            Some(last) if last.starts_with(&format!("{depth} #")) => last.push_str(&without(&text.text)),
            _ => lines.push(format!("{depth} #{}", without(&text.text))),
        },
        _ => {}
    }
    for child in node.children() {
        walk(child, depth + 1, lines);
    }
}

fn without(text: &str) -> String {
    text.replace(&format!("url(https://{TRACKER})"), "none")
}

fn check(html: &str) {
    let raw = Bytes::from(format!("Subject: a\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{html}"));
    let left = rewritten(&raw, Extent::Trackers);
    let structure = Structure::read(&left);
    let leaf = structure.leaves.iter().find(|leaf| leaf.content == Content::Html).unwrap();
    let left = String::from_utf8(Text::new(&left, leaf).bytes().to_vec()).unwrap();
    assert!(!left.contains(TRACKER), "{left}");
    assert_eq!(lines(&left), lines(html), "\n{html}\nbecame\n{left}");
}

/// Well-formed markup of the kinds that mail is made of, with pixels in odd places.
fn markup() -> impl Strategy<Value = String> {
    let pixel = format!("<img src=\"https://{TRACKER}\" width=\"1\" height=\"1\" alt=\"\">");
    let nothing = pixel.replace("\"1\"", "\"0\"");
    let leaf = prop_oneof![
        3 => Just(pixel),
        3 => Just(nothing),
        2 => Just("text &amp; more".to_owned()),
        2 => Just("<img src=\"https://cdn.news.example/logo.png\" width=\"140\" height=\"40\">".to_owned()),
        1 => Just(format!("<img src=\"https://{TRACKER}\" width=\"600\" height=\"80\" alt=\"News\">")),
        1 => Just(format!("<div style=\"color:red;background:url(https://{TRACKER})\"></div>")),
        1 => Just("<br>".to_owned()),
        1 => Just("<!-- a comment -->".to_owned()),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        let several = prop::collection::vec(inner, 0..5).prop_map(|pieces| pieces.concat());
        prop_oneof![
            several.clone().prop_map(|inner| format!("<div style=\"padding:1px\">{inner}</div>")),
            several.clone().prop_map(|inner| format!("<span>{inner}</span>")),
            several.clone().prop_map(|inner| format!("<b>{inner}</b>")),
            several.clone().prop_map(|inner| format!("<ul><li>{inner}</li></ul>")),
            several
                .clone()
                .prop_map(|inner| format!("<table><tbody><tr><td>{inner}</td></tr></tbody></table>")),
            several.clone().prop_map(|inner| format!("<table>{inner}<tr><td>a</td></tr></table>")),
            several.clone().prop_map(|inner| format!("<center>{inner}</center>")),
            several
                .prop_map(|inner| format!("<!--[if mso]>{inner}<![endif]--><i>a</i>")
                    .replace("<!-- a comment -->", "")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn the_tree_is_the_same_minus_what_was_removed(inner in markup()) {
        check(&format!("<!DOCTYPE \
                        html><html><head><title>a</title></head><body>{inner}<p>end</p></body></html>"));
    }
}

#[test]
fn pixels_in_odd_places_leave_the_tree_as_it_was() {
    let pixel = format!("<img src=\"https://{TRACKER}\" width=\"0\" height=\"0\">");
    for html in [
        format!("<html><body><p>a{pixel}b</p></body></html>"),
        format!("<html><body><table><tr>{pixel}<td>a</td></tr></table></body></html>"),
        format!("<html><body><p>a</p></body></html>{pixel}"),
        format!("<html><body><ul><li>a</li>{pixel}<li>b</li></ul></body></html>"),
        format!("<html><body><a href=\"//news.example/\">{pixel}</a>a</body></html>"),
        format!("<html><body>a<{pixel}b&{pixel}amp;c</body></html>"),
    ] {
        check(&html);
    }
}
