//! A list of vendors with a lookup that does not grow with its length.
//!
//! Not here: what a vendor is, when one covers another and when one looks like another (`vendor`);
//! the indexes only find the few entries worth asking.

use std::collections::HashMap;

use crate::domain::vendor::{Vendor, VendorKind};

/// The entries of an allowlist or blocklist.
#[derive(Clone, Debug)]
pub struct VendorList {
    by_name: HashMap<String, Vendor>,
    by_skeleton: HashMap<String, Vec<Vendor>>,
}

impl VendorList {
    /// Indexes the entries.
    #[must_use]
    pub fn new(entries: Vec<Vendor>) -> Self {
        let mut by_skeleton = HashMap::<String, Vec<Vendor>>::new();
        for entry in &entries {
            by_skeleton.entry(entry.skeleton()).or_default().push(entry.clone());
        }
        let name = |entry: Vendor| (entry.canonical().to_owned(), entry);
        Self { by_name: entries.into_iter().map(name).collect(), by_skeleton }
    }

    /// Whether an entry covers the vendor: itself, or a parent domain at a label boundary.
    #[must_use]
    pub fn covers(&self, vendor: &Vendor) -> bool {
        self_and_parents(vendor.canonical(), vendor.kind())
            .any(|name| self.by_name.get(name).is_some_and(|entry| entry.covers(vendor)))
    }

    /// Whether the vendor looks like an entry (or a subdomain of one) without being covered by any.
    #[must_use]
    pub fn imitated_by(&self, vendor: &Vendor) -> bool {
        !self.covers(vendor) && self.any_of_its_looks(vendor, |entry| vendor.imitates(entry))
    }

    /// Whether the vendor is written to pass for an entry (or a subdomain of one) without being
    /// covered by any.
    #[must_use]
    pub fn disguised_as(&self, vendor: &Vendor) -> bool {
        !self.covers(vendor) && self.any_of_its_looks(vendor, |entry| vendor.passes_for(entry))
    }

    fn any_of_its_looks(&self, vendor: &Vendor, is_one: impl Fn(&Vendor) -> bool) -> bool {
        let skeleton = vendor.skeleton();
        self_and_parents(&skeleton, vendor.kind())
            .filter_map(|name| self.by_skeleton.get(name))
            .flatten()
            .any(is_one)
    }
}

fn self_and_parents(name: &str, kind: VendorKind) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), move |name| match kind {
        VendorKind::Host => name.split_once('.').map(|(_, parent)| parent),
        VendorKind::Name => None,
    })
}
