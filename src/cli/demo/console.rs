//! The console beside the demonstration: the program itself, with a token of its own and one-time links.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::PrometheusHandle;

use crate::consent::{Store, Timestamp};
use crate::pipeline::Pipeline;
use crate::record::audit::Trail;
use crate::web;
use crate::web::api_token::{self, Scope, Token};

/// How long the console may take to start.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a link is valid.
const LINK: Duration = Duration::from_secs(60);

/// The running console, stopped when dropped.
pub(super) struct Console {
    child: Child,
    address: SocketAddr,
    /// Its data directory.
    data: PathBuf,
}

impl Console {
    /// Makes a link that signs one browser in; earlier ones become invalid.
    ///
    /// # Errors
    ///
    /// When the data directory cannot be written.
    pub(super) fn link(&self) -> std::io::Result<String> {
        let secret = crate::net::link::make(&self.data, Timestamp::now(), LINK)?;
        Ok(format!("http://{}/login/link?secret={secret}", self.address))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns where the console's program stands, or will stand once it is built.
pub(super) fn program() -> std::io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("pixelward-console"))
}

/// Serves the API on a free port, and starts the console at this address.
pub(super) async fn start(
    program: &Path,
    folder: &Path,
    address: SocketAddr,
    pipeline: &Arc<Pipeline>,
    store: &Arc<Store>,
    counts: PrometheusHandle,
) -> Result<Console, Box<dyn std::error::Error + Send + Sync>> {
    super::taken("the console", "--console", address, std::net::TcpListener::bind(address).map(drop))?;
    let bound = crate::net::serve::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let api = bound.address;
    let host: Arc<dyn web::Host> = pipeline.clone();
    let trail = Arc::new(Trail::at(&pipeline.live().config.data_directory.join("audit")));
    crate::cli::run::note_deployment(pipeline, &trail, "start");
    let none = web::connector::Connectors::default();
    let routes = web::api::Api::new(Arc::clone(&host), Arc::clone(store), counts, trail, none).router();
    tokio::spawn(web::door::serve(bound, web::door::Door::Api, routes, host));
    let data = folder.join("console");
    std::fs::create_dir_all(&data)?;
    let config = configured(folder, &data, address, api, &pipeline.live().config.api.tokens_file)?;
    // However this program ends, the console's input ends with it.
    let child = Command::new(program)
        .arg("--until-input-ends")
        .arg("--config")
        .arg(config)
        .stdin(Stdio::piped())
        .spawn()?;
    let mut console = Console { child, address, data };
    let console = tokio::task::spawn_blocking(move || -> Result<Console, String> {
        is_there(&mut console.child, address)?;
        Ok(console)
    });
    Ok(console.await??)
}

/// Writes the token and the configuration. Returns the path of the latter.
fn configured(
    folder: &Path,
    data: &Path,
    address: SocketAddr,
    api: SocketAddr,
    tokens: &Path,
) -> Result<PathBuf, Box<dyn std::error::Error + Send + Sync>> {
    use std::io::Write;
    let now = Timestamp::now();
    let scopes: Vec<Scope> = Scope::ALL.into_iter().filter(|scope| *scope != Scope::Metrics).collect();
    let made = Token::make("console", &scopes, None, now, now.plus_days(1))?;
    api_token::update(tokens, |all| {
        all.push(made.token.clone());
        Ok(())
    })?;
    let file = data.join("token");
    let mut out = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?;
    out.write_all(made.secret.as_bytes())?;
    let config = folder.join("console.toml");
    std::fs::write(
        &config,
        format!(
            "data_directory = {:?}\n\
             [server]\n\
             address = \"{address}\"\n\
             [api]\n\
             url = \"http://{api}\"\n\
             [log]\n\
             level = \"warn\"\n",
            data.display().to_string()
        ),
    )?;
    Ok(config)
}

/// Waits until the console accepts connections.
fn is_there(child: &mut Child, address: SocketAddr) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_err() {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!(
                "the console stopped ({status}). Choose another address for it with --console"
            ));
        }
        if Instant::now() >= end {
            return Err(format!("the console does not start at {address}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
