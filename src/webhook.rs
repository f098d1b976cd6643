//! Webhooks: events that leave the server, signed, until their receivers have them.
//!
//! Not here: endpoints and their administration (`engine::webhooks`), the calls themselves
//! (`provider::egress`), and what events there are (`domain`).

mod attempt;
pub mod deliver;
mod health;
mod lane;
mod pace;
mod record;
pub mod schedule;
mod sender;
pub mod sign;

#[cfg(test)]
mod tests;
