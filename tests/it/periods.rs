//! Ends of days, weeks and months over a real server whose clock is moved by hand.
//!
//! Just before an end what is left is all there is, just after it the whole budget is there once,
//! in a dozen zones that change their clocks in every way. Not here: where windows lie, of which
//! `domain::period` has thousands; this is about the money in them.

mod clock;
mod race;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use prost_types::FieldMask;
use quetra::clock::ManualClock;
use quetra::proto::v1::{self, Decision, Period};

use crate::harness::{Clients, Server, ask, budget};

const MICRO: SignedDuration = SignedDuration::from_micros(1);
const MOMENT: SignedDuration = SignedDuration::from_millis(50);

/// A window's end in a zone, and the end of the window that begins there.
type Turn = (Period, &'static str, &'static str);

use Period::{Daily, Monthly, Weekly};

/// Every zone with some ends, in the order of time. The comments say what is special.
const ZONES: [(&str, &[Turn]); 14] = [
    (
        "UTC",
        &[
            (Daily, "2026-03-11T00:00:00Z", "2026-03-12T00:00:00Z"),
            (Weekly, "2026-03-16T00:00:00Z", "2026-03-23T00:00:00Z"),
            (Monthly, "2026-04-01T00:00:00Z", "2026-05-01T00:00:00Z"),
            // A leap day, from both sides.
            (Daily, "2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z"),
            (Monthly, "2028-03-01T00:00:00Z", "2028-04-01T00:00:00Z"),
        ],
    ),
    (
        "Europe/Berlin",
        &[
            // A day of 23 hours begins, ends; a day of 25 hours begins, ends.
            (Daily, "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            (Weekly, "2026-03-29T22:00:00Z", "2026-04-05T22:00:00Z"),
            (Monthly, "2026-03-31T22:00:00Z", "2026-04-30T22:00:00Z"),
            (Daily, "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            (Weekly, "2026-10-25T23:00:00Z", "2026-11-01T23:00:00Z"),
        ],
    ),
    (
        "America/New_York",
        &[
            (Daily, "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"),
            (Weekly, "2026-03-09T04:00:00Z", "2026-03-16T04:00:00Z"),
            (Daily, "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"),
            (Monthly, "2026-12-01T05:00:00Z", "2027-01-01T05:00:00Z"),
            (Monthly, "2027-01-01T05:00:00Z", "2027-02-01T05:00:00Z"),
        ],
    ),
    (
        "Africa/Cairo",
        &[
            // Midnight is skipped: the day begins at one. In autumn its last hour comes twice.
            (Daily, "2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"),
            (Daily, "2026-10-28T21:00:00Z", "2026-10-29T22:00:00Z"),
            (Daily, "2026-10-29T22:00:00Z", "2026-10-30T22:00:00Z"),
        ],
    ),
    (
        "Asia/Beirut",
        &[
            (Daily, "2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z"),
            (Weekly, "2026-03-29T21:00:00Z", "2026-04-05T21:00:00Z"),
            (Daily, "2026-10-23T21:00:00Z", "2026-10-24T22:00:00Z"),
        ],
    ),
    (
        "America/Havana",
        &[
            // In autumn the day's first hour comes twice, midnight included.
            (Daily, "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"),
            (Daily, "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"),
        ],
    ),
    (
        "America/Santiago",
        &[
            (Daily, "2026-04-04T03:00:00Z", "2026-04-05T04:00:00Z"),
            (Daily, "2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z"),
        ],
    ),
    (
        "Australia/Lord_Howe",
        &[
            // Clocks change by half an hour.
            (Daily, "2026-04-04T13:00:00Z", "2026-04-05T13:30:00Z"),
            (Daily, "2026-10-03T13:30:00Z", "2026-10-04T13:00:00Z"),
        ],
    ),
    (
        "Asia/Kathmandu",
        &[
            (Daily, "2026-03-10T18:15:00Z", "2026-03-11T18:15:00Z"),
            (Weekly, "2026-03-15T18:15:00Z", "2026-03-22T18:15:00Z"),
            (Monthly, "2026-03-31T18:15:00Z", "2026-04-30T18:15:00Z"),
        ],
    ),
    (
        "Asia/Kolkata",
        &[
            (Monthly, "2028-02-29T18:30:00Z", "2028-03-31T18:30:00Z"),
            (Daily, "2028-12-31T18:30:00Z", "2029-01-01T18:30:00Z"),
        ],
    ),
    (
        "Pacific/Kiritimati",
        &[
            // The first to see a new year, while elsewhere the old one has a day to go.
            (Monthly, "2026-12-31T10:00:00Z", "2027-01-31T10:00:00Z"),
            (Weekly, "2027-01-03T10:00:00Z", "2027-01-10T10:00:00Z"),
        ],
    ),
    (
        "Pacific/Auckland",
        &[
            (Daily, "2026-04-04T11:00:00Z", "2026-04-05T12:00:00Z"),
            (Daily, "2026-09-26T12:00:00Z", "2026-09-27T11:00:00Z"),
        ],
    ),
    ("America/St_Johns", &[(Monthly, "2026-11-01T02:30:00Z", "2026-12-01T03:30:00Z")]),
    ("Pacific/Apia", &[(Daily, "2026-03-10T11:00:00Z", "2026-03-11T11:00:00Z")]),
];

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn time(at: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    at.map(|at| Timestamp::new(at.seconds, at.nanos).unwrap())
}

/// A hundred cents a period.
fn hundred(period: Period) -> v1::Budget {
    v1::Budget { reset: period.into(), ..budget(100, 100) }
}

async fn move_to(admin: &mut Clients, timezone: &str) {
    let request = v1::UpdateOrganizationRequest {
        update_mask: Some(FieldMask { paths: vec!["timezone".to_owned()] }),
        timezone: timezone.to_owned(),
        ..Default::default()
    };
    admin.organization.update_organization(request).await.unwrap();
}

/// A server at a time, its clock, and a client that may do everything.
async fn start(now: Timestamp) -> (Server, Arc<ManualClock>, Clients) {
    let clock = Arc::new(ManualClock::new(now));
    let server = Server::with(|_| {}, clock.clone()).await;
    let admin = server.admin().await;
    (server, clock, admin)
}

/// What a spend got: whether it was approved, what then remained, and until when.
async fn spend(admin: &mut Clients, agent_id: &str, amount: i64) -> (bool, i64, Timestamp) {
    let answer = admin.spend(ask(agent_id, amount)).await;
    let approved = answer.decision() == Decision::Approved;
    let budget = answer.budget.unwrap();
    (approved, budget.remaining, time(budget.resets_at).unwrap())
}

/// The budget as it is now: spent, and until when.
async fn spent(admin: &mut Clients, agent_id: &str) -> (i64, Timestamp) {
    let request = v1::GetBudgetRequest { agent_id: agent_id.to_owned(), ..Default::default() };
    let budget = admin.budget.get_budget(request).await.unwrap().into_inner().budget.unwrap();
    (budget.spent, time(budget.resets_at).unwrap())
}

/// Everything that was approved for an agent between two times, as the record has it.
async fn approved(admin: &mut Clients, agent_id: &str, times: [Timestamp; 2]) -> i64 {
    let proto = |at: Timestamp| prost_types::Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    };
    let mut token = String::new();
    let mut sum = 0;
    loop {
        let request = v1::ListTransactionsRequest {
            page: Some(v1::PageRequest { page_size: 200, page_token: token }),
            agent_id: agent_id.to_owned(),
            decision: Decision::Approved.into(),
            since: Some(proto(times[0])),
            until: Some(proto(times[1])),
            ..Default::default()
        };
        let page = admin.transactions.list_transactions(request).await.unwrap().into_inner();
        sum += page.transactions.iter().map(|transaction| transaction.amount).sum::<i64>();
        token = page.next_page_token;
        if token.is_empty() {
            return sum;
        }
    }
}

/// One end of a window: what is left is spent before it, the whole once after it.
async fn turn(admin: &mut Clients, clock: &ManualClock, zone: &str, (period, end, next): Turn) {
    let (end, next) = (at(end), at(next));
    let told = |what: &str| format!("{zone}, {period:?} ending at {end}: {what}");
    clock.set(end - MOMENT);
    let cap =
        v1::VendorCapRule { vendor: "firecrawl.dev".to_owned(), amount: 90, period: period.into() };
    let rule = v1::Rule { kind: Some(v1::rule::Kind::VendorCap(cap)) };
    let (agent_id, _) = admin.agent_with_mandate(hundred(period), vec![rule]).await;
    let id = agent_id.as_str();

    let first = admin.spend(ask(id, 60)).await;
    assert_eq!(first.decision(), Decision::Approved, "{}", told("50 ms before"));
    assert_eq!(time(first.budget.unwrap().resets_at), Some(end), "{}", told("50 ms before"));
    clock.set(end - MICRO);
    assert_eq!(spend(admin, id, 31).await, (false, 40, end), "{}", told("more than is left"));
    assert_eq!(spend(admin, id, 30).await, (true, 10, end), "{}", told("what is left"));
    assert_eq!(spent(admin, id).await, (90, end), "{}", told("spent"));

    clock.set(end);
    assert_eq!(spent(admin, id).await, (0, next), "{}", told("at the end"));
    assert_eq!(spend(admin, id, 91).await, (false, 100, next), "{}", told("above the cap"));
    assert_eq!(spend(admin, id, 90).await, (true, 10, next), "{}", told("all there is"));
    clock.set(end + MICRO);
    assert_eq!(spend(admin, id, 1).await, (false, 10, next), "{}", told("no second time"));
    clock.set(end + MOMENT);
    assert_eq!(spend(admin, id, 1).await, (false, 10, next), "{}", told("50 ms after"));

    // What comes back belongs to the window it was spent in, which is over.
    let void = v1::VoidTransactionRequest { transaction_id: first.transaction_id };
    admin.transactions.void_transaction(void).await.unwrap();
    assert_eq!(spend(admin, id, 1).await, (false, 10, next), "{}", told("after the void"));
    assert_eq!(spent(admin, id).await, (90, next), "{}", told("after the void"));

    let day = SignedDuration::from_hours(24);
    assert_eq!(approved(admin, id, [end - day, end]).await, 90, "{}", told("the record before"));
    assert_eq!(approved(admin, id, [end, next]).await, 90, "{}", told("the record after"));
    clock.set(next - MICRO);
    assert_eq!(spent(admin, id).await, (90, next), "{}", told("the last microsecond"));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_every_end_of_a_window_money_is_there_once_and_not_twice() {
    for (zone, turns) in ZONES {
        let (server, clock, mut admin) =
            start(at(turns[0].1) - SignedDuration::from_hours(1)).await;
        move_to(&mut admin, zone).await;
        for this in turns {
            turn(&mut admin, &clock, zone, *this).await;
        }
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_without_a_period_survives_every_end() {
    let (server, clock, mut admin) = start(at("2026-12-31T23:59:59.999999Z")).await;
    let (agent_id, _) = admin.agent_with_mandate(budget(100, 100), Vec::new()).await;
    assert_eq!(admin.spend(ask(&agent_id, 60)).await.decision(), Decision::Approved);
    for now in ["2027-01-01T00:00:00Z", "2031-06-01T00:00:00Z"] {
        clock.set(at(now));
        let answer = admin.spend(ask(&agent_id, 41)).await;
        assert_eq!(answer.decision(), Decision::Rejected);
        let budget = answer.budget.unwrap();
        assert_eq!((budget.remaining, budget.resets_at), (40, None));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_zone_of_the_organization_counts_at_the_next_decision() {
    let (server, clock, mut admin) = start(at("2026-03-10T12:00:00Z")).await;
    let (agent_id, _) = admin.agent_with_mandate(hundred(Daily), Vec::new()).await;
    let id = agent_id.as_str();
    let utc_end = at("2026-03-11T00:00:00Z");
    assert_eq!(spend(&mut admin, id, 60).await, (true, 40, utc_end));

    // The day of Tokyo began at 15:00 UTC of the day before, and has seen the same sixty.
    move_to(&mut admin, "Asia/Tokyo").await;
    let tokyo_end = at("2026-03-10T15:00:00Z");
    assert_eq!(spent(&mut admin, id).await, (60, tokyo_end));
    assert_eq!(spend(&mut admin, id, 41).await, (false, 40, tokyo_end));
    assert_eq!(spend(&mut admin, id, 10).await, (true, 30, tokyo_end));
    clock.set(tokyo_end - MICRO);
    assert_eq!(spend(&mut admin, id, 31).await, (false, 30, tokyo_end));
    clock.set(tokyo_end);
    let next = at("2026-03-11T15:00:00Z");
    assert_eq!(spend(&mut admin, id, 20).await, (true, 80, next));

    // Back in UTC the day is still the tenth: sixty, ten and twenty are gone of it.
    move_to(&mut admin, "UTC").await;
    assert_eq!(spend(&mut admin, id, 11).await, (false, 10, utc_end));
    assert_eq!(spend(&mut admin, id, 10).await, (true, 0, utc_end));
    assert_eq!(approved(&mut admin, id, [at("2026-03-10T00:00:00Z"), utc_end]).await, 100);
    clock.set(utc_end);
    assert_eq!(spent(&mut admin, id).await.0, 0);
    server.stop().await;
}
