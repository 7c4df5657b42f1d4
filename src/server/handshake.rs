//! Starting TLS with a client.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::connection::{Conversation, Ended};
use crate::config::ClientCertificate;
use crate::smtp::session::{Identity, Session};
use crate::wire::{Stream, Wire};

impl Conversation<'_> {
    /// Starts TLS. Everything the client said and showed in clear is forgotten (RFC 3207, section 4.2).
    pub(super) async fn start_tls(&mut self) -> Result<(), Ended> {
        let live = self.live();
        let Some(tls) = live.tls.get(self.index).and_then(Option::as_ref) else { return Err(Ended::Done) };
        let placeholder = Stream::Clear(unconnected()?);
        let Some(tcp) = std::mem::replace(&mut self.wire.stream, placeholder).into_clear() else {
            return Err(Ended::Done);
        };
        let accept = TlsAcceptor::from(Arc::clone(&tls.config)).accept(tcp);
        let accepted = timeout(self.settings.idle_timeout, accept).await.map_err(|_| Ended::TimedOut)?;
        let secure = accepted.inspect_err(|error| {
            metrics::counter!("pixelward_tls_errors_total").increment(1);
            tracing::info!(
                peer = %self.peer.ip(),
                listener = %self.settings.name,
                %error,
                "TLS could not be established with a client"
            );
        })?;
        let certificate = tls.client_name(secure.get_ref().1);
        self.wire = Wire::new(Stream::Tls(Box::new(secure.into())));
        self.session = Session::New;
        self.identity = Identity { certificate, ..Identity::default() };
        let required = matches!(self.settings.client_certificate, ClientCertificate::Required(_));
        if required && self.identity.certificate.is_none() {
            // It was verified once, and the client resumes that session: it may have expired by now.
            return Err(Ended::Done);
        }
        Ok(())
    }
}

/// Returns a placeholder for a socket that is being taken over by TLS.
fn unconnected() -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    TcpStream::from_std(socket.into())
}
