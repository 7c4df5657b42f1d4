//! `pixelward passwd`: prints a line for the users_file of a listener.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::server::users;

/// Print the line of an account for the users_file of a listener
///
/// The password is read from standard input: its first line or, from a terminal, twice and without echo. Add
/// the line to the file and send SIGHUP to the relay.
#[derive(Args, Debug)]
pub struct Passwd {
    /// The login
    #[arg(value_name = "LOGIN")]
    pub login: String,
}

/// Runs the command.
///
/// # Errors
///
/// When the login is invalid, no password can be read, or the two entries differ.
pub fn run(command: &Passwd) -> Result<ExitCode, Box<dyn std::error::Error>> {
    users::check_login(&command.login)?;
    let input = std::io::stdin();
    let password = if input.is_terminal() {
        let first = typed("Password: ")?;
        if typed("Once more: ")? != first {
            return Err("the two passwords differ".into());
        }
        first
    } else {
        line()?
    };
    println!("{}", users::line(&command.login, password.as_bytes())?);
    Ok(ExitCode::SUCCESS)
}

/// Reads a password from the terminal without echo.
fn typed(prompt: &str) -> std::io::Result<String> {
    let input = std::io::stdin();
    let before = tcgetattr(&input)?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    // What is typed as soon as the prompt appears must be neither echoed nor flushed.
    tcsetattr(&input, OptionalActions::Flush, &hidden)?;
    eprint!("{prompt}");
    std::io::stderr().flush()?;
    let typed = line();
    tcsetattr(&input, OptionalActions::Flush, &before)?;
    eprintln!();
    typed
}

fn line() -> std::io::Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let end = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(end);
    Ok(line)
}
