//! What-if, `pixelward rewrite --config` and SMTP come to the same copy, byte for byte, for every message of
//! the project, whatever its recipient said and whatever the policy is. Only tokens differ, which are sealed
//! anew each time; they are equally long. What a relay learns from other copies of a campaign, only mail can
//! teach it: that is off here.

use crate::support;
use std::io::Write;
use std::process::Stdio;
use std::sync::LazyLock;

use crate::http::Served;
use crate::mail::messages;
use crate::support::{Client, Folder, NextHop, configuration, program};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pixelward::message::{Structure, Text};
use pixelward::policy::Purpose;
use regex::bytes::Regex;
use serde_json::{Value, json};

const FROM: &str = "news@shop.example";
const TO: &str = "ann@home.example";
/// In the order in which one person can say them.
const STATES: [&str; 3] = ["unknown", "granted", "refused"];

/// A copy, or how its sender hears that there is none.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Copy(Vec<u8>),
    Rejected,
    Waits,
}

/// A relay with a policy, and where its copies go.
struct Bench {
    served: Served,
    hop: NextHop,
    token: String,
    mailstream: Option<&'static str>,
}

impl Bench {
    fn with(policy: &str, mailstream: Option<&'static str>) -> Bench {
        let (hop, folder) = (NextHop::start(), Folder::new());
        let rest = format!(
            "{policy}\n[api]\naddress = \"127.0.0.1:0\"\nburst = 100000\nrequests_per_minute = 1000000\n\
             [tracker]\ncampaign_learning = false\n"
        );
        configuration(&folder, hop.port, "", "", &rest);
        let served = Served::of(support::Relay::in_folder(folder));
        let token = served.token("policy:read,consent:write", "all");
        Bench { served, hop, token, mailstream }
    }

    fn say(&self, state: &str) {
        if state == "unknown" {
            return;
        }
        // Of every purpose, as it is assumed by the other two.
        let purposes = Purpose::ALL.map(Purpose::name).join(",");
        let arguments = [
            ["consent", "set", TO, state, "--controller", "shop", "--evidence", "test"].as_slice(),
            &["--purposes", &purposes],
        ]
        .concat();
        let output = self.served.relay.command(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn by_smtp(&self, client: &mut Client, message: &[u8]) -> Fate {
        let before = self.hop.count();
        for line in [format!("MAIL FROM:<{FROM}>"), format!("RCPT TO:<{TO}>")] {
            assert_eq!(client.say(&line), 250);
        }
        assert_eq!(client.say("DATA"), 354);
        let mut wire = Vec::new();
        for line in message.split_inclusive(|byte| *byte == b'\n') {
            if line.starts_with(b".") {
                wire.push(b'.');
            }
            wire.extend_from_slice(line);
        }
        wire.extend_from_slice(b".\r\n");
        client.send(&wire);
        match client.code() {
            250 => Fate::Copy(below_trace(&self.hop.wait(before + 1)[before].data)),
            400..500 => Fate::Waits,
            _ => Fate::Rejected,
        }
    }

    fn by_what_if(&self, message: &[u8], state: &str) -> (Fate, Value) {
        let mut trial = json!({ "message": STANDARD.encode(message), "recipient": TO });
        if state != "unknown" {
            trial["state"] = state.into();
        }
        if let Some(mailstream) = self.mailstream {
            trial["mailstream"] = mailstream.into();
        }
        let path = "/v1/controllers/shop/policy/what-if";
        let answer = self.served.ask(&self.token, "POST", path, &trial.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
        let tried = answer.json();
        let fate = match (tried["copy"].as_str(), tried["result"].as_str().unwrap()) {
            (Some(copy), _) => Fate::Copy(STANDARD.decode(copy).unwrap()),
            (None, "rejected") => Fate::Rejected,
            (None, result) => {
                assert_eq!(result, "withheld");
                Fate::Waits
            }
        };
        (fate, tried)
    }

    fn by_rewrite(&self, message: &[u8], state: &str) -> Option<Vec<u8>> {
        let mut child = program()
            .args(["rewrite", "--assume", state, "--recipient", TO, "--sender", FROM, "--config"])
            .arg(self.served.relay.folder.0.join("config.toml"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(message).unwrap();
        let output = child.wait_with_output().unwrap();
        output.status.success().then_some(output.stdout)
    }

    /// Compares all three for every message; gives how many were compared, and in how many something was
    /// changed.
    fn compare(&self) -> (usize, usize) {
        let mut client = Client::greeted(self.served.relay.port);
        assert_eq!(client.say("EHLO client.example"), 250);
        let (mut compared, mut changed) = (0, 0);
        for (turn, state) in STATES.into_iter().enumerate() {
            self.say(state);
            for (number, (path, message)) in messages().into_iter().enumerate() {
                let Some(message) = as_sent(&message) else { continue };
                let name = format!("{}, {state}", path.display());
                let sent = self.by_smtp(&mut client, &message);
                let (tried, answer) = self.by_what_if(&message, state);
                equal(&sent, &tried, &format!("{name}: what-if, {answer}"));
                // A process each takes its time: each message is tried by it in one state.
                if number % STATES.len() == turn {
                    let rewritten = self.by_rewrite(&message, state);
                    match (&sent, rewritten) {
                        (Fate::Copy(_), Some(copy)) => {
                            equal(&sent, &Fate::Copy(copy), &format!("{name}: rewrite"));
                        }
                        (sent, rewritten) => {
                            assert!(
                                !matches!(sent, Fate::Copy(_)) && rewritten.is_none(),
                                "{name}: {sent:?}"
                            );
                        }
                    }
                }
                compared += 1;
                changed += usize::from(sent != Fate::Copy(message));
            }
        }
        (compared, changed)
    }
}

/// The message as it comes over the wire; `None` for one that no client could send.
fn as_sent(message: &[u8]) -> Option<Vec<u8>> {
    let mut message = message.to_vec();
    if !message.ends_with(b"\r\n") {
        message.extend_from_slice(b"\r\n");
    }
    let bare = |pair: &[u8]| (pair[0] == b'\r') != (pair[1] == b'\n');
    (!message.windows(2).any(bare) && !message.contains(&0)).then_some(message)
}

/// What stands below our trace field, dots unstuffed.
fn below_trace(data: &[u8]) -> Vec<u8> {
    let mut lines = data.split_inclusive(|byte| *byte == b'\n').peekable();
    assert!(lines.next().unwrap().starts_with(b"Received: "));
    while lines.next_if(|line| line.starts_with(b"\t") || line.starts_with(b" ")).is_some() {}
    lines.flat_map(|line| line.strip_prefix(b".").unwrap_or(line)).copied().collect()
}

/// Whether two copies are the same but for tokens.
fn equal(one: &Fate, other: &Fate, name: &str) {
    match (one, other) {
        (Fate::Copy(one), Fate::Copy(other)) => {
            let (one_text, other_text) = (String::from_utf8_lossy(one), String::from_utf8_lossy(other));
            assert_eq!(one.len(), other.len(), "{name}\n--- SMTP\n{one_text}\n--- other\n{other_text}");
            assert_eq!(
                without_tokens(one),
                without_tokens(other),
                "{name}\n--- SMTP\n{one_text}\n--- other\n{other_text}"
            );
        }
        _ => assert_eq!(one, other, "{name}"),
    }
}

/// The bytes around the texts of a message, and the texts decoded, with each token replaced.
fn without_tokens(message: &[u8]) -> Vec<String> {
    static TOKEN: LazyLock<Regex> = LazyLock::new(|| Regex::new("/([pdsc])/[A-Za-z0-9_-]{16,}").unwrap());
    let structure = Structure::read(message);
    let mut pieces = Vec::new();
    let mut at = 0;
    for leaf in &structure.leaves {
        pieces.push(message.get(at..leaf.body.start).unwrap_or_default().to_vec());
        pieces.push(Text::new(message, leaf).bytes().to_vec());
        at = leaf.body.end;
    }
    pieces.push(message[at..].to_vec());
    let replaced = pieces.iter().map(|piece| TOKEN.replace_all(piece, &b"/$1/token"[..]));
    replaced.map(|piece| String::from_utf8_lossy(&piece).into_owned()).collect()
}

#[test]
fn without_a_public_address_all_three_say_the_same() {
    let (compared, changed) = Bench::with(
        "[[controller]]\nname = \"shop\"\nsender_domain = \"shop.example\"\n[policy]\ncontroller \
         = \"shop\"\non_grant = \"keep\"\n",
        None,
    )
    .compare();
    assert!(compared > 300 && changed > 100, "{compared} {changed}");
}

#[test]
fn with_gates_and_links_to_the_page_all_three_say_the_same() {
    let (compared, changed) = Bench::with(
        "[[controller]]\nname = \"shop\"\nsender_domain = \"shop.example\"\npublic_url \
         = \"https://choice.shop.example\"\n\
         [policy]\ncontroller = \"shop\"\non_grant = \"gate\"\n",
        None,
    )
    .compare();
    assert!(compared > 300 && changed > 200, "{compared} {changed}");
}

#[test]
fn strict_with_links_unwrapped_all_three_say_the_same() {
    let (compared, changed) = Bench::with(
        "[[controller]]\nname = \"shop\"\nsender_domain = \"shop.example\"\npublic_url \
         = \"https://choice.shop.example\"\n\
         [policy]\ncontroller = \"shop\"\non_grant = \"gate\"\nstrict = true\nlinks = \"unwrap\"\nprotected \
         = \"pass\"\n\
         footer = \"always\"\nidentifying_images = \"strip\"\n",
        None,
    )
    .compare();
    assert!(compared > 300 && changed > 250, "{compared} {changed}");
}

#[test]
fn with_an_exemption_all_three_say_the_same() {
    let (compared, changed) = Bench::with(
        "[[controller]]\nname = \"shop\"\nsender_domain = \"shop.example\"\npublic_url \
         = \"https://choice.shop.example\"\n\
         [[mailstream]]\nname = \"news\"\ncontroller = \"shop\"\nsender_domain = \"shop.example\"\n\
         purposes = [\"deliverability\"]\nexemption = \"deliverability\"\nrequested = \"requested\"\nmode \
         = \"enforce\"\n\
         jurisdiction = \"fr\"\n\
         [policy]\ncontroller = \"shop\"\nfooter = \"marker_only\"\n",
        Some("news"),
    )
    .compare();
    assert!(compared > 300 && changed > 100, "{compared} {changed}");
}

#[test]
fn what_is_only_observed_leaves_as_it_came_by_all_three() {
    let (compared, changed) = Bench::with(
        "[[controller]]\nname = \"shop\"\nsender_domain = \"shop.example\"\npublic_url \
         = \"https://choice.shop.example\"\n\
         [[mailstream]]\nname = \"news\"\ncontroller = \"shop\"\nsender_domain = \"shop.example\"\n\
         purposes = [\"campaign_performance\"]\nmode = \"observe\"\n\
         [policy]\ncontroller = \"shop\"\n",
        Some("news"),
    )
    .compare();
    assert!(compared > 300);
    assert_eq!(changed, 0);
}
