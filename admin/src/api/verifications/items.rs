//! Verifications, and the keys that they found, as they are shown.

use common::clock::Timestamp;
use common::db::Conn;
use common::http::{Page, Problem, ProblemResult};
use common::ids::EventId;
use diesel::QueryResult;
use engine::verify::{self, Finding, KeyFinding, State, Verification};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::number;

/// A comparison of a consumer's copy with what this service owns.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Verification)]
pub(crate) struct VerificationItem {
    pub(crate) seq: String,
    /// Of which consumer.
    pub(crate) consumer: String,
    /// It compares only the keys that this earlier one found to differ; none: every key.
    pub(crate) keys_of: Option<String>,
    /// How much of the time it may work.
    pub(crate) share: f64,
    /// `equal`, `different`, `unknown` and `cancelled` are ends.
    pub(crate) state: State,
    /// The key up to which it has compared.
    pub(crate) cursor: Option<String>,
    /// Keys compared so far.
    pub(crate) keys: i64,
    /// Keys that differ, as far as it has got.
    pub(crate) differences: i64,
    /// Keys that it could not decide on: their events were open until its end.
    pub(crate) waiting: i64,
    /// Whether it ended early because more keys differ than are listed.
    pub(crate) cut: bool,
    /// Why it is unknown.
    pub(crate) reason: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    pub(crate) created_by: String,
    /// How they were authenticated; `schedule` where nobody asked for it.
    pub(crate) created_via: String,
    /// All that was committed before this is compared.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) started_at: Option<Timestamp>,
    /// When its last range of keys was compared; keys that moved meanwhile are looked at again after it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) compared_at: Option<Timestamp>,
    /// When the consumer answered last.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) answered_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) ended_at: Option<Timestamp>,
    /// Who cancelled it.
    pub(crate) ended_by: Option<String>,
}

/// A verification and how many keys it found in which way.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VerificationDetail {
    #[serde(flatten)]
    pub(crate) item: VerificationItem,
    pub(crate) findings: Findings,
}

/// How many keys have each finding.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Findings {
    /// They have to be looked at again, as long as it runs.
    pub(crate) moving: i64,
    /// Their events were open at its end.
    pub(crate) waiting: i64,
    /// This service has them, the copy does not.
    pub(crate) missing: i64,
    /// The copy has them, this service never did.
    pub(crate) unknown: i64,
    /// The copy has an older version.
    pub(crate) older: i64,
    /// The copy has a newer version than there ever was.
    pub(crate) newer: i64,
    /// The version is the same, and the content is not.
    pub(crate) content: i64,
}

/// A key that differs, or that was waited for.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KeyDifference)]
pub(crate) struct DifferenceItem {
    pub(crate) key: String,
    /// At which consumer.
    pub(crate) consumer: String,
    /// How it differs; `waiting`: it could not be found out.
    #[schema(value_type = Finding)]
    pub(crate) kind: Finding,
    /// The version that this service has.
    pub(crate) owner_version: Option<i64>,
    /// Whether it is removed here.
    pub(crate) owner_removed: Option<bool>,
    /// The epoch of the copy's version.
    pub(crate) copy_epoch: Option<i64>,
    /// The version that the copy has.
    pub(crate) copy_version: Option<i64>,
    /// Whether it is removed there.
    pub(crate) copy_removed: Option<bool>,
    /// The event of the key that was open when it was looked at.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub(crate) event_id: Option<EventId>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) found_at: Timestamp,
}

/// Which verification is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The newest one of all keys that came to its end by itself.
    Latest,
    /// That one.
    Number(i64),
}

impl Asked {
    /// Reads a number, or `latest`.
    ///
    /// # Errors
    /// 422 for anything else.
    pub(crate) fn parse(text: &str) -> ProblemResult<Self> {
        match text {
            "latest" => Ok(Self::Latest),
            text => verification_number(text).map(Self::Number),
        }
    }

    /// The same, where the latest is asked for that of `consumer`, if one is named.
    ///
    /// # Errors
    /// 404 if there is none.
    pub(crate) fn of(self, conn: &mut Conn, consumer: Option<&str>) -> ProblemResult<Self> {
        let (Self::Latest, Some(consumer)) = (self, consumer) else { return Ok(self) };
        let latest = verify::latest(conn, Some(consumer))?;
        latest.map(|row| Self::Number(row.seq)).ok_or_else(|| {
            Problem::not_found(format!("no verification of {consumer:?} has ended yet; start one"))
        })
    }

    /// The verification itself.
    ///
    /// # Errors
    /// 404 if there is none.
    pub(crate) fn find(self, conn: &mut Conn) -> ProblemResult<Verification> {
        match self {
            Self::Number(seq) => verify::find(conn, seq)?.ok_or_else(|| unknown(seq)),
            Self::Latest => verify::latest(conn, None)?.ok_or_else(|| {
                Problem::not_found("no verification of all keys has ended yet; start one")
            }),
        }
    }
}

impl From<Verification> for VerificationItem {
    fn from(row: Verification) -> Self {
        Self {
            seq: row.seq.to_string(),
            consumer: row.consumer,
            keys_of: row.keys_of.map(|seq| seq.to_string()),
            share: f64::from(row.share) / 1_000.0,
            state: row.state,
            cursor: row.cursor,
            keys: row.keys,
            differences: row.differences,
            waiting: row.waiting,
            cut: row.cut,
            reason: row.reason,
            created_at: row.created_us,
            created_by: row.created_by,
            created_via: row.created_via,
            started_at: row.started_us,
            compared_at: row.compared_us,
            answered_at: row.answered_us,
            ended_at: row.ended_us,
            ended_by: row.ended_by,
        }
    }
}

impl VerificationItem {
    /// A page of verifications, newest first.
    ///
    /// # Errors
    /// When the statement fails.
    pub(crate) fn page(
        conn: &mut Conn,
        consumer: Option<&str>,
        after: Option<i64>,
        limit: i64,
    ) -> ProblemResult<Page<Self>> {
        let rows = verify::list(conn, consumer, after.unwrap_or(i64::MAX), limit + 1)?;
        let items = rows.into_iter().map(Self::from).collect();
        Ok(Page::cut(items, limit, |item: &Self| item.seq.clone()))
    }
}

impl VerificationDetail {
    /// One verification with its counts.
    ///
    /// # Errors
    /// 404 if there is none.
    pub(crate) fn find(conn: &mut Conn, asked: Asked) -> ProblemResult<Self> {
        let row = asked.find(conn)?;
        let findings = Findings::of(conn, row.seq)?;
        Ok(Self { item: row.into(), findings })
    }
}

impl Findings {
    /// What a verification found so far.
    ///
    /// # Errors
    /// When the statement fails.
    pub(crate) fn of(conn: &mut Conn, seq: i64) -> QueryResult<Self> {
        let mut findings = Self::default();
        for (finding, count) in verify::counts(conn, seq)? {
            *findings.count(finding) = count;
        }
        Ok(findings)
    }

    const fn count(&mut self, finding: Finding) -> &mut i64 {
        match finding {
            Finding::Moving => &mut self.moving,
            Finding::Waiting => &mut self.waiting,
            Finding::Missing => &mut self.missing,
            Finding::Unknown => &mut self.unknown,
            Finding::Older => &mut self.older,
            Finding::Newer => &mut self.newer,
            Finding::Content => &mut self.content,
        }
    }
}

impl DifferenceItem {
    fn of(consumer: &str, found: KeyFinding) -> Self {
        Self {
            key: found.key,
            consumer: consumer.to_owned(),
            kind: found.finding,
            owner_version: found.owner_version,
            owner_removed: found.owner_removed,
            copy_epoch: found.copy_epoch,
            copy_version: found.copy_version,
            copy_removed: found.copy_removed,
            event_id: found.event_id,
            found_at: found.found_us,
        }
    }

    /// Keys of a verification in their order, behind `after`.
    ///
    /// # Errors
    /// 404 if there is no such verification.
    pub(crate) fn page(
        conn: &mut Conn,
        asked: Asked,
        waiting: bool,
        after: &str,
        limit: i64,
    ) -> ProblemResult<Page<Self>> {
        let Verification { seq, consumer, .. } = asked.find(conn)?;
        let found = verify::findings(conn, seq, !waiting, after, limit + 1)?;
        let items = found.into_iter().map(|one| Self::of(&consumer, one)).collect();
        Ok(Page::cut(items, limit, |item: &Self| item.key.clone()))
    }
}

pub(crate) fn verification_number(seq: &str) -> ProblemResult<i64> {
    number(seq, "seq", "a verification's")
}

fn unknown(seq: i64) -> Problem {
    Problem::not_found(format!("there is no verification {seq}"))
}
