//! What gives room back: a walk over the database in bounded steps.

use std::{
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};

use respire::{Command, Pipeline, Reply};

use super::{
    BitmapIndex, Kind, Registry, Token,
    attest::{ATTEMPTS, failed as registry_failed},
    is_error,
    keys::Name,
    life::tokens,
    scripts::call,
    write::BLOCKS_PER_SCRIPT,
};
use crate::{BlockHash, IndexError};

/// Keys that the server is asked to visit in one step.
const SCAN_COUNT: usize = 512;

/// The most columns of one pass.
const COLUMNS_PER_PASS: usize = 1024;

/// Keys of one step of a sweep in the background, and the pause behind it: a server spends a percent or two of its time on it.
const BACKGROUND_KEYS: usize = 2048;
const BACKGROUND_PAUSE: Duration = Duration::from_millis(50);

/// After a step that failed, a background sweep waits so long at least.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// Longer intervals are as this one: a year.
const INTERVAL_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a step of a sweep has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sweep {
    /// Keys of the index that were looked at.
    pub keys: usize,
    /// Blocks out of which retired columns were taken.
    pub changed: usize,
    /// Keys of an earlier registry that were removed.
    pub removed: usize,
    /// Columns that can be given out again.
    pub freed: usize,
    /// Pods that have been gone for so long that their lives are no longer counted.
    pub forgotten: usize,
    /// Whether the whole database has been looked at; the next step begins a new pass.
    pub is_done: bool,
}

/// A pass under way.
#[derive(Debug)]
pub(super) struct Pass {
    generation: Token,
    /// The columns that are taken out, and since when they are retired.
    columns: Vec<(u16, Vec<u8>)>,
    cursor: Vec<u8>,
}

/// What a page of keys consists of.
#[derive(Default)]
struct Page {
    blocks: Vec<Name>,
    engine_keys: Vec<BlockHash>,
    /// Of other epochs.
    old: Vec<Vec<u8>>,
}

impl BitmapIndex {
    /// Sweeps in the background: a task walks over the whole database in small steps, waits for the interval and begins again. It ends when
    /// the index is dropped, an interval later at most. A pass that fails is logged, and begun again after a second and the interval. Intervals of less than 50 ms are taken for 50 ms.
    ///
    /// One process that does it is enough for an index, and several do no harm: each interval is a little shorter or longer, so that
    /// they do not walk together for ever.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn spawn_sweeps(self: &Arc<Self>, interval: Duration) {
        tokio::spawn(sweeps(Arc::downgrade(self), interval));
    }

    /// A step of the sweep, over some `keys` keys of the database or a few hundred more, the index's own and others: frees the columns of pods that were cleared or whose leases ran out, and
    /// removes what nobody reads any more. It also judges leases when it begins a pass.
    ///
    /// Several processes may sweep at once; one is enough. How often: a pass over the whole index every few minutes gives room back soon
    /// enough, and each step takes the server some microseconds a key.
    ///
    /// ```no_run
    /// # async fn example(index: respire_kvblock::BitmapIndex) -> Result<(), respire_kvblock::IndexError> {
    /// loop {
    ///     index.sweep(1000).await?;
    ///     tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the server cannot be asked or written to. The next step begins a new pass.
    ///
    /// # Cancel safety
    ///
    /// As after an error.
    pub async fn sweep(&self, keys: usize) -> Result<Sweep, IndexError> {
        let mut done = Sweep::default();
        let begun = self.pass.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut pass = match begun {
            Some(pass) => pass,
            None => self.begin_pass(&mut done).await?,
        };
        let (mut visited, mut changes) = (0, 0);
        while changes < ATTEMPTS {
            let registry = self.registry().await?;
            if registry.generation != pass.generation {
                return Ok(done);
            }
            let Some((cursor, page)) = self.page(&registry, &pass.cursor).await? else {
                changes += 1;
                continue;
            };
            visited += SCAN_COUNT;
            if !self.sweep_page(&registry, &pass, page, &mut done).await? {
                return Ok(done);
            }
            pass.cursor = cursor;
            if pass.cursor == b"0" {
                done.freed = self.free(&registry, &pass).await?;
                done.is_done = true;
                return Ok(done);
            }
            if visited >= keys {
                *self.pass.lock().unwrap_or_else(PoisonError::into_inner) = Some(pass);
                return Ok(done);
            }
        }
        Err(IndexError::contended())
    }

    /// Judges leases, forgets pods that are gone, and finds out what has been retired for long enough.
    async fn begin_pass(&self, done: &mut Sweep) -> Result<Pass, IndexError> {
        self.show_life().await?;
        let registry = self.read_registry().await?;
        let leased: Vec<Token> = registry.leased().collect();
        if !leased.is_empty() {
            let quarantine = self.options.quarantine.as_millis().to_string();
            let quarantine = [quarantine.as_bytes()];
            self.on_each(&tokens(&leased), &quarantine, |scripts| &scripts.lapse).await?;
        }
        let registry = self.read_registry().await?;
        let (seconds, microseconds): (u64, u64) = {
            let time: Vec<String> =
                self.client.query(Command::new("TIME")).await.map_err(registry_failed)?;
            let part = |at: usize| time.get(at).and_then(|part| part.parse().ok()).unwrap_or(0);
            (part(0), part(1))
        };
        let now = Duration::from_secs(seconds) + Duration::from_micros(microseconds);
        let rested = |since: &[u8]| {
            let since = std::str::from_utf8(since).ok().and_then(|since| since.parse().ok());
            since.is_some_and(|since| {
                now.saturating_sub(Duration::from_millis(since)) >= self.options.quarantine
            })
        };
        let kept = self.options.lives_kept;
        let then = now.checked_sub(kept).map_or(0, |then| then.as_millis() as u64);
        let gone: Vec<&[u8]> = registry.gone_since(then).map(str::as_bytes).collect();
        let kept = kept.as_millis().to_string();
        done.forgotten = self.on_each(&gone, &[kept.as_bytes()], |scripts| &scripts.forget).await?;
        let columns = registry.retired.iter().filter(|(_, since)| rested(since));
        Ok(Pass {
            generation: registry.generation,
            columns: columns.take(COLUMNS_PER_PASS).cloned().collect(),
            cursor: b"0".to_vec(),
        })
    }

    /// A page of keys, and where the next one begins. `None` if the registry was another one meanwhile.
    async fn page(
        &self,
        registry: &Registry,
        cursor: &[u8],
    ) -> Result<Option<(Vec<u8>, Page)>, IndexError> {
        let mut pipeline = Pipeline::new();
        let scan = Command::new("SCAN").arg(cursor).arg("MATCH").arg(self.names.pattern());
        pipeline.push(scan.arg("COUNT").arg(SCAN_COUNT));
        // A name is of an old epoch if this one is in force after it was listed.
        pipeline.push(self.nonce_call(registry, false));
        let replies = self.client.pipeline(pipeline).await.map_err(failed)?;
        if is_error(&replies[1], "NOSCRIPT") {
            self.state().scripts_unknown(registry.generation);
            return Ok(None);
        }
        let nonce: Option<Vec<u8>> = replies[1].parse().map_err(failed)?;
        if nonce.as_deref() != Some(registry.nonce.as_bytes()) {
            self.refresh(registry).await?;
            return Ok(None);
        }
        let (next, names): (Vec<u8>, Vec<Vec<u8>>) = replies[0].parse().map_err(failed)?;
        let mut page = Page::default();
        for name in names {
            match self.names.parse(&name) {
                Some((_, epoch, _)) if epoch != registry.epoch => page.old.push(name),
                Some((Kind::Block, ..)) => page.blocks.push(Name::from_slice(&name)),
                Some((Kind::Engine, _, key)) => page.engine_keys.push(key),
                None => {}
            }
        }
        Ok(Some((next, page)))
    }

    /// Works a page off. `false` when the pass is over because its columns are not what they were.
    async fn sweep_page(
        &self,
        registry: &Registry,
        pass: &Pass,
        page: Page,
        done: &mut Sweep,
    ) -> Result<bool, IndexError> {
        done.keys += page.blocks.len() + page.engine_keys.len() + page.old.len();
        let mut pipeline = Pipeline::new();
        for old in page.old.chunks(BLOCKS_PER_SCRIPT) {
            let removal = call(&registry.scripts.old, old.len()).args(old);
            pipeline.push(removal.arg(self.names.sign_at()));
        }
        let removals = pipeline.len();
        if !pass.columns.is_empty() {
            for blocks in page.blocks.chunks(BLOCKS_PER_SCRIPT) {
                let mut sweep =
                    call(&registry.scripts.sweep, blocks.len() + 1).arg(&self.names.registry()[..]);
                for name in blocks {
                    sweep = sweep.arg(&name[..]);
                }
                pipeline.push(pass.complete(sweep));
            }
        }
        let replies = self.client.pipeline(pipeline).await.map_err(failed)?;
        for (at, reply) in replies.iter().enumerate() {
            match counted(reply)? {
                Some(count) if at < removals => done.removed += count,
                Some(count) => done.changed += count,
                None => return Ok(false),
            }
        }
        if !page.engine_keys.is_empty() {
            // What a sweep comes by would push out what evictions are going to need.
            let groups = self.resolve(&page.engine_keys).await?;
            self.evict_groups(groups, &[]).await?;
        }
        Ok(true)
    }

    async fn free(&self, registry: &Registry, pass: &Pass) -> Result<usize, IndexError> {
        if pass.columns.is_empty() {
            return Ok(0);
        }
        let free = call(&registry.scripts.free, 1).arg(&self.names.registry()[..]);
        let reply = self
            .client
            .pipeline(Pipeline::new().push(pass.complete(free)))
            .await
            .map_err(failed)?;
        Ok(match counted(&reply[0])? {
            Some(_) => pass.columns.len(),
            None => 0,
        })
    }
}

async fn sweeps(index: Weak<BitmapIndex>, interval: Duration) {
    let interval = interval.clamp(BACKGROUND_PAUSE, INTERVAL_MAX);
    loop {
        tokio::time::sleep(interval.mul_f64(rand::random_range(0.8..1.2))).await;
        loop {
            // Not held over a pause, so that whoever else holds the index decides how long it lives.
            let Some(index) = index.upgrade() else { return };
            match index.sweep(BACKGROUND_KEYS).await {
                Ok(step) if step.is_done => break,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "a sweep of the index has failed");
                    drop(index);
                    tokio::time::sleep(FAILED_PAUSE).await;
                    break;
                }
            }
            drop(index);
            tokio::time::sleep(BACKGROUND_PAUSE).await;
        }
    }
}

impl Pass {
    /// Completes a call with the columns, and since when they have to be retired.
    fn complete(&self, command: Command) -> Command {
        let columns: Vec<u8> =
            self.columns.iter().flat_map(|(column, _)| column.to_be_bytes()).collect();
        command
            .arg(self.generation.as_bytes())
            .arg(Token::random().as_bytes())
            .arg(columns)
            .args(self.columns.iter().map(|(_, since)| since))
    }
}

/// The number that a script answers with; `None` if it found its columns changed, or if the server does not know it.
fn counted(reply: &Reply) -> Result<Option<usize>, IndexError> {
    if is_error(reply, "NOSCRIPT") {
        return Ok(None);
    }
    let count: i64 = reply.parse().map_err(failed)?;
    Ok(usize::try_from(count).ok())
}

fn failed(error: respire::Error) -> IndexError {
    IndexError::client("failed to sweep the index", error)
}
