use super::*;

const HOP: &str = "[next_hop]\nhost = \"smtp.next-hop.example\"\n";
const BACK: &str = "[next_hop]\nhost = \"127.0.0.1\"\nport = 10026\ntls = \"none\"\n";

fn check(config: &str, recipe: Recipe, name: Option<&str>) -> Result<Lines, String> {
    lines(&Config::parse(config).unwrap(), recipe, name, None)
}

fn with_second(config: &str, recipe: Recipe, second: &str) -> Result<Lines, String> {
    lines(&Config::parse(config).unwrap(), recipe, None, Some(second))
}

fn listener(lines: &str) -> String {
    format!("[[listener]]\n{lines}\n{HOP}")
}

#[test]
fn the_relay_stands_in_relayhost_with_the_address_and_the_tls_of_its_listener() {
    for (option, at, tls) in [
        ("", "[127.0.0.1]:2525", "may"),
        ("address = \"127.0.0.1:25252\"\ntls = \"none\"", "[127.0.0.1]:25252", "none"),
        ("address = \"[::1]:2525\"\ntls = \"required\"", "[::1]:2525", "encrypt"),
        ("address = \"0.0.0.0:26\"\nallowed_networks = [\"192.0.2.1\"]", "[127.0.0.1]:26", "may"),
    ] {
        let main = check(&listener(option), Recipe::Relayhost, None).unwrap().main;
        assert!(main.contains(&format!("\nrelayhost = {at}, {at}\n")), "{main}");
        assert!(main.contains(&format!("\nsmtp_tls_security_level = {tls}\n")), "{main}");
        assert!(!main.contains("wrappermode"), "{main}");
    }
    let main = check(&listener("tls = \"implicit\""), Recipe::Relayhost, None).unwrap().main;
    assert!(main.contains("\nsmtp_tls_wrappermode = yes\n"), "{main}");
}

#[test]
fn a_second_relay_takes_what_the_first_does_not() {
    for (second, at) in [
        ("192.0.2.11", "[192.0.2.11]:2525"),
        ("192.0.2.11:26", "[192.0.2.11]:26"),
        ("2001:db8::1", "[2001:db8::1]:2525"),
        ("[2001:db8::1]:26", "[2001:db8::1]:26"),
        ("relay2.shop.example", "[relay2.shop.example]:2525"),
        ("relay2.shop.example:26", "[relay2.shop.example]:26"),
    ] {
        let main = with_second(HOP, Recipe::Relayhost, second).unwrap().main;
        let here = "[127.0.0.1]:2525";
        assert!(main.contains(&format!("\nrelayhost = {here}, {here}, {at}\n")), "{main}");
        assert!(main.contains("\nsmtp_destination_recipient_limit = 1\n"), "{main}");
        assert!(main.contains("\nsmtp_connect_timeout = 10s\n"), "{main}");
    }
    let by_lmtp = with_second(&listener("protocol = \"lmtp\""), Recipe::Lmtp, "192.0.2.11").unwrap();
    let at = "\ndefault_transport = pixelward:[127.0.0.1]:2525, [192.0.2.11]:2525\n";
    assert!(by_lmtp.main.contains(at), "{}", by_lmtp.main);
    for wrong in ["", "two words", "relay2:port", "relay2:0", ":25"] {
        let error = with_second(HOP, Recipe::Relayhost, wrong).unwrap_err();
        assert!(error.contains("HOST:PORT"), "{wrong}: {error}");
    }
    for recipe in [Recipe::ContentFilter, Recipe::ProxyFilter] {
        let error = with_second(BACK, recipe, "192.0.2.11").unwrap_err();
        assert!(error.contains("cannot have a second relay"), "{error}");
    }
}

#[test]
fn over_lmtp_postfix_does_not_wait_for_ever_for_a_connection() {
    let lines = check(&listener("protocol = \"lmtp\""), Recipe::Lmtp, None).unwrap();
    assert!(lines.master.contains("\n  -o lmtp_connect_timeout=10s\n"), "{}", lines.master);
    let main = check(HOP, Recipe::Relayhost, None).unwrap().main;
    assert!(!main.contains("connect_timeout"), "{main}");
}

#[test]
fn a_listener_can_be_named() {
    let two = "[[listener]]\nname = \"one\"\n[[listener]]\nname = \"two\"\naddress = \"127.0.0.1:2600\"\n";
    let main = check(&format!("{two}{HOP}"), Recipe::Relayhost, Some("two")).unwrap().main;
    assert!(main.contains("[127.0.0.1]:2600"), "{main}");
    let error = check(&format!("{two}{HOP}"), Recipe::Relayhost, Some("three")).unwrap_err();
    assert!(error.contains("one, two"), "{error}");
}

#[test]
fn what_is_missing_is_said_as_lines_to_write() {
    let error = check(HOP, Recipe::Lmtp, None).unwrap_err();
    assert!(error.contains("\n[[listener]]\n") && error.contains("\nprotocol = \"lmtp\"\n"), "{error}");
    for recipe in [Recipe::ContentFilter, Recipe::ProxyFilter] {
        let error = check(HOP, recipe, None).unwrap_err();
        assert!(error.contains("\n[next_hop]\nhost = \"127.0.0.1\"\nport = 10026\n"), "{error}");
    }
    let error = check(&listener("address = \"127.0.0.1:0\""), Recipe::Relayhost, None).unwrap_err();
    assert!(error.contains("port 0"), "{error}");
    let tls = format!("[[listener]]\ntls = \"required\"\n{BACK}");
    assert!(check(&tls, Recipe::ProxyFilter, None).unwrap_err().contains("tls = \"none\""));
}

#[test]
fn mail_that_comes_back_is_not_filtered_again() {
    for recipe in [Recipe::ContentFilter, Recipe::ProxyFilter] {
        let lines = check(BACK, recipe, None).unwrap();
        for line in ["127.0.0.1:10026 inet", "-o content_filter=\n", "-o smtpd_proxy_filter=\n"] {
            assert!(lines.master.contains(line), "{}", lines.master);
        }
    }
}

#[test]
fn postfix_waits_longer_than_the_relay() {
    let main = check(BACK, Recipe::ProxyFilter, None).unwrap().main;
    assert!(main.contains("\nsmtpd_proxy_timeout = 560s\n"), "{main}");
    let before_queue = format!("[[listener]]\nbefore_queue = true\n{BACK}");
    let main = check(&before_queue, Recipe::ProxyFilter, None).unwrap().main;
    assert!(main.contains("\nsmtpd_proxy_timeout = 100s\n"), "{main}");
}
