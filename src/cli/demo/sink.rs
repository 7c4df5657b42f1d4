//! A next hop that accepts everything and keeps nothing: the pipeline's witness has it already.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Starts the sink on a free port.
pub(in crate::cli) async fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream));
        }
    });
    Ok(address)
}

async fn converse(stream: TcpStream) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 sink.example ESMTP\r\n").await?;
    let mut line = Vec::new();
    let mut in_data = false;
    loop {
        line.clear();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let reply: &[u8] = match line.get(..4).map(<[u8]>::to_ascii_uppercase).as_deref() {
            _ if in_data && line == b".\r\n" => {
                in_data = false;
                b"250 2.0.0 Kept\r\n"
            }
            _ if in_data => continue,
            Some(b"EHLO") => {
                b"250-sink.example\r\n\
                               250-PIPELINING\r\n\
                               250-8BITMIME\r\n\
                               250-SMTPUTF8\r\n\
                               250-DSN\r\n\
                               250 SIZE\r\n"
            }
            Some(b"DATA") => {
                in_data = true;
                b"354 Go on\r\n"
            }
            Some(b"QUIT") => return stream.write_all(b"221 2.0.0 Bye\r\n").await,
            _ => b"250 2.0.0 Ok\r\n",
        };
        stream.write_all(reply).await?;
    }
}
