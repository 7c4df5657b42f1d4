//! Mails new links to people who have no usable one, at the address that they enter, if it is known.
//!
//! The response and its timing are the same whoever the address belongs to; looking it up and mailing happen
//! separately.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{Method, Response};
use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address as Mailbox;
use mail_builder::headers::raw::Raw;
use tokio::sync::Semaphore;

use super::face::Face;
use super::page::View;
use super::texts::fill;
use super::{Public, form};
use crate::consent::person::normalised;
use crate::consent::{Controller, Person, Standing, Timestamp};
use crate::live::Live;
use crate::policy::Language;
use crate::policy::conditions::from_domain;
use crate::relay::letter;
use crate::rewrite::reader_token::{self, Holder, Token};
use crate::sign::{Sender, Signed};
use crate::smtp::address::Address;
use crate::smtp::reply::Class;

/// How long a person must wait for a second link.
const PAUSE: Duration = Duration::from_secs(15 * 60);
/// The maximum number of links per minute, to all people together.
const MOST: usize = 30;
const MINUTE: Duration = Duration::from_secs(60);
/// The maximum number of links on their way at once.
const AT_ONCE: usize = 4;

/// The people who recently got a link.
#[derive(Debug)]
pub(super) struct Letters {
    lately: Mutex<HashMap<(Controller, Person), Instant>>,
    on_the_way: Arc<Semaphore>,
}

impl Default for Letters {
    fn default() -> Letters {
        Letters { lately: Mutex::default(), on_the_way: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Letters {
    /// Returns whether a person may get a link now; if so, it counts as sent.
    fn take(&self, controller: &Controller, person: Person, now: Instant) -> bool {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        lately.retain(|_, sent| now.saturating_duration_since(*sent) < PAUSE);
        let in_minute = lately.values().filter(|sent| now.saturating_duration_since(**sent) < MINUTE).count();
        let key = (controller.clone(), person);
        if in_minute >= MOST || lately.contains_key(&key) {
            return false;
        }
        lately.insert(key, now);
        true
    }
}

/// What is needed to write to a person.
struct Letter {
    controller: Controller,
    language: Language,
    public_url: String,
    address: String,
}

impl Public {
    /// Shows the page for readers without a link.
    pub(super) async fn new_link(self: &Arc<Public>, request: Request, live: &Arc<Live>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let controller = self.host_controller(&parts, live);
        let face = controller.and_then(|controller| live.face(&controller.name)).unwrap_or(Face::nobody());
        let context = self.context(face, &parts);
        if parts.method != Method::POST {
            return super::page_of(
                &context,
                &View::NewLink { was_sent: false, is_possible: face.sender.is_some() },
            );
        }
        let fields = match form::read(&parts.headers, body, live.config.public.request_timeout).await {
            Ok(fields) => fields,
            Err(status) => {
                let mut response = super::page_of(&context, &View::Trouble);
                *response.status_mut() = status;
                return response;
            }
        };
        let public_url = controller.and_then(|controller| controller.public_url.clone());
        if let (Some(controller), Some(public_url), Some(address)) =
            (controller, public_url, fields.get("address"))
        {
            let letter = Letter {
                controller: controller.name.clone(),
                language: context.language,
                public_url,
                address: normalised(address),
            };
            let (public, live) = (Arc::clone(self), Arc::clone(live));
            tokio::spawn(async move { public.write(&letter, &live).await });
        }
        super::page_of(&context, &View::NewLink { was_sent: true, is_possible: face.sender.is_some() })
    }

    /// Finds the controller whose pages are reached under the host and path of a request, or the only one
    /// that has any.
    pub(super) fn host_controller<'a>(
        &self,
        parts: &Parts,
        live: &'a Live,
    ) -> Option<&'a crate::policy::Controller> {
        let host = parts.headers.get("host").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let path = parts.uri.path();
        let all =
            || live.config.policy.rulebook.controllers().filter(|controller| controller.public_url.is_some());
        let fits = |with_host: bool| {
            all()
                .filter(|controller| {
                    controller.public_url.as_deref().is_some_and(|url| is_below(url, host, path, with_host))
                })
                .max_by_key(|controller| controller.public_url.as_ref().map_or(0, String::len))
        };
        let only = || {
            let mut all = all();
            all.next().filter(|_| all.next().is_none())
        };
        // A proxy may have replaced the host.
        fits(true).or_else(only).or_else(|| fits(false))
    }

    /// Mails a new link to a person who is known.
    async fn write(&self, letter: &Letter, live: &Live) {
        let Some(face) = live.face(&letter.controller) else { return };
        let Some(sender) = face.sender.as_deref() else { return };
        let Ok(to) = Address::bare(&letter.address) else { return };
        if to.domain().is_none() || !letter.address.is_ascii() {
            return;
        }
        let person = self.store.person(&letter.address);
        let is_known = |standing: Arc<Standing>| *standing != Standing::unknown();
        if !self.store.known(&letter.controller, person).is_ok_and(is_known)
            || !self.letters.take(&letter.controller, person, Instant::now())
            || !self
                .is_first(&[b"letter", letter.controller.as_str().as_bytes(), b" ", &person.0], PAUSE)
                .await
        {
            return;
        }
        let Ok(_turn) = self.letters.on_the_way.acquire().await else { return };
        let now = Timestamp::now();
        let holder = Holder { controller: letter.controller.clone(), person, issued: now };
        let link = Token::Preference { holder, hint: reader_token::hint(&letter.address) };
        let Some(link) = self.host.mint().url(&letter.public_url, &link, live.config.public.token_key) else {
            return;
        };
        let message = letter.message(face, sender, &link, &live.config.relay.host_name);
        let (Some(message), Ok(from)) =
            (message.map(|message| signed(live, &letter.controller, message, now)), Address::bare(sender))
        else {
            return;
        };
        let Some(outbound) = live.outbound(sender, to.as_str()) else { return };
        let sent = letter::send(&outbound.route, from, to, &message).await;
        match sent {
            Ok(reply) if reply.class() == Class::Positive => {
                tracing::info!(controller = %letter.controller, "a new link was mailed");
            }
            // The next hop's reply may contain the address.
            Ok(reply) => {
                tracing::warn!(
                    controller = %letter.controller,
                    code = reply.code(),
                    "the next hop did not accept a mail with a new link"
                );
            }
            Err(error) => {
                tracing::warn!(controller = %letter.controller, %error, "a new link could not be mailed");
            }
        }
    }
}

/// Puts our signatures before the message, if the controller has a key for its domain.
fn signed(live: &Live, controller: &Controller, message: Vec<u8>, now: Timestamp) -> Vec<u8> {
    let domain = from_domain(&message).unwrap_or_default();
    let sender = Sender { domain: &domain, controller: controller.as_str(), tied: Vec::new() };
    match live.treatment.signers.sign(&message, &sender, now.0.div_euclid(1000)) {
        Signed::Fields(fields) => [fields.as_bytes(), &message].concat(),
        Signed::Nothing | Signed::Withheld(_) => message,
    }
}

impl Letter {
    fn message(&self, face: &Face, sender: &str, link: &str, host_name: &str) -> Option<Vec<u8>> {
        let texts = face.texts(self.language);
        let filled = |text: &str| fill(text, &[("controller", &face.title), ("link", link)]);
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id).ok()?;
        let since = Timestamp::now().0.div_euclid(1000);
        MessageBuilder::new()
            .message_id(format!("{}@{}", hex::encode(id), host_name.trim_matches(['[', ']'])))
            .date(since)
            .from(Mailbox::new_address(Some(face.title.as_str()), sender))
            .to(Mailbox::new_address(None::<&str>, self.address.as_str()))
            .subject(filled(&texts.mail_subject))
            .header("Auto-Submitted", Raw::new("auto-replied"))
            .header("Content-Language", Raw::new(self.language.code()))
            .text_body(filled(&texts.mail_text))
            .write_to_vec()
            .ok()
    }
}

/// Returns whether a path is below the path of an address, on the same host if that matters.
fn is_below(url: &str, host: &str, path: &str, with_host: bool) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (own_host, own_path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let is_host = !with_host || own_host.eq_ignore_ascii_case(host);
    let behind = path.strip_prefix(own_path.trim_end_matches('/'));
    is_host && behind.is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_belongs_to_the_address_that_it_is_below() {
        let check = |url: &str, host: &str, path: &str, wanted: bool| {
            assert_eq!(is_below(url, host, path, true), wanted, "{url} {host} {path}");
        };
        check("https://choice.example/shop", "choice.example", "/shop/c/", true);
        check("https://choice.example/shop", "CHOICE.example", "/shop/c/", true);
        check("https://choice.example", "choice.example", "/c/", true);
        check("https://choice.example:8443", "choice.example:8443", "/c/", true);
        check("https://choice.example/shop", "choice.example", "/shopping/c/", false);
        check("https://choice.example/shop", "other.example", "/shop/c/", false);
        assert!(is_below("https://choice.example/shop", "other.example", "/shop/c/", false));
    }

    #[test]
    fn nobody_gets_many_links_and_all_together_not_too_many() {
        let letters = Letters::default();
        let start = Instant::now();
        let shop: Controller = "shop".parse().unwrap();
        let take = |person: u8, after: u64| {
            letters.take(&shop, Person([person; 16]), start + Duration::from_secs(after))
        };
        assert!(take(0, 0) && !take(0, 1) && !take(0, 899) && take(0, 900));
        for person in 1..MOST as u8 {
            assert!(take(person, 901), "{person}");
        }
        assert!(!take(200, 902) && take(200, 961));
    }
}
