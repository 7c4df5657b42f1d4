//! Conditions that decide whose mail a message is, and of which kind.
//!
//! Promised: anything ambiguous matches nothing. Two From domains, two List-Id fields or two values of a
//! control field name no mailstream, so that a message cannot choose a laxer one by saying two things.

use std::ops::Range;

use crate::message::header::fields;

/// Conditions on mail. A condition that is not set matches all mail; of a list, one entry is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The listener through which it came.
    pub listener: Vec<String>,
    /// The login of the client, or the name in its verified certificate.
    pub login: Vec<String>,
    /// The envelope sender, in lower case.
    pub sender: Vec<String>,
    /// The domain of the envelope sender, as [`domain`] writes it.
    pub sender_domain: Vec<String>,
    /// The domain of the From field, as [`domain`] writes it.
    pub from_domain: Vec<String>,
    /// The contents of the angle brackets of List-Id (RFC 2919), in lower case.
    pub list_id: Vec<String>,
    /// A control field with its value.
    pub header: Vec<Control>,
}

/// A header field that only says which kind of mail a message is. It is removed before relaying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// The field's name.
    pub name: String,
    /// Its value; case does not matter.
    pub value: String,
}

/// What the connection and the envelope say about a message.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The listener.
    pub listener: &'a str,
    /// The login, or the name in the verified certificate.
    pub login: Option<&'a str>,
    /// The envelope sender; empty for the null sender.
    pub sender: &'a str,
}

/// What the sending application says of consent to a message. It can only make the treatment stricter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Instruction {
    /// Nothing.
    #[default]
    None,
    /// Its readers refused, as far as it knows.
    Refused,
}

/// The field by which it says so. It is not relayed.
const INSTRUCTION: &str = "X-Pixelward-Consent";

/// What the header says about a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    from_domain: Option<String>,
    list_id: Option<String>,
    controls: Vec<Control>,
    /// What the sending application says of consent.
    pub instruction: Instruction,
    /// The positions of control fields, whatever they say: they are not relayed.
    pub cuts: Vec<Range<usize>>,
}

/// The header fields that any condition needs.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    from_domain: bool,
    list_id: bool,
    /// Names of control fields.
    controls: Vec<String>,
}

impl Conditions {
    /// Returns whether mail matches.
    pub fn fit(&self, origin: &Origin<'_>, marks: &Marks) -> bool {
        let one_of = |wanted: &[String], actual: Option<&str>| {
            wanted.is_empty() || actual.is_some_and(|actual| wanted.iter().any(|wanted| wanted == actual))
        };
        let sender = || origin.sender.to_lowercase();
        let sender_domain = || origin.sender.rsplit_once('@').map(|(_, part)| domain(part));
        one_of(&self.listener, Some(origin.listener))
            && one_of(&self.login, origin.login)
            && (self.sender.is_empty() || one_of(&self.sender, Some(&sender())))
            && (self.sender_domain.is_empty() || one_of(&self.sender_domain, sender_domain().as_deref()))
            && one_of(&self.from_domain, marks.from_domain.as_deref())
            && one_of(&self.list_id, marks.list_id.as_deref())
            && (self.header.is_empty() || self.header.iter().any(|wanted| marks.has(wanted)))
    }

    /// Returns whether there is a listener or login condition, which no client can choose.
    pub fn can_tie(&self) -> bool {
        !(self.listener.is_empty() && self.login.is_empty())
    }

    /// Returns whether they tie a client: the listener and the login are those required, whatever its mail
    /// says.
    pub fn tie(&self, origin: &Origin<'_>) -> bool {
        let connection = Conditions {
            listener: self.listener.clone(),
            login: self.login.clone(),
            ..Conditions::default()
        };
        self.can_tie() && connection.fit(origin, &Marks::default())
    }

    /// Returns whether they name a domain, its parent or a subdomain.
    pub fn name_domain(&self, wanted: &str) -> bool {
        let is_below = |one: &str, other: &str| {
            one.strip_suffix(other).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let of_senders =
            self.sender.iter().filter_map(|sender| sender.rsplit_once('@')).map(|(_, part)| domain(part));
        let mut named = self.sender_domain.iter().chain(&self.from_domain).cloned().chain(of_senders);
        named.any(|name| is_below(&name, wanted) || is_below(wanted, &name))
    }

    /// Returns whether all mail matches.
    pub fn fit_all(&self) -> bool {
        *self == Conditions::default()
    }

    /// Returns whether they identify one kind of mail, rather than all that a listener, login or domain sends
    /// (N10).
    pub fn name_a_template(&self) -> bool {
        !(self.sender.is_empty() && self.list_id.is_empty() && self.header.is_empty())
    }
}

impl Asked {
    /// Adds the fields that these conditions need.
    pub fn add(&mut self, conditions: &Conditions) {
        self.from_domain |= !conditions.from_domain.is_empty();
        self.list_id |= !conditions.list_id.is_empty();
        for control in &conditions.header {
            if !self.controls.iter().any(|name| name.eq_ignore_ascii_case(&control.name)) {
                self.controls.push(control.name.clone());
            }
        }
    }

    /// Reads it from a header.
    pub fn read(&self, message: &[u8]) -> Marks {
        let mut marks = Marks::default();
        let (mut from, mut list_ids) = (Vec::new(), Vec::new());
        for field in fields(message, 0) {
            if self.from_domain && field.is(message, "From") {
                from.extend(domains(&text(field.value(message))));
            } else if self.list_id && field.is(message, "List-Id") {
                list_ids.push(list_id(&text(field.value(message))));
            } else if field.is(message, INSTRUCTION) {
                // Whatever it says: what is not understood must not let mail track, and nothing grants.
                marks.instruction = Instruction::Refused;
                marks.cuts.push(field.range);
            } else if let Some(name) = self.controls.iter().find(|name| field.is(message, name)) {
                marks.controls.push(Control { name: name.clone(), value: text(field.value(message)) });
                marks.cuts.push(field.range);
            }
        }
        marks.from_domain = only(from);
        marks.list_id = only(list_ids);
        marks
    }
}

impl Marks {
    /// Returns whether the field occurs with this value, and with no other.
    fn has(&self, wanted: &Control) -> bool {
        let mut same =
            self.controls.iter().filter(|control| control.name.eq_ignore_ascii_case(&wanted.name)).peekable();
        same.peek().is_some() && same.all(|field| field.value.eq_ignore_ascii_case(&wanted.value))
    }
}

/// Returns the domain in From; `None` if there is none, or more than one.
pub fn from_domain(message: &[u8]) -> Option<String> {
    let all = fields(message, 0).filter(|field| field.is(message, "From"));
    only(all.flat_map(|field| domains(&text(field.value(message)))).collect())
}

/// Returns the value that all of them have.
fn only(values: Vec<String>) -> Option<String> {
    let mut values = values.into_iter();
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}

/// Unfolds the value of a field.
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).replace(['\r', '\n'], "")
}

/// Returns the contents of the last angle brackets, or everything.
fn list_id(value: &str) -> String {
    let inner = value.rsplit_once('<').map_or(value, |(_, rest)| rest);
    inner.split('>').next().unwrap_or_default().trim().to_lowercase()
}

/// Normalises a domain for comparison: ASCII (IDNA), lower case, no trailing dot.
pub fn domain(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    idna::domain_to_ascii(text).unwrap_or_else(|_| text.to_lowercase())
}

/// Returns the domains of all addresses in a field. Quoted strings and comments are names and remarks,
/// whatever they contain.
fn domains(value: &str) -> Vec<String> {
    let (mut bare, mut quoted, mut depth, mut escaped) = (String::new(), false, 0_u32, false);
    for character in value.chars() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' if depth == 0 => quoted = !quoted,
            _ if quoted => {}
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            _ => bare.push(character),
        }
    }
    let words = bare.split(|character: char| character.is_whitespace() || "<>,;:".contains(character));
    words.filter_map(|word| word.rsplit_once('@')).map(|(_, part)| domain(part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(one: &str) -> Vec<String> {
        vec![one.to_owned()]
    }

    /// Whether a message with this header, from news@shop.example by the login "app" through "inside", is
    /// like that.
    fn check(conditions: &Conditions, header: &str) -> bool {
        let mut asked = Asked::default();
        asked.add(conditions);
        let message = format!("{}\r\n\r\nFrom: a@body.example\r\n", header.replace('\n', "\r\n"));
        let origin = Origin { listener: "inside", login: Some("app"), sender: "News@Shop.example" };
        conditions.fit(&origin, &asked.read(message.as_bytes()))
    }

    #[test]
    fn the_envelope_and_the_connection_tell() {
        let none = Conditions::default();
        assert!(none.fit_all() && check(&none, "Subject: a"));
        assert!(check(&Conditions { listener: list("inside"), ..none.clone() }, "Subject: a"));
        assert!(!check(&Conditions { listener: list("outside"), ..none.clone() }, "Subject: a"));
        assert!(!check(&Conditions { login: list("other"), ..none.clone() }, "Subject: a"));
        assert!(check(&Conditions { sender: list("news@shop.example"), ..none.clone() }, "Subject: a"));
        assert!(check(&Conditions { sender_domain: list("shop.example"), ..none.clone() }, "Subject: a"));
        let both = Conditions { login: list("app"), sender_domain: list("b.example"), ..none };
        assert!(!check(&both, "Subject: a"), "every condition must hold");
    }

    #[test]
    fn the_from_field_tells_where_it_names_one_domain() {
        let shop = Conditions { from_domain: list("shop.example"), ..Conditions::default() };
        for header in [
            "From: news@SHOP.example",
            "From: \"other <x@b.example>\" (y@c.example) <news@shop.example>",
            "From: A\n <news@shop.example>,\n b@shop.example",
            "From: \"a b\"@shop.example",
        ] {
            assert!(check(&shop, header), "{header}");
        }
        for header in [
            "Subject: a",
            "From: news@sub.shop.example",
            "From: news@shop.example <x@b.example>",
            "From: news@shop.example\nFrom: x@b.example",
            "From: shop.example",
        ] {
            assert!(!check(&shop, header), "{header}");
        }
        let book = Conditions { from_domain: list("xn--bcher-kva.example"), ..Conditions::default() };
        assert!(check(&book, "From: a@b\u{fc}cher.example"));
    }

    #[test]
    fn a_list_id_or_control_field_tells_where_it_says_one_thing() {
        let news = Conditions { list_id: list("news.shop.example"), ..Conditions::default() };
        assert!(check(&news, "List-Id: The <b> news\n <News.shop.example>"));
        assert!(check(&news, "List-Id: news.shop.example"));
        assert!(!check(&news, "List-Id: <news.shop.example>\nList-Id: <resets.shop.example>"));
        let control = Control { name: "X-Mailstream".to_owned(), value: "reset".to_owned() };
        let reset = Conditions { header: vec![control], ..Conditions::default() };
        assert!(check(&reset, "x-mailstream:  Reset "));
        assert!(!check(&reset, "X-Mailstream: resets"));
        assert!(!check(&reset, "X-Mailstream: reset\nX-Mailstream: news"));
        assert!(reset.name_a_template() && news.name_a_template());
        assert!(!Conditions { sender_domain: list("a.example"), ..Conditions::default() }.name_a_template());
    }

    #[test]
    fn control_fields_are_cut_whatever_they_say() {
        let mut asked = Asked::default();
        let control = Control { name: "X-Kind".to_owned(), value: "a".to_owned() };
        asked.add(&Conditions { header: vec![control], ..Conditions::default() });
        let marks = asked.read(b"X-Kind: typo\r\n more\r\nSubject: a\r\nx-kind: a\r\n\r\nX-Kind: a\r\n");
        assert_eq!(marks.cuts, [0..21, 33..44]);
        assert_eq!(Asked::default().read(b"X-Kind: a\r\n\r\n"), Marks::default());
    }

    #[test]
    fn a_listener_or_a_login_ties_a_client_whatever_its_mail_says() {
        let origin = Origin { listener: "inside", login: Some("app"), sender: "x@other.example" };
        let none = Conditions::default();
        let inside =
            Conditions { listener: list("inside"), from_domain: list("shop.example"), ..none.clone() };
        let both = Conditions { login: list("app"), ..inside.clone() };
        assert!(inside.tie(&origin) && both.tie(&origin));
        assert!(!both.tie(&Origin { login: None, ..origin }));
        assert!(!both.tie(&Origin { listener: "outside", ..origin }));
        assert!(!none.tie(&origin) && !Conditions { sender: list("x@other.example"), ..none }.tie(&origin));
    }

    #[test]
    fn a_domain_is_named_by_itself_and_by_those_above_and_below() {
        let none = Conditions::default();
        for conditions in [
            Conditions { from_domain: list("shop.example"), ..none.clone() },
            Conditions { sender_domain: list("shop.example"), ..none.clone() },
            Conditions { sender: list("news@shop.example"), ..none.clone() },
        ] {
            for (domain, wanted) in [
                ("shop.example", true),
                ("news.shop.example", true),
                ("bookshop.example", false),
                ("x.example", false),
            ] {
                assert_eq!(conditions.name_domain(domain), wanted, "{domain}");
            }
        }
        assert!(
            Conditions { from_domain: list("news.shop.example"), ..none.clone() }.name_domain("shop.example")
        );
        assert!(!none.name_domain("shop.example"));
    }
}
