//! Pages by limit and offset, for clients that know no cursors.
//!
//! Transactions skip in the database. The other lists are short and have only a cursor, so an
//! offset walks along it. Not here: any list.

use super::failure::Failure;
use super::query::Query;
use crate::proto::v1;

/// The most items of a page, and how many a short list shows if it is not asked.
pub(super) const LIMIT_MAX: i32 = 200;
/// How many transactions are shown if it is not asked.
pub(super) const LIMIT_DEFAULT: i32 = 50;
/// The furthest offset; beyond it a cursor (`pageToken`) is the way.
pub(super) const OFFSET_MAX: i32 = 10_000;

/// Which part of a list is wanted.
#[derive(Debug)]
pub(super) struct Window {
    /// How many items.
    pub(super) limit: i32,
    /// How many to leave out first.
    pub(super) offset: i32,
    /// Where to go on.
    pub(super) token: String,
}

impl Window {
    /// Reads `limit`, `offset` and `pageToken`.
    pub(super) fn read(query: &mut Query, limit_default: i32) -> Self {
        let limit = query.whole("limit", 1..=LIMIT_MAX);
        let offset = query.whole("offset", 0..=OFFSET_MAX);
        Self {
            limit: limit.unwrap_or(limit_default),
            offset: offset.unwrap_or_default(),
            token: query.text("pageToken"),
        }
    }
}

/// The items of a page and the cursor of the next; the cursor is empty on the last page.
pub(super) type Page<T> = (Vec<T>, String);

/// The page after `offset` items, where `fetch` can only follow a cursor.
pub(super) async fn walk<T, F, P>(window: Window, mut fetch: F) -> Result<Page<T>, Failure>
where
    F: FnMut(v1::PageRequest) -> P,
    P: Future<Output = Result<Page<T>, Failure>>,
{
    let mut page_token = window.token;
    let mut left = window.offset;
    while left > 0 {
        let page_size = left.min(LIMIT_MAX);
        let (items, next) = fetch(v1::PageRequest { page_size, page_token }).await?;
        let skipped = i32::try_from(items.len()).unwrap_or(i32::MAX);
        if next.is_empty() || skipped == 0 {
            return Ok((Vec::new(), String::new()));
        }
        left = left.saturating_sub(skipped);
        page_token = next;
    }
    let page_size = window.limit;
    fetch(v1::PageRequest { page_size, page_token }).await
}
