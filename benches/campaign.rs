//! A simulated campaign of 100,000 recipients: from which copy on a visible picture with an address of its
//! own for each reader is known, what that costs, and that pictures which are the same for many stay.
#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Instant;

use pixelward::tracker::{Campaigns, Detector, Inquiry, Key, Verdict};

const RECIPIENTS: u64 = 100_000;

fn token(number: u64) -> String {
    format!("{:032x}", (u128::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

/// One copy: a hero picture with an address of its own, an offer that one of fifty groups shares, and
/// pictures that all share.
fn copy(reader: u64) -> String {
    let hero = token(reader);
    let offer = token(1_000_000 + reader % 50);
    let mut html = format!(
        "<img src=\"https://img.shop.example/hero/{hero}.png\" width=\"600\" height=\"200\">\
         <img src=\"https://img.shop.example/offer/{offer}.png\" width=\"300\" height=\"200\">"
    );
    for number in 0..10 {
        html.push_str(&format!(
            "<img src=\"https://img.shop.example/i/{}.png\" width=\"100\" height=\"80\">",
            token(2_000_000 + number)
        ));
    }
    format!("List-Id: <news.shop.example>\r\nContent-Type: text/html\r\n\r\n{html}\r\n")
}

fn main() {
    let detector = Detector::default();
    for most in [0, 512] {
        let campaigns = Campaigns::new(most);
        let (mut heroes, mut others, mut first) = (0, 0, None);
        let start = Instant::now();
        for reader in 0..RECIPIENTS {
            let raw = copy(reader);
            let key = Key::of("shop", raw.as_bytes());
            let snapshot = campaigns.snapshot(key);
            let inquiry =
                Inquiry { learnt: (most > 0).then_some(&snapshot), ..Inquiry::to(&["ann@home.example"]) };
            let analysis = detector.analyse(raw.as_bytes(), &inquiry);
            campaigns.learn(key, &analysis.seen, 0);
            for sighting in analysis.sightings.iter().filter(|sighting| sighting.verdict == Verdict::Personal)
            {
                if sighting.url.contains("/hero/") {
                    heroes += 1;
                    first.get_or_insert(reader);
                } else {
                    others += 1;
                }
            }
        }
        println!(
            "{}: {heroes} of {RECIPIENTS} pictures that differ in each copy known (first at copy {first:?}), \
             {others} others taken for one, \
             {:.1} us a copy",
            if most == 0 { "without learning" } else { "with learning" },
            start.elapsed().as_secs_f64() * 1e6 / RECIPIENTS as f64
        );
        assert!(others == 0 && (most == 0) == (heroes == 0), "learning does not do what it should");
    }
}
