//! The journal for whoever checks it: lists, exports, verification, and signed checkpoints.
//!
//! Not here: how a chain is computed (`audit`), and events, which are for whoever acts on them.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::access::Principal;
use super::pages::{PageAsk, Paged};
use super::signing::PublicKey;
use super::{Engine, EngineError, EngineResult};
use crate::audit::verify::{Checked, Content, Fault, Verifier};
use crate::audit::{ActFields, Checkpoint, EntryFields, SpendFields, genesis};
use crate::domain::id::OrgId;
use crate::store::{
    ActColumns, EntryContent, EventStore, JournalEntry, SpendColumns, StoreError, StoredCheckpoint,
};

/// Entries of a part of an export.
const PART: u32 = 500;

/// Parts that an export reads at the same time.
const READ_AT_ONCE: usize = 2;

/// Entries that are verified by one call.
const VERIFIED_AT_ONCE: i64 = 20_000;

/// Entries that a search looks at for one page.
const SEARCHED_AT_ONCE: i64 = 5_000;

/// Which entries to list.
#[derive(Clone, Debug, Default)]
pub struct EntryFilter {
    /// This kind, or all of a group (`transaction`, or `transaction.`); empty means any.
    pub kind: String,
    /// Only at or after this time.
    pub since: Option<Timestamp>,
    /// Only before this time.
    pub until: Option<Timestamp>,
}

impl EntryFilter {
    fn fits(&self, entry: &JournalEntry) -> bool {
        // Every kind is `group.what`.
        let group = self.kind.strip_suffix('.').unwrap_or(&self.kind);
        let is_kind = match entry.kind.strip_prefix(group) {
            _ if self.kind.is_empty() => true,
            Some(rest) => rest.starts_with('.') || rest.is_empty() && !self.kind.ends_with('.'),
            None => false,
        };
        let since = self.since.is_none_or(|since| entry.at >= since.as_microsecond());
        let until = self.until.is_none_or(|until| entry.at < until.as_microsecond());
        is_kind && since && until
    }
}

/// What an export begins with.
#[derive(Clone, Debug)]
pub struct ExportHead {
    /// Whose journal it is.
    pub org_id: OrgId,
    /// The last entry that will come.
    pub last: i64,
    /// The chain before the first entry.
    pub chain_before: [u8; 32],
    /// The keys that sign, and signed.
    pub keys: Vec<PublicKey>,
}

/// A part of an export.
#[derive(Clone, Debug)]
pub struct ExportPart {
    /// In the first part.
    pub head: Option<ExportHead>,
    /// Entries, in order.
    pub entries: Vec<JournalEntry>,
    /// Checkpoints of entries up to the last one here.
    pub checkpoints: Vec<StoredCheckpoint>,
}

/// An export on its way.
pub struct Export {
    engine: Arc<Engine>,
    caller: Principal,
    head: Option<ExportHead>,
    last: i64,
    after: i64,
    /// Behind which entry the next part to read begins.
    unread: i64,
    /// The parts that are read while the one before them is sent, each by a task that ends with the
    /// export. They wait for nobody: a slow reader holds no connection.
    ahead: VecDeque<JoinSet<Result<Read, StoreError>>>,
}

/// A part as it is stored.
type Read = (Vec<JournalEntry>, Vec<StoredCheckpoint>);

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Export").field("after", &self.after).finish_non_exhaustive()
    }
}

impl Export {
    /// The next part; `None` at the end.
    ///
    /// # Errors
    /// When the key is not good any more, the server stops, or a store fails.
    pub async fn next(&mut self) -> EngineResult<Option<ExportPart>> {
        if let Some(head) = self.head.take() {
            let (entries, checkpoints) = (Vec::new(), Vec::new());
            return Ok(Some(ExportPart { head: Some(head), entries, checkpoints }));
        }
        if self.after >= self.last {
            return Ok(None);
        }
        if self.engine.ending.is_cancelled() {
            return Err(EngineError::Stopping);
        }
        self.engine.still_good(&self.caller).await?;
        loop {
            self.read_ahead();
            let Some(mut part) = self.ahead.pop_front() else {
                return Err(EngineError::Corrupt("a journal that ends before its last entry"));
            };
            let gone = EngineError::Corrupt("a part of the journal that cannot be read");
            let read = part.join_next().await.and_then(Result::ok).ok_or(gone)?;
            let (mut entries, mut checkpoints) = read?;
            self.read_ahead();
            // Where entries are missing, a part reaches into those behind it.
            entries.retain(|entry| entry.seq > self.after && entry.seq <= self.last);
            let Some(end) = entries.last().map(|entry| entry.seq) else { continue };
            checkpoints.retain(|signed| signed.seq > self.after && signed.seq <= end);
            self.after = end;
            return Ok(Some(ExportPart { head: None, entries, checkpoints }));
        }
    }

    /// Begins to read so many parts: numbers have no gaps, so it is known where each begins.
    fn read_ahead(&mut self) {
        while self.ahead.len() < READ_AT_ONCE && self.unread < self.last {
            let (catalogue, org) = (Arc::clone(&self.engine.catalogue), self.caller.org_id);
            let after = self.unread;
            let mut part = JoinSet::new();
            part.spawn(async move {
                let entries = catalogue.journal(org, after, PART).await?;
                Ok((entries, catalogue.checkpoints(org, after, PART).await?))
            });
            self.ahead.push_back(part);
            self.unread = after.saturating_add(i64::from(PART));
        }
    }
}

/// What a verification of a part found.
#[derive(Clone, Debug)]
pub struct Verification {
    /// What is wrong first.
    pub fault: Option<Fault>,
    /// The last entry that was found whole, and the chain after it.
    pub last: (i64, [u8; 32]),
    /// Whether that is the end, and as long as the record.
    pub is_complete: bool,
    /// What was checked.
    pub checked: Checked,
}

impl Engine {
    /// A page of entries, oldest first.
    ///
    /// # Errors
    /// When the token is not of this list.
    pub async fn entries(
        &self,
        caller: &Principal,
        filter: &EntryFilter,
        ask: &PageAsk,
    ) -> EngineResult<Paged<JournalEntry>> {
        let query = format!("journal {filter:?}");
        let mut after = match ask.token.as_str() {
            "" => 0,
            token => self.pages.unseal(caller.org_id, &query, token)?,
        };
        let size = usize::try_from(ask.size()).unwrap_or(usize::MAX);
        let (mut items, mut searched) = (Vec::new(), 0);
        while items.len() < size && searched < SEARCHED_AT_ONCE {
            let part = self.catalogue.journal(caller.org_id, after, PART).await?;
            if part.is_empty() {
                return Ok(Paged { items, next: String::new() });
            }
            for entry in part {
                after = entry.seq;
                searched = i64::saturating_add(searched, 1);
                if filter.fits(&entry) {
                    items.push(entry);
                }
                if items.len() >= size {
                    break;
                }
            }
        }
        let next = self.pages.seal(caller.org_id, &query, after);
        Ok(Paged { items, next })
    }

    /// Begins an export behind an entry.
    ///
    /// # Errors
    /// When there is no such entry.
    pub async fn export(self: &Arc<Self>, caller: &Principal, after: i64) -> EngineResult<Export> {
        let chain_before = self.chain_after(caller.org_id, after).await?;
        let last = self.last_event(caller.org_id).await?;
        let keys = self.public_keys(caller.org_id).await?;
        let head = Some(ExportHead { org_id: caller.org_id, last, chain_before, keys });
        let (engine, ahead) = (Arc::clone(self), VecDeque::new());
        Ok(Export { engine, caller: *caller, head, last, after, unread: after, ahead })
    }

    /// The chain after an entry, as it is stored.
    async fn chain_after(&self, org: OrgId, seq: i64) -> EngineResult<[u8; 32]> {
        if seq == 0 {
            return Ok(genesis(org));
        }
        let found = self.catalogue.journal(org, seq.saturating_sub(1), 1).await?;
        let found = found.first().filter(|entry| entry.seq == seq);
        found.map(|entry| entry.chain).ok_or(EngineError::NotFound("journal entry"))
    }

    /// Verifies a part of the journal.
    ///
    /// # Errors
    /// When there is no such entry to begin behind, or a store fails. What is wrong with the
    /// journal is a result.
    pub async fn verify_chain(&self, caller: &Principal, after: i64) -> EngineResult<Verification> {
        let org = caller.org_id;
        let rows = self.catalogue.signing_keys(org).await?;
        let keys = rows.into_iter().map(|row| row.public_key).collect();
        let begin = (after, self.chain_after(org, after).await?);
        let mut verifier = Verifier::behind(org, keys, begin);
        let end = self.catalogue.journal_end(org).await?.map_or(0, |(seq, _)| seq);
        let until = end.min(after.saturating_add(VERIFIED_AT_ONCE));
        let mut fault = None;
        while fault.is_none() && verifier.last().0 < until {
            fault = self.verify_part(org, &mut verifier, until).await?.err();
        }
        let is_end = fault.is_none() && verifier.last().0 >= end;
        if is_end {
            fault = self.verify_end(org, &verifier).await?;
        }
        let is_complete = is_end && fault.is_none();
        let (last, checked) = (verifier.last(), verifier.checked());
        Ok(Verification { fault, last, is_complete, checked })
    }

    async fn verify_part(
        &self,
        org: OrgId,
        verifier: &mut Verifier,
        until: i64,
    ) -> EngineResult<Result<(), Fault>> {
        let after = verifier.last().0;
        let mut entries = self.catalogue.journal(org, after, PART).await?;
        entries.retain(|entry| entry.seq <= until);
        let checkpoints = self.catalogue.checkpoints(org, after, PART).await?;
        let mut checkpoints = checkpoints.iter().peekable();
        if entries.is_empty() {
            let from = after.saturating_add(1);
            return Ok(Err(Fault::Missing { from, to: until }));
        }
        for entry in &entries {
            if let Err(fault) = verifier.entry(&fields_of(entry), &content_of(entry), &entry.chain)
            {
                return Ok(Err(fault));
            }
            while let Some(signed) = checkpoints.next_if(|signed| signed.seq <= entry.seq) {
                let said = (signed.seq, signed.chain, signed.at);
                if let Err(fault) = verifier.checkpoint(said, &signed.signature) {
                    return Ok(Err(fault));
                }
            }
        }
        Ok(Ok(()))
    }

    /// Whether nothing was cut, and every decision and act is in it.
    async fn verify_end(&self, org: OrgId, verifier: &Verifier) -> EngineResult<Option<Fault>> {
        let (last, _) = verifier.last();
        if let Some(signed) = self.catalogue.checkpoints(org, last, 1).await?.first() {
            // It may have grown since its end was read, and been signed there.
            let end = self.catalogue.journal_end(org).await?.map_or(0, |(seq, _)| seq);
            if signed.seq > end {
                return Ok(Some(Fault::Cut { last, signed: signed.seq }));
            }
        }
        let counted = self.catalogue.count_journal(org).await?;
        let (spends, acts) = (counted.spends, counted.acts);
        let recorded = self.catalogue.count_recorded(org, spends.1, acts.1).await?;
        let counts = (spends.0, acts.0);
        let missing = |have: i64, want: i64| want.saturating_sub(have).saturating_abs();
        let count = missing(counts.0, recorded.0).saturating_add(missing(counts.1, recorded.1));
        Ok((count != 0).then_some(Fault::Unrecorded { count }))
    }

    /// The checkpoints that sign where journals end now.
    ///
    /// # Errors
    /// When a store fails.
    pub async fn current_checkpoints(&self) -> EngineResult<Vec<(OrgId, StoredCheckpoint)>> {
        let mut current = Vec::new();
        for org in self.catalogue.orgs().await? {
            let Some((seq, _)) = self.catalogue.journal_end(org.id).await? else { continue };
            let last = self.catalogue.checkpoints(org.id, seq.saturating_sub(1), 1).await?;
            current.extend(last.into_iter().map(|checkpoint| (org.id, checkpoint)));
        }
        Ok(current)
    }

    /// Signs where each journal ends, if it has grown since it was signed last; the new ones.
    ///
    /// # Errors
    /// When a store fails.
    pub async fn sign_checkpoints(&self) -> EngineResult<Vec<(OrgId, StoredCheckpoint)>> {
        let mut signed = Vec::new();
        for org in self.catalogue.orgs().await? {
            let Some((seq, chain)) = self.catalogue.journal_end(org.id).await? else { continue };
            // One of this very entry, or of a later one that another server has signed meanwhile.
            let before = seq.saturating_sub(1);
            if !self.catalogue.checkpoints(org.id, before, 1).await?.is_empty() {
                continue;
            }
            let key = self.signing_key(org.id).await?;
            let at = self.clock.now().as_microsecond();
            let signature = Checkpoint { org_id: org.id, seq, chain, at }.sign(&key.1);
            let (key_id, org) = (key.0.clone(), org.id);
            let checkpoint = StoredCheckpoint { seq, chain, at, key_id, signature };
            if self.catalogue.keep_checkpoint(org, checkpoint.clone()).await? {
                signed.push((org, checkpoint));
            }
        }
        Ok(signed)
    }
}

fn fields_of(entry: &JournalEntry) -> EntryFields<'_> {
    let JournalEntry { seq, at, kind, source, source_seq, .. } = entry;
    EntryFields { seq: *seq, at: *at, kind, source: *source, source_seq: *source_seq }
}

fn content_of(entry: &JournalEntry) -> Content<'_> {
    match &entry.content {
        EntryContent::Spend(spend) => Content::Spend(spend_fields(spend)),
        EntryContent::Act(act) => Content::Act(act_fields(act)),
        EntryContent::Derived(body) => Content::Derived(body),
        EntryContent::Missing => Content::Missing,
    }
}

fn spend_fields(spend: &SpendColumns) -> SpendFields<'_> {
    SpendFields {
        seq: spend.seq,
        id: &spend.id,
        agent_id: &spend.agent_id,
        mandate_id: spend.mandate_id.as_deref(),
        decided_at: spend.decided_at,
        verdict: &spend.verdict,
        amount: spend.amount,
        currency: &spend.currency,
        vendor: &spend.vendor,
        category: spend.category.as_deref(),
        idempotency_key: &spend.idempotency_key,
        request_hash: &spend.request_hash,
        evidence: &spend.evidence,
    }
}

fn act_fields(act: &ActColumns) -> ActFields<'_> {
    ActFields {
        seq: act.seq,
        after_spend: act.after_spend,
        at: act.at,
        kind: &act.kind,
        subject: &act.subject,
        actor_key: act.actor_key.as_deref(),
        actor_role: &act.actor_role,
        document: &act.document,
    }
}
