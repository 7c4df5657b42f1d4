//! Previews the preference page as readers will see it, without a running relay.

use super::face::Face;
use super::notice::{Notice, Offer, Use, uses};
use super::page::{Context, Said, View};
use super::texts::fill;
use crate::config::treatment::fragments_of;
use crate::consent::{Change, Standing, State as Answer, Timestamp};
use crate::message::transfer::encode_base64;
use crate::policy::{Chosen, Controller, Language, Purpose, Rulebook};
use crate::rewrite::notice::sample;

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
    /// After asking for one.
    NewLinkSent,
    /// For someone whose consent has expired.
    Expired,
    /// After a form without an answer.
    NothingChosen,
    /// After a form that was sent twice.
    FormUsed,
    /// When a choice could not be recorded.
    Trouble,
    /// For an address that leads nowhere.
    NoPage,
    /// For someone who opened the address of a pixel.
    Pixel,
    /// After accepting everything.
    Accepted,
    /// For someone who objected to what is done without consent.
    Objected,
    /// For someone without a link where no mail can be sent.
    NewLinkNone,
    /// The mail with a new link.
    Letter,
    /// The notice that is put into mail, in markup and in plain text.
    Notice,
    /// For someone who follows the link that refuses everything.
    Refuse,
}

impl State {
    /// All views with their names.
    pub const ALL: [(&'static str, State); 21] = [
        ("unknown", State::Unknown),
        ("granted", State::Granted),
        ("refused", State::Refused),
        ("old-link", State::OldLink),
        ("recorded", State::Recorded),
        ("stopped", State::Stopped),
        ("unusable", State::Unusable),
        ("new-link", State::NewLink),
        ("new-link-sent", State::NewLinkSent),
        ("expired", State::Expired),
        ("nothing-chosen", State::NothingChosen),
        ("form-used", State::FormUsed),
        ("trouble", State::Trouble),
        ("no-page", State::NoPage),
        ("pixel", State::Pixel),
        ("accepted", State::Accepted),
        ("objected", State::Objected),
        ("new-link-none", State::NewLinkNone),
        ("letter", State::Letter),
        ("notice", State::Notice),
        ("refuse", State::Refuse),
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
    let standing = match state {
        State::Objected => refused(chosen.controller, now),
        _ => Standing::unknown(),
    };
    let offer = Offer::of(rulebook, chosen.controller, &standing, now);
    let notice = Notice::new(&face, language, &offer);
    let text = notice.text(&face, face.texts(language));
    let refused = refused(chosen.controller, now);
    let left = uses(rulebook, chosen.controller, &refused, now);
    let page = match state {
        State::Letter => letter(&face, language),
        State::Notice => in_mail(&face, language, chosen.controller)?,
        _ => shown(&face, language, &offer, &notice, &left, state, now),
    };
    Ok(Preview { page, language, version: notice.version, hash: notice.hash, text })
}

/// What a link looks like.
const LINK: &str = "https://choice.example/c/AbCdEf0123456789";

fn letter(face: &Face, language: Language) -> String {
    let texts = face.texts(language);
    let filled = |text: &str| fill(text, &[("controller", &face.title), ("link", LINK)]);
    let (subject, text) = (filled(&texts.mail_subject), filled(&texts.mail_text));
    let context = Context { face, language, logo: String::new(), is_unfolded: false, page: String::new() };
    context.page(&View::Letter { subject: &subject, text: &text, markup: "" })
}

fn in_mail(face: &Face, language: Language, controller: &Controller) -> Result<String, String> {
    let (markup, text) = sample(&fragments_of(controller)?, language.code(), LINK);
    let context = Context { face, language, logo: String::new(), is_unfolded: false, page: String::new() };
    Ok(context.page(&View::Letter { subject: &face.title, text: &text, markup: &markup }))
}

/// The standing of somebody who refused everything.
fn refused(controller: &Controller, now: Timestamp) -> Standing {
    let purposes = super::choice::WITHDRAWN.to_vec();
    let change = Change::new(controller.name.clone(), purposes, Answer::Refused, now);
    let mut standing = Standing::unknown();
    let _ = standing.merge(&change, 1, true);
    standing
}

fn shown(
    face: &Face,
    language: Language,
    offer: &Offer,
    notice: &Notice,
    left: &[Use],
    state: State,
    now: Timestamp,
) -> String {
    let logo = face
        .logo
        .as_ref()
        .map_or(String::new(), |logo| format!("data:{};base64,{}", logo.kind, encode_base64(&logo.bytes)));
    let context = Context { face, language, logo, is_unfolded: false, page: String::new() };
    let hint = "a…e@e….org";
    let all = |choice: Said| -> Vec<(Purpose, Said)> {
        offer.purposes.iter().map(|purpose| (*purpose, choice)).collect()
    };
    let choice = |said: &[(Purpose, Said)], form: Option<&str>, told: Option<String>| {
        context.page(&View::Choice { hint, notice, said, form, told })
    };
    let texts = face.texts(language);
    match state {
        State::Unknown => choice(&[], Some("preview"), None),
        State::Granted => choice(&all(Said::Yes(now)), Some("preview"), None),
        State::Refused => choice(&all(Said::No(now)), Some("preview"), None),
        State::OldLink => {
            let told = fill(&face.texts(language).old_link, &[("days", "180"), ("controller", &face.title)]);
            choice(&all(Said::Yes(now.plus_days(-180))), None, Some(told))
        }
        State::Recorded => {
            let said: Vec<(Purpose, Said)> = offer
                .purposes
                .iter()
                .enumerate()
                .map(|(index, purpose)| (*purpose, if index == 0 { Said::Yes(now) } else { Said::No(now) }))
                .collect();
            context.page(&View::Recorded { hint, at: now, said: &said, refused: false, also: &[] })
        }
        State::Stopped => {
            let mut also = offer.after_refusal(texts, true);
            if !left.is_empty() {
                also.push(texts.still.clone());
                also.extend(left.iter().map(|used| used.text(texts).to_owned()));
            }
            let said = all(Said::No(now));
            context.page(&View::Recorded { hint, at: now, said: &said, refused: true, also: &also })
        }
        State::Accepted => {
            let said = all(Said::Yes(now));
            context.page(&View::Recorded { hint, at: now, said: &said, refused: false, also: &[] })
        }
        State::Objected => choice(&[], Some("preview"), None),
        State::Letter | State::Notice => context.page(&View::NoPage),
        State::NewLinkNone => context.page(&View::NewLink { was_sent: false, is_possible: false }),
        State::NewLinkSent => {
            context.page(&View::NewLink { was_sent: true, is_possible: face.sender.is_some() })
        }
        State::Expired => choice(&all(Said::Over), Some("preview"), None),
        State::NothingChosen => choice(&[], Some("preview"), Some(texts.nothing_chosen.clone())),
        State::FormUsed => choice(&all(Said::Yes(now)), Some("preview"), Some(texts.form_used.clone())),
        State::Trouble => context.page(&View::Trouble),
        State::Refuse => context.page(&View::Refuse { hint, notice }),
        State::NoPage => context.page(&View::NoPage),
        State::Pixel => context.page(&View::Pixel),
        State::Unusable => context.page(&View::Unusable),
        State::NewLink => {
            context.page(&View::NewLink { was_sent: false, is_possible: face.sender.is_some() })
        }
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
                    preview(&rulebook, chosen, Some(language), state, Timestamp(1_796_000_000_000)).unwrap();
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
                for absent in ["<script", "Shop <b>", "{", "http://", "onload"] {
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
                            format!("<input type=\"radio\" name=\"{}\" value=\"{value}\"", purpose.name());
                        assert_eq!(page.matches(&radio).count(), 1);
                    }
                }
                for action in ["accept", "refuse"] {
                    let button = format!("<button name=\"action\" value=\"{action}\">");
                    assert_eq!(page.matches(&button).count(), 1);
                }
            }
            if matches!(state, State::Unknown | State::Expired | State::NothingChosen | State::Objected) {
                assert!(!page.contains(" checked"), "{state:?}");
            }
            assert_eq!(made.hash.len(), 64);
        });
    }

    /// Whoever is asked about everything that a sender can ask about still sees few words before what is folded.
    #[test]
    fn the_question_takes_few_words_even_if_all_is_asked() {
        let all = "public_url = \"https://choice.shop.example\"\n[controller.page]\ntitle = \"Shop Example\"\n\
                   [[mailstream]]\nname = \"m\"\ncontroller = \"shop\"\njurisdiction = \"fr\"\nlinks = \"gate\"\n\
                   purposes = [\"campaign_performance\", \"personalisation\", \"cross_channel_profile\", \
                   \"fraud_detection\", \"link_tracking\"]";
        check(all, |language, state, made| {
            if state != State::Unknown {
                return;
            }
            let main =
                made.page.split("<main").nth(1).and_then(|main| main.split("<details").next()).unwrap();
            let text: String = main
                .split('<')
                .map(|piece| piece.split_once('>').map_or("", |(_, text)| text))
                .collect::<Vec<_>>()
                .join(" ");
            let is_word = |word: &&str| word.chars().any(char::is_alphanumeric);
            let words = text.split_whitespace().filter(is_word).count();
            assert!((40..=120).contains(&words), "{language:?}: {words} words: {text}");
        });
    }

    /// What each kind of mailstream leads to, and which sentences the page has for it.
    #[test]
    fn the_page_says_what_is_done_without_a_yes_and_claims_no_more() {
        let mailstream =
            |lines: &str| format!("[[mailstream]]\nname = \"m\"\ncontroller = \"shop\"\n{lines}\n");
        let english = |rest: &str, wanted: State| {
            let found = std::cell::RefCell::new(String::new());
            check(rest, |language, state, made| {
                if (language, state) == (Language::English, wanted) {
                    *found.borrow_mut() = made.page.clone();
                }
            });
            found.into_inner()
        };
        let news = "purposes = [\"campaign_performance\"]";
        let legal =
            "sender = \"terms@shop.example\"\npurposes = [\"legal_notice\"]\nexemption = \"legal_notice\"";
        let day = "purposes = [\"deliverability\"]\nexemption = \"deliverability\"\njurisdiction = \"fr\"";
        // Mailstreams; whether only a yes counts; a sentence that must stand there; whether it survives a
        // refusal.
        let cases: [(String, bool, &str, bool); 7] = [
            (mailstream(news), true, "", false),
            (mailstream(&format!("{legal}\njurisdiction = \"it\"")), false, "recorded as proof", true),
            // The rules of France do not know this exemption.
            (mailstream(&format!("{legal}\njurisdiction = \"fr\"")), true, "", false),
            (
                mailstream(&format!("{day}\nrequested = \"requested\"")),
                false,
                "the day on which you last opened",
                false,
            ),
            // `check` says that this has no effect: the mail was not asked for.
            (mailstream(day), true, "", false),
            (mailstream(&format!("{news}\nmode = \"observe\"")), false, "without asking you first", true),
            (
                mailstream(&format!("{news}\njurisdiction = \"none\"")),
                false,
                "without asking you first",
                false,
            ),
        ];
        for (rest, only_yes, sentence, survives) in cases {
            let page = english(&rest, State::Unknown);
            assert_eq!(page.contains("Only if you say yes."), only_yes, "{rest}");
            assert!(page.contains(sentence), "{rest}: {sentence}");
            assert!(!only_yes || !page.contains("without asking"), "{rest}");
            let after = english(&rest, State::Stopped);
            assert_eq!(after.contains("Your refusal does not change this"), survives, "{rest}");
            assert_eq!(!sentence.is_empty() && after.contains(sentence), survives, "{rest}");
        }
    }

    #[test]
    fn an_objection_that_stands_is_said() {
        let mailstream = |name: &str, purpose: &str, more: &str| {
            format!(
                "[[mailstream]]\nname = \"{name}\"\ncontroller = \"shop\"\nsender = \"{name}@shop.example\"\n\
                 purposes = [\"{purpose}\"]\nexemption = \"{purpose}\"\n{more}\n"
            )
        };
        let day = mailstream("day", "deliverability", "requested = \"requested\"\njurisdiction = \"fr\"");
        let shared = mailstream("shared", "aggregate_statistics", "jurisdiction = \"it\"");
        let (noted, counted) = ("the day of your last open is not recorded", "your opens are not counted");
        for (rest, wanted, other) in [
            (&day, vec![noted], vec![counted]),
            (&shared, vec![counted], vec![noted]),
            (&(day.clone() + &shared), vec![noted, counted], vec![]),
        ] {
            check(rest, |language, state, made| {
                if language == Language::English {
                    let has =
                        |sentence: &&str| made.page.contains(&format!("You have objected: {sentence}."));
                    assert_eq!(wanted.iter().all(has), state == State::Objected, "{rest} {state:?}");
                    assert!(!other.iter().any(has), "{rest} {state:?}");
                }
            });
        }
    }

    #[test]
    fn where_there_is_no_privacy_notice_none_is_named() {
        for (rest, wanted) in
            [("", false), ("[controller.page]\nprivacy_url = \"https://shop.example/p\"", true)]
        {
            check(rest, |language, state, made| {
                if (language, state) == (Language::English, State::Unknown) {
                    assert_eq!(made.page.to_lowercase().contains("privacy notice"), wanted, "{rest}");
                }
            });
        }
    }

    #[test]
    fn where_nothing_is_asked_there_is_one_button() {
        let rest = "[[mailstream]]\nname = \"m\"\ncontroller = \"shop\"\npurposes = [\"deliverability\"]\n\
                    exemption = \"deliverability\"\nrequested = \"requested\"\njurisdiction = \"fr\"";
        check(rest, |language, state, made| {
            if state == State::Unknown {
                assert_eq!(made.page.matches("<button").count(), 1, "{language:?}");
                assert!(made.page.contains("value=\"withdraw\""), "{language:?}");
            }
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
