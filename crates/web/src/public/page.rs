//! The preference page. It has no script, loads nothing but the controller's logo from this relay, and is
//! designed for phones first.
//!
//! Every view has the same length, so that its size reveals to nobody along the way what was chosen.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::face::Face;
use super::notice::Notice;
use super::texts::{Texts, fill};
use crate::consent::Timestamp;
use crate::message::transfer::encode_base64;
use crate::policy::{Language, Purpose};

/// The length of every page, in bytes; a longer one, because of its controller's texts, has a multiple of it.
const LENGTH: usize = 24 * 1024;

const STYLE: &str = ":root{color-scheme:light dark;--ink:#1b1f24;--soft:#4c5561;--paper:#fff;--back:#f3f4f6;\
                     --line:#767f8c;--deep:#1d4ed8;--on:#fff;--warn:#8f1d1d}\
                     @media(prefers-color-scheme:dark){:root{--ink:#eef0f3;--soft:#b9c0ca;--paper:#1c2128;\
                     --back:#12161b;--line:#8b95a3;--deep:#8ab4ff;--on:#0b1526;--warn:#ffb4ab}}\
                     *{box-sizing:border-box}html{-webkit-text-size-adjust:100%}body{margin:0;\
                     background:var(--back);color:var(--ink);font:1.0625rem/1.55 \
                     system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;overflow-wrap:anywhere}\
                     main,header,footer{max-width:42rem;margin:0 auto;padding:0 \
                     1rem}header{padding-top:1.25rem}header img{max-width:12rem;max-height:4rem;\
                     display:block}h1{font-size:1.5rem;line-height:1.25;margin:1rem 0 \
                     .5rem}h2{font-size:1.15rem;margin:1.75rem 0 .35rem}p{margin:.35rem 0 \
                     .75rem}.soft{color:var(--soft)}.hint{display:inline-block;max-width:100%}\
                     .letter{white-space:pre-wrap}.told{border-left:.3rem solid \
                     var(--warn);padding:.6rem \
                     .9rem;background:var(--paper)}section.stop,fieldset{background:var(--paper);border:1px \
                     solid var(--line);border-radius:.6rem;padding:1rem;margin:1rem \
                     0;min-width:0}section.stop h2{margin-top:0}legend{float:left;width:100%;\
                     font-weight:600;padding:0 0 .35rem}legend+*{clear:both}\
                     fieldset p{margin:0 0 .5rem}.pair{display:flex;gap:.75rem;flex-wrap:wrap}.pair \
                     label{display:flex;align-items:center;gap:.6rem;min-height:2.75rem;min-width:7rem;\
                     padding:.35rem .9rem;border:1px solid var(--line);border-radius:.5rem;cursor:pointer}\
                     input[type=radio]{width:1.3rem;height:1.3rem;margin:0;accent-color:var(--deep)}\
                     input[type=email]{font:inherit;width:100%;min-height:2.75rem;padding:.5rem \
                     .75rem;border:1px solid var(--line);border-radius:.5rem;background:var(--paper);\
                     color:var(--ink);margin:.25rem 0 1rem}button{font:inherit;font-weight:600;\
                     min-height:3rem;padding:.6rem 1.2rem;border-radius:.5rem;border:2px solid \
                     var(--deep);background:var(--paper);color:var(--deep);cursor:pointer;width:100%;\
                     margin:.35rem 0}button.main{background:var(--deep);color:var(--on)}a{color:var(--deep)}\
                     :focus-visible{outline:3px solid var(--deep);outline-offset:2px}.all{display:grid;\
                     grid-template-columns:1fr 1fr;gap:.25rem .75rem}ul.purposes{margin:.35rem 0 \
                     1rem;padding-left:1.25rem}details{border-top:1px solid var(--line);padding:.35rem \
                     0}summary{font-weight:600;min-height:2.75rem;padding:.6rem \
                     0;cursor:pointer}footer{padding-top:1.5rem;padding-bottom:2rem}nav \
                     ul{list-style:none;margin:0 -.7rem;padding:0;display:flex;flex-wrap:wrap;gap:.25rem}nav \
                     a,nav [aria-current]{display:inline-block;padding:.6rem .7rem;min-height:2.75rem}nav \
                     [aria-current]{font-weight:600}";

/// The content security policy of the page: its style, images from here, and forms sent here.
pub(super) static SECURITY: LazyLock<String> = LazyLock::new(|| {
    let hash = encode_base64(digest::digest(&digest::SHA256, STYLE.as_bytes()).as_ref());
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src 'self'; form-action 'self'; frame-ancestors \
         'none'; base-uri 'none'"
    )
});

/// The controller whose page it is, and the language.
pub(super) struct Context<'a> {
    pub(super) face: &'a Face,
    pub(super) language: Language,
    /// The address of the logo; empty if there is none.
    pub(super) logo: String,
    /// Whether the choice purpose by purpose is unfolded.
    pub(super) is_unfolded: bool,
    /// The address of the preference page from here; empty on the page itself.
    pub(super) page: String,
}

/// What was said about a purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Yes(Timestamp),
    No(Timestamp),
    /// A yes that has expired.
    Over,
    Nothing,
}

/// The contents of the page.
pub(super) enum View<'a> {
    /// The offer to choose from.
    Choice {
        hint: &'a str,
        notice: &'a Notice,
        said: &'a [(Purpose, Said)],
        /// The token of the form; `None` if the link can only withdraw.
        form: Option<&'a str>,
        /// The result of the form that was sent.
        told: Option<String>,
    },
    /// What holds now that a choice was recorded.
    Recorded {
        hint: &'a str,
        at: Timestamp,
        said: &'a [(Purpose, Said)],
        /// Whether everything was refused.
        refused: bool,
        /// What else holds from now on.
        also: &'a [String],
    },
    /// Refusing everything with one press.
    Refuse { hint: &'a str, notice: &'a Notice },
    /// The choice could not be recorded.
    Trouble,
    /// A link that cannot be used.
    Unusable,
    /// An explanation of what a pixel is, for someone who opened its address.
    Pixel,
    /// A form to get a new link, if any can be had.
    NewLink { was_sent: bool, is_possible: bool },
    /// A mail of ours, and what is put into mail: shown, to be proofread.
    Letter { subject: &'a str, text: &'a str, markup: &'a str },
    /// Nothing is here.
    NoPage,
}

impl Context<'_> {
    fn texts(&self) -> &Texts {
        self.face.texts(self.language)
    }

    fn filled(&self, text: &str) -> String {
        fill(text, &[("controller", &self.face.title)])
    }

    /// Renders the page.
    pub(super) fn page(&self, view: &View<'_>) -> String {
        let (title, content) = match view {
            View::Choice { hint, notice, said, form, told } => {
                (notice.title.clone(), self.choice(hint, notice, said, *form, told.as_deref()))
            }
            View::Recorded { hint, at, said, refused, also } => {
                let title = if *refused { &self.texts().stopped } else { &self.texts().recorded };
                (title.clone(), self.recorded(hint, *at, said, *refused, also))
            }
            View::Refuse { hint, notice } => (self.texts().refuse_all.clone(), self.refuse(hint, notice)),
            View::Trouble => (self.texts().choice_heading.clone(), self.trouble()),
            View::Unusable => (self.texts().unusable.clone(), self.unusable()),
            View::Pixel => (self.texts().pixel.clone(), self.pixel()),
            View::NewLink { was_sent, is_possible } => {
                (self.texts().new_link.clone(), self.new_link(*was_sent, *is_possible))
            }
            View::Letter { subject, text, markup } => ((*subject).to_owned(), letter(text, markup)),
            View::NoPage => (self.texts().no_page.clone(), html! { p { (self.texts().no_page_text) } }),
        };
        let page = html! {
            (DOCTYPE)
            html lang=(self.language.code()) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="referrer" content="no-referrer";
                    meta name="robots" content="noindex, nofollow";
                    title { (title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    @if !self.logo.is_empty() { header { img src=(self.logo) alt=(self.face.title); } }
                    main {
                        h1 { (title) }
                        (content)
                    }
                    footer { (self.foot()) }
                }
            }
        };
        padded(page.into_string())
    }

    fn choice(
        &self,
        hint: &str,
        notice: &Notice,
        said: &[(Purpose, Said)],
        form: Option<&str>,
        told: Option<&str>,
    ) -> Markup {
        let texts = self.texts();
        html! {
            @if let Some(told) = told { p.told role="status" { (told) } }
            @if form.is_none() || agreed(said).next().is_some() { (self.stop(notice, said)) }
            p { (notice.lead) }
            @if form.is_some() { (self.question(notice, form)) }
            (self.whose(hint))
            @for sentence in &notice.objected { p { (sentence) } }
            @match form {
                Some(form) => @if !notice.purposes.is_empty() { (self.one_by_one(notice, said, form)) },
                None => {
                    @for (purpose, name, _) in &notice.purposes {
                        p { strong { (name) } br; (self.said(*purpose, said)) }
                    }
                    (self.way_to_new_link())
                }
            }
            details {
                summary { (texts.more_heading) }
                @for sentence in notice.more.iter().chain(&notice.also) { p { (sentence) } }
                @if let Some(url) = &self.face.privacy_url {
                    p { a href=(url) rel="noreferrer" { (self.filled(&texts.privacy)) } }
                }
            }
        }
    }

    /// Whose page it is: by an address that is shown in part, in one piece.
    fn whose(&self, hint: &str) -> Markup {
        let text = self.filled(&self.texts().whose);
        let (before, behind) = text.split_once("{hint}").unwrap_or((&text, ""));
        html! { p.soft { (before) span.hint { (hint) } (behind) } }
    }

    /// The question and its two answers, in one style.
    fn question(&self, notice: &Notice, form: Option<&str>) -> Markup {
        let texts = self.texts();
        html! {
            @if !notice.purposes.is_empty() {
                p { (notice.what) " " (texts.for_purposes) }
                ul.purposes { @for (_, name, _) in &notice.purposes { li { (name) } } }
            } @else {
                @for sentence in &notice.also { p { (sentence) } }
            }
            form.all method="post" {
                @if let Some(form) = form { input type="hidden" name="form" value=(form); }
                @if notice.purposes.is_empty() {
                    button name="action" value="withdraw" { (texts.object) }
                } @else {
                    button name="action" value="refuse" { (texts.refuse_all) }
                    button name="action" value="accept" { (texts.accept_all) }
                }
            }
        }
    }

    /// What is refused, and the press that does it. A program that follows links presses nothing.
    fn refuse(&self, hint: &str, notice: &Notice) -> Markup {
        let texts = self.texts();
        html! {
            (self.whose(hint))
            @if !notice.purposes.is_empty() {
                ul.purposes { @for (_, name, _) in &notice.purposes { li { (name) } } }
            }
            @for sentence in notice.objected.iter().chain(&notice.also) { p { (sentence) } }
            form method="post" { button.main name="action" value="refuse" { (texts.refuse_all) } }
            p { a href=(self.own_address()) { (texts.back) } }
        }
    }

    fn one_by_one(&self, notice: &Notice, said: &[(Purpose, Said)], form: &str) -> Markup {
        let texts = self.texts();
        html! {
            details open[self.is_unfolded] {
                summary { (texts.one_by_one) }
                form method="post" {
                    input type="hidden" name="form" value=(form);
                    @for (purpose, name, meaning) in &notice.purposes {
                        @let choice = of(*purpose, said);
                        fieldset {
                            legend { (name) }
                            p { (meaning) }
                            p.soft { (self.said(*purpose, said)) }
                            div.pair {
                                @for (value, word, is_it) in [
                                    ("no", &texts.no, matches!(choice, Said::No(_))),
                                    ("yes", &texts.yes, matches!(choice, Said::Yes(_))),
                                ] {
                                    label {
                                        input type="radio" name=(purpose.name()) value=(value) checked[is_it];
                                        (word)
                                    }
                                }
                            }
                        }
                    }
                    button name="action" value="choose" { (texts.save) }
                }
            }
        }
    }

    fn stop(&self, notice: &Notice, said: &[(Purpose, Said)]) -> Markup {
        let texts = self.texts();
        html! {
            section.stop aria-labelledby="stop" {
                h2 id="stop" { (texts.stop_heading) }
                @for purpose in agreed(said) {
                    p { (self.filled(texts.purpose(purpose).0)) " – " (self.said(purpose, said)) }
                }
                p { (notice.stop) }
                form method="post" { button.main name="action" value="withdraw" { (texts.stop) } }
            }
        }
    }

    fn said(&self, purpose: Purpose, said: &[(Purpose, Said)]) -> String {
        let texts = self.texts();
        let (text, day) = match of(purpose, said) {
            Said::Yes(at) => (&texts.state_yes, texts.day(at)),
            Said::No(at) => (&texts.state_no, texts.day(at)),
            Said::Over => (&texts.state_over, String::new()),
            Said::Nothing => (&texts.state_none, String::new()),
        };
        fill(text, &[("date", &day), ("controller", &self.face.title)])
    }

    fn recorded(
        &self,
        hint: &str,
        at: Timestamp,
        said: &[(Purpose, Said)],
        refused: bool,
        also: &[String],
    ) -> Markup {
        let texts = self.texts();
        let moment = [("date", &*texts.day(at)), ("time", &*texts.time_of_day(at))];
        html! {
            p role="status" { strong { (fill(&texts.recorded_at, &moment)) } }
            @if refused {
                p { (self.filled(&texts.stopped_text)) }
            } @else {
                (self.list(&texts.recorded_yes, said, |said| matches!(said, Said::Yes(_))))
                (self.list(&texts.recorded_no, said, |said| matches!(said, Said::No(_))))
                (self.list(&texts.recorded_open, said, |said| matches!(said, Said::Over | Said::Nothing)))
            }
            @for sentence in also { p { (self.filled(sentence)) } }
            (self.whose(hint))
            p { (self.filled(&texts.recorded_change)) }
            p { a href=(self.own_address()) { (texts.back) } }
        }
    }

    /// Lists the purposes of which something was said; nothing if there is none.
    fn list(&self, text: &str, said: &[(Purpose, Said)], fits: impl Fn(Said) -> bool) -> Markup {
        let names: Vec<String> = said
            .iter()
            .filter(|(_, said)| fits(*said))
            .map(|(purpose, _)| self.filled(self.texts().purpose(*purpose).0))
            .collect();
        let values = [("purposes", &*names.join(", ")), ("controller", &self.face.title)];
        html! { @if !names.is_empty() { p { (fill(text, &values)) } } }
    }

    fn trouble(&self) -> Markup {
        let texts = self.texts();
        html! {
            p.told role="alert" { (self.filled(&texts.trouble)) }
            p { a href=(self.own_address()) { (texts.back) } }
        }
    }

    fn unusable(&self) -> Markup {
        html! {
            p { (self.texts().unusable_text) }
            (self.way_to_new_link())
        }
    }

    fn pixel(&self) -> Markup {
        html! {
            p { (self.texts().pixel_text) }
            p { (self.texts().pixel_choice) }
        }
    }

    /// Shown only if there is one.
    fn way_to_new_link(&self) -> Markup {
        let address = format!("./{}", self.own_address());
        html! {
            @if self.face.sender.is_some() { p { a href=(address) { (self.texts().new_link) } } }
        }
    }

    fn new_link(&self, was_sent: bool, is_possible: bool) -> Markup {
        let texts = self.texts();
        html! {
            @if !is_possible {
                p {
                    (if self.face.title.is_empty() {
                        texts.unusable_text.clone()
                    } else {
                        self.filled(&texts.new_link_none)
                    })
                }
            } @else if was_sent {
                p role="status" { (self.filled(&texts.new_link_sent)) }
            } @else {
                p { (self.filled(&texts.new_link_text)) }
                form method="post" {
                    label for="address" { (texts.new_link_address) }
                    input type="email" id="address" name="address" autocomplete="email" maxlength="320"
                        required;
                    button.main { (texts.new_link_send) }
                }
            }
        }
    }

    /// Returns the address of the same page in this language.
    fn own_address(&self) -> String {
        format!("{}?lang={}", self.page, self.language.code())
    }

    fn foot(&self) -> Markup {
        html! {
            nav aria-label=(self.texts().language) {
                ul {
                    @for language in Language::ALL {
                        li {
                            @if language == self.language {
                                span aria-current="true" lang=(language.code()) { (language.own_name()) }
                            } @else {
                                a href=(format!("?lang={}", language.code())) lang=(language.code())
                                    hreflang=(language.code()) {
                                    (language.own_name())
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn letter(text: &str, markup: &str) -> Markup {
    html! {
        @if !text.is_empty() { div.letter { (text) } }
        (PreEscaped(markup))
    }
}

/// Returns what was said about a purpose.
fn of(purpose: Purpose, said: &[(Purpose, Said)]) -> Said {
    said.iter().find(|(of, _)| *of == purpose).map_or(Said::Nothing, |(_, choice)| *choice)
}

/// Lists the purposes that somebody agreed to.
fn agreed(said: &[(Purpose, Said)]) -> impl Iterator<Item = Purpose> {
    said.iter().filter(|(_, said)| matches!(said, Said::Yes(_))).map(|(purpose, _)| *purpose)
}

/// Pads the page to the common length.
fn padded(mut page: String) -> String {
    let missing = page.len().next_multiple_of(LENGTH) - page.len();
    page.extend(std::iter::repeat_n('\n', missing));
    page
}
