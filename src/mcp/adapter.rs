//! The face towards the SDK: which tools there are, and the way of one call through the table.
//!
//! Everything that the protocol lets a server leave out is left out, and asking for it answers that
//! the method does not exist. Not here: HTTP and standard input (`http`, `stdio`).

use std::borrow::Cow;

use ::http::request::Parts;
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, CompleteRequestMethod,
    CompleteRequestParams, CompleteResult, ContentBlock, GetPromptRequestMethod,
    GetPromptRequestParams, GetPromptResponse, Implementation, ListPromptsRequestMethod,
    ListPromptsResult, ListResourceTemplatesRequestMethod, ListResourceTemplatesResult,
    ListResourcesRequestMethod, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
    ProtocolVersion, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};

use super::arguments::Arguments;
use super::caller::Caller;
use super::gateway::Gateway;
use super::person::Person;
use super::table::{self, Call, Reply};

/// The revisions that are served; the last one needs no handshake, the others begin with one.
const REVISIONS: [ProtocolVersion; 4] = [
    ProtocolVersion::V_2025_03_26,
    ProtocolVersion::V_2025_06_18,
    ProtocolVersion::V_2025_11_25,
    ProtocolVersion::V_2026_07_28,
];

/// How long a client may keep the list of tools. It changes with the version of this program only.
const TOOLS_FRESH_MS: u64 = 60_000;

const INSTRUCTIONS: &str = "Quetra decides whether you may spend money. Before any purchase call \
    quetra_evaluate and spend only if it answers approved: true. quetra_check_budget shows what \
    is left, quetra_can_spend asks without spending. Amounts are whole minor units: 1500 is \
    $15.00. A rejection is a final answer for that request: say which rule refused and why, and \
    never look for a way around it.";

/// Serves one client, or one request of one.
#[derive(Clone, Debug)]
pub struct Adapter {
    gateway: Gateway,
    /// The caller of the whole process; over HTTP each request brings its own.
    local: Option<Caller>,
}

impl Adapter {
    /// For requests that bring their caller.
    pub(super) const fn remote(gateway: Gateway) -> Self {
        Self { gateway, local: None }
    }

    /// For one caller.
    pub(super) const fn local(gateway: Gateway, caller: Caller) -> Self {
        Self { gateway, local: Some(caller) }
    }

    fn caller(&self, context: &RequestContext<RoleServer>) -> Result<Caller, ErrorData> {
        let brought = || context.extensions.get::<Parts>()?.extensions.get::<Caller>();
        let caller = self.local.as_ref().or_else(brought).cloned();
        // Every request passed the check in front; one that did not is served nothing.
        caller.ok_or_else(|| ErrorData::internal_error("the request has no caller", None))
    }
}

impl ServerHandler for Adapter {
    fn get_info(&self) -> ServerConfig {
        let mut server = Implementation::new("quetra", env!("CARGO_PKG_VERSION"));
        server.title = Some("Quetra".to_owned());
        // No `listChanged`: a key keeps its role and agent, so what it is shown never changes. A
        // tool that depends on more than that, such as a stored credential, must announce it.
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(server)
            .with_instructions(INSTRUCTIONS)
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(&REVISIONS)
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let caller = self.caller(&context)?;
        let tools = table::tools(caller.serves_many()).to_vec();
        // The list depends on the key.
        let listed = ListToolsResult::with_all_items(tools);
        Ok(listed.with_ttl_ms(TOOLS_FRESH_MS).with_cache_scope(CacheScope::Private))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let caller = self.caller(&context)?;
        let Some(row) = table::find(&request.name, caller.serves_many()) else {
            let why = "there is no such tool for this key; see tools/list";
            return Err(ErrorData::invalid_params(why, None));
        };
        let person = Person::of(&context, request.input_responses.as_ref());
        let mut arguments = Arguments::new(request.arguments.unwrap_or_default());
        let agent_id = match &caller.agent_id {
            Some(agent_id) => agent_id.clone(),
            None if row.per_agent => arguments.required_text("agentId"),
            None => String::new(),
        };
        let call = Call { gateway: self.gateway.clone(), caller, arguments, agent_id, person };
        Ok(match (row.run)(call).await {
            Ok(Reply::Answer { text, data }) => {
                let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
                result.structured_content = Some(data);
                result.into()
            }
            Ok(Reply::Ask(question)) => question.into(),
            Err(failure) => failure.into_result(row.on_failure).into(),
        })
    }

    async fn complete(
        &self,
        _request: CompleteRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        Err(ErrorData::method_not_found::<CompleteRequestMethod>())
    }

    async fn get_prompt(
        &self,
        _request: GetPromptRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        Err(ErrorData::method_not_found::<GetPromptRequestMethod>())
    }

    async fn list_prompts(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Err(ErrorData::method_not_found::<ListPromptsRequestMethod>())
    }

    async fn list_resources(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Err(ErrorData::method_not_found::<ListResourcesRequestMethod>())
    }

    async fn list_resource_templates(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Err(ErrorData::method_not_found::<ListResourceTemplatesRequestMethod>())
    }
}
