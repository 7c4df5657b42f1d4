//! Load balancers that look whether the relay answers: they get their answer, and the log stays quiet. Needs
//! the package haproxy.

use crate::mta;
use crate::support;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Client, Folder, NextHop, PATIENCE, Relay, configuration, free_port, get};

const BEHIND_A_PROXY: &str =
    "proxy_protocol = \"required\"\nproxy_networks = [\"127.0.0.1\"]\nallowed_networks = [\"192.0.2.0/24\"]";

/// HAProxy in front of a relay, as docs/deploying.md has it, with health checks.
struct HaProxy {
    child: Child,
    port: u16,
    statistics: u16,
    _folder: Folder,
}

impl HaProxy {
    fn start(relay: u16, server: &str, check: &str) -> HaProxy {
        let folder = Folder::new();
        let (port, statistics) = (mta::port(), mta::port());
        let settings = format!(
            "global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client \
             30s\n  timeout server 30s\n\
             frontend stats\n  mode http\n  bind 127.0.0.1:{statistics}\n  stats enable\n  stats uri /\n\
             frontend mail\n  bind 127.0.0.1:{port}\n  default_backend relay\n\
             backend relay\n  {check}\n  server relay 127.0.0.1:{relay} check inter 100ms {server}\n"
        );
        let path = folder.file("haproxy.cfg", &settings);
        let child =
            Command::new("haproxy").args(["-db", "-f"]).arg(path).stderr(Stdio::null()).spawn().unwrap();
        HaProxy { child, port, statistics, _folder: folder }
    }

    /// The state of the relay as HAProxy sees it, once it has looked often enough.
    fn state(&self) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "HAProxy does not look");
            let page = get(self.statistics, "/;csv");
            let row =
                page.lines().find(|line| line.starts_with("relay,relay,")).unwrap_or_default().to_owned();
            let fields: Vec<&str> = row.split(',').collect();
            // The checks that failed, the state, and what the last check came to.
            if let (Some(state), Some(check)) = (fields.get(17), fields.get(36))
                && !check.is_empty()
                && !check.starts_with("INI")
                && !check.starts_with('*')
            {
                return format!("{state} {check}");
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn warnings(relay: &Relay) -> Vec<String> {
    relay.log.all().into_iter().filter(|line| line.contains(" WARN ") && !line.contains("network")).collect()
}

#[test]
fn haproxy_finds_the_relay_up_by_smtp_and_by_a_bare_connection() {
    for server in ["send-proxy", "send-proxy-v2"] {
        for check in ["option smtpchk EHLO health.example", "option tcp-check"] {
            let hop = NextHop::start();
            let relay = Relay::with(hop.port, BEHIND_A_PROXY, "", "");
            let proxy = HaProxy::start(relay.port, server, check);
            let state = proxy.state();
            assert!(state.starts_with("UP"), "{server}, {check}: {state}");
            // The proxy itself may look, and not send.
            let mut client = Client::greeted(proxy.port);
            assert_eq!(client.say("MAIL FROM:<a@shop.example>"), 554);
            assert_eq!(warnings(&relay), Vec::<String>::new(), "{server}, {check}");
        }
    }
}

#[test]
fn a_bare_connection_is_quiet_and_a_word_from_a_stranger_is_not() {
    let hop = NextHop::start();
    for listener in [
        BEHIND_A_PROXY,
        "proxy_protocol = \"required\"\nproxy_networks = [\"192.0.2.1\"]\nallowed_networks = \
         [\"192.0.2.0/24\"]",
    ] {
        let relay = Relay::with(hop.port, listener, "", "");
        let stream = TcpStream::connect(("127.0.0.1", relay.port)).unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
        drop(stream);
        relay.log.wait("the probe", |line| line.contains("closed without a word"));
        assert_eq!(warnings(&relay), Vec::<String>::new());
        let mut stream = TcpStream::connect(("127.0.0.1", relay.port)).unwrap();
        stream.write_all(b"EHLO stranger.example\r\n").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
        relay.log.wait("the warning", |line| line.contains(" WARN ") && line.contains("trusted proxy"));
    }
}

#[test]
fn metrics_beyond_this_machine_need_a_token_or_a_network() {
    let (hop, port) = (NextHop::start(), free_port());
    let start = |private: &str, token: Option<u32>| {
        let folder = Folder::new();
        if let Some(mode) = token {
            let path = folder.file("metrics.token", "sesame\n");
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = configuration(&folder, hop.port, "", "", "");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(
            &path,
            text.replace(
                "[private]\naddress = \"\"",
                &format!("[private]\n{}", private.replace("{folder}", &folder.0.display().to_string())),
            ),
        )
        .unwrap();
        folder
    };
    let folder = start(&format!("address = \"0.0.0.0:{port}\""), None);
    let output =
        support::program().args(["check", "--config"]).arg(folder.0.join("config.toml")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("private.networks or private.token_file"), "{said}");
    let token = format!("address = \"0.0.0.0:{port}\"\ntoken_file = \"{{folder}}/metrics.token\"");
    let _relay = Relay::in_folder(start(&token, Some(0o600)));
    assert!(get(port, "/healthz").contains("200 OK"));
    assert!(get(port, "/metrics").contains("401 Unauthorized"));
    let with_token =
        |token: &str| get(port, &format!("/metrics HTTP/1.1\r\nAuthorization: Bearer {token}\r\nX: "));
    assert!(with_token("sesame").contains("pixelward_messages_total"));
    assert!(with_token("sesam").contains("401 Unauthorized"));
}
