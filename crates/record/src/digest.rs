//! Hashes the bodies of a message and of its copies. Their common beginning is hashed only once.
//!
//! The body is everything below the header. A reader's copy has more header fields than left here (trace
//! fields of later relays), so only the body can be compared.

use aws_lc_rs::digest::{Context, SHA256};

/// The SHA-256 of a body.
pub type BodyHash = [u8; 32];

/// Hashes a message's body and those of its copies, in order.
pub fn bodies<'a>(
    message: &[u8],
    copies: impl Iterator<Item = Option<&'a [u8]>>,
) -> (BodyHash, Vec<Option<BodyHash>>) {
    let before = body_of(message);
    let copies: Vec<Option<&[u8]>> = copies.map(|copy| copy.map(body_of)).collect();
    let shared = copies.iter().flatten().map(|copy| in_common(before, copy)).min().unwrap_or(before.len());
    let (start, rest) = before.split_at_checked(shared).unwrap_or((before, &[]));
    let mut context = Context::new(&SHA256);
    context.update(start);
    let whole = finished(context.clone(), rest);
    let after = copies.into_iter().map(|copy| {
        copy.map(|bytes| match bytes == before {
            true => whole,
            false => finished(context.clone(), bytes.get(shared..).unwrap_or_default()),
        })
    });
    (whole, after.collect())
}

/// Hashes a message's body.
pub fn body(message: &[u8]) -> BodyHash {
    finished(Context::new(&SHA256), body_of(message))
}

fn finished(mut context: Context, rest: &[u8]) -> BodyHash {
    context.update(rest);
    let mut hash = [0; 32];
    hash.iter_mut().zip(context.finish().as_ref()).for_each(|(target, byte)| *target = *byte);
    hash
}

/// Returns everything below the header.
fn body_of(message: &[u8]) -> &[u8] {
    if let Some(body) = message.strip_prefix(b"\r\n") {
        return body;
    }
    let end = memchr::memmem::find(message, b"\r\n\r\n").map_or(message.len(), |end| end + 4);
    message.get(end..).unwrap_or_default()
}

/// Returns the length of the common beginning of two bodies, found in steps.
fn in_common(one: &[u8], other: &[u8]) -> usize {
    const STEP: usize = 256;
    let steps = one.chunks(STEP).zip(other.chunks(STEP)).take_while(|(one, other)| one == other);
    (steps.count() * STEP).min(one.len()).min(other.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(body: &[u8]) -> BodyHash {
        finished(Context::new(&SHA256), body)
    }

    #[test]
    fn each_hash_is_that_of_its_body_wherever_the_copies_differ() {
        let long: Vec<u8> = (0..2000u32).map(|number| number as u8).collect();
        let message = [b"Subject: a\r\n\r\n", &long[..]].concat();
        for cut in [0, 1, 255, 256, 257, 1024, 1999, 2000] {
            let cut_off = [b"Subject: b\r\nX: y\r\n\r\n", &long[..cut]].concat();
            let added = [b"\r\n", &long[..cut], b"!", &long[cut..]].concat();
            let copies = [Some(&message[..]), None, Some(&cut_off[..]), Some(&added[..])];
            let (before, after) = bodies(&message, copies.into_iter());
            let wanted = [Some(plain(&long)), None, Some(plain(&long[..cut])), Some(plain(&added[2..]))];
            assert_eq!((before, after), (plain(&long), wanted.to_vec()), "{cut}");
        }
        assert_eq!(bodies(b"Subject: a\r\n", std::iter::empty()).0, plain(b""));
    }
}
