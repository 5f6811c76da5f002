//! What months take away: what is old by then has to go, what is younger or open has to stay, and each effect of a client's
//! change is seen before it may go. How long the services keep everything is what they do by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use common::clock::Timestamp;

use super::looks::Looks;
use super::waiting::wait_for;
use super::witness::Seen;
use crate::check::Side;

pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long it may take until nothing is left that is old: a service looks for that each minute.
const GONE_DEADLINE: Duration = Duration::from_secs(120);

/// What is so little younger than what has to go may go a moment later, and says nothing.
const SLACK: Duration = Duration::from_secs(60 * 60);

/// No effect of a client's change goes before its event may.
const EFFECTS: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Rows that go when they are old.
struct Aged {
    /// What has to be met: that some of them went.
    what: &'static str,
    /// Who has them; both, if nobody is named.
    side: Option<Side>,
    table: &'static str,
    /// When a row's time began.
    since: &'static str,
    /// What else has to be so of one that goes.
    only: &'static str,
    /// How long one is kept.
    days: u32,
}

impl Aged {
    const fn new(what: &'static str, table: &'static str, since: &'static str, days: u32) -> Self {
        Self { what, side: None, table, since, only: "TRUE", days }
    }

    const fn of(self, side: Side) -> Self {
        Self { side: Some(side), ..self }
    }

    const fn only(self, only: &'static str) -> Self {
        Self { only, ..self }
    }

    /// How many there are that have to go at this moment.
    fn due(&self, at: Timestamp) -> String {
        format!("{} AND {}", self.old(at), self.only)
    }

    /// How many there are that are old enough to go, whether they have to stay for something else or not.
    fn old(&self, at: Timestamp) -> String {
        let Self { table, since, .. } = self;
        let limit = self.limit(at).micros();
        format!("SELECT count(*) AS number FROM {table} WHERE {since} < {limit}")
    }

    /// How many there are that are too young to go. What is later than this moment came afterwards, and stands for none that
    /// went.
    fn young(&self, at: Timestamp) -> String {
        let Self { table, since, .. } = self;
        let limit = self.limit(at).after(SLACK).micros();
        let at = at.micros();
        format!(
            "SELECT count(*) AS number FROM {table} WHERE {since} >= {limit} AND {since} < {at}"
        )
    }

    fn limit(&self, at: Timestamp) -> Timestamp {
        at.before(DAY * self.days)
    }
}

/// What goes, by how long the services keep it if nobody says otherwise. Not here is what goes with one of these, and what a
/// trial has none of, or not each time: jobs, previews, verifications, fillings, silences, sessions.
static AGED: [Aged; 14] = [
    Aged::new("PROCESSED events that went", "outbox_settled", "settled_us", 30),
    Aged::new("resolved events that went", "outbox_failed", "resolved_us", 90).only("status = 2"),
    Aged::new("answers that went", "inbox", "processed_us", 30),
    Aged::new("answers to keyed writes that went", "idempotency", "created_us", 1),
    Aged::new("closed alerts that went", "alert", "closed_us", 90),
    Aged::new("mails that went", "mail", "sent_us", 90).only(
        "NOT EXISTS (SELECT 1 FROM alert a WHERE a.mail_seq = mail.seq OR a.over_mail_seq = mail.seq)",
    ),
    Aged::new("calls of the webhook that went", "webhook", "sent_us", 90).only(
        "NOT EXISTS (SELECT 1 FROM alert a \
         WHERE a.webhook_seq = webhook.seq OR a.over_webhook_seq = webhook.seq)",
    ),
    Aged::new("dead letters that went", "dead_letter", "handled_us", 90),
    Aged::new("actions of operators that went", "audit", "at_us", 365),
    Aged::new("adjustments that went", "adjustment", "at_us", 730).of(Side::Product),
    Aged::new("records of orders that went", "order_record", "coalesce(cancelled_us, handled_us)", 365)
        .of(Side::Product),
    Aged::new("orders that went", "orders", "changed_us", 365).of(Side::Order).only(
        "status IN ('CONFIRMED', 'REJECTED', 'CANCELLED') \
         AND NOT EXISTS (SELECT 1 FROM reservation r WHERE r.order_id = orders.id) \
         AND NOT EXISTS (SELECT 1 FROM outbox_failed f JOIN outbox_event e ON e.id = f.id \
                         WHERE e.key = CAST(orders.id AS TEXT))",
    ),
    Aged::new("removed products that went", "product", "removed_us", 365).of(Side::Product),
    Aged::new("copies of removed products that went", "product_copy", "removed_us", 365)
        .of(Side::Order)
        .only("reserved = 0"),
];

/// What waits for a person, and is never too old: the ids of what is open, and of what is there, open or not.
const OPEN: [(&str, &str, &str); 3] = [
    (
        "events that gave up",
        "SELECT CAST(id AS TEXT) AS id FROM outbox_failed WHERE status = 2 AND resolved_us IS NULL",
        "SELECT CAST(id AS TEXT) AS id FROM outbox_failed",
    ),
    (
        "open alerts",
        "SELECT CAST(seq AS TEXT) AS id FROM alert WHERE closed_us IS NULL",
        "SELECT CAST(seq AS TEXT) AS id FROM alert",
    ),
    (
        "dead letters that wait",
        "SELECT CAST(seq AS TEXT) AS id FROM dead_letter WHERE handled_us IS NULL",
        "SELECT CAST(seq AS TEXT) AS id FROM dead_letter",
    ),
];

/// That something open has stayed has to be met, too.
const STAYED: &str = "open things that stayed";

/// What an observer has seen of clients' changes.
#[derive(Default)]
pub(super) struct Aging {
    seen: Seen,
}

impl Aging {
    /// Sees all effects that there are `now`: each time before any of them may go, while nothing is on its way.
    pub(super) fn look(&mut self, looks: &mut Looks, now: Timestamp) -> Result<()> {
        self.seen.take(looks.each_effect()?, now, EFFECTS);
        Ok(())
    }

    /// Effects that went too soon.
    pub(super) fn too_soon(&self) -> &[String] {
        &self.seen.too_soon
    }

    /// How many effects there ever were, by what they carry.
    pub(super) fn effects(&self) -> BTreeMap<String, u64> {
        self.seen.effects()
    }
}

/// What there is before time passes.
pub(super) struct Before {
    /// The time by the services' clocks once it has passed.
    then: Timestamp,
    /// Of all that goes: how much is old by then, and how much too young.
    aged: Vec<[u64; 2]>,
    /// Of all that is open, at each service.
    open: Vec<BTreeSet<String>>,
}

/// What came of it.
pub(super) struct Passed {
    /// How much there is of what has to be met.
    pub(super) met: Vec<(&'static str, u64)>,
    pub(super) complaints: Vec<String>,
}

impl Before {
    /// Looks, while nothing is on its way, at what there is before it is `then`.
    pub(super) fn look(looks: &mut Looks, then: Timestamp) -> Result<Self> {
        let aged = AGED.iter().map(|aged| counts(looks, aged, then)).collect::<Result<_>>()?;
        let ids = |(_, open, _): &(&str, &str, &str)| ids_of_both(looks, open);
        let open: Vec<_> = OPEN.iter().map(ids).collect::<Result<_>>()?;
        Ok(Self { then, aged, open: open.into_iter().flatten().collect() })
    }

    /// Waits until all has gone that has to, now that it is then; and looks at what has stayed.
    pub(super) fn wait(&self, looks: &mut Looks) -> Result<Passed> {
        let look = || left(looks, self.then);
        let gone = wait_for("what is old to go", GONE_DEADLINE, look, Vec::is_empty);
        let complaints = gone.err().map(|error| format!("{error:#}")).into_iter().collect();
        let mut passed = Passed { met: Vec::new(), complaints };
        self.look_at_aged(looks, &mut passed)?;
        self.look_at_open(looks, &mut passed)?;
        Ok(passed)
    }

    fn look_at_aged(&self, looks: &mut Looks, passed: &mut Passed) -> Result<()> {
        for (aged, [old, young]) in AGED.iter().zip(&self.aged) {
            let [old_now, young_now] = counts(looks, aged, self.then)?;
            passed.met.push((aged.what, old.saturating_sub(old_now)));
            let too_soon = young.saturating_sub(young_now);
            if too_soon > 0 {
                passed.complaints.push(format!("{}, and {too_soon} of them too soon", aged.what));
            }
        }
        Ok(())
    }

    fn look_at_open(&self, looks: &mut Looks, passed: &mut Passed) -> Result<()> {
        let mut there = Vec::new();
        for (what, _, all) in OPEN {
            there.extend(ids_of_both(looks, all)?.into_iter().map(|ids| (what, ids)));
        }
        for (before, (what, now)) in self.open.iter().zip(&there) {
            let gone = before.difference(now).count();
            if gone > 0 {
                passed.complaints.push(format!("{gone} {what} are gone, though they were open"));
            }
            passed.met.push((STAYED, (before.len() - gone) as u64));
        }
        Ok(())
    }
}

fn counts(looks: &mut Looks, aged: &Aged, at: Timestamp) -> Result<[u64; 2]> {
    Ok([looks.number(aged.side, &aged.old(at))?, looks.number(aged.side, &aged.young(at))?])
}

/// What has to be gone and is there.
fn left(looks: &mut Looks, at: Timestamp) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for aged in &AGED {
        let many = looks.number(aged.side, &aged.due(at))?;
        if many > 0 {
            left.push(format!("{many} rows of {}", aged.table));
        }
    }
    Ok(left)
}

fn ids_of_both(looks: &mut Looks, sql: &str) -> Result<Vec<BTreeSet<String>>> {
    Side::BOTH.into_iter().map(|side| looks.ids_of(side, sql)).collect()
}

#[cfg(test)]
#[allow(clippy::panic, clippy::unwrap_used, reason = "tests")]
mod tests {
    use common::config::Settings;

    use super::*;

    const SERVICES: [&str; 2] = [
        include_str!("../../../product-service/product-service.toml"),
        include_str!("../../../order-service/order-service.toml"),
    ];

    #[test]
    fn all_is_kept_as_long_as_the_services_keep_it_by_themselves() {
        for service in SERVICES {
            let settings = Settings::load(service, None).unwrap();
            let kept = &settings.retention;
            for aged in &AGED {
                let expected = match aged.table {
                    "outbox_settled" => settings.outbox.retention,
                    "outbox_failed" => kept.resolved_events,
                    "inbox" => settings.inbox.retention,
                    // Nobody can set it.
                    "idempotency" => DAY,
                    "alert" | "mail" | "webhook" => settings.alerts.retention,
                    "dead_letter" => kept.dead_letters,
                    "audit" => settings.access.audit_retention,
                    "adjustment" => kept.adjustments,
                    "order_record" | "orders" => kept.orders,
                    "product" | "product_copy" => kept.removed_products,
                    other => panic!("nobody says how long {other} is kept"),
                };
                assert_eq!(DAY * aged.days, expected, "{}", aged.table);
            }
            assert_eq!(EFFECTS, settings.outbox.retention);
        }
    }

    #[test]
    fn what_is_neither_old_nor_young_says_nothing() {
        let aged = Aged::new("rows that went", "t", "at_us", 1).only("n = 0");
        let at = Timestamp::from_micros(2 * 86_400_000_000);
        let rows = "SELECT count(*) AS number FROM t WHERE at_us";
        assert_eq!(aged.old(at), format!("{rows} < 86400000000"));
        assert_eq!(aged.due(at), format!("{rows} < 86400000000 AND n = 0"));
        assert_eq!(aged.young(at), format!("{rows} >= 90000000000 AND at_us < 172800000000"));
    }
}
