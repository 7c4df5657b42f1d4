//! Arguments in, exit code out.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pixelward::cli;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// An SMTP relay that enforces tracking consent inline.
///
/// It stands between a sending system and the next hop. For every message it finds what would report the
/// reader's opening, asks its own store whether each recipient agreed to that, and takes out what they did
/// not agree to.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init(cli::init::Init),
    Run(cli::run::Run),
    Check(cli::check::Check),
    Demo(cli::demo::Demo),
    Rewrite(cli::rewrite::Rewrite),
    Scan(cli::scan::Scan),
    Consent(cli::consent::Consent),
    Policy(cli::policy::Policy),
    Evidence(cli::evidence::Evidence),
    Why(cli::why::Why),
    Report(cli::report::Report),
    Postfix(cli::postfix::Postfix),
    Dkim(cli::dkim::Dkim),
    Inactive(cli::inactive::Inactive),
    Page(cli::page::Page),
    Passwd(cli::passwd::Passwd),
    Token(cli::token::Tokens),
    Connector(cli::connector::Connector),
    #[cfg(feature = "cluster")]
    Cluster(cli::cluster::Cluster),
    ConsoleLink(cli::console_link::ConsoleLink),
    Audit(cli::audit::Audit),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.command {
        Command::Init(command) => cli::init::run(command),
        Command::Run(command) => cli::run::run(command),
        Command::Check(command) => cli::check::run(command),
        Command::Demo(command) => cli::demo::run(command),
        Command::Rewrite(command) => cli::rewrite::run(command),
        Command::Scan(command) => cli::scan::run(command),
        Command::Consent(command) => cli::consent::run(command),
        Command::Policy(command) => cli::policy::run(command),
        Command::Evidence(command) => cli::evidence::run(command),
        Command::Why(command) => cli::why::run(command),
        Command::Report(command) => cli::report::run(command),
        Command::Postfix(command) => cli::postfix::run(command),
        Command::Dkim(command) => cli::dkim::run(command),
        Command::Inactive(command) => cli::inactive::run(command),
        Command::Page(command) => cli::page::run(command),
        Command::Passwd(command) => cli::passwd::run(command),
        Command::Token(command) => cli::token::run(command),
        Command::Connector(command) => cli::connector::run(command),
        #[cfg(feature = "cluster")]
        Command::Cluster(command) => cli::cluster::run(command),
        Command::ConsoleLink(command) => cli::console_link::run(command),
        Command::Audit(command) => cli::audit::run(command),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("pixelward: {error}");
            ExitCode::FAILURE
        }
    }
}
