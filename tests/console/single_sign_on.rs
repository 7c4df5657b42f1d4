//! A console that trusts an identity provider made of pysaml2.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{Browser, Console};
use crate::http::{Answer, Connection, Served};
use crate::support::{Lines, free_port};

/// Who may what at the identity provider's people: see `console/idp.py`.
pub const ROLES: &str = "[[saml.role]]\nattribute = \"groups\"\nvalue = \"viewers\"\nrole \
                         = \"viewer\"\ncontroller = \"all\"\n\
     [[saml.role]]\nattribute = \"groups\"\nvalue = \"officers\"\nrole = \"officer\"\ncontroller = \"all\"\n\
     [[saml.role]]\nattribute = \"groups\"\nvalue = \"operators\"\nrole = \"operator\"\ncontroller \
     = \"all\"\n\
     [[saml.role]]\nattribute = \"groups\"\nvalue = \"shop-officers\"\nrole = \"officer\"\ncontroller \
     = \"shop\"\n";

/// An identity provider and a console that trusts it.
pub struct Signed {
    pub served: Served,
    pub console: Console,
    pub idp_port: u16,
    pub idp: Child,
}

impl Drop for Signed {
    fn drop(&mut self) {
        let _ = self.idp.kill();
        let _ = self.idp.wait();
    }
}

/// Where `make test-packages` puts pysaml2.
fn python() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pysaml2/bin/python");
    assert!(program.exists(), "{} is missing; `make test-packages` puts it there", program.display());
    program
}

impl Signed {
    pub fn on(more: &str) -> Signed {
        Signed::beside(Served::with("burst = 100000\nrequests_per_minute = 1000000"), more)
    }

    pub fn with_mail(more: &str) -> Signed {
        let (served, _hop) = super::with_mail();
        Signed::beside(served, more)
    }

    pub fn beside(served: Served, more: &str) -> Signed {
        Signed::with_metadata(served, more, |url| format!("idp_metadata_url = \"{url}\""))
    }

    /// With lines that say where the metadata comes from, made of where the identity provider has it.
    pub fn with_metadata(served: Served, more: &str, metadata: impl FnOnce(&str) -> String) -> Signed {
        let (port, idp_port) = (free_port(), free_port());
        let folder = served.relay.folder.0.join("idp");
        std::fs::create_dir_all(&folder).unwrap();
        let base = format!("http://127.0.0.1:{port}");
        let mut idp = Command::new(python())
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/console/idp.py"))
            .arg(&folder)
            .arg(idp_port.to_string())
            .arg(format!("{base}/saml/metadata"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Lines::follow(idp.stdout.take().unwrap()).wait("the identity provider", |line| line == "ready");
        let metadata = metadata(&format!("http://127.0.0.1:{idp_port}/metadata"));
        let saml = format!("{more}[saml]\nentity_id = \"{base}/saml/metadata\"\n{metadata}\n{ROLES}");
        let console = Console::on(port, &served, &format!("public_url = \"{base}\""), &saml);
        Signed { served, console, idp_port, idp }
    }

    /// What the identity provider answers under an address.
    pub fn at_idp(&self, url: &str) -> Answer {
        let path = url
            .strip_prefix(&format!("http://127.0.0.1:{}", self.idp_port))
            .unwrap_or_else(|| panic!("{url}"));
        Connection::to(self.idp_port).ask("GET", path, &[("Connection", "close")], b"")
    }

    /// The response with which somebody comes back.
    pub fn response(&self, browser: &mut Browser, who: &str) -> String {
        let login = browser.get("/saml/login");
        let to = login.header("location").unwrap().to_owned();
        let page = self.at_idp(&format!("{to}&user={who}")).text();
        page.split("name=\"SAMLResponse\" value=\"")
            .nth(1)
            .unwrap_or_else(|| panic!("{page}"))
            .split('"')
            .next()
            .unwrap()
            .to_owned()
    }

    pub fn signed_in(&self, who: &str) -> Browser {
        let mut browser = self.console.browser();
        let response = self.response(&mut browser, who);
        let accepted = browser.send("/saml/acs", &[("SAMLResponse", &response)]);
        let to =
            accepted.header("location").unwrap_or_else(|| panic!("{:?}", self.console.log.all())).to_owned();
        assert_eq!(browser.get(&to).header("location"), Some("/"));
        browser
    }
}
