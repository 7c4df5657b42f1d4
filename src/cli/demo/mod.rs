//! `pixelward demo`: the relay with a temporary store and a sink, on this machine only.

mod console;
pub(super) mod page;
pub(super) mod samples;
pub(super) mod sink;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use tokio::sync::watch;

use crate::config::Config;
use crate::consent::{Applied, Change, Settings, State, Store, Timestamp};
use crate::pipeline::{Arrival, Onlooker, Pipeline};
use crate::policy::Purpose;
use crate::record::evidence::Evidence;
use crate::server::bind;
use crate::smtp::Reply;
use crate::tracker::Detector;

/// Demonstrate the relay: three newsletters to three people, before and after, side by side
///
/// Starts the relay on 127.0.0.1:2525 with a temporary store, and a sink behind it that keeps what it
/// receives in memory. Nothing leaves this machine, and no remote image is fetched. It keeps running, so that
/// you can send it your own mail.
#[derive(Args, Debug)]
pub struct Demo {
    /// Address of the relay
    #[arg(long, default_value = "127.0.0.1:2525", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Address of the page
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub web: SocketAddr,
    /// Address of the console, if it was built
    #[arg(long, default_value = "127.0.0.1:8027", value_name = "ADDRESS")]
    pub console: SocketAddr,
    /// Stop after the summary
    #[arg(long)]
    pub once: bool,
}

/// A message as received and as sent.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) recipients: Vec<String>,
    pub(super) before: Bytes,
    pub(super) after: Bytes,
}

/// An attempt to send mail that came to nothing.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) recipient: String,
    pub(super) reply: String,
}

/// What passed through, and what was refused.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) seen: Vec<Seen>,
    pub(super) refused: Vec<Refused>,
}

impl Shown {
    fn add(&mut self, seen: Seen) {
        if self.seen.len() >= MAX_SEEN {
            self.seen.remove(0);
        }
        self.seen.push(seen);
    }

    fn refuse(&mut self, recipient: String, reply: &Reply) {
        if self.refused.len() >= MAX_SEEN {
            self.refused.remove(0);
        }
        self.refused.push(Refused { recipient, reply: reply.to_string() });
    }
}

pub(super) type Gallery = Arc<Mutex<Shown>>;

/// The maximum number of messages kept; the oldest are dropped.
const MAX_SEEN: usize = 200;

/// Runs the demonstration.
///
/// # Errors
///
/// When an address is not available.
pub fn run(command: &Demo) -> Result<ExitCode, Box<dyn std::error::Error>> {
    if [command.listen, command.web, command.console].iter().any(|address| !address.ip().is_loopback()) {
        return Err("the demonstration listens only on loopback addresses".into());
    }
    let folder = tempfile::Builder::new().prefix("pixelward-demo-").tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(demonstrate(command, folder.path()));
    drop(runtime);
    result.map(|()| ExitCode::SUCCESS)
}

async fn demonstrate(command: &Demo, folder: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    let store = Arc::new(Store::open(&Settings::at(folder.join("consent")))?);
    let sink = sink::start().await?;
    let config = format!(
        "data_directory = {:?}\n\
         [relay]\n\
         host_name = \"demo.example\"\n\
         [[listener]]\n\
         address = \"{}\"\n\
         tls = \"none\"\n\
         bare_newline = \"normalise\"\n\
         [next_hop]\n\
         host = \"{}\"\n\
         port = {}\n\
         tls = \"none\"\n\
         [policy]\n\
         on_grant = \"keep\"\n",
        folder.display().to_string(),
        command.listen,
        sink.ip(),
        sink.port()
    );
    let config = Config::parse(&config)
        .map_err(|problems| problems.first().map(ToString::to_string).unwrap_or_default())?;
    let evidence = Evidence::start(super::run::evidence_settings(&config), Arc::clone(&store))?;
    let Running { address, gallery, pipeline, stop: _stop } =
        relay(config, Arc::clone(&store), Some(evidence)).await?;
    consents(&store)?;
    tokio::task::spawn_blocking(move || hand_over(address, &samples())).await??;
    summary(&gallery);
    if command.once {
        return Ok(());
    }
    let web = page::serve(command.web, gallery).await.map_err(|error| {
        format!("{} is not available: {error}. Choose another address for the page with --web", command.web)
    })?;
    let console = console::start(folder, command.console, &pipeline, &store).await?;
    println!("\nThe messages, before and after:  http://{web}/");
    match &console {
        Some(link) => println!("The console, through a one-time link:\n  {}", link.link),
        None => println!("The console was not built (make build)."),
    }
    println!(
        "Send your own mail to            {address}   (SMTP, no login, no TLS; any client, any address)"
    );
    println!(
        "For example:\n  curl -sS --crlf smtp://{address} --mail-from you@example.org --mail-rcpt \
         bob@example.org -T message.eml"
    );
    println!(
        "ann@example.org agreed to tracking, bob@example.org refused, and nobody else was asked.\n\
         Ctrl-C ends it."
    );
    tokio::signal::ctrl_c().await?;
    println!();
    drop(console);
    pipeline.close();
    Ok(())
}

/// A relay that was started; it stops when the sender is dropped.
pub(super) struct Running {
    /// The address it listens on.
    pub(super) address: SocketAddr,
    /// The messages that passed through.
    pub(super) gallery: Gallery,
    /// The configuration in use.
    pub(super) pipeline: Arc<Pipeline>,
    /// Stops the relay.
    pub(super) stop: watch::Sender<bool>,
}

/// Starts a temporary relay with the first listener of a configuration. Keeps what passes through as received
/// and as sent; stops when the sender is dropped.
pub(super) async fn relay(
    config: Config,
    store: Arc<Store>,
    evidence: Option<Evidence>,
) -> Result<Running, Box<dyn std::error::Error>> {
    let gallery: Gallery = Gallery::default();
    let seen = Arc::clone(&gallery);
    let witness = move |arrival: &Arrival, recipients: &[usize], after: &Bytes| {
        let recipients = recipients.iter().filter_map(|index| arrival.envelope.recipients.get(*index));
        let recipients = recipients.map(|recipient| recipient.address.as_str().to_owned()).collect();
        let copy = Seen { recipients, before: arrival.message.clone(), after: after.clone() };
        seen.lock().unwrap_or_else(PoisonError::into_inner).add(copy);
    };
    let tried = Arc::clone(&gallery);
    let refusals = move |arrival: &Arrival, replies: &[Reply], about: &Reply| {
        let mut gallery = tried.lock().unwrap_or_else(PoisonError::into_inner);
        let recipients = arrival.envelope.recipients.iter();
        recipients.zip(replies).for_each(|(to, reply)| gallery.refuse(to.address.as_str().to_owned(), reply));
        if replies.is_empty() {
            gallery.refuse(format!("the sender {}", arrival.envelope.sender.address.as_str()), about);
        }
    };
    let onlooker = Onlooker { copies: Some(Box::new(witness)), refusals: Some(Box::new(refusals)) };
    let wanted = config.listeners.first().ok_or("the configuration has no listener")?.address;
    let ledger = crate::relay::Ledger::open(&config.data_directory.join("ledger"))?;
    let live = crate::live::Live::of(config)?;
    let pipeline = Pipeline::witnessed(live, store, ledger, evidence, onlooker);
    let (stop, stopped) = watch::channel(false);
    let listener = bind(wanted, 0).map_err(|error| {
        format!(
            "{wanted} is not available: {error}. Is another relay running? Choose another address with \
             --listen"
        )
    })?;
    let address = listener.address;
    tokio::spawn(listener.serve(Arc::clone(&pipeline), stopped));
    Ok(Running { address, gallery, pipeline, stop })
}

fn consents(store: &Store) -> Result<(), Box<dyn std::error::Error>> {
    let change = |state| {
        let mut change = Change::new("default".parse()?, Purpose::CONSENT.to_vec(), state, Timestamp::now());
        change.details.evidence = Some("demonstration".to_owned());
        Ok::<Change, String>(change)
    };
    let said = store.record(vec![
        (store.person("ann@example.org"), change(State::Granted)?),
        (store.person("bob@example.org"), change(State::Refused)?),
    ])?;
    let is_recorded = said.iter().all(|applied| matches!(applied, Applied::Recorded(_)));
    is_recorded
        .then_some(())
        .ok_or_else(|| format!("the choices of the demonstration were answered with {said:?}").into())
}

/// Returns the newsletters of the demonstration, each with its recipient.
fn samples() -> Vec<(String, Vec<u8>)> {
    let people = ["ann@example.org", "bob@example.org", "eve@example.org"];
    let mails = |to: &str| {
        samples::newsletters(to, "shop.example")
            .into_iter()
            .map(|newsletter| (to.to_owned(), newsletter))
            .collect::<Vec<_>>()
    };
    people.into_iter().flat_map(mails).collect()
}

/// Sends messages to a relay, as any client would.
pub(super) fn hand_over(relay: SocketAddr, messages: &[(String, Vec<u8>)]) -> std::io::Result<()> {
    let stream = TcpStream::connect(relay)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut out = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut say = |line: &[u8], wanted: &str| -> std::io::Result<()> {
        out.write_all(line)?;
        let mut reply = String::new();
        loop {
            reply.clear();
            reader.read_line(&mut reply)?;
            if reply.as_bytes().get(3) != Some(&b'-') {
                break;
            }
        }
        if reply.starts_with(wanted) {
            Ok(())
        } else {
            Err(std::io::Error::other(format!("the relay answered {}", reply.trim())))
        }
    };
    say(b"", "220")?;
    say(b"EHLO client.example\r\n", "250")?;
    for (to, message) in messages {
        say(b"MAIL FROM:<news@shop.example>\r\n", "250")?;
        say(format!("RCPT TO:<{to}>\r\n").as_bytes(), "250")?;
        say(b"DATA\r\n", "354")?;
        let mut wire = Vec::new();
        let mut at = 0;
        for dot in crate::smtp::data::dots_to_stuff(message, true) {
            wire.extend_from_slice(message.get(at..dot).unwrap_or_default());
            wire.push(b'.');
            at = dot;
        }
        wire.extend_from_slice(message.get(at..).unwrap_or_default());
        wire.extend_from_slice(b".\r\n");
        say(&wire, "250")?;
    }
    say(b"QUIT\r\n", "221")
}

/// Prints what was done.
fn summary(gallery: &Gallery) {
    let detector = Detector::default();
    println!("Three newsletters went through the relay to three people:\n");
    for seen in gallery.lock().unwrap_or_else(PoisonError::into_inner).seen.iter() {
        let told = page::Told::of(&detector, seen);
        let fate = if told.removed.is_empty() { "as received" } else { "rewritten" };
        println!("{:<18} {:<34} {fate}", told.to, told.subject);
        for removed in &told.removed {
            println!("    - {removed}");
        }
        for kept in &told.kept {
            println!("    kept because the person agreed: {kept}");
        }
    }
}
