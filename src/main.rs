//! Arguments in, exit code out.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pixelward::cli;

/// An SMTP relay that enforces tracking consent inline.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(cli::run::Run),
    Rewrite(cli::rewrite::Rewrite),
    Consent(cli::consent::Consent),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.command {
        Command::Run(command) => cli::run::run(command),
        Command::Consent(command) => cli::consent::run(command),
        Command::Rewrite(command) => cli::rewrite::run(command),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("pixelward: {error}");
            ExitCode::FAILURE
        }
    }
}
