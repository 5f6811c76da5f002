//! What the two services know of all keys: from when on the copy is whole, and what either has forgotten.

use anyhow::Result;
use common::clock::Timestamp;
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Nullable, SmallInt, Text};

use crate::check::reader::Reader;

/// What the two services know of all keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) source: SourceFacts,
    pub(super) copy: CopyFacts,
    pub(super) role: Role,
}

/// What the copy's service is to its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// No event is PROCESSED without its answer.
    Required,
    Watched,
    Retired,
    Unknown,
}

#[derive(Debug, Clone, Copy, QueryableByName)]
pub(super) struct SourceFacts {
    #[diesel(sql_type = BigInt)]
    pub(super) epoch: i64,
    /// The greatest version of a product that the source has forgotten.
    #[diesel(sql_type = BigInt)]
    pub(super) forgotten_version: i64,
}

#[derive(Debug, Clone, Copy, QueryableByName)]
pub(super) struct CopyFacts {
    /// Since when it has all of its source.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) complete_us: Option<Timestamp>,
    /// Up to when it has forgotten removals.
    #[diesel(sql_type = BigInt)]
    pub(super) removals_forgotten: i64,
}

/// A service that the source knows as a consumer.
#[derive(Debug, Clone, QueryableByName)]
struct ConsumerRow {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Bool)]
    required: bool,
    /// 0 active, 1 retired.
    #[diesel(sql_type = SmallInt)]
    state: i16,
}

impl Facts {
    /// What both say now, if the copy's service calls itself `consumer`.
    pub(super) fn read(product: &mut Reader, order: &mut Reader, consumer: &str) -> Result<Self> {
        let forgotten = |what: &str| {
            format!("COALESCE((SELECT up_to FROM forgotten WHERE what = '{what}'), 0)")
        };
        let of_source = format!(
            "SELECT epoch, {} AS forgotten_version FROM service_state",
            forgotten("versions of products")
        );
        let of_copy = format!(
            "SELECT complete_us, {} AS removals_forgotten FROM copy_state",
            forgotten("removed products")
        );
        let consumers = "SELECT name, required, state FROM consumer";
        let (source, consumers): (_, Vec<ConsumerRow>) = product.page(|conn| {
            let source = on!(&mut *conn, c => sql_query(of_source).get_result(c))?;
            Ok((source, on!(conn, c => sql_query(consumers).load(c))?))
        })?;
        let copy = order.page(|conn| on!(conn, c => sql_query(of_copy).get_result(c)))?;
        Ok(Self { source, copy, role: Role::of(&consumers, consumer) })
    }

    /// Why the copy can't be compared, if it can't.
    pub(super) fn hindrance(&self) -> Option<&'static str> {
        match self.role {
            // It says so itself, and takes no orders for what it lacks.
            Role::Required if self.copy.complete_us.is_none() => {
                Some("I3: the copy is not complete yet: see docs/PROOF.md#a-new-or-emptied-copy")
            }
            Role::Required => None,
            // Its answers are not waited for, so what it lacks may still be on its way.
            Role::Watched => {
                Some("I3: order-service is only watched: `stockloop verify` compares its copy")
            }
            Role::Retired => {
                Some("I3: order-service is retired as a consumer: its copy gets no changes")
            }
            Role::Unknown => Some(
                "I3: product-service knows no consumer of order-service's name: say --order-name",
            ),
        }
    }
}

impl Role {
    /// That of the service `name` among all `consumers`.
    fn of(consumers: &[ConsumerRow], name: &str) -> Self {
        match consumers.iter().find(|one| one.name == name) {
            Some(one) if one.state != 0 => Self::Retired,
            Some(one) if one.required => Self::Required,
            Some(_) => Self::Watched,
            // Nobody is registered before the first start: then it is whoever the settings name.
            None if consumers.is_empty() => Self::Required,
            None => Self::Unknown,
        }
    }
}

#[cfg(test)]
pub(super) const FACTS: Facts = Facts {
    source: SourceFacts { epoch: 1, forgotten_version: 5 },
    copy: CopyFacts { complete_us: Some(Timestamp::from_micros(1)), removals_forgotten: 3 },
    role: Role::Required,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_was_emptied_meanwhile_is_not_compared() {
        assert_eq!(FACTS.hindrance(), None);
        let copy = CopyFacts { complete_us: None, ..FACTS.copy };
        assert!(Facts { copy, ..FACTS }.hindrance().is_some_and(|why| why.contains("complete")));
    }

    #[test]
    fn only_a_copy_whose_answers_are_waited_for_is_compared() {
        let consumer = |name: &str, required, state| {
            let name = name.to_owned();
            ConsumerRow { name, required, state }
        };
        let known = [consumer("a", true, 0), consumer("b", false, 0), consumer("c", true, 1)];
        let hindered = |consumers: &[ConsumerRow], name: &str| {
            Facts { role: Role::of(consumers, name), ..FACTS }.hindrance().is_some()
        };
        assert_eq!(
            ["a", "b", "c", "d"].map(|name| hindered(&known, name)),
            [false, true, true, true]
        );
        assert!(!hindered(&[], "d"));
    }
}
