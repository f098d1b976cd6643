//! Whether this server can decide: its store answers a read, and took what was last written.
//!
//! A write that fails is noted where it fails. Whether writing works again is tried now and then:
//! nobody may be sent here meanwhile who would find out. Not here: how it is told (`app`).

use std::sync::atomic::{AtomicBool, Ordering};

use super::Engine;
use crate::domain::ledger::Decided;
use crate::ledger::LedgerError;
use crate::store::{StoreError, StoreErrorKind};

/// Why a server cannot decide.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// The store does not answer a read.
    #[error("the database does not answer")]
    Unread(#[source] StoreError),
    /// The store did not take the last write.
    #[error("the database takes no writes: its disk may be full, or it is read-only")]
    Unwritten,
}

/// Whether writing works.
#[derive(Debug)]
pub(super) struct Writes {
    /// The last write failed.
    failed: AtomicBool,
    /// It may have, or it was the other one of two stores.
    suspected: AtomicBool,
    has_two_stores: bool,
}

impl Writes {
    pub(super) const fn new(has_two_stores: bool) -> Self {
        let (failed, suspected) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { failed, suspected, has_two_stores }
    }

    /// Notes what came of a write of the catalogue.
    pub(super) fn note(&self, written: Result<(), &StoreError>) {
        match written.map_err(|error| error.kind) {
            Ok(()) => {
                set(&self.failed, false);
                set(&self.suspected, false);
            }
            Err(StoreErrorKind::Unavailable | StoreErrorKind::Timeout) => {
                set(if self.has_two_stores { &self.suspected } else { &self.failed }, true);
            }
            // Written or not, the store has answered.
            Err(StoreErrorKind::Conflict | StoreErrorKind::Corrupt) => {}
        }
    }

    /// Notes what came of a decision, if anything had to be written for it.
    pub(super) fn note_decided(&self, decided: &Result<Decided, LedgerError>) {
        match decided {
            // What one of two stores has taken says nothing of the other.
            Ok(Decided::Ruled(_)) if !self.has_two_stores => self.note(Ok(())),
            Err(LedgerError::Store(error)) => self.note(Err(error)),
            Ok(_) | Err(_) => {}
        }
    }

    /// Notes what came of a trial.
    fn note_trial(&self, tried: &Result<(), StoreError>) {
        set(&self.suspected, false);
        set(&self.failed, tried.is_err());
    }

    fn may_have_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.suspected.load(Ordering::Relaxed)
    }
}

/// Every decision comes by: a flag that stands so already is left alone.
fn set(flag: &AtomicBool, value: bool) {
    if flag.load(Ordering::Relaxed) != value {
        flag.store(value, Ordering::Relaxed);
    }
}

impl Engine {
    /// Whether it can decide.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn ready(&self) -> Result<(), NotReady> {
        self.catalogue.orgs().await.map_err(NotReady::Unread)?;
        if self.writes.failed.load(Ordering::Relaxed) { Err(NotReady::Unwritten) } else { Ok(()) }
    }

    /// Tries whether writing works, if a write has failed since it last did.
    ///
    /// # Errors
    /// When it does not.
    pub async fn try_writing(&self) -> Result<(), StoreError> {
        if !self.writes.may_have_failed() {
            return Ok(());
        }
        let orgs = self.catalogue.orgs().await?;
        let Some(org) = orgs.first() else { return Ok(()) };
        let tried = self.catalogue.try_writing(org.id).await;
        self.writes.note_trial(&tried);
        tried
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(kind: StoreErrorKind) -> StoreError {
        StoreError::new(kind, "write", "no space left")
    }

    #[test]
    fn a_failed_write_counts_until_one_succeeds() {
        let writes = Writes::new(false);
        let has_failed = || writes.failed.load(Ordering::Relaxed);
        for kind in [StoreErrorKind::Conflict, StoreErrorKind::Corrupt] {
            writes.note(Err(&failed(kind)));
            assert!(!has_failed(), "{kind:?}");
        }
        for kind in [StoreErrorKind::Unavailable, StoreErrorKind::Timeout] {
            writes.note_decided(&Err(LedgerError::Store(failed(kind))));
            assert!(has_failed(), "{kind:?}");
            writes.note_decided(&Ok(Decided::Stale));
            assert!(has_failed(), "nothing was written");
            writes.note(Ok(()));
            assert!(!has_failed() && !writes.may_have_failed());
        }
    }

    #[test]
    fn of_two_stores_a_trial_tells_which() {
        let writes = Writes::new(true);
        let unavailable = failed(StoreErrorKind::Unavailable);
        writes.note(Err(&unavailable));
        assert!(writes.may_have_failed() && !writes.failed.load(Ordering::Relaxed));
        writes.note_trial(&Ok(()));
        assert!(!writes.may_have_failed());
        writes.note(Err(&unavailable));
        writes.note_trial(&Err(unavailable));
        assert!(writes.failed.load(Ordering::Relaxed));
        writes.note_trial(&Ok(()));
        assert!(!writes.may_have_failed());
    }
}
