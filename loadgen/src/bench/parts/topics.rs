//! The topics of a loop, and what the services are told of them.

use crate::bench::options::Relay;
use crate::topics::{ACKS, EVENTS, ORDER_ACKS, ORDERS};

/// Messages that nobody reads.
const LIMIT: &str = "stockloop.limit.v1";
/// Of each topic, as a service makes it.
pub(in crate::bench) const PARTITIONS: i32 = 4;

/// No bound for bytes in flight.
const UNLIMITED: u64 = 1 << 40;

/// The topics of one loop.
#[derive(Debug, Clone)]
pub(in crate::bench) struct Topics {
    pub(super) events: String,
    pub(super) acks: String,
    /// Nobody sends any.
    pub(super) orders: String,
    pub(super) order_acks: String,
    /// For the limit of what goes to the others.
    pub(in crate::bench) limit: String,
}

impl Topics {
    /// Those of this number.
    pub(super) fn numbered(number: u32) -> Self {
        let name = |name: &str| format!("{name}.{number}");
        Self {
            events: name(EVENTS),
            acks: name(ACKS),
            orders: name(ORDERS),
            order_acks: name(ORDER_ACKS),
            limit: name(LIMIT),
        }
    }

    /// What product-service is told.
    pub(in crate::bench) fn of_owner(&self) -> Vec<(&'static str, String)> {
        Self::settings([&self.events, &self.acks, &self.orders, &self.order_acks])
    }

    /// What order-service is told.
    pub(in crate::bench) fn of_copy(&self) -> Vec<(&'static str, String)> {
        Self::settings([&self.orders, &self.order_acks, &self.events, &self.acks])
    }

    /// What product-service is told so that it sends a backlog though nobody answers; each partition has room for `room` events.
    pub(in crate::bench) fn to_drain(
        &self,
        room: usize,
        relay: Relay,
    ) -> Vec<(&'static str, String)> {
        let mut settings = self.of_owner();
        settings.extend([
            relay.setting(),
            ("STOCKLOOP__OUTBOX__IN_FLIGHT_EVENTS", room.to_string()),
            ("STOCKLOOP__OUTBOX__IN_FLIGHT_BYTES", UNLIMITED.to_string()),
            // Nobody answers, and nobody is to be asked whether he will.
            ("STOCKLOOP__OUTBOX__ACK_TIMEOUT", "1h".to_owned()),
        ]);
        settings
    }

    fn settings(topics: [&String; 4]) -> Vec<(&'static str, String)> {
        let names = [
            "STOCKLOOP__KAFKA__OUTBOUND_TOPIC",
            "STOCKLOOP__KAFKA__OUTBOUND_ACK_TOPIC",
            "STOCKLOOP__KAFKA__INBOUND_TOPIC",
            "STOCKLOOP__KAFKA__INBOUND_ACK_TOPIC",
        ];
        names.into_iter().zip(topics.map(String::clone)).collect()
    }
}
