//! Messages of our own that are as long and as varied as those that senders send: eight kinds, in three
//! transfer encodings, each with a pixel and without.

use std::fmt::Write;
use std::path::PathBuf;

use bytes::Bytes;
use pixelward::message::transfer::encode_base64;

const PIXEL: &str = "<img src=\"https://click.shop.example/wf/open?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6\" \
                     width=\"1\" height=\"1\" alt=\"\" border=\"0\">";
const WORDS: [&str; 24] = [
    "autumn", "letter", "garden", "bread", "harbour", "window", "story", "market", "river", "evening",
    "table", "music", "paper", "island", "summer", "kitchen", "travel", "season", "morning", "picture",
    "street", "winter", "village", "number",
];

/// How a body is encoded.
#[derive(Clone, Copy, Debug)]
enum Encoding {
    EightBit,
    QuotedPrintable,
    Base64,
}

/// All of them, each under a name that says what it is.
pub fn newsletters() -> Vec<(PathBuf, Bytes)> {
    let mut all = Vec::new();
    for (kind, make) in KINDS {
        for encoding in [Encoding::EightBit, Encoding::QuotedPrintable, Encoding::Base64] {
            for (name, pixel) in [("pixel", PIXEL), ("plain", "")] {
                let name = format!("newsletter-{kind}-{encoding:?}-{name}");
                all.push((PathBuf::from(name), Bytes::from(make(encoding, pixel))));
            }
        }
    }
    all
}

type Make = fn(Encoding, &str) -> String;

const KINDS: [(&str, Make); 8] = [
    ("table", |encoding, pixel| message("", &part("text/html; charset=utf-8", encoding, &table(pixel)))),
    ("responsive", |encoding, pixel| {
        message("", &part("text/html; charset=utf-8", encoding, &responsive(pixel)))
    }),
    ("receipt", |encoding, pixel| message("", &part("text/html; charset=utf-8", encoding, &receipt(pixel)))),
    ("alternative", |encoding, pixel| message("", &alternative(encoding, &table(pixel)))),
    ("attachment", |encoding, pixel| {
        let file: Vec<u8> =
            (0..30_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let file = wrapped(&encode_base64(&file));
        let file = format!(
            "Content-Type: application/pdf; name=\"terms.pdf\"\r\nContent-Disposition: attachment; \
             filename=\"terms.pdf\"\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n{file}"
        );
        message("", &several("mixed", &[alternative(encoding, &receipt(pixel)), file]))
    }),
    ("related", |encoding, pixel| {
        let html = table(pixel).replace("https://cdn.shop.example/logo.png", "cid:logo@shop.example");
        let logo = format!(
            "Content-Type: image/png\r\nContent-ID: <logo@shop.example>\r\nContent-Transfer-Encoding: \
             base64\r\n\r\n{}",
            wrapped(&encode_base64(&[137, 80, 78, 71, 13, 10, 26, 10].repeat(60)))
        );
        message("", &several("related", &[part("text/html; charset=utf-8", encoding, &html), logo]))
    }),
    ("notice", |encoding, pixel| {
        let html = format!("<p>Your {} is ready. Please collect it by Friday.</p>\n{pixel}\n", WORDS[3]);
        message("Auto-Submitted: auto-generated\r\n", &part("text/html; charset=utf-8", encoding, &html))
    }),
    ("latin", |encoding, pixel| {
        // ISO 8859-1 stands in ASCII references here, as many senders write it.
        let html = table(pixel).replace('\u{e9}', "&eacute;").replace('\u{2014}', "&mdash;");
        message("Content-Language: fr\r\n", &part("text/html; charset=iso-8859-1", encoding, &html))
    }),
];

fn message(fields: &str, body: &str) -> String {
    format!(
        "From: Shop <news@shop.example>\r\nTo: <ann@home.example>\r\nSubject: News of the week\r\n\
         Date: Mon, 02 Nov 2026 09:00:00 +0000\r\nMessage-ID: <news-1@shop.example>\r\nList-Id: \
         <news.shop.example>\r\n{fields}\
         MIME-Version: 1.0\r\n{body}"
    )
}

fn part(kind: &str, encoding: Encoding, text: &str) -> String {
    let text = text.replace('\n', "\r\n");
    let (name, body) = match encoding {
        Encoding::EightBit => ("8bit", text),
        Encoding::QuotedPrintable => ("quoted-printable", quoted_printable(&text)),
        Encoding::Base64 => ("base64", wrapped(&encode_base64(text.as_bytes()))),
    };
    format!("Content-Type: {kind}\r\nContent-Transfer-Encoding: {name}\r\n\r\n{body}")
}

fn several(kind: &str, parts: &[String]) -> String {
    let boundary = format!("=_{kind}_b");
    let mut out = format!("Content-Type: multipart/{kind}; boundary=\"{boundary}\"\r\n\r\n");
    for part in parts {
        let _ = write!(out, "--{boundary}\r\n{part}\r\n");
    }
    let _ = write!(out, "--{boundary}--\r\n");
    out
}

fn alternative(encoding: Encoding, html: &str) -> String {
    let plain: String = (0..12).map(|number| format!("{}\n\n", sentence(number))).collect();
    let plain = part("text/plain; charset=utf-8", encoding, &plain);
    several("alternative", &[plain, part("text/html; charset=utf-8", encoding, html)])
}

/// Lines of at most 76 characters.
fn wrapped(text: &str) -> String {
    let lines = text.as_bytes().chunks(76).map(|line| String::from_utf8_lossy(line).into_owned());
    lines.map(|line| line + "\r\n").collect()
}

fn quoted_printable(text: &str) -> String {
    let mut out = String::new();
    for line in text.split_inclusive("\r\n") {
        let (line, end) = line.strip_suffix("\r\n").map_or((line, ""), |line| (line, "\r\n"));
        let mut length = 0;
        for byte in line.bytes() {
            let own = match byte {
                b'=' | 0..=31 | 127..=255 => format!("={byte:02X}"),
                byte => char::from(byte).to_string(),
            };
            if length + own.len() > 75 {
                out.push_str("=\r\n");
                length = 0;
            }
            length += own.len();
            out.push_str(&own);
        }
        // A blank at the end of a line would not survive transport.
        if out.ends_with(' ') {
            out.pop();
            out.push_str("=20");
        }
        out.push_str(end);
    }
    out
}

fn sentence(number: usize) -> String {
    let word = |step: usize| WORDS[(number * 7 + step * 5) % WORDS.len()];
    format!(
        "The {} of the {} \u{2014} caf\u{e9} {}, {} and a {} for every {}.",
        word(0),
        word(1),
        word(2),
        word(3),
        word(4),
        word(5)
    )
}

fn table(pixel: &str) -> String {
    let mut out = "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 \
                   Transitional//EN\" \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n\
         <html><head><meta http-equiv=\"Content-Type\" content=\"text/html; \
         charset=utf-8\"><title>News</title></head>\n\
         <body bgcolor=\"#f4f4f4\" style=\"margin:0;padding:0\"><table width=\"100%\" cellpadding=\"0\" \
         cellspacing=\"0\"><tr><td align=\"center\">\n\
         <table width=\"600\" bgcolor=\"#ffffff\" style=\"font-family:Arial,sans-serif\"><tr><td>\
         <img src=\"https://cdn.shop.example/logo.png\" width=\"140\" height=\"40\" alt=\"Shop\"></td></tr>\n"
        .to_owned();
    for number in 0..40 {
        let _ = writeln!(
            out,
            "<tr><td style=\"padding:16px 24px;border-bottom:1px solid #dddddd\"><h2 style=\"margin:0 0 \
             8px;color:#1d3557;font-size:18px\">{}</h2>\n\
             <img src=\"https://cdn.shop.example/2026/11/{}-{number}.jpg\" width=\"552\" height=\"180\" \
             alt=\"{}\" style=\"display:block\">\n\
             <p style=\"margin:8px 0;color:#333333;font-size:14px;line-height:21px\">{}</p>\n\
             <a href=\"https://www.shop.example/{}/{number}\" style=\"color:#e63946\">Read on</a></td></tr>",
            WORDS[number % WORDS.len()],
            WORDS[(number * 3) % WORDS.len()],
            sentence(number),
            sentence(number + 3),
            WORDS[(number * 5) % WORDS.len()],
        );
    }
    let _ = writeln!(
        out,
        "<tr><td style=\"padding:24px;font-size:11px;color:#777777\">Shop, 1 Example Street. \
         <a href=\"https://www.shop.example/unsubscribe\">Unsubscribe</a></td></tr></table></td></tr></table>{pixel}</body></html>"
    );
    out
}

fn responsive(pixel: &str) -> String {
    let mut out = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
                   content=\"width=device-width\">\n\
         <style>\n.card{max-width:600px;margin:0 auto;padding:16px}\n.card \
         h2{font:bold 20px/1.3 Georgia,serif}\n\
         @media (max-width:600px){.card{padding:8px}.wide{display:none}}\n@media \
         (prefers-color-scheme:dark){body{background:#111}}\n</style>\n\
         <!--[if mso]><style>.card{width:600px}</style><![endif]--></head>\n<body>\n"
        .to_owned();
    for number in 0..60 {
        let _ = writeln!(
            out,
            "<div class=\"card\"><h2>{}</h2><p>{}</p>\n\
             <!--[if mso]><v:roundrect href=\"https://www.shop.example/{number}\" \
             style=\"height:40px;v-text-anchor:middle;width:200px\" fillcolor=\"#e63946\">\
             <center>Open</center></v:roundrect><![endif]-->\n\
             <!--[if !mso]><!--><a href=\"https://www.shop.example/{number}\" \
             style=\"display:inline-block;padding:8px 16px\">Read on</a><!--<![endif]-->\n</div>",
            WORDS[(number * 11) % WORDS.len()],
            sentence(number),
        );
    }
    let _ = writeln!(out, "<div class=\"wide\">{pixel}</div>\n</body></html>");
    out
}

fn receipt(pixel: &str) -> String {
    let mut out = "<html><body><h1>Thank you for your order</h1><table \
                   border=\"1\"><tr><th>Item</th><th>Price</th></tr>\n"
        .to_owned();
    for number in 0..6 {
        let _ = writeln!(
            out,
            "<tr><td>{} {}</td><td>{}.95</td></tr>",
            WORDS[number * 2],
            WORDS[number * 3 + 1],
            number * 7 + 3
        );
    }
    let _ = writeln!(out, "</table><p>Questions? Reply to this mail.</p>{pixel}</body></html>");
    out
}
