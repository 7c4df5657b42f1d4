//! Which module may name which package or module. Such rules run with the tests, or they drift.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|own| own == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            // Tests may use more than what they test.
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned();
            let code: String = code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect::<Vec<_>>()
                .join("\n");
            let name = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
            found.push((name.to_str().unwrap().to_owned(), code));
        }
    }
}

/// Files in which `text` stands, but for those that begin with one of `allowed`.
fn check(text: &str, allowed: &[&str]) {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files.len() > 40);
    let wrong: Vec<&str> = files
        .iter()
        .filter(|(name, code)| code.contains(text) && !allowed.iter().any(|own| name.starts_with(own)))
        .map(|(name, _)| name.as_str())
        .collect();
    assert!(wrong.is_empty(), "{text} stands in {wrong:?}; it may only stand in {allowed:?}");
}

#[test]
fn packages_are_named_where_they_are_hidden() {
    check("sled::", &["consent/index.rs"]);
    check("mail_parser", &["message/structure.rs"]);
    check("cssparser", &["tracker/css.rs"]);
    check(
        "aws_lc_rs",
        &[
            "consent/person.rs",
            "consent/seal.rs",
            "chain/head.rs",
            "consent/keys.rs",
            "consent/pseudonyms.rs",
            "record/digest.rs",
            "sign/",
            "tracker/recipient.rs",
            "relay/next_hop.rs",
            "server/tls.rs",
            "server/certificate.rs",
            "web/token.rs",
            "web/link.rs",
            "console/session.rs",
            "console/saml/",
            "web/mapping.rs",
            "web/webhook/",
            "web/api/consent.rs",
            "web/api/replay.rs",
            "web/public/",
        ],
    );
    check("use url::", &["rewrite/target.rs", "config/mod.rs", "config/console.rs", "web/public/form.rs"]);
    check("use base64::", &["rewrite/token.rs", "web/api/model.rs", "console/"]);
    check("argon2::", &["server/users.rs"]);
    check("x509_parser", &["server/certificate.rs", "console/saml/sign.rs"]);
    check("samael", &["console/saml.rs"]);
    check("roxmltree", &["console/saml/"]);
    check("mail_builder", &["relay/dsn.rs", "cli/demo/", "web/public/renew.rs"]);
    check("rcgen", &["server/tls.rs"]);
    check("axum", &["record/metrics.rs", "web/", "cli/demo/", "console/"]);
    check("hyper", &["web/serve.rs", "web/webhook/", "web/probe.rs", "console/"]);
    check("utoipa", &["web/", "consent/export.rs"]);
    check("tracing_subscriber", &["record/logging.rs"]);
}

#[test]
fn the_core_knows_no_socket_clock_store_or_runtime() {
    let shell = [
        "server/",
        "relay/",
        "pipeline.rs",
        "pipeline/",
        "live.rs",
        "wire.rs",
        "cli/",
        "record/",
        "web/",
        "console/",
        "main.rs",
    ];
    check("tokio", &shell);
    let outside =
        [&shell[..], &["chain/", "consent/", "config/", "host_name.rs", "private_file.rs"]].concat();
    // Addresses are named there as values; nothing connects.
    check("std::net", &[&outside[..], &["rewrite/target.rs"]].concat());
    check("std::fs", &outside);
    check("SystemTime", &outside);
    check("Timestamp::now", &outside);
    check("std::thread", &outside);
    for core in ["crate::server", "crate::pipeline", "crate::relay", "crate::record"] {
        check(core, &[&shell[..], &["config/"]].concat());
    }
    check("crate::consent::Store", &shell);
}

#[test]
fn only_the_pipeline_knows_the_order() {
    check("rewrite::rewrite", &["pipeline/", "cli/", "rewrite/"]);
    check("broken_signatures", &["pipeline/", "sign/"]);
}

#[test]
fn the_relay_knows_nothing_of_the_console_and_the_console_only_the_api() {
    check("crate::console", &["console/"]);
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    for (name, code) in files.iter().filter(|(name, _)| name.starts_with("console")) {
        for inside in [
            "crate::pipeline",
            "crate::live",
            "consent::Store",
            "crate::record::evidence",
            "crate::tracker",
            "crate::chain",
        ] {
            assert!(!code.contains(inside), "{inside} stands in {name}");
        }
    }
}
