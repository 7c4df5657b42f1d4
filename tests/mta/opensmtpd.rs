//! OpenSMTPD, in a root of its own.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use super::{Daemon, Fate, Mta, Root, documented_block, port, run, wait_for_port};
use crate::support::Lines;

/// An OpenSMTPD of our own, which sends everything to the relay.
pub struct OpenSmtpd {
    daemon: Daemon,
    root: Root,
    log: Lines,
    port: u16,
}

impl OpenSmtpd {
    pub fn start(relay: u16) -> OpenSmtpd {
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
        let recipe = documented_block("## OpenSMTPD", "action ").replace("2525", &relay.to_string());
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
