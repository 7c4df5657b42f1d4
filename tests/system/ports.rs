//! What `check` finds out before the relay runs, and that a relay without all of its ports is not ready.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::{Folder, NextHop, Relay, configuration, program};

/// The configuration of a test with other lines in place of some.
fn changed(folder: &Folder, hop: u16, listener: &str, changes: &[(&str, &str)]) -> std::path::PathBuf {
    let path = configuration(folder, hop, listener, "", "");
    let mut text = std::fs::read_to_string(&path).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{from} in {text}");
        text = text.replace(from, to);
    }
    std::fs::write(&path, text).unwrap();
    path
}

fn check(path: &Path) -> (bool, String) {
    let output = program().args(["check", "--config"]).arg(path).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn check_opens_each_port_and_names_the_one_that_is_taken() {
    let hop = NextHop::start();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("address = \"{}\"", taken.local_addr().unwrap());
    for (from, name) in [
        ("[api]\naddress = \"\"", "api.address"),
        ("[private]\naddress = \"\"", "private.address"),
        ("[[listener]]\naddress = \"127.0.0.1:0\"", "listener default"),
    ] {
        let folder = Folder::new();
        let section = from.split('\n').next().unwrap();
        let path = changed(&folder, hop.port, "", &[(from, &format!("{section}\n{address}"))]);
        let (is_good, said) = check(&path);
        let wanted = format!("WRONG   {name}: {} cannot be opened", taken.local_addr().unwrap());
        assert!(!is_good && said.contains(&wanted), "{wanted} in {said}");
    }
    let folder = Folder::new();
    let (is_good, said) = check(&changed(&folder, hop.port, "", &[]));
    assert!(is_good && said.contains("ok      listener default: 127.0.0.1:0 can be opened"), "{said}");
}

#[test]
fn a_relay_that_cannot_open_its_api_is_not_ready() {
    let hop = NextHop::start();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = Folder::new();
    let to = format!("[api]\naddress = \"{}\"", taken.local_addr().unwrap());
    let path = changed(&folder, hop.port, "", &[("[api]\naddress = \"\"", &to)]);
    let output = program().args(["run", "--config"]).arg(path).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && !said.contains("is ready"), "{said}");
    assert!(
        said.contains(&format!("api.address: {} is not available", taken.local_addr().unwrap())),
        "{said}"
    );
}

#[test]
fn relative_paths_start_at_the_configuration_file() {
    let hop = NextHop::start();
    let folder = Folder::new();
    let data = format!("data_directory = {:?}", folder.0.join("data"));
    let port = format!("port = {}", hop.port);
    let with_login = format!("{port}\ncredentials_file = \"login\"");
    changed(&folder, hop.port, "", &[(&data, "data_directory = \"kept\""), (&port, &with_login)]);
    // The file is not there yet: the error names where it was looked for.
    let (is_good, said) = check(&folder.0.join("config.toml"));
    assert!(!is_good && said.contains(&folder.0.join("login").display().to_string()), "{said}");
    let login = folder.file("login", "relay\nopen sesame\n");
    std::fs::set_permissions(login, std::fs::Permissions::from_mode(0o600)).unwrap();
    let relay = Relay::in_folder(folder);
    assert!(relay.folder.0.join("kept/consent").is_dir());
}

#[test]
fn check_looks_at_the_dates_names_and_chain_of_a_certificate() {
    let hop = NextHop::start();
    let check = |names: &[&str], expired: bool| {
        let folder = Folder::new();
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = rcgen::CertificateParams::new(names).unwrap();
        if expired {
            parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
            parameters.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        folder.file("chain.pem", &parameters.self_signed(&key).unwrap().pem());
        let path = folder.file("key.pem", &key.serialize_pem());
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let listener = "tls = \"starttls\"\ncertificate = \"chain.pem\"\nkey = \"key.pem\"";
        let relay = ("[relay]\n", "[relay]\nhost_name = \"relay.sender.example\"\n");
        check(&changed(&folder, hop.port, listener, &[relay]))
    };
    for name in ["relay.sender.example", "*.sender.example"] {
        let (is_good, said) = check(&[name], false);
        assert!(is_good && !said.contains("the certificate of"), "{said}");
    }
    let (is_good, said) = check(&["other.example"], false);
    let wanted = "the certificate of listener default does not name relay.sender.example, but: other.example";
    assert!(is_good && said.contains(wanted), "{said}");
    let (is_good, said) = check(&["relay.sender.example"], true);
    assert!(!is_good && said.contains("WRONG   the certificate of listener default expired"), "{said}");
}
