//! The second places: a file that is only appended to, a bucket of S3, a receiver of webhooks.
//!
//! Each gets the same line of JSON; `quetra audit verify` reads it. Keeping a checkpoint again does
//! no harm: an object has the name of its entry, a call its id. Not here: when (`checkpoints`).

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures::future::join_all;
use http::header::{CONTENT_TYPE, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use rusty_s3::actions::{PutObject, S3Action};
use rusty_s3::{Bucket, Credentials, UrlStyle};
use serde_json::{Value, json};

use super::Signed;
use crate::clock::Clock;
use crate::config::{
    BucketConfig, BucketCredentials, CheckpointConfig, CheckpointWebhook, EgressConfig, Secret,
    read_bucket_credentials,
};
use crate::crypto::WebhookSecret;
use crate::domain::id::OrgId;
use crate::engine::StoredCheckpoint;
use crate::provider::egress::{
    Egress, EgressError, EgressLimits, EgressRules, Reply, SystemResolver,
};
use crate::webhook::sign;

/// Calls to one place at the same time.
const CALLS: usize = 16;

/// How long the signature of a request is good for.
const SIGNED_TIME: Duration = Duration::from_secs(60);

/// A call is tried again soon, so none has to be patient.
const LIMITS: EgressLimits = EgressLimits {
    connect_time: Duration::from_secs(2),
    answer_time: Duration::from_secs(4),
    body_time: Duration::from_secs(1),
    body_bytes: 2 * 1024,
};

/// Characters of the longest error code that is repeated from a bucket's answer.
const CODE_CHARS_MAX: usize = 48;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Where checkpoints are kept.
#[derive(Debug)]
pub(super) enum Place {
    /// Lines of a file.
    File(PathBuf),
    /// Objects of a bucket.
    Bucket(Objects),
    /// Calls to a receiver.
    Webhook(Receiver),
}

/// Why a checkpoint was not kept. Nothing secret is in it, and no URL.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the file cannot be written: {0}")]
    File(std::io::Error),
    #[error("{0}")]
    Credentials(String),
    #[error("{0}")]
    Call(#[from] EgressError),
    #[error("the answer is {0}")]
    Answer(StatusCode),
    #[error("the answer is {0} ({1})")]
    AnswerWithCode(StatusCode, String),
}

/// A bucket.
pub(super) struct Objects {
    bucket: Bucket,
    prefix: String,
    credentials_file: PathBuf,
    egress: Egress,
    clock: Arc<dyn Clock>,
}

/// A receiver of webhooks.
pub(super) struct Receiver {
    url: String,
    secret: WebhookSecret,
    egress: Egress,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Objects").field("bucket", &self.bucket.name()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

impl Place {
    /// Those of a configuration.
    ///
    /// # Errors
    /// When the road to one of them cannot be set up, or its secret is none.
    pub(super) fn all(
        named: &CheckpointConfig,
        egress: &EgressConfig,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<Vec<Self>> {
        let mut places = Vec::from_iter(named.file.clone().map(Self::File));
        if named.bucket.is_none() && named.webhook.is_none() {
            return Ok(places);
        }
        let rules = EgressRules::of_operator(egress.allows_http, egress.allowed.clone());
        let (rules, authorities) = (Arc::new(rules), egress.authorities.clone());
        let egress = Egress::new(rules, LIMITS, authorities, Arc::new(SystemResolver))?;
        if let Some(bucket) = &named.bucket {
            places.push(Self::Bucket(Objects::new(bucket, egress.clone(), Arc::clone(clock))?));
        }
        if let Some(webhook) = &named.webhook {
            places.push(Self::Webhook(Receiver::new(webhook, egress, Arc::clone(clock))?));
        }
        Ok(places)
    }

    /// Its name in logs and metrics.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Bucket(_) => "s3",
            Self::Webhook(_) => "webhook",
        }
    }

    /// How many checkpoints it keeps in one go.
    pub(super) const fn at_once(&self) -> usize {
        match self {
            Self::File(_) => usize::MAX,
            Self::Bucket(_) | Self::Webhook(_) => CALLS,
        }
    }

    /// Keeps checkpoints: which were not, and why one of them was not.
    pub(super) async fn keep(&self, signed: &[Signed]) -> (Vec<Signed>, Option<Failure>) {
        let kept = match self {
            Self::File(path) => match append(path, signed).await {
                Ok(()) => return (Vec::new(), None),
                Err(failure) => return (signed.to_vec(), Some(failure)),
            },
            Self::Bucket(objects) => {
                join_all(signed.iter().map(|(org, one)| objects.put(*org, one))).await
            }
            Self::Webhook(receiver) => {
                join_all(signed.iter().map(|(org, one)| receiver.post(*org, one))).await
            }
        };
        let (mut left, mut failure) = (Vec::new(), None);
        for (one, kept) in signed.iter().zip(kept) {
            if let Err(why) = kept {
                left.push(one.clone());
                failure = Some(why);
            }
        }
        (left, failure)
    }
}

impl Failure {
    /// Whether the whole place is away, rather than refusing one checkpoint.
    pub(super) const fn is_absence(&self) -> bool {
        match self {
            Self::File(_) | Self::Credentials(_) | Self::Call(_) => true,
            Self::Answer(_) | Self::AnswerWithCode(..) => false,
        }
    }
}

/// A checkpoint as every place keeps it.
fn said(org: OrgId, checkpoint: &StoredCheckpoint) -> Value {
    json!({
        "type": "checkpoint",
        "organizationId": org,
        "sequence": checkpoint.seq,
        "chain": hex::encode(checkpoint.chain),
        "signedAtMicros": checkpoint.at,
        "keyId": checkpoint.key_id,
        "signature": checkpoint.signature,
    })
}

/// Appends lines to a file and flushes it.
async fn append(path: &Path, signed: &[Signed]) -> Result<(), Failure> {
    let lines: String =
        signed.iter().map(|(org, checkpoint)| format!("{}\n", said(*org, checkpoint))).collect();
    let path = path.to_owned();
    let written = tokio::task::spawn_blocking(move || {
        let mut file = File::options().create(true).append(true).open(path)?;
        file.write_all(lines.as_bytes())?;
        file.sync_data()
    });
    let written = written.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    written.map_err(Failure::File)
}

impl Objects {
    fn new(config: &BucketConfig, egress: Egress, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let BucketConfig { endpoint, bucket, prefix, region, credentials_file } = config;
        let (name, region) = (bucket.clone(), region.clone());
        // The form that every compatible service knows.
        let bucket = Bucket::new(endpoint.clone(), UrlStyle::Path, name, region)
            .context("audit_checkpoint_s3_url names no bucket")?;
        let (prefix, credentials_file) = (prefix.clone(), credentials_file.clone());
        Ok(Self { bucket, prefix, credentials_file, egress, clock })
    }

    /// Puts an object that is not there yet; one that is there was put before.
    async fn put(&self, org: OrgId, checkpoint: &StoredCheckpoint) -> Result<(), Failure> {
        // Temporary credentials are written anew by whoever renews them.
        let read = read_bucket_credentials(&self.credentials_file).map_err(Failure::Credentials)?;
        let BucketCredentials { key_id, secret, token } = read;
        let secret = secret.expose();
        let credentials = match token.as_ref().map(Secret::expose) {
            Some(token) => Credentials::new_with_token(key_id, secret, token),
            None => Credentials::new(key_id, secret),
        };
        // The number has leading zeros, so that names sort as entries do.
        let name = format!("{}{org}/{:019}.json", self.prefix, checkpoint.seq);
        let action = PutObject::new(&self.bucket, Some(&credentials), &name);
        let url = action.sign_with_time(SIGNED_TIME, &self.clock.now());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        let body = Bytes::from(format!("{}\n", said(org, checkpoint)));
        let reply = self.egress.send(Method::PUT, url.as_str(), headers, body).await?;
        match reply.status {
            StatusCode::PRECONDITION_FAILED => Ok(()),
            status if status.is_success() => Ok(()),
            status => Err(match error_code(&reply) {
                Some(code) => Failure::AnswerWithCode(status, code),
                None => Failure::Answer(status),
            }),
        }
    }
}

/// The code in a bucket's answer, such as `AccessDenied`.
fn error_code(reply: &Reply) -> Option<String> {
    let text = std::str::from_utf8(&reply.body).ok()?;
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let is_word = code.len() <= CODE_CHARS_MAX && code.chars().all(|c| c.is_ascii_alphanumeric());
    is_word.then(|| code.to_owned())
}

impl Receiver {
    fn new(
        config: &CheckpointWebhook,
        egress: Egress,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let secret = config.secret.expose().parse().map_err(|error| {
            anyhow::anyhow!("the secret of audit_checkpoint_webhook_secret_file {error}")
        })?;
        Ok(Self { url: config.url.to_string(), secret, egress, clock })
    }

    async fn post(&self, org: OrgId, checkpoint: &StoredCheckpoint) -> Result<(), Failure> {
        let id = format!("chk_{}_{}", org, checkpoint.seq);
        let signed_at = Timestamp::from_microsecond(checkpoint.at).unwrap_or_default();
        let body = json!({
            "type": "audit.checkpoint",
            "timestamp": signed_at,
            "data": said(org, checkpoint),
        });
        let body = Bytes::from(body.to_string());
        let secrets = std::slice::from_ref(&self.secret);
        let headers = sign::headers(&id, self.clock.now(), &body, secrets);
        let reply = self.egress.post(&self.url, headers, body).await?;
        match reply.status {
            status if status.is_success() => Ok(()),
            status => Err(Failure::Answer(status)),
        }
    }
}
