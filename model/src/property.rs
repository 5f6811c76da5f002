//! What is to hold of a model.

use crate::Model;

/// One thing that is to hold.
pub struct Property<M: Model> {
    /// In a few words.
    pub name: &'static str,
    /// What exactly.
    pub rule: Rule<M>,
}

/// A condition on a state.
pub type Condition<M> = fn(&M, &<M as Model>::State) -> bool;

/// A condition on a step: the state before, what happened, and the state after.
pub type StepCondition<M> =
    fn(&M, &<M as Model>::State, &<M as Model>::Action, &<M as Model>::State) -> bool;

/// The kinds of properties.
pub enum Rule<M: Model> {
    /// It holds in every state.
    Always(Condition<M>),
    /// It holds of every step.
    EachStep(StepCondition<M>),
    /// From each state of the first kind, some way leads to one of the second, whatever happened before.
    CanStill(Condition<M>, Condition<M>),
    /// Some state is such: else the other properties may hold of nothing.
    Sometimes(Condition<M>),
}

impl<M: Model> Property<M> {
    /// See [`Rule::Always`].
    pub fn always(name: &'static str, condition: Condition<M>) -> Self {
        Self { name, rule: Rule::Always(condition) }
    }

    /// See [`Rule::EachStep`].
    pub fn each_step(name: &'static str, condition: StepCondition<M>) -> Self {
        Self { name, rule: Rule::EachStep(condition) }
    }

    /// See [`Rule::CanStill`].
    pub fn can_still(name: &'static str, from: Condition<M>, to: Condition<M>) -> Self {
        Self { name, rule: Rule::CanStill(from, to) }
    }

    /// See [`Rule::Sometimes`].
    pub fn sometimes(name: &'static str, condition: Condition<M>) -> Self {
        Self { name, rule: Rule::Sometimes(condition) }
    }
}
