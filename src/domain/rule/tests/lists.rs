//! The indexes of a vendor list find exactly what asking every entry finds.
//!
//! Not here: when one vendor covers or imitates another (`vendor`).

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::domain::samples::{VENDORS, config};

fn vendor(text: &str) -> Vendor {
    Vendor::parse(text).unwrap()
}

fn hosts() -> impl Strategy<Value = Vendor> {
    let label = "[a-z]{1,3}";
    let suffix = select(vec!["openai.com", "co.uk", "vercel.app", "s3.amazonaws.com", "example"]);
    (prop::collection::vec(label, 1..4), suffix)
        .prop_map(|(labels, suffix)| vendor(&format!("{}.{suffix}", labels.join("."))))
}

fn vendors() -> impl Strategy<Value = Vendor> {
    prop_oneof![select(VENDORS.to_vec()).prop_map(vendor), hosts()]
}

/// The same name with one letter that only looks the same, if it has one that can.
fn disguised(name: &str) -> Option<Vendor> {
    let (latin, cyrillic) = [('o', 'о'), ('a', 'а'), ('e', 'е'), ('c', 'с')]
        .into_iter()
        .find(|(latin, _)| name.split('.').next().is_some_and(|label| label.contains(*latin)))?;
    Vendor::parse(&name.replacen(latin, &cyrillic.to_string(), 1)).ok()
}

#[test]
fn an_entry_listed_twice_in_other_spellings_counts_once() {
    let spellings = ["OpenAI.com", "https://openai.com/", "openai.com."].map(vendor);
    let list = VendorList::new(spellings.to_vec());
    assert!(list.covers(&vendor("api.openai.com")));
    assert!(!list.covers(&vendor("openai.org")));
    assert!(list.imitated_by(&vendor("оpenai.com")));
}

#[test]
fn a_parent_that_was_listed_does_not_hide_a_tenant() {
    let list = VendorList::new(vec![vendor("vercel.app"), vendor("shop.vercel.app")]);
    assert!(list.covers(&vendor("vercel.app")));
    assert!(list.covers(&vendor("www.shop.vercel.app")));
    assert!(!list.covers(&vendor("evil.vercel.app")));
    assert!(!list.imitated_by(&vendor("evil.vercel.app")), "an honest tenant is no look-alike");
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_list_covers_what_one_of_its_entries_covers(
        entries in prop::collection::vec(vendors(), 1..12), asked in vendors(),
    ) {
        let list = VendorList::new(entries.clone());
        let expected = entries.iter().any(|entry| entry.covers(&asked));
        prop_assert_eq!(list.covers(&asked), expected);
        if list.imitated_by(&asked) {
            prop_assert!(!expected);
            prop_assert!(entries.iter().any(|entry| asked.imitates(entry)));
        }
    }

    #[test]
    fn a_disguise_of_an_entry_or_of_its_subdomain_is_found(
        entries in subsequence(VENDORS.to_vec(), 1..10), which: prop::sample::Index,
        below in prop::option::of("[b-df-hj-np-z]{1,4}"),
    ) {
        let entry = vendor(entries[which.index(entries.len())]);
        let Some(disguised) = disguised(entry.canonical()) else { return Ok(()) };
        let asked = match below {
            // Below its own domain an owner may call hosts what it likes.
            Some(label) if entry.registrable() == Some(entry.canonical()) => {
                vendor(&format!("{label}.{}", disguised.canonical()))
            }
            Some(_) | None => disguised,
        };
        let list = VendorList::new(entries.iter().copied().map(vendor).collect());
        prop_assert!(list.imitated_by(&asked) || list.covers(&asked), "{asked:?}");
    }
}
