//! `pixelward-console --check`: what would keep the console from working is said before it starts.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::Folder;

/// What the check says of a console at this address, and whether it is content.
fn check(folder: &Folder, address: &str) -> (bool, String) {
    let (data, token) = (folder.0.join("console"), folder.0.join("token"));
    let config = folder.file(
        "console.toml",
        &format!(
            "data_directory = {data:?}\n[server]\naddress = \"{address}\"\n[api]\nurl = \
             \"http://127.0.0.1:8026\"\ntoken_file = {token:?}\n"
        ),
    );
    let output = Command::new(env!("CARGO_BIN_EXE_pixelward-console"))
        .args(["--check", "--config"])
        .arg(config)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn the_token_must_be_there_and_private_and_the_address_on_this_machine() {
    let folder = Folder::new();
    let refused = |words: &str| {
        let (is_good, said) = check(&folder, "127.0.0.1:0");
        assert!(!is_good && said.contains(words), "{words}: {said}");
    };
    refused("No such file");
    let token = folder.file("token", "pw_secret\n");
    set_mode(&token, 0o644);
    refused("others may read it; run chmod 600 on it");
    set_mode(&token, 0o600);
    let (is_good, said) = check(&folder, "127.0.0.1:0");
    assert!(is_good && said.contains("is valid, and the token is there"), "{said}");
    let (is_good, said) = check(&folder, "192.0.2.1:8027");
    assert!(!is_good && said.contains("server.address is not a loopback address"), "{said}");
    assert!(!said.contains("pw_secret"), "{said}");
    folder.file("token", "\n");
    refused("there is no token in it");
}
