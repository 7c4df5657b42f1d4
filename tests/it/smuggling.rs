//! SMTP smuggling: what is not CRLF.CRLF ends no message, and no bare CR or LF goes on (threats of the kind
//! of CVE-2023-51764).

use crate::support::{Client, NextHop, Relay};

const PREFIXES: [&[u8]; 12] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\r\n",
    b"\n\r",
    b"\0",
    b"\x0b",
    b"\x0c",
    b"\xc2\x85",
    b"\r\n ",
    b"\r\n\0",
    b"\n\n",
];
const SUFFIXES: [&[u8]; 12] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\r\n",
    b"\n\r",
    b"\0",
    b"\x0b",
    b"\x0c\r\n",
    b" \r\n",
    b"\r.\r\n",
    b"\n.\r\n",
    b"\r\r.\r\n",
];

/// All sequences with a dot that some server might take for the end of data, and which are not.
fn sequences() -> Vec<Vec<u8>> {
    let mut sequences = Vec::new();
    for prefix in PREFIXES {
        for suffix in SUFFIXES {
            let sequence = [prefix, b".", suffix].concat();
            // The true end, and the true end behind one more line break, end data in every reading.
            if !sequence.windows(5).any(|window| window == b"\r\n.\r\n") {
                sequences.push(sequence);
            }
        }
    }
    sequences
}

/// Sends each sequence within a message, followed by what would be a second transaction; whole, and cut
/// within the sequence.
fn check(listener: &str) {
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, listener, "", "");
    let sequences = sequences();
    assert!(sequences.len() >= 142, "{}", sequences.len());
    let smuggled = b"MAIL FROM:<evil@shop.example>\r\nRCPT TO:<victim@home.example>\r\nDATA\r\nSubject: \
                     smuggled\r\n\r\nsmuggled\r\n";
    let mut sessions = 0;
    for sequence in &sequences {
        for cut in [None, Some(sequence.len() / 2)] {
            sessions += 1;
            let mut client = Client::greeted(relay.port);
            assert_eq!(client.say("MAIL FROM:<a@shop.example>"), 250);
            assert_eq!(client.say("RCPT TO:<ann@home.example>"), 250);
            assert_eq!(client.say("DATA"), 354);
            let first = [&b"Subject: a\r\n\r\nbody"[..], &sequence[..cut.unwrap_or(0)]].concat();
            let rest = [&sequence[cut.unwrap_or(0)..], smuggled, b"\r\n.\r\n"].concat();
            client.send(&first);
            client.send(&rest);
            let reply = client.reply();
            assert_eq!(client.say("QUIT"), 221, "one message, one reply: {sequence:?} was answered {reply}");
            let code = &reply[..3];
            assert!(["250", "550"].contains(&code), "{sequence:?}: {reply}");
        }
    }
    assert!(sessions >= 284);
    for delivery in hop.deliveries.0.lock().unwrap().iter() {
        assert_eq!(delivery.mail, "MAIL FROM:<a@shop.example>");
        assert_eq!(delivery.rcpts, ["RCPT TO:<ann@home.example>"]);
        let text = String::from_utf8_lossy(&delivery.data).replace("\r\n", "");
        assert!(!text.contains(['\r', '\n']), "a bare newline went on: {text:?}");
    }
}

#[test]
fn nothing_is_smuggled_where_bare_newlines_are_rejected() {
    check("");
}

#[test]
fn nothing_is_smuggled_where_bare_newlines_are_normalised() {
    check("bare_newline = \"normalise\"");
}
