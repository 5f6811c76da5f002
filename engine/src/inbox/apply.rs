//! Events that arrive: inbox and effect in one transaction, each event once, each delivery answered.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use common::clock::Timestamp;
use common::db::{Conn, Db, ROWS_PER_INSERT, Unnest, column};
use common::env::Env;
use common::event::Event;
use common::ids::{EventId, EventIdSql};
use common::on;
use common::schema::inbox;
use common::telemetry::{Delivery, SignedMessage, Span, Spans, Step, few_for_the_log};
use common::trace_context::trace_id;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{BigInt, Nullable, SmallInt, Text};
use serde_json::value::RawValue;

use super::evidence::Control;
use super::model::{Detail, Handler, HandlerOutcome};
use super::quarantine;
use crate::batch::{Attempt, BatchError};
use crate::dead_letters::{self, DeadLetter};
use crate::kafka::{
    Ack, BadSignature, Envelope, Record, SignatureChecks, Signing, Verdict, cut_error,
};
use crate::outbox::FinalOutcome;
use crate::restored::ReadPositions;

/// Applies what comes in.
#[derive(Clone)]
pub struct Inbox {
    /// The service's database.
    pub db: Db,
    /// Time and ids.
    pub env: Env,
    /// What applies the events.
    pub handler: Arc<dyn Handler>,
    /// As whom it answers: the service's name.
    pub consumer: String,
    /// Where the steps of traces are written down.
    pub spans: Spans,
    /// An event that passed.
    pub control: Control,
    /// How far the database has taken the topic.
    pub positions: ReadPositions,
    /// By what events are believed.
    pub signing: Signing,
}

/// Dead letters of a topic that may wait while more are kept for their signatures: whoever may write to the topic could fill
/// the database, and what is true is sent again.
const KEPT: usize = 100;

/// What a batch came to.
#[derive(Default)]
pub struct Applied {
    /// The answers, each with the partition that its event came from.
    pub acks: Vec<(i32, Ack)>,
    /// Messages that can't be read, or are not believed.
    pub unreadable: usize,
    /// What the signatures of the messages came to. What was refused for its own is not answered.
    pub signatures: SignatureChecks,
    /// Those that can't be read, by their places in the batch, and of which event they say they are.
    letters: Vec<(usize, Option<EventId>)>,
    /// The steps of the traces that are recorded, with the place of their answer.
    spans: Vec<(usize, Span)>,
    /// Some of its events that passed.
    passed: Vec<Event>,
}

/// A message that can be read, and what its answer takes of it.
struct Arrival<'a> {
    record: &'a Record,
    id: EventId,
    attempt: i32,
    traceparent: Option<String>,
    span: Option<Span>,
}

/// The kept answer to an event that was applied or rejected.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = inbox)]
struct InboxRow {
    event_id: EventId,
    outcome: FinalOutcome,
    detail: Option<String>,
    version: Option<i64>,
    result: Option<String>,
    event_type: String,
    key: String,
    processed_us: Timestamp,
}

impl Inbox {
    pub(super) fn env(&self) -> &Env {
        &self.env
    }

    pub(super) fn consumer(&self) -> &str {
        &self.consumer
    }

    /// Applies a batch in one transaction, and says what to answer once that is committed.
    ///
    /// A bad event fails alone. `repeats`: whether the batch has failed several times, so that single events may be to
    /// blame for what else would be the world's fault; but only where others pass, of the batch or of those before it.
    ///
    /// # Errors
    /// When the database fails; nothing is kept, and the same records can be given again.
    pub async fn apply(
        &self,
        records: impl Into<Arc<Vec<Record>>>,
        repeats: bool,
    ) -> Result<Applied, BatchError> {
        let batch: Arc<Vec<Record>> = records.into();
        let applied = Attempt::each(repeats, |attempt| {
            let (inbox, records) = (self.clone(), Arc::clone(&batch));
            self.db.write_by_index(move |conn| {
                let applied = inbox.apply_in(conn, &records, attempt)?;
                // Last, since other batches of the same partitions wait for it.
                inbox.positions.note(conn, inbox.env.now(), &records)?;
                Ok(applied)
            })
        });
        let mut applied = applied.await?;
        self.positions.took(&batch);
        self.control.add(std::mem::take(&mut applied.passed));
        self.end_spans(&mut applied);
        log_dead_letters(&batch, &applied.letters);
        log_failures(&applied);
        Ok(applied)
    }

    fn end_spans(&self, applied: &mut Applied) {
        for (place, span) in applied.spans.drain(..) {
            let Some((_, ack)) = applied.acks.get(place) else { continue };
            let span = span.with("stockloop.outcome", ack.outcome.name());
            let span = match &ack.detail {
                Some(detail) => span.with("stockloop.detail", detail.clone()),
                None => span,
            };
            self.spans.end(span, ack.error.as_deref());
        }
    }

    fn apply_in(
        &self,
        conn: &mut Conn,
        records: &[Record],
        attempt: Attempt,
    ) -> Result<Applied, BatchError> {
        let now = self.env.now();
        let mut applied = Applied::default();
        let mut arrivals = Vec::with_capacity(records.len());
        // Each event once, however often it comes.
        let (mut firsts, mut seen) = (Vec::with_capacity(records.len()), HashSet::new());
        let mut refused = Vec::new();
        for (place, record) in records.iter().enumerate() {
            let checked = self.signing.check(SignedMessage::Event, record, &mut applied.signatures);
            if let Err(bad) = checked {
                refused.push((record, bad));
                continue;
            }
            match Envelope::read(record) {
                Ok(Envelope { mut event, .. }) => {
                    let span = self.begin_span(&mut event, record);
                    let (id, attempt) = (event.id, event.attempt);
                    let traceparent = event.traceparent.clone();
                    arrivals.push(Arrival { record, id, attempt, traceparent, span });
                    if seen.insert(id) {
                        firsts.push(event);
                    }
                }
                Err(unreadable) => {
                    dead_letters::store(conn, &DeadLetter::of(record, &unreadable.reason, now))?;
                    applied.unreadable += 1;
                    applied.letters.push((place, unreadable.event.map(|(id, _)| id)));
                    if let Some((id, attempt)) = unreadable.event {
                        let error = format!("the message can't be read: {}", unreadable.reason);
                        let answer = HandlerOutcome::Failed { error, retryable: false };
                        applied.acks.push((
                            record.partition,
                            self.ack(id, attempt, answer, now).of_record(record),
                        ));
                    }
                }
            }
        }
        applied.unreadable += refused.len();
        keep_refused(conn, &refused, now)?;
        let answers = self.answers(conn, &firsts, attempt, now)?;
        let passed = firsts.iter().zip(&answers).filter(|(_, answer)| answer.had_effect());
        applied.passed = passed.take(Control::EVENTS).map(|(event, _)| event.clone()).collect();
        let mut answers: HashMap<EventId, HandlerOutcome> =
            firsts.iter().map(|event| event.id).zip(answers).collect();
        for Arrival { record, id, attempt, traceparent, span } in arrivals {
            let Some(answer) = answers.get(&id).cloned() else {
                continue;
            };
            answers.entry(id).and_modify(repeated);
            let ack = self.ack(id, attempt, answer, now).of_record(record);
            applied.spans.extend(span.map(|span| (applied.acks.len(), span)));
            applied.acks.push((record.partition, Ack { traceparent, ..ack }));
        }
        Ok(applied)
    }

    /// Begins a step of the event's trace; what a handler makes of the event then belongs to that.
    fn begin_span(&self, event: &mut Event, record: &Record) -> Option<Span> {
        let mut traceparent = event.traceparent.take();
        let about = || Delivery {
            id: event.id,
            key: event.key.clone(),
            attempt: event.attempt,
            topic: record.topic.clone(),
            partition: Some(record.partition),
        };
        let span = self.spans.begin(Step::Process, &mut traceparent, about);
        event.traceparent = traceparent;
        span
    }

    /// All of `events` (no id twice) in one go.
    pub(super) fn apply_together(
        &self,
        conn: &mut Conn,
        events: &[Event],
        now: Timestamp,
    ) -> Result<Vec<HandlerOutcome>, BatchError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let mut answers = known(conn, events)?;
        answers.extend(quarantined(conn, events, &answers)?);
        let fresh = unanswered(events, &answers);
        let handled = self.handle(conn, now, &fresh)?;
        keep_results(conn, &fresh, &handled, now)?;
        answers.extend(fresh.iter().map(|event| event.id).zip(handled));
        let missing = || BatchError::Flawed("left an event without an answer".to_owned());
        events.iter().map(|event| answers.remove(&event.id).ok_or_else(missing)).collect()
    }

    fn handle(
        &self,
        conn: &mut Conn,
        now: Timestamp,
        fresh: &[Event],
    ) -> Result<Vec<HandlerOutcome>, BatchError> {
        if fresh.is_empty() {
            return Ok(Vec::new());
        }
        let handler = &self.handler;
        let answers = catch_unwind(AssertUnwindSafe(|| handler.apply(conn, now, fresh)))
            .unwrap_or_else(|_panic| Err(BatchError::Flawed("panicked".to_owned())))?;
        if answers.len() != fresh.len() {
            return Err(BatchError::Flawed("did not answer every event".to_owned()));
        }
        for (event, answer) in fresh.iter().zip(&answers) {
            if matches!(answer, HandlerOutcome::Rejected { .. })
                && !handler.is_command(&event.event_type)
            {
                return Err(BatchError::Flawed(format!(
                    "rejected a {}, which is no command",
                    event.event_type
                )));
            }
        }
        Ok(answers)
    }

    fn ack(&self, event_id: EventId, attempt: i32, answer: HandlerOutcome, now: Timestamp) -> Ack {
        let ack = Ack::new(event_id, attempt, Verdict::Success, &self.consumer, now);
        match answer {
            HandlerOutcome::Success { detail, version, result } => {
                Ack { detail: Some(detail.name().to_owned()), version, result: raw(result), ..ack }
            }
            HandlerOutcome::Rejected { result } => {
                Ack { outcome: Verdict::Rejected, result: raw(Some(result)), ..ack }
            }
            HandlerOutcome::Failed { error, retryable } => {
                Ack { outcome: Verdict::Failed, error: Some(cut_error(&error)), retryable, ..ack }
            }
        }
    }
}

/// The error itself may quote the event's data; its sender keeps it in the event's history.
fn log_failures(applied: &Applied) {
    let failed = |(_, ack): &&(i32, Ack)| ack.outcome == Verdict::Failed;
    let failed: Vec<_> = applied.acks.iter().filter(failed).collect();
    for (partition, ack) in few_for_the_log(&failed) {
        let Ack { event_id, attempt, retryable, .. } = ack;
        let trace_id = ack.traceparent.as_deref().and_then(trace_id);
        tracing::warn!(%event_id, attempt, partition, retryable, trace_id, "an event is answered FAILED");
    }
}

/// Keeps messages of one topic that are not believed, whole, while there is room. They are not answered: what one says of
/// itself may be somebody else's event, whose sender would take the answer for one to that.
fn keep_refused(
    conn: &mut Conn,
    refused: &[(&Record, BadSignature)],
    now: Timestamp,
) -> QueryResult<()> {
    let Some((first, _)) = refused.first() else { return Ok(()) };
    let waiting = dead_letters::waiting_of(conn, &first.topic, KEPT)?;
    for (record, bad) in refused.iter().take(KEPT.saturating_sub(waiting)) {
        dead_letters::store(conn, &DeadLetter::of(record, &bad.to_string(), now))?;
    }
    Ok(())
}

fn log_dead_letters(batch: &[Record], letters: &[(usize, Option<EventId>)]) {
    for (place, event_id) in letters {
        let Some(Record { topic, partition, offset, .. }) = batch.get(*place) else { continue };
        let event_id = event_id.map(tracing::field::display);
        tracing::warn!(
            event_id,
            topic,
            partition,
            offset,
            "a message can't be read: a dead letter"
        );
    }
}

/// Those of `events` that have no answer yet: usually all of them.
fn unanswered<'a>(
    events: &'a [Event],
    answers: &BTreeMap<EventId, HandlerOutcome>,
) -> Cow<'a, [Event]> {
    match answers.is_empty() {
        true => Cow::Borrowed(events),
        false => {
            let is_fresh = |event: &&Event| !answers.contains_key(&event.id);
            Cow::Owned(events.iter().filter(is_fresh).cloned().collect())
        }
    }
}

/// What an event that was answered in this batch is answered when it comes again in it.
fn repeated(answer: &mut HandlerOutcome) {
    if let HandlerOutcome::Success { detail, .. } = answer {
        *detail = Detail::Duplicate;
    }
}

fn raw(value: Option<serde_json::Value>) -> Option<Box<RawValue>> {
    value.and_then(|value| serde_json::value::to_raw_value(&value).ok())
}

/// The answers that were given before: the same again.
fn known(conn: &mut Conn, events: &[Event]) -> QueryResult<BTreeMap<EventId, HandlerOutcome>> {
    let ids: Vec<EventId> = events.iter().map(|event| event.id).collect();
    let rows: Vec<InboxRow> = on!(conn, c => inbox::table
        .filter(inbox::event_id.eq_any(&ids))
        .select(InboxRow::as_select())
        .load(c))?;
    Ok(rows.into_iter().map(|row| (row.event_id, row.into_answer())).collect())
}

fn quarantined(
    conn: &mut Conn,
    events: &[Event],
    answered: &BTreeMap<EventId, HandlerOutcome>,
) -> QueryResult<Vec<(EventId, HandlerOutcome)>> {
    let open: Vec<&Event> =
        events.iter().filter(|event| !answered.contains_key(&event.id)).collect();
    let keys: Vec<&str> = open.iter().map(|event| event.key.as_str()).collect();
    let reasons = quarantine::among(conn, &keys)?;
    let refuse = |event: &Event| {
        let reason = reasons.get(&event.key)?;
        // Quoted, so that all keys in quarantine for one reason are one class of errors.
        let error = format!("{:?} is in quarantine: {reason}", event.key);
        Some((event.id, HandlerOutcome::Failed { error, retryable: true }))
    };
    Ok(open.into_iter().filter_map(refuse).collect())
}

/// Keeps the final answers; a FAILED leaves no row, so that the next attempt is a fresh try.
fn keep_results(
    conn: &mut Conn,
    events: &[Event],
    answers: &[HandlerOutcome],
    now: Timestamp,
) -> Result<(), BatchError> {
    let rows: Vec<InboxRow> = events
        .iter()
        .zip(answers)
        .filter_map(|(event, answer)| InboxRow::of(event, answer, now))
        .collect();
    insert(conn, &rows).map_err(raced)
}

fn insert(conn: &mut Conn, rows: &[InboxRow]) -> QueryResult<()> {
    match conn {
        Conn::Pg(_) if rows.is_empty() => Ok(()),
        Conn::Pg(c) => Unnest::of(
            "INSERT INTO inbox (event_id, outcome, detail, version, result, event_type, key, processed_us) \
             SELECT * FROM unnest(…)",
        )
        .column::<EventIdSql, _>(column(rows, |row| row.event_id))
        .column::<SmallInt, _>(column(rows, |row| row.outcome))
        .column::<Nullable<Text>, _>(column(rows, |row| row.detail.as_deref()))
        .column::<Nullable<BigInt>, _>(column(rows, |row| row.version))
        .column::<Nullable<Text>, _>(column(rows, |row| row.result.as_deref()))
        .column::<Text, _>(column(rows, |row| row.event_type.as_str()))
        .column::<Text, _>(column(rows, |row| row.key.as_str()))
        .column::<BigInt, _>(column(rows, |row| row.processed_us))
        .execute(c)
        .map(drop),
        Conn::Sqlite(c) => rows.chunks(ROWS_PER_INSERT).try_for_each(|chunk| {
            diesel::insert_into(inbox::table).values(chunk).execute(c).map(drop)
        }),
    }
}

/// The same event in two hands (after a rebalance): the loser repeats its batch and finds it applied.
fn raced(error: Error) -> BatchError {
    match error {
        Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => BatchError::Raced,
        other => BatchError::Query(other),
    }
}

impl InboxRow {
    fn of(event: &Event, answer: &HandlerOutcome, now: Timestamp) -> Option<Self> {
        let (outcome, detail, version, result) = match answer {
            HandlerOutcome::Success { detail, version, result } => {
                (FinalOutcome::Success, Some(detail.name().to_owned()), *version, result.as_ref())
            }
            HandlerOutcome::Rejected { result } => {
                (FinalOutcome::Rejected, None, None, Some(result))
            }
            HandlerOutcome::Failed { .. } => return None,
        };
        Some(Self {
            event_id: event.id,
            outcome,
            detail,
            version,
            result: result.map(serde_json::Value::to_string),
            event_type: event.event_type.clone(),
            key: event.key.clone(),
            processed_us: now,
        })
    }

    fn into_answer(self) -> HandlerOutcome {
        let result = self.result.and_then(|text| serde_json::from_str(&text).ok());
        match self.outcome {
            FinalOutcome::Success => {
                HandlerOutcome::Success { detail: Detail::Duplicate, version: self.version, result }
            }
            FinalOutcome::Rejected => {
                HandlerOutcome::Rejected { result: result.unwrap_or_default() }
            }
        }
    }
}
