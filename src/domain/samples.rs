//! Random mandates, spends and instants for the domain's property tests, and how many to try.
//!
//! Small pools on purpose: vendors that cover or imitate each other, amounts around the limits, and
//! zones that change their clocks at midnight meet often. Not here: any property.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::agent::AgentStatus;
use super::decision::Decision;
use super::evaluate::{Case, Screened, screen, would_decide};
use super::hold::Holds;
use super::id::{AgentId, MandateId, OrgId};
use super::ledger::{Claim, Level, MandateStanding, Standing, WindowLevel};
use super::mandate::{Budget, CompiledMandate, Mandate, MandateStatus, Policy};
use super::money::{AMOUNT_MAX, Currency, LIMIT_MAX};
use super::period::{Period, PeriodError, parse_zone};
use super::rule::{CustomEngine, GeoSubject, RuleSpec};
use super::spend::{Observed, Protocol, Spend};
use super::vendor::Vendor;

/// Steps of a random history that count as one case; its histories have 30 on the average.
const STEPS_PER_CASE: u32 = 10;
/// Sources that a case compiles, on the average, where these are what is counted.
const SOURCES_PER_CASE: u32 = 4;
/// Neighbours of a random case that are compared with it, where these are what is counted.
pub(crate) const NEIGHBOURS: usize = 4;
/// Histories, and cases of everything else, for every save of a file.
const CASES: u32 = 256;

/// Cases of every property of the crate: `QUETRA_CASES`, or few enough for every save of a file.
pub(crate) fn config() -> ProptestConfig {
    with(asked().unwrap_or(CASES))
}

/// The same for a property over whole histories, where it is the steps that are counted.
pub(crate) fn histories() -> ProptestConfig {
    in_parts(STEPS_PER_CASE)
}

/// The same for a property that compiles sources, several in each case: these are counted.
pub(crate) fn sources() -> ProptestConfig {
    in_parts(SOURCES_PER_CASE)
}

/// The same for a property that compares each case with [`NEIGHBOURS`] of it: these are counted.
pub(crate) fn neighbours() -> ProptestConfig {
    in_parts(u32::try_from(NEIGHBOURS).unwrap())
}

fn in_parts(parts_per_case: u32) -> ProptestConfig {
    with(asked().map_or(CASES, |cases| cases.div_ceil(parts_per_case).max(CASES)))
}

#[expect(clippy::disallowed_methods, reason = "the settings of a test run are not the server's")]
fn asked() -> Option<u32> {
    std::env::var("QUETRA_CASES").ok().and_then(|text| text.parse().ok())
}

fn with(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        max_global_rejects: cases.max(1_024),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

pub(crate) const VENDORS: [&str; 14] = [
    "openai.com",
    "api.openai.com",
    "v1.api.openai.com",
    "evil-openai.com",
    "\u{43e}penai.com",
    "vercel.app",
    "shop.vercel.app",
    "amazonaws.com",
    "bucket.s3.amazonaws.com",
    "b\u{fc}cher.example",
    "rnicrosoft.com",
    "microsoft.com",
    "gmail",
    "Acme Travel",
];

pub(crate) const CATEGORIES: [&str; 4] = ["research", "travel", "food", "Research"];

pub(crate) const ZONES: [&str; 10] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "America/Havana",
    "Pacific/Apia",
    "America/St_Johns",
    "Asia/Tokyo",
];

/// Expressions that a larger amount never turns from false to true. Few are in CEL: its parser has
/// a thread of its own, and takes longer than everything else here.
const EXPRESSIONS: [(CustomEngine, &str); 8] = [
    (CustomEngine::Cel, "amount < 100 || vendor == \"gmail\""),
    (CustomEngine::Jsonlogic, r#"{"==":[{"var":"currency"},"USD"]}"#),
    (CustomEngine::Jsonlogic, r#"{"in":[{"var":"category"},["research","food"]]}"#),
    (CustomEngine::Jsonlogic, r#"{">=":[{"var":"hour"},6]}"#),
    (CustomEngine::Jsonlogic, r#"{"==":[{"var":"metadata.team"},"a"]}"#),
    (CustomEngine::Jsonlogic, r#"{"<=":[{"var":"amount"},150]}"#),
    (CustomEngine::Jsonlogic, r#"{"!=":[{"var":"category"},"travel"]}"#),
    (CustomEngine::Jsonlogic, r#"{"==":[{"var":"protocol"},"x402"]}"#),
];

pub(crate) fn org() -> OrgId {
    OrgId::from_bytes([1; 16])
}

pub(crate) fn agent(number: u8) -> AgentId {
    AgentId::from_bytes([number; 16])
}

pub(crate) fn mandate_id(number: u8) -> MandateId {
    MandateId::from_bytes([number; 16])
}

pub(crate) fn usd() -> Currency {
    Currency::parse("USD").unwrap()
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A version of a mandate with this policy, in force.
pub(crate) fn mandate(number: u8, policy: Policy) -> Mandate {
    Mandate {
        id: mandate_id(number),
        org_id: org(),
        agent_id: agent(number),
        name: "a mandate".to_owned(),
        description: String::new(),
        version: 2,
        status: MandateStatus::Active,
        policy,
        policy_hash: String::new(),
        signature: String::new(),
        signing_key_id: String::new(),
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
        revocation_reason: String::new(),
    }
}

/// A policy without an end.
pub(crate) fn policy(total: i64, reset: Period, rules: Vec<RuleSpec>) -> Policy {
    let per_transaction = total.min(AMOUNT_MAX);
    let holds = Holds::default();
    let budget = Budget { total, per_transaction, currency: usd(), reset, holds };
    Policy {
        budget,
        rules,
        valid_from: at("2000-01-01T00:00:00Z"),
        valid_until: None,
        durability: None,
    }
}

/// A spend in dollars.
pub(crate) fn spend(amount: i64, vendor: &str, category: Option<&str>) -> Spend {
    Spend {
        agent_id: agent(1),
        amount,
        currency: usd(),
        vendor: Vendor::parse(vendor).unwrap(),
        vendor_raw: vendor.to_owned(),
        category: category.map(str::to_owned),
        description: None,
        protocol: None,
        metadata: BTreeMap::new(),
    }
}

fn texts(pool: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<String>> {
    let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect();
    subsequence(pool.to_vec(), 1..=most).prop_map(owned)
}

pub(crate) fn amounts() -> impl Strategy<Value = i64> {
    prop_oneof![14 => 0..=60_i64, 6 => 60..=250_i64, 1 => Just(AMOUNT_MAX)]
}

fn limits() -> impl Strategy<Value = i64> {
    prop_oneof![8 => 100..=900_i64, 2 => 1..=100_i64, 1 => Just(LIMIT_MAX)]
}

pub(crate) fn periods() -> impl Strategy<Value = Period> {
    select(vec![Period::None, Period::Daily, Period::Weekly, Period::Monthly])
}

fn lists() -> impl Strategy<Value = RuleSpec> {
    prop_oneof![
        texts(&CATEGORIES, 4).prop_map(|allowed| RuleSpec::Category { allowed }),
        texts(&VENDORS, 12).prop_map(|vendors| RuleSpec::VendorAllowlist { vendors }),
        texts(&VENDORS, 3).prop_map(|vendors| RuleSpec::VendorBlocklist { vendors }),
        subsequence(Protocol::ALL.to_vec(), 1..=6)
            .prop_map(|allowed| RuleSpec::ProtocolRestrict { allowed }),
        (texts(&["DE", "US", "HR"], 3), any::<bool>(), any::<bool>()).prop_map(
            |(codes, allow, caller)| RuleSpec::Geo {
                allowed: if allow { codes.clone() } else { Vec::new() },
                blocked: if allow { Vec::new() } else { codes },
                subject: if caller { GeoSubject::Caller } else { GeoSubject::Vendor },
            }
        ),
    ]
}

fn hours() -> impl Strategy<Value = RuleSpec> {
    let days = subsequence(vec![0_u8, 1, 2, 3, 4, 5, 6], 1..=7);
    let minute = |minutes: i64| format!("{:02}:{:02}", minutes / 60, minutes % 60);
    (days, 0..24_i64, 1..24_i64, select(ZONES.to_vec())).prop_map(
        move |(days, from, hours, zone)| RuleSpec::TimeWindow {
            days,
            start: minute(from * 60),
            end: minute((from * 60 + hours * 60 - 30) % (24 * 60)),
            timezone: zone.to_owned(),
        },
    )
}

/// Caps, windows and ceilings: what has a limit.
pub(crate) fn limited() -> impl Strategy<Value = RuleSpec> {
    let vendor = select(VENDORS.to_vec()).prop_map(str::to_owned);
    let category = select(CATEGORIES.to_vec()).prop_map(str::to_owned);
    let minutes = select(vec![1_i64, 2, 60, 1_440, 44_640]);
    prop_oneof![
        3 => (vendor, limits(), periods())
            .prop_map(|(vendor, amount, period)| RuleSpec::VendorCap { vendor, amount, period }),
        3 => (category, limits(), periods()).prop_map(
            |(category, amount, period)| RuleSpec::CategoryCap { category, amount, period }
        ),
        1 => amounts().prop_map(|amount| RuleSpec::MaxAmount { amount }),
        2 => (2..9_i64, minutes.clone()).prop_map(|(max_transactions, window_minutes)| {
            RuleSpec::RateLimit { max_transactions, window_minutes }
        }),
        2 => (limits(), minutes).prop_map(|(max_amount, window_minutes)| {
            RuleSpec::SpendRate { max_amount, window_minutes }
        }),
        2 => (0..=60_i64).prop_map(|threshold| RuleSpec::Approval {
            threshold,
            approver_roles: Vec::new(),
            approvals_required: 1,
            timeout_minutes: 60,
        }),
    ]
}

/// Caps that often share a counter.
pub(crate) fn caps() -> impl Strategy<Value = RuleSpec> {
    let vendor = select(vec!["openai.com", "OpenAI.com", "api.openai.com"]);
    let period = select(vec![Period::None, Period::Daily]);
    (vendor, 1..200_i64, period).prop_map(|(vendor, amount, period)| RuleSpec::VendorCap {
        vendor: vendor.to_owned(),
        amount,
        period,
    })
}

/// A rule of any kind.
pub(crate) fn rules() -> impl Strategy<Value = RuleSpec> {
    let custom = select(EXPRESSIONS.to_vec()).prop_map(|(engine, text)| RuleSpec::Custom {
        engine,
        expression: text.to_owned(),
        description: "what an operator wants".to_owned(),
    });
    prop_oneof![7 => lists(), 2 => hours(), 14 => limited(), 1 => custom]
}

/// Makes a policy valid without leaving out more than it must.
pub(crate) fn repaired(mut policy: Policy) -> Policy {
    let budget = &mut policy.budget;
    budget.per_transaction = budget.per_transaction.min(budget.total).min(AMOUNT_MAX);
    let total = budget.total;
    let mut seen = Vec::new();
    let allowed = policy.rules.iter().find_map(|rule| match rule {
        RuleSpec::VendorAllowlist { vendors } => Some(vendors.clone()),
        _ => None,
    });
    policy.rules.retain_mut(|rule| {
        if let RuleSpec::VendorBlocklist { vendors } = rule {
            vendors.retain(|vendor| allowed.as_ref().is_none_or(|list| !list.contains(vendor)));
            if vendors.is_empty() {
                return false;
            }
        }
        if let RuleSpec::Approval { threshold, .. } = rule {
            *threshold = total.min(*threshold);
        }
        let kind = rule.rule_type();
        let first = !seen.contains(&kind);
        seen.push(kind);
        first || !rule.single()
    });
    policy
}

/// A valid policy.
pub(crate) fn policies(
    rules: impl Strategy<Value = RuleSpec>,
    most: usize,
) -> impl Strategy<Value = Policy> {
    let rules = prop::collection::vec(rules, 0..=most);
    (limits(), limits(), periods(), rules).prop_map(|(total, per_transaction, reset, rules)| {
        let mut policy = policy(total, reset, rules);
        policy.budget.per_transaction = per_transaction;
        repaired(policy)
    })
}

pub(crate) fn spends() -> impl Strategy<Value = Spend> {
    let category = prop::option::weighted(0.9, select(CATEGORIES.to_vec()));
    let protocol = prop::option::weighted(0.7, select(Protocol::ALL.to_vec()));
    let currency = prop_oneof![20 => Just("USD"), 1 => Just("JPY"), 1 => Just("USDC")];
    let team = prop::option::of(select(vec!["a", "b", ""]));
    (amounts(), select(VENDORS.to_vec()), category, protocol, currency, team).prop_map(
        |(amount, vendor, category, protocol, currency, team)| {
            let metadata = team.map(|team| ("team".to_owned(), team.to_owned()));
            Spend {
                currency: Currency::parse(currency).unwrap(),
                protocol,
                metadata: metadata.into_iter().collect(),
                ..spend(amount, vendor, category)
            }
        },
    )
}

/// Instants around which calendars change, and a few that no calendar can handle.
pub(crate) fn instants() -> impl Strategy<Value = Timestamp> {
    let range = |from: &str, to: &str| {
        let micros = at(from).as_microsecond()..at(to).as_microsecond();
        micros.prop_map(|micros| Timestamp::from_microsecond(micros).unwrap())
    };
    prop_oneof![
        20 => range("2023-12-01T00:00:00Z", "2027-02-01T00:00:00Z"),
        1 => range("-009998-01-01T00:00:00Z", "9998-12-31T00:00:00Z"),
        1 => select(vec![Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX]),
    ]
}

pub(crate) fn zones() -> impl Strategy<Value = String> {
    select(ZONES.to_vec()).prop_map(str::to_owned)
}

/// A case and the state of the ledger, as values.
#[derive(Clone, Debug)]
pub(crate) struct Situation {
    pub(crate) frozen: bool,
    pub(crate) agent: AgentStatus,
    /// The mandate with its status, or none.
    pub(crate) mandate: Option<Mandate>,
    pub(crate) spend: Spend,
    pub(crate) observed: Observed,
    pub(crate) zone: String,
    pub(crate) now: Timestamp,
    /// Levels that counters are given, see [`Situation::levels`].
    pub(crate) levels: Vec<Level>,
    /// Levels that windows are given, see [`Situation::windows`].
    pub(crate) windows: Vec<WindowLevel>,
}

impl Situation {
    pub(crate) fn zone(&self) -> TimeZone {
        parse_zone(&self.zone).unwrap()
    }

    pub(crate) fn compiled(&self) -> Option<CompiledMandate> {
        self.mandate.as_ref().map(|mandate| CompiledMandate::try_new(mandate).unwrap())
    }

    pub(crate) fn standing(&self) -> Standing {
        let mandate = self.mandate.as_ref().map(|mandate| MandateStanding {
            id: mandate.id,
            version: mandate.version,
            status: mandate.status,
        });
        Standing { org_version: 1, frozen: self.frozen, agent: self.agent, mandate }
    }

    pub(crate) fn screen(&self) -> Result<Screened, PeriodError> {
        screen(&Case {
            standing: &self.standing(),
            mandate: self.compiled().as_ref(),
            spend: &self.spend,
            observed: &self.observed,
            zone: &self.zone(),
            now: self.now,
        })
    }

    /// The levels of a claim's counters: the same counter has the same level in every claim.
    pub(crate) fn levels(&self, claim: &Claim) -> Vec<Level> {
        let place = |text: String| text.bytes().map(usize::from).sum::<usize>();
        let level = |subject: &dyn std::fmt::Debug, period: Period| {
            self.levels[place(format!("{subject:?}{period:?}")) % self.levels.len()]
        };
        claim.charges.iter().map(|charge| level(&charge.key.subject, charge.key.period)).collect()
    }

    /// The levels of a claim's windows: windows of one length have the same level in every claim.
    pub(crate) fn windows(&self, claim: &Claim) -> Vec<WindowLevel> {
        let place = |length: SignedDuration| usize::try_from(length.as_mins()).unwrap() % 7;
        let level = |length| self.windows[place(length) % self.windows.len()];
        claim.windows.iter().map(|test| level(test.length)).collect()
    }

    /// What would be decided; `None` where no calendar reaches.
    pub(crate) fn decide(&self) -> Option<Decision> {
        let screened = self.screen().ok()?;
        let claim = screened.claim.as_ref();
        let levels = claim.map(|claim| self.levels(claim)).unwrap_or_default();
        let windows = claim.map(|claim| self.windows(claim)).unwrap_or_default();
        Some(would_decide(&screened, &self.spend, &levels, &windows))
    }
}

fn observations() -> impl Strategy<Value = Observed> {
    let country = || prop::option::weighted(0.8, select(vec!["DE", "US", "HR"]));
    (country(), country()).prop_map(|(vendor, caller)| Observed {
        vendor_country: vendor.map(str::to_owned),
        caller_country: caller.map(str::to_owned),
    })
}

fn ledgers() -> impl Strategy<Value = (Vec<Level>, Vec<WindowLevel>)> {
    let level = (0..=90_i64, 0..=20_i64).prop_map(|(spent, held)| Level { spent, held });
    let window = (0..=4_i64, 0..=90_i64).prop_map(|(count, sum)| WindowLevel {
        count,
        sum,
        oldest: (count > 0).then(|| at("2025-01-01T00:00:00Z")),
    });
    (prop::collection::vec(level, 5), prop::collection::vec(window, 5))
}

/// Cases of which a good part is approved, with mandates of these policies.
pub(crate) fn situations(
    policies: impl Strategy<Value = Policy>,
) -> impl Strategy<Value = Situation> {
    use MandateStatus::{Active, Draft, Expired, Paused, Revoked};
    let status =
        prop_oneof![12 => Just(Active), 1 => select(vec![Draft, Paused, Expired, Revoked])];
    let statuses = select(vec![AgentStatus::Suspended, AgentStatus::Decommissioned]);
    let agent = prop_oneof![16 => Just(AgentStatus::Active), 1 => statuses];
    let until =
        prop::option::weighted(0.2, select(vec!["2024-06-01T00:00:00Z", "2026-01-01T00:00:00Z"]));
    let policy = (policies, until, status).prop_map(|(policy, until, status)| {
        let mut policy = policy;
        if let Some(until) = until {
            policy.valid_until = Some(at(until));
            policy.valid_from = at("2024-01-01T00:00:00Z");
        }
        Mandate { status, ..mandate(1, policy) }
    });
    let policy = prop::option::weighted(0.95, policy);
    let world = (prop::bool::weighted(0.05), agent, observations(), zones(), instants());
    (policy, spends(), world, ledgers()).prop_map(|(mandate, spend, world, ledger)| {
        let (frozen, agent, observed, zone, now) = world;
        let (levels, windows) = ledger;
        Situation { frozen, agent, mandate, spend, observed, zone, now, levels, windows }
    })
}
