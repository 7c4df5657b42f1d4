//! `pixelward init`: from nothing to a relay that was tried, in five questions.
//!
//! Nothing that exists is written over, and nothing is written before all of it is known to fit.

mod questions;
mod settings;
mod trial;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::dkim::zone_line;
use super::postfix::{self, Recipe};
use crate::config::Config;
use crate::policy::Mode;
use crate::sign::{Algorithm, SigningKey};
use settings::{PUBLIC, Place, SELECTOR, Settings};

type Failure = Box<dyn std::error::Error>;

/// Write a configuration, try it with a mail, and say what to do next.
///
/// At a terminal it asks what is not given. It writes config.toml, the directory for the store and, where asked, a DKIM key, never over anything;
/// it prints the lines for Postfix; and it sends a newsletter through a relay with these settings, which it starts on this machine alone. It begins
/// in observe mode: mail is left untouched until you switch that off.
#[derive(Args, Debug)]
pub struct Init {
    /// The server that takes the mail: a name or an address, with or without a port.
    #[arg(long, value_name = "HOST[:PORT]")]
    next_hop: Option<String>,
    /// Where the relay listens. Default: 127.0.0.1:2525, or port 2526 for LMTP.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Who may send besides this machine, as 192.0.2.0/24; may be given several times. An address that others reach needs one.
    #[arg(long, value_name = "NETWORK")]
    allow: Vec<String>,
    /// The organisation on whose behalf mail is sent, as the consent store is to name it. Default: default.
    #[arg(long, value_name = "NAME")]
    controller: Option<String>,
    /// What the addresses of the preference page begin with, as https://choice.shop.example. Without it nobody can be asked by mail.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Whether trackers are taken out from the first mail on.
    #[arg(long, value_enum, default_value = "observe")]
    mode: Chosen,
    /// Print the lines that put the relay beside a Postfix, by this recipe.
    #[arg(long, value_enum, value_name = "RECIPE")]
    postfix: Option<Recipe>,
    /// Make a DKIM key for this domain, which signs what has no signature that holds.
    #[arg(long, value_name = "DOMAIN")]
    dkim: Option<String>,
    /// Where config.toml and keys are written.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    dir: PathBuf,
    /// Where the store and the evidence will live. Default: /var/lib/pixelward for /etc/pixelward, else data in the folder.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Whom the store and the keys belong to. Default: pixelward, where root runs this and there is such a user.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Ask nothing, and take the defaults for what is not given.
    #[arg(long)]
    yes: bool,
}

/// Whether trackers are taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Chosen {
    /// Mail is left as it is; what would be done is logged.
    Observe,
    /// Trackers are taken out of mail to people who did not agree.
    Enforce,
}

/// Runs the command.
///
/// # Errors
///
/// When an answer cannot be used, something is there already, or the trial failed; the message says what to do.
pub fn run(command: &Init) -> Result<ExitCode, Failure> {
    let asks = !command.yes && std::io::stdin().is_terminal();
    let settings = questions::settings(command, asks)?;
    let dir = std::path::absolute(&command.dir)?;
    let files = Files { config: dir.join("config.toml"), data: settings.data.clone(), dir };
    let owner = Owner::of(command.user.as_deref())?;
    // Everything is judged before anything is written.
    let text = settings.file();
    let config = Config::parse(&text).map_err(|problems| listed(&problems))?;
    let lines = command_lines(&config, settings.recipe)?;
    files.are_free(&settings)?;
    let key = files.write(&settings, &text, owner.as_ref())?;
    println!("Written: {}", files.config.display());
    let said = trial::run(&settings).map_err(|error| {
        format!(
            "the files are written, and the trial failed: {error}\nLook at {} and try `pixelward check --config {}`",
            files.config.display(),
            files.config.display()
        )
    })?;
    println!(
        "\nA newsletter with an open pixel went through a relay with these settings, to somebody who was never asked:"
    );
    said.iter().for_each(|line| println!("  {line}"));
    if settings.mode == Mode::Observe {
        println!(
            "That was with mode = \"enforce\". The configuration has \"observe\": mail leaves as it comes until you change that."
        );
    }
    if let Some(lines) = lines {
        println!("\nFor Postfix:\n\n{lines}");
    }
    println!("\n{}", next(&files, &settings, owner.as_ref(), key.as_ref()));
    Ok(ExitCode::SUCCESS)
}

fn listed(problems: &[crate::config::reader::Problem]) -> String {
    let lines: Vec<&str> = problems.iter().map(|problem| problem.text.as_str()).collect();
    format!("nothing was written, since the answers do not fit: {}", lines.join("; "))
}

fn command_lines(config: &Config, recipe: Option<Recipe>) -> Result<Option<String>, String> {
    let lines = recipe.map(|recipe| postfix::text(config, recipe)).transpose();
    lines.map_err(|error| format!("nothing was written: {error}"))
}

/// What is written.
struct Files {
    dir: PathBuf,
    config: PathBuf,
    data: PathBuf,
}

impl Files {
    /// Whether each place is free; an empty directory for data is, too.
    fn are_free(&self, settings: &Settings) -> Result<(), String> {
        let key = settings.dkim.as_ref().map(|(_, key)| key);
        for path in [Some(&self.config), key].into_iter().flatten() {
            if path.symlink_metadata().is_ok() {
                return Err(format!(
                    "{} is there already, and nothing was written. Move it away, or choose another folder with --dir",
                    path.display()
                ));
            }
        }
        let has_store = self.data.join("consent").symlink_metadata().is_ok();
        if has_store {
            return Err(format!(
                "{} holds a consent store already, and nothing was written. Choose another folder with --data",
                self.data.display()
            ));
        }
        Ok(())
    }

    /// Writes the key, the directory and the configuration, which comes last.
    fn write(
        &self,
        settings: &Settings,
        text: &str,
        owner: Option<&Owner>,
    ) -> Result<Option<SigningKey>, Failure> {
        folder(&self.dir, 0o755)?;
        folder(&self.data, 0o700)?;
        if let Some(owner) = owner {
            own(&self.data, Some(owner.user), owner.group)?;
        }
        let mut made = None;
        if let Some((domain, path)) = &settings.dkim {
            let pem = SigningKey::generate(Algorithm::Rsa);
            fresh(path, 0o600, &pem)?;
            if let Some(owner) = owner {
                own(path, Some(owner.user), owner.group)?;
            }
            made = Some(SigningKey::read(domain, SELECTOR, pem.as_bytes())?);
        }
        fresh(&self.config, 0o640, text)?;
        if let Some(owner) = owner {
            own(&self.config, None, owner.group)?;
        }
        Ok(made)
    }
}

fn folder(path: &Path, mode: u32) -> Result<(), String> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|error| {
        format!("{} cannot be made: {error}. Choose another one, or run this as root", path.display())
    })
}

fn fresh(path: &Path, mode: u32, text: &str) -> Result<(), String> {
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

fn own(path: &Path, user: Option<u32>, group: u32) -> Result<(), String> {
    chown(path, user, Some(group))
        .map_err(|error| format!("{} cannot be given to its user: {error}. Run this as root", path.display()))
}

/// Whom the store belongs to.
struct Owner {
    name: String,
    user: u32,
    group: u32,
}

impl Owner {
    /// By `/etc/passwd`. Without a name it is the package's user, where root gives something away.
    fn of(name: Option<&str>) -> Result<Option<Owner>, String> {
        let known = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let found = |name: &str| {
            let line = known.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            let mut fields = line.split(':').skip(1);
            Some(Owner {
                name: name.to_owned(),
                user: fields.next()?.parse().ok()?,
                group: fields.next()?.parse().ok()?,
            })
        };
        match name {
            Some(name) => match found(name) {
                Some(owner) => Ok(Some(owner)),
                None => Err(format!("nobody here is called {name:?}: add the user, or leave --user out")),
            },
            None if rustix::process::geteuid().is_root() => Ok(found("pixelward")),
            None => Ok(None),
        }
    }
}

/// What is left to do, numbered.
fn next(files: &Files, settings: &Settings, owner: Option<&Owner>, key: Option<&SigningKey>) -> String {
    let config = files.config.display();
    let as_owner = owner.map_or(String::new(), |owner| format!("runuser -u {} -- ", owner.name));
    let check = format!(
        "{as_owner}pixelward check --config {config}      whether the next hop answers, and what is still missing"
    );
    let recipes = super::document("deploying.md");
    let mut steps = Vec::new();
    if let Some(key) = key {
        steps.push(format!("Publish this record, and wait until others see it:\n     {}", zone_line(key)));
    }
    steps.push(match files.dir == Path::new("/etc/pixelward") {
        true => "systemctl enable --now pixelward".to_owned(),
        false => format!("{as_owner}pixelward run --config {config}"),
    });
    match settings.recipe {
        // The next hop is Postfix itself, which does not answer before it has these lines; and mail goes nowhere before the way back is there.
        Some(Recipe::ContentFilter | Recipe::ProxyFilter) => {
            steps.push(format!(
                "Put the lines above for master.cf at its end, and those for main.cf in the place of lines of the same name ({recipes} has two commands for it), then: postfix reload"
            ));
            steps.push(check);
        }
        Some(Recipe::Relayhost | Recipe::Lmtp) => {
            steps.insert(0, check);
            steps.push(format!(
                "Put the lines above into Postfix's main.cf and master.cf, in the place of lines of the same name ({recipes} has two commands for it), then: postfix reload"
            ));
        }
        None => {
            steps.insert(0, check);
            steps.push(format!("Point your mail server at {}; {recipes} has recipes", settings.listen));
        }
    }
    if let Some(url) = &settings.public_url {
        steps.push(format!("Let your web server with TLS pass {url} on to http://{PUBLIC}"));
    }
    if settings.mode == Mode::Observe {
        steps.push(format!(
            "After some days: pixelward report --config {config}      what would have been taken out; {} says how to go on",
            super::document("first-week.md")
        ));
    }
    let steps: Vec<String> = (1..).zip(steps).map(|(number, step)| format!("  {number}. {step}")).collect();
    format!("Next:\n\n{}", steps.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_looked_up_by_the_whole_name() {
        assert_eq!(Owner::of(Some("root")).unwrap().map(|owner| (owner.user, owner.group)), Some((0, 0)));
        for name in ["roo", "", "root:x", "nobody-of-this-name"] {
            assert!(Owner::of(Some(name)).is_err(), "{name}");
        }
    }
}
