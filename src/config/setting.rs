//! The table of settings, and the merge of their sources with the origin of every value.
//!
//! Adding a setting means adding a `Key`: its TOML name, its variable and its flag follow from it.
//! Not here: what a value must satisfy (`validate`) and how the file is read (`file`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::origin::Origin;
use super::{ConfigError, Environment, Purpose, file, shown};

/// The prefix of every environment variable of the product.
pub(super) const PREFIX: &str = "QUETRA_";

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The one address.
    Listen,
    /// The directory of a development server.
    DataDir,
    /// The production database.
    DatabaseUrl,
    /// The shared ledger.
    RedisUrl,
    /// What a decision in the shared ledger survives.
    Durability,
    /// The file with the master key.
    MasterKeyFile,
    /// TLS ends in front of this server.
    BehindTlsProxy,
    /// The MaxMind database.
    GeoDatabase,
    /// Where checkpoints of the journal are written too.
    AuditCheckpointFile,
    /// An S3-compatible bucket where checkpoints are kept too.
    AuditCheckpointS3Url,
    /// The region of that bucket.
    AuditCheckpointS3Region,
    /// The file with its credentials.
    AuditCheckpointS3CredentialsFile,
    /// Where checkpoints are posted to.
    AuditCheckpointWebhookUrl,
    /// The file with the secret that signs those calls.
    AuditCheckpointWebhookSecretFile,
    /// Web origins.
    CorsAllowedOrigins,
    /// Host names of the MCP endpoint.
    McpAllowedHosts,
    /// Outbound calls without TLS.
    EgressAllowHttp,
    /// Special addresses that may be called.
    EgressAllow,
    /// Authorities that outbound calls trust besides.
    EgressCaFile,
    /// The log filter.
    Log,
    /// The log shape.
    LogFormat,
    /// The time limit of a call.
    RequestTimeoutMs,
    /// Calls at once.
    MaxInFlight,
    /// Streams of a connection at once.
    MaxConcurrentStreams,
    /// Calls of a key in a second.
    RequestsPerSecond,
    /// Memory for what is kept of agents and mandates.
    CacheMib,
    /// Threads.
    WorkerThreads,
}

/// The type of a setting's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Switch,
    /// Texts, separated by commas outside the file.
    List,
}

/// A value of that type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A whole number.
    Number(u64),
    /// `true` or `false`.
    Switch(bool),
    /// Texts.
    List(Vec<String>),
}

impl Key {
    /// Every setting, in the order they are shown.
    pub const ALL: [Self; 27] = [
        Self::Listen,
        Self::DataDir,
        Self::DatabaseUrl,
        Self::RedisUrl,
        Self::Durability,
        Self::MasterKeyFile,
        Self::BehindTlsProxy,
        Self::GeoDatabase,
        Self::AuditCheckpointFile,
        Self::AuditCheckpointS3Url,
        Self::AuditCheckpointS3Region,
        Self::AuditCheckpointS3CredentialsFile,
        Self::AuditCheckpointWebhookUrl,
        Self::AuditCheckpointWebhookSecretFile,
        Self::CorsAllowedOrigins,
        Self::McpAllowedHosts,
        Self::EgressAllowHttp,
        Self::EgressAllow,
        Self::EgressCaFile,
        Self::Log,
        Self::LogFormat,
        Self::RequestTimeoutMs,
        Self::MaxInFlight,
        Self::MaxConcurrentStreams,
        Self::RequestsPerSecond,
        Self::CacheMib,
        Self::WorkerThreads,
    ];

    /// Its name in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::DataDir => "data_dir",
            Self::DatabaseUrl => "database_url",
            Self::RedisUrl => "redis_url",
            Self::Durability => "durability",
            Self::MasterKeyFile => "master_key_file",
            Self::BehindTlsProxy => "behind_tls_proxy",
            Self::GeoDatabase => "geo_database",
            Self::AuditCheckpointFile => "audit_checkpoint_file",
            Self::AuditCheckpointS3Url => "audit_checkpoint_s3_url",
            Self::AuditCheckpointS3Region => "audit_checkpoint_s3_region",
            Self::AuditCheckpointS3CredentialsFile => "audit_checkpoint_s3_credentials_file",
            Self::AuditCheckpointWebhookUrl => "audit_checkpoint_webhook_url",
            Self::AuditCheckpointWebhookSecretFile => "audit_checkpoint_webhook_secret_file",
            Self::CorsAllowedOrigins => "cors_allowed_origins",
            Self::McpAllowedHosts => "mcp_allowed_hosts",
            Self::EgressAllowHttp => "egress_allow_http",
            Self::EgressAllow => "egress_allow",
            Self::EgressCaFile => "egress_ca_file",
            Self::Log => "log",
            Self::LogFormat => "log_format",
            Self::RequestTimeoutMs => "request_timeout_ms",
            Self::MaxInFlight => "max_in_flight",
            Self::MaxConcurrentStreams => "max_concurrent_streams",
            Self::RequestsPerSecond => "requests_per_second",
            Self::CacheMib => "cache_mib",
            Self::WorkerThreads => "worker_threads",
        }
    }

    /// The type of its value.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Listen
            | Self::DataDir
            | Self::DatabaseUrl
            | Self::RedisUrl
            | Self::Durability
            | Self::MasterKeyFile
            | Self::GeoDatabase
            | Self::AuditCheckpointFile
            | Self::AuditCheckpointS3Url
            | Self::AuditCheckpointS3Region
            | Self::AuditCheckpointS3CredentialsFile
            | Self::AuditCheckpointWebhookUrl
            | Self::AuditCheckpointWebhookSecretFile
            | Self::EgressCaFile
            | Self::Log
            | Self::LogFormat => Kind::Text,
            Self::RequestTimeoutMs
            | Self::MaxInFlight
            | Self::MaxConcurrentStreams
            | Self::RequestsPerSecond
            | Self::CacheMib
            | Self::WorkerThreads => Kind::Number,
            Self::BehindTlsProxy | Self::EgressAllowHttp => Kind::Switch,
            Self::CorsAllowedOrigins | Self::McpAllowedHosts | Self::EgressAllow => Kind::List,
        }
    }

    /// What it is if nobody says anything, as it would be written in a variable.
    #[must_use]
    pub fn default_text(self) -> Option<&'static str> {
        match self {
            Self::Listen => Some("127.0.0.1:7070"),
            Self::DataDir => Some(".quetra"),
            Self::BehindTlsProxy | Self::EgressAllowHttp => Some("false"),
            Self::CorsAllowedOrigins | Self::McpAllowedHosts | Self::EgressAllow => Some(""),
            Self::Log => Some("info"),
            Self::LogFormat => Some("text"),
            Self::RequestTimeoutMs => Some("10000"),
            Self::MaxInFlight => Some("4096"),
            Self::MaxConcurrentStreams => Some("1024"),
            Self::CacheMib => Some("256"),
            Self::RequestsPerSecond | Self::WorkerThreads => Some("0"),
            Self::Durability => Some("durable"),
            Self::AuditCheckpointS3Region => Some("us-east-1"),
            Self::DatabaseUrl
            | Self::RedisUrl
            | Self::MasterKeyFile
            | Self::GeoDatabase
            | Self::AuditCheckpointFile
            | Self::AuditCheckpointS3Url
            | Self::AuditCheckpointS3CredentialsFile
            | Self::AuditCheckpointWebhookUrl
            | Self::AuditCheckpointWebhookSecretFile
            | Self::EgressCaFile => None,
        }
    }

    /// One line for people.
    #[must_use]
    pub fn help(self) -> &'static str {
        match self {
            Self::Listen => "IP address and port of every protocol",
            Self::DataDir => "Directory of the embedded database, key and credentials",
            Self::DatabaseUrl => {
                "Database: sqlite:///var/lib/quetra/quetra.db, or postgres://… for several servers"
            }
            Self::RedisUrl => "Decides in Redis, beside postgres://: redis://127.0.0.1:6379/0",
            Self::Durability => {
                "What decisions in Redis survive by default: fast, durable or strict"
            }
            Self::MasterKeyFile => "File of 32 bytes or 64 hexadecimal digits, mode 600",
            Self::BehindTlsProxy => "TLS ends in front; required on a public address",
            Self::GeoDatabase => "MaxMind .mmdb file for geo rules",
            Self::AuditCheckpointFile => "File that signed checkpoints are appended to",
            Self::AuditCheckpointS3Url => {
                "Where they are kept in S3 too: https://host/bucket/prefix"
            }
            Self::AuditCheckpointS3Region => "Region of that bucket",
            Self::AuditCheckpointS3CredentialsFile => {
                "File of that bucket's credentials, as AWS tools write it, mode 600"
            }
            Self::AuditCheckpointWebhookUrl => "URL that signed checkpoints are posted to",
            Self::AuditCheckpointWebhookSecretFile => {
                "File of the whsec_ secret that signs those calls, mode 600"
            }
            Self::CorsAllowedOrigins => {
                "Web origins that may call, such as https://app.example.com"
            }
            Self::McpAllowedHosts => "Host names of MCP clients' URLs, such as mcp.example.com",
            Self::EgressAllowHttp => "Webhooks may be sent by http too, unencrypted",
            Self::EgressAllow => "Special ranges that may be called, such as 10.0.0.0/8",
            Self::EgressCaFile => "PEM file of authorities that outbound calls trust besides",
            Self::Log => "Log filter, such as info,quetra=debug",
            Self::LogFormat => "Shape of log lines: text or json",
            Self::RequestTimeoutMs => "Longest time of one call, in milliseconds",
            Self::MaxInFlight => "Calls served at the same time",
            Self::MaxConcurrentStreams => "Streams open at the same time on one connection",
            Self::RequestsPerSecond => "Calls of one API key in a second; 0 means no limit",
            Self::CacheMib => "Memory for agents and mandates that decide, at most, in MiB",
            Self::WorkerThreads => "Threads; 0 means one for each core",
        }
    }

    /// Its environment variable.
    #[must_use]
    pub fn variable(self) -> String {
        format!("{PREFIX}{}", self.name().to_ascii_uppercase())
    }

    /// Its flag, without the dashes before it: the name in the file with `-` for `_`.
    #[must_use]
    pub fn flag(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::DataDir => "data-dir",
            Self::DatabaseUrl => "database-url",
            Self::RedisUrl => "redis-url",
            Self::Durability => "durability",
            Self::MasterKeyFile => "master-key-file",
            Self::BehindTlsProxy => "behind-tls-proxy",
            Self::GeoDatabase => "geo-database",
            Self::AuditCheckpointFile => "audit-checkpoint-file",
            Self::AuditCheckpointS3Url => "audit-checkpoint-s3-url",
            Self::AuditCheckpointS3Region => "audit-checkpoint-s3-region",
            Self::AuditCheckpointS3CredentialsFile => "audit-checkpoint-s3-credentials-file",
            Self::AuditCheckpointWebhookUrl => "audit-checkpoint-webhook-url",
            Self::AuditCheckpointWebhookSecretFile => "audit-checkpoint-webhook-secret-file",
            Self::CorsAllowedOrigins => "cors-allowed-origins",
            Self::McpAllowedHosts => "mcp-allowed-hosts",
            Self::EgressAllowHttp => "egress-allow-http",
            Self::EgressAllow => "egress-allow",
            Self::EgressCaFile => "egress-ca-file",
            Self::Log => "log",
            Self::LogFormat => "log-format",
            Self::RequestTimeoutMs => "request-timeout-ms",
            Self::MaxInFlight => "max-in-flight",
            Self::MaxConcurrentStreams => "max-concurrent-streams",
            Self::RequestsPerSecond => "requests-per-second",
            Self::CacheMib => "cache-mib",
            Self::WorkerThreads => "worker-threads",
        }
    }

    /// Whether it means something for this purpose; if not, setting it is a contradiction.
    #[must_use]
    pub fn applies_to(self, purpose: Purpose) -> bool {
        match self {
            Self::DataDir => purpose == Purpose::Dev,
            Self::DatabaseUrl
            | Self::RedisUrl
            | Self::Durability
            | Self::MasterKeyFile
            | Self::BehindTlsProxy => purpose != Purpose::Dev,
            Self::Listen
            | Self::GeoDatabase
            | Self::AuditCheckpointFile
            | Self::AuditCheckpointS3Url
            | Self::AuditCheckpointS3Region
            | Self::AuditCheckpointS3CredentialsFile
            | Self::AuditCheckpointWebhookUrl
            | Self::AuditCheckpointWebhookSecretFile
            | Self::CorsAllowedOrigins
            | Self::McpAllowedHosts
            | Self::EgressAllowHttp
            | Self::EgressAllow
            | Self::EgressCaFile
            | Self::Log
            | Self::LogFormat
            | Self::RequestTimeoutMs
            | Self::MaxInFlight
            | Self::MaxConcurrentStreams
            | Self::RequestsPerSecond
            | Self::CacheMib
            | Self::WorkerThreads => true,
        }
    }

    /// Reads a value from text, as flags and variables carry it.
    ///
    /// # Errors
    ///
    /// A sentence saying what was expected.
    pub fn parse(self, text: &str) -> Result<Value, String> {
        match self.kind() {
            Kind::Text => Ok(Value::Text(text.to_owned())),
            Kind::Number => text
                .parse()
                .map(Value::Number)
                .map_err(|_| format!("`{}` is not a whole number of zero or more", shown(text))),
            Kind::Switch => text
                .parse()
                .map(Value::Switch)
                .map_err(|_| format!("`{}` is neither `true` nor `false`", shown(text))),
            Kind::List => Ok(Value::List(
                text.split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(str::to_owned)
                    .collect(),
            )),
        }
    }
}

/// What one source says, with the name of the source.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// The configuration file, if the source names one.
    pub file: Option<PathBuf>,
    values: BTreeMap<Key, (Value, Origin)>,
}

impl Layer {
    /// A source that says nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A source that only names the configuration file.
    #[must_use]
    pub fn with_file(path: PathBuf) -> Self {
        Self { file: Some(path), ..Self::default() }
    }

    /// Adds what a flag says.
    ///
    /// # Errors
    ///
    /// A sentence saying what was expected.
    pub fn set_flag(&mut self, key: Key, text: &str) -> Result<(), String> {
        let value = key.parse(text)?;
        self.set(key, value, Origin::Flag(format!("--{}", key.flag())));
        Ok(())
    }

    pub(super) fn set(&mut self, key: Key, value: Value, origin: Origin) {
        self.values.insert(key, (value, origin));
    }
}

/// Every setting's value with its origin, merged but not validated.
#[derive(Clone, Debug)]
pub struct Settings {
    values: BTreeMap<Key, (Value, Origin)>,
}

impl Settings {
    /// Merges the sources: flags over the environment over the file over the defaults.
    ///
    /// # Errors
    ///
    /// Every setting that is unknown or of the wrong type, or a file that cannot be read.
    pub fn collect(flags: Layer, environment: &Environment) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let from_environment = environment.layer(&mut problems);
        let path = flags.file.clone().or_else(|| from_environment.file.clone());
        let from_file = match path {
            Some(path) => file::read(&path, &mut problems),
            None => Layer::new(),
        };
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        let mut values = BTreeMap::new();
        for key in Key::ALL {
            if let Some(value) = key.default_text().and_then(|text| key.parse(text).ok()) {
                values.insert(key, (value, Origin::Default));
            }
        }
        for layer in [from_file, from_environment, flags] {
            values.extend(layer.values);
        }
        Ok(Self { values })
    }

    /// The value of a setting and where it came from.
    #[must_use]
    pub fn get(&self, key: Key) -> Option<(&Value, &Origin)> {
        self.values.get(&key).map(|(value, origin)| (value, origin))
    }

    pub(super) fn text(&self, key: Key) -> Option<&str> {
        match self.get(key)?.0 {
            Value::Text(text) => Some(text),
            Value::Number(_) | Value::Switch(_) | Value::List(_) => None,
        }
    }

    pub(super) fn path(&self, key: Key) -> Option<&Path> {
        self.text(key).map(Path::new)
    }

    pub(super) fn number(&self, key: Key) -> u64 {
        match self.get(key) {
            Some((Value::Number(number), _)) => *number,
            Some((Value::Text(_) | Value::Switch(_) | Value::List(_), _)) | None => 0,
        }
    }

    pub(super) fn switch(&self, key: Key) -> bool {
        matches!(self.get(key), Some((Value::Switch(true), _)))
    }

    pub(super) fn list(&self, key: Key) -> &[String] {
        match self.get(key) {
            Some((Value::List(items), _)) => items,
            Some((Value::Text(_) | Value::Switch(_) | Value::Number(_), _)) | None => &[],
        }
    }
}
