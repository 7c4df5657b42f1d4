//! Transfer encodings: an edit of the decoded text, written into the raw bytes, has its effect and no other.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pixelward::message::transfer::{Decoded, Edit, Filler, Transfer, apply, normalise};

fn without_filler(bytes: &[u8]) -> Vec<u8> {
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    text.replace("<!---->", "").replace("<!-- -->", "").replace(' ', "").into_bytes()
}

fuzz_target!(|input: (bool, Vec<(u16, u8, u8)>, Vec<u8>)| {
    let (base64, places, raw) = input;
    let transfer = if base64 { Transfer::Base64 } else { Transfer::QuotedPrintable };
    let decoded = Decoded::new(&raw, transfer);
    let length = decoded.bytes.len();
    let edits = places.iter().take(4).map(|(start, span, with)| {
        let start = usize::from(*start) % (length + 1);
        let filler = [Filler::Comment, Filler::Space, Filler::Nothing][usize::from(*with) % 3];
        Edit { range: start..(start + usize::from(*span)).min(length), with: vec![b'x'; usize::from(*with) % 5], filler }
    });
    let edits = normalise(edits.collect());
    let wanted = apply(&decoded.bytes, &edits);
    let written = apply(&raw, &decoded.to_raw(&raw, edits));
    let read = Decoded::new(&written, transfer).bytes.into_owned();
    assert_eq!(without_filler(&read), without_filler(&wanted));
});
