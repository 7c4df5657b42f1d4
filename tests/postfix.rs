//! Real Postfix on both sides: one that uses the relay as its relayhost, and one that is the next hop. Needs root and the package
//! postfix; `make test` installs it. Each instance lives in a folder of its own, on ports of its own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice)]

mod support;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use support::{
    Answer, Behaviour, Client, Folder, NextHop, PATIENCE, Relay, Step, crlf, free_port, newsletter,
};

/// A Postfix of our own.
struct Postfix {
    folder: Folder,
    port: u16,
}

const MASTER: &str = "\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
";

impl Postfix {
    fn start(settings: &str) -> Postfix {
        let folder = Folder::new();
        let port = free_port();
        let path = |name: &str| folder.0.join(name);
        for name in ["etc", "spool", "data", "log", "mail"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        for name in ["data", "mail"] {
            run(Command::new("chown").arg("postfix").arg(path(name)));
        }
        let id = |what: &str| {
            let output = Command::new("id").args([what, "postfix"]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let main = format!(
            "compatibility_level = 3.6\nqueue_directory = {spool}\ndata_directory = {data}\ncommand_directory = /usr/sbin\n\
             daemon_directory = /usr/lib/postfix/sbin\nmail_owner = postfix\nsetgid_group = postdrop\nmyhostname = mta.example\n\
             mydestination =\nalias_maps =\nalias_database =\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\n\
             mynetworks = 127.0.0.0/8\nsmtpd_relay_restrictions = permit_mynetworks, reject\ndisable_dns_lookups = yes\n\
             smtpd_peername_lookup = no\nsmtp_tls_security_level =\nmaillog_file_prefixes = {log}\nmaillog_file = {log}/mail.log\n\
             message_size_limit = 52428800\nmailbox_size_limit = 0\nvirtual_mailbox_limit = 0\nin_flow_delay = 0\nminimal_backoff_time = 300s\n\
             virtual_mailbox_base = {mail}\nvirtual_uid_maps = static:{uid}\nvirtual_gid_maps = static:{gid}\nvirtual_minimum_uid = 1\n{settings}\n",
            spool = path("spool").display(),
            data = path("data").display(),
            log = path("log").display(),
            mail = path("mail").display(),
            uid = id("-u"),
            gid = id("-g"),
        );
        std::fs::write(path("etc/main.cf"), main).unwrap();
        std::fs::write(path("etc/master.cf"), format!("127.0.0.1:{port} inet n - n - - smtpd\n{MASTER}"))
            .unwrap();
        let postfix = Postfix { folder, port };
        run(postfix.command("postfix").arg("start"));
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "Postfix does not listen: {}", postfix.log());
            std::thread::yield_now();
        }
        postfix
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.arg("-c").arg(self.folder.0.join("etc"));
        command
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.0.join("log/mail.log")).unwrap_or_default()
    }

    /// The first line of the log that has all of these.
    fn wait(&self, parts: &[&str]) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| parts.iter().all(|part| line.contains(part))) {
                return line.to_owned();
            }
            assert!(Instant::now() < deadline, "no line with {parts:?} in\n{log}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    fn flush(&self) {
        run(self.command("postqueue").arg("-f"));
    }

    /// The mails in a person's box, once there are so many.
    fn mails(&self, person: &str, count: usize) -> Vec<String> {
        let folder = self.folder.0.join("mail").join(person).join("new");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let files: Vec<PathBuf> = std::fs::read_dir(&folder)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path())
                .collect();
            if files.len() >= count {
                return files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
            }
            assert!(Instant::now() < deadline, "{} mails for {person}; {}", files.len(), self.log());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let _ = self.command("postfix").arg("stop").output();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A Postfix whose relayhost is the relay.
fn client_of(relay: &Relay) -> Postfix {
    Postfix::start(&format!("relayhost = [127.0.0.1]:{}", relay.port))
}

/// A Postfix that takes mail for home.example into boxes.
fn receiver(settings: &str) -> Postfix {
    let boxes = Folder::new();
    let postfix = Postfix::start(&format!(
        "virtual_mailbox_domains = home.example\nvirtual_mailbox_maps = static:all/\n{settings}"
    ));
    drop(boxes);
    postfix
}

fn send(postfix: &Postfix, to: &[&str], message: &str) {
    let reply = Client::greeted(postfix.port).message("news@shop.example", to, message);
    assert!(reply.starts_with("250"), "{reply}");
}

/// What stands below the trace header of the sending Postfix: the mail as it was written.
fn as_written(mail: &str) -> String {
    let mail = mail.replace("\r\n", "\n");
    let (_, below) = mail.split_once("(pixelward) with ESMTP").expect("our trace header");
    let (_, below) =
        below.split_once("by mta.example (Postfix)").expect("the sending Postfix's trace header");
    let start = below.find("\nFrom: ").expect("the mail's first field") + 1;
    below[start..].to_owned()
}

#[test]
fn each_recipient_gets_what_that_recipient_agreed_to() {
    let next = receiver("");
    let relay = Relay::start(next.port);
    relay.say("ann@home.example", "granted");
    relay.say("bob@home.example", "refused");
    let sender = client_of(&relay);
    let (with, without) = newsletter("reader@home.example");
    for (number, (to, wanted)) in
        [("ann@home.example", &with), ("bob@home.example", &without)].into_iter().enumerate()
    {
        send(&sender, &[to], &with);
        let line = sender.wait(&[&format!("to=<{to}>"), "status=sent"]);
        assert!(line.contains("queued as"), "the next hop's queue id reaches the log: {line}");
        let mails = next.mails("all", number + 1);
        let mail = mails
            .iter()
            .find(|mail| mail.contains(&format!("Delivered-To: {to}")))
            .expect("a mail for the recipient");
        assert_eq!(&as_written(mail), wanted, "{to}");
    }
}

#[test]
fn over_tls_with_a_certificate_of_our_own() {
    let certificates = Folder::new();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificates.file("next.pem", &made.cert.pem());
    let key = certificates.file("next.key", &made.signing_key.serialize_pem());
    let next = receiver(&format!(
        "smtpd_tls_security_level = encrypt\nsmtpd_tls_cert_file = {}\nsmtpd_tls_key_file = {}\nsmtpd_tls_received_header = yes",
        certificate.display(),
        key.display()
    ));
    let relay = Relay::with(next.port, "", &format!("tls = \"required\"\nca_file = {certificate:?}"), "");
    let sender = client_of(&relay);
    let (with, without) = newsletter("eve@home.example");
    send(&sender, &["eve@home.example"], &with);
    sender.wait(&["to=<eve@home.example>", "status=sent"]);
    let mail = next.mails("all", 1).remove(0);
    assert!(mail.contains("using TLSv1.3"), "{mail}");
    assert_eq!(as_written(&mail), without);
}

#[test]
fn what_the_next_hop_says_reaches_the_log_of_postfix_and_decides_there() {
    for (step, reply, status) in [
        (Step::Mail, "452 4.3.1 Mailbox disk full", "deferred"),
        (Step::Mail, "550 5.7.1 Sender not wanted", "bounced"),
        (Step::Rcpt, "450 4.2.1 Come back later", "deferred"),
        (Step::Rcpt, "550 5.1.1 No such user here", "bounced"),
        (Step::Data, "451 4.3.0 Not just now", "deferred"),
        (Step::Data, "554 5.7.0 Never", "bounced"),
        (Step::Dot, "451 4.7.1 Greylisted", "deferred"),
        (Step::Dot, "554 5.7.1 Message refused", "bounced"),
    ] {
        let next = NextHop::behaving(&[(step, Answer::Say(reply))]);
        let relay = Relay::start(next.port);
        let sender = client_of(&relay);
        send(&sender, &["eve@home.example"], &newsletter("eve@home.example").0);
        let line = sender.wait(&["to=<eve@home.example>", &format!("status={status}")]);
        assert!(line.contains(reply), "{reply} is not in {line}");
        // A bounce is mail of its own, to the sender.
        let deliveries = next.deliveries.0.lock().unwrap().clone();
        let taken =
            |own: &support::Delivery| own.reply.starts_with('2') && own.rcpts.concat().contains("eve@");
        assert!(!deliveries.iter().any(taken));
    }
}

#[test]
fn a_next_hop_that_was_down_gets_the_mail_once_it_is_back_and_once_only() {
    let port = free_port();
    let relay = Relay::start(port);
    let sender = client_of(&relay);
    let (with, without) = newsletter("eve@home.example");
    send(&sender, &["eve@home.example"], &with);
    let line = sender.wait(&["to=<eve@home.example>", "status=deferred"]);
    assert!(line.contains("451 4.4.2"), "{line}");
    let next = NextHop::on(port, Behaviour::default());
    sender.flush();
    sender.wait(&["to=<eve@home.example>", "status=sent"]);
    let delivery = next.wait(1).remove(0);
    assert!(
        crlf(&as_written(&String::from_utf8(delivery.data).unwrap()))
            .replace("\r\n..", "\r\n.")
            .contains(&crlf(&without)[20..])
    );
    sender.flush();
    sender.wait(&["removed"]);
    assert_eq!(next.count(), 1);
}
