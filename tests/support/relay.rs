//! The relay as a child process, with its configuration, its log and what it uses of the machine. Once it has ended,
//! neither its files nor its log may show a recipient's address.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::Folder;
use super::waiting::{Lines, ended};

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
