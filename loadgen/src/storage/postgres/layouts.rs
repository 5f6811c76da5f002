//! The tables of each layout on PostgreSQL, and its statements.

use std::borrow::Cow;

use crate::storage::store::Layout;

/// A layout's tables and statements; every `{}` is a bind.
pub(super) struct LayoutSql {
    pub(super) tables: String,
    pub(super) insert: &'static str,
    /// Gives id, seq, attempt, key, version and payload.
    pub(super) read: Cow<'static, str>,
    pub(super) mark: Cow<'static, str>,
    /// Locks, and gives id, status, attempt and attempt limit.
    pub(super) load: Option<&'static str>,
    pub(super) settle: &'static str,
    /// The table whose updates should stay on their page.
    pub(super) updated: &'static str,
}

const WIDE: &str = "
    CREATE TABLE outbox (
        due_at int8 NOT NULL, sent_at int8, settled_at int8, version int8 NOT NULL,
        id uuid PRIMARY KEY, attempt int4 NOT NULL DEFAULT 0, attempt_limit int4 NOT NULL DEFAULT 5,
        partition int4, shard int2 NOT NULL, status int2 NOT NULL DEFAULT 0, outcome int2,
        key text NOT NULL, payload text NOT NULL);";

const SPLIT: &str = "
    CREATE TABLE outbox_event (
        created_at int8 NOT NULL, version int8 NOT NULL, id uuid PRIMARY KEY,
        key text NOT NULL, payload text NOT NULL);
    CREATE TABLE outbox_open (
        due_at int8 NOT NULL, sent_at int8, id uuid PRIMARY KEY,
        attempt int4 NOT NULL DEFAULT 0, attempt_limit int4 NOT NULL DEFAULT 5, partition int4,
        shard int2 NOT NULL, status int2 NOT NULL DEFAULT 0);
    CREATE TABLE outbox_settled (
        sent_at int8, settled_at int8 NOT NULL, id uuid PRIMARY KEY, attempt int4 NOT NULL,
        partition int4, status int2 NOT NULL, outcome int2 NOT NULL);";

const SEQUENCED: &str = "
    CREATE SEQUENCE outbox_seq CACHE 100;
    CREATE TABLE outbox_event (
        seq int8 PRIMARY KEY, created_at int8 NOT NULL, version int8 NOT NULL, id uuid NOT NULL,
        key text NOT NULL, payload text NOT NULL);
    CREATE TABLE outbox_open (
        seq int8 PRIMARY KEY, due_at int8 NOT NULL, sent_at int8, id uuid NOT NULL UNIQUE,
        attempt int4 NOT NULL DEFAULT 0, attempt_limit int4 NOT NULL DEFAULT 5, partition int4,
        shard int2 NOT NULL, status int2 NOT NULL DEFAULT 0);
    CREATE TABLE outbox_settled (
        seq int8 NOT NULL, sent_at int8, settled_at int8 NOT NULL, id uuid PRIMARY KEY,
        attempt int4 NOT NULL, partition int4, status int2 NOT NULL, outcome int2 NOT NULL);";

const PLACED: &str = "
    CREATE TABLE outbox_event (
        created_at int8 NOT NULL, version int8 NOT NULL, id uuid PRIMARY KEY,
        key text NOT NULL, payload text NOT NULL);
    CREATE TABLE outbox_open (
        due_at int8 NOT NULL, tx int8 NOT NULL DEFAULT (pg_current_xact_id()::text::int8), id uuid PRIMARY KEY,
        attempt_limit int4 NOT NULL DEFAULT 5, shard int2 NOT NULL);
    CREATE INDEX ON outbox_open (shard, tx, id);
    CREATE TABLE outbox_sent (
        sent_at int8 NOT NULL, id uuid PRIMARY KEY, attempt int4 NOT NULL, attempt_limit int4 NOT NULL,
        partition int4 NOT NULL, shard int2 NOT NULL);
    CREATE TABLE outbox_settled (
        sent_at int8, settled_at int8 NOT NULL, id uuid PRIMARY KEY, attempt int4 NOT NULL,
        partition int4, status int2 NOT NULL, outcome int2 NOT NULL);";

/// Leaves room on the page for the SENT version of each row.
const ROOM: &str = "ALTER TABLE outbox_open SET (fillfactor = 50);";

const SPLIT_INSERT: &str = "
    WITH new AS MATERIALIZED (
        SELECT * FROM unnest({}::uuid[], {}::text[], {}::int2[], {}::int8[], {}::text[])
            AS b (id, key, shard, version, payload) CROSS JOIN (VALUES ({}::int8)) AS n (now)),
    event AS (
        INSERT INTO outbox_event (id, key, version, payload, created_at)
        SELECT id, key, version, payload, now FROM new)
    INSERT INTO outbox_open (id, shard, due_at) SELECT id, shard, now FROM new";

const SPLIT_READ: &str = "
    SELECT o.id, 0::int8, o.attempt, e.key, e.version, e.payload
    FROM (SELECT id, attempt FROM outbox_open
          WHERE status = 0 AND due_at <= {} AND shard = ANY({})
          ORDER BY id LIMIT {}) AS o
    JOIN outbox_event AS e ON e.id = o.id ORDER BY o.id";

const SPLIT_MARK: &str = "
    UPDATE outbox_open AS o
    SET status = 1, attempt = b.attempt + 1, partition = b.partition, sent_at = b.now
    FROM (SELECT * FROM unnest({}::uuid[], {}::int4[], {}::int4[]) AS b (id, attempt, partition)
          CROSS JOIN (VALUES ({}::int8)) AS n (now)) AS b
    WHERE o.id = b.id AND o.status = 0 AND o.attempt = b.attempt";

/// Keeps a partial index on (shard, id) out of the compare-and-set: it matches the predicate, so
/// the planner may walk all of it to find a single id.
const UNINDEXED: &str = "o.status + 0 = 0";

const SPLIT_LOAD: &str = "
    SELECT id, status, attempt, attempt_limit FROM outbox_open
    WHERE id = ANY({}) ORDER BY id FOR UPDATE";

const SPLIT_SETTLE: &str = "
    WITH gone AS (
        DELETE FROM outbox_open AS o USING unnest({}::uuid[], {}::int2[]) AS b (id, outcome)
        WHERE o.id = b.id RETURNING o.id, o.attempt, o.partition, o.sent_at, b.outcome)
    INSERT INTO outbox_settled (id, status, attempt, outcome, partition, sent_at, settled_at)
    SELECT id, 2, attempt, outcome, partition, sent_at, {}::int8 FROM gone";

impl LayoutSql {
    pub(super) fn of(layout: Layout) -> Self {
        match layout {
            Layout::A | Layout::As => Self::wide(layout),
            Layout::D => Self::sequenced(),
            Layout::G => Self::placed(),
            _ => Self::split(layout),
        }
    }

    fn wide(layout: Layout) -> Self {
        let (columns, guard, read) = match layout {
            Layout::A => (
                "id",
                "o.status = 0",
                "SELECT id, 0::int8, attempt, key, version, payload FROM outbox
                 WHERE status = 0 AND due_at <= {} AND shard = ANY({})
                 ORDER BY id LIMIT {}",
            ),
            _ => (
                "shard, id",
                UNINDEXED,
                "SELECT id, 0::int8, attempt, key, version, payload FROM outbox
                 WHERE status = 0 AND due_at <= {} AND shard = {}
                 ORDER BY id LIMIT {}",
            ),
        };
        Self {
            tables: format!("{WIDE} CREATE INDEX ON outbox ({columns}) WHERE status = 0;"),
            insert: "
                INSERT INTO outbox (id, key, shard, version, payload, due_at)
                SELECT id, key, shard, version, payload, now
                FROM unnest({}::uuid[], {}::text[], {}::int2[], {}::int8[], {}::text[])
                    AS b (id, key, shard, version, payload) CROSS JOIN (VALUES ({}::int8)) n (now)",
            read: read.into(),
            mark: "
                UPDATE outbox AS o
                SET status = 1, attempt = b.attempt + 1, partition = b.partition, sent_at = b.now
                FROM (SELECT * FROM unnest({}::uuid[], {}::int4[], {}::int4[])
                          AS b (id, attempt, partition)
                      CROSS JOIN (VALUES ({}::int8)) AS n (now)) AS b
                WHERE o.id = b.id AND o.status = 0 AND o.attempt = b.attempt"
                .replace("o.status = 0", guard)
                .into(),
            load: Some(
                "SELECT id, status, attempt, attempt_limit FROM outbox
                 WHERE id = ANY({}) ORDER BY id FOR UPDATE",
            ),
            settle: "
                UPDATE outbox AS o SET status = 2, outcome = b.outcome, settled_at = b.now
                FROM (SELECT * FROM unnest({}::uuid[], {}::int2[]) AS b (id, outcome)
                      CROSS JOIN (VALUES ({}::int8)) AS n (now)) AS b
                WHERE o.id = b.id",
            updated: "outbox",
        }
    }

    fn split(layout: Layout) -> Self {
        let extra = match layout {
            Layout::Bx => "",
            Layout::C => "CREATE INDEX ON outbox_open (shard, id) WHERE status = 0;",
            _ => ROOM,
        };
        Self {
            tables: format!("{SPLIT} {extra}"),
            insert: SPLIT_INSERT,
            read: match layout {
                Layout::C => "SELECT o.id, 0::int8, o.attempt, e.key, e.version, e.payload
                     FROM (SELECT id, attempt FROM outbox_open
                           WHERE status = 0 AND due_at <= {} AND shard = {}
                           ORDER BY id LIMIT {}) AS o
                     JOIN outbox_event AS e ON e.id = o.id ORDER BY o.id"
                    .into(),
                Layout::F => SPLIT_READ.replace("ORDER BY id ", "AND id >= {} ORDER BY id ").into(),
                _ => SPLIT_READ.into(),
            },
            mark: match layout {
                Layout::C => SPLIT_MARK.replace("o.status = 0", UNINDEXED).into(),
                _ => SPLIT_MARK.into(),
            },
            load: (layout != Layout::E).then_some(SPLIT_LOAD),
            settle: SPLIT_SETTLE,
            updated: "outbox_open",
        }
    }

    fn placed() -> Self {
        Self {
            tables: PLACED.to_owned(),
            insert: SPLIT_INSERT,
            read: "
                SELECT o.id, 0::int8, 0, e.key, e.version, e.payload
                FROM (SELECT id, tx FROM outbox_open
                      WHERE due_at <= {} AND shard = {} ORDER BY tx, id LIMIT {}) AS o
                JOIN outbox_event AS e ON e.id = o.id ORDER BY o.tx, o.id"
                .into(),
            mark: "
                WITH taken AS (
                    DELETE FROM outbox_open AS o
                    USING (SELECT * FROM unnest({}::uuid[], {}::int4[], {}::int4[]) AS b (id, attempt, partition)
                           CROSS JOIN (VALUES ({}::int8)) AS n (now)) AS b
                    WHERE o.id = b.id RETURNING o.id, o.shard, o.attempt_limit, b.attempt, b.partition, b.now)
                INSERT INTO outbox_sent (id, shard, attempt, attempt_limit, partition, sent_at)
                SELECT id, shard, attempt + 1, attempt_limit, partition, now FROM taken"
                .into(),
            load: Some(
                "SELECT id, 1::int2, attempt, attempt_limit FROM outbox_sent
                 WHERE id = ANY({}) ORDER BY id FOR UPDATE",
            ),
            settle: "
                WITH gone AS (
                    DELETE FROM outbox_sent AS o USING unnest({}::uuid[], {}::int2[]) AS b (id, outcome)
                    WHERE o.id = b.id RETURNING o.id, o.attempt, o.partition, o.sent_at, b.outcome)
                INSERT INTO outbox_settled (id, status, attempt, outcome, partition, sent_at, settled_at)
                SELECT id, 2, attempt, outcome, partition, sent_at, {}::int8 FROM gone",
            updated: "outbox_open",
        }
    }

    fn sequenced() -> Self {
        Self {
            tables: format!("{SEQUENCED} {ROOM}"),
            insert: "
                WITH new AS MATERIALIZED (
                    SELECT nextval('outbox_seq') AS seq, * FROM
                        unnest({}::uuid[], {}::text[], {}::int2[], {}::int8[], {}::text[])
                            AS b (id, key, shard, version, payload)
                        CROSS JOIN (VALUES ({}::int8)) AS n (now)),
                event AS (
                    INSERT INTO outbox_event (seq, id, key, version, payload, created_at)
                    SELECT seq, id, key, version, payload, now FROM new)
                INSERT INTO outbox_open (seq, id, shard, due_at) SELECT seq, id, shard, now FROM new",
            read: "
                SELECT o.id, o.seq, o.attempt, e.key, e.version, e.payload
                FROM (SELECT id, seq, attempt FROM outbox_open
                      WHERE status = 0 AND due_at <= {} AND shard = ANY({})
                      ORDER BY seq LIMIT {}) AS o
                JOIN outbox_event AS e ON e.seq = o.seq ORDER BY o.seq".into(),
            mark: "
                UPDATE outbox_open AS o
                SET status = 1, attempt = b.attempt + 1, partition = b.partition, sent_at = b.now
                FROM (SELECT * FROM unnest({}::int8[], {}::int4[], {}::int4[])
                          AS b (seq, attempt, partition)
                      CROSS JOIN (VALUES ({}::int8)) AS n (now)) AS b
                WHERE o.seq = b.seq AND o.status = 0 AND o.attempt = b.attempt"
                .into(),
            load: Some(SPLIT_LOAD),
            settle: "
                WITH gone AS (
                    DELETE FROM outbox_open AS o
                    USING unnest({}::uuid[], {}::int2[]) AS b (id, outcome) WHERE o.id = b.id
                    RETURNING o.seq, o.id, o.attempt, o.partition, o.sent_at, b.outcome)
                INSERT INTO outbox_settled
                    (seq, id, status, attempt, outcome, partition, sent_at, settled_at)
                SELECT seq, id, 2, attempt, outcome, partition, sent_at, {}::int8 FROM gone",
            updated: "outbox_open",
        }
    }
}
