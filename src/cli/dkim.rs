//! `pixelward dkim`: signing keys, their DNS records, and verification.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use super::ConfigPath;
use crate::config::Config;
use crate::sign::existing::MAX_SIGNATURES;
use crate::sign::verify::{Verdict, verify};
use crate::sign::{Algorithm, SigningKey};

/// Create signing keys, print their DNS records, and verify signatures
#[derive(Args, Debug)]
pub struct Dkim {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Keygen(Keygen),
    Dns(Dns),
    Verify(Verify),
}

/// The type of a key.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum KeyKind {
    /// RSA with 2048 bits, which every verifier supports
    Rsa,
    /// Ed25519: short, but not supported everywhere; best beside an RSA key
    Ed25519,
}

/// Create a private key, and print its DNS record and the lines for the configuration
///
/// Only the owner can read the file; an existing file is not overwritten. Publish the record first, then add
/// the lines to the configuration and send SIGHUP to the relay.
#[derive(Args, Debug)]
struct Keygen {
    /// The domain in From that it signs for
    #[arg(long, value_name = "DOMAIN")]
    domain: String,
    /// The selector: the name of its record below _domainkey of the domain
    #[arg(long, value_name = "NAME", default_value = "pixelward")]
    selector: String,
    /// Type of key
    #[arg(long, value_enum, default_value = "rsa")]
    kind: KeyKind,
    /// File for the private key
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Print the DNS records of the configured keys, as lines of a zone file
#[derive(Args, Debug)]
struct Dns {
    #[command(flatten)]
    config: ConfigPath,
}

/// Verify each DKIM signature of a message
///
/// Knows the records of the configured keys; pass others with --record. DNS is not queried. Exits with 1 if a
/// signature is invalid or there is none.
#[derive(Args, Debug)]
struct Verify {
    /// The message; standard input if omitted or "-"
    #[arg(default_value = "-", value_name = "FILE")]
    file: PathBuf,
    /// Configuration file with the keys [default: config.toml here, or else in /etc/pixelward, if it exists]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A record, as NAME=CONTENT: "px._domainkey.shop.example=v=DKIM1; k=rsa; p=…"
    #[arg(long, value_name = "NAME=CONTENT")]
    record: Vec<String>,
}

/// Runs the command.
///
/// # Errors
///
/// When a file cannot be read or written, or has unexpected contents.
pub fn run(command: &Dkim) -> Result<ExitCode, Box<dyn std::error::Error>> {
    match &command.action {
        Action::Keygen(command) => keygen(command),
        Action::Dns(command) => {
            let keys = crate::config::treatment::signing_keys(&Config::load(&command.config.path)?)?;
            if keys.is_empty() {
                return Err(
                    "the configuration has no [[dkim.key]]; `pixelward dkim keygen` creates one".into()
                );
            }
            keys.iter().for_each(|key| println!("{}", zone_line(key)));
            Ok(ExitCode::SUCCESS)
        }
        Action::Verify(command) => check(command),
    }
}

fn keygen(command: &Keygen) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let pem = SigningKey::generate(match command.kind {
        KeyKind::Rsa => Algorithm::Rsa,
        KeyKind::Ed25519 => Algorithm::Ed25519,
    });
    let key = SigningKey::read(&command.domain, &command.selector, pem.as_bytes())?;
    let named = |error: std::io::Error| format!("{}: {error}", command.out.display());
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&command.out).map_err(named)?;
    file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()).map_err(named)?;
    println!("Publish this record:\n\n{}\n\nThen add to the configuration:\n", zone_line(&key));
    println!(
        "[[dkim.key]]\ndomain = {:?}\nselector = {:?}\nkey_file = {:?}",
        key.domain, key.selector, command.out
    );
    Ok(ExitCode::SUCCESS)
}

/// Formats a record as a line of a zone file: in strings of at most 255 bytes.
pub(super) fn zone_line(key: &SigningKey) -> String {
    let record = key.record();
    let strings: Vec<String> = record
        .as_bytes()
        .chunks(250)
        .map(|chunk| format!("\"{}\"", String::from_utf8_lossy(chunk)))
        .collect();
    format!("{}. IN TXT ( {} )", key.record_name(), strings.join(" "))
}

fn check(command: &Verify) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut records = HashMap::new();
    let usual = Some(crate::config::usual("config.toml")).filter(|path| path.exists());
    if let Some(path) = command.config.clone().or(usual) {
        for key in crate::config::treatment::signing_keys(&Config::load(&path)?)? {
            records.insert(key.record_name(), key.record());
        }
    }
    for record in &command.record {
        let (name, content) = record.split_once('=').ok_or("--record: expected NAME=CONTENT")?;
        records.insert(name.to_ascii_lowercase(), content.to_owned());
    }
    let message = read(&command.file)?;
    let found = verify(&message, |name| records.get(name).cloned());
    for check in &found {
        println!("{}: {}", check.record_name, check.verdict.text());
    }
    if found.is_empty() {
        println!("the message has no signature");
    }
    if found.len() >= MAX_SIGNATURES {
        println!("only the first {MAX_SIGNATURES} signatures are verified");
    }
    let holds = !found.is_empty() && found.iter().all(|check| check.verdict == Verdict::Holds);
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Converts the line endings of a message to CRLF, as on the wire.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = match path.as_os_str() == "-" {
        true => std::io::stdin().lock().read_to_end(&mut bytes).map(|_| ()),
        false => std::fs::read(path).map(|content| bytes = content),
    };
    read.map_err(|error| format!("{}: {error}", path.display()))?;
    let mut out = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(text) => {
                out.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
                out.extend_from_slice(b"\r\n");
            }
            None => out.extend_from_slice(line),
        }
    }
    Ok(out)
}
