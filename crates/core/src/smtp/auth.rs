//! The AUTH exchange (RFC 4954): PLAIN (RFC 4616) and LOGIN. It yields [`Credentials`]; nothing here knows
//! whether they are right.

use std::fmt;

use super::reply::Reply;

/// The maximum length of a line of an exchange, including its end (RFC 4954, section 4).
pub const MAX_LINE: usize = 12_288;

/// The maximum length of a login and of a password, in bytes.
const MAX_WORD: usize = 1024;

/// An authentication mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// Login and password at once (RFC 4616).
    Plain,
    /// Login and password, each requested.
    Login,
}

/// The AUTH command.
#[derive(Clone, PartialEq, Eq)]
pub struct Auth {
    /// The mechanism.
    pub mechanism: Mechanism,
    /// The initial response, in base64.
    initial: Option<String>,
}

/// A login and the password that the client gave.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The login.
    pub login: String,
    /// The password, as received.
    pub password: Vec<u8>,
}

/// The state of an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// Login and password are expected together.
    Plain,
    /// The login is expected.
    Login,
    /// The password for this login is expected.
    Password(String),
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this and pass the next line.
    Ask(Exchange, Reply),
    /// The client's credentials.
    Shown(Credentials),
    /// Send this: the exchange is over.
    Over(Reply),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Auth({:?})", self.mechanism)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl Auth {
    /// Parses the arguments of AUTH.
    ///
    /// # Errors
    ///
    /// The reply that says what is wrong: 504 for a mechanism that is not offered.
    pub fn read(rest: &str) -> Result<Auth, Reply> {
        let mut words = rest.split([' ', '\t']).filter(|word| !word.is_empty());
        let Some(name) = words.next() else {
            return Err(Reply::new(501, "5.5.4 AUTH needs a mechanism"));
        };
        let initial = words.next().map(str::to_owned);
        if words.next().is_some() {
            return Err(Reply::new(501, "5.5.4 AUTH takes a mechanism and one response"));
        }
        let mechanism = match name.to_ascii_uppercase().as_str() {
            "PLAIN" => Mechanism::Plain,
            "LOGIN" => Mechanism::Login,
            _ => return Err(Reply::new(504, "5.5.4 Mechanism not supported")),
        };
        Ok(Auth { mechanism, initial })
    }

    /// Begins the exchange.
    pub fn begin(self) -> Step {
        let exchange = match self.mechanism {
            Mechanism::Plain => Exchange::Plain,
            Mechanism::Login => Exchange::Login,
        };
        match self.initial.as_deref() {
            None => exchange.ask(),
            // An empty initial response (RFC 4954, section 4).
            Some("=") => exchange.shown(Vec::new()),
            Some(response) => exchange.decoded(response.as_bytes()),
        }
    }
}

impl Exchange {
    /// Takes the client's next line, without its end.
    pub fn step(self, line: &[u8]) -> Step {
        if line == b"*" {
            return Step::Over(Reply::new(501, "5.7.0 Authentication cancelled"));
        }
        self.decoded(line)
    }

    fn ask(self) -> Step {
        let reply = match &self {
            Exchange::Plain => Reply::new(334, ""),
            // "Username:" and "Password:", which clients look for.
            Exchange::Login => Reply::new(334, "VXNlcm5hbWU6"),
            Exchange::Password(_) => Reply::new(334, "UGFzc3dvcmQ6"),
        };
        Step::Ask(self, reply)
    }

    fn decoded(self, response: &[u8]) -> Step {
        match decode(response) {
            Some(bytes) => self.shown(bytes),
            None => Step::Over(Reply::new(501, "5.5.2 The response is not base64")),
        }
    }

    fn shown(self, bytes: Vec<u8>) -> Step {
        match self {
            Exchange::Plain => plain(&bytes).map_or_else(Step::Over, Step::Shown),
            Exchange::Login => match login(&bytes) {
                Ok(login) => Exchange::Password(login).ask(),
                Err(reply) => Step::Over(reply),
            },
            Exchange::Password(_) if bytes.len() > MAX_WORD => Step::Over(malformed()),
            Exchange::Password(login) => Step::Shown(Credentials { login, password: bytes }),
        }
    }
}

/// Parses `[authorization identity] NUL login NUL password`. Nobody may act for another here.
fn plain(bytes: &[u8]) -> Result<Credentials, Reply> {
    let mut parts = bytes.split(|byte| *byte == 0);
    let (Some(identity), Some(name), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed());
    };
    let login = login(name)?;
    if password.len() > MAX_WORD {
        return Err(malformed());
    }
    if !identity.is_empty() && identity != name {
        return Err(Reply::new(535, "5.7.8 A login cannot act for another one"));
    }
    Ok(Credentials { login, password: password.to_owned() })
}

fn login(bytes: &[u8]) -> Result<String, Reply> {
    match std::str::from_utf8(bytes) {
        Ok(text) if (1..=MAX_WORD).contains(&text.len()) && !text.chars().any(char::is_control) => {
            Ok(text.to_owned())
        }
        _ => Err(malformed()),
    }
}

fn malformed() -> Reply {
    Reply::new(501, "5.5.2 The response is malformed")
}

/// Base64 as in RFC 4648, section 4: padded, without line ends, and without unused bits.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let digits = text.get(..text.len() - padding)?;
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4 + 3);
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for digit in group {
            bits = bits << 6 | value(*digit)?;
        }
        let missing = 4 - group.len();
        let [_, first, second, third] = (bits << (6 * missing)).to_be_bytes();
        let (kept, rest) = match missing {
            0 => (3, false),
            1 => (2, third != 0),
            2 => (1, second != 0),
            _ => return None,
        };
        if rest {
            return None;
        }
        bytes.extend([first, second, third].into_iter().take(kept));
    }
    (padding == (4 - digits.len() % 4) % 4).then_some(bytes)
}

fn value(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::transfer::encode_base64;

    /// The exchange with these lines, the first of which stands behind AUTH: what was shown, or the last
    /// code.
    fn check(lines: &[&str]) -> Result<(String, Vec<u8>), u16> {
        let mut step = match Auth::read(lines[0]) {
            Ok(auth) => auth.begin(),
            Err(reply) => return Err(reply.code()),
        };
        for line in &lines[1..] {
            let Step::Ask(exchange, _) = step else { panic!("the exchange is over before {line}") };
            step = exchange.step(line.as_bytes());
        }
        match step {
            Step::Shown(credentials) => Ok((credentials.login, credentials.password)),
            Step::Ask(_, reply) | Step::Over(reply) => Err(reply.code()),
        }
    }

    #[test]
    fn both_mechanisms_show_login_and_password() {
        let shown = Ok(("ann".to_owned(), b"secret".to_vec()));
        let together = encode_base64(b"\0ann\0secret");
        assert_eq!(check(&[&format!("PLAIN {together}")]), shown);
        assert_eq!(check(&["plain", &together]), shown);
        assert_eq!(check(&["PLAIN", &encode_base64(b"ann\0ann\0secret")]), shown);
        let (name, password) = (encode_base64(b"ann"), encode_base64(b"secret"));
        assert_eq!(check(&["LOGIN", &name, &password]), shown);
        assert_eq!(check(&[&format!("LOGIN {name}"), &password]), shown);
        assert_eq!(check(&["LOGIN", &name]), Err(334));
    }

    #[test]
    fn what_is_malformed_ends_the_exchange() {
        let long = encode_base64(&[b'a'; MAX_WORD + 1]);
        for (lines, code) in [
            (&["PLAIN", "*"][..], 501),
            (&["LOGIN", "YW5u", "*"], 501),
            (&["PLAIN ="], 501),
            (&["LOGIN ="], 501),
            (&["PLAIN", "not base64"], 501),
            (&["PLAIN", "YW5u"], 501),
            (&["PLAIN AGFubgBz ZWNyZXQ="], 501),
            (&["LOGIN", &long], 501),
            (&["LOGIN", "YW5u", &long], 501),
            (&["CRAM-MD5"], 504),
            (&[""], 501),
        ] {
            assert_eq!(check(lines), Err(code), "{lines:?}");
        }
        assert_eq!(check(&["PLAIN", &encode_base64(b"bob\0ann\0secret")]), Err(535));
    }

    #[test]
    fn base64_is_read_in_one_way_only() {
        for length in 0..20u8 {
            let bytes: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(37)).collect();
            assert_eq!(decode(encode_base64(&bytes).as_bytes()), Some(bytes));
        }
        for text in ["A", "AA", "AAA", "AB==", "AAB=", "A===", "====", "AA=A", "AA==AAAA", "AA A", "AA-_"] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_password_does_not_get_into_the_log() {
        let credentials = Credentials { login: "ann".to_owned(), password: b"secret".to_vec() };
        let auth = Auth::read("PLAIN AGFubgBzZWNyZXQ=").unwrap();
        assert_eq!(format!("{credentials:?}{auth:?}"), "Credentials(…)Auth(Plain)");
    }
}
