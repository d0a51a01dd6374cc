//! Sets of steps.

/// Steps by their places, one bit for each: a runbook of 5,000 steps has as many of these sets, most of them nearly full.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct StepSet(Vec<u64>);

impl StepSet {
    /// The first `count` steps.
    pub(super) fn first(count: usize) -> Self {
        let mut words = vec![u64::MAX; count / 64];
        // The rest, which may be none.
        words.push((1 << (count % 64)) - 1);
        Self(words)
    }

    pub(super) fn contains(&self, step: usize) -> bool {
        self.0.get(step / 64).is_some_and(|word| word & (1 << (step % 64)) != 0)
    }

    pub(super) fn insert(&mut self, step: usize) {
        if self.0.len() <= step / 64 {
            self.0.resize(step / 64 + 1, 0);
        }
        self.0[step / 64] |= 1 << (step % 64);
    }

    /// Takes in all steps of another set.
    pub(super) fn insert_all(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(set: &StepSet) -> Vec<usize> {
        (0..300).filter(|step| set.contains(*step)).collect()
    }

    #[test]
    fn holds_what_was_put_in() {
        for count in [0, 1, 63, 64, 65, 128, 200] {
            assert_eq!(steps(&StepSet::first(count)), (0..count).collect::<Vec<_>>());
        }
        let mut set = StepSet::first(2);
        set.insert(130);
        set.insert_all(&StepSet::first(1));
        assert_eq!(steps(&set), [0, 1, 130]);
        let mut other = StepSet::default();
        other.insert_all(&set);
        assert_eq!(other, set);
    }
}
