//! The command line: one file per subcommand.

pub mod audit;
pub mod check;
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

/// Returns where a document is found: among those of the package if it is installed, else in the project.
fn document(name: &str) -> String {
    let installed = std::path::Path::new("/usr/share/doc/pixelward/docs").join(name);
    if installed.exists() { installed.display().to_string() } else { format!("docs/{name}") }
}
