//! Sockets that systemd holds for the relay, so that a restart refuses no connection: `systemd.socket(5)`,
//! `sd_listen_fds(3)`.

use std::net::{SocketAddr, TcpListener};

/// The listening sockets passed at the start.
#[derive(Debug, Default)]
pub struct Activated(Vec<(SocketAddr, TcpListener)>);

impl Activated {
    /// Takes the sockets named in the environment, unless they are meant for another process.
    ///
    /// # Errors
    ///
    /// When one of them is not a listening TCP socket.
    pub fn take() -> Result<Activated, String> {
        let mut handed = listenfd::ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..handed.len() {
            let socket = handed.take_tcp_listener(index).map_err(|error| {
                format!("socket {index} of the socket unit: {error}; give ListenStream an address and a port")
            })?;
            if let Some(socket) = socket {
                let address = socket.local_addr().map_err(|error| error.to_string())?;
                sockets.push((address, socket));
            }
        }
        Ok(Activated(sockets))
    }

    /// Takes the socket at a listener's address.
    pub fn at(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let index = self.0.iter().position(|(other, _)| *other == address)?;
        Some(self.0.swap_remove(index).1)
    }

    /// Returns the addresses that no listener has taken.
    pub fn left(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|(address, _)| *address).collect()
    }
}
