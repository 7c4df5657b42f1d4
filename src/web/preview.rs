//! A message's markup to look at, with nothing in it that loads: trackers show as red marks, pictures as boxes. It belongs into a sandboxed frame.

use crate::message::transfer::apply;
use crate::message::{Content, Structure, Text};
use crate::tracker::{Analysis, Detector, Inquiry, Sighting, Verdict};

/// The markup of the first HTML part, else of the first text.
pub fn view(detector: &Detector, raw: &[u8]) -> String {
    let analysis: Analysis<'_> = detector.analyse(raw, &Inquiry::to(&[]).everything());
    let mark = |sighting: &Sighting| match sighting.verdict {
        Verdict::Tracker => format!(
            "<b style=\"background:#b00020;color:#fff;font:12px sans-serif;padding:2px 6px;border-radius:3px\">tracker: {}</b>",
            escaped(sighting.url.split('/').next().unwrap_or_default())
        ),
        Verdict::Personal | Verdict::Picture => "<span class=\"pixelward-picture\">picture</span>".to_owned(),
    };
    let trackers = analysis.sightings.iter().filter(|sighting| sighting.verdict == Verdict::Tracker);
    let strip: String = trackers.map(|sighting| format!("<div>{}</div>", mark(sighting))).collect();
    let shown = apply(raw, &analysis.marked(mark));
    let structure = Structure::read(&shown);
    let leaf = structure.leaves.iter().find(|leaf| leaf.content == Content::Html);
    let leaf = leaf.or_else(|| structure.leaves.iter().find(|leaf| leaf.content == Content::Text));
    let body = leaf.map_or(String::new(), |leaf| {
        let text = String::from_utf8_lossy(Text::new(&shown, leaf).bytes()).into_owned();
        if leaf.content == Content::Html { text } else { format!("<pre>{}</pre>", escaped(&text)) }
    });
    format!(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">{BOXES}{strip}{body}"
    )
}

/// A text that no markup can be made of.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

const BOXES: &str = "<style>img,.pixelward-picture{background:repeating-linear-gradient(45deg,#e6e6e6 0 8px,#f2f2f2 8px 16px);\
border:1px solid #c4c4c4;color:#555;font:12px sans-serif;box-sizing:border-box;display:inline-block!important;overflow:hidden}</style>";
