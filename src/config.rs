//! The configuration of a server: defaults, then a TOML file, then `QUETRA_…`, then flags.
//!
//! It is merged and validated once, at the start; this module is the only reader of the
//! environment. Whatever is unsafe or contradictory refuses to start, all problems at once, each
//! naming the setting to change.
//! Not here: parsing of the command line (`cli`), and making what the configuration names, such as
//! the key file of a development server (`app`).

mod checkpoints;
mod egress;
mod environment;
mod file;
mod key_file;
mod nearest;
mod origin;
mod redis_url;
mod setting;
mod show;
mod validate;

use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use rustls::pki_types::CertificateDer;
use url::Url;
use zeroize::Zeroizing;

pub use checkpoints::{BucketCredentials, read_bucket_credentials};
pub use environment::Environment;
pub use key_file::{MasterKey, is_private, read_master_key};
pub use origin::Origin;
pub use setting::{Key, Kind, Layer, Settings, Value};

/// What a configuration is for; it decides which settings apply and which are required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `quetra dev`.
    Dev,
    /// `quetra serve`.
    Serve,
    /// `quetra init`: a database and a master key, no listener.
    Init,
    /// `quetra migrate` and `quetra ledger`: a database, and no master key.
    Migrate,
}

/// How the server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything embedded, loopback only, with a demo organization on first start.
    Dev,
    /// Production.
    Serve,
}

/// Where the state lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A file on a local disk; its directory exists, the file itself may not yet.
    Sqlite(PathBuf),
    /// A connection string with credentials, which several servers may share.
    Postgres(Secret),
}

/// What a decision survives, once it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurabilityLevel {
    /// Redis has it in memory.
    Fast,
    /// Redis has it on its disk.
    Durable,
    /// Postgres has committed it.
    Strict,
}

/// A Redis to decide in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConfig {
    /// Its URL, which may have a password.
    pub url: Secret,
    /// What is promised on it.
    pub level: DurabilityLevel,
}

/// Where the key comes from that every stored secret is sealed with.
#[derive(Clone, Debug)]
pub enum MasterKeySource {
    /// Read and checked; for `serve` and `init`.
    Loaded(MasterKey),
    /// A file that the development server makes on first start, mode 0600.
    DevFile(PathBuf),
    /// The purpose needs none.
    NotNeeded,
}

/// The shape of log lines on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text for each event.
    Text,
    /// One JSON object for each event.
    Json,
}

/// What may be called beside https to the internet.
#[derive(Clone, Debug, Default)]
pub struct EgressConfig {
    /// Http too.
    pub allows_http: bool,
    /// These ranges, however special they are.
    pub allowed: Vec<IpNet>,
    /// Who is trusted beside the public authorities.
    pub authorities: Vec<CertificateDer<'static>>,
}

/// Where signed checkpoints are kept beside the database: in none, some or all of these places.
#[derive(Clone, Debug, Default)]
pub struct CheckpointConfig {
    /// A file that they are appended to.
    pub file: Option<PathBuf>,
    /// A bucket of S3, or of what is compatible.
    pub bucket: Option<BucketConfig>,
    /// A receiver of webhooks.
    pub webhook: Option<CheckpointWebhook>,
}

/// A bucket, and how to get in.
#[derive(Clone, Debug)]
pub struct BucketConfig {
    /// The service, without a path.
    pub endpoint: Url,
    /// The bucket's name.
    pub bucket: String,
    /// What names of objects begin with: empty, or ending with a slash.
    pub prefix: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The file with the credentials, which is read at each use.
    pub credentials_file: PathBuf,
}

/// A receiver of checkpoints.
#[derive(Clone, Debug)]
pub struct CheckpointWebhook {
    /// Its URL.
    pub url: Url,
    /// What its calls are signed with: `whsec_…`.
    pub secret: Secret,
}

/// A validated configuration: whoever holds one may start.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// How the server runs.
    pub mode: Mode,
    /// The one address of every protocol. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The directory of the embedded database; a development server creates it.
    pub data_dir: PathBuf,
    /// Where the state lives.
    pub database: DatabaseUrl,
    /// Where decisions are made, if not in the database alone.
    pub redis: Option<RedisConfig>,
    /// The key that stored secrets are sealed with.
    pub master_key: MasterKeySource,
    /// A MaxMind database for `geo` rules; without one every `geo` rule fails.
    pub geo_database: Option<PathBuf>,
    /// Where signed checkpoints of the journal are kept beside the database.
    pub checkpoints: CheckpointConfig,
    /// Origins (`scheme://host[:port]`) whose pages may call this server; never `*`.
    pub cors_allowed_origins: Vec<String>,
    /// Names, with or without a port, by which MCP clients may call this server, beside those of
    /// the machine itself.
    pub mcp_allowed_hosts: Vec<String>,
    /// What may be called beside https to the internet.
    pub egress: EgressConfig,
    /// Whether something in front terminates TLS; required for a public listener.
    pub behind_tls_proxy: bool,
    /// A tracing filter.
    pub log: String,
    /// The shape of log lines.
    pub log_format: LogFormat,
    /// The longest a unary call may take.
    pub request_timeout: Duration,
    /// Calls served at the same time; more are refused as overloaded.
    pub max_in_flight: usize,
    /// HTTP/2 streams open at the same time on one connection.
    pub max_concurrent_streams: u32,
    /// Calls of one API key in a second; `None` means no limit.
    pub requests_per_second: Option<NonZeroU32>,
    /// The most memory, in MiB, for what decisions need of agents and mandates; what does not fit
    /// is read from the database.
    pub cache_mib: u32,
    /// Threads of the runtime; `None` means one for each core.
    pub worker_threads: Option<NonZeroUsize>,
}

/// Text that must not be shown: no `Display`, an empty `Debug`, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself; never log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(***)")
    }
}

/// Why a server refuses to start: every problem at once, each a sentence that names a setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("refusing to start with this configuration:{}", bullets(.problems))]
pub struct ConfigError {
    /// The problems, in the order of the settings.
    pub problems: Vec<String>,
}

fn bullets(problems: &[String]) -> String {
    problems.iter().map(|problem| format!("\n  - {problem}")).collect()
}

impl ServerConfig {
    /// Merges every source and validates the result.
    ///
    /// # Errors
    ///
    /// Every problem found: unknown or mistyped settings, unsafe or contradictory values, files
    /// that are missing or readable by others.
    pub fn load(
        purpose: Purpose,
        flags: Layer,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        Settings::collect(flags, environment)?.validate(purpose)
    }
}

/// At most 32 characters of foreign text, without anything a terminal would act on.
fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(32).flat_map(char::escape_debug).collect();
    if text.chars().nth(32).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests;
