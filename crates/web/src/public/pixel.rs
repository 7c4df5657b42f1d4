//! Our pixels: each fetch checks the consent of that moment (N25).
//!
//! The response is the same for everything except a gate that redirects: status, fields and bytes. So nobody
//! learns from a pixel whether its reader is known, refused or was erased, or whether the token is valid.
//!
//! Images are loaded, not visited. Anyone who opens a pixel's address as a page gets a page that explains it,
//! whatever the token and the consent: our name leads nobody to a page that somebody else has put into a
//! mail, and a visit does not count as an open.
//!
//! Links are visited. A gated one leads on in every case: through the link that stood in the mail if the reader
//! agrees to that at the moment, else straight to its page, and nothing is noted. Both addresses are sealed, and
//! come from mail of a controller that turned gates on.

use axum::body::Body;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION, REFERRER_POLICY};
use axum::http::{HeaderMap, Method, Response, StatusCode};

use super::Public;
use crate::consent::{Standing, Timestamp};
use crate::policy::{Chosen, Facts, Instruction, LinkFate, OnGrant, Outcome, Rules, decide};
use crate::rewrite::reader_token::{Holder, Token, TokenKind};
use crate::rewrite::target;

/// A transparent image of one pixel.
const BLANK: [u8; 43] =
    *b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\0\0\0!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

/// Returns whether a request is for a page rather than an image. Browsers say so (Fetch Metadata); mail
/// programs and image proxies say nothing, or that they accept any image.
pub(super) fn is_visit(headers: &HeaderMap) -> bool {
    let said = |name: &str| headers.get(name).map(|value| value.as_bytes().trim_ascii().to_ascii_lowercase());
    match (said("sec-fetch-dest"), said("sec-fetch-mode")) {
        (Some(destination), _) if destination != b"image" => true,
        (_, Some(mode)) if mode != b"no-cors" && mode != b"cors" => true,
        (None, None) => prefers_page(headers),
        _ => false,
    }
}

/// Returns whether the accepted types include a page, and no image that is preferred.
fn prefers_page(headers: &HeaderMap) -> bool {
    let (mut page, mut picture) = (0, 0);
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in values.flat_map(|value| value.split(',')).take(MAX_RANGES) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        // In thousandths, as they are written (RFC 9110, section 12.4.2).
        let weight = weight.map_or(Some(1.0), |weight| weight.parse::<f32>().ok()).unwrap_or(0.0);
        let weight = (weight.clamp(0.0, 1.0) * 1000.0) as u16;
        match kind.split_once('/') {
            Some(("text", "html") | ("application", "xhtml+xml")) => page = page.max(weight),
            Some(("image", _)) => picture = picture.max(weight),
            _ => {}
        }
    }
    page > 0 && page >= picture
}

/// The maximum number of types of an Accept field to examine.
const MAX_RANGES: usize = 64;

impl Public {
    /// Answers a request for a pixel. Only GET counts as an open.
    pub(super) fn pixel(
        &self,
        method: &Method,
        kind: TokenKind,
        token: &str,
        now: Timestamp,
    ) -> Response<Body> {
        if method != Method::GET {
            return blank();
        }
        match self.host.mint().open(kind, token) {
            Ok(Token::Gate { holder, mailstream, country, target }) => {
                let leads_on = self.personal(&holder, &mailstream, &country, now) == Some(Outcome::SwapGated);
                // The decision may have changed since the address was sealed into mail.
                let location = if leads_on { target::allowed(&target) } else { None };
                location.and_then(|location| HeaderValue::try_from(location).ok()).map_or_else(blank, onward)
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
            Ok(Token::Preference { .. } | Token::Link { .. }) | Err(_) => blank(),
        }
    }

    /// Answers a click on a gated link; `None` if the address is not one of ours, or leads nowhere. Only GET goes
    /// through the original link: whoever asks for the head alone is a program that looks ahead.
    pub(super) fn link(&self, method: &Method, token: &str, now: Timestamp) -> Option<Response<Body>> {
        let opened = self.host.mint().open(TokenKind::Link, token);
        let Ok(Token::Link { holder, mailstream, country, target, original }) = opened else { return None };
        let agrees = *method == Method::GET
            && self.decided(&holder, &mailstream, &country, now).is_some_and(|(_, links)| may_report(links));
        let location = target::allowed(if agrees { &original } else { &target })?;
        let mut response = onward(HeaderValue::try_from(location).ok()?);
        response.headers_mut().insert("x-robots-tag", HeaderValue::from_static("noindex, nofollow"));
        Some(response)
    }

    /// Decides about a person's pixel now.
    fn personal(&self, holder: &Holder, mailstream: &str, country: &str, now: Timestamp) -> Option<Outcome> {
        self.decided(holder, mailstream, country, now).map(|(outcome, _)| outcome)
    }

    /// Decides about a person's pixels and links now; `None` if they are too old, or their controller or
    /// mailstream no longer exists.
    fn decided(
        &self,
        holder: &Holder,
        mailstream: &str,
        country: &str,
        now: Timestamp,
    ) -> Option<(Outcome, LinkFate)> {
        let live = self.host.live();
        if holder.issued.plus_days(live.config.public.pixel_days.into()) < now {
            return None;
        }
        let rulebook = &live.config.policy.rulebook;
        let chosen = rulebook.named(Some(holder.controller.as_str()), Some(mailstream)).ok()?;
        let standing = self.store.lookup(&holder.controller, holder.person).ok();
        // Of the address, the token contains only the top-level domain, which is all that matters (N5).
        let stand_in = format!("x@x.{country}");
        let in_force = rulebook.jurisdictions.at(now);
        let rules = in_force.applying(standing.as_deref(), chosen.mailstream.declared(), &stand_in);
        Some(decided(chosen, &rules, standing.as_deref(), now))
    }

    /// Decides the same for a pixel that all readers share.
    fn shared(&self, controller: &str, mailstream: &str, now: Timestamp) -> Option<Outcome> {
        let live = self.host.live();
        let rulebook = &live.config.policy.rulebook;
        let chosen = rulebook.named(Some(controller), Some(mailstream)).ok()?;
        let rules = rulebook.jurisdictions.at(now).named(chosen.mailstream.declared());
        Some(decided(chosen, &rules, Some(&Standing::unknown()), now).0)
    }
}

/// Whether a link may report who follows it.
const fn may_report(links: LinkFate) -> bool {
    match links {
        LinkFate::Stay | LinkFate::Granted => true,
        LinkFate::Treat => false,
    }
}

fn decided(
    chosen: Chosen<'_>,
    rules: &Rules,
    standing: Option<&Standing>,
    now: Timestamp,
) -> (Outcome, LinkFate) {
    // A pixel that is a gate stays one, whatever grants lead to in new mail; but a controller that strips by
    // now wants no reports.
    let on_grant = match chosen.controller.on_grant {
        OnGrant::Strip => OnGrant::Strip,
        OnGrant::Gate | OnGrant::Keep => OnGrant::Gate,
    };
    let mailstream = chosen.mailstream;
    // A gate stands only in copies of which the sending application said nothing.
    let instruction = Instruction::None;
    let decision = decide(&Facts { rules, mailstream, on_grant, standing, instruction, now });
    (decision.outcome, decision.links)
}

/// Builds the response with the common image.
fn blank() -> Response<Body> {
    let mut response = Response::new(Body::from(&BLANK[..]));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("image/gif"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Redirects to what is behind a gate.
fn onward(location: HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fields: &[(&'static str, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        is_visit(&headers)
    }

    #[test]
    fn pictures_are_loaded_by_programs_that_say_so_or_say_nothing() {
        for accept in [
            // Proxies of mailbox providers, Apple Mail, Outlook, Thunderbird, browsers of several years.
            "*/*",
            "image/*",
            "image/webp,image/avif,image/jxl,image/heic,image/heic-sequence,video/*;q=0.8,\
             image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5",
            "image/png,image/*;q=0.8,*/*;q=0.5",
            "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
            "image/gif, image/x-xbitmap, image/jpeg, image/pjpeg, \
             application/x-shockwave-flash, application/vnd.ms-excel, */*",
            "image/gif, text/html;q=0.5, */*",
            "text/html;q=0, */*",
            "nonsense",
        ] {
            assert!(!check(&[("accept", accept)]), "{accept}");
        }
        assert!(!check(&[]));
        assert!(!check(&[("sec-fetch-dest", "image"), ("sec-fetch-mode", "no-cors"), ("accept", "*/*")]));
        assert!(!check(&[("sec-fetch-dest", "image"), ("sec-fetch-mode", "cors")]));
        assert!(!check(&[("sec-fetch-mode", "no-cors")]));
    }

    #[test]
    fn pages_are_visited() {
        for accept in [
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,\
             image/apng,*/*;q=0.8",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "TEXT/HTML",
            "application/xhtml+xml;q=0.9, image/png;q=0.8",
        ] {
            assert!(check(&[("accept", accept)]), "{accept}");
        }
        assert!(check(&[("accept", "image/png;q=0.5"), ("accept", "text/html")]), "two fields");
        for (destination, mode) in [
            ("document", "navigate"),
            ("iframe", "navigate"),
            ("Document", "navigate"),
            ("image", "navigate"),
            ("document", "no-cors"),
            ("empty", "cors"),
            ("script", "no-cors"),
            ("object", "navigate"),
            ("", ""),
        ] {
            let fields = [("sec-fetch-dest", destination), ("sec-fetch-mode", mode), ("accept", "image/*")];
            assert!(check(&fields), "{destination} {mode}");
        }
        assert!(check(&[("sec-fetch-mode", "navigate")]) && check(&[("sec-fetch-dest", "embed")]));
    }
}
