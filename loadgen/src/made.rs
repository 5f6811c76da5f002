//! Events that a database makes by itself.

use common::db::Conn;

/// SQL that begins a statement with `made`: numbers, moments and ids of `count` events, the newest of them made now, a millisecond after the one before.
///
/// The series is cast: a small number is 32 bits wide, and so would be everything that is computed from it.
pub(crate) fn made(conn: &Conn, count: i64, now: i64) -> String {
    match conn {
        Conn::Pg(_) => format!(
            "WITH numbered AS (SELECT n, {now}::bigint - ({count} - n) * 1000 AS at_us \
               FROM generate_series(1::bigint, {count}::bigint) AS n), \
             made AS (SELECT n, at_us, (lpad(to_hex(at_us / 1000), 12, '0') || '70008' \
               || lpad(to_hex(n), 15, '0'))::uuid AS id FROM numbered)"
        ),
        Conn::Sqlite(_) => format!(
            "WITH RECURSIVE numbers(n) AS (\
               SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count}), \
             numbered AS (SELECT n, {now} - ({count} - n) * 1000 AS at_us FROM numbers), \
             made AS (SELECT n, at_us, printf('%08x-%04x-7000-8000-%012x', \
               (at_us / 1000) >> 16, (at_us / 1000) & 65535, n) AS id FROM numbered)"
        ),
    }
}
