//! What is asked of the services: the same [`changes`] by [`clients`] over HTTP and, as a [`pile`] that waits, by the services'
//! own functions; [`answers`] stand in for who answers.

pub(super) mod answers;
mod changes;
mod clients;
mod figures;
mod pile;

pub(super) use self::changes::{
    Change, Changes, DESCRIPTION, Load, OPENING, PRICE_MINOR, REASON, REFERENCE, sku,
};
pub(super) use self::clients::{adjust, adjust_all, fill};
pub(super) use self::figures::Figures;
pub(super) use self::pile::{ATTEMPTS, Pile, make_backlog, put_backlog};
