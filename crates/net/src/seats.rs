//! Limits concurrent connections, and decides which one is closed for a new one when all seats are taken.
//!
//! Promised: idle connections cannot keep others out. When all seats are taken, a new connection gets the
//! seat of the one that has waited longest for its client, once that has had a fair time; a complete request
//! is always answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How long a client has for the head of its first request before others may get its seat.
const FIRST_HEAD: Duration = Duration::from_secs(1);
/// How long it has for that of a later request.
const NEXT_HEAD: Duration = Duration::from_secs(5);

/// All seats.
#[derive(Debug)]
pub struct Seats {
    most: usize,
    taken: Mutex<Taken>,
    /// Signals that a seat became free, or that a connection began to wait.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    number: u64,
    /// The connections that wait for their clients, by the time from which others may get their seats.
    waiting: BTreeMap<(Instant, u64), Arc<Notify>>,
}

/// The seat of one connection, until dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    number: u64,
    leave: Arc<Notify>,
    /// The time until which the seat is safe while its client is waited for; `None` while a request is
    /// answered.
    until: Mutex<Option<Instant>>,
}

impl Seats {
    /// Creates this many seats.
    pub fn new(most: usize) -> Arc<Seats> {
        Arc::new(Seats { most, taken: Mutex::default(), changed: Notify::new() })
    }

    /// Waits for a seat. Only one task may ask.
    pub async fn take(self: &Arc<Seats>) -> Arc<Seat> {
        loop {
            let next = {
                let mut taken = self.locked();
                if taken.count < self.most {
                    return self.seat(&mut taken);
                }
                taken.vacate(Instant::now())
            };
            let due = async {
                match next {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = due => {}
            }
        }
    }

    fn seat(self: &Arc<Seats>, taken: &mut Taken) -> Arc<Seat> {
        taken.count += 1;
        taken.number += 1;
        let (number, leave) = (taken.number, Arc::new(Notify::new()));
        let until = Instant::now() + FIRST_HEAD;
        taken.waiting.insert((until, number), Arc::clone(&leave));
        Arc::new(Seat { seats: Arc::clone(self), number, leave, until: Mutex::new(Some(until)) })
    }

    fn locked(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Asks the connection that has waited longest to leave; if none may be asked now, returns when one may.
    fn vacate(&mut self, now: Instant) -> Option<Instant> {
        let first = self.waiting.first_entry()?;
        let (due, _) = *first.key();
        if due > now {
            return Some(due);
        }
        first.remove().notify_one();
        None
    }
}

impl Seat {
    /// Resolves once the seat must be left for another connection.
    pub async fn left(&self) {
        self.leave.notified().await;
    }

    /// Marks a request as complete: the seat is kept until the returned value is dropped.
    pub fn answers(self: &Arc<Seat>) -> Answering {
        if let Some(until) = self.until().take() {
            self.seats.locked().waiting.remove(&(until, self.number));
        }
        Answering(Arc::clone(self))
    }

    fn waits(&self) {
        let now = Instant::now() + NEXT_HEAD;
        *self.until() = Some(now);
        self.seats.locked().waiting.insert((now, self.number), Arc::clone(&self.leave));
        self.seats.changed.notify_one();
    }

    fn until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let until = self.until().take();
        let mut taken = self.seats.locked();
        taken.count = taken.count.saturating_sub(1);
        if let Some(until) = until {
            taken.waiting.remove(&(until, self.number));
        }
        drop(taken);
        self.seats.changed.notify_one();
    }
}

/// A request being answered.
#[derive(Debug)]
pub struct Answering(Arc<Seat>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.waits();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When somebody may be asked to leave, where nobody is asked at this moment.
    fn vacate(seats: &Seats, after: Duration) -> Option<Instant> {
        seats.locked().vacate(Instant::now() + after)
    }

    #[tokio::test]
    async fn who_only_waits_leaves_for_another_and_who_is_answered_stays() {
        let seats = Seats::new(2);
        let (silent, busy) = (seats.take().await, seats.take().await);
        let answering = busy.answers();
        assert!(vacate(&seats, Duration::ZERO).is_some(), "each has a fair time");
        assert_eq!(vacate(&seats, FIRST_HEAD), None);
        silent.left().await;
        assert!(seats.locked().waiting.is_empty(), "who is answered is not asked");
        drop(silent);
        let third = seats.take().await;
        let _third = third.answers();
        assert_eq!((vacate(&seats, FIRST_HEAD), seats.locked().count), (None, 2));
        drop(answering);
        assert!(vacate(&seats, FIRST_HEAD).is_some(), "a further request has more time");
        assert_eq!(vacate(&seats, NEXT_HEAD), None);
        busy.left().await;
    }

    #[tokio::test]
    async fn those_who_waited_longest_leave_first_and_a_seat_given_back_is_free() {
        let seats = Seats::new(2);
        let (first, second) = (seats.take().await, seats.take().await);
        assert_eq!(vacate(&seats, FIRST_HEAD), None);
        tokio::select! {
            biased;
            () = second.left() => panic!("the second came later"),
            () = first.left() => {}
        }
        let leaving = async { drop(first) };
        let (third, ()) = tokio::join!(seats.take(), leaving);
        drop((second, third));
        assert!(seats.locked().waiting.is_empty() && seats.locked().count == 0);
        drop((seats.take().await, seats.take().await));
    }
}
