//! The table of all routes, from which routing, permissions and the description are made.
//!
//! The description is itself a route, and the guard and the pages that link to it know the table: the one
//! circle of this crate.

use serde_json::Value;
use utoipa::ToSchema;

use super::openapi::Schemas;
use super::{
    Handler, archive, audit, connectors, consent, delivery, deployments, evidence, explain, export, figures,
    history, import, incoming, links, model, openapi, page, people, preference_page, reading, relays, rules,
    statistics, system, trend, what_if,
};
use crate::api_token::Scope;

/// An HTTP method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads and changes nothing.
    Get,
    /// Does something, or looks up what must not appear in a path.
    Post,
    /// Sets a value.
    Put,
    /// Erases.
    Delete,
}

impl Method {
    /// Returns the name in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Method::Get => "get",
            Method::Post => "post",
            Method::Put => "put",
            Method::Delete => "delete",
        }
    }
}

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone who reaches the listener.
    Open,
    /// Anyone with a valid token.
    AnyToken,
    /// Anyone with a token that has this scope for the controller in the path.
    Scope(Scope),
    /// The same, or anyone who signs the body with the secret of the mapping.
    SignedOr(Scope),
}

/// Adds the schema of a type to those of the description.
pub(super) type SchemaOf = fn(&mut Schemas) -> Value;

/// The body of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Input {
    /// No body.
    Nothing,
    /// An object.
    Json(SchemaOf),
    /// Objects, one per line.
    Lines(SchemaOf),
    /// JSON in a third party's format.
    Foreign,
}

/// The body of a response.
#[derive(Clone, Copy, Debug)]
pub(super) enum Output {
    /// No body.
    Nothing,
    /// An object.
    Json(SchemaOf),
    /// A body of this type.
    Typed(&'static str),
    /// An object, or a page to read.
    JsonOrPage(SchemaOf),
}

/// An optional parameter of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Extra {
    /// In the query: name, schema type, minimum and maximum or the allowed words, meaning.
    Number(&'static str, u64, u64, &'static str),
    /// In the query: one of a few words.
    Word(&'static str, &'static [&'static str], &'static str),
    /// In the query: a keyed hash, with its meaning.
    Person(&'static str, &'static str),
    /// In the query: a day such as 2026-11-24, with its meaning.
    Day(&'static str, &'static str),
    /// In the query: purposes separated by commas.
    Purposes,
    /// In the header: If-Match and If-None-Match.
    Conditions,
    /// In the header: If-None-Match.
    Unchanged,
}

/// A route.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path; `{controller}`, `{person}` and `{name}` are placeholders.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
    /// The operation id in the description and the label in metrics.
    pub name: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    pub(super) about: &'static str,
    pub(super) input: Input,
    pub(super) extras: &'static [Extra],
    /// The responses: status, meaning and body.
    pub(super) answers: &'static [(u16, &'static str, Output)],
    pub(super) handler: Handler,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Route({} {})", self.method.name(), self.path)
    }
}

impl Route {
    /// Returns whether the route changes something, so that an idempotency key applies.
    pub fn is_write(&self) -> bool {
        let scope = match self.access {
            Access::Scope(scope) => scope,
            Access::Open | Access::AnyToken | Access::SignedOr(_) => return false,
        };
        matches!(scope, Scope::ConsentWrite | Scope::ConsentErase) && !matches!(self.input, Input::Lines(_))
    }
}

fn of<T: ToSchema>(schemas: &mut Schemas) -> Value {
    schemas.refer::<T>()
}

const READ: Access = Access::Scope(Scope::ConsentRead);
const WRITE: Access = Access::Scope(Scope::ConsentWrite);
const ERASE: Access = Access::Scope(Scope::ConsentErase);
const EXPORT: Access = Access::Scope(Scope::ConsentExport);

const CONSENT: &str = "Consent by address";
const PEOPLE: &str = "People by keyed hash";
const RULES: &str = "Rules and figures";
const PROOF: &str = "What was done with mail";
const HOOKS: &str = "Webhooks";
const CONNECTORS: &str = "Connectors to sending services";
const SYSTEM: &str = "The API itself";

const WITH_TAG: &str = "The current consent, identified by ETag.";
const NOBODY: (u16, &str, Output) =
    (404, "The controller knows nobody under this hash.", Output::Json(of::<crate::problem::ProblemDetails>));
const NO_CONNECTOR: (u16, &str, Output) = (
    404,
    "The controller is unknown, or has no connector of this name.",
    Output::Json(of::<crate::problem::ProblemDetails>),
);
const HOLDS_HERE: (u16, &str, Output) = (
    202,
    "It holds at this relay, durably, and at the others once they can be reached. Only what makes things stricter \
     is answered so.",
    Output::Json(of::<consent::HoldsHere>),
);
const UNCONFIRMED: (u16, &str, Output) = (
    504,
    "The other relays did not confirm it in time: the outcome is unknown.",
    Output::Json(of::<crate::problem::ProblemDetails>),
);
const NOT_RECORDED: (u16, &str, Output) = (
    409,
    "Nothing was recorded: something newer is known (stale), the person withdrew and this does not supersede \
     that (superseded-by-withdrawal), the time is in the future (in-future), the same request is in progress \
     (in-progress), or another relay of the cluster keeps its answer (done-elsewhere).",
    Output::Json(of::<crate::problem::ProblemDetails>),
);
const OTHER_TAG: (u16, &str, Output) = (
    412,
    "The current consent is not the one that If-Match or If-None-Match expects.",
    Output::Json(of::<crate::problem::ProblemDetails>),
);

const DAYS: &[Extra] = &[
    Extra::Day("since", "The first day; by default, the first with counts."),
    Extra::Day("until", "The last day."),
];

const PAGE_LANGUAGE: &[Extra] =
    &[Extra::Word("language", &["en", "de", "fr"], "The language of the page to print; English by default.")];

/// All routes.
pub static ROUTES: &[Route] = &[
    Route {
        method: Method::Post,
        path: "/v1/controllers/{controller}/consent/lookup",
        access: READ,
        name: "lookup_consent",
        tag: CONSENT,
        summary: "Look up a person's consent",
        about: "A person about whom nothing is known has said nothing, which is not consent.",
        input: Input::Json(of::<model::Addressed>),
        extras: &[],
        answers: &[(200, WITH_TAG, Output::Json(of::<model::Consent>))],
        handler: |call| Box::pin(consent::lookup(call)),
    },
    Route {
        method: Method::Put,
        path: "/v1/controllers/{controller}/consent",
        access: WRITE,
        name: "set_consent",
        tag: CONSENT,
        summary: "Record what a person said",
        about: "Acknowledged once it is durable. A grant needs proof of consent (evidence); without it, it \
                is recorded as asked or never asked. A withdrawal wins: only a later grant with proof \
                supersedes it.",
        input: Input::Json(of::<model::AddressedStatement>),
        extras: &[Extra::Conditions],
        answers: &[
            (200, "Durably recorded. ETag identifies the new state.", Output::Json(of::<consent::Recorded>)),
            HOLDS_HERE,
            NOT_RECORDED,
            OTHER_TAG,
            UNCONFIRMED,
        ],
        handler: |call| Box::pin(consent::set(call)),
    },
    Route {
        method: Method::Post,
        path: "/v1/controllers/{controller}/consent/erase",
        access: ERASE,
        name: "erase_consent",
        tag: CONSENT,
        summary: "Erase somebody",
        about: "The person's key is overwritten: nobody can then read what was recorded, or link it to the \
                person. This cannot be undone and affects all controllers, so the token must be for all.",
        input: Input::Json(of::<model::Addressed>),
        extras: &[],
        answers: &[(200, "Whether the person was known.", Output::Json(of::<consent::Erased>))],
        handler: |call| Box::pin(consent::erase(call)),
    },
    Route {
        method: Method::Post,
        path: "/v1/controllers/{controller}/consent/history",
        access: READ,
        name: "consent_history",
        tag: CONSENT,
        summary: "List everything a person has said, oldest first",
        about: "Limited to what was said to this controller.",
        input: Input::Json(of::<model::Addressed>),
        extras: &[],
        answers: &[(200, "The records; none if nothing is known.", Output::Json(of::<history::History>))],
        handler: |call| Box::pin(history::by_address(call)),
    },
    Route {
        method: Method::Post,
        path: "/v1/controllers/{controller}/consent/export",
        access: EXPORT,
        name: "export_consent",
        tag: CONSENT,
        summary: "Export everything recorded about a person, with the proof",
        about: "As JSON, or as a page to print if Accept asks for text/html. Limited to this controller.",
        input: Input::Json(of::<model::Addressed>),
        extras: PAGE_LANGUAGE,
        answers: &[(200, "The export.", Output::JsonOrPage(of::<crate::consent::export::Export>)), NOBODY],
        handler: |call| Box::pin(export::by_address(call)),
    },
    Route {
        method: Method::Post,
        path: "/v1/controllers/{controller}/consent/may-ask",
        access: READ,
        name: "may_ask",
        tag: CONSENT,
        summary: "Check whether a person may be asked now",
        about: "Anyone who refused or did not answer is left alone for six months.",
        input: Input::Json(of::<model::Asking>),
        extras: &[],
        answers: &[(
            200,
            "Whether the person may be asked, and why not.",
            Output::Json(of::<history::MayBeAsked>),
        )],
        handler: |call| Box::pin(history::may_ask(call)),
    },
    Route {
        method: Method::Post,
        path: "/v1/controllers/{controller}/consent/import",
        access: WRITE,
        name: "import_consent",
        tag: CONSENT,
        summary: "Import many records, one JSON object per line",
        about: "The columns are those of docs/consent.md. The response begins while lines are still being \
                read: one object per line with the line's number, its result and the record, and a summary \
                at the end. Read it while you write, or pass results=problems.",
        input: Input::Lines(of::<import::Line>),
        extras: &[Extra::Word(
            "results",
            &["all", "problems"],
            "Which results to return: all, or only those of lines that were not recorded.",
        )],
        answers: &[(
            200,
            "One ImportResult per line, and a summary at the end.",
            Output::Typed("application/x-ndjson"),
        )],
        handler: |call| Box::pin(import::import(call)),
    },
    Route {
        method: Method::Post,
        path: "/v1/controllers/{controller}/links",
        access: WRITE,
        name: "mint_links",
        tag: CONSENT,
        summary: "Create links to the preference page",
        about: "One personal link per address, for mail or pages that only this person sees: whoever has the \
                link can choose for them. Nothing is recorded; record as asked whom you ask with it.",
        input: Input::Json(of::<links::LinksFor>),
        extras: &[],
        answers: &[
            (200, "The links.", Output::Json(of::<links::Links>)),
            (
                409,
                "The controller has no public_url (no-public-url), or the same request is in progress \
                 (in-progress).",
                Output::Json(of::<crate::problem::ProblemDetails>),
            ),
        ],
        handler: |call| Box::pin(links::mint(call)),
    },
    Route {
        method: Method::Post,
        path: "/v1/controllers/{controller}/inactive",
        access: READ,
        name: "inactive",
        tag: CONSENT,
        summary: "Find addresses that nobody reads any more",
        about: "Computed from days of last open, from audit records of mail that carried a day pixel, and \
                from rejected mail. Only people who could be measured count as inactive. Use it to send less \
                mail or none, and for nothing else.",
        input: Input::Json(of::<reading::ReadingOf>),
        extras: &[],
        answers: &[(
            200,
            "One reading per address, in the same order.",
            Output::Json(of::<reading::ReadingSince>),
        )],
        handler: |call| Box::pin(reading::reading(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/controllers/{controller}/shared-opens",
        access: Access::Scope(Scope::StatisticsRead),
        name: "shared_opens",
        tag: RULES,
        summary: "Count how often all readers together opened campaigns",
        about: "Counted by pixels that are the same for everybody.",
        input: Input::Nothing,
        extras: &[],
        answers: &[(200, "The counts.", Output::Json(of::<reading::SharedOpens>))],
        handler: |call| Box::pin(reading::shared_opens(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/controllers/{controller}/people",
        access: READ,
        name: "list_people",
        tag: PEOPLE,
        summary: "List known people",
        about: "The store has no addresses, so people are listed by keyed hash, and by external_id if one of \
                their newest records has one. A page may have fewer people than requested, or none, while \
                next says where to continue.",
        input: Input::Nothing,
        extras: &[
            Extra::Number("limit", 1, 1000, "The maximum number of people."),
            Extra::Number("cursor", 0, u32::MAX as u64, "The value of next from the previous page."),
        ],
        answers: &[(200, "Some people.", Output::Json(of::<people::People>))],
        handler: |call| Box::pin(people::list(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/controllers/{controller}/people/{person}",
        access: READ,
        name: "get_person",
        tag: PEOPLE,
        summary: "Look up a person's consent by keyed hash",
        about: "",
        input: Input::Nothing,
        extras: &[Extra::Unchanged],
        answers: &[
            (200, WITH_TAG, Output::Json(of::<model::Consent>)),
            (304, "It is still the one that If-None-Match names.", Output::Nothing),
            NOBODY,
        ],
        handler: |call| Box::pin(people::get(call)),
    },
    Route {
        method: Method::Put,
        path: "/v1/controllers/{controller}/people/{person}",
        access: WRITE,
        name: "set_person",
        tag: PEOPLE,
        summary: "Record what a person said, by keyed hash",
        about: "A refusal, withdrawal or objection may concern a person about whom nothing is recorded: \
                whoever writes a letter need not be known. Anything else requires a known person.",
        input: Input::Json(of::<model::Statement>),
        extras: &[Extra::Conditions],
        answers: &[
            (200, "Durably recorded. ETag identifies the new state.", Output::Json(of::<consent::Recorded>)),
            NOBODY,
            HOLDS_HERE,
            NOT_RECORDED,
            OTHER_TAG,
            UNCONFIRMED,
        ],
        handler: |call| Box::pin(people::set(call)),
    },
    Route {
        method: Method::Delete,
        path: "/v1/controllers/{controller}/people/{person}",
        access: ERASE,
        name: "erase_person",
        tag: PEOPLE,
        summary: "Erase a person",
        about: "The same as erase_consent.",
        input: Input::Nothing,
        extras: &[],
        answers: &[(204, "The person is erased.", Output::Nothing), NOBODY],
        handler: |call| Box::pin(people::erase(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/controllers/{controller}/people/{person}/history",
        access: READ,
        name: "person_history",
        tag: PEOPLE,
        summary: "List everything a person has said, oldest first",
        about: "",
        input: Input::Nothing,
        extras: &[],
        answers: &[(200, "The records.", Output::Json(of::<history::History>)), NOBODY],
        handler: |call| Box::pin(history::by_hash(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/controllers/{controller}/people/{person}/export",
        access: EXPORT,
        name: "export_person",
        tag: PEOPLE,
        summary: "Export everything recorded about a person, with the proof",
        about: "As JSON, or as a page to print if Accept asks for text/html.",
        input: Input::Nothing,
        extras: PAGE_LANGUAGE,
        answers: &[(200, "The export.", Output::JsonOrPage(of::<crate::consent::export::Export>)), NOBODY],
        handler: |call| Box::pin(export::by_hash(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/controllers/{controller}/people/{person}/may-ask",
        access: READ,
        name: "person_may_be_asked",
        tag: PEOPLE,
        summary: "Check whether a person may be asked now",
        about: "",
        input: Input::Nothing,
        extras: &[Extra::Purposes],
        answers: &[
            (200, "Whether the person may be asked, and why not.", Output::Json(of::<history::MayBeAsked>)),
            NOBODY,
        ],
        handler: |call| Box::pin(history::may_ask_person(call)),
    },
    Route {
        method: Method::Post,
        path: "/v1/controllers/{controller}/policy/explain",
        access: Access::Scope(Scope::PolicyRead),
        name: "explain_policy",
        tag: RULES,
        summary: "Explain why mail to a person is handled as it is",
        about: "Says which policy applies, not whether it satisfies the law.",
        input: Input::Json(of::<model::Question>),
        extras: &[],
        answers: &[
            (200, "The decision in plain sentences.", Output::Json(of::<explain::Explanation>)),
            (404, "Unknown mailstream.", Output::Json(of::<crate::problem::ProblemDetails>)),
        ],
        handler: |call| Box::pin(explain::explain(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/controllers/{controller}/statistics",
        access: Access::Scope(Scope::StatisticsRead),
        name: "statistics",
        tag: RULES,
        summary: "Count people by what they said",
        about: "counted_at says when: at most api.statistics_max_age_s ago, unless a new count takes longer \
                than two seconds.",
        input: Input::Nothing,
        extras: &[],
        answers: &[(200, "The counts.", Output::Json(of::<statistics::Statistics>))],
        handler: |call| Box::pin(statistics::statistics(call)),
    },
    Route {
        method: Method::Post,
        path: "/v1/controllers/{controller}/webhooks/{name}",
        access: Access::SignedOr(Scope::ConsentWrite),
        name: "receive_webhook",
        tag: HOOKS,
        summary: "Receive events from a consent management vendor",
        about: "A mapping in the configuration says which field is which. If the mapping has a secret, the \
                signature of the body suffices, and no token is needed.",
        input: Input::Foreign,
        extras: &[],
        answers: &[
            (200, "The result of each event.", Output::Json(of::<incoming::Received>)),
            (
                404,
                "The configuration has no such webhook.",
                Output::Json(of::<crate::problem::ProblemDetails>),
            ),
        ],
        handler: |call| Box::pin(incoming::receive(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/controllers/{controller}/connectors",
        access: READ,
        name: "list_connectors",
        tag: CONNECTORS,
        summary: "List what writes choices to sending services, and how it stands",
        about: "As this relay knows it: in a cluster, each relay counts what it wrote itself.",
        input: Input::Nothing,
        extras: &[],
        answers: &[(200, "The connectors.", Output::Json(of::<connectors::List>))],
        handler: |call| Box::pin(connectors::list(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/controllers/{controller}/connectors/{name}",
        access: READ,
        name: "show_connector",
        tag: CONNECTORS,
        summary: "Show a connector with what its last comparison or dry run found",
        about: "",
        input: Input::Nothing,
        extras: &[],
        answers: &[
            (200, "The connector.", Output::Json(of::<crate::connector::view::Standing>)),
            NO_CONNECTOR,
        ],
        handler: |call| Box::pin(connectors::show(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/controllers/{controller}/connectors/{name}/dead-letters",
        access: READ,
        name: "list_dead_letters",
        tag: CONNECTORS,
        summary: "List people of whom the service could not be told",
        about: "",
        input: Input::Nothing,
        extras: &[
            Extra::Number("limit", 1, 1000, "The maximum number of people; by default, 100."),
            Extra::Person("cursor", "The value of next from the previous page."),
        ],
        answers: &[
            (200, "The people, and why.", Output::Json(of::<crate::connector::view::DeadLetters>)),
            NO_CONNECTOR,
        ],
        handler: |call| Box::pin(connectors::dead_letters(call)),
    },
    Route {
        method: Method::Post,
        path: "/v1/controllers/{controller}/connectors/{name}/actions",
        access: WRITE,
        name: "order_connector",
        tag: CONNECTORS,
        summary: "Have a connector retry, sync, compare or say what it would write",
        about: "It is done in the background; list_connectors shows how far it has come.",
        input: Input::Json(of::<connectors::Order>),
        extras: &[],
        answers: &[
            (202, "It has begun.", Output::Json(of::<crate::connector::view::Standing>)),
            NO_CONNECTOR,
            (
                409,
                "The connector is paused, or the service has no way to read back (unable); or the same request is \
                 in progress (in-progress).",
                Output::Json(of::<crate::problem::ProblemDetails>),
            ),
        ],
        handler: |call| Box::pin(connectors::act(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/policy",
        access: Access::Scope(Scope::PolicyRead),
        name: "policy",
        tag: RULES,
        summary: "List declared controllers, mailstreams and the rules of jurisdictions",
        about: "A token for one controller sees only that one.",
        input: Input::Nothing,
        extras: &[],
        answers: &[(200, "What is in force.", Output::Json(of::<rules::InForce>))],
        handler: |call| Box::pin(rules::in_force(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/controllers/{controller}/trend",
        access: Access::Scope(Scope::StatisticsRead),
        name: "trend",
        tag: RULES,
        summary: "Count answers by day, purpose and source",
        about: "Of the last 365 days, from the consent journal, which is the same at all relays of a cluster; \
                counted in the background, so it may be as old as statistics_max_age_s.",
        input: Input::Nothing,
        extras: DAYS,
        answers: &[(200, "The counts.", Output::Json(of::<trend::Trend>))],
        handler: |call| Box::pin(trend::trend(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/controllers/{controller}/archive",
        access: EXPORT,
        name: "archive",
        tag: PROOF,
        summary: "Get everything on record about a controller in one archive",
        about: "A tar compressed with gzip: audit records, consent records, audit trail, rules and \
                notices, the ends of the chains, and how to verify it. At most 48 MiB; larger ones are \
                made by the command pixelward evidence archive.",
        input: Input::Nothing,
        extras: DAYS,
        answers: &[
            (200, "The archive.", Output::Typed("application/gzip")),
            (409, "The archive is too large to be sent.", Output::Json(of::<crate::problem::ProblemDetails>)),
        ],
        handler: |call| Box::pin(archive::made(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/deployments",
        access: Access::Scope(Scope::PolicyRead),
        name: "deployments",
        tag: RULES,
        summary: "List which rules and notices were in force when, and what changed",
        about: "From the audit trail, where each start and each reload that changes something leaves an \
                entry. A token for one controller sees only what concerns it.",
        input: Input::Nothing,
        extras: &[],
        answers: &[(200, "The versions.", Output::Json(of::<deployments::Deployments>))],
        handler: |call| Box::pin(deployments::list(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/controllers/{controller}/page",
        access: Access::Scope(Scope::PolicyRead),
        name: "preview_page",
        tag: RULES,
        summary: "Show the preference page as its readers would see it",
        about: "Without working controls, and for nobody in particular.",
        input: Input::Nothing,
        extras: &[
            Extra::Word(
                "language",
                &preference_page::LANGUAGES,
                "The language; by default, the controller's.",
            ),
            Extra::Word(
                "view",
                &preference_page::VIEWS,
                "The view; by default, the one for an unknown person.",
            ),
        ],
        answers: &[(200, "The page.", Output::Json(of::<preference_page::Previewed>))],
        handler: |call| Box::pin(preference_page::show(call)),
    },
    Route {
        method: Method::Post,
        path: "/v1/controllers/{controller}/policy/what-if",
        access: Access::Scope(Scope::PolicyRead),
        name: "what_if",
        tag: RULES,
        summary: "Show what would be done with a message",
        about: "Nothing is kept, sent or fetched. Before and after are returned as markup in which trackers \
                and images are drawn as boxes.",
        input: Input::Json(of::<what_if::Trial>),
        extras: &[],
        answers: &[(200, "What would be done, and why.", Output::Json(of::<what_if::Trialled>))],
        handler: |call| Box::pin(what_if::what_if(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/controllers/{controller}/figures",
        access: Access::Scope(Scope::StatisticsRead),
        name: "figures",
        tag: RULES,
        summary: "Count what was decided and found, by day",
        about: "Counted when audit records are written. Days are in UTC.",
        input: Input::Nothing,
        extras: DAYS,
        answers: &[(200, "The counts of each day that has any.", Output::Json(of::<figures::Figures>))],
        handler: |call| Box::pin(figures::figures(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/controllers/{controller}/trackers",
        access: Access::Scope(Scope::StatisticsRead),
        name: "trackers",
        tag: RULES,
        summary: "List trackers found, by vendor",
        about: "Over all days, each tracker counted once per recipient.",
        input: Input::Nothing,
        extras: &[],
        answers: &[(
            200,
            "Vendors, those with the most trackers first.",
            Output::Json(of::<figures::Vendors>),
        )],
        handler: |call| Box::pin(figures::vendors(call)),
    },
    Route {
        method: Method::Post,
        path: "/v1/controllers/{controller}/evidence/search",
        access: Access::Scope(Scope::EvidenceRead),
        name: "search_evidence",
        tag: PROOF,
        summary: "Search audit records",
        about: "The newest matching records first, with the proof that they are part of the chain if \
                requested. People who were erased cannot be found.",
        input: Input::Json(of::<evidence::Wanted>),
        extras: &[],
        answers: &[(200, "The records.", Output::Json(of::<evidence::Records>))],
        handler: |call| Box::pin(evidence::search(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/delivery",
        access: Access::Scope(Scope::DeliveryRead),
        name: "delivery",
        tag: SYSTEM,
        summary: "Show next hops, certificates and resource usage",
        about: "",
        input: Input::Nothing,
        extras: &[],
        answers: &[(200, "The current state.", Output::Json(of::<delivery::Delivery>))],
        handler: |call| Box::pin(delivery::delivery(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/cluster",
        access: Access::Scope(Scope::DeliveryRead),
        name: "cluster",
        tag: SYSTEM,
        summary: "Show how this relay and the others of its cluster stand",
        about: "",
        input: Input::Nothing,
        extras: &[],
        answers: &[
            (200, "How this relay stands.", Output::Json(of::<crate::live::Standing>)),
            (404, "This relay is on its own.", Output::Json(of::<crate::problem::ProblemDetails>)),
        ],
        handler: |call| Box::pin(relays::standing(call)),
    },
    Route {
        method: Method::Post,
        path: "/v1/audit",
        access: Access::Scope(Scope::AuditWrite),
        name: "write_audit",
        tag: PROOF,
        summary: "Append to the audit trail",
        about: "Acknowledged once it is durable. An entry is never changed or removed; each carries the hash \
                of the one before.",
        input: Input::Json(of::<audit::Deed>),
        extras: &[],
        answers: &[(201, "Durably recorded.", Output::Json(of::<audit::Written>))],
        handler: |call| Box::pin(audit::write(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/audit",
        access: Access::Scope(Scope::AuditRead),
        name: "read_audit",
        tag: PROOF,
        summary: "Read the audit trail, newest entry first",
        about: "",
        input: Input::Nothing,
        extras: &[
            Extra::Number("limit", 1, 1000, "The maximum number of entries; by default, 100."),
            Extra::Number("before", 1, u32::MAX as u64, "Only entries with a smaller number."),
        ],
        answers: &[(200, "The entries.", Output::Json(of::<audit::Entries>))],
        handler: |call| Box::pin(audit::read(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/token",
        access: Access::AnyToken,
        name: "own_token",
        tag: SYSTEM,
        summary: "Show what this token may be used for",
        about: "",
        input: Input::Nothing,
        extras: &[],
        answers: &[(200, "The token, without its secret.", Output::Json(of::<system::OwnToken>))],
        handler: |call| Box::pin(system::own_token(call)),
    },
    Route {
        method: Method::Get,
        path: "/metrics",
        access: Access::Scope(Scope::Metrics),
        name: "metrics",
        tag: SYSTEM,
        summary: "The metrics, for Prometheus",
        about: "",
        input: Input::Nothing,
        extras: &[],
        answers: &[(200, "The metrics.", Output::Typed("text/plain"))],
        handler: |call| Box::pin(system::metrics(call)),
    },
    Route {
        method: Method::Get,
        path: "/healthz",
        access: Access::Open,
        name: "health",
        tag: SYSTEM,
        summary: "Check that the process answers",
        about: "",
        input: Input::Nothing,
        extras: &[],
        answers: &[(200, "It does.", Output::Typed("text/plain"))],
        handler: |call| Box::pin(system::health(call)),
    },
    Route {
        method: Method::Get,
        path: "/readyz",
        access: Access::Open,
        name: "readiness",
        tag: SYSTEM,
        summary: "Check that consent can be looked up",
        about: "",
        input: Input::Nothing,
        extras: &[],
        answers: &[(200, "It can.", Output::Typed("text/plain"))],
        handler: |call| Box::pin(system::readiness(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/openapi.json",
        access: Access::Open,
        name: "description",
        tag: SYSTEM,
        summary: "This description",
        about: "",
        input: Input::Nothing,
        extras: &[],
        answers: &[(200, "OpenAPI 3.1.", Output::Typed("application/json"))],
        handler: |_| Box::pin(openapi::description()),
    },
    Route {
        method: Method::Get,
        path: "/v1/",
        access: Access::Open,
        name: "page",
        tag: SYSTEM,
        summary: "Show this description as a page",
        about: "It loads nothing and has no script.",
        input: Input::Nothing,
        extras: &[],
        answers: &[(200, "The page.", Output::Typed("text/html"))],
        handler: |_| Box::pin(page::page()),
    },
];
