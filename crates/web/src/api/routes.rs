//! The one table of what the API has: routing, permission and description all come from it.

use serde_json::Value;
use utoipa::ToSchema;

use super::openapi::Schemas;
use super::{
    Handler, audit, consent, delivery, evidence, explain, export, figures, history, import, incoming, links,
    model, openapi, page, people, preference_page, reading, rules, statistics, system, what_if,
};
use crate::token::Scope;

/// A method of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Looks and changes nothing.
    Get,
    /// Does something, or looks for what must not stand in a path.
    Post,
    /// Sets.
    Put,
    /// Erases.
    Delete,
}

impl Method {
    /// Its name in lower case.
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
    /// Everybody who reaches the listener.
    Open,
    /// Whoever has a token that is in force.
    AnyToken,
    /// Whoever has a token with this scope, for the controller of the path.
    Scope(Scope),
    /// The same, or whoever signs what is sent with the secret of the mapping.
    SignedOr(Scope),
}

/// The schema of a type, put among those of the description.
pub(super) type SchemaOf = fn(&mut Schemas) -> Value;

/// What a request brings along.
#[derive(Clone, Copy, Debug)]
pub(super) enum Input {
    /// No body.
    Nothing,
    /// An object.
    Json(SchemaOf),
    /// Objects, one a line.
    Lines(SchemaOf),
    /// JSON of somebody else's making.
    Foreign,
}

/// What an answer brings along.
#[derive(Clone, Copy, Debug)]
pub(super) enum Output {
    /// No body.
    Nothing,
    /// An object.
    Json(SchemaOf),
    /// Something of this type.
    Typed(&'static str),
    /// An object, or a page to read.
    JsonOrPage(SchemaOf),
}

/// Something that a request may name besides.
#[derive(Clone, Copy, Debug)]
pub(super) enum Extra {
    /// In the query: name, type of the schema, least and most or the words there are, meaning.
    Number(&'static str, u64, u64, &'static str),
    /// In the query: one of a few words.
    Word(&'static str, &'static [&'static str], &'static str),
    /// In the query: a day such as 2026-11-24, with its meaning.
    Day(&'static str, &'static str),
    /// In the query: names of purposes with commas between.
    Purposes,
    /// In the header: If-Match and If-None-Match.
    Conditions,
    /// In the header: If-None-Match.
    Unchanged,
}

/// One route.
pub struct Route {
    /// By which method.
    pub method: Method,
    /// Under which path; `{controller}`, `{person}` and `{name}` stand for names.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
    /// Its name in the description and in the metrics.
    pub name: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    pub(super) about: &'static str,
    pub(super) input: Input,
    pub(super) extras: &'static [Extra],
    /// What it answers: status, meaning and body.
    pub(super) answers: &'static [(u16, &'static str, Output)],
    pub(super) handler: Handler,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Route({} {})", self.method.name(), self.path)
    }
}

impl Route {
    /// Whether it changes something, so that an idempotency key counts.
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
const SYSTEM: &str = "The API itself";

const WITH_TAG: &str = "What stands. ETag names it.";
const NOBODY: (u16, &str, Output) =
    (404, "The controller knows nobody under this hash.", Output::Json(of::<crate::problem::ProblemDetails>));
const NOT_RECORDED: (u16, &str, Output) = (
    409,
    "Nothing was recorded: something newer is known (stale), the person withdrew and this does not supersede that \
     (superseded-by-withdrawal), it was said in the future (in-future), or the same request is being done (in-progress).",
    Output::Json(of::<crate::problem::ProblemDetails>),
);
const OTHER_TAG: (u16, &str, Output) = (
    412,
    "Something else stands than If-Match or If-None-Match wants.",
    Output::Json(of::<crate::problem::ProblemDetails>),
);

const DAYS: &[Extra] = &[
    Extra::Day("since", "The first day; all there are where nothing is said."),
    Extra::Day("until", "The last day."),
];

/// Every route.
pub static ROUTES: &[Route] = &[
    Route {
        method: Method::Post,
        path: "/v1/controllers/{controller}/consent/lookup",
        access: READ,
        name: "lookup_consent",
        tag: CONSENT,
        summary: "What somebody has said",
        about: "Somebody of whom nothing is known has said nothing, which is not consent.",
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
        summary: "Record what somebody said",
        about: "Answered once it is durable. A grant needs evidence, else it is recorded as asked or never asked. A withdrawal wins: only a later \
                grant with evidence supersedes it.",
        input: Input::Json(of::<model::AddressedStatement>),
        extras: &[Extra::Conditions],
        answers: &[
            (200, "It is durable. ETag names what stands now.", Output::Json(of::<consent::Recorded>)),
            NOT_RECORDED,
            OTHER_TAG,
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
        about: "The person's key is overwritten: nobody can then read what was recorded, or tie it to the person. It cannot be undone, and goes \
                for all controllers, so the token must be for all.",
        input: Input::Json(of::<model::Addressed>),
        extras: &[],
        answers: &[(200, "Whether there was somebody.", Output::Json(of::<consent::Erased>))],
        handler: |call| Box::pin(consent::erase(call)),
    },
    Route {
        method: Method::Post,
        path: "/v1/controllers/{controller}/consent/history",
        access: READ,
        name: "consent_history",
        tag: CONSENT,
        summary: "Everything somebody has said, oldest first",
        about: "Of what was said to this controller.",
        input: Input::Json(of::<model::Addressed>),
        extras: &[],
        answers: &[(200, "The records; none where nothing is known.", Output::Json(of::<history::History>))],
        handler: |call| Box::pin(history::by_address(call)),
    },
    Route {
        method: Method::Post,
        path: "/v1/controllers/{controller}/consent/export",
        access: EXPORT,
        name: "export_consent",
        tag: CONSENT,
        summary: "Everything that is recorded of somebody, with the proof",
        about: "As JSON, or as a page to print where Accept says text/html. Of what was said to this controller.",
        input: Input::Json(of::<model::Addressed>),
        extras: &[],
        answers: &[(200, "The export.", Output::JsonOrPage(of::<crate::consent::export::Export>)), NOBODY],
        handler: |call| Box::pin(export::by_address(call)),
    },
    Route {
        method: Method::Post,
        path: "/v1/controllers/{controller}/consent/may-ask",
        access: READ,
        name: "may_ask",
        tag: CONSENT,
        summary: "Whether somebody may be asked now (N19)",
        about: "Who refused, or did not answer, is left alone for half a year.",
        input: Input::Json(of::<model::Asking>),
        extras: &[],
        answers: &[(200, "Whether, and why not.", Output::Json(of::<history::MayBeAsked>))],
        handler: |call| Box::pin(history::may_ask(call)),
    },
    Route {
        method: Method::Post,
        path: "/v1/controllers/{controller}/consent/import",
        access: WRITE,
        name: "import_consent",
        tag: CONSENT,
        summary: "Record what many said, one JSON object a line",
        about: "The columns are those of docs/consent.md. The answer comes while lines are still being read: one object a line with the line's \
                number, its result and the record, and at the end a summary. Read it while you write, or ask for results=problems.",
        input: Input::Lines(of::<import::Line>),
        extras: &[Extra::Word(
            "results",
            &["all", "problems"],
            "Which lines are answered: all, or those of which nothing was recorded.",
        )],
        answers: &[(
            200,
            "One ImportResult a line, and a summary at the end.",
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
        summary: "Links to the preference page",
        about: "A link for each address, to be put into mail or a page that this person alone sees: who has it can choose for them. Nothing is \
                recorded; whom the controller asked by it is to be recorded as asked.",
        input: Input::Json(of::<links::LinksFor>),
        extras: &[],
        answers: &[
            (200, "The links.", Output::Json(of::<links::Links>)),
            (
                409,
                "The controller has no public_url (no-public-url), or the same request is being done (in-progress).",
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
        summary: "Which of the controller's own addresses nobody reads at any more",
        about: "From days of last open (N11), from evidence of which mail carried a day pixel, and from rejected mail (N31). Only who could be \
                measured is inactive (N26). It is for stopping mail, or sending less of it, and for nothing else.",
        input: Input::Json(of::<reading::ReadingOf>),
        extras: &[],
        answers: &[(200, "For each address, in their order.", Output::Json(of::<reading::ReadingSince>))],
        handler: |call| Box::pin(reading::reading(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/controllers/{controller}/shared-opens",
        access: Access::Scope(Scope::StatisticsRead),
        name: "shared_opens",
        tag: RULES,
        summary: "How often campaigns were opened, by all readers together",
        about: "Counts of pixels that are the same for everybody (N14).",
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
        summary: "Who is known",
        about: "The store has no addresses, so people are listed by keyed hash, and by the controller's own external_id where one of the newest \
                records has one. A page may have fewer people than asked for, or none, while next says where to go on.",
        input: Input::Nothing,
        extras: &[
            Extra::Number("limit", 1, 1000, "How many people at most."),
            Extra::Number("cursor", 0, u32::MAX as u64, "What next said on the page before."),
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
        summary: "What a person has said",
        about: "",
        input: Input::Nothing,
        extras: &[Extra::Unchanged],
        answers: &[
            (200, WITH_TAG, Output::Json(of::<model::Consent>)),
            (304, "It still is what If-None-Match names.", Output::Nothing),
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
        about: "A refusal, a withdrawal or an objection may be of somebody of whom nothing is recorded yet: whoever writes a letter need not be known. \
                Anything else is recorded of people who are.",
        input: Input::Json(of::<model::Statement>),
        extras: &[Extra::Conditions],
        answers: &[
            (200, "It is durable. ETag names what stands now.", Output::Json(of::<consent::Recorded>)),
            NOBODY,
            NOT_RECORDED,
            OTHER_TAG,
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
        about: "As erase_consent does.",
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
        summary: "Everything a person has said, oldest first",
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
        summary: "Everything that is recorded of a person, with the proof",
        about: "As JSON, or as a page to print where Accept says text/html.",
        input: Input::Nothing,
        extras: &[],
        answers: &[(200, "The export.", Output::JsonOrPage(of::<crate::consent::export::Export>)), NOBODY],
        handler: |call| Box::pin(export::by_hash(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/controllers/{controller}/people/{person}/may-ask",
        access: READ,
        name: "person_may_be_asked",
        tag: PEOPLE,
        summary: "Whether a person may be asked now (N19)",
        about: "",
        input: Input::Nothing,
        extras: &[Extra::Purposes],
        answers: &[(200, "Whether, and why not.", Output::Json(of::<history::MayBeAsked>)), NOBODY],
        handler: |call| Box::pin(history::may_ask_person(call)),
    },
    Route {
        method: Method::Post,
        path: "/v1/controllers/{controller}/policy/explain",
        access: Access::Scope(Scope::PolicyRead),
        name: "explain_policy",
        tag: RULES,
        summary: "Why mail to somebody is treated as it is",
        about: "Says which policy is applied, not whether that satisfies the law.",
        input: Input::Json(of::<model::Question>),
        extras: &[],
        answers: &[
            (200, "The decision in plain sentences.", Output::Json(of::<explain::Explanation>)),
            (404, "There is no such mailstream.", Output::Json(of::<crate::problem::ProblemDetails>)),
        ],
        handler: |call| Box::pin(explain::explain(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/controllers/{controller}/statistics",
        access: Access::Scope(Scope::StatisticsRead),
        name: "statistics",
        tag: RULES,
        summary: "How many people said what",
        about: "counted_at says when it was counted: at most api.statistics_max_age_s ago, unless a new count takes longer than two seconds.",
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
        summary: "Take what a consent-management vendor tells",
        about: "A mapping of the configuration says which of it is what. Where the mapping has a secret, the signature of the body is enough, and \
                no token is needed.",
        input: Input::Foreign,
        extras: &[],
        answers: &[
            (200, "What became of each event.", Output::Json(of::<incoming::Received>)),
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
        path: "/v1/policy",
        access: Access::Scope(Scope::PolicyRead),
        name: "policy",
        tag: RULES,
        summary: "What is declared: controllers, mailstreams and the rules of jurisdictions",
        about: "A token of one controller sees that one alone.",
        input: Input::Nothing,
        extras: &[],
        answers: &[(200, "What is in force.", Output::Json(of::<rules::InForce>))],
        handler: |call| Box::pin(rules::in_force(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/controllers/{controller}/page",
        access: Access::Scope(Scope::PolicyRead),
        name: "preview_page",
        tag: RULES,
        summary: "The preference page as its readers would see it",
        about: "Nothing on it can be pressed: it leads nowhere, and is of nobody.",
        input: Input::Nothing,
        extras: &[
            Extra::Word(
                "language",
                &preference_page::LANGUAGES,
                "In which language; that of the controller where nothing is said.",
            ),
            Extra::Word(
                "view",
                &preference_page::VIEWS,
                "Which view; that of somebody unknown where nothing is said.",
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
        summary: "What would be done with a message",
        about: "Nothing is kept, sent or fetched. Before and after come back as markup in which trackers and pictures are drawn as boxes.",
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
        summary: "What was decided and found, by day",
        about: "Counted as evidence is written. A day is one of UTC.",
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
        summary: "Whose trackers were found, and who is known",
        about: "Over all days, each tracker counted once for each recipient.",
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
        summary: "What was done with whose mail",
        about: "The newest records that fit, newest first, with the proof that the chain has them where that is asked for. Of people who were \
                erased nothing is found.",
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
        summary: "Next hops, certificates and limits in use",
        about: "",
        input: Input::Nothing,
        extras: &[],
        answers: &[(200, "How they are at this moment.", Output::Json(of::<delivery::Delivery>))],
        handler: |call| Box::pin(delivery::delivery(call)),
    },
    Route {
        method: Method::Post,
        path: "/v1/audit",
        access: Access::Scope(Scope::AuditWrite),
        name: "write_audit",
        tag: PROOF,
        summary: "Write down who looked at or changed what",
        about: "Answered once it is durable. An entry is never changed or taken away; each carries the hash of the one before.",
        input: Input::Json(of::<audit::Deed>),
        extras: &[],
        answers: &[(201, "It is durable.", Output::Json(of::<audit::Written>))],
        handler: |call| Box::pin(audit::write(call)),
    },
    Route {
        method: Method::Get,
        path: "/v1/audit",
        access: Access::Scope(Scope::AuditRead),
        name: "read_audit",
        tag: PROOF,
        summary: "Who looked at or changed what, the newest first",
        about: "",
        input: Input::Nothing,
        extras: &[
            Extra::Number("limit", 1, 1000, "The most entries; 100 where nothing is said."),
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
        summary: "What this token may be used for",
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
        summary: "Whether the process answers",
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
        summary: "Whether consent can be looked up",
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
        summary: "This description as a page",
        about: "It loads nothing and has no script.",
        input: Input::Nothing,
        extras: &[],
        answers: &[(200, "The page.", Output::Typed("text/html"))],
        handler: |_| Box::pin(page::page()),
    },
];
