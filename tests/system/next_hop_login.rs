//! How the relay shows a next hop who it is: logins, access tokens, and the address it comes from.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::support::{Client, Folder, Relay, configuration};

/// A next hop that writes down what it hears, and from which address. It accepts a login, or a token that
/// ends in `=`.
struct Hearing {
    port: u16,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Hearing {
    fn start(keywords: &'static str, accepts_token: bool) -> Hearing {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&heard);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let lines = Arc::clone(&lines);
                std::thread::spawn(move || {
                    lines.lock().unwrap().push(format!("from {}", stream.peer_addr().unwrap().ip()));
                    let reader = BufReader::new(stream.try_clone().unwrap());
                    let _ = stream.write_all(b"220 hop.example ESMTP\r\n");
                    for line in reader.lines().map_while(Result::ok) {
                        let reply = match line.as_str() {
                            one if one.starts_with("EHLO") => {
                                format!("250-hop.example\r\n250 {keywords}\r\n")
                            }
                            one if one.starts_with("AUTH XOAUTH2") && !accepts_token => {
                                "334 e30=\r\n".to_owned()
                            }
                            one if one.starts_with("AUTH ") => "235 2.7.0 Welcome\r\n".to_owned(),
                            "" => "535 5.7.8 Not you\r\n".to_owned(),
                            _ => "250 2.0.0 Ok\r\n".to_owned(),
                        };
                        lines.lock().unwrap().push(line);
                        if stream.write_all(reply.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Hearing { port, heard }
    }

    fn said(&self, verb: &str) -> Vec<String> {
        self.heard.lock().unwrap().iter().filter(|line| line.starts_with(verb)).cloned().collect()
    }
}

fn private(folder: &Folder, name: &str, text: &str) -> PathBuf {
    let path = folder.file(name, text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn relay(folder: Folder, hop: u16, lines: &str) -> Relay {
    configuration(&folder, hop, "", lines, "");
    Relay::in_folder(folder)
}

fn mail(relay: &Relay) -> String {
    Client::greeted(relay.port).ask("MAIL FROM:<a@shop.example>")
}

#[test]
fn a_login_is_shown_in_clear_on_this_machine_alone_and_where_tls_is_switched_off() {
    let hop = Hearing::start("AUTH PLAIN", false);
    let folder = Folder::new();
    let login = private(&folder, "login", "relay\nopen sesame\n");
    let relay = relay(folder, hop.port, &format!("tls = \"none\"\ncredentials_file = {login:?}"));
    assert!(mail(&relay).starts_with("250"));
    assert_eq!(hop.said("AUTH"), ["AUTH PLAIN AHJlbGF5AG9wZW4gc2VzYW1l"]);
    let folder = Folder::new();
    let login = private(&folder, "login", "relay\nopen sesame\n");
    let relay =
        self::relay(folder, hop.port, &format!("tls = \"opportunistic\"\ncredentials_file = {login:?}"));
    assert!(mail(&relay).starts_with("451 4.7.5"));
    assert_eq!(hop.said("AUTH").len(), 1);
}

#[test]
fn an_access_token_is_read_for_each_connection() {
    let hop = Hearing::start("AUTH XOAUTH2", true);
    let folder = Folder::new();
    let token = private(&folder, "token", "first\n");
    let lines = "idle_s = 0\noauth_login = \"relay@shop.example\"\noauth_token_file = \"";
    let relay = relay(folder, hop.port, &format!("{lines}{}\"", token.display()));
    let send = || {
        let mut client = Client::greeted(relay.port);
        assert_eq!(client.say("MAIL FROM:<a@shop.example>"), 250);
        assert_eq!(client.say("RSET"), 250);
    };
    send();
    private(&relay.folder, "token", "second\n");
    send();
    // user=relay@shop.example ^A auth=Bearer first ^A ^A, in base64.
    let shown = hop.said("AUTH XOAUTH2 ");
    assert_eq!(shown[0], "AUTH XOAUTH2 dXNlcj1yZWxheUBzaG9wLmV4YW1wbGUBYXV0aD1CZWFyZXIgZmlyc3QBAQ==");
    assert_eq!(shown[1], "AUTH XOAUTH2 dXNlcj1yZWxheUBzaG9wLmV4YW1wbGUBYXV0aD1CZWFyZXIgc2Vjb25kAQE=");
    assert!(!relay.log.all().join("\n").contains("Bearer"));
}

#[test]
fn a_token_that_is_not_accepted_puts_mail_off_and_leaves_an_alarm() {
    let hop = Hearing::start("AUTH XOAUTH2", false);
    let folder = Folder::new();
    let token = private(&folder, "token", "old\n");
    let lines = "oauth_login = \"relay@shop.example\"\noauth_token_file = \"";
    let relay = relay(folder, hop.port, &format!("{lines}{}\"", token.display()));
    assert!(mail(&relay).starts_with("451 4.3.5"));
    relay.log.wait("the alarm", |line| line.contains("ERROR") && line.contains("535 5.7.8"));
}

#[test]
fn a_next_hop_is_asked_from_the_address_that_is_set() {
    let hop = Hearing::start("HELP", false);
    let relay = relay(Folder::new(), hop.port, "source_address = \"127.0.0.5\"");
    assert!(mail(&relay).starts_with("250"));
    assert_eq!(hop.said("from"), ["from 127.0.0.5"]);
}
