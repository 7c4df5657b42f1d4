//! `pixelward scan --report`: the page that is handed on.

use crate::support::{Folder, newsletter, program};
use html5gum::{Token, Tokenizer};

const PIXEL: &str = "<img src=\"https://t.shop.example/wf/open?upn=u001.Zk3Qw9XvT2aB\" width=1 height=1>";

/// Scans these messages and gives the page.
fn check(messages: &[(&str, &str)]) -> String {
    let folder = Folder::new();
    let mail = folder.0.join("mail");
    std::fs::create_dir(&mail).unwrap();
    for (name, content) in messages {
        std::fs::write(mail.join(name), content).unwrap();
    }
    let file = folder.0.join("report.html");
    let output = program().arg("scan").arg(&mail).arg("--report").arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.contains(&format!("{} messages, ", messages.len())), "{out}");
    let page = std::fs::read_to_string(&file).unwrap();
    assert_loads_nothing_and_nests(&page);
    page
}

/// Every element is closed in its order, and no attribute of any names something to load or run.
fn assert_loads_nothing_and_nests(page: &str) {
    const VOID: [&str; 2] = ["meta", "br"];
    const FORBIDDEN: [&str; 8] = ["script", "link", "img", "a", "iframe", "object", "base", "form"];
    let mut open: Vec<String> = Vec::new();
    for token in Tokenizer::new(page) {
        match token.unwrap() {
            Token::StartTag(tag) => {
                let name = String::from_utf8(tag.name.to_vec()).unwrap();
                assert!(!FORBIDDEN.contains(&name.as_str()), "<{name}>");
                for (attribute, value) in &tag.attributes {
                    let attribute = String::from_utf8(attribute.to_vec()).unwrap();
                    let harmless = !attribute.starts_with("on")
                        && !["src", "href", "srcset", "data", "style", "background", "action"]
                            .contains(&attribute.as_str());
                    assert!(harmless, "<{name} {attribute}={value:?}>");
                }
                if !VOID.contains(&name.as_str()) {
                    assert!(!tag.self_closing);
                    open.push(name);
                }
            }
            Token::EndTag(tag) => {
                let name = String::from_utf8(tag.name.to_vec()).unwrap();
                assert_eq!(open.pop(), Some(name), "{page}");
            }
            Token::Error(error) => panic!("{error:?}"),
            _ => {}
        }
    }
    assert!(open.is_empty(), "{open:?}");
    let style = page.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    assert!(!style.contains("url(") && !style.contains("@import") && !style.contains("http"), "{style}");
}

fn html(head: &str, body: &str) -> String {
    format!("{head}MIME-Version: 1.0\nContent-Type: text/html\n\n<p>Hello</p>{body}\n").replace('\n', "\r\n")
}

#[test]
fn the_page_counts_what_the_scan_found() {
    let (with, without) = newsletter("eve@home.example");
    let receipt = html("From: <hr@office.example>\nReturn-Receipt-To: hr@office.example\n", "");
    let signed = format!(
        "From: bank@bank.example\nMIME-Version: 1.0\nContent-Type: multipart/signed; boundary=s\n\n--s\n\
         Content-Type: text/html\n\n{PIXEL}\n--s\nContent-Type: application/pgp-signature\n\nx\n--s--\n"
    );
    let page = check(&[("a.eml", &with), ("b.eml", &without), ("c.eml", &receipt), ("d.eml", &signed)]);
    for wanted in [
        "<h1>Open tracking in 4 messages</h1>",
        "<dt>with trackers</dt><dd>3 <small>75 %</small></dd>",
        "<dt>trackers</dt><dd>3</dd>",
        "2 messages would change for them, and 2 trackers would be removed, one receipt request among these",
        "<th scope=\"row\">SendGrid</th><td class=\"n\">2</td><td class=\"n\">67 %</td>",
        "<th scope=\"row\">receipt request</th><td class=\"n\">1</td>",
        "<th scope=\"row\">image</th><td class=\"n\">2</td>",
        "<th scope=\"row\">address of a known open report</th><td class=\"n\">2</td>",
        "<th scope=\"row\">bank.example</th><td class=\"n\">1</td><td class=\"n\">1</td><td \
         class=\"n\">1</td>",
        "<td class=\"n\">2</td><td class=\"n\">2</td><td class=\"n\">1</td></tr><tr><th scope=\"row\">was \
         never asked</th>",
        "<td>the message as it came</td><td class=\"n\">0</td><td class=\"n\">0</td><td class=\"n\">3</td>",
        "<strong>One tracker</strong> in signed or encrypted parts of one message.",
        "Cannot be removed: signed or encrypted.",
    ] {
        assert!(page.contains(wanted), "{wanted} is missing in {page}");
    }
}

#[test]
fn hostile_mail_does_not_get_out_of_its_place() {
    let head =
        "From: \"<script>\" <a@<script>alert(1)</script>.example>\nSubject: <script>alert(2)</script>\n";
    let body = "<img src='https://t.shop.example/wf/open?upn=u001.Zk3Qw9XvT2aB&x=\"><script>alert(3)</script>' width=1 height=1>";
    let page = check(&[("<script>alert(4)<&\"'.eml", &html(head, body)), ("b.eml", &html("", PIXEL))]);
    assert!(!page.contains("<script"), "{page}");
    assert!(page.contains("&lt;script&gt;alert(4)&lt;&amp;&quot;'.eml"), "{page}");
    assert!(page.contains("&quot;&gt;&lt;script&gt;alert(3)"), "{page}");
}

#[test]
fn no_recipient_is_named() {
    let open = "https://t.shop.example/wf/open?upn=u001.Zk3Qw9XvT2aB";
    let pixels = ["ann@home.example", "Ann%40home.example", "ann%2540home.example", "YW5uQGhvbWUuZXhhbXBsZQ"]
        .map(|item| format!("<img src=\"{open}&e={item}&n=1\" width=1 height=1>"));
    let head = "From: news@shop.example\nTo: Ann <Ann@home.example>\n";
    let page =
        check(&[("to-ann@home.example.eml", &html(head, &pixels.concat())), ("b.eml", &html("", PIXEL))]);
    let folded = page.to_lowercase();
    for form in ["ann@home", "ann%40home", "ann%2540home", "yw5uqghvbwuuzxhhbxbsz"] {
        assert!(!folded.contains(form), "{form} stands in {page}");
    }
    assert!(page.contains("Zk3Qw9XvT2aB&amp;e=…&amp;n=1"), "{page}");
    assert!(page.contains("to-….eml"), "{page}");
}

#[test]
fn a_report_that_cannot_be_written_stops_the_scan() {
    let folder = Folder::new();
    folder.file("a.eml", &html("", PIXEL));
    let output = program()
        .arg("scan")
        .arg(&folder.0)
        .arg("--report")
        .arg(folder.0.join("no/report.html"))
        .output()
        .unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("report.html"));
}
