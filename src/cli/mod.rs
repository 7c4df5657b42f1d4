//! The command line: one file per subcommand.

pub mod audit;
pub mod check;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod connector;
pub mod consent;
pub mod console_link;
pub mod demo;
pub mod dkim;
pub mod evidence;
pub mod inactive;
pub mod init;
pub mod page;
pub mod passwd;
pub mod policy;
pub mod postfix;
pub mod report;
pub mod rewrite;
pub mod run;
pub mod scan;
mod service_user;
pub mod token;
pub mod why;

use std::path::PathBuf;

/// Where the relay's configuration is.
#[derive(clap::Args, Debug)]
pub struct ConfigPath {
    /// Configuration file [default: config.toml here, or else in /etc/pixelward]
    #[arg(
        id = "config",
        long = "config",
        short = 'c',
        default_value_os_t = crate::config::usual("config.toml"),
        hide_default_value = true,
        value_name = "FILE",
        global = true
    )]
    pub path: PathBuf,
}

/// Returns whether other relays must hear what is written to the store.
fn is_one_of_several(config: &crate::config::Config) -> bool {
    #[cfg(feature = "cluster")]
    let is_member = crate::cluster::files::is_member(&config.cluster.directory);
    #[cfg(not(feature = "cluster"))]
    let is_member = false;
    is_member || config.cluster.is_on()
}

/// Says, where there are several relays, that a command speaks of what this one handled, and how all are asked: by
/// `request` of the API, among others.
fn admit_other_relays(config: &crate::config::Config, request: &str) {
    if is_one_of_several(config) {
        eprintln!(
            "This is about the mail that this relay handled; other relays share its consent and have audit records of \
             their own. The console asks all of them, and so does {request} at any of them."
        );
    }
}

/// How the API searches the audit records of all relays.
const SEARCH: &str = "POST /v1/controllers/NAME/evidence/search";
/// How the API counts over all relays.
const FIGURES: &str = "GET /v1/controllers/NAME/figures";

/// Writes a number with the noun that fits it.
fn counted(number: impl TryInto<u64>, one: &str, many: &str) -> String {
    match number.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {one}"),
        number => format!("{number} {many}"),
    }
}

/// Returns where a document is found: among those of the package if it is installed, else in the project.
fn document(name: &str) -> String {
    let installed = std::path::Path::new("/usr/share/doc/pixelward/docs").join(name);
    if installed.exists() { installed.display().to_string() } else { format!("docs/{name}") }
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn one_of_a_kind_is_not_several() {
        let said = [0, 1, 2].map(|number| counted(number, "person", "people"));
        assert_eq!(said, ["0 people", "1 person", "2 people"]);
    }
}
