//! Where commands ask the running relay about its cluster: a local socket, one request and one answer. Only the
//! relay's own user may use it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Member;
use super::compare::{Compared, Remains};
use crate::web::live::Standing;

/// The maximum length of a request, in bytes.
const MAX_LINE: u64 = 1 << 16;
/// How long a command may take to ask.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a relay may take to answer that reads its whole journal and asks others.
const SEARCH: Duration = Duration::from_secs(600);

/// A request of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How does the relay stand?
    Status,
    /// Make an invitation for a new relay.
    Invite,
    /// Have all relays forget one that is gone for good.
    Forget([u8; 16]),
    /// How do the journals of the other relays compare with this one's?
    Compare,
    /// What is left of erased people?
    Erasures,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Answers [`Request::Status`].
    Status(Standing),
    /// Answers [`Request::Invite`].
    Invitation(String),
    /// Answers [`Request::Forget`].
    Forgotten,
    /// Answers [`Request::Compare`].
    Compared(Vec<Compared>),
    /// Answers [`Request::Erasures`].
    Remains(Remains),
    /// The request failed.
    Error(String),
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
                    let member = Weak::clone(&member);
                    // Some answers take long, and others must not wait for them.
                    let thread = std::thread::Builder::new().name("cluster-command".to_owned());
                    let started = thread.spawn(move || {
                        if let Err(error) = converse(&stream, &member) {
                            tracing::debug!(%error, "a command disconnected");
                        }
                    });
                    if let Err(error) = started {
                        tracing::warn!(%error, "a command cannot be answered");
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
        Request::Status => Answer::Status(member.standing()),
        Request::Forget(node) => match member.runtime.block_on(member.node.forget(node)) {
            true => Answer::Forgotten,
            false => Answer::Error(
                "the other relays could not be told in time; they may hear of it all the same".to_owned(),
            ),
        },
        Request::Compare => Answer::Compared(member.runtime.block_on(member.compare())),
        Request::Erasures => match member.runtime.block_on(member.remains()) {
            Ok(remains) => Answer::Remains(remains),
            Err(why) => Answer::Error(why),
        },
    }
}

/// Asks the running relay; `None` if none is running.
///
/// # Errors
///
/// When it does not answer.
pub fn ask(directory: &Path, request: Request) -> io::Result<Option<Answer>> {
    let Ok(stream) = UnixStream::connect(path(directory)) else { return Ok(None) };
    let patience = match request {
        Request::Status | Request::Invite => PATIENCE,
        Request::Forget(_) => 4 * PATIENCE,
        Request::Compare | Request::Erasures => SEARCH,
    };
    stream.set_read_timeout(Some(patience))?;
    let mut out = serde_json::to_vec(&request)?;
    out.push(b'\n');
    (&stream).write_all(&out)?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    Ok(Some(serde_json::from_str(&line)?))
}
