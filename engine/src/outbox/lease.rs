//! Which relay sends which shards: leases with a heartbeat and a fencing token.
//!
//! Leases run by the database's clock, so that instances need not agree on the time; a holder stops by its
//! own monotonic clock before its lease ends. Each live instance holds a fair share. (The idea of the token:
//! M. Kleppmann, "How to do distributed locking", 2016.)

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use common::clock::Timestamp;
use common::db::{Conn, Db, DbError, database_now};
use common::on;
use common::schema::{relay_lease, relay_member};
use diesel::prelude::*;
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::SHARDS;

/// The shard whose holder does what one instance does for all.
pub(super) const FIRST: i16 = 0;

/// The shards that an instance may send now, each with the token that its writes must show.
#[derive(Debug, Clone)]
pub struct LeaseSet {
    /// Who holds them.
    pub owner: String,
    /// Token by shard.
    pub tokens: BTreeMap<i16, i64>,
    /// Whether other instances live.
    pub others: bool,
    /// When the instance must stop using them, by its own clock.
    pub until: Instant,
}

impl LeaseSet {
    /// Nothing held yet.
    pub fn nothing(owner: String) -> Self {
        Self { owner, tokens: BTreeMap::new(), others: false, until: Instant::now() }
    }

    /// Whether the leases still hold.
    pub fn is_valid(&self) -> bool {
        Instant::now() < self.until
    }

    /// Whether it shows the newest `token` of `shard`: else somebody else has taken it since.
    pub fn proves(&self, shard: i16, token: i64) -> bool {
        self.tokens.get(&shard) == Some(&token)
    }

    /// Whether this is the instance that does what only one does.
    pub fn is_first(&self) -> bool {
        self.is_valid() && self.tokens.contains_key(&FIRST)
    }
}

/// How long an instance uses leases of this length, counted from before it asks for them: it stops well before they end,
/// by whatever its clock is slower than the database's.
pub fn usable(lease: Duration) -> Duration {
    lease.mul_f64(0.7)
}

/// How an instance shares what there is to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// It has as many shards as the others.
    Fair,
    /// One of those that want this has all of them, and the others stand by: there is one log to read. Beside instances
    /// that share fairly, while the setting changes, it has as many as those.
    One,
}

/// Renews what `owner` holds, gives back what is above its fair share and takes what is free below it.
///
/// # Errors
/// When the database can't be reached; what was held stays valid until its time.
pub async fn renew(db: &Db, owner: &str, lease: Duration) -> Result<LeaseSet, DbError> {
    renew_share(db, owner, lease, Share::Fair).await
}

/// [`renew`], where instances share as `share` says.
///
/// # Errors
/// As for [`renew`].
pub async fn renew_share(
    db: &Db,
    owner: &str,
    lease: Duration,
    share: Share,
) -> Result<LeaseSet, DbError> {
    // Counted from before the statement: the database's clock starts the lease no earlier.
    let until = Instant::now() + usable(lease);
    let name = owner.to_owned();
    let (tokens, members) =
        db.write(move |conn| renew_in(conn, &name, lease, share).map_err(DbError::from)).await?;
    Ok(LeaseSet { owner: owner.to_owned(), tokens, others: members > 1, until })
}

/// Gives everything back, so that others need not wait for the leases to end.
///
/// # Errors
/// When the database can't be reached; the leases then end by themselves.
pub async fn release(db: &Db, owner: &str) -> Result<(), DbError> {
    let owner = owner.to_owned();
    db.write(move |conn| {
        on!(conn, c => {
            diesel::update(relay_lease::table.filter(relay_lease::owner.eq(&owner)))
                .set(relay_lease::expires_us.eq(0))
                .execute(c)?;
            diesel::delete(relay_member::table.find(&owner)).execute(c)?;
        });
        Ok(())
    })
    .await
}

/// A live relay, and what it may send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Instance {
    /// Its name, which is new with each start.
    pub owner: String,
    /// The shards that it holds.
    pub shards: Vec<i16>,
    /// When it counts as dead unless it renews its lease before; the database's clock.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// The relays that live, by their names.
///
/// # Errors
/// When a statement fails.
pub fn instances(conn: &mut Conn) -> QueryResult<Vec<Instance>> {
    let now = database_now(conn)?;
    let members: Vec<(String, Timestamp)> = on!(conn, c => relay_member::table
        .filter(relay_member::expires_us.gt(now))
        .order(relay_member::owner)
        .select((relay_member::owner, relay_member::expires_us))
        .load(c))?;
    let leases: Vec<(String, i16)> = on!(conn, c => relay_lease::table
        .filter(relay_lease::expires_us.gt(now))
        .order(relay_lease::shard)
        .select((relay_lease::owner, relay_lease::shard))
        .load(c))?;
    let held = |owner: &str| {
        leases.iter().filter(|(holder, _)| holder == owner).map(|(_, shard)| *shard).collect()
    };
    Ok(members
        .into_iter()
        .map(|(owner, expires_at)| Instance { shards: held(&owner), owner, expires_at })
        .collect())
}

/// The tokens that `owner` holds now, and how many instances live.
fn renew_in(
    conn: &mut Conn,
    owner: &str,
    lease: Duration,
    share: Share,
) -> QueryResult<(BTreeMap<i16, i64>, usize)> {
    let now = database_now(conn)?;
    let expires = now.saturating_add(i64::try_from(lease.as_micros()).unwrap_or(i64::MAX));
    let stands_by = share == Share::One;
    let members = register(conn, owner, stands_by, now, expires)?;
    let stand_by = members.iter().filter(|stands_by| **stands_by).count();
    let fair = members.len() - stand_by;
    let mut held = extend(conn, owner, now, expires)?;
    // All that stand by count as one: only one of them sends.
    let among = fair + usize::from(stand_by > 0);
    if stands_by && fair == 0 && !held.contains_key(&FIRST) {
        held.extend(take_free(conn, owner, now, expires, FIRST..=FIRST, 1)?);
    }
    let share = match (stands_by && fair == 0, held.contains_key(&FIRST)) {
        (true, false) => 0,
        _ => usize::from(SHARDS.unsigned_abs()).div_ceil(among.max(1)),
    };
    match held.len().checked_sub(share) {
        Some(0) => {}
        Some(surplus) => give_back(conn, &mut held, surplus)?,
        None => {
            let missing = share - held.len();
            held.extend(take_free(conn, owner, now, expires, FIRST..=SHARDS, missing)?);
        }
    }
    Ok((held, members.len()))
}

/// Notes that `owner` lives, and forgets the dead; of each that lives, whether it would stand by.
fn register(
    conn: &mut Conn,
    owner: &str,
    stands_by: bool,
    now: i64,
    expires: i64,
) -> QueryResult<Vec<bool>> {
    on!(conn, c => {
        diesel::insert_into(relay_member::table)
            .values((
                relay_member::owner.eq(owner),
                relay_member::expires_us.eq(expires),
                relay_member::stands_by.eq(stands_by),
            ))
            .on_conflict(relay_member::owner)
            .do_update()
            .set(relay_member::expires_us.eq(expires))
            .execute(c)?;
        diesel::delete(relay_member::table.filter(relay_member::expires_us.le(now))).execute(c)?;
        relay_member::table.select(relay_member::stands_by).load(c)
    })
}

fn extend(conn: &mut Conn, owner: &str, now: i64, expires: i64) -> QueryResult<BTreeMap<i16, i64>> {
    let mine = relay_lease::table
        .filter(relay_lease::owner.eq(owner).and(relay_lease::expires_us.gt(now)));
    let rows: Vec<(i16, i64)> = on!(conn, c => diesel::update(mine)
        .set(relay_lease::expires_us.eq(expires))
        .returning((relay_lease::shard, relay_lease::token))
        .get_results(c))?;
    Ok(rows.into_iter().collect())
}

fn give_back(conn: &mut Conn, held: &mut BTreeMap<i16, i64>, surplus: usize) -> QueryResult<()> {
    let shards: Vec<i16> = held.keys().rev().take(surplus).copied().collect();
    held.retain(|shard, _| !shards.contains(shard));
    on!(conn, c => diesel::update(relay_lease::table.filter(relay_lease::shard.eq_any(&shards)))
        .set(relay_lease::expires_us.eq(0))
        .execute(c))?;
    Ok(())
}

fn take_free(
    conn: &mut Conn,
    owner: &str,
    now: i64,
    expires: i64,
    among: RangeInclusive<i16>,
    missing: usize,
) -> QueryResult<Vec<(i16, i64)>> {
    let free = relay_lease::table
        .filter(relay_lease::expires_us.le(now))
        .filter(relay_lease::shard.between(*among.start(), *among.end()))
        .select(relay_lease::shard)
        .order(relay_lease::shard)
        .limit(i64::try_from(missing).unwrap_or(0));
    // Another instance that takes at the same moment is passed by, not waited for.
    let shards: Vec<i16> = match conn {
        Conn::Pg(c) => free.for_update().skip_locked().load(c)?,
        Conn::Sqlite(c) => free.load(c)?,
    };
    on!(conn, c => diesel::update(relay_lease::table.filter(relay_lease::shard.eq_any(&shards)))
        .set((
            relay_lease::owner.eq(owner),
            relay_lease::token.eq(relay_lease::token + 1),
            relay_lease::expires_us.eq(expires),
        ))
        .returning((relay_lease::shard, relay_lease::token))
        .get_results(c))
}
