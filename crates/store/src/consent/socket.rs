//! The running server owns the store; commands reach it through a local socket: one JSON object a line, both ways. Only the
//! server's own user may use it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::export::{Export, Purpose};
use super::import::{Row, RowResult, apply, purposes, say};
use super::person::Controller;
use super::standing::MayAsk;
use super::store::{Store, Verified};

/// The longest line, in bytes.
const MAX_LINE: u64 = 16 << 20;

/// What a command asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "op")]
pub enum Request {
    /// What somebody has said, now and before.
    Get {
        /// To whom.
        controller: String,
        /// Who.
        address: String,
    },
    /// Record rows.
    Apply {
        /// For rows without one.
        controller: String,
        /// The rows.
        rows: Vec<Row>,
    },
    /// All that is recorded of somebody, with the proof.
    Export {
        /// Who.
        address: String,
    },
    /// Whether somebody may be asked now (N19).
    MayAsk {
        /// By whom.
        controller: String,
        /// Who.
        address: String,
        /// What about; empty for all that need consent.
        purposes: String,
    },
    /// Record what one row says, at this moment where the row has no time. Answered as [`Request::Apply`] is.
    Say {
        /// For a row without one.
        controller: String,
        /// What was said.
        row: Box<Row>,
    },
    /// Look whether an export is what the journal has.
    Compare(Box<Export>),
    /// Look through the whole store.
    Verify,
    /// Erase a person.
    Erase {
        /// Who.
        address: String,
    },
}

/// What comes back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// To [`Request::Get`].
    Person(Shown),
    /// To [`Request::Export`]; nothing where nothing is recorded.
    Export(Option<Box<Export>>),
    /// To [`Request::MayAsk`].
    MayAsk {
        /// Whether.
        may_ask: bool,
        /// Why not.
        reason: Option<String>,
        /// From when on.
        not_before: Option<String>,
    },
    /// To [`Request::Compare`]: the numbers of the records that differ.
    Differing(Vec<u64>),
    /// To [`Request::Apply`], one for each row.
    Rows(Vec<RowResult>),
    /// To [`Request::Verify`].
    Verified(Verified),
    /// To [`Request::Erase`]: whether there was somebody.
    Erased(bool),
    /// It could not be done.
    Error(String),
}

/// A person's standing and history.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Shown {
    /// By purpose: what stands, since when.
    pub purposes: Vec<Purpose>,
    /// Which rules apply.
    pub jurisdiction: Option<String>,
    /// Never track.
    pub no_track: bool,
    /// Before when not to ask again.
    pub do_not_ask_before: Option<String>,
    /// When the address was collected (N29).
    pub collected_at: Option<String>,
    /// When the person was informed (N29).
    pub notice_sent_at: Option<String>,
    /// Everything that was recorded, oldest first.
    pub history: Vec<ShownRecord>,
}

/// One record.
#[derive(Debug, Serialize, Deserialize)]
pub struct ShownRecord {
    /// Its number in the journal.
    pub record: u64,
    /// To whom it was said.
    pub controller: String,
    /// What about.
    pub purposes: Vec<String>,
    /// What was said.
    pub state: String,
    /// When it was said.
    pub event_time: String,
    /// The time that was claimed, where it could not be taken.
    #[serde(default)]
    pub claimed_time: Option<String>,
    /// When it was recorded.
    pub recorded_at: String,
    /// How.
    pub method: Option<String>,
    /// Where.
    pub channel: Option<String>,
    /// Which notice.
    pub notice_version: Option<String>,
    /// The evidence.
    pub evidence: Option<String>,
    /// By whom.
    pub actor: Option<String>,
    /// The controller's own name for the person.
    pub external_id: Option<String>,
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
    let standing = store.lookup(&controller, store.person(address)).map_err(|error| error.to_string())?;
    let answer = standing.may_ask(&purposes(asked)?, super::Timestamp::now());
    Ok(Response::MayAsk {
        may_ask: answer == MayAsk::Yes,
        reason: answer.reason().map(str::to_owned),
        not_before: answer.not_before().map(|end| end.to_string()),
    })
}

fn show(store: &Store, controller: &Controller, address: &str) -> Result<Shown, super::StoreError> {
    let person = store.person(address);
    let standing = store.lookup(controller, person)?;
    let history = store
        .history(person)?
        .into_iter()
        .map(|entered| ShownRecord {
            record: entered.number,
            controller: entered.change.controller.to_string(),
            purposes: entered.change.purposes.iter().map(|purpose| purpose.name().to_owned()).collect(),
            state: entered.change.state.name().to_owned(),
            event_time: entered.change.event_at.to_string(),
            claimed_time: entered.change.claimed_at.map(|time| time.to_string()),
            recorded_at: entered.recorded_at.to_string(),
            method: entered.change.details.method,
            channel: entered.change.details.channel,
            notice_version: entered.change.details.notice_version,
            evidence: entered.change.details.evidence,
            actor: entered.change.details.actor,
            external_id: entered.change.details.external_id,
        })
        .collect();
    Ok(Shown {
        purposes: Purpose::all(&standing, super::Timestamp::now()),
        jurisdiction: standing.jurisdiction(),
        no_track: standing.no_track(),
        do_not_ask_before: standing.do_not_ask_before.map(|time| time.to_string()),
        collected_at: standing.collected_at.map(|time| time.to_string()),
        notice_sent_at: standing.notice_sent_at.map(|time| time.to_string()),
        history,
    })
}

/// The socket's path.
pub fn path(data_directory: &Path) -> PathBuf {
    data_directory.join("pixelward.sock")
}

/// Serves the socket on threads of its own, for as long as the process lives.
///
/// # Errors
///
/// When the socket cannot be made.
pub fn serve(data_directory: &Path, store: Arc<Store>) -> io::Result<()> {
    let path = path(data_directory);
    std::fs::create_dir_all(data_directory)?;
    // The store's lock is held, so a socket that is there is nobody's.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    std::thread::Builder::new().name("consent-socket".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let store = Arc::clone(&store);
            let served = std::thread::Builder::new().name("consent-client".to_owned()).spawn(move || {
                if let Err(error) = converse(&stream, &store) {
                    tracing::debug!(%error, "a command hung up");
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
            Err(error) => Response::Error(format!("no request: {error}")),
        };
        let mut out = serde_json::to_vec(&response)?;
        out.push(b'\n');
        (&*stream).write_all(&out)?;
    }
}

/// A command's way to the server.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<UnixStream>,
}

impl Client {
    /// Connects; `None` where no server runs.
    pub fn connect(data_directory: &Path) -> Option<Client> {
        let stream = UnixStream::connect(path(data_directory)).ok()?;
        Some(Client { reader: BufReader::new(stream) })
    }

    /// Asks for something and waits for the answer.
    ///
    /// # Errors
    ///
    /// When the server went away.
    pub fn ask(&mut self, request: &Request) -> io::Result<Response> {
        let mut out = serde_json::to_vec(request)?;
        out.push(b'\n');
        self.reader.get_mut().write_all(&out)?;
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server went away; what it did not answer may not be recorded",
            ));
        }
        Ok(serde_json::from_str(&line)?)
    }
}
