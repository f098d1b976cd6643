//! The Model Context Protocol: tool calls of language models, translated into gRPC calls.
//!
//! Remote clients speak Streamable HTTP on the one port, local ones the lines of standard input
//! and output. The official SDK reads and writes the protocol; what is here knows the tools and
//! speaks only the generated gRPC API, so authentication, roles, limits and decisions are those of
//! every other client. Revisions: 2026-07-28 and those before it that begin with `initialize`.
//! Not here: any decision, any state, sessions, and tools that change a policy.

mod adapter;
mod advice;
mod arguments;
mod caller;
mod failure;
mod gateway;
mod http;
mod message;
mod person;
mod schema;
mod stdio;
mod table;
mod text;
mod tools;

pub use self::adapter::Adapter;
pub use self::gateway::Gateway;
pub use self::http::{HttpSettings, router, router_with};
pub use self::stdio::{Local, StdioError, stdio};
