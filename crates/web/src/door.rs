//! The two doors by which people and programs come in.

use std::sync::Arc;
use std::time::Duration;

use pixelward_net::Tls;
use pixelward_net::serve::{Bound, Limits, Service};

use crate::live::{Host, Live};

/// What is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The API, for programs that hold a token.
    Api,
    /// Preference page and pixels, for readers. Their addresses are not logged.
    Public,
}

impl Door {
    const fn service(self) -> Service {
        match self {
            Door::Api => Service { name: "the API", logs_clients: true },
            Door::Public => Service { name: "the public listener", logs_clients: false },
        }
    }

    fn max_connections(self, live: &Live) -> usize {
        match self {
            Door::Api => live.config.api.max_connections,
            Door::Public => live.config.public.max_connections,
        }
    }

    fn patience(self, live: &Live) -> Duration {
        match self {
            Door::Api => live.config.api.idle_timeout,
            Door::Public => live.config.public.idle_timeout,
        }
    }

    const fn tls(self, live: &Live) -> Option<&Tls> {
        match self {
            Door::Api => live.api_tls.as_ref(),
            Door::Public => live.public_tls.as_ref(),
        }
    }
}

/// Serves what comes in by a door, until dropped.
pub async fn serve(bound: Bound, door: Door, routes: axum::Router, host: Arc<dyn Host>) {
    let max_connections = door.max_connections(&host.live());
    let limits = move || {
        let live = host.live();
        Limits { patience: door.patience(&live), tls: door.tls(&live).map(|tls| Arc::clone(&tls.config)) }
    };
    bound.serve(door.service(), max_connections, routes, limits).await;
}
