//! The settings of calls that leave this server.
//!
//! Not here: which addresses are special without them (`provider::egress`).

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::setting::Key;
use super::validate::Check;
use super::{EgressConfig, shown};

impl Check<'_> {
    /// Reads what may be called beside https to the internet, and who is trusted besides.
    pub(super) fn egress(&mut self) -> EgressConfig {
        let mut allowed = Vec::new();
        for text in self.settings.list(Key::EgressAllow) {
            match text.parse() {
                Ok(range) => allowed.push(range),
                Err(_) => {
                    let sentence = format!(
                        "`{}` is no range of addresses; write it like 10.0.0.0/8 or fd00::/8",
                        shown(text)
                    );
                    self.problem(Key::EgressAllow, &sentence);
                }
            }
        }
        let allows_http = self.settings.switch(Key::EgressAllowHttp);
        EgressConfig { allows_http, allowed, authorities: self.authorities() }
    }

    fn authorities(&mut self) -> Vec<CertificateDer<'static>> {
        let Some(path) = self.settings.path(Key::EgressCaFile) else { return Vec::new() };
        let read = CertificateDer::pem_file_iter(path);
        let read = read.and_then(|found| found.collect::<Result<Vec<_>, _>>());
        match read {
            Ok(found) if !found.is_empty() => found,
            Ok(_) | Err(_) => {
                let sentence = format!(
                    "{} has no certificate that can be read; name a PEM file, or remove the \
                     setting",
                    path.display()
                );
                self.problem(Key::EgressCaFile, &sentence);
                Vec::new()
            }
        }
    }
}
