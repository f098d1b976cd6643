//! One step of anybody, and how it is told.
//!
//! Not here: when a step is possible and what it does.

use std::fmt;

use super::setup::Level;

/// One step. Nodes, keys, budgets and grants are told by their numbers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Script(usize, Script),
    Transaction(Transaction),
    Answer { key: usize, approved: bool, from: Option<usize> },
    Crash { node: usize, kept: usize, of: usize },
    Fork { kept: usize, of: usize },
    Follow { node: usize },
    Move { to: usize },
    Sync { node: usize },
    Midnight,
}

/// What runs on a node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Script {
    Approve { key: usize },
    Reject { key: usize },
    Torn { key: usize, approved: bool, after: &'static str },
    Install { lease: usize, epoch: u8 },
    Recall { budget: usize, amount: i8 },
    Begin { epoch: u8 },
    Void { key: usize },
    Expire { key: usize },
}

/// What Postgres does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Transaction {
    LookUp { key: usize, epoch: u8 },
    Prove { key: usize, epoch: u8 },
    Grant { budget: usize, amount: i8, epoch: u8, level: Level },
    RecallHeard { budget: usize, amount: i8 },
    RecallBlind { budget: usize, amount: i8 },
    Project { node: usize, place: u8 },
    Read { node: usize, place: u8 },
    CommitLate { place: u8 },
    ProjectorDies,
    Decide { key: usize, approved: bool },
    GiveBack { key: usize, amount: i8 },
    Claim { node: usize, epoch: u8 },
    Begun,
    Release { epoch: u8 },
}

fn verdict(approved: bool) -> &'static str {
    if approved { "approved" } else { "rejected" }
}

fn at(place: u8) -> String {
    format!("{}-{}", place >> 4, place & 15)
}

impl fmt::Display for Script {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Approve { key } => write!(to, "approves key {key}"),
            Self::Reject { key } => write!(to, "rejects key {key}"),
            Self::Torn { key, approved, after } => {
                write!(to, "has key {key} {} and stops after the {after}", verdict(*approved))
            }
            Self::Install { lease, epoch } => {
                write!(to, "installs lease {lease}, which is of epoch {epoch}")
            }
            Self::Recall { budget, amount } => {
                write!(to, "recalls {amount} from its slice of budget {budget}")
            }
            Self::Begin { epoch } => write!(to, "begins epoch {epoch}"),
            Self::Void { key } => write!(to, "voids key {key} and gives back to its slice"),
            Self::Expire { key } => write!(to, "forgets key {key} after a day"),
        }
    }
}

impl fmt::Display for Transaction {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LookUp { key, epoch } => {
                write!(to, "does not know key {key}, asked for epoch {epoch}")
            }
            Self::Prove { key, epoch } => {
                write!(to, "has nothing left for key {key}, asked for epoch {epoch}")
            }
            Self::Grant { budget, amount, epoch, level } => {
                write!(to, "leases {amount} of budget {budget} to epoch {epoch} at {level:?}")
            }
            Self::RecallHeard { budget, amount } => {
                write!(to, "hears that {amount} came back to budget {budget}")
            }
            Self::RecallBlind { budget, amount } => {
                write!(to, "takes {amount} back to budget {budget} without asking Redis")
            }
            Self::Project { node, place } => {
                write!(to, "projects entry {} of node {node}", at(*place))
            }
            Self::Read { node, place } => {
                write!(to, "has a slow projector, which reads entry {} of node {node}", at(*place))
            }
            Self::CommitLate { place } => {
                write!(to, "lets the slow projector commit entry {}", at(*place))
            }
            Self::ProjectorDies => write!(to, "sees the slow projector die"),
            Self::Decide { key, approved } => {
                write!(to, "has key {key} {} without Redis", verdict(*approved))
            }
            Self::GiveBack { key, amount } => write!(to, "gives {amount} of key {key} back"),
            Self::Claim { node, epoch } => write!(to, "gives epoch {epoch} to node {node}"),
            Self::Begun => write!(to, "hears that its epoch is begun"),
            Self::Release { epoch } => write!(to, "releases the leases of epoch {epoch}"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Script(node, script) => write!(to, "node {node} {script}"),
            Self::Transaction(transaction) => write!(to, "Postgres {transaction}"),
            Self::Answer { key, approved, from: Some(node) } => {
                write!(to, "key {key} is answered {}, as node {node} says", verdict(*approved))
            }
            Self::Answer { key, approved, from: None } => {
                write!(to, "key {key} is answered {}, as Postgres says", verdict(*approved))
            }
            Self::Crash { node, kept, of } => {
                write!(to, "node {node} dies; {kept} of its {of} entries remain")
            }
            Self::Fork { kept, of } => {
                write!(to, "a copy of {kept} of {of} entries becomes node 1; node 0 goes on")
            }
            Self::Follow { node } => write!(to, "node {node} is overwritten by the other"),
            Self::Move { to: node } => write!(to, "the shard moves to node {node}"),
            Self::Sync { node } => write!(to, "all of node {node} is on every disk"),
            Self::Midnight => write!(to, "the next period begins"),
        }
    }
}
