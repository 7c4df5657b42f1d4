//! Previews the preference page as readers will see it, without a running relay.

use super::face::Face;
use super::notice::{Notice, Offer};
use super::page::{Context, Said, View};
use super::texts::fill;
use crate::consent::Timestamp;
use crate::message::transfer::encode_base64;
use crate::policy::{Chosen, Language, Purpose, Rulebook};

/// A view of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// For someone who was never asked.
    Unknown,
    /// For someone who agreed to everything.
    Granted,
    /// For someone who refused.
    Refused,
    /// For an old link, which can only withdraw.
    OldLink,
    /// After a choice.
    Recorded,
    /// After "stop tracking".
    Stopped,
    /// For a link that cannot be used.
    Unusable,
    /// For getting a new link.
    NewLink,
}

impl State {
    /// All views with their names.
    pub const ALL: [(&'static str, State); 8] = [
        ("unknown", State::Unknown),
        ("granted", State::Granted),
        ("refused", State::Refused),
        ("old-link", State::OldLink),
        ("recorded", State::Recorded),
        ("stopped", State::Stopped),
        ("unusable", State::Unusable),
        ("new-link", State::NewLink),
    ];
}

/// A preview, and what a record of it would say.
#[derive(Debug)]
pub struct Preview {
    /// The page.
    pub page: String,
    /// The language of the page.
    pub language: Language,
    /// The version of the notice, which records name.
    pub version: String,
    /// The SHA-256 of the notice's text, as records have it.
    pub hash: String,
    /// The notice's text.
    pub text: String,
}

/// Previews the page of a controller in a language; by default, its own.
pub fn preview(
    rulebook: &Rulebook,
    chosen: Chosen<'_>,
    language: Option<Language>,
    state: State,
    now: Timestamp,
) -> Result<Preview, String> {
    let face = Face::load(chosen.controller)?;
    let language = language.unwrap_or(face.default);
    let offer = Offer::of(rulebook, &chosen.controller.name, now);
    let notice = Notice::new(&face, language, &offer);
    let text = notice.text(face.texts(language));
    let page = shown(&face, language, &offer, &notice, state, now);
    Ok(Preview { page, language, version: notice.version, hash: notice.hash, text })
}

fn shown(
    face: &Face,
    language: Language,
    offer: &Offer,
    notice: &Notice,
    state: State,
    now: Timestamp,
) -> String {
    let logo = face
        .logo
        .as_ref()
        .map_or(String::new(), |logo| format!("data:{};base64,{}", logo.kind, encode_base64(&logo.bytes)));
    let context = Context { face, language, logo };
    let hint = "a…e@e….org";
    let all = |choice: Said| -> Vec<(Purpose, Said)> {
        offer.purposes.iter().map(|purpose| (*purpose, choice)).collect()
    };
    let choice = |said: &[(Purpose, Said)], form: Option<&str>, told: Option<String>| {
        context.page(&View::Choice { hint, notice, said, form, told })
    };
    let (first, rest) = offer.purposes.split_at(offer.purposes.len().min(1));
    match state {
        State::Unknown => choice(&[], Some("preview"), None),
        State::Granted => choice(&all(Said::Yes(now)), Some("preview"), None),
        State::Refused => choice(&all(Said::No(now)), Some("preview"), None),
        State::OldLink => {
            let told = fill(&face.texts(language).old_link, &[("days", "180"), ("controller", &face.title)]);
            choice(&all(Said::Yes(now.plus_days(-180))), None, Some(told))
        }
        State::Recorded => context.page(&View::Recorded { hint, at: now, yes: first, no: rest }),
        State::Stopped => context.page(&View::Recorded { hint, at: now, yes: &[], no: &[] }),
        State::Unusable => context.page(&View::Unusable),
        State::NewLink => context.page(&View::NewLink { was_sent: false }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn check(rest: &str, work: impl Fn(Language, State, &Preview)) {
        let text = format!(
            "[[controller]]\nname = \"shop\"\n{rest}\n[next_hop]\nhost = \"smtp.next-hop.example\"\n"
        );
        let rulebook = Config::parse(&text).unwrap().policy.rulebook;
        let chosen = rulebook.named(Some("shop"), None).unwrap();
        for language in Language::ALL {
            for (_, state) in State::ALL {
                let made =
                    preview(&rulebook, chosen, Some(language), state, Timestamp(1_790_000_000_000)).unwrap();
                work(language, state, &made);
            }
        }
    }

    #[test]
    fn every_view_has_one_length_below_30_kb_no_script_and_no_gap() {
        check(
            "[controller.page]\ntitle = \"Shop <b>&\\\"'\"\nsender = \"privacy@shop.example\"",
            |language, state, made| {
                let page = &made.page;
                assert_eq!(page.len(), 24 * 1024, "{language:?} {state:?}");
                assert!(page.starts_with(&format!("<!DOCTYPE html><html lang=\"{}\">", language.code())));
                for absent in ["<script", "Shop <b>", "{", "http://", "onload", "checked"] {
                    let body = page.split("</style>").nth(1).unwrap();
                    assert!(!body.contains(absent), "{absent}: {language:?} {state:?}");
                }
            },
        );
    }

    #[test]
    fn a_page_for_every_purpose_says_which_and_offers_both_answers_alike() {
        check("", |_, state, made| {
            let page = &made.page;
            if matches!(state, State::Unknown | State::Granted | State::Refused) {
                for purpose in Purpose::CONSENT {
                    for value in ["yes", "no"] {
                        let radio =
                            format!("<input type=\"radio\" name=\"{}\" value=\"{value}\">", purpose.name());
                        assert_eq!(page.matches(&radio).count(), 1);
                    }
                }
                for action in ["accept", "refuse"] {
                    let button = format!("<button name=\"action\" value=\"{action}\">");
                    assert_eq!(page.matches(&button).count(), 1);
                }
            }
            assert_eq!(made.hash.len(), 64);
        });
    }

    #[test]
    fn the_hash_changes_with_every_word_and_with_the_language_alone() {
        let hash = |rest: &str, language: Language, state: State| {
            let mut found = String::new();
            let cell = std::cell::RefCell::new(&mut found);
            check(rest, |other, at, made| {
                if (other, at) == (language, state) {
                    **cell.borrow_mut() = made.hash.clone();
                }
            });
            found
        };
        let french = hash("", Language::French, State::Unknown);
        assert_eq!(french, hash("", Language::French, State::Granted));
        assert_ne!(french, hash("", Language::German, State::Unknown));
        assert_ne!(french, hash("[controller.page]\ntitle = \"Shop\"", Language::French, State::Unknown));
    }
}
