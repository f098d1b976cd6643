//! How many spends are being decided at once: what everything that can wait gives way to.
//!
//! Not here: who gives way, and how far (`webhook::pace`).

use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts; it decides nothing, so nothing is ordered by it.
#[derive(Debug, Default)]
pub(super) struct Load {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// One that is being decided, until this is dropped.
pub(super) struct Deciding<'a>(&'a AtomicUsize);

impl Load {
    pub(super) fn enter(&self) -> Deciding<'_> {
        let now = self.now.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        // Nearly always there were more before: a read disturbs nobody.
        if now > self.most.load(Ordering::Relaxed) {
            self.most.fetch_max(now, Ordering::Relaxed);
        }
        Deciding(&self.now)
    }

    /// The most at once since this was last asked.
    pub(super) fn take_most(&self) -> usize {
        self.most.swap(self.now.load(Ordering::Relaxed), Ordering::Relaxed)
    }
}

impl Drop for Deciding<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_at_once_is_told_once() {
        let load = Load::default();
        assert_eq!(load.take_most(), 0);
        let first = load.enter();
        drop((load.enter(), load.enter()));
        assert_eq!(load.take_most(), 3);
        assert_eq!(load.take_most(), 1, "one still is");
        drop(first);
        assert_eq!((load.take_most(), load.take_most()), (1, 0));
    }
}
