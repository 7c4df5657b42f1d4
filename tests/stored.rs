//! One sample of each format ever written: a later version must read what an earlier one wrote.
#![allow(clippy::unwrap_used)]

use pixelward::consent::index::read_mark;
use pixelward::consent::record::Record;
use pixelward::consent::{Permission, Standing, State, Timestamp};
use pixelward::policy::Purpose;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn journal_records_of_format_1() {
    let record = Record::decode(&bytes(include_str!("stored/record-1.hex"))).unwrap();
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
fn standings_of_format_1() {
    let standing = Standing::decode(&bytes(include_str!("stored/standing-1.hex"))).unwrap();
    assert_eq!(standing.allows(Purpose::CampaignPerformance, Timestamp(6)), Permission::Granted(3));
    assert_eq!(standing.jurisdiction.as_deref(), Some("fr"));
}

#[test]
fn standings_of_format_2() {
    let standing = Standing::decode(&bytes(include_str!("stored/standing-2.hex"))).unwrap();
    assert_eq!(standing.allows(Purpose::CampaignPerformance, Timestamp(6)), Permission::Granted(3));
    assert_eq!(standing.jurisdiction.as_deref(), Some("fr"));
    assert_eq!((standing.collected_at, standing.notice_sent_at), (Some(Timestamp(1)), Some(Timestamp(2))));
}

#[test]
fn marks_of_format_1() {
    let mark = read_mark(&bytes(include_str!("stored/mark-1.hex"))).unwrap();
    assert_eq!((mark.count, mark.checkpoint), (7, None));
}
