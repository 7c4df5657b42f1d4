//! The first day: `pixelward init`, as somebody meets it who has nothing yet, and the report of the first
//! week.

use crate::support;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{Client, Folder, NextHop, Relay, crlf, free_port, newsletter, program};

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn init(folder: &Path, arguments: &[&str]) -> Output {
    program().args(["init", "--yes", "--dir"]).arg(folder).args(arguments).output().unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn init_leaves_a_relay_that_was_tried() {
    let folder = Folder::new();
    let output = init(
        &folder.0,
        &["--next-hop", "smtp.example.org", "--dkim", "shop.example", "--controller", "shop"],
    );
    let told = said(&output);
    assert!(output.status.success(), "{told}");
    for wanted in [
        "removed: img",
        "signature of pixelward._domainkey.shop.example: valid",
        "\"observe\"",
        "pixelward check --config",
        "pixelward._domainkey.shop.example. IN TXT",
        "pixelward report --config",
    ] {
        assert!(told.contains(wanted), "{wanted}\n{told}");
    }
    assert!(!told.contains("PRIVATE"), "{told}");
    assert_eq!(mode(&folder.0.join("config.toml")), 0o640);
    assert_eq!(mode(&folder.0.join("shop.example.dkim.pem")), 0o600);
    assert_eq!(mode(&folder.0.join("data")), 0o700);
    let check =
        program().args(["policy", "lint", "--config"]).arg(folder.0.join("config.toml")).output().unwrap();
    assert!(check.status.success(), "{}", said(&check));
}

/// Where the next hop is Postfix itself it answers only once it has its lines: to check before would say
/// WRONG.
#[test]
fn the_next_hop_is_checked_once_it_can_answer() {
    for (recipe, next_hop, is_last) in [
        ("content-filter", "127.0.0.1:10026", true),
        ("proxy-filter", "127.0.0.1:10026", true),
        ("relayhost", "smtp.example.org", false),
    ] {
        let output = init(&Folder::new().0, &["--next-hop", next_hop, "--postfix", recipe]);
        let told = said(&output);
        assert!(output.status.success(), "{told}");
        let next = told.split("Next:").nth(1).unwrap();
        let (check, lines) = (next.find("pixelward check").unwrap(), next.find("master.cf").unwrap());
        assert_eq!(lines < check, is_last, "{recipe}: {next}");
    }
}

#[test]
fn init_writes_over_nothing() {
    let folder = Folder::new();
    for (name, arguments) in
        [("config.toml", &[][..]), ("shop.example.dkim.pem", &["--dkim", "shop.example"])]
    {
        let path = folder.file(name, "mine\n");
        let output = init(&folder.0, &[&["--next-hop", "smtp.example.org"], arguments].concat());
        assert!(!output.status.success());
        assert!(
            said(&output).contains("already exists") && said(&output).contains("--dir"),
            "{}",
            said(&output)
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine\n");
        assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1);
        std::fs::remove_file(path).unwrap();
    }
    std::fs::create_dir_all(folder.0.join("data/consent")).unwrap();
    let output = init(&folder.0, &["--next-hop", "smtp.example.org"]);
    assert!(!output.status.success() && said(&output).contains("--data"), "{}", said(&output));
    assert!(!folder.0.join("config.toml").exists());
}

#[test]
fn answers_that_do_not_fit_write_nothing_and_say_what_to_do() {
    for (arguments, wanted) in [
        (&[][..], "--next-hop smtp.example.org"),
        (&["--next-hop", "a b"], "invalid server"),
        (&["--next-hop", "smtp.example.org", "--listen", "0.0.0.0:25"], "--allow 192.0.2.0/24"),
        (&["--next-hop", "smtp.example.org", "--allow", "192.0.2.0/99"], "invalid network"),
        (&["--next-hop", "smtp.example.org", "--controller", "A Shop"], "controller name"),
        (&["--next-hop", "smtp.example.org", "--public-url", "ftp://x"], "https://"),
        (&["--next-hop", "smtp.example.org", "--dkim", "../shop"], "invalid DNS name"),
        (&["--next-hop", "smtp.example.org", "--postfix", "content-filter"], "port = 10026"),
        (&["--next-hop", "smtp.example.org", "--user", "nobody-of-this-name"], "--user"),
    ] {
        let folder = Folder::new();
        let output = init(&folder.0, arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(said(&output).contains(wanted), "{arguments:?}: {}", said(&output));
        assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0, "{arguments:?}");
    }
}

#[test]
fn five_questions_are_asked_at_a_terminal() {
    let folder = Folder::new();
    let script = "import os, pty, sys\n\
        answers = ['sideways', 'content-filter', '', 'nowhere', '127.0.0.1:2600', 'shop', \
        'https://choice.shop.example']\n\
        pid, fd = pty.fork()\n\
        if pid == 0:\n    os.execv(sys.argv[1], [sys.argv[1], 'init', '--dir', sys.argv[2]])\n\
        seen = b''\n\
        while True:\n\
        \x20   try:\n        data = os.read(fd, 4096)\n\
        \x20   except OSError:\n        break\n\
        \x20   if not data:\n        break\n\
        \x20   seen += data\n\
        \x20   while answers and seen.count(b'?') > 7 - len(answers) and seen.rstrip(b' ').endswith((b'?', \
        b']')):\n\
        \x20       os.write(fd, answers.pop(0).encode() + b'\\n')\n        seen += b'.'\n\
        sys.stdout.buffer.write(seen)\n\
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n";
    let program = program().get_program().to_owned();
    let output = Command::new("python3").args(["-c", script]).arg(program).arg(&folder.0).output().unwrap();
    let told = said(&output);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("unknown recipe \"sideways\""), "{told}");
    assert!(told.contains("invalid address \"nowhere\""), "{told}");
    assert!(told.contains("content_filter = pixelward:[127.0.0.1]:2600"), "{told}");
    let config = pixelward::config::Config::load(&folder.0.join("config.toml")).unwrap();
    assert_eq!((config.next_hops[0].host.as_str(), config.next_hops[0].port), ("127.0.0.1", 10026));
    let controller = config.policy.rulebook.controllers().next().unwrap();
    assert_eq!(controller.public_url.as_deref(), Some("https://choice.shop.example"));
}

/// Observed for a while, looked at, and switched on: what the guide of the first week tells people to do.
#[test]
fn the_first_week_ends_with_enforcement() {
    let hop = NextHop::start();
    let folder = Folder::new();
    let listen = format!("127.0.0.1:{}", free_port());
    let next_hop = format!("127.0.0.1:{}", hop.port);
    let output = init(&folder.0, &["--next-hop", &next_hop, "--listen", &listen]);
    assert!(output.status.success(), "{}", said(&output));
    let path = folder.0.join("config.toml");
    let written = std::fs::read_to_string(&path).unwrap();
    // What a test must not share with others that run at the same time.
    let own = "\n[private]\naddress = \"\"\n[api]\naddress = \"\"\n[log]\nformat = \"human\"\n\
               [[mailstream]]\nname = \"news\"\nsender_domain = \"shop.example\"\n";
    std::fs::write(&path, format!("{written}{own}")).unwrap();
    let relay = Relay::in_folder(folder);
    let (with, without) = newsletter("eve@home.example");
    let mut client = Client::greeted(relay.port);
    assert!(client.message("news@shop.example", &["eve@home.example"], &with).starts_with("250"));
    assert_eq!(hop.wait(1)[0].below_trace(), crlf(&with));
    let report = || said(&relay.command(&["report"]));
    let counted = |wanted: &str| {
        let deadline = std::time::Instant::now() + support::PATIENCE;
        loop {
            let told = report();
            if told.contains(wanted) {
                return told;
            }
            assert!(std::time::Instant::now() < deadline, "{wanted}\n{told}");
            std::thread::yield_now();
        }
    };
    let told = counted("default/news: 1 recipient, observed");
    assert!(told.contains("1  strip decided, not done (no_consent)"), "{told}");
    assert!(told.contains("img of SendGrid, stayed"), "{told}");
    std::fs::write(&path, format!("{written}{own}mode = \"enforce\"\n")).unwrap();
    relay.signal("HUP");
    relay.log.wait("a reload", |line| line.contains("were read again"));
    assert!(client.message("news@shop.example", &["eve@home.example"], &with).starts_with("250"));
    assert_eq!(hop.wait(2)[1].below_trace(), crlf(&without));
    counted("1  strip decided and done (no_consent)");
}
