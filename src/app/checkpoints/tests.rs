//! Each place, against a stand-in that is one more reader of the formats.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::*;
use crate::clock::SystemClock;
use crate::config::{BucketConfig, CheckpointConfig, CheckpointWebhook, EgressConfig, Secret};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A call as it came.
#[derive(Clone, Debug)]
struct Call {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

/// Answers with the same status until it is told another one.
struct StandIn {
    calls: Mutex<Vec<Call>>,
    answer: Mutex<(StatusCode, &'static str)>,
    /// What it refuses, by a part of the path.
    refused: Mutex<Option<String>>,
}

impl StandIn {
    async fn start() -> (Arc<Self>, url::Url) {
        let one = Arc::new(Self {
            calls: Mutex::default(),
            answer: Mutex::new((StatusCode::OK, "")),
            refused: Mutex::default(),
        });
        let router = Router::new().fallback(Self::take).with_state(Arc::clone(&one));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        #[expect(clippy::disallowed_methods, reason = "a peer of one test")]
        tokio::spawn(async move { axum::serve(listener, router).await });
        (one, url)
    }

    async fn take(
        State(one): State<Arc<Self>>,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> (StatusCode, [(&'static str, &'static str); 1], &'static str) {
        let refused = one.refused.lock().unwrap().clone();
        if refused.is_some_and(|part| uri.path().contains(&part)) {
            return (StatusCode::FORBIDDEN, [("location", "/elsewhere")], "");
        }
        one.calls.lock().unwrap().push(Call { method, uri, headers, body });
        let (status, text) = *one.answer.lock().unwrap();
        (status, [("location", "/elsewhere")], text)
    }

    fn answers(&self, status: StatusCode, text: &'static str) {
        *self.answer.lock().unwrap() = (status, text);
    }

    fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

fn private(path: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::File::options();
    let mut file = file.create(true).write(true).truncate(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
}

/// All three places; the bucket and the receiver are stand-ins.
struct Scene {
    folder: tempfile::TempDir,
    bucket: Arc<StandIn>,
    receiver: Arc<StandIn>,
    checkpoints: Checkpoints,
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ((bucket, endpoint), (receiver, url)) =
            (StandIn::start().await, StandIn::start().await);
        let credentials_file = folder.path().join("credentials");
        private(&credentials_file, &credentials("AKIDEXAMPLE", "first/secret", ""));
        let config = CheckpointConfig {
            file: Some(folder.path().join("checkpoints.jsonl")),
            bucket: Some(BucketConfig {
                endpoint,
                bucket: "ledger".to_owned(),
                prefix: "eu/".to_owned(),
                region: "eu-central-1".to_owned(),
                credentials_file,
            }),
            webhook: Some(CheckpointWebhook {
                url: url.join("/checkpoints").unwrap(),
                secret: Secret::new(SECRET.to_owned()),
            }),
        };
        let egress = EgressConfig { allows_http: true, ..EgressConfig::default() };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let checkpoints = Checkpoints::new(&config, &egress, &clock).unwrap();
        Self { folder, bucket, receiver, checkpoints }
    }

    async fn keep(&mut self, signed: &[Signed]) {
        self.checkpoints.add(signed);
        self.checkpoints.keep().await;
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("checkpoints.jsonl"));
        text.unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// How many checkpoints wait for each place.
    fn waiting(&self) -> Vec<(&'static str, usize)> {
        let places = &self.checkpoints.places;
        places.iter().map(|one| (one.place.name(), one.checkpoints.len())).collect()
    }
}

fn credentials(id: &str, secret: &str, more: &str) -> String {
    format!("[default]\naws_access_key_id = {id}\naws_secret_access_key={secret}\n{more}")
}

fn signed(org: u8, seq: i64) -> Signed {
    let (key_id, signature) = ("key".to_owned(), "c2ln".to_owned());
    let checkpoint =
        StoredCheckpoint { seq, chain: [7; 32], at: 1_700_000_000_000_000, key_id, signature };
    (OrgId::from_bytes([org; 16]), checkpoint)
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Whether a request is signed as Signature Version 4 asks for query parameters: computed from the
/// request as it came, with nothing of the code that signs.
fn is_signed(call: &Call, secret: &str) -> bool {
    let query = call.uri.query().unwrap();
    let mut pairs: Vec<&str> = query.split('&').collect();
    let place = pairs.iter().position(|pair| pair.starts_with("X-Amz-Signature=")).unwrap();
    let signature = pairs.remove(place).split_once('=').unwrap().1.to_owned();
    pairs.sort_unstable();
    let value = |name: &str| {
        let pair = pairs.iter().find_map(|pair| pair.strip_prefix(&format!("{name}=")));
        pair.unwrap().replace("%2F", "/")
    };
    assert_eq!(value("X-Amz-Algorithm"), "AWS4-HMAC-SHA256");
    assert_eq!(value("X-Amz-SignedHeaders"), "host");
    let credential = value("X-Amz-Credential");
    let (_, scope) = credential.split_once('/').unwrap();
    let host = call.headers["host"].to_str().unwrap();
    let canonical = format!(
        "{}\n{}\n{}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD",
        call.method,
        call.uri.path(),
        pairs.join("&"),
    );
    let digest = hex::encode(Sha256::digest(canonical.as_bytes()));
    let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{digest}", value("X-Amz-Date"));
    let first = format!("AWS4{secret}").into_bytes();
    let key = scope.split('/').fold(first, |key, part| hmac(&key, part));
    hex::encode(hmac(&key, &text)) == signature
}

#[tokio::test]
async fn each_place_gets_each_checkpoint_in_its_form() {
    let mut scene = Scene::new().await;
    scene.keep(&[signed(1, 41), signed(2, 7)]).await;
    assert_eq!(scene.waiting(), [("file", 0), ("s3", 0), ("webhook", 0)]);
    let lines = scene.lines();
    let said: Vec<serde_json::Value> =
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(said.len(), 2);
    assert_eq!(said[0]["sequence"], 41);

    let org = |number: u8| OrgId::from_bytes([number; 16]).to_string();
    let puts = scene.bucket.calls();
    let objects: BTreeMap<_, _> =
        puts.iter().map(|put| (put.uri.path().to_owned(), put.body.clone())).collect();
    let name = |number, seq| format!("/ledger/eu/{}/{seq:019}.json", org(number));
    let expected = [(name(1, 41), &lines[0]), (name(2, 7), &lines[1])];
    let expected = expected.map(|(name, line)| (name, Bytes::from(format!("{line}\n"))));
    assert_eq!(objects, BTreeMap::from(expected));
    for put in &puts {
        assert_eq!(
            (&put.method, &put.headers["if-none-match"]),
            (&Method::PUT, &"*".parse().unwrap())
        );
        assert!(put.uri.query().unwrap().contains("AKIDEXAMPLE%2F"), "{}", put.uri);
        assert!(is_signed(put, "first/secret"));
        assert!(!is_signed(put, "another"));
    }

    let mut posts = scene.receiver.calls();
    posts.sort_by_key(|post| post.headers["webhook-id"].to_str().unwrap().to_owned());
    assert_eq!(posts.len(), 2);
    for (post, said) in posts.iter().zip(&said) {
        let header = |name: &str| post.headers[name].to_str().unwrap();
        assert_eq!((&post.method, post.uri.path()), (&Method::POST, "/checkpoints"));
        let body: serde_json::Value = serde_json::from_slice(&post.body).unwrap();
        assert_eq!((&body["type"], &body["data"]), (&"audit.checkpoint".into(), said));
        let org = said["organizationId"].as_str().unwrap();
        assert_eq!(header("webhook-id"), format!("chk_{org}_{}", said["sequence"]));
        let text = std::str::from_utf8(&post.body).unwrap();
        let text = format!("{}.{}.{text}", header("webhook-id"), header("webhook-timestamp"));
        let key = STANDARD.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
        let expected = format!("v1,{}", STANDARD.encode(hmac(&key, &text)));
        assert_eq!(header("webhook-signature"), expected);
    }
}

#[tokio::test]
async fn a_place_that_is_away_gets_the_newest_later_and_keeps_no_other_waiting() {
    let mut scene = Scene::new().await;
    scene.bucket.answers(StatusCode::SERVICE_UNAVAILABLE, "<Error><Code>SlowDown</Code></Error>");
    scene.keep(&[signed(1, 41), signed(2, 7)]).await;
    scene.keep(&[signed(1, 43)]).await;
    assert_eq!(scene.waiting(), [("file", 0), ("s3", 2), ("webhook", 0)]);
    assert_eq!((scene.lines().len(), scene.receiver.calls().len()), (3, 3));
    scene.bucket.calls();
    scene.bucket.answers(StatusCode::OK, "");
    scene.keep(&[]).await;
    assert_eq!(scene.waiting(), [("file", 0), ("s3", 0), ("webhook", 0)]);
    let puts = scene.bucket.calls();
    let mut numbers: Vec<_> =
        puts.iter().map(|put| put.uri.path().rsplit('/').next().unwrap().to_owned()).collect();
    numbers.sort();
    assert_eq!(numbers, ["0000000000000000007.json", "0000000000000000043.json"]);
    assert_eq!((scene.lines().len(), scene.receiver.calls().len()), (3, 0));
}

#[tokio::test]
async fn a_place_that_refuses_one_organization_gets_the_others() {
    let mut scene = Scene::new().await;
    *scene.bucket.refused.lock().unwrap() = Some(OrgId::from_bytes([1; 16]).to_string());
    let all: Vec<Signed> = (1..=40).map(|org| signed(org, 9)).collect();
    scene.keep(&all).await;
    assert_eq!(scene.waiting(), [("file", 0), ("s3", 1), ("webhook", 0)]);
    assert_eq!(scene.bucket.calls().len(), 39);
    *scene.bucket.refused.lock().unwrap() = None;
    scene.keep(&[]).await;
    assert_eq!((scene.bucket.calls().len(), scene.waiting()[1]), (1, ("s3", 0)));
}

#[tokio::test]
async fn an_object_that_is_there_already_was_kept_before() {
    let mut scene = Scene::new().await;
    scene.bucket.answers(StatusCode::PRECONDITION_FAILED, "");
    scene.keep(&[signed(1, 41)]).await;
    assert_eq!(scene.waiting(), [("file", 0), ("s3", 0), ("webhook", 0)]);
}

#[tokio::test]
async fn a_failure_says_why_and_nothing_secret_and_no_redirect_is_followed() {
    let scene = Scene::new().await;
    let places = &scene.checkpoints.places;
    let (bucket, receiver) = (&places[1].place, &places[2].place);
    let part = [signed(1, 41)];
    for (status, text, expected) in [
        (403, "<Code>AccessDenied</Code>", "the answer is 403 Forbidden (AccessDenied)"),
        (403, "<Code>first/secret</Code>", "the answer is 403 Forbidden"),
        (301, "", "the answer is 301 Moved Permanently"),
        (500, "", "the answer is 500 Internal Server Error"),
    ] {
        scene.bucket.answers(StatusCode::from_u16(status).unwrap(), text);
        scene.receiver.answers(StatusCode::from_u16(status).unwrap(), "");
        assert_eq!(bucket.keep(&part).await.1.unwrap().to_string(), expected);
        assert_eq!(receiver.keep(&part).await.0, part);
        assert_eq!((scene.bucket.calls().len(), scene.receiver.calls().len()), (1, 1));
    }
}

#[tokio::test]
async fn credentials_that_are_written_anew_are_used_at_once() {
    let mut scene = Scene::new().await;
    let path = scene.folder.path().join("credentials");
    let token = "a".repeat(3_000);
    private(&path, &credentials("ASIA2", "second", &format!("aws_session_token = {token}")));
    scene.keep(&[signed(1, 41)]).await;
    let put = scene.bucket.calls().remove(0);
    assert!(is_signed(&put, "second"));
    assert!(put.uri.query().unwrap().contains(&format!("X-Amz-Security-Token={token}")));

    std::fs::remove_file(&path).unwrap();
    scene.keep(&[signed(1, 42)]).await;
    assert_eq!(scene.waiting()[1], ("s3", 1));
    private(&path, "aws_access_key_id = ASIA3\n");
    let failure = scene.checkpoints.places[1].place.keep(&[signed(1, 42)]).await.1.unwrap();
    assert!(failure.to_string().contains("aws_secret_access_key"), "{failure}");
    assert!(!failure.to_string().contains("ASIA3"), "{failure}");
}
