//! What many copies of one campaign show together: a picture whose address differs in each copy tells readers
//! apart, whatever it looks like.
//!
//! A bounded sketch in memory, lost at a restart: addresses are not kept, only keyed hashes of them. What is
//! learnt only ever makes a decision stricter.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use super::token::{self, Opacity};
use super::url::Url;
use crate::message::header::{Field, fields};

/// Slots followed in one campaign.
const MAX_SLOTS: usize = 16;
/// Hashes kept of one slot: so many addresses are counted exactly, and more are estimated to about one part
/// in sixteen.
const KEPT: usize = 256;
/// Copies from which on a slot is judged. Before, a choice of offers looks like an address for each reader.
const ENOUGH: u32 = 128;
/// Distinct addresses in a hundred placements from which on a slot identifies.
const DISTINCT_PERCENT: u64 = 85;
/// Placements after which a slot is counted anew.
const RECOUNT: u32 = 200_000;
/// Age at which a campaign is forgotten, in milliseconds: a week.
const MAX_AGE: i64 = 7 * 86_400_000;

/// Hashes cannot be foreseen by who sends.
static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// A picture of one copy: its place in the template, and its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    slot: u64,
    address: u64,
}

impl Seen {
    /// What an address shows. Two addresses that differ only in tokens stand in one slot.
    pub fn of(url: &Url<'_>) -> Seen {
        let mut shape = String::with_capacity(url.as_str().len());
        shape.push_str(url.host());
        let mut piece_start = 0;
        let tail = url.tail();
        let parts = |byte: u8| matches!(byte, b'/' | b'?' | b'&' | b'=' | b'.' | b';' | b',');
        for at in 0..=tail.len() {
            let byte = tail.as_bytes().get(at).copied();
            if byte.is_none_or(parts) {
                let piece = tail.get(piece_start..at).unwrap_or_default();
                let is_word = token::piece_opacity(piece.as_bytes()) == Opacity::Plain;
                shape.push_str(if is_word { piece } else { "*" });
                shape.extend(byte.map(char::from));
                piece_start = at + 1;
            }
        }
        Seen { slot: KEYS.hash_one(&shape), address: KEYS.hash_one(url.as_str()) }
    }
}

/// The slots of a campaign that tell readers apart, as known at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot(Arc<HashSet<u64>>);

impl Snapshot {
    /// Whether a picture stands in such a slot.
    pub fn identifies(&self, seen: &Seen) -> bool {
        self.0.contains(&seen.slot)
    }
}

/// The name of a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u64);

impl Key {
    /// The campaign of a message of a controller: by List-Id (RFC 2919), else Feedback-ID, else by sender and
    /// the form of the header, which each sending system has of its own.
    pub fn of(controller: &str, raw: &[u8]) -> Key {
        const NAMES: [&str; 2] = ["List-Id", "Feedback-ID"];
        let header: Vec<Field> = fields(raw, 0).collect();
        let value =
            |name: &str| header.iter().find(|field| field.is(raw, name)).map(|field| field.value(raw));
        if let Some((name, value)) = NAMES.iter().find_map(|name| Some((*name, value(name)?))) {
            return Key(KEYS.hash_one((controller, name, value)));
        }
        let mut names = Vec::new();
        for field in header.iter().filter(|field| !field.is(raw, "Received")) {
            names.extend(field.name(raw).iter().map(u8::to_ascii_lowercase));
            names.push(b':');
        }
        Key(KEYS.hash_one((controller, value("From"), names)))
    }
}

/// What is known of all campaigns.
#[derive(Debug)]
pub struct Campaigns {
    known: Mutex<HashMap<Key, Campaign>>,
    most: usize,
}

#[derive(Debug, Default)]
struct Campaign {
    slots: HashMap<u64, Sketch>,
    identifying: Snapshot,
    /// When a copy was last seen, in milliseconds since 1970.
    last: i64,
}

/// How many addresses were seen in a slot: the smallest hashes of them.
#[derive(Debug, Default)]
struct Sketch {
    placements: u32,
    /// Sorted.
    smallest: Vec<u64>,
}

impl Campaigns {
    /// Follows at most `most` campaigns, each of which takes some 35 KiB at most.
    pub fn new(most: usize) -> Campaigns {
        Campaigns { known: Mutex::new(HashMap::new()), most }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Key, Campaign>> {
        // Whoever panicked left counts behind, not a broken promise.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether any campaign is followed.
    pub fn follows_any(&self) -> bool {
        self.most > 0
    }

    /// What is known of a campaign.
    pub fn snapshot(&self, key: Key) -> Snapshot {
        self.known().get(&key).map(|campaign| campaign.identifying.clone()).unwrap_or_default()
    }

    /// Takes in one copy. `now` is in milliseconds since 1970.
    pub fn learn(&self, key: Key, seen: &[Seen], now: i64) {
        if seen.is_empty() || self.most == 0 {
            return;
        }
        let mut known = self.known();
        if !known.contains_key(&key) && known.len() >= self.most {
            known.retain(|_, campaign| now - campaign.last < MAX_AGE);
            let oldest = known.iter().min_by_key(|(_, campaign)| campaign.last).map(|(key, _)| *key);
            if let Some(oldest) = oldest.filter(|_| known.len() >= self.most) {
                known.remove(&oldest);
            }
        }
        let campaign = known.entry(key).or_default();
        campaign.last = now;
        let copy: HashSet<Seen> = seen.iter().copied().collect();
        for seen in copy {
            campaign.learn(seen);
        }
    }
}

impl Campaign {
    fn learn(&mut self, seen: Seen) {
        if self.slots.len() >= MAX_SLOTS && !self.slots.contains_key(&seen.slot) {
            return;
        }
        let sketch = self.slots.entry(seen.slot).or_default();
        sketch.add(seen.address);
        let Some(identifies) = sketch.identifies() else { return };
        if identifies != self.identifying.identifies(&seen) {
            let slots = Arc::make_mut(&mut self.identifying.0);
            if identifies {
                slots.insert(seen.slot)
            } else {
                slots.remove(&seen.slot)
            };
        }
    }
}

impl Sketch {
    fn add(&mut self, address: u64) {
        if self.placements >= RECOUNT {
            *self = Sketch::default();
        }
        self.placements += 1;
        if let Err(at) = self.smallest.binary_search(&address) {
            self.smallest.insert(at, address);
            self.smallest.truncate(KEPT);
        }
    }

    /// How many different addresses there were.
    fn distinct(&self) -> u64 {
        match self.smallest.last() {
            // The k-th smallest of d hashes lies at about k/d of their range.
            Some(largest) if self.smallest.len() == KEPT => {
                let kept = (KEPT - 1) as u128;
                u64::try_from((kept << 64) / u128::from(*largest).max(1)).unwrap_or(u64::MAX)
            }
            _ => self.smallest.len() as u64,
        }
    }

    /// Whether the slot tells readers apart; `None` where it is too early to say.
    fn identifies(&self) -> Option<bool> {
        (self.placements >= ENOUGH)
            .then(|| self.distinct() * 100 >= u64::from(self.placements) * DISTINCT_PERCENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(url: &str) -> Seen {
        Seen::of(&Url::read(url.into(), None).unwrap())
    }

    /// Learns so many copies, the address of each made by `address`; says whether the slot then identifies.
    fn check(copies: u32, address: impl Fn(u32) -> String) -> bool {
        let campaigns = Campaigns::new(4);
        let key = Key::of("shop", b"List-Id: <news.shop.example>\r\n\r\n");
        for copy in 0..copies {
            campaigns.learn(key, &[seen(&address(copy))], 1);
        }
        campaigns.snapshot(key).identifies(&seen(&address(copies)))
    }

    fn token(number: u32) -> String {
        format!("{:032x}", (u128::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
    }

    #[test]
    fn an_address_of_its_own_in_each_copy_identifies() {
        for copies in [ENOUGH, 300, 5000] {
            assert!(
                check(copies, |copy| format!("https://cdn.shop.example/b/{}.png", token(copy))),
                "{copies}"
            );
            assert!(!check(copies, |_| format!("https://cdn.shop.example/b/{}.png", token(7))), "{copies}");
            assert!(
                !check(copies, |copy| format!("https://cdn.shop.example/b/{}.png", token(copy % 9))),
                "{copies}"
            );
        }
        assert!(!check(ENOUGH - 1, |copy| format!("https://cdn.shop.example/b/{}.png", token(copy))));
        // Half of the copies share an address: a test of two variants, or a small choice of offers.
        assert!(!check(4000, |copy| format!("https://cdn.shop.example/b/{}.png", token(copy / 3))));
    }

    #[test]
    fn slots_are_told_apart_by_what_is_no_token() {
        assert_eq!(
            seen("https://a.example/i/5f2b1c0e9d8a7b6c5d4e3f2a1b0c9d8e.png?u=1").slot,
            seen("https://a.example/i/00001c0e9d8a7b6c5d4e3f2a1b0c9d8f.png?u=1").slot
        );
        assert_ne!(seen("https://a.example/i/x.png").slot, seen("https://a.example/j/x.png").slot);
    }

    #[test]
    fn campaigns_are_known_by_list_or_by_the_form_of_the_header() {
        let key = |header: &str| Key::of("shop", format!("{header}\r\n\r\n").as_bytes());
        assert_eq!(key("List-Id: <a>\r\nTo: x"), key("To: y\r\nList-Id: <a>"));
        assert_ne!(key("List-Id: <a>"), key("List-Id: <b>"));
        assert_eq!(key("From: a@b.example\r\nTo: x"), key("From: a@b.example\r\nTo: y"));
        assert_ne!(key("From: a@b.example\r\nTo: x"), key("To: y\r\nFrom: a@b.example"));
        assert_ne!(Key::of("shop", b"List-Id: <a>\r\n\r\n"), Key::of("club", b"List-Id: <a>\r\n\r\n"));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes() {
        let campaigns = Campaigns::new(2);
        let key = |name: &str| Key::of("shop", format!("List-Id: <{name}>\r\n\r\n").as_bytes());
        for (now, name) in [(1, "a"), (2, "b"), (3, "a"), (4, "c")] {
            let many: Vec<Seen> =
                (0..100).map(|slot| seen(&format!("https://a.example/s{slot}/x.png"))).collect();
            campaigns.learn(key(name), &many, now);
        }
        let known = campaigns.known();
        let mut names: Vec<bool> =
            ["a", "b", "c"].iter().map(|name| known.contains_key(&key(name))).collect();
        assert_eq!(names, [true, false, true]);
        names.clear();
        assert!(known.values().all(|campaign| campaign.slots.len() <= MAX_SLOTS));
    }
}
