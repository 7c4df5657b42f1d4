//! The name of this host, as it is given to others.

use std::net::UdpSocket;

/// The host's full name: the node name where it has a dot, else the first name with a dot beside it in
/// `/etc/hosts`, else an address literal (RFC 5321 section 4.1.3). Next hops reject names such as
/// `localhost`.
pub fn own() -> String {
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if node.contains('.') {
        return node;
    }
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    full_name(&node, &hosts).unwrap_or_else(literal)
}

/// The name with a dot on the line of `/etc/hosts` that has `node`.
fn full_name(node: &str, hosts: &str) -> Option<String> {
    hosts
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>())
        .find(|names| names.contains(&node))
        .and_then(|names| names.into_iter().find(|name| name.contains('.') && !name.starts_with("localhost")))
        .map(str::to_owned)
}

/// The address that this host would use towards others. Connecting a datagram socket sends nothing.
fn literal() -> String {
    let address = UdpSocket::bind("0.0.0.0:0")
        .and_then(|socket| socket.connect("192.0.2.1:25").and_then(|()| socket.local_addr()))
        .map_or_else(|_| std::net::IpAddr::from([127, 0, 0, 1]), |address| address.ip());
    format!("[{address}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_name_stands_beside_the_short_one() {
        let hosts = "127.0.0.1 localhost\n192.0.2.1 relay.example relay # relay.other.example\n";
        assert_eq!(full_name("relay", hosts), Some("relay.example".to_owned()));
        assert_eq!(full_name("other", hosts), None);
    }

    #[test]
    fn a_literal_is_an_address_in_brackets() {
        let literal = literal();
        let inner = literal.strip_prefix('[').unwrap().strip_suffix(']').unwrap();
        assert!(inner.parse::<std::net::IpAddr>().is_ok());
    }
}
