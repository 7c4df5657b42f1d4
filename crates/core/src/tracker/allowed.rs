//! Exceptions that the operator makes for a false alarm: named, with a reason, and not for ever.

use super::url::Url;

/// Addresses that are no trackers, whatever speaks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The host, in lower case; it covers its subdomains too.
    pub host: String,
    /// What the path starts with.
    pub path: String,
    /// Why, for the reports.
    pub reason: String,
    /// When it ends, in milliseconds since 1970.
    pub expires: i64,
}

impl Allowed {
    /// Whether the exception holds for an address now.
    pub fn covers(&self, url: &Url<'_>, now: i64) -> bool {
        let below = url.host().strip_suffix(self.host.as_str());
        now < self.expires
            && below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
            && url.path().starts_with(self.path.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, path: &str, now: i64) -> bool {
        let allowed = Allowed { host: host.into(), path: path.into(), reason: "test".into(), expires: 100 };
        allowed.covers(&Url::read("https://img.shop.example/open/logo?u=1".into(), None).unwrap(), now)
    }

    #[test]
    fn an_exception_covers_a_host_and_a_path_until_it_ends() {
        assert!(check("shop.example", "/", 1));
        assert!(check("img.shop.example", "/open/", 99));
        assert!(!check("img.shop.example", "/open/", 100));
        assert!(!check("op.example", "/", 1));
        assert!(!check("shop.example", "/x", 1));
    }
}
