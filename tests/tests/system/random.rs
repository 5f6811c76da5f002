//! Numbers from a seed, the same on every machine: SplitMix64.

/// A generator.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed of `STOCKLOOP_SEED`, for repeating a failure, else a new one; printed, which a failure shows.
    pub(crate) fn new() -> Self {
        let told = std::env::var("STOCKLOOP_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = told.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
        println!("STOCKLOOP_SEED={seed} repeats this run");
        Self::seeded(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}
