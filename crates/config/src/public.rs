//! The public listener, which readers' browsers and mail clients reach.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::reader::Section;
use super::{address, count, days, pair};

/// The public listener, and how long tokens in mail are valid.
#[derive(Clone, Debug)]
pub struct Public {
    /// The address; `None` to disable.
    pub address: Option<SocketAddr>,
    /// Certificate chain and key, PEM. Without them it is served in clear, for a proxy in front of it.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The maximum number of concurrent connections.
    pub max_connections: usize,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// How long a connection may stall.
    pub idle_timeout: Duration,
    /// The number of the key that seals tokens. Tokens of lower ones stay valid.
    pub token_key: u8,
    /// For how many days after a message its link can grant consent; it can withdraw for ever.
    pub grant_days: u16,
    /// For how many days after a message its pixels report anything.
    pub pixel_days: u16,
}

pub(super) fn public(section: &mut Section<'_>) -> Public {
    let chosen =
        section.parsed("address", |text| if text.is_empty() { Ok(None) } else { address(text).map(Some) });
    Public {
        address: chosen.flatten(),
        certificate: pair(section),
        max_connections: count(section.number("max_connections", 4096, 1..=1_000_000)),
        request_timeout: section.seconds("request_timeout_s", 10, 1..=600),
        idle_timeout: section.seconds("idle_timeout_s", 30, 1..=3600),
        token_key: u8::try_from(section.number("token_key", 1, 1..=255)).unwrap_or(u8::MAX),
        grant_days: days(section.number("grant_days", 180, 2..=3650)),
        pixel_days: days(section.number("pixel_days", 365, 1..=3650)),
    }
}
