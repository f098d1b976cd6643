//! `quetra audit …`: the journal listed, exported, and verified, on the server or offline.
//!
//! Not here: the form of an export (`audit::file`), and the spreadsheet's (`audit_table`).

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use super::args::{PageArgs, time as parse_time};
use super::audit_table::{self, row_of};
use super::client::{Session, collect};
use super::error::CliError;
use super::output::{Output, dash};
use crate::audit::file::{self, Act, Decision, FileError, Key, Line, Whole};
use crate::forms::Time;
use crate::proto::v1;
use crate::proto::v1::audit_entry::Content;

/// Entries between two words about the progress.
const PROGRESS: i64 = 50_000;

/// The end of a file in which its last whole line is looked for: longer than any line.
const TAIL_BYTES: u64 = 4 * 1024 * 1024;

/// The commands of the group.
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// List what happened, oldest first
    List(ListArgs),
    /// Write the whole journal to a file, or to standard output
    Export(ExportArgs),
    /// Verify an export offline, with nothing but the organization's public key
    Verify(VerifyArgs),
    /// Let the server verify its journal against its database
    Check,
}

/// Which entries.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    page: PageArgs,
    /// Only this kind, such as transaction.approved, or all of a group, such as transaction
    #[arg(long)]
    kind: Option<String>,
    /// Only at or after this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Time>,
    /// Only before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<Time>,
}

/// How an export is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// JSON Lines, which can be verified
    #[default]
    Jsonl,
    /// A table for spreadsheets, which cannot
    Csv,
}

/// What to export, and where to.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The form of the file
    #[arg(long, value_enum, default_value_t)]
    format: ExportFormat,
    /// Only entries behind this one
    #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(i64).range(0..))]
    from: i64,
    /// Write to this file; a jsonl file that is there already is continued
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
}

/// What to verify, and what to believe.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The export, in the form jsonl
    export: PathBuf,
    /// The organization's public key: 64 hexadecimal digits, or base64url; may be given several
    /// times
    // One of 64 keys begins with a hyphen in base64url.
    #[arg(long, required = true, allow_hyphen_values = true)]
    public_key: Vec<String>,
    /// The file of checkpoints that the server keeps in a second place
    #[arg(long, value_name = "PATH")]
    checkpoints: Option<PathBuf>,
}

/// Runs one that needs a server.
pub(super) async fn run(command: AuditCommand, session: &mut Session<'_>) -> Result<u8, CliError> {
    match command {
        AuditCommand::List(args) => list(args, session).await,
        AuditCommand::Export(args) => export(args, session).await,
        AuditCommand::Check => check(session).await,
        AuditCommand::Verify(args) => verify(&args, session.output),
    }
}

async fn list(args: ListArgs, session: &mut Session<'_>) -> Result<u8, CliError> {
    let filter = v1::ListEventsRequest {
        page: None,
        kind: args.kind.unwrap_or_default(),
        since: args.since.map(Time::to_proto),
        until: args.until.map(Time::to_proto),
    };
    let mut client = session.audit();
    let found = collect(args.page.count(), async |page| {
        let request = v1::ListEventsRequest { page: Some(page), ..filter.clone() };
        let answer = client.list_events(request).await?.into_inner();
        Ok((answer.entries, answer.next_page_token))
    })
    .await?;
    let (entries, next_page_token) = (found.items, found.next_page_token);
    let answer = v1::ListEventsResponse { entries, next_page_token };
    if session.json(&answer)? {
        return Ok(0);
    }
    let rows = answer.entries.iter().map(|entry| {
        let row = row_of(entry);
        [
            entry.sequence.to_string(),
            jiff::Timestamp::from_microsecond(entry.at_micros)
                .map(|at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
                .unwrap_or_default(),
            entry.kind.clone(),
            dash(row.about),
            dash(row.by.to_owned()),
        ]
    });
    let rows = rows.collect();
    session.output.table(["sequence", "at", "kind", "about", "by"], rows)?;
    session.output.more(&answer.next_page_token)?;
    Ok(0)
}

async fn check(session: &mut Session<'_>) -> Result<u8, CliError> {
    let (mut after_sequence, mut entries) = (0, 0_i64);
    let mut client = session.audit();
    loop {
        let request = v1::VerifyChainRequest { after_sequence };
        let found = client.verify_chain(request).await?.into_inner();
        entries = entries.saturating_add(found.entries);
        if !found.is_whole {
            if !session.json(&found)? {
                session.output.error_line(&format!("the journal is not whole: {}", found.fault));
            }
            return Ok(1);
        }
        if found.is_complete || found.verified_through == after_sequence {
            let found = v1::VerifyChainResponse { entries, ..found };
            if !session.json(&found)? {
                let chain = &found.chain;
                session.output.line(&format!("whole: {entries} entries, chain {chain}"))?;
            }
            return Ok(0);
        }
        after_sequence = found.verified_through;
    }
}

/// Verifies a file; nobody is asked.
pub(super) fn verify(args: &VerifyArgs, output: &mut Output) -> Result<u8, CliError> {
    let refused = |why: String| CliError::Refused(why);
    let keys = args.public_key.iter().map(|key| {
        file::public_key(key).ok_or_else(|| {
            refused("a public key is 64 hexadecimal digits, or 43 of base64url".to_owned())
        })
    });
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    let open = |path: &Path| {
        let opened = File::open(path).map(|file| BufReader::with_capacity(1 << 20, file));
        opened.map_err(|error| refused(format!("{} cannot be read: {error}", path.display())))
    };
    let witnesses = match &args.checkpoints {
        None => Vec::new(),
        Some(path) => {
            let mut first = String::new();
            open(&args.export)?.read_line(&mut first)?;
            let org = file::organization_in(&first).map_err(|error| refused(error.to_string()))?;
            let found = file::witnesses(open(path)?, &org);
            found.map_err(|error| refused(format!("{}: {error}", path.display())))?
        }
    };
    match file::verify(open(&args.export)?, keys, &witnesses) {
        Ok(whole) => {
            output.line(&sentence(&whole))?;
            Ok(0)
        }
        Err(error @ (FileError::Fault { .. } | FileError::Form { .. })) => {
            output.error_line(&format!("not whole: {error}"));
            Ok(1)
        }
        Err(FileError::Io(error)) => Err(refused(format!("the export cannot be read: {error}"))),
    }
}

fn sentence(whole: &Whole) -> String {
    let Whole { organization_id, after, last, checked } = whole;
    let begin = match after {
        0 => String::new(),
        after => format!("; begins behind entry {after}, whose chain was believed"),
    };
    let signed = match checked.checkpoints {
        0 => "; no checkpoint signs any of it, so the whole chain could have been written anew"
            .to_owned(),
        count => format!("; {count} checkpoints sign it"),
    };
    let (entries, decisions, acts) = (checked.entries, checked.decisions, checked.acts);
    format!(
        "whole: {organization_id}, {entries} entries to {last} ({decisions} decisions, {acts} \
         acts){signed}{begin}"
    )
}

/// Where an export goes, and behind which entry it goes on.
struct Target<'a, 'o> {
    file: Option<BufWriter<File>>,
    session: &'a mut Session<'o>,
    after: i64,
    continued: Option<Continued>,
}

/// An export that is gone on with.
struct Continued {
    /// Whose it is.
    organization_id: String,
    /// Where its last whole line ends, and the last entry in it.
    end: u64,
    after: i64,
}

impl<'a, 'o> Target<'a, 'o> {
    fn open(args: &ExportArgs, session: &'a mut Session<'o>) -> Result<Self, CliError> {
        let Some(path) = &args.file else {
            return Ok(Self { file: None, session, after: args.from, continued: None });
        };
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path)?;
        let length = file.metadata()?.len();
        if length > 0 && args.format == ExportFormat::Csv {
            let why = format!("{} is there already; name another file", path.display());
            return Err(CliError::Refused(why));
        }
        let continued = if length > 0 { Some(last_entry(&mut file, length)?) } else { None };
        let end = continued.as_ref().map_or(0, |continued| continued.end);
        file.seek(SeekFrom::Start(end))?;
        let after = continued.as_ref().map_or(args.from, |continued| continued.after);
        let file = Some(BufWriter::with_capacity(1 << 20, file));
        Ok(Self { file, session, after, continued })
    }

    /// Whether a file is gone on with, which must be of this organization. Only now that the server
    /// has answered a line that was cut short is dropped: it comes again.
    fn goes_on(&mut self, organization_id: &str) -> Result<bool, CliError> {
        let (Some(continued), Some(file)) = (&self.continued, &self.file) else { return Ok(false) };
        if continued.organization_id != organization_id {
            let why = "the file is an export of another organization; name another file";
            return Err(CliError::Refused(why.to_owned()));
        }
        file.get_ref().set_len(continued.end)?;
        Ok(true)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        match &mut self.file {
            Some(file) => Ok(file.write_all(bytes)?),
            None => self.session.output.bytes(bytes),
        }
    }
}

/// Where a file that is there can be gone on with. Nothing else than an export is touched.
fn last_entry(file: &mut File, length: u64) -> Result<Continued, CliError> {
    let refused = || {
        let why = "the file is no export in the form jsonl; name another file";
        CliError::Refused(why.to_owned())
    };
    let mut first = String::new();
    let begin = (&mut *file).take(TAIL_BYTES);
    BufReader::new(begin).read_line(&mut first).map_err(|_not_text| refused())?;
    let organization_id = file::organization_in(&first).map_err(|_| refused())?;
    let from = length.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at.saturating_add(1));
    let text = String::from_utf8_lossy(tail.get(..whole).unwrap_or_default()).into_owned();
    let mut entries = text.lines().rev().filter_map(|line| {
        let line: Line<'_> = serde_json::from_str(line).ok()?;
        match line.line_type.as_ref() {
            "entry" => line.sequence,
            "journal" => Some(line.after_sequence.unwrap_or(0)),
            _ => None,
        }
    });
    let after = entries.next().ok_or_else(refused)?;
    let end = from.saturating_add(u64::try_from(whole).unwrap_or(0));
    Ok(Continued { organization_id, end, after })
}

async fn export(args: ExportArgs, session: &mut Session<'_>) -> Result<u8, CliError> {
    let mut client = session.audit();
    let mut target = Target::open(&args, session)?;
    let after_sequence = target.after;
    let request = v1::ExportEventsRequest { after_sequence };
    let mut parts = client.export_events(request).await?.into_inner();
    let (mut last, mut told, mut reached) = (after_sequence, after_sequence, after_sequence);
    let mut out = Vec::new();
    while let Some(part) = parts.message().await? {
        out.clear();
        if !part.organization_id.is_empty() {
            last = part.last_sequence;
            if !target.goes_on(&part.organization_id)? {
                match args.format {
                    ExportFormat::Jsonl => line(&mut out, &head(&part, after_sequence))?,
                    ExportFormat::Csv => audit_table::head(&mut out),
                }
            }
        }
        let mut checkpoints = part.checkpoints.iter().peekable();
        for entry in &part.entries {
            match args.format {
                ExportFormat::Csv => audit_table::row(&mut out, entry),
                ExportFormat::Jsonl => {
                    line(&mut out, &entry_line(entry))?;
                    while let Some(signed) =
                        checkpoints.next_if(|signed| signed.sequence <= entry.sequence)
                    {
                        line(&mut out, &checkpoint_line(signed))?;
                    }
                }
            }
            reached = entry.sequence;
        }
        target.write(&out)?;
        if reached.saturating_sub(told) >= PROGRESS {
            told = reached;
            target.session.output.error_line(&format!("{reached} of {last} entries"));
        }
    }
    if let Some(mut file) = target.file.take() {
        file.flush()?;
        file.get_ref().sync_all()?;
    }
    let count = reached.saturating_sub(after_sequence);
    target.session.output.error_line(&format!("{count} entries, to {reached}"));
    Ok(0)
}

fn line(out: &mut Vec<u8>, line: &Line<'_>) -> Result<(), CliError> {
    serde_json::to_writer(&mut *out, line).map_err(|error| CliError::Other(error.into()))?;
    out.push(b'\n');
    Ok(())
}

fn head(part: &v1::ExportEventsResponse, after: i64) -> Line<'static> {
    let keys = part.keys.iter().cloned();
    let keys = keys.map(|key| Key { key_id: key.key_id, public_key: key.public_key });
    Line {
        line_type: "journal".into(),
        organization_id: Some(part.organization_id.clone()),
        last_sequence: Some(part.last_sequence),
        after_sequence: Some(after),
        chain_before: Some(part.chain_before.clone()),
        keys: keys.collect(),
        ..Line::default()
    }
}

fn checkpoint_line(signed: &v1::AuditCheckpoint) -> Line<'_> {
    Line {
        line_type: "checkpoint".into(),
        sequence: Some(signed.sequence),
        chain: signed.chain.as_str().into(),
        signed_at_micros: Some(signed.signed_at_micros),
        key_id: signed.key_id.as_str().into(),
        signature: signed.signature.as_str().into(),
        ..Line::default()
    }
}

fn entry_line(entry: &v1::AuditEntry) -> Line<'_> {
    let mut line = Line {
        line_type: "entry".into(),
        sequence: Some(entry.sequence),
        at_micros: Some(entry.at_micros),
        kind: entry.kind.as_str().into(),
        source: i16::try_from(entry.source).ok(),
        source_sequence: Some(entry.source_sequence),
        chain: entry.chain.as_str().into(),
        ..Line::default()
    };
    match &entry.content {
        None => {}
        Some(Content::Derived(body)) => line.derived = Some(body.clone()),
        Some(Content::Act(act)) => {
            line.act = Some(Act {
                sequence: act.sequence,
                after_decision: act.after_decision,
                at_micros: act.at_micros,
                kind: act.kind.as_str().into(),
                subject: act.subject.as_str().into(),
                actor_key_id: act.actor_key_id.as_str().into(),
                actor_role: act.actor_role.as_str().into(),
                document: act.document.as_str().into(),
            });
        }
        Some(Content::Decision(decision)) => {
            line.decision = Some(Decision {
                sequence: decision.sequence,
                transaction_id: decision.transaction_id.as_str().into(),
                agent_id: decision.agent_id.as_str().into(),
                mandate_id: decision.mandate_id.as_str().into(),
                decided_at_micros: decision.decided_at_micros,
                verdict: decision.verdict.as_str().into(),
                amount: decision.amount,
                currency: decision.currency.as_str().into(),
                vendor: decision.vendor.as_str().into(),
                category: decision.category.as_deref().map(Into::into),
                idempotency_key: decision.idempotency_key.as_str().into(),
                request_hash: decision.request_hash.as_str().into(),
                evidence: decision.evidence.as_str().into(),
            });
        }
    }
    line
}
