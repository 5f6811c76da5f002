DROP VIEW outbox;
DROP TABLE counter, idempotency, mail, alert, quarantine, dead_letter, inbox, relay_member, relay_lease,
    outbox_partition, outbox_history, outbox_settled, outbox_open, outbox_event, service_state;
