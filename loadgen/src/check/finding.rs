//! What a judge may find, to which invariant it belongs, and what a person does next.

use std::fmt;

use serde::{Serialize, Serializer};

/// The invariants of docs/ARCHITECTURE.md that can be seen in databases, topics and mails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Invariant {
    /// Every change arrives, or a person knows that it does not.
    I1,
    /// One effect per event.
    I2,
    /// Versions only go up, and the copy equals its source.
    I3,
    /// Only legal transitions.
    I4,
    /// One alert for each exhaustion, and a mail for each alert.
    I5,
    /// Stock is conserved, and orders end one way.
    I7,
}

impl Invariant {
    /// Its number and, in words, what it says.
    pub(crate) const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::I1 => ("I1", "every change arrives, or a person knows"),
            Self::I2 => ("I2", "one effect per event"),
            Self::I3 => ("I3", "the copy equals its source, versions go up"),
            Self::I4 => ("I4", "only legal transitions"),
            Self::I5 => ("I5", "one alert each, told by mail"),
            Self::I7 => ("I7", "stock is conserved, orders end one way"),
        }
    }
}

impl Serialize for Invariant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.words().0)
    }
}

/// Makes the kinds of findings: each with its invariant, its name, and the next step for a person.
macro_rules! kinds {
    ($($kind:ident => $invariant:ident, $name:literal, $next:literal;)+) => {
        /// A kind of finding.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Kind {
            $(#[doc = $next] $kind,)+
        }

        impl Kind {
            /// The invariant that is broken.
            pub(crate) const fn invariant(self) -> Invariant {
                match self { $(Self::$kind => Invariant::$invariant,)+ }
            }

            /// As it is shown and written.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)+ }
            }

            /// What a person does next.
            pub(crate) const fn next_step(self) -> &'static str {
                match self { $(Self::$kind => $next,)+ }
            }
        }
    };
}

kinds! {
    EventLost => I1, "event_lost",
        "nothing will send this event any more: send its product again with `stockloop resync SKU`, and find out who deleted its row";
    EventInTwoPlaces => I1, "event_in_two_places",
        "the service would send or settle it twice: stop it, and keep both rows for whoever looks into it";
    EventWithoutBody => I1, "event_without_body",
        "its row of outbox_event is gone, so it can't be sent or explained: find out who deleted it, and send its product again with `stockloop resync SKU`";
    ExhaustedWithoutAlert => I1, "exhausted_without_alert",
        "nobody was told: look at the event (`stockloop admin event ID`), then retry or resolve it";
    StillOpen => I1, "still_open",
        "at rest nothing waits: see `stockloop admin overview`, and docs/OPERATIONS.md#events-wait-too-long";
    ChangeUntold => I1, "change_untold",
        "the product changed without an event, so no copy hears of it: send it with `stockloop resync SKU`";
    EffectMissing => I2, "effect_missing",
        "the event is PROCESSED, but its consumer does not know it: verify the copy; after a restore see docs/OPERATIONS.md";
    EffectUnknown => I2, "effect_unknown",
        "the consumer applied an event that its sender does not have: find out who sent it";
    EffectOfAnother => I2, "effect_of_another",
        "one id names two events: find out who makes ids, and verify the copy";
    AnswersDiffer => I2, "answers_differ",
        "the sender noted another answer than its consumer gave: look at the event on both sides (`admin event ID --peer`)";
    CopyMissing => I3, "copy_missing", "`stockloop verify`, then `stockloop repair`";
    CopyUnknown => I3, "copy_unknown", "`stockloop verify`, then `stockloop repair`";
    CopyOlder => I3, "copy_older", "`stockloop verify`, then `stockloop repair`";
    CopyNewer => I3, "copy_newer",
        "see docs/OPERATIONS.md#the-copy-is-ahead-of-its-source: the source may have come back from a backup";
    CopyContent => I3, "copy_content", "`stockloop verify`, then `stockloop repair`";
    VersionDown => I3, "version_down",
        "the source is behind its own events: was its database restored? see docs/OPERATIONS.md#after-a-restore-from-a-backup";
    TwoContents => I3, "two_contents",
        "one version was told with two contents, and copies keep whichever came first: `stockloop verify`, then repair";
    IllegalAttempt => I4, "illegal_attempt",
        "the row was written by hand, or by a flaw: keep it and its history, and report it";
    IllegalHistory => I4, "illegal_history",
        "the history has a step that no state allows: keep it, and report it";
    IllegalOrder => I4, "illegal_order",
        "the order's status does not follow from its commands: keep its timeline, and report it";
    PlaceWrong => I4, "place_wrong",
        "the event is not where it was noted, so its answer may never come: was the topic made anew? send its product again with `stockloop resync SKU`";
    AlertForNothing => I5, "alert_for_nothing",
        "the alert is open, but its event does not wait for anybody: look at both, and report it";
    AlertOfAnotherAttempt => I5, "alert_of_another_attempt",
        "the event has more than one open alert, or one of another attempt: look at both, and report it";
    AlertUntold => I5, "alert_untold",
        "no mail tells of it: see docs/OPERATIONS.md#mail-does-not-leave";
    MailUnsent => I5, "mail_unsent",
        "see docs/OPERATIONS.md#mail-does-not-leave";
    MailLost => I5, "mail_lost",
        "it counts as sent, but the catcher does not have it: was the catcher started anew since?";
    StockUnexplained => I7, "stock_unexplained",
        "the stock changed by another amount than what caused it says: count the product, and correct it by an adjustment";
    CauseMissing => I7, "cause_missing",
        "a change names an adjustment or an order that is not there: find out who deleted its row";
    AdjustmentWithoutChange => I7, "adjustment_without_change",
        "an adjustment is noted that changed no stock: count the product";
    DeductionWithoutChange => I7, "deduction_without_change",
        "an order's deduction is noted that changed no stock: count the product";
    DeductedTwice => I7, "deducted_twice",
        "an order took or gave back the same stock twice: correct it by an adjustment, and report it";
    ConfirmedNotDeducted => I7, "confirmed_not_deducted",
        "see docs/OPERATIONS.md#orders-have-lost-their-deduction";
    CancelledNotReturned => I7, "cancelled_not_returned",
        "give the stock back by an adjustment, and find out why the cancellation had no effect";
    RejectedButDeducted => I7, "rejected_but_deducted",
        "give the stock back by an adjustment, and report it";
    OrderContradicted => I7, "order_contradicted",
        "the two services say different things of this order: look at it on both sides";
    OrderUnknown => I7, "order_unknown",
        "stock was taken for an order that nobody placed: find out who sent it, and correct the stock";
    OrderLinesDiffer => I7, "order_lines_differ",
        "what was taken is not what was ordered: correct the stock by an adjustment, and report it";
    OrderUndecided => I7, "order_undecided",
        "at rest no order waits for an answer: look at its commands (`stockloop admin --order events --key ID`)";
    ReservationMissing => I7, "reservation_missing",
        "stock that an order waits for is free for others, so both may be CONFIRMED for it: report it";
    ReservationLeft => I7, "reservation_left",
        "what is taken already, or never will be, is promised as well, so `available` is too small: report it";
    ReservedWrong => I7, "reserved_wrong",
        "what is promised is not the sum of its reservations, so `available` is wrong: report it";
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Whose database shows something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    /// product-service's.
    Product,
    /// order-service's.
    Order,
}

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Self::Product, Self::Order];

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Product => Self::Order,
            Self::Order => Self::Product,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Product => "product-service",
            Self::Order => "order-service",
        })
    }
}

/// What is wrong with something, whatever it is and whoever has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) kind: Kind,
    /// What should be there.
    expected: String,
    /// What is there.
    found: String,
}

impl Wrong {
    pub(super) fn new(kind: Kind, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { kind, expected: expected.into(), found: found.into() }
    }

    /// The finding that it is with `subject`, which `service` has.
    pub(super) fn at(self, service: Side, subject: impl fmt::Display) -> Finding {
        Finding::new(self.kind, service, subject, self.expected, self.found)
    }
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) kind: Kind,
    /// Whose database shows it.
    pub(crate) service: Side,
    /// What it is about: the id of an event or an order, a SKU, the number of an alert.
    pub(crate) subject: String,
    /// What should be there.
    pub(crate) expected: String,
    /// What is there.
    pub(crate) found: String,
}

impl Finding {
    pub(crate) fn new(
        kind: Kind,
        service: Side,
        subject: impl fmt::Display,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        let subject = subject.to_string();
        Self { kind, service, subject, expected: expected.into(), found: found.into() }
    }
}
