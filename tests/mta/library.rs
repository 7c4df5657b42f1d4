//! Clients without a queue: what applications use to send mail themselves.

use std::process::Command;

use crate::support::{Folder, crlf};

/// A program of an application's own, which talks to the relay itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    Smtplib,
    Nodemailer,
    Curl,
    Swaks,
}

/// What it told its application.
#[derive(Debug)]
pub struct Told {
    /// Whether it called the mail sent.
    pub sent: bool,
    /// Whom it named as refused; curl names nobody.
    pub refused: Vec<String>,
    /// All that it said.
    pub text: String,
}

impl Library {
    pub fn send(self, port: u16, to: &[String], message: &str) -> Told {
        self.send_with(&[], port, to, message)
    }

    /// With arguments that swaks has and the others have not.
    pub fn send_with(self, arguments: &[&str], port: u16, to: &[String], message: &str) -> Told {
        let folder = Folder::new();
        let file = folder.file("message.eml", &crlf(message));
        let scripts = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mta");
        let international = to.iter().any(|item| !item.is_ascii());
        let port = port.to_string();
        let mut command = match self {
            Library::Smtplib => {
                let mut command = Command::new("python3");
                let options = if international { "SMTPUTF8 BODY=8BITMIME" } else { "BODY=8BITMIME" };
                command.arg(scripts.join("client.py")).arg(port).arg(file).arg(options).args(to);
                command
            }
            Library::Nodemailer => {
                let mut command = Command::new("node");
                command
                    .env("NODE_PATH", "/usr/share/nodejs")
                    .arg(scripts.join("client.js"))
                    .arg(port)
                    .arg(file)
                    .args(to);
                command
            }
            Library::Curl => {
                let mut command = Command::new("curl");
                command
                    .args(["-sS", "-v", "--max-time", "20"])
                    .arg(format!("smtp://127.0.0.1:{port}/client.example"));
                command.args(["--mail-from", "news@shop.example", "-T"]).arg(file);
                for to in to {
                    command.args(["--mail-rcpt", to]);
                }
                command
            }
            Library::Swaks => {
                // It ends the message with a line end of its own.
                let file = folder.file("message.eml", crlf(message).strip_suffix("\r\n").unwrap());
                let mut command = Command::new("swaks");
                command.args([
                    "--server",
                    "127.0.0.1",
                    "--port",
                    &port,
                    "--helo",
                    "client.example",
                    "--timeout",
                    "20",
                ]);
                command.args(["--from", "news@shop.example", "--to", &to.join(","), "--suppress-data"]);
                command.arg("--data").arg(format!("@{}", file.display()));
                command.args(arguments);
                command
            }
        };
        let output = command.env("LC_ALL", "C.UTF-8").output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        let text = format!("{out}{}", String::from_utf8_lossy(&output.stderr));
        let (sent, refused) = match self {
            Library::Smtplib | Library::Nodemailer => {
                let told: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{text}"));
                let refused =
                    told["refused"].as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned());
                (told["reply"].as_str().unwrap().starts_with("250"), refused.collect())
            }
            Library::Curl => (output.status.success(), Vec::new()),
            Library::Swaks => {
                let lines: Vec<&str> = text.lines().collect();
                let refused = lines.windows(2).filter(|window| window[1].starts_with("<** "));
                let address = |item: &[&str]| Some(item[0].split_once('<')?.1.split_once('>')?.0.to_owned());
                (output.status.success(), refused.filter_map(address).collect())
            }
        };
        Told { sent, refused, text }
    }
}
