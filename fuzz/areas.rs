//! What must hold for any input, by area. Two drivers call it: the targets of cargo-fuzz beside this file,
//! and `tests/fuzz.rs`.

#[path = "difference.rs"]
mod second_look;

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use pixelward::config::Config;
use pixelward::config::Treatment;
use pixelward::consent::{Controller, Person, Standing, State, StoreKey, Timestamp};
use pixelward::guarded;
use pixelward::message::Structure;
use pixelward::message::transfer::{Decoded, Edit, Filler, Transfer, apply, normalise};
use pixelward::plan::trial::{Assumed, TriedCopy, treat};
use pixelward::plan::{Message, People};
use pixelward::policy::Origin;
use pixelward::rewrite::reader_token::Mint;
use pixelward::rewrite::{Copy, LinkOrder, Order, Targets, rewrite, without_requests};
use pixelward::sign::signers::Holders;
use pixelward::sign::verify::{Verdict, verify};
use pixelward::sign::{Algorithm, Sender, Signed, Signers, SigningKey, broken_signatures};
use pixelward::tracker::css::{Strings, loads, may_load};
use pixelward::tracker::html::Tokenizer;
use pixelward::tracker::{Detector, Extent, Inquiry, Links};

use second_look::{Numbers, are_known_copies, copy, edits, has_answer};

static DETECTOR: LazyLock<Detector> = LazyLock::new(Detector::default);

/// An area: its name, and what must hold for any input.
pub type Area = (&'static str, fn(&[u8]));

/// All areas.
pub const AREAS: [Area; 7] = [
    ("mime", mime),
    ("html", html),
    ("css", css),
    ("transfer", transfer),
    ("difference", difference),
    ("dkim", dkim),
    ("whole", whole),
];

fn order<'a>(inquiry: Inquiry<'a>, links: LinkOrder<'a>) -> Order<'a> {
    Order { links, ..Order::strip(inquiry) }
}

/// Whole messages: leaves lie in bounds, and what was verified is not changed by a second rewrite.
pub fn mime(raw: &[u8]) {
    for leaf in Structure::read(raw).leaves {
        assert!(leaf.body.start <= leaf.body.end && leaf.body.end <= raw.len());
    }
    let inquiry = Inquiry { links: Links::Note, ..Inquiry::to(&["ann@home.example"]) };
    let raw = Bytes::copy_from_slice(raw);
    let analysis = DETECTOR.analyse(&raw, &inquiry);
    let targets = Targets::default();
    let made = rewrite(&DETECTOR, &raw, &analysis, &order(inquiry, LinkOrder::Unwrap(&targets)));
    let Ok(Copy::Rewritten { bytes, .. }) = made else { return };
    let again = DETECTOR.analyse(&bytes, &inquiry);
    let kept = rewrite(&DETECTOR, &bytes, &again, &order(inquiry, LinkOrder::Keep));
    assert!(matches!(kept, Ok(Copy::Untouched)));
}

fn rewritten(raw: &Bytes, extent: Extent) -> Bytes {
    let inquiry = Inquiry { extent, links: Links::Note, ..Inquiry::to(&["ann@home.example"]) };
    let analysis = DETECTOR.analyse(raw, &inquiry);
    let made = rewrite(&DETECTOR, raw, &analysis, &order(inquiry, LinkOrder::Keep));
    match made.expect("markup can always be rewritten") {
        Copy::Untouched => raw.clone(),
        Copy::Rewritten { bytes, .. } => bytes,
    }
}

/// Markup: tokens lie in bounds and in order, a second rewrite changes nothing, and what weighs nothing
/// leaves nothing that loads.
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

/// Transfer encodings: an edit of the decoded text, written into the raw bytes, has its effect and no other.
/// The first bytes say which edits.
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

/// Messages after edits, which the last bytes say, and other copies of them: what is read only where it differs has in
/// it what an analysis of all of it finds.
pub fn difference(input: &[u8]) {
    let Some((raw, seed)) = input.split_last_chunk::<8>() else { return };
    let recipients = ["ann@home.example"];
    for extent in [Extent::Trackers, Extent::EveryRequest] {
        let inquiry = Inquiry { extent, links: Links::Note, ..Inquiry::to(&recipients) };
        let analysis = DETECTOR.analyse(raw, &inquiry);
        let edits = edits(raw, &analysis, &mut Numbers::of(u64::from_le_bytes(*seed)));
        has_answer(&DETECTOR, raw, &analysis, &edits, &inquiry);
        let mut numbers = Numbers::of(u64::from_le_bytes(*seed));
        for other in [apply(raw, &edits), copy(raw, &mut numbers)] {
            are_known_copies(&DETECTOR, raw, &other, &mut numbers, &inquiry);
        }
    }
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

/// Signatures: those that an edit breaks are fields of the header, and ours holds over what is left. The
/// first bytes say which edit.
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

/// What the plan for a message rests on: a preference page, a key, and people who said different things.
struct Ground {
    config: Config,
    treatment: Treatment,
    people: Stated,
}

const CONFIG: &str = "[tracker]\ncampaign_learning = false\n[[controller]]\nname = \"shop\"\n\
    from_domain = \"shop.example\"\njurisdiction = \"fr\"\non_grant = \"gate\"\n\
    public_url = \"https://choice.shop.example\"\n\
    [[mailstream]]\nname = \"watched\"\ncontroller = \"shop\"\nmode = \"observe\"\nheader = \"X-Kind: \
    watched\"\n\
    [next_hop]\nhost = \"localhost\"\nport = 9\ntls = \"none\"\n";

const PEOPLE: [&str; 3] = ["granted@home.example", "refused@home.example", "unknown@home.example"];

/// People by their addresses, and what they said.
struct Stated {
    standings: [Arc<Standing>; 3],
    mint: Mint,
}

impl Stated {
    fn new() -> Stated {
        let controller: Controller = "shop".parse().expect("a name");
        let standing = |state: Option<State>| {
            let said = Assumed::to_have_said(state, &controller, Timestamp::now());
            Arc::new(said.standing().clone())
        };
        let standings = [Some(State::Granted), Some(State::Refused), None].map(standing);
        Stated { standings, mint: Mint::new(StoreKey::new([7; 32])) }
    }
}

impl People for Stated {
    fn person(&self, address: &str) -> Person {
        let place = PEOPLE.iter().position(|known| *known == address).unwrap_or(2);
        Person([u8::try_from(place).unwrap_or(2); 16])
    }

    fn standing(&self, _: &Controller, person: Person) -> Option<Arc<Standing>> {
        self.standings.get(usize::from(person.0[0])).cloned()
    }

    fn may_hold(&self, _: Person) -> bool {
        true
    }

    fn mint(&self) -> &Mint {
        &self.mint
    }
}

static GROUND: LazyLock<Ground> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("pixelward-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the key");
    let (_, pem) = signing_key();
    let key = folder.join("key.pem");
    std::fs::write(&key, pem).expect("a key file");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its mode");
    let config =
        format!("{CONFIG}[[dkim.key]]\ndomain = \"shop.example\"\nselector = \"fuzz\"\nkey_file = {key:?}\n");
    let config = Config::parse(&config).unwrap_or_else(|problems| panic!("{problems:?}"));
    let treatment = Treatment::of(&config).expect("a configuration");
    std::fs::remove_dir_all(&folder).expect("the folder goes");
    Ground { config, treatment, people: Stated::new() }
});

/// Analyse, look up, decide, rewrite, verify, sign: nothing panics, who did not agree gets no tracker,
/// observed mail is left alone, and lines go on ending in CRLF. The first byte says who the recipients are.
pub fn whole(input: &[u8]) {
    let Some((&which, raw)) = input.split_first() else { return };
    let message = Bytes::from(received(raw));
    let Ground { config, treatment, people } = &*GROUND;
    let recipients: Vec<&str> = PEOPLE
        .iter()
        .enumerate()
        .filter(|(bit, _)| which >> bit & 1 == 1)
        .map(|(_, address)| *address)
        .collect();
    let recipients = if recipients.is_empty() { PEOPLE.to_vec() } else { recipients };
    let planned = Message {
        bytes: &message,
        origin: Origin { listener: "default", login: None, sender: "news@shop.example" },
        recipients: &recipients,
        max_copies: if which & 8 == 0 { 8 } else { usize::MAX },
        esp: None,
        at: Timestamp::now(),
    };
    let before = guarded::panics();
    let copies = treat(&treatment.settings(config), &planned, None, people, &|_, _| Vec::new(), |tried| {
        assert!(tried.fault.is_none(), "a step ended in an internal error");
        let bytes = |copy: &TriedCopy| copy.made.as_ref().ok().map(|made| made.bytes.clone());
        let groups = tried.plan.groups.iter().map(|group| group.recipients.clone());
        groups.zip(tried.copies.iter().map(bytes)).collect::<Vec<_>>()
    });
    assert_eq!(guarded::panics(), before, "a step ended in an internal error");
    // What may be a message of the observed mailstream is not looked at for what is left.
    let may_be_observed = message.windows(7).any(|word| word.eq_ignore_ascii_case(b"watched"));
    let mut served = 0;
    for (indexes, copy) in copies {
        served += indexes.len();
        let Some(copy) = copy else { continue };
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
