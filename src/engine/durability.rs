//! Levels of durability that somebody asks for and that cannot be kept: refused before they count.
//!
//! Not here: which level a decision is owed (`domain::durability`), and how one is kept (`ledger`).

use super::{Engine, EngineError, EngineResult};
use crate::domain::durability::Durability;

impl Engine {
    /// Refuses what is asked for and cannot be kept.
    pub(super) async fn refuse_unkept(&self, asked: Option<Durability>) -> EngineResult<()> {
        match asked {
            None => Ok(()),
            Some(level) => self.ledger.keeps(level).await?.map_err(EngineError::NotKept),
        }
    }

    /// Whether everything is kept that mandates in force and floors ask for; asked once at start.
    ///
    /// # Errors
    /// When it is not, or a store fails.
    pub async fn check_durability(&self) -> EngineResult<()> {
        let floors = self.catalogue.orgs().await?.into_iter().map(|org| org.durability_floor);
        let mut asked = floors.flatten().collect::<std::collections::BTreeSet<_>>();
        asked.extend(self.catalogue.durabilities().await?);
        for level in asked {
            self.refuse_unkept(Some(level)).await?;
        }
        Ok(())
    }
}
