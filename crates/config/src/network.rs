//! Networks in CIDR notation.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// An address with a prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Returns whether an address lies within. An IPv4 address received over an IPv6 socket is treated as
    /// IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(this), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                this.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(this), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                this.to_bits() & mask == other.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl Network {
    /// Describes the extent of a network that is larger than any organisation; `None` for all others.
    pub fn breadth(&self) -> Option<String> {
        let is_local = |address: Ipv6Addr| address.is_unique_local() || address.is_unicast_link_local();
        match self.address {
            IpAddr::V4(_) if self.prefix == 0 => Some("every IPv4 address".to_owned()),
            IpAddr::V6(_) if self.prefix == 0 => Some("every IPv6 address".to_owned()),
            IpAddr::V4(_) if self.prefix < 8 => Some(format!("2^{} IPv4 addresses", 32 - self.prefix)),
            IpAddr::V6(address) if self.prefix < 16 && !is_local(address) => {
                Some(format!("2^{} IPv6 addresses", 128 - u32::from(self.prefix)))
            }
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let wrong = || {
            format!(
                "invalid network {text:?}: use CIDR notation such as \"192.0.2.0/24\" or \"2001:db8::/32\""
            )
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix: u8 = prefix.map_or(Ok(longest), str::parse).map_err(|_| wrong())?;
        if prefix > longest {
            return Err(wrong());
        }
        // IPv4 addresses mapped into IPv6 are compared as IPv4, and so are networks of them.
        match (address.to_canonical(), prefix.checked_sub(96)) {
            (IpAddr::V4(v4), Some(inner)) if address.is_ipv6() => {
                Ok(Network { address: IpAddr::V4(v4), prefix: inner })
            }
            _ => Ok(Network { address, prefix }),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(network: &str, address: &str) -> bool {
        network.parse::<Network>().unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn addresses_lie_within_their_network() {
        assert!(check("192.0.2.0/24", "192.0.2.77"));
        assert!(!check("192.0.2.0/24", "192.0.3.1"));
        assert!(check("192.0.2.7", "192.0.2.7"));
        assert!(check("0.0.0.0/0", "203.0.113.1"));
        assert!(check("2001:db8::/32", "2001:db8:1::1"));
        assert!(!check("2001:db8::/32", "2001:db9::1"));
        assert!(check("192.0.2.0/24", "::ffff:192.0.2.1"));
    }

    #[test]
    fn ipv4_within_ipv6_is_ipv4() {
        assert!(check("::ffff:0:0/96", "203.0.113.1") && check("::ffff:0:0/96", "::ffff:203.0.113.1"));
        assert!(check("::ffff:192.0.2.0/120", "192.0.2.7") && !check("::ffff:192.0.2.0/120", "192.0.3.7"));
        assert!(!check("::ffff:0:0/96", "2001:db8::1"));
        assert_eq!("::ffff:0:0/96".parse::<Network>().unwrap().to_string(), "0.0.0.0/0");
    }

    #[test]
    fn what_no_organisation_has_is_broad() {
        let breadth = |text: &str| text.parse::<Network>().unwrap().breadth().unwrap_or_default();
        for (text, wanted) in [
            ("0.0.0.0/0", "every IPv4 address"),
            ("::ffff:0:0/96", "every IPv4 address"),
            ("::/0", "every IPv6 address"),
            ("128.0.0.0/1", "2^31 IPv4 addresses"),
            ("::ffff:0.0.0.0/97", "2^31 IPv4 addresses"),
            ("2000::/3", "2^125 IPv6 addresses"),
            ("10.0.0.0/8", ""),
            ("fc00::/7", ""),
            ("fe80::/10", ""),
            ("2001:db8::/32", ""),
            ("192.0.2.1", ""),
        ] {
            assert_eq!(breadth(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "192.0.2.0/33", "192.0.2/24", "a.example", "::/129"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
