//! Reading the record: one transaction, filters, pages and counts.
//!
//! Not here: whose transactions a key sees (`access`).

use std::collections::HashSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use quetra::clock::ManualClock;
use quetra::proto::v1::{self, Decision, TransactionState as State};

use super::{spender, start};
use crate::harness::{Clients, Server, ask, refused};

fn message(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}

fn page(page_size: i32, page_token: &str) -> Option<v1::PageRequest> {
    Some(v1::PageRequest { page_size, page_token: page_token.to_owned() })
}

impl Clients {
    async fn list(&mut self, request: v1::ListTransactionsRequest) -> v1::ListTransactionsResponse {
        self.transactions.list_transactions(request).await.unwrap().into_inner()
    }

    /// The ids of all pages.
    async fn all(&mut self, mut request: v1::ListTransactionsRequest) -> Vec<String> {
        let mut found = Vec::new();
        loop {
            let listed = self.list(request.clone()).await;
            found.extend(listed.transactions.into_iter().map(|one| one.id));
            if listed.next_page_token.is_empty() {
                return found;
            }
            request.page.get_or_insert_default().page_token = listed.next_page_token;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_has_what_was_asked_and_what_was_decided() {
    let (server, mut admin) = start().await;
    let agent = spender(&mut admin).await;
    let request = v1::EvaluateRequest {
        vendor: "https://Shop.Example.com:8443/cart".to_owned(),
        description: "a thing".to_owned(),
        protocol: v1::Protocol::X402.into(),
        metadata: [("task".to_owned(), "7".to_owned())].into(),
        ..ask(&agent, 601)
    };
    let answer = admin.spend(request.clone()).await;
    let found = admin.read(&answer.transaction_id).await;
    assert_eq!((found.agent_id.as_str(), &found.mandate_id), (agent.as_str(), &answer.mandate_id));
    assert_eq!((found.amount, found.currency.as_str()), (601, "USD"));
    assert_eq!(
        (&found.vendor, found.vendor_canonical.as_str()),
        (&request.vendor, "shop.example.com")
    );
    assert_eq!((&found.category, &found.description), (&request.category, &request.description));
    assert_eq!((found.protocol(), &found.metadata), (v1::Protocol::X402, &request.metadata));
    assert_eq!((found.decision(), found.state()), (Decision::Rejected, State::Rejected));
    assert_eq!((found.budget_before, found.budget_after), (0, 0));
    assert_eq!(found.idempotency_key, request.idempotency_key);
    assert_eq!((found.created_at, found.updated_at), (answer.decided_at, answer.decided_at));
    assert_eq!((&found.rule_results, &found.reasons), (&answer.rule_results, &answer.reasons));
    assert_eq!((&found.explanation, found.mandate_version), (&answer.explanation, 2));
    let lookup =
        v1::LookupDecisionRequest { agent_id: agent, idempotency_key: request.idempotency_key };
    let looked_up = admin.evaluate.lookup_decision(lookup).await.unwrap().into_inner();
    assert_eq!(looked_up.transaction.unwrap(), found);
    server.stop().await;
}

/// Filters, each with the test that it stands for. `record` is newest first, a second apart.
fn filters(
    record: &[v1::Transaction],
    noon: Timestamp,
) -> Vec<(v1::ListTransactionsRequest, Vec<String>)> {
    let mut filters = Vec::new();
    let mut add = |change: &dyn Fn(&mut v1::ListTransactionsRequest),
                   is: &dyn Fn(&v1::Transaction) -> bool| {
        let mut filter = v1::ListTransactionsRequest { include_total: true, ..Default::default() };
        change(&mut filter);
        let expected = record.iter().filter(|one| is(one)).map(|one| one.id.clone());
        filters.push((filter, expected.collect()));
    };
    let (agent, mandate) = (record[0].agent_id.clone(), record[9].mandate_id.clone());
    let second = SignedDuration::from_secs(1);
    let (since, until) = (message(noon + second), message(noon + second * 8));
    let time = |one: &v1::Transaction| one.created_at.unwrap().seconds;
    add(&|_| {}, &|_| true);
    add(&|filter| filter.agent_id.clone_from(&agent), &|one| one.agent_id == agent);
    add(&|filter| filter.mandate_id.clone_from(&mandate), &|one| one.mandate_id == mandate);
    add(&|filter| filter.set_decision(Decision::Rejected), &|one| {
        one.decision() == Decision::Rejected
    });
    for state in [State::Approved, State::Settled, State::Voided, State::PendingApproval] {
        add(&|filter| filter.set_state(state), &|one| one.state() == state);
    }
    add(&|filter| filter.since = Some(since), &|one| time(one) >= since.seconds);
    add(&|filter| (filter.since, filter.until) = (Some(since), Some(until)), &|one| {
        time(one) >= since.seconds && time(one) < until.seconds
    });
    add(
        &|filter| {
            filter.set_decision(Decision::Approved);
            filter.agent_id.clone_from(&agent);
            filter.mandate_id.clone_from(&record[0].mandate_id);
            filter.until = Some(until);
        },
        &|one| {
            let its = one.agent_id == agent && one.decision() == Decision::Approved;
            its && time(one) < until.seconds
        },
    );
    filters
}

#[tokio::test(flavor = "multi_thread")]
async fn each_filter_finds_exactly_what_it_names() {
    let noon = "2026-05-04T12:00:00Z".parse::<Timestamp>().unwrap();
    let clock = Arc::new(ManualClock::new(noon));
    let server = Server::with(|_| {}, Arc::<ManualClock>::clone(&clock)).await;
    let mut admin = server.admin().await;
    let mut made = Vec::new();
    for _ in 0..2 {
        let agent = spender(&mut admin).await;
        for amount in [10, 20, 30, 601, 501] {
            clock.set(noon + SignedDuration::from_secs(i64::try_from(made.len()).unwrap()));
            made.push(admin.transaction(&agent, amount).await);
        }
    }
    admin.settle(&made[0], 5).await.unwrap();
    admin.void(&made[1]).await.unwrap();
    let mut record = Vec::new();
    for id in made.iter().rev() {
        record.push(admin.read(id).await);
    }
    for (filter, expected) in filters(&record, noon) {
        assert!(!expected.is_empty(), "{filter:?}");
        let total = Some(i64::try_from(expected.len()).unwrap());
        assert_eq!(admin.list(filter.clone()).await.total, total, "{filter:?}");
        for page_size in [0, 1, 3] {
            let filter =
                v1::ListTransactionsRequest { page: page(page_size, ""), ..filter.clone() };
            assert_eq!(admin.all(filter.clone()).await, expected, "{filter:?}");
            let skipped = v1::ListTransactionsRequest { skip: 1, ..filter.clone() };
            assert_eq!(admin.all(skipped).await, expected[1..], "{filter:?}");
        }
    }
    let (agent_id, mandate_id) = (record[0].agent_id.clone(), record[9].mandate_id.clone());
    let other = v1::ListTransactionsRequest { agent_id, mandate_id, ..Default::default() };
    refused(admin.transactions.list_transactions(other).await, "NOT_FOUND");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paging_loses_and_repeats_nothing_while_new_ones_arrive() {
    let (server, mut admin) = start().await;
    let (agent, _) = admin.agent_with_mandate(crate::harness::budget(90_000, 10), vec![]).await;
    let mut before = Vec::new();
    for _ in 0..40 {
        before.push(admin.transaction(&agent, 1).await);
    }
    before.reverse();
    for by_agent in [true, false] {
        let mut writer = admin.clone();
        let target = agent.clone();
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        let arriving = tokio::spawn(async move {
            let mut made = 0;
            while stopped.try_recv().is_err() || made == 0 {
                writer.transaction(&target, 1).await;
                made += 1;
            }
            made
        });
        for page_size in [1, 3, 7] {
            let agent_id = if by_agent { agent.clone() } else { String::new() };
            let page = page(page_size, "");
            let request = v1::ListTransactionsRequest { page, agent_id, ..Default::default() };
            let seen = admin.all(request).await;
            let distinct = seen.iter().collect::<HashSet<_>>();
            assert_eq!(distinct.len(), seen.len(), "a transaction was shown twice");
            assert!(seen.ends_with(&before), "a transaction was not shown");
        }
        stop.send(()).unwrap();
        assert!(arriving.await.unwrap() > 0);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_token_is_good_for_its_own_list_only() {
    let (server, neighbour_key) =
        Server::with_neighbour(Arc::new(quetra::clock::SystemClock)).await;
    let mut admin = server.admin().await;
    let agent = spender(&mut admin).await;
    for _ in 0..5 {
        admin.transaction(&agent, 1).await;
    }
    let listing =
        |token: &str| v1::ListTransactionsRequest { page: page(2, token), ..Default::default() };
    let good = admin.list(listing("")).await.next_page_token;
    let other = admin.list(v1::ListTransactionsRequest { agent_id: agent.clone(), ..listing("") });
    let other = other.await.next_page_token;
    let keys = admin.organization.list_api_keys(v1::ListApiKeysRequest { page: page(1, "") }).await;
    let keys = keys.unwrap().into_inner().next_page_token;
    assert!(!good.is_empty() && !other.is_empty() && !keys.is_empty());
    let flipped = format!("{}{}", if good.starts_with('A') { 'B' } else { 'A' }, &good[1..]);
    let forged = [&other, &keys, &flipped, &good[..20], &format!("{good}AA"), "x", "AAAA", "%00"];
    for token in forged {
        let answer = admin.transactions.list_transactions(listing(token)).await;
        refused(answer, "PAGE_TOKEN_INVALID");
    }
    let long = "A".repeat(2_000);
    let answer =
        refused(admin.transactions.list_transactions(listing(&long)).await, "INVALID_FIELDS");
    assert_eq!(answer.fields, ["page.page_token"]);
    for changed in [
        v1::ListTransactionsRequest { state: State::Approved.into(), ..listing(&good) },
        v1::ListTransactionsRequest { decision: Decision::Approved.into(), ..listing(&good) },
        v1::ListTransactionsRequest { skip: 1, ..listing(&good) },
        v1::ListTransactionsRequest {
            since: Some(message(Timestamp::UNIX_EPOCH)),
            ..listing(&good)
        },
    ] {
        refused(admin.transactions.list_transactions(changed).await, "PAGE_TOKEN_INVALID");
    }
    // Another page size, and asking for the total, are the same list.
    let more = v1::ListTransactionsRequest {
        page: page(50, &good),
        include_total: true,
        ..Default::default()
    };
    assert_eq!(admin.list(more).await.transactions.len(), 3);
    let mut neighbour = server.with_key(&neighbour_key).await;
    let answer = neighbour.transactions.list_transactions(listing(&good)).await;
    refused(answer, "PAGE_TOKEN_INVALID");
    let mut bound = server.agent().await;
    let answer = bound.transactions.list_transactions(listing(&good)).await;
    refused(answer, "PAGE_TOKEN_INVALID");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_size_is_kept_within_bounds() {
    let (server, mut admin) = start().await;
    let (agent, _) = admin.agent_with_mandate(crate::harness::budget(90_000, 10), vec![]).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..201 {
        let (mut admin, agent) = (admin.clone(), agent.clone());
        calls.spawn(async move { admin.transaction(&agent, 1).await });
    }
    calls.join_all().await;
    for (page_size, length) in [(0, 50), (200, 200), (201, 200), (1_000_000, 200), (i32::MAX, 200)]
    {
        let request =
            v1::ListTransactionsRequest { page: page(page_size, ""), ..Default::default() };
        let listed = admin.list(request).await;
        assert_eq!(listed.transactions.len(), length, "{page_size}");
        assert!(!listed.next_page_token.is_empty());
    }
    for page_size in [-1, i32::MIN] {
        let request =
            v1::ListTransactionsRequest { page: page(page_size, ""), ..Default::default() };
        let answer = admin.transactions.list_transactions(request).await;
        assert_eq!(refused(answer, "INVALID_FIELDS").fields, ["page.page_size"]);
    }
    for skip in [-1, 10_001] {
        let request = v1::ListTransactionsRequest { skip, ..Default::default() };
        let answer = admin.transactions.list_transactions(request).await;
        assert_eq!(refused(answer, "INVALID_FIELDS").fields, ["skip"]);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_time_that_is_reversed_is_refused() {
    let (server, mut admin) = start().await;
    let (early, late) = (Timestamp::from_second(1_000), Timestamp::from_second(2_000));
    let (early, late) = (message(early.unwrap()), message(late.unwrap()));
    let far = prost_types::Timestamp { seconds: i64::MAX, nanos: 0 };
    for (since, until, field) in
        [(late, early, "until"), (early, early, "until"), (far, far, "since")]
    {
        let (since, until) = (Some(since), Some(until));
        let request = v1::ListTransactionsRequest { since, until, ..Default::default() };
        let answer = admin.transactions.list_transactions(request).await;
        let fields = refused(answer, "INVALID_FIELDS").fields;
        assert!(fields.iter().any(|wrong| wrong.starts_with(field)), "{fields:?}");
    }
    let request = v1::ListTransactionsRequest { state: 77, decision: 77, ..Default::default() };
    let answer = refused(admin.transactions.list_transactions(request).await, "INVALID_FIELDS");
    assert_eq!(answer.fields, ["decision", "state"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_list_is_whole_wherever_its_entries_are_found() {
    // More than wait for an index in a debug build: some are found there, the others in memory.
    const EACH: usize = 130;
    let (server, mut admin) = start().await;
    let mut mine = String::new();
    for _ in 0..2 {
        mine = admin.agent_with_mandate(crate::harness::budget(90_000, 10), vec![]).await.0;
        for _ in 0..EACH / 2 {
            admin.transaction(&mine, 1).await;
        }
    }
    for _ in 0..EACH / 2 {
        admin.transaction(&mine, 1).await;
    }
    // The whole record needs no index.
    let everything = v1::ListTransactionsRequest { page: page(200, ""), ..Default::default() };
    let mut record = admin.list(everything).await.transactions;
    record.retain(|one| one.agent_id == mine);
    assert_eq!(record.len(), EACH);
    let of_agent = v1::ListTransactionsRequest { agent_id: mine, ..Default::default() };
    for skip in [0, 1, 20, 40, 47, 48, 60, 100, EACH - 1, EACH, EACH + 1] {
        let (page, skip_field) = (page(20, ""), i32::try_from(skip).unwrap());
        let request = v1::ListTransactionsRequest { page, skip: skip_field, ..of_agent.clone() };
        let listed = admin.list(request).await.transactions;
        let wanted = record.iter().skip(skip).take(20).cloned().collect::<Vec<_>>();
        assert_eq!(listed, wanted, "{skip}");
    }
    let ids = |part: &[v1::Transaction]| part.iter().map(|one| one.id.clone()).collect::<Vec<_>>();
    for (newest, oldest) in [(0_usize, EACH), (3, 30), (10, 100), (90, EACH)] {
        let request = v1::ListTransactionsRequest {
            page: page(7, ""),
            since: record[oldest - 1].created_at,
            until: newest.checked_sub(1).and_then(|one| record[one].created_at),
            include_total: true,
            ..of_agent.clone()
        };
        assert_eq!(admin.all(request.clone()).await, ids(&record[newest..oldest]), "{newest}");
        let total = admin.list(request).await.total.unwrap();
        assert_eq!(usize::try_from(total).unwrap(), oldest - newest);
    }
    server.stop().await;
}
