//! Mandates whose validity has ended: written down as over, once, by nobody but the clock.
//!
//! No decision waits for it: the end of validity is tested with the rules. It is written down so
//! that others are told. Not here: what ends with a mandate (`domain::mandate`).

use jiff::SignedDuration;

use super::{Engine, EngineError, EngineResult};
use crate::domain::actor::Actor;
use crate::domain::mandate::MandateStatus;
use crate::store::{Author, Change};

/// The most that one look writes down.
const AT_ONCE: u32 = 100;

impl Engine {
    /// Writes down mandates that are over; called now and then. Of several servers one does it.
    ///
    /// # Errors
    /// When a store fails.
    pub async fn expire_mandates(&self) -> EngineResult<()> {
        let now = self.clock.now();
        // Parts of a second do not sort: what ends in this one is looked at again.
        let soon = now.checked_add(SignedDuration::from_secs(1)).unwrap_or(now);
        for before in self.catalogue.mandates_over(soon, AT_ONCE).await? {
            if before.status_at(now) != MandateStatus::Expired {
                continue;
            }
            let mut after = self.next_version(&before, now);
            after.status = MandateStatus::Expired;
            let changes = vec![Change::ReplaceMandate(after, before.version)];
            let author = Author { actor: Actor::System, at: now };
            match self.catalogue.commit(changes, None, author).await {
                Ok(()) => {}
                // Somebody else has changed it, or written the same.
                Err(error) if EngineError::from_conflict(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
