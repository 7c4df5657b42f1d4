//! Signatures end to end, judged by dkimpy and OpenDKIM: what was rewritten leaves with ours, what was not
//! keeps the one it came with, and a broken one never leaves.

use crate::mta;
use crate::support;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::mail::{in_folder, own_messages, real_messages};
use crate::mta::Postfix;
use crate::mta::sink::Sink;
use crate::readers::Readers;
use crate::support::{Client, Folder, NextHop, Relay, configuration, newsletter, program};
use bytes::Bytes;

/// Where `make test-packages` puts the verifier.
fn python() -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dkimpy/bin/python");
    assert!(path.exists(), "{} is missing; `make test-packages` puts it there", path.display());
    path
}

fn checker(arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dkim/check.py");
    let output = Command::new(python()).arg(script).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A key with its file, and the name and content of its record.
struct Key {
    file: PathBuf,
    name: String,
    record: String,
    lines: String,
}

fn key(folder: &Folder, domain: &str, selector: &str, kind: &str) -> Key {
    let file = folder.0.join(format!("{selector}.{domain}.pem"));
    let output = program()
        .args(["dkim", "keygen", "--domain", domain, "--selector", selector, "--kind", kind, "--out"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let zone = text.lines().find(|line| line.contains(" IN TXT ")).unwrap();
    let (name, strings) = zone.split_once(". IN TXT ").unwrap();
    let record: String = strings.split('"').skip(1).step_by(2).collect();
    let lines = text[text.find("[[dkim.key]]").unwrap()..].to_owned();
    Key { file, name: name.to_owned(), record, lines }
}

fn records(folder: &Folder, keys: &[&Key]) -> String {
    let lines: String = keys.iter().fold(String::new(), |mut out, item| {
        let _ = writeln!(out, "{} {}", item.name, item.record);
        out
    });
    folder.file("records", &lines).display().to_string()
}

/// Hands a message over as it is; says whether it was taken.
fn send(port: u16, sender: &str, message: &[u8]) -> bool {
    let mut client = Client::greeted(port);
    assert_eq!(client.say(&format!("MAIL FROM:<{sender}> BODY=8BITMIME")), 250);
    assert_eq!(client.say("RCPT TO:<ann@home.example>"), 250);
    assert_eq!(client.say("DATA"), 354);
    let mut wire = Vec::with_capacity(message.len() + 64);
    for line in message.split_inclusive(|item| *item == b'\n') {
        if line.first() == Some(&b'.') {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    let end: &[u8] = if message.ends_with(b"\r\n") { b".\r\n" } else { b"\r\n.\r\n" };
    wire.extend_from_slice(end);
    client.send(&wire);
    client.code() == 250
}

/// What was delivered as it arrived, dots unstuffed.
fn unstuffed(data: &[u8]) -> Vec<u8> {
    data.split_inclusive(|item| *item == b'\n')
        .flat_map(|line| line.strip_prefix(b".").unwrap_or(line))
        .copied()
        .collect()
}

struct Stage {
    hop: NextHop,
    relay: Relay,
    keys: Vec<Key>,
}

/// A relay that signs for shop.example, and for everybody else in its name.
fn stage(rest: &str) -> Stage {
    let hop = NextHop::start();
    let folder = Folder::new();
    let (keys, dkim) = signing(&folder, rest);
    configuration(&folder, hop.port, "max_message_bytes = 50000000", "", &dkim);
    Stage { relay: Relay::in_folder(folder), hop, keys }
}

/// A key of each kind, and the lines by which a relay signs with both.
fn signing(folder: &Folder, rest: &str) -> (Vec<Key>, String) {
    let keys = vec![key(folder, "shop.example", "rsa", "rsa"), key(folder, "shop.example", "ed", "ed25519")];
    let lines =
        format!("[dkim]\nfallback_domain = \"shop.example\"\n{rest}\n{}\n{}\n", keys[0].lines, keys[1].lines);
    (keys, lines)
}

#[test]
fn who_is_tied_to_another_controller_gets_no_signature_of_a_key() {
    let message = b"From: ceo@shop.example\r\nSubject: a\r\n\r\nb\r\n";
    let shop = "[[controller]]\nname = \"shop\"\nfrom_domain = \"shop.example\"\n";
    let other = "[[controller]]\nname = \"other\"\nlistener = \"inside\"\n";
    let named = |lines: &str| lines.replace("[[dkim.key]]\n", "[[dkim.key]]\ncontrollers = [\"other\"]\n");
    let plain = str::to_owned;
    type Change<'a> = &'a dyn Fn(&str) -> String;
    let cases: [(&str, Change<'_>, &str, bool); 6] = [
        // From makes it a message of shop, and the client is tied to another all the same.
        ("inside", &plain, &format!("{shop}{other}"), false),
        ("inside", &plain, &format!("{other}{shop}"), false),
        ("inside", &plain, other, false),
        ("outside", &plain, &format!("{shop}{other}"), true),
        ("outside", &plain, other, true),
        ("inside", &named, &format!("{other}{shop}"), true),
    ];
    for (listener, change, controllers, is_signed) in cases {
        let (hop, folder) = (NextHop::start(), Folder::new());
        let dkim = change(&key(&folder, "shop.example", "rsa", "rsa").lines);
        configuration(
            &folder,
            hop.port,
            &format!("name = \"{listener}\""),
            "",
            &format!("{dkim}\n{controllers}"),
        );
        let config = folder.0.join("config.toml");
        if listener == "outside" {
            // The listener that ties must be there.
            let text = std::fs::read_to_string(&config).unwrap();
            let inside = "[[listener]]\nname = \"inside\"\naddress = \"127.0.0.1:0\"\ntls = \"none\"\n";
            let first = text.find("[next_hop]").unwrap();
            std::fs::write(&config, format!("{}{inside}{}", &text[..first], &text[first..])).unwrap();
        }
        let relay = Relay::in_folder(folder);
        assert!(send(relay.port, "news@other.example", message));
        let left = unstuffed(&hop.wait(1).remove(0).data);
        let left = String::from_utf8(left).unwrap();
        assert_eq!(left.contains("d=shop.example"), is_signed, "{listener} {controllers} {dkim}: {left}");
        let checked = String::from_utf8(relay.command(&["check"]).stdout).unwrap();
        assert!(checked.contains("dkim.key rsa of shop.example signs "), "{checked}");
        if !is_signed {
            let told = relay.log.wait("the reason", |line| line.contains("a message was not signed"));
            assert!(
                told.contains("shop.example") && told.contains("WARN") && !told.contains("ceo"),
                "{told}"
            );
        }
    }
    let folder = Folder::new();
    let dkim = key(&folder, "shop.example", "rsa", "rsa")
        .lines
        .replace("[[dkim.key]]\n", "[[dkim.key]]\ncontrollers = [\"shp\"]\n");
    let file = configuration(&folder, 1, "", "", &format!("{dkim}\n{shop}"));
    let output = program().args(["check", "--config"]).arg(file).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("dkim.key.controllers") && told.contains("\"shp\""), "{told}");
}

#[test]
fn a_thousand_signatures_on_a_large_message_are_gone_through_once() {
    let stage = stage("");
    let (with, _) = newsletter("eve@home.example");
    let fields: String = (0..1000).fold(String::new(), |mut out, number| {
        let _ = write!(
            out,
            "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=d{number}.example; s=s; \
             l={number};\r\n h=from; bh=AA==; b=AA==\r\n"
        );
        out
    });
    let message = format!("{fields}{}", with.replace("\r\n", "\n").replace('\n', "\r\n"));
    assert!(send(stage.relay.port, "news@shop.example", message.as_bytes()));
    let left = String::from_utf8(unstuffed(&stage.hop.wait(1).remove(0).data)).unwrap();
    // Those that never held are not ours to judge, and those that nobody looks at go.
    let kept = (0..1000).filter(|number| left.contains(&format!("d=d{number}.example; "))).count();
    assert_eq!(kept, pixelward::sign::existing::MAX_SIGNATURES, "{}", left.len());
}

/// All messages there are, each with the name of its sender.
fn all(test: &str) -> Vec<(String, Bytes)> {
    let all = own_messages().into_iter().chain(real_messages(test)).enumerate();
    all.map(|(number, (_, raw))| (format!("m{number}"), raw)).collect()
}

#[test]
fn every_message_leaves_with_signatures_that_hold() {
    let stage = stage("");
    let folder = Folder::new();
    let (origin, signed) = signed_by_another(&folder, "every_message_leaves_with_signatures_that_hold");
    let mut came = BTreeMap::new();
    for (name, raw) in in_folder(&signed)
        .into_iter()
        .map(|(path, raw)| (path.file_stem().unwrap().to_str().unwrap().to_owned(), raw))
    {
        // Line ends that mail may not have, and parts that must not be edited, are turned away.
        if send(stage.relay.port, &format!("{name}@shop.example"), &raw) {
            came.insert(name, raw);
        }
    }
    let sent = in_folder(&signed).len();
    assert!(came.len() * 100 >= sent * 90, "{} of {sent}", came.len());
    let left = folder.0.join("left");
    std::fs::create_dir(&left).unwrap();
    for delivery in stage.hop.wait(came.len()) {
        let name = delivery.mail.split(['<', '@']).nth(1).unwrap().to_owned();
        std::fs::write(left.join(format!("{name}.eml")), unstuffed(&delivery.data)).unwrap();
    }
    let known = records(&folder, &[&stage.keys[0], &stage.keys[1], &origin]);
    let verdicts = checker(&["verify", &known, left.to_str().unwrap()]);
    let (mut rewritten, mut untouched) = (0, 0);
    for line in verdicts.lines() {
        let mut words = line.split(' ');
        let name = words.next().unwrap();
        let found: Vec<&str> = words.collect();
        assert!(found.iter().all(|item| *item == "yes"), "{line}");
        // Ours, and the one it came with where nothing that it signs has changed.
        let text = std::fs::read(left.join(format!("{name}.eml"))).unwrap();
        let is_kept = memchr::memmem::find(&text, b"d=origin.example").is_some();
        assert_eq!(found.len(), if is_kept { 3 } else { 2 }, "{line}");
        let raw = &came[name];
        // A field that it does not sign may go.
        assert!(is_kept || !text.ends_with(raw), "{name}: taken out where nothing changed");
        rewritten += usize::from(!is_kept);
        untouched += usize::from(is_kept);
    }
    assert!(rewritten >= 100 && untouched >= 30, "{rewritten} {untouched}");
    for key in &stage.keys {
        opendkim_agrees(key, &left);
    }
}

/// Whether each line of a header is one: the other implementation signs nothing else.
fn has_a_whole_header(raw: &[u8]) -> bool {
    let end = memchr::memmem::find(raw, b"\r\n\r\n").unwrap_or(raw.len());
    let mut lines = raw[..end].split(|byte| *byte == b'\n');
    lines.all(|line| line.starts_with(b" ") || line.starts_with(b"\t") || line.contains(&b':'))
}

/// All messages, each with a signature of somebody else that another implementation made, and the key of
/// that.
fn signed_by_another(folder: &Folder, test: &str) -> (Key, PathBuf) {
    let origin = key(folder, "origin.example", "o", "rsa");
    let signed = folder.0.join("signed");
    std::fs::create_dir(&signed).unwrap();
    for (name, raw) in all(test).into_iter().filter(|(_, raw)| has_a_whole_header(raw)) {
        // A signature that came along is of no matter here, and many of those do not hold.
        std::fs::write(signed.join(format!("{name}.eml")), with_signatures_of("", &raw)).unwrap();
    }
    checker(&["sign", origin.file.to_str().unwrap(), "o", "origin.example", signed.to_str().unwrap()]);
    (origin, signed)
}

/// Postfix hands its mail to the relay, takes it back and sends it on: what it does to a message on that way
/// breaks no signature.
#[test]
fn every_message_that_postfix_sends_has_signatures_that_hold() {
    let sink = Sink::start();
    let (port, back) = (mta::port(), mta::port());
    let folder = Folder::new();
    let (keys, dkim) = signing(&folder, "");
    let relay = mta::relay_at(port, back, "max_message_bytes = 50000000", &dkim);
    let postfix = Postfix::taking_back(&relay, "content-filter", sink.port);
    let (origin, signed) =
        signed_by_another(&folder, "every_message_that_postfix_sends_has_signatures_that_hold");
    let mut sent = 0;
    for (path, raw) in in_folder(&signed) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        sent += usize::from(send(postfix.port, &format!("{name}@shop.example"), &raw));
    }
    let left = folder.0.join("left");
    std::fs::create_dir(&left).unwrap();
    // What the relay turns away comes back as a bounce.
    for taken in sink.wait(sent, |_| true) {
        if let Some((name, _)) = taken.sender.trim_start_matches('<').split_once("@shop.example") {
            std::fs::write(left.join(format!("{name}.eml")), &*taken.message).unwrap();
        }
    }
    let known = records(&folder, &[&keys[0], &keys[1], &origin]);
    let verdicts = checker(&["verify", &known, left.to_str().unwrap()]);
    let (mut arrived, mut broken_by_postfix) = (0, 0);
    for line in verdicts.lines() {
        let found: Vec<&str> = line.split(' ').skip(1).collect();
        assert!(found.starts_with(&["yes", "yes"]), "{line}");
        // It folds long lines and completes headers before the relay sees them, whatever somebody else
        // signed.
        broken_by_postfix += usize::from(found.get(2).is_some_and(|value| value.starts_with("no")));
        arrived += 1;
    }
    assert!(
        arrived * 100 >= sent * 90 && broken_by_postfix * 100 <= arrived * 5,
        "{sent} {arrived} {broken_by_postfix}"
    );
    for key in &keys {
        opendkim_agrees(key, &left);
    }
}

/// A message without its signatures, but for those of this selector.
fn with_signatures_of(selector: &str, raw: &[u8]) -> Vec<u8> {
    let selection = format!("s={selector};");
    let edits: Vec<_> = pixelward::message::header::fields(raw, 0)
        .filter(|field| field.is(raw, "DKIM-Signature"))
        .filter(|field| {
            selector.is_empty()
                || memchr::memmem::find(&raw[field.range.clone()], selection.as_bytes()).is_none()
        })
        .map(|field| pixelward::message::Edit::cut_inside(field.range))
        .collect();
    pixelward::message::transfer::apply(raw, &edits)
}

/// Another verifier comes to the same result about this signature of each message.
fn opendkim_agrees(key: &Key, left: &Path) {
    let folder = Folder::new();
    let selector = key.name.split('.').next().unwrap();
    let mut messages = Vec::new();
    for (path, raw) in in_folder(left) {
        let path = folder.0.join(path.file_name().unwrap());
        std::fs::write(&path, with_signatures_of(selector, &raw)).unwrap();
        messages.push(path);
    }
    let mut passed_over = 0;
    // It takes them as one argument.
    for some in messages.chunks(200) {
        let said = mta::opendkim_verifies(&key.name, &key.record, some);
        for path in some {
            let name = path.file_name().unwrap().to_str().unwrap();
            let line = said
                .lines()
                .find(|line| line.contains(&format!("/{name}:")))
                .unwrap_or_else(|| panic!("{name}: {said}"));
            // It looks at no signature where it cannot read an address in From, as of some junk.
            if line.ends_with("message not signed") {
                passed_over += 1;
                continue;
            }
            assert!(line.contains(&format!("s={selector},")) && line.contains("succeeded"), "{line}");
        }
    }
    assert!(passed_over * 100 <= messages.len(), "{passed_over} of {}", messages.len());
}

#[test]
fn what_is_done_about_a_broken_signature_is_the_operators_choice() {
    let folder = Folder::new();
    let origin = key(&folder, "shop.example", "o", "rsa");
    let signed = folder.0.join("signed");
    std::fs::create_dir(&signed).unwrap();
    let (with, _) = newsletter("ann@home.example");
    std::fs::write(signed.join("a.eml"), support::crlf(&with)).unwrap();
    checker(&["sign", origin.file.to_str().unwrap(), "o", "shop.example", signed.to_str().unwrap()]);
    let message = std::fs::read(signed.join("a.eml")).unwrap();
    let left = |rest: &str| {
        let stage = stage(rest);
        let taken = send(stage.relay.port, "news@shop.example", &message);
        let text = taken.then(|| String::from_utf8(stage.hop.wait(1).remove(0).data).unwrap());
        text.map(|item| {
            (item.matches("DKIM-Signature:").count(), item.contains("s=o;"), item.contains("s=rsa;"))
        })
    };
    assert_eq!(left(""), Some((2, false, true)));
    assert_eq!(left("on_broken = \"remove\""), Some((0, false, false)));
    assert_eq!(left("on_broken = \"reject\""), None);
    assert_eq!(left("sign = \"changed\""), Some((2, false, true)));
    // A message that nobody touched keeps the signature of its domain, and gets no other.
    let stage = stage("");
    stage.relay.say("ann@home.example", "granted");
    assert!(send(stage.relay.port, "news@shop.example", &message));
    let text = stage.hop.wait(1).remove(0).data;
    assert!(text.ends_with(&message[message.len() - 200..]));
    assert_eq!(String::from_utf8(text).unwrap().matches("DKIM-Signature:").count(), 1);
}

/// An unwrapped link is an edit like a pixel that goes: the same becomes of the signature.
#[test]
fn an_unwrapped_link_breaks_a_signature_as_a_removed_pixel_does() {
    const PAGE: &str = "https://shop.example/sale?a=1";
    const LINK: &str = "https://click.shop.example/r?u=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6\
                        &to=https%3A%2F%2Fshop.example%2Fsale%3Fa%3D1";
    let folder = Folder::new();
    let origin = key(&folder, "shop.example", "o", "rsa");
    let [signed, out] = ["signed", "left"].map(|name| folder.0.join(name));
    [&signed, &out].into_iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
    let message = format!(
        "From: <news@shop.example>\nTo: <ann@home.example>\nSubject: Sale\nMIME-Version: 1.0\n\
         Content-Type: text/html; charset=utf-8\n\n<p><a href=\"{}\">Sale</a></p>\n",
        LINK.replace('&', "&amp;")
    );
    std::fs::write(signed.join("a.eml"), support::crlf(&message)).unwrap();
    checker(&["sign", origin.file.to_str().unwrap(), "o", "shop.example", signed.to_str().unwrap()]);
    let message = std::fs::read(signed.join("a.eml")).unwrap();
    // What leaves, and what the other implementation says of each signature in it.
    let left = |rest: &str, agrees: bool| {
        let stage = stage(rest);
        if agrees {
            let said = ["consent", "set", "ann@home.example", "granted", "--evidence", "test"];
            let output = stage.relay.command(&[&said[..], &["--purposes", "link_tracking"]].concat());
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        if !send(stage.relay.port, "news@shop.example", &message) {
            return None;
        }
        let text = unstuffed(&stage.hop.wait(1).remove(0).data);
        std::fs::write(out.join("a.eml"), &text).unwrap();
        let known = records(&folder, &[&stage.keys[0], &stage.keys[1], &origin]);
        let verdict = checker(&["verify", &known, out.to_str().unwrap()]);
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.contains(PAGE), !agrees, "{text}");
        Some((verdict.trim_end().to_owned(), text.contains("s=o;")))
    };
    let is = |verdict: &str, has_theirs: bool| Some((verdict.to_owned(), has_theirs));
    assert_eq!(left("", false), is("a yes yes", false));
    assert_eq!(left("sign = \"changed\"", false), is("a yes yes", false));
    assert_eq!(left("on_broken = \"remove\"", false), is("a", false));
    assert_eq!(left("on_broken = \"reject\"", false), None);
    // Who agreed to links gets them as they came, with the signature that holds.
    assert_eq!(left("sign = \"changed\"", true), is("a yes", true));
}

#[test]
fn a_mailed_link_is_signed_too() {
    let (hop, folder) = (NextHop::start(), Folder::new());
    let key_of_shop = key(&folder, "shop.example", "own", "ed25519");
    let readers = Readers::with(hop.port, "sender = \"privacy@shop.example\"", &key_of_shop.lines);
    readers.say("ann@home.example", "refused");
    assert_eq!(readers.post("/shop/c/", &[("address", "ann@home.example")]).status, 200);
    let left = folder.0.join("left");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("link.eml"), unstuffed(&hop.wait(1)[0].data)).unwrap();
    let verdicts = checker(&["verify", &records(&folder, &[&key_of_shop]), left.to_str().unwrap()]);
    assert_eq!(verdicts.trim_end(), "link yes");
}

#[test]
fn the_command_says_which_signatures_hold() {
    let stage = stage("");
    assert!(send(
        stage.relay.port,
        "news@shop.example",
        b"From: news@shop.example\r\nSubject: a\r\n\r\nHello\r\n"
    ));
    let text = unstuffed(&stage.hop.wait(1).remove(0).data);
    let file = stage.relay.folder.file("left.eml", &String::from_utf8(text.clone()).unwrap());
    let verify = |file: &Path| {
        let output = stage.relay.command(&["dkim", "verify", file.to_str().unwrap()]);
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (holds, said) = verify(&file);
    assert!(holds, "{said}");
    assert_eq!(said, "rsa._domainkey.shop.example: valid\ned._domainkey.shop.example: valid\n");
    // Without --config it is the one of the working directory.
    let folder = &stage.relay.folder.0;
    let output = program().args(["dkim", "verify"]).arg(&file).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let altered =
        stage.relay.folder.file("altered.eml", &String::from_utf8(text).unwrap().replace("Hello", "hello"));
    let (holds, said) = verify(&altered);
    assert!(!holds && said.contains("invalid: the body changed"), "{said}");
    let said = stage.relay.command(&["dkim", "dns"]);
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("rsa._domainkey.shop.example. IN TXT ( \"v=DKIM1; k=rsa; p="), "{said}");
    // A key that others may read stops the start.
    let key = &stage.keys[0].file;
    std::fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let output = stage.relay.command(&["check"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("others may read the private key"));
}
