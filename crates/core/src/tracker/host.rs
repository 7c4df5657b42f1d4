//! What of a host may be kept to classify a tracker by, that names nobody.

use super::token::{Opacity, piece_opacity};

/// The longest label that is kept beside the registrable domain: what a vendor calls a service is shorter,
/// what stands for a reader longer.
const LONGEST: usize = 12;
/// The shortest word of an address by which a label can name somebody.
const SHORTEST_NAME: usize = 3;

/// The registrable domain with at most one label before it, and that only where it is a word with a few
/// digits: `open.vendor.example`. Whatever else stands before it may have been made for one reader, and
/// becomes a star: `*.vendor.example`. So does a word that `names_reader`. `None` where there is no name of
/// the public network.
pub fn reduced(host: &str, names_reader: impl Fn(&str) -> bool) -> Option<String> {
    let host = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host }
    });
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let is_name = host.len() <= 253
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    // An address in numbers has no domain, and names a machine.
    let is_number =
        host.rsplit('.').next().is_some_and(|label| label.bytes().all(|digit| digit.is_ascii_digit()));
    if !is_name || is_number {
        return None;
    }
    let domain =
        psl::domain_str(&host).filter(|domain| piece_opacity(domain.as_bytes()) != Opacity::Opaque)?;
    let before = host.strip_suffix(domain)?.strip_suffix('.');
    match before {
        None => Some(domain.to_owned()),
        Some(label) if is_word(label) && !names_reader(label) => Some(format!("{label}.{domain}")),
        Some(_) => Some(format!("*.{domain}")),
    }
}

/// Whether a label and a recipient's address before the `@` share a word, or one of them holds the other.
pub fn names(label: &str, address: &str) -> bool {
    let local = address.rsplit_once('@').map_or(address, |(local, _)| local).to_ascii_lowercase();
    let mut words = local.split(|character: char| !character.is_ascii_alphanumeric());
    label.len() >= SHORTEST_NAME && local.contains(label)
        || words.any(|word| word.len() >= SHORTEST_NAME && label.contains(word))
}

/// Letters, and three digits at most.
fn is_word(label: &str) -> bool {
    let digits = label.bytes().filter(u8::is_ascii_digit).count();
    label.len() <= LONGEST
        && digits <= 3
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && piece_opacity(label.as_bytes()) == Opacity::Plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_made_for_one_reader_becomes_a_star() {
        for (host, kept) in [
            ("vendor.example", Some("vendor.example")),
            ("Open.Vendor.example.", Some("open.vendor.example")),
            ("t3.vendor.co.uk:8443", Some("t3.vendor.co.uk")),
            ("a.b.vendor.example", Some("*.vendor.example")),
            ("ann-smith.vendor.example", Some("*.vendor.example")),
            ("ann_home.vendor.example", Some("*.vendor.example")),
            ("4711.vendor.example", Some("*.vendor.example")),
            ("zk3qw9xvt2ab.vendor.example", Some("*.vendor.example")),
            ("annabelleatsmithathome.vendor.example", Some("*.vendor.example")),
            ("u001.zk3qw9xvt2ab7lmn8prsyd4hcj6.vendor.example", Some("*.vendor.example")),
            ("203.0.113.7", None),
            ("[2001:db8::1]:443", None),
            ("localhost", None),
            ("", None),
            ("ann@home.example", None),
        ] {
            assert_eq!(reduced(host, |_| false).as_deref(), kept, "{host}");
        }
        assert_eq!(reduced("ann.vendor.example", |_| true).as_deref(), Some("*.vendor.example"));
        assert_eq!(reduced("vendor.example", |_| true).as_deref(), Some("vendor.example"));
    }

    #[test]
    fn a_label_with_a_word_of_an_address_names_its_owner() {
        for (label, address, expected) in [
            ("ann", "Ann.Smith@home.example", true),
            ("annsmith7", "ann.smith@home.example", true),
            ("smi", "ann.smith@home.example", true),
            ("open", "ann.smith@home.example", false),
            ("e", "eve@home.example", false),
            ("an1", "jo@home.example", false),
            ("home", "ann@home.example", false),
        ] {
            assert_eq!(names(label, address), expected, "{label} {address}");
        }
    }
}
