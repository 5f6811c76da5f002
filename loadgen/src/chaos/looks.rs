//! A look into both databases: what still waits, what faults have left there, and the effects of clients' changes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use common::clock::Timestamp;
use common::db::{Backend, Conn, Url};
use common::inventory::REMOVED;
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable, Text};
use stockloop_tests::poll::eventually_blocking;

use super::fault::Part;
use super::load::{FLOOD, OPENING_DESCRIPTION, PUT};
use super::rights::Right;
use crate::check::{Reader, Side, number};

/// How long a connection may take: those who had all of them need a moment to leave.
const CONNECT_DEADLINE: Duration = Duration::from_secs(20);

/// Both databases, only read.
pub(super) struct Looks {
    product: Reader,
    order: Reader,
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = Text)]
    id: String,
}

#[derive(QueryableByName)]
struct LastKey {
    #[diesel(sql_type = Nullable<Text>)]
    key: Option<String>,
}

#[derive(QueryableByName)]
struct Effects {
    #[diesel(sql_type = Text)]
    trace: String,
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// One effect of a client's change: what it carries, what tells it from others, and when it was made.
#[derive(QueryableByName)]
pub(super) struct Effect {
    #[diesel(sql_type = Text)]
    pub(super) trace: String,
    #[diesel(sql_type = Text)]
    pub(super) id: String,
    #[diesel(sql_type = BigInt, column_name = at_us)]
    pub(super) at: Timestamp,
}

/// Events that are neither PROCESSED nor EXHAUSTED.
const ON_THEIR_WAY: &str = "SELECT count(*) AS number FROM outbox_open WHERE status < 2";

const UNTOLD: &str = "SELECT count(*) AS number FROM alert a WHERE closed_us IS NULL \
     AND (NOT EXISTS (SELECT 1 FROM mail m WHERE m.seq = a.mail_seq) \
       OR NOT EXISTS (SELECT 1 FROM webhook w WHERE w.seq = a.webhook_seq))";
const UNSENT: &str = "SELECT count(*) AS number FROM mail WHERE sent_us IS NULL";
const UNCALLED: &str = "SELECT count(*) AS number FROM webhook WHERE sent_us IS NULL";
const RESTORED: &str = "SELECT count(*) AS number FROM restoration";
const INCOMPLETE: &str =
    "SELECT 1 - count(*) AS number FROM copy_state WHERE complete_us IS NOT NULL";

/// How often the server ended a transaction because it and another one waited for each other.
const DEADLOCKS: &str =
    "SELECT deadlocks AS number FROM pg_stat_database WHERE datname = current_database()";

impl Looks {
    pub(super) fn open([product, order]: &[String; 2]) -> Result<Self> {
        let open = |side, url: &String, proof| {
            let url = Url::from(url.clone());
            eventually_blocking("a look into a database", CONNECT_DEADLINE, || {
                Reader::open(side, &url, proof)
            })
        };
        let product = open(Side::Product, product, "order_record")?;
        Ok(Self { product, order: open(Side::Order, order, "order_step")? })
    }

    /// What still waits; nothing at rest. Orders first: what one causes at product-service is there once it is settled.
    pub(super) fn waiting(&mut self) -> Result<Vec<String>> {
        let incomplete = self.incomplete()?;
        let Self { product, order } = self;
        let all = [
            ("events of order-service", count(order, ON_THEIR_WAY)?),
            ("events of product-service", count(product, ON_THEIR_WAY)?),
            ("copies that are not complete", incomplete),
            ("alerts of order-service", count(order, UNTOLD)?),
            ("alerts of product-service", count(product, UNTOLD)?),
            ("mails of order-service", count(order, UNSENT)?),
            ("mails of product-service", count(product, UNSENT)?),
            ("calls of order-service", count(order, UNCALLED)?),
            ("calls of product-service", count(product, UNCALLED)?),
        ];
        Ok(some_of(all))
    }

    /// Copies that do not have all yet. A release may not have the table that says so.
    fn incomplete(&mut self) -> Result<u64> {
        let incomplete = self.order.page(|conn| {
            let known = match conn.backend() {
                Backend::Postgres => {
                    "SELECT count(*) AS number FROM pg_tables WHERE tablename = 'copy_state'"
                }
                Backend::Sqlite => {
                    "SELECT count(*) AS number FROM sqlite_master WHERE name = 'copy_state'"
                }
            };
            if number(conn, known)? == 0 { Ok(0) } else { number(conn, INCOMPLETE) }
        })?;
        Ok(incomplete.unsigned_abs())
    }

    /// What would excuse to the judge that something is missing, and can't be in a trial: nobody else is asked.
    pub(super) fn excuses(&mut self) -> Result<Vec<String>> {
        let Self { product, order } = self;
        let by_another = |than: Side| {
            format!("SELECT count(*) AS number FROM outbox_settled WHERE consumer <> '{than}'")
        };
        let (orders, products) = (by_another(Side::Product), by_another(Side::Order));
        let all = [
            ("events of order-service that another one settled", count(order, &orders)?),
            ("events of product-service that another one settled", count(product, &products)?),
        ];
        Ok(some_of(all))
    }

    /// How often a database was found to have come back from a backup.
    pub(super) fn restored(&mut self) -> Result<u64> {
        self.both(RESTORED)
    }

    /// Events of product-service that were never sent.
    pub(super) fn unsent(&mut self) -> Result<u64> {
        count(&mut self.product, "SELECT count(*) AS number FROM outbox_pending")
    }

    /// Events that gave up, ever.
    pub(super) fn exhausted(&mut self) -> Result<u64> {
        self.both("SELECT count(*) AS number FROM alert WHERE kind = 'exhausted'")
    }

    /// Events of product-service and of order-service that were made since then, lie in other partitions than these of each,
    /// and are PROCESSED.
    pub(super) fn arrived_beside(
        &mut self,
        since: Timestamp,
        [product, order]: &[Vec<i32>; 2],
    ) -> Result<[u64; 2]> {
        let arrived = |partitions: &[i32]| {
            // No partition has a number below zero.
            let others: String = partitions.iter().map(|one| format!(", {one}")).collect();
            format!(
                "SELECT count(*) AS number FROM outbox_settled s JOIN outbox_event e ON e.id = s.id \
                 WHERE e.created_us >= {} AND s.partition NOT IN (-1{others})",
                since.micros()
            )
        };
        let product = count(&mut self.product, &arrived(product))?;
        Ok([product, count(&mut self.order, &arrived(order))?])
    }

    /// Events that gave up and wait for a person.
    pub(super) fn given_up(&mut self) -> Result<u64> {
        self.both(
            "SELECT count(*) AS number FROM outbox_failed WHERE status = 2 AND resolved_us IS NULL",
        )
    }

    /// What events were blamed for: that they were answered FAILED, or could not be sent as they are.
    pub(super) fn blamed(&mut self) -> Result<u64> {
        self.both(
            "SELECT count(*) AS number FROM outbox_history \
             WHERE what IN ('FAILED', 'REJECTED', 'UNPRODUCIBLE')",
        )
    }

    /// Events that a bulk job of product-service has sent again, and how many times it has done so.
    pub(super) fn sent_again_by(&mut self, job: i64) -> Result<[u64; 2]> {
        self.things_and_times(
            "event_id",
            &format!("outbox_history WHERE what = 'RETRIED' AND by_whom LIKE '%(job {job})'"),
        )
    }

    /// Keys whose state a repair has sent again for this reason, and how many times it has done so.
    pub(super) fn repaired(&mut self, reason: &str) -> Result<[u64; 2]> {
        let payload = self.product.page(|conn| Ok(payload(conn)))?;
        let cause = |field: &str| format!("({payload}->'cause'->>'{field}')");
        let (kind, why) = (cause("kind"), cause("reason"));
        self.things_and_times(
            "key",
            &format!("outbox_event WHERE {kind} = 'repair' AND {why} = '{reason}'"),
        )
    }

    /// Of some rows of product-service, how many differ in this column, and how many there are.
    fn things_and_times(&mut self, column: &str, rows: &str) -> Result<[u64; 2]> {
        let things = format!("SELECT count(DISTINCT {column}) AS number FROM {rows}");
        let times = format!("SELECT count(*) AS number FROM {rows}");
        Ok([count(&mut self.product, &things)?, count(&mut self.product, &times)?])
    }

    /// Events of a flood that have not arrived.
    pub(super) fn left_of_flood(&mut self) -> Result<u64> {
        let sql = format!(
            "SELECT count(*) AS number FROM outbox_open o JOIN outbox_event e ON e.id = o.id \
             WHERE e.key LIKE '{FLOOD}%'"
        );
        count(&mut self.product, &sql)
    }

    /// Keys that differ, as a verification has it, though none of their events waits for a person.
    pub(super) fn unexplained(&mut self, verification: i64) -> Result<u64> {
        let sql = format!(
            "SELECT count(*) AS number FROM verification_key WHERE verification = {verification} \
             AND finding NOT IN ('moving', 'waiting') AND event_id IS NULL"
        );
        count(&mut self.product, &sql)
    }

    /// Whether product-service has not noted that a mail, or a call of the webhook, was taken.
    pub(super) fn is_unnoted(&mut self, part: Part, id: &str) -> Result<bool> {
        let it = match part {
            Part::Mail => format!("mail WHERE message_id = '<{id}>'"),
            _ => format!("webhook WHERE delivery_id = '{id}'"),
        };
        let sql = format!("SELECT count(*) AS number FROM {it} AND sent_us IS NULL");
        Ok(count(&mut self.product, &sql)? > 0)
    }

    /// Alerts in which a service says that it lacks a right: those that it has raised since then, or not closed.
    pub(super) fn told_of_right(
        &mut self,
        side: Side,
        right: Right,
        since: Timestamp,
    ) -> Result<u64> {
        let (kind, topic) = right.alert(side);
        let sql = format!(
            "SELECT count(*) AS number FROM alert WHERE kind = '{kind}' \
             AND (created_us >= {} OR closed_us IS NULL) \
             AND error LIKE '%uthoriz%' AND subject || ' ' || error LIKE '%{topic}%'",
            since.micros()
        );
        count(self.of(side), &sql)
    }

    /// Open alerts of topics that do not fit, of which each service has one at the most.
    pub(super) fn unfit(&mut self) -> Result<u64> {
        self.both(
            "SELECT count(*) AS number FROM alert WHERE kind = 'topic_shape' AND closed_us IS NULL",
        )
    }

    /// Messages that nobody could read, or understand.
    pub(super) fn dead_letters(&mut self) -> Result<u64> {
        self.both("SELECT count(*) AS number FROM dead_letter")
    }

    /// How often two transactions waited for each other; on SQLite there is never more than one.
    pub(super) fn deadlocks(&mut self) -> Result<u64> {
        let count = |conn: &mut Conn| match conn.backend() {
            Backend::Postgres => number(conn, DEADLOCKS),
            Backend::Sqlite => Ok(0),
        };
        Ok((self.product.page(count)? + self.order.page(count)?).unsigned_abs())
    }

    /// How often a sequence of a trial was drawn from; not at all where it is not there.
    pub(super) fn drawn(&mut self, sequence: &str) -> Result<u64> {
        let known = format!(
            "SELECT count(*) AS number FROM pg_class WHERE relname = '{sequence}' AND relkind = 'S'"
        );
        let drawn = format!(
            "SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS number FROM {sequence}"
        );
        let count = |conn: &mut Conn| -> QueryResult<i64> {
            let is_there = conn.backend() == Backend::Postgres && number(conn, &known)? > 0;
            if is_there { number(conn, &drawn) } else { Ok(0) }
        };
        Ok((self.product.page(count)? + self.order.page(count)?).unsigned_abs())
    }

    fn of(&mut self, side: Side) -> &mut Reader {
        match side {
            Side::Product => &mut self.product,
            Side::Order => &mut self.order,
        }
    }

    /// What the database of a service says, or the sum of what both do.
    pub(super) fn number(&mut self, side: Option<Side>, sql: &str) -> Result<u64> {
        match side {
            Some(side) => count(self.of(side), sql),
            None => self.both(sql),
        }
    }

    /// The ids that the database of a service says.
    pub(super) fn ids_of(&mut self, side: Side, sql: &str) -> Result<BTreeSet<String>> {
        let rows: Vec<Id> = self.of(side).page(|conn| on!(conn, c => sql_query(sql).load(c)))?;
        Ok(rows.into_iter().map(|row| row.id).collect())
    }

    /// The sum of what both say.
    fn both(&mut self, sql: &str) -> Result<u64> {
        Ok(count(&mut self.product, sql)? + count(&mut self.order, sql)?)
    }

    /// The ids of all mails that count as sent.
    pub(super) fn mails(&mut self) -> Result<Vec<String>> {
        // They have brackets there.
        self.ids("SELECT trim(message_id, '<>') AS id FROM mail WHERE sent_us IS NOT NULL")
    }

    /// The ids of all calls of the webhook that count as taken.
    pub(super) fn calls(&mut self) -> Result<Vec<String>> {
        self.ids("SELECT delivery_id AS id FROM webhook WHERE sent_us IS NOT NULL")
    }

    /// The ids that either says.
    fn ids(&mut self, sql: &str) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        for side in Side::BOTH {
            ids.extend(self.ids_of(side, sql)?);
        }
        Ok(ids)
    }

    /// Products that were removed, ever.
    pub(super) fn removals(&mut self) -> Result<u64> {
        let sql = format!(
            "SELECT count(*) AS number FROM outbox_event WHERE event_type = '{}'",
            REMOVED.name
        );
        count(&mut self.product, &sql)
    }

    /// Each of the effects that are there of clients' changes.
    pub(super) fn each_effect(&mut self) -> Result<Vec<Effect>> {
        let mut effects = self.product.page(|conn| {
            let sql = effects_of_products(conn);
            on!(conn, c => sql_query(sql).load::<Effect>(c))
        })?;
        let of_orders = self
            .order
            .page(|conn| on!(conn, c => sql_query(EFFECTS_OF_ORDERS).load::<Effect>(c)))?;
        effects.extend(of_orders);
        Ok(effects)
    }

    /// The effects that are there of clients' changes, by what they carry.
    pub(super) fn effects(&mut self) -> Result<BTreeMap<String, u64>> {
        let mut effects = BTreeMap::new();
        let mut take = |rows: Vec<Effects>| {
            for Effects { trace, number } in rows {
                *effects.entry(trace).or_default() += number.unsigned_abs();
            }
        };
        take(self.product.page(|conn| {
            let sql = by_trace(ADJUSTMENTS);
            on!(conn, c => sql_query(sql).load(c))
        })?);
        take(self.order.page(|conn| {
            let sql = by_trace(EFFECTS_OF_ORDERS);
            on!(conn, c => sql_query(sql).load(c))
        })?);
        let mut after = String::new();
        while let Some(last) = self.product.page(|conn| last_key(conn, &after))? {
            take(self.product.page(|conn| effects_of_keys(conn, &after, &last))?);
            after = last;
        }
        Ok(effects)
    }
}

/// What an event carries, as JSON.
fn payload(conn: &Conn) -> &'static str {
    match conn.backend() {
        Backend::Postgres => "payload::json",
        Backend::Sqlite => "payload",
    }
}

/// How many effects there are by what they carry.
fn by_trace(effects: &str) -> String {
    format!("SELECT trace, count(DISTINCT id) AS number FROM ({effects}) AS effect GROUP BY trace")
}

/// Events that are read at once, or a few more: of a million, one statement would take minutes.
const PAGE: u32 = 20_000;

/// The key up to which events are read next, if there are any behind this one.
fn last_key(conn: &mut Conn, after: &str) -> QueryResult<Option<String>> {
    let sql = format!(
        "SELECT max(key) AS key FROM \
         (SELECT key FROM outbox_event WHERE key > $1 ORDER BY key LIMIT {PAGE}) AS page"
    );
    let row: LastKey = on!(conn, c => sql_query(sql).bind::<Text, _>(after).get_result(c))?;
    Ok(row.key)
}

/// The effects in events of the keys from `after` on up to `last`: none is in those of two keys.
fn effects_of_keys(conn: &mut Conn, after: &str, last: &str) -> QueryResult<Vec<Effects>> {
    let sql = by_trace(&effects_of_events(conn, "key > $1 AND key <= $2"));
    on!(conn, c => sql_query(sql).bind::<Text, _>(after).bind::<Text, _>(last).load(c))
}

/// The effects of clients' changes at product-service: what they carry, what tells them apart, and when they were made.
fn effects_of_products(conn: &Conn) -> String {
    format!("{ADJUSTMENTS} UNION ALL {}", effects_of_events(conn, "TRUE"))
}

const ADJUSTMENTS: &str = "SELECT coalesce(reference, 'an adjustment') AS trace, \
     CAST(seq AS TEXT) AS id, at_us FROM adjustment";

/// The same in those events of which `those` holds. A state that is sent again is the same version, and what orders make of a
/// product is no change of a client. A removal, which says nothing itself, is called as the load calls it.
fn effects_of_events(conn: &Conn, those: &str) -> String {
    let payload = payload(conn);
    let description = format!("({payload}->>'description')");
    // What follows the first word only makes it longer.
    let word = match conn.backend() {
        Backend::Postgres => format!("split_part({description}, ' ', 1)"),
        Backend::Sqlite => {
            format!("substr({description}, 1, instr({description} || ' ', ' ') - 1)")
        }
    };
    let by = |kind: &str| format!("({payload}->'cause'->>'kind') = '{kind}'");
    let (put, removal) = (by("put"), by("removal"));
    format!(
        "SELECT {word} AS trace, key || ' ' || CAST(version AS TEXT) AS id, created_us AS at_us \
         FROM outbox_event WHERE {those} AND key LIKE '{PUT}%' AND {put} \
         UNION ALL \
         SELECT {word} || ' removed', key || ' ' || CAST(version AS TEXT), created_us \
         FROM outbox_event WHERE {those} AND key LIKE '{PUT}%' AND {removal} \
         UNION ALL \
         SELECT DISTINCT {description}, 'changed', CAST(0 AS BIGINT) FROM outbox_event \
         WHERE {those} AND key NOT LIKE '{PUT}%' AND {description} <> '{OPENING_DESCRIPTION}'"
    )
}

/// The same of orders: a placing, and a cancellation, as the load calls it.
const EFFECTS_OF_ORDERS: &str = "SELECT customer AS trace, CAST(id AS TEXT) AS id, placed_us AS at_us FROM orders \
     UNION ALL \
     SELECT customer || ' cancelled', CAST(id AS TEXT), changed_us FROM orders \
     WHERE cancellation IS NOT NULL";

/// In words, what there is any of.
fn some_of(all: impl IntoIterator<Item = (&'static str, u64)>) -> Vec<String> {
    let some = all.into_iter().filter(|(_, count)| *count > 0);
    some.map(|(what, count)| format!("{count} {what}")).collect()
}

fn count(reader: &mut Reader, sql: &str) -> Result<u64> {
    Ok(reader.page(|conn| number(conn, sql))?.unsigned_abs())
}
