//! Precedence of the sources, and every refusal by its sentence.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

/// A directory with a good key, a key others can read, and a good geo file.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(TempDir::new().unwrap());
        files.write("good.key", format!("{}\n", "0f1e".repeat(16)).as_bytes(), 0o600);
        files.write("raw.key", &(0..32).collect::<Vec<u8>>(), 0o400);
        files.write("open.key", &(0..32).collect::<Vec<u8>>(), 0o640);
        files.write("short.key", b"0f1e", 0o600);
        files.write("zero.key", &[0; 32], 0o600);
        files.write("geo.mmdb", b"x", 0o644);
        files
    }

    fn write(&self, name: &str, bytes: &[u8], mode: u32) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// Flags that `serve` starts with.
    fn serve(&self) -> Vec<(Key, String)> {
        vec![
            (Key::DatabaseUrl, format!("sqlite://{}", self.path("quetra.db"))),
            (Key::MasterKeyFile, self.path("good.key")),
        ]
    }
}

fn flags(pairs: &[(Key, String)]) -> Layer {
    let mut layer = Layer::new();
    for (key, text) in pairs {
        layer.set_flag(*key, text).unwrap();
    }
    layer
}

fn refusal(purpose: Purpose, pairs: &[(Key, String)]) -> String {
    ServerConfig::load(purpose, flags(pairs), &Environment::default()).unwrap_err().to_string()
}

#[test]
fn a_development_server_needs_no_setting() {
    let config = ServerConfig::load(Purpose::Dev, Layer::new(), &Environment::default()).unwrap();
    assert_eq!(config.mode, Mode::Dev);
    assert_eq!(config.listen.to_string(), "127.0.0.1:7070");
    assert_eq!(config.database, DatabaseUrl::Sqlite(".quetra/quetra.db".into()));
    assert!(matches!(config.master_key, MasterKeySource::DevFile(path)
        if path == *".quetra/master.key"));
    assert_eq!(config.requests_per_second, None);
    assert_eq!(config.worker_threads, None);
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file_and_that_over_defaults() {
    let files = Files::new();
    let file = files.write(
        "quetra.toml",
        b"log = \"warn\"\nlog_format = \"json\"\nmax_in_flight = 7\n",
        0o644,
    );
    let environment = Environment::from_pairs([
        ("QUETRA_LOG_FORMAT", "text"),
        ("QUETRA_MAX_IN_FLIGHT", "8"),
        ("QUETRA_WORKER_THREADS", ""),
    ]);
    let mut layer = flags(&[(Key::MaxInFlight, "9".to_owned())]);
    layer.file = Some(file.clone().into());
    let settings = Settings::collect(layer, &environment).unwrap();
    let config = settings.validate(Purpose::Dev).unwrap();
    assert_eq!(config.max_in_flight, 9);
    assert_eq!(config.log_format, LogFormat::Text);
    assert_eq!(config.log, "warn");
    assert_eq!(config.max_concurrent_streams, 1024);

    let shown = settings.to_toml();
    for line in [
        "max_in_flight = 9 # flag --max-in-flight",
        "log_format = \"text\" # environment QUETRA_LOG_FORMAT",
        &format!("log = \"warn\" # file {file}"),
        "max_concurrent_streams = 1024 # default",
        "worker_threads = 0 # default",
    ] {
        assert!(shown.contains(line), "{line} is missing in:\n{shown}");
    }
}

#[test]
fn the_file_can_be_named_by_a_variable() {
    let files = Files::new();
    let file = files.write("quetra.toml", b"cors_allowed_origins = [\"http://[::1]:5173\"]", 0o644);
    let environment = Environment::from_pairs([("QUETRA_CONFIG", file.as_str())]);
    let config = ServerConfig::load(Purpose::Dev, Layer::new(), &environment).unwrap();
    assert_eq!(config.cors_allowed_origins, ["http://[::1]:5173"]);
}

#[test]
fn both_forms_of_a_master_key_are_read() {
    let files = Files::new();
    for (name, first) in [("good.key", 0x0f), ("raw.key", 0)] {
        let key = read_master_key(files.path(name).as_ref()).unwrap();
        assert_eq!(key.expose()[0], first);
        assert_eq!(format!("{key:?}"), "MasterKey(***)");
    }
}

#[test]
fn a_public_listener_starts_behind_a_proxy() {
    let files = Files::new();
    let mut pairs = files.serve();
    pairs.push((Key::Listen, "0.0.0.0:7070".to_owned()));
    pairs.push((Key::BehindTlsProxy, "true".to_owned()));
    let config =
        ServerConfig::load(Purpose::Serve, flags(&pairs), &Environment::default()).unwrap();
    assert!(config.behind_tls_proxy);
    assert!(matches!(config.master_key, MasterKeySource::Loaded(_)));
    assert_eq!(config.data_dir, files.0.path());
}

#[test]
fn migrating_needs_no_key() {
    let files = Files::new();
    let pairs = &files.serve()[..1];
    let config =
        ServerConfig::load(Purpose::Migrate, flags(pairs), &Environment::default()).unwrap();
    assert!(matches!(config.master_key, MasterKeySource::NotNeeded));
}

/// One refusal a line: purpose, setting, value, then what the sentence must say. DIR stands for the
/// directory of the files above.
const REFUSALS: &str = "
dev   listen               0.0.0.0:7070              => loopback only
dev   listen               [::]:7070                 => loopback only
dev   listen               localhost                 => write it like 127.0.0.1:7070
dev   database_url         sqlite://x.db             => does not apply to `quetra dev`
dev   redis_url            redis://x                 => does not apply to `quetra dev`
dev   master_key_file      x                         => does not apply to `quetra dev`
dev   behind_tls_proxy     true                      => does not apply to `quetra dev`
dev   data_dir             DIR/good.key              => not a directory
serve data_dir             x                         => applies to `quetra dev` only
serve listen               0.0.0.0:7070              => behind_tls_proxy = true
serve listen               192.0.2.1:80              => behind_tls_proxy = true
serve database_url         postgres://u:hunter2@h/d  => ?sslmode=disable
serve database_url         postgresql://192.0.2.1/d  => in the clear
serve database_url         postgres://h/d?sslmode=prefer => verify-full
serve database_url         postgres://h:port/d       => is no Postgres URL
serve database_url         mysql://u:hunter2@h/d     => sqlite:///absolute
serve database_url         sqlite::memory:           => sqlite:///absolute
serve database_url         sqlite://:memory:         => forgets every decision
serve database_url         sqlite://x.db?mode=ro     => parameters
serve database_url         sqlite://DIR/none/x.db    => does not exist; create it
serve database_url         sqlite://DIR              => is a directory
serve redis_url            rediss://127.0.0.1        => speaks no TLS to Redis
serve redis_url            redis://:hunter2@h/0      => ?network=private
serve redis_url            http://127.0.0.1          => is no Redis URL
serve redis_url            redis://127.0.0.1/0       => what Postgres leases
serve redis_url            redis://[::1],redis://:hunter2@h => ?network=private
serve redis_url            redis://127.0.0.1:1,127.0.0.1:2 => is no Redis URL
serve durability           eternal                   => neither fast, durable nor strict
serve master_key_file      DIR/none.key              => openssl rand
serve master_key_file      DIR/open.key              => chmod 600
serve master_key_file      DIR/short.key             => 64 hexadecimal
serve master_key_file      DIR/zero.key              => make a random one
serve master_key_file      DIR                       => is not a file
init  master_key_file      DIR/open.key              => chmod 600
dev   geo_database         /none/x.mmdb              => cannot be read
dev   geo_database         DIR                       => not a file
dev   egress_allow         10.0.0.0/33               => no range of addresses
dev   egress_allow         localhost                 => no range of addresses
dev   egress_ca_file       /none/x.pem               => no certificate that can be read
dev   audit_checkpoint_file DIR                      => is a directory
dev   audit_checkpoint_file DIR/none/a.jsonl         => does not exist
dev   audit_checkpoint_s3_url https://s3.example/led => needs `audit_checkpoint_s3_credentials_file`
dev   audit_checkpoint_s3_credentials_file DIR/good.key => needs `audit_checkpoint_s3_url`
dev   audit_checkpoint_webhook_url https://a.com/hook => needs `audit_checkpoint_webhook_secret_file`
dev   audit_checkpoint_webhook_secret_file DIR/good.key => needs `audit_checkpoint_webhook_url`
dev   cors_allowed_origins *                         => not an origin
dev   cors_allowed_origins https://*.example.com     => not an origin
dev   cors_allowed_origins https://a.com/            => not an origin
dev   cors_allowed_origins https://A.com             => not an origin
dev   cors_allowed_origins https://u@a.com           => not an origin
dev   cors_allowed_origins null                      => not an origin
dev   mcp_allowed_hosts    *                         => not a host name
dev   mcp_allowed_hosts    https://a.com             => not a host name
dev   mcp_allowed_hosts    a.com/mcp                 => not a host name
dev   mcp_allowed_hosts    u@a.com                   => not a host name
dev   mcp_allowed_hosts    :7070                     => not a host name
dev   log                  wran                      => is not a level
dev   log                  info,quetra=loud          => is not a filter
dev   log_format           xml                       => neither text nor json
dev   request_timeout_ms   0                         => outside 10 to 600000
dev   max_in_flight        0                         => outside 1 to 1000000
dev   max_concurrent_streams 0                       => outside 1 to 100000
dev   requests_per_second  1000001                   => outside 0 to 1000000
dev   cache_mib            0                         => outside 4 to 1048576
dev   worker_threads       5000                      => outside 0 to 1024
";

#[test]
fn every_unsafe_or_contradictory_setting_is_refused_by_name() {
    let files = Files::new();
    for line in REFUSALS.trim().lines() {
        let line = line.replace("DIR", &files.0.path().display().to_string());
        let (given, expected) = line.split_once(" => ").unwrap();
        let mut words = given.split_whitespace();
        let purpose = match words.next().unwrap() {
            "dev" => Purpose::Dev,
            "serve" => Purpose::Serve,
            _ => Purpose::Init,
        };
        let name = words.next().unwrap();
        let key = Key::ALL.into_iter().find(|key| key.name() == name).unwrap();
        let mut pairs = if purpose == Purpose::Dev { Vec::new() } else { files.serve() };
        pairs.retain(|(other, _)| *other != key);
        pairs.push((key, words.next().unwrap().to_owned()));
        let message = refusal(purpose, &pairs);
        let place = format!("`{name}` (flag --{})", key.flag());
        assert!(message.contains(&place), "{place} is missing in: {message}");
        assert!(message.contains(expected), "{expected} is missing in: {message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn everything_missing_is_named_at_once() {
    let message = refusal(Purpose::Serve, &[]);
    assert!(message.contains("`database_url`: it is required"), "{message}");
    assert!(message.contains("`master_key_file`: it is required"), "{message}");
}

#[test]
fn a_wrong_file_is_refused_with_the_place_of_the_mistake() {
    let files = Files::new();
    let table: &[(&str, &str)] = &[
        ("lisen = \"x\"", "`lisen` is not a setting; did you mean `listen`"),
        ("[server]\nlisten = \"x\"", "`server` is not a setting"),
        ("max_in_flight = \"7\"", "`max_in_flight` must be a whole number"),
        ("max_in_flight = -1", "`max_in_flight` must be a whole number"),
        ("log = 1", "`log` must be text in quotes"),
        ("behind_tls_proxy = \"yes\"", "`behind_tls_proxy` must be true or false"),
        ("cors_allowed_origins = [1]", "`cors_allowed_origins` must be a list of texts"),
        ("log = \"info\"\ndatabase_url = \"hunter2", "is not TOML: line 2"),
    ];
    for (text, expected) in table {
        let path = files.write("quetra.toml", text.as_bytes(), 0o644);
        let layer = Layer::with_file(path.into());
        let message = Settings::collect(layer, &Environment::default()).unwrap_err().to_string();
        assert!(message.contains(expected), "{expected} is missing in: {message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
    let layer = Layer::with_file("/none/quetra.toml".into());
    let message = Settings::collect(layer, &Environment::default()).unwrap_err().to_string();
    assert!(message.contains("cannot be read"), "{message}");
}

#[test]
fn a_misspelt_variable_is_refused_and_a_foreign_one_is_not() {
    let environment = Environment::from_pairs([("QUETRA_LISTN", "127.0.0.1:1")]);
    let error = Settings::collect(Layer::new(), &environment).unwrap_err();
    assert_eq!(error.problems, ["`QUETRA_LISTN` is not a setting; did you mean `QUETRA_LISTEN`"]);

    let environment = Environment::from_pairs([
        ("QUETRA_SERVICE_HOST", "10.0.0.1"),
        ("QUETRA_PORT", "tcp://10.0.0.1:7070"),
        ("QUETRA_API_KEY", "sk_x"),
    ]);
    Settings::collect(Layer::new(), &environment).unwrap();

    let environment = Environment::from_pairs([("QUETRA_MAX_IN_FLIGHT", "many")]);
    let error = Settings::collect(Layer::new(), &environment).unwrap_err();
    assert!(error.problems[0].starts_with("`QUETRA_MAX_IN_FLIGHT`: `many` is not"));
}

#[test]
fn passwords_do_not_leave_by_the_effective_configuration() {
    let environment = Environment::from_pairs([
        ("QUETRA_DATABASE_URL", "postgres://user:hunter2@db.example/quetra?password=hunter2"),
        ("QUETRA_REDIS_URL", "redis://:hunter2@cache.example:6379"),
    ]);
    let settings = Settings::collect(Layer::new(), &environment).unwrap();
    let shown = settings.to_toml();
    assert!(shown.contains("postgres://***@db.example/quetra"), "{shown}");
    assert!(shown.contains("redis://***@cache.example:6379"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(format!("{:?}", Secret::new("hunter2".to_owned())), "Secret(***)");
}

#[test]
fn the_effective_configuration_is_a_configuration_file() {
    let files = Files::new();
    let settings = Settings::collect(Layer::new(), &Environment::default()).unwrap();
    let path = files.write("shown.toml", settings.to_toml().as_bytes(), 0o644);
    let layer = Layer::with_file(path.into());
    let again = Settings::collect(layer, &Environment::default()).unwrap();
    for key in Key::ALL {
        assert_eq!(again.get(key).map(|(value, _)| value), settings.get(key).map(|(v, _)| v));
    }
}

#[test]
fn foreign_text_is_cut_and_escaped() {
    assert_eq!(shown("a\u{1b}[31m"), "a\\u{1b}[31m");
    assert_eq!(shown(&"x".repeat(40)).chars().count(), 33);
}

#[test]
fn a_setting_has_one_name_in_every_source() {
    for key in Key::ALL {
        assert_eq!(key.flag(), key.name().replace('_', "-"));
        assert_eq!(key.variable(), format!("QUETRA_{}", key.name().to_uppercase()));
    }
}

#[test]
fn places_of_checkpoints_are_read_or_refused_with_the_reason() {
    let files = Files::new();
    let good =
        files.write("aws", b"[x]\naws_access_key_id=a\naws_secret_access_key=hunter2\n", 0o600);
    let open = files.write("open", b"aws_access_key_id=a\naws_secret_access_key=hunter2\n", 0o644);
    let none = files.write("none", b"aws_access_key_id=hunter2\n", 0o600);
    let secret = files.write("secret", b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n", 0o600);
    let load = |pairs: &[(Key, &str)]| {
        let pairs = pairs.iter().map(|(key, value)| (*key, (*value).to_owned()));
        let pairs: Vec<_> = pairs.collect();
        ServerConfig::load(Purpose::Dev, flags(&pairs), &Environment::default())
    };
    let (url, file) = (Key::AuditCheckpointS3Url, Key::AuditCheckpointS3CredentialsFile);
    let bucket = load(&[(url, "https://s3.example:9000/ledger/a/b/"), (file, &good)]).unwrap();
    let bucket = bucket.checkpoints.bucket.unwrap();
    assert_eq!(bucket.endpoint.as_str(), "https://s3.example:9000/");
    assert_eq!(
        (&*bucket.bucket, &*bucket.prefix, &*bucket.region),
        ("ledger", "a/b/", "us-east-1")
    );
    assert_eq!(read_bucket_credentials(good.as_ref()).unwrap().secret.expose(), "hunter2");
    for (place, path, expected) in [
        ("https://s3.example", &good, "names no bucket"),
        ("https://s3.example/le", &good, "names no bucket"),
        ("https://s3.example/ledger?x=1", &good, "names no bucket"),
        ("http://s3.example/ledger", &good, "set `egress_allow_http`"),
        ("https://u:hunter2@s3.example/ledger", &good, "credentials do not belong in it"),
        ("ftp://s3.example/ledger", &good, "is no URL such as https://host/path"),
        ("https://s3.example/ledger", &open, "chmod 600"),
        ("https://s3.example/ledger", &none, "aws_secret_access_key"),
        ("https://s3.example/ledger", &"/none/x".to_owned(), "cannot be read"),
    ] {
        let refused = load(&[(url, place), (file, path)]).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
    }

    let (url, file) = (Key::AuditCheckpointWebhookUrl, Key::AuditCheckpointWebhookSecretFile);
    let webhook = load(&[(url, "https://a.example/hook?x=1"), (file, &secret)]).unwrap();
    let webhook = webhook.checkpoints.webhook.unwrap();
    assert_eq!(webhook.url.as_str(), "https://a.example/hook?x=1");
    assert!(webhook.secret.expose().starts_with("whsec_"));
    let refused = load(&[(url, "https://a.example"), (file, &none)]).unwrap_err().to_string();
    assert!(refused.contains("openssl rand"), "{refused}");
}
