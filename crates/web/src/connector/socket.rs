//! Where commands ask the running relay about its connectors: a local socket, one request and one answer. Only the
//! relay's own user may use it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::Connectors;
use super::view::{Action, DeadLetters, Standing, ViewError, person};
use crate::consent::{Controller, Store};

/// The maximum length of a request, in bytes.
const MAX_LINE: u64 = 1 << 16;
/// How long either side may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How do the connectors of a controller stand, or all?
    Status(Option<String>),
    /// How does one stand, with everything?
    Show {
        /// The controller.
        controller: String,
        /// The connector.
        name: String,
    },
    /// Have one do something.
    Act {
        /// The controller.
        controller: String,
        /// The connector.
        name: String,
        /// What.
        action: Action,
    },
    /// List people of whom the service could not be told.
    DeadLetters {
        /// The controller.
        controller: String,
        /// The connector.
        name: String,
        /// The value of next from the previous page.
        cursor: Option<String>,
    },
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Answers [`Request::Status`].
    Connectors(Vec<Standing>),
    /// Answers [`Request::Show`] and [`Request::Act`].
    Connector(Box<Standing>),
    /// Answers [`Request::DeadLetters`].
    DeadLetters(DeadLetters),
    /// The request failed.
    Error(String),
}

/// How many dead letters are in one answer.
const PAGE: usize = 500;

fn path(data_directory: &Path) -> PathBuf {
    data_directory.join("connectors.sock")
}

/// Serves the socket on a thread of its own, for as long as the process lives.
///
/// # Errors
///
/// When the socket cannot be created.
pub fn serve(data_directory: &Path, connectors: &Connectors, store: &Arc<Store>) -> io::Result<()> {
    let path = path(data_directory);
    // The store's lock is held, so an existing socket is abandoned.
    let _ = std::fs::remove_file(&path);
    if connectors.0.is_empty() {
        return Ok(());
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let (connectors, store, runtime) = (connectors.clone(), Arc::downgrade(store), Handle::current());
    std::thread::Builder::new().name("connector-socket".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            match (stream, store.upgrade()) {
                (Ok(stream), Some(store)) => {
                    if let Err(error) = converse(&stream, &connectors, &store, &runtime) {
                        tracing::debug!(%error, "a command disconnected");
                    }
                }
                (Ok(_), None) => return,
                // Without a file to open, the next attempt fails at once, too.
                (Err(_), _) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    })?;
    Ok(())
}

fn converse(stream: &UnixStream, connectors: &Connectors, store: &Store, runtime: &Handle) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(MAX_LINE)).read_line(&mut line)?;
    let answer = match serde_json::from_str(&line) {
        Ok(request) => answered(request, connectors, store, runtime)
            .unwrap_or_else(|error| Answer::Error(error.to_string())),
        Err(error) => Answer::Error(format!("invalid request: {error}")),
    };
    let mut out = serde_json::to_vec(&answer)?;
    out.push(b'\n');
    let mut stream = stream;
    stream.write_all(&out)
}

fn answered(
    request: Request,
    connectors: &Connectors,
    store: &Store,
    runtime: &Handle,
) -> Result<Answer, ViewError> {
    let read = |name: &str| name.parse::<Controller>().map_err(ViewError::Unable);
    Ok(match request {
        Request::Status(controller) => {
            let controller = controller.as_deref().map(read).transpose()?;
            Answer::Connectors(connectors.list(controller.as_ref()))
        }
        Request::Show { controller, name } => {
            Answer::Connector(Box::new(connectors.show(&read(&controller)?, &name, store)?))
        }
        Request::Act { controller, name, action } => {
            let done = runtime.block_on(connectors.act(&read(&controller)?, &name, action))?;
            Answer::Connector(Box::new(done))
        }
        Request::DeadLetters { controller, name, cursor } => {
            let cursor = cursor.as_deref().and_then(person);
            let controller = read(&controller)?;
            Answer::DeadLetters(connectors.dead_letters((&controller, &name), cursor, PAGE, store)?)
        }
    })
}

/// Asks the running relay; `None` if none is running that has connectors.
///
/// # Errors
///
/// When it does not answer.
pub fn ask(data_directory: &Path, request: &Request) -> io::Result<Option<Answer>> {
    let Ok(stream) = UnixStream::connect(path(data_directory)) else { return Ok(None) };
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut out = serde_json::to_vec(request)?;
    out.push(b'\n');
    (&stream).write_all(&out)?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    Ok(Some(serde_json::from_str(&line)?))
}
