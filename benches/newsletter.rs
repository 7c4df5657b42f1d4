//! Analysis and rewrite of a 50 KB newsletter, beside what they are made of: one decoding of quoted-printable
//! and one pass of the tokenizer. Ratios within one run count, not the times.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pixelward::message::transfer::Decoded;
use pixelward::message::{Content, Structure};
use pixelward::rewrite::{LinkTreatment, Opens, Order, Personal, Receipts, Verify, rewrite};
use pixelward::tracker::html::Tokenizer;
use pixelward::tracker::{Detector, Inquiry, Links};

/// A newsletter of about 50 KB in quoted-printable: 12 articles with a picture and five links each, which
/// carry a token and their target, and one open pixel. The load generator of the benchmarks sends one of this
/// shape.
fn newsletter() -> Bytes {
    let link = |number: usize| {
        format!(
            "https://click.shop.example/c/Zk3Qw9XvT2aB7LmN8pRsYd4H/{number:04}?to=https%3A%2F%2Fshop.example%2Farticle%2F{number:05}\
             %3Futm_source%3Dnewsletter%26utm_medium%3Demail"
        )
    };
    let sentence = "gr\u{f6}\u{df}ere Auswahl f\u{fc}r lange Abende und was es diese Woche Neues gibt dazu \
                    ein Wort \u{fc}ber die Lieferung die \
                    ab heute kostenlos ist und ein paar Zeilen mehr weil Text das meiste ist was in solchen \
                    Briefen steht ";
    let mut html = String::from(
        "<!DOCTYPE html>\r\n<html lang=\"de\">\r\n<head>\r\n<meta http-equiv=\"Content-Type\" \
         content=\"text/html; charset=utf-8\">\r\n\
         <title>News</title>\r\n<style \
         type=\"text/css\">\r\nbody{margin:0;padding:0;background:#f4f4f4}img{border:0;display:block}\r\n\
         @media only screen and (max-width:600px){.w{width:100% !important}.h{display:none}}\r\n</style>\r\n\
         <!--[if mso]><style>table{border-collapse:collapse}</style><![endif]-->\r\n</head>\r\n<body \
         style=\"margin:0\">\r\n\
         <div style=\"display:none;max-height:0;overflow:hidden\">What is in it this week</div>\r\n\
         <table class=\"w\" width=\"600\" cellpadding=\"0\" cellspacing=\"0\" border=\"0\" \
         align=\"center\">\r\n",
    );
    for article in 0..12 {
        html.push_str(&format!(
            "<tr><td style=\"padding:12px \
             24px;font-family:Arial,Helvetica,sans-serif;font-size:14px;line-height:21px;color:#333333;\">\r\n\
             <a href=\"{}\"><img src=\"https://img.shop.example/nl/2026/{article:02}/banner-{}.jpg\" \
             width=\"552\" height=\"240\" alt=\"Picture {article}\" \
             style=\"width:100%;max-width:552px;height:auto\"></a>\r\n<h2 style=\"font-size:20px;margin:16px \
             0 8px\">Artikel {article}</h2>\r\n<p>{}</p>\r\n",
            link(5 * article),
            100_000 + 7919 * article,
            sentence.repeat(8)
        ));
        for number in 1..5 {
            html.push_str(&format!(
                "<p>{sentence}<a href=\"{}\">weiter lesen</a></p>\r\n",
                link(5 * article + number)
            ));
        }
        html.push_str("</td></tr>\r\n");
    }
    html.push_str("</table>\r\n");
    html.push_str(
        "<img src=\"https://click.shop.example/wf/open?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6\" \
                   width=\"1\" height=\"1\" alt=\"\">\r\n</body></html>\r\n",
    );
    let mut raw = String::from(
        "From: Shop <news@shop.example>\r\nTo: eve@home.example\r\nSubject: News\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/alternative; boundary=\"b\"\r\n\r\n--b\r\nContent-Type: text/plain; \
         charset=utf-8\r\n\r\nNews\r\n\
         --b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: \
         quoted-printable\r\n\r\n",
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
    let order = |verify| Order {
        opens: Opens::Strip,
        added: &[],
        inquiry,
        receipts: Receipts::Strip,
        personal: Personal::Gentlest,
        links: LinkTreatment::Keep,
        verify,
    };

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
            timed(|| rewritten(Verify::On)),
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
            rewrite(&detector, &raw, &analysis, &order(Verify::On)).unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, measure);
criterion_main!(benches);
