//! What happens to the network between the services and what they talk to.

use std::ops::RangeInclusive;

use super::super::client::PATIENCE_MS;
use super::super::fault::{Fault, Link, Part};
use super::super::load::ADJUSTED;
use super::super::plan::Draw;
use super::super::proxy::{Strike, Way, Weather};
use super::super::wire::Request;
use super::mails::FIRST_ALERTS_MS;
use crate::check::Side;

/// Between a service and PostgreSQL.
pub(super) fn to_postgres(draw: &mut Draw) {
    trouble(draw, Part::Postgres, 500..=2_000);
}

/// Between a service and Kafka.
pub(super) fn to_kafka(draw: &mut Draw) {
    trouble(draw, Part::Kafka, 500..=2_000);
}

/// Between a service and who calls it: clients, and the other service. Clients that wait for an answer that was lost send
/// nothing meanwhile, so they have given that up before the next one begins.
pub(super) fn to_clients(draw: &mut Draw) {
    trouble(draw, Part::Clients, PATIENCE_MS + 500..=PATIENCE_MS + 2_000);
}

fn trouble(draw: &mut Draw, part: Part, pause_ms: RangeInclusive<u64>) {
    for (side, (from, to)) in draw.episodes_of_sides(1_000..=4_000, pause_ms) {
        let link = Link { side, part };
        // A strike is over at once.
        if draw.within(1..=7) > 3 {
            let strikes = [Strike::LeaveServer, Strike::LeaveService, Strike::Vanish];
            let strike = draw.pick(Strike::Cut, &strikes);
            draw.at(from, Fault::Strike(link, strike));
        } else {
            let weather = bad_weather(draw);
            draw.at(from, Fault::Weather(link, weather));
            draw.at(to, Fault::Weather(link, Weather::Clear));
        }
    }
}

/// Between product-service, which has something to tell here, and the mail server, or who is called by the webhook.
pub(super) fn to_who_is_told(draw: &mut Draw) {
    draw.at(0, Fault::Quarantine(ADJUSTED / 2));
    for (from, to) in draw.episodes(1_000..=4_000, 500..=2_000) {
        let part = draw.pick(Part::Mail, &[Part::Webhook]);
        // Nobody holds a connection to them that could be struck.
        let (link, weather) = (Link { side: Side::Product, part }, bad_weather(draw));
        draw.at(FIRST_ALERTS_MS + from, Fault::Weather(link, weather));
        draw.at(FIRST_ALERTS_MS + to, Fault::Weather(link, Weather::Clear));
    }
}

fn bad_weather(draw: &mut Draw) -> Weather {
    let slow = Weather::Slow { delay_ms: draw.within(5..=100), jitter_ms: draw.within(0..=100) };
    let bytes = draw.pick(100, &[500, 2_000]);
    let trickle = Weather::Trickle { bytes, pause_ms: draw.within(1..=10) };
    let hole = draw.pick(None, &[Some(Way::ToServer), Some(Way::ToService)]);
    draw.pick(slow, &[trickle, Weather::Blackhole(hole)])
}

/// Again and again the server commits, and the service does not hear of it.
pub(super) fn lose_commits(draw: &mut Draw) {
    lose(draw, Request::Commit, &[]);
}

/// The same of what the broker takes, messages and offsets.
pub(super) fn lose_sends(draw: &mut Draw) {
    lose(draw, Request::Produce, &[Request::NoteOffsets]);
}

fn lose(draw: &mut Draw, one: Request, others: &[Request]) {
    for (side, (from, _)) in draw.episodes_of_sides(0..=0, 200..=1_000) {
        let (request, count) = (draw.pick(one, others), draw.pick(1, &[2, 5]));
        draw.at(from, Fault::Lose(side, request, count));
    }
}
