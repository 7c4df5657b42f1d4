//! Jurisdictions: which rules apply where, and since when.
//!
//! Promised: the rules of a moment are those of the newest version in force at that moment; unknown
//! jurisdictions have the strictest of the enabled ones; a recipient's domain only ever makes rules stricter
//! (N5).

use std::borrow::Cow;
use std::sync::Arc;

use super::exemption::{Exemption, Exemptions};
use crate::consent::{Standing, Timestamp};

/// The jurisdiction for unknown locations: the strictest of those enabled.
pub const UNKNOWN: &str = "unknown";
/// The jurisdiction without rules. It comes from a record or an explicit declaration, never from a guess.
pub const NONE: &str = "none";

/// Whether something needs consent. The stricter value is the greater one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// No consent is needed.
    Free,
    /// Only a standing grant allows it.
    Consent,
}

/// The rules of a jurisdiction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    /// Whether reading opens needs consent.
    pub opens: Need,
    /// Whether reading who followed a link needs consent (N3).
    pub links: Need,
    /// The exemptions it grants.
    pub exempt: Exemptions,
}

impl Flags {
    /// Everything needs consent, nothing is exempt.
    pub const STRICTEST: Flags =
        Flags { opens: Need::Consent, links: Need::Consent, exempt: Exemptions::NONE };
    /// Nothing needs consent.
    pub const FREE: Flags = Flags { opens: Need::Free, links: Need::Free, exempt: Exemptions::ALL };

    /// Combines two sets of rules: consent if one of them requires it, an exemption if both grant it.
    /// Commutative, associative, and at least as strict as either.
    #[must_use]
    pub fn join(self, other: Flags) -> Flags {
        Flags {
            opens: self.opens.max(other.opens),
            links: self.links.max(other.links),
            exempt: self.exempt.common(other.exempt),
        }
    }
}

/// The author of a version. The operator's word shows in a joined label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Author {
    /// It is built in.
    Shipped,
    /// It is in the operator's configuration.
    Operator,
}

/// The regime of rules that name none: reading from and writing to people's devices.
pub const DEVICES: &str = "devices";

/// A dated version of a jurisdiction's rules, or what one of several regimes adds to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The jurisdiction.
    pub name: String,
    /// When it takes effect.
    pub effective_from: Timestamp,
    /// The regime, such as `devices`. Those of one date hold together; a later date replaces all of them.
    pub kind: String,
    /// When somebody last compared it with its source: a date.
    pub checked_on: String,
    /// The source.
    pub source: String,
    /// The rules.
    pub flags: Flags,
    /// Top-level domains whose recipients are assumed to be there.
    pub country_domains: Vec<String>,
    /// The author.
    pub author: Author,
}

impl Version {
    /// Returns the name that decisions record, such as `fr/2026-07-14`; a trailing `+own` marks an
    /// operator's.
    pub fn label(&self) -> String {
        labelled(self, self.author)
    }

    /// Returns the label with the regime, if it is not the usual one.
    pub fn full_label(&self) -> String {
        match self.kind.as_str() {
            DEVICES => self.label(),
            kind => format!("{} {kind}", self.label()),
        }
    }

    /// Returns whether decisions under this label rest on it, alone or with other regimes of its date.
    pub fn is_part_of(&self, label: &str) -> bool {
        [Author::Shipped, Author::Operator].into_iter().any(|author| labelled(self, author) == label)
    }
}

fn labelled(version: &Version, author: Author) -> String {
    let mark = match author {
        Author::Shipped => "",
        Author::Operator => "+own",
    };
    format!("{}/{}{mark}", version.name, date(version.effective_from))
}

/// Formats a moment as a date, with the time of day unless it is midnight.
fn date(moment: Timestamp) -> String {
    let text = moment.to_string();
    text.strip_suffix("T00:00:00Z").map(str::to_owned).unwrap_or(text)
}

/// The rules that apply to a person at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The version and its jurisdiction.
    pub version: Arc<str>,
    /// The rules.
    pub flags: Flags,
}

/// All jurisdictions with their versions.
#[derive(Clone, Debug)]
pub struct Jurisdictions {
    versions: Vec<Version>,
    enabled: Vec<String>,
    /// Sorted by time; each applies until the next one begins.
    epochs: Vec<Epoch>,
    /// Top-level domains in lower case.
    country_domains: Vec<(String, String)>,
}

/// The rules between two changes.
#[derive(Clone, Debug)]
struct Epoch {
    from: Timestamp,
    /// By name.
    rules: Vec<(String, Rules)>,
    unknown: Rules,
}

impl Jurisdictions {
    /// Creates them from versions; later ones in the list replace earlier ones with the same name, date and kind.
    /// `enabled` lists those of which `unknown` is the strictest.
    pub fn new(versions: Vec<Version>, enabled: Vec<String>) -> Jurisdictions {
        let mut held: Vec<Version> = Vec::new();
        for version in versions {
            let place =
                |version: &Version| (version.effective_from, version.name.clone(), version.kind.clone());
            held.retain(|other| place(other) != place(&version));
            held.push(version);
        }
        held.sort_by_key(|version| version.effective_from);
        let mut moments: Vec<Timestamp> = held.iter().map(|version| version.effective_from).collect();
        moments.push(Timestamp(i64::MIN));
        moments.sort();
        moments.dedup();
        let epochs = moments.into_iter().map(|from| Epoch::at(from, &held, &enabled)).collect();
        let mut country_domains: Vec<(String, String)> = held
            .iter()
            .flat_map(|version| {
                version.country_domains.iter().map(|domain| (domain.clone(), version.name.clone()))
            })
            .collect();
        country_domains.sort();
        country_domains.dedup();
        Jurisdictions { versions: held, enabled, epochs, country_domains }
    }

    /// Returns every version, oldest first.
    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    /// Returns those of which `unknown` is the strictest.
    pub fn enabled(&self) -> &[String] {
        &self.enabled
    }

    /// Returns whether rules with this name are known, including `unknown` itself.
    pub fn knows(&self, name: &str) -> bool {
        name == UNKNOWN || self.versions.iter().any(|version| version.name == name)
    }

    /// Returns the rules of a moment.
    pub fn at(&self, now: Timestamp) -> InForce<'_> {
        let behind = self.epochs.partition_point(|epoch| epoch.from <= now);
        InForce { all: self, epoch: behind.checked_sub(1).and_then(|index| self.epochs.get(index)) }
    }
}

impl Epoch {
    fn at(from: Timestamp, versions: &[Version], enabled: &[String]) -> Epoch {
        let mut in_force: Vec<(&Version, Flags, Author)> = Vec::new();
        let mut newest: Option<&Version> = None;
        let mut strictest: Option<Flags> = None;
        // Sorted by time, so later versions replace earlier ones; the regimes of one date are joined.
        for version in versions.iter().filter(|other| other.effective_from <= from) {
            match in_force.iter_mut().find(|(known, ..)| known.name == version.name) {
                Some((known, flags, author)) if known.effective_from == version.effective_from => {
                    (*flags, *author) = (flags.join(version.flags), (*author).max(version.author));
                }
                Some(replaced) => *replaced = (version, version.flags, version.author),
                None => in_force.push((version, version.flags, version.author)),
            }
            if enabled.contains(&version.name) {
                newest = Some(version);
            }
        }
        let rules = in_force.into_iter().map(|(version, flags, author)| {
            (version.name.clone(), Rules { version: labelled(version, author).into(), flags })
        });
        let rules: Vec<(String, Rules)> = rules.collect();
        for (_, rules) in rules.iter().filter(|(name, _)| enabled.contains(name)) {
            strictest = Some(strictest.map_or(rules.flags, |flags| flags.join(rules.flags)));
        }
        let version = match newest {
            Some(version) => format!("{UNKNOWN}/{}", date(version.effective_from)),
            None => format!("{UNKNOWN}/strictest"),
        };
        let unknown = Rules { version: version.into(), flags: strictest.unwrap_or(Flags::STRICTEST) };
        Epoch { from, rules, unknown }
    }
}

/// The rules of one moment.
#[derive(Clone, Copy, Debug)]
pub struct InForce<'a> {
    all: &'a Jurisdictions,
    epoch: Option<&'a Epoch>,
}

impl<'a> InForce<'a> {
    /// Returns the rules of a jurisdiction; those of `unknown` if it is not known or has no version in force
    /// yet.
    pub fn named(&self, name: &str) -> Cow<'a, Rules> {
        let Some(epoch) = self.epoch else {
            return Cow::Owned(Rules {
                version: format!("{UNKNOWN}/strictest").into(),
                flags: Flags::STRICTEST,
            });
        };
        let found = epoch.rules.iter().find(|(key, _)| key == name).map(|(_, rules)| rules);
        Cow::Borrowed(found.unwrap_or(&epoch.unknown))
    }

    /// Returns the rules for one recipient: those that their records name (the strictest of several), else
    /// those declared, made stricter by what their domain suggests. A record takes precedence over the domain
    /// (N5).
    pub fn applying(&self, standing: Option<&Standing>, declared: &str, address: &str) -> Cow<'a, Rules> {
        if let Some(recorded) = standing.and_then(|said| self.strictest(said.jurisdictions())) {
            return recorded;
        }
        let rules = self.named(declared);
        let Some(hinted) = self.hint(address).filter(|hinted| *hinted != declared) else { return rules };
        let hinted = self.named(hinted);
        let flags = rules.flags.join(hinted.flags);
        if flags == rules.flags {
            return rules;
        }
        Cow::Owned(Rules { version: format!("{}&{}", rules.version, hinted.version).into(), flags })
    }

    /// Returns the combined rules of these jurisdictions; `None` if there are none.
    fn strictest<'b>(&self, names: impl Iterator<Item = &'b str>) -> Option<Cow<'a, Rules>> {
        let all = names.map(|name| self.named(name));
        all.reduce(|one, other| {
            let flags = one.flags.join(other.flags);
            match (flags == one.flags, flags == other.flags) {
                (true, _) => one,
                (false, true) => other,
                (false, false) => {
                    let version = format!("{}&{}", one.version, other.version).into();
                    Cow::Owned(Rules { version, flags })
                }
            }
        })
    }

    /// Returns the jurisdiction that the domain of an address suggests.
    pub fn hint(&self, address: &str) -> Option<&'a str> {
        let (_, top) = address.trim_end_matches('.').rsplit_once('.')?;
        let found = self.all.country_domains.iter().find(|(domain, _)| domain.eq_ignore_ascii_case(top));
        found.map(|(_, name)| name.as_str())
    }

    /// Returns whether a declared jurisdiction grants an exemption.
    pub fn allows(&self, name: &str, exemption: Exemption) -> bool {
        self.named(name).flags.exempt.has(exemption)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::{Change, State};

    const DAY: i64 = 86_400_000;

    fn version(name: &str, day: i64, flags: Flags, domains: &[&str]) -> Version {
        Version {
            name: name.to_owned(),
            effective_from: Timestamp(day * DAY),
            kind: DEVICES.to_owned(),
            checked_on: "2026-11-24".to_owned(),
            source: "a test".to_owned(),
            flags,
            country_domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
            author: Author::Shipped,
        }
    }

    fn flags(exempt: &[Exemption]) -> Flags {
        Flags {
            exempt: exempt.iter().fold(Exemptions::NONE, |set, exemption| set.with(*exemption)),
            ..Flags::STRICTEST
        }
    }

    fn sample() -> Jurisdictions {
        use Exemption::{AuthSecurity, Deliverability, LegalNotice};
        let versions = vec![
            version(NONE, 0, Flags::FREE, &[]),
            version("a", 10, flags(&[AuthSecurity, Deliverability]), &["aa"]),
            version("a", 20, flags(&[AuthSecurity]), &["aa"]),
            version("b", 15, flags(&[AuthSecurity, LegalNotice]), &["bb"]),
        ];
        Jurisdictions::new(versions, vec!["a".to_owned(), "b".to_owned()])
    }

    fn label(all: &Jurisdictions, day: i64, name: &str) -> String {
        all.at(Timestamp(day * DAY)).named(name).version.to_string()
    }

    #[test]
    fn the_newest_version_in_force_counts() {
        let all = sample();
        assert_eq!(label(&all, 10, "a"), "a/1970-01-11");
        assert_eq!(label(&all, 19, "a"), "a/1970-01-11");
        assert_eq!(label(&all, 20, "a"), "a/1970-01-21");
        assert_eq!(label(&all, 9, "a"), "unknown/strictest");
        assert_eq!(label(&all, 12, "b"), "unknown/1970-01-11");
        assert_eq!(label(&all, 9, NONE), "none/1970-01-01");
        assert_eq!(all.at(Timestamp(-1)).named(NONE).flags, Flags::STRICTEST);
    }

    #[test]
    fn unknown_is_the_strictest_of_those_enabled() {
        use Exemption::{AuthSecurity, Deliverability};
        let all = sample();
        let unknown = |day: i64| all.at(Timestamp(day * DAY)).named(UNKNOWN).flags;
        assert_eq!(unknown(5), Flags::STRICTEST);
        assert_eq!(unknown(12), flags(&[AuthSecurity, Deliverability]));
        assert_eq!(unknown(15), flags(&[AuthSecurity]));
        assert_eq!(label(&all, 30, UNKNOWN), "unknown/1970-01-21");
        assert_eq!(label(&all, 30, "atlantis"), "unknown/1970-01-21");
    }

    #[test]
    fn a_domain_only_makes_a_declaration_stricter() {
        let all = sample();
        let rules = all.at(Timestamp(30 * DAY));
        let check = |recorded: Option<&str>, declared: &str, address: &str| {
            let standing = named(&recorded.into_iter().collect::<Vec<_>>());
            rules.applying(Some(&standing), declared, address).version.to_string()
        };
        assert_eq!(check(None, NONE, "ann@home.aa"), "none/1970-01-01&a/1970-01-21");
        assert_eq!(check(None, NONE, "ann@home.AA."), "none/1970-01-01&a/1970-01-21");
        assert_eq!(check(None, NONE, "ann@home.example"), "none/1970-01-01");
        assert_eq!(check(None, "a", "ann@home.bb"), "a/1970-01-21", "b is no stricter");
        assert_eq!(check(None, "b", "ann@home.aa"), "b/1970-01-16&a/1970-01-21");
        assert_eq!(check(Some(NONE), "a", "ann@home.aa"), "none/1970-01-01", "the record knows");
        assert_eq!(check(Some("a"), NONE, "ann@home.example"), "a/1970-01-21");
        assert_eq!(check(Some("atlantis"), NONE, "ann@home.example"), "unknown/1970-01-21");
    }

    /// A standing of somebody whose records name these jurisdictions, none of them with evidence.
    fn named(names: &[&str]) -> Standing {
        let mut standing = Standing::unknown();
        for name in names {
            let change = Change::new("shop".parse().unwrap(), Vec::new(), State::NeverAsked, Timestamp(5));
            let _ = standing.merge(&Change { jurisdiction: Some((*name).to_owned()), ..change }, 1, false);
        }
        standing
    }

    #[test]
    fn of_several_jurisdictions_that_records_name_the_strictest_hold() {
        let all = sample();
        let rules = all.at(Timestamp(30 * DAY));
        let check = |names: &[&str]| {
            let standing = named(names);
            rules.applying(Some(&standing), NONE, "ann@home.example").into_owned()
        };
        assert_eq!(&*check(&[NONE, "a"]).version, "a/1970-01-21");
        assert_eq!(&*check(&["a", NONE]).version, "a/1970-01-21");
        assert_eq!(&*check(&["b", NONE, "a"]).version, "a/1970-01-21", "b is no stricter");
        assert_eq!(check(&["a", "b"]).flags, check(&["b", "a"]).flags);
        assert_eq!(&*rules.applying(None, NONE, "ann@home.example").version, "none/1970-01-01");
    }

    #[test]
    fn an_operators_version_takes_the_place_of_the_same_date() {
        let corrected = Version { author: Author::Operator, ..version("a", 20, flags(&[]), &[]) };
        let versions = sample().versions().iter().cloned().chain([corrected]).collect();
        let all = Jurisdictions::new(versions, vec!["a".to_owned()]);
        assert_eq!(label(&all, 20, "a"), "a/1970-01-21+own");
        assert_eq!(all.versions().iter().filter(|version| version.name == "a").count(), 2);
    }

    #[test]
    fn regimes_of_one_date_hold_together_and_a_later_date_replaces_them_all() {
        use Exemption::{AuthSecurity, Deliverability, LegalNotice};
        let of_kind = |kind: &str, day: i64, exempt: &[Exemption]| Version {
            kind: kind.to_owned(),
            ..version("a", day, flags(exempt), &[])
        };
        let versions = vec![
            of_kind(DEVICES, 10, &[AuthSecurity, Deliverability]),
            of_kind("personal_data", 10, &[AuthSecurity, LegalNotice]),
            of_kind("personal_data", 20, &[LegalNotice]),
        ];
        let exempt = |all: &Jurisdictions, day: i64| all.at(Timestamp(day * DAY)).named("a").flags;
        let all = Jurisdictions::new(versions.clone(), vec!["a".to_owned()]);
        assert_eq!(exempt(&all, 10), flags(&[AuthSecurity]), "what both grant");
        assert_eq!(exempt(&all, 20), flags(&[LegalNotice]), "one regime is left");
        assert_eq!(all.versions()[1].full_label(), "a/1970-01-11 personal_data");
        // The operator corrects one of the two, and that shows.
        let corrected = Version { author: Author::Operator, ..of_kind(DEVICES, 10, &[]) };
        let all = Jurisdictions::new(versions.into_iter().chain([corrected]).collect(), vec!["a".to_owned()]);
        assert_eq!((exempt(&all, 10), label(&all, 10, "a")), (flags(&[]), "a/1970-01-11+own".to_owned()));
        assert_eq!(all.versions().iter().filter(|part| part.is_part_of("a/1970-01-11+own")).count(), 2);
    }

    #[test]
    fn joining_flags_is_a_pure_join() {
        let exempt = |bits: u8| {
            let chosen = Exemption::ALL.into_iter().filter(|exemption| bits & *exemption as u8 != 0);
            chosen.fold(Exemptions::NONE, Exemptions::with)
        };
        let every: Vec<Flags> = (0..128u8)
            .map(|bits| Flags {
                opens: if bits & 64 == 0 { Need::Free } else { Need::Consent },
                links: if bits & 32 == 0 { Need::Free } else { Need::Consent },
                exempt: exempt(bits & 31),
            })
            .collect();
        for one in &every {
            assert_eq!(one.join(*one), *one);
            assert_eq!(one.join(Flags::STRICTEST), Flags::STRICTEST);
            assert_eq!(one.join(Flags::FREE), *one);
            for other in &every {
                let both = one.join(*other);
                assert_eq!(both, other.join(*one));
                assert_eq!(both.join(*one), both, "at least as strict as either");
            }
        }
    }
}
