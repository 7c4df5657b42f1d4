//! The bodies of requests and responses.
//!
//! Each type validates itself, for serde and for the description of the API alike, and describes errors
//! without repeating what was sent.

use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine, alphabet};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{KnownFormat, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::consent::import::{self, Row};
use crate::consent::{Permission, Person, Scope, Standing, State, Timestamp};
use crate::language::Language;
use crate::policy::Purpose;
use crate::problem::Problem;

/// Base64 in which unused bits may have any value, since a pattern cannot forbid them.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The maximum length of a text, in characters.
const MAX_TEXT: usize = 1024;
/// The maximum length of an address, in characters.
const MAX_ADDRESS: usize = 320;

/// The maximum number of addresses in a request.
pub(super) const MAX_ADDRESSES: usize = 1000;

/// A type that is read from a string, with its description.
macro_rules! text_type {
    ($name:ident, $inner:ty, $about:expr, $read:expr, $schema:expr) => {
        #[doc = $about]
        #[derive(Clone, Debug, Deserialize)]
        #[serde(try_from = "String")]
        pub(super) struct $name(pub $inner);

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<$name, String> {
                let read: fn(&str) -> Option<$inner> = $read;
                read(&text).map($name).ok_or_else(|| $about.to_owned())
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let shape: fn(ObjectBuilder) -> ObjectBuilder = $schema;
                shape(string().description(Some($about))).into()
            }
        }

        impl ToSchema for $name {}
    };
}

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String))
}

/// The pattern of an address, for the description.
const ADDRESS: &str = r"^[^\x00-\x1f\x7f]+@[^@\x00-\x20\x7f]+$";

text_type!(Address, String, "a mail address", |text| is_address(text).then(|| text.to_owned()), |schema| {
    schema.pattern(Some(ADDRESS)).max_length(Some(MAX_ADDRESS))
});

text_type!(
    Who,
    String,
    "a mail address, or the keyed hash of a person: 32 hexadecimal digits",
    |text| (is_address(text) || person(text).is_some()).then(|| text.to_owned()),
    |schema| schema.pattern(Some(format!("^[0-9a-f]{{32}}$|{ADDRESS}"))).max_length(Some(MAX_ADDRESS))
);

text_type!(
    Moment,
    Timestamp,
    "an RFC 3339 time, such as 2026-07-14T08:00:00Z",
    |text| (text.len() > 10).then(|| Timestamp::parse(text).ok()).flatten(),
    |schema| schema.format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
);

text_type!(
    StateName,
    State,
    "never_asked, asked, granted, refused, withdrawn or objected",
    State::named,
    |schema| schema.enum_values(Some(State::ALL.map(State::name)))
);

text_type!(LanguageName, Language, "en, de or fr", Language::of, |schema| schema
    .enum_values(Some(Language::ALL.map(Language::code))));

text_type!(
    PurposeName,
    Purpose,
    "campaign_performance, personalisation, cross_channel_profile, fraud_detection, link_tracking, \
     deliverability, auth_security, legal_notice or aggregate_statistics",
    |text| text.parse().ok(),
    |schema| schema.enum_values(Some(Purpose::ALL.map(Purpose::name)))
);

text_type!(ScopeName, Scope, "address or account", Scope::named, |schema| schema
    .enum_values(Some(Scope::ALL.map(Scope::name))));

text_type!(
    Text,
    String,
    "1 to 1024 characters",
    |text| (1..=MAX_TEXT).contains(&text.chars().count()).then(|| text.to_owned()),
    |schema| schema.min_length(Some(1)).max_length(Some(MAX_TEXT))
);

text_type!(Encoded, Vec<u8>, "base64", |text| BASE64.decode(text).ok(), |schema| schema
    .pattern(Some("^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$")));

impl Encoded {
    /// Bytes in base64.
    pub(super) fn text(bytes: &[u8]) -> String {
        BASE64.encode(bytes)
    }
}

text_type!(
    TextHash,
    String,
    "a SHA-256 in 64 hexadecimal digits",
    |text| is_hex(text, 64).then(|| text.to_owned()),
    |schema| schema.pattern(Some("^[0-9a-f]{64}$"))
);

text_type!(
    Name,
    String,
    "a name: 1 to 64 of a-z, 0-9, '.', '_' and '-'",
    |text| text.parse::<crate::consent::Controller>().ok().map(|controller| controller.as_str().to_owned()),
    |schema| schema.pattern(Some("^[a-z0-9._-]{1,64}$"))
);

text_type!(
    Jurisdiction,
    String,
    "the name of a jurisdiction: 1 to 32 of a-z, 0-9 and '_'",
    |text| {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        ((1..=32).contains(&text.len()) && text.bytes().all(fits)).then(|| text.to_owned())
    },
    |schema| schema.pattern(Some("^[a-z0-9_]{1,32}$"))
);

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn is_address(text: &str) -> bool {
    let is_control = |character: char| character.is_ascii_control();
    text.chars().count() <= MAX_ADDRESS
        && text.rsplit_once('@').is_some_and(|(local, domain)| {
            !local.is_empty()
                && !domain.is_empty()
                && !local.contains(is_control)
                && !domain.contains(|character| is_control(character) || character == ' ')
        })
}

/// Reads a person's keyed hash.
pub(super) fn person(text: &str) -> Option<Person> {
    if !is_hex(text, 32) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(|number| Person(number.to_be_bytes()))
}

/// A limit from 1 to 10000. JSON has only one kind of number, so 300.0 is 300.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "f64")]
pub(super) struct Limit(pub usize);

impl TryFrom<f64> for Limit {
    type Error = String;

    fn try_from(number: f64) -> Result<Limit, String> {
        let whole = (1..=10_000).find(|whole| f64::from(*whole) == number);
        let whole = whole.and_then(|whole: u32| usize::try_from(whole).ok());
        whole.map(Limit).ok_or_else(|| "a whole number from 1 to 10000".to_owned())
    }
}

impl PartialSchema for Limit {
    fn schema() -> RefOr<Schema> {
        let schema = ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer));
        schema.minimum(Some(1)).maximum(Some(10_000)).into()
    }
}

impl ToSchema for Limit {}

/// A person, by address.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Addressed {
    /// The person's mail address.
    pub address: Address,
}

/// Asks whether a person may be asked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Asking {
    /// The person's mail address.
    pub address: Address,
    /// The purposes concerned; by default, those about opens that need consent.
    #[serde(default)]
    pub purposes: Vec<PurposeName>,
}

/// What a person said, with or without `address`.
macro_rules! statement {
    ($name:ident, $about:literal { $($field:ident: $type:ty, $what:literal)? }) => {
        #[doc = $about]
        #[derive(Debug, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name {
            $(
                #[doc = $what]
                pub $field: $type,
            )?
            /// The state to record.
            pub state: StateName,
            /// The purposes concerned; by default, all that need consent, and of a yes those about opens.
            #[serde(default)]
            pub purposes: Vec<PurposeName>,
            /// When it was said; by default, now. A refusal or withdrawal is accepted even if its time is
            /// ahead of the relay's clock.
            pub event_time: Option<Moment>,
            /// When the person was asked.
            pub asked_at: Option<Moment>,
            /// The method: a form, a call, a link.
            pub method: Option<Text>,
            /// The channel: web, mail, shop.
            pub channel: Option<Text>,
            /// The version of the notice that was shown.
            pub notice_version: Option<Text>,
            /// The SHA-256 of the exact text that was shown.
            pub text_hash: Option<TextHash>,
            /// A reference to the proof of consent. A grant without it is recorded, but not as a grant.
            pub evidence: Option<Text>,
            /// The person or program that entered it; by default, the token's name.
            pub actor: Option<Text>,
            /// When a grant expires.
            pub expires: Option<Moment>,
            /// The time before which the person must not be asked again.
            pub do_not_ask_before: Option<Moment>,
            /// The jurisdiction whose rules apply to the person.
            pub jurisdiction: Option<Jurisdiction>,
            /// True if the person must never be tracked.
            pub no_track: Option<bool>,
            /// The controller's name for the person, which webhooks use.
            pub external_id: Option<Text>,
            /// How far the choice reaches: this address, or the whole account with all its devices.
            pub scope: Option<ScopeName>,
        }

        impl $name {
            /// Converts to a row of an import; its address stays empty, and so does its time if none was
            /// given.
            pub(super) fn row(self, actor: &str) -> Row {
                let text = |text: Option<Text>| text.map_or(String::new(), |text| text.0);
                let time =
                    |moment: Option<Moment>| moment.map_or(String::new(), |moment| moment.0.to_string());
                let purposes: Vec<&str> = self.purposes.iter().map(|purpose| purpose.0.name()).collect();
                Row {
                    state: self.state.0.name().to_owned(),
                    purposes: purposes.join(" "),
                    event_time: time(self.event_time),
                    asked_at: time(self.asked_at),
                    method: text(self.method),
                    channel: text(self.channel),
                    notice_version: text(self.notice_version),
                    text_hash: self.text_hash.map_or(String::new(), |hash| hash.0),
                    evidence: text(self.evidence),
                    actor: self.actor.map_or_else(|| actor.to_owned(), |actor| actor.0),
                    expires: time(self.expires),
                    do_not_ask_before: time(self.do_not_ask_before),
                    jurisdiction: self.jurisdiction.map_or(String::new(), |jurisdiction| jurisdiction.0),
                    no_track: self.no_track.map_or(String::new(), |flag| flag.to_string()),
                    external_id: text(self.external_id),
                    scope: self.scope.map_or(String::new(), |scope| scope.0.name().to_owned()),
                    ..Row::default()
                }
            }
        }
    };
}

statement!(Statement, "What a person said." {});
statement!(AddressedStatement, "What a person said, identified by address." { address: Address, "Who." });

/// Asks what a controller may do with one kind of mail, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    /// The recipient; by default, someone about whom nothing is known.
    pub recipient: Option<Who>,
    /// The mailstream; by default, mail that matches none.
    pub mailstream: Option<Name>,
    /// The time whose rules apply; by default, now.
    pub at: Option<Moment>,
    /// The language of the explanation; by default, English.
    pub language: Option<LanguageName>,
}

/// The consent for one purpose.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Stand {
    /// The purpose.
    pub purpose: &'static str,
    /// The state that was last recorded.
    pub state: &'static str,
    /// When it was said.
    #[schema(format = DateTime)]
    pub event_time: String,
    /// When a grant expires.
    #[schema(format = DateTime)]
    pub expires: Option<String>,
    /// True if a tracker may stay for this purpose now.
    pub allowed: bool,
    /// The number of the record in the journal.
    pub record: u64,
}

/// A person's consent towards a controller.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Consent {
    /// The controller.
    pub controller: String,
    /// The keyed hash of the person's address, different for each controller.
    pub person: String,
    /// The consent by purpose. A missing purpose was never mentioned, which is not consent.
    pub purposes: Vec<Stand>,
    /// The jurisdiction whose rules apply. Several, joined by &, if records name several and none has the
    /// proof that would supersede the others: the strictest of their rules apply.
    pub jurisdiction: Option<String>,
    /// True if the person must never be tracked.
    pub no_track: bool,
    /// The time before which the person must not be asked again.
    #[schema(format = DateTime)]
    pub do_not_ask_before: Option<String>,
    /// When the address was collected.
    #[schema(format = DateTime)]
    pub collected_at: Option<String>,
    /// When the person was informed.
    #[schema(format = DateTime)]
    pub notice_sent_at: Option<String>,
}

impl Consent {
    /// Builds the description of the current consent. `person` is the hash that this controller sees.
    pub(super) fn of(controller: &str, person: String, standing: &Standing, now: Timestamp) -> Consent {
        let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
        let stand = |(purpose, stand): (Purpose, &crate::consent::standing::Stand)| Stand {
            purpose: purpose.name(),
            state: stand.state.name(),
            event_time: stand.event_at.to_string(),
            expires: time(stand.expires),
            allowed: matches!(standing.allows(purpose, now), Permission::Granted(_)),
            record: stand.record,
        };
        Consent {
            controller: controller.to_owned(),
            person,
            purposes: standing.all().map(stand).collect(),
            jurisdiction: standing.jurisdiction(),
            no_track: standing.no_track(),
            do_not_ask_before: time(standing.do_not_ask_before),
            collected_at: time(standing.collected_at),
            notice_sent_at: time(standing.notice_sent_at),
        }
    }
}

/// Reads a body.
///
/// # Errors
///
/// Checks a body, and reports an error with its position and without the value found there.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // serde would accept a list for an object, in the order of its fields.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Problem::malformed("line 1: expected a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| Problem::malformed(said(&error)))
}

/// Returns serde's error message without the value that it found.
fn said(error: &serde_json::Error) -> String {
    let place = format!("line {}, column {}", error.line(), error.column());
    let whole = error.to_string();
    let text = whole.split(" at line ").next().unwrap_or_default();
    if !error.is_data() {
        return format!("{place}: not JSON, or nested too deeply");
    }
    if let Some(rest) = text.strip_prefix("unknown field `") {
        let name = rest.split('`').next().unwrap_or_default();
        return format!("{place}: {}", import::unknown_name(name));
    }
    if text.starts_with("invalid ") {
        let wanted = text.rsplit_once(", expected ").map_or("something else", |(_, wanted)| wanted);
        return format!("{place}: expected {wanted}");
    }
    let is_ours = text.starts_with("missing field") || text.starts_with("duplicate field");
    if is_ours { format!("{place}: {text}") } else { format!("{place}: expected {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: DeserializeOwned>(body: &str) -> Result<T, String> {
        read(body.as_bytes()).map_err(|error| error.detail().to_owned())
    }

    #[test]
    fn what_is_wrong_is_said_without_what_was_sent() {
        for (body, word) in [
            (r#"{"address":"ann at home.example"}"#, "expected a mail address"),
            (r#"{"address":5,"ann":1}"#, "expected a string"),
            (r#"{"ann":"x"}"#, "unknown field"),
            (r#"{"address":"a@b.example","subscribed":true}"#, "consent to mail"),
            (r#"{"address":"a@b.example","address":"ann@home.example"}"#, "duplicate field `address`"),
            ("{}", "missing field `address`"),
            ("{\"address\": \"a@b.example\"", "not JSON"),
            ("[\"ann@home.example\"]", "expected a JSON object"),
            (&"[".repeat(100_000), "expected a JSON object"),
            ("\"ann@home.example\"", "expected a JSON object"),
        ] {
            let said = check::<Addressed>(body).map(|addressed| addressed.address.0).unwrap_err();
            assert!(said.contains(word), "{said}");
            assert!(!said.contains("home") && !said.contains("ann"), "{said}");
        }
        let said = check::<Asking>(r#"{"address":"a@b.example","purposes":["ann@home.example"]}"#);
        assert!(said.map(|said| said.purposes.len()).unwrap_err().contains("campaign_performance"));
    }

    #[test]
    fn addresses_and_hashes_are_known_by_their_form() {
        for address in ["a@b", "\"a b\"@home.example", "\u{e9}@b\u{fc}cher.example", "a@b@c"] {
            assert!(is_address(address), "{address}");
        }
        for other in ["", "@", "a@", "@b", "a", "a@b c", "a\u{0}@b", "a\n@b"] {
            assert!(!is_address(other), "{other}");
        }
        let hash = "00112233445566778899aabbccddeeff";
        assert_eq!(format!("{:?}", person(hash).unwrap()), hash);
        assert!(person(&hash[1..]).is_none() && person(&hash.to_uppercase()).is_none());
        assert!(person(&hash.replace('0', "+")).is_none());
    }

    #[test]
    fn a_statement_is_a_row() {
        let body = r#"{"state":"granted","purposes":["personalisation","fraud_detection"],"evidence":"form/1",
            "no_track":false,
                       "event_time":"2026-07-14T08:00:00+02:00"}"#;
        let row = check::<Statement>(body).unwrap().row("token crm");
        assert_eq!(
            (row.purposes.as_str(), row.actor.as_str()),
            ("personalisation fraud_detection", "token crm")
        );
        let row = Row { address: "a@b.example".to_owned(), ..row };
        let change = row.change(&"shop".parse().unwrap()).unwrap();
        assert_eq!(change.event_at, Timestamp::parse("2026-07-14T06:00:00Z").unwrap());
        assert_eq!((change.state, change.no_track), (State::Granted, Some(false)));
        assert!(check::<Statement>(r#"{"state":"granted","event_time":"2026-07-14"}"#).is_err());
    }
}
