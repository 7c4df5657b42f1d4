//! kill -9 at random moments, with clients that try again as Postfix does: a recipient is theirs until it had
//! a 2xx or 5xx; whatever else happens, they come back with the same message. Nobody's mail is lost, nobody
//! who did not agree gets a tracker, and whoever gets a message twice had it on its way, dot sent and no
//! answer heard, when the relay was killed. `make harness` runs the long forms.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::mta::grant;
use crate::mta::letter::Letter;
use crate::mta::sink::{Sink, Taken};
use crate::noise::Dice;
use crate::support::{End, Folder, PATIENCE, Relay, stuffed};

const SEED: u64 = 7;
/// How long a client that could not hand over a message waits before it tries again.
const PAUSE: Duration = Duration::from_millis(5);
/// Nobody tries for longer than this.
const MOST: Duration = Duration::from_secs(120);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

/// How a client hears what became of its recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    Smtp,
    Lmtp,
    Prdr,
}

/// People, every other of whom agreed.
struct People(Vec<String>);

impl People {
    fn new(count: usize) -> People {
        People((0..count).map(|number| format!("p{number}@home.example")).collect())
    }

    fn agreed(&self) -> Vec<String> {
        self.0.iter().step_by(2).cloned().collect()
    }
}

fn agreed(person: &str) -> bool {
    let number: u64 = person[1..].split('@').next().unwrap().parse().unwrap();
    number.is_multiple_of(2)
}

/// A message with its recipients.
struct Job {
    number: u64,
    wire: String,
    to: Vec<String>,
    speaks: Speaks,
}

impl Job {
    fn new(number: u64, people: &People, most: usize) -> Job {
        let mut dice = Dice::new(SEED ^ (number << 8));
        let first = dice.below(people.0.len());
        let count = 1 + dice.below(most);
        let to = (0..count).map(|number| people.0[(first + number * 3) % people.0.len()].clone()).collect();
        let speaks = *[Speaks::Smtp, Speaks::Smtp, Speaks::Smtp, Speaks::Lmtp, Speaks::Prdr][dice.below(5)..]
            .first()
            .unwrap();
        Job { number, wire: stuffed(&Letter::new(&format!("job {number}"), "Read on.").with), to, speaks }
    }
}

/// What became of one recipient in one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Taken,
    Rejected,
    /// Not now, or nothing.
    Later,
    /// The dot was sent, and the connection was lost before the answer.
    Nothing,
}

/// A conversation with the relay that may be lost at any moment.
struct Line {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Line {
    fn open(port: u16, speaks: Speaks) -> Option<Line> {
        let stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_nodelay(true).ok()?;
        let mut line = Line { reader: BufReader::new(stream.try_clone().ok()?), stream };
        let hello = if speaks == Speaks::Lmtp { "LHLO client.example" } else { "EHLO client.example" };
        (line.code()? == 220 && line.say(hello)? == 250).then_some(line)
    }

    /// The code of the next reply; `None` where the connection is lost.
    fn code(&mut self) -> Option<u16> {
        loop {
            let mut text = String::new();
            match self.reader.read_line(&mut text) {
                Ok(1..) if text.ends_with("\r\n") => {}
                _ => return None,
            }
            if text.as_bytes().get(3) == Some(&b' ') {
                return text[..3].parse().ok();
            }
        }
    }

    fn say(&mut self, text: &str) -> Option<u16> {
        self.stream.write_all(format!("{text}\r\n").as_bytes()).ok()?;
        self.code()
    }

    /// One attempt for these recipients.
    fn attempt(&mut self, job: &Job, to: &[String]) -> Vec<Heard> {
        let mut heard = vec![Heard::Later; to.len()];
        let _ = self.hand_over(job, to, &mut heard);
        heard
    }

    fn hand_over(&mut self, job: &Job, to: &[String], heard: &mut [Heard]) -> Option<()> {
        let prdr = if job.speaks == Speaks::Prdr { " PRDR" } else { "" };
        if self.say(&format!("MAIL FROM:<news@shop.example>{prdr}"))? != 250 {
            return None;
        }
        // As with PIPELINING: all recipients at once.
        let commands: String = to.iter().map(|to| format!("RCPT TO:<{to}>\r\n")).collect();
        self.stream.write_all(commands.as_bytes()).ok()?;
        let mut accepted = Vec::new();
        for (index, own) in heard.iter_mut().enumerate() {
            match self.code()? {
                250 => accepted.push(index),
                500.. => *own = Heard::Rejected,
                _ => {}
            }
        }
        if accepted.is_empty() || self.say("DATA")? != 354 {
            return None;
        }
        let (dot, body) = (".\r\n", &job.wire[..job.wire.len() - 3]);
        self.stream.write_all(body.as_bytes()).ok()?;
        accepted.iter().for_each(|copy| heard[*copy] = Heard::Nothing);
        self.stream.write_all(dot.as_bytes()).ok()?;
        let outcome = |code: u16| match code {
            200..300 => Heard::Taken,
            500.. => Heard::Rejected,
            _ => Heard::Later,
        };
        if job.speaks == Speaks::Prdr {
            let code = self.code()?;
            if code != 353 {
                accepted.iter().for_each(|copy| heard[*copy] = outcome(code));
                return Some(());
            }
        }
        match job.speaks {
            Speaks::Smtp => {
                let code = self.code()?;
                accepted.iter().for_each(|copy| heard[*copy] = outcome(code));
            }
            Speaks::Lmtp | Speaks::Prdr => {
                for copy in &accepted {
                    heard[*copy] = outcome(self.code()?);
                }
            }
        }
        if job.speaks == Speaks::Prdr {
            self.code()?;
        }
        Some(())
    }
}

/// What the clients found out together.
#[derive(Default)]
struct Tally {
    next: AtomicU64,
    attempts: AtomicU64,
    rejected: AtomicU64,
    /// How often a recipient's dot was sent and not answered.
    unanswered: Mutex<HashMap<(u64, String), u64>>,
    /// Jobs that are done: what their recipients are to have.
    done: Mutex<Vec<Job>>,
}

/// The ports of a relay that comes and goes: SMTP and LMTP.
#[derive(Default)]
struct Ports([AtomicU16; 2]);

impl Ports {
    fn set(&self, relay: &Relay) {
        self.0[0].store(relay.port, Ordering::SeqCst);
        let line =
            relay.log.wait("LMTP", |line| line.contains("listening") && line.contains("listener=lmtp"));
        let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
        self.0[1].store(address.parse::<SocketAddr>().unwrap().port(), Ordering::SeqCst);
    }

    fn of(&self, speaks: Speaks) -> u16 {
        self.0[usize::from(speaks == Speaks::Lmtp)].load(Ordering::SeqCst)
    }
}

/// Takes jobs until `over`, or until there were so many, and goes on with each until it is done.
fn client(tally: &Tally, ports: &Ports, people: &People, most: usize, jobs: u64, over: &AtomicBool) {
    loop {
        let number = tally.next.fetch_add(1, Ordering::Relaxed);
        if number >= jobs || over.load(Ordering::Relaxed) {
            return;
        }
        let job = Job::new(number, people, most);
        let mut left = job.to.clone();
        let start = Instant::now();
        while !left.is_empty() {
            assert!(start.elapsed() < MOST, "job {number} is not done for {left:?}");
            tally.attempts.fetch_add(1, Ordering::Relaxed);
            let Some(mut line) = Line::open(ports.of(job.speaks), job.speaks) else {
                std::thread::park_timeout(PAUSE);
                continue;
            };
            let heard = line.attempt(&job, &left);
            let mut unanswered = tally.unanswered.lock().unwrap();
            for (to, heard) in left.iter().zip(&heard) {
                match heard {
                    Heard::Nothing => *unanswered.entry((number, to.clone())).or_default() += 1,
                    Heard::Rejected => drop(tally.rejected.fetch_add(1, Ordering::Relaxed)),
                    Heard::Taken | Heard::Later => {}
                }
            }
            drop(unanswered);
            let mut fates = heard.iter();
            left.retain(|_| matches!(fates.next(), Some(Heard::Later | Heard::Nothing)));
            if left.is_empty() {
                let _ = line.say("QUIT");
            } else {
                std::thread::park_timeout(PAUSE);
            }
        }
        tally.done.lock().unwrap().push(job);
    }
}

/// What reached the sink.
#[derive(Default)]
struct Arrived {
    copies: HashMap<(u64, String), u64>,
    /// Copies with a tracker for somebody who did not agree.
    leaks: u64,
    /// Copies without for somebody who did.
    stripped_for_nothing: u64,
}

impl Arrived {
    fn take(&mut self, sink: &Sink) {
        sink.drain().iter().filter(|taken| taken.accepted).for_each(|item| self.add(item));
    }

    fn add(&mut self, taken: &Taken) {
        let text = String::from_utf8_lossy(&taken.message);
        let subject = text.lines().find_map(|line| line.strip_prefix("Subject: job "));
        let number = subject.expect("no other mail is sent").trim().parse().unwrap();
        let tracks = text.contains("https://click.shop.example/wf/open");
        for to in &taken.to {
            *self.copies.entry((number, to.clone())).or_default() += 1;
            self.leaks += u64::from(tracks && !agreed(to));
            self.stripped_for_nothing += u64::from(!tracks && agreed(to));
        }
    }
}

/// What came of a run.
#[derive(Debug, Default)]
struct Outcome {
    kills: u64,
    messages: u64,
    recipients: u64,
    attempts: u64,
    lost: u64,
    duplicates: u64,
    /// Duplicates for which the client had sent a dot and heard nothing.
    explained: u64,
    leaks: u64,
    stripped_for_nothing: u64,
    rejected: u64,
}

fn outcome(kills: u64, tally: &Tally, arrived: &Arrived) -> Outcome {
    let (done, unanswered) = (tally.done.lock().unwrap(), tally.unanswered.lock().unwrap());
    let mut outcome = Outcome {
        kills,
        messages: done.len() as u64,
        attempts: tally.attempts.load(Ordering::Relaxed),
        leaks: arrived.leaks,
        stripped_for_nothing: arrived.stripped_for_nothing,
        rejected: tally.rejected.load(Ordering::Relaxed),
        ..Outcome::default()
    };
    for (job, to) in done.iter().flat_map(|job| job.to.iter().map(move |to| (job.number, to.clone()))) {
        let copies = arrived.copies.get(&(job, to.clone())).copied().unwrap_or(0);
        let excuses = unanswered.get(&(job, to)).copied().unwrap_or(0);
        outcome.recipients += 1;
        outcome.lost += u64::from(copies == 0);
        outcome.duplicates += copies.saturating_sub(1);
        outcome.explained += copies.saturating_sub(1).min(excuses);
    }
    outcome
}

fn relay(sink: &Sink) -> Relay {
    let folder = Folder::new();
    let data = folder.0.join("data");
    let listener = |protocol: &str| {
        format!(
            "[[listener]]\nname = \"{protocol}\"\naddress = \"127.0.0.1:0\"\nprotocol = \"{protocol}\"\ntls \
             = \"none\"\n"
        )
    };
    folder.file(
        "config.toml",
        &format!(
            "data_directory = {data:?}\ncertificate_directory = {data:?}\n{}{}[next_hop]\nhost \
             = \"localhost\"\nport = {}\ntls = \"none\"\n\
             [policy]\non_grant = \"keep\"\n[private]\naddress = \"\"\n[api]\naddress = \"\"\n[log]\nformat \
             = \"human\"\nlevel = \"warn,pixelward::cli=info\"\n",
            listener("smtp"),
            listener("lmtp"),
            sink.port
        ),
    );
    Relay::in_folder(folder)
}

/// Lets clients hand over messages while the relay is killed so often; `jobs` bounds how many messages there
/// are.
fn run(kills: u64, jobs: u64, clients: usize, people: usize, most: usize) -> Outcome {
    let (sink, people) = (Sink::start(), People::new(people));
    let first = relay(&sink);
    grant(&first, &people.agreed());
    let (tally, ports, over) = (Tally::default(), Ports::default(), AtomicBool::new(false));
    ports.set(&first);
    let mut relay = Some(first);
    let mut arrived = Arrived::default();
    std::thread::scope(|scope| {
        let end = End(&over);
        let clients: Vec<_> = (0..clients)
            .map(|_| scope.spawn(|| client(&tally, &ports, &people, most, jobs, &over)))
            .collect();
        let mut dice = Dice::new(SEED);
        for _ in 0..kills {
            // A random number of messages, and a random moment behind the last of them.
            let wanted = tally.next.load(Ordering::Relaxed) + 1 + dice.below(30) as u64;
            let deadline = Instant::now() + PATIENCE;
            while tally.next.load(Ordering::Relaxed) < wanted {
                assert!(Instant::now() < deadline, "no mail goes through");
                std::thread::park_timeout(Duration::from_micros(200));
            }
            std::thread::park_timeout(Duration::from_micros(dice.below(3000) as u64));
            let again = relay.take().unwrap().killed();
            ports.set(&again);
            relay = Some(again);
            arrived.take(&sink);
        }
        if kills > 0 {
            drop(end);
        }
        while clients.iter().any(|client| !client.is_finished()) {
            arrived.take(&sink);
            std::thread::park_timeout(Duration::from_millis(50));
        }
    });
    arrived.take(&sink);
    let outcome = outcome(kills, &tally, &arrived);
    println!(
        "kills {}, messages {}, recipients {}, attempts {}: lost {}, duplicates {}, explained by a dot sent \
         and not answered {}, privacy \
         losses {}, stripped for nothing {}, rejected {}",
        outcome.kills,
        outcome.messages,
        outcome.recipients,
        outcome.attempts,
        outcome.lost,
        outcome.duplicates,
        outcome.explained,
        outcome.leaks,
        outcome.stripped_for_nothing,
        outcome.rejected
    );
    outcome
}

fn check(outcome: &Outcome) {
    assert_eq!(outcome.lost, 0, "{outcome:?}");
    assert_eq!(outcome.leaks, 0, "{outcome:?}");
    assert_eq!(outcome.rejected, 0, "{outcome:?}");
    assert_eq!(outcome.stripped_for_nothing, 0, "{outcome:?}");
    assert_eq!(outcome.duplicates, outcome.explained, "{outcome:?}");
    assert!(outcome.messages > 0 && outcome.recipients >= outcome.messages);
}

#[test]
fn five_kills_lose_nothing_and_double_only_what_was_on_its_way() {
    let outcome = run(number("PIXELWARD_KILLS", 5), u64::MAX, 8, 40, 6);
    check(&outcome);
    assert!(outcome.attempts > outcome.messages, "the kills were noticed: {outcome:?}");
}

#[test]
#[ignore = "takes minutes: make harness"]
fn three_hundred_kills_lose_nothing_and_double_only_what_was_on_its_way() {
    check(&run(number("PIXELWARD_KILLS", 300), u64::MAX, 16, 400, 10));
}

#[test]
fn without_faults_nothing_is_lost_or_doubled() {
    let outcome = run(0, 100, 8, 40, 6);
    check(&outcome);
    assert_eq!((outcome.messages, outcome.attempts, outcome.duplicates), (100, 100, 0));
}

#[test]
#[ignore = "takes a minute: make harness"]
fn of_200_000_recipients_none_is_lost_and_none_has_it_twice() {
    let wanted = number("PIXELWARD_RECIPIENTS", 200_000);
    // One to a hundred recipients each; the numbers of a seed average close to fifty.
    let outcome = run(0, wanted / 49, 16, 20_000, 100);
    check(&outcome);
    assert!(outcome.recipients >= wanted, "{outcome:?}");
    assert_eq!(outcome.duplicates, 0, "{outcome:?}");
}
