//! The decision, as pure functions of values: no I/O, no clock, no async, and no other module.
//!
//! Vocabulary, one word one meaning: an *organization* owns *agents*; an agent has one active
//! *mandate* (budget, rules, validity). A *spend* is what an agent asks for; a *rule* is tested
//! against it; `screen` tests every stateless rule and states a *claim*, `ledger::apply` rules on
//! the claim (a *ruling*), `conclude` joins both into a *decision*, recorded as a *transaction*. A
//! *period* is a calendar rhythm, a *window* one instance of it; a *counter* sums what was charged
//! in a window; a *hold* is money waiting for a person, or for its settlement.
//! *Durability* is what a crash cannot undo once an answer was given.
//!
//! Not here: where state is kept (`ledger`, `store`), who may ask (`engine`), any wire format.

pub mod act;
pub mod actor;
pub mod agent;
mod country;
pub mod custom;
pub mod decision;
pub mod durability;
pub mod evaluate;
pub mod event;
pub mod hold;
pub mod id;
pub mod journal;
pub mod ledger;
pub mod mandate;
pub mod money;
pub mod organization;
pub mod period;
pub mod rule;
#[cfg(test)]
pub(crate) mod samples;
pub mod spend;
pub mod time_window;
pub mod transaction;
pub mod vendor;
pub mod webhook;
