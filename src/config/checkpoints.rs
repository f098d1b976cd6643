//! The settings of the places where signed checkpoints are kept beside the database.
//!
//! An operator names them, so they may be in a private network without `egress_allow`; an address
//! without encryption needs `egress_allow_http` as any other. Not here: writing there (`app`).

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use url::Url;
use zeroize::Zeroizing;

use super::setting::Key;
use super::validate::Check;
use super::{BucketConfig, CheckpointConfig, CheckpointWebhook, Secret, is_private};

/// Bytes of the longest file with credentials or a secret.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Of a bucket, by the rules of S3 for names.
const BUCKET_BYTES_MAX: usize = 63;

/// What requests to a bucket are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketCredentials {
    /// The id of the access key.
    pub key_id: String,
    /// The access key.
    pub secret: Secret,
    /// What temporary credentials have besides.
    pub token: Option<Secret>,
}

impl Check<'_> {
    pub(super) fn checkpoints(&mut self) -> CheckpointConfig {
        CheckpointConfig {
            file: self.checkpoint_file(),
            bucket: self.checkpoint_bucket(),
            webhook: self.checkpoint_webhook(),
        }
    }

    fn checkpoint_file(&mut self) -> Option<PathBuf> {
        let path = self.settings.path(Key::AuditCheckpointFile)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if path.is_dir() {
            let sentence = "it is a directory; name a file in a directory that exists";
            self.problem(Key::AuditCheckpointFile, sentence);
        } else if folder.is_some_and(|folder| !folder.is_dir()) {
            let sentence = "its directory does not exist; create it, best on another disk";
            self.problem(Key::AuditCheckpointFile, sentence);
        }
        Some(path.to_owned())
    }

    fn checkpoint_bucket(&mut self) -> Option<BucketConfig> {
        let (url, file) = (Key::AuditCheckpointS3Url, Key::AuditCheckpointS3CredentialsFile);
        let (url, file) = self.both(url, file)?;
        let url = self.place(Key::AuditCheckpointS3Url, &url);
        if let Err(sentence) = read_bucket_credentials(&file) {
            self.problem(Key::AuditCheckpointS3CredentialsFile, &sentence);
        }
        let mut endpoint = url?;
        let path = endpoint.path().trim_matches('/').to_owned();
        let (bucket, prefix) = path.split_once('/').unwrap_or((&path, ""));
        let is_name = (3..=BUCKET_BYTES_MAX).contains(&bucket.len())
            && bucket.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
        if !is_name || endpoint.query().is_some() {
            let sentence = "it names no bucket; write https://host/bucket, or with a prefix \
                            https://host/bucket/some/prefix";
            self.problem(Key::AuditCheckpointS3Url, sentence);
        }
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let bucket = bucket.to_owned();
        endpoint.set_path("");
        let region = self.settings.text(Key::AuditCheckpointS3Region).unwrap_or_default();
        let region = region.to_owned();
        Some(BucketConfig { endpoint, bucket, prefix, region, credentials_file: file })
    }

    fn checkpoint_webhook(&mut self) -> Option<CheckpointWebhook> {
        let (url, file) = (Key::AuditCheckpointWebhookUrl, Key::AuditCheckpointWebhookSecretFile);
        let (url, path) = self.both(url, file)?;
        let url = self.place(Key::AuditCheckpointWebhookUrl, &url);
        let secret = read_private(&path).and_then(|text| match text.trim() {
            secret if secret.starts_with("whsec_") => Ok(Secret::new(secret.to_owned())),
            _ => Err(format!(
                "the file {} has no secret; make one with \
                 `echo whsec_$(openssl rand -base64 32) > FILE && chmod 600 FILE`",
                path.display()
            )),
        });
        let secret = secret.map_err(|sentence| self.problem(file, &sentence));
        Some(CheckpointWebhook { url: url?, secret: secret.ok()? })
    }

    /// A URL and its file: none of them, or both.
    fn both(&mut self, url: Key, file: Key) -> Option<(String, PathBuf)> {
        let found = (self.settings.text(url), self.settings.path(file));
        match found {
            (Some(url), Some(file)) => Some((url.to_owned(), file.to_owned())),
            (None, None) => None,
            (Some(_), None) => {
                self.problem(url, &format!("it needs `{}` beside it; set both", file.name()));
                None
            }
            (None, Some(_)) => {
                self.problem(file, &format!("it needs `{}` beside it; set both", url.name()));
                None
            }
        }
    }

    fn place(&mut self, key: Key, text: &str) -> Option<Url> {
        let allows_http = self.settings.switch(Key::EgressAllowHttp);
        let found = Url::parse(text).ok().filter(|url| url.has_host());
        let found = found.filter(|url| url.username().is_empty() && url.password().is_none());
        let sentence = match found {
            Some(url) if url.scheme() == "https" => return Some(url),
            Some(url) if url.scheme() == "http" && allows_http => return Some(url),
            Some(url) if url.scheme() == "http" => {
                "it begins with http://, and nobody could tell who answers; use https://, or set \
                 `egress_allow_http` where the network in between is private"
            }
            Some(_) | None => {
                "it is no URL such as https://host/path; credentials do not belong in it"
            }
        };
        self.problem(key, sentence);
        None
    }
}

/// Reads the first credentials of a file as the tools of AWS write it, or any that has their lines.
///
/// # Errors
///
/// A sentence naming the file and what to do; nothing of what is in it.
pub fn read_bucket_credentials(path: &Path) -> Result<BucketCredentials, String> {
    let text = read_private(path)?;
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        let found = lines.find(|(key, _)| key.trim().eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim().to_owned()).filter(|value| !value.is_empty())
    };
    let (key_id, secret) = (value("aws_access_key_id"), value("aws_secret_access_key"));
    let (Some(key_id), Some(secret)) = (key_id, secret) else {
        return Err(format!(
            "the file {} has no credentials; write `aws_access_key_id = …` and \
             `aws_secret_access_key = …`, a line each",
            path.display()
        ));
    };
    let token = value("aws_session_token").map(Secret::new);
    Ok(BucketCredentials { key_id, secret: Secret::new(secret), token })
}

/// The text of a file that nobody else may read.
fn read_private(path: &Path) -> Result<Zeroizing<String>, String> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| format!("the file {shown} cannot be read: {error}");
    let file = File::open(path).map_err(unreadable)?;
    // The open file is asked, not the path: what is checked is what is read.
    if !is_private(&file.metadata().map_err(unreadable)?) {
        return Err(format!(
            "the file {shown} can be read by other users; run `chmod 600 {shown}`"
        ));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}
