//! `pixelward init`: from nothing to a tested relay, in five questions.
//!
//! Nothing is overwritten, and nothing is written before everything is known to be valid.

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

/// Write a configuration, try it with a test message, and say what to do next
///
/// At a terminal, it asks for whatever is not given. It writes config.toml, creates the directory for the
/// store and, if requested, a DKIM key, and never overwrites anything; it prints the lines for Postfix; and
/// it sends a newsletter through a relay with these settings, which it starts on this machine only. It begins
/// in observe mode: mail is left untouched until you change that.
#[derive(Args, Debug)]
pub struct Init {
    /// The server that takes the mail: a name or an address, with an optional port
    #[arg(long, value_name = "HOST[:PORT]")]
    next_hop: Option<String>,
    /// Address of the relay [default: 127.0.0.1:2525, or port 2526 for LMTP]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// A network that may send mail besides this machine, such as 192.0.2.0/24; may be repeated. Required if
    /// other machines can reach the address
    #[arg(long, value_name = "NETWORK")]
    allow: Vec<String>,
    /// The controller on whose behalf mail is sent, as named in the consent store [default: default]
    #[arg(long, value_name = "NAME")]
    controller: Option<String>,
    /// The base URL of the preference page, such as https://choice.shop.example. Without it, nobody can be
    /// asked by mail
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Whether trackers are removed from the first message on
    #[arg(long, value_enum, default_value = "observe")]
    mode: Chosen,
    /// Print the lines for Postfix with this recipe
    #[arg(long, value_enum, value_name = "RECIPE")]
    postfix: Option<Recipe>,
    /// Create a DKIM key for this domain, which signs mail without a valid signature
    #[arg(long, value_name = "DOMAIN")]
    dkim: Option<String>,
    /// Directory for config.toml and keys
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    dir: PathBuf,
    /// Directory for the store and the audit records [default: /var/lib/pixelward for /etc/pixelward, else
    /// data in the directory]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// The owner of the store and the keys [default: pixelward, if root runs this and there is such a user]
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Ask nothing, and use defaults for what is not given
    #[arg(long)]
    yes: bool,
}

/// Whether trackers are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Chosen {
    /// Leave mail as it is, and log what would be done
    Observe,
    /// Remove trackers from mail to people who did not agree
    Enforce,
}

/// Runs the command.
///
/// # Errors
///
/// When an answer cannot be used, something exists already, or the test message failed; the message says what
/// to do.
pub fn run(command: &Init) -> Result<ExitCode, Failure> {
    let asks = !command.yes && std::io::stdin().is_terminal();
    let settings = questions::settings(command, asks)?;
    let dir = std::path::absolute(&command.dir)?;
    let files = Files { config: dir.join("config.toml"), data: settings.data.clone(), dir };
    let owner = Owner::of(command.user.as_deref())?;
    // Everything is checked before anything is written.
    let text = settings.file();
    let config = Config::parse(&text).map_err(|problems| listed(&problems))?;
    let lines = command_lines(&config, settings.recipe)?;
    files.are_free(&settings)?;
    let key = files.write(&settings, &text, owner.as_ref())?;
    println!("Written: {}", files.config.display());
    let said = trial::run(&settings).map_err(|error| {
        format!(
            "the files were written, but the test message failed: {error}\n\
             Check {} and try `pixelward check --config {}`",
            files.config.display(),
            files.config.display()
        )
    })?;
    println!(
        "\n\
         A newsletter with an open pixel was sent through a relay with these settings, to a person who was \
         never asked:"
    );
    said.iter().for_each(|line| println!("  {line}"));
    if settings.mode == Mode::Observe {
        println!(
            "That was with mode = \"enforce\". The configuration says \"observe\": mail leaves as it came \
             until you change that."
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
    format!("nothing was written, because the answers are invalid: {}", lines.join("; "))
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
    /// Checks that no target exists; an empty data directory is fine.
    fn are_free(&self, settings: &Settings) -> Result<(), String> {
        let key = settings.dkim.as_ref().map(|(_, key)| key);
        for path in [Some(&self.config), key].into_iter().flatten() {
            if path.symlink_metadata().is_ok() {
                return Err(format!(
                    "{} already exists, and nothing was written. Move it away, or choose another directory \
                     with --dir",
                    path.display()
                ));
            }
        }
        let has_store = self.data.join("consent").symlink_metadata().is_ok();
        if has_store {
            return Err(format!(
                "{} already contains a consent store, and nothing was written. Choose another directory with \
                 --data",
                self.data.display()
            ));
        }
        Ok(())
    }

    /// Writes the key, the directory and, last, the configuration.
    fn write(
        &self,
        settings: &Settings,
        text: &str,
        owner: Option<&Owner>,
    ) -> Result<Option<SigningKey>, Failure> {
        folder(&self.dir, 0o755)?;
        folder(&self.data, 0o700)?;
        if let Some(owner) = owner {
            give_to(&self.data, Some(owner.user), owner.group)?;
        }
        let mut made = None;
        if let Some((domain, path)) = &settings.dkim {
            let pem = SigningKey::generate(Algorithm::Rsa);
            fresh(path, 0o600, &pem)?;
            if let Some(owner) = owner {
                give_to(path, Some(owner.user), owner.group)?;
            }
            made = Some(SigningKey::read(domain, SELECTOR, pem.as_bytes())?);
        }
        fresh(&self.config, 0o640, text)?;
        if let Some(owner) = owner {
            give_to(&self.config, None, owner.group)?;
        }
        Ok(made)
    }
}

fn folder(path: &Path, mode: u32) -> Result<(), String> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|error| {
        format!("{} cannot be created: {error}. Choose another one, or run this as root", path.display())
    })
}

fn fresh(path: &Path, mode: u32, text: &str) -> Result<(), String> {
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

fn give_to(path: &Path, user: Option<u32>, group: u32) -> Result<(), String> {
    chown(path, user, Some(group)).map_err(|error| {
        format!("the owner of {} cannot be changed: {error}. Run this as root", path.display())
    })
}

/// The owner of the store.
struct Owner {
    name: String,
    user: u32,
    group: u32,
}

impl Owner {
    /// Looks in `/etc/passwd`. Without a name it is the package's user, if root runs this.
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
                None => Err(format!("unknown user {name:?}: add the user, or leave out --user")),
            },
            None if rustix::process::geteuid().is_root() => Ok(found("pixelward")),
            None => Ok(None),
        }
    }
}

/// Lists what is left to do, numbered.
fn next(files: &Files, settings: &Settings, owner: Option<&Owner>, key: Option<&SigningKey>) -> String {
    let config = files.config.display();
    let as_owner = owner.map_or(String::new(), |owner| format!("runuser -u {} -- ", owner.name));
    let check = format!(
        "{as_owner}pixelward check --config {config}      whether the next hop answers, and what is still \
         missing"
    );
    let recipes = super::document("deploying.md");
    let mut steps = Vec::new();
    if let Some(key) = key {
        steps
            .push(format!("Publish this DNS record, and wait until others see it:\n     {}", zone_line(key)));
    }
    steps.push(match files.dir == Path::new("/etc/pixelward") {
        true => "systemctl enable --now pixelward".to_owned(),
        false => format!("{as_owner}pixelward run --config {config}"),
    });
    match settings.recipe {
        // The next hop is Postfix itself, which answers only once it has these lines; and mail goes nowhere
        // before the way back exists.
        Some(Recipe::ContentFilter | Recipe::ProxyFilter) => {
            steps.push(format!(
                "Append the lines above for master.cf to it, and replace those of the same name in main.cf \
                 ({recipes} has two commands for this), then: postfix reload"
            ));
            steps.push(check);
        }
        Some(Recipe::Relayhost | Recipe::Lmtp) => {
            steps.insert(0, check);
            steps.push(format!(
                "Put the lines above into Postfix's main.cf and master.cf, replacing those of the same name \
                 ({recipes} has two commands for this), then: postfix reload"
            ));
        }
        None => {
            steps.insert(0, check);
            steps.push(format!("Point your mail server at {}; {recipes} has recipes", settings.listen));
        }
    }
    if let Some(url) = &settings.public_url {
        steps.push(format!("Have your TLS web server pass {url} on to http://{PUBLIC}"));
    }
    if settings.mode == Mode::Observe {
        steps.push(format!(
            "After some days: pixelward report --config {config}      what would have been removed; {} says \
             how to continue",
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
