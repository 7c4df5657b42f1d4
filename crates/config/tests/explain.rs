//! Decisions in plain sentences.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic)]

use pixelward_config::Config;
use pixelward_core::consent::{Change, Standing, State, Timestamp};
use pixelward_core::language::Language;
use pixelward_core::plan::explain::explained;
use pixelward_core::policy::Purpose;

#[test]
fn every_sentence_is_told_in_each_language() {
    let text = "mode = \"observe\"\n[policy]\non_grant = \"keep\"\n[[mailstream]]\nname = \"news\"\npurposes \
                = [\"personalisation\", \"deliverability\"]\n\
                exemption = \"deliverability\"\n[next_hop]\nhost = \"smtp.next-hop.example\"\n";
    let rulebook = Config::parse(text).unwrap().policy.rulebook;
    let now = Timestamp::parse("2026-11-24").unwrap();
    for mailstream in [None, Some("news")] {
        let chosen = rulebook.named(None, mailstream).unwrap();
        let controller = chosen.controller.name.clone();
        let change = Change::new(controller, Purpose::ALL.to_vec(), State::Granted, now);
        let mut granted = Standing::unknown();
        let _ = granted.merge(&change, 1, true);
        let mut never = granted.clone();
        let jurisdiction = Some("fr".to_owned());
        let _ = never.merge(&Change { no_track: Some(true), jurisdiction, ..change }, 2, true);
        for standing in [None, Some(Standing::unknown()), Some(granted), Some(never)] {
            let told =
                |language| explained(&rulebook, chosen, standing.as_ref(), "a@b.example", now, language).1;
            let all = [told(Language::En), told(Language::De), told(Language::Fr)];
            for (english, (german, french)) in all[0].iter().zip(all[1].iter().zip(&all[2])) {
                // Where a version of the rules comes from is quoted.
                let quotes = english.contains(" (checked on ");
                assert!(quotes || english != german && german != french && french != english, "{english}");
            }
            assert!(
                all.iter().all(|sentences| sentences.len() == all[0].len() && sentences.len() >= 4),
                "{all:?}"
            );
        }
    }
}
