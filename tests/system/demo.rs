//! The demonstration as its visitor sees it.

use std::process::{Command, Stdio};

use crate::browser::scripted;
use crate::support::{self, Folder, Lines, PATIENCE, free_port, program};

/// A running demonstration, ended when dropped.
struct Demo {
    child: std::process::Child,
    lines: Lines,
    listen: u16,
    web: u16,
    console: u16,
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Demo {
    fn start() -> Demo {
        let (listen, web, console) = (free_port(), free_port(), free_port());
        let mut command = program();
        command.arg("demo");
        for (option, port) in
            [("--listen", listen), ("--web", web), ("--public", free_port()), ("--console", console)]
        {
            command.args([option, &format!("127.0.0.1:{port}")]);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = Lines::follow(child.stdout.take().unwrap());
        lines.wait("the last line", |line| line.contains("Ctrl-C ends it"));
        Demo { child, lines, listen, web, console }
    }
}

#[test]
fn it_takes_a_file_with_lf_and_shows_what_it_refused() {
    let demo = Demo::start();
    let shown = demo.lines.wait("the command of curl", |line| line.contains("curl -sS --crlf smtp://"));
    assert!(shown.contains("-T message.eml"), "{shown}");
    let folder = Folder::new();
    let message = folder.file("message.eml", "Subject: own mail\n\nhello\n");
    let sent = |more: &[&str], to: &str| {
        let url = format!("smtp://127.0.0.1:{}", demo.listen);
        let output = Command::new("curl")
            .args(more)
            .args(["-sS", &url, "--mail-from", "you@example.org", "--mail-rcpt", to, "-T"])
            .arg(&message)
            .output()
            .unwrap();
        output.status.success()
    };
    // With the flag as shown, and by who forgets it.
    assert!(sent(&["--crlf"], "bob@example.org") && sent(&[], "bob@example.org"));
    let mut client = support::Client::greeted(demo.listen);
    assert_eq!(client.say("MAIL FROM:<you@example.org>"), 250);
    assert_eq!(client.say("RCPT TO:<j\u{fc}@example.org>"), 553);
    let page = support::get(demo.web, "/");
    assert!(page.contains("own mail") && page.contains("Refused attempts"), "{page}");
    assert!(page.contains("553 5.6.7"), "{page}");
}

#[test]
fn a_name_that_only_leads_here_is_answered_nothing() {
    use std::io::{Read, Write};
    let demo = Demo::start();
    for (host, status) in [("localhost", "200"), ("127.0.0.1:1", "200"), ("rebound.example", "403")] {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", demo.web)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /state HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{host}: {answer}");
    }
}

#[test]
fn its_console_ends_with_it_and_a_taken_address_is_named() {
    use std::net::{TcpListener, TcpStream};
    let demo = Demo::start();
    let port = demo.console;
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    let other = program()
        .args(["demo", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0", "--public", "127.0.0.1:0"])
        .args(["--console", &format!("127.0.0.1:{port}")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&other.stderr);
    assert!(!other.status.success(), "{said}");
    assert!(
        said.contains(&format!("127.0.0.1:{port} is not available")) && said.contains("--console"),
        "{said}"
    );
    drop(demo);
    let end = std::time::Instant::now() + PATIENCE;
    while TcpListener::bind(("127.0.0.1", port)).is_err() {
        assert!(std::time::Instant::now() < end, "the console of a killed demonstration goes on");
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_visitor_opens_a_mail_withdraws_and_opens_it_again() {
    let demo = Demo::start();
    let found = scripted("demo.cjs", &[&format!("http://127.0.0.1:{}/", demo.web)]);
    assert_eq!(found["wrong"], serde_json::json!([]));
    assert_eq!(found["unfit"], 0, "frames that do not show all of their mail");
    let sees = found["sees"].as_str().unwrap();
    assert!(sees.contains("gated pixel") && !sees.contains("tracker:"), "{sees}");
    assert_eq!((&found["before"], &found["after"]), (&"agreed".into(), &"withdrew".into()));
    let opens = |name: &str| -> Vec<String> {
        found[name].as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect()
    };
    let (first, both) = (opens("opened"), opens("opened_again"));
    assert!(first.len() == 1 && first[0].contains("led on to click.shop.example"), "{first:?}");
    assert!(both.len() == 2 && both[0].contains("blank picture"), "{both:?}");
    assert!(found["removed_lines"].as_u64() > Some(0) && found["added_lines"].as_u64() > Some(0), "{found}");
    assert_eq!(found["next"], "1 tracker removed");
    assert!(found["console"].as_str().unwrap().contains("18"), "copies handled: {}", found["console"]);
}
