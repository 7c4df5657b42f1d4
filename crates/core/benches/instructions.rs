//! Instructions that a message costs between the bytes of DATA and the copy that leaves, as valgrind counts
//! them: the same on every run, whatever else the machine does (`make instructions`). Reading the data,
//! analysis, rewrite, verification and the care of signatures are counted; decision, network, store, log and
//! audit record are not. Valgrind knows no instructions for SHA-256, so that weighs more here than it may in
//! life.
//!
//! Fails if one of the messages made here costs over 5 % more than `instructions.csv` has for it. Files named
//! on the command line are measured too, without a bound.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

extern crate pixelward_core as pixelward;

#[path = "../../../benches/fixture/mod.rs"]
mod fixture;

use std::collections::HashMap;
use std::hint::black_box;
use std::process::{Command, ExitCode};

use fixture::{campaign, newsletter, signed, transactional, with_line_ends};
use pixelward::rewrite::{Copy, LinkOrder, Order, Targets, rewrite};
use pixelward::sign::broken_signatures;
use pixelward::smtp::data::{BareNewline, Data, DataReader};
use pixelward::tracker::{Detector, Inquiry, Links};

/// How much more than its bound a message may cost.
const MARGIN: f64 = 1.05;
/// The bounds, in instructions.
const BOUNDS: &str = include_str!("instructions.csv");
/// How much of DATA comes at once.
const BLOCK: usize = 16 * 1024;

/// A message whose cost is counted.
struct Case {
    name: String,
    /// The bytes of DATA.
    data: Vec<u8>,
    /// Other copies of its campaign, which the relay has had before.
    others: Vec<Vec<u8>>,
}

/// The messages.
fn cases() -> Vec<Case> {
    let case = |name: &str, message: &[u8], others: &[&[u8]]| Case {
        name: name.to_owned(),
        data: stuffed(message),
        others: others.iter().map(|other| stuffed(other)).collect(),
    };
    let newsletter = newsletter();
    let other = other_copy(&newsletter);
    let readers = ["27182818", "16180339", "14142135", "17320508", "22360679"].map(campaign);
    let names = [
        ("27182818", "Ann"),
        ("16180339", "Robert"),
        ("14142135", "Maximilian"),
        ("17320508", "Jo"),
        ("22360679", "Beatrice"),
    ];
    let names = names.map(|(number, name)| named(number, name));
    let made = [
        case("newsletter", &newsletter, &[]),
        case("newsletter, signed", &signed(&newsletter), &[]),
        case("newsletter, again", &newsletter, &[&newsletter[..]; TIMES - 1]),
        case("newsletter, another copy", &newsletter, &[other.as_slice(); TIMES - 1]),
        case("newsletter, another reader", &campaign("31415926"), &readers.each_ref().map(|copy| &copy[..])),
        case("newsletter, another name", &named("31415926", "Eve"), &names.each_ref().map(|copy| &copy[..])),
        case("transactional", &transactional(), &[]),
    ];
    let files = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let read = files.flat_map(|path| {
        let message = with_line_ends(&std::fs::read(&path).unwrap());
        [
            case(&path, &message, &[]),
            case(&format!("{path}, again"), &message, &[message.as_slice(); TIMES - 1]),
        ]
    });
    made.into_iter().chain(read).collect()
}

/// Another copy of a newsletter: a few words are others.
fn other_copy(message: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(message.to_vec()).unwrap();
    ["Picture 2", "Picture 7"].iter().fold(text, |text, words| text.replace(words, "A picture")).into_bytes()
}

/// The newsletter of one recipient of a campaign, who is called by name.
fn named(number: &str, name: &str) -> Vec<u8> {
    let text = String::from_utf8(campaign(number).to_vec()).unwrap();
    text.replace("Artikel 0</h2>", &format!("Hallo {name}</h2>")).into_bytes()
}

/// A message as it is sent: dots at the start of lines doubled, with the final dot.
fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut data: Vec<u8> = Vec::with_capacity(message.len() + 64);
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        data.extend(line.starts_with(b".").then_some(b'.'));
        data.extend_from_slice(line);
    }
    data.extend_from_slice(b".\r\n");
    data
}

/// The work whose instructions are counted: the copy for one recipient, who refused. Valgrind knows it by its
/// name, so it must stay a function.
#[inline(never)]
fn measured(detector: &Detector, data: &[u8]) -> usize {
    let mut reader = DataReader::new(1 << 24, BareNewline::Reject, data.len());
    for block in data.chunks(BLOCK) {
        reader.feed(block);
    }
    let Data::Message(raw) = reader.finish() else { panic!("the data is no message") };
    let recipients = ["eve@home.example"];
    let inquiry = Inquiry { links: Links::Note, ..Inquiry::to(&recipients) };
    let analysis = detector.analyse(&raw, &inquiry);
    let targets = Targets::default();
    let order = Order { links: LinkOrder::Unwrap(&targets), ..Order::strip(inquiry) };
    match rewrite(detector, &raw, &analysis, &order).unwrap() {
        Copy::Untouched => 0,
        Copy::Rewritten { bytes, .. } => broken_signatures(&raw, &bytes).len() + bytes.len(),
    }
}

/// How often the work is done for each case: before the last time, for what is made ready only once.
const TIMES: usize = 6;

/// Does the work.
fn work() {
    for Case { data, others, .. } in cases() {
        // Each knows no copies but those of its own message.
        let detector = &Detector::default().remembering(if others.is_empty() { 0 } else { 1 << 24 });
        let before = others.iter().chain(std::iter::repeat(&data)).take(TIMES - 1);
        for data in before.chain([&data]) {
            black_box(measured(detector, black_box(data)));
        }
    }
}

/// Has valgrind count the instructions of this program's work. It leaves a file for each call of `measured`,
/// in their order.
fn count() -> Vec<f64> {
    let folder = std::env::temp_dir().join(format!("pixelward-instructions-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let files = folder.join("calls");
    let status = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--toggle-collect=instructions::measured",
            "--dump-after=instructions::measured",
            "--quiet",
        ])
        .arg(format!("--callgrind-out-file={}", files.display()))
        .arg(std::env::current_exe().unwrap())
        .args(std::env::args().skip(1))
        .arg("--work")
        .status()
        .expect("valgrind is installed (make instructions installs it)");
    assert!(status.success(), "valgrind ended with {status}");
    let counted = (1..=cases().len()).map(|number| {
        let file = std::fs::read_to_string(folder.join(format!("calls.{}", TIMES * number))).unwrap();
        let total = file.lines().find_map(|line| line.strip_prefix("totals: ")).unwrap();
        total.trim().parse::<f64>().unwrap()
    });
    let counted = counted.collect();
    std::fs::remove_dir_all(&folder).unwrap();
    counted
}

fn main() -> ExitCode {
    let asked = |name: &str| std::env::args().any(|argument| argument == name);
    if asked("--work") {
        work();
        return ExitCode::SUCCESS;
    }
    if asked("--test") {
        // `cargo test --benches` only wants to know that it builds.
        return ExitCode::SUCCESS;
    }
    let bounds: HashMap<&str, f64> = BOUNDS
        .lines()
        .filter_map(|line| line.rsplit_once(';'))
        .filter_map(|(name, bound)| Some((name, bound.trim().parse().ok()?)))
        .collect();
    let mut failed = 0;
    println!("  million  of bound  per byte  message");
    for (Case { name, data, .. }, cost) in cases().iter().zip(count()) {
        let share = bounds.get(name.as_str()).map(|bound| cost / bound);
        let is_over = share.is_some_and(|share| share > MARGIN);
        failed += u32::from(is_over);
        let shown = share.map_or_else(|| "-".to_owned(), |share| format!("{share:.3}"));
        let mark = if is_over { "  <- over 1.05" } else { "" };
        println!("{:>9.3}  {shown:>8}  {:>8.1}  {name}{mark}", cost / 1e6, cost / data.len() as f64);
    }
    if failed > 0 {
        println!("{failed} messages cost over 5 % more than instructions.csv has for them");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
