//! What becomes of calls on their way, and how long they take: the same for the same seed.

use std::time::Duration;

/// A network that loses calls.
#[derive(Debug, Clone, Default)]
pub struct Weather {
    seed: u64,
    /// Of a hundred calls so many are lost.
    losses: u64,
    /// Looks are lost, too.
    looks: bool,
    /// How long calls take.
    pace: Pace,
}

/// How long calls take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pace {
    /// No time at all.
    #[default]
    None,
    /// Seconds at most. What is lost may be so in silence, and what nobody hears the end of may go on for hours.
    Swift,
    /// The same, and a call in fifty takes hours, an API server has its bad minutes.
    Slow,
}

/// What becomes of a call on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Arrives,
    /// Nothing arrives.
    Lost,
    /// It arrives, and its answer does not.
    Unheard,
    /// It arrives, and is at work for so long, while nobody hears of it any more.
    GoesOn(Duration),
}

/// One call on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Journey {
    pub(crate) fate: Fate,
    /// How long it takes to arrive.
    pub(crate) takes: Duration,
    /// A connection that is lost is silent, instead of being reset.
    pub(crate) silent: bool,
}

impl Weather {
    /// `losses`: of a hundred changes so many are lost on the way, and as many answers; of looks only where `looks` says so.
    pub fn new(seed: u64, losses: u64, looks: bool) -> Self {
        Self { seed, losses, looks, pace: Pace::None }
    }

    /// The same, and calls take their time.
    pub fn at_a_pace(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// The next number below `end` (SplitMix64).
    pub fn below(&mut self, end: u64) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn fate(&mut self) -> Fate {
        match self.below(200) {
            n if n < self.losses => Fate::Lost,
            n if n < 2 * self.losses && self.pace != Pace::None && self.below(2) == 0 => Fate::GoesOn(self.hours()),
            n if n < 2 * self.losses => Fate::Unheard,
            _ => Fate::Arrives,
        }
    }

    /// Up to three hours: longer than most steps may take.
    fn hours(&mut self) -> Duration {
        Duration::from_millis(self.below(3 * 60 * 60 * 1000))
    }

    pub(crate) fn of_change(&mut self) -> Journey {
        let fate = self.fate();
        let takes = match self.pace {
            Pace::None => Duration::ZERO,
            Pace::Swift | Pace::Slow => Duration::from_millis(self.below(2000)),
        };
        let takes = if self.pace == Pace::Slow && self.below(50) == 0 { self.hours() } else { takes };
        Journey { fate, takes, silent: self.pace != Pace::None && self.below(2) == 0 }
    }

    pub(crate) fn of_look(&mut self) -> Journey {
        let (losses, pace) = (self.losses, self.pace);
        if !self.looks {
            self.losses = 0;
            // An answer that comes too late is a look that failed.
            self.pace = if pace == Pace::Slow { Pace::Swift } else { pace };
        }
        let journey = self.of_change();
        (self.losses, self.pace) = (losses, pace);
        journey
    }

    /// The HTTP status with which an API server refuses everything from now on, and for how long.
    pub(crate) fn outage(&mut self) -> Option<(u16, Duration)> {
        if self.pace != Pace::Slow || !self.looks || self.below(60) > 0 {
            return None;
        }
        let code = [429, 500, 503][usize::try_from(self.below(3)).unwrap_or_default()];
        Some((code, Duration::from_millis(self.below(20 * 60 * 1000))))
    }
}
