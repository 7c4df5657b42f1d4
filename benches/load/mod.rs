//! A load generator and a sink of one thread per connection. They cost a proxy under test nothing and know
//! no more of SMTP than two well-behaved programs need.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// What a thread of the sink or the generator needs.
const STACK: usize = 64 * 1024;
/// What the kernel counts processor time in for programs, per second (USER_HZ).
const TICKS: f64 = 100.0;
/// How long a side waits for the other one.
const PATIENCE: Duration = Duration::from_secs(60);

/// A next hop that takes everything.
pub(crate) struct Sink {
    pub(crate) port: u16,
    pub(crate) messages: Arc<AtomicU64>,
    /// The message that came last on some connection, with the trace header in front.
    pub(crate) last: Arc<Mutex<Vec<u8>>>,
}

impl Sink {
    pub(crate) fn start() -> Sink {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        // All of a relay's connections may come at once.
        socket.listen(4096).unwrap();
        let listener = TcpListener::from(socket);
        let port = listener.local_addr().unwrap().port();
        let sink = Sink { port, messages: Arc::default(), last: Arc::default() };
        let (messages, last) = (Arc::clone(&sink.messages), Arc::clone(&sink.last));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (messages, last) = (Arc::clone(&messages), Arc::clone(&last));
                // A peer that hangs up ends its connection alone.
                spawn(move || drop(take_all(stream, &messages, &last)));
            }
        });
        sink
    }
}

fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::Builder::new().stack_size(STACK).spawn(work).unwrap()
}

fn take_all(mut stream: TcpStream, messages: &AtomicU64, last: &Mutex<Vec<u8>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"220 sink\r\n")?;
    let mut buffer = vec![0; 256 * 1024];
    let (mut held, mut in_data) = (Vec::new(), false);
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        held.extend_from_slice(&buffer[..count]);
        // Nothing follows a final dot, or a command that is not pipelined, before its reply.
        if in_data {
            if held.ends_with(b"\r\n.\r\n") {
                let number = messages.fetch_add(1, Ordering::Relaxed);
                if number % 64 == 0 {
                    last.lock().unwrap().clone_from(&held);
                }
                held.clear();
                in_data = false;
                stream.write_all(b"250 2.0.0 Ok: queued as 4B1\r\n")?;
            }
            continue;
        }
        let Some(end) = held.iter().rposition(|byte| *byte == b'\n') else { continue };
        let mut replies = Vec::new();
        for line in held[..end].split(|byte| *byte == b'\n') {
            let reply: &[u8] = match line.get(..4).unwrap_or_default() {
                b"EHLO" => {
                    b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE\r\n"
                }
                b"DATA" => {
                    in_data = true;
                    b"354 Go on\r\n"
                }
                _ => b"250 2.0.0 Ok\r\n",
            };
            replies.extend_from_slice(reply);
        }
        held.drain(..=end);
        stream.write_all(&replies)?;
    }
}

/// A message as the generator sends it.
#[derive(Clone)]
pub(crate) struct Mail {
    /// Dots doubled, with the final one.
    bytes: Arc<Vec<u8>>,
    /// Where a number of eight digits differs in each copy.
    places: Arc<Vec<usize>>,
}

/// What stands where the copies of a campaign differ.
pub(crate) const PLACE: &str = "00000000";

impl Mail {
    pub(crate) fn new(message: &[u8]) -> Mail {
        let mut bytes = Vec::with_capacity(message.len() + 5);
        for line in message.split_inclusive(|byte| *byte == b'\n') {
            if line.starts_with(b".") {
                bytes.push(b'.');
            }
            bytes.extend_from_slice(line);
        }
        bytes.extend_from_slice(b".\r\n");
        Mail { bytes: Arc::new(bytes), places: Arc::default() }
    }

    /// The same for a campaign: at each place there is a number that no other copy has.
    pub(crate) fn differing(message: &[u8]) -> Mail {
        let mail = Mail::new(message);
        let length = PLACE.len();
        let is_place = |at: &usize| mail.bytes[*at..].starts_with(PLACE.as_bytes());
        let places: Vec<usize> = (0..mail.bytes.len() - length).filter(is_place).collect();
        assert!(!places.is_empty(), "no copy of the campaign differs");
        Mail { places: Arc::new(places), ..mail }
    }
}

/// What a run came to.
pub(crate) struct Run {
    pub(crate) messages: u64,
    pub(crate) seconds: f64,
}

/// Sends over so many connections for so long.
pub(crate) fn send(port: u16, mail: &Mail, connections: usize, time: Duration) -> Run {
    let (number, stopped) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let ready = Arc::new(Barrier::new(connections + 1));
    let senders: Vec<JoinHandle<io::Result<u64>>> = (0..connections)
        .map(|_| {
            let (mail, number, stopped, ready) =
                (mail.clone(), Arc::clone(&number), Arc::clone(&stopped), Arc::clone(&ready));
            spawn(move || {
                let client = Client::connect(port);
                ready.wait();
                let mut client = client?;
                let mut bytes = mail.bytes.to_vec();
                let mut sent = 0;
                while !stopped.load(Ordering::Relaxed) {
                    client.send(&mail, &mut bytes, number.fetch_add(1, Ordering::Relaxed))?;
                    sent += 1;
                }
                Ok(sent)
            })
        })
        .collect();
    ready.wait();
    let start = Instant::now();
    thread::sleep(time);
    stopped.store(true, Ordering::Relaxed);
    let messages = senders.into_iter().map(|sender| sender.join().unwrap().unwrap()).sum();
    Run { messages, seconds: start.elapsed().as_secs_f64() }
}

/// A client that pipelines.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(port: u16) -> io::Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client = Client { stream, buffer: Vec::new() };
        client.expect("220")?;
        client.stream.write_all(b"EHLO client.example\r\n")?;
        client.expect("250")?;
        Ok(client)
    }

    fn send(&mut self, mail: &Mail, bytes: &mut [u8], number: u64) -> io::Result<()> {
        for place in mail.places.iter() {
            bytes[*place..][..PLACE.len()].copy_from_slice(format!("{:08}", number % 100_000_000).as_bytes());
        }
        let envelope =
            format!("MAIL FROM:<news@shop.example>\r\nRCPT TO:<r{number}@home.example>\r\nDATA\r\n");
        self.stream.write_all(envelope.as_bytes())?;
        ["250", "250", "354"].into_iter().try_for_each(|code| self.expect(code))?;
        self.stream.write_all(bytes)?;
        self.expect("250")
    }

    /// Reads one reply.
    fn expect(&mut self, code: &str) -> io::Result<()> {
        loop {
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if !line.starts_with(code.as_bytes()) {
                    return Err(io::Error::other(String::from_utf8_lossy(&line).into_owned()));
                }
                if line.get(3) == Some(&b' ') {
                    return Ok(());
                }
            }
            let mut more = [0; 1024];
            match self.stream.read(&mut more)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.buffer.extend_from_slice(&more[..count]),
            }
        }
    }
}

/// A program under test: what it has used so far.
pub(crate) struct Process(pub(crate) u32);

impl Process {
    /// User and system time, in seconds, also of threads that have ended.
    pub(crate) fn seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap();
        // The name, in parentheses, may hold blanks.
        let fields = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().skip(11).take(2);
        fields.map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / TICKS
    }

    /// Resident memory, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}
