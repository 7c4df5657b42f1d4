//! Bombs: the cost of twice the size against the cost of the size, of each kind of input that could cost more
//! than it is long. It must not exceed 2.3. The cost is time, the least of seven runs; with `--instructions`
//! it is the number of instructions as valgrind counts them, which is the same on every run and machine
//! (`make linear`).
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::time::Instant;

use pixelward::message::transfer::encode_base64;
use pixelward::policy::Rulebook;
use pixelward::rewrite::downstream::{self, Esp};
use pixelward::rewrite::{LinkOrder, Order, Targets, rewrite};
use pixelward::sign::{Algorithm, Holders, Sender, Signers, SigningKey, broken_signatures};
use pixelward::smtp::Reply;
use pixelward::smtp::data::{BareNewline, DataReader};
use pixelward::tracker::{Detector, Inquiry, Links};

const PIXEL: &str = "https://t.news.example/wf/open?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6";
const MOST: f64 = 2.3;
/// The size in bytes, for time and for instructions, which take fifty times as long to count as to run.
const SIZE: usize = 400_000;
const SIZE_COUNTED: usize = 60_000;

/// What a kind of input is made of.
struct Kind {
    name: String,
    /// An input of about so many bytes.
    make: Box<dyn Fn(usize) -> Vec<u8>>,
    work: fn(&Tools, &[u8]),
}

/// What the work needs and does not belong to it.
struct Tools {
    detector: Detector,
    signers: Signers,
    rulebook: Rulebook,
}

impl Tools {
    fn new() -> Tools {
        let pem = SigningKey::generate(Algorithm::Ed25519);
        let key = SigningKey::read("shop.example", "px", pem.as_bytes()).unwrap();
        let config = "[next_hop]\nhost = \"a.example\"\n\
                      [[controller]]\nname = \"shop\"\nfrom_domain = \"shop.example\"\n\
                      [[mailstream]]\nname = \"news\"\ncontroller = \"shop\"\n\
                      header = \"X-Kind: news\"\nlist_id = \"a.example\"\n";
        Tools {
            detector: Detector::default(),
            signers: Signers::new(vec![(key, Holders::Named(vec!["shop".to_owned()]))], None),
            rulebook: pixelward::config::Config::parse(config).unwrap().policy.rulebook,
        }
    }
}

fn analyse(tools: &Tools, raw: &[u8]) {
    let inquiry = Inquiry { links: Links::Note, ..Inquiry::to(&["ann@home.example"]) };
    black_box(tools.detector.analyse(raw, &inquiry));
}

/// The copy of one who refused.
fn strip(tools: &Tools, raw: &[u8]) {
    let inquiry = Inquiry { links: Links::Note, ..Inquiry::to(&["ann@home.example"]) };
    let raw = bytes::Bytes::copy_from_slice(raw);
    let analysis = tools.detector.analyse(&raw, &inquiry);
    let targets = Targets::default();
    let order = Order { links: LinkOrder::Unwrap(&targets), ..Order::strip(inquiry) };
    black_box(rewrite(&tools.detector, &raw, &analysis, &order)).unwrap();
}

/// The bytes of DATA, all at once: read to where they stay, and handed over from elsewhere.
fn read_data(_: &Tools, raw: &[u8]) {
    for bare in [BareNewline::Normalise, BareNewline::Reject] {
        let mut reader = DataReader::new(1 << 24, bare, 0);
        reader.room().unwrap().extend_from_slice(raw);
        reader.take(0);
        black_box(reader.finish());
        let mut reader = DataReader::new(1 << 24, bare, 0);
        reader.feed(raw);
        black_box(reader.finish());
    }
}

/// The first line names the recipients, the rest is the message.
fn analyse_for_many(tools: &Tools, raw: &[u8]) {
    let end = memchr::memchr(b'\n', raw).unwrap();
    let (names, message) = raw.split_at(end + 1);
    let names = String::from_utf8_lossy(names).into_owned();
    let recipients: Vec<&str> = names.split_whitespace().collect();
    black_box(tools.detector.analyse(message, &Inquiry::to(&recipients)));
}

/// What an edit of the body and one of the header break, and the signature that comes instead.
fn sign(tools: &Tools, raw: &[u8]) {
    let edited = [b"X-Added: 1\r\n", raw, b"more\r\n"].concat();
    black_box(broken_signatures(raw, &edited));
    let sender = Sender { domain: "shop.example", controller: "shop", tied: Vec::new() };
    black_box(tools.signers.sign(raw, &sender, 1));
    black_box(pixelward::sign::verify::verify(raw, |_| Some("p=AA==".to_owned())));
}

/// What else reads a header.
fn read_header(tools: &Tools, raw: &[u8]) {
    black_box(tools.rulebook.marks(raw));
    black_box(pixelward::policy::conditions::from_domain(raw));
    let _ = black_box(downstream::edits(raw, Esp::Postmark));
    analyse(tools, raw);
    sign(tools, raw);
}

fn reply(_: &Tools, raw: &[u8]) {
    let lines: Vec<String> =
        raw.chunks(4000).map(|chunk| String::from_utf8_lossy(chunk).into_owned()).collect();
    black_box(Reply::lines(550, lines.iter().map(String::as_str)).text());
}

/// Every kind of input.
fn kinds() -> Vec<Kind> {
    let html = bombs().into_iter().map(|(name, before, piece)| {
        let before = format!("Content-Type: text/html\r\n\r\n{before}");
        kind(name, before, piece, "\r\n", analyse)
    });
    html.chain(messages()).collect()
}

fn kind(name: &str, before: String, piece: String, after: &'static str, work: fn(&Tools, &[u8])) -> Kind {
    let make = move |size: usize| format!("{before}{}{after}", piece.repeat(size / piece.len())).into_bytes();
    Kind { name: name.to_owned(), make: Box::new(make), work }
}

/// Kinds of whole messages: fields, parts, encodings, signatures.
fn messages() -> Vec<Kind> {
    const BODY: &str = "From: a@shop.example\r\n\r\nbody\r\n";
    let of = |name: &str, before: &str, piece: &str, after: &'static str, work| {
        kind(name, before.to_owned(), piece.to_owned(), after, work)
    };
    let part = format!("--b\r\nContent-Type: text/html\r\n\r\n<img src=\"{PIXEL}\" width=1 height=1>\r\n");
    let nested: Box<dyn Fn(usize) -> Vec<u8>> = Box::new(|size| {
        let level =
            |depth: usize| format!("Content-Type: multipart/mixed; boundary=b{depth}\r\n\r\n--b{depth}\r\n");
        (0..size / 60).map(level).collect::<String>().into_bytes()
    });
    let hash = encode_base64(&[0; 32]);
    let field = format!(
        "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple; d=a.example; s=s; \
         h=from:to:subject; bh={hash}; b={hash}\r\n"
    );
    let limits: Box<dyn Fn(usize) -> Vec<u8>> = Box::new(move |size| {
        let limited = |number: usize| {
            format!(
                "DKIM-Signature: a=rsa-sha256; c=relaxed/relaxed; d=a.example; s=s; \
                 l={number}; h=from; bh={hash}; b={hash}\r\n"
            )
        };
        let header: String = (0..size / 300).map(limited).collect();
        format!("{header}From: a@shop.example\r\n\r\n{}", "one  two\t \r\n".repeat(size / 24)).into_bytes()
    });
    let same: Box<dyn Fn(usize) -> Vec<u8>> = Box::new(|size| {
        let names = "x:".repeat(size / 8);
        let fields = "X: 1\r\n".repeat(size / 16);
        format!(
            "DKIM-Signature: a=rsa-sha256; d=a.example; s=s; h={names}from; bh=AA==; b=AA==\r\n{fields}{BODY}"
        )
        .into_bytes()
    });
    let recipients: Box<dyn Fn(usize) -> Vec<u8>> = Box::new(|size| {
        let names: String = (0..size / 24).map(|number| format!("p{number}@home.example ")).collect();
        let pixels = format!("<img src=\"{PIXEL}\" width=1 height=1>").repeat(4);
        format!("{names}\nContent-Type: text/html\r\n\r\n{pixels}\r\n").into_bytes()
    });
    let coded =
        |encoding: &str| format!("Content-Type: text/html\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n");
    let (html, quoted, base64) = (coded("8bit"), coded("quoted-printable"), coded("base64"));
    let made = |name: &str, make, work| Kind { name: name.to_owned(), make, work };
    vec![
        of("DKIM fields", "", &field, BODY, sign),
        of("bare DKIM fields", "", "DKIM-Signature:a\r\n", BODY, sign),
        made("DKIM fields, each with another length", limits, sign),
        made("DKIM field that names many of many fields", same, sign),
        of("tags of a DKIM field", "DKIM-Signature: ", "h=a;", "\r\nFrom: a@shop.example\r\n\r\n", sign),
        of("blanks in a signed body", &format!("{field}{BODY}"), " \t", "\r\n", sign),
        of("empty lines of a signed body", &format!("{field}{BODY}"), " \r\n", "x\r\n", sign),
        of("fields that we sign", "", "To: a@b.example\r\n", BODY, sign),
        of("header fields", "", "X-Field: value\r\n", BODY, read_header),
        of("Received fields", "", "Received: from a.example by b.example id 1\r\n", BODY, read_header),
        of("From fields", "", "From: a@shop.example, b@shop.example\r\n", BODY, read_header),
        of("control fields", "", "X-Kind: news\r\n", BODY, read_header),
        of("fields of services", "", "X-PM-TrackOpens: true\r\nX-SMTPAPI: {}\r\n", BODY, read_header),
        of("lines of a folded field", "Subject: a\r\n", " folded\r\n", BODY, read_header),
        of(
            "addresses of a From field",
            "From: ",
            "\"a (b\" <a@shop.example>, ",
            "\r\n\r\nbody\r\n",
            read_header,
        ),
        of("parts", "Content-Type: multipart/mixed; boundary=b\r\n\r\n", &part, "--b--\r\n", analyse),
        of(
            "boundaries of nothing",
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n",
            "--c\r\n--",
            "--b--\r\n",
            analyse,
        ),
        made("nested multiparts", nested, analyse),
        of("parameters of a type", "Content-Type: text/html", ";\r\n a=b", "\r\n\r\n<p>\r\n", analyse),
        of("soft line ends in quoted-printable", &quoted, "=\r\n", "\r\n", analyse),
        of("stray signs in quoted-printable", &quoted, "=ZZ=", "\r\n", analyse),
        of("blanks in quoted-printable", &quoted, " \t", "\r\n", analyse),
        of(
            "pixels in quoted-printable",
            &quoted,
            "<img src=3D\"//t.news.example/open/1\">=\r\n",
            "\r\n",
            analyse,
        ),
        of("stray bytes in base64", &base64, "PGI+!\r\n", "\r\n", analyse),
        of("padding in base64", &base64, "PA==", "\r\n", analyse),
        made("recipients", recipients, analyse_for_many),
        of("edits in one line", &html, &format!("<img src=\"{PIXEL}\" width=1 height=1>"), "\r\n", strip),
        of("edits in lines", &html, &format!("<img src=\"{PIXEL}\" width=1 height=1>\r\n"), "", strip),
        of("edits in quoted-printable", &quoted, &format!("<img src=3D\"{PIXEL}\"=\r\n>"), "\r\n", strip),
        of(
            "edits in base64",
            &base64,
            &encode_base64(format!("<img src=\"{PIXEL}\" width=1>").as_bytes()),
            "\r\n",
            strip,
        ),
        of("bare line feeds", "", "a\n", "\r\n.\r\n", read_data),
        of("bare carriage returns", "", "a\r", "\r\n.\r\n", read_data),
        of("lines that begin with dots", "", "..\r\n", ".\r\n", read_data),
        of("lines of words", "", "words of a line\r\n", ".\r\n", read_data),
        of("addresses in a reply", "", "\"a b\"@home.example ", "", reply),
        of("open quotes in a reply", "", "\".", "@home.example", reply),
    ]
}

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

/// The work whose instructions are counted. Valgrind knows it by its name, so it must stay a function.
#[inline(never)]
fn measured(kind: &Kind, tools: &Tools, input: &[u8]) {
    (kind.work)(black_box(tools), black_box(input));
}

/// The least time that the work took.
fn time(kind: &Kind, tools: &Tools, input: &[u8]) -> f64 {
    let run = |_| {
        let start = Instant::now();
        measured(kind, tools, input);
        start.elapsed().as_secs_f64()
    };
    (0..7).map(run).fold(f64::MAX, f64::min)
}

/// Prints the ratios; says whether all are within the bound.
fn judged(costs: impl Iterator<Item = (String, f64, f64)>, unit: &str) -> ExitCode {
    let mut failed = 0;
    println!(" ratio  {unit:>12}  input");
    for (name, once, twice) in costs {
        let ratio = twice / once;
        failed += u32::from(ratio > MOST);
        let mark = if ratio > MOST { "  <- more than 2.3" } else { "" };
        println!("{ratio:>6.2}  {once:>12.2}  {name}{mark}");
    }
    if failed > 0 {
        println!("{failed} kinds cost more than {MOST} times as much for twice the size");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Does the work of every kind, once and twice its size, for somebody who counts. The first time is for what
/// is made ready only once.
fn work() -> ExitCode {
    let tools = Tools::new();
    for kind in kinds() {
        (kind.work)(&tools, &(kind.make)(SIZE_COUNTED / 8));
        for size in [SIZE_COUNTED, 2 * SIZE_COUNTED] {
            measured(&kind, &tools, &(kind.make)(size));
        }
    }
    ExitCode::SUCCESS
}

/// Has valgrind count the instructions of this program's work. It leaves a file for each call of `measured`,
/// in their order.
fn count() -> ExitCode {
    let folder = std::env::temp_dir().join(format!("pixelward-linear-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let files = folder.join("calls");
    let status = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--toggle-collect=linear::measured",
            "--dump-after=linear::measured",
            "--quiet",
        ])
        .arg(format!("--callgrind-out-file={}", files.display()))
        .arg(std::env::current_exe().unwrap())
        .arg("--work")
        .status()
        .expect("valgrind is installed (make linear installs it)");
    assert!(status.success(), "valgrind ended with {status}");
    let instructions = |number: usize| {
        let file = std::fs::read_to_string(folder.join(format!("calls.{number}"))).unwrap();
        let total = file.lines().find_map(|line| line.strip_prefix("totals: ")).unwrap();
        total.trim().parse::<f64>().unwrap() / 1e6
    };
    let costs = kinds()
        .into_iter()
        .enumerate()
        .map(|(index, kind)| (kind.name, instructions(2 * index + 1), instructions(2 * index + 2)));
    let judged = judged(costs, "million");
    std::fs::remove_dir_all(&folder).unwrap();
    judged
}

fn main() -> ExitCode {
    let asked = |name: &str| std::env::args().any(|argument| argument == name);
    if asked("--work") {
        return work();
    }
    if asked("--instructions") {
        return count();
    }
    let tools = Tools::new();
    let costs = kinds().into_iter().map(|kind| {
        let cost = |size| time(&kind, &tools, &(kind.make)(size)) * 1e3;
        let (once, twice) = (cost(SIZE), cost(2 * SIZE));
        (kind.name, once, twice)
    });
    judged(costs, "ms")
}
