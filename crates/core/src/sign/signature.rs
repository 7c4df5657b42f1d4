//! Signs a message (RFC 6376, sections 3.5, 3.7, 5.4).
//!
//! Canonicalization relaxed/relaxed. Fields that readers see are signed once more often than they occur, so
//! that nobody can add another one.

use std::collections::HashMap;

use super::canonical::{BodyForm, body_hash, body_of, relaxed_field};
use super::key::SigningKey;
use crate::message::header::{Field, by_name, fields};
use crate::message::transfer::encode_base64;

/// Fields that are signed if present, and once more than they occur.
const SEALED: [&str; 11] = [
    "From",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "Reply-To",
    "Sender",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
];
/// Fields that are signed if present.
const SIGNED: [&str; 10] = [
    "In-Reply-To",
    "References",
    "Content-Language",
    "Feedback-ID",
    "List-Id",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "List-Help",
    "List-Subscribe",
    "Auto-Submitted",
];
/// The maximum line length of the signature's own field, in characters.
const WIDTH: usize = 72;

/// Returns the DKIM-Signature field of each of these keys for a message, including line ends. The message is
/// read once for all of them. `now` is in seconds since 1970.
pub fn signatures(message: &[u8], keys: &[&SigningKey], now: i64) -> String {
    if keys.is_empty() {
        return String::new();
    }
    let header: Vec<Field> = fields(message, 0).collect();
    let by_name = by_name(message, &header);
    let names = signed_names(&by_name);
    let folded = folded_names(&names);
    let hash = encode_base64(body_hash(body_of(message), BodyForm::Relaxed, None).as_ref());
    let signed = signed_fields(message, &by_name, &names);
    let field = |key: &&SigningKey| {
        let tags = format!(
            "v=1; a={}; c=relaxed/relaxed;\r\n\td={}; s={}; t={now};\r\n\th={folded};\r\n\t\
             bh={hash};\r\n\tb=",
            key.algorithm().tag(),
            key.domain,
            key.selector,
        );
        let mut signed = signed.clone();
        relaxed_field(b"DKIM-Signature", tags.as_bytes(), &mut signed);
        let value = encode_base64(&key.sign(&signed));
        let lines: Vec<&str> =
            value.as_bytes().chunks(WIDTH).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        format!("DKIM-Signature: {tags}{}\r\n", lines.join("\r\n\t "))
    };
    keys.iter().map(field).collect()
}

/// Groups fields by name, in lower case.
type ByName<'h> = HashMap<Vec<u8>, Vec<&'h Field>>;

fn of_name<'h, 'm>(fields: &'m ByName<'h>, name: &str) -> &'m [&'h Field] {
    fields.get(name.to_ascii_lowercase().as_bytes()).map_or(&[], Vec::as_slice)
}

/// Returns the names for `h=`, each as often as it is signed.
fn signed_names(fields: &ByName<'_>) -> Vec<&'static str> {
    let count = |name: &str| of_name(fields, name).len();
    let sealed = SEALED.iter().flat_map(|name| std::iter::repeat_n(*name, count(name) + 1));
    let signed = SIGNED.iter().flat_map(|name| std::iter::repeat_n(*name, count(name)));
    sealed.chain(signed).collect()
}

/// Returns the signed fields in canonical form.
fn signed_fields(message: &[u8], fields: &ByName<'_>, names: &[&'static str]) -> Vec<u8> {
    let mut signed = Vec::with_capacity(2048);
    let mut left = HashMap::new();
    for name in names {
        // Of several fields with the same name, the last one comes first (section 5.4.2).
        let left = left.entry(*name).or_insert_with(|| of_name(fields, name).iter().rev());
        if let Some(field) = left.next() {
            relaxed_field(name.as_bytes(), field.value(message), &mut signed);
            signed.extend_from_slice(b"\r\n");
        }
    }
    signed
}

fn folded_names(names: &[&str]) -> String {
    let mut out = String::new();
    let mut column = 11;
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            out.push(':');
        }
        if column + name.len() > WIDTH {
            out.push_str("\r\n\t ");
            column = 9;
        }
        out.push_str(name);
        column += name.len() + 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::key::Algorithm;
    use crate::sign::verify::{Verdict, verify};

    const MESSAGE: &str = "Received: from a\r\n\
                           From: Shop  <news@shop.example>\r\n\
                           TO: ann@home.example\r\n\
                           Subject: A\r\n\
                           \tfolded   one \r\n\
                           Date: Mon, 02 Nov 2026 09:00:00 +0000\r\n\
                           List-Id: <news.shop.example>\r\n\
                           \r\n\
                           Hello  you \r\n\
                           \r\n\
                           Bye\r\n\
                           \r\n";

    fn signed(message: &str, algorithm: Algorithm) -> (String, String) {
        let pem = SigningKey::generate(algorithm);
        let key = SigningKey::read("shop.example", "px", pem.as_bytes()).unwrap();
        (format!("{}{message}", signatures(message.as_bytes(), &[&key], 1_790_000_000)), key.record())
    }

    fn check(message: &str, record: &str) -> Verdict {
        let found = verify(message.as_bytes(), |name| {
            (name == "px._domainkey.shop.example").then(|| record.to_owned())
        });
        assert_eq!(found.len(), 1);
        found.into_iter().next().unwrap().verdict
    }

    #[test]
    fn what_was_signed_verifies_and_what_was_altered_does_not() {
        for algorithm in [Algorithm::Rsa, Algorithm::Ed25519] {
            let (message, record) = signed(MESSAGE, algorithm);
            assert_eq!(check(&message, &record), Verdict::Holds);
            assert!(message.split("\r\n").all(|line| line.len() <= 78), "{message}");
            // Transport may fold blanks and add trace fields.
            let carried = message
                .replace("Hello  you \r\n", "Hello you\r\n")
                .replace("Subject: A\r\n\tfolded", "Subject: A folded");
            assert_eq!(check(&format!("Received: from b\r\n{carried}"), &record), Verdict::Holds);
            for (what, with) in [
                ("Hello", "hello"),
                ("news@shop.example>\r\n", "eve@shop.example>\r\n"),
                ("Date: Mon", "Date: Tue"),
                ("<news.shop.example>", "<other.shop.example>"),
                ("Subject: A", "Subject: B"),
                ("\r\n\r\nHello", "\r\nSubject: another\r\n\r\nHello"),
                ("\r\n\r\nHello", "\r\nCc: eve@home.example\r\n\r\nHello"),
                ("t=1790000000", "t=1790000001"),
                ("\r\nBye", ""),
            ] {
                assert!(message.contains(what), "{what}");
                let altered = message.replacen(what, with, 1);
                assert_ne!(check(&altered, &record), Verdict::Holds, "{what} {with}");
            }
            let (_, other) = signed(MESSAGE, algorithm);
            assert_eq!(check(&message, &other), Verdict::Fails);
        }
    }

    #[test]
    fn odd_messages_can_be_signed() {
        for message in [
            "From: a@shop.example\r\n\r\n",
            "From: a@shop.example\r\n",
            "From: a@shop.example\r\nFrom: b@shop.example\r\n\r\nx",
            "From: a@shop.example\r\n\r\n\r\n\r\n",
            "Subject:\r\nFrom:a@shop.example\r\n\r\n  \r\n x",
        ] {
            let (signed, record) = signed(message, Algorithm::Ed25519);
            assert_eq!(check(&signed, &record), Verdict::Holds, "{message:?}");
        }
    }
}
