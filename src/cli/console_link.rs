//! `pixelward console-link`: the way into the console where there is no single sign-on.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::config::console::Console;
use crate::consent::Timestamp;
use crate::net::link;

/// Print a link to the console that counts once.
///
/// Whoever opens it has all roles for all controllers. It is for the machine that the console runs on, and only without single sign-on. A new link
/// takes the place of the one before.
#[derive(Args, Debug)]
pub struct ConsoleLink {
    /// The console's configuration. Default: console.toml here, or else in /etc/pixelward.
    #[arg(long, short, default_value_os_t = crate::config::usual("console.toml"), hide_default_value = true, value_name = "FILE")]
    pub config: PathBuf,
}

/// Runs the command.
///
/// # Errors
///
/// When the configuration is wrong, single sign-on is configured, or the link cannot be written.
pub fn run(command: &ConsoleLink) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let config = Console::load(&command.config)?;
    if config.saml.is_some() {
        return Err("the console has single sign-on ([saml]), so it takes no links; sign in with it".into());
    }
    let secret = link::make(&config.data_directory, Timestamp::now(), config.link_lifetime)
        .map_err(|error| format!("{}: {error}", config.data_directory.display()))?;
    eprintln!("It counts once, for {} minutes.", config.link_lifetime.as_secs().div_ceil(60));
    writeln!(std::io::stdout().lock(), "{}/login/link?secret={secret}", config.base())?;
    Ok(ExitCode::SUCCESS)
}
