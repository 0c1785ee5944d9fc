//! Throughput of the parser, in bytes of line protocol, for the shapes that differ most.
//!
//! `cargo bench -p tidemill-lineproto` measures on one core. The budget of the write path assumes at least
//! 400 MB/s for `hosts`.

use std::fmt::Write;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidemill_lineproto::{ParseOptions, Precision, parse};

const LINES: u64 = 5_000;
const HOSTS: u64 = 1_000;
const START_NS: u64 = 1_700_000_000_000_000_000;

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

const FIELDS: [&str; 10] = [
    "usage_user",
    "usage_system",
    "usage_idle",
    "usage_nice",
    "usage_iowait",
    "usage_irq",
    "usage_softirq",
    "usage_steal",
    "usage_guest",
    "usage_guest_nice",
];

fn push_tags(line: &mut String, host: u64) {
    let region = host % 7;
    let zone = host % 3;
    let rack = host % 97;
    let service = host % 20;
    write!(
        line,
        "cpu,hostname=host_{host},region=eu-west-{region},datacenter=eu-west-{region}{zone},rack={rack},\
         os=Ubuntu22.04LTS,arch=x64,team=SF,service={service},service_version=1,service_environment=production"
    )
    .expect("a string takes all text");
}

/// 10 tags and 10 float fields of 1000 hosts in turn; `decimals` of each float.
fn hosts(lines: u64, decimals: usize) -> String {
    let mut numbers = Numbers(42);
    let mut body = String::new();
    for line in 0..lines {
        push_tags(&mut body, line % HOSTS);
        for (index, field) in FIELDS.iter().enumerate() {
            let separator = if index == 0 { ' ' } else { ',' };
            let value = numbers.below(u64::MAX) as f64 / u64::MAX as f64 * 100.0;
            write!(body, "{separator}{field}={value:.decimals$}").expect("a string takes all text");
        }
        writeln!(body, " {}", START_NS + line / HOSTS * 10_000_000_000).expect("a string takes all text");
    }
    body
}

/// Log lines: long strings, some with escapes and newlines.
fn strings() -> String {
    let mut body = String::new();
    for line in 0..LINES {
        let text = match line % 3 {
            0 => r#"GET \"/api/v1/items?id=17&sort=name\" answered 200 in 17 ms, 4096 bytes"#,
            1 => "connection from 10.0.0.17 closed after 35 requests: the other side has gone away",
            _ => "panic in C:\\\\service\\\\main.rs\n  at line 42\n  called by \\\"worker 7\\\"",
        };
        writeln!(
            body,
            "logs,app=web,level=info message=\"{text}\",code={}i {}",
            line % 600,
            START_NS + line
        )
        .expect("a string takes all text");
    }
    body
}

/// Twenty fields of mixed types, half of them absent from each line.
fn sparse() -> String {
    let mut numbers = Numbers(7);
    let mut body = String::new();
    for line in 0..LINES {
        write!(body, "device,id=d{} ", line % 50).expect("a string takes all text");
        let mut separator = "";
        for field in 0..20 {
            if field > 0 && numbers.below(2) == 0 {
                continue;
            }
            let value = numbers.below(100_000);
            match field % 3 {
                0 => write!(body, "{separator}measure_{field}={}.{}", value / 100, value % 100),
                1 => write!(body, "{separator}measure_{field}={value}i"),
                _ => write!(body, "{separator}measure_{field}={}", value < 50_000),
            }
            .expect("a string takes all text");
            separator = ",";
        }
        writeln!(body, " {}", START_NS + line).expect("a string takes all text");
    }
    body
}

fn bench(criterion: &mut Criterion) {
    let options = ParseOptions::new(Precision::Nanosecond, 0);
    let shapes = [
        ("hosts", hosts(LINES, 4)),
        ("hosts_16_decimals", hosts(LINES, 16)),
        ("single_line", hosts(1, 4)),
        ("strings", strings()),
        ("sparse", sparse()),
    ];
    let mut group = criterion.benchmark_group("parse");
    for (name, body) in &shapes {
        assert!(parse(body, &options).errors.is_empty(), "{name} is well formed");
        group.throughput(Throughput::BytesDecimal(body.len() as u64));
        group.bench_function(*name, |bencher| bencher.iter(|| parse(black_box(body), &options)));
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
