//! What arrives unasked on the connection that tasks share.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures_util::Stream;
use respire_codec::{Frame, FromValue, Value, ValueRef};

use super::queue::{Mark, Next, Queue, QueueMax};
use crate::{
    error::Error,
    session::push::{ConnectionId, PushSink},
};

/// A message that the server sent without having been asked.
#[derive(Clone, PartialEq)]
pub struct Push {
    frame: Frame,
}

impl Push {
    /// What kind of push it is: its first element, such as `invalidate`. Empty where that is no string.
    pub fn kind(&self) -> &[u8] {
        let Value::Push(mut elements) = self.frame.value().get() else { return b"" };
        match elements.next().map(ValueRef::get) {
            Some(Value::BulkString(kind) | Value::SimpleString(kind)) => kind,
            _ => b"",
        }
    }

    /// A cursor on the whole push, its kind included.
    pub fn value(&self) -> ValueRef<'_> {
        self.frame.value()
    }

    /// Reads the whole push, its kind included, as a value of the type that is asked for.
    ///
    /// # Errors
    ///
    /// When it is of another type.
    pub fn parse<'a, T: FromValue<'a>>(&'a self) -> Result<T, Error> {
        self.frame.parse().map_err(Error::value)
    }
}

impl fmt::Debug for Push {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Push").field(&self.frame).finish()
    }
}

/// What [`Pushes`] yields.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PushEvent {
    /// A push.
    Push(Push),
    /// So many pushes were dropped here, because the reader did not keep up.
    Lagged {
        /// How many.
        dropped: u64,
    },
}

/// The pushes of a client's shared connection, in the order of their arrival: a [`Stream`] of [`PushEvent`]s.
///
/// Messages of subscriptions are not among them: those have [a connection of their own](super). What is, depends on
/// the server; proxies and managed services announce maintenance this way. Only RESP3 has pushes.
///
/// A push is handed on when it has been received. The receiver may be a task that waits for the reply to a request that
/// is alone on the connection; while such a future is held and not polled, pushes wait as well.
///
/// What waits is bounded by [`Config::with_push_queue_max`](crate::Config::with_push_queue_max). Every stream of a
/// client gets every push. The stream ends when the client is closed or dropped.
///
/// # Cancel safety
///
/// The future of [`next`](Self::next) may be dropped at any point: it takes an event only when it returns it.
#[derive(Debug)]
pub struct Pushes {
    queue: Arc<PushQueue>,
}

type PushQueue = Queue<Push, NoMark>;

impl Pushes {
    /// The next event; `None` when the client is closed and all has been read.
    pub async fn next(&mut self) -> Option<PushEvent> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    /// How many pushes this stream has dropped so far.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    fn poll_event(&self, cx: &Context<'_>) -> Poll<Option<PushEvent>> {
        self.queue.poll_next(cx).map(|next| {
            next.map(|next| match next {
                Next::Item(push) => PushEvent::Push(push),
                Next::Dropped(dropped) => PushEvent::Lagged { dropped },
                Next::Mark(NoMark(never)) => match never {},
            })
        })
    }
}

impl Stream for Pushes {
    type Item = PushEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PushEvent>> {
        self.poll_event(cx)
    }
}

/// There is nothing but pushes to tell of.
#[derive(Debug)]
struct NoMark(Infallible);

impl Mark for NoMark {
    fn merge_into(self, _: &mut VecDeque<Self>) {
        match self.0 {}
    }
}

/// Hands the pushes of a client's connections to its [`Pushes`].
#[derive(Debug)]
pub(crate) struct PushHub {
    max: QueueMax,
    /// Those that nobody but this holds are of no use to anybody.
    queues: Mutex<Vec<Arc<PushQueue>>>,
    unheard: AtomicU64,
}

impl PushHub {
    pub(crate) fn new(max: QueueMax) -> Self {
        Self { max, queues: Mutex::new(Vec::new()), unheard: AtomicU64::new(0) }
    }

    fn queues(&self) -> MutexGuard<'_, Vec<Arc<PushQueue>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn listen(&self) -> Pushes {
        let queue = Arc::new(Queue::new(self.max));
        let mut queues = self.queues();
        queues.retain(|queue| Arc::strong_count(queue) > 1);
        queues.push(Arc::clone(&queue));
        Pushes { queue }
    }

    pub(crate) fn unheard(&self) -> u64 {
        self.unheard.load(Ordering::Relaxed)
    }

    pub(crate) fn close(&self) {
        let queues = std::mem::take(&mut *self.queues());
        queues.iter().filter_map(|queue| queue.close()).for_each(Waker::wake);
    }
}

impl PushSink for PushHub {
    fn handle_push(&self, _: ConnectionId, push: Frame, woken: &mut Vec<Waker>) {
        let mut queues = self.queues();
        queues.retain(|queue| Arc::strong_count(queue) > 1);
        if queues.is_empty() {
            self.unheard.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // What is kept for long must not keep alive the block that it was received in.
        let push = Push { frame: push.detach() };
        let bytes = push.frame.bytes().len();
        woken.extend(queues.iter().filter_map(|queue| queue.push(push.clone(), bytes)));
    }

    fn handle_end(&self, _: ConnectionId, _: &mut Vec<Waker>) {}

    fn is_urgent(&self) -> bool {
        false
    }
}
