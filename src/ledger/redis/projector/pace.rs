//! When the next batch begins: what nobody waits for is put together with what comes soon.
//!
//! A transaction for each decision would cost Postgres, and the server, many times what deciding
//! costs. Not here: what a batch is (`outbox`), and how it is recorded.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::outbox::Found;

/// How long after one batch the next begins, if nobody waits for it.
const GATHER: Duration = Duration::from_millis(10);

/// The pace of one projector.
pub(super) struct Pace {
    /// Hears when somebody on this server begins to wait for a row.
    awaited: watch::Receiver<()>,
    /// When the last batch began.
    began: Option<Instant>,
    /// Whether somebody, on any server, waited for a row of it.
    was_awaited: bool,
    /// Whether it took so long that others have come anyway.
    was_long: bool,
}

impl Pace {
    pub(super) const fn new(awaited: watch::Receiver<()>) -> Self {
        Self { awaited, began: None, was_awaited: false, was_long: false }
    }

    /// Lets others come before the outboxes are read, unless somebody waits.
    pub(super) async fn gather(&mut self) {
        let pause = self.pause(Instant::now());
        if !pause.is_zero() {
            let _ended_by = timeout(pause, self.awaited.changed()).await;
        }
        // Whoever waits now waits for what is read next.
        self.awaited.mark_unchanged();
    }

    fn pause(&self, now: Instant) -> Duration {
        let began = self.began.filter(|_| !self.was_awaited);
        began.map_or(Duration::ZERO, |began| GATHER.saturating_sub(now.duration_since(began)))
    }

    /// Notes that a batch begins, if something was found.
    pub(super) fn begin(&mut self, found: &[Found], now: Instant) {
        if found.is_empty() {
            return;
        }
        self.began = Some(now);
        self.was_awaited = found.iter().any(|one| one.is_awaited);
    }

    /// Notes that it has ended.
    pub(super) fn end(&mut self, now: Instant) {
        self.was_long = self.began.is_some_and(|began| now.duration_since(began) > GATHER);
    }

    /// Whether to read what comes next while a batch is being recorded: there will be no pause.
    pub(super) const fn reads_on(&self) -> bool {
        self.was_awaited || self.was_long
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::store::{StoreError, StoreErrorKind};

    fn batch(is_awaited: bool) -> [Found; 1] {
        let corrupt = StoreError::new(StoreErrorKind::Corrupt, "read the outbox", "a test");
        [Found { shard: 0, is_awaited, batch: Err(corrupt) }]
    }

    #[test]
    fn what_nobody_waits_for_is_put_together() {
        let (now, brief) = (Instant::now(), Duration::from_millis(4));
        let mut pace = Pace::new(watch::channel(()).1);
        assert_eq!(pace.pause(now), Duration::ZERO, "there was none before");
        pace.begin(&batch(false), now);
        pace.end(now + brief);
        assert_eq!(pace.pause(now + brief), GATHER - brief);
        assert!(!pace.reads_on());
        assert_eq!(pace.pause(now + GATHER), Duration::ZERO, "it was a while ago");
        pace.begin(&[], now + GATHER);
        assert_eq!(pace.pause(now + GATHER), Duration::ZERO, "nothing came");
        pace.begin(&batch(true), now + GATHER);
        assert_eq!(pace.pause(now + GATHER), Duration::ZERO, "somebody waited");
        assert!(pace.reads_on());
    }

    #[test]
    fn a_batch_that_takes_long_is_followed_at_once() {
        let (now, long) = (Instant::now(), GATHER * 2);
        let mut pace = Pace::new(watch::channel(()).1);
        pace.begin(&batch(false), now);
        pace.end(now + long);
        assert!(pace.reads_on());
        assert_eq!(pace.pause(now + long), Duration::ZERO);
    }

    #[tokio::test]
    async fn whoever_begins_to_wait_ends_the_pause() {
        let (sender, awaited) = watch::channel(());
        let mut pace = Pace::new(awaited);
        pace.begin(&batch(false), Instant::now());
        sender.send_replace(());
        pace.gather().await;
        {
            // Whoever was there before is served by what was read since. The pause
            // would take all of its time, as the batch is still to begin.
            pace.begin(&batch(false), Instant::now() + Duration::from_secs(600));
            let mut pausing = pin!(pace.gather());
            assert!(futures::poll!(&mut pausing).is_pending());
            sender.send_replace(());
            assert!(futures::poll!(&mut pausing).is_ready());
        }
    }
}
