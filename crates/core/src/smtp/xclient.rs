//! The attributes of XCLIENT and XFORWARD, as in Postfix's XCLIENT_README and XFORWARD_README.

use super::reply::Reply;

/// The maximum length of a decoded value, in bytes.
const MAX_VALUE: usize = 255;

/// The maximum length of a command line that every server accepts, including CRLF, in bytes (RFC 5321,
/// section 4.5.3.1.4).
const MAX_COMMAND: usize = 512;

/// The meaning of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// The client's host name.
    Name,
    /// Its address.
    Addr,
    /// Its port.
    Port,
    /// SMTP or ESMTP.
    Proto,
    /// The name it greeted with.
    Helo,
    /// Its login.
    Login,
    /// The address it connected to.
    DestAddr,
    /// The port it connected to.
    DestPort,
    /// The host name found for its address, not verified.
    ReverseName,
    /// The id of the message at the sender.
    Ident,
    /// LOCAL or REMOTE.
    Source,
}

/// The attributes of XCLIENT.
pub const XCLIENT: [(&str, Name); 9] = [
    ("NAME", Name::Name),
    ("ADDR", Name::Addr),
    ("PORT", Name::Port),
    ("PROTO", Name::Proto),
    ("HELO", Name::Helo),
    ("LOGIN", Name::Login),
    ("DESTADDR", Name::DestAddr),
    ("DESTPORT", Name::DestPort),
    ("REVERSE_NAME", Name::ReverseName),
];

/// The attributes of XFORWARD.
pub const XFORWARD: [(&str, Name); 7] = [
    ("NAME", Name::Name),
    ("ADDR", Name::Addr),
    ("PORT", Name::Port),
    ("PROTO", Name::Proto),
    ("HELO", Name::Helo),
    ("IDENT", Name::Ident),
    ("SOURCE", Name::Source),
];

/// Attributes in order; `None` for one that is declared unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes(Vec<(Name, Option<String>)>);

/// What XFORWARD says about the client that a message came from: by a mail server to the relay, and by the
/// relay to a next hop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// The client's host name.
    pub name: Option<String>,
    /// Its address; an IPv6 one begins with `IPV6:`.
    pub address: Option<String>,
    /// Its port.
    pub port: Option<String>,
    /// The protocol it used.
    pub protocol: Option<String>,
    /// The name it greeted with.
    pub helo: Option<String>,
    /// The id of the message at the upstream server.
    pub ident: Option<String>,
    /// LOCAL or REMOTE.
    pub source: Option<String>,
}

impl Attributes {
    /// Parses the arguments of the command.
    ///
    /// # Errors
    ///
    /// A 501 if it is not a list of these attributes.
    pub fn read(rest: &str, known: &[(&str, Name)]) -> Result<Attributes, Reply> {
        let mut attributes = Vec::new();
        for word in rest.split([' ', '\t']).filter(|word| !word.is_empty()) {
            let Some((name, value)) = word.split_once('=') else {
                return Err(Reply::new(501, "5.5.4 Expected attribute=value"));
            };
            let Some((_, name)) = known.iter().find(|(keyword, _)| name.eq_ignore_ascii_case(keyword)) else {
                return Err(Reply::new(501, "5.5.4 Unknown attribute"));
            };
            let value = read(value).ok_or_else(|| Reply::new(501, "5.5.4 Invalid attribute value"))?;
            if value.as_ref().is_some_and(|value| !fits(*name, value)) {
                return Err(Reply::new(501, "5.5.4 Invalid attribute value"));
            }
            attributes.push((*name, value));
        }
        if attributes.is_empty() {
            return Err(Reply::new(501, "5.5.4 Expected attribute=value"));
        }
        Ok(Attributes(attributes))
    }

    /// Returns the attributes in order.
    pub fn iter(&self) -> impl Iterator<Item = (Name, Option<&str>)> {
        self.0.iter().map(|(name, value)| (*name, value.as_deref()))
    }
}

impl Forwarded {
    /// Builds the commands for a server that accepts these attributes, each at most [`MAX_COMMAND`] bytes
    /// long.
    pub fn commands(&self, taken: &[Name]) -> Vec<String> {
        let words = XFORWARD.iter().filter(|(_, name)| taken.contains(name)).map(|(word, name)| {
            let value = self.value(*name).map(xtext);
            let value = value.filter(|value| !value.is_empty() && value.len() <= MAX_VALUE);
            format!(" {word}={}", value.as_deref().unwrap_or("[UNAVAILABLE]"))
        });
        let mut commands: Vec<String> = Vec::new();
        for word in words {
            match commands.last_mut().filter(|command| command.len() + word.len() + 2 <= MAX_COMMAND) {
                Some(command) => command.push_str(&word),
                None => commands.push(format!("XFORWARD{word}")),
            }
        }
        commands.iter_mut().for_each(|command| command.push_str("\r\n"));
        commands
    }

    fn value(&self, name: Name) -> Option<&str> {
        match name {
            Name::Name => self.name.as_deref(),
            Name::Addr => self.address.as_deref(),
            Name::Port => self.port.as_deref(),
            Name::Proto => self.protocol.as_deref(),
            Name::Helo => self.helo.as_deref(),
            Name::Ident => self.ident.as_deref(),
            Name::Source => self.source.as_deref(),
            Name::Login | Name::DestAddr | Name::DestPort | Name::ReverseName => None,
        }
    }

    /// Merges another XFORWARD, which replaces what was said before.
    pub fn update(&mut self, attributes: &Attributes) {
        for (name, value) in attributes.iter() {
            let field = match name {
                Name::Name => &mut self.name,
                Name::Addr => &mut self.address,
                Name::Port => &mut self.port,
                Name::Proto => &mut self.protocol,
                Name::Helo => &mut self.helo,
                Name::Ident => &mut self.ident,
                Name::Source => &mut self.source,
                Name::Login | Name::DestAddr | Name::DestPort | Name::ReverseName => continue,
            };
            *field = value.map(str::to_owned);
        }
    }
}

/// Decodes a value in xtext (RFC 3461, section 4), with `?` for what a log or a header field cannot contain.
/// `Some(None)` for an unknown one.
fn read(text: &str) -> Option<Option<String>> {
    if text.eq_ignore_ascii_case("[UNAVAILABLE]") || text.eq_ignore_ascii_case("[TEMPUNAVAIL]") {
        return Some(None);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        if byte == b'+' {
            let (digits, behind) = behind.split_at_checked(2)?;
            let digits = std::str::from_utf8(digits).ok()?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = behind;
        } else {
            bytes.push(byte);
            rest = behind;
        }
    }
    if bytes.is_empty() || bytes.len() > MAX_VALUE {
        return None;
    }
    let clean =
        |character: char| if character.is_control() || character.is_whitespace() { '?' } else { character };
    Some(Some(String::from_utf8_lossy(&bytes).chars().map(clean).collect()))
}

/// Encodes a value for an attribute (RFC 3461, section 4).
fn xtext(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'!'..=b'~' if byte != b'+' && byte != b'=' => text.push(char::from(byte)),
            _ => text.push_str(&format!("+{byte:02X}")),
        }
    }
    text
}

fn fits(name: Name, value: &str) -> bool {
    match name {
        Name::Port | Name::DestPort => value.parse::<u16>().is_ok(),
        Name::Source => ["LOCAL", "REMOTE"].iter().any(|word| value.eq_ignore_ascii_case(word)),
        Name::Proto => value.len() <= 64,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rest: &str) -> Result<Vec<(Name, Option<String>)>, u16> {
        Attributes::read(rest, &XCLIENT).map(|read| read.0).map_err(|reply| reply.code())
    }

    #[test]
    fn values_are_decoded_and_cleaned() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            check("NAME=mail.example ADDR=192.0.2.7 port=25 LOGIN=ann+40shop.example"),
            Ok(vec![
                (Name::Name, some("mail.example")),
                (Name::Addr, some("192.0.2.7")),
                (Name::Port, some("25")),
                (Name::Login, some("ann@shop.example")),
            ])
        );
        assert_eq!(
            check("NAME=[UNAVAILABLE] ADDR=[tempunavail]"),
            Ok(vec![(Name::Name, None), (Name::Addr, None)])
        );
        assert_eq!(check("HELO=a+0D+0Ab"), Ok(vec![(Name::Helo, some("a??b"))]));
    }

    #[test]
    fn what_is_no_attribute_is_refused() {
        let long = format!("NAME={}", "a".repeat(MAX_VALUE + 1));
        for rest in
            ["", "NAME", "NAME=", "NAME=+4", "NAME=+zz", "NAME=++4", "FOO=1", "PORT=65536", "IDENT=1", &long]
        {
            assert_eq!(check(rest), Err(501), "{rest}");
        }
        assert!(Attributes::read("SOURCE=NOWHERE", &XFORWARD).is_err());
    }

    #[test]
    fn several_commands_add_up() {
        let mut forwarded = Forwarded::default();
        for rest in ["NAME=a.example IDENT=1", "SOURCE=LOCAL NAME=[UNAVAILABLE]"] {
            forwarded.update(&Attributes::read(rest, &XFORWARD).unwrap());
        }
        let wanted = Forwarded {
            ident: Some("1".to_owned()),
            source: Some("LOCAL".to_owned()),
            ..Forwarded::default()
        };
        assert_eq!(forwarded, wanted);
    }
    #[test]
    fn what_is_told_onward_reads_back() {
        let mut told = Forwarded {
            name: Some("mail.example".to_owned()),
            helo: Some("a+b=c d".to_owned()),
            ident: Some("é".repeat(100)),
            ..Forwarded::default()
        };
        let commands = told.commands(&[Name::Name, Name::Helo, Name::Addr]);
        assert_eq!(commands, ["XFORWARD NAME=mail.example ADDR=[UNAVAILABLE] HELO=a+2Bb+3Dc+20d\r\n"]);
        told.name = Some("a".repeat(255));
        told.ident = Some("+".repeat(85));
        told.source = Some("REMOTE".repeat(43));
        let commands = told.commands(&XFORWARD.map(|(_, name)| name));
        let mut read_back = Forwarded::default();
        for command in &commands {
            assert!(command.len() <= MAX_COMMAND, "{command}");
            let rest = command.strip_prefix("XFORWARD ").unwrap().trim_end();
            read_back.update(&Attributes::read(rest, &XFORWARD).unwrap());
        }
        // What is too long for a value is not known, and a blank is none within one.
        assert_eq!(read_back, Forwarded { helo: Some("a+b=c?d".to_owned()), source: None, ..told });
        assert!(Forwarded::default().commands(&[]).is_empty());
    }
}
