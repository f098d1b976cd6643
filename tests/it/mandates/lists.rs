//! Lists of mandates: filters, pages, and the status as it is shown.
//!
//! Not here: lists of versions (`change`), and whose mandates a key sees (`access`).

use quetra::proto::v1::{self, MandateStatus as Status};

use super::{Step, at, message, start};
use crate::harness::{Clients, budget, refused};

async fn list(admin: &mut Clients, request: v1::ListMandatesRequest) -> Vec<v1::Mandate> {
    let mut request = request;
    let mut found = Vec::new();
    loop {
        let listed = admin.mandates.list_mandates(request.clone()).await.unwrap().into_inner();
        found.extend(listed.mandates);
        if listed.next_page_token.is_empty() {
            return found;
        }
        let page = request.page.get_or_insert_default();
        page.page_token = listed.next_page_token;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mandates_are_listed_newest_first_page_by_page() {
    let (server, mut admin, _) = start().await;
    let agent_id = admin.agent_named("many").await;
    let mut made = Vec::new();
    for _ in 0..11 {
        made.push(admin.mandate(&agent_id, budget(1_000, 100), vec![]).await);
    }
    made.reverse();
    for page_size in [1, 4, 11, 200] {
        let page = Some(v1::PageRequest { page_size, page_token: String::new() });
        let agent_id = agent_id.clone();
        let request = v1::ListMandatesRequest { page, agent_id, ..Default::default() };
        let listed = list(&mut admin, request).await;
        assert_eq!(listed.into_iter().map(|one| one.id).collect::<Vec<_>>(), made);
    }
    let page = Some(v1::PageRequest { page_size: 4, page_token: String::new() });
    let request = v1::ListMandatesRequest { page, agent_id, ..Default::default() };
    let listed = admin.mandates.list_mandates(request).await.unwrap().into_inner();
    // Of another filter it is not a token.
    let page = Some(v1::PageRequest { page_size: 4, page_token: listed.next_page_token });
    let request = v1::ListMandatesRequest { page, ..Default::default() };
    refused(admin.mandates.list_mandates(request).await, "PAGE_TOKEN_INVALID");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_filter_means_the_status_that_is_shown() {
    let (server, mut admin, clock) = start().await;
    let mut expect = std::collections::HashMap::<i32, Vec<String>>::new();
    for (status, steps) in [
        (Status::Draft, &[][..]),
        (Status::Active, &[Step::Activate][..]),
        (Status::Paused, &[Step::Activate, Step::Pause][..]),
        (Status::Revoked, &[Step::Activate, Step::Revoke][..]),
        (Status::Expired, &[Step::Activate][..]),
        (Status::Expired, &[Step::Activate, Step::Pause][..]),
    ] {
        let ends = status == Status::Expired;
        let request = v1::CreateMandateRequest {
            agent_id: admin.agent_named(&format!("{status:?} {steps:?}")).await,
            name: "one".to_owned(),
            budget: Some(budget(1_000, 100)),
            valid_until: ends.then(|| message(at("2026-05-04T13:00:00Z"))),
            ..Default::default()
        };
        let made = admin.mandates.create_mandate(request).await.unwrap().into_inner();
        let id = made.mandate.unwrap().id;
        for step in steps {
            admin.step(&id, *step).await.unwrap();
        }
        expect.entry(status.into()).or_default().insert(0, id);
    }
    let demo = server.first.mandate_id.clone();
    expect.get_mut(&Status::Active.into()).unwrap().push(demo);
    clock.set(at("2026-05-04T14:00:00Z"));
    for (status, expected) in expect {
        for page_size in [1, 50] {
            let page = Some(v1::PageRequest { page_size, page_token: String::new() });
            let request = v1::ListMandatesRequest { page, status, ..Default::default() };
            let listed = list(&mut admin, request).await;
            let statuses = listed.iter().map(|one| one.status).collect::<Vec<_>>();
            let ids = listed.into_iter().map(|one| one.id).collect::<Vec<_>>();
            assert_eq!(ids, expected, "{status} {statuses:?}");
        }
    }
    server.stop().await;
}
