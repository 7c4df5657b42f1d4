//! Open files and memory that run out: clients hear that they should come again, and service comes back by
//! itself.

use crate::crowd;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Client, Folder, Meeting, NextHop, PATIENCE, Relay, configuration, newsletter, stuffed};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

const FROM: &str = "news@shop.example";
const TO: &str = "ann@home.example";

/// Waits until the number of files a relay has open stays the same for half a second. While clients wait to
/// be accepted, that means that it can open no more; how many that is differs by system.
fn until_no_more_files_are_opened(relay: &Relay) {
    let (deadline, mut before, mut times) = (Instant::now() + PATIENCE, Vec::new(), 0);
    while times < 10 {
        let open: Vec<_> = std::fs::read_dir(format!("/proc/{}/fd", relay.pid()))
            .unwrap()
            .flatten()
            .map(|file| (file.file_name(), std::fs::read_link(file.path()).ok()))
            .collect();
        times = if open.len() == before.len() { times + 1 } else { 0 };
        assert!(Instant::now() < deadline, "the open files keep changing: {before:?}, then {open:?}");
        before = open;
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// Whether a greeting comes within this time; the connection stays as it is.
fn is_greeted(stream: &mut TcpStream, within: Duration) -> bool {
    stream.set_read_timeout(Some(within)).unwrap();
    let mut greeting = [0; 256];
    stream.read(&mut greeting).is_ok_and(|read| greeting[..read].starts_with(b"220 "))
}

#[test]
fn without_open_files_left_the_relay_waits_and_serves_again_when_there_are() {
    const FILES: u32 = 64;
    let hop = NextHop::start();
    let folder = Folder::new();
    configuration(&folder, hop.port, "", "", "");
    let mut relay = Relay::with_open_files(folder, FILES);
    relay.log.wait("the warning", |line| {
        line.contains("open files are limited to fewer") && line.contains("has=64")
    });
    let mut first = Client::greeted(relay.port);
    let mut crowd: Vec<TcpStream> =
        (0..FILES).map(|_| TcpStream::connect(("127.0.0.1", relay.port)).unwrap()).collect();
    let said = |line: &str| line.contains("connections cannot be accepted");
    relay.log.wait("the alarm", said);
    until_no_more_files_are_opened(&relay);
    // The socket for commands may have a file set aside for the next one: from now on it has none left
    // either.
    let _command = UnixStream::connect(relay.folder.0.join("data/pixelward.sock")).unwrap();
    until_no_more_files_are_opened(&relay);
    // One who is in does not hear of it in any way that costs mail.
    let reply = first.ask(&format!("MAIL FROM:<{FROM}>"));
    assert!(reply.starts_with("451 4.4."), "{reply}");
    // Waiting costs next to nothing, and the same is not said over and over.
    let (before, start) = (relay.computed(), Instant::now());
    while start.elapsed() < Duration::from_secs(2) {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let computed = relay.computed() - before;
    assert!(computed < Duration::from_millis(200), "{computed:?} of {:?} were computed", start.elapsed());
    assert_eq!(relay.log.all().iter().filter(|line| said(line)).count(), 1);
    assert!(relay.is_running());
    // When some go, those who wait are served.
    let (mut served, mut waiting): (Vec<TcpStream>, Vec<TcpStream>) = (Vec::new(), Vec::new());
    for mut stream in crowd.drain(..) {
        let list =
            if is_greeted(&mut stream, Duration::from_millis(20)) { &mut served } else { &mut waiting };
        list.push(stream);
    }
    assert!(!served.is_empty() && waiting.len() >= 16, "{} served, {} wait", served.len(), waiting.len());
    drop(served);
    for stream in &mut waiting {
        assert!(is_greeted(stream, PATIENCE));
    }
    drop(waiting);
    assert_eq!(first.say("RSET"), 250);
    let deadline = Instant::now() + PATIENCE;
    loop {
        // The files of those who have just gone may not be free yet.
        let reply = first.ask(&format!("MAIL FROM:<{FROM}>"));
        if reply.starts_with("250 ") {
            break;
        }
        assert!(reply.starts_with("451 ") && Instant::now() < deadline, "{reply}");
    }
    assert_eq!(first.say("RSET"), 250);
    assert!(first.message(FROM, &[TO], "Subject: a\n\nb\n").starts_with("250 "));
    assert_eq!(hop.count(), 1);
}

/// A newsletter of so many bytes, most of them text, as it goes over the wire without its end.
fn large(bytes: usize) -> Vec<u8> {
    let text = "News of the week, in many words.\n".repeat(bytes / 34);
    let message = newsletter(TO).0.replace("News of the week.\n", &text);
    let mut wire = stuffed(&message).into_bytes();
    wire.truncate(wire.len() - 3);
    wire
}

#[test]
fn messages_beyond_the_budget_are_put_off_and_memory_stays_bounded() {
    const CLIENTS: usize = 40;
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, "", "", "[relay]\nmax_in_flight_bytes = 33554432");
    let before = relay.memory();
    let body = Arc::new(large(4 << 20));
    let all_are_there = Meeting::of(CLIENTS);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (port, body, meeting) = (relay.port, Arc::clone(&body), all_are_there.clone());
            std::thread::spawn(move || {
                let mut client = Client::greeted(port);
                assert_eq!(client.say(&format!("MAIL FROM:<{FROM}>")), 250);
                assert_eq!(client.say(&format!("RCPT TO:<{TO}>")), 250);
                assert_eq!(client.say("DATA"), 354);
                client.send(&body);
                meeting.wait();
                client.send(b".\r\n");
                client.reply()
            })
        })
        .collect();
    let replies: Vec<String> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let count = |start: &str| replies.iter().filter(|reply| reply.starts_with(start)).count();
    let (taken, put_off) = (count("250 "), count("452 4.3.1 "));
    assert_eq!(taken + put_off, CLIENTS, "{replies:?}");
    // Eight have room at once.
    assert!(taken >= 1 && put_off >= CLIENTS / 2, "{taken} taken, {put_off} put off");
    assert_eq!(hop.accepted(), taken);
    let used = relay.peak_memory() - before;
    assert!(used < 128 << 10, "{used} KiB were used for a budget of 32 MiB");
    assert!(Client::greeted(relay.port).message(FROM, &[TO], "Subject: a\n\nb\n").starts_with("250 "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make harness"]
async fn with_2000_sessions_and_messages_of_10_mib_memory_stays_within_384_mib() {
    const CLIENTS: usize = 2000;
    crowd::raise_open_files(CLIENTS as u64 + 2000);
    let (hop, arrived) = crowd::swallow().await;
    let relay = Relay::with(hop, "max_connections_per_client = 5000", "", "");
    let body = Arc::new(large(10 << 20));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (port, body) = (relay.port, Arc::clone(&body));
        clients.spawn(async move {
            let mut stream = crowd::connect(crowd::address(number), port).await.unwrap();
            crowd::reply(&mut stream).await.unwrap();
            for line in
                ["EHLO big.example", "MAIL FROM:<news@shop.example>", "RCPT TO:<ann@home.example>", "DATA"]
            {
                let said = crowd::say(&mut stream, &format!("{line}\r\n")).await.unwrap();
                if said.starts_with('4') {
                    return said;
                }
            }
            stream.write_all(&body).await.unwrap();
            crowd::say(&mut stream, ".\r\n").await.unwrap()
        });
    }
    let (mut taken, mut put_off, mut others) = (0u64, 0, 0);
    while let Some(one) = clients.join_next().await {
        match one.unwrap() {
            said if said.starts_with("250 ") => taken += 1,
            said if said.starts_with("452 4.3.1 ") => put_off += 1,
            said => {
                assert!(said.starts_with("451 "), "{said}");
                others += 1;
            }
        }
    }
    let peak = relay.peak_memory() / 1024;
    println!(
        "2,000 sessions with 10 MiB each: {taken} taken, {put_off} heard 452, {others} heard 451, peak \
         memory {peak} MiB"
    );
    assert_eq!(arrived.load(Ordering::Relaxed), taken);
    // The budget of 192 MiB, a quarter of it for copies, and what the allocator keeps of buffers that were
    // freed.
    assert!(taken > 0 && peak <= 384, "{peak} MiB");
}

/// A copy for each of many readers is many times the message: they are made one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_2_mb_for_each_reader_takes_the_memory_of_few() {
    // The long form makes them a thousand.
    let readers: usize = std::env::var("PIXELWARD_READERS").map_or(200, |text| text.parse().unwrap());
    let (hop, arrived) = crowd::swallow().await;
    let rest = "[[controller]]\nname = \"shop\"\nfrom_domain = \"shop.example\"\npublic_url \
                = \"https://choice.shop.example\"\n\
                on_grant = \"gate\"\njurisdiction = \"fr\"\n";
    let relay = Relay::with(hop, "", "", rest);
    let mut rows = "address,state,event_time,evidence\n".to_owned();
    for reader in 0..readers {
        rows.push_str(&format!("r{reader}@home.example,granted,2020-01-02T03:04:05Z,form/1\n"));
    }
    let file = relay.folder.file("consents.csv", &rows);
    let imported = relay.command(&["consent", "import", "--controller", "shop", file.to_str().unwrap()]);
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    let before = relay.memory();
    let (port, message) = (relay.port, two_megabytes());
    let replies = tokio::task::spawn_blocking(move || {
        let mut client = Client::greeted(port);
        assert_eq!(client.say(&format!("MAIL FROM:<{FROM}> PRDR")), 250);
        for reader in 0..readers {
            assert_eq!(client.say(&format!("RCPT TO:<r{reader}@home.example>")), 250);
        }
        assert_eq!(client.say("DATA"), 354);
        client.send(&message);
        // All copies are made and sent before the first answer.
        let stream = client.into_stream();
        stream.set_read_timeout(Some(15 * PATIENCE)).unwrap();
        let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
        assert!(lines.next().unwrap().starts_with("353 "));
        lines.take(readers).filter(|line| line.starts_with("250 ")).count()
    });
    assert_eq!(replies.await.unwrap(), readers);
    assert_eq!(arrived.load(Ordering::Relaxed), readers as u64, "each has a copy of its own");
    let used = (relay.peak_memory() - before) / 1024;
    println!("2 MB to {readers} readers, each with a copy of their own: {used} MiB at most");
    // The message, what was read of it, and the copies that are made, scanned and sent.
    assert!(used <= 48, "{used} MiB were used");
}

/// A newsletter of 2 MB with a pixel, on the wire.
fn two_megabytes() -> Vec<u8> {
    let (with, _) = newsletter("reader@home.example");
    let filling = format!("<p>{}</p>\n", "News of the week, and more of it. ".repeat(2));
    let filling = filling.repeat((2 << 20) / filling.len());
    stuffed(&with.replace("<html><body>", &format!("<html><body>{filling}"))).into_bytes()
}

/// What takes long leaves the threads that serve the network: who comes while large messages are analysed is
/// greeted before the first of them is answered.
#[test]
fn no_session_waits_for_the_analysis_of_anothers_message() {
    const CLIENTS: usize = 4;
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    let suspect = "<img src=\"//t.news.example/a/b.php?id=77\" width=90>\n";
    let message = format!(
        "From: a@shop.example\nContent-Type: text/html\n\n{}",
        suspect.repeat((8 << 20) / suspect.len())
    );
    let message = Arc::new(stuffed(&message).strip_suffix(".\r\n").unwrap().to_owned());
    let (all_are_there, answered) = (Meeting::of(CLIENTS + 1), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (port, message) = (relay.port, Arc::clone(&message));
            let (meeting, answered) = (all_are_there.clone(), Arc::clone(&answered));
            std::thread::spawn(move || {
                let mut client = Client::greeted(port);
                assert_eq!(client.say(&format!("MAIL FROM:<{FROM}>")), 250);
                assert_eq!(client.say(&format!("RCPT TO:<{TO}>")), 250);
                assert_eq!(client.say("DATA"), 354);
                client.send(message.as_bytes());
                meeting.wait();
                client.send(b".\r\n");
                let reply = client.reply();
                answered.fetch_add(1, Ordering::SeqCst);
                assert!(reply.starts_with("250 "), "{reply}");
            })
        })
        .collect();
    all_are_there.wait();
    let mut other = Client::greeted(relay.port);
    assert_eq!(other.say("NOOP"), 250);
    assert_eq!(answered.load(Ordering::SeqCst), 0, "somebody had to wait for another's message");
    for client in clients {
        client.join().unwrap();
    }
}
