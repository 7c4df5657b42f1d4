//! Invitations: a new relay shows a secret that was made for it, and knows by the hash of the authority's
//! certificate that it talks to the cluster that invited it.

use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::locked;
use crate::message::fresh_id;

/// How long an invitation holds.
const HOLDS: Duration = Duration::from_secs(3600);
/// What the text of one begins with.
const PREFIX: &str = "pwj1";

/// An invitation, as it is carried to the new relay by hand.
#[derive(Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The address of the relay that invites, as `host:port`.
    pub address: String,
    /// The secret.
    pub secret: [u8; 16],
    /// The SHA-256 of the authority's certificate.
    pub authority: [u8; 32],
}

impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invitation({})", self.address)
    }
}

impl fmt::Display for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}.{}.{}.{}", hex::encode(self.secret), hex::encode(self.authority), self.address)
    }
}

impl FromStr for Invitation {
    type Err = String;

    fn from_str(text: &str) -> Result<Invitation, String> {
        let parsed = || {
            let mut parts = text.trim().splitn(4, '.');
            let (prefix, secret) = (parts.next()?, parts.next()?);
            let (authority, address) = (parts.next()?, parts.next()?);
            Some(Invitation {
                address: Some(address)
                    .filter(|address| prefix == PREFIX && address.contains(':'))?
                    .to_owned(),
                secret: hex::decode(secret).ok()?.try_into().ok()?,
                authority: hex::decode(authority).ok()?.try_into().ok()?,
            })
        };
        parsed().ok_or_else(|| {
            "this is no invitation: copy the whole line that the other relay printed".to_owned()
        })
    }
}

/// The invitations that were made and not used. They do not survive a restart.
#[derive(Debug, Default)]
pub struct Invitations(Mutex<Vec<([u8; 16], Instant)>>);

impl Invitations {
    /// Makes one, which holds once and for an hour.
    ///
    /// # Errors
    ///
    /// When there is no randomness.
    pub fn make(&self, address: &str, authority: [u8; 32]) -> std::io::Result<Invitation> {
        let secret = fresh_id()?;
        locked(&self.0).push((secret, Instant::now() + HOLDS));
        Ok(Invitation { address: address.to_owned(), secret, authority })
    }

    /// Uses one up; returns whether there was one with this secret.
    pub(super) fn take(&self, secret: &[u8]) -> bool {
        let mut open = locked(&self.0);
        let now = Instant::now();
        open.retain(|(_, until)| *until > now);
        let before = open.len();
        open.retain(|(known, _)| aws_lc_rs::constant_time::verify_slices_are_equal(known, secret).is_err());
        open.len() < before
    }
}
