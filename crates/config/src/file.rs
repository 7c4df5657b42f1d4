//! The file: where it is looked for, and what is said of one that cannot be used.

use std::path::{Path, PathBuf};

use super::reader::Problem;

/// A configuration with what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}{}", path.display(), remedy(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Things in it are wrong.
    #[error("{}", listed(path, problems))]
    Wrong {
        /// The file.
        path: PathBuf,
        /// All of them.
        problems: Vec<Problem>,
    },
}

/// What to do about a file that cannot be read.
fn remedy(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::NotFound => {
            ". Name the file with --config; `pixelward init` makes one for the relay"
        }
        std::io::ErrorKind::PermissionDenied => ". Run this as root or as the program's user",
        _ => "",
    }
}

/// Where packages have the configuration.
const PACKAGED: &str = "/etc/pixelward";

/// The file that is meant where none is named: the one of the working directory, or else the package's.
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
