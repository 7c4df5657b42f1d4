//! Mail programs of our own for one test: each in a folder of its own, on ports of its own, stopped when the
//! test ends. Postfix is the installed one; Exim and OpenSMTPD, which exclude it on one machine, run in roots
//! that `unpack` makes.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_imports,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic
)]

mod dovecot;
mod exim;
pub mod letter;
pub mod library;
mod opendkim;
mod opensmtpd;
mod postfix;
pub mod sink;

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::support::{self, Client, Folder, PATIENCE, Relay};
pub use dovecot::Dovecot;
pub use exim::Exim;
pub use opendkim::{OpenDkim, verifies as opendkim_verifies};
pub use opensmtpd::OpenSmtpd;
pub use postfix::Postfix;

/// What a mail program says became of its mail to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Sent,
    Deferred,
    Failed,
}

/// A mail program that hands its mail to the relay.
pub trait Mta {
    fn port(&self) -> u16;
    fn log(&self) -> String;
    /// Whether a line of the log says this of somebody.
    fn says(&self, line: &str, to: &str, fate: Fate) -> bool;
    /// Tries everything again that waits.
    fn flush(&self);

    /// The line that says so, once it is there.
    fn wait(&self, to: &str, fate: Fate) -> String {
        until(&format!("{to} {fate:?}"), || self.log(), |line| self.says(line, to, fate))
    }

    /// Tries again until everybody has it. A program may be about to put the mail back into its queue, so
    /// that one attempt can come too early.
    fn retry(&self, people: &[String]) {
        let deadline = Instant::now() + PATIENCE;
        while people.iter().any(|person| self.count(person, Fate::Sent) == 0) {
            assert!(
                Instant::now() < deadline,
                "not everybody has it; the log ends with\n{}",
                tail(&self.log())
            );
            self.flush();
            let soon = Instant::now() + Duration::from_millis(500);
            while Instant::now() < soon && people.iter().any(|person| self.count(person, Fate::Sent) == 0) {
                std::thread::park_timeout(Duration::from_millis(20));
            }
        }
    }

    /// How often the log says so.
    fn count(&self, to: &str, fate: Fate) -> usize {
        self.log().lines().filter(|line| self.says(line, to, fate)).count()
    }
}

/// The first line of a log that fits, once it is there.
fn until(what: &str, log: impl Fn() -> String, fits: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let log = log();
        if let Some(line) = log.lines().find(|line| fits(line)) {
            return line.to_owned();
        }
        assert!(Instant::now() < deadline, "no line says {what}; the log ends with\n{}", tail(&log));
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// Hands a mail over, as a client that speaks line by line. Every recipient is accepted.
pub fn submit(port: u16, parameters: &str, to: &[String], message: &str) {
    let mut client = Client::greeted(port);
    let mail = format!("MAIL FROM:<news@shop.example>{parameters}");
    let reply = client.ask(&mail);
    assert!(reply.starts_with("250"), "{mail}: {reply}");
    for to in to {
        let reply = client.ask(&format!("RCPT TO:<{to}>"));
        assert!(reply.starts_with("250"), "{to}: {reply}");
    }
    assert_eq!(client.say("DATA"), 354);
    client.send(support::stuffed(message).as_bytes());
    let reply = client.reply();
    assert!(reply.starts_with("250"), "{reply}");
    client.say("QUIT");
}

/// A port that nobody has at the moment, outside of those that the system gives to outgoing connections.
pub fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 20_000 + u16::try_from(std::process::id() % 100).unwrap() * 120;
    loop {
        let port = start + NEXT.fetch_add(1, Ordering::Relaxed) % 600;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A relay whose listener is at a port that was chosen before, as `pixelward postfix` needs it.
pub fn relay_at(port: u16, next_hop: u16, listener: &str, rest: &str) -> Relay {
    let folder = Folder::new();
    let path = support::configuration(&folder, next_hop, listener, "", rest);
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"))).unwrap();
    Relay::in_folder(folder)
}

/// Records that these people agreed, through the relay that runs.
pub fn grant(relay: &Relay, people: &[String]) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut rows = "address,state,event_time,evidence\n".to_owned();
    for person in people {
        rows.push_str(&format!("{person},granted,2020-01-02T03:04:05Z,form/1\n"));
    }
    let name = format!("consents-{}.csv", COUNT.fetch_add(1, Ordering::Relaxed));
    let file = relay.folder.file(&name, &rows);
    let output = relay.command(&["consent", "import", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What `pixelward postfix` prints for one of Postfix's files.
pub fn printed(relay: &Relay, recipe: &str, file: &str) -> String {
    printed_with(relay, &["--recipe", recipe], file)
}

/// The same with these options.
pub fn printed_with(relay: &Relay, options: &[&str], file: &str) -> String {
    let output = relay.command(&[&["postfix", "--file", file], options].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The indented blocks of docs/deploying.md below a heading, as they are to be written into a file.
pub fn documented(heading: &str) -> Vec<String> {
    let text = include_str!("../../docs/deploying.md");
    let section = text.split(&format!("\n{heading}\n")).nth(1).expect("the heading is in the document");
    let section = section.split("\n#").next().unwrap();
    let (mut blocks, mut open) = (Vec::new(), String::new());
    for line in section.lines().chain([""]) {
        match line.strip_prefix("    ") {
            Some(line) => open.push_str(&format!("{line}\n")),
            None if open.is_empty() => {}
            None => blocks.push(std::mem::take(&mut open)),
        }
    }
    blocks
}

/// The one block below a heading that has this in it.
fn documented_block(heading: &str, part: &str) -> String {
    documented(heading).into_iter().find(|block| block.contains(part)).expect("the block is in the document")
}

pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn wait_for_port(port: u16, log: impl Fn() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "nobody listens at {port}: {}", log());
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// A root of a program's own: the unpacked package, files of the test, and people.
struct Root {
    folder: Folder,
}

impl Root {
    /// `people` are those besides root, each with a group of its name.
    fn of(package: &str, people: &[(&str, u32)]) -> Root {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mta/unpack");
        run(Command::new(script).arg(package).arg(scratch.join("mta")));
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = scratch.join(format!("{package}-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        // Files are shared with what was unpacked: they are replaced, never written into.
        run(Command::new("cp").arg("-al").arg(scratch.join("mta").join(package)).arg(&path));
        let root = Root { folder: Folder(path) };
        for folder in ["tmp", "run", "var/run", "var/spool", "var/log", "var/mail"] {
            root.folder(folder, None);
        }
        let (mut passwd, mut group) =
            ("root:x:0:0::/:/bin/sh\n".to_owned(), "root:x:0:\nmail:x:8:\n".to_owned());
        for (name, id) in people.iter().chain(&[("nobody", 65_534)]) {
            passwd.push_str(&format!("{name}:x:{id}:{id}::/nonexistent:/bin/false\n"));
            group.push_str(&format!("{name}:x:{id}:\n"));
        }
        root.file("etc/passwd", &passwd);
        root.file("etc/group", &group);
        root.file("etc/hosts", "127.0.0.1 localhost mta.example\n");
        root.file("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n");
        root.file("etc/services", "smtp 25/tcp\nlmtp 24/tcp\n");
        root.file("etc/resolv.conf", "");
        root.file("etc/mailname", "mta.example\n");
        root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.0.join(name)
    }

    fn file(&self, name: &str, content: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&path);
        std::fs::write(path, content).unwrap();
    }

    fn folder(&self, name: &str, owner: Option<u32>) {
        std::fs::create_dir_all(self.path(name)).unwrap();
        if let Some(owner) = owner {
            std::os::unix::fs::chown(self.path(name), Some(owner), Some(owner)).unwrap();
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("chroot");
        command.arg(&self.folder.0).arg(program).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }
}

/// A daemon with what it started.
struct Daemon(Child);

impl Daemon {
    fn start(command: &mut Command) -> Daemon {
        Daemon(command.process_group(0).stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-s", "TERM", "--", &group]).stderr(Stdio::null()).status();
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline && matches!(self.0.try_wait(), Ok(None)) {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let _ = Command::new("kill").args(["-s", "KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.0.wait();
    }
}
