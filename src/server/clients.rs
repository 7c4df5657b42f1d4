//! State per client while a listener runs: its open connections, and its message rate.
//!
//! Promised: no client can make it grow without bound.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How many clients of each kind are remembered.
const REMEMBERED: usize = 10_000;

/// The clients of a listener.
#[derive(Debug, Default)]
pub struct Clients {
    open: Mutex<Open>,
    /// The message rates.
    allowances: Mutex<Remembered<IpAddr, f64>>,
}

/// Open connections.
#[derive(Debug, Default)]
struct Open {
    all: usize,
    of: HashMap<IpAddr, usize>,
}

/// A counted connection, until dropped.
#[derive(Debug)]
pub struct Place {
    clients: Arc<Clients>,
    address: Option<IpAddr>,
}

impl Clients {
    /// Takes a slot for a connection; `None` if there are `most` already.
    pub fn place(self: &Arc<Clients>, most: usize) -> Option<Place> {
        let mut open = locked(&self.open);
        if open.all >= most {
            return None;
        }
        open.all += 1;
        Some(Place { clients: Arc::clone(self), address: None })
    }

    /// Returns whether a client may send a message now, with this limit `per_minute` (0 for none). A client
    /// that was silent may send a minute's messages at once.
    pub fn may_send(&self, address: IpAddr, per_minute: u32, now: Instant) -> bool {
        if per_minute == 0 {
            return true;
        }
        let most = f64::from(per_minute);
        let mut allowances = locked(&self.allowances);
        let (left, since) = allowances.of(network(address), now, || most);
        let grown = now.saturating_duration_since(*since).as_secs_f64() * most / 60.0;
        *left = (*left + grown).min(most);
        *since = now;
        if *left < 1.0 {
            return false;
        }
        *left -= 1.0;
        true
    }
}

impl Place {
    /// The client; the slot counts towards its `most`.
    pub fn is_for(&mut self, address: IpAddr, most: usize) -> bool {
        let mut open = locked(&self.clients.open);
        let of_client = open.of.get(&address).copied().unwrap_or(0);
        if of_client >= most {
            return false;
        }
        open.of.insert(address, of_client + 1);
        self.address = Some(address);
        true
    }

    /// Creates the state of a listener.
    pub fn clients(&self) -> &Clients {
        &self.clients
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = locked(&self.clients.open);
        open.all = open.all.saturating_sub(1);
        let Some(address) = self.address else { return };
        if let Some(of_client) = open.of.get_mut(&address) {
            *of_client -= 1;
            if *of_client == 0 {
                open.of.remove(&address);
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the address, or the /64 of an IPv6 one: a client has all addresses of its /64.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !(u128::MAX >> 64))),
    }
}

/// A bounded map of state per client, with the time since when it applies. A new entry replaces the one with
/// the earliest time.
#[derive(Debug)]
pub(super) struct Remembered<K, T>(HashMap<K, (T, Instant)>);

impl<K, T> Default for Remembered<K, T> {
    fn default() -> Remembered<K, T> {
        Remembered(HashMap::new())
    }
}

impl<K: Clone + Eq + Hash, T> Remembered<K, T> {
    /// Returns the state of a client, or a new one.
    pub(super) fn of(&mut self, key: K, now: Instant, new: impl FnOnce() -> T) -> &mut (T, Instant) {
        if self.0.len() >= REMEMBERED && !self.0.contains_key(&key) {
            let oldest = self.0.iter().min_by_key(|(_, (_, at))| *at).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                self.0.remove(&oldest);
            }
        }
        self.0.entry(key).or_insert_with(|| (new(), now))
    }

    /// Returns the clients with a state.
    #[cfg(test)]
    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.keys()
    }

    /// Returns the state of a client, if there is one.
    pub(super) fn get(&mut self, key: &K) -> Option<&mut (T, Instant)> {
        self.0.get_mut(key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn places_are_limited_and_given_back() {
        let clients = Arc::new(Clients::default());
        let mut one = clients.place(2).unwrap();
        let mut two = clients.place(2).unwrap();
        assert!(clients.place(2).is_none());
        assert!(one.is_for(address("192.0.2.1"), 1));
        assert!(!two.is_for(address("192.0.2.1"), 1));
        assert!(two.is_for(address("192.0.2.2"), 1));
        drop(one);
        let mut three = clients.place(2).unwrap();
        assert!(three.is_for(address("192.0.2.1"), 1));
        drop((two, three));
        assert!(locked(&clients.open).of.is_empty() && locked(&clients.open).all == 0);
    }

    #[test]
    fn a_client_may_send_so_many_messages_in_a_minute() {
        let clients = Clients::default();
        let start = Instant::now();
        let send =
            |text: &str, after: u64| clients.may_send(address(text), 3, start + Duration::from_secs(after));
        assert!((0..3).all(|_| send("192.0.2.1", 0)));
        assert!(!send("192.0.2.1", 0) && !send("192.0.2.1", 19));
        assert!(send("192.0.2.2", 0));
        assert!(send("192.0.2.1", 41) && send("192.0.2.1", 41) && !send("192.0.2.1", 41));
        let later = (0..9).filter(|_| send("192.0.2.1", 4000)).count();
        assert_eq!(later, 3);
        assert!((0..99).all(|_| clients.may_send(address("192.0.2.1"), 0, start)));
    }

    #[test]
    fn no_more_than_so_many_clients_are_remembered() {
        let mut remembered = Remembered::default();
        let start = Instant::now();
        for number in 0..REMEMBERED as u32 + 5 {
            let at = start + Duration::from_millis(u64::from(number));
            remembered.of(IpAddr::from(number.to_be_bytes()), at, || number);
        }
        assert_eq!(remembered.0.len(), REMEMBERED);
        assert!(!remembered.0.contains_key(&IpAddr::from(4u32.to_be_bytes())));
        assert!(remembered.0.contains_key(&IpAddr::from(5u32.to_be_bytes())));
    }
}
