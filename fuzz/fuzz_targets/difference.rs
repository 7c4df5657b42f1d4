//! The area `difference` of `areas.rs`.
#![no_main]

#[path = "../areas.rs"]
#[allow(dead_code)]
mod areas;

libfuzzer_sys::fuzz_target!(|input: &[u8]| areas::difference(input));
