//! What is noted of adjustments, read along with the events that they caused.

use std::collections::BTreeMap;

use common::db::Conn;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Text};

use super::state::ChangedBy;
use super::steps::Step;
use crate::check::rows::AdjustmentRow;

/// The adjustments of each product, read along with its events: both are in the order of its versions.
#[derive(Debug, Default)]
pub(super) struct Adjustments {
    /// How far those of one product are read, the one that the last page ended with.
    read: Option<(String, i64)>,
}

/// What to read of one product's adjustments.
#[derive(Debug)]
struct Wanted {
    sku: String,
    after: i64,
    from_version: i64,
    many: i64,
}

impl Adjustments {
    /// Finds those that `steps` were caused by.
    pub(super) fn find(&mut self, conn: &mut Conn, steps: &mut [Step]) -> QueryResult<()> {
        let wanted = self.wanted(steps);
        let rows = if wanted.is_empty() { Vec::new() } else { load(conn, &wanted)? };
        let rows: BTreeMap<(String, i64), AdjustmentRow> =
            rows.into_iter().map(|row| ((row.sku.clone(), row.version), row)).collect();
        for step in &mut *steps {
            if step.changed_by() == ChangedBy::Adjustment {
                let found = rows.get(&(step.row.key.clone(), step.row.version)).cloned();
                if let Some(found) = &found {
                    self.read = Some((found.sku.clone(), found.seq));
                }
                step.adjustment = found;
            }
        }
        Ok(())
    }

    /// What to read for `steps`. So many adjustments as there are events of them lie one behind the other only where no
    /// version is missing in between; behind a gap the counting begins anew.
    fn wanted(&self, steps: &[Step]) -> Vec<Wanted> {
        let mut wanted: Vec<Wanted> = Vec::new();
        // The last event, if it was the first one of its version, and whether the last of what is wanted goes on.
        let mut last: Option<(&str, i64)> = None;
        let mut goes_on = false;
        for step in steps {
            let (sku, version) = (step.row.key.as_str(), step.row.version);
            let changed_by = step.changed_by();
            if changed_by == ChangedBy::Nothing && last == Some((sku, version)) {
                continue;
            }
            goes_on &= last == Some((sku, version.saturating_sub(1)));
            let is_first = !matches!(changed_by, ChangedBy::Nothing | ChangedBy::Unknown);
            last = is_first.then_some((sku, version));
            if changed_by != ChangedBy::Adjustment {
                continue;
            }
            match wanted.last_mut().filter(|_| goes_on) {
                Some(one) => one.many += 1,
                None => {
                    let read = self.read.as_ref().filter(|(read, _)| read == sku);
                    let after = read.map_or(i64::MIN, |(_, seq)| *seq);
                    wanted.push(Wanted {
                        sku: sku.to_owned(),
                        after,
                        from_version: version,
                        many: 1,
                    });
                }
            }
            goes_on = true;
        }
        wanted
    }
}

fn load(conn: &mut Conn, wanted: &[Wanted]) -> QueryResult<Vec<AdjustmentRow>> {
    match conn {
        Conn::Pg(c) => sql_query(
            "SELECT a.seq, a.sku, a.version, a.delta, a.quantity \
             FROM unnest($1, $2, $3, $4) AS k (sku, after_seq, from_version, many) CROSS JOIN LATERAL \
               (SELECT * FROM adjustment o WHERE o.sku = k.sku AND o.seq > k.after_seq \
                  AND o.version >= k.from_version ORDER BY o.seq LIMIT k.many) a",
        )
        .bind::<Array<Text>, _>(wanted.iter().map(|one| one.sku.as_str()).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(wanted.iter().map(|one| one.after).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(wanted.iter().map(|one| one.from_version).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(wanted.iter().map(|one| one.many).collect::<Vec<_>>())
        .load(c),
        Conn::Sqlite(c) => {
            let mut rows = Vec::new();
            for one in wanted {
                let sql = "SELECT seq, sku, version, delta, quantity FROM adjustment \
                           WHERE sku = $1 AND seq > $2 AND version >= $3 ORDER BY seq LIMIT $4";
                let found: Vec<AdjustmentRow> = sql_query(sql)
                    .bind::<Text, _>(&one.sku)
                    .bind::<BigInt, _>(one.after)
                    .bind::<BigInt, _>(one.from_version)
                    .bind::<BigInt, _>(one.many)
                    .load(c)?;
                rows.extend(found);
            }
            Ok(rows)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{state, step};
    use super::super::steps::EventRow;
    use super::*;

    #[test]
    fn behind_a_gap_adjustments_are_counted_anew() {
        let by = |kind: &'static str| move |version| step(state(version, 1, (kind, None)));
        let (adjustment, put, replay) = (by("adjustment"), by("put"), by("replay"));
        let wanted = |steps: &[Step]| -> Vec<(i64, i64)> {
            let wanted = Adjustments::default().wanted(steps);
            wanted.iter().map(|one| (one.from_version, one.many)).collect()
        };
        assert_eq!(wanted(&[put(4), adjustment(5), put(6), adjustment(7)]), [(5, 2)]);
        assert_eq!(wanted(&[adjustment(5), adjustment(21), adjustment(22)]), [(5, 1), (21, 2)]);
        assert_eq!(wanted(&[adjustment(5), put(21), adjustment(22)]), [(5, 1), (22, 1)]);
        // The first event of version 6 is gone, and may have been an adjustment.
        assert_eq!(wanted(&[adjustment(5), replay(6), adjustment(7)]), [(5, 1), (7, 1)]);
        assert_eq!(wanted(&[adjustment(5), replay(5), adjustment(6)]), [(5, 2)]);
        let other =
            Step { row: EventRow { key: "MILK".to_owned(), ..adjustment(6).row }, ..adjustment(6) };
        assert_eq!(wanted(&[adjustment(5), other]), [(5, 1), (6, 1)]);
    }
}
