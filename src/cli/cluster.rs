//! `pixelward cluster`: several relays with one consent.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use pixelward_replica::nats::{Plan, Server, ServerTls};
use pixelward_replica::peer::{self, Invitation};

use super::{ConfigPath, counted};
use crate::cluster::compare::{Compared, Erasure, Outcome, Remains, WeekKey};
use crate::cluster::files::{self, Files};
use crate::cluster::socket::{self, Answer, Request};
use crate::config::Config;
use crate::consent::Store;
use crate::web::live::{LeaseHeld, OtherRelay, Standing};

/// Run several relays with one consent (docs/cluster.md)
#[derive(Args, Debug)]
pub struct Cluster {
    #[command(flatten)]
    config: ConfigPath,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make this relay the first of a cluster, and write the configuration of its NATS servers
    Init {
        /// Where other relays will reach this one, as host:port
        #[arg(long, value_name = "HOST:PORT")]
        address: String,
        /// A NATS server, by name or IP address; three of them, on three machines
        #[arg(long = "server", value_name = "HOST", required = true)]
        servers: Vec<String>,
        /// The folder for the servers' files, one folder in it for each server
        #[arg(long, default_value = "nats-servers", value_name = "FOLDER")]
        folder: PathBuf,
        /// Where the servers will keep their data; a relative path starts where a server is started
        #[arg(long, default_value = "/var/lib/nats", value_name = "FOLDER")]
        server_data: PathBuf,
    },
    /// Invite a new relay: prints a line that holds once and for an hour; this relay must be running
    Invite,
    /// Make this relay, which has no consent yet, one of a cluster
    Join {
        /// The line that `pixelward cluster invite` printed at another relay
        #[arg(value_name = "INVITATION")]
        invitation: String,
        /// Where other relays will reach this one, as host:port
        #[arg(long, value_name = "HOST:PORT")]
        address: String,
    },
    /// Show how this relay stands in its cluster; exits with 1 if anything is wrong
    Status,
    /// Compare the journals of all relays, record for record; exits with 1 if two differ, or one does not answer
    Compare,
    /// Show which erasures are done at which relays, and until when a key exists that opens what the servers have of
    /// the erased; exits with 1 if a relay has not done one, or does not answer
    Erasures,
    /// Have all relays forget one that is gone for good, so that it is asked nothing any more
    Forget {
        /// The name of the relay as `pixelward cluster status` shows it, or its beginning
        #[arg(value_name = "RELAY")]
        relay: String,
    },
    /// Make this relay, which must be stopped, one on its own again; it keeps its consent
    Leave,
    /// Begin the common order anew with the journal of this relay, which must be stopped; all other relays join
    /// again
    Reseed,
}

/// Runs the command.
///
/// # Errors
///
/// When a file cannot be used, or another relay or the running relay does not answer.
pub fn run(command: &Cluster) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let config = Config::load(&command.config.path)?;
    let mut out = std::io::stdout().lock();
    match &command.command {
        Command::Init { address, servers, folder, server_data } => {
            out.write_all(init(&config, address, servers, folder, server_data)?.as_bytes())?;
        }
        Command::Invite => {
            let invitation = match asked(&config, Request::Invite)? {
                Answer::Invitation(text) => text,
                other => return Err(unexpected(other)),
            };
            eprintln!(
                "At the new relay, within an hour: pixelward cluster join INVITATION --address HOST:PORT"
            );
            writeln!(out, "{invitation}")?;
        }
        Command::Join { invitation, address } => {
            out.write_all(join(&config, &invitation.parse()?, address)?.as_bytes())?;
        }
        Command::Status => {
            let standing = match asked(&config, Request::Status)? {
                Answer::Status(standing) => standing,
                other => return Err(unexpected(other)),
            };
            out.write_all(shown(&standing).as_bytes())?;
            if !is_well(&standing) {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Compare => {
            let compared = match asked(&config, Request::Compare)? {
                Answer::Compared(compared) => compared,
                other => return Err(unexpected(other)),
            };
            out.write_all(comparison(&compared).as_bytes())?;
            if !compared.iter().all(|compared| matches!(compared.outcome, Outcome::Same(_))) {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Erasures => {
            let remains = match asked(&config, Request::Erasures)? {
                Answer::Remains(remains) => remains,
                other => return Err(unexpected(other)),
            };
            out.write_all(remaining(&remains).as_bytes())?;
            let is_done = remains.erasures.iter().all(|erasure| erasure.missing.is_empty());
            if !is_done || !remains.unanswered.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Forget { relay } => {
            let standing = match asked(&config, Request::Status)? {
                Answer::Status(standing) => standing,
                other => return Err(unexpected(other)),
            };
            let name = found(&standing, relay)?;
            let node = hex::decode(&name)?.try_into().map_err(|_| format!("{name} is no name of a relay"))?;
            match asked(&config, Request::Forget(node))? {
                Answer::Forgotten => writeln!(
                    out,
                    "{name} is forgotten. What it alone had, such as audit records, is not asked for any more."
                )?,
                other => return Err(unexpected(other)),
            }
        }
        Command::Leave => out.write_all(leave(&config)?.as_bytes())?,
        Command::Reseed => out.write_all(reseed(&config)?.as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn asked(config: &Config, request: Request) -> Result<Answer, Box<dyn std::error::Error>> {
    let directory = &config.cluster.directory;
    match socket::ask(directory, request)? {
        Some(answer) => Ok(answer),
        None if files::is_member(directory) => {
            Err("no relay of a cluster is running here: start it with `pixelward run`".into())
        }
        None => Err(format!(
            "{} says nothing of a cluster: this relay is on its own. `pixelward cluster init` or `join` changes that",
            directory.display()
        )
        .into()),
    }
}

fn unexpected(answer: Answer) -> Box<dyn std::error::Error> {
    match answer {
        Answer::Error(why) => why.into(),
        _ => "the relay answered something else: it runs another version than this program".into(),
    }
}

/// Returns the full name of another relay.
fn found(standing: &Standing, beginning: &str) -> Result<String, String> {
    let names = || standing.others.iter().map(|other| &other.relay);
    let fitting: Vec<&String> =
        names().filter(|name| !beginning.is_empty() && name.starts_with(beginning)).collect();
    match fitting.as_slice() {
        [name] => Ok((*name).clone()),
        [] => Err(format!("no other relay is called {beginning}: `pixelward cluster status` lists them")),
        _ => Err(format!("several relays' names begin with {beginning}: write more of it")),
    }
}

/// Says how the journals compare.
fn comparison(compared: &[Compared]) -> String {
    if compared.is_empty() {
        return "No other relay was heard of\n".to_owned();
    }
    let line = |Compared { relay, address, outcome }: &Compared| {
        let outcome = match outcome {
            Outcome::Same(records) => format!("the same {}", counted(*records, "record", "records")),
            Outcome::Differs(record) => format!(
                "differs from this relay's at record {record}. `pixelward consent verify` at both says which journal \
                 is whole; the relay with the other one joins again"
            ),
            Outcome::Unanswered(why) => format!("did not answer: {why}"),
        };
        format!("{relay} at {address}: {outcome}\n")
    };
    compared.iter().map(line).collect()
}

/// Says what is left of erased people.
fn remaining(remains: &Remains) -> String {
    let mut lines = vec!["Keys that open what the servers carry:".to_owned()];
    for WeekKey { begins, destroyed, relays } in &remains.keys {
        lines.push(format!("  week of {begins}, destroyed on {destroyed}; at {}", relays.join(", ")));
    }
    lines.push("Erasures of which the servers have something that such a key opens:".to_owned());
    for Erasure { record, at, until, done, missing } in &remains.erasures {
        let missing = match missing.as_slice() {
            [] => String::new(),
            missing => format!("; not yet at {}", missing.join(", ")),
        };
        lines.push(format!("  record {record} of {at}, until {until}; done at {}{missing}", done.join(", ")));
    }
    if remains.erasures.is_empty() {
        lines.push("  none".to_owned());
    }
    for (relay, why) in &remains.unanswered {
        lines.push(format!("{relay} did not answer: {why}"));
    }
    lines.join("\n") + "\n"
}

/// The section of the configuration for a relay.
fn section(config: &Config, address: &str, servers: &[String]) -> String {
    if config.cluster.is_on() {
        return "The configuration has its section [cluster] already. Start the relay: pixelward run\n"
            .to_owned();
    }
    let port = address.rsplit(':').next().unwrap_or_default();
    let servers: Vec<String> = servers.iter().map(|server| format!("{server:?}")).collect();
    format!(
        "Add this to the configuration, then start the relay:\n\n[cluster]\nservers = [{}]\n\
         listen = \"0.0.0.0:{port}\"\naddress = {address:?}\n",
        servers.join(", ")
    )
}

/// Makes the files of the first relay and of the servers; returns what to do next.
fn init(
    config: &Config,
    address: &str,
    hosts: &[String],
    folder: &Path,
    data: &Path,
) -> Result<String, Box<dyn std::error::Error>> {
    let directory = &config.cluster.directory;
    if files::is_member(directory) {
        return Err(format!("this relay belongs to a cluster already: {}", directory.display()).into());
    }
    if hosts.len() != 3 {
        return Err(
            "name three servers, on three machines: what two of them have is kept if one is lost".into()
        );
    }
    if folder.exists() {
        return Err(
            format!("{} is there already: name another folder with --folder", folder.display()).into()
        );
    }
    let servers: Vec<String> = hosts.iter().map(|host| format!("tls://{host}:4222")).collect();
    let files = Files::first(directory, &servers)?;
    let [relay, operator, monitor] = files.public_keys()?;
    let planned = hosts.iter().map(|host| Server {
        name: host.clone(),
        clients: format!("{host}:4222"),
        peers: format!("{host}:6222"),
        directory: data.to_owned(),
        tls: Some(ServerTls {
            authority: "authority.crt".into(),
            certificate: "server.crt".into(),
            key: "server.key".into(),
        }),
    });
    let plan = Plan { servers: planned.collect(), relays: vec![relay], operator, monitor };
    let authority = files.authority();
    for server in &plan.servers {
        let folder = folder.join(&server.name);
        std::fs::create_dir_all(&folder)?;
        let (certificate, key) = authority.certify(&server.name, std::slice::from_ref(&server.name))?;
        let write = |name: &str, text: &str| {
            pixelward_files::write_private(&folder.join(name), text.as_bytes()).map(drop)
        };
        write("nats.conf", &plan.configuration(server))?;
        write("authority.crt", &authority.certificate)?;
        write("server.crt", &certificate)?;
        write("server.key", &key)?;
    }
    Ok(format!(
        "This relay becomes the first of a cluster when it starts next. Its own files are in {}.\n\
         Copy each folder in {} to its machine, and start there: nats-server -c nats.conf (2.14 or later, in that \
         folder)\n{}",
        directory.display(),
        folder.display(),
        section(config, address, &servers)
    ))
}

/// Takes over everything from the relay that invites; returns what to do next.
fn join(
    config: &Config,
    invitation: &Invitation,
    address: &str,
) -> Result<String, Box<dyn std::error::Error>> {
    let (directory, consent) = (&config.cluster.directory, &config.consent.directory);
    let taken = [directory.join("relay.id"), consent.join("00000001.journal")];
    if let Some(taken) = taken.iter().find(|path| path.exists()) {
        return Err(format!(
            "{}: this relay has consent of its own already, which a new relay of a cluster must not. Move {} and {} \
             away first; what is in them is not taken over",
            taken.display(),
            consent.display(),
            directory.display()
        )
        .into());
    }
    // Beside the place where it goes, on the same disk.
    let arriving = Arriving::beside(consent)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(peer::join(invitation, &arriving.0))?;
    let store_key = super::run::store_settings(config).store_key();
    let given = arriving.0.join(files::CONSENT);
    if store_key.parent() != Some(consent) {
        let key = std::fs::read(given.join("store.key"))?;
        pixelward_files::write_private(&store_key, &key)?;
        std::fs::remove_file(given.join("store.key"))?;
    }
    for (from, to) in [(given, consent), (arriving.0.join(files::CLUSTER), directory)] {
        if to.exists() {
            std::fs::remove_dir(to).map_err(|error| format!("{}: {error}; move it away", to.display()))?;
        }
        if let Some(above) = to.parent() {
            std::fs::create_dir_all(above)?;
        }
        std::fs::rename(from, to)?;
    }
    let files = Files::settle(directory)?;
    let records = Store::open(&super::run::store_settings(config))?.verify()?.records;
    Ok(format!(
        "Took over {} from {}; the chain is whole.\n{}",
        counted(records, "record", "records"),
        invitation.address,
        section(config, address, &files.servers)
    ))
}

/// A folder for what arrives, which goes if anything fails.
struct Arriving(PathBuf);

impl Arriving {
    fn beside(place: &Path) -> std::io::Result<Arriving> {
        use std::os::unix::fs::DirBuilderExt;
        let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let path = place.with_file_name(format!("{name}.arriving"));
        // What an interrupted try has left.
        if path.exists() {
            std::fs::remove_dir_all(&path)?;
        }
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        Ok(Arriving(path))
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn is_well(standing: &Standing) -> bool {
    standing.fresh && standing.stopped.is_none() && standing.not_durable.is_none()
}

fn shown(standing: &Standing) -> String {
    let mut lines = vec![format!("This relay:     {}", standing.relay)];
    lines.push(match (&standing.stopped, standing.fresh) {
        (Some(why), _) => format!("Grants:         none count: {why}"),
        (None, true) => "Grants:         count".to_owned(),
        (None, false) => "Grants:         none count until the other relays are heard".to_owned(),
    });
    lines.push(match &standing.not_durable {
        None => "New grants:     taken".to_owned(),
        Some(why) => format!("New grants:     refused: {why}"),
    });
    lines.push(format!("Heard up to:    message {}", standing.position));
    lines.push(match standing.untold {
        0 => "To be told:     nothing".to_owned(),
        count => format!("To be told:     {}; they hold here already", counted(count, "change", "changes")),
    });
    for OtherRelay { relay, address, heard, other_rules, .. } in &standing.others {
        let heard = match heard {
            Some(seconds) => format!("heard {} ago", counted(*seconds, "second", "seconds")),
            None => "not heard since this relay started".to_owned(),
        };
        let rules = if *other_rules { "; it goes by other rules" } else { "" };
        lines.push(format!("Other relay:    {relay} at {address}, {heard}{rules}"));
    }
    if standing.others.is_empty() {
        lines.push("Other relays:   none was heard of".to_owned());
    }
    for LeaseHeld { controller, connector, relay, record } in &standing.leases {
        let what = match (controller, connector) {
            (Some(controller), None) => format!("the webhook of {controller}"),
            (Some(controller), Some(name)) => format!("the connector {name} of {controller}"),
            (None, _) => "a webhook or connector that is not configured here".to_owned(),
        };
        let by = match relay {
            Some(relay) if *relay == standing.relay => "told by this relay".to_owned(),
            Some(relay) => format!("told by {relay}"),
            None => "told by nobody yet".to_owned(),
        };
        lines.push(format!("One at a time:  {what}, {by}, up to record {record}"));
    }
    lines.join("\n") + "\n"
}

/// Opens the store, which fails if a relay has it open, and the files of the member.
fn stopped(config: &Config) -> Result<(Store, Files), Box<dyn std::error::Error>> {
    let directory = &config.cluster.directory;
    if !files::is_member(directory) {
        return Err(format!("{} says nothing of a cluster", directory.display()).into());
    }
    let files = Files::load(directory)?;
    Ok((Store::open(&super::run::store_settings(config))?, files))
}

/// Makes a relay one on its own again.
fn leave(config: &Config) -> Result<String, Box<dyn std::error::Error>> {
    let (store, _) = stopped(config)?;
    let directory = &config.cluster.directory;
    let untold = pixelward_replica::untold(directory, &store)?;
    if untold > 0 {
        return Err(format!(
            "the other relays were not told {} yet that people made here: start this relay until `pixelward \
             cluster status` says that nothing is to be told",
            counted(untold, "change", "changes")
        )
        .into());
    }
    // With the keys of the weeks goes all that could read what the servers keep.
    std::fs::remove_dir_all(directory)?;
    Ok("This relay is on its own again, and keeps what it knew. Take the section [cluster] out of the \
        configuration, then start it. At the servers, nothing is left to do.\n"
        .to_owned())
}

/// Begins the common order anew.
fn reseed(config: &Config) -> Result<String, Box<dyn std::error::Error>> {
    let (store, files) = stopped(config)?;
    if !config.cluster.is_on() {
        return Err("the configuration has no section [cluster]".into());
    }
    let records = store.verify()?.records;
    drop(store);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(crate::cluster::delete_order(config, &files))?;
    files.begin_anew()?;
    Ok(format!(
        "The common order begins anew with the {} of this relay when it starts next. Let each other relay join \
         again: stop it, move its consent and cluster folders away, and use a new invitation. What it alone had \
         heard and not told is in its outbox.log.\n",
        counted(records, "record", "records")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing() -> Standing {
        Standing {
            relay: "aa".to_owned(),
            fresh: true,
            stopped: None,
            not_durable: None,
            position: 7,
            records: 5,
            head: String::new(),
            untold: 0,
            others: vec![OtherRelay {
                relay: "bb".to_owned(),
                address: "relay2.example:2531".to_owned(),
                heard: Some(1),
                records: Some(5),
                other_rules: true,
            }],
            leases: vec![LeaseHeld {
                controller: Some("shop".to_owned()),
                connector: None,
                relay: Some("bb".to_owned()),
                record: 12,
            }],
        }
    }

    #[test]
    fn a_relay_is_named_by_what_its_name_begins_with() {
        let other = |name: &str| OtherRelay { relay: name.to_owned(), ..standing().others[0].clone() };
        let standing = Standing { others: vec![other("b1c2"), other("b1d3")], ..standing() };
        assert_eq!(found(&standing, "b1d").unwrap(), "b1d3");
        assert!(found(&standing, "b1").unwrap_err().contains("several"));
        assert!(found(&standing, "").is_err() && found(&standing, "aa").is_err());
    }

    #[test]
    fn a_relay_in_trouble_says_what_does_not_count() {
        assert!(is_well(&standing()));
        let text = shown(&standing());
        assert!(
            text.contains("bb at relay2.example:2531, heard 1 second ago; it goes by other rules"),
            "{text}"
        );
        assert!(text.contains("the webhook of shop, told by bb, up to record 12"), "{text}");
        let alone = Standing { fresh: false, untold: 1, ..standing() };
        assert!(!is_well(&alone));
        let text = shown(&alone);
        assert!(text.contains("none count until the other relays are heard"), "{text}");
        assert!(text.contains("1 change; they hold here already"), "{text}");
        let stopped = Standing { stopped: Some("message 8 is missing".to_owned()), ..standing() };
        assert!(!is_well(&stopped) && shown(&stopped).contains("none count: message 8 is missing"));
        let lax = Standing { not_durable: Some("set sync_interval".to_owned()), ..standing() };
        assert!(!is_well(&lax) && shown(&lax).contains("refused: set sync_interval"));
    }
}
