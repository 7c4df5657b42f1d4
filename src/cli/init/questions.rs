//! The five questions, for what was not given on the command line.

use std::io::{BufRead, Write};
use std::net::SocketAddr;

use clap::ValueEnum;

use super::{Chosen, Init, Place, Recipe, Settings};
use crate::config::Network;
use crate::consent::Controller;
use crate::policy::Mode;

/// What was given, asked for or taken for granted.
///
/// # Errors
///
/// When an answer cannot be used, or there is none to a question that has no default.
pub(super) fn settings(command: &Init, asks: bool) -> Result<Settings, String> {
    if asks {
        println!("Five questions; an empty answer takes what stands in brackets.\n");
    }
    let ask =
        |question: &str, default: &str| if asks { answer(question, default) } else { Ok(default.to_owned()) };
    let recipe = match (command.postfix, asks) {
        (Some(recipe), _) => Some(recipe),
        (None, false) => None,
        (None, true) => chosen_recipe()?,
    };
    let comes_back = matches!(recipe, Some(Recipe::ContentFilter | Recipe::ProxyFilter));
    let next_hop = match &command.next_hop {
        Some(text) => text.clone(),
        None => ask(
            "Which server takes the mail (name or address, with or without a port)?",
            if comes_back { BACK } else { "" },
        )?,
    };
    if next_hop.is_empty() {
        return Err("nothing was written: name the server that takes the mail with --next-hop, such as --next-hop smtp.example.org".into());
    }
    let next_hop = Place::parse(&next_hop)?;
    let usual = if recipe == Some(Recipe::Lmtp) { "127.0.0.1:2526" } else { "127.0.0.1:2525" };
    let listen: SocketAddr = match command.listen {
        Some(address) => address,
        None => {
            let text = ask("Where shall the relay listen?", usual)?;
            text.parse().map_err(|_| format!("{text:?} is no address with a port, such as {usual}"))?
        }
    };
    for own in &command.allow {
        own.parse::<Network>().map_err(|error| format!("--allow: {error}"))?;
    }
    if !listen.ip().is_loopback() && command.allow.is_empty() {
        return Err(format!(
            "nothing was written: others reach {listen}, so say who may send with --allow, such as --allow 192.0.2.0/24"
        ));
    }
    let controller = match &command.controller {
        Some(name) => name.clone(),
        None => ask("On whose behalf is mail sent (a short name, a-z and 0-9)?", "default")?,
    };
    controller.parse::<Controller>()?;
    let public_url = match &command.public_url {
        Some(url) => url.clone(),
        None => ask("Under which https:// address will readers find their choices (empty: not yet)?", "")?,
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
        public_url: Some(public_url).filter(|own| !own.is_empty()),
        mode: if command.mode == Chosen::Observe { Mode::Observe } else { Mode::Enforce },
        recipe,
        dkim: command.dkim.as_ref().map(|domain| domain.to_ascii_lowercase()).map(|domain| {
            let key = dir.join(format!("{domain}.dkim.pem"));
            (domain, key)
        }),
        data,
    })
}

/// Where a Postfix on this machine takes mail back.
const BACK: &str = "127.0.0.1:10026";

/// How often a question is asked again.
const PATIENCE: usize = 3;

fn chosen_recipe() -> Result<Option<Recipe>, String> {
    let names: Vec<&str> = Recipe::value_variants().iter().map(|own| own.name()).collect();
    let question = format!("Which Postfix recipe ({}, or none)?", names.join(", "));
    for _ in 0..PATIENCE {
        let text = answer(&question, "none")?;
        if text == "none" {
            return Ok(None);
        }
        if let Ok(recipe) = Recipe::from_str(&text, true) {
            return Ok(Some(recipe));
        }
        println!("{text:?} is none of them.");
    }
    Err("nothing was written: no recipe was chosen; docs/deploying.md draws them".to_owned())
}

fn answer(question: &str, default: &str) -> Result<String, String> {
    let named = |error: std::io::Error| format!("the terminal cannot be used: {error}; give flags and --yes");
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
