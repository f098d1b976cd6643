//! Webhooks: events that leave the server, signed, until their receivers have them.
//!
//! Not here: the calls themselves (`provider::egress`), and what events there are (`domain`).

pub mod schedule;
pub mod sign;
