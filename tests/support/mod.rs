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

mod client;
mod next_hop;
mod relay;
mod waiting;
mod watch;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

// Each of the programs that include this uses only some of it.
#[allow(unused_imports)]
pub use self::{
    client::{Client, get, stuffed},
    next_hop::{Answer, Behaviour, Delivery, NextHop, Step},
    relay::{Relay, configuration, program},
    waiting::{End, Lines, Meeting, PATIENCE, bounded, ended},
};

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

/// This program with one test alone, in a process of its own. The test is named with its module, as
/// `module_path!()` says it.
pub fn alone(test: &str) -> Command {
    let (_, name) = test.split_once("::").unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]);
    command
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
