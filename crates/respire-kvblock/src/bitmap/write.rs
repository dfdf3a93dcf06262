//! How a write finds its columns, passes the fence, and is made again where it did not.

use std::sync::Arc;

use respire::{Command, Pipeline, Reply};

use super::{
    BitmapIndex, Registry, Token,
    attest::{ATTEMPTS, Wanted, Wish},
    is_error,
    scripts::call,
    state::Member,
};
use crate::{IndexError, PodEntry};

/// The most blocks of one script, and the most engine keys. Some hundred microseconds of the server's time, in which it does nothing else.
pub(super) const BLOCKS_PER_SCRIPT: usize = 256;

/// The most entries of one write: a script can name only so many incarnations.
pub(super) const ENTRIES_PER_WRITE: usize = 1000;

/// What a write is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Add,
    Evict,
}

/// What a write writes to.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) registry: Arc<Registry>,
    /// The pods and the incarnations that are written to, each once.
    incarnations: Vec<(Box<str>, Token)>,
    /// The columns, two bytes each.
    pub(super) columns: Vec<u8>,
    /// Whether it rests on the registry having no column for an entry.
    pub(super) rests_on_nonce: bool,
}

/// What a server makes of a write.
pub(super) enum Verdict {
    Done,
    /// Not carried out: the registry is another one by now.
    Stale,
    /// Not carried out: a later write was there first.
    Late,
    Failed(IndexError),
}

/// A part of a write that one script carries out.
pub(super) trait Job {
    const PURPOSE: Purpose;
    const FAILED: &'static str;

    /// Completes the command, which has everything up to what the fence looks at.
    fn command(&self, index: &BitmapIndex, target: &Target, number: u64) -> Command;

    /// Reads the reply to a command that was carried out or refused.
    fn verdict(&mut self, index: &BitmapIndex, reply: &Reply) -> Verdict;
}

impl BitmapIndex {
    /// Carries out all jobs for these entries, in one round trip where nothing has changed. Entries of which another knows more are left
    /// out. The jobs as they came out.
    pub(super) async fn write<J: Job>(
        &self,
        entries: &[PodEntry],
        mut open: Vec<J>,
    ) -> Result<Vec<J>, IndexError> {
        self.show_life().await?;
        let mut done = Vec::with_capacity(open.len());
        for _ in 0..ATTEMPTS {
            if open.is_empty() {
                return Ok(done);
            }
            let target = self.target(entries, J::PURPOSE).await?;
            if J::PURPOSE == Purpose::Add && target.columns.is_empty() {
                return Ok(done);
            }
            let numbers: Vec<u64> = open.iter().map(|_| self.next_write()).collect();
            let mut pipeline = Pipeline::new();
            for (job, &number) in open.iter().zip(&numbers) {
                pipeline.push(job.command(self, &target, number));
            }
            let replies = self.client.pipeline(pipeline).await;
            let replies = replies.map_err(|error| IndexError::client(J::FAILED, error))?;
            let (mut again, mut is_stale) = (Vec::new(), false);
            for ((mut job, reply), number) in open.into_iter().zip(&replies).zip(numbers) {
                if is_error(reply, "NOSCRIPT") {
                    self.state().scripts_unknown(target.registry.generation);
                    again.push(job);
                    continue;
                }
                match job.verdict(self, reply) {
                    Verdict::Done => {
                        self.acknowledge(&target, number).await?;
                        done.push(job);
                    }
                    Verdict::Late => again.push(job),
                    Verdict::Stale => {
                        is_stale = true;
                        again.push(job);
                    }
                    Verdict::Failed(error) => return Err(error),
                }
            }
            if is_stale {
                self.refresh(&target.registry).await?;
            }
            open = again;
        }
        Err(IndexError::contended())
    }

    /// A write was acknowledged. If the server has lost it by now, what it was written to is incomplete.
    async fn acknowledge(&self, target: &Target, number: u64) -> Result<(), IndexError> {
        for (pod, id) in &target.incarnations {
            let generation = target.registry.generation;
            if self.state().acknowledge(pod, *id, number, generation) {
                self.state().lost(pod, *id);
                self.end_incarnation(*id).await?;
            }
        }
        Ok(())
    }

    /// Finds the columns of entries, and joins or begins what is needed for it.
    async fn target(&self, entries: &[PodEntry], purpose: Purpose) -> Result<Target, IndexError> {
        for _ in 0..ATTEMPTS {
            let registry = self.registry().await?;
            let (target, wishes) = self.plan(&registry, entries, purpose);
            if wishes.is_empty() {
                return Ok(target);
            }
            self.join(&registry, &wishes).await?;
        }
        Err(IndexError::contended())
    }

    fn plan<'a>(
        &self,
        registry: &Arc<Registry>,
        entries: &'a [PodEntry],
        purpose: Purpose,
    ) -> (Target, Vec<Wish<'a>>) {
        let mut target = Target {
            registry: Arc::clone(registry),
            incarnations: Vec::new(),
            columns: Vec::new(),
            rests_on_nonce: false,
        };
        let mut wishes: Vec<Wish<'a>> = Vec::new();
        let state = self.state();
        for entry in entries {
            let pod = entry.pod_identifier.as_str();
            let wanted = match (state.member(pod), purpose) {
                (Some(Member::Retired { .. }), _)
                | (Some(Member::Lost | Member::Cleared { .. }), Purpose::Evict) => continue,
                (Some(Member::Cleared { life }), Purpose::Add) => Wanted::Life(life + 1),
                (Some(Member::Joined { id, .. }), _) => {
                    let is_off = registry.last_write(id, self.writer).is_none();
                    match registry.column(id, entry) {
                        Some(column) if !is_off => {
                            target.insert(pod, id, column);
                            continue;
                        }
                        None if purpose == Purpose::Evict => {
                            target.rests_on_nonce = true;
                            continue;
                        }
                        _ => Wanted::Just(id),
                    }
                }
                (Some(Member::Lost), Purpose::Add) => Wanted::New,
                (None, Purpose::Add) => Wanted::Any,
                (None, Purpose::Evict) => {
                    let present = registry.current(pod);
                    match present.filter(|&id| registry.column(id, entry).is_some()) {
                        Some(id) => Wanted::Just(id),
                        None => {
                            target.rests_on_nonce = true;
                            continue;
                        }
                    }
                }
            };
            let entries = (purpose == Purpose::Add).then_some(entry);
            match wishes.iter_mut().find(|wish| wish.pod == pod) {
                Some(wish) => wish.entries.extend(entries),
                None => wishes.push(Wish { pod, wanted, entries: entries.into_iter().collect() }),
            }
        }
        (target, wishes)
    }

    /// A call of a script that passes the fence, up to what the fence looks at. `keys` are those behind the registry.
    pub(super) fn fenced(
        &self,
        script: &respire::Script,
        keys: &[super::keys::Name],
        target: &Target,
        number: u64,
    ) -> Command {
        let mut command = call(script, keys.len() + 1).arg(&self.names.registry()[..]);
        for key in keys {
            command = command.arg(&key[..]);
        }
        command
            .arg(target.registry.generation.as_bytes())
            .arg(self.writer.as_bytes())
            .arg(number)
            .arg(target.incarnations.len())
            .args(target.incarnations.iter().map(|(_, id)| id.as_bytes()))
    }
}

impl Target {
    fn insert(&mut self, pod: &str, id: Token, column: u16) {
        if !self.incarnations.iter().any(|(_, known)| *known == id) {
            self.incarnations.push((pod.into(), id));
        }
        let bytes = column.to_be_bytes();
        if !self.columns.as_chunks().0.contains(&bytes) {
            self.columns.extend_from_slice(&bytes);
        }
    }
}
