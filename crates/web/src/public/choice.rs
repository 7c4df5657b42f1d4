//! Records what a person says on the page, or with one click in a mail program.
//!
//! A grant needs a recent link and a form that was not sent before; a withdrawal needs nothing but a link,
//! however old, so that nothing can make it fail.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{HeaderValue, LOCATION};
use axum::http::{Method, Response, StatusCode};
use tokio::sync::oneshot;

use super::face::Face;
use super::form::{self, Fields};
use super::notice::{Notice, Offer, uses};
use super::page::{Context, Said, View};
use super::{Public, plain};
use crate::consent::{Applied, Change, Details, Permission, Scope, Standing, State, StoreError, Timestamp};
use crate::live::Live;
use crate::policy::Purpose;
use crate::rewrite::reader_token::{Holder, Token, TokenKind};

/// The purposes that a withdrawal revokes or objects to: everything that reads opens or follows links up, except
/// securing an account and proving a notice.
pub(super) const WITHDRAWN: [Purpose; 7] = [
    Purpose::CampaignPerformance,
    Purpose::Personalisation,
    Purpose::CrossChannelProfile,
    Purpose::FraudDetection,
    Purpose::Deliverability,
    Purpose::AggregateStatistics,
    Purpose::LinkTracking,
];

/// The holder of a link, and what the page says.
struct Visit<'a> {
    token: &'a str,
    holder: Holder,
    hint: String,
    context: Context<'a>,
    offer: Offer,
    notice: Notice,
    standing: Standing,
    /// Whether the link is recent enough to grant anything.
    may_grant: bool,
    now: Timestamp,
}

/// The recorded consent.
struct Spoken {
    yes: Vec<Purpose>,
    no: Vec<Purpose>,
}

impl Public {
    /// Shows the page of a link.
    pub(super) async fn preferences(&self, request: Request, token: &str, live: &Live) -> Response<Body> {
        let now = Timestamp::now();
        let (parts, body) = request.into_parts();
        let opened = self.opened(token);
        let face = opened.as_ref().and_then(|(holder, _)| live.face(&holder.controller));
        let context = self
            .context(face.unwrap_or_else(|| self.host_face(&parts, live).unwrap_or(Face::nobody())), &parts);
        if parts.method != Method::POST {
            return match (opened, face) {
                (Some((holder, hint)), Some(_)) => {
                    let visit = self.visit(live, token, holder, hint, context, now);
                    self.shown(&visit, None)
                }
                _ => super::page_of(&context, &View::Unusable),
            };
        }
        let fields = match form::read(&parts.headers, body, live.config.public.request_timeout).await {
            Ok(fields) => fields,
            Err(status) => {
                let mut response = super::page_of(&context, &View::Trouble);
                *response.status_mut() = status;
                return response;
            }
        };
        match (opened, face) {
            (Some((holder, hint)), Some(_)) => {
                let visit = self.visit(live, token, holder, hint, context, now);
                self.answered(&visit, &fields).await
            }
            _ => super::page_of(&context, &View::Unusable),
        }
    }

    /// Shows the page that refuses everything with one press, and does so once that was pressed.
    pub(super) async fn refusal(&self, request: Request, token: &str, live: &Live) -> Response<Body> {
        let is_press = request.method() == Method::POST;
        let now = Timestamp::now();
        let (parts, body) = request.into_parts();
        let Some((holder, hint)) = self.opened(token) else { return see_page(token) };
        let Some(face) = live.face(&holder.controller) else { return see_page(token) };
        let context = self.context(face, &parts);
        let logo = if context.logo.is_empty() { String::new() } else { format!("../{}", context.logo) };
        let context = Context { logo, page: format!("../{token}"), ..context };
        let visit = self.visit(live, token, holder, hint, context, now);
        if !is_press {
            let view = View::Refuse { hint: &visit.hint, notice: &visit.notice };
            return super::page_of(&visit.context, &view);
        }
        // A no needs nothing but the press; the body is read so that the connection can go on.
        match form::read(&parts.headers, body, live.config.public.request_timeout).await {
            Ok(_) => self.withdraw(&visit).await,
            Err(status) => {
                let mut response = super::page_of(&visit.context, &View::Trouble);
                *response.status_mut() = status;
                response
            }
        }
    }

    /// Handles what a mail program may ask for by itself: a withdrawal, in the manner of RFC 8058. The
    /// response is the same whoever the link belongs to.
    pub(super) async fn one_click(&self, request: Request, token: &str, live: &Live) -> Response<Body> {
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            return see_page(token);
        }
        if request.method() != Method::POST {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "Send a POST to withdraw.\n");
        }
        let (parts, body) = request.into_parts();
        let body = match form::whole(&parts.headers, body, live.config.public.request_timeout).await {
            Ok(body) => body,
            Err(status) => return plain(status, "The body cannot be read.\n"),
        };
        let has = |word: &str| memchr::memmem::find(&body, word.as_bytes()).is_some();
        let is_asked = body.is_empty() || has("List-Unsubscribe") && has("One-Click");
        if !is_asked {
            return plain(StatusCode::BAD_REQUEST, "Expected List-Unsubscribe=One-Click or an empty body.\n");
        }
        if let Some((holder, _)) = self.opened(token) {
            let standing = self.standing(&holder);
            let details = Details {
                method: Some("one_click_withdrawal".to_owned()),
                channel: Some("mail".to_owned()),
                evidence: Some(format!("link of {}", holder.issued)),
                actor: Some("recipient".to_owned()),
                ..Details::default()
            };
            if self.record(&holder, withdrawn(&holder, &standing, &details)).await.is_err() {
                return plain(StatusCode::SERVICE_UNAVAILABLE, "Not available now; please try again.\n");
            }
        }
        plain(
            StatusCode::OK,
            "Recorded: all purposes are refused, and any consent given earlier is withdrawn.\n",
        )
    }

    /// Finds whom a link belongs to; nobody if it is invalid or the person was erased.
    fn opened(&self, token: &str) -> Option<(Holder, String)> {
        match self.host.mint().open(TokenKind::Preference, token) {
            Ok(Token::Preference { holder, hint }) if !self.store.is_erased(holder.person) => {
                Some((holder, hint))
            }
            _ => None,
        }
    }

    /// Looks up the consent; if the store cannot say, nothing counts as granted.
    fn standing(&self, holder: &Holder) -> Standing {
        let found = self.store.known(&holder.controller, holder.person);
        found.map_or_else(|_| Standing::unknown(), |standing| (*standing).clone())
    }

    fn visit<'a>(
        &self,
        live: &Live,
        token: &'a str,
        holder: Holder,
        hint: String,
        context: Context<'a>,
        now: Timestamp,
    ) -> Visit<'a> {
        let standing = self.standing(&holder);
        let offer = offer(live, &holder, &standing, now);
        Visit {
            notice: Notice::new(context.face, context.language, &offer),
            standing,
            may_grant: now <= holder.issued.plus_days(live.config.public.grant_days.into()),
            token,
            holder,
            hint,
            context,
            offer,
            now,
        }
    }

    /// Shows the page with the current consent, and the result of the form that was sent.
    fn shown(&self, visit: &Visit<'_>, told: Option<&str>) -> Response<Body> {
        let form = visit.may_grant.then(|| self.forms.issue(visit.token, visit.now));
        let live = self.host.live();
        let days = live.config.public.grant_days.to_string();
        let texts = visit.context.face.texts(visit.context.language);
        let told = told.or((!visit.may_grant).then_some(texts.old_link.as_str()));
        let told = told.map(|text| {
            super::texts::fill(text, &[("days", &days), ("controller", &visit.context.face.title)])
        });
        let said = visit.said(&visit.standing);
        let view = View::Choice {
            hint: &visit.hint,
            notice: &visit.notice,
            said: &said,
            form: form.as_deref(),
            told,
        };
        super::page_of(&visit.context, &view)
    }

    /// Does what a form asks for.
    async fn answered(&self, visit: &Visit<'_>, fields: &Fields) -> Response<Body> {
        let texts = visit.context.face.texts(visit.context.language);
        let (yes, no) = match fields.get("action") {
            Some("withdraw" | "refuse") => return self.withdraw(visit).await,
            Some("accept") => (visit.offer.purposes.clone(), Vec::new()),
            _ => chosen(&visit.offer, fields),
        };
        if !visit.may_grant {
            return self.shown(visit, None);
        }
        if yes.is_empty() && no.is_empty() {
            return self.shown(visit, Some(&texts.nothing_chosen));
        }
        let form = fields.get("form").unwrap_or_default();
        if !self.forms.redeem(visit.token, form, visit.now)
            || !self.is_first(&[b"form", form.as_bytes()], form::LIFE).await
        {
            return self.shown(visit, Some(&texts.form_used));
        }
        let changes = Spoken { yes, no }.changes(visit);
        self.told(visit, changes, false).await
    }

    async fn withdraw(&self, visit: &Visit<'_>) -> Response<Body> {
        let changes = withdrawn(&visit.holder, &visit.standing, &visit.details());
        self.told(visit, changes, true).await
    }

    /// Records a choice, and reports what holds from now on.
    async fn told(&self, visit: &Visit<'_>, changes: Vec<Change>, refused: bool) -> Response<Body> {
        match self.record(&visit.holder, changes).await {
            Ok(moved_to) => {
                let at = moved_to.unwrap_or(visit.now);
                let standing = self.standing(&visit.holder);
                let said = visit.said(&standing);
                let also =
                    if refused { self.also(visit, &standing) } else { self.objected(visit, &standing) };
                let view = View::Recorded { hint: &visit.hint, at, said: &said, refused, also: &also };
                super::page_of(&visit.context, &view)
            }
            Err(()) => {
                let mut response = super::page_of(&visit.context, &View::Trouble);
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                response
            }
        }
    }

    /// Says what a refusal of everything leaves.
    fn also(&self, visit: &Visit<'_>, standing: &Standing) -> Vec<String> {
        let live = self.host.live();
        let texts = visit.context.face.texts(visit.context.language);
        let had_agreed = visit.said(&visit.standing).iter().any(|(_, said)| matches!(said, Said::Yes(_)));
        let mut also = visit.offer.after_refusal(texts, had_agreed);
        let rulebook = &live.config.policy.rulebook;
        let controller = rulebook.controllers().find(|controller| controller.name == visit.holder.controller);
        let left =
            controller.map(|controller| uses(rulebook, controller, standing, visit.now)).unwrap_or_default();
        if !left.is_empty() {
            also.push(texts.still.clone());
            also.extend(left.into_iter().map(|used| used.text(texts).to_owned()));
        }
        also
    }

    /// Says which objections stand beside a choice.
    fn objected(&self, visit: &Visit<'_>, standing: &Standing) -> Vec<String> {
        let texts = visit.context.face.texts(visit.context.language);
        let offer = offer(&self.host.live(), &visit.holder, standing, visit.now);
        offer.objected(texts).map(str::to_owned).collect()
    }

    /// Makes changes durable; returns the time they were recorded with if that is not now. Any other result
    /// is a failure: the reader must not be shown a choice that does not hold. The reason is logged.
    async fn record(&self, holder: &Holder, changes: Vec<Change>) -> Result<Option<Timestamp>, ()> {
        if changes.is_empty() {
            return Ok(None);
        }
        let changes = changes.into_iter().map(|change| (holder.person, change)).collect();
        let Ok(_turn) = self.writes.acquire().await else { return Err(()) };
        let (done, written) = oneshot::channel::<Result<Vec<Applied>, StoreError>>();
        let handed = self.store.record_later(changes, move |applied| drop(done.send(applied)));
        let applied = match (handed, written.await) {
            (Ok(()), Ok(Ok(applied))) => applied,
            (Err(error), _) | (Ok(()), Ok(Err(error))) => {
                tracing::error!(%error, "a choice could not be recorded");
                return Err(());
            }
            (Ok(()), Err(_)) => return Err(()),
        };
        let mut moved_to = None;
        for applied in applied {
            match applied {
                Applied::Recorded(_) | Applied::HoldsHere => {}
                Applied::Moved { at, .. } => moved_to = Some(at),
                Applied::NotNow | Applied::Unconfirmed => {
                    tracing::warn!(?applied, "a choice could not be recorded together with the other relays");
                    return Err(());
                }
                // What is said now is later than everything else, so this is a bug.
                Applied::Stale
                | Applied::SupersededByWithdrawal
                | Applied::InFuture
                | Applied::Conflicting => {
                    tracing::error!(?applied, "a choice did not take effect; please report it");
                    return Err(());
                }
            }
        }
        Ok(moved_to)
    }
}

/// Determines what a person is asked for by whoever their link belongs to.
fn offer(live: &Live, holder: &Holder, standing: &Standing, now: Timestamp) -> Offer {
    let rulebook = &live.config.policy.rulebook;
    let controller = rulebook.controllers().find(|controller| controller.name == holder.controller);
    Offer::of(rulebook, controller.unwrap_or(rulebook.default_controller()), standing, now)
}

/// Leads who opens the address of the one-click withdrawal to the page that it stands on.
fn see_page(token: &str) -> Response<Body> {
    let mut response = plain(StatusCode::SEE_OTHER, "");
    if let Ok(page) = HeaderValue::try_from(format!("../{token}")) {
        response.headers_mut().insert(LOCATION, page);
    }
    response
}

impl Visit<'_> {
    /// Lists what was said about each purpose that is asked for.
    fn said(&self, standing: &Standing) -> Vec<(Purpose, Said)> {
        let purposes = self.offer.purposes.iter();
        purposes.map(|purpose| (*purpose, said(standing, *purpose, self.now))).collect()
    }

    /// Describes how it was said, and what was shown (N21).
    fn details(&self) -> Details {
        Details {
            method: Some("preference_page".to_owned()),
            channel: Some("web".to_owned()),
            notice_version: Some(self.notice.version.clone()),
            text_hash: Some(self.notice.hash.clone()),
            evidence: Some(format!(
                "link of {}, page in {}",
                self.holder.issued,
                self.context.language.code()
            )),
            actor: Some("recipient".to_owned()),
            external_id: None,
            scope: Some(Scope::Address),
        }
    }
}

impl Spoken {
    fn changes(&self, visit: &Visit<'_>) -> Vec<Change> {
        let mut changes = Vec::new();
        let controller = || visit.holder.controller.clone();
        if !self.yes.is_empty() {
            let granted = Change::now(controller(), self.yes.clone(), State::Granted);
            changes.push(Change { details: visit.details(), ..granted });
        }
        changes.extend(refusals(&visit.holder, &visit.standing, &self.no, &visit.details()));
        changes
    }
}

/// Lists the changes that a no to these purposes makes: a standing grant is withdrawn, an exempt use objected
/// to, anything else refused. A standing no stays.
fn refusals(holder: &Holder, standing: &Standing, purposes: &[Purpose], details: &Details) -> Vec<Change> {
    let becomes = |purpose: &Purpose| match standing.of(*purpose).map(|mark| mark.state) {
        Some(State::Refused | State::Withdrawn | State::Objected) => None,
        Some(State::Granted) => Some(State::Withdrawn),
        Some(State::NeverAsked | State::Asked) | None if Purpose::CONSENT.contains(purpose) => {
            Some(State::Refused)
        }
        Some(State::NeverAsked | State::Asked) | None => Some(State::Objected),
    };
    let mut changes = Vec::new();
    for state in [State::Withdrawn, State::Refused, State::Objected] {
        let purposes_of_state: Vec<Purpose> =
            purposes.iter().copied().filter(|purpose| becomes(purpose) == Some(state)).collect();
        if !purposes_of_state.is_empty() {
            let change = Change::now(holder.controller.clone(), purposes_of_state, state);
            changes.push(Change { details: details.clone(), ..change });
        }
    }
    changes
}

fn withdrawn(holder: &Holder, standing: &Standing, details: &Details) -> Vec<Change> {
    refusals(holder, standing, &WITHDRAWN, details)
}

/// Lists what was chosen purpose by purpose.
fn chosen(offer: &Offer, fields: &Fields) -> (Vec<Purpose>, Vec<Purpose>) {
    let all = |value: &str| {
        offer.purposes.iter().copied().filter(|purpose| fields.get(purpose.name()) == Some(value)).collect()
    };
    (all("yes"), all("no"))
}

/// Returns the state of a purpose, as the page says it.
fn said(standing: &Standing, purpose: Purpose, now: Timestamp) -> Said {
    let Some(mark) = standing.of(purpose) else { return Said::Nothing };
    match (standing.allows(purpose, now), mark.state) {
        (Permission::Granted(_), _) => Said::Yes(mark.event_at),
        (_, State::Granted) => Said::Over,
        (_, State::Refused | State::Withdrawn | State::Objected) => Said::No(mark.event_at),
        (_, State::NeverAsked | State::Asked) => Said::Nothing,
    }
}
