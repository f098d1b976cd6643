//! The credentials file of a development server: written by `quetra dev`, read by the commands run
//! beside it.
//!
//! Not here: production keys, which come from the environment.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::CliError;
use crate::config::is_private;

/// The name of the file inside the data directory.
pub(super) const FILE: &str = "credentials.toml";

/// Where the server listens and the keys it made on its first start.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    pub(super) url: String,
    pub(super) admin_key: String,
    pub(super) agent_key: String,
    pub(super) agent_id: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credentials").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads the file; none if there is no file.
    ///
    /// # Errors
    ///
    /// It is readable by others, or not what `quetra dev` writes.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, CliError> {
        let shown = path.display();
        let refused =
            |why: String| CliError::Refused(format!("the credentials file {shown} {why}"));
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(refused(format!("cannot be read: {error}"))),
        };
        if !is_private(&metadata) {
            return Err(refused(format!("can be read by other users; run `chmod 600 {shown}`")));
        }
        let text = fs::read_to_string(path)
            .map_err(|error| refused(format!("cannot be read: {error}")))?;
        toml::from_str(&text).map(Some).map_err(|_| {
            refused("is not one that `quetra dev` wrote; remove it and set QUETRA_API_KEY".into())
        })
    }

    /// Writes the file in one step, readable by its owner only.
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = format!(
            "# Written by `quetra dev`. Whoever has these keys can spend the demo budgets.\n\
             {}",
            toml::to_string(self)?
        );
        let draft = path.with_extension("toml.new");
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn sample() -> Credentials {
        Credentials {
            url: "http://127.0.0.1:7070".to_owned(),
            admin_key: "sk_admin".to_owned(),
            agent_key: "sk_agent".to_owned(),
            agent_id: "a".to_owned(),
        }
    }

    #[test]
    fn what_was_written_is_read_and_only_by_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        assert_eq!(Credentials::read(&path).unwrap(), None);
        sample().write(&path).unwrap();
        sample().write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Credentials::read(&path).unwrap(), Some(sample()));
        assert!(!format!("{:?}", sample()).contains("sk_"));

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let Err(CliError::Refused(why)) = Credentials::read(&path) else { panic!("read") };
        assert!(why.contains("chmod 600"), "{why}");
    }
}
