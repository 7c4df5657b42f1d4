//! Starting, stopping, and being watched, as systemd does it.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use crate::support::{
    Client, Folder, Lines, NextHop, PATIENCE, Relay, configuration, ended, program, stuffed,
};

const LETTER: &str = "Subject: a\n\nb\n";

/// A client in the middle of its message.
fn half_way(relay: &Relay) -> Client {
    let mut client = Client::greeted(relay.port);
    assert_eq!(client.say("MAIL FROM:<a@shop.example>"), 250);
    assert_eq!(client.say("RCPT TO:<ann@home.example>"), 250);
    assert_eq!(client.say("DATA"), 354);
    client.send(b"Subject: a\r\n");
    client
}

#[test]
fn a_second_signal_ends_at_once() {
    let hop = NextHop::start();
    let mut relay = Relay::start(hop.port);
    let mut client = half_way(&relay);
    relay.signal("TERM");
    relay.log.wait("the first signal", |line| line.contains("stopping"));
    assert!(relay.is_running());
    relay.signal("TERM");
    assert!(relay.wait().success());
    relay.log.wait("the second signal", |line| line.contains("stopped at once"));
    assert_eq!(client.reply(), "");
    assert_eq!(hop.count(), 0);
}

#[test]
fn sessions_that_take_too_long_to_end_are_cut_off() {
    let hop = NextHop::start();
    let mut relay = Relay::with(hop.port, "", "", "[relay]\ndrain_s = 1");
    let _client = half_way(&relay);
    relay.signal("TERM");
    assert!(relay.wait().success());
    relay.log.wait("the deadline", |line| line.contains("were closed"));
}

#[test]
fn systemd_hears_that_it_is_ready_alive_and_stopping() {
    let hop = NextHop::start();
    let folder = Folder::new();
    let config = configuration(&folder, hop.port, "", "", "");
    let path = folder.0.join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut child = program()
        .args(["run", "--config"])
        .arg(config)
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let next = || {
        let mut message = [0; 4096];
        let length = systemd.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    assert!(next().contains("READY=1"));
    for _ in 0..3 {
        assert!(next().contains("WATCHDOG=1"));
    }
    let kill = std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(kill.success());
    while !next().contains("STOPPING=1") {}
    assert!(ended(&mut child).success());
}

#[test]
fn with_a_socket_of_systemd_a_restart_refuses_no_connection() {
    let hop = NextHop::start();
    let folder = Folder::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = configuration(&folder, hop.port, "", "", "");
    let text = std::fs::read_to_string(&config).unwrap().replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    std::fs::write(&config, text).unwrap();
    let mut holder = std::process::Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/hold.py"))
        .arg(program().get_program())
        .arg(&config)
        .arg(port.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env("NO_COLOR", "1")
        .spawn()
        .unwrap();
    let log = Lines::follow(holder.stderr.take().unwrap());
    log.wait("the socket", |line| line.contains("listening") && line.contains("by_systemd=true"));
    let (over, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (over, sent) = (Arc::clone(&over), Arc::clone(&sent));
            std::thread::spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    // Connecting never fails; one who has no message open may be told to come again.
                    let mut client = Client::connect(port);
                    let begun = client.code() == 220
                        && client.try_send(b"EHLO client.example\r\nMAIL FROM:<a@shop.example>\r\n")
                        && client.code() == 250
                        && client.code() == 250;
                    if begun {
                        assert_eq!(client.say("RCPT TO:<ann@home.example>"), 250);
                        assert_eq!(client.say("DATA"), 354);
                        client.send(stuffed(LETTER).as_bytes());
                        assert_eq!(client.code(), 250);
                        sent.fetch_add(1, Ordering::SeqCst);
                    }
                }
            })
        })
        .collect();
    let answers = Lines::follow(holder.stdout.take().unwrap());
    let mut orders = holder.stdin.take().unwrap();
    for turn in 1..=5 {
        let wanted = sent.load(Ordering::SeqCst) + 20;
        let deadline = Instant::now() + PATIENCE;
        while sent.load(Ordering::SeqCst) < wanted {
            assert!(Instant::now() < deadline, "no mail goes through:\n{}", log.all().join("\n"));
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
        orders.write_all(b"again\n").unwrap();
        answers.wait_for(turn, "the restart", |line| line == "restarted");
    }
    over.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().expect("no connection is refused, and what was accepted is answered");
    }
    drop(orders);
    assert!(ended(&mut holder).success());
    assert_eq!(hop.accepted(), sent.load(Ordering::SeqCst));
}
