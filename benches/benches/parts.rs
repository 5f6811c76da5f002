//! How long each part of the loop takes, by wall time: `cargo bench -p stockloop-benches`.

use anyhow::{Context, Result};
use criterion::{Criterion, Throughput};
use stockloop_benches::parts;

fn main() -> Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("loop");
    for mut part in parts()? {
        part.run().context(part.name)?;
        group.throughput(Throughput::Elements(part.things.into()));
        group.bench_function(part.name, |bencher| bencher.iter(|| part.run()));
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}
