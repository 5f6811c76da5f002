//! What is counted and measured beside the requests, for whoever looks: operators, charts, `/metrics`.

mod sampler;

pub use sampler::{Oldest, PROCESSED_COUNTER, Sample, Sampler};
