//! The table of all routes, and who may use them.

use hyper::Method;

use super::pages::{
    account, audit, cluster, delivery, history, messages, overview, person, preference_page, report, request,
    story, streams, trackers, what_if,
};
use super::{Handler, federated, sign_in};
use crate::config::console::Role;

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Anyone who reaches the console.
    Nobody,
    /// Anyone who is signed in, with any roles.
    SignedIn,
    /// Anyone with one of these roles for the selected controller.
    Of(&'static [Role]),
    /// Anyone with one of these roles for all controllers: the page belongs to no single one.
    All(&'static [Role]),
}

/// What proves that a form is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The session's token for this path.
    Token,
    /// The form's own proof: the secret of a link, or the signature of the identity provider.
    Own,
}

/// A route.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path; `{name}` is a placeholder.
    pub path: &'static str,
    /// Who may use it.
    pub need: Need,
    /// What proves a form.
    pub proof: Proof,
    pub(super) handler: Handler,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Route({:?} {})", self.method, self.path)
    }
}

const fn get(path: &'static str, need: Need, handler: Handler) -> Route {
    Route { method: Method::GET, path, need, proof: Proof::Token, handler }
}

const fn post(path: &'static str, need: Need, handler: Handler) -> Route {
    Route { method: Method::POST, path, need, proof: Proof::Token, handler }
}

const fn open(method: Method, path: &'static str, handler: Handler) -> Route {
    Route { method, path, need: Need::Nobody, proof: Proof::Own, handler }
}

const EVERY: &[Role] = &Role::ALL;
const OFFICER: &[Role] = &[Role::Officer];
const OPERATOR: &[Role] = &[Role::Operator];
const BOTH: &[Role] = &[Role::Officer, Role::Operator];

/// All routes.
pub static ROUTES: &[Route] = &[
    get("/", Need::Of(EVERY), |call| Box::pin(overview::page(call))),
    get("/person", Need::Of(OFFICER), |call| Box::pin(person::search(call))),
    post("/person", Need::Of(OFFICER), |call| Box::pin(person::find(call))),
    get("/person/{person}", Need::Of(OFFICER), |call| Box::pin(person::page(call))),
    get("/person/{person}/export", Need::Of(OFFICER), |call| Box::pin(person::export(call))),
    get("/person/{person}/print", Need::Of(OFFICER), |call| Box::pin(person::print(call))),
    post("/person/{person}/withdraw", Need::Of(OFFICER), |call| Box::pin(request::withdraw(call))),
    post("/person/{person}/erase", Need::Of(OFFICER), |call| Box::pin(request::erase(call))),
    get("/messages", Need::Of(BOTH), |call| Box::pin(messages::page(call))),
    post("/messages", Need::Of(BOTH), |call| Box::pin(messages::page(call))),
    post("/messages/recipient", Need::Of(OFFICER), |call| Box::pin(messages::of_recipient(call))),
    get("/messages/{id}", Need::Of(BOTH), |call| Box::pin(story::page(call))),
    post("/messages/{id}", Need::Of(OFFICER), |call| Box::pin(story::open(call))),
    get("/messages/{id}/export", Need::Of(BOTH), |call| Box::pin(story::export(call))),
    get("/streams", Need::Of(EVERY), |call| Box::pin(streams::page(call))),
    get("/streams/page", Need::Of(EVERY), |call| Box::pin(preference_page::page(call))),
    get("/history", Need::Of(EVERY), |call| Box::pin(history::page(call))),
    get("/what-if", Need::Of(BOTH), |call| Box::pin(what_if::page(call))),
    post("/what-if", Need::Of(BOTH), |call| Box::pin(what_if::tried(call))),
    get("/trackers", Need::Of(EVERY), |call| Box::pin(trackers::page(call))),
    get("/delivery", Need::All(EVERY), |call| Box::pin(delivery::page(call))),
    get("/cluster", Need::All(EVERY), |call| Box::pin(cluster::page(call))),
    get("/audit", Need::All(BOTH), |call| Box::pin(audit::page(call))),
    get("/audit/export", Need::All(BOTH), |call| Box::pin(audit::export(call))),
    get("/report/archive", Need::Of(OFFICER), |call| Box::pin(report::archived(call))),
    get("/report", Need::Of(EVERY), |call| Box::pin(report::page(call))),
    open(Method::GET, "/style.css", |call| Box::pin(sign_in::style(call))),
    open(Method::GET, "/mark.svg", |call| Box::pin(sign_in::mark(call))),
    open(Method::GET, "/console.js", |call| Box::pin(sign_in::script(call))),
    open(Method::GET, "/login", |call| Box::pin(sign_in::page(call))),
    open(Method::GET, "/login/link", |call| Box::pin(sign_in::link(call))),
    open(Method::POST, "/login/link", |call| Box::pin(sign_in::take_link(call))),
    open(Method::GET, "/signed-out", |call| Box::pin(sign_in::signed_out(call))),
    open(Method::GET, "/saml/metadata", |call| Box::pin(federated::metadata(call))),
    open(Method::GET, "/saml/login", |call| Box::pin(federated::login(call))),
    open(Method::POST, "/saml/acs", |call| Box::pin(federated::accept(call))),
    open(Method::GET, "/saml/finish", |call| Box::pin(federated::finish(call))),
    open(Method::GET, "/saml/logout", |call| Box::pin(federated::logout(call))),
    post("/logout", Need::SignedIn, |call| Box::pin(sign_in::out(call))),
    post("/language", Need::SignedIn, |call| Box::pin(account::language(call))),
    get("/account", Need::SignedIn, |call| Box::pin(account::page(call))),
    post("/account/end", Need::All(OPERATOR), |call| Box::pin(account::end(call))),
];
