//! The two sides of a comparison: one's own database, and a consumer that is asked over HTTP.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use common::clock::Timestamp;
use common::copy_state;
use common::db::{Conn, Db, DbError};
use common::http::Problem;
use common::http_client::root_cause;
use diesel::QueryResult;
use hyper::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::replica::{Keys, Range, Replica, Row, Select};
use super::wire::{
    CompleteCopy, DigestAnswer, DigestRequest, KeySet, KeyState, MAX_STATES, PROTOCOL, RangeDigest,
    ReplicaInfo, StatesAnswer, StatesRequest, Terms,
};
use crate::peer::{Peer, PeerRequest, body_of};

/// Rows that are read at once for a digest: what one statement returns, and what memory holds.
const PAGE: i64 = 5_000;

/// The largest answer that is read: 500 states whose keys are of the longest.
const MAX_ANSWER: usize = 4 << 20;

/// Why a side gives no answer that could be relied on.
#[derive(Debug, thiserror::Error)]
pub enum SideError {
    /// Nobody answers, or not in time, or not to the end; it may be different later.
    #[error(
        "{consumer} can't be asked at {url}: {reason}; is it up, and are {section}.url and {section}.api_token right?"
    )]
    Away {
        /// Who was asked.
        consumer: String,
        /// Where.
        url: String,
        /// The section of the settings that says so.
        section: String,
        /// What happened.
        reason: String,
    },
    /// What was answered is not what was asked for, and will not be the next time.
    #[error("{consumer} can't be verified: {reason}")]
    Unfit {
        /// Who was asked.
        consumer: String,
        /// What is wrong with the answer, and what to do.
        reason: String,
    },
    /// The settings do not say where it is.
    #[error("nobody knows where {0} can be asked: set consumers.{0}.url")]
    Nowhere(String),
    /// The own database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// One that can say what it holds.
pub trait Side: Send + Sync {
    /// What it has.
    fn info(&self) -> impl Future<Output = Result<ReplicaInfo, SideError>> + Send;

    /// The digests of ranges, in their order; of a range with more than `at_most` rows, only that it has.
    fn digests(
        &self,
        terms: &Terms,
        ranges: &[Range],
        at_most: i64,
    ) -> impl Future<Output = Result<Vec<RangeDigest>, SideError>> + Send;

    /// The states of keys in their order, and whether the range has more behind them.
    fn states(
        &self,
        terms: &Terms,
        of: &KeySet,
    ) -> impl Future<Output = Result<(Vec<KeyState>, bool), SideError>> + Send;
}

/// The own database.
#[derive(Clone)]
pub struct Local {
    /// Which service this is.
    pub service: String,
    /// Its database.
    pub db: Db,
    /// What it holds there.
    pub replica: Arc<dyn Replica>,
    /// Tombstones that are older than this may be forgotten.
    pub tombstones_since: Timestamp,
}

impl Side for Local {
    async fn info(&self) -> Result<ReplicaInfo, SideError> {
        let replica = Arc::clone(&self.replica);
        let forgotten = self.db.read(move |conn| Ok::<_, DbError>(replica.forgotten_since(conn)?));
        let tombstones_since = self.tombstones_since.max(forgotten.await?.unwrap_or_default());
        Ok(ReplicaInfo {
            tombstones_since,
            protocol: PROTOCOL,
            service: self.service.clone(),
            collection: self.replica.collection().to_owned(),
            fields: self.replica.fields().iter().map(|&field| field.to_owned()).collect(),
            copy_id: None,
            complete: None,
        })
    }

    async fn digests(
        &self,
        terms: &Terms,
        ranges: &[Range],
        at_most: i64,
    ) -> Result<Vec<RangeDigest>, SideError> {
        let mut digests = Vec::with_capacity(ranges.len());
        for range in ranges {
            digests.push(self.digest(terms, range, at_most).await?);
        }
        Ok(digests)
    }

    async fn states(&self, terms: &Terms, of: &KeySet) -> Result<(Vec<KeyState>, bool), SideError> {
        let (replica, terms, of) = (Arc::clone(&self.replica), terms.clone(), of.clone());
        let read = move |conn: &mut _| Ok::<_, DbError>(states_in(conn, &*replica, &terms, &of)?);
        Ok(self.db.read(read).await?)
    }
}

impl Local {
    /// What the service has in `db`.
    pub fn of(
        service: &str,
        db: &Db,
        replica: Arc<dyn Replica>,
        tombstones_since: Timestamp,
    ) -> Self {
        Self { service: service.to_owned(), db: db.clone(), replica, tombstones_since }
    }

    /// What it has, and whether it is complete: for a copy.
    pub(crate) async fn copy_info(&self) -> Result<ReplicaInfo, SideError> {
        let read = self.db.read(|conn| Ok::<_, DbError>(copy_state::read(conn)?));
        let (copy, info) = (read.await?, self.info().await?);
        Ok(match copy {
            Some(copy) => ReplicaInfo {
                complete: Some(copy.is_complete()),
                copy_id: Some(copy.copy_id),
                ..info
            },
            None => info,
        })
    }

    /// Reads a range page by page, so that neither memory nor a transaction grows with it.
    async fn digest(
        &self,
        terms: &Terms,
        range: &Range,
        at_most: i64,
    ) -> Result<RangeDigest, DbError> {
        let (mut hasher, mut rows, mut epoch) = (Sha256::new(), 0, None);
        let mut after = range.after.clone();
        loop {
            let (replica, terms) = (Arc::clone(&self.replica), terms.clone());
            let (from, up_to) = (after.clone(), range.up_to.clone());
            let read = self.db.read(move |conn| {
                let keys = Keys::Between(from.as_deref(), up_to.as_deref());
                let page = select(conn, &*replica, &terms, keys, PAGE)?;
                page.iter().for_each(|row| row.add_to(&mut hasher));
                let epoch = page.iter().filter_map(|row| row.epoch).max();
                let last = page.last().map(|row| row.key.clone());
                Ok::<_, DbError>((hasher, page.len(), last, epoch))
            });
            let (hashed, count, last, latest) = read.await?;
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            (hasher, rows, epoch) = (hashed, rows + count, epoch.max(latest));
            if rows > at_most {
                return Ok(RangeDigest {
                    rows: at_most.saturating_add(1),
                    digest: hex::encode([0; 32]),
                    epoch,
                });
            }
            match last {
                Some(last) if count == PAGE => after = Some(last),
                _ => {
                    return Ok(RangeDigest { rows, digest: hex::encode(hasher.finalize()), epoch });
                }
            }
        }
    }
}

/// The states of keys, in one statement.
pub(super) fn states_in(
    conn: &mut Conn,
    replica: &dyn Replica,
    terms: &Terms,
    of: &KeySet,
) -> QueryResult<(Vec<KeyState>, bool)> {
    let limit = i64::try_from(MAX_STATES).unwrap_or(i64::MAX);
    let keys = match of {
        KeySet::Range(range) => Keys::Between(range.after.as_deref(), range.up_to.as_deref()),
        KeySet::Keys(keys) => Keys::Named(keys),
    };
    // One more, to see whether there is more.
    let mut rows = select(conn, replica, terms, keys, limit + 1)?;
    let more = rows.len() > MAX_STATES;
    rows.truncate(MAX_STATES);
    Ok((rows.into_iter().map(KeyState::from).collect(), more))
}

fn select(
    conn: &mut Conn,
    replica: &dyn Replica,
    terms: &Terms,
    keys: Keys<'_>,
    limit: i64,
) -> QueryResult<Vec<Row>> {
    let Terms { fields, tombstones_since, .. } = terms;
    let select = Select { keys, tombstones_since: *tombstones_since, fields, limit };
    conn.read_by_index(|conn| replica.rows(conn, &select))
}

impl From<Row> for KeyState {
    fn from(row: Row) -> Self {
        let digest = row.digest();
        let Row { key, epoch, version, removed, .. } = row;
        Self { key, epoch, version, removed, digest }
    }
}

/// A consumer, asked over HTTP with the token that the two services share.
#[derive(Debug, Clone)]
pub struct Remote {
    /// What its acks call it.
    pub consumer: String,
    /// Where it is.
    pub peer: Peer,
    /// The section of the settings that says so.
    pub section: String,
    /// How long an answer may take.
    pub timeout: Duration,
}

impl Side for Remote {
    async fn info(&self) -> Result<ReplicaInfo, SideError> {
        let info: ReplicaInfo = self.answer(self.peer.get("/api/v1/replica", &[])).await?;
        self.check_protocol(info.protocol)?;
        if info.service != self.consumer {
            return Err(self.unfit(format!(
                "{} answers at {}; {}.url has to be that of {}",
                info.service,
                self.peer.base(),
                self.section,
                self.consumer
            )));
        }
        Ok(info)
    }

    async fn digests(
        &self,
        terms: &Terms,
        ranges: &[Range],
        at_most: i64,
    ) -> Result<Vec<RangeDigest>, SideError> {
        let request = DigestRequest { terms: terms.clone(), ranges: ranges.to_vec(), at_most };
        let answer: DigestAnswer = self.post("/api/v1/replica/digests", &request).await?;
        self.check_protocol(answer.protocol)?;
        let most = at_most.saturating_add(1);
        let is_digest =
            |one: &RangeDigest| (0..=most).contains(&one.rows) && is_sha256(&one.digest);
        match answer.digests {
            digests if digests.len() == ranges.len() && digests.iter().all(is_digest) => {
                Ok(digests)
            }
            _ => Err(self.unfit("it answered with other digests than it was asked for".to_owned())),
        }
    }

    async fn states(&self, terms: &Terms, of: &KeySet) -> Result<(Vec<KeyState>, bool), SideError> {
        let request = StatesRequest { terms: terms.clone(), of: of.clone() };
        let answer: StatesAnswer = self.post("/api/v1/replica/states", &request).await?;
        self.check_protocol(answer.protocol)?;
        match fits(&answer, of) {
            true => Ok((answer.states, answer.more)),
            false => {
                Err(self.unfit("it answered with other keys than it was asked for".to_owned()))
            }
        }
    }
}

/// Whether an answer is one to the question: its keys in order, each once, and such as were asked for.
pub(super) fn fits(answer: &StatesAnswer, of: &KeySet) -> bool {
    let states = &answer.states;
    let asked = |key: &String| match of {
        KeySet::Range(Range { after, up_to }) => {
            after.as_ref().is_none_or(|after| key > after)
                && up_to.as_ref().is_none_or(|up_to| key <= up_to)
        }
        KeySet::Keys(keys) => keys.contains(key),
    };
    states.len() <= MAX_STATES
        && (!answer.more || !states.is_empty())
        && states.windows(2).all(|pair| matches!(pair, [one, next] if one.key < next.key))
        && states.iter().all(|state| asked(&state.key) && is_sha256(&state.digest))
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Remote {
    /// Says that the copy of this id is complete; false: another copy answers by now.
    pub(crate) async fn complete(&self, copy_id: &str) -> Result<bool, SideError> {
        let body = CompleteCopy { copy_id: copy_id.to_owned() };
        let request = self.peer.put("/api/v1/replica/complete").json(&body);
        let (status, body) = self.send(request).await?;
        match status {
            StatusCode::CONFLICT => Ok(false),
            status if status.is_success() => Ok(true),
            status => Err(self.refused(status, &body)),
        }
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, SideError> {
        self.answer(self.peer.post(path).json(body)).await
    }

    async fn answer<T: DeserializeOwned>(&self, request: PeerRequest) -> Result<T, SideError> {
        let (status, body) = self.send(request).await?;
        if status.is_success() {
            return serde_json::from_slice(&body)
                .map_err(|error| self.unfit(format!("its answer can't be read: {error}")));
        }
        Err(self.refused(status, &body))
    }

    async fn send(&self, request: PeerRequest) -> Result<(StatusCode, Vec<u8>), SideError> {
        let response =
            request.timeout(self.timeout).send().await.map_err(|error| self.broke_off(&error))?;
        let status = response.status();
        let body = body_of(response, MAX_ANSWER).await.map_err(|error| self.broke_off(&error))?;
        Ok((status, body))
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> SideError {
        let said = serde_json::from_slice::<Problem>(body)
            .map_or_else(|_| format!("it answered {status}"), |problem| problem.detail);
        match status {
            StatusCode::NOT_FOUND => {
                self.unfit(format!("it can't be compared ({said}); is it of this version?"))
            }
            // A token that is wrong, a service that is busy or ill: a person or time mends it.
            _ if status.is_server_error() || matches!(status.as_u16(), 401 | 403 | 408 | 429) => {
                self.away(said)
            }
            _ => self.unfit(said),
        }
    }

    fn check_protocol(&self, protocol: u32) -> Result<(), SideError> {
        match protocol {
            PROTOCOL => Ok(()),
            other => Err(self.unfit(format!(
                "it compares by version {other}, and this service by version {PROTOCOL}; bring both to the same release"
            ))),
        }
    }

    fn broke_off(&self, error: &(dyn Error + 'static)) -> SideError {
        self.away(root_cause(error))
    }

    fn away(&self, reason: String) -> SideError {
        let (consumer, url) = (self.consumer.clone(), self.peer.base().to_string());
        SideError::Away { consumer, url, section: self.section.clone(), reason }
    }

    fn unfit(&self, reason: String) -> SideError {
        SideError::Unfit { consumer: self.consumer.clone(), reason }
    }
}
