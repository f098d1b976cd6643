//! Quetra decides, before any money moves, whether an AI agent may spend it.
//!
//! The map, from the inside out: [`domain`] is the decision as pure functions; [`engine`] the use
//! cases; [`ledger`], [`store`] and [`provider`] what the engine needs, as traits with their
//! adapters; [`audit`] and [`journal`] the record that proves itself; [`webhook`] tells others what
//! happened; [`grpc`] the services; [`connect`], [`rest`], [`mcp`] and [`forms`] other ways to call
//! them; [`serve`] the one port; [`app`] puts a server together from a [`config`]; [`cli`] is the
//! command line. Who may name whom is checked by a test.

#![cfg_attr(
    test,
    expect(
        clippy::arithmetic_side_effects,
        clippy::wildcard_enum_match_arm,
        reason = "a test that traps is a test that fails"
    )
)]

pub mod app;
pub mod audit;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connect;
pub mod crypto;
pub mod domain;
pub mod engine;
pub mod forms;
pub mod grpc;
pub mod journal;
pub mod ledger;
pub mod mcp;
pub mod proto;
pub mod provider;
pub mod rest;
pub mod serve;
pub mod store;
pub mod telemetry;
pub mod terminal;
pub mod webhook;
