//! Postfix, as it is installed, with a configuration of the test.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Fate, Mta, port, printed, run, until, wait_for_port};
use crate::support::{Folder, PATIENCE, Relay, bounded};

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
            "compatibility_level = 3.6\nqueue_directory = {spool}\ndata_directory = \
             {data}\ncommand_directory = /usr/sbin\n\
             daemon_directory = /usr/lib/postfix/sbin\nmail_owner = postfix\nsetgid_group = \
             postdrop\nmyhostname = mta.example\n\
             mydestination =\nalias_maps =\nalias_database =\ninet_interfaces = 127.0.0.1\ninet_protocols = \
             ipv4\n\
             mynetworks = 127.0.0.0/8\nsmtpd_relay_restrictions = permit_mynetworks, \
             reject\ndisable_dns_lookups = yes\n\
             smtpd_peername_lookup = no\nsmtp_tls_security_level =\nmaillog_file_prefixes = \
             {log}\nmaillog_file = {log}/mail.log\n\
             message_size_limit = 52428800\nmailbox_size_limit = 0\nvirtual_mailbox_limit = 0\nin_flow_delay \
             = 0\nminimal_backoff_time = 300s\n\
             virtual_mailbox_base = {mail}\nvirtual_uid_maps = static:{uid}\nvirtual_gid_maps = \
             static:{gid}\nvirtual_minimum_uid = 1\n{main}\n",
            spool = path("spool").display(),
            data = path("data").display(),
            log = path("log").display(),
            mail = path("mail").display(),
            uid = id("-u"),
            gid = id("-g"),
        );
        std::fs::write(path("etc/main.cf"), each_setting_once(&main)).unwrap();
        let master = format!("127.0.0.1:{port} inet n - n - - smtpd\n{MASTER}{master}");
        std::fs::write(path("etc/master.cf"), master).unwrap();
        let postfix = Postfix { folder, port, last: None };
        run(postfix.command("postfix").arg("start"));
        wait_for_port(port, || postfix.log());
        postfix
    }

    pub fn command(&self, name: &str) -> Command {
        let mut command = bounded(30, name);
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

/// The last line for each setting. Of a second one every process of Postfix warns as it starts, the one that
/// writes the log too, and that one can then wait for itself for ever.
fn each_setting_once(main: &str) -> String {
    let name = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
    let lines: Vec<&str> = main.lines().collect();
    let last = |at: usize| {
        lines[at].starts_with('#') || lines[at + 1..].iter().all(|later| name(later) != name(lines[at]))
    };
    (0..lines.len()).filter(|at| last(*at)).map(|at| format!("{}\n", lines[at])).collect()
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
        // `postfix stop` waits for a second or more; nothing here is worth that.
        let spool = self.folder.0.join("spool");
        let master = std::fs::read_to_string(spool.join("pid/master.pid")).unwrap_or_default();
        let master = master.trim();
        if std::fs::read_link(format!("/proc/{master}/cwd")).is_ok_and(|value| value == spool) {
            let _ = Command::new("kill").args(["-s", "KILL", "--", &format!("-{master}")]).status();
        }
    }
}
