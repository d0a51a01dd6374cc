//! What becomes of calls on their way: the same for the same seed.

/// A network that loses calls.
#[derive(Debug, Clone, Default)]
pub struct Weather {
    seed: u64,
    /// Of a hundred calls so many are lost.
    losses: u64,
    /// Looks are lost, too.
    looks: bool,
}

/// What becomes of a call on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Arrives,
    /// Nothing arrives.
    Lost,
    /// It arrives, and its answer does not.
    Unheard,
}

impl Weather {
    /// `losses`: of a hundred changes so many are lost on the way, and as many answers; of looks only where `looks` says so.
    pub fn new(seed: u64, losses: u64, looks: bool) -> Self {
        Self { seed, losses, looks }
    }

    /// The next number below `end` (SplitMix64).
    pub fn below(&mut self, end: u64) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    pub(crate) fn fate(&mut self) -> Fate {
        match self.below(200) {
            n if n < self.losses => Fate::Lost,
            n if n < 2 * self.losses => Fate::Unheard,
            _ => Fate::Arrives,
        }
    }

    pub(crate) fn loses_look(&mut self) -> bool {
        self.looks && self.fate() != Fate::Arrives
    }
}
