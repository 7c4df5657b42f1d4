use std::path::Path;

use super::export::Line;
use super::files::{Folder, PACKED};
use super::find::{Query, newest};
use super::queue::{MAX_WAITING, Next, Queue};
use super::record::Sighted;
use super::verify::{differing, verify};
use super::*;
use crate::Effect;
use crate::chain::segment;
use crate::digest::BodyHash;
use crate::policy::{Decision, Done, LinkFate, Outcome};
use crate::smtp::Reply;
use pixelward_core::rewrite::{LinksDone, Receipts};

const DAY: i64 = 86_400_000;

/// A store and evidence in a folder that goes when the test ends.
struct Place {
    root: PathBuf,
    store: Arc<Store>,
    settings: Settings,
}

impl Place {
    fn new(name: &str) -> Place {
        let root = std::env::temp_dir().join(format!("pixelward-evidence-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        let store = Arc::new(Store::open(&crate::consent::Settings::at(root.join("consent"))).unwrap());
        let settings = Settings {
            directory: root.join("evidence"),
            head_copy: Some(root.join("heads")),
            retention_days: 400,
            segment_bytes: 4096,
            body_hashes: true,
            subjects: true,
        };
        Place { root, store, settings }
    }

    /// Writes these notes, each as a batch of its own, and tidies up.
    fn write(&self, notes: impl IntoIterator<Item = Note>) {
        let mut log = Log::open(self.settings.clone(), Arc::clone(&self.store), None).unwrap();
        for note in notes {
            let queue = Queue::default();
            queue.push(note).unwrap();
            queue.close();
            log.run(&queue);
        }
        drop(log);
        // A damaged segment is complained of, and the others are packed all the same.
        let _ = sweep(&self.settings, Timestamp(0));
    }

    fn note(&self, at: i64, number: usize, to: &[&str]) -> Note {
        let person = |address: &&str| NotedRecipient {
            person: self.store.person(address),
            decision: Some(Decision {
                outcome: Outcome::SwapGated,
                links: LinkFate::Stay,
                receipts: Receipts::Strip,
                rule: crate::policy::Rule::Granted,
                version: "fr/2026-07-14".into(),
                record: Some(7),
            }),
            converted: false,
            effect: Effect {
                done: Done::Of(Outcome::Strip),
                shortfall: Some("swap_needs_public_url"),
                removed: 1,
                swapped: 0,
                links: LinksDone { unwrapped: 2, gated: 0, left: 1 },
            },
            reply: Reply::new(250, &format!("2.0.0 Ok: queued as Q{number}")),
        };
        let vendor = if number.is_multiple_of(10) { "Mailgun" } else { "SendGrid" };
        Note {
            at: Timestamp(at),
            id: format!("id{number}"),
            message_id: format!("<m{number}@shop.example>"),
            campaign: format!("sale-{}", number % 3),
            subject: Some(format!("Ann, number {number}\r\nfor you")),
            controller: "shop".into(),
            days: None,
            mailstream: if at < DAY { "early".into() } else { "news".into() },
            observed: false,
            listener: "default".to_owned(),
            route: "default".to_owned(),
            downstream: String::new(),
            found: 1,
            links: 0,
            unreadable: 0,
            sightings: vec![Sighted { carrier: "img".into(), vendor: vendor.into(), count: 1 }],
            reports: Vec::new(),
            hosts: Vec::new(),
            before: Some(BodyHash::Blake3([1; 32])),
            copies: vec![NotedCopy {
                after: Some(BodyHash::Blake3([2; 32])),
                recipients: to.iter().map(person).collect(),
            }],
        }
    }

    fn person(&self, address: &str) -> Query {
        let person = self.store.pseudonym(self.store.person(address)).unwrap();
        Query { person: Some(person), ..Query::default() }
    }

    fn ids(&self, query: &Query) -> Vec<String> {
        let (found, looked) = newest(&self.settings.directory, query, 1000).unwrap();
        assert!(looked.troubles.is_empty());
        found.iter().map(|found| found.record.id.to_string()).collect()
    }

    fn problems(&self) -> Vec<String> {
        verify(&self.settings).unwrap().problems
    }

    fn folder(&self, days: u16) -> Folder {
        Folder::of(&self.settings.directory, days)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// Sixty messages over three days, to ann and somebody else each.
fn filled(name: &str) -> Place {
    let place = Place::new(name);
    let notes = (0..60).map(|number| {
        let other = format!("p{number}@home.example");
        place.note(number as i64 * DAY / 20, number, &["ann@home.example", &other])
    });
    place.write(notes.collect::<Vec<_>>());
    place
}

#[test]
fn records_are_found_by_each_thing_they_say_and_few_segments_are_opened() {
    let place = filled("find");
    let segments = place.folder(400).segments().unwrap().len();
    assert!(segments > 8, "{segments}");
    assert_eq!(place.ids(&place.person("Ann@Home.example")).len(), 60);
    let check = |query: Query, wanted: &[&str], most_opened: usize| {
        let (found, looked) = newest(&place.settings.directory, &query, 1000).unwrap();
        let mut ids: Vec<&str> = found.iter().map(|found| &*found.record.id).collect();
        ids.dedup();
        assert_eq!(ids, wanted);
        assert!(looked.opened <= most_opened && looked.opened + looked.passed_over == segments, "{looked:?}");
    };
    // The open segment has no summary, and one in a hundred may be opened for nothing.
    check(place.person("p17@home.example"), &["id17"], 3);
    let message_ids = MessageIds::new(place.store.derived_key(MessageIds::LABEL));
    let message_id = message_ids.tag(" m31@shop.example");
    check(Query { message_id, ..Query::default() }, &["id31"], 3);
    check(Query { id: Some("id5".to_owned()), ..Query::default() }, &["id5"], segments);
    let (since, until) = (Some(Timestamp(2 * DAY)), Some(Timestamp(2 * DAY + DAY / 10)));
    check(Query { since, until, ..Query::default() }, &["id41", "id40"], 3);
    let vendor = Some("mailgun".to_owned());
    check(Query { vendor, until, ..Query::default() }, &["id40", "id30", "id20", "id10", "id0"], segments);
    check(Query { vendor: Some("Brevo".to_owned()), ..Query::default() }, &[], 1);
    let early = Some("early".to_owned());
    check(Query { mailstream: early, until: Some(Timestamp(DAY / 20)), ..Query::default() }, &["id0"], 2);
    check(Query { controller: Some("club".to_owned()), ..Query::default() }, &[], 1);
    for (outcome, count) in [("strip", 120), ("swap_gated", 120), ("keep", 0)] {
        let query = Query { outcome: Some(outcome.to_owned()), ..Query::default() };
        assert_eq!(place.ids(&query).len(), count);
    }
    let (found, looked) = newest(&place.settings.directory, &Query::default(), 3).unwrap();
    let newest: Vec<&str> = found.iter().map(|found| &*found.record.id).collect();
    assert_eq!((newest, looked.opened), (vec!["id59", "id59", "id58"], 1));
}

#[test]
fn erasing_a_person_cuts_the_link_and_leaves_the_chain_whole() {
    let place = filled("erase");
    let before = newest(&place.settings.directory, &place.person("ann@home.example"), 1000).unwrap().0;
    assert_eq!(before.len(), 60);
    // Within a segment a person has one tag, and another one in the next.
    let mut tags: Vec<_> = before.iter().map(|found| (found.segment, found.record.person.unwrap())).collect();
    tags.dedup();
    let segments = place.folder(400).segments().unwrap().len();
    assert_eq!(tags.len(), segments);
    let bytes = std::fs::read(segment::path(&place.folder(400).path, PACKED, 1)).unwrap();
    assert!(!place.store.erase(place.store.person("ann@home.example")).unwrap(), "the journal knows nobody");
    assert_eq!(place.ids(&place.person("ann@home.example")), Vec::<String>::new());
    assert_eq!(place.ids(&place.person("p3@home.example")), ["id3"]);
    assert_eq!(place.ids(&Query::default()).len(), 120);
    assert_eq!(std::fs::read(segment::path(&place.folder(400).path, PACKED, 1)).unwrap(), bytes);
    assert_eq!(place.problems(), Vec::<String>::new());
    // Mail that comes later is another matter.
    place.write([place.note(3 * DAY, 60, &["ann@home.example"])]);
    assert_eq!(place.ids(&place.person("ann@home.example")), ["id60"]);
}

#[test]
fn every_flipped_bit_is_noticed_packed_or_not() {
    let place = filled("flip");
    assert_eq!(place.problems(), Vec::<String>::new());
    let folder = place.folder(400);
    let segments = folder.segments().unwrap();
    let open = segment::path(&folder.path, super::files::OPEN, *segments.last().unwrap());
    let packed = segment::path(&folder.path, PACKED, 2);
    let content = folder.read(2).unwrap();
    for (path, step) in [(&open, 29), (&packed, 29), (&folder.summary(2), 11)] {
        let whole = std::fs::read(path).unwrap();
        // Of the last record of the open segment nobody can say that it is not still being written; the
        // second copy of the end can.
        for bit in (0..whole.len() * 8).step_by(step) {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(path, &bytes).unwrap();
            // A few bits of a compressed file say nothing.
            let is_same =
                || folder.read(2).is_ok_and(|other| other.bytes() == content.bytes()) && *path == packed;
            assert!(!place.problems().is_empty() || is_same(), "{} bit {bit}", path.display());
        }
        std::fs::write(path, whole).unwrap();
    }
    assert_eq!(place.problems(), Vec::<String>::new());
}

#[test]
fn a_search_gives_no_record_that_somebody_changed() {
    let place = filled("forged");
    let folder = place.folder(400);
    let path = segment::path(&folder.path, super::files::OPEN, *folder.segments().unwrap().last().unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    let frame = &mut bytes[segment::HEAD..];
    let length = u32::from_le_bytes(frame[..4].try_into().unwrap()) as usize;
    let payload = &mut frame[segment::FRAME..][..length];
    let at = memchr::memmem::find(payload, b"news").unwrap();
    payload[at] = b'p';
    // Whoever changes a record corrects its checksum as well.
    let checksum = crc32fast::hash(payload).to_le_bytes();
    frame[4..8].copy_from_slice(&checksum);
    std::fs::write(&path, bytes).unwrap();
    let query = Query { mailstream: Some("pews".to_owned()), ..Query::default() };
    std::fs::remove_file(folder.summary(*folder.segments().unwrap().last().unwrap())).ok();
    let (found, looked) = newest(&place.settings.directory, &query, 10).unwrap();
    assert!(found.is_empty());
    let troubles: Vec<String> = looked.troubles.iter().map(ToString::to_string).collect();
    assert!(troubles.len() == 1 && troubles[0].contains("does not match its hash"), "{troubles:?}");
    assert!(!place.problems().is_empty());
}

#[test]
fn what_is_missing_or_put_back_is_noticed() {
    let place = filled("missing");
    let folder = place.folder(400);
    let copy = place.root.join("copy");
    let restore = || {
        let _ = std::fs::remove_dir_all(&folder.path);
        copy_all(&copy, &folder.path);
    };
    copy_all(&folder.path, &copy);
    let last = *folder.segments().unwrap().last().unwrap();
    for number in [1, 2, last] {
        folder.remove(number).unwrap();
        assert!(!place.problems().is_empty(), "segment {number}");
        restore();
    }
    assert_eq!(place.problems(), Vec::<String>::new());
    // A record cut off cleanly at the end leaves a chain that is whole, and shorter than it was.
    let path = segment::path(&folder.path, super::files::OPEN, last);
    let segment = folder.read(last).unwrap();
    let mut lengths = Vec::new();
    segment.walk(&mut segment.start().unwrap(), |_, payload| lengths.push(payload.len())).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - segment::FRAME - lengths.last().unwrap()]).unwrap();
    assert!(place.problems().concat().contains("once"), "{:?}", place.problems());
    restore();
    // The same within: the next segment does not fit.
    let middle = folder.read(2).unwrap();
    let mut lengths = Vec::new();
    middle.walk(&mut middle.start().unwrap(), |_, payload| lengths.push(payload.len())).unwrap();
    let cut = middle.bytes().len() - segment::FRAME - lengths.last().unwrap();
    std::fs::remove_file(folder.summary(2)).unwrap();
    folder.remove(2).unwrap();
    std::fs::write(segment::path(&folder.path, super::files::OPEN, 2), &middle.bytes()[..cut]).unwrap();
    assert!(place.problems().concat().contains("does not follow"), "{:?}", place.problems());
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn a_batch_that_was_not_written_whole_is_cut_off_and_the_chain_goes_on() {
    let place = filled("torn");
    let folder = place.folder(400);
    let last = *folder.segments().unwrap().last().unwrap();
    let path = segment::path(&folder.path, super::files::OPEN, last);
    let whole = std::fs::read(&path).unwrap();
    for missing in (1..300).step_by(13) {
        std::fs::write(&path, &whole[..whole.len() - missing]).unwrap();
        place.write([place.note(59 * DAY / 20, 99, &["eve@home.example"])]);
        assert_eq!(place.ids(&place.person("eve@home.example")), ["id99"], "{missing}");
        let left = place.ids(&Query::default()).len();
        assert!((120..=121).contains(&left), "{left}");
        let _ = std::fs::remove_file(folder.path.join(format!("{:08}.evidence", last + 1)));
        std::fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn damage_at_the_end_stops_nothing_and_is_the_only_fault_that_is_found() {
    let place = filled("damage");
    let folder = place.folder(400);
    let last = *folder.segments().unwrap().last().unwrap();
    let path = segment::path(&folder.path, super::files::OPEN, last);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[segment::HEAD + segment::FRAME + 20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    place.write([place.note(3 * DAY, 99, &["eve@home.example"])]);
    assert_eq!(*folder.segments().unwrap().last().unwrap(), last + 1);
    let (found, _) = newest(&place.settings.directory, &place.person("eve@home.example"), 9).unwrap();
    assert_eq!(found.len(), 1);
    let problems = place.problems();
    assert!(problems.len() == 1 && problems[0].contains("damaged at byte"), "{problems:?}");
    // It goes when its time is over; all that is left is whole then.
    place.write([place.note(4 * DAY, 100, &["eve@home.example"])]);
    let _ = sweep(&place.settings, Timestamp(404 * DAY));
    assert_eq!(place.problems(), Vec::<String>::new());
}

#[test]
fn each_controller_has_its_retention_and_what_is_left_is_whole() {
    let place = Place::new("retention");
    let notes = (0..60).map(|number| {
        let days = if number % 2 == 0 { Some(10) } else { Some(9999) };
        Note { days, ..place.note(number as i64 * DAY / 3, number, &["ann@home.example"]) }
    });
    place.write(notes.collect::<Vec<_>>());
    let left = |now: i64| {
        sweep(&place.settings, Timestamp(now)).unwrap();
        assert_eq!(place.problems(), Vec::<String>::new());
        let ids = place.ids(&place.person("ann@home.example"));
        ids.iter()
            .map(|id| id[2..].parse::<usize>().unwrap())
            .partition::<Vec<usize>, _>(|number| number % 2 == 0)
    };
    let (short, long) = left(15 * DAY);
    assert_eq!((short.len(), long.len()), (22, 30), "days 5 to 19 of one, and all of the other");
    assert!(short.iter().all(|number| *number as i64 / 3 >= 5));
    // The last segment is open, and goes once another one is.
    let (short, long) = left(300 * DAY);
    assert!(short.iter().all(|number| *number / 3 == 19) && long.len() == 30);
    place.write([place.note(500 * DAY, 61, &["ann@home.example"])]);
    let (_, long) = left(500 * DAY);
    assert_eq!(long, [61]);
    let verified = verify(&place.settings).unwrap();
    assert_eq!(verified.chains[1].deleted, 30);
    // Who takes a segment away before its time is noticed all the same.
    place.write([place.note(501 * DAY, 62, &["ann@home.example"]), place.note(502 * DAY, 63, &[])]);
    let first = place.folder(400).segments().unwrap()[0];
    place.folder(400).remove(first).unwrap();
    assert!(!place.problems().is_empty());
}

#[test]
fn a_retention_that_was_made_shorter_holds_for_what_is_there() {
    let mut place = filled("shorter");
    place.settings.retention_days = 2;
    sweep(&place.settings, Timestamp(4 * DAY)).unwrap();
    assert!(place.ids(&Query::default()).iter().all(|id| id[2..].parse::<usize>().unwrap() >= 40));
}

#[test]
fn a_full_queue_loses_what_comes_and_takes_more_once_there_is_room() {
    let place = Place::new("queue");
    let queue = Queue::default();
    let people = vec!["ann@home.example"; 1000];
    let mut taken = 0;
    while queue.push(place.note(0, 1, &people)).is_ok() {
        taken += 1000;
        assert!(taken <= MAX_WAITING + 1000);
    }
    assert!(taken >= MAX_WAITING);
    assert_eq!(queue.push(place.note(0, 1, &people[..3])), Err(3));
    let zero = std::time::Duration::ZERO;
    assert!(matches!(queue.next(zero, zero), Next::Write(notes) if notes.len() * 1000 == taken));
    assert!(matches!(queue.next(zero, zero), Next::Idle));
    assert!(queue.push(place.note(0, 1, &people)).is_ok());
    queue.close();
    assert_eq!(queue.push(place.note(0, 1, &people[..2])), Err(2));
    assert!(matches!(queue.next(zero, zero), Next::End(notes) if notes.len() == 1));
}

#[test]
fn what_cannot_be_written_is_lost_and_the_chain_goes_on_once_it_can() {
    let place = filled("disk");
    let mut log = Log::open(place.settings.clone(), Arc::clone(&place.store), None).unwrap();
    let mut write = |at: i64| {
        let queue = Queue::default();
        queue.push(place.note(at, 70, &["eve@home.example"])).unwrap();
        queue.close();
        log.run(&queue);
    };
    // On the next day another segment is begun, and there is no room for it.
    let next = *place.folder(400).segments().unwrap().last().unwrap() + 1;
    let in_the_way = place.folder(400).path.join(format!("{next:08}.evidence"));
    std::fs::create_dir(&in_the_way).unwrap();
    write(5 * DAY);
    write(5 * DAY);
    std::fs::remove_dir(&in_the_way).unwrap();
    write(5 * DAY);
    drop(log);
    assert_eq!(place.ids(&place.person("eve@home.example")), ["id70"]);
    assert_eq!(place.problems(), Vec::<String>::new());
}

#[test]
fn an_export_is_what_the_chains_have_and_a_changed_one_is_not() {
    let place = filled("export");
    let (found, _) = newest(&place.settings.directory, &place.person("ann@home.example"), 1000).unwrap();
    let mut lines: Vec<String> =
        found.iter().map(|found| serde_json::to_string(&Line::from(found)).unwrap()).collect();
    let wrong =
        |lines: &[String]| differing(&place.settings, (1..).zip(lines.iter().map(String::as_str))).unwrap();
    assert_eq!(wrong(&lines), Vec::<usize>::new());
    lines[4] = lines[4].replace("\"done\":\"strip\"", "\"done\":\"keep\"");
    lines[9] = lines[9].replace("\"record\":", "\"record\":1");
    lines[11] = "{}".to_owned();
    assert_eq!(wrong(&lines), [5, 10, 12]);
}

#[test]
fn counts_are_those_of_the_records() {
    let place = filled("counts");
    let (counts, days) = crate::statistics::since(&place.settings.directory, "").unwrap();
    assert_eq!((days, counts.recipients.values().sum::<u64>()), (3, 120));
    let mailgun: u64 =
        counts.trackers.iter().filter(|(key, _)| key.vendor == "Mailgun").map(|(_, count)| count).sum();
    assert_eq!(mailgun, 12);
}

#[test]
fn no_address_stands_in_any_file() {
    let place = filled("grep");
    let mut folders = vec![place.root.clone()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let bytes = std::fs::read(&path).unwrap();
            assert!(memchr::memmem::find(&bytes, b"home.example").is_none(), "{}", path.display());
        }
    }
    for number in place.folder(400).segments().unwrap() {
        let segment = place.folder(400).read(number).unwrap();
        assert!(memchr::memmem::find(segment.bytes(), b".example").is_none());
    }
    assert!(files > 10);
}

#[test]
fn a_subject_opens_for_its_recipient_alone_and_for_nobody_after_an_erasure() {
    let place = Place::new("headline");
    let to = ["ann@home.example", "bob@home.example"];
    place.write([place.note(DAY, 1, &to), place.note(DAY, 2, &to)]);
    let ann = place.store.person(to[0]);
    let pseudonym = |address: &str| place.store.known_pseudonym(place.store.person(address));
    let found = |query: &Query| newest(&place.settings.directory, query, 10).unwrap().0;
    let of_ann = found(&place.person(to[0]));
    assert_eq!(of_ann.len(), 2);
    let headline = of_ann[0].headline(&pseudonym(to[0]).unwrap()).unwrap();
    assert_eq!((&*headline.subject, &*headline.message_id), ("Ann, number 2  for you", "m2@shop.example"));
    assert_eq!(of_ann[0].headline(&pseudonym(to[1]).unwrap()), None);
    // Sealed for one message, it does not open as that of another.
    let mut moved = of_ann[0].clone();
    moved.record.headline = of_ann[1].record.headline.clone();
    assert_eq!(moved.headline(&pseudonym(to[0]).unwrap()), None);
    // Nothing of it is in the files.
    let bytes = place.folder(400).read(1).unwrap().bytes().to_vec();
    assert!(memchr::memmem::find(&bytes, b"number").is_none());
    assert!(memchr::memmem::find(&bytes, b"m2@shop").is_none());
    place.store.erase(ann).unwrap();
    assert!(pseudonym(to[0]).is_none());
    place.store.pseudonym(ann).unwrap();
    assert_eq!(of_ann[0].headline(&pseudonym(to[0]).unwrap()), None);
    assert_eq!(place.problems(), [""; 0]);
    let of_bob = found(&place.person(to[1]));
    assert!(of_bob.iter().all(|found| found.headline(&pseudonym(to[1]).unwrap()).is_some()));
}

#[test]
fn records_are_found_by_their_campaign() {
    let place = Place::new("campaign");
    place.write((0..9).map(|number| place.note(DAY, number, &["ann@home.example"])));
    let of = |campaign: &str| Query { campaign: Some(campaign.to_owned()), ..Query::default() };
    assert_eq!(place.ids(&of("sale-1")), ["id7", "id4", "id1"]);
    assert_eq!(place.ids(&of("sale-3")), [""; 0]);
}
