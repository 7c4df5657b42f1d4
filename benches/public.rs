//! The public listener: whether its times tell who is known, how fast gates are beside nginx serving the same
//! picture, and a million days of last open. Prints tables; `cargo bench --bench public`. nginx and wrk must
//! be installed (`make test-packages` does so).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic)]

#[path = "../tests/http/mod.rs"]
mod http;
#[path = "../tests/readers/mod.rs"]
mod readers;
#[path = "../tests/support/mod.rs"]
mod support;

use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Connection;
use pixelward::consent::Day;
use pixelward::consent::days::Days;
use readers::Readers;

/// How many samples of each kind.
const SAMPLES: usize = 10_000;
/// How many connections ask at once for pages, which are answered in steps of time.
const ASKING: usize = 16;

fn main() {
    // Cargo hands over switches of its own harness.
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|item| name.contains(item.as_str()));
    if is_wanted("times") {
        times();
    }
    if is_wanted("throughput") {
        throughput();
    }
    if is_wanted("days") {
        days();
    }
}

/// The same answer in the same time, whoever the token is of.
fn times() {
    let readers = Readers::start();
    readers.say("known@home.example", "refused");
    readers.say("erased@home.example", "granted");
    let people = ["known@home.example", "unknown@home.example", "erased@home.example"];
    let gates = people.map(|person| readers.gate(person));
    let days = people.map(|person| readers.day(person, "news"));
    let links = people.map(|person| readers.link(person));
    readers.erase("erased@home.example");
    println!("{SAMPLES} samples each, interleaved; p is of a Mann-Whitney test against \"unknown\"");
    println!(
        "{:<8} {:<9} {:>11} {:>11} {:>11} {:>7}",
        "route", "reader", "median µs", "p90 µs", "p99 µs", "p"
    );
    for (route, paths, connections) in [("gate", gates, 1), ("day", days, 1), ("page", links, ASKING)] {
        let mut samples = sampled(readers.port, &paths, connections);
        let unknown = samples[1].clone();
        for (name, times) in ["known", "unknown", "erased"].iter().zip(&mut samples) {
            let p = mann_whitney(times, &unknown);
            times.sort_unstable_by(f64::total_cmp);
            let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
            println!("{route:<8} {name:<9} {:>11.1} {:>11.1} {:>11.1} {p:>7.3}", at(0.5), at(0.9), at(0.99));
        }
    }
}

/// Times of each path, in microseconds.
fn sampled(port: u16, paths: &[String; 3], connections: usize) -> Vec<Vec<f64>> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(vec![Vec::with_capacity(SAMPLES); paths.len()]);
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut connection = Connection::to(port);
                let mut times = vec![Vec::new(); paths.len()];
                // What comes first warms caches, and is not counted.
                paths.iter().for_each(|path| drop(connection.ask("GET", path, &[], b"")));
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= SAMPLES * paths.len() {
                        break;
                    }
                    // Each three in another order, so that none always follows the same one.
                    let which = (number + number / paths.len()) % paths.len();
                    let start = Instant::now();
                    connection.ask("GET", &paths[which], &[], b"");
                    times[which].push(start.elapsed().as_secs_f64() * 1e6);
                }
                found.lock().unwrap().iter_mut().zip(times).for_each(|(all, item)| all.extend(item));
            });
        }
    });
    found.into_inner().unwrap()
}

/// How likely two such samples are if they come from one distribution (two-sided, by the normal
/// approximation).
fn mann_whitney(one: &[f64], other: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> =
        one.iter().map(|item| (*item, true)).chain(other.iter().map(|item| (*item, false))).collect();
    all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let ranks: f64 = all.iter().enumerate().filter(|(_, item)| item.1).map(|(at, _)| at as f64 + 1.0).sum();
    let (n, m) = (one.len() as f64, other.len() as f64);
    let u = ranks - n * (n + 1.0) / 2.0;
    let z = (u - n * m / 2.0).abs() / (n * m * (n + m + 1.0) / 12.0).sqrt();
    // The tail of the normal distribution (Abramowitz and Stegun, 7.1.26).
    let x = z / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let series = [0.254_829_592, -0.284_496_736, 1.421_413_741, -1.453_152_027, 1.061_405_429];
    let sum = series.iter().rev().fold(0.0, |sum, item| (sum + item) * t);
    (sum * (-x * x).exp()).clamp(0.0, 1.0)
}

/// A server that ends with the bench.
struct Server(Child);

impl Drop for Server {
    /// Asks it to end: killed, it would leave its workers behind.
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-s", "TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

/// nginx with the same picture, without an access log, as the relay has none.
fn nginx(folder: &std::path::Path, port: u16, picture: &[u8]) -> Server {
    std::fs::write(folder.join("blank.gif"), picture).unwrap();
    let at = folder.display();
    let config = format!(
        "daemon off; master_process on; worker_processes 2; pid {at}/nginx.pid; error_log \
         {at}/error.log;\nevents {{ worker_connections 1024; }}\n\
         http {{ access_log off; keepalive_requests 100000000; sendfile on; tcp_nopush on; types {{ image/gif gif; }}\n\
         client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f; uwsgi_temp_path \
         {at}/u; scgi_temp_path {at}/s;\n\
         server {{ listen 127.0.0.1:{port}; root {at}; add_header Cache-Control no-store; }} }}\n"
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let child = Command::new("/usr/sbin/nginx")
        .args(["-e", "stderr", "-c"])
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx is installed (make test-packages installs it)");
    let server = Server(child);
    let deadline = Instant::now() + support::PATIENCE;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "nginx does not start");
        std::thread::yield_now();
    }
    let answer = Connection::to(port).ask("GET", "/blank.gif", &[], b"");
    assert_eq!((answer.status, answer.body.as_slice()), (200, picture));
    server
}

/// Requests a second, and the median and 99th percentile of their times, as wrk says them.
fn wrk(url: &str) -> (f64, String, String) {
    let output = Command::new("wrk")
        .args(["-t2", "-c64", "-d8s", "--latency", url])
        .output()
        .expect("wrk is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let behind = |name: &str| {
        let line =
            text.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_else(|| panic!("{text}"));
        line.split_whitespace().last().unwrap().to_owned()
    };
    assert!(!text.contains("Non-2xx"), "{text}");
    (behind("Requests/sec").parse().unwrap(), behind("50%"), behind("99%"))
}

/// Gates that lead nowhere, and one that leads on, beside nginx in the same run.
fn throughput() {
    let readers = Readers::start();
    readers.say("yes@home.example", "granted");
    readers.say("no@home.example", "refused");
    let port = support::free_port();
    let folder = &readers.served.relay.folder.0.join("nginx");
    std::fs::create_dir_all(folder).unwrap();
    let _nginx = nginx(folder, port, &readers.get("/shop/p/none").body);
    let local = |path: &str| format!("http://127.0.0.1:{}{path}", readers.port);
    let runs = [
        ("nginx, static GIF", format!("http://127.0.0.1:{port}/blank.gif")),
        ("gate, refused", local(&readers.gate("no@home.example"))),
        ("gate, unknown", local(&readers.gate("nobody@home.example"))),
        ("day pixel", local(&readers.day("nobody@home.example", "orders"))),
    ];
    println!("\nwrk -t2 -c64, keep-alive, two rounds in turn on the same machine");
    println!("{:<20} {:>12} {:>9} {:>10} {:>10}", "what", "requests/s", "of nginx", "p50", "p99");
    for _ in 0..2 {
        let mut base = 0.0;
        for (name, url) in &runs {
            let (rate, median, late) = wrk(url);
            base = if base == 0.0 { rate } else { base };
            println!("{name:<20} {rate:>12.0} {:>9.2} {median:>10} {late:>10}", rate / base);
        }
    }
}

/// A million days of last open.
fn days() {
    const ROWS: u32 = 1_000_000;
    let path = std::env::temp_dir().join(format!("pixelward-bench-days-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let days = Days::open(&path).unwrap().0;
    let tag = |number: u32| {
        let mut tag = [0; 16];
        tag[..4].copy_from_slice(&number.wrapping_mul(2_654_435_761).to_le_bytes());
        tag[8..12].copy_from_slice(&number.to_le_bytes());
        tag
    };
    let fill = |day: u16| {
        let mut times: Vec<Duration> = (0..ROWS)
            .map(|number| {
                let start = Instant::now();
                days.note("shop", "news", tag(number), Day(day));
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
        (times.iter().sum::<Duration>(), at(0.5), at(0.99), at(1.0))
    };
    println!("\n{ROWS} days of last open");
    for (name, day) in [("first", 20_000), ("next day", 20_001), ("third day", 20_002)] {
        let (all, median, late, most) = fill(day);
        days.flush();
        let size = std::fs::metadata(&path).unwrap().len();
        println!(
            "{name:<10} noted in {all:>8.2?}, p50 {median:?}, p99 {late:?}, longest {most:.2?}; {:.1} MB on \
             disk",
            size as f64 / 1e6
        );
    }
    let start = Instant::now();
    drop(days);
    let closed = start.elapsed();
    let start = Instant::now();
    let again = Days::open(&path).unwrap().0;
    println!(
        "closed in {closed:.2?}, opened again in {:.2?} with {} rows",
        start.elapsed(),
        again.look(|item| item.len())
    );
    let start = Instant::now();
    again.remove(|_| tag(5)).unwrap();
    println!("one person removed, synced, in {:.2?}", start.elapsed());
    drop(again);
    std::fs::remove_file(&path).unwrap();
}
