//! The relay beside HAProxy in TCP mode, one after the other in each round: processor time per message and
//! rate, and their ratios, which count. A proxy that does not look at the bytes is the limit for one that
//! does.
//!
//! `cargo bench --bench pair` measures everything; names of mail or `memory` behind `--` choose, files of messages are
//! measured too, and `quick` makes the rounds short. Another program than the one that was built is measured as
//! PIXELWARD=PATH: `make pair` measures what is packaged.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice)]

mod fixture;
mod load;

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use load::{Client, Mail, Process, Sink, send};
use pixelward::tracker::{Detector, Inquiry, Verdict};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many sessions the memory is measured with.
const SESSIONS: usize = 2000;
/// How long a program may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A proxy between the generator and the sink, ended when dropped.
struct Proxy {
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl Proxy {
    /// The relay as it is shipped, in clear on both sides; nobody agreed to anything.
    fn relay(sink: u16) -> Proxy {
        let (port, folder) = (free_port(), folder("relay"));
        let config = format!(
            "data_directory = {folder:?}\n[[listener]]\naddress = \"127.0.0.1:{port}\"\ntls = \"none\"\n\
             [next_hop]\nhost = \"127.0.0.1\"\nport = {sink}\ntls = \"none\"\n\
             [private]\naddress = \"\"\n[api]\naddress = \"\"\n"
        );
        let program = std::env::var("PIXELWARD").unwrap_or(env!("CARGO_BIN_EXE_pixelward").to_owned());
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(written(&folder, "pixelward.toml", &config));
        Proxy::start(command, port, folder).unwrap()
    }

    /// HAProxy, or nothing where there is none.
    fn haproxy(sink: u16) -> Option<Proxy> {
        let (port, folder) = (free_port(), folder("haproxy"));
        let config = format!(
            "global\n maxconn 8000\ndefaults\n mode tcp\n timeout connect 10s\n timeout client 300s\n \
             timeout server 300s\nlisten smtp\n bind 127.0.0.1:{port}\n server next 127.0.0.1:{sink}\n"
        );
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(written(&folder, "haproxy.cfg", &config));
        Proxy::start(command, port, folder)
    }

    fn start(mut command: Command, port: u16, folder: PathBuf) -> Option<Proxy> {
        // The log is written, as it is in earnest.
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let child = command.stdout(Stdio::null()).stderr(log).spawn().ok()?;
        let proxy = Proxy { child, port, folder };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < PATIENCE, "{command:?} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(proxy)
    }

    fn process(&self) -> Process {
        Process(self.child.id())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("pixelward-pair-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// What the rounds of one program came to.
#[derive(Default)]
struct Sum {
    processor: f64,
    messages: u64,
    seconds: f64,
}

impl Sum {
    fn add(&mut self, proxy: &Proxy, mail: &Mail, connections: usize, time: Duration) {
        let before = proxy.process().seconds();
        let run = send(proxy.port, mail, connections, time);
        self.processor += proxy.process().seconds() - before;
        self.messages += run.messages;
        self.seconds += run.seconds;
    }

    /// Microseconds of the processor per message.
    fn cost(&self) -> f64 {
        self.processor * 1e6 / self.messages as f64
    }

    fn rate(&self) -> f64 {
        self.messages as f64 / self.seconds
    }
}

/// Measures one kind of mail, and prints it.
fn compare(name: &str, mail: &Mail, connections: usize, (rounds, time): (usize, Duration)) {
    let sink = Sink::start();
    let proxies = (Proxy::relay(sink.port), Proxy::haproxy(sink.port));
    let (mut ours, mut bare) = (Sum::default(), Sum::default());
    // The first messages open connections and fill caches.
    Sum::default().add(&proxies.0, mail, connections, time / 4);
    for _ in 0..rounds {
        let before = sink.messages.load(Ordering::Relaxed);
        let sent = ours.messages;
        ours.add(&proxies.0, mail, connections, time);
        let came = sink.messages.load(Ordering::Relaxed) - before;
        assert_eq!(came, ours.messages - sent, "the next hop got other messages than were accepted");
        assert_clean(&sink.last.lock().unwrap());
        proxies.1.iter().for_each(|haproxy| bare.add(haproxy, mail, connections, time));
    }
    let ratios = match proxies.1 {
        Some(_) => format!(
            "HAProxy {:.1} us, {:.0}/s; {:.2} times its processor time, {:.2} of its rate",
            bare.cost(),
            bare.rate(),
            ours.cost() / bare.cost(),
            ours.rate() / bare.rate()
        ),
        None => "without HAProxy, which is not installed, there is nothing to compare with".to_owned(),
    };
    println!(
        "{name} over {connections} connections: {:.1} us a message, {:.0}/s; {ratios}",
        ours.cost(),
        ours.rate()
    );
}

/// Asserts that what the next hop got has no tracker.
fn assert_clean(message: &[u8]) {
    let detector = Detector::default();
    let analysis = detector.analyse(message, &Inquiry::to(&[]));
    let is_left = analysis.sightings.iter().any(|sighting| sighting.verdict == Verdict::Tracker);
    assert!(!message.is_empty() && !is_left, "a tracker has left");
}

/// Measures what an idle session takes, and what all of it comes to while many send.
fn measure_memory(time: Duration) {
    let sink = Sink::start();
    let relay = Proxy::relay(sink.port);
    let before = relay.process().memory();
    let idle: Vec<Client> = (0..SESSIONS).map(|_| Client::connect(relay.port).unwrap()).collect();
    let each = relay.process().memory().saturating_sub(before) / SESSIONS as u64;
    drop(idle);
    let mail = Mail::new(&fixture::newsletter());
    send(relay.port, &mail, SESSIONS - 1, time);
    let all = relay.process().memory() / (1 << 20);
    println!(
        "an idle session takes {each} bytes; after {SESSIONS} sessions that sent, {all} MiB are resident"
    );
}

fn main() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_quick = arguments.iter().any(|word| word == "quick");
    let chosen: Vec<&String> = arguments.iter().filter(|word| *word != "quick").collect();
    let is_chosen = |name: &str| chosen.is_empty() || chosen.iter().any(|word| *word == name);
    let (rounds, time) = if is_quick { (1, Duration::from_secs(1)) } else { (3, Duration::from_secs(3)) };

    let newsletter = fixture::newsletter();
    let mails = [
        ("newsletter", Mail::new(&newsletter)),
        ("newsletter_signed", Mail::new(&fixture::signed(&newsletter))),
        ("campaign", Mail::differing(&fixture::campaign(load::PLACE))),
        ("transactional_5k", Mail::new(&fixture::transactional())),
        ("attachment_1m", Mail::new(&fixture::attachment())),
    ];
    let files = chosen.iter().filter(|name| Path::new(name).is_file());
    let files =
        files.map(|path| (path.as_str(), Mail::new(&fixture::with_line_ends(&std::fs::read(path).unwrap()))));
    for (name, mail) in mails.into_iter().filter(|(name, _)| is_chosen(name)).chain(files) {
        for connections in [10, 100] {
            compare(name, &mail, connections, (rounds, time));
        }
    }
    if is_chosen("memory") {
        measure_memory(time);
    }
}
