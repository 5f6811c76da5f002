//! What a scrape reads from the newest sample, and of the broker: counts of the database, the same in all instances.

use std::fmt::Error;
use std::time::Duration;

use common::clock::Timestamp;
use common::telemetry::{BrokerReport, BrokerState, ConsumerReport, ConsumerStatus};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::{ConsumerSample, Partition, Sample, Sampler, Verified};
use crate::outbox::SlotState;
use crate::views::ViewLag;

/// Shows the newest sample at each scrape; nothing before the first, rather than a false 0.
#[derive(Debug)]
pub struct SampleGauges {
    /// Who takes the samples.
    pub sampler: Sampler,
    /// What is known of the broker.
    pub broker: BrokerState,
    /// The consumers whose copies this service can compare with what it owns.
    pub verifiable: Vec<String>,
}

impl Collector for SampleGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let up = i64::from(self.broker.describe() == BrokerReport::Up);
        gauge(&mut encoder, "broker_up", "Whether the broker answers this instance", None, up)?;
        encode_consumers(&mut encoder, &self.broker.consumers())?;
        let Some(sample) = self.sampler.newest() else {
            return Ok(());
        };
        encode_states(&mut encoder, &sample)?;
        encode_totals(&mut encoder, &sample)?;
        for (name, help, value) in counts(&sample) {
            gauge(&mut encoder, name, help, None, value)?;
        }
        for (name, help, value) in spans(&sample) {
            gauge(&mut encoder, name, help, Some(&Unit::Seconds), value)?;
        }
        let help =
            "Whether the database came back from a backup, and nobody has begun to mend that";
        gauge(&mut encoder, "database_behind", help, None, i64::from(sample.database_behind))?;
        let help = "Whether whoever waits for answers to a view's messages gets none";
        gauge(&mut encoder, "view_unanswered", help, None, i64::from(sample.view_unanswered))?;
        encode_log_slot(&mut encoder, sample.log_slot.as_ref())?;
        if let Some(complete) = sample.copy_complete {
            let help = "Whether the copy of the other service's states has been complete";
            gauge(&mut encoder, "copy_complete", help, None, i64::from(complete))?;
        }
        encode_views(&mut encoder, &sample.views)?;
        encode_verifiable(&mut encoder, &sample, &self.verifiable)?;
        encode_verified(&mut encoder, &sample.verified)?;
        encode_partitions(&mut encoder, &sample)?;
        encode_failed(&mut encoder, &sample)
    }
}

fn encode_log_slot(
    encoder: &mut DescriptorEncoder<'_>,
    slot: Option<&SlotState>,
) -> Result<(), Error> {
    let kept = slot.map_or(0, |slot| slot.kept_bytes);
    let help = "The part of the database's log that is kept for the relay";
    gauge(encoder, "log_slot_kept", help, Some(&Unit::Bytes), kept)?;
    if let Some(left) = slot.and_then(|slot| slot.bytes_left) {
        let help = "How much more may be kept before the server gives the relay's slot up";
        gauge(encoder, "log_slot_left", help, Some(&Unit::Bytes), left)?;
    }
    Ok(())
}

/// Those of which something is known: none is called down while it joins its group.
fn encode_consumers(
    encoder: &mut DescriptorEncoder<'_>,
    consumers: &[ConsumerReport],
) -> Result<(), Error> {
    let known = |one: &&ConsumerReport| one.status != ConsumerStatus::Unknown;
    let mut known = consumers.iter().filter(known).peekable();
    if known.peek().is_none() {
        return Ok(());
    }
    let help = "Whether what receives from the broker can receive: events (inbox), answers (acks)";
    let mut metric = encoder.encode_descriptor("consumer_up", help, None, MetricType::Gauge)?;
    for one in known {
        let up = i64::from(one.status == ConsumerStatus::Up);
        ConstGauge::new(up).encode(metric.encode_family(&[("consumer", one.consumer)])?)?;
    }
    Ok(())
}

fn gauge<V: EncodeGaugeValue + Clone>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: V,
) -> Result<(), Error>
where
    ConstGauge<V>: EncodeMetric,
{
    let metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}

/// Gauges of one name, by the values of one label.
fn encode_states(encoder: &mut DescriptorEncoder<'_>, sample: &Sample) -> Result<(), Error> {
    let acknowledged = sample.alerts.acknowledged;
    let families: [(_, _, _, &[(&str, i64)]); 2] = [
        (
            "outbox_events",
            "Events by status; RESOLVED ones are EXHAUSTED, but wait for nobody",
            "status",
            &[
                ("PENDING", sample.pending),
                ("SENT", sample.sent),
                ("EXHAUSTED", sample.exhausted),
                ("RESOLVED", sample.resolved),
                ("PROCESSED", sample.totals.processed),
            ],
        ),
        (
            "alerts",
            "Alerts that are not closed, by whether somebody has taken note of them",
            "state",
            &[("open", sample.alerts.open - acknowledged), ("acknowledged", acknowledged)],
        ),
    ];
    for (name, help, label, values) in families {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (value, count) in values {
            ConstGauge::new(*count).encode(metric.encode_family(&[(label, *value)])?)?;
        }
    }
    Ok(())
}

fn encode_totals(encoder: &mut DescriptorEncoder<'_>, sample: &Sample) -> Result<(), Error> {
    let totals = sample.totals;
    for (name, help, value) in [
        ("outbox_committed", "Events that were ever committed", totals.committed),
        ("outbox_sent", "Attempts that the broker ever confirmed", totals.sent),
        ("outbox_processed", "Events that were ever answered for good", totals.processed),
        ("outbox_failed", "Attempts that ever failed", totals.failed),
    ] {
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(u64::try_from(value).unwrap_or(0)).encode(metric)?;
    }
    Ok(())
}

type Described<T> = (&'static str, &'static str, T);

/// What is counted of one of several.
type Count<T> = fn(&T) -> i64;

fn counts(sample: &Sample) -> [Described<i64>; 11] {
    let relay = &sample.relay;
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let held = relay.instances.iter().map(|instance| instance.shards).sum();
    [
        ("alerts_open", "Alerts that are not closed", sample.alerts.open),
        ("alerts_silenced", "Alerts that a silence covers now", sample.alerts.silenced),
        ("mails_unsent", "Mails that have not left", sample.mails_unsent),
        ("webhooks_unsent", "Calls to the webhook that have not arrived", sample.webhooks_unsent),
        (
            "dead_letters",
            "Messages that could not be read and wait for a person",
            sample.dead_letters,
        ),
        ("quarantined_keys", "Keys in quarantine", sample.quarantined),
        ("jobs_open", "Bulk jobs that wait or run", sample.jobs_open),
        (
            "relay_paused",
            "Whether an operator paused the whole relay",
            i64::from(relay.paused.is_some()),
        ),
        ("relay_paused_keys", "Keys that are paused individually", relay.keys_paused),
        ("relay_instances", "Instances that relay and are alive", number(relay.instances.len())),
        ("relay_shards_held", "Shards of 64 that a living instance holds", held),
    ]
}

fn spans(sample: &Sample) -> [Described<f64>; 3] {
    [
        (
            "outbox_oldest_unacknowledged",
            "How long the oldest PENDING or SENT event has waited; 0 when there is none",
            sample.oldest_age().as_secs_f64(),
        ),
        ("sample_timestamp", "When the gauges were sampled, since 1970", epoch(sample.as_of)),
        ("sample_duration", "How long sampling took", sample.took.as_secs_f64()),
    ]
}

/// A gauge by topic; none where no view is copied.
fn encode_views(encoder: &mut DescriptorEncoder<'_>, views: &[ViewLag]) -> Result<(), Error> {
    if views.is_empty() {
        return Ok(());
    }
    let help = "Messages of a view's topic that its copy has not taken";
    let name = "view_behind_messages";
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for one in views {
        let labels = [("topic", one.topic.as_str())];
        ConstGauge::new(one.behind).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

/// A gauge by consumer that says which are to be verified, also before the first verdict.
fn encode_verifiable(
    encoder: &mut DescriptorEncoder<'_>,
    sample: &Sample,
    verifiable: &[String],
) -> Result<(), Error> {
    let names = sample.consumers.iter().map(|one| &one.name);
    let names: Vec<&String> = names.filter(|name| verifiable.contains(name)).collect();
    if names.is_empty() {
        return Ok(());
    }
    let help = "1 for each consumer whose copy can be verified";
    let mut metric = encoder.encode_descriptor("verifiable", help, None, MetricType::Gauge)?;
    for name in names {
        ConstGauge::new(1_i64).encode(metric.encode_family(&[("consumer", name.as_str())])?)?;
    }
    Ok(())
}

/// Gauges by consumer, of the newest verification that came to a verdict; none before the first.
fn encode_verified(
    encoder: &mut DescriptorEncoder<'_>,
    verified: &[Verified],
) -> Result<(), Error> {
    if verified.is_empty() {
        return Ok(());
    }
    let families: [Described<Count<Verified>>; 3] = [
        ("verified_keys", "Keys that the newest verification compared", |one| one.keys),
        ("verified_differences", "Keys that it found to differ", |one| one.differences),
        ("verified_waiting_keys", "Keys whose events were open at its end", |one| one.waiting),
    ];
    for (name, help, value) in families {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for one in verified {
            let labels = [("consumer", one.consumer.as_str())];
            ConstGauge::new(value(one)).encode(metric.encode_family(&labels)?)?;
        }
    }
    let help = "Up to when the copy is verified, since 1970";
    let (name, unit) = ("verified_timestamp", Some(&Unit::Seconds));
    let mut metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    for one in verified {
        let labels = [("consumer", one.consumer.as_str())];
        let since = epoch(one.since.unwrap_or_default());
        ConstGauge::new(since).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

/// Gauges by consumer, where there are several.
fn encode_failed(encoder: &mut DescriptorEncoder<'_>, sample: &Sample) -> Result<(), Error> {
    let families: [Described<Count<ConsumerSample>>; 2] = [
        ("consumer_required", "Whether events wait for its answers", |one| i64::from(one.required)),
        (
            "consumer_failed_events",
            "Events that it failed and has not taken since, up to 10,000, where there are several",
            |one| one.failed,
        ),
    ];
    for (name, help, value) in families {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for one in &sample.consumers {
            let labels = [("consumer", one.name.as_str())];
            ConstGauge::new(value(one)).encode(metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn epoch(moment: Timestamp) -> f64 {
    Duration::from_micros(u64::try_from(moment.micros()).unwrap_or(0)).as_secs_f64()
}

/// Gauges by consumer and partition.
fn encode_partitions(encoder: &mut DescriptorEncoder<'_>, sample: &Sample) -> Result<(), Error> {
    if sample.consumers.iter().all(|one| one.partitions.is_empty()) {
        return Ok(());
    }
    let mut family = |name, help, unit, value: &dyn Fn(&Partition) -> Option<f64>| {
        let mut metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        let each = sample
            .consumers
            .iter()
            .flat_map(|one| one.partitions.iter().map(|partition| (one.name.as_str(), partition)));
        for (consumer, partition) in each {
            let Some(value) = value(partition) else { continue };
            let number = partition.partition.to_string();
            let labels = [("consumer", consumer), ("partition", number.as_str())];
            ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok::<_, Error>(())
    };
    family("consumer_lag_events", "Events that were sent and are not answered", None, &|one| {
        // Exact below 2^53.
        Some(one.waiting as f64)
    })?;
    family(
        "consumer_lag",
        "How long ago the oldest event without an answer was sent; 0 when there is none",
        Some(&Unit::Seconds),
        &|one| Some(sample.lag_of(one).as_secs_f64()),
    )?;
    family("consumer_silent", "Whether the partition gives no answers", None, &|one| {
        Some(f64::from(u8::from(one.silent_since.is_some())))
    })?;
    family(
        "consumer_last_ack_timestamp",
        "When an answer came last, since 1970",
        Some(&Unit::Seconds),
        &|one| one.last_ack_at.map(epoch),
    )
}
