//! How far patterns look into an address: addresses that begin alike are often told by their beginnings.

use std::sync::{Mutex, PoisonError};

use regex_automata::Anchored;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson::NFA;
use regex_automata::util::start::Config;

use super::{PATTERN_BYTES, from_start};

/// The beginning of an address by which it was decided which pattern is the first one that matches at its start, if one
/// does: whatever follows it.
#[derive(Clone, Debug, Default)]
pub struct Start {
    bytes: Vec<u8>,
    first: Option<usize>,
    /// Whether there was an address before, of whatever beginning: of one alone nothing is noted.
    has_others: bool,
}

impl Start {
    /// What was decided for an address by its beginning; `None` if nothing was.
    pub(super) fn decided(&self, url: &str) -> Option<Option<usize>> {
        let begins_so = !self.bytes.is_empty() && url.as_bytes().starts_with(&self.bytes);
        begins_so.then_some(self.first)
    }

    /// Notes what was found for an address, where `beginning` says by what it was decided.
    pub(super) fn note<'u>(&mut self, first: Option<usize>, beginning: impl FnOnce() -> Option<&'u str>) {
        let beginning = self.has_others.then(beginning).flatten();
        self.has_others = true;
        if let Some(beginning) = beginning {
            self.bytes.clear();
            self.bytes.extend_from_slice(beginning.as_bytes());
            self.first = first;
        }
    }
}

/// Patterns, to be followed byte by byte.
#[derive(Debug)]
pub(super) struct Steps {
    machine: DFA,
    cache: Mutex<Cache>,
}

impl Steps {
    /// Of some patterns, each of them looked for from the start; `None` where they cannot be followed.
    pub(super) fn of(patterns: &[&String]) -> Option<Steps> {
        let nfa = NFA::compiler()
            .configure(NFA::config().nfa_size_limit(Some(PATTERN_BYTES)).utf8(false))
            .build_many_from_hir(&from_start(patterns))
            .ok()?;
        let machine = DFA::builder().build_from_nfa(nfa).ok()?;
        let cache = Mutex::new(machine.create_cache());
        Some(Steps { machine, cache })
    }

    /// The beginning of an address behind which no pattern looks any further. `None` where one looks at all of it.
    pub(super) fn decide<'u>(&self, url: &'u str) -> Option<&'u str> {
        // Whoever panicked left a cache that is still one.
        let cache = &mut *self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let from = Config::new().anchored(Anchored::Yes);
        let mut state = self.machine.start_state(cache, &from).ok()?;
        for (at, byte) in url.bytes().enumerate() {
            state = self.machine.next_state(cache, state, byte).ok()?;
            if state.is_dead() {
                return url.get(..=at);
            }
            if state.is_quit() {
                return None;
            }
        }
        None
    }
}
