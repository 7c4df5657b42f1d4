//! Panics on demand at the stations of the line, for tests alone.
//!
//! Compiled in by the feature `faults`, which only the tests of this package switch on; without it nothing
//! here does anything.

#[cfg(feature = "faults")]
mod armed {
    use std::cell::RefCell;

    use crate::message::header::fields;

    /// The field by which a message of a test names the stations at which it panics, with commas between.
    const FIELD: &str = "X-Pixelward-Fault";

    thread_local! {
        static STATIONS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    /// Has this thread panic at the stations that a message names, until the next one.
    pub fn arm(message: &[u8]) {
        let named = fields(message, 0).find(|field| field.is(message, FIELD));
        let value = named.map(|field| String::from_utf8_lossy(field.value(message)).into_owned());
        let stations =
            value.iter().flat_map(|value| value.split(',')).map(|station| station.trim().to_owned());
        STATIONS.set(stations.collect());
    }

    /// Panics where this station was named.
    ///
    /// # Panics
    ///
    /// That is what it is for.
    #[allow(clippy::panic, reason = "a test asks for it")]
    pub fn point(station: &str) {
        if STATIONS.with_borrow(|stations| stations.iter().any(|armed| armed == station)) {
            panic!("a fault that a test asked for, at {station}");
        }
    }
}

#[cfg(feature = "faults")]
pub use armed::{arm, point};

/// Does nothing: there are no faults in this build.
#[cfg(not(feature = "faults"))]
pub fn arm(_message: &[u8]) {}

/// Does nothing: there are no faults in this build.
#[cfg(not(feature = "faults"))]
pub fn point(_station: &str) {}
