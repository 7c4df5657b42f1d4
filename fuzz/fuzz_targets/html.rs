//! The area `html` of `areas.rs`.
#![no_main]

#[path = "../areas.rs"]
#[allow(dead_code)]
mod areas;

libfuzzer_sys::fuzz_target!(|input: &[u8]| areas::html(input));
