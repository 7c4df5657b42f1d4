//! A day of a large cluster, without any network: what its relays send each other, how long a withdrawal takes to be
//! in force at all of them, and whether they stay fresh. The rules are those of the relay: its follower, and when it
//! publishes a mark. Delays are drawn between bounds that were measured with servers and followers on one machine.
//!
//! `cargo run --release -p pixelward-replica --example simulation -- [relays] [people]`

use std::time::Duration;

use bytes::Bytes;
use pixelward_replica::engine::Delivered;
use pixelward_replica::follower::Follower;
use pixelward_replica::node::mark_pause;

/// How long it is watched, in milliseconds.
const LASTS: u64 = 3600 * 1000;
/// Until what was published is committed, in milliseconds.
const COMMIT: (u64, u64) = (1, 5);
/// Until what was committed is applied at a relay, in milliseconds for each hundred relays: half of them at most the
/// first, and one of a hundred more than the second.
const DELIVERY: (u64, u64) = (7, 41);
/// How often a person changes their mind, a year.
const CHANGES: u64 = 4;
/// The size of a message on its way, in bytes: a mark, and a change with the key of somebody new in half of them.
const SIZES: (u64, u64) = (190, 420);
const STALENESS: Duration = Duration::from_secs(60);

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn between(&mut self, (low, high): (u64, u64)) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// Until a message is applied at one of so many relays.
    fn delivery(&mut self, relays: usize) -> u64 {
        let hundreds = (relays as u64).div_ceil(100);
        let (half, most) = (DELIVERY.0 * hundreds, DELIVERY.1 * hundreds);
        match self.next() % 100 {
            0..50 => self.between((1, half)),
            50..99 => self.between((half, most)),
            _ => self.between((most, 3 * most)),
        }
    }
}

/// One relay: what it has heard, and when it publishes a mark unless it hears something before.
struct Relay {
    follower: Follower,
    due: u64,
    own: u64,
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let relays = usize::try_from(arguments.next().unwrap_or(1000_u64)).unwrap_or(1000).max(2);
    let people = arguments.next().unwrap_or(100_000_000);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut all: Vec<Relay> = (0..relays)
        .map(|_| Relay { follower: Follower::new(1, STALENESS), due: random.next() % 1000, own: 0 })
        .collect();
    let changes = people * CHANGES * LASTS / (365 * 24 * 3600 * 1000);
    let mut next_change = LASTS.checked_div(changes).unwrap_or(LASTS);
    let (mut position, mut marks, mut needless, mut told) = (0, 0_u64, 0_u64, 0_u64);
    let (mut in_force, mut stale) = (Vec::new(), 0_u64);
    let mut last_mark = 0;
    loop {
        let (who, due) = all
            .iter()
            .enumerate()
            .map(|(who, relay)| (who, relay.due))
            .min_by_key(|(_, due)| *due)
            .unwrap_or((0, LASTS));
        let now = due.min(next_change);
        if now >= LASTS {
            break;
        }
        let is_mark = due <= next_change;
        if is_mark {
            marks += 1;
            // Whoever had not heard of the last one yet sends another.
            needless += u64::from(now < last_mark + 1000);
            last_mark = now;
        } else {
            told += 1;
            next_change = LASTS * (told + 1) / changes.max(1);
        }
        position += 1;
        let committed = now + random.between(COMMIT);
        let delivered = Delivered {
            position,
            committed_at: i64::try_from(committed).unwrap_or(i64::MAX),
            bytes: Bytes::new(),
        };
        let mut slowest = 0;
        for (number, relay) in all.iter_mut().enumerate() {
            let came = committed + random.delivery(relays);
            slowest = slowest.max(came - now);
            stale += u64::from(
                position > relays as u64 && relay.follower.fresh_until().is_none_or(|until| until < now),
            );
            relay.follower.applied(&delivered, came);
            if is_mark && number == who {
                relay.follower.tied(now, delivered.committed_at);
                relay.own = now;
            }
            // Until it came, a mark of this relay may be on its way already.
            if relay.due > came || number == who {
                relay.due = mark_pause(STALENESS, relays - 1, random.next()).next(came, relay.own);
            }
            if relay.follower.fresh_until().is_none() {
                // Relays that have just started compare their clocks by a mark of their own.
                relay.follower.tied(now, delivered.committed_at);
            }
        }
        if !is_mark {
            in_force.push(slowest);
        }
    }
    in_force.sort_unstable();
    let share = |percent: usize| in_force.get(in_force.len() * percent / 100).copied().unwrap_or(0);
    let seconds = LASTS / 1000;
    let bytes = marks * SIZES.0 + told * SIZES.1;
    println!("{relays} relays, {people} people, {CHANGES} changes each a year, one hour");
    println!("changes: {told}, {:.1} a second", told as f64 / seconds as f64);
    println!(
        "marks: {marks}, one every {:.1} s; {needless} of them beside another",
        seconds as f64 / marks.max(1) as f64
    );
    println!(
        "to each relay: {} messages a minute, {} kB a minute",
        (told + marks) * 60 / seconds,
        bytes * 60 / seconds / 1000
    );
    println!(
        "from the servers: {} deliveries a second, {} kB a second",
        (told + marks) * relays as u64 / seconds,
        bytes * relays as u64 / seconds / 1000
    );
    println!("in force at all relays: p50 {} ms, p99 {} ms", share(50), share(99));
    println!("times that a relay was not fresh when something was said: {stale}");
}
