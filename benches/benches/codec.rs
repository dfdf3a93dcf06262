//! The codec's workloads under criterion, one side after the other: for work on
//! one side, with criterion's comparison to the last run. What is timed is CPU
//! time, the same part as in the harness.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use respire_benches::codec::alternate::checked;
use respire_benches::codec::capture::command_reply;
use respire_benches::codec::sides::hiredis::Hiredis;
use respire_benches::codec::workload::{self, Workload};

fn codec(criterion: &mut Criterion) {
    let captured =
        command_reply().inspect_err(|error| eprintln!("COMMAND is left out: {error:#}")).ok();
    let hiredis =
        Hiredis::build().inspect_err(|error| eprintln!("hiredis is left out: {error:#}")).ok();
    let workloads = workload::all(captured.as_ref()).expect("the buffers are RESP");
    // Growth with the size is the harness's business; here one size is enough.
    let small = |workload: &&Workload| workload.peers || workload.buffer.wire.len() < 50_000;
    for workload in workloads.iter().filter(small) {
        group(criterion, workload, hiredis.as_ref());
    }
}

fn group(criterion: &mut Criterion, workload: &Workload, hiredis: Option<&Hiredis>) {
    let contestants = match checked(workload, hiredis) {
        Ok(contestants) => contestants,
        Err(error) => panic!("{error:#}"),
    };
    let mut group = criterion.benchmark_group(workload.name());
    for contestant in contestants {
        let (side, mut pass) = match contestant {
            Ok(contestant) => (contestant.side, contestant.pass),
            Err((side, reason)) => {
                eprintln!("{}: {side} fails: {reason}", workload.name());
                continue;
            }
        };
        let replies = pass.tally().expect("it was checked").replies;
        group.throughput(Throughput::Elements(replies));
        group.bench_function(side.to_string(), |bencher| {
            bencher.iter_custom(|passes| pass.time(passes).expect("it was checked"));
        });
    }
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
