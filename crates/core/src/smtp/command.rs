//! Commands (RFC 5321, section 4.1.1) and the parameters of MAIL and RCPT.

use super::address::{Address, BadAddress};
use super::auth::Auth;
use super::reply::Reply;
use super::xclient::{self, Attributes};

/// The maximum length of a command line, including its end. RFC 5321, section 4.5.3.1.4 requires 512 and more
/// for each extension; SMTPUTF8, DSN and AUTH together stay below this.
pub const MAX_LINE: usize = 4096;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// EHLO with the client's name.
    Ehlo(String),
    /// HELO with the client's name.
    Helo(String),
    /// LHLO with the client's name (RFC 2033 section 4.1).
    Lhlo(String),
    /// MAIL with the reverse path.
    Mail(Address, Parameters),
    /// RCPT with a forward path.
    Rcpt(Address, Parameters),
    /// DATA.
    Data,
    /// RSET.
    Rset,
    /// NOOP.
    Noop,
    /// VRFY or EXPN.
    Vrfy,
    /// HELP.
    Help,
    /// STARTTLS.
    StartTls,
    /// AUTH with a mechanism.
    Auth(Auth),
    /// XCLIENT with attributes of the client.
    Xclient(Attributes),
    /// XFORWARD with attributes of the next message.
    Xforward(Attributes),
    /// QUIT.
    Quit,
}

/// A parameter of MAIL or RCPT, as written: `SIZE=1000`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    text: String,
    name: usize,
}

impl Parameter {
    /// The keyword, as written.
    pub fn name(&self) -> &str {
        self.text.get(..self.name).unwrap_or_default()
    }

    /// Returns what follows the equals sign.
    pub fn value(&self) -> Option<&str> {
        self.text.get(self.name + 1..)
    }

    /// Returns the whole parameter, as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns whether this is the parameter `name`.
    pub fn is(&self, name: &str) -> bool {
        self.name().eq_ignore_ascii_case(name)
    }
}

/// Returns whether a parameter may have this value.
type Check = fn(Option<&str>) -> bool;

/// The parameters of one command, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters(Vec<Parameter>);

impl Parameters {
    /// Returns the parameters in order.
    pub fn iter(&self) -> impl Iterator<Item = &Parameter> {
        self.0.iter()
    }

    /// Returns the parameter with this name.
    pub fn get(&self, name: &str) -> Option<&Parameter> {
        self.0.iter().find(|parameter| parameter.is(name))
    }

    /// Returns whether there is a parameter with this name.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn read(text: &str, allowed: &[(&str, Check)]) -> Result<Parameters, Reply> {
        let mut parameters: Vec<Parameter> = Vec::new();
        for text in text.split(' ').filter(|text| !text.is_empty()) {
            let parameter = Parameter { text: text.to_owned(), name: text.find('=').unwrap_or(text.len()) };
            let Some((_, is_valid)) = allowed.iter().find(|(name, _)| parameter.is(name)) else {
                return Err(Reply::new(555, "5.5.4 Unsupported parameter"));
            };
            if !is_valid(parameter.value()) || parameters.iter().any(|other| other.is(parameter.name())) {
                return Err(Reply::new(501, "5.5.4 Malformed or repeated parameter"));
            }
            parameters.push(parameter);
        }
        Ok(Parameters(parameters))
    }
}

const MAIL_PARAMETERS: [(&str, Check); 7] = [
    ("SIZE", |value| value.is_some_and(|digits| digits.len() <= 20 && digits.parse::<u64>().is_ok())),
    ("BODY", |value| {
        value.is_some_and(|kind| kind.eq_ignore_ascii_case("7BIT") || kind.eq_ignore_ascii_case("8BITMIME"))
    }),
    ("SMTPUTF8", |value| value.is_none()),
    ("RET", |value| {
        value.is_some_and(|part| part.eq_ignore_ascii_case("FULL") || part.eq_ignore_ascii_case("HDRS"))
    }),
    ("PRDR", |value| value.is_none()),
    ("ENVID", |value| value.is_some_and(|id| id.len() <= 100 && is_xtext(id))),
    // The original submitter (RFC 4954, section 5). It is not passed on: a relay that vouches for nobody says
    // nothing.
    ("AUTH", |value| value.is_some_and(|sender| sender.len() <= 500 && is_xtext(sender))),
];

const RCPT_PARAMETERS: [(&str, Check); 2] = [
    ("NOTIFY", |value| value.is_some_and(is_notify)),
    ("ORCPT", |value| {
        value.is_some_and(|original| {
            original.len() <= 500 && original.contains(';') && is_xtext_or_utf8(original)
        })
    }),
];

fn is_xtext(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'=')
}

/// ORCPT may contain UTF-8 address forms (RFC 6533, section 3).
fn is_xtext_or_utf8(text: &str) -> bool {
    text.chars().all(|character| !character.is_control() && character != ' ' && character != '=')
}

/// NEVER alone, or a list of SUCCESS, FAILURE, DELAY (RFC 3461, section 4.1).
fn is_notify(text: &str) -> bool {
    text.eq_ignore_ascii_case("NEVER")
        || text
            .split(',')
            .all(|word| ["SUCCESS", "FAILURE", "DELAY"].iter().any(|name| word.eq_ignore_ascii_case(name)))
}

impl Command {
    /// Parses a command line without its line end.
    ///
    /// # Errors
    ///
    /// The reply that says what is wrong with it.
    pub fn read(line: &[u8]) -> Result<Command, Reply> {
        let text = std::str::from_utf8(line).map_err(|_| Reply::new(500, "5.5.2 Commands must be UTF-8"))?;
        if text.chars().any(|character| character.is_control() && character != '\t') {
            return Err(Reply::new(500, "5.5.2 Commands must not contain control characters"));
        }
        let text = text.trim_end_matches([' ', '\t']);
        let (verb, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        if !verb.is_ascii() {
            return Err(Reply::new(500, "5.5.2 Unknown command"));
        }
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => client_name(rest).map(Command::Ehlo),
            "HELO" => client_name(rest).map(Command::Helo),
            "LHLO" => client_name(rest).map(Command::Lhlo),
            "MAIL" => {
                let (path, parameters) = path(rest, "FROM:")?;
                Ok(Command::Mail(path, Parameters::read(parameters, &MAIL_PARAMETERS)?))
            }
            "RCPT" => {
                let (path, parameters) = path(rest, "TO:")?;
                if path.is_null() {
                    return Err(Reply::new(501, "5.1.3 A recipient cannot be empty"));
                }
                Ok(Command::Rcpt(path, Parameters::read(parameters, &RCPT_PARAMETERS)?))
            }
            "DATA" => alone(rest, Command::Data),
            "RSET" => alone(rest, Command::Rset),
            "QUIT" => alone(rest, Command::Quit),
            "STARTTLS" => alone(rest, Command::StartTls),
            "AUTH" => Auth::read(rest).map(Command::Auth),
            "XCLIENT" => Attributes::read(rest, &xclient::XCLIENT).map(Command::Xclient),
            "XFORWARD" => Attributes::read(rest, &xclient::XFORWARD).map(Command::Xforward),
            "NOOP" => Ok(Command::Noop),
            "HELP" => Ok(Command::Help),
            "VRFY" | "EXPN" => Ok(Command::Vrfy),
            "BDAT" | "TURN" | "ETRN" | "ATRN" | "SEND" | "SOML" | "SAML" => {
                Err(Reply::new(502, "5.5.1 Command not supported here"))
            }
            _ => Err(Reply::new(500, "5.5.2 Unknown command")),
        }
    }
}

fn alone(rest: &str, command: Command) -> Result<Command, Reply> {
    if rest.trim().is_empty() {
        Ok(command)
    } else {
        Err(Reply::new(501, "5.5.4 This command takes no argument"))
    }
}

fn client_name(rest: &str) -> Result<String, Reply> {
    let name = rest.trim();
    if name.is_empty() || name.len() > 255 || name.contains([' ', '\t', '(', ')', '<', '>']) {
        return Err(Reply::new(501, "5.5.4 Expected a host name"));
    }
    Ok(name.to_owned())
}

/// Parses the path after `FROM:` or `TO:`, and the parameters after it.
fn path<'a>(rest: &'a str, keyword: &str) -> Result<(Address, &'a str), Reply> {
    let rest = rest.trim_start_matches([' ', '\t']);
    let text = match rest.split_at_checked(keyword.len()) {
        Some((start, text)) if start.eq_ignore_ascii_case(keyword) => text,
        _ => return Err(Reply::new(501, &format!("5.5.4 Expected {keyword}<address>"))),
    };
    let (address, parameters) = Address::read(text).map_err(|error| {
        let code = match error {
            BadAddress::Brackets => "5.5.4",
            BadAddress::TooLong | BadAddress::Character | BadAddress::Incomplete => "5.1.3",
        };
        Reply::new(501, &format!("{code} {error}"))
    })?;
    if !parameters.is_empty() && !parameters.starts_with(' ') {
        return Err(Reply::new(501, "5.5.4 Expected a space after the address"));
    }
    Ok((address, parameters))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str) -> Result<Command, u16> {
        Command::read(line.as_bytes()).map_err(|reply| reply.code())
    }

    #[test]
    fn case_and_blanks_do_not_matter() {
        assert_eq!(check("quit  "), Ok(Command::Quit));
        assert_eq!(check("ehlo\tshop.example"), Ok(Command::Ehlo("shop.example".to_owned())));
        assert!(matches!(check("mail from: <a@b.example> size=12 Body=8bitmime"), Ok(Command::Mail(..))));
        assert!(matches!(check("RCPT TO:<a@b.example>"), Ok(Command::Rcpt(..))));
    }

    #[test]
    fn parameters_are_kept_as_written() {
        let Ok(Command::Rcpt(_, parameters)) =
            check("RCPT TO:<a@b.example> NOTIFY=success,FAILURE ORCPT=rfc822;a+2Bb@c.example")
        else {
            panic!("it is a command");
        };
        let written: Vec<&str> = parameters.iter().map(Parameter::as_str).collect();
        assert_eq!(written, ["NOTIFY=success,FAILURE", "ORCPT=rfc822;a+2Bb@c.example"]);
    }

    #[test]
    fn what_is_wrong_gets_the_code_that_says_so() {
        for (line, code) in [
            ("MAIL FROM:<a@b.example> FOO=1", 555),
            ("MAIL FROM:<a@b.example> SIZE=x", 501),
            ("MAIL FROM:<a@b.example> SIZE=1 SIZE=2", 501),
            ("MAIL FROM:<a@b.example>SIZE=1", 501),
            ("MAIL TO:<a@b.example>", 501),
            ("MAIL", 501),
            ("RCPT TO:<>", 501),
            ("RCPT TO:<a@b.example> NOTIFY=NEVER,DELAY", 501),
            ("DATA now", 501),
            ("EHLO", 501),
            ("BDAT 10 LAST", 502),
            ("FOO", 500),
            ("", 500),
            ("NOOP \0", 500),
        ] {
            assert_eq!(check(line), Err(code), "{line}");
        }
        assert_eq!(Command::read(b"MAIL FROM:<\xff@b.example>").map_err(|reply| reply.code()), Err(500));
    }
}
