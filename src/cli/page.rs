//! `pixelward page`: previews the preference page.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};

use super::ConfigPath;
use crate::config::Config;
use crate::consent::Timestamp;
use crate::policy::{Chosen, Language, Rulebook};
use crate::web::public::preview::{State, preview};

/// The name of all views together.
const ALL: &str = "all";

/// Preview the page on which recipients choose
#[derive(Args, Debug)]
pub struct Page {
    #[command(flatten)]
    config: ConfigPath,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a view of the page to a file, and say which notice it shows
    ///
    /// Records of choices name the version of the notice and the SHA-256 of its text; --text writes that
    /// text, to be kept as proof of what was shown. Nothing on the page works: it leads nowhere.
    Preview {
        /// The controller [default: policy.controller of the configuration]
        #[arg(long, value_name = "NAME")]
        controller: Option<String>,
        /// The language: fr, en, it, de, es or nl [default: the controller's; with --state all, each of them]
        #[arg(
            long,
            value_name = "CODE",
            value_parser = PossibleValuesParser::new(Language::ALL.map(Language::code))
        )]
        lang: Option<String>,
        /// The view; "all" writes each of them
        #[arg(
            long,
            value_name = "VIEW",
            default_value = "unknown",
            value_parser = PossibleValuesParser::new(State::ALL.map(|view| view.0).into_iter().chain([ALL]))
        )]
        state: String,
        /// File for the page; with --state all, a folder, in which index.html leads to every page
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// File for the text of the notice
        #[arg(long, value_name = "FILE")]
        text: Option<PathBuf>,
    },
}

/// Runs the command.
///
/// # Errors
///
/// When the configuration or a file of the page cannot be used, or nothing can be written.
pub fn run(command: &Page) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let config = Config::load(&command.config.path)?;
    let Command::Preview { controller, lang, state, to, text } = &command.command;
    let rulebook = &config.policy.rulebook;
    let chosen = rulebook.named(controller.as_deref(), None)?;
    let language = lang.as_deref().and_then(Language::of);
    if state == ALL {
        return all(rulebook, chosen, language, to);
    }
    let view =
        State::ALL.into_iter().find(|(name, _)| name == state).map_or(State::Unknown, |(_, state)| state);
    let made = preview(rulebook, chosen, language, view, Timestamp::now())?;
    written(to, &made.page)?;
    println!("The page is in {}.", to.display());
    if let Some(path) = text {
        written(path, &made.text)?;
        println!("The text of the notice is in {}.", path.display());
    }
    println!("Notice {}, SHA-256 {}", made.version, made.hash);
    Ok(ExitCode::SUCCESS)
}

/// Writes every view, in one language or in each of them, and a page that leads to all.
fn all(
    rulebook: &Rulebook,
    chosen: Chosen<'_>,
    language: Option<Language>,
    folder: &Path,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let languages = language.map_or_else(|| Language::ALL.to_vec(), |language| vec![language]);
    let mut index = String::from(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Every view</title></head><body><h1>Every view</h1><ul>",
    );
    for (name, state) in State::ALL {
        index.push_str("<li>");
        index.push_str(name);
        for language in &languages {
            let made = preview(rulebook, chosen, Some(*language), state, Timestamp::now())?;
            let file = format!("{name}-{}.html", language.code());
            written(&folder.join(&file), &made.page)?;
            index.push_str(&format!(" <a href=\"{file}\">{}</a>", language.own_name()));
        }
        index.push_str("</li>\n");
    }
    index.push_str("</ul></body></html>\n");
    written(&folder.join("index.html"), &index)?;
    let pages = State::ALL.len() * languages.len();
    println!("{pages} pages are in {}; open index.html.", folder.display());
    Ok(ExitCode::SUCCESS)
}

fn written(path: &Path, content: &str) -> Result<(), String> {
    std::fs::write(path, content).map_err(|error| format!("{}: {error}", path.display()))
}
