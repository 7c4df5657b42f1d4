//! Analysis and rewrite of a 50 KB newsletter, beside what they are made of: one decoding of quoted-printable
//! and one pass of the tokenizer. Ratios within one run count, not the times.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod fixture;

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fixture::newsletter;
use pixelward::message::transfer::Decoded;
use pixelward::message::{Content, Structure};
use pixelward::rewrite::{Order, Verify, rewrite};
use pixelward::tracker::html::Tokenizer;
use pixelward::tracker::{Detector, Inquiry, Links};

/// Microseconds that one call takes.
fn timed<T>(call: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    let result = call();
    let time = start.elapsed().as_secs_f64() * 1e6;
    drop(black_box(result));
    time
}

fn measure(criterion: &mut Criterion) {
    let raw = newsletter();
    assert!((45_000..56_000).contains(&raw.len()), "{}", raw.len());
    let detector = Detector::default();
    let structure = Structure::read(&raw);
    let leaf = structure.leaves.iter().find(|leaf| leaf.content == Content::Html).unwrap();
    let body = &raw[leaf.body.clone()];
    let text = Decoded::new(body, leaf.transfer);
    let recipients = ["eve@home.example"];
    let inquiry = Inquiry { links: Links::Count, ..Inquiry::to(&recipients) };
    let order = |verify| Order { verify, ..Order::strip(inquiry) };

    let rewritten = |verify| {
        let analysis = detector.analyse(black_box(&raw), &inquiry);
        rewrite(&detector, &raw, &analysis, &order(verify)).unwrap()
    };
    let mut least = [f64::MAX; 5];
    for _ in 0..2000 {
        let times = [
            timed(|| Decoded::new(black_box(body), leaf.transfer)),
            timed(|| Tokenizer::new(black_box(&text.bytes), 0..text.bytes.len()).count()),
            timed(|| detector.analyse(black_box(&raw), &inquiry)),
            timed(|| rewritten(Verify::Off)),
            timed(|| rewritten(Verify::Difference)),
        ];
        for (least, time) in least.iter_mut().zip(times) {
            *least = least.min(time);
        }
    }
    let [decode, tokens, analysis, all, verified] = least;
    println!(
        "least times in us: decode {decode:.1}, tokenizer {tokens:.1}, analysis {analysis:.1}, analysis and \
         rewrite {all:.1}; \
         analysis and rewrite are {:.2} times decode and tokenizer; verification costs {:.2} times the \
         analysis",
        all / (decode + tokens),
        (verified - all) / analysis
    );

    let mut group = criterion.benchmark_group("newsletter");
    group.throughput(Throughput::Bytes(raw.len() as u64));
    group.bench_function("structure", |bencher| bencher.iter(|| Structure::read(black_box(&raw))));
    group.bench_function("one quoted-printable decode", |bencher| {
        bencher.iter(|| Decoded::new(black_box(body), leaf.transfer))
    });
    group.bench_function("one tokenizer pass", |bencher| {
        bencher.iter(|| Tokenizer::new(black_box(&text.bytes), 0..text.bytes.len()).count());
    });
    group.bench_function("analysis", |bencher| bencher.iter(|| detector.analyse(black_box(&raw), &inquiry)));
    group.bench_function("analysis and rewrite", |bencher| {
        bencher.iter(|| {
            let analysis = detector.analyse(black_box(&raw), &inquiry);
            rewrite(&detector, &raw, &analysis, &order(Verify::Off)).unwrap()
        });
    });
    group.bench_function("analysis, rewrite and verification", |bencher| {
        bencher.iter(|| {
            let analysis = detector.analyse(black_box(&raw), &inquiry);
            rewrite(&detector, &raw, &analysis, &order(Verify::Difference)).unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, measure);
criterion_main!(benches);
