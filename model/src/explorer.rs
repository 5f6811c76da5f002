//! A breadth-first search through all states of a model.

use std::collections::HashMap;
use std::fmt::{self, Debug, Display};
use std::hash::Hash;
use std::rc::Rc;

use crate::{Property, Rule};

/// A system that takes one step after another, each of them one of several.
pub trait Model: Sized {
    /// All that there is at one moment.
    type State: Clone + Eq + Hash + Debug;
    /// A step.
    type Action: Clone + Debug;

    /// Where it begins.
    fn initial(&self) -> Self::State;

    /// What may happen next.
    fn actions(&self, state: &Self::State) -> Vec<Self::Action>;

    /// What `state` becomes by `action`, one of its [`Model::actions`].
    fn next(&self, state: &Self::State, action: &Self::Action) -> Self::State;

    /// What is to hold.
    fn properties(&self) -> Vec<Property<Self>>;
}

/// How far a search is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// States found.
    pub found: usize,
    /// Of those, the ones of which all steps are known.
    pub visited: usize,
}

/// What a search came to.
#[derive(Debug)]
pub struct Exploration<A, S> {
    /// States found.
    pub states: usize,
    /// Steps between them.
    pub steps: usize,
    /// The most steps that a state is away from the beginning, by the shortest way.
    pub depth: usize,
    /// Whether all states were visited; if not, there were more than allowed, or a property failed before.
    pub is_complete: bool,
    /// Where a property fails.
    pub counterexample: Option<Counterexample<A, S>>,
}

impl<A, S> Exploration<A, S> {
    /// Whether all states were visited and all properties hold.
    pub fn holds(&self) -> bool {
        self.is_complete && self.counterexample.is_none()
    }
}

/// A shortest way to where a property fails.
#[derive(Debug)]
pub struct Counterexample<A, S> {
    /// Which property.
    pub property: &'static str,
    /// What happened, one after the other.
    pub actions: Vec<A>,
    /// What that came to; none where something never happens that should happen.
    pub state: Option<S>,
}

impl<A: Debug, S: Debug> Display for Counterexample<A, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(state) = &self.state else {
            return writeln!(f, "never: {}", self.property);
        };
        writeln!(f, "does not hold: {}", self.property)?;
        for (number, action) in self.actions.iter().enumerate() {
            writeln!(f, "{:>4}. {action:?}", number + 1)?;
        }
        writeln!(f, "{state:#?}")
    }
}

type Explored<M> = Exploration<<M as Model>::Action, <M as Model>::State>;

/// Visits all states of `model`, `most` at the most, until a property fails; `told` hears of each state that was visited.
pub fn explore<M: Model>(model: &M, most: usize, mut told: impl FnMut(Progress)) -> Explored<M> {
    let properties = model.properties();
    let mut graph = Graph::new(model.initial());
    for property in &properties {
        if !holds_in(model, property, &model.initial()) {
            return graph.ended(false, Some(graph.way(model, property.name, 0, None)));
        }
    }
    while let Some(in_hand) = graph.states.get(graph.visited()).cloned() {
        let before: &M::State = &in_hand;
        if graph.states.len() > most {
            return graph.ended(false, None);
        }
        for action in model.actions(before) {
            let after = model.next(before, &action);
            let fails = |property: &&Property<M>| {
                !holds_in(model, property, &after)
                    || !holds_by(model, property, (before, &action, &after))
            };
            if let Some(property) = properties.iter().find(fails) {
                let last = Some((action, after));
                let way = graph.way(model, property.name, graph.visited(), last);
                return graph.ended(false, Some(way));
            }
            graph.add(after);
        }
        graph.ends.push(graph.targets.len());
        told(Progress { found: graph.states.len(), visited: graph.visited() });
    }
    let failed = properties.iter().find_map(|property| graph.fails_as_a_whole(model, property));
    graph.ended(true, failed)
}

fn holds_in<M: Model>(model: &M, property: &Property<M>, state: &M::State) -> bool {
    match property.rule {
        Rule::Always(condition) => condition(model, state),
        _ => true,
    }
}

fn holds_by<M: Model>(
    model: &M,
    property: &Property<M>,
    (before, action, after): (&M::State, &M::Action, &M::State),
) -> bool {
    match property.rule {
        Rule::EachStep(condition) => condition(model, before, action, after),
        _ => true,
    }
}

/// What is known so far: states by the order in which they were found, which is that of their distance.
struct Graph<S> {
    states: Vec<Rc<S>>,
    places: HashMap<Rc<S>, usize>,
    /// From which state each was found first; the first one is its own.
    parents: Vec<usize>,
    /// Where the steps of the states lead, of one state after the other.
    targets: Vec<usize>,
    /// Where in `targets` the steps of each state end; as many as were visited.
    ends: Vec<usize>,
}

impl<S: Clone + Eq + Hash> Graph<S> {
    fn new(initial: S) -> Self {
        let initial = Rc::new(initial);
        Self {
            states: vec![Rc::clone(&initial)],
            places: HashMap::from([(initial, 0)]),
            parents: vec![0],
            targets: Vec::new(),
            ends: Vec::new(),
        }
    }

    fn visited(&self) -> usize {
        self.ends.len()
    }

    /// Adds a step of the state in hand.
    fn add(&mut self, state: S) {
        let known = self.places.get(&state).copied();
        let place = known.unwrap_or_else(|| {
            let (state, place) = (Rc::new(state), self.states.len());
            self.states.push(Rc::clone(&state));
            self.places.insert(state, place);
            self.parents.push(self.ends.len());
            place
        });
        self.targets.push(place);
    }

    fn parent(&self, place: usize) -> Option<usize> {
        self.parents.get(place).copied().filter(|parent| *parent != place)
    }

    fn ended<A>(
        &self,
        is_complete: bool,
        counterexample: Option<Counterexample<A, S>>,
    ) -> Exploration<A, S> {
        let last = self.states.len() - 1;
        Exploration {
            states: self.states.len(),
            steps: self.targets.len(),
            depth: std::iter::successors(self.parent(last), |place| self.parent(*place)).count(),
            is_complete,
            counterexample,
        }
    }

    /// The shortest way to the state at `place`, and one step further.
    fn way<M: Model<State = S>>(
        &self,
        model: &M,
        property: &'static str,
        place: usize,
        last: Option<(M::Action, S)>,
    ) -> Counterexample<M::Action, S> {
        let back = std::iter::successors(Some(place), |place| self.parent(*place));
        let mut way: Vec<&Rc<S>> = back.filter_map(|place| self.states.get(place)).collect();
        way.reverse();
        let steps = way.iter().zip(way.iter().skip(1));
        let mut actions: Vec<M::Action> = steps
            .filter_map(|(before, after)| {
                let leads = |action: &M::Action| model.next(before, action) == ***after;
                model.actions(before).into_iter().find(leads)
            })
            .collect();
        let mut state = way.last().map(|state| S::clone(state));
        if let Some((action, after)) = last {
            actions.push(action);
            state = Some(after);
        }
        Counterexample { property, actions, state }
    }

    /// What can only be said of all states together.
    fn fails_as_a_whole<M: Model<State = S>>(
        &self,
        model: &M,
        property: &Property<M>,
    ) -> Option<Counterexample<M::Action, S>> {
        let is = |condition: fn(&M, &S) -> bool| {
            move |(_, state): &(usize, &Rc<S>)| condition(model, state)
        };
        let mut states = self.states.iter().enumerate();
        match property.rule {
            Rule::Sometimes(condition) => {
                let never = !states.any(|one| is(condition)(&one));
                let name = property.name;
                never.then_some(Counterexample { property: name, actions: Vec::new(), state: None })
            }
            Rule::CanStill(from, to) => {
                let ends = states.clone().filter(is(to)).map(|(place, _)| place).collect();
                let leads = self.leading_to(ends);
                let (stuck, _) = states
                    .filter(is(from))
                    .find(|(place, _)| !leads.get(*place).copied().unwrap_or(false))?;
                Some(self.way(model, property.name, stuck, None))
            }
            Rule::Always(_) | Rule::EachStep(_) => None,
        }
    }

    /// Of each state, whether a way leads from it to one of `ends`.
    fn leading_to(&self, ends: Vec<usize>) -> Vec<bool> {
        let mut sources: Vec<Vec<usize>> = vec![Vec::new(); self.states.len()];
        let mut begin = 0;
        for (source, end) in self.ends.iter().enumerate() {
            for target in self.targets.get(begin..*end).unwrap_or_default() {
                sources.get_mut(*target).into_iter().for_each(|sources| sources.push(source));
            }
            begin = *end;
        }
        let (mut leads, mut ahead) = (vec![false; self.states.len()], ends);
        while let Some(place) = ahead.pop() {
            let Some(known) = leads.get_mut(place).filter(|known| !**known) else { continue };
            *known = true;
            ahead.extend(sources.get(place).into_iter().flatten());
        }
        leads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that grows by one or by two, up to ten; a trap is a number from which nothing goes on.
    struct Counting {
        trap: Option<u8>,
        bound: u8,
        seen: u8,
    }

    const SOUND: Counting = Counting { trap: None, bound: 10, seen: 3 };

    impl Model for Counting {
        type State = u8;
        type Action = u8;

        fn initial(&self) -> u8 {
            0
        }

        fn actions(&self, state: &u8) -> Vec<u8> {
            let goes_on = self.trap != Some(*state);
            [1_u8, 2].into_iter().filter(|by| goes_on && state + by <= 10).collect()
        }

        fn next(&self, state: &u8, action: &u8) -> u8 {
            state + action
        }

        fn properties(&self) -> Vec<Property<Self>> {
            vec![
                Property::<Self>::always("it is small", |model, state| *state <= model.bound),
                Property::<Self>::each_step("it grows", |_, before, _, after| before < after),
                Property::<Self>::can_still("it gets to ten", |_, _| true, |_, state| *state == 10),
                Property::<Self>::sometimes("it is seen", |model, state| *state == model.seen),
            ]
        }
    }

    fn broken(model: &Counting) -> Option<(&'static str, Vec<u8>)> {
        let found = explore(model, 1_000, |_| {});
        found.counterexample.map(|one| (one.property, one.actions))
    }

    #[test]
    fn all_states_are_visited_once() {
        let mut visited = 0;
        let found = explore(&SOUND, 1_000, |_| visited += 1);
        assert!(found.holds());
        assert_eq!((found.states, found.steps, found.depth, visited), (11, 19, 5, 11));
    }

    #[test]
    fn a_state_that_must_not_be_is_told_with_the_shortest_way_to_it() {
        let way = broken(&Counting { bound: 6, ..SOUND });
        assert_eq!(way, Some(("it is small", vec![1, 2, 2, 2])));
    }

    #[test]
    fn a_state_from_which_nothing_goes_on_is_told() {
        let way = broken(&Counting { trap: Some(5), ..SOUND });
        assert_eq!(way, Some(("it gets to ten", vec![1, 2, 2])));
    }

    #[test]
    fn what_never_happens_is_told() {
        let found = explore(&Counting { seen: 11, ..SOUND }, 1_000, |_| {});
        let told = found.counterexample.map(|one| one.to_string());
        assert_eq!(told.as_deref(), Some("never: it is seen\n"));
    }

    #[test]
    fn what_is_too_large_does_not_count_as_sound() {
        let found = explore(&SOUND, 2, |_| {});
        assert!(!found.is_complete && found.counterexample.is_none() && !found.holds());
    }
}
