//! The bad-input catalogue: what a caller may get wrong, and that it costs nobody but the caller.
//!
//! Every row gets a canonical code, a reason word and the list of all wrong fields, over each way
//! in. After it the same connection works, nothing has changed, nothing panicked, and neither the
//! value nor a key is in the log. The numbers are the catalogue's. Not here: who may see what, and
//! what rules decide.

mod credentials;
mod decisions;
mod frames;
mod life;
mod mandates;
mod protocol;
mod rate;
mod records;
mod server;
mod spends;
mod texts;
mod ways;
mod wire;

/// Stands in hostile values: no answer may repeat it whole, because errors quote 32 characters at
/// most, and no log may hold even its beginning.
pub(crate) const CANARY: &str = "hostile5e1fcanary-0123456789-0123456789-abcdef";
pub(crate) const CANARY_HEAD: &str = "hostile5e1fcanary";
