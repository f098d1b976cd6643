//! A page in Chromium, from another origin than the server's: what browsers send, and let through.
//!
//! `tests/browser/build` makes the page, `tests/browser/drive.js` opens it, and what is right is
//! decided here. The page uses the very code that docs/BROWSERS.md shows. Nothing is skipped:
//! without Chromium the test fails. Not here: gRPC-Web and CORS byte by byte
//! (`src/serve/tests/web.rs`).

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::*;
use crate::harness::Folder;
use crate::process::spawn;
use crate::tidy::{read, root};

/// How long the browser may take for one page.
const PATIENCE: Duration = Duration::from_secs(60);

/// Chromium, and two origins that serve it the same page.
struct Browser {
    driver: Child,
    lines: Receiver<String>,
    folder: Folder,
    origins: [String; 2],
}

impl Browser {
    fn start() -> Self {
        let built = Command::new(root().join("tests/browser/build")).output().unwrap();
        let said = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "this test needs Chromium and its page: {said}");
        let made = String::from_utf8(built.stdout).unwrap();
        let [chromium, page] = made.lines().collect::<Vec<_>>()[..] else { panic!("{made}") };
        let folder = Folder::new();
        let mut command = Command::new("node");
        command.arg(format!("{page}/drive.js")).args([chromium, page]);
        command.arg(folder.path().join("profile")).stdin(Stdio::piped());
        let (driver, lines) = spawn(command, &folder.path().join("stderr.log"));
        let mut browser = Self { driver, lines, folder, origins: [String::new(), String::new()] };
        browser.origins = serde_json::from_value(browser.line()).unwrap();
        browser
    }

    fn line(&self) -> Value {
        let errors = || std::fs::read_to_string(self.folder.path().join("stderr.log"));
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => serde_json::from_str(&line).unwrap(),
            Err(error) => panic!("{error}: {}", errors().unwrap()),
        }
    }

    /// What the page of an origin tells, and what the browser did about it.
    fn visit(&self, origin: &str, settings: &Value) -> Value {
        let line = json!({"origin": origin, "settings": settings});
        writeln!(self.driver.stdin.as_ref().unwrap(), "{line}").unwrap();
        let seen = self.line();
        assert!(seen["threw"].is_null(), "{seen}");
        seen
    }

    fn stop(mut self) {
        drop(self.driver.stdin.take());
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.driver.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "the browser does not end");
            std::thread::sleep(Duration::from_millis(10));
        };
        assert!(status.success(), "{status}");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended already. Chromium ends with the pipe that it is driven by.
        drop(self.driver.kill());
        drop(self.driver.wait());
    }
}

fn as_json<M: Message + Name>(message: &M) -> Value {
    serde_json::to_value(dynamic(&M::full_name(), &message.encode_to_vec())).unwrap()
}

async fn allowing(origin: &str) -> Server {
    let listed = |config: &mut quetra::config::ServerConfig| {
        config.cors_allowed_origins = vec![origin.to_owned()];
    };
    Server::with(listed, Arc::new(SystemClock)).await
}

/// The story of one way, with its failures as the documented code tells them.
fn told_to_the_page(way: &str, page: &Value) {
    let yes = from_json(page["approved"].clone());
    let no = from_json(page["rejected"].clone());
    told((&yes, &no), &from_json(page["budget"].clone()), &from_json(page["listed"].clone()));
    // The same idempotency keys again: the same answers, and nothing was charged for them.
    let again = &page["approvedAgain"];
    let expected = json!({"approved": true, "decision": "APPROVED", "failed": [],
        "remaining": "9800"});
    assert_eq!(again, &expected, "{way}");
    let again = &page["rejectedAgain"];
    assert_eq!((&again["approved"], &again["decision"]), (&json!(false), &json!("REJECTED")));
    let details = no.rule_results.iter().filter(|result| !result.passed);
    let details: Vec<_> = details.map(|result| result.detail.as_str()).collect();
    assert_eq!(again["failed"], json!(details), "{way}");
    let wrong = &page["wrongKey"];
    assert_eq!((&wrong["approved"], &wrong["code"]), (&json!(false), &json!("Unauthenticated")));
    assert_eq!(wrong["reason"], "CREDENTIAL_INVALID", "{way}: {wrong}");
    assert!(wrong["message"].as_str().unwrap().contains("Bearer"), "{way}: {wrong}");
    let wrong = &page["wrongFields"];
    assert_eq!(
        (&wrong["code"], &wrong["reason"]),
        (&json!("InvalidArgument"), &json!("INVALID_FIELDS"))
    );
    let fields = wrong["fields"].as_array().unwrap().iter();
    let fields: BTreeSet<_> = fields.map(|wrong| wrong["field"].as_str().unwrap()).collect();
    assert_eq!(fields, BTreeSet::from(["amount", "currency", "vendor"]), "{way}: {wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_listed_origin_hears_the_same_story_and_another_page_nothing() {
    let browser = Browser::start();
    let [listed, other] = &browser.origins;
    for way in ["grpc-web", "grpc-web-text", "connect"] {
        let server = allowing(listed).await;
        let settings = json!({
            "way": way,
            "server": server.url(),
            "key": server.first.agent_key,
            "approved": as_json(&ask(&server.agent_id(), 200)),
            "rejected": as_json(&unwanted(&server.agent_id())),
        });
        let seen = browser.visit(listed, &settings);
        told_to_the_page(way, &seen["told"]);
        // The browser asked first, and got the permission.
        let url = format!("{}/quetra.v1.{EVALUATE}", server.url());
        let preflight = json!({"url": url, "status": 200});
        assert!(seen["preflights"].as_array().unwrap().contains(&preflight), "{way}: {seen}");
        assert_eq!(seen["blocked"], json!([]), "{way}");
        server.stop().await;
    }

    let server = allowing(listed).await;
    let settings = json!({"server": server.url(), "key": server.first.agent_key});
    let seen = browser.visit(other, &settings);
    let told = &seen["told"]["firstCall"];
    assert_eq!((&told["approved"], &told["code"]), (&json!(false), &json!("Unknown")), "{seen}");
    assert_eq!(seen["blocked"], json!(["PreflightMissingAllowOriginHeader"]), "{seen}");
    assert!(seen["console"].to_string().contains("blocked by CORS policy"), "{seen}");
    let whose = v1::GetBudgetRequest::default();
    let budget = server.agent().await.budget.get_budget(whose).await.unwrap().into_inner();
    assert_eq!(budget.budget.unwrap().spent, 0, "the call was made");
    let told = &browser.visit(listed, &settings)["told"]["firstCall"];
    assert_eq!((&told["approved"], &told["remaining"]), (&json!(true), &json!("9800")), "{told}");
    server.stop().await;
    browser.stop();
}

/// The code blocks of a language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let starts = page.split(&format!("```{language}\n")).skip(1).collect::<Vec<_>>();
    starts.into_iter().map(|block| block.split_once("```").unwrap().0).collect()
}

#[test]
fn the_page_for_browsers_shows_the_code_that_is_tested() {
    let page = read("docs/BROWSERS.md");
    let [client, call] = blocks(&page, "js")[..] else { panic!("two blocks of JavaScript") };
    assert_eq!(client, read("tests/browser/quetra.js"));
    assert!(read("tests/browser/page.js").contains(call), "{call}");
    let [template] = blocks(&page, "yaml")[..] else { panic!("one template") };
    assert!(read("tests/browser/buf.gen.yaml").ends_with(template), "{template}");
    let buf = read("tests/buf");
    let (_, version) = buf.split_once("VERSION=").unwrap();
    let pinned = format!("@bufbuild/buf@{}", version.lines().next().unwrap());
    assert!(page.contains(&pinned), "{pinned}");
    let packages: Value = serde_json::from_str(&read("tests/browser/package.json")).unwrap();
    for kind in ["dependencies", "devDependencies"] {
        for (name, version) in packages[kind].as_object().unwrap() {
            let pinned = format!("{name}@{}", version.as_str().unwrap());
            assert!(page.contains(&pinned) || name == "esbuild", "{pinned}");
        }
    }
}
