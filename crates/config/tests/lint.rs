//! What was declared and has no effect is warned about.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic)]

use pixelward_config::Config;
use pixelward_core::consent::Timestamp;
use pixelward_core::policy::lint::lint;

/// The warnings about one mailstream with these settings.
fn check(settings: &str) -> String {
    let text = format!(
        "[policy]\non_grant = \"strip\"\n[[mailstream]]\nname = \"a\"\n{settings}\n[next_hop]\nhost \
         = \"smtp.next-hop.example\"\n"
    );
    let rulebook = Config::parse(&text).unwrap().policy.rulebook;
    lint(&rulebook, Timestamp::parse("2026-11-24").unwrap()).join("\n")
}

#[test]
fn what_has_no_effect_is_warned_about() {
    const FRANCE: &str = "jurisdiction = \"fr\"\nnotice_url = \"https://shop.example/tracking\"\n";
    for (settings, words) in [
        ("", "no jurisdiction is declared"),
        ("exemption = \"auth_security\"", "it needs a sender, list_id or header condition"),
        ("exemption = \"legal_notice\"\njurisdiction = \"fr\"", "the rules of fr/2026-07-14 do not grant it"),
        ("exemption = \"aggregate_statistics\"", "no notice_url"),
        (
            "purposes = [\"deliverability\", \"personalisation\"]\nexemption = \"deliverability\"",
            "covers only some",
        ),
        ("exemption = \"deliverability\"\nkind = \"consent_request\"", "always stripped"),
        ("exemption = \"legacy_informed\"", "relies on one reading"),
    ] {
        assert!(check(settings).contains(words), "{words}: {}", check(settings));
    }
    // Whose page nobody knows is an open risk, whatever else is declared.
    assert_eq!(check(FRANCE).lines().count(), 1, "{}", check(FRANCE));
    assert!(check(FRANCE).starts_with("controller default: open risk: a tracked link"), "{}", check(FRANCE));
    let france = |rest: &str| check(&format!("{FRANCE}{rest}\n"));
    assert!(france("links = \"count\"").starts_with("mailstream a of default: open risk: the rules of fr/"));
    assert!(france("links = \"ignore\"").starts_with("mailstream a of default: open risk: the rules of fr/"));
    assert!(france("links = \"gate\"").contains("no public_url: links are unwrapped"));
    let undeclared = france("links = \"gate\"\npurposes = [\"personalisation\"]");
    assert!(undeclared.contains("purposes lacks link_tracking"), "{undeclared}");
    assert_eq!(france("mode = \"observe\""), "");
    assert_eq!(check("jurisdiction = \"none\"\nlinks = \"count\""), "");
    let declared =
        "purposes = [\"auth_security\"]\nexemption = \"auth_security\"\nsender = \"reset@shop.example\"\n";
    assert_eq!(check(&format!("{FRANCE}{declared}")), check(FRANCE));
}
