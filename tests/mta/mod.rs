//! Mail programs of our own for one test: each in a folder of its own, on ports of its own, stopped when the test ends. Postfix is
//! the installed one; Exim and OpenSMTPD, which exclude it on one machine, run in roots that `unpack` makes.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic
)]

pub mod letter;
pub mod library;
pub mod sink;

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::support::{self, Client, Folder, Lines, PATIENCE, Relay};

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
        if Instant::now() >= deadline {
            let lines: Vec<&str> = log.lines().collect();
            panic!(
                "no line says {what}; the log ends with\n{}",
                lines[lines.len().saturating_sub(40)..].join("\n")
            );
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
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
    let output = relay.command(&["postfix", "--recipe", recipe, "--file", file]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
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

/// A Postfix of our own.
pub struct Postfix {
    pub folder: Folder,
    pub port: u16,
    /// The port at which mail has arrived, where Postfix itself takes it back from the relay before.
    pub last: Option<u16>,
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
    /// With these lines behind those of main.cf.
    pub fn start(main: &str) -> Postfix {
        Postfix::with(main, "")
    }

    /// As the relay's own command says for a recipe, with lines of the test for main.cf in front.
    pub fn by_recipe(relay: &Relay, recipe: &str, main: &str) -> Postfix {
        let postfix = Postfix::with(
            &format!("{main}\n{}", printed(relay, recipe, "main.cf")),
            &printed(relay, recipe, "master.cf"),
        );
        let said = run(Command::new("postconf").arg("-c").arg(postfix.folder.0.join("etc"))).stderr;
        let said = String::from_utf8_lossy(&said);
        assert!(!said.contains("unused") && !said.contains("undefined"), "{said}");
        postfix
    }

    /// One that takes back from the relay what it gave it, and then sends it to this port.
    pub fn taking_back(relay: &Relay, recipe: &str, last: u16) -> Postfix {
        let mut postfix = Postfix::by_recipe(relay, recipe, &format!("relayhost = [127.0.0.1]:{last}"));
        postfix.last = Some(last);
        postfix
    }

    pub fn with(main: &str, master: &str) -> Postfix {
        let folder = Folder::new();
        let port = port();
        let path = |name: &str| folder.0.join(name);
        for name in ["etc", "spool", "data", "log", "mail"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        for name in ["data", "mail"] {
            run(Command::new("chown").arg("postfix").arg(path(name)));
        }
        let id = |what: &str| {
            let output = run(Command::new("id").args([what, "postfix"]));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let main = format!(
            "compatibility_level = 3.6\nqueue_directory = {spool}\ndata_directory = {data}\ncommand_directory = /usr/sbin\n\
             daemon_directory = /usr/lib/postfix/sbin\nmail_owner = postfix\nsetgid_group = postdrop\nmyhostname = mta.example\n\
             mydestination =\nalias_maps =\nalias_database =\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\n\
             mynetworks = 127.0.0.0/8\nsmtpd_relay_restrictions = permit_mynetworks, reject\ndisable_dns_lookups = yes\n\
             smtpd_peername_lookup = no\nsmtp_tls_security_level =\nmaillog_file_prefixes = {log}\nmaillog_file = {log}/mail.log\n\
             message_size_limit = 52428800\nmailbox_size_limit = 0\nvirtual_mailbox_limit = 0\nin_flow_delay = 0\nminimal_backoff_time = 300s\n\
             virtual_mailbox_base = {mail}\nvirtual_uid_maps = static:{uid}\nvirtual_gid_maps = static:{gid}\nvirtual_minimum_uid = 1\n{main}\n",
            spool = path("spool").display(),
            data = path("data").display(),
            log = path("log").display(),
            mail = path("mail").display(),
            uid = id("-u"),
            gid = id("-g"),
        );
        std::fs::write(path("etc/main.cf"), main).unwrap();
        let master = format!("127.0.0.1:{port} inet n - n - - smtpd\n{MASTER}{master}");
        std::fs::write(path("etc/master.cf"), master).unwrap();
        let postfix = Postfix { folder, port, last: None };
        run(postfix.command("postfix").arg("start"));
        wait_for_port(port, || postfix.log());
        postfix
    }

    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.arg("-c").arg(self.folder.0.join("etc"));
        command
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.0.join("log/mail.log")).unwrap_or_default()
    }

    /// The first line of the log that has all of these.
    pub fn line(&self, parts: &[&str]) -> String {
        until(&format!("{parts:?}"), || self.log(), |line| parts.iter().all(|part| line.contains(part)))
    }

    pub fn flush(&self) {
        run(self.command("postqueue").arg("-f"));
    }

    /// The mails in a person's box, once there are so many.
    pub fn mails(&self, person: &str, count: usize) -> Vec<String> {
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

impl Mta for Postfix {
    fn port(&self) -> u16 {
        self.port
    }

    fn log(&self) -> String {
        Postfix::log(self)
    }

    fn says(&self, line: &str, to: &str, fate: Fate) -> bool {
        let status = match fate {
            Fate::Sent => "status=sent",
            Fate::Deferred => "status=deferred",
            Fate::Failed => "status=bounced",
        };
        let last = self.last.is_none_or(|last| line.contains(&format!("]:{last},")));
        line.contains(&format!("to=<{to}>")) && line.contains(status) && last
    }

    fn flush(&self) {
        Postfix::flush(self);
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let _ = self.command("postfix").arg("stop").output();
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
        let own = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mta/unpack");
        run(Command::new(script).arg(package).arg(own.join("mta")));
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = own.join(format!("{package}-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        // Files are shared with what was unpacked: they are replaced, never written into.
        run(Command::new("cp").arg("-al").arg(own.join("mta").join(package)).arg(&path));
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

/// An Exim of our own, which sends everything to the relay.
pub struct Exim {
    // The daemon goes before its root.
    daemon: Daemon,
    root: Root,
    port: u16,
}

/// The part of its configuration that docs/deploying.md shows.
pub fn exim_recipe(relay: u16) -> (String, String) {
    let router = format!(
        "pixelward:\n  driver = manualroute\n  domains = ! +local_domains\n  route_list = * 127.0.0.1::{relay}\n  self = send\n  \
         transport = pixelward\n  no_more\n"
    );
    (router, "pixelward:\n  driver = smtp\n".to_owned())
}

impl Exim {
    pub fn start(relay: u16) -> Exim {
        const OWNER: u32 = 9901;
        let root = Root::of("exim4-daemon-light", &[("Debian-exim", OWNER)]);
        for folder in ["var/spool/exim4", "var/log/exim4"] {
            root.folder(folder, Some(OWNER));
        }
        let port = port();
        let (router, transport) = exim_recipe(relay);
        root.file(
            "etc/exim4/exim4.conf",
            &format!(
                "primary_hostname = mta.example\nspool_directory = /var/spool/exim4\nlog_file_path = /var/log/exim4/%slog\n\
                 local_interfaces = 127.0.0.1\ndaemon_smtp_ports = {port}\ndisable_ipv6 = true\nkeep_environment =\n\
                 domainlist local_domains =\nsmtputf8_advertise_hosts = *\ntls_advertise_hosts =\nacl_smtp_rcpt = everybody\n\
                 acl_smtp_data = everybody\nrfc1413_query_timeout = 0s\nhost_lookup =\nmessage_size_limit = 50M\n\
                 recipients_max = 1000\nlog_selector = +smtp_confirmation\n\
                 begin acl\neverybody:\n  accept\nbegin routers\n{router}begin transports\n{transport}begin retry\n* * F,2h,5m\n"
            ),
        );
        let daemon = Daemon::start(root.command("/usr/sbin/exim4").arg("-bdf"));
        let exim = Exim { daemon, root, port };
        wait_for_port(port, || exim.log());
        exim
    }
}

impl Mta for Exim {
    fn port(&self) -> u16 {
        self.port
    }

    fn log(&self) -> String {
        ["mainlog", "paniclog"]
            .map(|name| {
                std::fs::read_to_string(self.root.path(&format!("var/log/exim4/{name}"))).unwrap_or_default()
            })
            .concat()
    }

    fn says(&self, line: &str, to: &str, fate: Fate) -> bool {
        let marks: &[&str] = match fate {
            Fate::Sent => &["=>", "->"],
            Fate::Deferred => &["=="],
            Fate::Failed => &["**"],
        };
        marks.iter().any(|mark| line.contains(&format!(" {mark} {to} ")))
    }

    fn flush(&self) {
        run(self.root.command("/usr/sbin/exim4").arg("-qff"));
    }
}

/// An OpenSMTPD of our own, which sends everything to the relay.
pub struct OpenSmtpd {
    daemon: Daemon,
    root: Root,
    log: Lines,
    port: u16,
}

/// The part of its configuration that docs/deploying.md shows.
pub fn opensmtpd_recipe(scheme: &str, relay: u16) -> String {
    format!(
        "action \"pixelward\" relay host {scheme}://127.0.0.1:{relay}\nmatch from any for any action \"pixelward\"\n"
    )
}

impl OpenSmtpd {
    /// `scheme` is smtp or lmtp.
    pub fn start(scheme: &str, relay: u16) -> OpenSmtpd {
        const QUEUE: u32 = 9903;
        let root = Root::of("opensmtpd", &[("opensmtpd", 9902), ("opensmtpq", QUEUE)]);
        root.folder("var/lib/opensmtpd/empty", None);
        // It does nothing unless it belongs to the queue's group, as an installation would have it.
        let (control, own) = (root.path("usr/sbin/smtpctl"), root.path("usr/sbin/smtpctl.own"));
        std::fs::copy(&control, &own).unwrap();
        std::os::unix::fs::chown(&own, Some(0), Some(QUEUE)).unwrap();
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o2755)).unwrap();
        std::fs::rename(own, control).unwrap();
        let port = port();
        let recipe = opensmtpd_recipe(scheme, relay);
        root.file(
            "etc/smtpd.conf",
            &format!("smtp max-message-size 50M\nlisten on 127.0.0.1 port {port}\n{recipe}"),
        );
        let mut command = root.command("/usr/sbin/smtpd");
        let mut daemon = Daemon::start(command.args(["-d", "-f", "/etc/smtpd.conf"]).stderr(Stdio::piped()));
        let log = Lines::follow(daemon.0.stderr.take().unwrap());
        wait_for_port(port, || log.all().join("\n"));
        OpenSmtpd { daemon, root, log, port }
    }
}

impl Mta for OpenSmtpd {
    fn port(&self) -> u16 {
        self.port
    }

    fn log(&self) -> String {
        self.log.all().join("\n")
    }

    fn says(&self, line: &str, to: &str, fate: Fate) -> bool {
        let result = match fate {
            Fate::Sent => "result=\"Ok\"",
            Fate::Deferred => "result=\"TempFail\"",
            Fate::Failed => "result=\"PermFail\"",
        };
        line.contains(&format!("to=<{to}>")) && line.contains(result)
    }

    fn flush(&self) {
        run(self.root.command("/usr/sbin/smtpctl").args(["schedule", "all"]));
    }
}
