//! A next hop that does as it is told at each step of a conversation, and keeps what it was given.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use super::waiting::PATIENCE;

/// What a next hop was given.
#[derive(Clone, Debug, Default)]
pub struct Delivery {
    pub mail: String,
    pub rcpts: Vec<String>,
    /// The data as it came over the wire, up to the final dot.
    pub data: Vec<u8>,
    /// The reply to the dot.
    pub reply: String,
}

impl Delivery {
    /// The message without our trace header, dots unstuffed.
    pub fn below_trace(&self) -> String {
        let text = String::from_utf8(self.data.clone()).unwrap();
        assert!(text.starts_with("Received: "), "{text}");
        let mut rest = text.as_str();
        loop {
            let end = rest.find("\r\n").unwrap() + 2;
            rest = &rest[end..];
            if !rest.starts_with(['\t', ' ']) {
                break;
            }
        }
        rest.split("\r\n").map(|line| line.strip_prefix('.').unwrap_or(line)).collect::<Vec<_>>().join("\r\n")
    }
}

/// A step of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Greeting,
    Ehlo,
    Xforward,
    Mail,
    Rcpt,
    Data,
    Dot,
}

/// What happens at a step.
#[derive(Clone, Debug)]
pub enum Answer {
    Say(&'static str),
    HangUp,
    Stall,
}

/// How a next hop behaves: the ordinary way but for what is listed, each as often as it is given.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    pub at: Vec<(Step, Answer)>,
    pub keywords: Option<&'static str>,
}

/// A server that takes mail, or does as it is told.
pub struct NextHop {
    pub port: u16,
    pub deliveries: Arc<(Mutex<Vec<Delivery>>, Condvar)>,
    pub connections: Arc<AtomicU32>,
    behaviour: Arc<Mutex<Behaviour>>,
}

impl NextHop {
    pub fn start() -> NextHop {
        NextHop::behaving(&[])
    }

    pub fn behaving(at: &[(Step, Answer)]) -> NextHop {
        NextHop::with(Behaviour { at: at.to_vec(), keywords: None })
    }

    pub fn with(behaviour: Behaviour) -> NextHop {
        NextHop::on(0, behaviour)
    }

    /// On a port that was free a moment ago; 0 for any.
    pub fn on(port: u16, behaviour: Behaviour) -> NextHop {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let deliveries = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let behaviour = Arc::new(Mutex::new(behaviour));
        let connections = Arc::new(AtomicU32::new(0));
        let hop = NextHop { port, deliveries, connections, behaviour };
        let (deliveries, behaviour, connections) =
            (Arc::clone(&hop.deliveries), Arc::clone(&hop.behaviour), Arc::clone(&hop.connections));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (deliveries, behaviour) = (Arc::clone(&deliveries), Arc::clone(&behaviour));
                std::thread::spawn(move || {
                    let _ = converse(stream, &deliveries, &behaviour);
                });
            }
        });
        hop
    }

    pub fn set(&self, at: &[(Step, Answer)]) {
        self.behaviour.lock().unwrap().at = at.to_vec();
    }

    /// All deliveries, once there are so many.
    pub fn wait(&self, count: usize) -> Vec<Delivery> {
        let deadline = Instant::now() + PATIENCE;
        let mut deliveries = self.deliveries.0.lock().unwrap();
        while deliveries.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} deliveries instead of {count}", deliveries.len());
            deliveries = self.deliveries.1.wait_timeout(deliveries, left).unwrap().0;
        }
        deliveries.clone()
    }

    pub fn count(&self) -> usize {
        self.deliveries.0.lock().unwrap().len()
    }

    pub fn accepted(&self) -> usize {
        self.deliveries.0.lock().unwrap().iter().filter(|delivery| delivery.reply.starts_with('2')).count()
    }
}

type Deliveries = (Mutex<Vec<Delivery>>, Condvar);

fn converse(stream: TcpStream, deliveries: &Deliveries, behaviour: &Mutex<Behaviour>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut delivery = Delivery::default();
    let mut answer = |step: Step, usual: &str| -> std::io::Result<Option<String>> {
        let special = {
            let mut behaviour = behaviour.lock().unwrap();
            let found = behaviour.at.iter().position(|(item, _)| *item == step);
            found.map(|at| behaviour.at.remove(at).1)
        };
        match special {
            None => out.write_all(usual.as_bytes()).map(|()| Some(usual.to_owned())),
            Some(Answer::Say(text)) => {
                out.write_all(format!("{text}\r\n").as_bytes()).map(|()| Some(text.to_owned()))
            }
            Some(Answer::HangUp) => {
                out.shutdown(Shutdown::Both)?;
                Ok(None)
            }
            Some(Answer::Stall) => {
                let mut rest = Vec::new();
                let _ = out.try_clone()?.read_to_end(&mut rest);
                Ok(None)
            }
        }
    };
    let keywords = behaviour
        .lock()
        .unwrap()
        .keywords
        .unwrap_or("PIPELINING\nSIZE 60000000\n8BITMIME\nSMTPUTF8\nDSN\nENHANCEDSTATUSCODES");
    if answer(Step::Greeting, "220 next-hop.example ESMTP\r\n")?.is_none() {
        return Ok(());
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end().to_owned();
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let said = match verb.as_str() {
            "EHLO" => {
                let mut lines = vec!["250-next-hop.example".to_owned()];
                let words: Vec<&str> = keywords.lines().collect();
                for (index, word) in words.iter().enumerate() {
                    lines.push(format!("250{}{word}", if index + 1 == words.len() { ' ' } else { '-' }));
                }
                answer(Step::Ehlo, &format!("{}\r\n", lines.join("\r\n")))?
            }
            "HELO" => answer(Step::Ehlo, "250 next-hop.example\r\n")?,
            "MAIL" => {
                delivery = Delivery { mail: line.clone(), ..Delivery::default() };
                answer(Step::Mail, "250 2.1.0 Sender ok\r\n")?
            }
            "RCPT" => {
                let said = answer(Step::Rcpt, "250 2.1.5 Recipient ok\r\n")?;
                if said.as_ref().is_some_and(|reply| reply.starts_with('2')) {
                    delivery.rcpts.push(line.clone());
                }
                said
            }
            "DATA" => {
                let said = answer(Step::Data, "354 Go on\r\n")?;
                if said.as_ref().is_some_and(|reply| reply.starts_with('3')) {
                    delivery.data = data(&mut reader)?;
                    // What was delivered is written down before the reply goes out, so that nobody looks too
                    // early.
                    const TAKEN: &str = "250 2.0.0 Ok: queued as NEXTHOP1\r\n";
                    let told = behaviour
                        .lock()
                        .unwrap()
                        .at
                        .iter()
                        .find(|(item, _)| *item == Step::Dot)
                        .map(|(_, told)| told.clone());
                    delivery.reply = match told {
                        None => TAKEN.to_owned(),
                        Some(Answer::Say(text)) => text.to_owned(),
                        Some(Answer::HangUp | Answer::Stall) => String::new(),
                    };
                    deliveries.0.lock().unwrap().push(delivery.clone());
                    deliveries.1.notify_all();
                    answer(Step::Dot, TAKEN)?
                } else {
                    said
                }
            }
            "QUIT" => {
                let _ = answer(Step::Greeting, "221 2.0.0 Bye\r\n")?;
                return Ok(());
            }
            _ => answer(Step::Greeting, "250 2.0.0 Ok\r\n")?,
        };
        if said.is_none() {
            return Ok(());
        }
    }
}

/// The data up to its end, as it came.
fn data(reader: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let read = reader.read_until(b'\n', &mut data)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if data.ends_with(b"\r\n.\r\n") || data == b".\r\n" {
            data.truncate(data.len() - 3);
            return Ok(data);
        }
    }
}
