//! `check` by root judges the store's files as the user that the service runs as. Needs root.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use crate::support::{Folder, NextHop, configuration, program};

/// What `check` says as this user.
fn check(folder: &Folder, user: &str) -> (bool, String) {
    let output = program()
        .args(["check", "--user", user, "--config"])
        .arg(folder.0.join("config.toml"))
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

fn open_to_all(path: &Path) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn what_the_service_cannot_write_is_wrong_although_root_can() {
    let (hop, folder) = (NextHop::start(), Folder::new());
    configuration(&folder, hop.port, "", "", "");
    open_to_all(&folder.0);
    let data = folder.0.join("data");
    let advice = |file: &Path| {
        format!(
            "WRONG   {} cannot be used by nobody, as whom the service runs. Run chown -R nobody: {}",
            file.display(),
            data.display()
        )
    };
    // The folder is not there yet, and its parent belongs to root.
    let (is_good, said) = check(&folder, "nobody");
    assert!(!is_good && said.contains(&advice(&folder.0)), "{said}");
    assert!(!data.exists(), "check made {}", data.display());
    // Root's own files in a folder of the service.
    std::fs::create_dir_all(data.join("consent")).unwrap();
    let file = data.join("consent/journal");
    std::fs::write(&file, "").unwrap();
    for path in [&data, &data.join("consent")] {
        chown(path, Some(65_534), None).unwrap();
    }
    let (is_good, said) = check(&folder, "nobody");
    assert!(!is_good && said.contains(&advice(&file)), "{said}");
    chown(&file, Some(65_534), None).unwrap();
    let (_, said) = check(&folder, "nobody");
    assert!(said.contains("can be used by nobody, as whom the service runs"), "{said}");
    // A folder on the way that it cannot pass.
    std::fs::set_permissions(&folder.0, PermissionsExt::from_mode(0o700)).unwrap();
    let (is_good, said) = check(&folder, "nobody");
    assert!(!is_good && said.contains(&advice(&folder.0)), "{said}");
    let (is_good, said) = check(&folder, "no-such-user");
    assert!(!is_good && said.contains("there is no user no-such-user"), "{said}");
}
