//! What is planted in both databases, each by itself.

use common::env::Env;

/// What is done to a database, how it is undone, and what has to be found.
pub(super) struct Damage {
    pub(super) at_order: bool,
    pub(super) harm: String,
    pub(super) undo: String,
    pub(super) found: &'static [&'static str],
}

impl Damage {
    fn new(harm: &str, undo: &str, found: &'static [&'static str]) -> Self {
        let (harm, undo) = (harm.to_owned(), undo.to_owned());
        Self { at_order: false, harm, undo, found }
    }

    /// One at order-service.
    fn at_order(harm: &str, undo: &str, found: &'static [&'static str]) -> Self {
        Self { at_order: true, ..Self::new(harm, undo, found) }
    }

    /// Rows of `table` are gone.
    fn gone(table: &str, which: &str, found: &'static [&'static str]) -> Self {
        let harm = format!(
            "CREATE TABLE saved AS SELECT * FROM {table} WHERE {which}; DELETE FROM {table} WHERE {which}"
        );
        Self::new(
            &harm,
            &format!("INSERT INTO {table} SELECT * FROM saved; DROP TABLE saved"),
            found,
        )
    }

    /// A product is gone from the copy. What the database computes of a row it lets nobody write.
    fn gone_from_copy(sku: &str) -> Self {
        let gone = Self::gone("product_copy", &format!("sku = '{sku}'"), &["copy_missing"]);
        let harm = format!("{}; ALTER TABLE saved DROP COLUMN removed_us", gone.harm);
        Self { at_order: true, harm, ..gone }
    }
}

/// An id that no event has, below all that were made.
const OLD_ID: &str = "00000000-0000-7000-8000-000000000001";

pub(super) fn damages() -> Vec<Damage> {
    let first_of_a =
        "id = (SELECT e.id FROM outbox_event e WHERE e.key = 'A' ORDER BY e.id LIMIT 1)";
    let new_id = Env::system().event_id();
    let mut all = at_product(first_of_a);
    all.extend(at_order(&new_id.to_string()));
    all.extend(of_orders());
    all.extend(of_reservations(&new_id.to_string()));
    all.extend(of_alerts());
    all
}

fn at_product(first_of_a: &str) -> Vec<Damage> {
    let pending = "INSERT INTO outbox_pending (id, shard, attempt_limit, due_us, size)";
    let of_event =
        format!("SELECT e.id, 0, 3, e.created_us, 1 FROM outbox_event e WHERE e.{first_of_a}");
    let moved = Damage::gone("outbox_settled", first_of_a, &["still_open"]);
    let price = "replace(payload, '\"unit_price_minor\":255', '\"unit_price_minor\":256')";
    vec![
        Damage::gone("outbox_settled", first_of_a, &["event_lost"]),
        Damage {
            harm: format!("{}; {pending} {of_event}", moved.harm),
            undo: format!("{}; DELETE FROM outbox_pending", moved.undo),
            ..moved
        },
        Damage::new(
            &format!("{pending} {of_event}"),
            "DELETE FROM outbox_pending",
            &["event_in_two_places"],
        ),
        Damage::new(
            &format!("{pending} VALUES ('{OLD_ID}', 0, 3, 0, 1)"),
            "DELETE FROM outbox_pending",
            &["event_without_body"],
        ),
        Damage::new(
            "UPDATE product SET version = version + 1 WHERE sku = 'E'",
            "UPDATE product SET version = version - 1 WHERE sku = 'E'",
            &["change_untold", "copy_older"],
        ),
        Damage::new(
            "UPDATE product SET quantity = quantity + 1 WHERE sku = 'E'",
            "UPDATE product SET quantity = quantity - 1 WHERE sku = 'E'",
            &["change_untold", "copy_content"],
        ),
        Damage::new(
            "UPDATE product SET version = version - 1 WHERE sku = 'A'",
            "UPDATE product SET version = version + 1 WHERE sku = 'A'",
            &["version_down", "copy_newer"],
        ),
        Damage::new(
            &format!(
                "INSERT INTO outbox_event (id, kind, event_type, key, epoch, version, payload, created_us) \
                 SELECT '{OLD_ID}', kind, event_type, key, epoch, version, {price}, created_us \
                 FROM outbox_event WHERE key = 'E' AND version = 1"
            ),
            &format!("DELETE FROM outbox_event WHERE id = '{OLD_ID}'"),
            &["event_lost", "two_contents"],
        ),
        Damage::new(
            "UPDATE outbox_history SET what = 'LATE' WHERE attempt = 3",
            "UPDATE outbox_history SET what = 'FAILED' WHERE attempt = 3",
            &["illegal_attempt"],
        ),
        Damage::new(
            "UPDATE outbox_history SET attempt = -2 WHERE attempt = 2",
            "UPDATE outbox_history SET attempt = 2 WHERE attempt = -2",
            &["illegal_history"],
        ),
        Damage::new(
            "UPDATE adjustment SET delta = delta - 1 WHERE sku = 'A'",
            "UPDATE adjustment SET delta = delta + 1 WHERE sku = 'A'",
            &["stock_unexplained"],
        ),
        Damage::new(
            "UPDATE adjustment SET sku = 'ZZ' WHERE sku = 'A'",
            "UPDATE adjustment SET sku = 'A' WHERE sku = 'ZZ'",
            &["cause_missing", "adjustment_without_change"],
        ),
        Damage::new(
            "UPDATE order_deduction SET version = version + 50 WHERE sku = 'A'",
            "UPDATE order_deduction SET version = version - 50 WHERE sku = 'A'",
            &["deducted_twice", "deduction_without_change", "order_lines_differ"],
        ),
        Damage::new(
            "UPDATE order_deduction SET quantity = quantity + 1 WHERE sku = 'A'",
            "UPDATE order_deduction SET quantity = quantity - 1 WHERE sku = 'A'",
            &["stock_unexplained", "order_lines_differ"],
        ),
    ]
}

fn at_order(new_id: &str) -> Vec<Damage> {
    let effect = format!(
        "INSERT INTO inbox (event_id, outcome, event_type, key, processed_us) \
         SELECT '{new_id}', 0, 'stockloop.inventory.changed', 'E', max(processed_us) FROM inbox"
    );
    let at_order = |damage: Damage| Damage { at_order: true, ..damage };
    vec![
        Damage::at_order(
            "UPDATE product_copy SET quantity = quantity + 1 WHERE sku = 'E'",
            "UPDATE product_copy SET quantity = quantity - 1 WHERE sku = 'E'",
            &["copy_content"],
        ),
        Damage::at_order(
            "UPDATE product_copy SET version = version - 1 WHERE sku = 'E'",
            "UPDATE product_copy SET version = version + 1 WHERE sku = 'E'",
            &["copy_older"],
        ),
        Damage::at_order(
            "UPDATE product_copy SET version = version + 1 WHERE sku = 'E'",
            "UPDATE product_copy SET version = version - 1 WHERE sku = 'E'",
            &["copy_newer"],
        ),
        Damage::gone_from_copy("E"),
        Damage::at_order(
            "INSERT INTO product_copy (sku, description, quantity, unit_price_minor, epoch, version, updated_us, applied_us) \
             VALUES ('X', 'nobody put it in', 1, 1, 1, 1, 1, 1)",
            "DELETE FROM product_copy WHERE sku = 'X'",
            &["copy_unknown"],
        ),
        Damage::at_order(
            "UPDATE product_copy SET reserved = reserved + 1 WHERE sku = 'E'",
            "UPDATE product_copy SET reserved = reserved - 1 WHERE sku = 'E'",
            &["reserved_wrong"],
        ),
        at_order(Damage::gone("inbox", "key = 'E'", &["effect_missing"])),
        Damage::at_order(
            &effect,
            &format!("DELETE FROM inbox WHERE event_id = '{new_id}'"),
            &["effect_unknown"],
        ),
        Damage::at_order(
            "UPDATE inbox SET key = 'ZZ' WHERE key = 'E'",
            "UPDATE inbox SET key = 'E' WHERE key = 'ZZ'",
            &["effect_of_another"],
        ),
        Damage::at_order(
            "UPDATE inbox SET outcome = 1 WHERE key = 'E'",
            "UPDATE inbox SET outcome = 0 WHERE key = 'E'",
            &["answers_differ"],
        ),
    ]
}

/// The order that is confirmed is said to have ended another way, or this one.
fn status(to: &str) -> String {
    format!("UPDATE orders SET status = '{to}', placement = '{to}' WHERE cancellation IS NULL")
}

fn of_orders() -> Vec<Damage> {
    vec![
        Damage::new(
            "UPDATE order_record SET state = 'REFUSED' WHERE state = 'DEDUCTED'",
            "UPDATE order_record SET state = 'DEDUCTED' WHERE state = 'REFUSED'",
            &["confirmed_not_deducted"],
        ),
        Damage::new(
            "UPDATE order_record SET state = 'DEDUCTED' WHERE state = 'RETURNED'",
            "UPDATE order_record SET state = 'RETURNED' WHERE cancelled_us IS NOT NULL",
            &["cancelled_not_returned"],
        ),
        Damage::new(
            "UPDATE order_record SET state = 'RETURNED' WHERE state = 'DEDUCTED'",
            "UPDATE order_record SET state = 'DEDUCTED' WHERE cancelled_us IS NULL",
            &["order_contradicted"],
        ),
        Damage::at_order(
            "UPDATE orders SET placement = 'REJECTED' WHERE cancellation IS NULL",
            "UPDATE orders SET placement = 'CONFIRMED' WHERE cancellation IS NULL",
            &["illegal_order"],
        ),
        Damage::at_order(
            &status("REJECTED"),
            &status("CONFIRMED"),
            &["illegal_order", "rejected_but_deducted"],
        ),
        Damage::at_order(
            "UPDATE orders SET status = 'PENDING' WHERE cancellation IS NULL",
            "UPDATE orders SET status = 'CONFIRMED' WHERE cancellation IS NULL",
            &["illegal_order", "order_undecided"],
        ),
        Damage {
            at_order: true,
            ..Damage::gone("orders", "cancellation IS NULL", &["order_unknown"])
        },
    ]
}

fn of_reservations(new_id: &str) -> Vec<Damage> {
    let order = format!(
        "INSERT INTO orders (id, customer, status, placement, revision, placed_us, changed_us) \
           VALUES ('{new_id}', 'me', 'PENDING', 'OPEN', 1, 1, 1); \
         INSERT INTO order_line (order_id, sku, quantity) VALUES ('{new_id}', 'A', 2); \
         INSERT INTO order_step (order_id, revision, at_us, status, what) \
           VALUES ('{new_id}', 1, 1, 'PENDING', 'placed')"
    );
    let no_order = ["orders WHERE id", "order_line WHERE order_id", "order_step WHERE order_id"]
        .map(|rows| format!("DELETE FROM {rows} = '{new_id}'"))
        .join("; ");
    let promised = |which: &str| {
        format!(
            "INSERT INTO reservation (order_id, sku, quantity, epoch, version) \
               SELECT o.id, 'A', 2, epoch, version FROM product_copy, orders o WHERE sku = 'A' AND {which}; \
             UPDATE product_copy SET reserved = reserved + 2 WHERE sku = 'A'"
        )
    };
    let none = "DELETE FROM reservation; UPDATE product_copy SET reserved = 0";
    let of_new = format!("o.id = '{new_id}'");
    vec![
        Damage::at_order(&order, &no_order, &["order_undecided", "reservation_missing"]),
        Damage::at_order(
            &format!("{order}; {}", promised(&of_new)),
            &format!("{no_order}; {none}"),
            &["order_undecided"],
        ),
        Damage::at_order(&promised("o.cancellation IS NULL"), none, &["reservation_left"]),
        Damage::at_order(
            &format!(
                "{}; UPDATE reservation SET epoch = NULL, version = NULL",
                promised("o.cancellation IS NULL")
            ),
            none,
            &["reservation_left"],
        ),
        // Whatever version it waits for.
        Damage::at_order(
            &format!(
                "{}; UPDATE reservation SET version = version + 50; {}",
                promised("o.cancellation IS NULL"),
                status("REJECTED")
            ),
            &format!("{}; {none}", status("CONFIRMED")),
            &["illegal_order", "rejected_but_deducted", "reservation_left"],
        ),
        Damage::at_order(
            &format!(
                "INSERT INTO reservation (order_id, sku, quantity) VALUES ('{new_id}', 'A', 2); \
                 UPDATE product_copy SET reserved = reserved + 2 WHERE sku = 'A'"
            ),
            none,
            &["reservation_left"],
        ),
    ]
}

fn of_alerts() -> Vec<Damage> {
    let alert = "INSERT INTO alert (kind, subject, event_id, attempt, created_us) \
                 SELECT 'exhausted', 'by hand', id";
    let undo = "DELETE FROM alert WHERE subject = 'by hand'";
    vec![
        Damage::new(
            "UPDATE alert SET closed_us = 1 WHERE kind = 'exhausted'",
            "UPDATE alert SET closed_us = NULL WHERE kind = 'exhausted'",
            &["exhausted_without_alert"],
        ),
        Damage::new(
            &format!("{alert}, 1, created_us FROM outbox_event WHERE key = 'A' AND version = 1"),
            undo,
            &["alert_for_nothing", "alert_untold"],
        ),
        Damage::new(
            &format!("{alert}, attempt + 5, due_us FROM outbox_failed"),
            undo,
            &["alert_of_another_attempt", "alert_untold"],
        ),
        Damage::new(
            "UPDATE alert SET mail_seq = -mail_seq",
            "UPDATE alert SET mail_seq = -mail_seq",
            &["alert_untold"],
        ),
        Damage::new(
            "UPDATE mail SET sent_us = NULL",
            "UPDATE mail SET sent_us = created_us",
            &["mail_unsent"],
        ),
        Damage::new(
            "UPDATE mail SET message_id = 'another-' || message_id",
            "UPDATE mail SET message_id = replace(message_id, 'another-', '')",
            &["mail_lost"],
        ),
        Damage::new(
            // In its own partition: one without messages may have been made anew since.
            "UPDATE outbox_failed SET sent_offset = sent_offset + 1000000",
            "UPDATE outbox_failed SET sent_offset = sent_offset - 1000000",
            &["place_wrong"],
        ),
    ]
}
