//! Turns merged settings into a configuration that may start, or says everything that is wrong.
//!
//! Not here: where the values come from (`setting`, `file`). Files are looked at, never made.

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tracing_subscriber::EnvFilter;

use super::origin::Origin;
use super::setting::{Key, Settings};
use super::{
    ConfigError, DatabaseUrl, LogFormat, MasterKeySource, Mode, Purpose, Secret, ServerConfig,
    read_master_key, shown,
};

/// The name of the embedded database inside the data directory.
const DATABASE_FILE: &str = "quetra.db";
/// The name of a development server's master key inside the data directory.
const DEV_KEY_FILE: &str = "master.key";

/// Below it no commit fits; above it a caller has long given up.
const REQUEST_TIMEOUT_MS: RangeInclusive<u64> = 10..=600_000;
/// Above it memory, not this limit, would be what refuses.
const MAX_IN_FLIGHT: RangeInclusive<u64> = 1..=1_000_000;
/// HTTP/2 itself allows more, no client needs it.
const MAX_CONCURRENT_STREAMS: RangeInclusive<u64> = 1..=100_000;
/// Far above what one key can use.
const REQUESTS_PER_SECOND: RangeInclusive<u64> = 0..=1_000_000;
/// More threads than any machine has cores.
const CACHE_MIB: RangeInclusive<u64> = 4..=1_048_576;
const WORKER_THREADS: RangeInclusive<u64> = 0..=1024;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl Settings {
    /// Checks every setting and every pair of them that could contradict each other.
    ///
    /// # Errors
    ///
    /// All problems, in the order of the settings.
    pub fn validate(&self, purpose: Purpose) -> Result<ServerConfig, ConfigError> {
        let mut check = Check { settings: self, purpose, problems: Vec::new() };
        check.misplaced();
        let listen = check.listen();
        let (data_dir, database) = check.database();
        let master_key = check.master_key(&data_dir);
        let redis = check.redis(&database);
        let config = ServerConfig {
            mode: if purpose == Purpose::Dev { Mode::Dev } else { Mode::Serve },
            listen,
            database,
            redis,
            master_key,
            data_dir,
            geo_database: check.geo_database(),
            checkpoints: check.checkpoints(),
            cors_allowed_origins: check.origins(),
            mcp_allowed_hosts: check.mcp_hosts(),
            egress: check.egress(),
            behind_tls_proxy: self.switch(Key::BehindTlsProxy),
            log: check.log(),
            log_format: check.log_format(),
            request_timeout: Duration::from_millis(
                check.number(Key::RequestTimeoutMs, REQUEST_TIMEOUT_MS),
            ),
            max_in_flight: check.small_number(Key::MaxInFlight, MAX_IN_FLIGHT),
            max_concurrent_streams: check
                .small_number(Key::MaxConcurrentStreams, MAX_CONCURRENT_STREAMS),
            requests_per_second: NonZeroU32::new(
                check.small_number(Key::RequestsPerSecond, REQUESTS_PER_SECOND),
            ),
            cache_mib: check.small_number(Key::CacheMib, CACHE_MIB),
            worker_threads: NonZeroUsize::new(
                check.small_number(Key::WorkerThreads, WORKER_THREADS),
            ),
        };
        if check.problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError { problems: check.problems })
        }
    }
}

pub(super) struct Check<'a> {
    pub(super) settings: &'a Settings,
    pub(super) purpose: Purpose,
    problems: Vec<String>,
}

impl Check<'_> {
    pub(super) fn problem(&mut self, key: Key, sentence: &str) {
        let origin = match self.settings.get(key) {
            Some((_, Origin::Default)) | None => String::new(),
            Some((_, origin)) => format!(" ({origin})"),
        };
        self.problems.push(format!("`{}`{origin}: {sentence}", key.name()));
    }

    /// A setting that means nothing here would be ignored silently; the operator meant something.
    fn misplaced(&mut self) {
        for key in Key::ALL {
            // A dumped configuration repeats the defaults; that contradicts nothing.
            let given = self.settings.get(key).is_some_and(|(value, _)| {
                key.default_text().and_then(|text| key.parse(text).ok()).as_ref() != Some(value)
            });
            if !given || key.applies_to(self.purpose) {
                continue;
            }
            let sentence = if self.purpose == Purpose::Dev {
                "does not apply to `quetra dev`, which keeps everything in `data_dir`; remove it, \
                 or run `quetra serve`"
            } else {
                "applies to `quetra dev` only; remove it, and name the database with `database_url`"
            };
            self.problem(key, sentence);
        }
    }

    fn listen(&mut self) -> SocketAddr {
        let text = self.settings.text(Key::Listen).unwrap_or_default();
        let Ok(listen) = text.parse::<SocketAddr>() else {
            let sentence = format!(
                "`{}` is not an IP address and port; write it like 127.0.0.1:7070 or [::1]:7070",
                shown(text)
            );
            self.problem(Key::Listen, &sentence);
            return SocketAddr::from(([127, 0, 0, 1], 0));
        };
        if listen.ip().to_canonical().is_loopback() {
            return listen;
        }
        match self.purpose {
            Purpose::Dev => self.problem(
                Key::Listen,
                "a development server listens on loopback only; use 127.0.0.1, or run \
                 `quetra serve`",
            ),
            Purpose::Serve if !self.settings.switch(Key::BehindTlsProxy) => self.problem(
                Key::Listen,
                "this address is not loopback and keys would travel in the clear; terminate TLS \
                 in front of this server and set `behind_tls_proxy = true` (--behind-tls-proxy), \
                 or listen on 127.0.0.1",
            ),
            Purpose::Serve | Purpose::Init | Purpose::Migrate => {}
        }
        listen
    }

    fn database(&mut self) -> (PathBuf, DatabaseUrl) {
        if self.purpose == Purpose::Dev {
            let data_dir =
                self.settings.path(Key::DataDir).unwrap_or_else(|| Path::new(".")).to_owned();
            if data_dir.as_os_str().is_empty() || (data_dir.exists() && !data_dir.is_dir()) {
                self.problem(Key::DataDir, "it is not a directory; name another one");
            }
            let database = DatabaseUrl::Sqlite(data_dir.join(DATABASE_FILE));
            return (data_dir, database);
        }
        match self.settings.text(Key::DatabaseUrl).map(database_url) {
            Some(Ok(DatabaseUrl::Sqlite(path))) => {
                let directory = path.parent().unwrap_or_else(|| Path::new("")).to_owned();
                (directory, DatabaseUrl::Sqlite(path))
            }
            Some(Ok(database @ DatabaseUrl::Postgres(_))) => (PathBuf::new(), database),
            Some(Err(sentence)) => {
                self.problem(Key::DatabaseUrl, &sentence);
                (PathBuf::new(), DatabaseUrl::Sqlite(PathBuf::new()))
            }
            None => {
                self.problem(
                    Key::DatabaseUrl,
                    "it is required; set it to a file on a local disk, such as \
                     sqlite:///var/lib/quetra/quetra.db, or to a database of a Postgres server, \
                     such as postgres://user:password@127.0.0.1/quetra, or run `quetra dev` to try things",
                );
                (PathBuf::new(), DatabaseUrl::Sqlite(PathBuf::new()))
            }
        }
    }

    fn master_key(&mut self, data_dir: &Path) -> MasterKeySource {
        match self.purpose {
            Purpose::Dev => return MasterKeySource::DevFile(data_dir.join(DEV_KEY_FILE)),
            Purpose::Migrate => return MasterKeySource::NotNeeded,
            Purpose::Serve | Purpose::Init => {}
        }
        let Some(path) = self.settings.path(Key::MasterKeyFile) else {
            self.problem(
                Key::MasterKeyFile,
                "it is required: every stored secret is sealed with that key; make one with \
                 `openssl rand -hex 32 > master.key && chmod 600 master.key`",
            );
            return MasterKeySource::NotNeeded;
        };
        match read_master_key(path) {
            Ok(key) => MasterKeySource::Loaded(key),
            Err(sentence) => {
                self.problem(Key::MasterKeyFile, &sentence);
                MasterKeySource::NotNeeded
            }
        }
    }

    fn geo_database(&mut self) -> Option<PathBuf> {
        let path = self.settings.path(Key::GeoDatabase)?;
        let readable = std::fs::File::open(path).and_then(|file| file.metadata());
        match readable {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => self.problem(Key::GeoDatabase, "it is not a file; name a MaxMind .mmdb file"),
            Err(error) => {
                let sentence = format!(
                    "{} cannot be read: {error}; name a MaxMind .mmdb file, or remove the setting",
                    path.display()
                );
                self.problem(Key::GeoDatabase, &sentence);
            }
        }
        Some(path.to_owned())
    }

    fn origins(&mut self) -> Vec<String> {
        let given = self.settings.list(Key::CorsAllowedOrigins);
        for origin in given {
            if !is_origin(origin) {
                let sentence = format!(
                    "`{}` is not an origin; write scheme, host and port only, such as \
                     https://app.example.com, one for each page that may call",
                    shown(origin)
                );
                self.problem(Key::CorsAllowedOrigins, &sentence);
            }
        }
        given.to_vec()
    }

    fn mcp_hosts(&mut self) -> Vec<String> {
        let given = self.settings.list(Key::McpAllowedHosts);
        for host in given {
            let authority = host.parse::<http::uri::Authority>();
            let is_host = authority.is_ok_and(|host| !host.host().is_empty())
                && !host.contains(['@', '*', '/']);
            if !is_host {
                let sentence = format!(
                    "`{}` is not a host name; write the name in the clients' URL, such as \
                     mcp.example.com, with a port only if no other may be used",
                    shown(host)
                );
                self.problem(Key::McpAllowedHosts, &sentence);
            }
        }
        given.to_vec()
    }

    fn log(&mut self) -> String {
        let filter = self.settings.text(Key::Log).unwrap_or_default();
        // A bare word that is no level would be taken for the name of a module and mute the rest.
        let slip = filter.split(',').map(str::trim).find(|part| {
            !part.is_empty()
                && !part.contains(['=', '['])
                && !LEVELS.contains(&part.to_ascii_lowercase().as_str())
        });
        if let Some(part) = slip {
            let sentence = format!(
                "`{}` is not a level; use off, error, warn, info, debug or trace, and \
                 module=level for single modules",
                shown(part)
            );
            self.problem(Key::Log, &sentence);
        } else if EnvFilter::try_new(filter).is_err() {
            let sentence =
                format!("`{}` is not a filter; write it like info,quetra=debug", shown(filter));
            self.problem(Key::Log, &sentence);
        }
        filter.to_owned()
    }

    fn log_format(&mut self) -> LogFormat {
        match self.settings.text(Key::LogFormat) {
            Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            other => {
                let sentence =
                    format!("`{}` is neither text nor json", shown(other.unwrap_or_default()));
                self.problem(Key::LogFormat, &sentence);
                LogFormat::Text
            }
        }
    }

    fn number(&mut self, key: Key, range: RangeInclusive<u64>) -> u64 {
        let number = self.settings.number(key);
        if !range.contains(&number) {
            let (low, high) = range.into_inner();
            self.problem(key, &format!("{number} is outside {low} to {high}"));
        }
        number
    }

    fn small_number<N: TryFrom<u64> + Default>(
        &mut self,
        key: Key,
        range: RangeInclusive<u64>,
    ) -> N {
        // Every range fits every type it is used with, so the default only follows a problem.
        N::try_from(self.number(key, range)).unwrap_or_default()
    }
}

/// What a database URL names. No refusal quotes the text: it may hold a password.
fn database_url(url: &str) -> Result<DatabaseUrl, String> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        check_postgres_url(url)?;
        return Ok(DatabaseUrl::Postgres(Secret::new(url.to_owned())));
    }
    sqlite_path(url).map(DatabaseUrl::Sqlite)
}

/// Says early what is wrong with the URL of a Postgres server; `store::postgres` says the rest.
fn check_postgres_url(url: &str) -> Result<(), String> {
    let options = url.parse::<PgConnectOptions>().map_err(|_| {
        "it is no Postgres URL; write postgres://user:password@host:5432/database".to_owned()
    })?;
    let host = options.get_host();
    let is_local = options.get_socket().is_some()
        || host == "localhost"
        || host.parse().is_ok_and(|host: IpAddr| host.to_canonical().is_loopback());
    match options.get_ssl_mode() {
        PgSslMode::Disable => Ok(()),
        PgSslMode::Allow | PgSslMode::Prefer if is_local => Ok(()),
        PgSslMode::Allow | PgSslMode::Prefer => Err("without TLS the password and every decision \
             would cross the network in the clear; add ?sslmode=verify-full and &sslrootcert= with \
             the file of your certificate authority, or ?sslmode=disable where the network in \
             between is private"
            .to_owned()),
        PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull => Ok(()),
    }
}

/// The file of a database URL; its directory exists.
fn sqlite_path(url: &str) -> Result<PathBuf, String> {
    let Some(path) = url.strip_prefix("sqlite://") else {
        return Err("it begins with neither sqlite:// nor postgres://; write \
                    sqlite:///absolute/path/quetra.db or postgres://user:password@host/database"
            .to_owned());
    };
    if path.contains(['?', '#']) {
        return Err("parameters are not supported; write sqlite:///absolute/path/quetra.db".into());
    }
    if path.is_empty() || path.contains(":memory:") {
        return Err("a database in memory forgets every decision; name a file, such as \
                    sqlite:///var/lib/quetra/quetra.db"
            .to_owned());
    }
    let path = PathBuf::from(path);
    if path.is_dir() {
        return Err(format!("{} is a directory; name a file inside it", path.display()));
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    if !directory.is_dir() {
        return Err(format!(
            "the directory {} does not exist; create it, or name another file",
            directory.display()
        ));
    }
    Ok(path)
}

fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else {
        return false;
    };
    let Some(authority) = uri.authority() else {
        return false;
    };
    let rest = match uri.scheme_str() {
        Some("http") => text.strip_prefix("http://"),
        Some("https") => text.strip_prefix("https://"),
        Some(_) | None => None,
    };
    // What a browser sends has no path, no user, and no upper case.
    rest == Some(authority.as_str())
        && !authority.as_str().contains(['@', '*'])
        && !authority.host().is_empty()
        && !authority.as_str().chars().any(|letter| letter.is_ascii_uppercase())
}
