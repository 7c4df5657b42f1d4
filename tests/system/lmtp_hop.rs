//! A real Dovecot as the next hop, over LMTP: at a port and at a socket.

use crate::mta::{Dovecot, Fate, Mta, Postfix, submit};
use crate::support::{Client, Folder, Relay, configuration, crlf, newsletter, stuffed};

/// A relay in front of a Dovecot, reached at its socket.
fn at_socket(dovecot: &Dovecot, listener: &str) -> Relay {
    let folder = Folder::new();
    let config = configuration(&folder, 1, listener, "protocol = \"lmtp\"", "");
    let text = std::fs::read_to_string(&config).unwrap();
    let place = format!("\"unix:{}\"", dovecot.socket().display());
    std::fs::write(&config, text.replace("\"localhost\"", &place)).unwrap();
    Relay::in_folder(folder)
}

#[test]
fn one_box_is_full_and_the_others_have_the_mail() {
    let dovecot = Dovecot::start();
    let relays = [
        Relay::with(dovecot.port, "protocol = \"lmtp\"", "protocol = \"lmtp\"", ""),
        at_socket(&dovecot, "protocol = \"lmtp\""),
    ];
    let (with, without) = newsletter("ann@home.example");
    for (number, relay) in relays.iter().enumerate() {
        let mut client = Client::connect(relay.port);
        assert_eq!(client.code(), 220);
        assert_eq!(client.say("LHLO client.example"), 250);
        assert_eq!(client.say("MAIL FROM:<news@shop.example>"), 250);
        let answers = [("ann", 250), ("eve", 250), ("nobody", 550), ("bob", 250)]
            .map(|(person, code)| (client.say(&format!("RCPT TO:<{person}@home.example>")), code));
        assert!(answers.iter().all(|(said, wanted)| said == wanted), "{answers:?}");
        assert_eq!(client.say("DATA"), 354);
        client.send(stuffed(&with).as_bytes());
        let said = [client.reply(), client.reply(), client.reply()];
        assert!(said[0].starts_with("250 2.0.0") && said[2].starts_with("250 2.0.0"), "{said:?}");
        assert!(said[1].starts_with("552 5.2.2"), "{said:?}");
        for person in ["ann", "bob"] {
            let mails = dovecot.mails(person, number + 1);
            assert_eq!(mails.len(), number + 1, "{person}");
            assert!(mails.iter().all(|mail| crlf(&mail.replace("\r\n", "\n")).ends_with(&crlf(&without))));
        }
    }
}

#[test]
fn postfix_hears_of_each_recipient_and_bounces_the_one_whose_box_is_full() {
    let dovecot = Dovecot::start();
    let relay = at_socket(&dovecot, "protocol = \"lmtp\"");
    let postfix = Postfix::start(&format!("default_transport = lmtp:inet:127.0.0.1:{}", relay.port));
    let to = ["ann", "eve", "bob"].map(|person| format!("{person}@home.example"));
    submit(postfix.port, "", &to, &newsletter("ann@home.example").0);
    postfix.wait(&to[0], Fate::Sent);
    postfix.wait(&to[2], Fate::Sent);
    let line = postfix.wait(&to[1], Fate::Failed);
    assert!(line.contains("552 5.2.2"), "{line}");
    assert_eq!(dovecot.mails("ann", 1).len(), 1);
    assert_eq!(dovecot.mails("bob", 1).len(), 1);
}
