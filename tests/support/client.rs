//! A client that speaks SMTP line by line, and one that fetches a page over HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use super::waiting::PATIENCE;

/// A client that says a line and reads the reply.
pub struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(port: u16) -> Client {
        Client::at(("127.0.0.1", port))
    }

    /// Connected to a server on another host.
    pub fn at(address: impl std::net::ToSocketAddrs) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Client { stream, reader }
    }

    /// Connected, greeted, and introduced.
    pub fn greeted(port: u16) -> Client {
        Client::connect(port).introduced()
    }

    /// The same, once it was greeted and has introduced itself.
    pub fn introduced(mut self) -> Client {
        assert_eq!(self.code(), 220);
        assert_eq!(self.say("EHLO client.example"), 250);
        self
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// One reply with all its lines; empty at the end of the stream.
    pub fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let mut line = Vec::new();
            match self.reader.read_until(b'\n', &mut line) {
                Ok(0) => return reply,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return reply,
                Err(error) => panic!("no reply: {error}; so far {reply:?}"),
                Ok(_) => {}
            }
            let line = String::from_utf8(line).unwrap();
            let last = line.as_bytes().get(3) != Some(&b'-');
            reply.push_str(&line);
            if last {
                return reply;
            }
        }
    }

    pub fn code(&mut self) -> u16 {
        let reply = self.reply();
        reply.get(..3).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    pub fn say(&mut self, line: &str) -> u16 {
        self.send(format!("{line}\r\n").as_bytes());
        self.code()
    }

    pub fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// Hands over a message, dots not stuffed; gives the final reply.
    pub fn message(&mut self, from: &str, to: &[&str], message: &str) -> String {
        assert_eq!(self.say(&format!("MAIL FROM:<{from}>")), 250);
        for to in to {
            assert_eq!(self.say(&format!("RCPT TO:<{to}>")), 250);
        }
        assert_eq!(self.say("DATA"), 354);
        self.send(stuffed(message).as_bytes());
        self.reply()
    }

    pub fn close_writing(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    pub fn into_stream(self) -> TcpStream {
        self.stream
    }
}

/// A message as it goes over the wire.
pub fn stuffed(message: &str) -> String {
    let lines: String = message
        .lines()
        .map(|line| format!("{}{line}\r\n", if line.starts_with('.') { "." } else { "" }))
        .collect();
    format!("{lines}.\r\n")
}

/// A page of a web server on this machine, with its head.
pub fn get(port: u16, path: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::yield_now();
    };
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}
