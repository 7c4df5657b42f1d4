//! The commands, as an operator types them.

use std::io::Write;
use std::process::{Output, Stdio};

use crate::support::{Folder, NextHop, configuration, crlf, newsletter, program};

fn said(output: &Output) -> (String, String) {
    (String::from_utf8(output.stdout.clone()).unwrap(), String::from_utf8(output.stderr.clone()).unwrap())
}

fn rewrite(arguments: &[&str], message: &str) -> (String, String) {
    let mut child = program()
        .arg("rewrite")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(message.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    said(&output)
}

#[test]
fn rewrite_strips_what_was_refused_and_leaves_what_was_granted() {
    let (with, without) = newsletter("eve@home.example");
    let (out, report) = rewrite(&["--assume", "refused"], &crlf(&with));
    assert_eq!(out, crlf(&without));
    assert!(report.contains("SendGrid") && report.contains("1 tracker found"), "{report}");
    assert_eq!(rewrite(&["--assume", "granted"], &crlf(&with)).0, crlf(&with));
    let (out, _) = rewrite(&["--strict"], &crlf(&with));
    assert!(!out.contains("logo.png") && out.contains("width=3D\"140\""), "{out}");
    let (_, report) = rewrite(&["--json"], &crlf(&with));
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["trackers"][0]["vendor"], "SendGrid");
}

#[test]
fn rewrite_leaves_protected_parts_and_says_so() {
    let message = "MIME-Version: 1.0\nContent-Type: multipart/signed; boundary=s\n\n--s\nContent-Type: \
                   text/html\n\n\
        <img src=\"https://t.shop.example/wf/open?upn=u001.Zk3Qw9XvT2aB\" width=1 \
        height=1>\n--s\nContent-Type: application/pgp-signature\n\nx\n--s--\n";
    let (out, report) = rewrite(&[], &crlf(message));
    assert_eq!(out, crlf(message));
    assert!(report.contains("signed or encrypted"), "{report}");
}

#[test]
fn a_recipient_that_is_named_is_found_in_the_url() {
    let message = "Content-Type: text/html\n\n<img \
                   src=\"https://pic.shop.example/a/416e6e40686f6d652e6578616d706c65/x\">\n";
    let (out, _) = rewrite(&["--recipient", "Ann@home.example"], &crlf(message));
    assert!(!out.contains("pic.shop.example"), "{out}");
}

#[test]
fn scan_takes_files_folders_and_mbox() {
    let folder = Folder::new();
    let (with, without) = newsletter("eve@home.example");
    folder.file("one.eml", &with);
    folder.file("two.eml", &without);
    folder.file(
        "three.mbox",
        &format!(
            "From a@b.example Mon Nov  2 09:00:00 2026\n{with}\nFrom a@b.example \
                                        Mon Nov  2 09:00:00 2026\n{without}"
        ),
    );
    let output = program().arg("scan").arg(&folder.0).output().unwrap();
    let (out, _) = said(&output);
    assert!(output.status.success());
    assert!(out.contains("4 messages, 2 with trackers"), "{out}");
    assert!(out.contains("2  SendGrid"), "{out}");
    let output = program().args(["scan", "--json"]).arg(&folder.0).output().unwrap();
    let sums: serde_json::Value = serde_json::from_str(said(&output).0.lines().last().unwrap()).unwrap();
    assert_eq!(sums["by_carrier"]["img"], 2);
    let output = program().args(["scan", "--explain"]).arg(folder.0.join("two.eml")).output().unwrap();
    assert!(said(&output).0.contains("large enough to be seen"));
}

#[test]
fn a_configuration_that_is_not_there_or_no_toml_is_answered_with_what_to_do() {
    let folder = Folder::new();
    let check = |name: &str| {
        let output = program().args(["check", "--config", name]).current_dir(&folder.0).output().unwrap();
        assert!(!output.status.success());
        said(&output).0
    };
    let away = check("elsewhere.toml");
    assert!(away.contains("elsewhere.toml: No such file") && away.contains("--config"), "{away}");
    assert!(!away.contains("Correct these lines"), "{away}");
    folder.file("broken.toml", "[next_hop]\nhost = bogus\n");
    let broken = check("broken.toml");
    assert!(broken.contains("broken.toml: line 2: ") && broken.contains("Correct these lines"), "{broken}");
    assert!(!broken.contains("is missing"), "{broken}");
}

#[test]
fn consent_is_set_imported_shown_verified_and_rebuilt_without_a_server() {
    let folder = Folder::new();
    configuration(&folder, 1, "", "", "");
    let run = |arguments: &[&str]| {
        let output = program()
            .arg("consent")
            .args(arguments)
            .arg("--config")
            .arg(folder.0.join("config.toml"))
            .output()
            .unwrap();
        let (out, err) = said(&output);
        (output.status.success(), out, err)
    };
    let (fine, out, _) = run(&["set", "ann@home.example", "granted"]);
    assert!(!fine && out.contains("proof of consent is missing"), "{out}");
    assert!(run(&["set", "ann@home.example", "granted", "--evidence", "form/1"]).0);
    let (_, out, _) = run(&["get", "ANN@home.example"]);
    assert!(
        out.contains("campaign_performance") && out.contains("allowed") && out.contains("form/1"),
        "{out}"
    );
    let file = folder.file(
        "rows.csv",
        "address,state,event_time,evidence\nbob@home.example,refused,2026-01-01,\nbad,granted,2026-01-01,x\n\
         eve@home.example,granted,2026-01-02,form/2\nzoe@home.example,granted,2026-01-02,\nann@home.example,granted,2099-01-01,x\n",
    );
    let (fine, out, err) = run(&["import", file.to_str().unwrap()]);
    assert!(
        !fine && out.starts_with("3 recorded, 1 of them without a grant") && out.contains("2 invalid"),
        "{out}{err}"
    );
    assert!(err.contains("line 3: ") && err.contains("line 6: ") && err.contains("future"), "{err}");
    run(&["set", "eve@home.example", "withdrawn"]);
    let (_, out, err) = run(&["import", file.to_str().unwrap()]);
    assert!(
        out.contains("1 superseded by withdrawal") && err.contains("line 4: no effect: superseded"),
        "{out}{err}"
    );
    let wrong = folder.file("wrong.csv", "address,state,event_time,subscribed\n");
    assert!(run(&["import", wrong.to_str().unwrap()]).2.contains("about receiving mail"));
    let (fine, out, _) = run(&["verify"]);
    assert!(fine && out.contains("differs from the journal in 0 places"), "{out}");
    assert!(run(&["rebuild"]).0);
    let (_, out, _) = run(&["get", "eve@home.example", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(shown["person"]["purposes"][0]["state"], "withdrawn");
    assert!(run(&["erase", "eve@home.example"]).1.contains("erased"));
    assert!(run(&["get", "eve@home.example"]).1.contains("Nothing is known"));
}

#[test]
fn a_person_s_records_are_exported_with_their_proof_and_a_store_is_copied_and_put_back() {
    let folder = Folder::new();
    configuration(&folder, 1, "", "", "");
    let run = |arguments: &[&str]| {
        let mut command = program();
        command.arg("consent").args(arguments).arg("--config").arg(folder.0.join("config.toml"));
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let path = |name: &str| folder.0.join(name).to_str().unwrap().to_owned();
    assert!(run(&["may-ask", "ann@home.example"]).0);
    assert!(run(&["set", "ann@home.example", "granted", "--evidence", "form/1"]).0);
    let (fine, out, _) = run(&["may-ask", "ann@home.example"]);
    assert!(!fine && out.contains("already agreed to all of it"), "{out}");
    assert!(run(&["set", "ann@home.example", "withdrawn"]).0);
    let (fine, out, _) = run(&["may-ask", "ann@home.example"]);
    assert!(!fine && out.contains("less than six months ago, until 20"), "{out}");
    assert!(run(&["set", "bob@home.example", "refused"]).0);

    let (fine, export, _) = run(&["export", "ann@home.example"]);
    assert!(fine && export.contains("form/1") && !export.contains("ann@home"), "{export}");
    let file = folder.file("export.json", &export);
    let (fine, out, _) = run(&["verify", "--export", file.to_str().unwrap()]);
    assert!(fine && out.contains("Every record of the export is in the journal"), "{out}");
    let forged = export.replacen("\"payload\": \"01", "\"payload\": \"02", 1);
    let (fine, out, _) = run(&["verify", "--export", folder.file("forged.json", &forged).to_str().unwrap()]);
    assert!(!fine && out.contains("Missing from the journal, or different: 1"), "{out}");
    assert!(run(&["export", "ann@home.example", "--html", &path("ann.html")]).0);
    let page = std::fs::read_to_string(path("ann.html")).unwrap();
    assert!(page.contains("Record 1") && page.contains("withdrawn") && !page.contains("<script"), "{page}");
    let (fine, out, _) = run(&["export", "eve@home.example"]);
    assert!(!fine && out.contains("Nothing is recorded"), "{out}");

    let (fine, _, err) = run(&["backup"]);
    assert!(!fine && err.contains("--journal"), "{err}");
    let (journal, keys) = (path("copy"), path("keys"));
    let (fine, out, err) = run(&["backup", "--journal", &journal, "--keys", &keys, "--delete-after", "7"]);
    assert!(fine && out.contains("Delete that copy by") && out.contains("3 records"), "{out}{err}");
    assert!(run(&["erase", "bob@home.example"]).0);
    assert!(run(&["backup", "--journal", &journal]).0);
    let (fine, _, err) = run(&["restore", "--journal", &journal, "--keys", &keys]);
    assert!(!fine && err.contains("there is a consent store here already"), "{err}");
    std::fs::rename(folder.0.join("data/consent"), folder.0.join("lost")).unwrap();
    let (fine, out, err) = run(&["restore", "--journal", &journal, "--keys", &keys]);
    assert!(fine && out.contains("4 records, 1 person"), "{out}{err}");
    assert!(run(&["get", "ann@home.example"]).1.contains("withdrawn"));
    assert!(
        run(&["get", "bob@home.example"]).1.contains("Nothing is known"),
        "erased, whatever the keys say"
    );
}

#[test]
fn a_damaged_journal_stops_the_start_and_names_the_place() {
    let folder = Folder::new();
    configuration(&folder, 1, "", "", "");
    let run = |arguments: &[&str]| {
        program()
            .arg("consent")
            .args(arguments)
            .arg("--config")
            .arg(folder.0.join("config.toml"))
            .output()
            .unwrap()
    };
    for address in ["a@home.example", "b@home.example", "c@home.example"] {
        assert!(run(&["set", address, "refused"]).status.success());
    }
    let journal = folder.0.join("data/consent/00000001.journal");
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes[120] ^= 1;
    std::fs::write(&journal, bytes).unwrap();
    let (_, err) = said(&run(&["verify"]));
    assert!(err.contains("damaged at byte 48") && err.contains("backup"), "{err}");
}

#[test]
fn check_says_what_is_wrong_and_what_to_do() {
    let hop = NextHop::start();
    let folder = Folder::new();
    let config = configuration(&folder, hop.port, "", "", "");
    let check = || program().args(["check", "--config"]).arg(&config).output().unwrap();
    let output = check();
    assert!(output.status.success(), "{:?}", said(&output));
    assert!(said(&output).0.contains(", in clear"));
    configuration(&folder, 1, "", "", "");
    let output = check();
    assert!(!output.status.success());
    let (out, _) = said(&output);
    assert!(out.contains("WRONG") && out.contains("[next_hop]"), "{out}");
    std::fs::write(&config, "nonsense = 1\n").unwrap();
    let (out, _) = said(&check());
    assert!(out.contains("line 1: unknown setting nonsense"), "{out}");
}

#[test]
fn the_demonstration_shows_what_was_removed() {
    let output = program()
        .args(["demo", "--once", "--listen", "127.0.0.1:0", "--public", "127.0.0.1:0"])
        .output()
        .unwrap();
    let (out, err) = said(&output);
    assert!(output.status.success(), "{err}");
    assert_eq!(out.matches(" put behind the gate").count(), 3, "{out}");
    assert_eq!(out.matches(" removed").count(), 6, "{out}");
}

#[test]
fn who_has_no_configuration_yet_is_told_where_to_find_one() {
    let folder = Folder::new();
    let advice = |command: &str| said(&program().arg(command).current_dir(&folder.0).output().unwrap()).1;
    let relay = advice("report");
    assert!(relay.contains("config.toml") && relay.contains("`pixelward init` creates one"), "{relay}");
    let console = advice("console-link");
    assert!(console.contains("docs/console.md") && !console.contains("init"), "{console}");
}

#[test]
fn each_command_explains_itself() {
    for command in ["run", "check", "demo", "rewrite", "scan", "consent", "policy", "postfix"] {
        let output = program().args([command, "--help"]).output().unwrap();
        let (out, _) = said(&output);
        assert!(output.status.success() && out.len() > 200, "{command}: {out}");
    }
}
