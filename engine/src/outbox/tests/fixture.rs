//! An outbox on either database, and what tests do with it.

use super::*;

/// An outbox with everything that acts on it, on a clock that stands still.
pub(super) struct OutboxFixture {
    pub(super) db: Db,
    pub(super) env: Env,
    pub(super) clock: ManualClock,
    pub(super) outbox: Outbox,
    pub(super) settler: Settler,
    /// The broker's offset of the last send.
    pub(super) offset: AtomicI64,
    database: TestDatabase,
}

impl OutboxFixture {
    pub(super) fn new(database: TestDatabase) -> Self {
        let clock = ManualClock::at(START);
        let env = Env::seeded(Arc::new(clock.clone()), 7);
        let settler = Settler {
            env: env.clone(),
            policy: POLICY,
            topic: TOPIC.to_owned(),
            consumer: "order-service".to_owned(),
            positions: ReadPositions::new("product-service", "acks"),
            owner: None,
            first_attempts: FirstAttempts::Ours,
            signing: Signing::default(),
        };
        let outbox = Outbox::new(env.clone(), 5, Spans::off(env.clone()));
        Self {
            db: database.open(&[ENGINE_MIGRATIONS]),
            env,
            clock,
            outbox,
            settler,
            offset: AtomicI64::new(0),
            database,
        }
    }

    /// Runs statements on PostgreSQL outside any transaction of the program.
    pub(super) fn by_hand(&self, sql: &str) {
        let mut conn = PgConnection::establish(&self.database.url()).unwrap();
        diesel::connection::SimpleConnection::batch_execute(&mut conn, sql).unwrap();
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> QueryResult<T> + Send + 'static,
    ) -> T {
        self.db.write(|conn| work(conn).map_err(DbError::from)).await.unwrap()
    }

    pub(super) async fn append(&self, event_type: EventType, key: &str, version: i64) -> EventId {
        let (outbox, key) = (self.outbox.clone(), key.to_owned());
        let event =
            NewEvent { event_type, key, version, payload: "{}".to_owned(), traceparent: None };
        self.run(move |conn| outbox.append(conn, vec![event])).await[0]
    }

    pub(super) async fn open(&self, id: EventId) -> Option<OpenRow> {
        self.run(move |conn| Ok(store::lock(conn, &[id])?.into_iter().next().map(|(row, _)| row)))
            .await
    }

    /// Puts an event's row into any state, as if its life had led there.
    pub(super) async fn force(&self, row: OpenRow) {
        self.run(move |conn| {
            change_open(conn, row.id, |open| {
                (open.status, open.attempt) = (row.status.code(), row.attempt);
                (open.due_us, open.partition) = (row.due_us, row.partition);
                (open.sent_us, open.sent_offset) = (row.sent_us, row.sent_offset);
                open.resolved_us = row.resolved_us;
            })
        })
        .await;
    }

    pub(super) async fn send(&self, id: EventId, attempt: i32, partition: i32) {
        let (sent_us, offset) = (self.env.now(), self.next_offset());
        let sent = Confirmation { id, shard: 0, attempt, partition, offset, sent_us };
        let marked = self.run(move |conn| store::mark_sent(conn, &[sent], sent_us)).await;
        assert!(marked.contains(&id), "the send must be noted");
    }

    pub(super) fn ack(&self, id: EventId, attempt: i32, outcome: Verdict) -> Ack {
        Ack {
            detail: Some("applied".to_owned()),
            error: (outcome == Verdict::Failed).then(|| "no such shelf".to_owned()),
            retryable: true,
            version: Some(1),
            ..Ack::new(id, attempt, outcome, "order-service", self.env.now())
        }
    }

    pub(super) async fn settle(&self, acks: Vec<Ack>) -> Settlement {
        let payload = serde_json::to_vec(&AckBatch { acks }).unwrap();
        self.settle_bytes(payload).await
    }

    pub(super) async fn settle_bytes(&self, payload: Vec<u8>) -> Settlement {
        let record =
            Record { topic: "acks".to_owned(), payload: Some(payload), ..Record::default() };
        self.settler.settle(&self.db, vec![record], false).await.unwrap()
    }

    pub(super) async fn alerts(&self) -> Vec<(Option<EventId>, Option<i32>, Option<String>)> {
        self.run(|conn| {
            on!(conn, c => alert::table
                .select((alert::event_id, alert::attempt, alert::closed_because))
                .order(alert::seq)
                .load(c))
        })
        .await
    }

    pub(super) async fn history(&self, id: EventId) -> Vec<(i32, String)> {
        self.run(move |conn| {
            on!(conn, c => outbox_history::table
                .filter(outbox_history::event_id.eq(id))
                .select((outbox_history::attempt, outbox_history::what))
                .order(outbox_history::seq)
                .load(c))
        })
        .await
    }

    pub(super) fn next_offset(&self) -> Option<i64> {
        Some(self.offset.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) async fn exhaust(&self, id: EventId, partition: i32) {
        self.send(id, 1, partition).await;
        let refusal = Ack { retryable: false, ..self.ack(id, 1, Verdict::Failed) };
        assert_eq!(self.settle(vec![refusal]).await.advanced.exhausted, 1);
    }

    /// What is due in `shards`, each read from its beginning.
    pub(super) async fn due(
        &self,
        shards: impl Iterator<Item = i16>,
        paused: Vec<String>,
        limit: usize,
    ) -> Vec<DueRow> {
        let now = self.env.now();
        let read = |shard| ShardRead { shard, after: Position::BEGINNING, limit: 1_000 };
        let reads: Vec<ShardRead> = shards.map(read).collect();
        self.run(move |conn| {
            conn.read_by_index(|conn| {
                store::due(conn, (now, Fresh::All), &reads, None, &paused, limit)
            })
        })
        .await
    }

    pub(super) fn monitor(&self) -> OverdueMonitor {
        OverdueMonitor {
            db: self.db.clone(),
            env: self.env.clone(),
            policy: POLICY,
            topic: TOPIC.to_owned(),
            consumer: "order-service".to_owned(),
            ack_timeout: Duration::from_secs(30),
            ack_grace: Duration::from_secs(5),
            probes: Backoff { base: Duration::from_secs(30), max: Duration::from_secs(300) },
        }
    }
}
