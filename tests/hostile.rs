//! Clients that mean harm or know no better: malformed sessions, slow ones, and crowds that do nothing. The relay stays up, nobody waits for
//! them, and what goes on is whole. The short forms run with the other tests; `make harness` runs the long ones.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic)]

mod crowd;
mod mta;
mod noise;
mod support;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mta::sink::{Sink, Taken};
use noise::{End, Session};
use socket2::{Domain, SockRef, Socket, Type};
use support::{Client, Folder, Lines, Relay, free_port, get};

const SEED: u64 = 20_261_102;
/// No session may keep its client waiting for longer.
const MOST: Duration = Duration::from_secs(5);
/// How many sessions run at once, each from an address of its own.
const WORKERS: u8 = 8;
/// A message may reach the sink after its client has gone: so many sessions back its origin is looked for.
const BACK: usize = 64;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

/// A relay that speaks SMTP and LMTP, and its ports: of SMTP, of LMTP, of the metrics.
fn relay(sink: &Sink) -> (Relay, u16, u16) {
    let folder = Folder::new();
    let data = folder.0.join("data");
    let private = free_port();
    let listener = |protocol: &str| {
        format!(
            "[[listener]]\nname = \"{protocol}\"\naddress = \"127.0.0.1:0\"\nprotocol = \"{protocol}\"\ntls = \"starttls\"\n"
        )
    };
    folder.file(
        "config.toml",
        &format!(
            "data_directory = {data:?}\ncertificate_directory = {data:?}\n{}{}[next_hop]\nhost = \"localhost\"\nport = {}\ntls = \"none\"\n\
             [private]\naddress = \"127.0.0.1:{private}\"\n[log]\nformat = \"human\"\nlevel = \"warn,pixelward::cli=info\"\n",
            listener("smtp"),
            listener("lmtp"),
            sink.port
        ),
    );
    let relay = Relay::in_folder(folder);
    let lmtp = port_of(&relay.log, "listener=lmtp");
    (relay, lmtp, private)
}

fn port_of(log: &Lines, listener: &str) -> u16 {
    let line = log.wait(listener, |line| line.contains("listening") && line.contains(listener));
    let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
    address.parse::<SocketAddr>().unwrap().port()
}

fn connect(from: u8, port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 1, from), 0)).into()).unwrap();
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(MOST)).unwrap();
    stream.set_write_timeout(Some(MOST)).unwrap();
    stream
}

/// Plays a session; gives what the relay said, and whether it kept its client waiting.
fn play(session: &Session, mut stream: TcpStream) -> (Vec<u8>, bool) {
    let mut from = 0;
    for cut in session.cuts.iter().copied().chain([session.bytes.len()]) {
        // A session that was ended by the relay takes no more.
        if stream.write_all(&session.bytes[from..cut]).is_err() {
            break;
        }
        from = cut;
    }
    let mut said = Vec::new();
    match session.end {
        End::Close => return (said, false),
        End::Reset => {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            return (said, false);
        }
        End::HalfClose => drop(stream.shutdown(Shutdown::Write)),
    }
    let deadline = Instant::now() + MOST;
    let mut piece = [0; 16 * 1024];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return (said, false),
            Ok(read) => said.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return (said, false),
            Err(_) => return (said, true),
        }
        if Instant::now() > deadline {
            return (said, true);
        }
    }
}

/// Stands for the end of data where dots are no longer stuffed.
const ENDED: &[u8] = b"\xff\xfeended\r\n";

/// Which worker a message came from, and the message below our trace header with its end.
fn origin(taken: &Taken) -> Option<(u8, Vec<u8>)> {
    let text = &taken.message[..];
    let line = text.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let address = line.strip_prefix("Received: from ")?.rsplit_once("([")?.1.split(']').next()?;
    let worker = address.parse::<Ipv4Addr>().ok()?.octets()[3];
    let mut at = 0;
    loop {
        at += memchr::memmem::find(&text[at..], b"\r\n")? + 2;
        if !matches!(text.get(at), Some(b'\t' | b' ')) {
            break;
        }
    }
    Some((worker, [&text[at..], ENDED].concat()))
}

/// What a client sent, as a server reads it that takes all of it for data.
fn unstuffed(sent: &[u8]) -> Vec<u8> {
    let mut read = Vec::with_capacity(sent.len());
    for line in sent.split_inclusive(|byte| *byte == b'\n') {
        read.extend_from_slice(match line {
            b".\r\n" => ENDED,
            [b'.', rest @ ..] => rest,
            line => line,
        });
    }
    read
}

/// What is wrong with a message by itself.
fn malformed(taken: &Taken) -> Option<&'static str> {
    let text = &taken.message[..];
    let bare = text.iter().enumerate().any(|(at, byte)| match byte {
        b'\n' => at == 0 || text[at - 1] != b'\r',
        b'\r' => text.get(at + 1) != Some(&b'\n'),
        _ => false,
    });
    let odd = |text: &str| text.chars().any(char::is_control);
    if bare {
        return Some("a bare CR or LF");
    }
    if taken.to.is_empty() || taken.to.iter().any(|to| odd(to) || to.is_empty()) {
        return Some("odd recipients");
    }
    if odd(&taken.sender) || !taken.sender.starts_with('<') {
        return Some("an odd sender");
    }
    None
}

/// What the workers found out together.
#[derive(Default)]
struct Findings {
    next: AtomicU64,
    delivered: AtomicU64,
    taken_for_good: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

impl Findings {
    fn complain(&self, text: String) {
        let mut wrong = self.wrong.lock().unwrap();
        if wrong.len() < 20 {
            wrong.push(text);
        }
    }
}

/// The messages that reached the sink, by the worker they came from.
type Arrived = Mutex<Vec<Vec<Vec<u8>>>>;

fn sort(sink: &Sink, arrived: &Arrived, findings: &Findings) {
    let mut arrived = arrived.lock().unwrap();
    for taken in sink.drain() {
        findings.delivered.fetch_add(1, Ordering::Relaxed);
        if let Some(fault) = malformed(&taken) {
            findings.complain(format!("{fault}: {taken:?}"));
        }
        match origin(&taken) {
            Some((worker, sent)) => arrived[usize::from(worker)].push(sent),
            None => findings.complain(format!("no trace header: {taken:?}")),
        }
    }
}

/// Plays sessions until all are played. What reached the sink of a worker's mail was sent by it whole, between DATA and the end of data.
fn work(worker: u8, count: u64, ports: [u16; 2], sink: &Sink, arrived: &Arrived, findings: &Findings) {
    let mut sent: VecDeque<Vec<u8>> = VecDeque::new();
    loop {
        let number = findings.next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            break;
        }
        let is_lmtp = number % 4 == 3;
        let session = noise::session(SEED, number, is_lmtp);
        let (said, hung) = play(&session, connect(worker, ports[usize::from(is_lmtp)]));
        if hung {
            let bytes = String::from_utf8_lossy(&session.bytes[..session.bytes.len().min(400)]);
            findings.complain(format!("session {number} hung: {bytes:?}"));
        }
        let text = String::from_utf8_lossy(&said);
        if session.is_sound && (text.contains("\r\n5") || text.contains("\r\n4")) {
            findings.complain(format!("session {number} is as it should be, and heard {text}"));
        }
        findings.taken_for_good.fetch_add(text.matches("queued as SINK1").count() as u64, Ordering::Relaxed);
        sent.push_back(unstuffed(&session.bytes));
        if sent.len() > BACK {
            sent.pop_front();
        }
        sort(sink, arrived, findings);
        for message in std::mem::take(&mut arrived.lock().unwrap()[usize::from(worker)]) {
            if !sent.iter().rev().any(|sent| holds(sent, &message)) {
                findings.complain(format!("nobody sent {:?}", String::from_utf8_lossy(&message)));
            }
        }
    }
}

/// Whether a client sent this message: its lines up to the end of data, behind the end of another line.
fn holds(sent: &[u8], message: &[u8]) -> bool {
    memchr::memmem::find_iter(sent, message).any(|at| sent[..at].ends_with(b"\r\n"))
}

/// Plays so many malformed sessions; prints what came of them.
fn malformed_sessions(count: u64) {
    let sink = Sink::start();
    let (mut relay, lmtp, private) = relay(&sink);
    let ports = [relay.port, lmtp];
    let findings = Findings::default();
    let arrived = Mutex::new(vec![Vec::new(); usize::from(WORKERS) + 1]);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for worker in 1..=WORKERS {
            let (sink, arrived, findings) = (&sink, &arrived, &findings);
            scope.spawn(move || work(worker, count, ports, sink, arrived, findings));
        }
    });
    let took = start.elapsed().as_secs_f64();
    assert!(relay.is_running());
    let control =
        Client::greeted(relay.port).message("a@shop.example", &["ann@home.example"], "Subject: a\n\nb\n");
    assert!(control.starts_with("250 "), "{control}");
    let wrong = findings.wrong.lock().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let log = relay.log.all();
    assert!(!log.iter().any(|line| line.contains("panicked")), "{}", log.join("\n"));
    let metrics = get(private, "/metrics");
    assert!(metrics.contains("\npixelward_connections_total "), "{metrics}");
    assert!(!metrics.contains("pixelward_session_panics_total 1"), "{metrics}");
    let (delivered, answered) =
        (findings.delivered.load(Ordering::Relaxed), findings.taken_for_good.load(Ordering::Relaxed));
    // Not only refusals were tested.
    assert!(delivered > count / 10 && answered > count / 10, "{delivered} delivered, {answered} answered");
    println!(
        "malformed sessions: {count}, messages delivered: {delivered}, 0 hung, 0 panics, peak memory {} MiB, {took:.1} s",
        relay.peak_memory() / 1024
    );
}

#[test]
fn malformed_sessions_harm_nobody_and_what_is_delivered_was_sent_whole() {
    malformed_sessions(number("PIXELWARD_SESSIONS", 2000));
}
