//! The place where mail ends: a server that writes down what it is given, and answers as it is told, by
//! recipient. To who greets with LHLO it speaks LMTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use super::letter::{Keeps, Letter};
use crate::support::{Answer, PATIENCE, Step};

/// One transaction that reached its final dot.
#[derive(Clone, Debug)]
pub struct Taken {
    /// What stood behind MAIL FROM:.
    pub sender: String,
    /// The addresses that were accepted.
    pub to: Vec<String>,
    /// What stood behind each of them.
    pub parameters: Vec<String>,
    /// The message, dots unstuffed.
    pub message: Arc<Vec<u8>>,
    /// Whether it was accepted.
    pub accepted: bool,
}

impl Taken {
    /// What stands below the trace fields: our letters begin with From.
    pub fn as_written(&self) -> &[u8] {
        let start = memchr::memmem::find(&self.message, b"\r\nFrom: ").map_or(0, |at| at + 2);
        &self.message[start..]
    }

    fn is(&self, letter: &Letter) -> bool {
        let subject = letter.with.lines().find(|line| line.starts_with("Subject: ")).unwrap();
        // A bounce has it too, in what it returns.
        !self.sender.starts_with("<>")
            && memchr::memmem::find(&self.message, format!("\r\n{subject}\r\n").as_bytes()).is_some()
    }
}

/// At this step, where the line or a recipient accepted so far has `about` in it, the answer is this, so many
/// times.
#[derive(Debug)]
struct Rule {
    step: Step,
    about: String,
    answer: Answer,
    times: usize,
}

#[derive(Default)]
struct State {
    taken: Mutex<Vec<Taken>>,
    changed: Condvar,
    rules: Mutex<Vec<Rule>>,
    said: Mutex<Vec<String>>,
    connections: Mutex<Vec<TcpStream>>,
    stalled: Mutex<usize>,
}

pub struct Sink {
    pub port: u16,
    state: Arc<State>,
}

const KEYWORDS: [&str; 7] = [
    "PIPELINING",
    "SIZE 60000000",
    "8BITMIME",
    "SMTPUTF8",
    "DSN",
    "XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT",
    "ENHANCEDSTATUSCODES",
];

impl Sink {
    pub fn start() -> Sink {
        Sink::on(0)
    }

    pub fn on(port: u16) -> Sink {
        Sink::at([127, 0, 0, 1], port)
    }

    /// At another address of this machine.
    pub fn at(address: [u8; 4], port: u16) -> Sink {
        let listener = TcpListener::bind((std::net::Ipv4Addr::from(address), port)).unwrap();
        let sink = Sink { port: listener.local_addr().unwrap().port(), state: Arc::default() };
        let state = Arc::clone(&sink.state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                std::thread::spawn(move || {
                    let _ = stream.try_clone().map(|item| state.connections.lock().unwrap().push(item));
                    let _ = converse(stream, &state);
                });
            }
        });
        sink
    }

    /// Answers like this at a step that is about somebody; "" for whomever.
    pub fn rule(&self, step: Step, about: &str, answer: Answer, times: usize) {
        self.state.rules.lock().unwrap().push(Rule { step, about: about.to_owned(), answer, times });
    }

    /// From now on everything is answered the usual way.
    pub fn forget_rules(&self) {
        self.state.rules.lock().unwrap().clear();
    }

    /// Closes every connection there is, so that the next mail needs a new one.
    pub fn hang_up(&self) {
        for connection in self.state.connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Waits until an answer was held back.
    pub fn wait_until_stalled(&self) {
        let deadline = Instant::now() + PATIENCE;
        while *self.state.stalled.lock().unwrap() == 0 {
            assert!(Instant::now() < deadline, "no answer was held back");
            std::thread::yield_now();
        }
    }

    /// Waits until a client has said this.
    pub fn wait_for_line(&self, line: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.said().iter().any(|item| item == line) {
            assert!(Instant::now() < deadline, "nobody said {line}");
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.state.connections.lock().unwrap().len()
    }

    /// Every line that clients have said so far.
    pub fn said(&self) -> Vec<String> {
        self.state.said.lock().unwrap().clone()
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.state.taken.lock().unwrap().clone()
    }

    /// What was taken since the last time somebody asked so.
    pub fn drain(&self) -> Vec<Taken> {
        std::mem::take(&mut *self.state.taken.lock().unwrap())
    }

    /// The accepted transactions that fit, once there are so many.
    pub fn wait(&self, count: usize, fits: impl Fn(&Taken) -> bool) -> Vec<Taken> {
        let deadline = Instant::now() + PATIENCE;
        let mut taken = self.state.taken.lock().unwrap();
        loop {
            let found: Vec<Taken> =
                taken.iter().filter(|taken| taken.accepted && fits(taken)).cloned().collect();
            if found.len() >= count {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} came instead of {count}", found.len());
            taken = self.state.changed.wait_timeout(taken, left).unwrap().0;
        }
    }

    /// Waits until so many people in all have a letter.
    pub fn wait_for(&self, letter: &Letter, people: usize) {
        let deadline = Instant::now() + PATIENCE;
        let mut taken = self.state.taken.lock().unwrap();
        let count = |taken: &[Taken]| {
            taken
                .iter()
                .filter(|taken| taken.accepted && taken.is(letter))
                .map(|taken| taken.to.len())
                .sum::<usize>()
        };
        while count(&taken) < people {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} people have it instead of {people}", count(&taken));
            taken = self.state.changed.wait_timeout(taken, left).unwrap().0;
        }
    }

    /// Asserts that each of these has the letter so many times, as that person must have it, and nobody else
    /// has it.
    pub fn each_has(&self, letter: &Letter, people: &[(&[String], Keeps)], times: usize) {
        let copies: Vec<Taken> =
            self.taken().into_iter().filter(|taken| taken.accepted && taken.is(letter)).collect();
        let mut wanted = 0;
        for (people, keeps) in people {
            for person in *people {
                let hers: Vec<&Taken> = copies.iter().filter(|copy| copy.to.contains(person)).collect();
                assert_eq!(hers.len(), times, "copies for {person}");
                for copy in hers {
                    assert!(
                        copy.as_written() == letter.arrives(*keeps),
                        "{person} should have {keeps:?}, and has\n{}",
                        String::from_utf8_lossy(&copy.message[..copy.message.len().min(4000)])
                    );
                }
                wanted += times;
            }
        }
        let all: usize = copies.iter().map(|copy| copy.to.len()).sum();
        assert_eq!(all, wanted, "somebody else has the letter, or one has it twice in one transaction");
    }
}

fn converse(stream: TcpStream, state: &State) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(1 << 16, stream);
    let mut speaks_lmtp = false;
    let mut open = Taken {
        sender: String::new(),
        to: vec![],
        parameters: vec![],
        message: Arc::default(),
        accepted: false,
    };
    if !answer(state, &mut out, special(state, Step::Greeting, ""), "220 sink.example ESMTP")? {
        return Ok(());
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end().to_owned();
        state.said.lock().unwrap().push(line.clone());
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let goes_on = match verb.as_str() {
            "EHLO" | "LHLO" => {
                speaks_lmtp = verb == "LHLO";
                let keywords = KEYWORDS.join("\r\n250-");
                answer(
                    state,
                    &mut out,
                    special(state, Step::Ehlo, ""),
                    &format!("250-sink.example\r\n250-{keywords}\r\n250 HELP"),
                )?
            }
            "XFOR" => answer(state, &mut out, special(state, Step::Xforward, &line), "250 2.0.0 Ok")?,
            "MAIL" => {
                open = Taken {
                    sender: line.get(10..).unwrap_or_default().to_owned(),
                    to: vec![],
                    parameters: vec![],
                    ..open
                };
                answer(state, &mut out, special(state, Step::Mail, &line), "250 2.1.0 Sender ok")?
            }
            "RCPT" => {
                let special = special(state, Step::Rcpt, &line);
                if special.is_none() {
                    let (address, parameters) = line[9..].split_once('>').unwrap();
                    open.to.push(address.to_owned());
                    open.parameters.push(parameters.trim().to_owned());
                }
                answer(state, &mut out, special, "250 2.1.5 Recipient ok")?
            }
            "DATA" => match special(state, Step::Data, &open.to.join(" ")) {
                Some(special) => answer(state, &mut out, Some(special), "")?,
                None => {
                    answer(state, &mut out, None, "354 Go on")?;
                    let message = Arc::new(message(&mut reader)?);
                    if speaks_lmtp {
                        if !each_is_answered(state, &mut out, &Taken { message, ..open.clone() })? {
                            return Ok(());
                        }
                        continue;
                    }
                    let special = special(state, Step::Dot, &open.to.join(" "));
                    let taken = Taken { message, accepted: special.is_none(), ..open.clone() };
                    take(state, &mut out, special, taken)?
                }
            },
            "QUIT" => return answer(state, &mut out, None, "221 2.0.0 Bye").map(|_| ()),
            _ => answer(state, &mut out, None, "250 2.0.0 Ok")?,
        };
        if !goes_on {
            return Ok(());
        }
    }
}

/// Writes down what was taken before the reply goes out, so that nobody looks too early. Gives whether the
/// conversation goes on.
fn take(state: &State, out: &mut TcpStream, special: Option<Answer>, taken: Taken) -> std::io::Result<bool> {
    state.taken.lock().unwrap().push(taken);
    state.changed.notify_all();
    answer(state, out, special, "250 2.0.0 Ok: queued as SINK1")
}

/// Answers for each recipient, each in a transaction of its own for those who look.
fn each_is_answered(state: &State, out: &mut TcpStream, all: &Taken) -> std::io::Result<bool> {
    for (to, parameters) in all.to.iter().zip(&all.parameters) {
        let special = special(state, Step::Dot, to);
        let (to, parameters) = (vec![to.clone()], vec![parameters.clone()]);
        let taken = Taken { to, parameters, accepted: special.is_none(), ..all.clone() };
        if !take(state, out, special, taken)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn special(state: &State, step: Step, about: &str) -> Option<Answer> {
    let mut rules = state.rules.lock().unwrap();
    let rule =
        rules.iter_mut().find(|rule| rule.step == step && rule.times > 0 && about.contains(&rule.about))?;
    rule.times -= 1;
    Some(rule.answer.clone())
}

/// Whether the conversation goes on.
fn answer(state: &State, out: &mut TcpStream, special: Option<Answer>, usual: &str) -> std::io::Result<bool> {
    let said = match special {
        None => usual,
        Some(Answer::Say(said)) => said,
        Some(Answer::HangUp) => return out.shutdown(Shutdown::Both).map(|()| false),
        Some(Answer::Stall) => {
            *state.stalled.lock().unwrap() += 1;
            state.changed.notify_all();
            return out.read_to_end(&mut Vec::new()).map(|_| false);
        }
    };
    out.write_all(format!("{said}\r\n").as_bytes()).map(|()| true)
}

/// A message up to its final dot, dots unstuffed.
fn message(reader: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut message = Vec::new();
    let mut start = 0;
    loop {
        if reader.read_until(b'\n', &mut message)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if !message.ends_with(b"\r\n") {
            continue;
        }
        if &message[start..] == b".\r\n" {
            message.truncate(start);
            return Ok(message);
        }
        if message[start] == b'.' {
            message.remove(start);
        }
        start = message.len();
    }
}
