//! Renders a message's markup so that nothing in it loads: trackers appear as red marks, images as boxes.
//! Meant for a sandboxed frame.

use crate::message::transfer::apply;
use crate::message::{Content, Structure, Text};
use crate::tracker::{Analysis, Detector, Inquiry, Sighting, Verdict};

/// Renders the first HTML part, or else the first text. `site` is the address prefix of the relay's own
/// pixels, if the copy may have some, and the name of such a pixel.
pub fn view(detector: &Detector, raw: &[u8], site: Option<(&str, &str)>) -> String {
    let site = site.map(|(public_url, name)| (as_sighted(public_url), name));
    let ours = |sighting: &Sighting| {
        let begins = |prefix: &str| {
            let rest = sighting.url.strip_prefix(prefix.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        site.as_ref().filter(|(prefix, _)| begins(prefix)).map(|(_, name)| *name)
    };
    let analysis: Analysis<'_> = detector.analyse(raw, &Inquiry::to(&[]).everything());
    let label = |colour: &str, text: &str| {
        format!(
            "<b style=\"background:{colour};color:#fff;font:12px sans-serif;padding:2px \
             6px;border-radius:3px\">{}</b>",
            escaped(text)
        )
    };
    let mark = |sighting: &Sighting| match (sighting.verdict, ours(sighting)) {
        (_, Some(name)) => label("#17693a", name),
        (Verdict::Tracker, None) => {
            label("#b00020", &format!("tracker: {}", sighting.url.split('/').next().unwrap_or_default()))
        }
        (Verdict::Personal | Verdict::Picture, None) => {
            "<span class=\"pixelward-picture\">picture</span>".to_owned()
        }
    };
    let is_listed = |sighting: &&Sighting| sighting.verdict == Verdict::Tracker || ours(sighting).is_some();
    let trackers = analysis.sightings.iter().filter(is_listed);
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
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'unsafe-inline'\">{BOXES}{strip}{body}"
    )
}

/// Writes an address prefix as sightings write addresses: without scheme and port.
fn as_sighted(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (name, port) = host.rsplit_once(':').unwrap_or((host, ""));
    let has_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    format!("{}{path}", if has_port { name } else { host })
}

/// Replaces everything that could be markup.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// An image as small as a pixel shows nothing in a mail client either.
const BOXES: &str = "<style>img,.pixelward-picture{background:repeating-linear-gradient(45deg,#e6e6e6 0 \
                     8px,#f2f2f2 8px 16px);border:1px solid #c4c4c4;color:#555;font:12px \
                     sans-serif;box-sizing:border-box;display:inline-block!important;overflow:hidden}\
                     img:is([width=\"0\"],[width=\"1\"],[width=\"2\"],[height=\"0\"],\
                     [height=\"1\"],[height=\"2\"])\
                     {background:none;\
                     border:0}</style>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pixel_of_ours_has_its_name_whatever_the_port() {
        for site in
            ["https://choice.shop.example", "https://choice.shop.example:8443", "http://127.0.0.1:8028/a"]
        {
            let copy = format!(
                "Content-Type: text/html\r\n\r\n<p>a</p><img src=\"{site}/p/AbCdEf0123456789AbCdEf\" width=1 height=1>"
            );
            let shown = view(&Detector::default(), copy.as_bytes(), Some((site, "gated pixel")));
            assert!(shown.contains(">gated pixel<") && !shown.contains("tracker:"), "{site}: {shown}");
        }
    }
}
