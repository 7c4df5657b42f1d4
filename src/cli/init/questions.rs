//! The five questions, for what was not given on the command line.

use std::io::{BufRead, Write};
use std::net::SocketAddr;

use clap::ValueEnum;

use super::{Chosen, Init, Place, Recipe, Settings};
use crate::config::Network;
use crate::consent::Controller;
use crate::policy::Mode;

/// Collects what was given, answered or assumed.
///
/// # Errors
///
/// When an answer cannot be used, or a question without a default was not answered.
pub(super) fn settings(command: &Init, asks: bool) -> Result<Settings, String> {
    if asks {
        println!("Five questions; press Enter to accept the value in brackets.\n");
    }
    let recipe = match (command.postfix, asks) {
        (Some(recipe), _) => Some(recipe),
        (None, false) => None,
        (None, true) => chosen_recipe()?,
    };
    let comes_back = matches!(recipe, Some(Recipe::ContentFilter | Recipe::ProxyFilter));
    let next_hop = match &command.next_hop {
        Some(text) => Place::parse(text)?,
        None => {
            let back = if comes_back { BACK } else { "" };
            let question = "Which server takes the mail (name or address, with an optional port)?";
            read(asks, question, back, |text| match text {
                "" if asks => {
                    Err("mail needs a destination: a name or an address, such as smtp.example.org".to_owned())
                }
                "" => Err(NO_NEXT_HOP.to_owned()),
                text => Place::parse(text),
            })?
        }
    };
    let usual = if recipe == Some(Recipe::Lmtp) { "127.0.0.1:2526" } else { "127.0.0.1:2525" };
    let listen: SocketAddr = match command.listen {
        Some(address) => address,
        None => read(asks, "Where should the relay listen?", usual, |text| {
            text.parse()
                .map_err(|_| format!("invalid address {text:?}: use an address with a port, such as {usual}"))
        })?,
    };
    for network in &command.allow {
        network.parse::<Network>().map_err(|error| format!("--allow: {error}"))?;
    }
    if !listen.ip().is_loopback() && command.allow.is_empty() {
        return Err(format!(
            "nothing was written: other machines can reach {listen}, so say who may send with --allow, such \
             as --allow 192.0.2.0/24"
        ));
    }
    let named = |text: &str| text.parse::<Controller>().map(|_| text.to_owned());
    let controller = match &command.controller {
        Some(name) => named(name)?,
        None => read(asks, "On whose behalf is mail sent (a short name, a-z and 0-9)?", "default", named)?,
    };
    let public_url = match &command.public_url {
        Some(url) => url.clone(),
        None => {
            let question = "At which https:// address will readers find their choices (empty: not yet)?";
            read(asks, question, "", |text| Ok(text.to_owned()))?
        }
    };
    let dir = std::path::absolute(&command.dir).map_err(|error| error.to_string())?;
    let data = match &command.data {
        Some(data) => std::path::absolute(data).map_err(|error| error.to_string())?,
        None if dir == std::path::Path::new("/etc/pixelward") => "/var/lib/pixelward".into(),
        None => dir.join("data"),
    };
    Ok(Settings {
        next_hop,
        listen,
        allow: command.allow.clone(),
        controller,
        public_url: Some(public_url).filter(|url| !url.is_empty()),
        mode: if command.mode == Chosen::Observe { Mode::Observe } else { Mode::Enforce },
        recipe,
        dkim: command.dkim.as_ref().map(|domain| domain.to_ascii_lowercase()).map(|domain| {
            let key = dir.join(format!("{domain}.dkim.pem"));
            (domain, key)
        }),
        data,
    })
}

const NO_NEXT_HOP: &str =
    "name the server that takes the mail with --next-hop, such as --next-hop smtp.example.org";

/// Where a Postfix on this machine takes mail back.
const BACK: &str = "127.0.0.1:10026";

/// How often a question is repeated.
const PATIENCE: usize = 3;

fn chosen_recipe() -> Result<Option<Recipe>, String> {
    for recipe in Recipe::value_variants() {
        let value = recipe.to_possible_value();
        let meaning =
            value.as_ref().and_then(|value| value.get_help()).map(ToString::to_string).unwrap_or_default();
        println!("  {:<14}  {meaning}", recipe.name());
    }
    println!("  {:<14}  Another mail server, or an application", "none");
    read(true, "Which Postfix recipe?", "none", |text| match text {
        "none" => Ok(None),
        text => Recipe::from_str(text, true).map(Some).map_err(|_| {
            format!("unknown recipe {text:?}; {} describes them", crate::cli::document("deploying.md"))
        }),
    })
}

/// Asks until the answer is valid, a few times; if nobody is to be asked, reads the default.
fn read<T>(
    asks: bool,
    question: &str,
    default: &str,
    meant: impl Fn(&str) -> Result<T, String>,
) -> Result<T, String> {
    let mut wrong = String::new();
    for _ in 0..PATIENCE {
        let text = if asks { answer(question, default)? } else { default.to_owned() };
        match meant(&text) {
            Ok(answer) => return Ok(answer),
            Err(error) => wrong = error,
        }
        if !asks {
            break;
        }
        println!("{wrong}");
    }
    Err(format!("nothing was written: {wrong}"))
}

fn answer(question: &str, default: &str) -> Result<String, String> {
    let named = |error: std::io::Error| format!("the terminal cannot be used: {error}; pass flags and --yes");
    match default {
        "" => print!("{question} "),
        default => print!("{question} [{default}] "),
    }
    std::io::stdout().flush().map_err(named)?;
    let mut line = String::new();
    if std::io::stdin().lock().read_line(&mut line).map_err(named)? == 0 {
        return Err("nothing was written: there was no answer".to_owned());
    }
    let text = line.trim();
    Ok(if text.is_empty() { default.to_owned() } else { text.to_owned() })
}
