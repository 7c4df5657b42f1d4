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

/// Returns whether other relays must hear what is written to the store.
fn is_one_of_several(config: &crate::config::Config) -> bool {
    #[cfg(feature = "cluster")]
    let is_member = crate::cluster::files::is_member(&config.cluster.directory);
    #[cfg(not(feature = "cluster"))]
    let is_member = false;
    is_member || config.cluster.is_on()
}

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
