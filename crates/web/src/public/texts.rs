//! The texts of the preference page in each language, and a controller's replacements.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::consent::Timestamp;
use crate::policy::{Language, Purpose};

/// The version of the built-in texts, which records name beside the hash of what was shown (N20, N21).
/// Increased with every change of meaning.
pub(super) const VERSION: &str = "2026-12.2";

macro_rules! texts {
    ($($name:ident),* $(,)?) => {
        /// All texts of one language.
        #[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct Texts {
            $(pub $name: String,)*
        }

        impl Texts {
            /// Replaces a text; returns whether there is one of that name.
            pub(super) fn set(&mut self, name: &str, text: String) -> bool {
                match name {
                    $(stringify!($name) => self.$name = text,)*
                    _ => return false,
                }
                true
            }

            /// Returns every text with its name.
            #[cfg(test)]
            pub(super) fn all(&self) -> Vec<(&'static str, &str)> {
                vec![$((stringify!($name), self.$name.as_str())),*]
            }
        }
    };
}

texts!(
    months,
    date,
    first_day,
    time,
    title,
    title_both,
    title_links,
    lead,
    lead_only,
    whose,
    what,
    what_links,
    what_links_too,
    for_purposes,
    who,
    recipients,
    only_yes,
    only_yes_opens,
    long,
    priority,
    see_notice,
    retention,
    rights,
    contact,
    privacy,
    mail_stays,
    links_all,
    links_some,
    links_none,
    last_day,
    exempt_legal,
    exempt_security,
    exempt_shared,
    exempt_informed,
    unasked,
    objected_day,
    objected_shared,
    choice_heading,
    one_by_one,
    more_heading,
    campaign_performance,
    campaign_performance_text,
    personalisation,
    personalisation_text,
    cross_channel_profile,
    cross_channel_profile_text,
    fraud_detection,
    fraud_detection_text,
    link_tracking,
    link_tracking_text,
    state_yes,
    state_no,
    state_over,
    state_none,
    yes,
    no,
    save,
    accept_all,
    refuse_all,
    object,
    stop_heading,
    stop_text,
    stop,
    delivered_gate,
    delivered_keep,
    delivered_links_gate,
    delivered_links_keep,
    recorded,
    recorded_at,
    recorded_yes,
    recorded_no,
    recorded_open,
    recorded_change,
    stopped,
    stopped_text,
    still,
    back,
    nothing_chosen,
    form_used,
    old_link,
    trouble,
    unusable,
    unusable_text,
    no_page,
    no_page_text,
    pixel,
    pixel_text,
    pixel_choice,
    new_link,
    new_link_text,
    new_link_address,
    new_link_send,
    new_link_sent,
    new_link_none,
    mail_subject,
    mail_text,
    language,
);

/// The built-in texts, in the order of [`Language::ALL`].
static SHIPPED: LazyLock<[Texts; 6]> = LazyLock::new(|| {
    let files = [
        include_str!("texts/fr.toml"),
        include_str!("texts/en.toml"),
        include_str!("texts/it.toml"),
        include_str!("texts/de.toml"),
        include_str!("texts/es.toml"),
        include_str!("texts/nl.toml"),
    ];
    files.map(|file| toml::from_str(file).expect("the shipped texts have every name; a test reads them"))
});

/// Returns the built-in texts of a language.
pub(super) fn shipped(language: Language) -> &'static Texts {
    let [french, english, italian, german, spanish, dutch] = &*SHIPPED;
    match language {
        Language::French => french,
        Language::English => english,
        Language::Italian => italian,
        Language::German => german,
        Language::Spanish => spanish,
        Language::Dutch => dutch,
    }
}

/// Returns the index of a language in [`Language::ALL`].
pub(super) fn place(language: Language) -> usize {
    Language::ALL.iter().position(|other| *other == language).unwrap_or(0)
}

impl Texts {
    /// Returns the name and the meaning of a purpose that needs consent.
    pub(super) fn purpose(&self, purpose: Purpose) -> (&str, &str) {
        match purpose {
            Purpose::Personalisation => (&self.personalisation, &self.personalisation_text),
            Purpose::CrossChannelProfile => (&self.cross_channel_profile, &self.cross_channel_profile_text),
            Purpose::FraudDetection => (&self.fraud_detection, &self.fraud_detection_text),
            Purpose::LinkTracking => (&self.link_tracking, &self.link_tracking_text),
            Purpose::CampaignPerformance
            | Purpose::Deliverability
            | Purpose::AuthSecurity
            | Purpose::LegalNotice
            | Purpose::AggregateStatistics => (&self.campaign_performance, &self.campaign_performance_text),
        }
    }

    /// Formats a day as usual in this language, in UTC.
    pub(super) fn day(&self, moment: Timestamp) -> String {
        let text = moment.to_string();
        let mut parts = text.split('T').next().unwrap_or_default().split('-');
        let (year, month, day) = (parts.next(), parts.next(), parts.next());
        let month = month.and_then(|month| month.parse::<usize>().ok()).unwrap_or(1).saturating_sub(1);
        let month = self.months.split_whitespace().nth(month).unwrap_or_default();
        let day = match day.unwrap_or_default().trim_start_matches('0') {
            "1" => &self.first_day,
            day => day,
        };
        fill(&self.date, &[("day", day), ("month", month), ("year", year.unwrap_or_default())])
    }

    /// Formats the hour and minute of a moment as usual in this language, in UTC.
    pub(super) fn time_of_day(&self, moment: Timestamp) -> String {
        let text = moment.to_string();
        let mut parts = text.split('T').nth(1).unwrap_or_default().split(':');
        let (hour, minute) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        fill(&self.time, &[("hour", hour), ("minute", minute)])
    }
}

/// Replaces `{names}` in a text by values. Unknown names stay as they are.
pub(super) fn fill(text: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        out.push_str(before);
        let named = behind.split_once('}').and_then(|(name, tail)| {
            values.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value, tail))
        });
        match named {
            Some((value, tail)) => {
                out.push_str(value);
                rest = tail;
            }
            None => {
                out.push('{');
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<&str> {
        let mut names: Vec<&str> =
            text.split('{').skip(1).filter_map(|part| part.split_once('}')).map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    #[test]
    fn every_language_says_the_same_with_the_same_names_in_it() {
        let english = SHIPPED[place(Language::English)].all();
        for (language, texts) in Language::ALL.iter().zip(SHIPPED.iter()) {
            assert_eq!(texts.months.split_whitespace().count(), 12);
            for ((name, text), (_, english)) in texts.all().iter().zip(&english) {
                assert!(!text.is_empty() && text.trim() == *text, "{language:?} {name}");
                // A sentence may name the controller once more or less.
                let without = |text: &str| {
                    names(text).into_iter().filter(|name| *name != "controller").collect::<Vec<_>>().join(" ")
                };
                assert_eq!(without(text), without(english), "{language:?} {name}");
                // A mark after a plain space may begin a line, and an apostrophe has its own character.
                for mark in [" ;", " :", " ?", " !", "« ", " »"] {
                    assert!(!text.contains(mark), "{language:?} {name}: {mark:?}");
                }
                assert!(*language == Language::English || !text.contains('\''), "{language:?} {name}");
            }
        }
        assert_eq!(SHIPPED[place(Language::German)].language, "Sprache");
    }

    /// A name may begin with a vowel, and nothing here can write "d’Air France".
    #[test]
    fn no_word_that_elides_stands_before_a_name_in_french() {
        for (name, text) in SHIPPED[place(Language::French)].all() {
            for word in ["de", "que", "le", "la", "ne", "je", "se"] {
                assert!(!text.contains(&format!(" {word} {{controller}}")), "{name}");
            }
        }
    }

    #[test]
    fn what_is_filled_in_is_not_looked_at_again() {
        let values = [("controller", "{hint}"), ("hint", "a…e")];
        assert_eq!(fill("{controller}, {hint}: {what} {", &values), "{hint}, a…e: {what} {");
    }

    #[test]
    fn days_are_written_as_the_language_has_them() {
        let moment = Timestamp::parse("2026-11-05T09:07:00Z").unwrap();
        let days: Vec<String> = SHIPPED.iter().map(|texts| texts.day(moment)).collect();
        assert_eq!(
            days,
            [
                "5 novembre 2026",
                "5 November 2026",
                "5 novembre 2026",
                "5. November 2026",
                "5 de noviembre de 2026",
                "5 november 2026"
            ]
        );
        let times: Vec<String> = SHIPPED.iter().map(|texts| texts.time_of_day(moment)).collect();
        assert_eq!(times, ["09\u{a0}h\u{a0}07", "09:07", "09:07", "09:07", "09:07", "09.07"]);
        let first = Timestamp::parse("2026-12-01T00:00:00Z").unwrap();
        let days: Vec<String> = SHIPPED.iter().map(|texts| texts.day(first)).collect();
        assert_eq!(
            days,
            [
                "1er décembre 2026",
                "1 December 2026",
                "1º dicembre 2026",
                "1. Dezember 2026",
                "1 de diciembre de 2026",
                "1 december 2026"
            ]
        );
    }
}
