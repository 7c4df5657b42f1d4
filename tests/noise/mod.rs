//! Malformed sessions, the same ones for the same seed: dialogues that were right once, changed at random,
//! and noise.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic
)]

/// Random numbers that are the same for the same seed (xorshift).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        // A seed of zero would stay zero.
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        (0..8).for_each(|_| {
            dice.next();
        });
        dice
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, most: usize) -> usize {
        (self.next() >> 11) as usize % most.max(1)
    }

    pub fn one_of<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// How a client ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It sends no more, and listens.
    HalfClose,
    /// It is gone.
    Close,
    /// It is gone, and what was said to it comes back as an error.
    Reset,
}

/// What a client sends, in which pieces, and how it ends.
#[derive(Debug)]
pub struct Session {
    pub bytes: Vec<u8>,
    /// Where one piece ends and the next begins.
    pub cuts: Vec<usize>,
    pub end: End,
    /// Whether it is a dialogue as it should be.
    pub is_sound: bool,
}

const MESSAGES: [&str; 5] = [
    "Subject: a\r\n\r\nb\r\n",
    "From: <news@shop.example>\r\nTo: <ann@home.example>\r\nSubject: dots\r\n\r\n..\r\n..a\r\n.. \r\nend\r\n",
    "\r\n",
    "Subject: text\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; \
     boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\
     Content-Transfer-Encoding: quoted-printable\r\n\r\n=C3=A9t=\r\n=C3=A9\r\n--b\r\nContent-Type: \
     message/rfc822\r\n\r\nSubject: inner\r\n\r\nc\r\n--b--\r\n",
    "Received: from a by b id 1; Mon, 2 Nov 2026 09:00:00 +0000\r\nMessage-ID: <1@shop.example>\r\nX-Long: \
     aaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\tfolded\r\n\r\ntext\r\n\r\n",
];

const COMMANDS: [&str; 34] = [
    "EHLO client.example\r\n",
    "HELO client.example\r\n",
    "LHLO client.example\r\n",
    "MAIL FROM:<news@shop.example>\r\n",
    "MAIL FROM:<>\r\n",
    "MAIL FROM:<news@shop.example> BODY=8BITMIME SIZE=100\r\n",
    "MAIL FROM:<n\u{e9}@shop.example> SMTPUTF8\r\n",
    "MAIL FROM:<news@shop.example> PRDR\r\n",
    "MAIL FROM:<news@shop.example> SIZE=99999999999999999999\r\n",
    "RCPT TO:<ann@home.example>\r\n",
    "RCPT TO:<ben@home.example> NOTIFY=NEVER ORCPT=rfc822;b+2B@home.example\r\n",
    "RCPT TO:<\"odd one\"@home.example>\r\n",
    "RCPT TO:<@a.example,@b.example:cat@home.example>\r\n",
    "DATA\r\n",
    ".\r\n",
    "\r\n.\r\n",
    "RSET\r\n",
    "NOOP\r\n",
    "VRFY ann\r\n",
    "EXPN all\r\n",
    "HELP\r\n",
    "QUIT\r\n",
    "STARTTLS\r\n",
    "AUTH PLAIN AGFubgBvcGVu\r\n",
    "AUTH LOGIN\r\n",
    "BDAT 5\r\nabcde",
    "BDAT 0 LAST\r\n",
    "XCLIENT ADDR=192.0.2.1\r\n",
    "XFORWARD IDENT=1\r\n",
    "ETRN home.example\r\n",
    "TURN\r\n",
    "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n",
    "\u{16}\u{3}\u{1}\u{1}\r\n",
];

/// What readers may take for the end of data or of a line.
const ENDS: [&[u8]; 12] = [
    b"\r\n.\r\n",
    b"\n.\n",
    b"\r\n.\n",
    b"\n.\r\n",
    b"\r.\r",
    b"\r\n.\r",
    b"\r\r\n.\r\r\n",
    b"\r\n..\r\n",
    b"\r\n. \r\n",
    b"\n",
    b"\r",
    b"\r\n\0.\r\n",
];

const NASTY: [u8; 16] = *b"\0\xff\r\n.<>: \t@\"\\\x80\x1b=";

/// The session with this number.
pub fn session(seed: u64, number: u64, is_lmtp: bool) -> Session {
    let mut dice = Dice::new(seed ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let kind = dice.below(100);
    let mut bytes = match kind {
        0..8 => noise(&mut dice),
        8..20 => commands(&mut dice),
        _ => dialogue(&mut dice, is_lmtp),
    };
    let is_sound = kind >= 90;
    if !is_sound {
        for _ in 0..=dice.below(6) {
            change(&mut bytes, &mut dice);
        }
    }
    let end = match dice.below(10) {
        0 => End::Close,
        1 => End::Reset,
        _ => End::HalfClose,
    };
    Session {
        cuts: cuts(bytes.len(), &mut dice),
        bytes,
        end: if is_sound { End::HalfClose } else { end },
        is_sound,
    }
}

fn noise(dice: &mut Dice) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..dice.below(2000)).map(|_| dice.next() as u8).collect();
    if dice.below(2) == 0 {
        bytes.splice(0..0, *b"EHLO client.example\r\n");
    }
    bytes
}

/// Commands in any order.
fn commands(dice: &mut Dice) -> Vec<u8> {
    (0..=dice.below(40)).flat_map(|_| dice.one_of(&COMMANDS).bytes().collect::<Vec<_>>()).collect()
}

/// One to three messages as a client should hand them over, all at once.
fn dialogue(dice: &mut Dice, is_lmtp: bool) -> Vec<u8> {
    let hello = if is_lmtp {
        "LHLO client.example\r\n"
    } else {
        dice.one_of(&["EHLO client.example\r\n", "HELO client.example\r\n"])
    };
    let mut text = hello.to_owned();
    for _ in 0..=dice.below(3) {
        text.push_str(dice.one_of(&["MAIL FROM:<news@shop.example>\r\n", "MAIL FROM:<>\r\n"]));
        for number in 0..=dice.below(4) {
            text.push_str(&format!("RCPT TO:<r{number}@home.example>\r\n"));
        }
        text.push_str("DATA\r\n");
        text.push_str(dice.one_of(&MESSAGES));
        text.push_str(".\r\n");
        text.push_str(dice.one_of(&["", "", "NOOP\r\n", "RSET\r\n"]));
    }
    text.push_str(dice.one_of(&["QUIT\r\n", "QUIT\r\n", ""]));
    text.into_bytes()
}

/// One change at random.
fn change(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let at = dice.below(bytes.len() + 1);
    let until = (at + 1 + dice.below(40)).min(bytes.len());
    match dice.below(13) {
        0 if at < bytes.len() => bytes[at] = NASTY[dice.below(NASTY.len())],
        1 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
        2 if at < until => drop(bytes.drain(at..until)),
        3 if at < until => {
            let piece = bytes[at..until].to_vec();
            bytes.splice(at..at, piece);
        }
        4 => bytes.truncate(at),
        5 => drop(bytes.splice(at..at, ENDS[dice.below(ENDS.len())].iter().copied())),
        6 => drop(bytes.splice(at..at, dice.one_of(&COMMANDS).bytes())),
        7 => {
            let long = [100, 600, 2100, 13_000, 70_000][dice.below(5)];
            let filler = NASTY[dice.below(NASTY.len())];
            bytes.splice(at..at, std::iter::repeat_n(if dice.below(2) == 0 { b'a' } else { filler }, long));
        }
        8 => {
            let noise: Vec<u8> = (0..dice.below(64)).map(|_| dice.next() as u8).collect();
            bytes.splice(at..at, noise);
        }
        9 => swap_lines(bytes, dice),
        10 => {
            let times = [2, 30, 1200][dice.below(3)];
            let line = dice.one_of(&COMMANDS).repeat(times);
            bytes.splice(at..at, line.into_bytes());
        }
        11 => bytes[at..until].make_ascii_lowercase(),
        _ => bytes.retain(|byte| *byte != b'\r' || dice.below(20) != 0),
    }
}

fn swap_lines(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    if lines.len() > 1 {
        let (one, other) = (dice.below(lines.len()), dice.below(lines.len()));
        lines.swap(one, other);
        *bytes = lines.concat();
    }
}

/// All at once, in a few pieces, or byte by byte to begin with.
fn cuts(length: usize, dice: &mut Dice) -> Vec<usize> {
    let mut cuts: Vec<usize> = match dice.below(10) {
        0..6 => vec![],
        6..9 => (0..dice.below(8)).map(|_| dice.below(length)).collect(),
        _ => (1..length.min(60)).collect(),
    };
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}
