//! `pixelward connector`: what writes choices to sending services, from the command line.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{ConfigPath, counted};
use crate::config::Config;
use crate::web::connector::socket::{Answer, Request, ask};
use crate::web::connector::view::{Action, Standing, Walk};

type Failure = Box<dyn std::error::Error>;

/// Look after what writes choices to sending services (docs/connectors.md)
///
/// The commands ask the running relay.
#[derive(Args, Debug)]
pub struct Connector {
    #[command(flatten)]
    config: ConfigPath,
    /// The controller [default: policy.controller of the configuration; for status, all]
    #[arg(long, value_name = "NAME", global = true)]
    pub controller: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show how connectors stand; of one, with what its last comparison or dry run found
    Status {
        /// The connector
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// List people of whom the service could not be told, and why
    DeadLetters {
        /// The connector
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Try dead letters again, and go on at once if the connector stopped or waits
    Retry {
        /// The connector
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Write everybody's choice, as before the first use; `status` shows how far it has come
    Sync {
        /// The connector
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Read back what the service has for everybody, and report differences
    Compare {
        /// The connector
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Say what would be written for everybody, and send nothing
    DryRun {
        /// The connector
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Print the description of a service that comes with the program, as a start for a service_file
    Describe {
        /// The service
        #[arg(value_name = "SERVICE")]
        service: String,
    },
    /// Give up a sync, comparison or dry run
    Cancel {
        /// The connector
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Runs the command.
///
/// # Errors
///
/// When the configuration is invalid, no relay with connectors is running, or it refuses.
pub fn run(command: &Connector) -> Result<ExitCode, Failure> {
    if let Command::Describe { service } = &command.command {
        write!(std::io::stdout().lock(), "{}", crate::web::connector::named(service)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let config = Config::load(&command.config.path)?;
    let controller = || command.controller.clone().unwrap_or_else(|| config.policy.controller.clone());
    let mut out = std::io::stdout().lock();
    let act = |name: &str, action: Action| {
        asked(&config, &Request::Act { controller: controller(), name: name.to_owned(), action })
    };
    let answer = match &command.command {
        Command::Status { name: None } => asked(&config, &Request::Status(command.controller.clone()))?,
        Command::Status { name: Some(name) } => {
            asked(&config, &Request::Show { controller: controller(), name: name.clone() })?
        }
        Command::DeadLetters { name } => return dead_letters(&config, &controller(), name, command.json),
        Command::Retry { name } => act(name, Action::Retry)?,
        Command::Sync { name } => act(name, Action::Sync)?,
        Command::Compare { name } => act(name, Action::Compare)?,
        Command::DryRun { name } => act(name, Action::DryRun)?,
        Command::Cancel { name } => act(name, Action::Cancel)?,
        // Answered above, without a relay.
        Command::Describe { .. } => return Ok(ExitCode::SUCCESS),
    };
    let standings = match answer {
        Answer::Connectors(all) => all,
        Answer::Connector(one) => vec![*one],
        Answer::DeadLetters(_) | Answer::Error(_) => return Err("the relay sent an unexpected answer".into()),
    };
    if command.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&standings)?)?;
    } else {
        let shown: Vec<String> = standings.iter().map(shown).collect();
        write!(out, "{}", shown.join("\n"))?;
    }
    let is_well = standings.iter().all(|one| one.stopped.is_none());
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn asked(config: &Config, request: &Request) -> Result<Answer, Failure> {
    match ask(&config.data_directory, request)? {
        None => Err("no relay with connectors is running here: start it first".into()),
        Some(Answer::Error(error)) => Err(error.into()),
        Some(answer) => Ok(answer),
    }
}

/// Lists all dead letters, page by page.
fn dead_letters(config: &Config, controller: &str, name: &str, json: bool) -> Result<ExitCode, Failure> {
    let mut out = std::io::stdout().lock();
    let mut cursor = None;
    loop {
        let request =
            Request::DeadLetters { controller: controller.to_owned(), name: name.to_owned(), cursor };
        let Answer::DeadLetters(page) = asked(config, &request)? else {
            return Err("the relay sent an unexpected answer".into());
        };
        for letter in &page.dead_letters {
            if json {
                writeln!(out, "{}", serde_json::to_string(letter)?)?;
                continue;
            }
            let named = letter.external_id.as_deref().unwrap_or("without external_id");
            let status = match letter.status {
                0 => String::new(),
                status => format!(" ({status})"),
            };
            writeln!(out, "{}  {}{status}  since {}  {named}", letter.person, letter.reason, letter.since)?;
        }
        cursor = page.next;
        if cursor.is_none() {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn shown(standing: &Standing) -> String {
    let mut lines = vec![format!("{} of {}: {}", standing.name, standing.controller, standing.service)];
    let mut line = |name: &str, text: String| lines.push(format!("  {:<14}{text}", format!("{name}:")));
    line("Reached at", standing.base_url.clone());
    let names = if standing.has_resolver { "from the resolver" } else { "from external_id" };
    line("Names", format!("{names}; it takes {}", standing.takes));
    line(
        "State",
        match (&standing.stopped, standing.paused) {
            (Some(why), _) => format!("stopped: {why}. Nothing is lost; correct it, then retry"),
            (None, true) => "paused: nothing is sent, and changes wait".to_owned(),
            (None, false) => "works".to_owned(),
        },
    );
    let waiting = counted(standing.waiting, "change", "changes");
    line("Waiting", format!("{waiting}; told up to record {}", standing.told));
    line("Since start", tallied(&standing.results));
    let dead: u64 = standing.dead_letters.values().sum::<u64>() + standing.dead_letters_left_out;
    let dead = match dead {
        0 => "none".to_owned(),
        dead => format!("{} ({})", counted(dead, "person", "people"), tallied(&standing.dead_letters)),
    };
    line("Dead letters", dead);
    if let Some(success) = &standing.last_success {
        line("Last success", success.clone());
    }
    if let Some(failure) = &standing.last_failure {
        line("Last failure", failure.clone());
    }
    if let Some(walk) = &standing.walk {
        walked(walk, &mut lines);
    }
    lines.join("\n") + "\n"
}

fn walked(walk: &Walk, lines: &mut Vec<String>) {
    let how_far = match &walk.finished_at {
        Some(at) => format!("finished {at}"),
        None => format!("under way since {}", walk.started_at),
    };
    let name = walk.errand.name().replace('_', "-");
    let people = counted(walk.people, "person", "people");
    lines.push(format!("  {:<14}{how_far}: {people}; {}", format!("{name}:"), tallied(&walk.results)));
    for difference in &walk.differences {
        let named = difference.external_id.as_deref().unwrap_or("without external_id");
        lines.push(format!(
            "    {}  {} here, {} there  {named}",
            difference.person, difference.choice, difference.found
        ));
    }
    for request in &walk.requests {
        let body = request.body.as_ref().map(|body| format!(" {body}")).unwrap_or_default();
        lines.push(format!("    {} {}{body}", request.method, request.path));
    }
}

fn tallied(counts: &std::collections::BTreeMap<String, u64>) -> String {
    let shown: Vec<String> = counts
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(name, count)| format!("{count} {}", name.replace('_', " ")))
        .collect();
    if shown.is_empty() { "nothing yet".to_owned() } else { shown.join(", ") }
}
