//! The life of an order: its status follows from how far its two commands are, and from nothing else.
//!
//! | placing | no cancellation | OPEN | DONE | REJECTED | EXHAUSTED | RESOLVED |
//! |---|---|---|---|---|---|---|
//! | OPEN | PENDING | CANCELLING | CANCELLED | REJECTED | NEEDS_ATTENTION | CANCELLED |
//! | CONFIRMED | CONFIRMED | CANCELLING | CANCELLED | REJECTED | NEEDS_ATTENTION | CANCELLED |
//! | REJECTED | REJECTED | CANCELLING | CANCELLED | REJECTED | NEEDS_ATTENTION | REJECTED |
//! | EXHAUSTED | NEEDS_ATTENTION | CANCELLING | CANCELLED | REJECTED | NEEDS_ATTENTION | CANCELLED |
//!
//! REJECTED and CANCELLED are final: what comes after them changes no status. A cancellation decides over the
//! placing, since the owner makes both end the same whichever came first there.
//!
//! Resolving by an operator moves an order on as well. Where the *placing* is resolved, nobody knows whether the
//! stock was taken; so the order is given up through the loop: its cancellation is sent, and the owner either
//! gives back what it took or takes nothing any more. Where the *cancellation* is resolved, the operator has
//! dealt with the stock, and the order is CANCELLED (REJECTED, if that answer had come).

use common::stored_by_name;
use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use diesel::sql_types::Text;
use utoipa::ToSchema;

/// The status of an order, as people know it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, AsExpression, FromSqlRow, ToSchema,
)]
#[diesel(sql_type = Text)]
#[schema(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OrderStatus {
    /// Placed; the owner of the stock has not answered.
    Pending,
    /// The stock is taken.
    Confirmed,
    /// The owner's answer is no. Final.
    Rejected,
    /// The cancellation is on its way.
    Cancelling,
    /// Cancelled, and the stock right. Final.
    Cancelled,
    /// A command of it gave up: a person has to act.
    NeedsAttention,
}

stored_by_name!(OrderStatus {
    Pending => "PENDING",
    Confirmed => "CONFIRMED",
    Rejected => "REJECTED",
    Cancelling => "CANCELLING",
    Cancelled => "CANCELLED",
    NeedsAttention => "NEEDS_ATTENTION",
});

/// How far the `stockloop.order.placed` command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
pub enum Placement {
    /// On its way.
    Open,
    /// Answered SUCCESS.
    Confirmed,
    /// Answered REJECTED.
    Rejected,
    /// It gave up.
    Exhausted,
}

stored_by_name!(Placement {
    Open => "OPEN",
    Confirmed => "CONFIRMED",
    Rejected => "REJECTED",
    Exhausted => "EXHAUSTED",
});

/// How far the `stockloop.order.cancelled` command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
pub enum Cancellation {
    /// On its way.
    Open,
    /// Answered SUCCESS.
    Done,
    /// Answered REJECTED: there was nothing to cancel.
    Rejected,
    /// It gave up.
    Exhausted,
    /// It gave up, and an operator dealt with it by other means.
    Resolved,
}

stored_by_name!(Cancellation {
    Open => "OPEN",
    Done => "DONE",
    Rejected => "REJECTED",
    Exhausted => "EXHAUSTED",
    Resolved => "RESOLVED",
});

impl OrderStatus {
    /// Whether nothing changes it any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Rejected | Self::Cancelled)
    }

    /// Whether no answer is awaited: a CONFIRMED order may still be cancelled, but only if somebody asks.
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Confirmed | Self::Rejected | Self::Cancelled)
    }

    /// What follows `before` from how far the commands are now.
    pub const fn after(before: Self, placing: Placement, cancelling: Option<Cancellation>) -> Self {
        if before.is_final() {
            return before;
        }
        match (cancelling, placing) {
            (None, Placement::Open) => Self::Pending,
            (None, Placement::Confirmed) => Self::Confirmed,
            (None, Placement::Rejected)
            | (Some(Cancellation::Rejected), _)
            | (Some(Cancellation::Resolved), Placement::Rejected) => Self::Rejected,
            (None, Placement::Exhausted) | (Some(Cancellation::Exhausted), _) => {
                Self::NeedsAttention
            }
            (Some(Cancellation::Open), _) => Self::Cancelling,
            (Some(Cancellation::Done | Cancellation::Resolved), _) => Self::Cancelled,
        }
    }
}
