//! The link to the preference page in every message there is: one in each form of its text, only the place
//! where it was put in changes, and its reader sees it once.

use crate::browser;
use std::fmt::Write;
use std::path::PathBuf;

use crate::mail::{DETECTOR, own_messages, real_messages};
use bytes::Bytes;
use pixelward::message::transfer::apply;
use pixelward::message::{Content, Leaf, Shown, Text};
use pixelward::rewrite::notice::{Fragments, Need, Notice, Question, Texts};
use pixelward::tracker::{Analysis, Inquiry};

const URL: &str = "https://choice.shop.example";
const LINK: &str = "https://choice.shop.example/c/AQHbA9zJmXo0";

fn analysed(raw: &Bytes) -> Analysis<'_> {
    DETECTOR.analyse(raw, &Inquiry::to(&[]))
}

/// The message with the link in it; `None` where it has no place.
fn linked(raw: &Bytes) -> Option<Bytes> {
    let analysis = analysed(raw);
    let texts = Texts::of(&analysis, raw);
    let fragments = Fragments::shipped("en", "Shop Example");
    let notice = Notice {
        link: Some(LINK),
        public_url: URL,
        need: Need::Anywhere,
        question: Question::Stays,
        fragments: &fragments,
    };
    let placed = notice.place(&texts).ok()?;
    Some(Bytes::from(apply(raw, &analysis.edits(&placed, |_| None))))
}

/// Each text with how it is shown; what fills up base64 left out.
fn texts(analysis: &Analysis<'_>) -> Vec<(Shown, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace("<!---->", "").replace("<!-- -->", "");
    analysis.parts().iter().map(|part| (part.leaf.shown, text(part.bytes()))).collect()
}

/// Looks at one message. Says whether a link could be put in.
fn check(raw: &Bytes, name: &str) -> bool {
    let Some(out) = linked(raw) else { return false };
    let (before, after) = (analysed(raw), analysed(&out));
    let leaves = |item: &Analysis<'_>| item.structure().unwrap().leaves.clone();
    let (old, new) = (leaves(&before), leaves(&after));
    assert_eq!(old.len(), new.len(), "{name}: the parts are others");
    let head = old.first().map_or(0, |item| item.body.start);
    // A text in ASCII that gets accents is labelled anew.
    let is_same = |old: &Leaf, new: &Leaf| (old.transfer, &old.charset) == (new.transfer, &new.charset);
    let is_labelled_anew = !old.iter().zip(&new).all(|(old, new)| is_same(old, new));
    assert!(is_labelled_anew || raw[..head] == out[..head], "{name}: the header changed");
    let mut changed = 0;
    for (old, new) in old.iter().zip(&new) {
        assert_eq!((old.content, old.shown), (new.content, new.shown), "{name}");
        let was_ascii = Text::new(raw, old).bytes().is_ascii() && old.content == Content::Text;
        assert!(is_same(old, new) || was_ascii && out[new.body.clone()].is_ascii(), "{name}");
        changed += usize::from(raw[old.body.clone()] != out[new.body.clone()]);
    }
    let mut linked_texts = 0;
    for ((_, old), (shown, new)) in texts(&before).iter().zip(texts(&after)) {
        let links = new.matches(LINK).count();
        linked_texts += links;
        assert!(links <= 1, "{name}: the link stands {links} times in one text");
        if links == 0 {
            assert_eq!(*old, new, "{name}: a text changed that got no link");
            continue;
        }
        // What was put in is one piece; without it the text is what it was.
        let same = old.bytes().zip(new.bytes()).take_while(|(old, new)| old == new).count();
        let tail = old.len() - same;
        assert!(
            new.as_bytes().ends_with(&old.as_bytes()[old.len() - tail..]),
            "{name}: {shown:?} changed elsewhere"
        );
    }
    assert!(linked_texts >= 1 && changed == linked_texts, "{name}: {changed} parts, {linked_texts} links");
    let has_bare = |bytes: &[u8]| {
        let text = bytes
            .windows(2)
            .any(|two| two[0] != b'\r' && two[1] == b'\n' || two[0] == b'\r' && two[1] != b'\n');
        text || bytes.first() == Some(&b'\n') || bytes.last() == Some(&b'\r')
    };
    assert!(has_bare(raw) || !has_bare(&out), "{name}: a bare line end");
    assert_eq!(linked(&out).unwrap(), out, "{name}: a second link");
    true
}

#[test]
fn every_message_gets_the_link_once_in_each_form_of_its_text() {
    let (mut all, mut with) = (0, 0);
    let test = "every_message_gets_the_link_once_in_each_form_of_its_text";
    for (path, raw) in own_messages().into_iter().chain(real_messages(test)) {
        all += 1;
        with += usize::from(check(&raw, &path.display().to_string()));
    }
    assert!(all > 100 && with * 100 >= all * 90, "only {with} of {all} messages have a place for the link");
}

/// How many real messages are drawn beside all of our own, and how many a page of the browser shows.
const DRAWN: usize = 120;
const ON_A_PAGE: usize = 30;

/// The name of a message, and the document that its readers see once the link is in it.
fn document((path, raw): &(PathBuf, Bytes)) -> Option<(String, String)> {
    let out = linked(raw)?;
    let analysis = analysed(&out);
    let shown = analysis.parts().into_iter().find(|part| part.leaf.shown == Shown::Markup);
    let part = shown.filter(|part| part.leaf.content == Content::Html)?;
    Some((path.display().to_string(), String::from_utf8_lossy(part.bytes()).into_owned()))
}

/// How many links a reader sees in each document, and how many there are.
fn seen<'a>(documents: impl Iterator<Item = &'a str>, scratch: &browser::Scratch) -> Vec<String> {
    let mut page = String::from("<!doctype html><meta charset=utf-8><body>");
    for document in documents {
        let document = document.replace('&', "&amp;").replace('"', "&quot;");
        // No script of a message runs, and nothing is there that it could load.
        let _ = writeln!(
            page,
            "<iframe sandbox=allow-same-origin width=800 height=600 srcdoc=\"{document}\"></iframe>"
        );
    }
    page.push_str(
        "<script>addEventListener('load',()=>{const seen=[...document.querySelectorAll('iframe')].map(frame=>{\
         const links=[...frame.contentDocument.querySelectorAll('a')].filter(a=>a.href.startsWith('https://choice.shop.example/c/'));\
         const isLegible=a=>[a,a.parentElement].every(own=>parseFloat(getComputedStyle(own).fontSize)>=14);\
         return links.filter(a=>a.getClientRects().length&&a.checkVisibility()&&isLegible(a)).length+'/'+links.length});\
         document.body.textContent='SEEN '+seen.join(' ')+' END'})</script>",
    );
    let file = scratch.0.join("page.html");
    std::fs::write(&file, page).unwrap();
    let dom = String::from_utf8_lossy(&browser::open(&file, scratch, &["--dump-dom"])).into_owned();
    let seen = dom.split("SEEN ").nth(1).and_then(|rest| rest.split(" END").next());
    seen.unwrap_or_else(|| panic!("{dom}")).split(' ').map(str::to_owned).collect()
}

#[test]
fn readers_see_the_link_once_and_can_read_it() {
    let real = real_messages("readers_see_the_link_once_and_can_read_it");
    let every = real.len().div_ceil(DRAWN).max(1);
    let all = own_messages().into_iter().chain(real.into_iter().step_by(every));
    let all: Vec<(String, String)> = all.filter_map(|message| document(&message)).collect();
    assert!(all.len() >= 30, "{}", all.len());
    let scratch = browser::Scratch::new("notice");
    let mut wrong = Vec::new();
    for page in all.chunks(ON_A_PAGE) {
        let seen = seen(page.iter().map(|(_, document)| document.as_str()), &scratch);
        assert_eq!(seen.len(), page.len());
        let of_each = page.iter().zip(seen).map(|((name, _), seen)| (name, seen));
        wrong.extend(of_each.filter(|(_, seen)| seen != "1/1").map(|(name, seen)| format!("{name}: {seen}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
