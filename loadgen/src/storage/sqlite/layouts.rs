//! The tables of each layout on SQLite, and its statements.

use super::batch::BatchStatement;
use super::batch::Field::{
    Attempt, Id, Key, Now, Outcome, Partition, Payload, Seq, Shard, Version,
};
use crate::storage::store::Layout;

/// A layout's tables and statements; every `{}` is a bind.
pub(super) struct LayoutSql {
    /// `{ID}` stands for the type of ids.
    pub(super) tables: String,
    pub(super) insert: &'static [BatchStatement],
    /// Gives id, seq, attempt, key, version and payload.
    pub(super) read: &'static str,
    pub(super) mark: BatchStatement,
    /// Gives ordinal or seq, status, attempt and attempt limit.
    pub(super) load: BatchStatement,
    pub(super) settle: &'static [BatchStatement],
}

const WIDE: &str = "
    CREATE TABLE outbox (
        id {ID} PRIMARY KEY NOT NULL, key TEXT NOT NULL, shard INTEGER NOT NULL,
        version INTEGER NOT NULL, due_at INTEGER NOT NULL, status INTEGER NOT NULL DEFAULT 0,
        attempt INTEGER NOT NULL DEFAULT 0, attempt_limit INTEGER NOT NULL DEFAULT 5,
        partition INTEGER, outcome INTEGER, sent_at INTEGER, settled_at INTEGER,
        payload TEXT NOT NULL);";

pub(super) const SPLIT: &str = "
    CREATE TABLE outbox_open (
        id {ID} PRIMARY KEY NOT NULL, shard INTEGER NOT NULL, due_at INTEGER NOT NULL,
        status INTEGER NOT NULL DEFAULT 0, attempt INTEGER NOT NULL DEFAULT 0,
        attempt_limit INTEGER NOT NULL DEFAULT 5, partition INTEGER, sent_at INTEGER
    ) WITHOUT ROWID;
    CREATE TABLE outbox_settled (
        id {ID} PRIMARY KEY NOT NULL, status INTEGER NOT NULL, attempt INTEGER NOT NULL,
        outcome INTEGER NOT NULL, partition INTEGER, sent_at INTEGER, settled_at INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE outbox_event (
        id {ID} PRIMARY KEY NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL,
        created_at INTEGER NOT NULL, payload TEXT NOT NULL)";

const SEQUENCED: &str = "
    CREATE TABLE outbox_open (
        seq INTEGER PRIMARY KEY, id {ID} NOT NULL, shard INTEGER NOT NULL, due_at INTEGER NOT NULL,
        status INTEGER NOT NULL DEFAULT 0, attempt INTEGER NOT NULL DEFAULT 0,
        attempt_limit INTEGER NOT NULL DEFAULT 5, partition INTEGER, sent_at INTEGER);
    CREATE TABLE outbox_settled (
        seq INTEGER PRIMARY KEY, status INTEGER NOT NULL, attempt INTEGER NOT NULL,
        outcome INTEGER NOT NULL, partition INTEGER, sent_at INTEGER, settled_at INTEGER NOT NULL);
    CREATE TABLE outbox_event (
        seq INTEGER PRIMARY KEY, id {ID} UNIQUE NOT NULL, key TEXT NOT NULL,
        version INTEGER NOT NULL, created_at INTEGER NOT NULL, payload TEXT NOT NULL);";

pub(super) const SPLIT_INSERT: &[BatchStatement] = &[
    BatchStatement {
        fields: &[Id, Key, Version, Now, Payload],
        row: "INSERT INTO outbox_event (id, key, version, created_at, payload)
              VALUES ({}, {}, {}, {}, {})",
        set: "INSERT INTO outbox_event (id, key, version, created_at, payload) SELECT * FROM b",
    },
    BatchStatement {
        fields: &[Id, Shard, Now],
        row: "INSERT INTO outbox_open (id, shard, due_at) VALUES ({}, {}, {})",
        set: "INSERT INTO outbox_open (id, shard, due_at) SELECT * FROM b",
    },
];

const SETTLED_INSERT: BatchStatement = BatchStatement {
    fields: &[Id, Attempt, Outcome, Partition, Now, Now],
    row: "INSERT INTO outbox_settled
              (id, status, attempt, outcome, partition, sent_at, settled_at)
          VALUES ({}, 2, {}, {}, {}, {}, {})",
    set: "INSERT INTO outbox_settled
              (id, status, attempt, outcome, partition, sent_at, settled_at)
          SELECT id, 2, attempt, outcome, partition, now, now FROM b",
};

impl LayoutSql {
    pub(super) fn of(layout: Layout) -> Self {
        match layout {
            Layout::A | Layout::As => Self::wide(layout),
            Layout::D => Self::sequenced(),
            _ => Self::split(layout),
        }
    }

    fn wide(layout: Layout) -> Self {
        let (columns, read) = match layout {
            Layout::A => (
                "id",
                "SELECT id, 0, attempt, key, version, payload FROM outbox
                 WHERE status = 0 AND due_at <= {} AND id >= {} ORDER BY id LIMIT {}",
            ),
            _ => (
                "shard, id",
                "SELECT id, 0, attempt, key, version, payload FROM outbox
                 WHERE status = 0 AND due_at <= {} AND shard = {} AND id >= {}
                 ORDER BY id LIMIT {}",
            ),
        };
        Self {
            tables: format!(
                "{WIDE} CREATE INDEX outbox_pending ON outbox ({columns}) WHERE status = 0"
            ),
            insert: &[BatchStatement {
                fields: &[Id, Key, Shard, Version, Now, Payload],
                row: "INSERT INTO outbox (id, key, shard, version, due_at, payload)
                      VALUES ({}, {}, {}, {}, {}, {})",
                set: "INSERT INTO outbox (id, key, shard, version, due_at, payload)
                      SELECT * FROM b",
            }],
            read,
            mark: BatchStatement {
                fields: &[Partition, Now, Id, Attempt],
                row: "UPDATE outbox
                      SET status = 1, attempt = attempt + 1, partition = {}, sent_at = {}
                      WHERE id = {} AND status = 0 AND attempt = {}",
                set: "UPDATE outbox SET status = 1, attempt = b.attempt + 1,
                          partition = b.partition, sent_at = b.now
                      FROM b WHERE outbox.id = b.id AND outbox.status = 0
                          AND outbox.attempt = b.attempt",
            },
            load: BatchStatement {
                fields: &[Seq, Id],
                row: "SELECT {}, status, attempt, attempt_limit FROM outbox WHERE id = {}",
                set: "SELECT b.seq, o.status, o.attempt, o.attempt_limit
                      FROM b CROSS JOIN outbox AS o ON o.id = b.id",
            },
            settle: &[BatchStatement {
                fields: &[Outcome, Now, Id],
                row: "UPDATE outbox SET status = 2, outcome = {}, settled_at = {} WHERE id = {}",
                set: "UPDATE outbox SET status = 2, outcome = b.outcome, settled_at = b.now
                      FROM b WHERE outbox.id = b.id",
            }],
        }
    }

    fn split(layout: Layout) -> Self {
        let extra = match layout {
            // The payload's own tree is ordered by id: no second index, but wide inner pages.
            Layout::Bx => "WITHOUT ROWID",
            Layout::C => {
                "; CREATE INDEX outbox_pending ON outbox_open (shard, id) WHERE status = 0"
            }
            _ => "",
        };
        Self {
            tables: format!("{SPLIT} {extra}"),
            insert: SPLIT_INSERT,
            read: match layout {
                Layout::C => {
                    "SELECT o.id, 0, o.attempt, e.key, e.version, e.payload
                     FROM outbox_open AS o CROSS JOIN outbox_event AS e ON e.id = o.id
                     WHERE o.status = 0 AND o.due_at <= {} AND o.shard = {} AND o.id >= {}
                     ORDER BY o.id LIMIT {}"
                }
                _ => {
                    "SELECT o.id, 0, o.attempt, e.key, e.version, e.payload
                     FROM outbox_open AS o CROSS JOIN outbox_event AS e ON e.id = o.id
                     WHERE o.status = 0 AND o.due_at <= {} AND o.id >= {} ORDER BY o.id LIMIT {}"
                }
            },
            mark: BatchStatement {
                fields: &[Partition, Now, Id, Attempt],
                row: "UPDATE outbox_open
                      SET status = 1, attempt = attempt + 1, partition = {}, sent_at = {}
                      WHERE id = {} AND status = 0 AND attempt = {}",
                set: "UPDATE outbox_open SET status = 1, attempt = b.attempt + 1,
                          partition = b.partition, sent_at = b.now
                      FROM b WHERE outbox_open.id = b.id AND outbox_open.status = 0
                          AND outbox_open.attempt = b.attempt",
            },
            load: match layout {
                Layout::E => BatchStatement {
                    fields: &[Id],
                    row: "DELETE FROM outbox_open WHERE id = {}
                          RETURNING 0, status, attempt, attempt_limit",
                    set: "DELETE FROM outbox_open WHERE id IN (SELECT id FROM b)
                          RETURNING 0, status, attempt, attempt_limit",
                },
                _ => BatchStatement {
                    fields: &[Seq, Id],
                    row: "SELECT {}, status, attempt, attempt_limit FROM outbox_open WHERE id = {}",
                    set: "SELECT b.seq, o.status, o.attempt, o.attempt_limit
                          FROM b CROSS JOIN outbox_open AS o ON o.id = b.id",
                },
            },
            settle: match layout {
                Layout::E => &[SETTLED_INSERT],
                _ => &[
                    SETTLED_INSERT,
                    BatchStatement {
                        fields: &[Id],
                        row: "DELETE FROM outbox_open WHERE id = {}",
                        set: "DELETE FROM outbox_open WHERE id IN (SELECT id FROM b)",
                    },
                ],
            },
        }
    }

    fn sequenced() -> Self {
        Self {
            tables: SEQUENCED.to_owned(),
            insert: &[
                BatchStatement {
                    fields: &[Seq, Id, Key, Version, Now, Payload],
                    row: "INSERT INTO outbox_event (seq, id, key, version, created_at, payload)
                          VALUES ({}, {}, {}, {}, {}, {})",
                    set: "INSERT INTO outbox_event (seq, id, key, version, created_at, payload)
                          SELECT * FROM b",
                },
                BatchStatement {
                    fields: &[Seq, Id, Shard, Now],
                    row: "INSERT INTO outbox_open (seq, id, shard, due_at) VALUES ({}, {}, {}, {})",
                    set: "INSERT INTO outbox_open (seq, id, shard, due_at) SELECT * FROM b",
                },
            ],
            read: "
                SELECT o.id, o.seq, o.attempt, e.key, e.version, e.payload
                FROM outbox_open AS o CROSS JOIN outbox_event AS e ON e.seq = o.seq
                WHERE o.status = 0 AND o.due_at <= {} AND o.id >= {} ORDER BY o.seq LIMIT {}",
            mark: BatchStatement {
                fields: &[Partition, Now, Seq, Attempt],
                row: "UPDATE outbox_open
                      SET status = 1, attempt = attempt + 1, partition = {}, sent_at = {}
                      WHERE seq = {} AND status = 0 AND attempt = {}",
                set: "UPDATE outbox_open SET status = 1, attempt = b.attempt + 1,
                          partition = b.partition, sent_at = b.now
                      FROM b WHERE outbox_open.seq = b.seq AND outbox_open.status = 0
                          AND outbox_open.attempt = b.attempt",
            },
            // An ack knows the event's id only.
            load: BatchStatement {
                fields: &[Id],
                row: "SELECT o.seq, o.status, o.attempt, o.attempt_limit
                      FROM outbox_event AS e CROSS JOIN outbox_open AS o ON o.seq = e.seq
                      WHERE e.id = {}",
                set: "SELECT o.seq, o.status, o.attempt, o.attempt_limit
                      FROM b CROSS JOIN outbox_event AS e ON e.id = b.id
                      CROSS JOIN outbox_open AS o ON o.seq = e.seq",
            },
            settle: &[
                BatchStatement {
                    fields: &[Seq, Attempt, Outcome, Partition, Now, Now],
                    row: "INSERT INTO outbox_settled
                              (seq, status, attempt, outcome, partition, sent_at, settled_at)
                          VALUES ({}, 2, {}, {}, {}, {}, {})",
                    set: "INSERT INTO outbox_settled
                              (seq, status, attempt, outcome, partition, sent_at, settled_at)
                          SELECT seq, 2, attempt, outcome, partition, now, now FROM b",
                },
                BatchStatement {
                    fields: &[Seq],
                    row: "DELETE FROM outbox_open WHERE seq = {}",
                    set: "DELETE FROM outbox_open WHERE seq IN (SELECT seq FROM b)",
                },
            ],
        }
    }
}
