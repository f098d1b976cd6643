//! Mandates from files and into files.
//!
//! Not here: the file itself (`mandate_file`). What a file leaves open, the agent's id and the
//! currency, is looked up here, because the API takes neither a name nor a default.

use super::{CreateArgs, GetArgs, UpdateArgs, show};
use crate::cli::agents::find;
use crate::cli::args::Format;
use crate::cli::client::Session;
use crate::cli::error::CliError;
use crate::cli::mandate_file::{self, Change, FileArg};
use crate::cli::output::Output;
use crate::forms::{BudgetForm, MandateForm};
use crate::proto::v1;

/// Creates a draft from a file and puts it in force if that was asked for.
pub(super) async fn create(args: CreateArgs, session: &mut Session<'_>) -> Result<(), CliError> {
    let loaded = mandate_file::read(&args.file.file)?;
    let mut form = loaded.form;
    let agent = match args.agent {
        Some(agent) => Some(agent),
        None => named_agent(&form)?,
    };
    let Some(agent) = agent else {
        return Err(CliError::Usage(
            "which agent is it for? write `agent: NAME` in the file, or give --agent".to_owned(),
        ));
    };
    form.agent_id = Some(find(&agent, session).await?);
    if form.budget.currency.is_none() {
        let request = v1::GetOrganizationRequest {};
        let answer = session.organization().get_organization(request).await?.into_inner();
        form.budget.currency =
            answer.organization.map(|organization| organization.default_currency);
    }
    let request = form.into_create(args.idempotency_key);
    let answer = session.mandates().create_mandate(request).await;
    let answer = answer.map_err(|status| CliError::from(status).placed(&loaded.places))?;
    let answer = answer.into_inner();
    if !args.activate {
        return show::answered(&answer, answer.mandate.as_ref(), session);
    }
    let mandate_id = answer.mandate.map(|mandate| mandate.id).unwrap_or_default();
    let request = v1::ActivateMandateRequest { mandate_id: mandate_id.clone() };
    match session.mandates().activate_mandate(request).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            show::answered(&answer, answer.mandate.as_ref(), session)
        }
        Err(status) => {
            let left = format!("the draft {mandate_id} was created, but is not in force");
            session.output.error_line(&left);
            Err(status.into())
        }
    }
}

/// Changes a mandate to what a file says.
pub(super) async fn update(args: UpdateArgs, session: &mut Session<'_>) -> Result<(), CliError> {
    let loaded = mandate_file::read_change(&args.file.file)?;
    let mut patch = match loaded.form {
        Change::Patch(patch) => *patch,
        Change::Whole(form) => {
            same_agent(&args.id, &form, session).await?;
            form.into_patch()
        }
    };
    if let Some(budget) = patch.budget.as_mut().filter(|budget| budget.currency.is_none()) {
        budget.currency = currency(&args.id, session).await?;
    }
    patch.expected_version = args.expected_version.or(patch.expected_version);
    let request = patch.into_update(args.id, String::new());
    let answer = session.mandates().update_mandate(request).await;
    let answer = answer.map_err(|status| CliError::from(status).placed(&loaded.places))?;
    let answer = answer.into_inner();
    show::answered(&answer, answer.mandate.as_ref(), session)
}

/// Shows a mandate, or prints the file that would make it again.
pub(super) async fn get(args: GetArgs, session: &mut Session<'_>) -> Result<(), CliError> {
    if args.yaml && session.output.format == Format::Json {
        return Err(CliError::Usage("give either --yaml or --output json".to_owned()));
    }
    let version = args.version.unwrap_or_default();
    let request = v1::GetMandateRequest { mandate_id: args.id, version };
    let answer = session.mandates().get_mandate(request).await?.into_inner();
    if !args.yaml {
        return show::answered(&answer, answer.mandate.as_ref(), session);
    }
    let form = MandateForm::try_from(answer.mandate.unwrap_or_default())
        .map_err(|error| CliError::Refused(error.to_string()))?;
    session.output.raw(&mandate_file::write(&form)?)
}

/// Checks the shape of a file.
pub(super) fn validate(file: &FileArg, output: &mut Output) -> Result<(), CliError> {
    let loaded = mandate_file::read_change(&file.file)?;
    let (what, rules) = match &loaded.form {
        Change::Whole(form) => {
            named_agent(form)?;
            ("a mandate", form.rules.len())
        }
        Change::Patch(patch) => ("changes to a mandate", patch.rules.as_ref().map_or(0, Vec::len)),
    };
    output.line(&format!("{}: {what} with {rules} rules", file.file.display()))?;
    output.line("bounds, time zones and expressions are checked by the server when it is saved")
}

/// The agent that a file names, by name or by id.
fn named_agent(form: &MandateForm) -> Result<Option<String>, CliError> {
    match (&form.agent_id, &form.agent) {
        (Some(_), Some(_)) => {
            Err(CliError::Refused("the file has both `agent` and `agentId`; keep one".to_owned()))
        }
        (Some(agent), None) | (None, Some(agent)) => Ok(Some(agent.clone())),
        (None, None) => Ok(None),
    }
}

/// A file of another agent's mandate is a slip: the agent of a mandate never changes.
async fn same_agent(
    mandate_id: &str,
    form: &MandateForm,
    session: &Session<'_>,
) -> Result<(), CliError> {
    let Some(agent) = named_agent(form)? else {
        return Ok(());
    };
    let wanted = find(&agent, session).await?;
    let mandate = present(mandate_id, session).await?;
    if mandate.agent_id == wanted {
        return Ok(());
    }
    Err(CliError::Refused(format!(
        "{mandate_id} belongs to agent {}, the file is for another; a mandate never changes its \
         agent: create a new one",
        mandate.agent_id
    )))
}

async fn currency(mandate_id: &str, session: &Session<'_>) -> Result<Option<String>, CliError> {
    let mandate = present(mandate_id, session).await?;
    Ok(mandate.budget.map(BudgetForm::from).and_then(|budget| budget.currency))
}

async fn present(mandate_id: &str, session: &Session<'_>) -> Result<v1::Mandate, CliError> {
    let request = v1::GetMandateRequest { mandate_id: mandate_id.to_owned(), version: 0 };
    let answer = session.mandates().get_mandate(request).await?.into_inner();
    Ok(answer.mandate.unwrap_or_default())
}
