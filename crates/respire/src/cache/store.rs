//! The cached replies, by key. No I/O and no clock.
//!
//! A read that is not answered from here takes a *seat* under its key before it is sent, and its reply is kept only if the
//! seat is still there: whatever invalidates the key meanwhile takes all seats away, be it before the read was carried
//! out, between that and the reply, or between the reply and its being kept. So an announcement wins however it is
//! ordered.
//!
//! Locks: a part is locked for moments, never while anything of a connection is called or a future dropped, because
//! announcements arrive under a connection's lock.

use std::{
    collections::hash_map::RandomState,
    fmt,
    hash::BuildHasher,
    num::NonZeroU64,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use lru::LruCache;
use respire_codec::{Frame, Value, ValueRef};

use super::{config::CacheConfig, epoch::Epoch, stats::Counters};
use crate::{
    error::Error,
    reply::Reply,
    session::push::{ConnectionId, PushSink},
};

/// A read under way, which all who want its reply wait for. Whoever polls it drives it.
pub(super) type Flight = Shared<BoxFuture<'static, Result<Reply, Error>>>;

/// What an entry or a value costs beside its own bytes: its places in the map, in lists and in the allocator.
const OVERHEAD_BYTES: usize = 200;

/// The number of parts, where the bound allows.
const PARTS_MAX: usize = 16;

/// A part has at least this room: with less, a few values of different size would fill one part while others are empty.
const PART_BYTES_MIN: usize = 1 << 20;

/// Connections that are known at a time: the present one, and some that are being replaced.
const EPOCHS_MAX: usize = 8;

pub(super) struct Store {
    parts: Box<[Mutex<Part>]>,
    part_bytes_max: usize,
    hasher: RandomState,
    ttl_max: Duration,
    staleness_max: Duration,
    epochs: Mutex<Vec<Arc<Epoch>>>,
    next_seat: AtomicU64,
    /// Much of what is held is of no more use.
    is_littered: AtomicBool,
    pub(super) counters: Counters,
}

#[derive(Default)]
struct Part {
    /// By key, the one that was read longest ago last. `None` before the first.
    entries: Option<LruCache<Bytes, Entry>>,
    bytes: usize,
}

/// What is known of one key.
#[derive(Default)]
struct Entry {
    /// One for each command that was asked of it. Most keys are asked for one thing.
    slots: Vec<Slot>,
}

struct Slot {
    identity: Bytes,
    content: Content,
}

enum Content {
    /// A read is under way.
    Seat {
        seat: Seat,
        taken: Instant,
        flight: Option<WeakShared<BoxFuture<'static, Result<Reply, Error>>>>,
        passage: Option<Passage>,
    },
    Value {
        reply: Reply,
        expires: Instant,
        passage: Passage,
    },
}

/// What is asked of the server: a command, by what tells it from others, on a key.
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub(super) key: Bytes,
    pub(super) identity: Bytes,
}

/// Names a read under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seat(NonZeroU64);

/// Over which connection something was read, and since when.
#[derive(Clone, Debug)]
pub(super) struct Passage {
    pub(super) epoch: Arc<Epoch>,
    generation: u64,
}

impl Passage {
    fn holds(&self) -> bool {
        self.epoch.holds(self.generation)
    }
}

/// What a reader is to do.
pub(super) enum Lookup {
    Hit(Reply),
    /// Somebody reads it already.
    Join(Flight),
    /// It reads for all who come meanwhile.
    Lead(Flight),
}

impl Slot {
    fn is_seat(&self, seat: Seat) -> bool {
        matches!(&self.content, Content::Seat { seat: taken, .. } if *taken == seat)
    }

    fn bytes(&self) -> usize {
        let content = match &self.content {
            Content::Seat { .. } => 0,
            Content::Value { reply, .. } => reply_bytes(reply),
        };
        OVERHEAD_BYTES + self.identity.len() + content
    }
}

/// An index goes with an aggregate, of at most two bytes for each byte on the wire.
fn reply_bytes(reply: &Reply) -> usize {
    let wire = reply.frame().bytes();
    match wire.first() {
        Some(b'*' | b'~' | b'%' | b'|') => wire.len() * 3,
        _ => wire.len(),
    }
}

impl Store {
    pub(super) fn new(config: &CacheConfig) -> Self {
        let parts = (config.bytes_max / PART_BYTES_MIN).clamp(1, PARTS_MAX);
        Self {
            parts: (0..parts).map(|_| Mutex::default()).collect(),
            part_bytes_max: config.bytes_max / parts,
            hasher: RandomState::new(),
            ttl_max: config.ttl_max,
            staleness_max: config.staleness_max,
            epochs: Mutex::new(Vec::new()),
            next_seat: AtomicU64::new(0),
            is_littered: AtomicBool::new(false),
            counters: Counters::default(),
        }
    }

    fn part(&self, key: &[u8]) -> MutexGuard<'_, Part> {
        // The high bits: the maps themselves use others of another hash.
        let hash = self.hasher.hash_one(key) >> 32;
        lock(&self.parts[hash as usize % self.parts.len()])
    }

    /// The reply to a command on a key, or the read that brings it; `lead` makes that where there is none. It must not
    /// do anything before it is polled.
    pub(super) fn look_up(
        &self,
        query: &Query,
        now: Instant,
        lead: impl FnOnce(Seat) -> Flight,
    ) -> Lookup {
        let mut part = self.part(&query.key);
        let slot = part.touch(query);
        match slot.map(|slot| &slot.content) {
            Some(Content::Value { reply, expires, passage })
                if now < *expires
                    && passage.holds()
                    && passage.epoch.is_fresh(now, self.staleness_max) =>
            {
                self.counters.hit();
                return Lookup::Hit(reply.clone());
            }
            // One that was begun long ago may bring what was true then.
            Some(Content::Seat { taken, flight, passage, .. })
                if now.saturating_duration_since(*taken) < self.staleness_max
                    && passage.as_ref().is_none_or(Passage::holds) =>
            {
                // Where all who waited have gone, nobody brings it any more.
                if let Some(flight) = flight.as_ref().and_then(WeakShared::upgrade) {
                    self.counters.join();
                    return Lookup::Join(flight);
                }
            }
            _ => {}
        }
        self.counters.miss();
        let number = self.next_seat.fetch_add(1, Ordering::Relaxed) + 1;
        let seat = Seat(NonZeroU64::new(number).unwrap_or(NonZeroU64::MAX));
        let flight = lead(seat);
        let content = Content::Seat { seat, taken: now, flight: flight.downgrade(), passage: None };
        part.put(query, content);
        let evicted = part.shrink(self.part_bytes_max);
        drop(part);
        self.counters.evict(evicted);
        Lookup::Lead(flight)
    }

    /// The read that has this seat will go over a connection. To be called before it is sent.
    pub(super) fn board(&self, query: &Query, seat: Seat, epoch: &Arc<Epoch>) -> Passage {
        let passage = Passage { epoch: Arc::clone(epoch), generation: epoch.generation() };
        if let Some(slot) = self.part(&query.key).seated(query, seat)
            && let Content::Seat { passage: of_slot, .. } = &mut slot.content
        {
            *of_slot = Some(passage.clone());
        }
        passage
    }

    /// Keeps a reply, unless the seat of its read was taken away or is not to be relied on any more.
    pub(super) fn land(
        &self,
        query: &Query,
        seat: Seat,
        passage: Passage,
        reply: &Reply,
        ttl: Duration,
        now: Instant,
    ) {
        let reply = reply.detach();
        let room = self
            .part_bytes_max
            .saturating_sub(2 * OVERHEAD_BYTES + query.key.len() + query.identity.len());
        let expires = now.checked_add(ttl.min(self.ttl_max));
        let mut part = self.part(&query.key);
        if part.seated(query, seat).is_none() {
            return;
        }
        let (Some(expires), true) = (expires, passage.holds() && reply_bytes(&reply) <= room)
        else {
            part.take_slot(query);
            return;
        };
        part.put(query, Content::Value { reply, expires, passage });
        let evicted = part.shrink(self.part_bytes_max);
        drop(part);
        self.counters.evict(evicted);
    }

    /// The read that has this seat brings nothing to keep.
    pub(super) fn leave(&self, query: &Query, seat: Seat) {
        let mut part = self.part(&query.key);
        if part.seated(query, seat).is_some() {
            part.take_slot(query);
        }
    }

    /// A key has changed, or may have.
    pub(super) fn forget(&self, key: &[u8]) {
        self.part(key).remove(key);
    }

    /// Everything may have changed.
    pub(super) fn forget_all(&self) {
        lock(&self.epochs).iter().for_each(|epoch| epoch.forget_all());
        self.is_littered.store(true, Ordering::SeqCst);
    }

    /// The epoch of a connection. To be asked for before anything is sent over it.
    pub(super) fn epoch(&self, id: ConnectionId, now: Instant) -> Arc<Epoch> {
        let mut epochs = lock(&self.epochs);
        if let Some(known) = epochs.iter().find(|epoch| epoch.id == id) {
            return Arc::clone(known);
        }
        epochs.retain(|epoch| !epoch.has_ended());
        if epochs.len() == EPOCHS_MAX {
            epochs.remove(0).end();
        }
        let epoch = Arc::new(Epoch::new(id, now));
        epochs.push(Arc::clone(&epoch));
        epoch
    }

    /// Gives memory back that is held for nothing, where there is much of it. What is dropped was read before, or is being
    /// read; at the worst it is read again.
    pub(super) fn sweep(&self) {
        if !self.is_littered.swap(false, Ordering::SeqCst) {
            return;
        }
        for part in &self.parts {
            // The old entries are dropped when the part is free for others again.
            let swept = std::mem::take(&mut *lock(part));
            drop(swept);
        }
    }

    /// The bytes that are held, and the number of keys.
    pub(super) fn size(&self) -> (usize, usize) {
        self.parts.iter().fold((0, 0), |(bytes, keys), part| {
            let part = lock(part);
            (bytes + part.bytes, keys + part.entries.as_ref().map_or(0, LruCache::len))
        })
    }
}

impl Part {
    /// What is known of a command, whose key is then the one that was read last.
    fn touch(&mut self, query: &Query) -> Option<&mut Slot> {
        self.entries.as_mut()?.get_mut(&query.key)?.find(&query.identity)
    }

    fn seated(&mut self, query: &Query, seat: Seat) -> Option<&mut Slot> {
        let entry = self.entries.as_mut()?.peek_mut(&query.key)?;
        entry.find(&query.identity).filter(|slot| slot.is_seat(seat))
    }

    fn put(&mut self, query: &Query, content: Content) {
        let entries = self.entries.get_or_insert_with(LruCache::unbounded);
        let mut added = 0;
        let entry = entries.get_or_insert_mut(query.key.clone(), || {
            added += OVERHEAD_BYTES + query.key.len();
            Entry::default()
        });
        let slot = Slot { identity: query.identity.clone(), content };
        added += slot.bytes();
        let removed = match entry.find(&query.identity) {
            Some(known) => std::mem::replace(known, slot).bytes(),
            None => {
                entry.slots.push(slot);
                0
            }
        };
        self.bytes = self.bytes + added - removed;
    }

    fn take_slot(&mut self, query: &Query) {
        let entry = self.entries.as_mut().and_then(|entries| entries.peek_mut(&query.key));
        let Some(entry) = entry else { return };
        let at = entry.slots.iter().position(|slot| slot.identity == query.identity);
        let Some(at) = at else { return };
        self.bytes -= entry.slots.swap_remove(at).bytes();
        if entry.slots.is_empty() {
            self.remove(&query.key);
        }
    }

    fn remove(&mut self, key: &[u8]) {
        let Some(entries) = &mut self.entries else { return };
        if let Some(entry) = entries.pop(key) {
            self.bytes -= entry.bytes(key);
        }
    }

    /// Drops what was read longest ago until the rest has room. Returns how many keys that were.
    fn shrink(&mut self, bytes_max: usize) -> u64 {
        let mut evicted = 0;
        while self.bytes > bytes_max {
            let Some((key, entry)) = self.entries.as_mut().and_then(LruCache::pop_lru) else {
                break;
            };
            self.bytes -= entry.bytes(&key);
            evicted += 1;
        }
        evicted
    }
}

impl Entry {
    fn find(&mut self, identity: &[u8]) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.identity == identity)
    }

    fn bytes(&self, key: &[u8]) -> usize {
        OVERHEAD_BYTES + key.len() + self.slots.iter().map(Slot::bytes).sum::<usize>()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Announcements of changes, in their order among the replies.
impl PushSink for Store {
    fn handle_push(&self, connection: ConnectionId, push: Frame, _: &mut Vec<Waker>) {
        let Value::Push(mut elements) = push.value().get() else { return };
        let is_invalidation = elements.next().is_some_and(|kind| {
            matches!(
                kind.get(),
                Value::BulkString(b"invalidate") | Value::SimpleString(b"invalidate")
            )
        });
        if !is_invalidation {
            tracing::trace!("a push that nobody takes");
            return;
        }
        match elements.next().map(ValueRef::get) {
            Some(Value::Array(keys)) => {
                for key in keys {
                    self.counters.invalidate();
                    match key.get() {
                        Value::BulkString(key) | Value::SimpleString(key) => self.forget(key),
                        _ => self.forget_all(),
                    }
                }
            }
            // Null is what a server says when it has been emptied. Anything else is not known, and may mean anything.
            _ => {
                self.counters.flush();
                let epoch = lock(&self.epochs).iter().find(|epoch| epoch.id == connection).cloned();
                if let Some(epoch) = epoch {
                    epoch.forget_all();
                }
                self.is_littered.store(true, Ordering::SeqCst);
            }
        }
    }

    fn handle_end(&self, connection: ConnectionId, _: &mut Vec<Waker>) {
        let mut epochs = lock(&self.epochs);
        if let Some(at) = epochs.iter().position(|epoch| epoch.id == connection) {
            epochs.remove(at).end();
            self.counters.lose();
            self.is_littered.store(true, Ordering::SeqCst);
        }
    }

    /// What is read from the cache is as stale as its announcements are late.
    fn is_urgent(&self) -> bool {
        true
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, keys) = self.size();
        f.debug_struct("Store").field("keys", &keys).field("bytes", &bytes).finish()
    }
}

#[cfg(test)]
mod tests;
