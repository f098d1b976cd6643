//! The one integration-test binary: it links once, and its modules share one harness.
//!
//! Not here: unit tests, which live beside the code they test.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::string_slice,
    reason = "a test that traps is a test that fails"
)]

#[cfg(test)]
mod contract;
#[cfg(test)]
mod tidy;
