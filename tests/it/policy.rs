//! Controllers, mailstreams and jurisdictions end to end: what leaves, what the log says of it, and what the
//! commands say.

use crate::support::{Client, Delivery, Folder, NextHop, Relay, configuration, crlf, newsletter, program};

const SENDER: &str = "news@shop.example";

/// A relay with these sections, and its next hop.
fn start(rest: &str) -> (NextHop, Relay) {
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, "", "", rest);
    (hop, relay)
}

/// Sends a message and gives what the next hop got of it, `copies` deliveries.
fn send(hop: &NextHop, relay: &Relay, to: &[&str], message: &str, copies: usize) -> Vec<Delivery> {
    let before = hop.count();
    let reply = Client::greeted(relay.port).message(SENDER, to, message);
    assert!(reply.starts_with("250"), "{reply}");
    hop.wait(before + copies).split_off(before)
}

/// The only copy of a message to one recipient.
fn sent(hop: &NextHop, relay: &Relay, to: &str, message: &str) -> String {
    send(hop, relay, &[to], message, 1)[0].below_trace()
}

fn logged(relay: &Relay, count: usize, words: &[&str]) {
    relay.log.wait_for(count, &words.join(" "), |line| words.iter().all(|word| line.contains(word)));
}

fn said(relay: &Relay, arguments: &[&str]) -> String {
    let output = relay.command(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn grant(relay: &Relay, controller: &str, address: &str, purposes: &str) {
    let whose = ["--controller", controller, "--purposes", purposes, "--evidence", "form/1"];
    said(relay, &[&["consent", "set", address, "granted"][..], &whose].concat());
}

#[test]
fn a_control_field_chooses_and_never_leaves() {
    let stream = |name: &str, rest: &str| {
        format!("[[mailstream]]\nname = \"{name}\"\nheader = \"X-Mailstream: {name}\"\n{rest}\n")
    };
    let watched = stream("watched", "mode = \"observe\"\nreceipts = \"keep\"");
    let (hop, relay) = start(&format!("{}{watched}", stream("news", "")));
    let (with, without) = newsletter("eve@home.example");
    let plain = "Subject: a\n\nNothing to take out.\n";
    for (field, message, wanted) in [
        ("X-Mailstream: news\n", plain, plain),
        ("X-Mailstream: watched\n", plain, plain),
        ("x-mailstream:\n news\n", with.as_str(), without.as_str()),
        ("X-Mailstream: watched\n", with.as_str(), with.as_str()),
        ("X-Mailstream: newz\n", with.as_str(), without.as_str()),
        ("X-Mailstream: watched\nX-Mailstream: news\n", with.as_str(), without.as_str()),
    ] {
        let left = sent(&hop, &relay, "eve@home.example", &format!("{field}{message}"));
        assert_eq!(left, crlf(wanted), "{field}");
    }
    // A field that is no control field stays, also where it looks like one.
    let other = format!("X-Mailstream-Other: news\n{plain}");
    assert_eq!(sent(&hop, &relay, "eve@home.example", &other), crlf(&other));
    // What was decided is one thing, and what was done another: nothing, where there was no tracker.
    logged(&relay, 1, &["mailstream=\"watched\"", "decision=\"strip\"", "done=\"keep\"", "found=1"]);
    logged(&relay, 1, &["mailstream=\"watched\"", "decision=\"strip\"", "done=\"nothing\"", "found=0"]);
    logged(&relay, 1, &["mailstream=\"news\"", "decision=\"strip\"", "done=\"nothing\"", "removed=0"]);
    logged(&relay, 1, &["mailstream=\"news\"", "decision=\"strip\"", "done=\"strip\"", "removed=1"]);
    logged(&relay, 1, &["mailstream=\"unmatched\"", "version=unknown/"]);
}

#[test]
fn observed_content_is_never_rejected() {
    let rest = "[dkim]\non_broken = \"reject\"\n[[mailstream]]\nname = \"watched\"\nmode \
                = \"observe\"\nheader = \"X-Kind: watched\"\n";
    let (hop, relay) = start(rest);
    let pixel = "<img src=\"https://t.shop.example/wf/open?upn=u001.Zk3Qw9XvT2aB\" width=1 height=1>";
    let protected = format!(
        "Content-Type: multipart/signed; boundary=s\n\n--s\nContent-Type: text/html\n\n{pixel}\n--s\n\
         Content-Type: application/pgp-signature\n\nx\n--s--\n"
    );
    let mut unreadable = String::new();
    for depth in 0..200 {
        unreadable.push_str(&format!("Content-Type: multipart/mixed; boundary=b{depth}\n\n--b{depth}\n"));
    }
    let answer = |message: &str| Client::greeted(relay.port).message(SENDER, &["eve@home.example"], message);
    for (message, enforced) in [(protected.as_str(), "550"), (unreadable.as_str(), "451")] {
        assert!(answer(message).starts_with(enforced));
        let left = sent(&hop, &relay, "eve@home.example", &format!("X-Kind: watched\n{message}"));
        assert_eq!(left, crlf(message));
    }
    // The signature signs the control field, so taking that out breaks it: the signature goes, and the
    // message is not rejected.
    let signature = "DKIM-Signature: v=1; a=rsa-sha256; d=shop.example; s=a; c=relaxed/relaxed; \
                     h=from:x-kind; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=AA==\n";
    let message = "From: a@shop.example\nSubject: a\n\n";
    assert!(answer(&format!("{signature}X-Kind: other\n{message}")).starts_with("550 5.7.7"));
    let left = sent(&hop, &relay, "eve@home.example", &format!("{signature}X-Kind: watched\n{message}"));
    assert_eq!(left, crlf(message));
}

#[test]
fn each_controller_has_its_own_consents_and_each_mailstream_its_purposes() {
    let rest = "[[controller]]\nname = \"shop\"\nfrom_domain = \"shop.example\"\njurisdiction = \"fr\"\n\
                [[mailstream]]\nname = \"news\"\ncontroller = \"shop\"\nlist_id \
                = \"news.shop.example\"\npurposes = [\"campaign_performance\"]\n\
                [[mailstream]]\nname = \"ask\"\ncontroller = \"shop\"\nlist_id = \"ask.shop.example\"\nkind \
                = \"consent_request\"\n";
    let (hop, relay) = start(rest);
    grant(&relay, "shop", "ann@home.example", "campaign_performance");
    let (with, without) = newsletter("ann@home.example");
    let news = |message: &str| format!("List-Id: <news.shop.example>\n{message}");
    assert_eq!(sent(&hop, &relay, "ann@home.example", &news(&with)), crlf(&news(&with)));
    logged(
        &relay,
        1,
        &["controller=\"shop\"", "mailstream=\"news\"", "rule=\"granted\"", "version=fr/2026-07-14"],
    );
    // Mail that fits no mailstream may serve any purpose, and she agreed to one.
    assert_eq!(sent(&hop, &relay, "ann@home.example", &with), crlf(&without));
    logged(&relay, 1, &["controller=\"shop\"", "mailstream=\"unmatched\"", "rule=\"no_consent\""]);
    // Another organisation has no consent of hers.
    let foreign = with.replace("news@shop.example", "news@club.example");
    let left = sent(&hop, &relay, "ann@home.example", &news(&foreign));
    assert!(!left.contains("wf/open"), "{left}");
    logged(&relay, 1, &["controller=\"default\"", "mailstream=\"unmatched\""]);
    // Mail that asks is stripped whatever she said.
    grant(&relay, "shop", "ann@home.example", "all");
    let asking = |message: &str| format!("List-Id: <ask.shop.example>\n{message}");
    assert_eq!(sent(&hop, &relay, "ann@home.example", &asking(&with)), crlf(&asking(&without)));
    // Two people, two copies.
    let copies = send(&hop, &relay, &["ann@home.example", "bob@home.example"], &news(&with), 2);
    for copy in copies {
        let hers = copy.rcpts[0].contains("ann@");
        assert_eq!(copy.below_trace(), crlf(&news(if hers { &with } else { &without })));
    }
}

#[test]
fn where_a_person_is_decides() {
    let rest =
        "[[mailstream]]\nname = \"abroad\"\nlist_id = \"abroad.shop.example\"\njurisdiction = \"none\"\n";
    let (hop, relay) = start(rest);
    let rows = relay.folder.file(
        "rows.csv",
        "address,state,event_time,jurisdiction\nfay@home.example,never_asked,2026-01-01,fr\numa@home.example,never_asked,2026-01-01,none\n\
         rex@home.example,refused,2026-01-01,none\nzed@home.example,never_asked,2026-01-01,atlantis\n",
    );
    said(&relay, &["consent", "import", rows.to_str().unwrap()]);
    let (with, without) = newsletter("eve@home.example");
    let abroad = |message: &str| format!("List-Id: <abroad.shop.example>\n{message}");
    for (to, kept, version) in [
        ("eve@home.example", true, "version=none/1970-01-01"),
        ("eve@accueil.fr", false, "version=none/1970-01-01&fr/2026-07-14"),
        ("fay@home.example", false, "version=fr/2026-07-14"),
        ("rex@home.example", false, "rule=\"refused\" version=none/1970-01-01"),
        ("zed@home.example", false, "version=unknown/2026-10-28"),
    ] {
        let left = sent(&hop, &relay, to, &abroad(&with));
        assert_eq!(left, crlf(&abroad(if kept { &with } else { &without })), "{to}");
        logged(&relay, 1, &["mailstream=\"abroad\"", version]);
    }
    // Where nothing is declared, the record alone says that no rule is applied.
    assert_eq!(sent(&hop, &relay, "uma@home.example", &with), crlf(&with));
    assert_eq!(sent(&hop, &relay, "eve@home.example", &with), crlf(&without));
}

#[test]
fn exemptions_hold_for_what_was_declared() {
    let stream = |name: &str, exemption: &str, rest: &str| {
        format!(
            "[[mailstream]]\nname = \"{name}\"\nlist_id = \"{name}.shop.example\"\npurposes = \
             [\"{exemption}\"]\nexemption = \"{exemption}\"\n{rest}\n"
        )
    };
    let rest = [
        stream("reset", "auth_security", "jurisdiction = \"fr\""),
        stream("terms", "legal_notice", "jurisdiction = \"fr\""),
        stream("avviso", "legal_notice", "jurisdiction = \"it\""),
        stream("orders", "deliverability", "jurisdiction = \"fr\"\nrequested = \"requested\""),
    ];
    let (hop, relay) = start(&rest.concat());
    let (with, without) = newsletter("eve@home.example");
    for (name, kept, words) in [
        ("reset", true, "decision=\"keep\" rule=\"auth_security\""),
        ("terms", false, "decision=\"strip\" rule=\"no_consent\""),
        ("avviso", true, "decision=\"keep\" rule=\"legal_notice\""),
        ("orders", false, "decision=\"swap_day\" rule=\"deliverability\""),
    ] {
        let field = format!("List-Id: <{name}.shop.example>\n");
        let left = sent(&hop, &relay, "eve@home.example", &format!("{field}{with}"));
        assert_eq!(left, crlf(&format!("{field}{}", if kept { &with } else { &without })), "{name}");
        logged(&relay, 1, &[&format!("mailstream=\"{name}\""), words]);
    }
    logged(&relay, 1, &["swap_day", "shortfall=\"swap_needs_public_url\"", "done=\"strip\""]);
}

#[test]
fn without_a_public_address_a_grant_leads_to_strip() {
    let (hop, relay) = start("[policy]\non_grant = \"gate\"\n");
    relay.say("ann@home.example", "granted");
    let (with, without) = newsletter("ann@home.example");
    assert_eq!(sent(&hop, &relay, "ann@home.example", &with), crlf(&without));
    logged(
        &relay,
        1,
        &["decision=\"swap_gated\"", "rule=\"granted\"", "swap_needs_public_url", "done=\"strip\""],
    );
    assert!(said(&relay, &["policy", "lint"]).contains("on_grant is \"gate\""));
}

#[test]
fn receipts_are_a_flag_of_their_own() {
    let rest = "[policy]\nreceipts = \"keep\"\n[[mailstream]]\nname = \"letters\"\nlist_id \
                = \"letters.shop.example\"\n";
    let (hop, relay) = start(rest);
    relay.say("ann@home.example", "granted");
    let (with, without) = newsletter("ann@home.example");
    let letter =
        |id: &str, receipt: &str, message: &str| format!("List-Id: <{id}.shop.example>\n{receipt}{message}");
    let receipt = "Disposition-Notification-To: <news@shop.example>\n";
    for (id, to, wanted) in [
        ("letters", "ann@home.example", letter("letters", receipt, &with)),
        ("letters", "eve@home.example", letter("letters", receipt, &without)),
        ("other", "ann@home.example", letter("other", "", &with)),
        ("other", "eve@home.example", letter("other", "", &without)),
    ] {
        assert_eq!(sent(&hop, &relay, to, &letter(id, receipt, &with)), crlf(&wanted), "{id} to {to}");
    }
}

#[test]
fn the_commands_explain_and_warn() {
    let rest = "include = [\"policy.d/shop.toml\"]\n[policy]\non_grant = \"keep\"\n";
    let included = "[[controller]]\nname = \"shop\"\nsender_domain = \"shop.example\"\njurisdiction \
                    = \"fr\"\n\
        [[mailstream]]\nname = \"news\"\ncontroller = \"shop\"\npurposes = [\"personalisation\"]\n\
        [[mailstream]]\nname = \"orders\"\ncontroller = \"shop\"\nexemption \
        = \"deliverability\"\njurisdiction = \"atlantis\"\n\
        notice_url = \"https://shop.example/tracking\"\nidentifying_images = \"keep\"\n\
        [[jurisdiction]]\nname = \"fr\"\neffective_from = \"2099-01-01\"\nchecked_on \
        = \"2026-11-01\"\nsource = \"memo 3\"\n";
    let folder = Folder::new();
    std::fs::create_dir(folder.0.join("policy.d")).unwrap();
    folder.file("policy.d/shop.toml", included);
    configuration(&folder, NextHop::start().port, "", "", rest);
    let relay = Relay::in_folder(folder);
    grant(&relay, "shop", "ann@home.example", "personalisation");
    let explain = |mailstream: &str, address: &str, at: &str| {
        let whose =
            ["policy", "explain", "--controller", "shop", "--mailstream", mailstream, "--recipient", address];
        let moment = ["--at", if at.is_empty() { "2026-11-24" } else { at }];
        let text = said(&relay, &[&whose[..], &moment].concat());
        assert!(!text.contains(address), "{text}");
        text
    };
    let text = explain("news", "ann@home.example", "");
    for words in [
        "mailstream news of the controller shop",
        "personalisation: granted on ",
        "(record 1), and it stands",
        "the mailstream declares \"fr\"",
        "fr/2026-07-14: CNIL deliberation 2026-042",
        "Therefore keep",
        "Requests for a receipt are taken out.",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(
        explain("news", "ann@home.example", "2099-02-01")
            .contains("The rules are those of fr/2099-01-01+own.")
    );
    assert!(explain("news", "eve@home.example", "").contains("silence is not consent"));
    let text = explain("orders", "eve@home.it", "");
    assert!(text.contains("of which no rules are known") && text.contains("Therefore strip"), "{text}");
    assert!(text.contains("The rules do not know the exemption deliverability."), "{text}");
    let output =
        relay.command(&["policy", "explain", "--mailstream", "nothing", "--recipient", "a@b.example"]);
    assert!(
        !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("use one of unmatched")
    );
    let lint = said(&relay, &["policy", "lint"]);
    for words in [
        "controller shop: on_grant is \"keep\": a withdrawal cannot reach delivered mail",
        "mailstream news of shop: it may keep pixels and has no notice_url",
        "mailstream orders of shop: no version of the jurisdiction \"atlantis\" is in force",
        "mailstream orders of shop: exemption deliverability has no effect: purposes contains none of \
         deliverability",
        "mailstream orders of shop: exemption deliverability has no effect: it is for mail that people asked \
         for",
        "mailstream orders of shop: identifying_images is \"keep\"",
        "jurisdiction fr/2099-01-01+own: takes effect on 2099-01-01",
    ] {
        assert!(lint.contains(words), "{words}: {lint}");
    }
    assert!(!lint.contains("mailstream orders of shop: it may keep pixels and has no notice_url"), "{lint}");
    let check = relay.command(&["check"]);
    assert!(
        String::from_utf8_lossy(&check.stdout)
            .contains("note    mailstream news of shop: it may keep pixels")
    );
}

#[test]
fn without_a_running_relay_the_store_itself_is_asked() {
    let folder = Folder::new();
    let config = configuration(&folder, 1, "", "", "");
    let run = |arguments: &[&str]| {
        let output = program().args(arguments).arg("--config").arg(&config).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["consent", "set", "ann@home.example", "withdrawn"]);
    let text = run(&["policy", "explain", "--recipient", "ann@home.example"]);
    assert!(text.contains("withdrawn on ") && text.contains("since the person said no"), "{text}");
}

#[test]
fn what_is_wrong_with_an_included_file_is_named() {
    let folder = Folder::new();
    let included = folder.file("shop.toml", "[[mailstream]]\nname = \"news\"\ncolour = \"red\"\n");
    let config = configuration(&folder, 1, "", "", "include = [\"shop.toml\", \"missing.toml\"]\n");
    let output = program().args(["policy", "lint", "--config"]).arg(&config).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        text.contains(&format!("{}: line 3: unknown setting mailstream.colour", included.display())),
        "{text}"
    );
    assert!(text.contains("missing.toml"), "{text}");
}

#[test]
fn what_the_sending_application_says_makes_stricter_and_never_leaves() {
    let (hop, relay) = start("[policy]\non_grant = \"keep\"\n");
    let (with, without) = newsletter("eve@home.example");
    grant(&relay, "default", "eve@home.example", "all");
    assert_eq!(sent(&hop, &relay, "eve@home.example", &with), crlf(&with));
    // Whatever it says: it is a refusal, and nothing but that.
    for field in ["X-Pixelward-Consent: refused\n", "x-pixelward-consent:\n granted\n"] {
        let left = sent(&hop, &relay, "eve@home.example", &format!("{field}{with}"));
        assert_eq!(left, crlf(&without), "{field}");
    }
    logged(&relay, 2, &["rule=\"refused_by_sender\"", "done=\"strip\""]);
    let plain = "Subject: a\n\nNothing to take out.\n";
    let left = sent(&hop, &relay, "eve@home.example", &format!("X-Pixelward-Consent: refused\n{plain}"));
    assert_eq!(left, crlf(plain));
    // Nothing of it is remembered.
    assert_eq!(sent(&hop, &relay, "eve@home.example", &with), crlf(&with));
}
