//! A milter that signs, in a root of its own.

use super::{Daemon, Root, port, wait_for_port};

/// OpenDKIM, which signs whatever comes from shop.example.
pub struct OpenDkim {
    daemon: Daemon,
    root: Root,
    port: u16,
}

impl OpenDkim {
    pub fn start() -> OpenDkim {
        let root = Root::of("opendkim", &[]);
        let port = port();
        let key =
            rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        root.file("etc/mail.private", &key.serialize_pem());
        root.file(
            "etc/opendkim.conf",
            &format!(
                "Socket inet:{port}@127.0.0.1\nMode s\nDomain shop.example\nSelector mail\nKeyFile \
                 /etc/mail.private\n\
                 Canonicalization relaxed/relaxed\nRequireSafeKeys no\nBackground no\nInternalHosts \
                 0.0.0.0/0\n"
            ),
        );
        let daemon =
            Daemon::start(root.command("/usr/sbin/opendkim").args(["-f", "-x", "/etc/opendkim.conf"]));
        wait_for_port(port, String::new);
        OpenDkim { daemon, root, port }
    }

    /// As Postfix names it.
    pub fn milter(&self) -> String {
        format!("inet:127.0.0.1:{}", self.port)
    }
}

/// What OpenDKIM says of the first signature of each message, of whose key this is the record.
pub fn verifies(name: &str, record: &str, messages: &[std::path::PathBuf]) -> String {
    let root = Root::of("opendkim", &[]);
    root.file("etc/keys", &format!("{name} {record}\n"));
    root.file("etc/opendkim.conf", "Mode v\nTestPublicKeys /etc/keys\nSyslog no\n");
    let mut names = Vec::new();
    for path in messages {
        let name = path.file_name().unwrap().to_str().unwrap();
        std::fs::copy(path, root.path(&format!("tmp/{name}"))).unwrap();
        names.push(format!("/tmp/{name}"));
    }
    let output = root
        .command("/usr/sbin/opendkim")
        .args(["-x", "/etc/opendkim.conf", "-t", &names.join(",")])
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}
