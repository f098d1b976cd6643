//! What is left out of a document is there again when it is read.

use proptest::prelude::*;

use super::*;
use crate::domain::decision::Verdict;
use crate::domain::hold::{Followup, Terms};
use crate::domain::id::{AgentId, OrgId, TransactionId};
use crate::domain::ledger::{Subject, Tally};
use crate::domain::money::Currency;
use crate::domain::period::Period;
use crate::domain::samples::config;
use crate::domain::spend::Spend;
use crate::domain::transaction::TransactionState;
use crate::domain::vendor::Vendor;

const MANDATE: MandateId = MandateId::from_bytes([3; 16]);

prop_compose! {
    fn standing()(
        org_version in 1_i64..9,
        frozen: bool,
        agent in prop::sample::select(vec![
            AgentStatus::Active, AgentStatus::Suspended, AgentStatus::Decommissioned,
        ]),
        mandate in prop::option::of((1_i64..9, prop::sample::select(vec![
            MandateStatus::Draft, MandateStatus::Active, MandateStatus::Paused,
            MandateStatus::Revoked, MandateStatus::Expired,
        ]))),
    ) -> Standing {
        let mandate = mandate.map(|(version, status)| MandateStanding {
            id: MANDATE, version, status,
        });
        Standing { org_version, frozen, agent, mandate }
    }
}

prop_compose! {
    fn at()(micros in -1_000_000_000_000_000..4_000_000_000_000_000_i64) -> Timestamp {
        Timestamp::from_microsecond(micros).unwrap()
    }
}

prop_compose! {
    fn evidence()(
        standing in standing(),
        named: bool,
        countries in prop::array::uniform2(prop::option::of("[A-Z]{2}")),
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin"]),
        screened_at in at(),
        levels in prop::collection::vec((0..i64::MAX, 0..i64::MAX), 0..3),
        windows in prop::collection::vec((0..i64::MAX, 0..i64::MAX, prop::option::of(at())), 0..3),
    ) -> Evidence {
        let [vendor_country, caller_country] = countries;
        Evidence {
            standing,
            named,
            observed: Observed { vendor_country, caller_country },
            zone: zone.to_owned(),
            screened_at,
            levels: levels.into_iter().map(|(spent, held)| Level { spent, held }).collect(),
            windows: windows
                .into_iter()
                .map(|(count, sum, oldest)| WindowLevel { count, sum, oldest })
                .collect(),
        }
    }
}

fn record(evidence: Evidence, decided_at: Timestamp, text: &str) -> TransactionRecord {
    let vendor = Vendor::parse("exa.ai").unwrap();
    let subjects = [Subject::Budget, Subject::Vendor(vendor.clone())];
    let key = |subject| CounterKey {
        mandate: MANDATE,
        subject,
        period: Period::Daily,
        starts_at: decided_at,
    };
    let mandate = evidence.standing.mandate.is_some();
    TransactionRecord {
        id: TransactionId::from_bytes([1; 16]),
        org_id: OrgId::from_bytes([2; 16]),
        spend: Spend {
            agent_id: AgentId::from_bytes([4; 16]),
            amount: 7,
            currency: Currency::parse("USD").unwrap(),
            vendor,
            vendor_raw: if text.is_empty() { "exa.ai".to_owned() } else { text.to_owned() },
            category: None,
            description: Some(text.to_owned()).filter(|text| !text.is_empty()),
            protocol: None,
            metadata: BTreeMap::new(),
        },
        idempotency_key: "key".to_owned(),
        request_hash: [5; 16],
        verdict: Verdict::Approved,
        state: TransactionState::Approved,
        evidence,
        charged: subjects.into_iter().filter(|_| mandate).map(key).collect(),
        tally_before: Tally::default(),
        terms: Terms::default(),
        due_at: None,
        followup: Followup::default(),
        settled: None,
        refunded: None,
        decided_at,
        updated_at: decided_at,
        took_micros: 9,
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_document_and_its_columns_are_the_whole_evidence(
        evidence in evidence(),
        decided_at in at(),
        text in ".{0,12}",
    ) {
        let record = record(evidence, decided_at, &text);
        let stored = serde_json::to_string(&Document::of(&record)).unwrap();
        let read: Document<'_> = serde_json::from_str(&stored).unwrap();
        let mandate = record.mandate().map(|(id, _)| id);
        prop_assert_eq!(read.evidence(mandate, decided_at).unwrap(), record.evidence);
        prop_assert_eq!(read.charged(mandate).unwrap(), record.charged);
        prop_assert_eq!(read.description.as_deref(), record.spend.description.as_deref());
        let raw = read.vendor_raw.as_deref().unwrap_or("exa.ai");
        prop_assert_eq!(raw, record.spend.vendor_raw.as_str());
        prop_assert_eq!(read.took, record.took_micros);
    }
}

#[test]
fn a_document_whose_column_has_another_mandate_is_refused() {
    let stored = r#"{"org":1,"zone":"UTC","screened":0,"took":1}"#;
    let read: Document<'_> = serde_json::from_str(stored).unwrap();
    assert!(read.evidence(Some(MANDATE), Timestamp::UNIX_EPOCH).is_err());
    assert_eq!(read.evidence(None, Timestamp::UNIX_EPOCH).unwrap().standing.agent, active_agent());
}
