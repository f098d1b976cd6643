//! How many attempts may begin while a server has all hands full with decisions.
//!
//! A server at ease makes attempts as fast as receivers take them. While very many spends are being
//! decided at once, a few attempts begin in each moment and the rest wait: fewer than could be
//! made, never none. Not here: how many an endpoint gets (`lane`).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many spends at once mean that decisions wait for each other. A server that keeps up has a
/// handful at once.
const BUSY: usize = 32;

/// How long what was seen counts.
const MOMENT: Duration = Duration::from_millis(20);

/// Attempts that may begin in a moment of a busy server: 250 in a second.
const ATTEMPTS_WHILE_BUSY: u32 = 5;

/// How many attempts a lane may begin now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    /// As many as it has.
    Any,
    /// One; then it is the turn of others.
    One,
    /// None for now.
    None,
}

/// Counts the attempts of all lanes.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<Option<State>>);

#[derive(Debug)]
struct State {
    until: Instant,
    /// Attempts that may still begin; as many as can if it does not say.
    left: Option<u32>,
}

impl Pace {
    /// How many attempts may begin, by the most spends that were being decided at once since
    /// that was last asked.
    pub(super) fn allows(&self, now: Instant, most_deciding: impl Fn() -> usize) -> Allowed {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = match &mut *state {
            Some(state) if now < state.until => state,
            over => {
                let left = (most_deciding() >= BUSY).then_some(ATTEMPTS_WHILE_BUSY);
                over.insert(State { until: now.checked_add(MOMENT).unwrap_or(now), left })
            }
        };
        match &mut state.left {
            None => Allowed::Any,
            Some(0) => Allowed::None,
            Some(left) => {
                *left = left.saturating_sub(1);
                Allowed::One
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_server_makes_few_attempts_and_an_idle_one_any_number() {
        let pace = Pace::default();
        let mut now = Instant::now();
        let allowed = |now, deciding| {
            let asked = (0..1_000).map(|_| pace.allows(now, || deciding));
            asked.filter(|allowed| *allowed != Allowed::None).count()
        };
        assert_eq!(allowed(now, 0), 1_000);
        assert_eq!(allowed(now, 64), 1_000, "it was idle at the beginning of this moment");
        for _ in 0..50 {
            now += MOMENT;
            assert_eq!(allowed(now, 64), 5, "few, and never none");
        }
        now += MOMENT;
        assert_eq!(allowed(now, 31), 1_000);
    }
}
