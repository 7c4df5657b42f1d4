//! Open files: each session uses one, and one more while it talks to a next hop.

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::config::Config;

/// What the relay opens besides connections: the store, the ledger, certificates, the log.
const OTHERS: u64 = 64;

/// Raises the limit of open files as far as the system allows, and warns if that is less than the configured
/// connections need. A shell or a container often sets 1024, and leaves raising it to each program.
pub fn raise(config: &Config) {
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum;
    if limit.current != most {
        limit.current = most;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files could not be raised");
        }
    }
    let has = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let needs = needs(config);
    if has < needs {
        tracing::warn!(
            has,
            needs,
            "open files are limited to fewer than the configured connections need: beyond that, clients wait \
             for others to finish; raise the limit (LimitNOFILE, ulimit -n) or lower max_connections"
        );
    }
}

/// Returns how many open files the maximum connections of all listeners and next hops need.
fn needs(config: &Config) -> u64 {
    let listeners = config.listeners.iter().map(|listener| listener.max_connections);
    let next_hops = config.next_hops.iter().map(|hop| hop.max_connections);
    listeners.chain(next_hops).map(|connections| connections as u64).fold(OTHERS, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_is_an_open_file() {
        let listener = "[[listener]]\naddress = \"127.0.0.1:0\"\nmax_connections = 5000\n";
        let hop = "[next_hop]\nhost = \"smtp.next-hop.example\"\nmax_connections = 500\n";
        assert_eq!(needs(&Config::parse(&format!("{listener}{hop}")).unwrap()), 5564);
    }

    #[test]
    fn the_limit_is_raised_as_far_as_it_goes() {
        let listener = "[[listener]]\naddress = \"127.0.0.1:0\"\n";
        let config = format!("{listener}[next_hop]\nhost = \"smtp.next-hop.example\"\n");
        raise(&Config::parse(&config).unwrap());
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
