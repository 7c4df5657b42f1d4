//! Every combination of jurisdiction, mail, purposes, what the person said, exemption and health of the
//! store, against a table that was written by hand from the N-rules.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic)]

use pixelward_config::jurisdiction::shipped;
use pixelward_core::consent::{Change, Permission, Standing, State, Timestamp};
use pixelward_core::policy::jurisdiction::{NONE, UNKNOWN};
use pixelward_core::policy::{
    Conditions, Exemption, Facts, Footer, Instruction, Jurisdictions, LinkFate, MailKind, Mailstream, Mode,
    Need, OnGrant, Outcome, Purpose, Requested, Rule, Rules, SharedAfterNo, Treatment, decide,
};
use pixelward_core::rewrite::{LinkTreatment, Personal, Receipts};
use pixelward_core::tracker::{Extent, Links, Unreadable};

/// The first row that fits says what is expected; `*` fits all, and words with `|` between fit each of them.
/// `grant` is what `on_grant` says.
///
/// store | what the person said | mail | purposes | exemption | jurisdiction | outcome and rule | why
const TABLE: &str = "
*    | *        | consent_request | * | * | *    | strip consent_request   | N17: mail that asks carries nothing that needs consent
down | *        | *               | * | * | *    | strip store_unreachable | N8: unreachable means strip
*    | no_track | *               | * | * | *    | strip no_track          | N32

*    | withdrew                  | * | *                                                    | * | none | strip refused | a withdrawal acts everywhere
*    | refused_one, informed_refused | * | consent, one, one+day, all                       | * | none | strip refused | a no is heard where nobody asks
*    | objected                  | * | day, auth, legal, shared, one+day, day+shared, auth+legal, all | * | none | strip refused | the same
*    | *                         | * | *                                                    | * | none | keep no_rules | N5: only by a record or a declaration

*    | granted                          | * | *            | * | * | grant granted | N9, N16: every purpose has its grant
*    | granted_consent                  | * | consent, one | * | * | grant granted | N9
*    | granted_but_one                  | * | one          | * | * | grant granted | N9

* | silent, asked, expired, granted_consent, granted_but_one, informed, informed_late, collected_late | requested_template, requested_broad | day | deliverability | fr | swap_day deliverability | N11: requested mail alone, no refusal
* | silent, asked, expired, granted_consent, granted_but_one, informed, informed_late, collected_late, refused_one, informed_refused | requested_template, soft_template, neither_template | auth | auth_security | fr, it | keep auth_security | N10: an allow-listed template
* | silent, asked, expired, granted_consent, granted_but_one, informed, informed_late, collected_late, refused_one, informed_refused | requested_template, soft_template, neither_template | legal | legal_notice | it | keep legal_notice | N13: on in Italy, off in France
* | silent, asked, expired, granted_consent, granted_but_one, informed, informed_late, collected_late, refused_one, informed_refused | * | shared | aggregate_statistics | it | swap_shared aggregate_statistics | N14: on in Italy, off elsewhere
* | informed | * | consent, one | legacy_informed | fr | swap_gated legacy_informed | N29: informed in time, no objection
* | granted_consent, granted_but_one | requested_template, requested_broad | one+day | deliverability | fr | strip purposes_differ | N9.5, N11 a: a gated pixel keeps more than a day

* | withdrew                      | * | *                          | * | * | strip refused | N24
* | refused_one, informed_refused | * | consent, one, one+day, all | * | * | strip refused | N8, N29: a later objection is a refusal
* | objected | * | day, auth, legal, shared, one+day, day+shared, auth+legal, all | * | * | strip refused | an objection to an exempt use
* | *                             | * | *                          | * | * | strip no_consent | N8, N9, N12, N30
";

const SAID: [&str; 14] = [
    "silent",
    "asked",
    "granted",
    "granted_consent",
    "granted_but_one",
    "expired",
    "refused_one",
    "withdrew",
    "objected",
    "no_track",
    "informed",
    "informed_late",
    "collected_late",
    "informed_refused",
];
const MAIL: [&str; 6] = [
    "requested_template",
    "requested_broad",
    "soft_template",
    "neither_template",
    "neither_broad",
    "consent_request",
];
const PURPOSES: [&str; 10] =
    ["consent", "one", "day", "auth", "legal", "shared", "one+day", "day+shared", "auth+legal", "all"];
const JURISDICTIONS: [&str; 6] = ["fr", "it", "uk", "eu_base", NONE, UNKNOWN];
const ON_GRANT: [OnGrant; 3] = [OnGrant::Gate, OnGrant::Keep, OnGrant::Strip];
const EXEMPT: [Purpose; 4] =
    [Purpose::Deliverability, Purpose::AuthSecurity, Purpose::LegalNotice, Purpose::AggregateStatistics];

fn moment(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn now() -> Timestamp {
    moment("2026-11-24")
}

fn standing(said: &str) -> Standing {
    let mut standing = Standing::unknown();
    let mut record = 0;
    let mut say = |purposes: &[Purpose], state: State, rest: &dyn Fn(&mut Change)| {
        let at = moment("2026-09-01");
        let mut change = Change::new("shop".parse().unwrap(), purposes.to_vec(), state, at);
        rest(&mut change);
        record += 1;
        let _ = standing.merge(&change, record, true);
    };
    let plain = |_: &mut Change| {};
    let informed = |collected: &'static str, notice: &'static str| {
        move |change: &mut Change| {
            change.collected_at = Some(moment(collected));
            change.notice_sent_at = Some(moment(notice));
        }
    };
    let one = [Purpose::CampaignPerformance];
    let in_time = informed("2026-04-13T23:59:59Z", "2026-07-14T23:59:59Z");
    match said {
        "silent" => {}
        "asked" => say(&Purpose::ALL, State::Asked, &plain),
        "granted" => say(&Purpose::ALL, State::Granted, &plain),
        "granted_consent" => say(&Purpose::CONSENT, State::Granted, &plain),
        "granted_opens" => say(&Purpose::CONSENT_TO_OPENS, State::Granted, &plain),
        "granted_links" => say(&[Purpose::LinkTracking], State::Granted, &plain),
        "granted_but_links" => {
            say(&Purpose::CONSENT_TO_OPENS, State::Granted, &plain);
            say(&[Purpose::LinkTracking], State::Refused, &plain);
        }
        "granted_but_one" => say(&Purpose::CONSENT[..3], State::Granted, &plain),
        "expired" => say(&Purpose::ALL, State::Granted, &|change| change.expires = Some(now())),
        "refused_one" => say(&one, State::Refused, &plain),
        "withdrew" => say(&Purpose::ALL, State::Withdrawn, &plain),
        "objected" => say(&EXEMPT, State::Objected, &plain),
        "no_track" => say(&Purpose::ALL, State::Granted, &|change| change.no_track = Some(true)),
        "informed" => say(&Purpose::CONSENT, State::NeverAsked, &in_time),
        "informed_late" => {
            say(&Purpose::CONSENT, State::NeverAsked, &informed("2026-01-01", "2026-07-15"));
        }
        "collected_late" => {
            say(&Purpose::CONSENT, State::NeverAsked, &informed("2026-04-14", "2026-05-01"));
        }
        "informed_refused" => {
            say(&Purpose::CONSENT[1..], State::NeverAsked, &in_time);
            say(&one, State::Refused, &plain);
        }
        other => panic!("{other}"),
    }
    standing
}

fn purposes(name: &str) -> Vec<Purpose> {
    match name {
        "consent" => Purpose::CONSENT.to_vec(),
        "one" => vec![Purpose::CampaignPerformance],
        "day" => vec![Purpose::Deliverability],
        "auth" => vec![Purpose::AuthSecurity],
        "legal" => vec![Purpose::LegalNotice],
        "shared" => vec![Purpose::AggregateStatistics],
        "one+day" => vec![Purpose::CampaignPerformance, Purpose::Deliverability],
        "day+shared" => vec![Purpose::Deliverability, Purpose::AggregateStatistics],
        "auth+legal" => vec![Purpose::AuthSecurity, Purpose::LegalNotice],
        "all" => Purpose::ALL.to_vec(),
        other => panic!("{other}"),
    }
}

fn mailstream(mail: &str, purposes: Vec<Purpose>, exemption: Option<Exemption>) -> Mailstream {
    let treatment = Treatment {
        extent: Extent::Trackers,
        receipts: Receipts::Keep,
        personal: Personal::Gentlest,
        links: Links::Count,
        link_treatment: LinkTreatment::Keep,
        unreadable: Unreadable::Count,
    };
    let mut stream = Mailstream::unmatched("shop", Mode::Enforce, treatment, Footer::WhenTracked);
    stream.purposes = purposes;
    stream.exemption = exemption;
    stream.requested = match mail {
        "requested_template" | "requested_broad" => Requested::Requested,
        "soft_template" => Requested::SoftOptIn,
        _ => Requested::Neither,
    };
    if mail.ends_with("_template") {
        stream.conditions =
            Conditions { list_id: vec!["a.shop.example".to_owned()], ..Conditions::default() };
    } else {
        let domain = vec!["shop.example".to_owned()];
        stream.conditions = Conditions { sender_domain: domain, ..Conditions::default() };
    }
    if mail == "consent_request" {
        stream.kind = MailKind::ConsentRequest;
    }
    stream
}

struct Row<'a> {
    wanted: Vec<Vec<&'a str>>,
    outcome: &'a str,
    rule: &'a str,
}

fn rows() -> Vec<Row<'static>> {
    let lines = TABLE.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            assert_eq!(cells.len(), 8, "{line}");
            let wanted = cells[..6].iter().map(|cell| cell.split(", ").collect()).collect();
            let (outcome, rule) = cells[6].split_once(' ').unwrap();
            Row { wanted, outcome, rule }
        })
        .collect()
}

fn expected(row: &Row<'static>, on_grant: OnGrant) -> (&'static str, &'static str) {
    let rests_on_grant = ["granted", "purposes_differ"].contains(&row.rule);
    if rests_on_grant && on_grant == OnGrant::Strip {
        return ("strip", "granted_but_on_grant_is_strip");
    }
    let outcome = match (row.outcome, on_grant) {
        ("grant", OnGrant::Keep) => "keep",
        ("grant", OnGrant::Gate) => "swap_gated",
        (other, _) => other,
    };
    (outcome, row.rule)
}

fn exemptions() -> Vec<Option<Exemption>> {
    [None].into_iter().chain(Exemption::ALL.map(Some)).collect()
}

fn all_rules(all: &Jurisdictions) -> Vec<Rules> {
    JURISDICTIONS.iter().map(|name| all.at(now()).named(name).into_owned()).collect()
}

#[test]
fn every_combination_is_decided_as_the_table_says() {
    let (rows, all) = (rows(), shipped());
    let rules = all_rules(&all);
    let mut used = vec![0_u32; rows.len()];
    for said in SAID {
        let standing = standing(said);
        for (mail, purpose_set) in MAIL.iter().flat_map(|mail| PURPOSES.map(|set| (*mail, set))) {
            for exemption in exemptions() {
                let stream = mailstream(mail, purposes(purpose_set), exemption);
                let exemption = exemption.map_or("none", Exemption::name);
                for (rules, jurisdiction) in rules.iter().zip(JURISDICTIONS) {
                    for (store, on_grant) in
                        ["up", "down"].iter().flat_map(|store| ON_GRANT.map(|on_grant| (*store, on_grant)))
                    {
                        let case = [store, said, mail, purpose_set, exemption, jurisdiction];
                        let fits = |row: &Row<'_>| {
                            row.wanted
                                .iter()
                                .zip(case)
                                .all(|(wanted, item)| *wanted == ["*"] || wanted.contains(&item))
                        };
                        let index = rows.iter().position(fits).unwrap();
                        used[index] += 1;
                        let facts = Facts {
                            rules,
                            mailstream: &stream,
                            on_grant,
                            standing: (store == "up").then_some(&standing),
                            instruction: Instruction::None,
                            now: now(),
                        };
                        let decision = decide(&facts);
                        let got = (decision.outcome.name(), decision.rule.name());
                        assert_eq!(got, expected(&rows[index], on_grant), "{case:?} {on_grant:?}");
                        assert_eq!(decision.version, rules.version);
                    }
                }
            }
        }
    }
    assert!(used.iter().all(|count| *count > 0), "a row that nothing fits: {used:?}");
}

#[test]
fn nothing_is_kept_or_gated_without_a_grant_of_every_purpose() {
    let all = shipped();
    let rules = all_rules(&all);
    let sets: Vec<Vec<Purpose>> = (0..512_u32)
        .map(|bits| {
            Purpose::ALL.into_iter().filter(|purpose| bits & (1 << (purpose.number() - 1)) != 0).collect()
        })
        .collect();
    let mut kept = 0;
    for said in SAID {
        let standing = standing(said);
        for (set, mail) in sets.iter().flat_map(|set| MAIL.map(|mail| (set, mail))) {
            // A yes to links is none to opens, and no set of links alone allows any.
            let opens: Vec<Purpose> =
                set.iter().copied().filter(|purpose| purpose.is_about_opens()).collect();
            let is_granted =
                |purpose: &Purpose| matches!(standing.allows(*purpose, now()), Permission::Granted(_));
            let granted = !opens.is_empty() && opens.iter().all(is_granted);
            for exemption in exemptions() {
                let stream = mailstream(mail, set.clone(), exemption);
                for rules in &rules {
                    let facts = Facts {
                        rules,
                        mailstream: &stream,
                        on_grant: OnGrant::Keep,
                        standing: Some(&standing),
                        instruction: Instruction::None,
                        now: now(),
                    };
                    let decision = decide(&facts);
                    if matches!(decision.outcome, Outcome::Keep | Outcome::SwapGated) {
                        let exempt = matches!(decision.rule, Rule::Exempt(_))
                            && exemption.is_some_and(|exemption| rules.flags.exempt.has(exemption));
                        let free = &*rules.version == "none/1970-01-01" && decision.rule == Rule::NoRules;
                        assert!(
                            granted || exempt || free,
                            "{said} {mail} {set:?} {exemption:?} {decision:?}"
                        );
                        assert_ne!(mail, "consent_request");
                        kept += 1;
                    }
                    let links_granted =
                        set.contains(&Purpose::LinkTracking) && is_granted(&Purpose::LinkTracking);
                    assert!(decision.links != LinkFate::Granted || links_granted, "{said} {set:?}");
                    if rules.flags.links == Need::Consent {
                        assert_ne!(decision.links, LinkFate::Stay, "{said} {set:?}");
                    }
                    let refused = decide(&Facts { instruction: Instruction::Refused, ..facts });
                    assert_eq!((refused.outcome, refused.links), (Outcome::Strip, LinkFate::Treat));
                    let unreachable = decide(&Facts { standing: None, ..facts });
                    assert_eq!((unreachable.outcome, unreachable.links), (Outcome::Strip, LinkFate::Treat));
                }
            }
        }
    }
    assert!(kept > 1000, "{kept}");
}

#[test]
fn the_record_that_led_there_is_named() {
    let all = shipped();
    let fr = all.at(now()).named("fr").into_owned();
    let check = |said: &str, mail: &str, exemption| {
        let stream = mailstream(mail, Purpose::CONSENT.to_vec(), exemption);
        let facts = Facts {
            rules: &fr,
            mailstream: &stream,
            on_grant: OnGrant::Gate,
            standing: Some(&standing(said)),
            instruction: Instruction::None,
            now: now(),
        };
        decide(&facts).record
    };
    assert_eq!(check("granted", "neither_broad", None), Some(1));
    assert_eq!(check("silent", "neither_broad", None), None);
    assert_eq!(check("informed_refused", "neither_broad", Some(Exemption::LegacyInformed)), Some(2));
    assert_eq!(check("informed", "neither_broad", Some(Exemption::LegacyInformed)), Some(1));
    assert_eq!(check("no_track", "neither_broad", None), Some(1));
}

#[test]
fn a_no_to_anything_ends_the_shared_pixel_where_asked() {
    let all = shipped();
    let rules = all.at(now()).named("it").into_owned();
    let check = |said: &str, shared_after_no: SharedAfterNo| {
        let stream = mailstream("neither_broad", vec![Purpose::AggregateStatistics], None);
        let stream =
            Mailstream { exemption: Some(Exemption::AggregateStatistics), shared_after_no, ..stream };
        let facts = Facts {
            rules: &rules,
            mailstream: &stream,
            on_grant: OnGrant::Gate,
            standing: Some(&standing(said)),
            instruction: Instruction::None,
            now: now(),
        };
        decide(&facts).outcome
    };
    for (said, stays, goes) in [
        ("silent", Outcome::SwapShared, Outcome::SwapShared),
        ("granted_opens", Outcome::SwapShared, Outcome::SwapShared),
        ("refused_one", Outcome::SwapShared, Outcome::Strip),
        ("granted_but_links", Outcome::SwapShared, Outcome::Strip),
        ("objected", Outcome::Strip, Outcome::Strip),
    ] {
        assert_eq!(check(said, SharedAfterNo::Stays), stays, "{said}");
        assert_eq!(check(said, SharedAfterNo::Goes), goes, "{said}");
    }
}

#[test]
fn links_are_an_axis_of_their_own_and_receipts_another() {
    let all = shipped();
    let check = |said: &str, jurisdiction: &str, on_grant: OnGrant| {
        let rules = all.at(now()).named(jurisdiction).into_owned();
        let mut stream = mailstream("neither_broad", Purpose::CONSENT.to_vec(), None);
        stream.treatment.receipts = Receipts::Keep;
        let standing = standing(said);
        let facts = Facts {
            rules: &rules,
            mailstream: &stream,
            on_grant,
            standing: Some(&standing),
            instruction: Instruction::None,
            now: now(),
        };
        let decision = decide(&facts);
        assert_eq!(decision.receipts, Receipts::Keep, "as the mailstream says, whatever was agreed to");
        decision.links
    };
    assert_eq!(check("granted", "fr", OnGrant::Gate), LinkFate::Granted);
    assert_eq!(check("granted", "fr", OnGrant::Strip), LinkFate::Treat);
    assert_eq!(check("granted_opens", "fr", OnGrant::Gate), LinkFate::Treat);
    assert_eq!(check("granted_links", "fr", OnGrant::Gate), LinkFate::Granted);
    assert_eq!(check("granted_but_links", "fr", OnGrant::Gate), LinkFate::Treat);
    assert_eq!(check("granted_but_links", NONE, OnGrant::Gate), LinkFate::Treat);
    assert_eq!(check("silent", "fr", OnGrant::Gate), LinkFate::Treat);
    assert_eq!(check("silent", NONE, OnGrant::Gate), LinkFate::Stay);
    assert_eq!(check("withdrew", NONE, OnGrant::Gate), LinkFate::Treat);
}
