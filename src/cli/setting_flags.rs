//! The flags of server commands, made from the table of settings.
//!
//! A setting added to `config` has its flag, with the same name and help, without a line here.
//! Not here: what the values must satisfy (`config`).

use std::marker::PhantomData;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::config::{Key, Kind, Layer, Purpose};

const FILE: &str = "config";

/// Which settings a command takes as flags.
pub(super) trait Takes {
    /// Whether it takes this one.
    fn takes(key: Key) -> bool;
}

/// `quetra dev`.
#[derive(Debug)]
pub(super) enum ForDev {}
/// `quetra serve`.
#[derive(Debug)]
pub(super) enum ForServe {}
/// `quetra init` and `quetra migrate`.
#[derive(Debug)]
pub(super) enum ForDatabase {}
/// `quetra ledger …`.
#[derive(Debug)]
pub(super) enum ForLedger {}
/// `quetra config`.
#[derive(Debug)]
pub(super) enum ForAll {}

impl Takes for ForDev {
    fn takes(key: Key) -> bool {
        key.applies_to(Purpose::Dev)
    }
}

impl Takes for ForServe {
    fn takes(key: Key) -> bool {
        key.applies_to(Purpose::Serve)
    }
}

impl Takes for ForDatabase {
    fn takes(key: Key) -> bool {
        [Key::DatabaseUrl, Key::MasterKeyFile, Key::Log, Key::LogFormat].contains(&key)
    }
}

impl Takes for ForLedger {
    fn takes(key: Key) -> bool {
        let asked = [Key::DatabaseUrl, Key::RedisUrl, Key::Durability, Key::Log, Key::LogFormat];
        asked.contains(&key)
    }
}

impl Takes for ForAll {
    fn takes(_: Key) -> bool {
        true
    }
}

/// What the flags say.
#[derive(Debug)]
pub(super) struct SettingFlags<T> {
    pub(super) layer: Layer,
    taker: PhantomData<T>,
}

impl<T: Takes> Args for SettingFlags<T> {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(FILE)
            .long(FILE)
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("Configuration file (TOML) [env: QUETRA_CONFIG]");
        let flags = Key::ALL.into_iter().filter(|key| T::takes(*key)).map(flag);
        command.arg(file).args(flags)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn flag(key: Key) -> Arg {
    let default = key.default_text().map(|text| format!(" [default: {text}]")).unwrap_or_default();
    let arg = Arg::new(key.name())
        .long(key.flag())
        .help(format!("{}{default} [env: {}]", key.help(), key.variable()))
        .value_parser(move |text: &str| key.parse(text).map(|_| text.to_owned()));
    match key.kind() {
        Kind::Text => arg.value_name("TEXT"),
        Kind::Number => arg.value_name("N"),
        Kind::List => arg.value_name("TEXT").action(ArgAction::Append),
        Kind::Switch => arg
            .value_name("true|false")
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
    }
}

impl<T: Takes> FromArgMatches for SettingFlags<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut layer = match matches.get_one::<PathBuf>(FILE) {
            Some(path) => Layer::with_file(path.clone()),
            None => Layer::new(),
        };
        for key in Key::ALL.into_iter().filter(|key| T::takes(*key)) {
            let Some(values) = matches.get_many::<String>(key.name()) else {
                continue;
            };
            let text = values.cloned().collect::<Vec<_>>().join(",");
            layer
                .set_flag(key, &text)
                .map_err(|why| clap::Error::raw(ErrorKind::ValueValidation, why))?;
        }
        Ok(Self { layer, taker: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
