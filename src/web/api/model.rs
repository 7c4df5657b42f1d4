//! What stands in the bodies of requests and answers.
//!
//! Each type says by itself what it takes, to serde and to the description of the API alike, and what is wrong in words that do not repeat what
//! was sent.

use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine, alphabet};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{KnownFormat, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::consent::import::{self, Row};
use crate::consent::{Permission, Person, Standing, State, Timestamp};
use crate::language::Language;
use crate::policy::Purpose;
use crate::web::problem::Problem;

/// Base64 in which the bits that stand for nothing may be anything, since a pattern cannot say what they are.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The longest text of a field, in characters.
const MAX_TEXT: usize = 1024;
/// The longest address, in characters.
const MAX_ADDRESS: usize = 320;

/// How many addresses a request may name.
pub(super) const MAX_ADDRESSES: usize = 1000;

/// A type that is read from a string, with what the description says of it.
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

/// What an address looks like, for the description.
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
    "a time as in RFC 3339, such as 2026-07-14T08:00:00Z",
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
    "campaign_performance, personalisation, cross_channel_profile, fraud_detection, deliverability, auth_security, legal_notice or \
     aggregate_statistics",
    |text| text.parse().ok(),
    |schema| schema.enum_values(Some(Purpose::ALL.map(Purpose::name)))
);

text_type!(
    Text,
    String,
    "a text of 1 to 1024 characters",
    |text| (1..=MAX_TEXT).contains(&text.chars().count()).then(|| text.to_owned()),
    |schema| schema.min_length(Some(1)).max_length(Some(MAX_TEXT))
);

text_type!(Encoded, Vec<u8>, "bytes in base64", |text| BASE64.decode(text).ok(), |schema| schema
    .pattern(Some("^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$")));

text_type!(
    TextHash,
    String,
    "SHA-256 in 64 hexadecimal digits",
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

/// A person by the keyed hash.
pub(super) fn person(text: &str) -> Option<Person> {
    if !is_hex(text, 32) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(|number| Person(number.to_be_bytes()))
}

/// How many there may be: 1 to 10000. JSON has one kind of number, so 300.0 is 300.
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

/// Somebody by address.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Addressed {
    /// Whose.
    pub address: Address,
}

/// Whether somebody may be asked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Asking {
    /// Who.
    pub address: Address,
    /// What about; all that need consent where nothing is said.
    #[serde(default)]
    pub purposes: Vec<PurposeName>,
}

/// What somebody said, with `address` or without.
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
            /// What was said.
            pub state: StateName,
            /// What about; all that need consent where nothing is said.
            #[serde(default)]
            pub purposes: Vec<PurposeName>,
            /// When it was said; at this moment where nothing is said. A no with a time ahead of the relay's
            /// clock is taken all the same.
            pub event_time: Option<Moment>,
            /// When the person was asked.
            pub asked_at: Option<Moment>,
            /// How it was said: a form, a call, a link.
            pub method: Option<Text>,
            /// Where: web, mail, shop.
            pub channel: Option<Text>,
            /// Which version of the notice was shown.
            pub notice_version: Option<Text>,
            /// SHA-256 of the exact text shown.
            pub text_hash: Option<TextHash>,
            /// Where the evidence lies. A grant without it is recorded, but not as a grant (N22).
            pub evidence: Option<Text>,
            /// Who entered it; the token's name where nothing is said.
            pub actor: Option<Text>,
            /// When a grant ends by itself.
            pub expires: Option<Moment>,
            /// Before when the person must not be asked again (N19).
            pub do_not_ask_before: Option<Moment>,
            /// Which rules apply to the person (N5).
            pub jurisdiction: Option<Jurisdiction>,
            /// Never track this person (N32).
            pub no_track: Option<bool>,
            /// The controller's own name for the person. It is what webhooks name the person by.
            pub external_id: Option<Text>,
        }

        impl $name {
            /// The same as a row of an import; its address is left empty, and its time where none was given.
            pub(super) fn row(self, actor: &str) -> Row {
                let text = |text: Option<Text>| text.map_or(String::new(), |text| text.0);
                let time = |moment: Option<Moment>| moment.map_or(String::new(), |moment| moment.0.to_string());
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
                    ..Row::default()
                }
            }
        }
    };
}

statement!(Statement, "What somebody said." {});
statement!(AddressedStatement, "What somebody said, who is named by address." { address: Address, "Who." });

/// What a controller may do, and why, for one kind of mail.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    /// For whom; somebody of whom nothing is known where nothing is said.
    pub recipient: Option<Who>,
    /// Which kind of mail; mail that no mailstream fits where nothing is said.
    pub mailstream: Option<Name>,
    /// By the rules of this moment; now where nothing is said.
    pub at: Option<Moment>,
    /// In which language it is told; English where nothing is said.
    pub language: Option<LanguageName>,
}

/// What stands for one purpose.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Stand {
    /// The purpose.
    pub purpose: &'static str,
    /// What was last said.
    pub state: &'static str,
    /// When.
    #[schema(format = DateTime)]
    pub event_time: String,
    /// Until when.
    #[schema(format = DateTime)]
    pub expires: Option<String>,
    /// Whether a tracker may stay for it now.
    pub allowed: bool,
    /// The journal's number of the record that says so.
    pub record: u64,
}

/// What a person has said to a controller.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Consent {
    /// To whom.
    pub controller: String,
    /// The keyed hash of the person's address, another one for each controller.
    pub person: String,
    /// What stands, by purpose. A purpose that is missing was never spoken of, which is not consent.
    pub purposes: Vec<Stand>,
    /// Which rules apply to the person. Several with & between where records name several and none of them
    /// has the evidence that puts older ones aside: the strictest of them apply.
    pub jurisdiction: Option<String>,
    /// Never track this person.
    pub no_track: bool,
    /// Before when the person must not be asked again (N19).
    #[schema(format = DateTime)]
    pub do_not_ask_before: Option<String>,
    /// When the address was collected (N29).
    #[schema(format = DateTime)]
    pub collected_at: Option<String>,
    /// When the person was informed (N29).
    #[schema(format = DateTime)]
    pub notice_sent_at: Option<String>,
}

impl Consent {
    /// What stands at this moment. `person` is the hash that the controller is shown.
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
/// What is wrong with it, with the place and without what stands there.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // serde would read a list as an object, by the order of its fields.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Problem::malformed("line 1: expected a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| Problem::malformed(said(&error)))
}

/// What serde says of an error, without what it found.
fn said(error: &serde_json::Error) -> String {
    let place = format!("line {}, column {}", error.line(), error.column());
    let whole = error.to_string();
    let text = whole.split(" at line ").next().unwrap_or_default();
    if !error.is_data() {
        return format!("{place}: this is no JSON, or it nests too deeply");
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
            (r#"{"address":"a@b.example","subscribed":true}"#, "N15"),
            (r#"{"address":"a@b.example","address":"ann@home.example"}"#, "duplicate field `address`"),
            ("{}", "missing field `address`"),
            ("{\"address\": \"a@b.example\"", "no JSON"),
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
        let body = r#"{"state":"granted","purposes":["personalisation","fraud_detection"],"evidence":"form/1","no_track":false,
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
