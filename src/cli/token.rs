//! `pixelward token`: manages API tokens.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::ConfigPath;
use crate::config::Config;
use crate::consent::{Controller, Timestamp};
use crate::web::api_token::{self, Scope, Token};

/// Create, list and revoke tokens for the API; the relay notices changes at once
#[derive(Args, Debug)]
pub struct Tokens {
    #[command(flatten)]
    config: ConfigPath,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a token and print it once
    New {
        /// A name, such as that of the program that will use it
        #[arg(value_name = "NAME")]
        name: String,
        /// The scopes, separated by commas: consent:read, consent:write, consent:erase, consent:export,
        /// policy:read, statistics:read, metrics, evidence:read, delivery:read, audit:read, audit:write
        #[arg(long, value_delimiter = ',', required = true, value_name = "SCOPE")]
        scope: Vec<Scope>,
        /// The controller, or "all"
        #[arg(long, value_name = "NAME")]
        controller: String,
        /// When it expires, such as 2027-06-30, or in how many days, such as 90d
        #[arg(long, value_name = "TIME")]
        expires: String,
    },
    /// List all tokens: id, name, scopes, controller, expiry, day of last use
    List,
    /// Revoke a token now
    Revoke {
        /// The token's id
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// Runs the command.
///
/// # Errors
///
/// When the configuration is invalid, the token file cannot be used, or there is no such token.
pub fn run(command: &Tokens) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let config = Config::load(&command.config.path)?;
    let path = &config.api.tokens_file;
    let mut out = std::io::stdout().lock();
    match &command.command {
        Command::New { name, scope, controller, expires } => {
            let now = Timestamp::now();
            let controller = match controller.as_str() {
                "all" => None,
                name => {
                    let chosen = config.policy.rulebook.named(Some(name), None)?;
                    Some(chosen.controller.name.clone())
                }
            };
            let made = made(name, scope, controller.as_ref(), now, expires)?;
            api_token::update(path, |all| {
                all.push(made.token.clone());
                Ok(())
            })?;
            eprintln!("This token is shown once and not stored. Its id is {}.", made.token.id);
            writeln!(out, "{}", made.secret)?;
        }
        Command::List => {
            let used = api_token::last_used(path);
            for token in api_token::load(path)? {
                writeln!(out, "{}", line(&token, used.get(&token.id).map(String::as_str)))?;
            }
        }
        Command::Revoke { id } => {
            api_token::update(path, |all| {
                let found = all.iter_mut().find(|token| token.id == *id);
                let found = found.ok_or_else(|| format!("unknown token id {id:?}"))?;
                found.revoked.get_or_insert_with(|| Timestamp::now().to_string());
                Ok(())
            })?;
            writeln!(out, "The token {id} has been revoked.")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn made(
    name: &str,
    scopes: &[Scope],
    controller: Option<&Controller>,
    now: Timestamp,
    expires: &str,
) -> Result<api_token::Made, String> {
    let end = match expires.strip_suffix('d').map(str::parse::<u16>) {
        Some(Ok(days)) => now.plus_days(i64::from(days)),
        _ => Timestamp::parse(expires).map_err(|error| format!("--expires: {error}, or 90d"))?,
    };
    Token::make(name, scopes, controller, now, end)
}

fn line(token: &Token, used: Option<&str>) -> String {
    let end = match &token.revoked {
        Some(revoked) => format!("revoked {revoked}"),
        None => format!("ends {}", token.expires),
    };
    let used = used.map_or("never used".to_owned(), |day| format!("last used {day}"));
    let controller = token.controller.as_deref().unwrap_or("all");
    format!(
        "{}  {}  {}  controller {controller}  {end}  {used}",
        token.id,
        token.name,
        token.scopes.join(",")
    )
}
