//! Page tokens: opaque, bound to one organization and one query, impossible to make up.
//!
//! Not here: what the position in a list means; that is the store's.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{EngineError, EngineResult};
use crate::crypto::{MasterKey, digest, equal, keyed_digest};
use crate::domain::id::OrgId;
use crate::store::Page;

/// Items on a page when nothing is said.
pub const PAGE_SIZE_DEFAULT: u32 = 50;

/// The most items on a page; more is cut to it.
pub const PAGE_SIZE_MAX: u32 = 200;

const TAG_LENGTH: usize = 16;

/// Makes and checks page tokens.
#[derive(Debug)]
pub struct PageTokens {
    key: PageKey,
}

struct PageKey([u8; 32]);

impl std::fmt::Debug for PageKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PageKey(…)")
    }
}

/// What a caller says about the page it wants.
#[derive(Clone, Debug, Default)]
pub struct PageAsk {
    /// How many; 0 means the default.
    pub size: u32,
    /// The token of the page before; empty for the first.
    pub token: String,
}

impl PageAsk {
    /// How many items to return.
    #[must_use]
    pub fn size(&self) -> u32 {
        if self.size == 0 { PAGE_SIZE_DEFAULT } else { self.size.min(PAGE_SIZE_MAX) }
    }
}

/// A page and the token of the next one.
#[derive(Clone, Debug)]
pub struct Paged<T> {
    /// The items.
    pub items: Vec<T>,
    /// Empty on the last page.
    pub next: String,
}

impl PageTokens {
    pub(super) fn new(master: &MasterKey) -> Self {
        Self { key: PageKey(master.derive("page tokens v1")) }
    }

    /// The page to read: one item more than asked for tells whether there is another page.
    pub(super) fn open(&self, org: OrgId, query: &str, ask: &PageAsk) -> EngineResult<Page> {
        let limit = ask.size().saturating_add(1);
        if ask.token.is_empty() {
            return Ok(Page { after: None, limit });
        }
        let bytes = URL_SAFE_NO_PAD.decode(&ask.token).map_err(|_| EngineError::PageToken)?;
        let (tag, position) =
            bytes.split_first_chunk::<TAG_LENGTH>().ok_or(EngineError::PageToken)?;
        if !equal(tag, &self.tag(org, query, position)) {
            return Err(EngineError::PageToken);
        }
        let after = String::from_utf8(position.to_vec()).map_err(|_| EngineError::PageToken)?;
        Ok(Page { after: Some(after), limit })
    }

    /// Cuts the surplus item off and says where the next page begins.
    pub(super) fn close<T>(
        &self,
        org: OrgId,
        query: &str,
        ask: &PageAsk,
        (mut items, position): (Vec<T>, impl Fn(&T) -> String),
    ) -> Paged<T> {
        let size = usize::try_from(ask.size()).unwrap_or(usize::MAX);
        if items.len() <= size {
            return Paged { items, next: String::new() };
        }
        items.truncate(size);
        let next = items.last().map_or_else(String::new, |last| {
            let position = position(last);
            let mut bytes = self.tag(org, query, position.as_bytes()).to_vec();
            bytes.extend_from_slice(position.as_bytes());
            URL_SAFE_NO_PAD.encode(bytes)
        });
        Paged { items, next }
    }

    /// A token of a position in something that is read on and on.
    pub(super) fn seal(&self, org: OrgId, query: &str, position: i64) -> String {
        let position = position.to_be_bytes();
        let mut bytes = self.tag(org, query, &position).to_vec();
        bytes.extend_from_slice(&position);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The position that [`Self::seal`] made a token of, for the same organization and query.
    pub(super) fn unseal(&self, org: OrgId, query: &str, token: &str) -> EngineResult<i64> {
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| EngineError::PageToken)?;
        let (tag, position) =
            bytes.split_first_chunk::<TAG_LENGTH>().ok_or(EngineError::PageToken)?;
        if !equal(tag, &self.tag(org, query, position)) {
            return Err(EngineError::PageToken);
        }
        let position = position.try_into().map_err(|_| EngineError::PageToken)?;
        Ok(i64::from_be_bytes(position))
    }

    fn tag(&self, org: OrgId, query: &str, position: &[u8]) -> [u8; TAG_LENGTH] {
        let whole =
            keyed_digest(&self.key.0, &digest(&[org.as_bytes(), query.as_bytes(), position]));
        whole.first_chunk().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_works_only_for_its_organization_and_query() {
        let tokens = PageTokens::new(&MasterKey::new([1; 32]));
        let org = OrgId::from_bytes([1; 16]);
        let ask = PageAsk { size: 2, token: String::new() };
        let paged = tokens.close(org, "q", &ask, (vec![1, 2, 3], |n: &i32| n.to_string()));
        assert_eq!(paged.items, [1, 2]);
        let next = PageAsk { size: 2, token: paged.next.clone() };
        let page = tokens.open(org, "q", &next).unwrap();
        assert_eq!(page, Page { after: Some("2".to_owned()), limit: 3 });
        let other = OrgId::from_bytes([2; 16]);
        assert!(matches!(tokens.open(other, "q", &next), Err(EngineError::PageToken)));
        assert!(matches!(tokens.open(org, "r", &next), Err(EngineError::PageToken)));
        for token in ["x", "AAAA", "////", &"A".repeat(400)] {
            let forged = PageAsk { size: 2, token: token.to_owned() };
            assert!(matches!(tokens.open(org, "q", &forged), Err(EngineError::PageToken)));
        }
    }

    #[test]
    fn the_last_page_has_no_token() {
        let tokens = PageTokens::new(&MasterKey::new([1; 32]));
        let org = OrgId::from_bytes([1; 16]);
        let ask = PageAsk { size: 3, token: String::new() };
        let paged = tokens.close(org, "q", &ask, (vec![1, 2, 3], |n: &i32| n.to_string()));
        assert_eq!((paged.items.len(), paged.next.as_str()), (3, ""));
    }
}
