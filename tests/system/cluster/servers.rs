//! Servers of NATS on loopback, each with an address of its own, so that no port can be taken.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use pixelward_replica::nats::{Access, Nats, Plan, Secret, Server, fresh_key};

use super::until;
use crate::support::Folder;

/// The servers of a cluster.
pub(super) struct Servers {
    plan: Plan,
    relays: Vec<Secret>,
    operator: Secret,
    monitor: Secret,
    running: Vec<Option<Child>>,
    folder: Folder,
}

/// The program that `make test-packages` installed.
fn program() -> PathBuf {
    let target = std::env::current_exe().unwrap();
    let target = target.ancestors().find(|folder| folder.join("tmp/nats").exists());
    let target = target.expect("nats-server is missing: run make test-packages");
    target.join("tmp/nats/bin/nats-server")
}

impl Servers {
    pub(super) fn start(count: usize, syncs: bool) -> Servers {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let cluster = COUNT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let folder = Folder::new();
        let servers = (0..count)
            .map(|number| {
                let address =
                    format!("127.{}.{}.{}", 64 + process % 128, (process / 128 + cluster) % 256, number + 1);
                Server {
                    name: format!("server{number}"),
                    clients: format!("{address}:4222"),
                    peers: format!("{address}:6222"),
                    directory: folder.0.join(format!("server{number}")),
                    tls: None,
                }
            })
            .collect();
        let keys: Vec<(String, Secret)> = (0..4).map(|_| fresh_key()).collect();
        let (operator, monitor) = (fresh_key(), fresh_key());
        let plan = Plan {
            servers,
            relays: keys.iter().map(|(public, _)| public.clone()).collect(),
            operator: operator.0,
            monitor: monitor.0,
        };
        let mut servers = Servers {
            running: (0..count).map(|_| None).collect(),
            relays: keys.into_iter().map(|(_, secret)| secret).collect(),
            operator: operator.1,
            monitor: monitor.1,
            plan,
            folder,
        };
        for number in 0..count {
            let server = &servers.plan.servers[number];
            let mut text = servers.plan.configuration(server);
            if !syncs {
                text = text.replace("  sync_interval: always\n", "");
            }
            servers.folder.file(&format!("{}.conf", server.name), &text);
            servers.start_again(number);
        }
        servers
    }

    pub(super) fn start_again(&mut self, number: usize) {
        let name = &self.plan.servers[number].name;
        let log = std::fs::File::options().create(true).append(true);
        let log = log.clone().open(self.folder.0.join(format!("{name}.log"))).unwrap();
        let child = Command::new(program())
            .arg("-c")
            .arg(self.folder.0.join(format!("{name}.conf")))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.running[number] = Some(child);
    }

    pub(super) fn kill(&mut self, number: usize) {
        if let Some(mut child) = self.running[number].take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Creates the stream, as the operator does.
    pub(super) fn create(&self, runtime: &tokio::runtime::Runtime) {
        let operator = runtime.block_on(Nats::connect(&self.operator_access(), &[0; 16])).unwrap();
        until("the servers create the stream", || runtime.block_on(operator.create()).is_ok());
    }

    pub(super) fn access(&self, relay: usize) -> Access {
        let servers = self.plan.servers.iter().map(|server| format!("nats://{}", server.clients)).collect();
        let (seed, monitor) = (Some(self.relays[relay].clone()), Some(self.monitor.clone()));
        Access { servers, seed, monitor, tls: None }
    }

    pub(super) fn operator_access(&self) -> Access {
        Access { seed: Some(self.operator.clone()), ..self.access(0) }
    }

    /// Whether any file of any server has these bytes.
    pub(super) fn files_contain(&self, bytes: &[u8]) -> bool {
        fn search(folder: &Path, bytes: &[u8]) -> bool {
            std::fs::read_dir(folder).unwrap().any(|entry| {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    return search(&path, bytes);
                }
                // A file may be renamed meanwhile.
                std::fs::read(&path).is_ok_and(|content| memchr_find(&content, bytes))
            })
        }
        self.plan.servers.iter().any(|server| search(&server.directory, bytes))
    }
}

fn memchr_find(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}

impl Drop for Servers {
    fn drop(&mut self) {
        (0..self.running.len()).for_each(|number| self.kill(number));
    }
}
