//! Pixels of ours: each fetch asks what holds at that moment (N25).
//!
//! The answer is the same for everything but a gate that leads on: status, fields and bytes. So nobody learns from a pixel whether its reader is
//! known, said no, was erased, or whether the token is one at all.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION, REFERRER_POLICY};
use axum::http::{Method, Response, StatusCode};

use super::Public;
use crate::consent::{Standing, Timestamp};
use crate::policy::{Chosen, Facts, OnGrant, Outcome, Rules, decide};
use crate::rewrite::target;
use crate::rewrite::token::{Holder, Kind, Token};

/// A picture of one transparent dot.
const BLANK: [u8; 43] =
    *b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\0\0\0!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

impl Public {
    /// What a pixel answers. Only GET opens anything.
    pub(super) fn pixel(&self, method: &Method, kind: Kind, token: &str, now: Timestamp) -> Response<Body> {
        if method != Method::GET {
            return blank();
        }
        match self.pipeline.mint().open(kind, token) {
            Ok(Token::Gate { holder, mailstream, country, target }) => {
                let leads_on = self.personal(&holder, &mailstream, &country, now) == Some(Outcome::SwapGated);
                // What was sealed into mail long ago may be judged differently by now.
                let location = if leads_on { target::allowed(&target) } else { None };
                location.and_then(|own| HeaderValue::try_from(own).ok()).map_or_else(blank, onward)
            }
            Ok(Token::Day { holder, mailstream, country }) => {
                if self.personal(&holder, &mailstream, &country, now) == Some(Outcome::SwapDay) {
                    self.store.note_open(&holder.controller, &mailstream, holder.person, now);
                }
                blank()
            }
            Ok(Token::Shared { controller, mailstream, campaign }) => {
                if self.shared(controller.as_str(), &mailstream, now) == Some(Outcome::SwapShared) {
                    self.store.count_open(&controller, &mailstream, campaign, now);
                }
                blank()
            }
            Ok(Token::Preference { .. }) | Err(_) => blank(),
        }
    }

    /// What is decided now for a person's pixel; nothing where it is too old, or nobody knows its controller or mailstream any more.
    fn personal(&self, holder: &Holder, mailstream: &str, country: &str, now: Timestamp) -> Option<Outcome> {
        let live = self.pipeline.live();
        if holder.issued.plus_days(live.config.public.pixel_days.into()) < now {
            return None;
        }
        let rulebook = &live.config.policy.rulebook;
        let chosen = rulebook.named(Some(holder.controller.as_str()), Some(mailstream)).ok()?;
        let standing = self.store.lookup(&holder.controller, holder.person).ok();
        // Of the address, the token has the top-level domain alone, which is all that counts (N5).
        let stand_in = format!("x@x.{country}");
        let in_force = rulebook.jurisdictions.at(now);
        let rules = in_force.applying(standing.as_deref(), chosen.mailstream.declared(), &stand_in);
        Some(outcome(chosen, &rules, standing.as_deref(), now))
    }

    /// The same for a pixel that all readers share, who are nobody in particular.
    fn shared(&self, controller: &str, mailstream: &str, now: Timestamp) -> Option<Outcome> {
        let live = self.pipeline.live();
        let rulebook = &live.config.policy.rulebook;
        let chosen = rulebook.named(Some(controller), Some(mailstream)).ok()?;
        let rules = rulebook.jurisdictions.at(now).named(chosen.mailstream.declared());
        Some(outcome(chosen, &rules, Some(&Standing::unknown()), now))
    }
}

fn outcome(chosen: Chosen<'_>, rules: &Rules, standing: Option<&Standing>, now: Timestamp) -> Outcome {
    // A pixel that is a gate stays one, whatever grants lead to in mail that is sent now; but who strips by now wants no reports.
    let on_grant = match chosen.controller.on_grant {
        OnGrant::Strip => OnGrant::Strip,
        OnGrant::Gate | OnGrant::Keep => OnGrant::Gate,
    };
    decide(&Facts { rules, mailstream: chosen.mailstream, on_grant, standing, now }).outcome
}

/// The one picture.
fn blank() -> Response<Body> {
    let mut response = Response::new(Body::from(&BLANK[..]));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("image/gif"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// On to the pixel behind a gate.
fn onward(location: HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
