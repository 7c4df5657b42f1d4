//! Relays talk to each other directly where NATS must not see it: the keys of the weeks, and everything that a new
//! relay needs. TLS 1.3, with certificates of the cluster's own authority on both sides. Who joins has none yet:
//! it shows the secret of an invitation, and knows the authority by its hash.

mod authority;
mod frame;
mod invitation;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub use authority::{Authority, Identity};
pub use invitation::{Invitation, Invitations};

use crate::engine::Eventually;
use crate::fields::{Writer, fields, number};
use crate::week::{Week, WeekKey, Weeks};
use frame::{Frame, read, write};

/// The name in every relay's certificate: they are told apart by their keys, and reached by address.
pub(crate) const NAME: &str = "relay.cluster.internal";

/// How long one answer may take to begin, and each part of it.
const PATIENCE: Duration = Duration::from_secs(30);
/// The size of a part of a file, in bytes.
const PART: usize = 1 << 18;

/// What a relay asks another for; the first byte of a request.
const ASKS_WEEKS: u8 = 1;
const ASKS_TO_JOIN: u8 = 2;
const ASKS_QUESTION: u8 = 3;

/// How long a relay may take to accept a connection. One that runs does so at once.
pub(crate) const CONNECTS: Duration = Duration::from_secs(3);
/// How long a relay may take to answer a question, and how long the answer may be, in bytes.
const ANSWERS: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 1 << 25;

/// Why another relay could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It cannot be reached, or the connection was lost.
    #[error("{address}: {source}")]
    Io {
        /// The relay.
        address: String,
        /// The error.
        source: io::Error,
    },
    /// It accepted no connection in time: its machine is off or cut off, or it stands still.
    #[error("{address} does not answer: no connection within {} ms", after.as_millis())]
    Silent {
        /// The relay.
        address: String,
        /// How long it had.
        after: Duration,
    },
    /// It refused.
    #[error("{address} refused: {why}")]
    Refused {
        /// The relay.
        address: String,
        /// The reason it gave.
        why: String,
    },
    /// What it sent makes no sense.
    #[error("{address} sent what no relay of this version sends")]
    Malformed {
        /// The relay.
        address: String,
    },
}

/// Everything that a new relay is given, as files by name.
pub trait Giver: Send + Sync {
    /// Puts the files for a new relay into an empty folder, which goes afterwards.
    ///
    /// # Errors
    ///
    /// When one cannot be read or written.
    fn give(&self, folder: &Path) -> io::Result<()>;
}

/// What answers questions of other relays.
pub trait Answerer: Send + Sync {
    /// Answers a question, or says why not.
    fn answer(&self, question: Vec<u8>) -> Eventually<'_, Result<Vec<u8>, String>>;
}

/// The end at which other relays ask.
pub struct Door {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    weeks: Arc<Weeks>,
    invitations: Arc<Invitations>,
    giver: Arc<dyn Giver>,
    answerer: Arc<dyn Answerer>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Door(…)")
    }
}

impl Door {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// When the address is not available, or the certificate cannot be used.
    pub async fn open(
        address: SocketAddr,
        identity: &Identity,
        weeks: Arc<Weeks>,
        invitations: Arc<Invitations>,
        giver: Arc<dyn Giver>,
        answerer: Arc<dyn Answerer>,
    ) -> io::Result<Door> {
        let acceptor = TlsAcceptor::from(Arc::new(identity.server()?));
        let listener = TcpListener::bind(address).await?;
        Ok(Door { listener, acceptor, weeks, invitations, giver, answerer })
    }

    /// Returns the address.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers other relays for ever.
    pub async fn serve(self) {
        let door = Arc::new(self);
        loop {
            match door.listener.accept().await {
                Ok((stream, peer)) => {
                    let door = Arc::clone(&door);
                    tokio::spawn(async move {
                        let answered = tokio::time::timeout(10 * PATIENCE, door.answer(stream)).await;
                        if let Ok(Err(error)) = answered {
                            tracing::warn!(%peer, %error, "another relay was not answered");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "other relays cannot connect");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn answer(&self, stream: TcpStream) -> io::Result<()> {
        let accepted = tokio::time::timeout(PATIENCE, self.acceptor.accept(stream)).await;
        let mut stream = accepted.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        // Only a relay has a certificate of the authority.
        let is_relay = stream.get_ref().1.peer_certificates().is_some_and(|chain| !chain.is_empty());
        let request = match read(&mut stream).await? {
            Frame::Asks(request) => request,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        match (request.split_first(), is_relay) {
            (Some((&ASKS_WEEKS, _)), true) => {
                write(&mut stream, &Frame::Weeks(encode(&self.weeks.all()))).await?;
            }
            (Some((&ASKS_QUESTION, question)), true) => match self.answerer.answer(question.to_vec()).await {
                Ok(answer) => {
                    for part in answer.chunks(PART) {
                        write(&mut stream, &Frame::Part(part.to_vec())).await?;
                    }
                    write(&mut stream, &Frame::End).await?;
                }
                Err(why) => write(&mut stream, &Frame::Refused(why)).await?,
            },
            (Some((&ASKS_TO_JOIN, secret)), _) if self.invitations.take(secret) => {
                tracing::info!("a new relay joins");
                self.hand_over(&mut stream).await?;
            }
            (Some((&ASKS_TO_JOIN, _)), _) => {
                let why = "the invitation is unknown, was used, or is more than an hour old";
                write(&mut stream, &Frame::Refused(why.to_owned())).await?;
            }
            _ => {
                let why = "only relays of this cluster are answered";
                write(&mut stream, &Frame::Refused(why.to_owned())).await?;
            }
        }
        stream.shutdown().await
    }

    /// Sends the files for a new relay.
    async fn hand_over(&self, stream: &mut (impl AsyncWriteExt + Unpin)) -> io::Result<()> {
        let folder = Temporary::new()?;
        let (giver, into) = (Arc::clone(&self.giver), folder.0.clone());
        let given = tokio::task::spawn_blocking(move || giver.give(&into)).await;
        given.map_err(io::Error::other)??;
        for path in files(&folder.0)? {
            let name = path.strip_prefix(&folder.0).map_err(io::Error::other)?.to_string_lossy().into_owned();
            write(stream, &Frame::File(name)).await?;
            let mut file = tokio::fs::File::open(&path).await?;
            let mut part = vec![0; PART];
            loop {
                let length = file.read(&mut part).await?;
                if length == 0 {
                    break;
                }
                write(stream, &Frame::Part(part.get(..length).unwrap_or_default().to_vec())).await?;
            }
        }
        write(stream, &Frame::End).await
    }
}

/// Asks another relay for the keys of the weeks.
///
/// # Errors
///
/// When it cannot be reached, or is no relay of this cluster.
pub async fn weeks(address: &str, identity: &Identity) -> Result<BTreeMap<Week, WeekKey>, PeerError> {
    let failed = failure(address);
    let connector = TlsConnector::from(Arc::new(identity.client().map_err(&failed)?));
    match asked(address, &connector, vec![ASKS_WEEKS]).await?.0 {
        Frame::Weeks(bytes) => {
            decode(&bytes).ok_or_else(|| PeerError::Malformed { address: address.to_owned() })
        }
        Frame::Refused(why) => Err(PeerError::Refused { address: address.to_owned(), why }),
        _ => Err(PeerError::Malformed { address: address.to_owned() }),
    }
}

/// Asks another relay a question. It has `connects` to accept the connection, and longer to answer.
///
/// # Errors
///
/// When it cannot be reached, does not answer in time, or refuses.
pub async fn question(
    address: &str,
    identity: &Identity,
    question: &[u8],
    connects: Duration,
) -> Result<Vec<u8>, PeerError> {
    let failed = failure(address);
    let malformed = || PeerError::Malformed { address: address.to_owned() };
    let connector = TlsConnector::from(Arc::new(identity.client().map_err(&failed)?));
    let connection = tokio::time::timeout(connects, connected(address, &connector)).await;
    let silent = |_| PeerError::Silent { address: address.to_owned(), after: connects };
    let mut stream = connection.map_err(silent)?.map_err(&failed)?;
    let talk = async {
        let request = Frame::Asks([&[ASKS_QUESTION][..], question].concat());
        write(&mut stream, &request).await.map_err(&failed)?;
        let mut frame = next(&mut stream).await.map_err(&failed)?;
        let mut answer = Vec::new();
        loop {
            match frame {
                Frame::Part(part) if answer.len() + part.len() <= MAX_ANSWER => answer.extend(part),
                Frame::End => return Ok(answer),
                Frame::Refused(why) => return Err(PeerError::Refused { address: address.to_owned(), why }),
                Frame::Part(_) | Frame::Asks(_) | Frame::Weeks(_) | Frame::File(_) => {
                    return Err(malformed());
                }
            }
            frame = next(&mut stream).await.map_err(&failed)?;
        }
    };
    let talked = tokio::time::timeout(ANSWERS, talk).await;
    talked.unwrap_or_else(|_| Err(failed(io::ErrorKind::TimedOut.into())))
}

/// Joins by an invitation: writes the files that the inviting relay gives into a folder, for its owner alone.
///
/// # Errors
///
/// When the relay cannot be reached, refuses, or a file cannot be written.
pub async fn join(invitation: &Invitation, into: &Path) -> Result<(), PeerError> {
    let address = invitation.address.as_str();
    let failed = failure(address);
    let connector = TlsConnector::from(Arc::new(authority::pinned(invitation.authority).map_err(&failed)?));
    let request = [&[ASKS_TO_JOIN][..], &invitation.secret].concat();
    let (mut frame, mut stream) = asked(address, &connector, request).await?;
    let mut file: Option<tokio::fs::File> = None;
    loop {
        match frame {
            Frame::File(name) => {
                finished(file.take()).await.map_err(&failed)?;
                let path = within(into, &name)
                    .ok_or_else(|| PeerError::Malformed { address: address.to_owned() })?;
                file = Some(private(&path).await.map_err(&failed)?);
            }
            Frame::Part(bytes) => match &mut file {
                Some(file) => file.write_all(&bytes).await.map_err(&failed)?,
                None => return Err(PeerError::Malformed { address: address.to_owned() }),
            },
            Frame::End => return finished(file.take()).await.map_err(&failed),
            Frame::Refused(why) => return Err(PeerError::Refused { address: address.to_owned(), why }),
            Frame::Asks(_) | Frame::Weeks(_) => {
                return Err(PeerError::Malformed { address: address.to_owned() });
            }
        }
        frame = next(&mut stream).await.map_err(&failed)?;
    }
}

fn failure(address: &str) -> impl Fn(io::Error) -> PeerError + '_ {
    move |source| PeerError::Io { address: address.to_owned(), source }
}

type Stream = tokio_rustls::client::TlsStream<TcpStream>;

/// Asks, and returns the first frame of the answer.
async fn asked(
    address: &str,
    connector: &TlsConnector,
    request: Vec<u8>,
) -> Result<(Frame, Stream), PeerError> {
    let failed = failure(address);
    let talk = async {
        let mut stream = connected(address, connector).await?;
        write(&mut stream, &Frame::Asks(request)).await?;
        let first = next(&mut stream).await?;
        Ok((first, stream))
    };
    let talked = tokio::time::timeout(PATIENCE, talk).await;
    talked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(failed)
}

async fn connected(address: &str, connector: &TlsConnector) -> io::Result<Stream> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
    connector.connect(name, stream).await
}

async fn next(stream: &mut Stream) -> io::Result<Frame> {
    let frame = tokio::time::timeout(PATIENCE, read(stream)).await;
    frame.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn finished(file: Option<tokio::fs::File>) -> io::Result<()> {
    match file {
        Some(mut file) => {
            file.flush().await?;
            file.sync_all().await
        }
        None => Ok(()),
    }
}

/// Returns where a file of this name goes; `None` for a name that leads elsewhere.
fn within(folder: &Path, name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    let is_plain = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    (is_plain && !name.is_empty()).then(|| folder.join(path))
}

/// Creates a file that only its owner can read, and the folders above it.
async fn private(path: &Path) -> io::Result<tokio::fs::File> {
    if let Some(folder) = path.parent() {
        let mut folders = tokio::fs::DirBuilder::new();
        folders.recursive(true).mode(0o700).create(folder).await?;
    }
    tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).await
}

/// Lists the files in a folder and below.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}

/// A folder for the files of a new relay, which goes with them.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> io::Result<Temporary> {
        use std::os::unix::fs::DirBuilderExt;
        let name = format!("pixelward-join-{}", hex::encode(crate::message::fresh_id()?));
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Temporary(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::error!(folder = %self.0.display(), %error, "a folder with keys must be deleted by hand");
        }
    }
}

const FORMAT: u8 = 1;
const WEEK: u8 = 1;
const KEY: u8 = 2;

fn encode(weeks: &BTreeMap<Week, WeekKey>) -> Vec<u8> {
    let mut writer = Writer::new(FORMAT);
    for (week, key) in weeks {
        writer.number(WEEK, u64::from(*week));
        writer.bytes(KEY, key);
    }
    writer.done()
}

fn decode(bytes: &[u8]) -> Option<BTreeMap<Week, WeekKey>> {
    let (_, rest) = bytes.split_first().filter(|(format, _)| **format == FORMAT)?;
    let fields = fields(rest).ok()?;
    let pairs = fields.as_chunks::<2>().0.iter();
    pairs
        .map(|[(week_tag, week), (key_tag, key)]| {
            let week = Week::try_from(number(week).ok()?).ok()?;
            ((*week_tag, *key_tag) == (WEEK, KEY)).then_some((week, (*key).try_into().ok()?))
        })
        .collect()
}

/// Locks what is not poisoned by a panic elsewhere.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
