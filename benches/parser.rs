//! How long it takes to parse a pipeline of requests and to encode its replies.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use understudy::protocol::encode::{Protocol, append_command, encode};
use understudy::protocol::reply::Reply;
use understudy::protocol::request::{Limits, Parsed, RequestParser};

const LIMITS: Limits = Limits::client(512 * 1024 * 1024);

fn parse_all(
    buffer: &mut [u8],
    parser: &mut RequestParser,
    arguments: &mut Vec<understudy::protocol::request::Argument>,
) {
    arguments.clear();
    while let Ok(Parsed::Request { .. }) = parser.next(buffer, &LIMITS, arguments) {}
    black_box(&arguments);
}

fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    let mut pipeline = Vec::new();
    for i in 0..16 {
        append_command(&mut pipeline, &["GET".to_owned(), format!("key:{i:012}")]);
    }
    let mut arguments = Vec::new();
    group.throughput(Throughput::Elements(16));
    group.bench_function("16 GETs", |bencher| {
        let mut parser = RequestParser::new();
        bencher.iter(|| {
            parse_all(&mut pipeline, &mut parser, &mut arguments);
            parser.discard(parser.consumed());
        });
    });
    let mut inline = b"SET key value\r\n".repeat(16);
    group.bench_function("16 inline SETs", |bencher| {
        let mut parser = RequestParser::new();
        bencher.iter(|| {
            parse_all(&mut inline, &mut parser, &mut arguments);
            parser.discard(parser.consumed());
        });
    });
    let mut large = Vec::new();
    append_command(&mut large, &[&b"SET"[..], b"key", &vec![b'x'; 1 << 20]]);
    group.bench_function("1 MB arriving in pieces of 16 KB", |bencher| {
        bencher.iter_batched(
            RequestParser::new,
            |mut parser| {
                arguments.clear();
                for end in (0..large.len()).step_by(16 * 1024).chain([large.len()]) {
                    let _ = black_box(parser.next(&mut large[..end], &LIMITS, &mut arguments));
                }
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn replies(criterion: &mut Criterion) {
    let replies = [Reply::Ok, Reply::Bulk(b"0123456789abcdef"), Reply::Integer(1234), Reply::Nil];
    let mut out = Vec::with_capacity(1024);
    criterion.bench_function("encode 16 replies", |bencher| {
        bencher.iter(|| {
            out.clear();
            for reply in replies.iter().cycle().take(16) {
                encode(black_box(reply), Protocol::Resp2, &mut out);
            }
            black_box(&out);
        });
    });
}

criterion_group!(benches, requests, replies);
criterion_main!(benches);
