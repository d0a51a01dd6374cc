//! What it costs to keep secrets out of an answer, and to make a line of the journal of a record.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use runbook_model::bytes::Bytes;
use runbook_model::call::{Answer, Call, FilesLook, Look, Request, Response, Target};
use runbook_model::event::{Event, Instance, Record};
use runbook_model::journal;
use runbook_model::redact::Redactor;

/// Configuration text of about this many bytes.
fn text(bytes: usize) -> String {
    let line = "listen_addresses = '*'   # what \"it\" listens on\n";
    line.repeat(bytes / line.len())
}

fn three_secrets() -> Redactor {
    let secrets = ["correct horse battery staple", "s3cr\"t/x", "0123456789abcdef0123456789abcdef"];
    Redactor::new(&secrets.iter().map(|s| (format!("s{}", s.len()), (*s).to_owned())).collect::<BTreeMap<_, _>>())
}

fn read(content: String) -> Response {
    Ok(Answer::Bytes(Bytes(content.into_bytes())))
}

fn looked(response: Response) -> Record {
    let instance = Instance { step: "configure".to_owned(), host: Some("n1".to_owned()), item: None };
    let look = Look::Files(FilesLook::Read { path: "/etc/app.conf".to_owned(), limit: 16 << 20 });
    let request = Request { target: Target::Machine("n1".to_owned()), call: Call::Look(look) };
    Record {
        seq: 17,
        at: 1_700_000_000_000,
        event: Event::Looked { instance, call: 3, request, response, elapsed_us: 812, kept: None },
    }
}

const SIZES: [(&str, usize); 2] = [("4 KiB", 4 << 10), ("1 MiB", 1 << 20)];

fn redact(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("redact an answer");
    let hit = format!("{}password = correct horse battery staple\n", text(64));
    for (name, size) in SIZES {
        group.throughput(Throughput::Bytes(size as u64));
        for (secrets, redactor, content) in [
            ("no secret", Redactor::default(), text(size)),
            ("three secrets, none in it", three_secrets(), text(size)),
            ("three secrets, one in it", three_secrets(), text(size) + &hit),
        ] {
            let response = read(content);
            group.bench_function(format!("{name}, {secrets}"), |bencher| {
                bencher.iter_batched(
                    || response.clone(),
                    |response| black_box(redactor.response(response)),
                    BatchSize::LargeInput,
                );
            });
        }
    }
}

fn lines(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a line of the journal");
    for (name, size) in [("64 B", 64), SIZES[0], SIZES[1]] {
        let record = looked(read(text(size)));
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("{name}, encode"), |bencher| {
            bencher.iter(|| black_box(journal::encode(black_box(&record))));
        });
        for (secrets, redactor) in [("no secret", Redactor::default()), ("three secrets", three_secrets())] {
            group.bench_function(format!("{name}, clean and encode, {secrets}"), |bencher| {
                bencher.iter_batched(
                    || record.clone(),
                    |record| black_box(clean_and_encode(record, &redactor)),
                    BatchSize::LargeInput,
                );
            });
        }
    }
}

fn clean_and_encode(record: Record, redactor: &Redactor) -> (Record, Vec<u8>) {
    let mut line = Vec::new();
    (journal::encode_clean(record, redactor, &mut line), line)
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = redact, lines
}
criterion_main!(benches);
