//! The configuration file: where it is looked for, and what to report about an unusable one.

use std::path::{Path, PathBuf};

use super::reader::Problem;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}{}", path.display(), remedy(source, path))]
    Read {
        /// The file.
        path: PathBuf,
        /// The error.
        source: std::io::Error,
    },
    /// The file contains errors.
    #[error("{}", listed(path, problems))]
    Wrong {
        /// The file.
        path: PathBuf,
        /// All errors.
        problems: Vec<Problem>,
    },
}

/// Says what to do about a file that cannot be read.
fn remedy(source: &std::io::Error, path: &Path) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::NotFound if path.file_name().is_some_and(|name| name == "console.toml") => {
            ". Name the file with --config; docs/console.md has a first one for the console"
        }
        std::io::ErrorKind::NotFound => {
            ". Name the file with --config; `pixelward init` creates one for the relay"
        }
        std::io::ErrorKind::PermissionDenied => ". Run this as root or as the program's user",
        _ => "",
    }
}

/// The directory in which packages keep the configuration.
const PACKAGED: &str = "/etc/pixelward";

/// Returns the default file: the one in the working directory, or else the package's.
pub fn usual(name: &str) -> PathBuf {
    let packaged = Path::new(PACKAGED).join(name);
    match !Path::new(name).exists() && packaged.exists() {
        true => packaged,
        false => PathBuf::from(name),
    }
}

fn listed(path: &Path, problems: &[Problem]) -> String {
    let lines: Vec<String> = problems
        .iter()
        .map(|problem| match problem.file {
            Some(_) => problem.to_string(),
            None => format!("{}: {problem}", path.display()),
        })
        .collect();
    lines.join("\n")
}
