//! The record of decisions is in parts by time: finding a row whose id is known, and a part of its
//! own for each year to come.
//!
//! Which parts there are, and that an id is of one decision in all of them, is the schema's
//! (`migrations/0016` and later). Not here: what reads by time or by mandate, which looks into the
//! parts that its statement leaves (`lists`, `ledger::sql`).

use super::{PostgresStore, failed};
use crate::store::StoreError;
use crate::store::sql::spends::COLUMNS;

const PART: &str = "SELECT part_record()";

/// The rows of decisions at places: rows of `spend_by_id` that a query answers with. Each is looked
/// for in one part.
pub(crate) fn rows_at(places: &str) -> String {
    format!(
        "SELECT found.* FROM ({places}) place CROSS JOIN LATERAL (
            SELECT {COLUMNS} FROM spend WHERE (spend.org_id, spend.seq, spend.decided_at)
                = (place.org_id, place.seq, place.decided_at)) found"
    )
}

impl PostgresStore {
    /// Makes a part for the next year where it is near and there is none, with what is recorded of
    /// it already; whether there is one. There is none where that is too much.
    ///
    /// # Errors
    /// When the store fails, or the table is in use for longer than a decision takes.
    pub async fn part_record(&self) -> Result<bool, StoreError> {
        let parted = sqlx::query_scalar(PART).fetch_one(&self.pool).await;
        parted.map_err(failed("make a part of the record"))
    }
}
