//! A sending service with its contacts: it takes requests only in the form that was read in the public documentation of
//! a named service, and fails now and then as services do.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic
)]

pub mod named;

use std::collections::{HashMap, HashSet};
use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pixelward::consent::Timestamp;
use serde_json::{Value, json};

use crate::http::Request;

/// What came in.
#[derive(Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: HashMap<String, String>,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Asked {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// Whether a header field has exactly this value.
    pub fn has(&self, name: &str, value: &str) -> bool {
        self.headers.get(name).is_some_and(|found| found == value)
    }
}

/// What a request is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Meant {
    /// A contact gets a value, said at a time if the request tells it.
    Write { id: String, value: Value, time: Option<String> },
    /// A contact is read.
    Read { id: String },
    /// A credential is exchanged for a token.
    Token,
}

/// How a service understands requests, and answers them.
pub trait Manner: Send + Sync + 'static {
    /// `Err` says what is wrong with the request.
    fn meant(&self, asked: &Asked) -> Result<Meant, String>;
    /// Whether the credential is right.
    fn knows(&self, asked: &Asked) -> bool;
    /// The status and body of a success; `found` is what a read contact has.
    fn success(&self, meant: &Meant, found: Option<&Value>) -> (u16, Value);
}

/// What goes wrong next.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    Status(u16, Vec<(&'static str, String)>, Value),
    /// The connection ends without an answer, before or after the request was carried out.
    CutBefore,
    CutAfter,
}

#[derive(Debug, Default)]
pub struct Books {
    /// What each contact has, and when it was said.
    pub contacts: HashMap<String, (Value, Option<String>)>,
    /// Contacts that are not there.
    pub unknown: HashSet<String>,
    /// Contacts for which the service always fails.
    pub broken: HashSet<String>,
    /// What is carried out at the moment.
    pub busy: HashSet<String>,
    /// Contacts whose requests are not carried out before they are taken out here.
    pub held: HashSet<String>,
    /// What must never happen.
    pub wrong: Vec<String>,
    /// Faults to come, one for each request; the last one is next.
    pub faults: Vec<Fault>,
    /// How many of a thousand requests go wrong.
    pub per_mille: u64,
    random: u64,
    /// How many writes were carried out, and how many of these repeated what the contact had.
    pub writes: u64,
    pub repeats: u64,
    pub failed: u64,
    /// Whether the credential is accepted.
    pub locks_out: bool,
    /// All that was carried out, if it is few.
    pub log: Vec<Meant>,
}

impl Books {
    fn fault(&mut self) -> Option<Fault> {
        if let Some(fault) = self.faults.pop() {
            return Some(fault);
        }
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let drawn = self.random >> 33;
        if drawn % 1000 >= self.per_mille {
            return None;
        }
        self.failed += 1;
        Some(match drawn / 1000 % 6 {
            0 => Fault::Status(503, Vec::new(), Value::Null),
            1 => Fault::Status(500, Vec::new(), json!({"message": "internal error"})),
            2 => Fault::Status(429, vec![("Retry-After", "0".to_owned())], Value::Null),
            3 => Fault::Status(502, Vec::new(), Value::Null),
            4 => Fault::CutBefore,
            _ => Fault::CutAfter,
        })
    }

    fn carry_out(&mut self, meant: &Meant) {
        let Meant::Write { id, value, time } = meant else { return };
        self.writes += 1;
        if let Some((known, at)) = self.contacts.get(id) {
            if known == value {
                self.repeats += 1;
            }
            let moment = |time: &Option<String>| time.as_deref().map(|time| Timestamp::parse(time).unwrap());
            if moment(time) < moment(at) {
                self.wrong.push(format!("{id}: what was said {time:?} came after what was said {at:?}"));
            }
            if time.is_some() && time == at && known != value {
                self.wrong.push(format!("{id}: two values said at one time"));
            }
        }
        self.contacts.insert(id.clone(), (value.clone(), time.clone()));
        if self.log.len() < 10_000 {
            self.log.push(meant.clone());
        }
    }
}

/// A service.
pub struct Esp {
    pub port: u16,
    pub books: Arc<Mutex<Books>>,
}

impl Esp {
    pub fn start(manner: impl Manner) -> Esp {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let books: Arc<Mutex<Books>> = Arc::new(Mutex::new(Books { random: 7, ..Books::default() }));
        let (manner, shared): (Arc<dyn Manner>, _) = (Arc::new(manner), Arc::clone(&books));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let (manner, books) = (Arc::clone(&manner), Arc::clone(&shared));
                std::thread::spawn(move || serve(&stream, &*manner, &books));
            }
        });
        Esp { port, books }
    }

    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What a contact has.
    pub fn value(&self, id: &str) -> Option<Value> {
        self.books.lock().unwrap().contacts.get(id).map(|(value, _)| value.clone())
    }

    /// What was carried out about a contact.
    pub fn log(&self, id: &str) -> Vec<Meant> {
        let books = self.books.lock().unwrap();
        let about = |meant: &&Meant| match meant {
            Meant::Write { id: other, .. } | Meant::Read { id: other } => other == id,
            Meant::Token => false,
        };
        books.log.iter().filter(about).cloned().collect()
    }

    /// Carries out no request about a contact until [`release`](Esp::release).
    pub fn hold(&self, id: &str) {
        self.books.lock().unwrap().held.insert(id.to_owned());
    }

    pub fn release(&self, id: &str) {
        self.books.lock().unwrap().held.remove(id);
    }

    /// Whether a request about a contact is carried out at the moment.
    pub fn is_busy(&self, id: &str) -> bool {
        self.books.lock().unwrap().busy.contains(id)
    }

    /// Panics if something happened that must never happen.
    pub fn check(&self) {
        let books = self.books.lock().unwrap();
        assert!(books.wrong.is_empty(), "{:?}", books.wrong.iter().take(5).collect::<Vec<_>>());
    }

    pub fn fail(&self, faults: Vec<Fault>) {
        let mut books = self.books.lock().unwrap();
        books.faults = faults;
        books.faults.reverse();
    }
}

fn serve(stream: &TcpStream, manner: &dyn Manner, books: &Mutex<Books>) {
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read(&mut reader) {
        let Some((status, headers, body)) = answered(&asked, manner, books) else { return };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut text = format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let closes = asked.has("connection", "close");
        text.push_str(if closes { "Connection: close\r\n\r\n" } else { "\r\n" });
        text.push_str(&body);
        let mut writer = stream;
        if writer.write_all(text.as_bytes()).is_err() || closes {
            return;
        }
    }
}

type Said = (u16, Vec<(&'static str, String)>, Value);

/// `None` if the connection ends without an answer.
fn answered(asked: &Asked, manner: &dyn Manner, books: &Mutex<Books>) -> Option<Said> {
    let meant = match manner.meant(asked) {
        Ok(meant) => meant,
        Err(why) => {
            books.lock().unwrap().wrong.push(format!("{why}: {asked:?}"));
            return Some((400, Vec::new(), json!({"message": "bad request"})));
        }
    };
    let id = match &meant {
        Meant::Write { id, .. } | Meant::Read { id } => id.clone(),
        Meant::Token => return Some((200, Vec::new(), manner.success(&meant, None).1)),
    };
    let fault = {
        let mut books = books.lock().unwrap();
        if books.locks_out {
            return Some((401, Vec::new(), Value::Null));
        }
        if !manner.knows(asked) {
            books.wrong.push(format!("the credential is wrong: {asked:?}"));
            return Some((401, Vec::new(), Value::Null));
        }
        if books.unknown.contains(&id) {
            return Some((404, Vec::new(), json!({"code": "document_not_found"})));
        }
        if books.broken.contains(&id) {
            return Some((500, Vec::new(), json!({"message": "internal error"})));
        }
        if !books.busy.insert(id.clone()) {
            books.wrong.push(format!("{id}: two requests at one time"));
        }
        books.fault()
    };
    // Another request about the same contact would come in here.
    std::thread::yield_now();
    let mut books = loop {
        let books = books.lock().unwrap();
        if !books.held.contains(&id) {
            break books;
        }
        drop(books);
        std::thread::park_timeout(Duration::from_millis(5));
    };
    books.busy.remove(&id);
    match fault {
        Some(Fault::Status(status, headers, body)) => return Some((status, headers, body)),
        Some(Fault::CutBefore) => return None,
        Some(Fault::CutAfter) => {
            books.carry_out(&meant);
            return None;
        }
        None => books.carry_out(&meant),
    }
    if matches!(meant, Meant::Read { .. }) {
        books.log.push(meant.clone());
    }
    let found = books.contacts.get(&id).map(|(value, _)| value.clone());
    let (status, body) = manner.success(&meant, found.as_ref());
    Some((status, Vec::new(), body))
}

fn read(reader: &mut BufReader<&TcpStream>) -> Option<Asked> {
    let Request { method, target, headers, body } = Request::read(reader)?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), decoded(value))
    });
    let (path, query) = (path.to_owned(), query.collect());
    Some(Asked { method, path, query, headers, body: String::from_utf8(body).ok()? })
}

/// Decodes percent signs.
pub fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            bytes.push(u8::from_str_radix(std::str::from_utf8(&tail[..2]).unwrap(), 16).unwrap());
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// A service that a file describes: `POST /contacts/ID` with a value and the time at which it was said.
pub struct Plain;

pub const CREDENTIAL: &str = "0123456789abcdef-key";

/// The description of [`Plain`].
pub const PLAIN: &str = r#"
title = "Plain"
takes = "the external_id"
pages = []
read_on = "2026-11-29"
base = "https://api.esp.example"
requests_per_second = 100000
burst = 100000
concurrency = 16
values = { granted = true, refused = false }
auth = { style = "bearer" }
[write]
method = "POST"
path = "/contacts/{{id}}"
body = '{"opens": "{{choice}}", "at": "{{time}}"}'
done = [204]
[read]
method = "GET"
path = "/contacts/{{id}}"
done = [200]
value_at = "/opens"
"#;

impl Manner for Plain {
    fn meant(&self, asked: &Asked) -> Result<Meant, String> {
        let id = asked.path.strip_prefix("/contacts/").ok_or("another path")?;
        let id = decoded(id);
        if asked.method == "GET" {
            return Ok(Meant::Read { id });
        }
        let body = asked.json();
        let fields = body.as_object().filter(|fields| fields.len() == 2).ok_or("another body")?;
        let time = fields["at"].as_str().ok_or("no time")?.to_owned();
        Ok(Meant::Write { id, value: fields["opens"].clone(), time: Some(time) })
    }

    fn knows(&self, asked: &Asked) -> bool {
        asked.has("authorization", &format!("Bearer {CREDENTIAL}"))
    }

    fn success(&self, meant: &Meant, found: Option<&Value>) -> (u16, Value) {
        match meant {
            Meant::Write { .. } => (204, Value::Null),
            _ => (200, json!({"opens": found})),
        }
    }
}
