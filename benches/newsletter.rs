//! Analysis and rewrite of a 50 KB newsletter, beside what they are made of: one decoding of quoted-printable and one pass of the
//! tokenizer. Ratios within one run count, not the times.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pixelward::message::transfer::Decoded;
use pixelward::message::{Content, Structure};
use pixelward::rewrite::{LinkTreatment, Order, Personal, Receipts, Verify, rewrite};
use pixelward::tracker::html::Tokenizer;
use pixelward::tracker::{Detector, Inquiry, Links};

/// A newsletter of about 50 KB in quoted-printable, with 64 pictures and one open pixel.
fn newsletter() -> Bytes {
    let mut html = String::from(
        "<!DOCTYPE html><html><head><style>a{color:#1a2b3c}@media print{td{padding:0}}</style></head><body>\r\n",
    );
    for number in 0..64 {
        html.push_str(&format!(
            "<table role=\"presentation\" width=\"600\" cellpadding=\"0\" style=\"border-collapse:collapse;font-family:Arial\">\r\n\
             <tr><td style=\"padding:8px 16px;font-size:14px;line-height:20px;color:#333333\">\r\n\
             <a href=\"https://www.shop.example/p/{number}?utm_source=news&amp;utm_medium=mail\" style=\"text-decoration:none\">\r\n\
             <img src=\"https://cdn.shop.example/images/2026/picture-{number}.jpg\" width=\"560\" height=\"240\" alt=\"Picture {number}\" style=\"display:block\"></a>\r\n\
             <p>Article {number}: caf\u{e9}, cr\u{e8}me and the long evenings \u{2014} a paragraph as such mails have it, with <b>some</b> <i>markup</i> and\r\n\
             enough words to fill a few lines, because text is most of what a reader reads, and most of what a relay has to pass over.</p>\r\n\
             </td></tr></table>\r\n"
        ));
    }
    html.push_str("<img src=\"https://click.shop.example/wf/open?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6\" width=\"1\" height=\"1\" alt=\"\">\r\n</body></html>\r\n");
    let mut raw = String::from(
        "From: Shop <news@shop.example>\r\nTo: eve@home.example\r\nSubject: News\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/alternative; boundary=\"b\"\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nNews\r\n\
         --b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n",
    );
    let mut column = 0;
    for byte in html.bytes() {
        if byte == b'\n' {
            raw.push_str("\r\n");
            column = 0;
            continue;
        }
        let piece = match byte {
            b'\r' => continue,
            b'=' | 0x80.. => format!("={byte:02X}"),
            byte => char::from(byte).to_string(),
        };
        if column + piece.len() > 75 {
            raw.push_str("=\r\n");
            column = 0;
        }
        column += piece.len();
        raw.push_str(&piece);
    }
    raw.push_str("\r\n--b--\r\n");
    Bytes::from(raw)
}

fn measure(criterion: &mut Criterion) {
    let raw = newsletter();
    let detector = Detector::default();
    let structure = Structure::read(&raw);
    let leaf = structure.leaves.iter().find(|leaf| leaf.content == Content::Html).unwrap();
    let body = &raw[leaf.body.clone()];
    let text = Decoded::new(body, leaf.transfer);
    let recipients = ["eve@home.example"];
    let inquiry = Inquiry { links: Links::Note, ..Inquiry::to(&recipients) };
    let order = |verify| Order {
        inquiry,
        receipts: Receipts::Strip,
        personal: Personal::Gentlest,
        links: LinkTreatment::Keep,
        verify,
    };

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
            rewrite(&detector, &raw, &analysis, &order(Verify::On)).unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, measure);
criterion_main!(benches);
