//! What must hold for any input, by area. Two drivers call it: the targets of cargo-fuzz beside this file, and `tests/fuzz.rs`.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pixelward::config::Config;
use pixelward::consent::{Change, Details, Settings, State, Store, Timestamp};
use pixelward::guarded;
use pixelward::live::Live;
use pixelward::message::Structure;
use pixelward::message::transfer::{Decoded, Edit, Filler, Transfer, apply, normalise};
use pixelward::pipeline::{Arrival, MessageId, Pipeline};
use pixelward::policy::Purpose;
use pixelward::relay::{Answers, Ledger};
use pixelward::rewrite::{
    Copy, LinkTreatment, Opens, Order, Personal, Receipts, Verify, rewrite, without_requests,
};
use pixelward::sign::signers::Holders;
use pixelward::sign::verify::{Verdict, verify};
use pixelward::sign::{Algorithm, Sender, Signed, Signers, SigningKey, broken_signatures};
use pixelward::smtp::address::Address;
use pixelward::smtp::command::Parameters;
use pixelward::smtp::session::{self, Envelope, Greeting, Protocol, Recipient};
use pixelward::tracker::css::{Strings, loads, may_load};
use pixelward::tracker::html::Tokenizer;
use pixelward::tracker::{Detector, Extent, Inquiry, Links};

static DETECTOR: LazyLock<Detector> = LazyLock::new(Detector::default);

/// An area: its name, and what must hold for any input.
pub type Area = (&'static str, fn(&[u8]));

/// All areas.
pub const AREAS: [Area; 6] =
    [("mime", mime), ("html", html), ("css", css), ("transfer", transfer), ("dkim", dkim), ("whole", whole)];

fn order(inquiry: Inquiry<'_>, links: LinkTreatment) -> Order<'_> {
    Order {
        opens: Opens::Strip,
        added: &[],
        inquiry,
        receipts: Receipts::Strip,
        personal: Personal::Gentlest,
        links,
        verify: Verify::On,
    }
}

/// Whole messages: leaves lie in bounds, and what was verified is not changed by a second rewrite.
pub fn mime(raw: &[u8]) {
    for leaf in Structure::read(raw).leaves {
        assert!(leaf.body.start <= leaf.body.end && leaf.body.end <= raw.len());
    }
    let inquiry = Inquiry { links: Links::Note, ..Inquiry::to(&["ann@home.example"]) };
    let raw = Bytes::copy_from_slice(raw);
    let analysis = DETECTOR.analyse(&raw, &inquiry);
    let made = rewrite(&DETECTOR, &raw, &analysis, &order(inquiry, LinkTreatment::Unwrap));
    let Ok(Copy::Rewritten { bytes, .. }) = made else { return };
    let again = DETECTOR.analyse(&bytes, &inquiry);
    let kept = rewrite(&DETECTOR, &bytes, &again, &order(inquiry, LinkTreatment::Keep));
    assert!(matches!(kept, Ok(Copy::Untouched)));
}

fn rewritten(raw: &Bytes, extent: Extent) -> Bytes {
    let inquiry = Inquiry { extent, links: Links::Note, ..Inquiry::to(&["ann@home.example"]) };
    let analysis = DETECTOR.analyse(raw, &inquiry);
    let made = rewrite(&DETECTOR, raw, &analysis, &order(inquiry, LinkTreatment::Keep));
    match made.expect("markup can always be rewritten") {
        Copy::Untouched => raw.clone(),
        Copy::Rewritten { bytes, .. } => bytes,
    }
}

/// Markup: tokens lie in bounds and in order, a second rewrite changes nothing, and what weighs nothing leaves nothing that loads.
pub fn html(html: &[u8]) {
    let mut tokens = Tokenizer::new(html, 0..html.len());
    let mut last = 0;
    while tokens.step().is_some() {
        let range = tokens.range();
        assert!(range.start >= last && range.end <= html.len() && range.start <= range.end);
        last = range.end;
    }
    let raw = Bytes::from([b"Content-Type: text/html\r\n\r\n", html].concat());
    for extent in [Extent::Trackers, Extent::EveryRequest] {
        let once = rewritten(&raw, extent);
        assert_eq!(rewritten(&once, extent), once, "{extent:?}");
    }
    if let Ok(bare) = without_requests(&DETECTOR, &raw) {
        assert_eq!(rewritten(&bare.bytes, Extent::EveryRequest), bare.bytes, "something is left that loads");
    }
}

/// Style sheets: loads lie in bounds, and what the quick look passes over loads nothing.
pub fn css(style: &[u8]) {
    let found = loads(style, Strings::OfFunctions);
    for load in found.iter().chain(&loads(style, Strings::OfCustomProperties)) {
        assert!(load.range.start < load.range.end && load.range.end <= style.len());
    }
    assert!(found.is_empty() || may_load(style), "{:?}", String::from_utf8_lossy(style));
}

fn without_filler(bytes: &[u8]) -> Vec<u8> {
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    text.replace("<!---->", "").replace("<!-- -->", "").replace(' ', "").into_bytes()
}

/// Transfer encodings: an edit of the decoded text, written into the raw bytes, has its effect and no other. The first bytes say which
/// edits.
pub fn transfer(input: &[u8]) {
    let Some((&[which, rest @ ..], raw)) = input.split_first_chunk::<13>() else { return };
    let transfer = if which % 2 == 0 { Transfer::Base64 } else { Transfer::QuotedPrintable };
    let decoded = Decoded::new(raw, transfer);
    let length = decoded.bytes.len();
    let edits = rest.chunks(4).take(usize::from(which / 2) % 4).filter_map(|place| {
        let [low, high, span, with] = place.try_into().ok()?;
        let start = usize::from(u16::from_le_bytes([low, high])) % (length + 1);
        let filler = match with % 3 {
            0 => Filler::Comment,
            1 => Filler::Space,
            _ => Filler::Nothing,
        };
        let range = start..(start + usize::from(span)).min(length);
        Some(Edit { range, with: vec![b'x'; usize::from(with) % 5], filler })
    });
    let edits = normalise(edits.collect());
    let wanted = apply(&decoded.bytes, &edits);
    let written = apply(raw, &decoded.to_raw(raw, edits));
    let read = Decoded::new(&written, transfer).bytes.into_owned();
    assert_eq!(without_filler(&read), without_filler(&wanted));
}

/// As the relay takes messages: each line ends in CRLF.
fn received(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + 64);
    let mut bytes = raw.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' => {
                bytes.next_if_eq(&b'\n');
                out.extend_from_slice(b"\r\n");
            }
            b'\n' => out.extend_from_slice(b"\r\n"),
            other => out.push(other),
        }
    }
    if !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out
}

struct Signing {
    signers: Signers,
    record: String,
}

fn signing_key() -> (SigningKey, String) {
    let pem = SigningKey::generate(Algorithm::Ed25519);
    (SigningKey::read("shop.example", "fuzz", pem.as_bytes()).expect("a key of ours"), pem)
}

static SIGNING: LazyLock<Signing> = LazyLock::new(|| {
    let (key, _) = signing_key();
    let record = key.record();
    Signing { signers: Signers::new(vec![(key, Holders::Named(vec!["shop".to_owned()]))], None), record }
});

/// Signatures: those that an edit breaks are fields of the header, and ours holds over what is left. The first bytes say which edit.
pub fn dkim(input: &[u8]) {
    let Some((&[low, high, span], raw)) = input.split_first_chunk::<3>() else { return };
    let raw = received(raw);
    let start = usize::from(u16::from_le_bytes([low, high])) % (raw.len() + 1);
    let end = raw[..start].len() + raw[start..].len().min(usize::from(span));
    let edits = [Edit::cut_inside(start..end)];
    let changed = received(&apply(&raw, &edits));
    let broken = broken_signatures(&raw, &changed);
    for range in &broken {
        let field = raw.get(range.clone()).expect("a field lies in the message");
        assert!(field.len() >= 14 && field[..14].eq_ignore_ascii_case(b"DKIM-Signature"));
    }
    let Signing { signers, record } = &*SIGNING;
    let sender = Sender { domain: "shop.example", controller: "shop", tied: Vec::new() };
    let Signed::Fields(fields) = signers.sign(&changed, &sender, 1_795_000_000) else { return };
    let signed = [fields.as_bytes(), &changed].concat();
    let verified = verify(&signed, |name| (name == "fuzz._domainkey.shop.example").then(|| record.clone()));
    let holds = verified.first().is_some_and(|ours| ours.verdict == Verdict::Holds);
    assert!(holds, "our own signature does not hold: {verified:?}");
}

/// The whole line up to delivery, with a store, a preference page and a key.
struct Line {
    pipeline: Arc<Pipeline>,
    runtime: tokio::runtime::Runtime,
    _folder: PathBuf,
}

const CONFIG: &str = "[tracker]\ncampaign_learning = false\n[[controller]]\nname = \"shop\"\n\
    from_domain = \"shop.example\"\njurisdiction = \"fr\"\non_grant = \"gate\"\npublic_url = \"https://choice.shop.example\"\n[[mailstream]]\nname = \"watched\"\n\
    controller = \"shop\"\nmode = \"observe\"\nheader = \"X-Kind: watched\"\n[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\n\
    [next_hop]\nhost = \"localhost\"\nport = 9\ntls = \"none\"\n[evidence]\nenabled = false\n[api]\naddress = \"\"\n";

const PEOPLE: [&str; 3] = ["granted@home.example", "refused@home.example", "unknown@home.example"];

static LINE: LazyLock<Line> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("pixelward-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the store");
    let (_, pem) = signing_key();
    let key = folder.join("key.pem");
    std::fs::write(&key, pem).expect("a key file");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its mode");
    let config = format!(
        "data_directory = {folder:?}\n{CONFIG}[[dkim.key]]\ndomain = \"shop.example\"\nselector = \"fuzz\"\nkey_file = {key:?}\n"
    );
    let config = Config::parse(&config).unwrap_or_else(|problems| panic!("{problems:?}"));
    let store = Arc::new(Store::open(&Settings::at(folder.join("consent"))).expect("a store"));
    for (person, state) in PEOPLE.into_iter().zip([State::Granted, State::Refused]) {
        let controller = "shop".parse().expect("a name");
        let change = Change::new(controller, Purpose::CONSENT.to_vec(), state, Timestamp::now());
        let details = Details { evidence: Some("fuzz".to_owned()), ..Details::default() };
        let changes = vec![(store.person(person), Change { details, ..change })];
        store.record(changes).expect("a recorded choice");
    }
    let ledger = Ledger::open(&folder.join("ledger")).expect("a ledger");
    let pipeline = Pipeline::new(Live::of(config).expect("a configuration"), store, ledger, None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    Line { pipeline, runtime, _folder: folder }
});

fn arrival(pipeline: &Pipeline, message: Bytes, recipients: &[&str], answers: Answers) -> Arrival {
    let address = |text: &str| Address::bare(text).expect("an address");
    let sender = session::Sender { address: address("news@shop.example"), parameters: Parameters::default() };
    let client = Greeting { name: "client.example".to_owned(), protocol: Protocol::Esmtp };
    let to = |text: &&str| Recipient { address: address(text), parameters: Parameters::default() };
    let recipients = recipients.iter().map(to).collect();
    Arrival {
        id: MessageId::new(),
        envelope: Envelope { recipients, ..Envelope::new(client, sender) },
        message,
        listener: "default".to_owned(),
        outbound: Arc::clone(&pipeline.live().outbound[0]),
        deadline: Instant::now() + Duration::from_secs(60),
        peer: ([127, 0, 0, 1], 9).into(),
        client_name: None,
        tls: None,
        answers,
    }
}

/// Analyse, look up, decide, rewrite, verify, sign: nothing panics, who did not agree gets no tracker, observed mail is left alone, and
/// lines go on ending in CRLF. The first byte says who the recipients are.
pub fn whole(input: &[u8]) {
    let Some((&which, raw)) = input.split_first() else { return };
    let message = Bytes::from(received(raw));
    let Line { pipeline, runtime, .. } = &*LINE;
    let recipients: Vec<&str> = PEOPLE
        .iter()
        .enumerate()
        .filter(|(bit, _)| which >> bit & 1 == 1)
        .map(|(_, address)| *address)
        .collect();
    let recipients = if recipients.is_empty() { PEOPLE.to_vec() } else { recipients };
    let answers = if which & 8 == 0 { Answers::One } else { Answers::Each };
    let arrival = arrival(pipeline, message.clone(), &recipients, answers);
    let before = guarded::panics();
    let copies = runtime.block_on(pipeline.copies(&arrival));
    assert_eq!(guarded::panics(), before, "a step ended in an internal error");
    // What may be a message of the observed mailstream is not looked at for what is left.
    let may_be_observed = message.windows(7).any(|word| word.eq_ignore_ascii_case(b"watched"));
    let mut served = 0;
    for (indexes, copy) in copies {
        served += indexes.len();
        let Ok(copy) = copy else { continue };
        // A message of control fields alone leaves nothing behind.
        assert!(copy.is_empty() || copy.ends_with(b"\r\n"), "the last line is not whole");
        assert!(copy.is_empty() || received(&copy) == copy, "a bare CR or LF came in");
        if may_be_observed || indexes.iter().all(|index| recipients[*index] == PEOPLE[0]) {
            continue;
        }
        let found = DETECTOR.analyse(&copy, &Inquiry::to(&recipients));
        let ours = |url: &str| url.starts_with("choice.shop.example/");
        let left =
            found.sightings.iter().find(|sighting| sighting.is_removable_tracker() && !ours(&sighting.url));
        assert!(left.is_none(), "{:?} is left", left.map(|sighting| &sighting.url));
    }
    assert_eq!(served, recipients.len(), "somebody gets no copy and hears nothing");
}
