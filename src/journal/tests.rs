//! Tests of composing entries: their chain, their order, and marks that are reached once.

use super::*;
use crate::domain::hold::Holds;
use crate::domain::id::AgentId;
use crate::domain::money::Currency;
use crate::domain::period::Period;

fn org() -> OrgId {
    OrgId::from_bytes([1; 16])
}

fn budget(total: i64) -> Budget {
    let currency = Currency::parse("USD").unwrap();
    Budget {
        total,
        per_transaction: total,
        currency,
        reset: Period::Daily,
        holds: Holds::default(),
    }
}

/// A decision after which so much is spent.
fn spend(seq: i64, version: i64, spent: i64) -> NewSpend {
    let at = jiff::Timestamp::from_microsecond(seq).unwrap();
    let mandate = MandateId::from_bytes([2; 16]);
    let agent = AgentId::from_bytes([3; 16]);
    let reached = Reached { mandate, version, agent, spent, held: 0, at };
    NewSpend {
        seq,
        org: org(),
        at: seq,
        verdict: Verdict::Approved,
        digest: [u8::try_from(seq).unwrap(); 32],
        reached: Some((reached, Arc::from("UTC"))),
    }
}

fn act(seq: i64, after_spend: i64) -> NewAct {
    let kind = "agent.updated".to_owned();
    NewAct { seq, org: org(), after_spend, at: seq, kind, digest: [9; 32] }
}

fn news(spends: Vec<NewSpend>, acts: Vec<NewAct>) -> News {
    News { spends, acts, more_spends: false, more_acts: false }
}

fn scribe() -> Scribe {
    let mut scribe = Scribe::default();
    for (version, total) in [(1, 100), (2, 200)] {
        scribe.learn(MandateId::from_bytes([2; 16]), version, budget(total));
    }
    scribe
}

fn kinds(composed: &Composed) -> Vec<&str> {
    composed.rows.iter().map(|row| row.kind.as_ref()).collect()
}

fn marks(rows: &[Row]) -> HashSet<Mark> {
    rows.iter().filter_map(|row| row.mark).collect()
}

#[test]
fn a_mark_is_told_once_for_a_limit_and_again_under_another() {
    let (scribe, ends) = (scribe(), HashMap::new());
    let spends = vec![
        spend(1, 1, 79),
        spend(2, 1, 80),
        spend(3, 1, 99),
        spend(4, 1, 100),
        spend(5, 1, 100),
        spend(6, 2, 159),
        spend(7, 2, 200),
    ];
    let composed = scribe.compose(&news(spends, Vec::new()), ends, HashSet::new()).unwrap();
    let (approved, warning, exhausted) =
        ("transaction.approved", "mandate.budget.warning", "mandate.budget.exhausted");
    assert_eq!(
        kinds(&composed),
        [
            approved, approved, warning, approved, approved, exhausted, approved, approved,
            approved, warning, exhausted,
        ]
    );
    let reached = marks(&composed.rows);
    assert_eq!(reached.len(), 4);
    let later = news(vec![spend(8, 1, 100), spend(9, 2, 200)], Vec::new());
    let composed = scribe.compose(&later, composed.ends, reached).unwrap();
    assert_eq!(kinds(&composed), [approved, approved]);
}

#[test]
fn a_jump_over_both_marks_tells_both_in_order() {
    let composed =
        scribe().compose(&news(vec![spend(1, 1, 100)], Vec::new()), HashMap::new(), HashSet::new());
    let composed = composed.unwrap();
    let last = ["mandate.budget.warning", "mandate.budget.exhausted"];
    assert_eq!(kinds(&composed).split_off(1), last);
    assert!(composed.rows[1].body.as_ref().unwrap().contains("\"percent\":80"));
}

#[test]
fn numbers_are_dense_and_the_chain_is_the_same_in_parts_and_at_once() {
    let scribe = scribe();
    let spends = || (1..=6).map(|seq| spend(seq, 1, seq * 15)).collect::<Vec<_>>();
    let acts = || vec![act(1, 0), act(2, 3), act(3, 3), act(4, 6)];
    let whole = scribe.compose(&news(spends(), acts()), HashMap::new(), HashSet::new()).unwrap();
    let seqs = whole.rows.iter().map(|row| row.seq).collect::<Vec<_>>();
    assert_eq!(seqs, (1..=11).collect::<Vec<_>>());
    let (mut ends, mut reached, mut rows) = (HashMap::new(), HashSet::new(), Vec::new());
    let mut position = Position { spend: 0, act: 0 };
    while rows.len() < whole.rows.len() {
        let left = |seq: i64, after: i64, limit: i64| seq > after && seq <= after + limit;
        let Position { spend, act } = position;
        let part = News {
            spends: spends().into_iter().filter(|one| left(one.seq, spend, 2)).collect(),
            acts: acts().into_iter().filter(|one| left(one.seq, act, 1)).collect(),
            more_spends: spend + 2 < 6,
            more_acts: act + 1 < 4,
        };
        let composed = scribe.compose(&part, ends, reached.clone()).unwrap();
        assert!(!composed.rows.is_empty());
        position = position.after(&composed.rows);
        reached.extend(marks(&composed.rows));
        ends = composed.ends;
        rows.extend(composed.rows);
    }
    let chain = |rows: &[Row]| rows.iter().map(|row| (row.seq, row.chain)).collect::<Vec<_>>();
    assert_eq!(chain(&rows), chain(&whole.rows));
}

#[test]
fn a_part_ends_behind_what_follows_from_its_last_decision() {
    let spends = vec![spend(1, 1, 10), spend(2, 1, 100), spend(3, 1, 100)];
    let whole =
        scribe().compose(&news(spends, vec![act(1, 3)]), HashMap::new(), HashSet::new()).unwrap();
    let lengths = |wanted| {
        let (mut lengths, mut rest) = (Vec::new(), whole.rows.as_slice());
        while !rest.is_empty() {
            let part;
            (part, rest) = part_of(rest, wanted);
            lengths.push(part.len());
        }
        lengths
    };
    assert_eq!(lengths(1), [1, 3, 1, 1]);
    assert_eq!(lengths(2), [4, 2]);
    assert_eq!(lengths(9), [6]);
    let (first, rest) = part_of(&whole.rows, 2);
    let middle = Position { spend: 0, act: 0 }.after(first);
    assert_eq!(middle, Position { spend: 2, act: 0 });
    assert_eq!(middle.after(rest), Position { spend: 3, act: 1 });
}
