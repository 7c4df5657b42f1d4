//! What is put where, in every form of a message.

use std::sync::LazyLock;

use super::*;
use crate::message::transfer::{apply, encode_base64};
use crate::tracker::{Detector, Inquiry};

const LINK: &str = "https://choice.shop.example/c/TOKEN";

fn fragments() -> Fragments {
    Fragments::shipped("en", "Shop")
}

/// A message with what is put into it; `None` where there is no place.
fn filled_in(raw: &[u8], need: Need, question: Question) -> Option<Vec<u8>> {
    static DETECTOR: LazyLock<Detector> = LazyLock::new(Detector::default);
    let analysis = DETECTOR.analyse(raw, &Inquiry::to(&[]));
    let texts = Texts::of(&analysis, raw);
    let notice = Notice {
        link: Some(LINK),
        public_url: "https://choice.shop.example",
        need,
        question,
        fragments: &fragments(),
    };
    let placed = notice.place(&texts).ok()?;
    Some(apply(raw, &analysis.edits(&placed, |_| None)))
}

/// The same for text with line feeds, in which `[html]` stands for our markup and `[text]` for our paragraph,
/// in English.
fn check(raw: &str, need: Need) -> Option<String> {
    let out = filled_in(raw.replace('\n', "\r\n").as_bytes(), need, Question::Stays)?;
    let out = String::from_utf8(out).unwrap().replace("\r\n", "\n");
    let fragments = fragments();
    let (language, fragment) = fragments.of(Some("en"));
    let html = format!(
        "<div lang=\"{language}\" dir=\"ltr\" style=\"{STYLE}\">{}</div>",
        marker::filled(&fragment.html, Word::Preferences, LINK)
    );
    Some(
        out.replace(&html, "[html]")
            .replace(&marker::filled(&fragment.text, Word::Preferences, LINK), "[text]"),
    )
}

const BOTH: &str = "Content-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: \
                    text/plain\n\nHello\n--b\n\
                    Content-Type: text/html\n\n<html><body><p>Hello</p></BODY></html>\n--b--\n";

#[test]
fn each_form_in_which_a_message_is_shown_gets_the_link_once() {
    let out = check(BOTH, Need::Anywhere).unwrap();
    assert_eq!(out, BOTH.replace("Hello\n--b", "Hello\n\n[text]\n\n--b").replace("</BODY>", "[html]</BODY>"));
    assert_eq!(check(BOTH, Need::AtMarks).unwrap(), BOTH);
    assert_eq!(check(BOTH, Need::MarkedOnly), None);
    let plain = "Subject: a\n\nHello\n";
    assert_eq!(check(plain, Need::Anywhere).unwrap(), "Subject: a\n\nHello\n\n[text]\n");
    let html = "Content-Type: text/html\n\n<p>Hello</p>\n";
    assert_eq!(check(html, Need::Anywhere).unwrap(), "Content-Type: text/html\n\n<p>Hello</p>\n[html]");
}

#[test]
fn a_message_that_has_the_link_gets_no_other() {
    let there = BOTH
        .replace("<p>", "<p><a href=\"https://choice.shop.example/c/OLD\">x</a>")
        .replace("Hello\n--b", "https://choice.shop.example/c/OLD\n--b");
    assert_eq!(check(&there, Need::Anywhere).unwrap(), there);
    let once = filled_in(BOTH.replace('\n', "\r\n").as_bytes(), Need::Anywhere, Question::Stays).unwrap();
    assert_eq!(filled_in(&once, Need::Anywhere, Question::Stays).unwrap(), once);
}

#[test]
fn marks_become_the_link_wherever_they_stand() {
    let marked = BOTH
        .replace("<p>", "<a href=\"%7B%7Bpixelward.preferences%7D%7D\">x</a><p>{{ pixelward.preferences }}")
        .replace("Hello\n--b", "See {{pixelward.preferences}}\n--b");
    let wanted = BOTH
        .replace("<p>", &format!("<a href=\"{LINK}\">x</a><p>{LINK}"))
        .replace("Hello\n--b", &format!("See {LINK}\n--b"));
    for need in [Need::AtMarks, Need::MarkedOnly, Need::Anywhere] {
        assert_eq!(check(&marked, need).unwrap(), wanted, "{need:?}");
    }
}

#[test]
fn files_and_messages_within_are_left_alone() {
    let with = "Content-Type: multipart/mixed; boundary=m\n\n--m\nContent-Type: text/html\n\n<p>a</p>\n--m\n\
                Content-Type: text/html\nContent-Disposition: attachment; filename=a.html\n\n<p>b</p>\n--m\n\
                Content-Type: message/rfc822\n\nSubject: b\nContent-Type: text/html\n\n<p>c</p>\n--m\n\
                Content-Type: text/plain\n\nlist footer\n--m--\n";
    assert_eq!(check(with, Need::Anywhere).unwrap(), with.replace("<p>a</p>", "<p>a</p>[html]"));
    let none = "Content-Type: image/png\nContent-Transfer-Encoding: base64\n\nAAAA\n";
    assert_eq!(check(none, Need::Anywhere), None);
    assert_eq!(check(none, Need::AtMarks).unwrap(), none);
}

#[test]
fn nothing_is_put_into_what_is_signed() {
    let signed = "Content-Type: multipart/signed; boundary=s\n\n--s\nContent-Type: \
                  text/html\n\n<p>{{pixelward.preferences}}</p>\n--s\n\
                  Content-Type: application/pgp-signature\n\nx\n--s--\n";
    assert_eq!(check(signed, Need::Anywhere), None);
    assert_eq!(check(signed, Need::AtMarks).unwrap(), signed);
}

#[test]
fn the_end_of_a_document_is_where_readers_see_it() {
    for (document, wanted) in [
        ("<p>a", "<p>a[html]"),
        ("<body>a<!-- </body> --></body>", "<body>a<!-- </body> -->[html]</body>"),
        ("<body>a</html>", "<body>a[html]</html>"),
        ("<script>'</body>'</script>a", "<script>'</body>'</script>a[html]"),
        ("a<!--[if mso]></body><![endif]-->", "a<!--[if mso]></body><![endif]-->[html]"),
        ("</body>b</body>", "</body>b[html]</body>"),
    ] {
        let raw = format!("Content-Type: text/html\n\n{document}");
        assert_eq!(check(&raw, Need::Anywhere).unwrap(), format!("Content-Type: text/html\n\n{wanted}"));
    }
    for cut_off in ["<p>a<style>b", "a<!-- b", "a<!-- b>", "a<p title='", "a<textarea>", "<plaintext>a"] {
        assert_eq!(
            check(&format!("Content-Type: text/html\n\n{cut_off}"), Need::Anywhere),
            None,
            "{cut_off}"
        );
    }
}

#[test]
fn a_question_is_read_by_those_who_may_be_asked() {
    let asking = "Content-Type: text/html\r\n\r\n<p>a</p><!-- {{pixelward.request}} --><p>May we? \
                  {{pixelward.preferences}}</p><!-- {{pixelward.end}} --><p>b</p>";
    let out =
        |question| String::from_utf8(filled_in(asking.as_bytes(), Need::AtMarks, question).unwrap()).unwrap();
    let head = "Content-Type: text/html\r\n\r\n";
    assert_eq!(out(Question::Goes), format!("{head}<p>a</p><!--  --><p>b</p>"));
    assert_eq!(
        out(Question::Stays),
        format!("{head}<p>a</p><!--  --><p>May we? {LINK}</p><!--  --><p>b</p>")
    );
    // A link that goes with the question is none.
    let with = filled_in(asking.as_bytes(), Need::Anywhere, Question::Goes).unwrap();
    assert!(String::from_utf8(with).unwrap().contains("<p>b</p><div lang="));
}

/// Reads a part back as its reader does.
fn shown(raw: &[u8], number: usize) -> String {
    let detector = Detector::default();
    let analysis = detector.analyse(raw, &Inquiry::to(&[]));
    let parts = analysis.parts();
    let label = parts[number].leaf.charset.clone();
    let encoding = Encoding::for_label(label.as_bytes()).unwrap_or(encoding_rs::UTF_8);
    encoding.decode(parts[number].bytes()).0.into_owned()
}

const FRENCH: &str = "Shop ne peut enregistrer l’ouverture de ses e\u{2011}mails qu’avec votre accord ou si \
                      la loi le permet. Accepter, refuser ou retirer votre accord\u{a0}:";

#[test]
fn the_language_and_the_charset_of_a_message_are_kept() {
    // That charset has no hyphen at which lines do not break.
    let latin = FRENCH.replace('\u{2011}', "-");
    let greek =
        "Shop ne peut enregistrer l’ouverture de ses e-mails qu’avec votre accord ou si la loi le permet.";
    let (accents, bytes) = ("été", "\u{e9}t\u{e9}");
    let utf8 = encode_base64(accents.as_bytes());
    for (head, body, wanted) in [
        ("charset=utf-8\r\nContent-Transfer-Encoding: 8bit", accents.as_bytes().to_vec(), FRENCH),
        ("charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable", b"=C3=A9t=C3=A9".to_vec(), FRENCH),
        ("charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable", b"=E9t=E9".to_vec(), &latin),
        (
            "charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit",
            bytes.chars().map(|character| character as u8).collect(),
            &latin,
        ),
        ("charset=iso-8859-7\r\nContent-Transfer-Encoding: quoted-printable", b"=E1".to_vec(), greek),
        ("charset=utf-8\r\nContent-Transfer-Encoding: base64", utf8.into_bytes(), FRENCH),
    ] {
        let head = format!("Content-Language: fr-FR\r\nContent-Type: text/plain; {head}\r\n\r\n");
        let raw = [head.as_bytes(), &body, b"\r\n"].concat();
        let out = filled_in(&raw, Need::Anywhere, Question::Stays).unwrap();
        let text = shown(&out, 0);
        assert!(text.contains(wanted) && text.contains(LINK), "{head}: {text}");
        assert!(out.starts_with(head.as_bytes()));
    }
    let named = "Content-Type: text/html\n\n<html lang=\"de-AT\"><body><p>a</p></body></html>";
    let out = check(named, Need::Anywhere).unwrap();
    assert!(out.contains("<div lang=\"de\"") && out.contains("E-Mails &#246;ffnen"), "{out}");
    let utf16: Vec<u8> = "<p>Grüße</p>".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let raw = format!(
        "Content-Type: text/html; charset=utf-16le\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n",
        encode_base64(&utf16)
    );
    let out = filled_in(raw.as_bytes(), Need::Anywhere, Question::Stays).unwrap();
    let detector = Detector::default();
    let analysis = detector.analyse(&out, &Inquiry::to(&[]));
    let text = String::from_utf8_lossy(analysis.parts()[0].bytes()).into_owned();
    assert!(text.contains(LINK) && text.starts_with("<p>Gr"), "{text}");
}

/// Puts the link into a French text in ASCII, whose header then says that it is another one.
fn check_ascii(before: &str, after: &str, body: &str, left: &str) {
    let raw = format!("Content-Language: fr\n{before}\n\n{body}\n").replace('\n', "\r\n");
    let out = filled_in(raw.as_bytes(), Need::Anywhere, Question::Stays).unwrap();
    assert!(out.is_ascii(), "{before}");
    let text = shown(&out, 0);
    assert!(text.contains(FRENCH) && text.contains(LINK), "{before}: {text}");
    let wanted = format!("Content-Language: fr\n{after}\n\n{left}\n").replace('\n', "\r\n");
    let out = String::from_utf8(out).unwrap();
    assert!(out.starts_with(&wanted), "{before}: {out}");
    assert!(out.lines().all(|line| line.len() <= 76 || body.contains(line)), "{out}");
    assert_eq!(filled_in(out.as_bytes(), Need::Anywhere, Question::Stays).unwrap(), out.as_bytes());
}

#[test]
fn accents_are_encoded_where_a_text_has_none() {
    let coded = "Content-Transfer-Encoding: quoted-printable";
    let plain = "Content-Type: text/plain";
    let body = "-- \nx=1, -a\n-b";
    let left = "=2D-=20\nx=3D1, -a\n-b";
    check_ascii(plain, &format!("{plain}; charset=utf-8\nMIME-Version: 1.0\n{coded}"), body, left);
    check_ascii(
        "Subject: a",
        &format!("Subject: a\nMIME-Version: 1.0\n{plain}; charset=utf-8\n{coded}"),
        body,
        left,
    );
    for charset in ["us-ascii", "utf-8", "UTF-8", "iso-8859-15"] {
        let before =
            format!("MIME-Version: 1.0\n{plain}; charset={charset}\nContent-Transfer-Encoding: 7bit");
        let after = if charset == "UTF-8" { charset } else { "utf-8" };
        check_ascii(&before, &format!("MIME-Version: 1.0\n{plain}; charset={after}\n{coded}"), body, left);
        let quoted = format!("MIME-Version: 1.0\n{plain}; charset={charset}\n{coded}");
        check_ascii(
            &quoted,
            &format!("MIME-Version: 1.0\n{plain}; charset={after}\n{coded}"),
            "a=3D1",
            "a=3D1",
        );
    }
    // A part keeps its boundary, and the others stay.
    let raw = BOTH.replacen("Content-Type", "Content-Language: fr\nContent-Type", 1).replace('\n', "\r\n");
    let out = String::from_utf8(filled_in(raw.as_bytes(), Need::Anywhere, Question::Stays).unwrap()).unwrap();
    let part = "--b\r\nContent-Type: text/plain; charset=utf-8\r\n\
                Content-Transfer-Encoding: quoted-printable\r\n\r\n\
                Hello\r\n\r\nShop ne peut enregistrer l=E2=80=99";
    assert!(out.contains(part), "{out}");
    assert_eq!(shown(&out.into_bytes(), 0).matches(FRENCH).count(), 1);
    // Whose header can be read in two ways keeps it, and is read without accents.
    let raw = "Content-Language: fr\r\nContent-Type: text/plain\r\nContent-Type: text/plain\r\n\r\na\r\n";
    let out = String::from_utf8(filled_in(raw.as_bytes(), Need::Anywhere, Question::Stays).unwrap()).unwrap();
    assert!(
        out.starts_with(raw) && out.contains("Shop ne peut enregistrer l'ouverture de ses e-mails"),
        "{out}"
    );
}

#[test]
fn marks_of_one_choice_lead_below_its_page_and_are_none_of_the_link_that_is_needed() {
    let marked = BOTH
        .replace("<p>", "<a href=\"{{pixelward.refuse}}\">no</a><a href='{{pixelward.links}}'>links</a><p>");
    let wanted = BOTH.replace(
        "<p>",
        &format!("<a href=\"{LINK}/refuse\">no</a><a href='{LINK}?about=links'>links</a><p>"),
    );
    assert_eq!(check(&marked, Need::AtMarks).unwrap(), wanted);
    assert_eq!(check(&marked, Need::MarkedOnly), None);
}
