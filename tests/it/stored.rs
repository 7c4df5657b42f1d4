//! One sample of each format ever written: a later version must read what an earlier one wrote.

use pixelward::consent::index::read_mark;
use pixelward::consent::record::Record;
use pixelward::consent::{Permission, Proof, Standing, State, Timestamp};
use pixelward::policy::Purpose;
use pixelward::record::digest::BodyHash;
use pixelward::record::evidence;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn journal_records_of_format_1() {
    let record = Record::decode(&bytes(include_str!("../stored/record-1.hex"))).unwrap();
    assert_eq!(record.person, [9; 16]);
    assert_eq!(record.recorded_at, Timestamp(6));
    assert_eq!(record.change.controller.as_str(), "shop");
    assert_eq!(record.change.state, State::Granted);
    assert_eq!(record.change.purposes, [Purpose::CampaignPerformance, Purpose::Personalisation]);
    assert_eq!(record.change.event_at, Timestamp(5));
    assert_eq!(record.change.jurisdiction.as_deref(), Some("fr"));
    assert_eq!(record.sealed, b"sealed");
}

#[test]
fn journal_records_of_format_1_with_the_time_claimed_and_whether_there_is_evidence() {
    let record = Record::decode(&bytes(include_str!("../stored/record-1-claimed.hex"))).unwrap();
    assert_eq!((record.change.state, record.change.no_track), (State::Withdrawn, Some(true)));
    assert_eq!((record.change.event_at, record.change.claimed_at), (Timestamp(5), Some(Timestamp(99))));
    assert_eq!(record.proof, Proof::Given);
    let early = Record::decode(&bytes(include_str!("../stored/record-1.hex"))).unwrap();
    assert_eq!((early.proof, early.change.claimed_at), (Proof::Unknown, None));
}

#[test]
fn standings_of_format_1() {
    let standing = Standing::decode(&bytes(include_str!("../stored/standing-1.hex"))).unwrap();
    assert_eq!(standing.allows(Purpose::CampaignPerformance, Timestamp(6)), Permission::Granted(3));
    assert_eq!(standing.jurisdiction().as_deref(), Some("fr"));
}

#[test]
fn standings_of_format_2() {
    let standing = Standing::decode(&bytes(include_str!("../stored/standing-2.hex"))).unwrap();
    assert_eq!(standing.allows(Purpose::CampaignPerformance, Timestamp(6)), Permission::Granted(3));
    assert_eq!(standing.jurisdiction().as_deref(), Some("fr"));
    assert_eq!((standing.collected_at, standing.notice_sent_at), (Some(Timestamp(1)), Some(Timestamp(2))));
}

#[test]
fn standings_of_format_3() {
    let sample = bytes(include_str!("../stored/standing-3.hex"));
    let standing = Standing::decode(&sample).unwrap();
    assert_eq!(standing.encode(), sample);
    assert!(standing.no_track() && standing.no_track_record() == Some(9));
    let said = standing.of(Purpose::CampaignPerformance).map(|stand| (stand.state, stand.record));
    assert_eq!(said, Some((State::Granted, 3)));
    let said = standing.of(Purpose::Personalisation).map(|stand| (stand.state, stand.event_at));
    assert_eq!(said, Some((State::Withdrawn, Timestamp(5))), "it was asked again since");
    assert_eq!(standing.jurisdictions().collect::<Vec<_>>(), ["fr", "none"]);
    assert_eq!((standing.collected_at, standing.notice_sent_at), (Some(Timestamp(1)), Some(Timestamp(2))));
    assert_eq!(standing.do_not_ask_before, None);
}

#[test]
fn marks_of_format_2_and_3() {
    let early = read_mark(&bytes(include_str!("../stored/mark-2.hex"))).unwrap();
    let mark = read_mark(&bytes(include_str!("../stored/mark-3.hex"))).unwrap();
    assert_eq!((early.count, early.is_early, mark.is_early), (7, true, false));
    assert_eq!((early.checkpoint, mark.checkpoint.unwrap().last.offset), (mark.checkpoint, 48));
}

#[test]
fn marks_of_format_1() {
    let mark = read_mark(&bytes(include_str!("../stored/mark-1.hex"))).unwrap();
    assert_eq!((mark.count, mark.checkpoint, mark.is_early), (7, None, true));
}

#[test]
fn evidence_of_format_1() {
    let record = bytes(include_str!("../stored/evidence-1.hex"));
    let record = evidence::record::Record::decode(&record).unwrap();
    assert_eq!((record.at, &*record.id), (1_795_000_000_123, "0123456789ab"));
    assert_eq!((record.message_id, record.person), (Some([1; 16]), Some([2; 16])));
    let places =
        [&record.controller, &record.mailstream, &record.listener, &record.route].map(|item| &**item);
    assert_eq!(places, ["shop", "newsletter", "default", "first,second"]);
    assert_eq!(
        (&*record.rule, &*record.version, record.consent_record),
        ("refused", "fr/2026-07-14", Some(77))
    );
    assert_eq!((&*record.decided, &*record.done, record.observed), ("swap_gated", "strip", true));
    assert_eq!((record.found, record.removed, record.swapped), (3, 2, 1));
    let sightings: Vec<_> = record
        .sightings
        .iter()
        .map(|sighting| (&*sighting.carrier, &*sighting.vendor, sighting.count))
        .collect();
    assert_eq!(sightings, [("img", "SendGrid", 2), ("css", "unknown", 1)]);
    let hashes = (Some(BodyHash::Sha256([3; 32])), Some(BodyHash::Sha256([4; 32])));
    assert_eq!((record.before, record.after), hashes);
    assert_eq!((&*record.result, record.code, record.queue_id.as_deref()), ("accepted", 250, Some("4XyZ12")));
    assert_eq!(record.shortfall.as_deref(), Some("swap_needs_public_url"));
    assert_eq!(record.downstream.as_deref(), Some("mailgun: off for the account"));
}

#[test]
fn summaries_of_evidence_of_format_1() {
    use evidence::summary::{FieldKind, Summary};
    let summary = Summary::decode(&bytes(include_str!("../stored/summary-1.hex"))).unwrap();
    assert_eq!(
        (summary.first, summary.last),
        (Some(Timestamp(1_795_000_000_123)), Some(Timestamp(1_795_000_000_123)))
    );
    assert!(summary.may_have(&[1; 16]) && summary.may_have(&[2; 16]) && !summary.may_have(&[9; 16]));
    assert!(
        summary.may_name(FieldKind::Controller, "shop") && !summary.may_name(FieldKind::Controller, "club")
    );
    assert!(summary.may_name_vendor("sendgrid"));
}

#[test]
fn pseudonyms_of_format_1() {
    let folder = std::env::temp_dir().join(format!("pixelward-stored-{}", std::process::id()));
    std::fs::write(&folder, bytes(include_str!("../stored/pseudonyms-1.hex"))).unwrap();
    let key = pixelward::consent::StoreKey::new([1; 32]);
    let own = pixelward::consent::Pseudonyms::read(&folder, &key).unwrap();
    assert!(own.of(key.person("ann@home.example")).is_none(), "ann was erased");
    let bob = own.of(key.person("bob@home.example")).unwrap();
    assert_eq!(bob.tag(b"here").to_vec(), bytes(include_str!("../stored/pseudonyms-1-tag.hex")));
    std::fs::remove_file(folder).unwrap();
}

#[test]
fn days_of_last_open_of_format_1() {
    use pixelward::consent::days::{Counted, Day, Table};
    let file = std::env::temp_dir().join(format!("pixelward-stored-days-{}", std::process::id()));
    std::fs::write(&file, bytes(include_str!("../stored/days-1.hex"))).unwrap();
    let table = Table::load(&file).unwrap();
    assert_eq!(table.newest("shop", |_| [7; 16]), Some(Day(20_000)));
    assert_eq!((table.newest("shop", |_| [8; 16]), table.len()), (None, 1), "it was removed");
    let counted = Counted { mailstream: "letter".to_owned(), campaign: [1; 8], opens: 3, last: Day(20_002) };
    assert_eq!(table.counted("club"), [counted]);
    std::fs::remove_file(file).unwrap();
}

#[test]
fn days_of_last_open_of_which_some_were_lost() {
    use pixelward::consent::days::{Day, Table};
    let file = std::env::temp_dir().join(format!("pixelward-stored-since-{}", std::process::id()));
    std::fs::write(&file, bytes(include_str!("../stored/days-1-since.hex"))).unwrap();
    let table = Table::load(&file).unwrap();
    assert_eq!(table.measured_since, Some(Day(20_000)));
    assert_eq!(table.newest("shop", |_| [7; 16]), Some(Day(20_001)));
    std::fs::remove_file(file).unwrap();
}

#[test]
fn tokens_of_format_1() {
    use pixelward::rewrite::reader_token::{Holder, Mint, Token, TokenKind};
    let mint = Mint::new(pixelward::consent::StoreKey::new([1; 32]));
    let sealed: Vec<&str> = include_str!("../stored/tokens-1.txt").lines().collect();
    let holder = || Holder {
        controller: "shop".parse().unwrap(),
        person: pixelward::consent::Person([2; 16]),
        issued: Timestamp(1_795_000_000_000),
    };
    let (mailstream, country) = (|| "letter".to_owned(), || "fr".to_owned());
    let wanted = [
        (TokenKind::Preference, Token::Preference { holder: holder(), hint: "a…e@e….org".to_owned() }),
        (
            TokenKind::Gate,
            Token::Gate {
                holder: holder(),
                mailstream: mailstream(),
                country: country(),
                target: "https://t.vendor.example/open?u=42".to_owned(),
            },
        ),
        (TokenKind::Day, Token::Day { holder: holder(), mailstream: mailstream(), country: country() }),
        (
            TokenKind::Shared,
            Token::Shared { controller: "shop".parse().unwrap(), mailstream: mailstream(), campaign: [3; 8] },
        ),
    ];
    assert_eq!(sealed.len(), wanted.len());
    for (sealed, (kind, token)) in sealed.into_iter().zip(wanted) {
        assert_eq!(mint.open(kind, sealed).unwrap(), token);
    }
}
