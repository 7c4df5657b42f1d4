//! Whether a message that JetStream acknowledged survives a power failure. By default it does not: servers sync
//! their files every two minutes, and in each of five runs a power cut lost every message of that time.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use serde::Deserialize;

use super::{Nats, REPLICAS, STREAM};
use crate::engine::Verdict;

/// The oldest version of the server that is trusted: earlier ones lose messages with `sync_interval: always`
/// too, or do not have it.
const FLOOR: [u32; 2] = [2, 14];
/// How long all servers together may take to answer.
const ANSWERS: Duration = Duration::from_secs(2);
/// What asks each server about its JetStream.
const ASKED: &str = "$SYS.REQ.SERVER.PING.JSZ";

/// What a server says.
#[derive(Debug, Deserialize)]
struct Answer {
    server: Server,
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Debug, Deserialize)]
struct Server {
    name: String,
    #[serde(default)]
    ver: String,
}

#[derive(Debug, Default, Deserialize)]
struct Data {
    #[serde(default)]
    config: Option<Configured>,
}

#[derive(Debug, Default, Deserialize)]
struct Configured {
    #[serde(default)]
    sync_always: bool,
}

/// The stream's servers, as its leader sees them.
#[derive(Debug, Default)]
struct Group {
    leader: Option<String>,
    /// The others, and whether each is up to date.
    replicas: Vec<(String, bool)>,
}

pub(super) async fn of(nats: &Nats) -> Verdict {
    match asked(nats).await {
        Ok(verdict) => verdict,
        Err(why) => Verdict::NotDurable { why },
    }
}

async fn asked(nats: &Nats) -> Result<Verdict, String> {
    let info = nats.stream().await.map_err(|error| error.to_string())?;
    let info = info.get_info().await.map_err(|error| error.to_string())?;
    let cluster = info.cluster.unwrap_or_default();
    let replicas =
        cluster.replicas.iter().map(|peer| (peer.name.clone(), peer.current && !peer.offline)).collect();
    let group = Group { leader: cluster.leader, replicas };
    if let Some(wrong) = super::difference(&super::wanted(), &info.config) {
        return Ok(Verdict::NotDurable { why: wrong });
    }
    let said = servers(nats, group.replicas.len() + 1).await?;
    Ok(judged(&group, &said))
}

/// Asks every server; stops at `expected` answers.
async fn servers(nats: &Nats, expected: usize) -> Result<HashMap<String, Answer>, String> {
    let Some(client) = &nats.monitor else {
        return Err("no key is configured with which servers can be asked whether they sync".to_owned());
    };
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| error.to_string())?;
    let request = client.publish_with_reply(ASKED, inbox, "{\"config\":true}".into());
    request.await.map_err(|error| error.to_string())?;
    let mut said = HashMap::new();
    let collect = async {
        while let Some(answer) = answers.next().await {
            if let Ok(answer) = serde_json::from_slice::<Answer>(&answer.payload) {
                said.insert(answer.server.name.clone(), answer);
            }
            if said.len() >= expected {
                break;
            }
        }
    };
    // Whoever has not answered by then counts as one that does not sync.
    let _ = tokio::time::timeout(ANSWERS, collect).await;
    Ok(said)
}

fn judged(group: &Group, said: &HashMap<String, Answer>) -> Verdict {
    let not = |why: String| Verdict::NotDurable { why };
    let Some(leader) = &group.leader else { return not(format!("the stream {STREAM} has no leader")) };
    if group.replicas.len() + 1 < REPLICAS {
        let count = group.replicas.len() + 1;
        return not(format!("the stream {STREAM} is on {count} of at least {REPLICAS} servers"));
    }
    if let Some((name, _)) = group.replicas.iter().find(|(_, is_current)| !is_current) {
        return not(format!("server {name} is away or behind"));
    }
    let names = std::iter::once(leader).chain(group.replicas.iter().map(|(name, _)| name));
    for name in names {
        let Some(answer) = said.get(name) else {
            return not(format!("server {name} did not say whether it syncs"));
        };
        if !is_new_enough(&answer.server.ver) {
            let [major, minor] = FLOOR;
            let version = &answer.server.ver;
            return not(format!("server {name} runs {version}; install {major}.{minor} or newer"));
        }
        let configured = answer.data.as_ref().and_then(|data| data.config.as_ref());
        if !configured.is_some_and(|config| config.sync_always) {
            return not(format!(
                "server {name} does not sync what it acknowledges: set `sync_interval: always`"
            ));
        }
    }
    Verdict::Durable
}

fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map(|number| number.parse::<u32>().ok());
    let found = [numbers.next().flatten(), numbers.next().flatten()];
    matches!(found, [Some(major), Some(minor)] if [major, minor] >= FLOOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(name: &str, version: &str, sync: &str) -> (String, Answer) {
        let text =
            format!(r#"{{"server":{{"name":"{name}","ver":"{version}"}},"data":{{"config":{{{sync}}}}}}}"#);
        (name.to_owned(), serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn every_server_must_say_that_it_syncs() {
        const ALWAYS: &str = r#""sync_always":true"#;
        let whole = || Group {
            leader: Some("a".to_owned()),
            replicas: vec![("b".to_owned(), true), ("c".to_owned(), true)],
        };
        let all = |sync: &str, version: &str| {
            HashMap::from([
                answer("a", "2.15.1", ALWAYS),
                answer("b", "2.15.1", ALWAYS),
                answer("c", version, sync),
            ])
        };
        let why = |group: &Group, said: &HashMap<String, Answer>| match judged(group, said) {
            Verdict::NotDurable { why } => why,
            Verdict::Durable => "durable".to_owned(),
        };
        assert_eq!(why(&whole(), &all(ALWAYS, "2.14.0-RC.1")), "durable");
        assert!(why(&whole(), &all("", "2.15.1")).contains("server c does not sync"));
        assert!(why(&whole(), &all(ALWAYS, "2.9.10")).contains("install 2.14 or newer"));
        assert!(why(&whole(), &all(ALWAYS, "")).contains("install 2.14"));
        let mut silent = all(ALWAYS, "2.15.1");
        silent.remove("b");
        assert!(why(&whole(), &silent).contains("server b did not say"));
        let behind = Group { replicas: vec![("b".to_owned(), true), ("c".to_owned(), false)], ..whole() };
        assert!(why(&behind, &all(ALWAYS, "2.15.1")).contains("server c is away"));
        let few = Group { replicas: vec![("b".to_owned(), true)], ..whole() };
        assert!(why(&few, &all(ALWAYS, "2.15.1")).contains("on 2 of at least 3"));
        assert!(why(&Group { leader: None, ..whole() }, &all(ALWAYS, "2.15.1")).contains("no leader"));
    }
}
