//! Services behind us that add an open pixel of their own: the header field that switches it off for one
//! message.
//!
//! A field that says more than that is merged into, never replaced.

use serde_json::{Map, Value, json};

use crate::message::Edit;
use crate::message::header::{Field, fields};

/// The longest line that is written, in bytes (RFC 5322 section 2.1.1 allows 998).
const MAX_LINE: usize = 900;

/// A service that sends mail on, and may add a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Esp {
    /// Postmark.
    Postmark,
    /// Mailgun.
    Mailgun,
    /// SendGrid.
    SendGrid,
    /// Mailjet.
    Mailjet,
    /// SparkPost.
    SparkPost,
    /// Mandrill (Mailchimp Transactional).
    Mandrill,
    /// Amazon SES.
    Ses,
    /// Brevo.
    Brevo,
    /// Copernica's SMTPeter.
    Copernica,
    /// Elastic Email.
    ElasticEmail,
    /// The next hop is known to belong to none of them: their fields mean nothing there, and go.
    None,
}

/// How a service is told.
enum Switch {
    /// A field of its own, with this value.
    Field(&'static str, &'static str),
    /// A JSON object, in which the value at this path is set.
    Json(&'static str, &'static [&'static str], Value),
    /// A list of what is tracked, from which this word goes.
    List(&'static str, &'static str),
    /// Not for one message.
    None,
}

/// A field that must hold a JSON object and does not: what it asks for besides would be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} holds no JSON object, so open tracking cannot be switched off in it")]
pub struct NoObject(pub &'static str);

impl Esp {
    /// Every service, with the name that the configuration uses.
    pub const ALL: [(&'static str, Esp); 11] = [
        ("postmark", Esp::Postmark),
        ("mailgun", Esp::Mailgun),
        ("sendgrid", Esp::SendGrid),
        ("mailjet", Esp::Mailjet),
        ("sparkpost", Esp::SparkPost),
        ("mandrill", Esp::Mandrill),
        ("ses", Esp::Ses),
        ("brevo", Esp::Brevo),
        ("copernica", Esp::Copernica),
        ("elasticemail", Esp::ElasticEmail),
        ("none", Esp::None),
    ];

    /// The name that the configuration uses.
    pub fn name(self) -> &'static str {
        Esp::ALL.iter().find(|(_, esp)| *esp == self).map_or("", |(name, _)| name)
    }

    /// The service to which a next hop belongs, by the end of its name.
    pub fn of_host(host: &str) -> Option<Esp> {
        const HOSTS: [(&str, Esp); 14] = [
            ("postmarkapp.com", Esp::Postmark),
            ("mailgun.org", Esp::Mailgun),
            ("mailgun.net", Esp::Mailgun),
            ("sendgrid.net", Esp::SendGrid),
            ("sendgrid.com", Esp::SendGrid),
            ("mailjet.com", Esp::Mailjet),
            ("sparkpostmail.com", Esp::SparkPost),
            ("sparkpost.com", Esp::SparkPost),
            ("mandrillapp.com", Esp::Mandrill),
            ("amazonaws.com", Esp::Ses),
            ("brevo.com", Esp::Brevo),
            ("sendinblue.com", Esp::Brevo),
            ("smtpeter.com", Esp::Copernica),
            ("elasticemail.com", Esp::ElasticEmail),
        ];
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let ends = |text: &str| {
            host.strip_suffix(text).is_some_and(|below| below.is_empty() || below.ends_with('.'))
        };
        HOSTS.iter().find(|(item, _)| ends(item)).map(|(_, esp)| *esp)
    }

    fn switch(self) -> Switch {
        match self {
            Esp::Postmark => Switch::Field("X-PM-TrackOpens", "false"),
            Esp::Mailgun => Switch::Field("X-Mailgun-Track-Opens", "no"),
            Esp::Mailjet => Switch::Field("X-Mailjet-TrackOpen", "0"),
            Esp::Copernica => Switch::Field("X-SMTPeter-TrackOpens", "false"),
            Esp::SendGrid => {
                Switch::Json("X-SMTPAPI", &["filters", "opentrack", "settings", "enable"], json!(0))
            }
            Esp::SparkPost => Switch::Json("X-MSYS-API", &["options", "open_tracking"], json!(false)),
            Esp::Mandrill => Switch::List("X-MC-Track", "opens"),
            Esp::Ses | Esp::Brevo | Esp::ElasticEmail | Esp::None => Switch::None,
        }
    }

    /// Why the service may track all the same, whatever a message says. `None` where its switch is documented
    /// to win.
    pub fn doubt(self) -> Option<&'static str> {
        match self {
            Esp::Postmark => Some("a server-wide setting wins over the header field of a message"),
            Esp::Mandrill => {
                Some("the header field of a message can name what is tracked; that nothing is cannot be said")
            }
            Esp::Ses => Some("open tracking hangs on the configuration set, not on a message"),
            Esp::Brevo => Some("there is no switch for mail sent by SMTP"),
            Esp::ElasticEmail => Some("no switch for mail sent by SMTP could be verified"),
            Esp::Mailgun | Esp::SendGrid | Esp::Mailjet | Esp::SparkPost | Esp::Copernica | Esp::None => None,
        }
    }

    /// The field with which a message speaks to the service about tracking.
    fn field(self) -> Option<&'static str> {
        match self.switch() {
            Switch::Field(name, _) | Switch::Json(name, ..) | Switch::List(name, _) => Some(name),
            Switch::None => None,
        }
    }
}

/// Edits of the header of `raw` which tell `esp` not to track, and take out what speaks to other services.
///
/// # Errors
///
/// When a field that must be merged into cannot be read.
pub fn edits(raw: &[u8], esp: Esp) -> Result<Vec<Edit>, NoObject> {
    let others: Vec<&str> =
        Esp::ALL.iter().filter(|(_, other)| *other != esp).filter_map(|(_, other)| other.field()).collect();
    let mut edits: Vec<Edit> = fields(raw, 0)
        .filter(|field| others.iter().any(|name| field.is(raw, name)))
        .map(|field| Edit::cut_inside(field.range))
        .collect();
    let control: Vec<Field> = match esp.field() {
        Some(name) => fields(raw, 0).filter(|field| field.is(raw, name)).collect(),
        None => return Ok(edits),
    };
    let wanted = match esp.switch() {
        Switch::None => None,
        Switch::Field(name, value) => Some((name, value.to_owned())),
        Switch::List(name, word) => {
            let kept = control.first().map(|field| without(&unfolded(raw, field), word)).unwrap_or_default();
            (!kept.is_empty()).then_some((name, kept))
        }
        Switch::Json(name, path, value) => {
            let mut object = match control.first() {
                Some(field) => serde_json::from_str(&unfolded(raw, field)).map_err(|_| NoObject(name))?,
                None => Value::Object(Map::new()),
            };
            set(&mut object, path, value).ok_or(NoObject(name))?;
            Some((name, object.to_string()))
        }
    };
    let says_so = |(_, wanted): &(&str, String)| match control.as_slice() {
        [field] => unfolded(raw, field).trim() == wanted.as_str(),
        _ => false,
    };
    if !wanted.as_ref().is_some_and(says_so) {
        edits.extend(control.into_iter().map(|field| Edit::cut_inside(field.range)));
        edits.extend(wanted.map(|(name, value)| Edit::replace(0..0, folded(name, &value))));
    }
    edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
    Ok(edits)
}

/// A field's value in one line.
fn unfolded(raw: &[u8], field: &Field) -> String {
    String::from_utf8_lossy(field.value(raw)).replace(['\r', '\n'], "")
}

/// A list without a word.
fn without(list: &str, word: &str) -> String {
    let kept: Vec<&str> = list
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty() && !part.eq_ignore_ascii_case(word))
        .collect();
    kept.join(",")
}

/// Sets the value at a path, making objects on the way. `None` where something else stands there.
fn set(object: &mut Value, path: &[&str], value: Value) -> Option<()> {
    let (last, way) = path.split_last()?;
    let mut at = object;
    for name in way {
        at = at.as_object_mut()?.entry(*name).or_insert_with(|| Value::Object(Map::new()));
    }
    at.as_object_mut()?.insert((*last).to_owned(), value);
    Some(())
}

/// A field with its line end. Text outside of ASCII is escaped as JSON does it; long values are folded behind
/// a comma outside of strings.
fn folded(name: &str, value: &str) -> Vec<u8> {
    let mut out = format!("{name}: ");
    let mut column = out.len();
    let (mut quoted, mut escaped) = (false, false);
    for character in value.chars() {
        let before = out.len();
        if character.is_ascii() {
            out.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
        column += out.len() - before;
        quoted ^= character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
        if character == ',' && !quoted && column > MAX_LINE / 2 {
            out.push_str("\r\n ");
            column = 1;
        }
    }
    out.push_str("\r\n");
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::transfer::apply;

    fn check(header: &str, esp: Esp) -> Result<String, NoObject> {
        let raw = format!("{}\r\n\r\nbody: no\r\n", header.replace('\n', "\r\n"));
        let out = apply(raw.as_bytes(), &edits(raw.as_bytes(), esp)?);
        let text = String::from_utf8(out).unwrap();
        Ok(text.split("\r\n\r\n").next().unwrap().replace("\r\n", "\n"))
    }

    #[test]
    fn a_field_is_set_once_and_those_of_others_go() {
        assert_eq!(check("Subject: a", Esp::Mailgun).unwrap(), "X-Mailgun-Track-Opens: no\nSubject: a");
        assert_eq!(
            check("Subject: a\nX-PM-TrackOpens: true\nX-PM-TrackOpens:\n true\nX-SMTPAPI: {}", Esp::Postmark)
                .unwrap(),
            "X-PM-TrackOpens: false\nSubject: a"
        );
        let set = "Subject: a\nX-Mailjet-TrackOpen: 0";
        assert_eq!(check(set, Esp::Mailjet).unwrap(), set);
        assert_eq!(
            check("X-MC-Track: opens, clicks_htmlonly", Esp::Mandrill).unwrap(),
            "X-MC-Track: clicks_htmlonly"
        );
        assert_eq!(check("Subject: a", Esp::Brevo).unwrap(), "Subject: a");
        assert_eq!(check("X-SMTPAPI: {}\nSubject: a\nX-MC-Track: opens", Esp::None).unwrap(), "Subject: a");
    }

    #[test]
    fn json_is_merged_into_and_never_replaced() {
        assert_eq!(
            check("X-SMTPAPI: \
                   {\"category\": \"n\u{e9}ws\",\n \"filters\": {\"clicktrack\": {}, \"opentrack\": {\"settings\": {\"enable\": 1, \"replace\": \"%x%\"}}}}", Esp::SendGrid)
                .unwrap(),
            "X-SMTPAPI: \
             {\"category\":\"n\\u00e9ws\",\"filters\":{\"clicktrack\":{},\"opentrack\":{\"settings\":{\"enable\":0,\"replace\":\"%x%\"}}}}"
        );
        assert_eq!(
            check("Subject: a", Esp::SparkPost).unwrap(),
            "X-MSYS-API: {\"options\":{\"open_tracking\":false}}\nSubject: a"
        );
        assert_eq!(check("X-MSYS-API: nonsense", Esp::SparkPost), Err(NoObject("X-MSYS-API")));
        assert_eq!(check("X-SMTPAPI: {\"filters\": 7}", Esp::SendGrid), Err(NoObject("X-SMTPAPI")));
    }

    #[test]
    fn long_json_is_folded_where_no_string_breaks() {
        let list: Vec<String> =
            (0..200).map(|number| format!("person{number}, the\\\"@home.example")).collect();
        let value = json!({ "to": list }).to_string();
        let out = check(&format!("X-SMTPAPI: {value}"), Esp::SendGrid).unwrap();
        assert!(out.lines().all(|line| line.len() < 998), "{out}");
        let read: Value =
            serde_json::from_str(out.replace("\n ", "").strip_prefix("X-SMTPAPI: ").unwrap()).unwrap();
        assert_eq!(read["to"][199], list[199].as_str());
    }

    #[test]
    fn a_next_hop_is_known_by_its_name() {
        assert_eq!(Esp::of_host("SMTP.SendGrid.net"), Some(Esp::SendGrid));
        assert_eq!(Esp::of_host("email-smtp.eu-west-1.amazonaws.com"), Some(Esp::Ses));
        assert_eq!(Esp::of_host("notsendgrid.net"), None);
        assert!(Esp::ALL.iter().all(|(name, esp)| esp.name() == *name));
    }
}
