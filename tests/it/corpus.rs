//! What holds for every message, on our own, on generated ones, and on real ones where they are at hand: a
//! second rewrite changes nothing, a quick look and a full one agree, and in strict mode nothing is left that
//! loads.

use crate::mail::{DETECTOR, own_messages, real_messages, rewritten};
use bytes::Bytes;
use pixelward::tracker::{Analysis, Axis, Extent, Inquiry, Verdict};
use proptest::prelude::*;

fn kept(analysis: &Analysis<'_>) -> Vec<String> {
    let kept = analysis.sightings.iter().filter(|sighting| sighting.verdict != Verdict::Picture);
    kept.map(|item| format!("{:?} {} {}", item.verdict, item.carrier, item.url)).collect()
}

fn check(raw: &Bytes, name: &str) {
    let quick = Inquiry::to(&["ann@home.example"]);
    let found = kept(&DETECTOR.analyse(raw, &quick));
    assert_eq!(
        found,
        kept(&DETECTOR.analyse(raw, &quick.everything())),
        "{name}: a quick look and a full one differ"
    );
    for extent in [Extent::Trackers, Extent::EveryRequest] {
        let once = rewritten(raw, extent);
        assert_eq!(
            rewritten(&once, extent),
            once,
            "{name}: the second rewrite changes something, {extent:?}"
        );
    }
    let strict = rewritten(raw, Extent::EveryRequest);
    let left = DETECTOR.analyse(&strict, &quick.everything());
    let left =
        left.sightings.iter().find(|sighting| sighting.protection.is_none() && sighting.axis() == Axis::Open);
    assert!(left.is_none(), "{name}: {:?} is left", left.map(|item| &item.url));
}

#[test]
fn it_holds_for_our_own_messages_and_for_real_ones() {
    let written = own_messages();
    assert!(written.len() > 150, "{}", written.len());
    for (path, raw) in
        written.into_iter().chain(real_messages("it_holds_for_our_own_messages_and_for_real_ones"))
    {
        check(&raw, &path.display().to_string());
    }
}

#[test]
fn an_attribute_that_nothing_loads_is_judged_alike_by_both_looks() {
    let picture = "img src=\"https://cdn.news.example/p?e=ann@home.example&amp;w=1\" width=140 height=40>";
    let raw = format!("Content-Type: text/html\r\n\r\n<a<{picture}\r\n");
    check(&Bytes::from(raw.clone()), &raw);
}

/// Pieces of markup, whole and broken, of which messages are made.
pub(crate) fn piece() -> impl Strategy<Value = String> {
    let pixel = "https://t.news.example/wf/open?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6";
    prop_oneof![
        Just("<table><tr><td>".to_owned()),
        Just("</td></tr></table>".to_owned()),
        Just("<p>caf\u{e9} &amp; more".to_owned()),
        Just("</p>".to_owned()),
        Just("<div style=\"display:none\">".to_owned()),
        Just("</div>".to_owned()),
        Just("<!--[if mso]>".to_owned()),
        Just("<![endif]-->".to_owned()),
        Just("<!--".to_owned()),
        Just("-->".to_owned()),
        Just("<svg><style>".to_owned()),
        Just("</style></svg>".to_owned()),
        Just("<style>@media print{".to_owned()),
        Just("}</style>".to_owned()),
        Just("<title>".to_owned()),
        Just("</title>".to_owned()),
        Just("<textarea>".to_owned()),
        Just("</textarea>".to_owned()),
        Just("<a href=\"https://news.example/\">".to_owned()),
        (0..9u8, prop::sample::select(vec!["\"", "'", ""])).prop_map(|(number, quote)| {
            let page = format!("https%3A%2F%2Fnews.example%2F{number}");
            let link = format!("https://click.news.example/c/Zk3Qw9XvT2aB7LmN8p{number}?to={page}");
            format!("<a href={quote}{link}{quote}>")
        }),
        Just(
            "<a style=\"background:url(https://t.news.example/b?x=1)\" \
             href=\"https://click.news.example/ls/click?upn=u001.Zk3Qw9XvT2aB7LmN8p\">"
                .to_owned()
        ),
        Just("</a>".to_owned()),
        Just("<base href=\"//t.news.example/\">".to_owned()),
        Just("<".to_owned()),
        Just("&am".to_owned()),
        Just("p;".to_owned()),
        Just("=\"".to_owned()),
        Just("'".to_owned()),
        Just(format!("<img src=\"{pixel}\" width=1 height=1>")),
        Just(format!("<img src='{pixel}' width=600 height=80 alt=x>")),
        Just(format!("<img src={pixel} style=width:1px;height:1px")),
        Just("<img src=\"https://cdn.news.example/logo.png\" width=140 height=40>".to_owned()),
        Just(
            "<img src=\"https://cdn.news.example/p?e=ann@home.example&amp;w=1\" width=140 height=40>"
                .to_owned()
        ),
        Just(format!("p{{background:url({pixel})}}")),
        Just(format!("<td background=\"{pixel}\">")),
        Just(format!("<img srcset=\"{pixel} 1x, {pixel}2 2x\">")),
        Just(format!("<div style=\"background:url('{pixel}')\">")),
        Just(format!("<iframe srcdoc=\"<img src='{pixel}' width=1>\"></iframe>")),
        "[a-z <>\"'=/&;!-]{0,12}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn it_holds_for_generated_messages(pieces in prop::collection::vec(piece(), 0..24), encoding in 0usize..3) {
        let html = pieces.concat();
        let (name, body) = match encoding {
            0 => ("8bit", html),
            1 => ("quoted-printable", html.replace('=', "=3D")),
            _ => ("base64", pixelward::message::transfer::encode_base64(html.as_bytes())),
        };
        let raw = format!(
            "Subject: a\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: \
             {name}\r\n\r\n{body}\r\n"
        );
        check(&Bytes::from(raw.clone()), &raw);
    }
}
