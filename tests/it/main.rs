//! The one integration-test binary: it links once, and its modules share one harness.
//!
//! Not here: unit tests, which live beside the code they test.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::string_slice,
    reason = "a test that traps is a test that fails, and tests own their tasks and clocks"
)]

#[cfg(test)]
mod access;
#[cfg(test)]
mod agents;
#[cfg(test)]
mod approvals;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod budget;
#[cfg(test)]
mod caps;
#[cfg(test)]
mod chaos;
#[cfg(test)]
mod checker;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod control;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod decisions;
#[cfg(test)]
mod deployment;
#[cfg(test)]
mod dice;
#[cfg(test)]
mod durability;
#[cfg(test)]
mod evaluate;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod journal;
#[cfg(test)]
mod mandates;
#[cfg(test)]
mod mcp;
#[cfg(test)]
mod migrations;
#[cfg(test)]
mod model;
#[cfg(test)]
mod organization;
#[cfg(test)]
mod periods;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod process;
#[cfg(test)]
mod protocol;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod race;
#[cfg(test)]
mod redis;
#[cfg(test)]
mod replicas;
#[cfg(test)]
mod story;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod transactions;
#[cfg(test)]
mod ways_in;
#[cfg(test)]
mod webhooks;
