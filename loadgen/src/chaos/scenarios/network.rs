//! What happens to the network between the services and what they stand on.

use super::super::plan::{Draw, Fault, Link, Part};
use super::super::proxy::{Strike, Way, Weather};

/// Between a service and PostgreSQL.
pub(super) fn to_postgres(draw: &mut Draw) {
    trouble(draw, Part::Postgres);
}

/// Between a service and Kafka.
pub(super) fn to_kafka(draw: &mut Draw) {
    trouble(draw, Part::Kafka);
}

/// What a network does.
#[derive(Clone, Copy)]
enum Trouble {
    Weather(Weather),
    Strike(Strike),
}

fn trouble(draw: &mut Draw, part: Part) {
    for (side, (from, to)) in draw.episodes_of_sides(1_000..=4_000, 500..=2_000) {
        let link = Link { side, part };
        match any(draw) {
            Trouble::Weather(weather) => {
                draw.at(from, Fault::Weather(link, weather));
                draw.at(to, Fault::Weather(link, Weather::Clear));
            }
            Trouble::Strike(strike) => draw.at(from, Fault::Strike(link, strike)),
        }
    }
}

fn any(draw: &mut Draw) -> Trouble {
    let slow = Weather::Slow { delay_ms: draw.within(5..=100), jitter_ms: draw.within(0..=100) };
    let bytes = draw.pick(100, &[500, 2_000]);
    let trickle = Weather::Trickle { bytes, pause_ms: draw.within(1..=10) };
    let hole = draw.pick(None, &[Some(Way::ToServer), Some(Way::ToService)]);
    draw.pick(
        Trouble::Weather(slow),
        &[
            Trouble::Weather(trickle),
            Trouble::Weather(Weather::Blackhole(hole)),
            Trouble::Strike(Strike::Cut),
            Trouble::Strike(Strike::LeaveServer),
            Trouble::Strike(Strike::LeaveService),
            Trouble::Strike(Strike::Vanish),
        ],
    )
}

/// Again and again the server commits, and the service does not hear of it.
pub(super) fn lose_commits(draw: &mut Draw) {
    for (side, (from, _)) in draw.episodes_of_sides(0..=0, 200..=1_000) {
        let count = draw.pick(1, &[2, 5]);
        draw.at(from, Fault::LoseCommits(Link { side, part: Part::Postgres }, count));
    }
}
