//! The engine's tables as diesel sees them; `migrations/common` makes them.

#![allow(
    missing_docs,
    reason = "the columns are described where they are made, in migrations/common"
)]

diesel::table! {
    service_state (only_row) {
        only_row -> SmallInt,
        epoch -> BigInt,
        appended -> BigInt,
        over_told_from_us -> Nullable<BigInt>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::ids::EventIdSql;
    outbox_event (id) {
        id -> EventIdSql,
        kind -> SmallInt,
        event_type -> Text,
        key -> Text,
        epoch -> BigInt,
        version -> BigInt,
        payload -> Text,
        traceparent -> Nullable<Text>,
        created_us -> BigInt,
    }
}

// A view over the three tables below, for whoever only reads.
diesel::table! {
    use diesel::sql_types::*;
    use crate::ids::EventIdSql;
    outbox_open (id) {
        id -> EventIdSql,
        shard -> SmallInt,
        status -> SmallInt,
        attempt -> Integer,
        attempt_limit -> Integer,
        due_us -> BigInt,
        partition -> Nullable<Integer>,
        sent_us -> Nullable<BigInt>,
        size -> Integer,
        resolved_us -> Nullable<BigInt>,
        sent_offset -> Nullable<BigInt>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::ids::EventIdSql;
    outbox_pending (id) {
        id -> EventIdSql,
        shard -> SmallInt,
        tx -> BigInt,
        attempt_limit -> Integer,
        due_us -> BigInt,
        size -> Integer,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::ids::EventIdSql;
    outbox_sent (id) {
        id -> EventIdSql,
        shard -> SmallInt,
        attempt -> Integer,
        attempt_limit -> Integer,
        partition -> Integer,
        sent_us -> BigInt,
        sent_offset -> Nullable<BigInt>,
        size -> Integer,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::ids::EventIdSql;
    outbox_failed (id) {
        id -> EventIdSql,
        shard -> SmallInt,
        status -> SmallInt,
        attempt -> Integer,
        attempt_limit -> Integer,
        due_us -> BigInt,
        partition -> Nullable<Integer>,
        sent_us -> Nullable<BigInt>,
        sent_offset -> Nullable<BigInt>,
        size -> Integer,
        resolved_us -> Nullable<BigInt>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::ids::EventIdSql;
    outbox_settled (id) {
        id -> EventIdSql,
        outcome -> SmallInt,
        detail -> Nullable<Text>,
        attempt -> Integer,
        partition -> Nullable<Integer>,
        sent_us -> Nullable<BigInt>,
        settled_us -> BigInt,
        processed_us -> Nullable<BigInt>,
        version -> Nullable<BigInt>,
        consumer -> Text,
        result -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::ids::EventIdSql;
    outbox_history (seq) {
        seq -> BigInt,
        event_id -> EventIdSql,
        at_us -> BigInt,
        attempt -> Integer,
        sent_us -> Nullable<BigInt>,
        what -> Text,
        error -> Nullable<Text>,
        by_whom -> Nullable<Text>,
        class -> Nullable<Text>,
        consumer -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::ids::EventIdSql;
    consumer (name) {
        name -> Text,
        required -> Bool,
        since_id -> EventIdSql,
        state -> SmallInt,
        letting_off -> Bool,
        cursor -> EventIdSql,
        let_off -> BigInt,
        registered_us -> BigInt,
        registered_by -> Text,
        changed_us -> Nullable<BigInt>,
        changed_by -> Nullable<Text>,
        reason -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::ids::EventIdSql;
    outbox_answer (event_id, consumer) {
        event_id -> EventIdSql,
        consumer -> Text,
        outcome -> SmallInt,
        attempt -> Integer,
        failures -> Integer,
        detail -> Nullable<Text>,
        error -> Nullable<Text>,
        version -> Nullable<BigInt>,
        result -> Nullable<Text>,
        processed_us -> BigInt,
    }
}

diesel::table! {
    consumer_partition (topic, partition, consumer) {
        topic -> Text,
        partition -> Integer,
        consumer -> Text,
        last_ack_us -> BigInt,
        silent_us -> Nullable<BigInt>,
        probe_due_us -> Nullable<BigInt>,
        probes -> Integer,
        acked_offset -> Nullable<BigInt>,
        pending_offset -> Nullable<BigInt>,
        passed_offset -> Nullable<BigInt>,
        looked_us -> Nullable<BigInt>,
        behind_us -> Nullable<BigInt>,
        shown_offset -> Nullable<BigInt>,
    }
}

diesel::table! {
    copied_state (key) {
        key -> Text,
        removed -> Bool,
        epoch -> BigInt,
        version -> BigInt,
        updated_us -> BigInt,
        content -> Text,
    }
}

diesel::table! {
    relay_lease (shard) {
        shard -> SmallInt,
        owner -> Text,
        token -> BigInt,
        expires_us -> BigInt,
    }
}

diesel::table! {
    relay_member (owner) {
        owner -> Text,
        expires_us -> BigInt,
        stands_by -> Bool,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::ids::EventIdSql;
    inbox (event_id) {
        event_id -> EventIdSql,
        outcome -> SmallInt,
        detail -> Nullable<Text>,
        version -> Nullable<BigInt>,
        result -> Nullable<Text>,
        event_type -> Text,
        key -> Text,
        processed_us -> BigInt,
    }
}

diesel::table! {
    dead_letter (seq) {
        seq -> BigInt,
        topic -> Text,
        partition -> Integer,
        offset -> BigInt,
        hash -> Text,
        bytes -> Binary,
        error -> Text,
        at_us -> BigInt,
        message_key -> Nullable<Binary>,
        headers -> Nullable<Text>,
        state -> SmallInt,
        handled_us -> Nullable<BigInt>,
        handled_by -> Nullable<Text>,
        reason -> Nullable<Text>,
    }
}

diesel::table! {
    quarantine (key) {
        key -> Text,
        reason -> Text,
        since_us -> BigInt,
        by_whom -> Text,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::ids::EventIdSql;
    alert (seq) {
        seq -> BigInt,
        kind -> Text,
        subject -> Text,
        event_id -> Nullable<EventIdSql>,
        event_kind -> Nullable<SmallInt>,
        event_type -> Nullable<Text>,
        key -> Nullable<Text>,
        epoch -> Nullable<BigInt>,
        version -> Nullable<BigInt>,
        attempt -> Nullable<Integer>,
        error -> Nullable<Text>,
        created_us -> BigInt,
        closed_us -> Nullable<BigInt>,
        closed_because -> Nullable<Text>,
        mail_seq -> Nullable<BigInt>,
        acknowledged_us -> Nullable<BigInt>,
        acknowledged_by -> Nullable<Text>,
        webhook_seq -> Nullable<BigInt>,
        over_mail_seq -> Nullable<BigInt>,
        over_webhook_seq -> Nullable<BigInt>,
    }
}

diesel::table! {
    alert_silence (seq) {
        seq -> BigInt,
        kind -> Nullable<Text>,
        key -> Nullable<Text>,
        alert_seq -> Nullable<BigInt>,
        reason -> Text,
        created_us -> BigInt,
        until_us -> BigInt,
        by_whom -> Text,
        ended_us -> Nullable<BigInt>,
        ended_by -> Nullable<Text>,
    }
}

diesel::table! {
    webhook (seq) {
        seq -> BigInt,
        delivery_id -> Text,
        body -> Text,
        created_us -> BigInt,
        tries -> Integer,
        due_us -> BigInt,
        sent_us -> Nullable<BigInt>,
        last_error -> Nullable<Text>,
    }
}

diesel::table! {
    mail (seq) {
        seq -> BigInt,
        message_id -> Text,
        recipients -> Text,
        subject -> Text,
        text -> Text,
        html -> Text,
        created_us -> BigInt,
        tries -> Integer,
        due_us -> BigInt,
        sent_us -> Nullable<BigInt>,
        last_error -> Nullable<Text>,
    }
}

diesel::table! {
    mail_recipient (mail_seq, address) {
        mail_seq -> BigInt,
        address -> Text,
        position -> Integer,
        tries -> Integer,
        sent_us -> Nullable<BigInt>,
        refused_us -> Nullable<BigInt>,
        last_error -> Nullable<Text>,
    }
}

diesel::table! {
    idempotency (principal, route, key) {
        principal -> Text,
        route -> Text,
        key -> Text,
        body_hash -> Text,
        status -> Integer,
        etag -> Nullable<Text>,
        location -> Nullable<Text>,
        body -> Text,
        created_us -> BigInt,
    }
}

diesel::table! {
    counter (name, slot) {
        name -> Text,
        slot -> SmallInt,
        value -> BigInt,
    }
}

diesel::table! {
    forgotten (what) {
        what -> Text,
        up_to -> BigInt,
    }
}

diesel::table! {
    operator (name) {
        name -> Text,
        password_hash -> Text,
        role -> SmallInt,
        created_us -> BigInt,
        created_by -> Text,
        disabled_us -> Nullable<BigInt>,
    }
}

diesel::table! {
    operator_session (hash) {
        hash -> Text,
        operator -> Text,
        created_us -> BigInt,
        seen_us -> BigInt,
    }
}

diesel::table! {
    operator_token (seq) {
        seq -> BigInt,
        hash -> Text,
        name -> Text,
        role -> SmallInt,
        areas -> Text,
        created_us -> BigInt,
        created_by -> Text,
        expires_us -> Nullable<BigInt>,
        used_us -> Nullable<BigInt>,
        revoked_us -> Nullable<BigInt>,
        revoked_by -> Nullable<Text>,
    }
}

diesel::table! {
    operator_setup (hash) {
        hash -> Text,
        created_us -> BigInt,
    }
}

diesel::table! {
    login_failure (subject) {
        subject -> Text,
        failures -> Integer,
        since_us -> BigInt,
    }
}

diesel::table! {
    audit (seq) {
        seq -> BigInt,
        at_us -> BigInt,
        who -> Text,
        via -> Text,
        action -> Text,
        subject -> Nullable<Text>,
        detail -> Nullable<Text>,
    }
}

diesel::table! {
    bulk_job (seq) {
        seq -> BigInt,
        action -> Text,
        selection -> Text,
        reason -> Nullable<Text>,
        attempts -> Nullable<Integer>,
        state -> SmallInt,
        expected -> BigInt,
        done -> BigInt,
        skipped -> BigInt,
        cursor -> Nullable<Text>,
        created_us -> BigInt,
        created_by -> Text,
        created_via -> Text,
        started_us -> Nullable<BigInt>,
        ended_us -> Nullable<BigInt>,
        ended_by -> Nullable<Text>,
        preview -> Nullable<BigInt>,
    }
}

diesel::table! {
    bulk_preview (seq) {
        seq -> BigInt,
        selection -> Text,
        matches -> BigInt,
        created_us -> BigInt,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::ids::EventIdSql;
    bulk_preview_event (preview, event_id) {
        preview -> BigInt,
        event_id -> EventIdSql,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::ids::EventIdSql;
    bulk_item (job, event_id) {
        job -> BigInt,
        event_id -> EventIdSql,
        skipped -> Nullable<Text>,
    }
}

diesel::table! {
    relay_pause (key) {
        key -> Text,
        reason -> Text,
        since_us -> BigInt,
        by_whom -> Text,
    }
}

diesel::table! {
    trend (at_us) {
        at_us -> BigInt,
        committed -> BigInt,
        sent -> BigInt,
        processed -> BigInt,
        failed -> BigInt,
        waiting -> BigInt,
        exhausted -> BigInt,
        oldest_us -> BigInt,
        sent_p50 -> Nullable<BigInt>,
        sent_p99 -> Nullable<BigInt>,
        applied_p50 -> Nullable<BigInt>,
        applied_p99 -> Nullable<BigInt>,
        acked_p50 -> Nullable<BigInt>,
        acked_p99 -> Nullable<BigInt>,
    }
}

diesel::table! {
    verification (seq) {
        seq -> BigInt,
        consumer -> Text,
        keys_of -> Nullable<BigInt>,
        share -> Integer,
        state -> SmallInt,
        cursor -> Nullable<Text>,
        keys -> BigInt,
        differences -> BigInt,
        waiting -> BigInt,
        cut -> Bool,
        reason -> Nullable<Text>,
        created_us -> BigInt,
        created_by -> Text,
        created_via -> Text,
        started_us -> Nullable<BigInt>,
        compared_us -> Nullable<BigInt>,
        answered_us -> Nullable<BigInt>,
        ended_us -> Nullable<BigInt>,
        ended_by -> Nullable<Text>,
        holder -> Nullable<Text>,
        held_until_us -> BigInt,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::ids::EventIdSql;
    verification_key (verification, key) {
        verification -> BigInt,
        key -> Text,
        finding -> Text,
        looks -> Integer,
        due_us -> BigInt,
        owner_version -> Nullable<BigInt>,
        owner_removed -> Nullable<Bool>,
        copy_epoch -> Nullable<BigInt>,
        copy_version -> Nullable<BigInt>,
        copy_removed -> Nullable<Bool>,
        event_id -> Nullable<EventIdSql>,
        found_us -> BigInt,
    }
}

diesel::table! {
    resync_job (seq) {
        seq -> BigInt,
        kind -> Text,
        selection -> Text,
        reason -> Nullable<Text>,
        state -> SmallInt,
        expected -> Nullable<BigInt>,
        done -> BigInt,
        skipped -> BigInt,
        cursor -> Nullable<Text>,
        verification -> Nullable<BigInt>,
        created_us -> BigInt,
        created_by -> Text,
        created_via -> Text,
        started_us -> Nullable<BigInt>,
        ended_us -> Nullable<BigInt>,
        ended_by -> Nullable<Text>,
    }
}

diesel::table! {
    resync_skipped (job, key) {
        job -> BigInt,
        key -> Text,
        why -> Text,
    }
}

diesel::table! {
    read_position (topic, partition) {
        topic -> Text,
        partition -> Integer,
        next_offset -> BigInt,
        at_us -> BigInt,
    }
}

diesel::table! {
    view_position (topic, partition) {
        topic -> Text,
        partition -> Integer,
        begun_us -> BigInt,
        next_offset -> BigInt,
        written_us -> Nullable<BigInt>,
        taken_us -> Nullable<BigInt>,
        end_offset -> Nullable<BigInt>,
        checked_us -> Nullable<BigInt>,
    }
}

diesel::table! {
    copy_state (only_row) {
        only_row -> SmallInt,
        copy_id -> Text,
        complete_us -> Nullable<BigInt>,
        complete_by -> Nullable<Text>,
    }
}

diesel::table! {
    restoration (seq) {
        seq -> BigInt,
        service -> Text,
        state -> SmallInt,
        found_us -> BigInt,
        since_us -> Nullable<BigInt>,
        detail -> Text,
        started_us -> Nullable<BigInt>,
        started_by -> Nullable<Text>,
        started_via -> Nullable<Text>,
        reason -> Nullable<Text>,
        epoch -> Nullable<BigInt>,
        job -> Nullable<BigInt>,
        verification -> Nullable<BigInt>,
        consumer -> Nullable<Text>,
        remote -> Nullable<BigInt>,
        rounds -> Integer,
        differences -> BigInt,
        waits_for -> Nullable<Text>,
        due_us -> BigInt,
        ended_us -> Nullable<BigInt>,
        tell_us -> Nullable<BigInt>,
        untold -> Nullable<Text>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::ids::EventIdSql;
    lost_check (seq) {
        seq -> BigInt,
        service -> Text,
        restoration -> Text,
        since_us -> Nullable<BigInt>,
        until -> EventIdSql,
        cursor -> Nullable<EventIdSql>,
        open_from -> Nullable<EventIdSql>,
        asked -> BigInt,
        found -> BigInt,
        unclear -> BigInt,
        known_from_us -> Nullable<BigInt>,
        waits_for -> Nullable<Text>,
        due_us -> BigInt,
        created_us -> BigInt,
        ended_us -> Nullable<BigInt>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::ids::EventIdSql;
    lost_command (event_id) {
        event_id -> EventIdSql,
        found_by -> BigInt,
        event_type -> Text,
        key -> Text,
        payload -> Text,
        state -> SmallInt,
        settled_us -> BigInt,
        found_us -> BigInt,
        closed_us -> Nullable<BigInt>,
        closed_by -> Nullable<Text>,
        reason -> Nullable<Text>,
        sent_as -> Nullable<EventIdSql>,
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use crate::ids::EventIdSql;
    bootstrap (seq) {
        seq -> BigInt,
        consumer -> Text,
        copy_id -> Nullable<Text>,
        state -> SmallInt,
        cursor -> Nullable<Text>,
        expected -> BigInt,
        done -> BigInt,
        job -> Nullable<BigInt>,
        last_event -> Nullable<EventIdSql>,
        verification -> Nullable<BigInt>,
        rounds -> Integer,
        due_us -> BigInt,
        reason -> Nullable<Text>,
        created_us -> BigInt,
        created_by -> Text,
        created_via -> Text,
        started_us -> Nullable<BigInt>,
        filled_us -> Nullable<BigInt>,
        ended_us -> Nullable<BigInt>,
        ended_by -> Nullable<Text>,
    }
}

diesel::allow_tables_to_appear_in_same_query!(
    outbox_event,
    outbox_open,
    outbox_pending,
    outbox_sent,
    outbox_failed,
    outbox_settled,
    outbox_history,
    alert,
    mail,
    webhook,
);
diesel::allow_tables_to_appear_in_same_query!(operator, operator_session);
diesel::allow_tables_to_appear_in_same_query!(bulk_job, bulk_item);
