//! Where a gated pixel may lead. The address comes from mail, so it is nobody's to trust: browsers follow it
//! from the reader's machine.
//!
//! Promised: only http and https, to a name or address that is public, without credentials, and in the form
//! in which browsers read it, so that no two readers of it differ. Nothing here or behind it ever connects to
//! one.

use std::net::{Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Names below these lead nowhere public (RFC 6761, RFC 6762, RFC 8375, RFC 9476 and what private networks
/// use).
const PRIVATE: [&str; 13] = [
    "localhost",
    "local",
    "localdomain",
    "internal",
    "intranet",
    "private",
    "corp",
    "home",
    "lan",
    "arpa",
    "onion",
    "alt",
    "invalid",
];

/// The address in the form in which browsers read it; `None` where a reader must not be led there.
pub fn allowed(address: &str) -> Option<String> {
    // What browsers take out silently, other readers may not.
    if address
        .chars()
        .any(|character| character.is_control() || character.is_whitespace() || character == '\\')
    {
        return None;
    }
    let url = Url::parse(address).ok()?;
    let is_web = matches!(url.scheme(), "http" | "https");
    let is_bare = url.username().is_empty() && url.password().is_none();
    let port = url.port_or_known_default()?;
    let is_public = match url.host()? {
        Host::Domain(name) => is_public_name(name),
        Host::Ipv4(address) => is_public_v4(address),
        Host::Ipv6(address) => is_public_v6(address),
    };
    // Ports of other services than the web's: browsers refuse most of them.
    let is_usual = port == 80 || port == 443 || port >= 1024;
    (is_web && is_bare && is_public && is_usual).then(|| url.to_string())
}

fn is_public_name(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    let Some((_, top)) = name.rsplit_once('.') else { return false };
    !PRIVATE.iter().any(|private| top.eq_ignore_ascii_case(private))
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        // Shared by carriers (RFC 6598), protocol assignments (RFC 6890), benchmarks (RFC 2544), relays of
        // 6to4 (RFC 7526).
        || (a == 100 && b & 0xc0 == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && b & 0xfe == 18)
        || (a == 192 && b == 88 && c == 99);
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    // What is given out stands below 2000::/3; within it, tunnels and documentation lead elsewhere.
    let is_given_out = first & 0xe000 == 0x2000;
    let is_tunnel = first == 0x2002 || (first == 0x2001 && second < 0x0200);
    let is_sample = (first == 0x2001 && second == 0x0db8) || (first == 0x3fff && second < 0x1000);
    is_given_out && !is_tunnel && !is_sample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_of_the_web_may_be_led_to() {
        for (address, wanted) in [
            ("https://t.news.example/wf/open?upn=abc", "https://t.news.example/wf/open?upn=abc"),
            ("HTTP://T.News.example:80/o?a=1&b=%20#x", "http://t.news.example/o?a=1&b=%20#x"),
            ("https://b\u{fc}cher.example/o", "https://xn--bcher-kva.example/o"),
            ("https://t.news.example:8443/o", "https://t.news.example:8443/o"),
            ("http://8.8.8.8/o.gif", "http://8.8.8.8/o.gif"),
            ("https://[2606:4700::1]/o", "https://[2606:4700::1]/o"),
        ] {
            assert_eq!(allowed(address).as_deref(), Some(wanted), "{address}");
        }
    }

    /// Spellings of addresses that are not public.
    fn hostile() -> Vec<String> {
        let mut all = Vec::new();
        let hosts = [
            "localhost",
            "LOCALHOST",
            "localhost.",
            "a.localhost",
            "printer.local",
            "db.internal",
            "wiki",
            "wiki.",
            "intranet.corp",
            "router.home",
            "nas.lan",
            "1.0.0.127.in-addr.arpa",
            "x.onion",
            "a.invalid",
            "127.0.0.1",
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "017700000001",
            "127.255.255.254",
            "127.0.0.1.",
            "0",
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "192.168.255.255",
            "169.254.169.254",
            "0xa9fea9fe",
            "2852039166",
            "169.254.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "198.51.100.7",
            "203.0.113.9",
            "198.18.0.1",
            "198.19.255.255",
            "192.88.99.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "\u{ff11}27.0.0.1",
            "127\u{3002}0\u{3002}0\u{3002}1",
            "\u{24db}\u{24de}calhost",
            "[::]",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "[::ffff:a9fe:a9fe]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b:1::1]",
            "[fe80::1]",
            "[fe80::1%25eth0]",
            "[fc00::1]",
            "[fd12:3456::1]",
            "[ff02::1]",
            "[2001:db8::1]",
            "[2001::1]",
            "[2002:7f00:1::]",
            "[100::1]",
            "[3fff::1]",
            "[fec0::1]",
        ];
        for host in hosts {
            all.push(format!("http://{host}/o.gif"));
            all.push(format!("https://{host}:8443/o.gif"));
        }
        for scheme in ["ftp", "file", "gopher", "ws", "wss", "ldap", "dict", "jar", "blob", "about", "chrome"]
        {
            all.push(format!("{scheme}://t.news.example/o"));
        }
        let rest = [
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "data:image/gif;base64,R0lGOD",
            "mailto:a@b.example",
            "tel:112",
            "intent://x#Intent;end",
            "//t.news.example/o",
            "/o",
            "o",
            "",
            "http:",
            "http://",
            "https://",
            "http:///o",
            "http://:80/o",
            "https://user@t.news.example/o",
            "https://user:secret@t.news.example/o",
            "https://t.news.example@127.0.0.1/o",
            "https://127.0.0.1#@t.news.example/",
            "http://127.0.0.1?t.news.example",
            "https://t.news.example:22/o",
            "https://t.news.example:25/o",
            "https://t.news.example:0/o",
            "https://t.news.example:99999/o",
            "https://t.news.example:-1/o",
            "https://t.news.example\\@127.0.0.1/",
            "https:\\\\t.news.example/o",
            "https://t.news.example/o\r\nSet-Cookie: a=b",
            "https://t.news.example/o\nx",
            "https://t.news.example/\u{0}",
            "https://t.news.example/a b",
            " https://t.news.example/o",
            "https://t.news.example/o ",
            "https://t.news.example/\to",
            "java\tscript:alert(1)",
            "https://t.news.example /o",
            "https://%31%32%37.0.0.1/o",
            "https://%6cocalhost/o",
            "https://local%68ost/o",
            "https://[::1",
            "https://::1/o",
            "https://[1.2.3.4]/o",
            "https://t..example/%00%0d%0a\r",
            "https://t.news.example/\u{85}",
            "https://<t>.example/o",
            "https://t^.example/o",
            "https://t|.example/o",
        ];
        all.extend(rest.map(str::to_owned));
        all
    }

    #[test]
    fn nobody_is_led_to_what_is_not_public() {
        let all = hostile();
        assert!(all.len() >= 200, "{}", all.len());
        for address in all {
            assert_eq!(allowed(&address), None, "{address:?}");
        }
    }

    #[test]
    fn what_is_allowed_once_is_allowed_again_and_the_same() {
        for address in [
            "https://t.news.example/%7e?a=%",
            "http://T.Example/../o",
            "https://b\u{fc}cher.example/\u{e9}?\u{e9}",
        ] {
            let once = allowed(address).unwrap();
            assert_eq!(allowed(&once), Some(once.clone()));
            assert!(once.is_ascii());
        }
    }
}
