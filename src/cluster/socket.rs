//! Where commands ask the running relay about its cluster: a local socket, one request and one answer. Only the
//! relay's own user may use it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use pixelward_replica::engine::Verdict;
use pixelward_replica::node::Other;
use serde::{Deserialize, Serialize};

use super::Member;

/// The maximum length of a request, in bytes.
const MAX_LINE: u64 = 1 << 16;
/// How long a command may take to ask.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How does the relay stand?
    Status,
    /// Make an invitation for a new relay.
    Invite,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Answers [`Request::Status`].
    Status(Standing),
    /// Answers [`Request::Invite`].
    Invitation(String),
    /// The request failed.
    Error(String),
}

/// How a relay stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its name among the others.
    pub relay: String,
    /// Whether grants count.
    pub fresh: bool,
    /// Why nothing counts as granted until somebody has looked.
    pub stopped: Option<String>,
    /// Why no new grants are taken, if they are not.
    pub not_durable: Option<String>,
    /// The position of the last message of the common order that was applied.
    pub position: u64,
    /// How many things the other relays were not told yet.
    pub untold: usize,
    /// The other relays that were heard of.
    pub others: Vec<OtherRelay>,
}

/// Another relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherRelay {
    /// Its name.
    pub relay: String,
    /// Where it is reached.
    pub address: String,
    /// How many seconds ago it said where it stands; `None` if it has not since this relay started.
    pub heard: Option<u64>,
    /// Whether it goes by other rules.
    pub other_rules: bool,
}

impl OtherRelay {
    fn of(other: Other) -> OtherRelay {
        OtherRelay {
            relay: hex::encode(other.node),
            address: other.address,
            heard: other.heard,
            other_rules: other.has_other_rules,
        }
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join("cluster.sock")
}

/// Serves the socket on a thread of its own, for as long as the relay is a member.
///
/// # Errors
///
/// When the socket cannot be created.
pub fn serve(directory: &Path, member: &Arc<Member>) -> io::Result<()> {
    let path = path(directory);
    // The store's lock is held, so an existing socket is abandoned.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let member = Arc::downgrade(member);
    std::thread::Builder::new().name("cluster-socket".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            match stream {
                Ok(stream) => {
                    if let Err(error) = converse(&stream, &member) {
                        tracing::debug!(%error, "a command disconnected");
                    }
                }
                // Without a file to open, the next attempt fails at once, too.
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    })?;
    Ok(())
}

fn converse(stream: &UnixStream, member: &Weak<Member>) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(MAX_LINE)).read_line(&mut line)?;
    let answer = match (serde_json::from_str(&line), member.upgrade()) {
        (Ok(request), Some(member)) => answer(&member, request),
        (Ok(_), None) => Answer::Error("the relay is stopping".to_owned()),
        (Err(error), _) => Answer::Error(format!("invalid request: {error}")),
    };
    let mut out = serde_json::to_vec(&answer)?;
    out.push(b'\n');
    let mut stream = stream;
    stream.write_all(&out)
}

fn answer(member: &Member, request: Request) -> Answer {
    match request {
        Request::Invite => match member.invite() {
            Ok(invitation) => Answer::Invitation(invitation.to_string()),
            Err(error) => Answer::Error(error.to_string()),
        },
        Request::Status => {
            let status = member.status();
            Answer::Status(Standing {
                relay: member.name(),
                fresh: status.is_fresh,
                stopped: status.stop.map(|stop| stop.to_string()),
                not_durable: match status.durability {
                    Verdict::Durable => None,
                    Verdict::NotDurable { why } => Some(why),
                },
                position: status.position,
                untold: status.untold,
                others: status.others.into_iter().map(OtherRelay::of).collect(),
            })
        }
    }
}

/// Asks the running relay; `None` if none is running.
///
/// # Errors
///
/// When it does not answer.
pub fn ask(directory: &Path, request: Request) -> io::Result<Option<Answer>> {
    let Ok(stream) = UnixStream::connect(path(directory)) else { return Ok(None) };
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut out = serde_json::to_vec(&request)?;
    out.push(b'\n');
    (&stream).write_all(&out)?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    Ok(Some(serde_json::from_str(&line)?))
}
