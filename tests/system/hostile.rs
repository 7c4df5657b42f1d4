//! Clients that mean harm or know no better: malformed sessions, slow ones, and crowds that do nothing. The
//! relay stays up, nobody waits for them, and what goes on is whole. The short forms run with the other
//! tests; `make harness` runs the long ones.

use crate::crowd;
use crate::noise;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::crowd::{SLOW, Slow};
use crate::mta::sink::{Sink, Taken};
use crate::noise::{End, Session};
use crate::secure::Authority;
use crate::support::{Client, Folder, Lines, Relay, free_port, get};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::task::JoinSet;

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
            "[[listener]]\nname = \"{protocol}\"\naddress = \"127.0.0.1:0\"\nprotocol = \"{protocol}\"\ntls \
             = \"starttls\"\n"
        )
    };
    folder.file(
        "config.toml",
        &format!(
            "data_directory = {data:?}\ncertificate_directory = {data:?}\n{}{}[next_hop]\nhost \
             = \"localhost\"\nport = {}\ntls = \"none\"\n\
             [private]\naddress = \"127.0.0.1:{private}\"\n[api]\naddress = \"\"\n[log]\nformat \
             = \"human\"\nlevel = \"warn,pixelward::cli=info\"\n",
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

/// Plays sessions until all are played. What reached the sink of a worker's mail was sent by it whole,
/// between DATA and the end of data.
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
        "malformed sessions: {count}, messages delivered: {delivered}, 0 hung, 0 panics, peak memory {} MiB, \
         {took:.1} s",
        relay.peak_memory() / 1024
    );
}

#[test]
fn malformed_sessions_harm_nobody_and_what_is_delivered_was_sent_whole() {
    malformed_sessions(number("PIXELWARD_SESSIONS", 2000));
}

/// Good ones and slow ones, with short deadlines.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_are_dropped_at_their_deadlines_and_good_ones_do_not_notice() {
    let (hop, taken) = crowd::swallow().await;
    let relay = Relay::with(hop, "idle_timeout_s = 2\nsession_timeout_s = 4", "", "");
    let port = relay.port;
    let mut slow = JoinSet::new();
    for number in 0..40 {
        let kind = SLOW[number % SLOW.len()];
        slow.spawn(async move {
            let start = Instant::now();
            let every = Duration::from_millis(300);
            let last = crowd::slow(port, crowd::address(number), kind, every, Arc::default()).await;
            (kind, start.elapsed(), last.unwrap())
        });
    }
    let mut good = JoinSet::new();
    for number in 0..10 {
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        good.spawn(crowd::good(port, crowd::address(number), until, 100));
    }
    while let Some(one) = good.join_next().await {
        assert_eq!(one.unwrap().unwrap(), 100);
    }
    assert_eq!(taken.load(Ordering::Relaxed), 1000);
    while let Some(one) = slow.join_next().await {
        let (kind, took, last) = one.unwrap();
        // One that reads nothing has five seconds more to read why.
        let most = if kind == Slow::Deaf { 15 } else { 8 };
        assert!(took < Duration::from_secs(most), "{kind:?}: {took:?}");
        assert!(kind == Slow::Deaf || last.starts_with("421 4.4.2 "), "{kind:?}: {last}");
    }
    assert_eq!(taken.load(Ordering::Relaxed), 1000, "half a message is none");
}

/// Messages per second of good clients, with slow ones beside them or without.
async fn throughput(port: u16, good: usize, time: Duration) -> f64 {
    let start = Instant::now();
    let until = tokio::time::Instant::now() + time;
    let mut clients = JoinSet::new();
    for number in 0..good {
        clients.spawn(crowd::good(port, crowd::address(number), until, u64::MAX));
    }
    let mut taken = 0;
    while let Some(one) = clients.join_next().await {
        taken += one.unwrap().unwrap();
    }
    taken as f64 / start.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make harness"]
async fn good_clients_keep_their_throughput_beside_5000_slow_ones() {
    let (slow, good) = (number("PIXELWARD_SLOW", 5000) as usize, number("PIXELWARD_GOOD", 200) as usize);
    let (time, rounds) = (Duration::from_secs(number("PIXELWARD_SECONDS", 10)), 5);
    crowd::raise_open_files((slow + good) as u64 + 2000);
    let (hop, _) = crowd::swallow().await;
    let most = slow + good + 100;
    let relay =
        Relay::with(hop, &format!("max_connections = {most}\nmax_connections_per_client = {most}"), "", "");
    let port = relay.port;
    throughput(port, good, Duration::from_secs(2)).await;
    println!("{good} good clients, {slow} slow ones that send a byte every 10 s; messages per second");
    // What else the machine does changes over time: each time with them stands between two without.
    let mut without = throughput(port, good, time).await;
    let mut ratios = Vec::new();
    for round in 1..=rounds {
        let crowd = slow_ones(&relay, slow).await;
        let with = throughput(port, good, time).await;
        assert_eq!(crowd.len(), slow, "none of them was dropped yet");
        drop(crowd);
        let again = throughput(port, good, time).await;
        ratios.push(with / ((without + again) / 2.0));
        println!(
            "round {round}: {without:.0} before, {with:.0} beside {slow} slow ones, {again:.0} after: {:.3}",
            ratios[round - 1]
        );
        without = again;
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    println!("median: {:.1} % of the throughput without slow ones", 100.0 * median);
    assert!(median >= 0.95);
}

/// A crowd that is there: each has come as far as it goes quickly.
async fn slow_ones(relay: &Relay, count: usize) -> JoinSet<std::io::Result<String>> {
    let (mut crowd, begun) = (JoinSet::new(), Arc::new(AtomicU64::new(0)));
    let deadline = Instant::now() + 12 * MOST;
    for number in 0..count {
        // Deaf ones are dropped soon: a crowd of them is none after that.
        let (port, kind, begun) = (relay.port, SLOW[number % 3], Arc::clone(&begun));
        crowd.spawn(crowd::slow(port, crowd::address(number), kind, Duration::from_secs(10), begun));
    }
    while begun.load(Ordering::Relaxed) < count as u64 {
        assert!(Instant::now() < deadline, "{begun:?} of {count} slow clients have begun");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    crowd
}

/// Holds idle connections in clear and over TLS; prints and gives the memory of each, in bytes.
async fn idle_connections(count: usize) -> [u64; 2] {
    crowd::raise_open_files(count as u64 + 1000);
    let authority = Authority::new();
    let (hop, _) = crowd::swallow().await;
    let lines = format!(
        "tls = \"starttls\"\n{}\nmax_connections = {most}\nmax_connections_per_client = \
         {most}\nidle_timeout_s = 3600",
        authority.issue("localhost").lines(),
        // Those that were dropped may not be gone yet.
        most = 2 * count + 100,
    );
    let connector = crowd::connector(&authority.file);
    let mut each = [0; 2];
    for (index, tls) in [None, Some(&connector)].into_iter().enumerate() {
        let relay = Relay::with(hop, &lines, "", "");
        // What is only needed once is there before it is counted.
        drop(crowd::idle(count.min(300), relay.port, tls).await);
        let before = relay.memory();
        let mut held = crowd::idle(count, relay.port, tls).await;
        for one in held.iter_mut().step_by(97) {
            assert!(one.is_served().await);
        }
        let after = relay.memory();
        let served = crowd::good(relay.port, crowd::address(0), tokio::time::Instant::now() + MOST, 1).await;
        assert_eq!(served.unwrap(), 1);
        each[index] = after.saturating_sub(before) * 1024 / count as u64;
        println!(
            "{count} idle connections {}: {} KiB before, {} KiB with them, {} bytes each",
            if tls.is_some() { "over TLS" } else { "in clear" },
            before,
            after,
            each[index]
        );
    }
    each
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_are_held() {
    let [clear, tls] = idle_connections(300).await;
    // Few connections say little of the memory of each; the long form holds the budget.
    assert!(clear < 64 << 10 && tls < 128 << 10, "{clear} and {tls} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute: make harness"]
async fn idle_connections_cost_10_kib_in_clear_and_40_kib_over_tls_at_most() {
    let [clear, tls] = idle_connections(number("PIXELWARD_IDLE", 15_000) as usize).await;
    assert!(clear <= 10 << 10 && tls <= 40 << 10, "{clear} and {tls} bytes");
}
