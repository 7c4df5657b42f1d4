//! How long a test waits, and what it waits for: a process that ends, threads that meet, a line that is written.
//! Each wait has an end.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// No test waits longer than this for one thing.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A program that is ended where it takes longer than these seconds, with all that it started. What is waited for
/// without an end holds the tests up for ever.
pub fn bounded(seconds: u32, program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", &seconds.to_string(), program]);
    command
}

/// How a process ended that was told to, or that has nothing left to do.
pub fn ended(child: &mut Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + 3 * PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("process {} does not end", child.id());
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// Tells threads to end, when dropped, and so where a test fails: a scope that they run in waits for them even then.
pub struct End<'a>(pub &'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Where threads wait for each other; one that fails on its way there fails the others, which a barrier does not.
#[derive(Clone)]
pub struct Meeting(Arc<(Mutex<usize>, Condvar)>);

impl Meeting {
    /// One of so many threads.
    pub fn of(count: usize) -> Meeting {
        Meeting(Arc::new((Mutex::new(count), Condvar::new())))
    }

    /// Waits until all are there.
    pub fn wait(&self) {
        let (missing, came) = &*self.0;
        let mut missing = missing.lock().unwrap();
        *missing -= 1;
        came.notify_all();
        let (missing, _) = came.wait_timeout_while(missing, 3 * PATIENCE, |missing| *missing > 0).unwrap();
        assert_eq!(*missing, 0, "so many have not come");
    }
}

/// Lines that a process wrote, to wait for.
#[derive(Clone, Default)]
pub struct Lines(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Lines {
    pub fn follow(source: impl Read + Send + 'static) -> Lines {
        let lines = Lines::default();
        let shared = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                shared.0.0.lock().unwrap().push(line);
                shared.0.1.notify_all();
            }
        });
        lines
    }

    /// The first line that `fits`, once it comes.
    pub fn wait(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        self.wait_for(1, what, fits)
    }

    /// The line that is the `count`th one that `fits`, once it comes.
    pub fn wait_for(&self, count: usize, what: &str, fits: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.0.0.lock().unwrap();
        loop {
            if let Some(line) = lines.iter().filter(|line| fits(line)).nth(count - 1) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no line came with {what}; there are:\n{}", lines.join("\n"));
            lines = self.0.1.wait_timeout(lines, left).unwrap().0;
        }
    }

    pub fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().clone()
    }
}
