//! Runs one part of the loop so often that its instructions can be counted from outside: `.ci/instructions`.
//!
//! `parts` runs each part once and names it, `parts NAME RUNS` runs that one so many times more. So the difference between
//! the two is the part alone, without the start and without what is done only once.

use anyhow::{Context, Result};
use stockloop_benches::parts;

fn main() -> Result<()> {
    let mut parts = parts()?;
    for part in &mut parts {
        part.run().context(part.name)?;
        println!("{}", part.name);
    }
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else { return Ok(()) };
    let runs = arguments.next().context("say how many runs")?;
    let runs: u32 = runs.parse().with_context(|| format!("{runs} is no number of runs"))?;
    let part = parts.iter_mut().find(|part| part.name == name);
    let part = part.with_context(|| format!("there is no part {name}"))?;
    for _ in 0..runs {
        part.run()?;
    }
    Ok(())
}
