//! The table of tools: one row for each, with everything that clients see of it.
//!
//! A tool joins by a row and a function. Names, descriptions and schemas are constants of this
//! program, never text from a database, so that no agent can put words into another's tools. Not
//! here: what the tools do (`tools`).

use std::sync::{Arc, LazyLock};

use futures::future::BoxFuture;
use rmcp::model::{Tool, ToolAnnotations};
use serde_json::{Map, Value};

use super::arguments::Arguments;
use super::caller::Caller;
use super::failure::Failure;
use super::gateway::Gateway;
use super::person::{Person, Question};
use super::{schema, tools};

/// One tool call of a known caller.
pub(super) struct Call {
    pub(super) gateway: Gateway,
    pub(super) caller: Caller,
    pub(super) arguments: Arguments,
    /// The agent that the call is about; empty for a tool that is about none.
    pub(super) agent_id: String,
    pub(super) person: Person,
}

/// What a tool says.
#[derive(Debug)]
pub(super) enum Reply {
    /// Text to read out, and the same as data.
    Answer {
        /// The text.
        text: String,
        /// The data.
        data: Value,
    },
    /// Nothing yet: the person at the client is asked, and then the call is made again.
    Ask(Question),
}

/// What a reply becomes of a call.
pub(super) type Replying = BoxFuture<'static, Result<Reply, Failure>>;

/// What clients may assume of a tool without reading its description.
#[derive(Clone, Copy)]
pub(super) enum Effect {
    /// Changes nothing.
    Reads,
    /// Charges a budget and undoes nothing; a repetition without an intent key charges it again.
    Charges,
}

/// A tool.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) description: &'static str,
    pub(super) effect: Effect,
    /// Whether it is offered to a client that must name the agent in each call, to one that acts
    /// for one agent only, or to both.
    pub(super) offered: fn(serves_many: bool) -> bool,
    /// Whether it is about one agent.
    pub(super) per_agent: bool,
    /// Its arguments beside the agent, and which of them are required.
    pub(super) input: fn() -> (Value, &'static [&'static str]),
    pub(super) output: fn() -> Map<String, Value>,
    /// What a failure means, for a model that reads no further.
    pub(super) on_failure: &'static str,
    pub(super) run: fn(Call) -> Replying,
}

/// Every tool, in the order that clients see.
static ROWS: [Row; 5] = [
    tools::agents::LIST,
    tools::spend::EVALUATE,
    tools::budget::CHECK,
    tools::spend::CAN_SPEND,
    tools::transactions::LIST,
];

const AGENT: &str = "Which agent acts: its id, from quetra_list_agents";

impl Row {
    fn tool(&self, serves_many: bool) -> Tool {
        let (mut properties, required) = (self.input)();
        let mut required = required.to_vec();
        if self.per_agent && serves_many {
            if let Some(properties) = properties.as_object_mut() {
                properties.insert("agentId".to_owned(), schema::text(AGENT));
            }
            required.push("agentId");
        }
        let (reads, repeats) = match self.effect {
            Effect::Reads => (true, true),
            Effect::Charges => (false, false),
        };
        let hints = ToolAnnotations::from_raw(
            Some(self.title.to_owned()),
            Some(reads),
            // A charge adds to the record and takes nothing out of it.
            Some(false),
            Some(repeats),
            // The tools act on the mandates of this server and on nothing beyond.
            Some(false),
        );
        Tool::new(self.name, self.description, Arc::new(schema::arguments(properties, &required)))
            .with_title(self.title)
            .with_raw_output_schema(Arc::new((self.output)()))
            .with_annotations(hints)
    }
}

fn listed(serves_many: bool) -> Vec<Tool> {
    let offered = ROWS.iter().filter(|row| (row.offered)(serves_many));
    offered.map(|row| row.tool(serves_many)).collect()
}

/// The tools of a client.
pub(super) fn tools(serves_many: bool) -> &'static [Tool] {
    static FOR_ONE: LazyLock<Vec<Tool>> = LazyLock::new(|| listed(false));
    static FOR_MANY: LazyLock<Vec<Tool>> = LazyLock::new(|| listed(true));
    if serves_many { &FOR_MANY } else { &FOR_ONE }
}

/// The row of a tool that this client is offered.
pub(super) fn find(name: &str, serves_many: bool) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name && (row.offered)(serves_many))
}
