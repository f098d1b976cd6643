//! Watches every error that a test's client is answered with, and holds it against docs/ERRORS.md.
//!
//! A reason with another code or other metadata than documented, or one that its RPC does not
//! declare, fails the test that met it, whatever that test is about. Not here: whether the page is
//! what the contract says (`contract`).

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt;
use tower::Service;

/// The page that a test of the contract keeps equal to the protos.
const PAGE: &str = include_str!("../../../docs/ERRORS.md");

/// Code and metadata keys of a reason.
struct Documented {
    code: String,
    metadata: BTreeSet<String>,
}

static REASONS: LazyLock<HashMap<String, Documented>> = LazyLock::new(|| {
    let section = PAGE.split("\n## ").find(|part| part.starts_with("Error reasons")).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let documented = rows.map(|row| {
        let cells = row.split(" | ").collect::<Vec<_>>();
        let code = spans(cells[1]).remove(0);
        let metadata = spans(cells.last().unwrap()).into_iter().collect();
        (spans(cells[0]).remove(0), Documented { code, metadata })
    });
    documented.collect()
});

/// Which reasons an RPC can answer with.
struct Declared {
    everywhere: Vec<String>,
    by_path: HashMap<String, Vec<String>>,
}

static DECLARED: LazyLock<Declared> = LazyLock::new(|| {
    let section = PAGE.split("\n## ").find(|part| part.starts_with("What each RPC")).unwrap();
    let everywhere = section.lines().find(|line| line.starts_with("Every RPC:")).unwrap();
    let mut service = String::new();
    let mut by_path = HashMap::new();
    for line in section.lines() {
        if let Some(name) = line.strip_prefix("### ") {
            name.clone_into(&mut service);
        } else if line.starts_with("| ") && !line.starts_with("| RPC ") {
            let cells = line.split(" | ").collect::<Vec<_>>();
            let rpc = cells[0].trim_start_matches("| ");
            let reasons = spans(cells.last().unwrap());
            by_path.insert(format!("/quetra.v1.{service}/{rpc}"), reasons);
        }
    }
    Declared { everywhere: spans(everywhere), by_path }
});

/// The texts in backticks.
fn spans(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// A canonical code as the contract writes it.
fn code_word(code: Code) -> String {
    let mut word = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.push(c.to_ascii_uppercase());
    }
    word
}

/// What is wrong with an error; empty if it is as documented.
pub(crate) fn complaint(path: &str, status: &Status) -> Option<String> {
    let Some(info) = status.get_details_error_info() else {
        return Some("it has no ErrorInfo".to_owned());
    };
    let Some(documented) = REASONS.get(&info.reason) else {
        return Some(format!("the reason `{}` is not documented", info.reason));
    };
    let keys = info.metadata.keys().cloned().collect::<BTreeSet<_>>();
    let Declared { everywhere, by_path } = &*DECLARED;
    let own = by_path.get(path).map_or(&[][..], Vec::as_slice);
    if info.domain != "quetra" {
        Some(format!("its domain is `{}`", info.domain))
    } else if code_word(status.code()) != documented.code {
        Some(format!("{} is documented as {}", info.reason, documented.code))
    } else if keys != documented.metadata {
        Some(format!("{} has the metadata {keys:?}", info.reason))
    } else if !everywhere.contains(&info.reason) && !own.contains(&info.reason) {
        Some(format!("the RPC does not declare {}", info.reason))
    } else {
        None
    }
}

/// A channel whose errors are checked.
#[derive(Clone, Debug)]
pub(crate) struct Witness(pub(crate) Channel);

impl Service<http::Request<tonic::body::Body>> for Witness {
    type Response = http::Response<tonic::body::Body>;
    type Error = tonic::transport::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let path = request.uri().path().to_owned();
        let answer = self.0.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            let status = Status::from_header_map(answer.headers());
            if let Some(status) = status.filter(|status| status.code() != Code::Ok) {
                let wrong = path.starts_with("/quetra.v1.").then(|| complaint(&path, &status));
                if let Some(wrong) = wrong.flatten() {
                    panic!("{path} broke the error contract: {wrong}\n{status:?}");
                }
            }
            Ok(answer)
        })
    }
}

/// What a client learns from an error.
#[derive(Debug, PartialEq)]
pub(crate) struct Refused {
    pub(crate) code: Code,
    pub(crate) reason: String,
    pub(crate) metadata: HashMap<String, String>,
    /// Paths of the fields that are wrong.
    pub(crate) fields: Vec<String>,
}

impl Refused {
    pub(crate) fn of(status: &Status) -> Self {
        let info = status.get_details_error_info().unwrap_or_else(|| panic!("{status:?}"));
        let fields = status.get_details_bad_request().map(|bad| bad.field_violations);
        let fields = fields.unwrap_or_default().into_iter().map(|wrong| wrong.field);
        Self {
            code: status.code(),
            reason: info.reason,
            metadata: info.metadata,
            fields: fields.collect(),
        }
    }

    pub(crate) fn says(&self, key: &str) -> &str {
        &self.metadata[key]
    }
}

/// The error of a call that must fail for this reason.
#[track_caller]
pub(crate) fn refused<T>(answer: Result<Response<T>, Status>, reason: &str) -> Refused {
    match answer {
        Ok(_) => panic!("it should have been refused: {reason}"),
        Err(status) => {
            let refused = Refused::of(&status);
            assert_eq!(refused.reason, reason, "{status:?}");
            refused
        }
    }
}

#[test]
fn an_error_that_is_not_as_documented_is_noticed() {
    use tonic_types::{ErrorDetails, ErrorInfo};
    let path = "/quetra.v1.AgentsService/GetAgent";
    let error = |code: Code, info: ErrorInfo| {
        let mut details = ErrorDetails::new();
        details.set_error_info(info.reason, info.domain, info.metadata);
        complaint(path, &Status::with_error_details(code, "no", details)).unwrap_or_default()
    };
    let info = |reason: &str, keys: &[&str]| {
        let metadata = keys.iter().map(|key| ((*key).to_owned(), String::new()));
        ErrorInfo::new(reason, "quetra", metadata.collect::<HashMap<_, _>>())
    };
    assert_eq!(error(Code::NotFound, info("NOT_FOUND", &["kind"])), "");
    assert!(error(Code::Internal, info("NOT_FOUND", &["kind"])).contains("documented as"));
    assert!(error(Code::NotFound, info("NOT_FOUND", &[])).contains("metadata"));
    assert!(error(Code::AlreadyExists, info("NAME_TAKEN", &[])).contains("does not declare"));
    assert!(error(Code::NotFound, info("GONE", &[])).contains("not documented"));
    assert!(complaint(path, &Status::not_found("bare")).unwrap().contains("no ErrorInfo"));
    let (everywhere, rpcs) = (DECLARED.everywhere.len(), DECLARED.by_path.len());
    assert!(REASONS.len() >= 27 && everywhere >= 10 && rpcs >= 30, "the page could not be read");
}
