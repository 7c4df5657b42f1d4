//! A small client of HTTP/1.1, a reader of requests for small servers, and a relay with its API.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic
)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::support::{Folder, PATIENCE, Relay, configuration, free_port, program};

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// A connection that is kept.
pub struct Connection {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Connection {
    pub fn to(port: u16) -> Connection {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Connection { stream, reader }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// A second handle for writing, for those who read meanwhile.
    pub fn writer(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }

    /// Asks and waits for the answer.
    pub fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send(&head(method, path, headers, Some(body.len())));
        self.send(body);
        self.answer()
    }

    /// The answer, whole; `None` where the connection ended.
    pub fn try_answer(&mut self) -> Option<Answer> {
        let (status, headers) = self.answer_head()?;
        let mut answer = Answer { status, headers, body: Vec::new() };
        if answer.header("transfer-encoding").is_some() {
            while let Some(chunk) = self.chunk() {
                answer.body.extend_from_slice(&chunk);
            }
        } else if let Some(length) = answer.header("content-length") {
            answer.body = vec![0; length.parse().unwrap()];
            self.reader.read_exact(&mut answer.body).ok()?;
        }
        Some(answer)
    }

    pub fn answer(&mut self) -> Answer {
        self.try_answer().expect("an answer came")
    }

    pub fn answer_head(&mut self) -> Option<(u16, Vec<(String, String)>)> {
        let status = self.line()?;
        let status = status.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        Some((status, headers))
    }

    /// The bytes of a body whose length is known.
    pub fn read_exact(&mut self, bytes: &mut [u8]) {
        self.reader.read_exact(bytes).unwrap();
    }

    /// The next chunk of a body; `None` at its end.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = usize::from_str_radix(self.line()?.split(';').next()?.trim(), 16).ok()?;
        let mut chunk = vec![0; length];
        self.reader.read_exact(&mut chunk).ok()?;
        self.line()?;
        (length > 0).then_some(chunk)
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(read) if read > 0 => Some(line.trim_end().to_owned()),
            _ => None,
        }
    }
}

/// A request that came to a small server.
#[derive(Debug)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// With their names in lower case.
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    /// Reads the next request of a connection; `None` if the connection ends before it is whole.
    pub fn read(reader: &mut impl BufRead) -> Option<Request> {
        let mut line = || {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|read| *read > 0).map(|_| line)
        };
        let first = line()?;
        let mut words = first.split_whitespace();
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = HashMap::new();
        while let Some((name, value)) = line()?.trim_end().split_once(':') {
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length: &String| length.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        Some(Request { method, target, headers, body })
    }

    /// The body as JSON; panics if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

pub fn head(method: &str, path: &str, headers: &[(&str, &str)], length: Option<usize>) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    match length {
        Some(length) => text.push_str(&format!("Content-Length: {length}\r\n\r\n")),
        None => text.push_str("Transfer-Encoding: chunked\r\n\r\n"),
    }
    text.into_bytes()
}

/// A relay with its API and the controllers shop and club.
pub struct Served {
    pub relay: Relay,
    pub port: u16,
}

/// Two controllers besides the default one.
pub const CONTROLLERS: &str = "[[controller]]\nname = \"shop\"\nsender_domain = \"shop.example\"\n\
     [[controller]]\nname = \"club\"\nsender_domain = \"club.example\"\n";

impl Served {
    /// With these lines in the section [api].
    pub fn with(api: &str) -> Served {
        Served::in_folder(Folder::new(), api)
    }

    pub fn in_folder(folder: Folder, api: &str) -> Served {
        let rest = format!("{CONTROLLERS}[api]\naddress = \"127.0.0.1:0\"\n{api}\n");
        configuration(&folder, free_port(), "", "", &rest);
        Served::of(Relay::in_folder(folder))
    }

    /// Waits until the API of a relay is served.
    pub fn of(relay: Relay) -> Served {
        let line = relay.log.wait("the API", |line| line.contains("the API is served"));
        let port = line.rsplit(':').next().unwrap().trim().parse().unwrap();
        Served { relay, port }
    }

    /// A fresh token.
    pub fn token(&self, scopes: &str, controller: &str) -> String {
        self.token_until(scopes, controller, "30d")
    }

    pub fn token_until(&self, scopes: &str, controller: &str, expires: &str) -> String {
        let output = program()
            .args([
                "token",
                "new",
                "test",
                "--scope",
                scopes,
                "--controller",
                controller,
                "--expires",
                expires,
            ])
            .arg("--config")
            .arg(self.relay.folder.0.join("config.toml"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// One request with a token, on a connection of its own.
    pub fn ask(&self, token: &str, method: &str, path: &str, body: &str) -> Answer {
        self.ask_with(token, method, path, &[], body)
    }

    pub fn ask_with(
        &self,
        token: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let bearer = format!("Bearer {token}");
        let mut all = vec![("Connection", "close")];
        if !token.is_empty() {
            all.push(("Authorization", &bearer));
        }
        if !body.is_empty() && !headers.iter().any(|(name, _)| *name == "Content-Type") {
            all.push(("Content-Type", "application/json"));
        }
        all.extend_from_slice(headers);
        Connection::to(self.port).ask(method, path, &all, body.as_bytes())
    }
}
