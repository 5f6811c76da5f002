//! Counts which of a few values occurs most often.

/// A product is seldom called more than three things; this bounds what a hostile file can make us keep.
const MOST: usize = 16;

/// Counts values of one kind and knows the most frequent; of equals the one seen first.
#[derive(Debug, Clone)]
pub(super) struct Tally<T>(Vec<(T, u64)>);

impl<T> Default for Tally<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: PartialEq> Tally<T> {
    /// Counts one occurrence; the seventeenth distinct value and later ones are not kept.
    pub(super) fn add(&mut self, value: T) {
        if let Some((_, count)) = self.0.iter_mut().find(|(seen, _)| *seen == value) {
            *count += 1;
        } else if self.0.len() < MOST {
            self.0.push((value, 1));
        }
    }

    /// The most frequent value.
    pub(super) fn top(&self) -> Option<&T> {
        let first_best = self.0.iter().rev().max_by_key(|(_, count)| *count);
        first_best.map(|(value, _)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_wins_and_the_first_of_equals() {
        let mut tally = Tally::default();
        assert_eq!(tally.top(), None);
        for value in ["a", "b", "c", "c", "b"] {
            tally.add(value);
        }
        assert_eq!(tally.top(), Some(&"b"));
    }

    #[test]
    fn the_number_of_distinct_values_is_bounded() {
        let mut tally = Tally::default();
        (0..1_000).for_each(|value| tally.add(value));
        assert_eq!(tally.0.len(), MOST);
    }
}
