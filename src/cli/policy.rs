//! `pixelward policy`: why a copy is treated as it is, and what in the configuration deserves a second look.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::ConfigPath;
use crate::config::Config;
use crate::consent::socket::{Client, Request, Response, Shown, answer};
use crate::consent::standing::JOINED;
use crate::consent::view::Purpose as ShownPurpose;
use crate::consent::{Change, Controller, Standing, State, Store, Timestamp};
use crate::language::Language;
use crate::plan::explain;
use crate::policy::lint::lint;

const CONFIG: &str = "The configuration. Default: config.toml here, or else in /etc/pixelward";

/// Explain what is decided for a person, and look for what was declared and has no effect.
///
/// What is said is which policy is applied and why; whether that satisfies the law is for people to judge.
#[derive(Args, Debug)]
#[command(mut_arg("config", |arg| arg.help(CONFIG)))]
pub struct Policy {
    #[command(flatten)]
    config: ConfigPath,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say in plain sentences what is decided for a person, and why.
    ///
    /// Where the relay runs, the command asks it what the person said; else it opens the store itself.
    Explain {
        /// On whose behalf the mail is sent. Default: the controller of mail that fits no other.
        #[arg(long, value_name = "NAME")]
        controller: Option<String>,
        /// Which kind of mail it is. Default: mail that no mailstream fits.
        #[arg(long, value_name = "NAME")]
        mailstream: Option<String>,
        /// The person's mail address.
        #[arg(long, value_name = "ADDRESS")]
        recipient: String,
        /// By the rules of this moment, such as 2026-07-14, and what is known now. Default: now.
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
    },
    /// Warn about what was declared and will not do what it looks like. Warnings do not fail the command.
    Lint,
}

/// Runs the command.
///
/// # Errors
///
/// When the configuration is wrong, there is no such controller or mailstream, or the moment is none.
pub fn run(policy: &Policy) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let config = Config::load(&policy.config.path)?;
    let lines = match &policy.command {
        Command::Explain { controller, mailstream, recipient, at } => {
            let now = match at {
                Some(text) => Timestamp::parse(text)?,
                None => Timestamp::now(),
            };
            explained(&config, controller.as_deref(), mailstream.as_deref(), recipient, now)?
        }
        Command::Lint => linted(&config),
    };
    let mut out = std::io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn linted(config: &Config) -> Vec<String> {
    let found = lint(&config.policy.rulebook, Timestamp::now());
    if found.is_empty() { vec!["Nothing to warn about.".to_owned()] } else { found }
}

fn explained(
    config: &Config,
    controller: Option<&str>,
    mailstream: Option<&str>,
    recipient: &str,
    now: Timestamp,
) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let rulebook = &config.policy.rulebook;
    let chosen = rulebook.named(controller, mailstream)?;
    let asked = standing(config, &chosen.controller.name, recipient);
    let (_, mut said) =
        explain::explained(rulebook, chosen, asked.as_ref().ok(), recipient, now, Language::En);
    if let Err(error) = &asked {
        said.insert(0, format!("The consent store cannot be asked: {error}"));
    }
    Ok(said)
}

/// What the person said, from the running relay or from the store itself.
fn standing(
    config: &Config,
    controller: &Controller,
    address: &str,
) -> Result<Standing, Box<dyn std::error::Error>> {
    let request = Request::Get { controller: controller.as_str().to_owned(), address: address.to_owned() };
    let response = match Client::connect(&config.data_directory) {
        Some(mut client) => client.ask(&request)?,
        None => answer(&Store::open(&super::run::store_settings(config))?, request),
    };
    match response {
        Response::Person(shown) => Ok(read_back(&shown, controller)?),
        Response::Error(error) => Err(error.into()),
        Response::Rows(_)
        | Response::Verified(_)
        | Response::Erased(_)
        | Response::Export(_)
        | Response::MayAsk { .. }
        | Response::Differing(_) => {
            Err("the relay answered something else; is it of the same version?".into())
        }
    }
}

/// The standing that was shown.
fn read_back(shown: &Shown, controller: &Controller) -> Result<Standing, String> {
    let mut standing = Standing::unknown();
    let mut newest = Timestamp(0);
    for purpose in &shown.standing.purposes {
        let change = change(shown, purpose, controller)?;
        newest = newest.max(change.event_at);
        let _ = standing.merge(&change, purpose.record, true);
    }
    // All that are named count, so they are named at one moment.
    for name in shown.standing.jurisdiction.iter().flat_map(|names| names.split(JOINED)) {
        let change = Change::new(controller.clone(), Vec::new(), State::NeverAsked, newest);
        let _ = standing.merge(&Change { jurisdiction: Some(name.to_owned()), ..change }, 0, true);
    }
    Ok(standing)
}

fn change(shown: &Shown, said: &ShownPurpose, controller: &Controller) -> Result<Change, String> {
    let time = |text: &Option<String>| text.as_deref().map(Timestamp::parse).transpose();
    let purpose =
        said.purpose.parse().map_err(|error: crate::policy::purpose::UnknownPurpose| error.to_string())?;
    let state = State::named(&said.state).ok_or_else(|| format!("unknown state {:?}", said.state))?;
    let event_at = Timestamp::parse(&said.event_time)?;
    Ok(Change {
        expires: time(&said.expires)?,
        no_track: Some(shown.standing.no_track),
        collected_at: time(&shown.collected_at)?,
        notice_sent_at: time(&shown.notice_sent_at)?,
        ..Change::new(controller.clone(), vec![purpose], state, event_at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::view;
    use crate::policy::Purpose;

    #[test]
    fn what_was_shown_reads_back_as_it_stood() {
        let controller: Controller = "shop".parse().unwrap();
        let mut standing = Standing::unknown();
        let said =
            [(Purpose::CampaignPerformance, State::Granted), (Purpose::Deliverability, State::Objected)];
        for (record, (purpose, state)) in (1..).zip(said) {
            let change = Change {
                expires: (state == State::Granted).then_some(Timestamp(9000)),
                jurisdiction: Some("fr".to_owned()),
                no_track: Some(true),
                collected_at: Some(Timestamp(1000)),
                notice_sent_at: Some(Timestamp(2000)),
                ..Change::new(controller.clone(), vec![purpose], state, Timestamp(3000))
            };
            let _ = standing.merge(&change, record, true);
        }
        let shown = Shown {
            standing: view::Standing::of(&controller, &standing, Timestamp(4000)),
            collected_at: standing.collected_at.map(|time| time.to_string()),
            notice_sent_at: standing.notice_sent_at.map(|time| time.to_string()),
            history: Vec::new(),
        };
        let read = read_back(&shown, &controller).unwrap();
        assert_eq!(read, standing);
    }
}
