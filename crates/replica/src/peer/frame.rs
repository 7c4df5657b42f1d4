//! What relays send each other: a kind, a length, and the content.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The most bytes of one frame.
const MAX: usize = 1 << 20;

/// A frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A request.
    Asks(Vec<u8>),
    /// The keys of the weeks.
    Weeks(Vec<u8>),
    /// A file begins: its name.
    File(String),
    /// A part of the file.
    Part(Vec<u8>),
    /// There are no more files.
    End,
    /// No, and why.
    Refused(String),
}

const ASKS: u8 = 1;
const WEEKS: u8 = 2;
const FILE: u8 = 3;
const PART: u8 = 4;
const END: u8 = 5;
const REFUSED: u8 = 6;

pub(super) async fn write(stream: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    let (kind, content) = match frame {
        Frame::Asks(bytes) => (ASKS, bytes.as_slice()),
        Frame::Weeks(bytes) => (WEEKS, bytes.as_slice()),
        Frame::File(name) => (FILE, name.as_bytes()),
        Frame::Part(bytes) => (PART, bytes.as_slice()),
        Frame::End => (END, &[][..]),
        Frame::Refused(why) => (REFUSED, why.as_bytes()),
    };
    let length = u32::try_from(content.len()).map_err(io::Error::other)?;
    stream.write_all(&[&[kind][..], &length.to_be_bytes(), content].concat()).await?;
    stream.flush().await
}

pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let kind = stream.read_u8().await?;
    let length = stream.read_u32().await? as usize;
    if length > MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is longer than any may be"));
    }
    let mut content = vec![0; length];
    stream.read_exact(&mut content).await?;
    let text = |content: Vec<u8>| String::from_utf8(content).map_err(io::Error::other);
    match kind {
        ASKS => Ok(Frame::Asks(content)),
        WEEKS => Ok(Frame::Weeks(content)),
        FILE => Ok(Frame::File(text(content)?)),
        PART => Ok(Frame::Part(content)),
        END => Ok(Frame::End),
        REFUSED => Ok(Frame::Refused(text(content)?)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a frame of an unknown kind")),
    }
}
