//! `pixelward demo`: the relay with a temporary store and a sink, on this machine only.

mod console;
mod gate;
mod page;
pub(super) mod samples;
pub(super) mod sink;
mod source;
pub(super) mod told;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::Config;
use crate::consent::{Applied, Change, Controller, Settings, State, Store, Timestamp};
use crate::net::serve;
use crate::pipeline::{Arrival, Onlooker, Pipeline};
use crate::policy::Purpose;
use crate::record::evidence::Evidence;
use crate::server::bind;
use crate::smtp::Reply;
use crate::tracker::Detector;
use crate::web::{self, metrics};
use told::Told;

/// Demonstrate the relay: three newsletters to three people, before and after, side by side
///
/// Starts the relay on 127.0.0.1:2525 with a temporary store, and a sink behind it that keeps what it
/// receives in memory. Beside it run the page where readers choose, the gate that their mail programs ask,
/// and the console. Nothing leaves this machine, and no remote image is fetched. It keeps running, so that
/// you can send it your own mail.
#[derive(Args, Debug)]
pub struct Demo {
    /// Address of the relay
    #[arg(long, default_value = "127.0.0.1:2525", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Address of the page
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub web: SocketAddr,
    /// Address of the readers' pages and pixels
    #[arg(long, default_value = "127.0.0.1:8028", value_name = "ADDRESS")]
    pub public: SocketAddr,
    /// Address of the console, if it was built
    #[arg(long, default_value = "127.0.0.1:8027", value_name = "ADDRESS")]
    pub console: SocketAddr,
    /// Stop after the summary
    #[arg(long)]
    pub once: bool,
    /// Start the console once it is built, if it is not yet
    #[arg(long, hide = true)]
    pub await_console: bool,
}

/// A message as received and as sent.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Counts from 0 in the order of arrival.
    pub(super) number: usize,
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
    /// How many messages passed through and how many attempts were refused, the dropped ones included.
    pub(super) counts: (usize, usize),
}

impl Shown {
    fn add(&mut self, recipients: Vec<String>, before: Bytes, after: Bytes) {
        if self.seen.len() >= MAX_SEEN {
            self.seen.remove(0);
        }
        self.seen.push(Seen { number: self.counts.0, recipients, before, after });
        self.counts.0 += 1;
    }

    fn refuse(&mut self, recipient: String, reply: &Reply) {
        if self.refused.len() >= MAX_SEEN {
            self.refused.remove(0);
        }
        self.refused.push(Refused { recipient, reply: reply.to_string() });
        self.counts.1 += 1;
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
    let addresses = [command.listen, command.web, command.public, command.console];
    if addresses.iter().any(|address| !address.ip().is_loopback()) {
        return Err("the demonstration listens only on loopback addresses".into());
    }
    let folder = tempfile::Builder::new().prefix("pixelward-demo-").tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(demonstrate(command, folder.path()));
    drop(runtime);
    result.map(|()| ExitCode::SUCCESS)
}

async fn demonstrate(command: &Demo, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let store = Arc::new(Store::open(&Settings::at(folder.join("consent")))?);
    // Before the first message, or it would not be counted.
    let counts = metrics::start()?;
    let sink = sink::start().await?;
    let readers = taken("the readers' pages", "--public", command.public, serve::bind(command.public).await)?;
    let site = format!("http://{}", readers.address);
    let config = Config::parse(&settings(folder, command.listen, sink, readers.address))
        .map_err(|problems| problems.first().map(ToString::to_string).unwrap_or_default())?;
    let evidence = Evidence::start(super::run::evidence_settings(&config), Arc::clone(&store))?;
    let Running { address, gallery, pipeline, stop: _stop } =
        relay(config, Arc::clone(&store), Some(evidence)).await?;
    let host: Arc<dyn web::Host> = pipeline.clone();
    let public = web::public::Public::new(Arc::clone(&host), Arc::clone(&store));
    let public_address = readers.address;
    tokio::spawn(web::door::serve(readers, web::door::Door::Public, public.router(), host));
    consents(&store)?;
    tokio::task::spawn_blocking(move || hand_over(address, &samples())).await??;
    summary(&gallery, &site);
    if command.once {
        return Ok(());
    }
    let console = Arc::new(Mutex::new(Beside::Absent));
    let program = console::program()?;
    if program.exists() {
        let started = console::start(&program, folder, command.console, &pipeline, &store, counts).await;
        let started = started.map_err(|error| error.to_string())?;
        set(&console, Beside::There(started));
    } else if command.await_console {
        set(&console, Beside::Awaited);
        let (console, folder) = (Arc::clone(&console), folder.to_owned());
        let (address, pipeline, store) = (command.console, Arc::clone(&pipeline), Arc::clone(&store));
        tokio::spawn(async move {
            while !program.exists() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            set(
                &console,
                match console::start(&program, &folder, address, &pipeline, &store, counts).await {
                    Ok(started) => Beside::There(started),
                    Err(error) => {
                        println!("The console did not start: {error}");
                        Beside::Absent
                    }
                },
            );
        });
    }
    let stage = Stage {
        gallery,
        store: Arc::clone(&store),
        controller: SHOP.parse()?,
        relay: address,
        public: public_address,
        site,
        console: Arc::clone(&console),
        opens: Mutex::default(),
    };
    let web = page::serve(command.web, stage).await;
    let web = taken("the page", "--web", command.web, web)?;
    println!("\nOpen this page:    http://{web}/");
    println!("The readers' page, the gate and the console are linked from there.");
    match &*console.lock().unwrap_or_else(PoisonError::into_inner) {
        Beside::There(_) => {}
        Beside::Awaited => println!("The console joins once it is built."),
        Beside::Absent => println!("The console was not built (make build)."),
    }
    println!(
        "Your own mail:     {address}   (SMTP, no login, no TLS; any client, any address). For example:"
    );
    println!(
        "  curl -sS --crlf smtp://{address} --mail-from you@example.org --mail-rcpt bob@example.org -T \
         message.eml"
    );
    println!("Ctrl-C ends it.");
    let (mut terminate, mut hangup) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    tokio::select! {
        said = tokio::signal::ctrl_c() => said?,
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    println!();
    set(&console, Beside::Absent);
    pipeline.close();
    Ok(())
}

/// Explains why an address cannot be had, and how to choose another one.
fn taken<T>(what: &str, option: &str, address: SocketAddr, bound: std::io::Result<T>) -> Result<T, String> {
    bound.map_err(|error| {
        format!("{address} is not available: {error}. Choose another address for {what} with {option}")
    })
}

/// The controller of the samples.
const SHOP: &str = "shop";

/// Returns the configuration of the demonstration.
fn settings(folder: &Path, listen: SocketAddr, sink: SocketAddr, public: SocketAddr) -> String {
    format!(
        "data_directory = {:?}\n\
         [relay]\n\
         host_name = \"demo.example\"\n\
         [[listener]]\n\
         address = \"{listen}\"\n\
         tls = \"none\"\n\
         bare_newline = \"normalise\"\n\
         [next_hop]\n\
         host = \"{}\"\n\
         port = {}\n\
         tls = \"none\"\n\
         [public]\n\
         address = \"{public}\"\n\
         [policy]\n\
         controller = \"{SHOP}\"\n\
         footer = \"always\"\n\
         [[controller]]\n\
         name = \"{SHOP}\"\n\
         public_url = \"http://{public}\"\n\
         [controller.page]\n\
         title = \"Shop Example\"\n\
         privacy_url = \"https://shop.example/privacy\"\n\
         contact = \"privacy@shop.example\"\n\
         retention_days = 395\n\
         [[mailstream]]\n\
         name = \"newsletter\"\n\
         controller = \"{SHOP}\"\n\
         requested = \"requested\"\n\
         purposes = [\"campaign_performance\"]\n",
        folder.display().to_string(),
        sink.ip(),
        sink.port()
    )
}

/// The console beside the demonstration.
enum Beside {
    /// It was not built, or did not start.
    Absent,
    /// It is being built.
    Awaited,
    There(console::Console),
}

fn set(console: &Mutex<Beside>, state: Beside) {
    *console.lock().unwrap_or_else(PoisonError::into_inner) = state;
}

/// What the page shows and does.
struct Stage {
    gallery: Gallery,
    store: Arc<Store>,
    controller: Controller,
    /// The relay's address for mail.
    relay: SocketAddr,
    /// The address of the readers' pages and pixels.
    public: SocketAddr,
    /// The same as a URL without a path.
    site: String,
    console: Arc<Mutex<Beside>>,
    /// Each load of a gated pixel, the oldest first.
    opens: Mutex<Vec<Open>>,
}

/// A mail program that loaded the gated pixel of a message.
#[derive(Clone, Debug)]
struct Open {
    /// The number of the message.
    message: usize,
    at: Timestamp,
    heard: gate::Heard,
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
        let mut gallery = seen.lock().unwrap_or_else(PoisonError::into_inner);
        gallery.add(recipients, arrival.message.clone(), after.clone());
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
        let mut change = Change::new(SHOP.parse()?, Purpose::CONSENT.to_vec(), state, Timestamp::now());
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
pub(super) fn samples() -> Vec<(String, Vec<u8>)> {
    // The page shows the newest first.
    let people = ["eve@example.org", "bob@example.org", "ann@example.org"];
    let mails = |to: &str| {
        samples::newsletters(to, "shop.example")
            .into_iter()
            .rev()
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
fn summary(gallery: &Gallery, site: &str) {
    let detector = Detector::default();
    println!("Three newsletters went through the relay to three people:\n");
    for seen in gallery.lock().unwrap_or_else(PoisonError::into_inner).seen.iter().rev() {
        let told = Told::of(&detector, seen, Some(site));
        println!("{:<18} {:<26} {}", told.to, told.subject, told.verdict());
        for tracker in &told.trackers {
            println!("    - {tracker}");
        }
    }
    println!(
        "\nann@example.org agreed: her trackers lead through the gate, which asks for her consent at each \
         load.\nbob@example.org refused and eve@example.org was never asked: theirs are gone."
    );
}
