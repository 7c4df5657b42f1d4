//! Logging in (RFC 4954), with clients of the test, swaks and curl.

use crate::support;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::secure::{Authority, Secure, client_config, swaks, text};
use crate::support::{Client, Folder, NextHop, PATIENCE, Relay, configuration, program};

/// base64 of NUL ann NUL secret, and of the parts.
const PLAIN: &str = "AGFubgBzZWNyZXQ=";
const ANN: &str = "YW5u";
const SECRET: &str = "c2VjcmV0";
const WRONG: &str = "AGFubgB3cm9uZw==";

/// A line of a users file.
fn line(login: &str, password: &str) -> String {
    let mut child =
        program().args(["passwd", login]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn write_users(path: &Path, lines: &str) {
    std::fs::write(path, lines).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

struct Stage {
    hop: NextHop,
    relay: Relay,
    authority: Authority,
    users: PathBuf,
}

/// A relay where ann may log in with "secret".
fn stage(listener: &str) -> Stage {
    let authority = Authority::new();
    let users = authority.folder.0.join("users");
    write_users(&users, &line("ann", "secret"));
    let hop = NextHop::start();
    let tls = if listener.contains("tls =") { "" } else { "tls = \"required\"" };
    let certificate = authority.issue("localhost").lines();
    let relay =
        Relay::with(hop.port, &format!("{tls}\n{certificate}\nusers_file = {users:?}\n{listener}"), "", "");
    Stage { hop, relay, authority, users }
}

impl Stage {
    fn client(&self) -> Secure {
        Secure::starttls(self.relay.port, client_config(&self.authority.file, None))
    }

    fn trace(&self, count: usize) -> String {
        let data = self.hop.wait(count).pop().unwrap().data;
        String::from_utf8(data).unwrap()
    }
}

#[test]
fn a_login_is_announced_under_tls_only_and_a_password_in_clear_is_refused() {
    let stage = stage("");
    let mut clear = Client::connect(stage.relay.port);
    assert_eq!(clear.code(), 220);
    assert!(!clear.ask("EHLO client.example").contains("AUTH"));
    assert!(clear.ask(&format!("AUTH PLAIN {PLAIN}")).starts_with("538 5.7.11 "));
    let mut client = stage.client();
    assert!(client.ask("EHLO client.example").contains("-AUTH PLAIN LOGIN\r\n"));
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    let mut without = Client::greeted(relay.port);
    assert_eq!(without.say("AUTH PLAIN"), 502);
}

#[test]
fn who_has_to_log_in_can_send_after_that_only_and_the_trace_header_says_so() {
    let stage = stage("require_login = true");
    let mut client = stage.client();
    assert!(client.ask("MAIL FROM:<news@shop.example>").starts_with("530 5.7.0 "));
    assert_eq!(client.ask("AUTH LOGIN"), "334 VXNlcm5hbWU6\r\n");
    assert_eq!(client.ask(ANN), "334 UGFzc3dvcmQ6\r\n");
    assert!(client.ask(SECRET).starts_with("235 2.7.0 "));
    assert_eq!(client.say("AUTH PLAIN"), 503);
    // The login outlives another greeting, and what the client says of the author goes no further.
    assert!(!client.ask("EHLO client.example").contains("AUTH"));
    assert_eq!(client.say("MAIL FROM:<news@shop.example> AUTH=ann+40shop.example"), 250);
    assert_eq!(client.say("AUTH PLAIN"), 503);
    assert_eq!(client.say("RCPT TO:<ann@home.example>"), 250);
    assert_eq!(client.say("DATA"), 354);
    assert!(client.ask("Subject: a\r\n\r\nb\r\n.").starts_with("250 "));
    let delivery = stage.hop.wait(1).pop().unwrap();
    assert_eq!(delivery.mail, "MAIL FROM:<news@shop.example>");
    assert!(stage.trace(1).contains(" with ESMTPSA id "));
    let mut other = stage.client();
    assert!(
        other.ask("MAIL FROM:<news@shop.example>").starts_with("530 5.7.0 "),
        "a login is of one session"
    );
}

#[test]
fn without_require_login_a_login_is_offered_and_not_needed() {
    let stage = stage("");
    let mut client = stage.client();
    assert!(client.message("news@shop.example", "ann@home.example").starts_with("250 "));
    assert!(stage.trace(1).contains(" with ESMTPS id "));
    assert_eq!(client.say(&format!("AUTH PLAIN {PLAIN}")), 235);
    assert!(client.message("news@shop.example", "ann@home.example").starts_with("250 "));
    assert!(stage.trace(2).contains(" with ESMTPSA id "));
}

#[test]
fn a_login_and_a_certificate_choose_the_route() {
    let authority = Authority::new();
    let users = authority.folder.0.join("users");
    write_users(&users, &line("ann", "secret"));
    let hops = [NextHop::start(), NextHop::start(), NextHop::start()];
    let folder = Folder::new();
    let data = folder.0.join("data");
    let listener = format!(
        "users_file = {users:?}\nclient_certificate = \"asked\"\nclient_ca_file = {:?}\n{}",
        authority.file,
        authority.issue("localhost").lines()
    );
    let hop = |(index, hop): (usize, &NextHop)| {
        format!(
            "[[next_hop]]\nname = \"{index}\"\nhost = \"localhost\"\nport = {}\ntls = \"none\"\n",
            hop.port
        )
    };
    let all: String = hops.iter().enumerate().map(hop).collect();
    folder.file(
        "config.toml",
        &format!(
            "data_directory = {data:?}\n[private]\naddress = \"\"\n[api]\naddress = \"\"\n[log]\nformat \
             = \"human\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n\
             tls = \"required\"\n{listener}\n{all}[[route]]\nlogin = \"ann\"\nnext_hops = [\"0\"]\n\
             [[route]]\nlogin = \"shop.example\"\nnext_hops = [\"1\"]\n[[route]]\nnext_hops = [\"2\"]\n"
        ),
    );
    let relay = Relay::in_folder(folder);
    let certificate = authority.issue("shop.example");
    let connect = |item| Secure::starttls(relay.port, client_config(&authority.file, item));
    let counts = || hops.each_ref().map(NextHop::count);
    let mut client = connect(None);
    assert!(client.message("news@shop.example", "ann@home.example").starts_with("250 "));
    assert_eq!(counts(), [0, 0, 1]);
    assert_eq!(client.say(&format!("AUTH PLAIN {PLAIN}")), 235);
    assert!(client.message("news@shop.example", "ann@home.example").starts_with("250 "));
    assert_eq!(counts(), [1, 0, 1]);
    assert!(connect(Some(&certificate)).message("news@shop.example", "ann@home.example").starts_with("250 "));
    assert_eq!(counts(), [1, 1, 1]);
}

#[test]
fn passwords_cannot_be_guessed_from_where_a_login_leads_to_nothing() {
    let stage = stage("xclient_networks = [\"127.0.0.1\"]\nallowed_networks = [\"192.0.2.0/24\"]");
    let mut client = stage.client();
    for (address, code) in [("203.0.113.7", 502), ("192.0.2.7", 235)] {
        assert_eq!(client.say(&format!("XCLIENT ADDR={address}")), 220);
        assert_eq!(client.ask("EHLO client.example").contains("AUTH"), code == 235);
        assert_eq!(client.say(&format!("AUTH PLAIN {PLAIN}")), code);
    }
}

#[test]
fn malformed_exchanges_end_and_leave_the_session_as_it_was() {
    let stage = stage("require_login = true");
    let mut client = stage.client();
    for (lines, code) in [
        (&["AUTH PLAIN", "*"][..], 501),
        (&["AUTH LOGIN", ANN, "*"], 501),
        (&["AUTH PLAIN ="], 501),
        (&["AUTH PLAIN ???="], 501),
        (&["AUTH CRAM-MD5"], 504),
        (&["AUTH"], 501),
    ] {
        let (last, first) = lines.split_last().unwrap();
        for line in first {
            assert_eq!(client.say(line), 334, "{line}");
        }
        assert_eq!(client.say(last), code, "{lines:?}");
    }
    assert_eq!(client.say(&format!("AUTH PLAIN {PLAIN}")), 235);
}

#[test]
fn a_line_of_the_exchange_may_be_long_but_not_longer_than_12288() {
    let stage = stage("");
    let mut client = stage.client();
    let long = "A".repeat(12_288 - "AUTH PLAIN \r\n".len());
    assert_eq!(client.say(&format!("AUTH PLAIN {}", &long[..long.len() - long.len() % 4])), 501);
    assert_eq!(client.say("AUTH PLAIN"), 334);
    assert_eq!(client.say(&"A".repeat(12_284)), 501);
    assert_eq!(client.say("AUTH PLAIN"), 334);
    assert_eq!(client.say(&"A".repeat(12_288)), 500);
    assert_eq!(client.reply(), "", "the connection ends");
}

#[test]
fn wrong_passwords_wait_longer_and_end_the_session() {
    let stage = stage("require_login = true");
    let mut client = stage.client();
    let mut took = Vec::new();
    for password in [WRONG, "AGV2ZQBzZWNyZXQ=", WRONG] {
        let start = std::time::Instant::now();
        assert!(client.ask(&format!("AUTH PLAIN {password}")).starts_with("535 5.7.8 "));
        took.push(start.elapsed().as_millis());
    }
    assert!(took[0] >= 250 && took[1] >= 500 && took[2] >= 1000, "{took:?}");
    assert!(client.ask(&format!("AUTH PLAIN {WRONG}")).starts_with("421 4.7.0 "));
    assert_eq!(client.reply(), "");
    let line = stage.relay.log.wait("the failure", |line| line.contains("a login failed"));
    assert!(!line.contains("ann") && !line.contains("eve"), "{line}");
}

/// The value of a metric with this beginning, 0 where there is none.
fn metric(port: u16, name: &str) -> u64 {
    let page = support::get(port, "/metrics");
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

#[test]
fn those_who_guess_hold_up_nobody_else_and_cost_a_few_looks() {
    let authority = Authority::new();
    let users = authority.folder.0.join("users");
    write_users(&users, &line("ann", "secret"));
    let (hop, folder) = (NextHop::start(), Folder::new());
    let certificate = authority.issue("localhost").lines();
    let listener = format!("tls = \"implicit\"\n{certificate}\nusers_file = {users:?}\nrequire_login = true");
    let file = configuration(&folder, hop.port, &listener, "", "");
    let private = support::free_port();
    let config = std::fs::read_to_string(&file).unwrap();
    let address = format!("[private]\naddress = \"127.0.0.1:{private}\"");
    std::fs::write(&file, config.replace("[private]\naddress = \"\"", &address)).unwrap();
    let relay = Relay::in_folder(folder);
    let connect = |from: &str| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::new(from.parse().unwrap(), 0).into()).unwrap();
        socket.connect(&std::net::SocketAddr::from(([127, 0, 0, 1], relay.port)).into()).unwrap();
        let stream = std::net::TcpStream::from(socket);
        stream.set_read_timeout(Some(3 * PATIENCE)).unwrap();
        let mut client = Secure::over(stream, client_config(&authority.file, None));
        assert!(client.reply().starts_with("220 "));
        assert_eq!(client.say("EHLO client.example"), 250);
        client
    };
    let start = std::time::Instant::now();
    let mut guessing: Vec<Secure> = (0..300).map(|_| connect("127.0.0.2")).collect();
    for client in &mut guessing {
        client.send(format!("AUTH PLAIN {WRONG}\r\n").as_bytes());
    }
    for number in 0..20 {
        assert_eq!(connect("127.0.0.1").say(&format!("AUTH PLAIN {PLAIN}")), 235, "{number}");
    }
    for client in &mut guessing {
        let reply = client.reply();
        assert!(reply.starts_with("535 5.7.8 ") || reply.starts_with("454 4.7.0 "), "{reply}");
    }
    // Five wrong passwords, and one more for each minute that has passed.
    let most = 5 + start.elapsed().as_secs() / 60;
    let looked_at = metric(private, "pixelward_logins_total{result=\"wrong\"}");
    assert!((1..=most).contains(&looked_at), "{looked_at} passwords were looked at");
    assert_eq!(metric(private, "pixelward_logins_total{result=\"right\"}"), 20);
    assert_eq!(metric(private, "pixelward_logins_total{result=\"refused\"}"), 300 - looked_at);
    assert_eq!(metric(private, "pixelward_logins_total{result=\"busy\"}"), 0);
    // Other sessions and other logins do not help, and neither does the right password.
    for password in [PLAIN, "AGV2ZQBzZWNyZXQ="] {
        assert!(connect("127.0.0.2").ask(&format!("AUTH PLAIN {password}")).starts_with("454 4.7.0 "));
    }
}

#[test]
fn the_users_are_read_again_on_sighup_and_a_file_that_others_read_is_refused() {
    let stage = stage("require_login = true");
    write_users(&stage.users, &line("bob", "other"));
    stage.relay.signal("HUP");
    stage.relay.log.wait("the reload", |line| line.contains("were read again"));
    let mut client = stage.client();
    assert_eq!(client.say(&format!("AUTH PLAIN {PLAIN}")), 535);
    assert_eq!(client.say("AUTH PLAIN AGJvYgBvdGhlcg=="), 235);
    std::fs::set_permissions(&stage.users, std::fs::Permissions::from_mode(0o644)).unwrap();
    stage.relay.signal("HUP");
    let line = stage.relay.log.wait("the refusal", |line| line.contains("the old one stays in force"));
    assert!(line.contains("others can read or write it"), "{line}");
    assert_eq!(stage.client().say("AUTH PLAIN AGJvYgBvdGhlcg=="), 235);
}

#[test]
fn swaks_and_curl_log_in() {
    let stage = stage("require_login = true");
    let login = ["--auth-user", "ann", "--auth-password", "secret"];
    for mechanism in ["PLAIN", "LOGIN"] {
        let output = swaks(stage.relay.port, &[&["--tls", "--auth", mechanism][..], &login].concat());
        assert!(output.status.success(), "{}", text(&output));
    }
    let output = swaks(stage.relay.port, &["--tls"]);
    assert!(text(&output).contains("530 5.7.0"), "{}", text(&output));
    let folder = Folder::new();
    let mail = folder.file("mail", "Subject: a\r\n\r\nb\r\n");
    let curl = |password: &str| {
        let url = format!("smtp://localhost:{}/client.example", stage.relay.port);
        let output = Command::new("curl")
            .args(["-sS", "--max-time", "20", "--ipv4", "--ssl-reqd", "--cacert"])
            .arg(&stage.authority.file)
            .args(["--user", &format!("ann:{password}"), "--mail-from", "news@shop.example"])
            .args(["--mail-rcpt", "ann@home.example", "-T"])
            .arg(&mail)
            .arg(url)
            .output()
            .unwrap();
        output.status.success()
    };
    assert!(curl("secret"));
    assert!(!curl("wrong"));
    assert_eq!(stage.hop.wait(3).len(), 3);
}

/// Types two passwords into `pixelward passwd ann` at a terminal; prints all that the terminal shows, and
/// ends as the command does.
const TERMINAL: &str = r#"
import os, pty, signal, sys
signal.alarm(20)
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], [sys.argv[1], "passwd", "ann"])
shown = b""
for prompt, word in ((b"Password: ", sys.argv[2]), (b"Once more: ", sys.argv[3])):
    while not shown.endswith(prompt):
        shown += os.read(terminal, 1)
    os.write(terminal, word.encode() + b"\n")
try:
    while True:
        byte = os.read(terminal, 1)
        if not byte:
            break
        shown += byte
except OSError:
    pass
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[test]
fn a_terminal_asks_twice_and_does_not_show_the_password() {
    for (second, fits) in [("tell-nobody", true), ("tell-somebody", false)] {
        let output = Command::new("python3")
            .args(["-c", TERMINAL])
            .arg(program().get_program())
            .args(["tell-nobody", second])
            .output()
            .unwrap();
        let shown = text(&output);
        assert_eq!(output.status.success(), fits, "{shown}");
        assert_eq!(shown.contains("\nann:$argon2id$v=19$m=19456,t=2,p=1$"), fits, "{shown}");
        assert!(!shown.contains("tell-"), "{shown}");
    }
}

#[test]
fn settings_that_do_not_go_together_stop_the_start() {
    let folder = Folder::new();
    for (listener, problem) in [
        ("require_login = true", "needs users_file"),
        ("users_file = \"users\"\ntls = \"none\"", "needs TLS"),
    ] {
        configuration(&folder, 1, listener, "", "");
        let output =
            program().args(["check", "--config"]).arg(folder.0.join("config.toml")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && said.contains(problem), "{said}");
    }
}
