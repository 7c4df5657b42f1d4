//! The running server owns the store; commands reach it through a local socket, with one JSON object per line
//! in both directions. Only the server's own user may use it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::export::Export;
use super::import::{Row, RowResult, apply, purposes, say};
use super::person::Controller;
use super::standing::MayAsk;
use super::store::{Store, Verified};
use super::view::{Record, Standing, shown};

/// How long accepting pauses when no file can be opened.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
/// The maximum length of a line, in bytes.
const MAX_LINE: u64 = 16 << 20;

/// A request of a command.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "op")]
pub enum Request {
    /// Look up a person's current consent and history.
    Get {
        /// The controller.
        controller: String,
        /// The person's address.
        address: String,
    },
    /// Record rows.
    Apply {
        /// The controller of rows that name none.
        controller: String,
        /// The rows.
        rows: Vec<Row>,
    },
    /// Export everything recorded about a person, with the proof.
    Export {
        /// The person's address.
        address: String,
    },
    /// Ask whether a person may be asked (N19).
    MayAsk {
        /// The controller.
        controller: String,
        /// The person's address.
        address: String,
        /// The purposes; empty for those of opens that need consent.
        purposes: String,
    },
    /// Record one row, with the current time if it has none. Answered like [`Request::Apply`].
    Say {
        /// The controller, if the row names none.
        controller: String,
        /// The row.
        row: Box<Row>,
    },
    /// Compare an export with the journal.
    Compare(Box<Export>),
    /// Verify the whole store.
    Verify,
    /// Erase a person.
    Erase {
        /// The person's address.
        address: String,
    },
}

impl Request {
    /// Returns whether the request changes the store.
    pub fn writes(&self) -> bool {
        match self {
            Request::Apply { .. } | Request::Say { .. } | Request::Erase { .. } => true,
            Request::Get { .. }
            | Request::Export { .. }
            | Request::MayAsk { .. }
            | Request::Compare(_)
            | Request::Verify => false,
        }
    }
}

/// A response.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// Answers [`Request::Get`].
    Person(Shown),
    /// Answers [`Request::Export`]; `None` if nothing is recorded.
    Export(Option<Box<Export>>),
    /// Answers [`Request::MayAsk`].
    MayAsk {
        /// True if the person may be asked.
        may_ask: bool,
        /// The reason if not.
        reason: Option<String>,
        /// The earliest time at which the person may be asked.
        not_before: Option<String>,
    },
    /// Answers [`Request::Compare`]: the numbers of the records that differ.
    Differing(Vec<u64>),
    /// Answers [`Request::Apply`], with one result per row.
    Rows(Vec<RowResult>),
    /// Answers [`Request::Verify`].
    Verified(Verified),
    /// Answers [`Request::Erase`]: true if the person was known.
    Erased(bool),
    /// The request failed.
    Error(String),
}

/// A person's consent and history.
#[derive(Debug, Serialize, Deserialize)]
pub struct Shown {
    /// The current consent.
    #[serde(flatten)]
    pub standing: Standing,
    /// When the address was collected (N29).
    pub collected_at: Option<String>,
    /// When the person was informed (N29).
    pub notice_sent_at: Option<String>,
    /// Everything that was recorded, oldest first.
    pub history: Vec<Record>,
}

/// Answers a request.
pub fn answer(store: &Store, request: Request) -> Response {
    let done = match request {
        Request::Get { controller, address } => controller
            .parse()
            .and_then(|controller| show(store, &controller, &address).map_err(|error| error.to_string()))
            .map(Response::Person),
        Request::Apply { controller, rows } => controller
            .parse()
            .and_then(|controller| apply(store, &controller, &rows).map_err(|error| error.to_string()))
            .map(Response::Rows),
        Request::Say { controller, row } => controller
            .parse()
            .and_then(|controller| say(store, &controller, &row).map_err(|error| error.to_string()))
            .map(|result| Response::Rows(vec![result])),
        Request::Export { address } => Export::of(store, store.person(&address))
            .map(|export| Response::Export(export.map(Box::new)))
            .map_err(|error| error.to_string()),
        Request::MayAsk { controller, address, purposes } => may_ask(store, &controller, &address, &purposes),
        Request::Compare(export) => {
            export.differing(store).map(Response::Differing).map_err(|error| error.to_string())
        }
        Request::Verify => store.verify().map(Response::Verified).map_err(|error| error.to_string()),
        Request::Erase { address } => {
            store.erase(store.person(&address)).map(Response::Erased).map_err(|error| error.to_string())
        }
    };
    done.unwrap_or_else(Response::Error)
}

fn may_ask(store: &Store, controller: &str, address: &str, asked: &str) -> Result<Response, String> {
    let controller = controller.parse()?;
    let standing = store.known(&controller, store.person(address)).map_err(|error| error.to_string())?;
    let answer = standing
        .may_ask(&purposes(asked, &crate::policy::Purpose::CONSENT_TO_OPENS)?, super::Timestamp::now());
    Ok(Response::MayAsk {
        may_ask: answer == MayAsk::Yes,
        reason: answer.reason().map(str::to_owned),
        not_before: answer.not_before().map(|end| end.to_string()),
    })
}

fn show(store: &Store, controller: &Controller, address: &str) -> Result<Shown, super::StoreError> {
    let person = store.person(address);
    let standing = store.known(controller, person)?;
    Ok(Shown {
        collected_at: shown(standing.collected_at),
        notice_sent_at: shown(standing.notice_sent_at),
        history: store.history(person)?.iter().map(Record::of).collect(),
        standing: Standing::of(controller, &standing, super::Timestamp::now()),
    })
}

/// Returns the socket's path.
pub fn path(data_directory: &Path) -> PathBuf {
    data_directory.join("pixelward.sock")
}

/// Serves the socket on separate threads, for as long as the process lives.
///
/// # Errors
///
/// When the socket cannot be created.
pub fn serve(data_directory: &Path, store: Arc<Store>) -> io::Result<()> {
    let path = path(data_directory);
    std::fs::create_dir_all(data_directory)?;
    // The store's lock is held, so an existing socket is abandoned.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    std::thread::Builder::new().name("consent-socket".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            let stream = match stream {
                Ok(stream) => stream,
                Err(error) => {
                    // Without a file to open, the next attempt fails at once, too.
                    tracing::debug!(%error, "a command cannot connect at the moment");
                    std::thread::sleep(PAUSE);
                    continue;
                }
            };
            let store = Arc::clone(&store);
            let served = std::thread::Builder::new().name("consent-client".to_owned()).spawn(move || {
                if let Err(error) = converse(&stream, &store) {
                    tracing::debug!(%error, "a command disconnected");
                }
            });
            if let Err(error) = served {
                tracing::warn!(%error, "a command could not be served");
            }
        }
    })?;
    Ok(())
}

fn converse(stream: &UnixStream, store: &Store) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if (&mut reader).take(MAX_LINE).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let response = match serde_json::from_str(&line) {
            Ok(request) => answer(store, request),
            Err(error) => Response::Error(format!("invalid request: {error}")),
        };
        let mut out = serde_json::to_vec(&response)?;
        out.push(b'\n');
        (&*stream).write_all(&out)?;
    }
}

/// A command's connection to the server.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<UnixStream>,
}

impl Client {
    /// Connects; `None` if no server is running.
    pub fn connect(data_directory: &Path) -> Option<Client> {
        let stream = UnixStream::connect(path(data_directory)).ok()?;
        Some(Client { reader: BufReader::new(stream) })
    }

    /// Sends a request and waits for the response.
    ///
    /// # Errors
    ///
    /// When the server disconnects.
    pub fn ask(&mut self, request: &Request) -> io::Result<Response> {
        let mut out = serde_json::to_vec(request)?;
        out.push(b'\n');
        self.reader.get_mut().write_all(&out)?;
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server disconnected; unanswered requests may not have been recorded",
            ));
        }
        Ok(serde_json::from_str(&line)?)
    }
}
