//! Steps that may panic without costing more than themselves.
//!
//! Promised: a panic within a step becomes a value that names the place in the source, and no log line of it
//! holds the panic's message, which can quote mail. Absent: what to do instead, which is the caller's
//! business.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, PanicHookInfo, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A step ended in a panic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("internal error at {site}")]
pub struct Panicked {
    /// The file and line that panicked, as the log names them.
    pub site: String,
}

thread_local! {
    /// How many guarded steps this thread is in.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// Where the last panic within a guarded step of this thread was.
    static SITE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// How many steps ended in a panic so far.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Runs `step`. What it was working on must not be used again after a panic, unless it is whole at each
/// moment.
///
/// # Errors
///
/// When it panics: the place in the source.
pub fn guarded<T>(step: impl FnOnce() -> T) -> Result<T, Panicked> {
    install_hook();
    DEPTH.set(DEPTH.get() + 1);
    let done = catch_unwind(AssertUnwindSafe(step));
    DEPTH.set(DEPTH.get().saturating_sub(1));
    done.map_err(|_| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        let site = SITE.take().unwrap_or_else(|| "an unknown place".to_owned());
        Panicked { site }
    })
}

/// Whether panics outside of guarded steps are logged instead of printed.
static LOGS: AtomicBool = AtomicBool::new(false);

/// Has panics outside of guarded steps logged by their place alone: for a program whose log must not quote
/// mail.
pub fn log_panics() {
    install_hook();
    LOGS.store(true, Ordering::Relaxed);
}

/// Has panics within guarded steps remembered instead of printed.
fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if DEPTH.get() > 0 {
                SITE.set(Some(site(info)));
            } else if LOGS.load(Ordering::Relaxed) {
                tracing::error!(site = %site(info), "internal error; please report it");
            } else {
                before(info);
            }
        }));
    });
}

fn site(info: &PanicHookInfo<'_>) -> String {
    info.location().map_or_else(|| "an unknown place".to_owned(), |location| Site(location).to_string())
}

/// A place in the source, without the directories of the machine that built the program.
struct Site<'a>(&'a Location<'a>);

impl fmt::Display for Site<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.0.file();
        let registry = file.find("/registry/src/").and_then(|at| file.get(at + 14..)?.split_once('/'));
        let library = file.find("/library/").and_then(|at| file.get(at + 1..));
        let shown = registry.map(|(_, rest)| rest).or(library).unwrap_or(file);
        write!(f, "{shown}:{}", self.0.line())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_place() {
        let nothing: &[u8] = &[];
        let site = guarded(|| nothing[0]).unwrap_err().site;
        assert!(site.starts_with("crates/core/src/guarded.rs:"), "{site}");
        let site = guarded(|| guarded(|| panic!("inner")).map_err(|_| panic!("outer"))).unwrap_err().site;
        assert!(site.starts_with("crates/core/src/guarded.rs:"), "{site}");
        assert_eq!(guarded(|| 7), Ok(7));
    }
}
