//! The pure rules: what evaluating a mandate of ten rules costs without server, wire or disk.
//!
//! It calls the library directly, in this thread: screen and conclude, with a ruling in between
//! that costs nothing. Not here: anything that needs a running server (`scenarios`, `scale`).

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Context;
use quetra::domain::agent::AgentStatus;
use quetra::domain::decision::Verdict;
use quetra::domain::evaluate::{Case, Ruling, conclude, screen};
use quetra::domain::hold::Holds;
use quetra::domain::id::{AgentId, MandateId, OrgId};
use quetra::domain::ledger::{Level, MandateStanding, Standing, WindowLevel};
use quetra::domain::mandate::{Budget, CompiledMandate, Mandate, MandateStatus, Policy};
use quetra::domain::money::Currency;
use quetra::domain::period::{Period, parse_zone};
use quetra::domain::rule::{CustomEngine, RuleSpec};
use quetra::domain::spend::{Observed, Protocol, Spend};
use quetra::domain::vendor::Vendor;

use crate::table::{Figures, Table};

/// Decisions in one measured run.
const DECISIONS: u32 = 20_000;

/// Runs, of which the median counts.
const RUNS: usize = 7;

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Ten rules of ten kinds, all of which pass.
fn rules() -> Vec<RuleSpec> {
    vec![
        RuleSpec::Category { allowed: words(&["research", "generation", "storage"]) },
        RuleSpec::VendorAllowlist {
            vendors: words(&["firecrawl.dev", "openai.com", "anthropic.com", "arxiv.org"]),
        },
        RuleSpec::VendorBlocklist { vendors: words(&["netflix.com", "example.net"]) },
        RuleSpec::VendorCap {
            vendor: "firecrawl.dev".to_owned(),
            amount: 500_000,
            period: Period::Monthly,
        },
        RuleSpec::MaxAmount { amount: 10_000 },
        RuleSpec::RateLimit { max_transactions: 1_000, window_minutes: 60 },
        RuleSpec::SpendRate { max_amount: 100_000, window_minutes: 60 },
        RuleSpec::TimeWindow {
            days: (0..7).collect(),
            start: "00:00".to_owned(),
            end: "24:00".to_owned(),
            timezone: "Europe/Zagreb".to_owned(),
        },
        RuleSpec::ProtocolRestrict { allowed: vec![Protocol::Direct, Protocol::X402] },
        RuleSpec::Custom {
            engine: CustomEngine::Cel,
            expression: "amount <= 5000 && currency == 'USD' && vendor != 'evil.example'"
                .to_owned(),
            description: "small amounts only".to_owned(),
        },
    ]
}

fn mandate(now: jiff::Timestamp) -> anyhow::Result<CompiledMandate> {
    let mandate = Mandate {
        id: MandateId::from_bytes([1; 16]),
        org_id: OrgId::from_bytes([2; 16]),
        agent_id: AgentId::from_bytes([3; 16]),
        name: String::new(),
        description: String::new(),
        version: 1,
        status: MandateStatus::Active,
        policy: Policy {
            budget: Budget {
                total: 1_000_000,
                per_transaction: 10_000,
                currency: Currency::parse("USD")?,
                reset: Period::Monthly,
                holds: Holds::default(),
            },
            rules: rules(),
            valid_from: now,
            valid_until: None,
            durability: None,
        },
        policy_hash: String::new(),
        signature: String::new(),
        signing_key_id: String::new(),
        created_at: now,
        updated_at: now,
        revocation_reason: String::new(),
    };
    CompiledMandate::try_new(&mandate).map_err(|wrong| anyhow::anyhow!("{wrong:?}"))
}

/// Adds what one evaluation costs.
pub(crate) fn measure(table: &mut Table) -> anyhow::Result<()> {
    let now: jiff::Timestamp = "2026-11-20T12:00:00Z".parse()?;
    let zone = parse_zone("Europe/Zagreb")?;
    let mandate = mandate(now)?;
    let (id, version, status) = (mandate.id, 1, MandateStatus::Active);
    let standing = Standing {
        org_version: 1,
        frozen: false,
        agent: AgentStatus::Active,
        mandate: Some(MandateStanding { id, version, status }),
    };
    let spend = Spend {
        agent_id: AgentId::from_bytes([3; 16]),
        amount: 200,
        currency: Currency::parse("USD")?,
        vendor: Vendor::parse("api.firecrawl.dev")?,
        vendor_raw: "api.firecrawl.dev".to_owned(),
        category: Some("research".to_owned()),
        description: None,
        protocol: Some(Protocol::Direct),
        metadata: BTreeMap::new(),
    };
    let (levels, windows) = ([Level::default(); 2], [WindowLevel::default(); 2]);
    let mut costs = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let started = Instant::now();
        for _ in 0..DECISIONS {
            let case = Case {
                standing: &standing,
                mandate: Some(&mandate),
                spend: black_box(&spend),
                observed: &Observed::default(),
                zone: &zone,
                now,
            };
            let screened = screen(&case)?;
            let verdict = Verdict::Approved;
            let ruling = Ruling { verdict, levels: &levels, windows: &windows };
            let decision = black_box(conclude(&screened, &spend, &ruling));
            anyhow::ensure!(decision.reasons.is_empty(), "a rule failed: {}", decision.explanation);
        }
        costs.push(started.elapsed() / DECISIONS);
    }
    costs.sort_unstable();
    let median: Duration = costs.get(RUNS / 2).copied().context("no runs")?;
    let figures = Figures { p50: Some(median), ..Figures::default() };
    table.add("10 rules, pure", &figures, "all results with their sentences; target ≤ 5 µs");
    Ok(())
}
