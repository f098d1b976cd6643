//! `quetra organization …`: its settings and its kill switch.
//!
//! Not here: its keys (`keys`), and endpoints of webhooks beside its own (`webhooks`).

use clap::{Args, Subcommand};

use super::client::Session;
use super::error::CliError;
use crate::forms::Word;
use crate::proto::v1;

/// The commands of the group.
#[derive(Debug, Subcommand)]
pub(super) enum OrganizationCommand {
    /// Show the organization
    Get,
    /// Change its settings
    Update(UpdateArgs),
    /// Stop every approval, at once
    Freeze,
    /// Let it spend again
    Unfreeze,
}

/// What to change.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(super) struct UpdateArgs {
    /// For people
    #[arg(long)]
    name: Option<String>,
    /// The currency of a mandate that names none: ISO 4217 code, or USDC
    #[arg(long, value_name = "CODE")]
    default_currency: Option<String>,
    /// IANA time zone, such as Europe/Zagreb; calendar periods follow it
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// Where its events are sent; empty sends them nowhere
    #[arg(long, value_name = "URL")]
    webhook_url: Option<String>,
    /// No decision survives less than this: fast, durable, strict; none asks for nothing
    #[arg(long, value_name = "LEVEL", value_parser = floor)]
    durability_floor: Option<Word<v1::Durability>>,
}

/// Reads a floor; `none` is no level.
fn floor(text: &str) -> Result<Word<v1::Durability>, String> {
    let none = (text == "none").then(Word::default);
    let found = none.or_else(|| Word::parse(text));
    found.ok_or_else(|| format!("expected one of {}, none", Word::<v1::Durability>::list()))
}

/// Runs one of them.
pub(super) async fn run(
    command: OrganizationCommand,
    session: &mut Session<'_>,
) -> Result<u8, CliError> {
    match command {
        OrganizationCommand::Get => {
            let request = v1::GetOrganizationRequest {};
            let answer = session.organization().get_organization(request).await?.into_inner();
            answered(&answer, answer.organization.as_ref(), session)?;
        }
        OrganizationCommand::Update(args) => {
            let request = args.into_request();
            let answer = session.organization().update_organization(request).await?.into_inner();
            answered(&answer, answer.organization.as_ref(), session)?;
        }
        OrganizationCommand::Freeze => {
            let request = v1::FreezeOrganizationRequest {};
            let answer = session.organization().freeze_organization(request).await?.into_inner();
            answered(&answer, answer.organization.as_ref(), session)?;
        }
        OrganizationCommand::Unfreeze => {
            let request = v1::UnfreezeOrganizationRequest {};
            let answer = session.organization().unfreeze_organization(request).await?.into_inner();
            answered(&answer, answer.organization.as_ref(), session)?;
        }
    }
    Ok(0)
}

impl UpdateArgs {
    fn into_request(self) -> v1::UpdateOrganizationRequest {
        let named = [
            ("name", self.name.is_some()),
            ("default_currency", self.default_currency.is_some()),
            ("timezone", self.timezone.is_some()),
            ("webhook_url", self.webhook_url.is_some()),
            ("durability_floor", self.durability_floor.is_some()),
        ];
        let paths = named.into_iter().filter(|(_, is_named)| *is_named);
        let paths = paths.map(|(path, _)| path.to_owned()).collect();
        v1::UpdateOrganizationRequest {
            update_mask: Some(prost_types::FieldMask { paths }),
            name: self.name.unwrap_or_default(),
            default_currency: self.default_currency.unwrap_or_default(),
            timezone: self.timezone.unwrap_or_default(),
            webhook_url: self.webhook_url.unwrap_or_default(),
            durability_floor: self.durability_floor.unwrap_or_default().number(),
            idempotency_key: String::new(),
        }
    }
}

/// The answer as JSON, or its organization for people.
fn answered<M: prost::Message + prost::Name>(
    answer: &M,
    organization: Option<&v1::Organization>,
    session: &mut Session<'_>,
) -> Result<(), CliError> {
    let (false, Some(organization)) = (session.json(answer)?, organization) else { return Ok(()) };
    let floor = Word::<v1::Durability>::specified(organization.durability_floor);
    let frozen = if organization.frozen { "yes: nothing is approved" } else { "no" };
    session.output.pairs(&[
        ("id", organization.id.clone()),
        ("name", organization.name.clone()),
        ("slug", organization.slug.clone()),
        ("frozen", frozen.to_owned()),
        ("default currency", organization.default_currency.clone()),
        ("time zone", organization.timezone.clone()),
        ("durability floor", floor.map_or_else(|| "none".to_owned(), |level| level.to_string())),
        ("webhook url", organization.webhook_url.clone()),
    ])
}
