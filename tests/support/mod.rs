//! What the end-to-end tests share: the relay as a child process, a next hop that does as it is told, and a
//! client that speaks line by line. All of it on loopback, with ports that the system gives.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic
)]

mod watch;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// No test waits longer than this for one thing.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A folder that goes when the test ends.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        watch::this_test();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pixelward-test-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A program that is ended where it takes longer than these seconds, with all that it started. What is waited for
/// without an end holds the tests up for ever.
pub fn bounded(seconds: u32, program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", &seconds.to_string(), program]);
    command
}

/// How a process ended that was told to, or that has nothing left to do.
pub fn ended(child: &mut Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + 3 * PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("process {} does not end", child.id());
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// Tells threads to end, when dropped, and so where a test fails: a scope that they run in waits for them even then.
pub struct End<'a>(pub &'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Where threads wait for each other; one that fails on its way there fails the others, which a barrier does not.
#[derive(Clone)]
pub struct Meeting(Arc<(Mutex<usize>, Condvar)>);

impl Meeting {
    /// One of so many threads.
    pub fn of(count: usize) -> Meeting {
        Meeting(Arc::new((Mutex::new(count), Condvar::new())))
    }

    /// Waits until all are there.
    pub fn wait(&self) {
        let (missing, came) = &*self.0;
        let mut missing = missing.lock().unwrap();
        *missing -= 1;
        came.notify_all();
        let (missing, _) = came.wait_timeout_while(missing, 3 * PATIENCE, |missing| *missing > 0).unwrap();
        assert_eq!(*missing, 0, "so many have not come");
    }
}

/// This program with one test alone, in a process of its own. The test is named with its module, as
/// `module_path!()` says it.
pub fn alone(test: &str) -> Command {
    let (_, name) = test.split_once("::").unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]);
    command
}

/// Lines that a process wrote, to wait for.
#[derive(Clone, Default)]
pub struct Lines(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Lines {
    pub fn follow(source: impl Read + Send + 'static) -> Lines {
        let lines = Lines::default();
        let shared = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                shared.0.0.lock().unwrap().push(line);
                shared.0.1.notify_all();
            }
        });
        lines
    }

    /// The first line that `fits`, once it comes.
    pub fn wait(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        self.wait_for(1, what, fits)
    }

    /// The line that is the `count`th one that `fits`, once it comes.
    pub fn wait_for(&self, count: usize, what: &str, fits: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.0.0.lock().unwrap();
        loop {
            if let Some(line) = lines.iter().filter(|line| fits(line)).nth(count - 1) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no line came with {what}; there are:\n{}", lines.join("\n"));
            lines = self.0.1.wait_timeout(lines, left).unwrap().0;
        }
    }

    pub fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().clone()
    }
}

/// The relay as it is shipped, with a configuration of the test.
pub struct Relay {
    pub port: u16,
    pub folder: Folder,
    pub log: Lines,
    child: Child,
}

pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pixelward"))
}

/// The configuration for a next hop at this port. `listener`, `next_hop` and `rest` are lines of TOML.
pub fn configuration(
    folder: &Folder,
    next_hop: u16,
    listener: &str,
    next_hop_lines: &str,
    rest: &str,
) -> PathBuf {
    let data = folder.0.join("data");
    // A grant leaves trackers in place, so that a test sees who was taken to have agreed.
    let rest = match (rest.contains("on_grant"), rest.contains("[policy]")) {
        (true, _) => rest.to_owned(),
        (false, true) => rest.replacen("[policy]", "[policy]\non_grant = \"keep\"", 1),
        (false, false) => format!("{rest}\n[policy]\non_grant = \"keep\"\n"),
    };
    // Relays of many tests run at once, and only one could have the default address of the API.
    let api = if rest.contains("[api]") { "" } else { "[api]\naddress = \"\"\n" };
    // A next hop that does as it is told counts its connections.
    let rest = match (rest.contains("probe_s"), rest.contains("[relay]")) {
        (true, _) => rest,
        (false, true) => rest.replacen("[relay]", "[relay]\nprobe_s = 0", 1),
        (false, false) => format!("{rest}\n[relay]\nprobe_s = 0\n"),
    };
    let tls = |lines: &str| if lines.contains("tls =") { "" } else { "tls = \"none\"" };
    let config = format!(
        "data_directory = {data:?}\ncertificate_directory = {data:?}\n{rest}\n{api}[[listener]]\naddress \
         = \"127.0.0.1:0\"\n{}\n{listener}\n\
         [next_hop]\nhost = \"localhost\"\nport = {next_hop}\n{}\n{next_hop_lines}\n[private]\naddress \
         = \"\"\n\
         [log]\nformat = \"human\"\nlevel = \"info,pixelward=debug\"\n[consent]\nhead_copy = {:?}\n",
        tls(listener),
        tls(next_hop_lines),
        folder.0.join("head"),
    );
    folder.file("config.toml", &config)
}

impl Relay {
    pub fn start(next_hop: u16) -> Relay {
        Relay::with(next_hop, "", "", "")
    }

    pub fn with(next_hop: u16, listener: &str, next_hop_lines: &str, rest: &str) -> Relay {
        let folder = Folder::new();
        configuration(&folder, next_hop, listener, next_hop_lines, rest);
        Relay::in_folder(folder)
    }

    pub fn in_folder(folder: Folder) -> Relay {
        Relay::started(program(), folder)
    }

    /// One that may open only so many files.
    pub fn with_open_files(folder: Folder, most: u32) -> Relay {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {most} && exec \"$0\" \"$@\"")]).arg(program().get_program());
        Relay::started(shell, folder)
    }

    /// One with more in its environment.
    pub fn in_environment(folder: Folder, variables: &[(&str, &str)]) -> Relay {
        let mut program = program();
        program.envs(variables.iter().copied());
        Relay::started(program, folder)
    }

    /// One that another program starts, or this one elsewhere.
    pub fn started(mut program: Command, folder: Folder) -> Relay {
        let mut child = program
            .args(["run", "--config"])
            .arg(folder.0.join("config.toml"))
            .env("NO_COLOR", "1")
            .env_remove("JOURNAL_STREAM")
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let log = Lines::follow(child.stderr.take().unwrap());
        Relay::ready(child, log, folder)
    }

    /// One that was started, once it takes mail.
    pub fn ready(child: Child, log: Lines, folder: Folder) -> Relay {
        let line = log.wait("listening", |line| line.contains("listening"));
        let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
        let port = address.parse::<SocketAddr>().unwrap().port();
        log.wait("ready", |line| line.contains("is ready"));
        Relay { port, folder, log, child }
    }

    /// Records what a person said to the controller "default".
    pub fn say(&self, address: &str, state: &str) {
        let output = self.command(&["consent", "set", address, state, "--evidence", "test"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn command(&self, arguments: &[&str]) -> std::process::Output {
        program().args(arguments).arg("--config").arg(self.folder.0.join("config.toml")).output().unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The most memory it has used so far, in KiB.
    pub fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// The memory it uses, in KiB.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The time it has computed so far, in its own code and in the system's.
    pub fn computed(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Behind the name, which may hold anything; utime and stime are the 14th and 15th field, in ticks of
        // 10 ms.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(10 * ticks)
    }

    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub fn wait(&mut self) -> std::process::ExitStatus {
        ended(&mut self.child)
    }

    /// Ends it at once, as a failure of the machine would, and starts it again on what it left behind.
    pub fn killed(mut self) -> Relay {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        Relay::in_folder(std::mem::replace(&mut self.folder, Folder(PathBuf::new())))
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            show_no_address(&self.folder.0.join("data"));
            // What a next hop says is logged without the local part.
            let masked = format!("\u{2026}{PEOPLE}");
            let shown = self.log.all().into_iter().find(|line| line.replace(&masked, "").contains(PEOPLE));
            assert_eq!(shown, None, "a line of the log shows a recipient's address");
        }
    }
}

/// What the addresses of the tests' recipients end in.
const PEOPLE: &str = "@home.example";

/// No file of the relay holds an address in clear, whatever a test had it do.
fn show_no_address(path: &Path) {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    for entry in entries.map(|entry| entry.path()) {
        if entry.is_dir() {
            show_no_address(&entry);
        } else if entry.is_file() {
            let bytes = std::fs::read(&entry).unwrap_or_default();
            let found = memchr::memmem::find(&bytes, PEOPLE.as_bytes());
            assert_eq!(found, None, "{} holds an address in clear", entry.display());
        }
    }
}

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

/// A port that nobody has at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A small newsletter with one open pixel, and what it is without.
pub fn newsletter(to: &str) -> (String, String) {
    let pixel = "<img src=3D\"https://click.shop.example/wf/open?upn=3Du001.Zk3Qw9XvT2aB7LmN=\n8pRsYd4HcJ6\" \
                 width=3D\"1\" height=3D\"1\" alt=3D\"\">";
    let with = |pixel: &str| {
        format!(
            "From: Shop <news@shop.example>\nTo: <{to}>\nSubject: News\nDate: Mon, 02 Nov 2026 09:00:00 \
             +0000\n\
             Message-ID: <1@shop.example>\nMIME-Version: 1.0\nContent-Type: multipart/alternative; \
             boundary=\"b\"\n\n\
             --b\nContent-Type: text/plain; charset=utf-8\n\nNews of the week.\n.A line with a dot.\n\n\
             --b\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n\
             <html><body><p>News of the week =E2=80=94 read on</p>\n\
             <img src=3D\"https://cdn.shop.example/logo.png\" width=3D\"140\" \
             height=3D\"40\">\n{pixel}</body></html>\n\n--b--\n"
        )
    };
    (with(pixel), with("<img width=3D\"1\" height=3D\"1\" alt=3D\"\">"))
}

/// With CRLF, as on the wire.
pub fn crlf(text: &str) -> String {
    text.replace('\n', "\r\n")
}
