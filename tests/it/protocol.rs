//! The protocol of the Redis ledger, proved by looking at every state it can reach within bounds.
//!
//! So far the two first models of it, whose numbers of states are known. Not here: any code of a
//! ledger.

mod rebuild;
mod search;
mod slices;

use self::rebuild::Rebuild;
use self::search::explore;
use self::slices::{Flaw as SliceFlaw, Slices};
use crate::dice::setting;

fn wide() -> bool {
    setting("QUETRA_PROTOCOL_BOUNDS", 1) > 1
}

fn most() -> usize {
    usize::try_from(setting("QUETRA_PROTOCOL_STATES", 20_000_000)).unwrap()
}

#[test]
fn the_first_model_has_the_states_it_is_known_to_have() {
    let slices = |flaw, grants| Slices { limit: 2, epochs: 2, grants, flaw };
    let mut known = vec![
        (slices(None, 3), 86_152, None),
        (slices(Some(SliceFlaw::RestartKeepsEpoch), 3), 895, Some(7)),
        (slices(Some(SliceFlaw::TakeoverKeepsSlice), 3), 7_864, Some(9)),
        (slices(Some(SliceFlaw::TakeoverReclaimsLeases), 3), 35_302, Some(11)),
        (slices(Some(SliceFlaw::ReleaseAfterLoss), 5), 63_971, Some(12)),
        (slices(Some(SliceFlaw::ReleaseBeforeDrain), 5), 59_868, Some(12)),
    ];
    if wide() {
        known.push((slices(None, 5), 170_647, None));
        known.push((Slices { limit: 3, ..slices(None, 4) }, 1_106_928, None));
    }
    for (model, states, steps) in known {
        let report = explore(&model, most());
        let story = report.story();
        let found = (report.states, report.broken.map(|(_, way)| way.len()));
        assert_eq!(found, (states, steps), "{model:?}: {story}");
    }
}

#[test]
fn the_second_model_has_the_states_it_is_known_to_have() {
    let rebuild = |fenced, strict| Rebuild { limit: 2, epochs: 2, spends: 4, fenced, strict };
    let known = [
        (rebuild(true, true), 93_723, None),
        (rebuild(false, true), 7_528, Some(8)),
        (rebuild(true, false), 302, Some(5)),
    ];
    for (model, states, steps) in known {
        let report = explore(&model, most());
        let story = report.story();
        let found = (report.states, report.broken.map(|(_, way)| way.len()));
        assert_eq!(found, (states, steps), "{model:?}: {story}");
    }
}
