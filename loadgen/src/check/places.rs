//! I4, the places: what is SENT lies on its topic, where that was noted.
//!
//! A message stays where it is, so one look is enough; a row may move on meanwhile, so what does not fit is read again.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use common::clock::Timestamp;
use common::db::Conn;
use common::ids::{EventId, EventIdSql};
use common::on;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::types::RDKafkaConfRes;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::finding::{Finding, Invariant, Kind};
use super::reader::{Reader, of_ids};
use super::report::Report;
use crate::progress::rows_bar;

const TIMEOUT: Duration = Duration::from_secs(20);

/// So many messages are read rather than jumped over.
const JUMP: i64 = 500;

/// What is asked of a broker.
pub(super) struct Asked<'a> {
    pub(super) brokers: &'a str,
    pub(super) properties: &'a [(String, String)],
    pub(super) topic: &'a str,
    /// Places that are looked at, at the most.
    pub(super) most: i64,
}

/// Where an event was sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, QueryableByName)]
struct PlaceRow {
    #[diesel(sql_type = EventIdSql)]
    id: EventId,
    #[diesel(sql_type = Integer)]
    partition: i32,
    #[diesel(sql_type = BigInt)]
    sent_offset: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    sent_us: Option<Timestamp>,
    /// Whether its attempt has failed: where it was sent is noted still, but not that the topic was made anew since.
    #[diesel(sql_type = Bool)]
    failed: bool,
}

impl PlaceRow {
    /// Whether the partition it was sent to has gone, if the one that is there `began` then.
    fn is_of_another_topic(&self, began: Timestamp) -> bool {
        self.failed && self.sent_us.is_some_and(|sent| sent < began)
    }
}

/// What lies at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    /// A message with this id, if it names one.
    Message(Option<EventId>),
    /// The topic has deleted it, or was made anew.
    Gone,
    /// Nothing yet: the partition ends before.
    BehindTheEnd(i64),
}

/// Looks for the newest events of a service that are SENT, or gave up after they were.
pub(super) fn check(reader: &mut Reader, asked: &Asked<'_>, report: &mut Report) -> Result<()> {
    let (side, most) = (reader.side, asked.most);
    let rows = reader.page(|conn| newest(conn, most))?;
    let consumer = asked.connect()?;
    let (mut wrong, mut gone) = (BTreeMap::new(), 0_u64);
    for (partition, rows) in by_partition(&rows) {
        for (row, found) in asked.look(&consumer, partition, &rows)? {
            match found {
                Found::Message(Some(id)) if id == row.id => {}
                Found::Gone => gone += 1,
                found => _ = wrong.insert(row.id, (row, found)),
            }
        }
    }
    let ids: Vec<EventId> = wrong.keys().copied().collect();
    let still = if ids.is_empty() { Vec::new() } else { reader.page(|conn| of(conn, &ids))? };
    for row in still {
        let Some((_, found)) = wrong.get(&row.id).filter(|(before, _)| *before == row) else {
            continue;
        };
        let expected =
            format!("it lies at {}/{} offset {}", asked.topic, row.partition, row.sent_offset);
        report.tell(Finding::new(Kind::PlaceWrong, side, row.id, expected, found.words()));
    }
    report.looked(Invariant::I4, side, "places on the topic", rows.len() as u64);
    if i64::try_from(rows.len()).unwrap_or(i64::MAX) >= most {
        let topic = asked.topic;
        report.unchecked(format!(
            "I4: only the newest {most} places on {topic} were looked at (--places)"
        ));
    }
    if gone > 0 {
        let topic = asked.topic;
        report.unchecked(format!(
            "I4: {gone} places on {topic} are older than what the topic keeps, or than the topic"
        ));
    }
    Ok(())
}

impl Found {
    fn words(&self) -> String {
        match self {
            Self::Message(Some(id)) => format!("the event {id}"),
            Self::Message(None) => "a message that is no event".to_owned(),
            Self::Gone => "nothing any more".to_owned(),
            Self::BehindTheEnd(end) => format!("nothing: the partition ends at {end}"),
        }
    }
}

impl Asked<'_> {
    fn connect(&self) -> Result<BaseConsumer> {
        self.config().create().map_err(|error| {
            let words = self.words_of(error);
            anyhow!("the broker can't be asked; check --brokers and --kafka-property: {words}")
        })
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers).set("client.id", "stockloop-check");
        for (name, value) in self.properties {
            config.set(name, value);
        }
        // It commits nothing and joins no group, whatever the caller's properties say: partitions are assigned by hand.
        config
            .set("group.id", "stockloop-check")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("allow.auto.create.topics", "false");
        config
    }

    /// What a client says that can't be made, without any property's value: that may be a password.
    fn words_of(&self, error: KafkaError) -> String {
        let words = match error {
            KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, _, name, _) => {
                return format!("there is no property {name}");
            }
            KafkaError::ClientConfig(_, _, name, _) => {
                return format!("{name} can't have that value");
            }
            other => other.to_string(),
        };
        let tells = |(_, value): &(String, String)| !value.is_empty() && words.contains(value);
        match self.properties.iter().any(tells) {
            true => "a property's value does not fit".to_owned(),
            false => words,
        }
    }

    /// What lies at the places of `rows`, which are in the order of their offsets.
    fn look(
        &self,
        consumer: &BaseConsumer,
        partition: i32,
        rows: &[PlaceRow],
    ) -> Result<Vec<(PlaceRow, Found)>> {
        let (low, high) = consumer
            .fetch_watermarks(self.topic, partition, TIMEOUT)
            .with_context(|| format!("{}/{partition} can't be asked", self.topic))?;
        let bar = rows_bar(format!("{}/{partition}", self.topic));
        let (mut looked, mut next, mut began) = (Vec::with_capacity(rows.len()), None, None);
        for row in rows {
            let offset = row.sent_offset;
            let found = if offset < low {
                Found::Gone
            } else if offset >= high {
                Found::BehindTheEnd(high)
            } else {
                self.read_at(consumer, partition, offset, &mut next)?
            };
            let fits = matches!(found, Found::Gone) || found == Found::Message(Some(row.id));
            if !fits && row.failed && began.is_none() {
                began = Some(self.began(consumer, partition, (low, high), &mut next)?);
            }
            let is_lost = !fits && began.is_some_and(|began| row.is_of_another_topic(began));
            looked.push((*row, if is_lost { Found::Gone } else { found }));
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(looked)
    }

    /// When the first message that a partition still has was written; one that has none has just begun.
    fn began(
        &self,
        consumer: &BaseConsumer,
        partition: i32,
        (low, high): (i64, i64),
        next: &mut Option<i64>,
    ) -> Result<Timestamp> {
        let first = match low < high {
            true => self.first_from(consumer, partition, low, next)?,
            false => None,
        };
        let Some(first) = first else { return Ok(Timestamp::from_micros(i64::MAX)) };
        let millis = first.timestamp().to_millis().unwrap_or(0);
        Ok(Timestamp::from_micros(millis.saturating_mul(1_000)))
    }

    /// What lies at `offset`; `next` is where the reading of this partition is, if it has begun.
    fn read_at(
        &self,
        consumer: &BaseConsumer,
        partition: i32,
        offset: i64,
        next: &mut Option<i64>,
    ) -> Result<Found> {
        let message = self.first_from(consumer, partition, offset, next)?;
        // Without one it was compacted away, or is the marker of a transaction.
        Ok(message
            .filter(|message| message.offset() == offset)
            .map_or(Found::Gone, |message| Found::Message(id_of(&message))))
    }

    /// The first message at `offset` or behind it, if there is one; `next` is where the reading is, as above.
    fn first_from<'c>(
        &self,
        consumer: &'c BaseConsumer,
        partition: i32,
        offset: i64,
        next: &mut Option<i64>,
    ) -> Result<Option<BorrowedMessage<'c>>> {
        let place = || format!("{}/{partition} can't be read at {offset}", self.topic);
        if next.is_none_or(|next| offset < next || offset - next > JUMP) {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(self.topic, partition, Offset::Offset(offset))?;
            consumer.assign(&list).with_context(place)?;
        }
        loop {
            match consumer.poll(TIMEOUT) {
                // A former assignment's may still be on its way.
                Some(Ok(message)) if message.partition() != partition => {}
                Some(Ok(message)) if message.offset() < offset => {}
                Some(Ok(message)) => {
                    *next = Some(message.offset() + 1);
                    return Ok(Some(message));
                }
                Some(Err(KafkaError::PartitionEOF(ended))) if ended != partition => {}
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(None),
                Some(Err(error)) => return Err(error).with_context(place),
                None => bail!("{}: the broker does not answer", place()),
            }
        }
    }
}

fn id_of(message: &impl Message) -> Option<EventId> {
    let headers = message.headers()?;
    let id = headers.iter().find(|header| header.key == "ce_id")?;
    std::str::from_utf8(id.value?).ok()?.parse().ok()
}

/// In the order of their offsets.
fn by_partition(rows: &[PlaceRow]) -> BTreeMap<i32, Vec<PlaceRow>> {
    let mut by_partition: BTreeMap<i32, Vec<PlaceRow>> = BTreeMap::new();
    for row in rows {
        by_partition.entry(row.partition).or_default().push(*row);
    }
    for rows in by_partition.values_mut() {
        rows.sort_unstable_by_key(|row| row.sent_offset);
    }
    by_partition
}

fn newest(conn: &mut Conn, most: i64) -> QueryResult<Vec<PlaceRow>> {
    let sql = "SELECT id, partition, sent_offset, sent_us, FALSE AS failed FROM \
           (SELECT id, partition, sent_offset, sent_us FROM outbox_sent \
            WHERE sent_offset >= 0 ORDER BY id DESC LIMIT $1) newest_sent \
         UNION ALL SELECT id, partition, sent_offset, sent_us, TRUE AS failed FROM \
           (SELECT id, partition, sent_offset, sent_us FROM outbox_failed \
            WHERE sent_offset >= 0 AND partition IS NOT NULL ORDER BY id DESC LIMIT $2) newest_failed";
    let mut rows: Vec<PlaceRow> = on!(conn, c => sql_query(sql)
        .bind::<BigInt, _>(most)
        .bind::<BigInt, _>(most)
        .load(c))?;
    rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.id));
    rows.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    Ok(rows)
}

fn of(conn: &mut Conn, ids: &[EventId]) -> QueryResult<Vec<PlaceRow>> {
    let mut rows = Vec::new();
    for (table, failed) in [("outbox_sent", "FALSE"), ("outbox_failed", "TRUE")] {
        let sql = format!(
            "SELECT id, partition, sent_offset, sent_us, {failed} AS failed FROM {table} \
             WHERE sent_offset >= 0 AND partition IS NOT NULL AND id {{in}}"
        );
        rows.extend(of_ids::<PlaceRow>(conn, &sql, ids)?);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_was_made_anew_has_nothing_of_what_failed_before() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let (id, partition, sent_offset) = (EventId::MAX, 0, 7);
        let row = PlaceRow { id, partition, sent_offset, sent_us: Some(at(10)), failed: true };
        assert!(row.is_of_another_topic(at(20)));
        assert!(!row.is_of_another_topic(at(5)));
        // Of one that is SENT that would be noted.
        assert!(!PlaceRow { failed: false, ..row }.is_of_another_topic(at(20)));
        assert!(!PlaceRow { sent_us: None, ..row }.is_of_another_topic(at(20)));
    }

    #[test]
    fn no_property_makes_it_commit() {
        let property = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let properties = &[
            property("enable.auto.commit", "true"),
            property("enable.auto.offset.store", "true"),
            property("group.id", "order-service"),
            property("security.protocol", "SSL"),
        ];
        let asked = Asked { brokers: "127.0.0.1:1", properties, topic: "events", most: 1 };
        let config = asked.config();
        for (name, value) in [
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("group.id", "stockloop-check"),
            ("security.protocol", "SSL"),
        ] {
            assert_eq!(config.get(name), Some(value), "{name}");
        }
    }

    #[test]
    fn a_property_that_is_wrong_is_named_without_its_value() {
        for (name, words) in [("sasl.pasword", "no property"), ("security.protocol", "that value")]
        {
            let properties = &[(name.to_owned(), "hidden".to_owned())];
            let asked = Asked { brokers: "127.0.0.1:1", properties, topic: "events", most: 1 };
            let error = asked.connect().err().map(|error| format!("{error:#}")).unwrap_or_default();
            assert!(error.contains(name) && error.contains(words), "{error}");
            assert!(!error.contains("hidden"), "{error}");
        }
        let properties = &[("ssl.ca.location".to_owned(), "/hidden.pem".to_owned())];
        let asked = Asked { brokers: "127.0.0.1:1", properties, topic: "events", most: 1 };
        let error = KafkaError::ClientCreation("no file /hidden.pem".to_owned());
        assert_eq!(asked.words_of(error), "a property's value does not fit");
    }
}
