//! Chromium without a network but this machine, and a server that counts what it is asked for.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::bounded;

/// Where `make test-packages` puts what it installs, and where pictures of pages are left to be looked at.
pub fn target() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_pixelward"));
    program.ancestors().nth(2).unwrap().join("tmp")
}

/// Runs a script of this folder with the folder of its modules, one for pictures, and more arguments. Returns
/// what it printed.
pub fn scripted(script: &str, more: &[&str]) -> serde_json::Value {
    let pictures = target().join("pages");
    std::fs::create_dir_all(&pictures).unwrap();
    let output = bounded(600, "node")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser").join(script))
        .arg(target().join("browser"))
        .arg(&pictures)
        .args(more)
        .output()
        .expect("timeout is there");
    assert!(
        output.status.success(),
        "{script}: {}: {} (make test-packages installs node)",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A server that answers everything with one pixel, and knows what was asked.
pub struct Counter {
    pub port: u16,
    asked: Arc<Mutex<BTreeSet<String>>>,
    requests: Arc<AtomicUsize>,
}

impl Counter {
    pub fn start() -> Counter {
        const PIXEL: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(BTreeSet::new()));
        let noted = Arc::clone(&asked);
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (noted, count) = (Arc::clone(&noted), Arc::clone(&count));
                std::thread::spawn(move || {
                    let mut out = stream.try_clone().unwrap();
                    let mut reader = BufReader::new(stream);
                    let mut line = String::new();
                    while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                        if let Some(path) = line.strip_prefix("GET ").and_then(|rest| rest.split(' ').next())
                        {
                            noted.lock().unwrap().insert(path.to_owned());
                            count.fetch_add(1, Ordering::SeqCst);
                        }
                        if line == "\r\n" {
                            let head = format!(
                                "HTTP/1.1 200 OK\r\nContent-Type: image/gif\r\nContent-Length: \
                                 {}\r\nConnection: close\r\n\r\n",
                                PIXEL.len()
                            );
                            let _ = out.write_all(head.as_bytes()).and_then(|()| out.write_all(PIXEL));
                            return;
                        }
                        line.clear();
                    }
                });
            }
        });
        Counter { port, asked, requests }
    }

    /// How often it was asked for anything.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// What was asked for so far.
    pub fn asked(&self) -> BTreeSet<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// A folder that goes with the test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        let folder = std::env::temp_dir().join(format!("pixelward-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Scratch(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Opens a page until it has come to rest; `more` are further switches. What is not loaded within twenty seconds is
/// left out. A browser that does not end is ended, and another one opens the page.
pub fn open(page: &Path, scratch: &Scratch, more: &[&str]) -> Vec<u8> {
    let opened = || {
        let profile = scratch.0.join("profile");
        let _ = std::fs::remove_dir_all(&profile);
        bounded(90, "chromium")
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--disable-background-networking",
                "--disable-component-update",
                "--no-first-run",
                "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
                "--virtual-time-budget=4000",
                "--timeout=20000",
                "--run-all-compositor-stages-before-draw",
            ])
            .arg(format!("--user-data-dir={}", profile.display()))
            .args(more)
            .arg(format!("file://{}", page.display()))
            .stdin(Stdio::null())
            .output()
            .expect("timeout is there")
    };
    let mut output = opened();
    if [Some(124), Some(137)].contains(&output.status.code()) {
        output = opened();
    }
    assert!(
        output.status.success(),
        "{}: {} (make test-packages installs chromium)",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}
