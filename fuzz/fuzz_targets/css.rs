//! Style sheets: loads lie in bounds and in order, and what the quick look passes over loads nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pixelward::tracker::css::{Strings, loads, may_load};

fuzz_target!(|style: &[u8]| {
    let found = loads(style, Strings::OfFunctions);
    for load in loads(style, Strings::OfCustomProperties) {
        assert!(load.range.start < load.range.end && load.range.end <= style.len());
    }
    for load in &found {
        assert!(load.range.start < load.range.end && load.range.end <= style.len());
    }
    assert!(found.is_empty() || may_load(style), "{:?}", String::from_utf8_lossy(style));
});
