//! Servers of NATS on loopback, each with an address of its own, so that no port can be taken.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use pixelward_replica::nats::{Access, Nats, Plan, STREAM, Secret, Server, fresh_key};

use super::until;
use crate::support::Folder;

/// The servers of a cluster.
pub(super) struct Servers {
    plan: Plan,
    relays: Vec<Secret>,
    operator: Secret,
    monitor: Secret,
    running: Vec<Option<Running>>,
    folder: Folder,
}

/// Addresses for servers that nobody else has.
pub(super) fn addresses(count: usize) -> Vec<String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let cluster = COUNT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    let network = format!("127.{}.{}", 64 + process % 128, (process / 128 + cluster) % 256);
    (1..=count).map(|number| format!("{network}.{number}")).collect()
}

/// An address for other relays that nobody else has: the port is none that the system gives away.
pub(super) fn peer() -> String {
    format!("{}:2531", addresses(1).concat())
}

/// A server that runs, over its configuration.
pub(super) struct Running(Child);

impl Running {
    pub(super) fn start(configuration: &Path, log: &Path) -> Running {
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(program());
        Running(command.arg("-c").arg(configuration).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    /// One that runs in the folder with its files.
    pub(super) fn within(folder: &Path) -> Running {
        let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
        let mut command = Command::new(program());
        command.args(["-c", "nats.conf"]).current_dir(folder).stdout(Stdio::null()).stderr(log);
        Running(command.spawn().unwrap())
    }
}

impl Running {
    pub(super) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program that `make test-packages` installed.
pub(super) fn program() -> PathBuf {
    let target = std::env::current_exe().unwrap();
    let target = target.ancestors().find(|folder| folder.join("tmp/nats").exists());
    let target = target.expect("nats-server is missing: run make test-packages");
    target.join("tmp/nats/bin/nats-server")
}

impl Servers {
    pub(super) fn start(count: usize, syncs: bool) -> Servers {
        let folder = Folder::new();
        let servers = addresses(count)
            .into_iter()
            .enumerate()
            .map(|(number, address)| Server {
                name: format!("server{number}"),
                clients: format!("{address}:4222"),
                peers: format!("{address}:6222"),
                directory: folder.0.join(format!("server{number}")),
                tls: None,
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
        let file = |ending: &str| self.folder.0.join(format!("{name}.{ending}"));
        self.running[number] = Some(Running::start(&file("conf"), &file("log")));
    }

    pub(super) fn kill(&mut self, number: usize) {
        self.running[number] = None;
    }

    /// The folder of a server's data.
    pub(super) fn folder(&self, number: usize) -> &Path {
        &self.plan.servers[number].directory
    }

    /// Has a server lead, so that messages are read there, if it can within some seconds.
    pub(super) fn prefer(&self, number: usize, runtime: &tokio::runtime::Runtime) {
        let operator = runtime.block_on(Nats::connect(&self.operator_access(), &[0; 16])).unwrap();
        let name = &self.plan.servers[number].name;
        let wanted = format!("{{\"placement\":{{\"preferred\":\"{name}\"}}}}");
        for _ in 0..10 {
            let info = runtime.block_on(operator.ask(&format!("STREAM.INFO.{STREAM}"), ""));
            if info.is_ok_and(|info| info.contains(&format!("\"leader\":\"{name}\""))) {
                return;
            }
            // While there is no leader, nobody can step down.
            let step_down = format!("STREAM.LEADER.STEPDOWN.{STREAM}");
            let _ = runtime.block_on(operator.ask(&step_down, &wanted));
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
        println!("server {number} does not lead");
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
