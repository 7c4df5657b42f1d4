//! `pixelward console-link`: signs in to the console without single sign-on.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::config::console::Console;
use crate::consent::Timestamp;
use crate::net::link;

/// Print a one-time link to the console
///
/// Whoever opens it has all roles for all controllers. It works only on the console's machine, and only
/// without single sign-on. A new link replaces the previous one.
#[derive(Args, Debug)]
pub struct ConsoleLink {
    /// Configuration file of the console [default: console.toml here, or else in /etc/pixelward]
    #[arg(
        long,
        short,
        default_value_os_t = crate::config::usual("console.toml"),
        hide_default_value = true,
        value_name = "FILE"
    )]
    pub config: PathBuf,
}

/// Runs the command.
///
/// # Errors
///
/// When the configuration is invalid, single sign-on is configured, or the link cannot be written.
pub fn run(command: &ConsoleLink) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let config = Console::load(&command.config)?;
    if config.saml.is_some() {
        return Err("the console uses single sign-on ([saml]) and accepts no links; sign in with that".into());
    }
    let secret = link::make(&config.data_directory, Timestamp::now(), config.link_lifetime)
        .map_err(|error| format!("{}: {error}", config.data_directory.display()))?;
    let minutes = super::counted(config.link_lifetime.as_secs().div_ceil(60), "minute", "minutes");
    eprintln!("It works once, within {minutes}.");
    writeln!(std::io::stdout().lock(), "{}/login/link?secret={secret}", config.base())?;
    Ok(ExitCode::SUCCESS)
}
