//! Dovecot's LMTP server, as it is installed, with a configuration of the test: boxes at home.example, of
//! which Eve's is full.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use super::{Daemon, port, run, wait_for_port};
use crate::support::{Folder, PATIENCE};

/// A Dovecot of our own.
pub struct Dovecot {
    folder: Folder,
    pub port: u16,
    daemon: Daemon,
}

const PEOPLE: &str = "ann@home.example:::::::\nbob@home.example:::::::\n\
                      eve@home.example:::::::userdb_quota_rule=*:bytes=10\n";

impl Dovecot {
    pub fn start() -> Dovecot {
        let folder = Folder::new();
        let port = port();
        for name in ["run", "state", "mail"] {
            std::fs::create_dir_all(folder.0.join(name)).unwrap();
        }
        run(Command::new("chown").arg("postfix").arg(folder.0.join("mail")));
        // Its processes may not be root.
        run(Command::new("chmod").arg("755").arg(&folder.0));
        folder.file("people", PEOPLE);
        let config = format!(
            "base_dir = {at}/run\nstate_dir = {at}/state\nlog_path = {at}/log\nprotocols = lmtp\n\
             listen = 127.0.0.1\nssl = no\nmail_location = maildir:{at}/mail/%n\nmail_uid = postfix\n\
             mail_gid = postfix\nfirst_valid_uid = 1\nmail_plugins = quota\nlda_mailbox_autocreate = yes\n\
             quota_full_tempfail = no\n\
             passdb {{\n  driver = static\n  args = nopassword=y\n}}\n\
             userdb {{\n  driver = passwd-file\n  args = username_format=%u {at}/people\n}}\n\
             plugin {{\n  quota = maildir:User quota\n  quota_grace = 0\n}}\n\
             service lmtp {{\n  unix_listener {at}/lmtp {{\n    mode = 0666\n  }}\n\
             inet_listener lmtp {{\n    address = 127.0.0.1\n    port = {port}\n  }}\n}}\n",
            at = folder.0.display(),
        );
        folder.file("dovecot.conf", &config);
        let daemon =
            Daemon::start(Command::new("dovecot").arg("-F").arg("-c").arg(folder.0.join("dovecot.conf")));
        let dovecot = Dovecot { folder, port, daemon };
        wait_for_port(port, || dovecot.log());
        dovecot
    }

    /// The socket at which it also takes mail.
    pub fn socket(&self) -> PathBuf {
        self.folder.0.join("lmtp")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.0.join("log")).unwrap_or_default()
    }

    /// The mails in a person's box, once there are so many.
    pub fn mails(&self, person: &str, count: usize) -> Vec<String> {
        let folder = self.folder.0.join("mail").join(person).join("new");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let files = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            let mails: Vec<String> =
                files.filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect();
            if mails.len() >= count {
                return mails;
            }
            assert!(Instant::now() < deadline, "{} mails for {person}; {}", mails.len(), self.log());
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
    }
}
