//! A test that takes longer than `PIXELWARD_TEST_MINUTES`, where that is set, is named and ends the run: what would
//! only ever wait says nothing about the others, and is found by nobody.

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

/// The test of a thread, for as long as the thread lives.
struct Watched {
    name: String,
    start: Instant,
    runs: Weak<()>,
}

static ALL: Mutex<Vec<Watched>> = Mutex::new(Vec::new());

thread_local! {
    static RUNS: Arc<()> = {
        let runs = Arc::new(());
        // A test has a thread of its own, which has its name.
        if let Some(name) = std::thread::current().name().filter(|name| name.contains("::")) {
            let test = Watched { name: name.to_owned(), start: Instant::now(), runs: Arc::downgrade(&runs) };
            ALL.lock().unwrap().push(test);
        }
        runs
    };
}

/// Watches the test that this thread runs.
pub fn this_test() {
    static WATCHER: OnceLock<()> = OnceLock::new();
    let minutes = std::env::var("PIXELWARD_TEST_MINUTES").ok().and_then(|text| text.parse::<u64>().ok());
    let Some(minutes) = minutes else { return };
    WATCHER.get_or_init(|| drop(std::thread::spawn(move || watch(Duration::from_secs(60 * minutes)))));
    RUNS.with(|_| ());
}

fn watch(most: Duration) {
    loop {
        std::thread::park_timeout(Duration::from_secs(1));
        let mut all = ALL.lock().unwrap();
        all.retain(|test| test.runs.strong_count() > 0);
        if let Some(test) = all.iter().find(|test| test.start.elapsed() > most) {
            // Not by a macro, whose output would be kept for the end of the test.
            let _ = writeln!(
                std::io::stderr(),
                "\n{} has run for over {} minutes; these it started, or others did:\n{}",
                test.name,
                most.as_secs() / 60,
                children()
            );
            std::process::exit(1);
        }
    }
}

/// The processes that this one started and that still run, a line each.
fn children() -> String {
    let own = std::process::id().to_string();
    let output = std::process::Command::new("ps").args(["--ppid", &own, "-o", "pid,etime,args"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}
