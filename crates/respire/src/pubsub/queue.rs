//! What waits for one reader: bounded, and honest about what it had to drop.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// What an entry costs beside its own bytes: its place in the queue and the blocks that it is allocated in.
const ENTRY_BYTES: usize = 128;

/// The bounds of a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueMax {
    pub(crate) items: usize,
    pub(crate) bytes: usize,
}

/// What the reader gets next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<T, M> {
    Item(T),
    /// So many items were dropped here.
    Dropped(u64),
    Mark(M),
}

/// Something that a reader must learn even if the items around it are dropped.
pub(super) trait Mark: Sized {
    /// Adds `self` to the marks of one place, with no item between them. Those are merged as far as their meaning allows,
    /// so that few are left however many come.
    fn merge_into(self, marks: &mut VecDeque<Self>);
}

/// A queue with one reader. Full, it drops its oldest items; marks stay.
#[derive(Debug)]
pub(super) struct Queue<T, M> {
    state: Mutex<State<T, M>>,
}

#[derive(Debug)]
struct State<T, M> {
    max: QueueMax,
    /// How many were dropped in front of everything else, since the reader was told.
    unsaid: u64,
    /// The marks that stood between what was dropped.
    marks: VecDeque<M>,
    entries: VecDeque<Entry<T, M>>,
    items: usize,
    bytes: usize,
    dropped: u64,
    reader: Option<Waker>,
    closed: bool,
}

#[derive(Debug)]
enum Entry<T, M> {
    Item { item: T, bytes: usize },
    Mark(M),
}

impl<T, M: Mark> Queue<T, M> {
    pub(super) fn new(max: QueueMax) -> Self {
        Self {
            state: Mutex::new(State {
                max,
                unsaid: 0,
                marks: VecDeque::new(),
                entries: VecDeque::new(),
                items: 0,
                bytes: 0,
                dropped: 0,
                reader: None,
                closed: false,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T, M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an item of so many bytes, dropping older ones where there is no room. One that is larger than the bound
    /// is dropped itself. The reader is to be woken when no lock is held.
    #[must_use]
    pub(super) fn push(&self, item: T, bytes: usize) -> Option<Waker> {
        let mut state = self.state();
        if state.closed {
            return None;
        }
        let bytes = bytes.saturating_add(ENTRY_BYTES);
        state.entries.push_back(Entry::Item { item, bytes });
        state.items += 1;
        state.bytes = state.bytes.saturating_add(bytes);
        state.drop_oldest();
        state.reader.take()
    }

    /// Appends a mark, which is merged with those that no item came after. As [`push`](Self::push).
    #[must_use]
    pub(super) fn mark(&self, mark: M) -> Option<Waker> {
        let mut state = self.state();
        if state.closed {
            return None;
        }
        state.append_mark(mark);
        state.reader.take()
    }

    /// Takes nothing more; what is there can still be read. As [`push`](Self::push).
    #[must_use]
    pub(super) fn close(&self) -> Option<Waker> {
        let mut state = self.state();
        state.closed = true;
        state.reader.take()
    }

    /// Sets other bounds.
    pub(super) fn set_max(&self, max: QueueMax) {
        let mut state = self.state();
        state.max = max;
        state.drop_oldest();
    }

    /// How many items were dropped, whether the reader was told yet or not.
    pub(super) fn dropped(&self) -> u64 {
        self.state().dropped
    }

    /// What comes next; `None` when the queue is closed and empty.
    pub(super) fn poll_next(&self, cx: &Context<'_>) -> Poll<Option<Next<T, M>>> {
        let mut state = self.state();
        if let Some(next) = state.next() {
            return Poll::Ready(Some(next));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        match &mut state.reader {
            Some(known) => known.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl<T, M: Mark> State<T, M> {
    fn next(&mut self) -> Option<Next<T, M>> {
        if self.unsaid > 0 {
            return Some(Next::Dropped(std::mem::take(&mut self.unsaid)));
        }
        if let Some(mark) = self.marks.pop_front() {
            return Some(Next::Mark(mark));
        }
        match self.entries.pop_front()? {
            Entry::Mark(mark) => Some(Next::Mark(mark)),
            Entry::Item { item, bytes } => {
                self.items -= 1;
                self.bytes -= bytes;
                Some(Next::Item(item))
            }
        }
    }

    fn append_mark(&mut self, mark: M) {
        let mut marks = VecDeque::new();
        while let Some(entry) = self.entries.pop_back() {
            match entry {
                Entry::Mark(mark) => marks.push_front(mark),
                item @ Entry::Item { .. } => {
                    self.entries.push_back(item);
                    break;
                }
            }
        }
        mark.merge_into(&mut marks);
        self.entries.extend(marks.into_iter().map(Entry::Mark));
    }

    fn drop_oldest(&mut self) {
        while self.items > self.max.items || self.bytes > self.max.bytes {
            match self.entries.pop_front() {
                None => return,
                Some(Entry::Mark(mark)) => mark.merge_into(&mut self.marks),
                Some(Entry::Item { bytes, .. }) => {
                    self.items -= 1;
                    self.bytes -= bytes;
                    self.unsaid += 1;
                    self.dropped += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
