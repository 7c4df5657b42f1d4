//! Dated versions of jurisdictions: the built-in ones and an operator's.

use super::reader::{self, Outcome, Section};
use pixelward_core::policy::jurisdiction::{Author, DEVICES, NONE, UNKNOWN, Version};
use pixelward_core::policy::{Exemption, Exemptions, Flags, Jurisdictions, Need};

/// The built-in versions.
const SHIPPED: &str = include_str!("jurisdictions.toml");

/// Returns the built-in jurisdictions, all except `none` enabled.
pub fn shipped() -> Jurisdictions {
    let versions = shipped_versions();
    let enabled = all_names(&versions);
    Jurisdictions::new(versions, enabled)
}

/// Returns the built-in versions.
pub(super) fn shipped_versions() -> Vec<Version> {
    read_shipped().value
}

fn read_shipped() -> Outcome<Vec<Version>> {
    let read = |section: &mut Section<'_>| version(section, Author::Shipped);
    reader::read(SHIPPED, |root| root.sections("jurisdiction", read).into_iter().flatten().collect())
}

/// Returns every name except `none`, each once.
pub(super) fn all_names(versions: &[Version]) -> Vec<String> {
    let mut names: Vec<String> =
        versions.iter().map(|version| version.name.clone()).filter(|name| name != NONE).collect();
    names.sort();
    names.dedup();
    names
}

/// Reads an operator's version.
pub(super) fn own_version(section: &mut Section<'_>) -> Option<Version> {
    version(section, Author::Operator)
}

fn version(section: &mut Section<'_>, author: Author) -> Option<Version> {
    let name = section.parsed("name", |text| valid_name(text, author));
    let effective_from = section.parsed("effective_from", pixelward_core::consent::Timestamp::parse);
    let checked_on = section.parsed("checked_on", |text| {
        pixelward_core::consent::Timestamp::parse(text).map(|_| text.to_owned())
    });
    let source = section.string("source").filter(|source| !source.trim().is_empty());
    let kind = section.parsed("kind", valid_word).unwrap_or_else(|| DEVICES.to_owned());
    let flags = flags(section, name.as_deref() == Some(NONE));
    let country_domains =
        section.list("country_domains", |text| Ok(text.trim_start_matches('.').to_ascii_lowercase()));
    let (Some(name), Some(effective_from), Some(checked_on), Some(source)) =
        (name, effective_from, checked_on, source)
    else {
        section.problem(
            section.start_line(),
            "jurisdiction: set name, effective_from, checked_on (dates, such as \"2026-07-14\") and source",
        );
        return None;
    };
    Some(Version { name, effective_from, kind, checked_on, source, flags, country_domains, author })
}

fn valid_word(text: &str) -> Result<String, String> {
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    if !(1..=32).contains(&text.len()) || !text.bytes().all(valid) {
        return Err(format!("invalid name {text:?}: use 1 to 32 of a-z, 0-9, '_' and '-'"));
    }
    Ok(text.to_owned())
}

fn valid_name(text: &str, author: Author) -> Result<String, String> {
    let text = &*valid_word(text)?;
    if text == UNKNOWN || text == NONE && author == Author::Operator {
        return Err(format!("{text:?} is built in and cannot be changed"));
    }
    Ok(text.to_owned())
}

/// Flags that are not set take their strict value.
fn flags(section: &mut Section<'_>, may_be_free: bool) -> Flags {
    let mut need = |key| if section.flag(key, true) { Need::Consent } else { Need::Free };
    let (opens, links) = (need("open_consent"), need("link_consent"));
    let keys: [(&'static str, Exemption); 5] = Exemption::ALL.map(|exemption| (exemption.flag(), exemption));
    let mut exempt = Exemptions::NONE;
    for (key, exemption) in keys {
        if section.flag(key, false) {
            exempt = exempt.with(exemption);
        }
    }
    if opens == Need::Free && !may_be_free {
        section.problem(
            section.start_line(),
            "jurisdiction.open_consent may be false only for \"none\": let a mailstream or a record say \
             \"none\" if no rules apply",
        );
        return Flags { opens: Need::Consent, links, exempt };
    }
    Flags { opens, links, exempt }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pixelward_core::consent::Timestamp;

    #[test]
    fn what_comes_with_the_program_can_be_read() {
        assert_eq!(read_shipped().problems, []);
        let names = all_names(&shipped_versions());
        assert_eq!(names, ["eu_base", "fr", "it", "uk"]);
    }

    #[test]
    fn the_rules_of_a_day_are_those_in_force() {
        let all = shipped();
        let check =
            |day: &str, name: &str| all.at(Timestamp::parse(day).unwrap()).named(name).version.to_string();
        assert_eq!(check("2026-07-13", "fr"), "fr/2026-04-14");
        assert_eq!(check("2026-07-14", "fr"), "fr/2026-07-14");
        assert_eq!(check("2026-10-27", "it"), "unknown/2026-07-14");
        assert_eq!(check("2026-10-28", "it"), "it/2026-10-28");
        assert_eq!(check("2026-11-24", UNKNOWN), "unknown/2026-10-28");
    }

    #[test]
    fn where_nothing_is_known_everything_needs_consent() {
        let all = shipped();
        let unknown = all.at(Timestamp::parse("2026-11-24").unwrap()).named(UNKNOWN).flags;
        assert_eq!(unknown, Flags::STRICTEST);
        let versions = all.versions().iter();
        assert!(
            versions
                .filter(|version| version.name != NONE)
                .all(|version| version.flags.opens == Need::Consent)
        );
    }

    #[test]
    fn the_document_shows_what_comes_with_the_program() {
        let document = include_str!("../../../docs/policy.md");
        let versions = shipped_versions();
        for version in &versions {
            let yes = |is: bool| if is { "yes" } else { "no" };
            let need = |need: Need| yes(need == Need::Consent);
            let knows = |exemption| yes(version.flags.exempt.has(exemption));
            let row = format!(
                "| `{}` | {} | {} | {} | {} | {} | {} | {} | {} |",
                version.label(),
                need(version.flags.opens),
                need(version.flags.links),
                knows(Exemption::AggregateStatistics),
                knows(Exemption::Deliverability),
                knows(Exemption::AuthSecurity),
                knows(Exemption::LegalNotice),
                knows(Exemption::LegacyInformed),
                version.source
            );
            assert!(document.contains(&row), "docs/policy.md lacks this row:\n{row}");
        }
        assert_eq!(document.matches("\n| `").count(), versions.len() + RULES);
    }

    /// Rows of the tables of rules and of shortfalls in the same document.
    const RULES: usize = 21;

    #[test]
    fn the_worked_example_works() {
        let document = include_str!("../../../docs/policy.md");
        let behind = document.split("In `/etc/pixelward/policy.d/shop.toml`").nth(1).unwrap();
        let example = behind.split("Look at it").next().unwrap();
        let lines: Vec<&str> = example.lines().filter_map(|line| line.strip_prefix("    ")).collect();
        let hop = "[next_hop]\nhost = \"smtp.next-hop.example\"\n";
        let config = crate::Config::parse(&format!("{}\n{hop}", lines.join("\n"))).unwrap();
        let rulebook = config.policy.rulebook;
        let names: Vec<&str> = rulebook.all().map(|chosen| &*chosen.mailstream.name).collect();
        assert_eq!(names, ["newsletter", "orders", "password-reset", "may-we", "unmatched", "unmatched"]);
        let warned = pixelward_core::policy::lint::lint(&rulebook, Timestamp::parse("2026-11-24").unwrap());
        assert_eq!(warned.len(), 2, "{warned:?}");
        assert!(warned.iter().all(|warning| warning.starts_with("controller ")), "{warned:?}");
        let names_risk = |warning: &String| warning.starts_with("controller shop: open risk: a tracked link");
        assert!(warned.iter().any(names_risk), "{warned:?}");
    }

    #[test]
    fn an_operator_cannot_make_opens_free() {
        let check = |text: &str| {
            let outcome = reader::read(text, |root| root.sections("jurisdiction", own_version));
            outcome.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        let dated = "effective_from = \"2026-12-01\"\nchecked_on = \"2026-11-01\"\nsource = \"a law\"\n";
        assert_eq!(check(&format!("[[jurisdiction]]\nname = \"ch\"\n{dated}")), "");
        let free = format!("[[jurisdiction]]\nname = \"ch\"\n{dated}open_consent = false\n");
        assert!(check(&free).contains("false only for \"none\""));
        for name in [NONE, UNKNOWN, "Ch", ""] {
            let text = format!("[[jurisdiction]]\nname = \"{name}\"\n{dated}");
            assert!(check(&text).contains("jurisdiction.name"), "{name}");
        }
        assert!(check("[[jurisdiction]]\nname = \"ch\"\n").contains("effective_from"));
        let of_kind =
            |kind: &str| check(&format!("[[jurisdiction]]\nname = \"ch\"\n{dated}kind = \"{kind}\"\n"));
        assert_eq!(of_kind("personal_data"), "");
        assert!(of_kind("Personal data").contains("jurisdiction.kind"));
    }
}
