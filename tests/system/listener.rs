//! What a listener is told of its clients (PROXY protocol, XCLIENT, XFORWARD), and its limits.

use crate::secure::{Authority, Secure, client_config, swaks, text};
use crate::support::{Client, Folder, NextHop, Relay, configuration, free_port, get, program};

const FROM: &str = "news@shop.example";
const TO: &str = "ann@home.example";
const MAIL: &str = "Subject: a\n\nb\n";
const BEHIND_PROXY: &str = "proxy_protocol = \"required\"\nproxy_networks = \
                            [\"127.0.0.1\"]\nallowed_networks = [\"192.0.2.0/24\", \"2001:db8::/32\"]";

/// The header of version 2 for a client on IPv4.
fn version_2(client: [u8; 4], command: u8) -> Vec<u8> {
    let addresses = [&client[..], &[198, 51, 100, 1], &4711u16.to_be_bytes(), &25u16.to_be_bytes()].concat();
    // Behind the addresses stands a TLV, which is skipped.
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, 0x11, 0, 16], &addresses, &[4, 0, 1, 0]].concat()
}

fn behind(port: u16, header: &[u8]) -> Client {
    let mut client = Client::connect(port);
    client.send(header);
    client
}

fn trace(hop: &NextHop, count: usize) -> String {
    String::from_utf8(hop.wait(count).pop().unwrap().data).unwrap()
}

#[test]
fn behind_a_proxy_the_client_is_the_one_that_the_proxy_names() {
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, BEHIND_PROXY, "", "");
    let headers: [(Vec<u8>, &str); 4] = [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n".to_vec(), "([192.0.2.7])"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 25\r\n".to_vec(), "([IPv6:2001:db8::7])"),
        (version_2([192, 0, 2, 8], 0x21), "([192.0.2.8])"),
        // A health check of the proxy itself.
        (version_2([203, 0, 113, 1], 0x20), "([127.0.0.1])"),
    ];
    for (number, (header, address)) in headers.iter().enumerate() {
        let mut client = behind(relay.port, header);
        assert_eq!(client.code(), 220, "{address}");
        assert_eq!(client.say("EHLO client.example"), 250);
        assert!(client.message(FROM, &[TO], MAIL).starts_with("250 "));
        assert!(trace(&hop, number + 1).contains(address), "{}", trace(&hop, number + 1));
    }
    let mut stranger = behind(relay.port, b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 25\r\n");
    assert!(stranger.reply().starts_with("554 5.7.1 "));
    // What follows the header in the same segment is the client's.
    let mut eager =
        behind(relay.port, b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\nEHLO client.example\r\n");
    assert_eq!((eager.code(), eager.code()), (220, 250));
}

#[test]
fn tls_from_the_first_byte_on_begins_behind_the_header() {
    let authority = Authority::new();
    let hop = NextHop::start();
    let lines = format!("{BEHIND_PROXY}\ntls = \"implicit\"\n{}", authority.issue("localhost").lines());
    let relay = Relay::with(hop.port, &lines, "", "");
    for header in [b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n".to_vec(), version_2([192, 0, 2, 7], 0x21)]
    {
        let tcp = behind(relay.port, &header).into_stream();
        let mut client = Secure::over(tcp, client_config(&authority.file, None));
        assert!(client.reply().starts_with("220 "));
        assert_eq!(client.say("EHLO client.example"), 250);
        assert!(client.message(FROM, TO).starts_with("250 "));
    }
    assert!(trace(&hop, 2).contains("([192.0.2.7])"));
}

#[test]
fn whoever_names_no_client_is_dropped_without_a_word() {
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, &format!("{BEHIND_PROXY}\nidle_timeout_s = 1"), "", "");
    for header in [
        b"EHLO client.example\r\n".as_slice(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
        b"PROXY UNKNOWN \
          xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        b"PROXY TCP4 192.0.2.7 198",
    ] {
        assert_eq!(behind(relay.port, header).reply(), "", "{}", String::from_utf8_lossy(header));
    }
    relay.log.wait("the time limit", |line| line.contains("no PROXY header arrived in time"));
    let elsewhere = BEHIND_PROXY.replace("127.0.0.1", "192.0.2.1");
    let folder = Folder::new();
    let file = configuration(&folder, hop.port, &elsewhere, "", "");
    let port = free_port();
    let lines = std::fs::read_to_string(&file).unwrap();
    let private = format!("[private]\naddress = \"127.0.0.1:{port}\"");
    std::fs::write(&file, lines.replace("[private]\naddress = \"\"", &private)).unwrap();
    let relay = Relay::in_folder(folder);
    let mut client = behind(relay.port, b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n");
    assert_eq!(client.reply(), "");
    relay.log.wait("the drop", |line| line.contains("the address is not in proxy_networks"));
    let page = get(port, "/metrics");
    assert!(page.contains("\npixelward_proxy_refused_total 1\n"), "{page}");
}

#[test]
fn what_a_proxy_tells_is_never_this_machine() {
    let hop = NextHop::start();
    let trusts = "proxy_protocol = \"required\"\nproxy_networks = [\"127.0.0.1\"]\n\
                  xclient_networks = [\"127.0.0.1\"]\nxforward_networks = [\"127.0.0.1\"]";
    let relay = Relay::with(hop.port, trusts, "", "");
    let unknown = [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[0x21, 0, 0, 0]].concat();
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN 127.0.0.1 127.0.0.1 4711 25\r\n".to_vec(),
        b"PROXY TCP4 127.0.0.1 127.0.0.1 4711 25\r\n".to_vec(),
        b"PROXY TCP6 ::1 ::1 4711 25\r\n".to_vec(),
        b"PROXY TCP6 ::ffff:127.0.0.1 ::1 4711 25\r\n".to_vec(),
        version_2([127, 0, 0, 1], 0x21),
        unknown.clone(),
    ] {
        // It may be the proxy's own health check, which is greeted and has no permission.
        let shown = String::from_utf8_lossy(&header);
        let mut client = behind(relay.port, &header);
        let reply = client.reply();
        if shown.contains("TCP6 ::1 ") {
            // That is not the address of the proxy.
            assert!(reply.starts_with("554 5.7.1 "), "{reply} {shown}");
            continue;
        }
        assert!(reply.starts_with("220 "), "{reply} {shown}");
        let announced = client.ask("EHLO client.example");
        assert!(!announced.contains("XCLIENT") && !announced.contains("XFORWARD"), "{announced} {shown}");
        let reply = client.ask("MAIL FROM:<news@shop.example>");
        assert!(reply.starts_with("554 5.7.1 "), "{reply} {shown}");
    }
    // Nor is what XCLIENT tells; and who comes through a proxy is trusted with neither command.
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, "xclient_networks = [\"127.0.0.1\"]", "", "");
    let mut client = Client::greeted(relay.port);
    assert!(client.ask("XCLIENT ADDR=127.0.0.1").starts_with("220 "));
    assert_eq!(client.say("EHLO client.example"), 250);
    assert!(client.ask("MAIL FROM:<news@shop.example>").starts_with("554 5.7.1 "));
    let networks = "allowed_networks = [\"0.0.0.0/0\"]";
    let relay = Relay::with(hop.port, &format!("{trusts}\n{networks}"), "", "");
    let mut client = behind(relay.port, b"PROXY TCP4 127.0.0.1 127.0.0.1 4711 25\r\n");
    assert_eq!(client.code(), 220, "who lists an address means it");
    let announced = client.ask("EHLO client.example");
    assert!(
        announced.starts_with("250") && !announced.contains("XCLIENT") && !announced.contains("XFORWARD")
    );
    let mut client = behind(relay.port, &unknown);
    assert_eq!((client.code(), client.say("EHLO client.example")), (220, 250));
    assert!(
        client.ask("MAIL FROM:<news@shop.example>").starts_with("554 5.7.1 "),
        "unknown is in no network"
    );
}

#[test]
fn networks_of_everybody_are_told_by_check_and_run() {
    let lists = "allowed_networks = [\"::ffff:0:0/96\", \"192.0.2.0/24\"]\nproxy_protocol = \"required\"\n\
                 proxy_networks = [\"::/0\"]\n\
                 xclient_networks = [\"0.0.0.0/0\"]\nxforward_networks = [\"128.0.0.0/1\"]";
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, lists, "", "");
    let checked = String::from_utf8(relay.command(&["check"]).stdout).unwrap();
    for (network, meaning) in [
        ("0.0.0.0/0 in allowed_networks covers every IPv4 address: ", "(an open relay)"),
        ("::/0 in proxy_networks covers every IPv6 address: ", "in a PROXY header"),
        ("0.0.0.0/0 in xclient_networks covers every IPv4 address: ", "with XCLIENT"),
        ("128.0.0.0/1 in xforward_networks covers 2^31 IPv4 addresses: ", "with XFORWARD"),
    ] {
        let told = checked.lines().find(|line| line.contains(network)).unwrap_or_default();
        assert!(told.starts_with("note") && told.contains(meaning), "{network}: {checked}");
        relay
            .log
            .wait(network, |line| line.contains("WARN") && line.contains(network) && line.contains(meaning));
    }
    assert!(!checked.contains("192.0.2.0/24"), "{checked}");
    // Who must log in is told what it is then.
    let folder = Folder::new();
    let lines = "allowed_networks = [\"0.0.0.0/0\"]\nrequire_login = true\n\
                 users_file = \"users\"\ntls = \"required\"";
    configuration(&folder, hop.port, lines, "", "");
    let output = program().args(["check", "--config"]).arg(folder.0.join("config.toml")).output().unwrap();
    let checked = String::from_utf8(output.stdout).unwrap();
    assert!(checked.contains("may try to log in") && !checked.contains("an open relay"), "{checked}");
}

#[test]
fn limits_for_each_client_hold_behind_a_proxy() {
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, &format!("{BEHIND_PROXY}\nmax_connections_per_client = 1"), "", "");
    let connect = |last: u8| behind(relay.port, &version_2([192, 0, 2, last], 0x21));
    let (mut one, mut again, mut other) = (connect(1), connect(2), connect(2));
    let codes = [one.code(), again.code(), other.code()];
    assert_eq!(codes.iter().filter(|code| **code == 220).count(), 2, "{codes:?}");
    assert!(codes[0] == 220 && codes.contains(&421), "{codes:?}");
}

#[test]
fn swaks_speaks_both_versions_of_the_proxy_protocol() {
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, BEHIND_PROXY, "", "");
    for (version, family) in [("1", "TCP4"), ("2", "AF_INET")] {
        let source = ["--proxy-source", "192.0.2.9", "--proxy-source-port", "4711"];
        let target = ["--proxy-dest", "198.51.100.1", "--proxy-dest-port", "25"];
        let kind = ["--proxy-version", version, "--proxy-family", family];
        let output = swaks(relay.port, &[kind, source, target].concat());
        assert!(output.status.success(), "{}", text(&output));
    }
    assert!(trace(&hop, 2).contains("([192.0.2.9])"));
}

#[test]
fn xclient_takes_the_place_of_what_was_known() {
    let hop = NextHop::start();
    let relay = Relay::with(
        hop.port,
        "xclient_networks = [\"127.0.0.1\"]\nallowed_networks = [\"192.0.2.0/24\"]",
        "",
        "",
    );
    let mut client = Client::connect(relay.port);
    assert_eq!(client.code(), 220);
    assert!(
        client
            .ask("EHLO proxy.example")
            .contains("-XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT\r\n")
    );
    let told = "XCLIENT NAME=mail.example ADDR=192.0.2.7 PORT=4711 PROTO=SMTP HELO=h+2Bi.example \
                DESTADDR=[UNAVAILABLE]";
    assert!(client.ask(told).starts_with("220 "));
    assert_eq!(client.say("MAIL FROM:<news@shop.example>"), 503, "the session begins anew");
    assert_eq!(client.say("EHLO proxy.example"), 250);
    assert!(client.message(FROM, &[TO], MAIL).starts_with("250 "));
    let first = trace(&hop, 1);
    assert!(first.starts_with("Received: from h+i.example (mail.example [192.0.2.7])\r\n"), "{first}");
    assert!(first.contains(" with SMTP id "), "{first}");
    // What is not told again stays; a login counts in the trace header.
    assert!(
        client.ask("XCLIENT PROTO=ESMTP LOGIN=ann+40shop.example ADDR=[UNAVAILABLE]").starts_with("220 ")
    );
    assert_eq!(client.say("EHLO proxy.example"), 250);
    assert!(client.message(FROM, &[TO], MAIL).starts_with("250 "));
    let second = trace(&hop, 2);
    assert!(second.contains("[192.0.2.7])") && second.contains(" with ESMTPA id "), "{second}");
    // Who is not allowed may not send, loopback or not.
    assert!(client.ask("XCLIENT ADDR=IPV6:2001:db8::7").starts_with("220 "));
    assert_eq!(client.say("EHLO proxy.example"), 250);
    assert!(client.ask("MAIL FROM:<news@shop.example>").starts_with("554 5.7.1 "));
    for wrong in [
        "XCLIENT ADDR=2001:db8::7",
        "XCLIENT ADDR=a.example",
        "XCLIENT PROTO=HTTP",
        "XCLIENT FOO=1",
        "XCLIENT",
    ] {
        assert!(client.ask(wrong).starts_with("501 5.5.4 "), "{wrong}");
    }
    assert!(!relay.log.all().join("\n").contains("ann@shop"));
}

#[test]
fn xclient_and_xforward_are_for_the_listed_alone() {
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    let mut client = Client::connect(relay.port);
    assert_eq!(client.code(), 220);
    let announced = client.ask("EHLO client.example");
    assert!(!announced.contains("XCLIENT") && !announced.contains("XFORWARD"), "{announced}");
    for command in ["XCLIENT ADDR=192.0.2.7", "XFORWARD IDENT=1"] {
        assert!(client.ask(command).starts_with("550 5.7.0 "), "{command}");
    }
    assert!(client.message(FROM, &[TO], MAIL).starts_with("250 "));
    assert!(trace(&hop, 1).contains("([127.0.0.1])"));
}

#[test]
fn swaks_speaks_xclient() {
    let hop = NextHop::start();
    let relay = Relay::with(
        hop.port,
        "xclient_networks = [\"127.0.0.1\"]\nallowed_networks = [\"192.0.2.0/24\"]",
        "",
        "",
    );
    let told = ["--xclient-addr", "192.0.2.9", "--xclient-delim", "--xclient-name", "mail.example"];
    let output = swaks(relay.port, &told);
    assert!(output.status.success(), "{}", text(&output));
    assert!(trace(&hop, 1).contains("(mail.example [192.0.2.9])"));
    let output = swaks(relay.port, &["--xclient-addr", "203.0.113.9"]);
    assert!(text(&output).contains("554 5.7.1"), "{}", text(&output));
}

#[test]
fn xforward_holds_for_one_message_and_its_id_is_logged() {
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, "xforward_networks = [\"127.0.0.0/8\"]", "", "");
    let mut client = Client::connect(relay.port);
    assert_eq!(client.code(), 220);
    assert_eq!(client.say("XFORWARD IDENT=1"), 503);
    assert!(
        client.ask("EHLO client.example").contains("-XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE\r\n")
    );
    let logged = |count: usize| relay.log.wait_for(count, "a message", |line| line.contains("NEXTHOP1"));
    assert_eq!(client.say("XFORWARD NAME=mail.example ADDR=192.0.2.7 HELO=a.example"), 250);
    assert_eq!(client.say("XFORWARD IDENT=4X+2Dab+0D+0Ac SOURCE=REMOTE"), 250);
    assert!(client.message(FROM, &[TO], MAIL).starts_with("250 "));
    assert!(logged(1).contains("forwarded_id=\"4X-ab??c\""), "{}", logged(1));
    assert!(trace(&hop, 1).contains("([127.0.0.1])"), "the client is still the mail server");
    assert!(client.message(FROM, &[TO], MAIL).starts_with("250 "));
    assert!(!logged(2).contains("forwarded_id"), "{}", logged(2));
    assert_eq!(client.say("XFORWARD IDENT=2"), 250);
    assert_eq!(client.say("RSET"), 250);
    assert!(client.message(FROM, &[TO], MAIL).starts_with("250 "));
    assert!(!logged(3).contains("forwarded_id"), "{}", logged(3));
    // What may be an address is not written down.
    assert_eq!(client.say("XFORWARD IDENT=ann@home.example"), 250);
    assert_eq!(client.say("MAIL FROM:<news@shop.example>"), 250);
    assert_eq!(client.say("XFORWARD IDENT=3"), 503);
    assert_eq!(client.say("RCPT TO:<ann@home.example>"), 250);
    assert_eq!(client.say("DATA"), 354);
    client.send(b"Subject: a\r\n\r\nb\r\n.\r\n");
    assert_eq!(client.code(), 250);
    assert!(!logged(4).contains("ann@home"), "{}", logged(4));
}

#[test]
fn the_most_recipients_are_announced_and_hold() {
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, "max_recipients = 100", "", "");
    let mut client = Client::connect(relay.port);
    assert_eq!(client.code(), 220);
    assert!(client.ask("EHLO client.example").contains("-LIMITS RCPTMAX=100\r\n"));
    assert_eq!(client.say("MAIL FROM:<news@shop.example>"), 250);
    assert!((0..100).all(|number| client.say(&format!("RCPT TO:<r{number}@home.example>")) == 250));
    assert_eq!(client.say("RCPT TO:<one-more@home.example>"), 452);
}

#[test]
fn a_client_that_sends_too_many_messages_hears_it_at_mail_and_loses_none() {
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, "max_messages_per_minute = 2", "", "");
    let mut client = Client::greeted(relay.port);
    assert!(client.message(FROM, &[TO], MAIL).starts_with("250 "));
    // Another session of the same client.
    assert!(Client::greeted(relay.port).message(FROM, &[TO], MAIL).starts_with("250 "));
    client.send(b"MAIL FROM:<news@shop.example>\r\nRCPT TO:<ann@home.example>\r\nDATA\r\n");
    assert!(client.reply().starts_with("451 4.7.1 "));
    // Not 503, which would be taken for good.
    assert_eq!((client.code(), client.code()), (451, 451));
    assert_eq!(hop.wait(2).len(), 2);
}

#[test]
fn a_header_that_is_too_large_is_refused_at_the_end_of_data() {
    let hop = NextHop::start();
    let mut lines = "max_header_bytes = 4096".to_owned();
    for (protocol, last) in [("smtp", "EHLO"), ("lmtp", "LHLO")] {
        lines.push_str(&format!("\nprotocol = \"{protocol}\""));
        let relay = Relay::with(hop.port, &lines, "", "");
        lines.truncate("max_header_bytes = 4096".len());
        let mut client = Client::connect(relay.port);
        assert_eq!(client.code(), 220);
        assert_eq!(client.say(&format!("{last} client.example")), 250);
        let field = |length: usize| format!("X-Long: {}\n", "x".repeat(length - "X-Long: \r\n".len()));
        let body = "y".repeat(8192);
        let reply = client.message(FROM, &[TO, "bob@home.example"], &format!("{}\n{body}\n", field(4097)));
        assert!(reply.starts_with("552 5.3.4 "), "{reply}");
        if protocol == "lmtp" {
            assert!(client.reply().starts_with("552 5.3.4 "), "each recipient hears it");
        }
        let reply = client.message(FROM, &[TO], &format!("{}\n{body}\n", field(4096)));
        assert!(reply.starts_with("250 "), "{reply}");
    }
    assert_eq!(hop.count(), 2);
}

#[test]
fn a_proxy_and_its_networks_belong_together() {
    let folder = Folder::new();
    for lines in ["proxy_protocol = \"required\"", "proxy_networks = [\"192.0.2.1\"]"] {
        configuration(&folder, 1, lines, "", "");
        let output =
            program().args(["check", "--config"]).arg(folder.0.join("config.toml")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && said.contains("belong together"), "{said}");
    }
}
