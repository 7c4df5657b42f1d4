//! Exim, in a root of its own.

use super::{Daemon, Fate, Mta, Root, documented_block, port, run, wait_for_port};

/// An Exim of our own, which sends everything to the relay.
pub struct Exim {
    // The daemon goes before its root.
    daemon: Daemon,
    root: Root,
    port: u16,
}

impl Exim {
    pub fn start(relay: u16) -> Exim {
        Exim::with(relay, "")
    }

    pub fn over_lmtp(relay: u16) -> Exim {
        Exim::with(relay, "  protocol = lmtp\n")
    }

    /// As docs/deploying.md says, with lines behind those of the transport.
    fn with(relay: u16, more: &str) -> Exim {
        const OWNER: u32 = 9901;
        let root = Root::of("exim4-daemon-light", &[("Debian-exim", OWNER)]);
        for folder in ["var/spool/exim4", "var/log/exim4"] {
            root.folder(folder, Some(OWNER));
        }
        let port = port();
        let router = documented_block("## Exim", "driver = manualroute").replace("2525", &relay.to_string());
        let transport = documented_block("## Exim", "driver = smtp") + more;
        root.file(
            "etc/exim4/exim4.conf",
            &format!(
                "primary_hostname = mta.example\nspool_directory = /var/spool/exim4\nlog_file_path = \
                 /var/log/exim4/%slog\n\
                 local_interfaces = 127.0.0.1\ndaemon_smtp_ports = {port}\ndisable_ipv6 = \
                 true\nkeep_environment =\n\
                 domainlist local_domains =\nsmtputf8_advertise_hosts = *\ntls_advertise_hosts \
                 =\nacl_smtp_rcpt = everybody\n\
                 acl_smtp_data = everybody\nrfc1413_query_timeout = 0s\nhost_lookup =\nmessage_size_limit = \
                 50M\n\
                 recipients_max = 1000\nlog_selector = +smtp_confirmation\n\
                 begin acl\neverybody:\n  accept\nbegin routers\n{router}begin transports\n{transport}begin \
                 retry\n* * F,2h,5m\n"
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
