//! The parts of the loop that each event goes through and that touch neither a database nor a broker, each ready to be
//! run again and again.
//!
//! `benches/parts.rs` says how long each takes, `examples/parts.rs` runs one so often that its instructions can be
//! counted. Both see the engine as a service does: what is not public there is reached by what is.

mod snapshots;
mod transitions;
mod wire;

use std::time::Duration;

use anyhow::Result;
use common::clock::Timestamp;
use common::ids::EventId;

/// A part of the loop, with what it works on.
pub struct Part {
    /// What people call it.
    pub name: &'static str,
    /// How many things one run works on: events, answers or rows.
    pub things: u16,
    work: Box<dyn FnMut() -> Result<()>>,
}

impl Part {
    fn new(name: &'static str, things: u16, work: impl FnMut() -> Result<()> + 'static) -> Self {
        Self { name, things, work: Box::new(work) }
    }

    /// Runs it once.
    ///
    /// # Errors
    /// When the part refuses what it is given: then its figures mean nothing.
    pub fn run(&mut self) -> Result<()> {
        (self.work)()
    }
}

/// All parts, in the order in which an event meets them. What they work on is the same at each start.
///
/// # Errors
/// When what a part works on can't be made.
pub fn parts() -> Result<Vec<Part>> {
    Ok(vec![
        wire::envelope_encode(),
        wire::envelope_decode(),
        snapshots::fold()?,
        wire::acks_encode(),
        wire::acks_decode()?,
        transitions::step_all(),
        snapshots::digest(),
    ])
}

const NOW: Timestamp = Timestamp::from_micros(1_767_614_400_123_456);

/// The id of event `number`.
fn event_id(number: u16) -> EventId {
    EventId::first_at(NOW.after(Duration::from_millis(number.into())))
}

/// The product that event `number` is about: one of a hundred.
fn key(number: u16) -> String {
    format!("SKU-{:05}", number % 100)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_part_takes_what_it_is_given_as_often_as_it_is_asked() {
        let mut parts = parts().unwrap();
        for part in &mut parts {
            assert!(part.run().is_ok() && part.run().is_ok(), "{}", part.name);
            assert!(part.things > 0, "{}", part.name);
        }
        let names: BTreeSet<&str> = parts.iter().map(|part| part.name).collect();
        assert_eq!(names.len(), parts.len());
        // The file of counts has a word for a name.
        assert!(names.iter().all(|name| !name.contains(char::is_whitespace)));
    }
}
