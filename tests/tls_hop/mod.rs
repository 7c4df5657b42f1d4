//! Next hops whose certificate or handshake is wrong, and certificates for them. They run in Python: a sound
//! library serves no such thing.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic
)]

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Map, Value};

use crate::support::{Folder, Relay};

/// A certificate with its key, and what it was made of.
pub struct Made {
    pub pem: String,
    pub key: KeyPair,
    parameters: CertificateParams,
}

impl Made {
    /// One with these names, changed by `edit`, signed by `issuer`, or by itself.
    pub fn new(names: &[&str], issuer: Option<&Made>, edit: impl FnOnce(&mut CertificateParams)) -> Made {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = CertificateParams::new(names.clone()).unwrap();
        let common = names.first().map_or("nobody", String::as_str);
        parameters.distinguished_name.push(DnType::CommonName, common);
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2100, 1, 1);
        edit(&mut parameters);
        let certificate = match issuer {
            None => parameters.self_signed(&key),
            Some(issuer) => parameters.signed_by(&key, &Issuer::from_params(&issuer.parameters, &issuer.key)),
        };
        Made { pem: certificate.unwrap().pem(), key, parameters }
    }

    /// An authority, changed by `edit`.
    pub fn authority(name: &str, issuer: Option<&Made>, edit: impl FnOnce(&mut CertificateParams)) -> Made {
        Made::new(&[], issuer, |parameters| {
            parameters.distinguished_name.push(DnType::CommonName, name);
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            edit(parameters);
        })
    }
}

/// A next hop, and what is to come of sending to it.
pub struct Case {
    pub name: String,
    pub host: &'static str,
    pub tls: &'static str,
    pub ca: PathBuf,
    /// What the server is told.
    pub server: Map<String, Value>,
    /// Words of the log line; `None` where the mail is delivered.
    pub fault: Option<&'static [&'static str]>,
    /// How the answer to the client begins.
    pub answer: &'static str,
}

/// Makes files with certificates and keys.
pub struct Files {
    pub folder: Folder,
    count: Cell<u32>,
}

impl Files {
    pub fn new() -> Files {
        Files { folder: Folder::new(), count: Cell::new(0) }
    }

    pub fn pem(&self, content: &str) -> PathBuf {
        self.count.set(self.count.get() + 1);
        self.folder.file(&format!("{}.pem", self.count.get()), content)
    }

    /// What openssl makes, by commands with its usual names of files; gives the folder.
    pub fn openssl(&self, commands: &[&str]) -> PathBuf {
        self.count.set(self.count.get() + 1);
        let folder = self.folder.0.join(format!("openssl-{}", self.count.get()));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
        for command in commands {
            let output = Command::new("openssl")
                .args(command.split_whitespace())
                .current_dir(&folder)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        }
        folder
    }

    /// A next hop with this chain, the key of its first certificate, trusted through `ca`; mail to it is
    /// delivered.
    pub fn case(&self, name: &str, chain: &[&Made], ca: &Made) -> Case {
        let pem: String = chain.iter().map(|item| item.pem.as_str()).collect();
        let (chain, key) = (self.pem(&pem), self.pem(&chain[0].key.serialize_pem()));
        self.case_of(name, &chain, &key, &self.pem(&ca.pem))
    }

    pub fn case_of(&self, name: &str, chain: &Path, key: &Path, ca: &Path) -> Case {
        let mut server = Map::new();
        server.insert("chain".to_owned(), chain.to_str().into());
        server.insert("key".to_owned(), key.to_str().into());
        Case {
            name: name.to_owned(),
            host: "localhost",
            tls: "required",
            ca: ca.to_owned(),
            server,
            fault: None,
            answer: "250 ",
        }
    }
}

impl Case {
    /// Mail to it is put off, and the log says these words.
    pub fn fails(mut self, words: &'static [&'static str]) -> Case {
        (self.fault, self.answer) = (Some(words), "451 4.7.5 ");
        self
    }

    pub fn answer(mut self, answer: &'static str) -> Case {
        self.answer = answer;
        self
    }

    pub fn host(mut self, host: &'static str) -> Case {
        self.host = host;
        self
    }

    /// What the server does beside.
    pub fn told(mut self, key: &str, value: impl Into<Value>) -> Case {
        self.server.insert(key.to_owned(), value.into());
        self
    }

    pub fn tls(mut self, tls: &'static str) -> Case {
        self.tls = tls;
        self
    }

    /// The domain of the senders whose mail goes there.
    pub fn sender(index: usize) -> String {
        format!("news@c{index}.shop.example")
    }
}

/// A running server with a port for each case.
pub struct Server {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    pub ports: Vec<u16>,
    _folder: Folder,
}

impl Server {
    pub fn start(cases: &[Case]) -> Server {
        let folder = Folder::new();
        let told: Vec<Value> = cases
            .iter()
            .enumerate()
            .map(|(index, case)| {
                let mut told = case.server.clone();
                told.insert("name".to_owned(), index.to_string().into());
                Value::Object(told)
            })
            .collect();
        let file = folder.file("cases.json", &Value::Array(told).to_string());
        let mut child = Command::new("python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls_hop/serve.py"))
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        let ports: Vec<u16> = serde_json::from_str(&line).unwrap();
        assert_eq!(ports.len(), cases.len());
        Server { child, orders, answers, ports, _folder: folder }
    }

    /// The commands that each was told so far, greetings aside.
    pub fn heard(&mut self) -> Vec<Vec<String>> {
        self.orders.write_all(b"tell\n").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let mut heard: HashMap<usize, Vec<String>> = serde_json::from_str(&line).unwrap();
        (0..self.ports.len()).map(|index| heard.remove(&index).unwrap()).collect()
    }

    /// A relay that sends to each of them what its senders write.
    pub fn relay(&self, cases: &[Case]) -> Relay {
        let folder = Folder::new();
        let data = folder.0.join("data");
        let mut config = format!(
            "data_directory = {data:?}\ncertificate_directory = {data:?}\n[private]\naddress \
             = \"\"\n[api]\naddress = \"\"\n[log]\nformat = \"human\"\n\
             [[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\n"
        );
        for (index, (case, port)) in cases.iter().zip(&self.ports).enumerate() {
            config.push_str(&format!(
                "[[next_hop]]\nname = \"c{index}\"\nhost = {:?}\nport = {port}\ntls = {:?}\nca_file = \
                 {:?}\ncommand_timeout_s = 2\n\
                 [[route]]\nsender_domain = \"c{index}.shop.example\"\nnext_hops = [\"c{index}\"]\n",
                case.host, case.tls, case.ca
            ));
        }
        config.push_str("[[route]]\nnext_hops = [\"c0\"]\n");
        folder.file("config.toml", &config);
        Relay::in_folder(folder)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
