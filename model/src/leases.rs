//! Leases: two relays, a database with its clock, and clocks of their own.
//!
//! A relay counts from before it asks until its lease is [`usable`] no more. Its question may take long, and its clock may
//! be slower than the database's. What is to hold: at no moment do two relays believe that they may send.

use std::time::Duration;

use engine::outbox::usable;

use crate::{Model, Property};

/// A step of the clocks.
const TICK: Duration = Duration::from_secs(1);

/// How long a lease is, in ticks.
const LEASE: u8 = 5;

/// Ways to break it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// A lease is used until it ends.
    UsedToItsEnd,
    /// A relay counts from when it has the answer.
    CountedFromTheAnswer,
}

/// The model.
#[derive(Debug, Clone, Copy, Default)]
pub struct Leases {
    /// How it is broken.
    pub flaw: Option<Flaw>,
}

/// Ticks of a relay's own clock, since it began to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Age {
    /// How many.
    pub ticks: u8,
    /// Whether the clock has lost one meanwhile.
    pub is_slow: bool,
}

/// What a relay asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Question {
    /// Since when it asks.
    pub age: Age,
    /// Whether it was granted; none before the database has answered.
    pub granted: Option<bool>,
}

/// A relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Holder {
    /// Of the lease that it uses.
    pub age: Option<Age>,
    /// What it is asking.
    pub question: Option<Question>,
}

impl Holder {
    /// What its clock is read for.
    fn ages(&mut self) -> impl Iterator<Item = &mut Age> {
        self.age.iter_mut().chain(self.question.as_mut().map(|question| &mut question.age))
    }
}

/// All that there is at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// The relays.
    pub holders: [Holder; 2],
    /// Whose the lease is.
    pub owner: Option<usize>,
    /// How many ticks of the database's clock it lasts.
    pub left: u8,
}

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A relay begins to ask.
    Ask(usize),
    /// The database extends its lease, gives it the one that has ended, or refuses.
    Decide(usize),
    /// The relay has the answer.
    Hear(usize),
    /// All clocks go on.
    Tick,
    /// All clocks go on but this relay's.
    TickWithout(usize),
}

impl Leases {
    /// Whether a relay believes that it may send, by its own clock.
    fn may_send(&self, holder: &Holder) -> bool {
        let lease = TICK * u32::from(LEASE);
        let usable = match self.flaw {
            Some(Flaw::UsedToItsEnd) => lease,
            _ => usable(lease),
        };
        holder.age.is_some_and(|age| TICK * u32::from(age.ticks) < usable)
    }
}

impl Model for Leases {
    type State = State;
    type Action = Action;

    fn initial(&self) -> State {
        State { holders: [Holder::default(); 2], owner: None, left: 0 }
    }

    fn actions(&self, state: &State) -> Vec<Action> {
        let mut actions = vec![Action::Tick];
        for (relay, holder) in state.holders.iter().enumerate() {
            actions.push(match holder.question {
                None => Action::Ask(relay),
                Some(Question { granted: None, .. }) => Action::Decide(relay),
                Some(Question { granted: Some(_), .. }) => Action::Hear(relay),
            });
            let mut own = *holder;
            if own.ages().next().is_some() && own.ages().all(|age| !age.is_slow) {
                actions.push(Action::TickWithout(relay));
            }
        }
        actions
    }

    fn next(&self, state: &State, action: &Action) -> State {
        let mut next = *state;
        match *action {
            Action::Ask(relay) => {
                let question = Question { age: Age::default(), granted: None };
                next.holders.get_mut(relay).into_iter().for_each(|holder| {
                    holder.question = Some(question);
                });
            }
            Action::Decide(relay) => {
                let is_granted = state.left == 0 || state.owner == Some(relay);
                if is_granted {
                    (next.owner, next.left) = (Some(relay), LEASE);
                }
                let question = next.holders.get_mut(relay).and_then(|one| one.question.as_mut());
                question.into_iter().for_each(|question| question.granted = Some(is_granted));
            }
            Action::Hear(relay) => {
                next.holders.get_mut(relay).into_iter().for_each(|holder| self.hear(holder));
            }
            Action::Tick => tick(&mut next, None),
            Action::TickWithout(relay) => tick(&mut next, Some(relay)),
        }
        next
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always("whoever may send holds the lease", |model, state| {
                let mut holders = state.holders.iter().enumerate();
                holders.all(|(relay, holder)| {
                    !model.may_send(holder) || state.owner == Some(relay) && state.left > 0
                })
            }),
            Property::<Self>::always("one relay may send", |model, state| {
                state.holders.iter().filter(|holder| model.may_send(holder)).count() <= 1
            }),
            // The two are alike, so what holds for one holds for the other.
            Property::<Self>::can_still(
                "the first one may still send",
                |_, _| true,
                |model, state| state.holders.first().is_some_and(|holder| model.may_send(holder)),
            ),
            Property::<Self>::sometimes("the other one may send", |model, state| {
                state.holders.last().is_some_and(|holder| model.may_send(holder))
            }),
        ]
    }
}

impl Leases {
    fn hear(&self, holder: &mut Holder) {
        let Some(Question { age, granted }) = holder.question.take() else { return };
        holder.age = match (granted, self.flaw) {
            (Some(true), Some(Flaw::CountedFromTheAnswer)) => Some(Age::default()),
            (Some(true), _) => Some(age),
            _ => None,
        };
    }
}

/// An age ends where nothing depends on it any more.
fn tick(state: &mut State, without: Option<usize>) {
    state.left = state.left.saturating_sub(1);
    for (relay, holder) in state.holders.iter_mut().enumerate() {
        for age in holder.ages() {
            match without == Some(relay) {
                true => age.is_slow = true,
                false => age.ticks = (age.ticks + 1).min(LEASE),
            }
        }
    }
}
