//! Joins a session and an endpoint, and is a transport.
//!
//! Both halves share one state behind a lock. Whoever is called does all that there is to be done, for both directions: takes
//! events and completions, posts receives and commands. The two descriptors and the timer are given a waker that wakes
//! both tasks, since each of them keeps one waker only and either task may be the one that has to go on.

use std::{
    fmt,
    future::poll_fn,
    io,
    io::IoSlice,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use futures_util::task::AtomicWaker;
use respire::transport::{Lease, ReceiveHalf, Received, SendHalf, Taken, Transport};
use tokio::{
    io::unix::AsyncFd,
    time::{Sleep, sleep_until},
};

use crate::{
    connect::announced,
    endpoint::Endpoint,
    news::{News, refusal},
    off_thread::OffThread,
    protocol::{ConnectionEvent, Counts, Receive, Session, XferMemory},
    verbs::{CompletionChannel, Event, EventChannel, Posted, Region, watch},
};

/// How long what was sent may take to reach the server's card after the connection was closed. Where a packet is lost it is sent
/// again after some milliseconds to a second, as the card has it.
const FLUSHED_WITHIN: Duration = Duration::from_secs(2);

/// How many bytes are copied and posted before the lock is given up for the other direction: a round number, which was not measured.
/// A window of the largest size, 16 MiB, takes 128 such messages of the server's 1024 receives.
const COPIED_BYTES_MAX: usize = 128 << 10;

/// A connection, as its halves share it.
pub(crate) struct Link {
    state: Mutex<State>,
    wakers: Arc<Wakers>,
    /// Wakes both tasks.
    both: Waker,
}

/// The tasks of the last calls that were pending.
#[derive(Default)]
struct Wakers {
    receiver: AtomicWaker,
    sender: AtomicWaker,
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.receiver.wake();
        self.sender.wake();
    }
}

struct State {
    session: Session,
    /// What the connection manager said in place of establishing the connection.
    refused: Option<Event>,
    /// Whether the completion channel will say when the next completion is there.
    armed: bool,
    /// When the timer goes off; later than the session asks for only while it is not polled.
    timer_at: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    /// These look at descriptors of what the endpoint owns, and go before it.
    completions: AsyncFd<Arc<CompletionChannel>>,
    events: AsyncFd<Arc<EventChannel>>,
    endpoint: OffThread<Endpoint>,
}

impl Link {
    /// A connection that is to be established.
    pub(crate) fn new(
        endpoint: OffThread<Endpoint>,
        events: AsyncFd<Arc<EventChannel>>,
        session: impl FnOnce(XferMemory) -> Session,
    ) -> io::Result<Self> {
        let memory = endpoint.receive_memory();
        let session = session(announced(memory.address(), memory.length(), memory.remote_key())?);
        let completions = watch(endpoint.channel())?;
        let wakers = Arc::new(Wakers::default());
        Ok(Self {
            state: Mutex::new(State {
                session,
                refused: None,
                armed: false,
                timer_at: None,
                timer: Box::pin(sleep_until(tokio::time::Instant::now())),
                completions,
                events,
                endpoint,
            }),
            both: Arc::clone(&wakers).into(),
            wakers,
        })
    }

    /// Posts all receives, since the peer may send as soon as it has accepted, and connects.
    pub(crate) fn connect(&self) -> io::Result<()> {
        let mut state = self.state();
        state.post(Instant::now());
        if let Some(failure) = state.session.send_failure() {
            return Err(failure.into());
        }
        state.endpoint.id().connect()
    }

    /// Waits until the connection is established and the peer has announced its memory.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        self.wakers.receiver.register(cx.waker());
        state.drive(&mut Context::from_waker(&self.both));
        if let Some(event) = state.refused.take() {
            return Poll::Ready(Err(refusal(event)));
        }
        if state.session.is_ready() {
            return Poll::Ready(Ok(()));
        }
        // The session says why only behind what has arrived, which is nothing.
        match state.session.receive() {
            Receive::Failed(failure) => Poll::Ready(Err(failure.into())),
            Receive::End => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Receive::Bytes { .. } | Receive::Pending => Poll::Pending,
        }
    }

    /// The two directions.
    pub(crate) fn into_transport(self: Arc<Self>) -> Transport {
        let memory = Arc::clone(self.state().endpoint.receive_memory());
        Transport::new(
            RdmaReceive { memory, link: Arc::clone(&self) },
            RdmaSend { link: self, is_closing: false },
        )
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| {
            let mut state = poisoned.into_inner();
            state.session.handle_panic();
            state
        })
    }

    /// Whether the server's card has all that was written, or never will. The sender's task is woken when it may be so.
    fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        self.wakers.sender.register(cx.waker());
        state.session.close();
        state.drive(&mut Context::from_waker(&self.both));
        if state.session.can_receive() {
            self.wakers.receiver.wake();
        }
        if state.session.is_flushed() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Ends both directions, as there is no half of a connection. Whether there was anything left to end does not matter.
    fn disconnect(&self) {
        let _ = self.state().endpoint.id().disconnect();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let Counts {
            writes,
            written_bytes,
            commands,
            arrivals,
            arrived_bytes,
            commands_arrived,
            completions,
        } = self.state().session.counts();
        tracing::debug!(
            writes,
            written_bytes,
            commands,
            arrivals,
            arrived_bytes,
            commands_arrived,
            completions,
            "a connection over RDMA is let go"
        );
    }
}

impl State {
    /// Takes what has happened, and does what follows from it. The tasks behind `cx` are woken when there is more.
    fn drive(&mut self, cx: &mut Context<'_>) {
        let now = Instant::now();
        let events = self.take_events(cx, now);
        // Whatever became of the events: what has arrived is handed out before the failure.
        if let Err(error) = events.and(self.take_completions(cx, now)) {
            self.session.handle_post_failure(error.raw_os_error().unwrap_or(libc::EIO));
        }
        self.keep_time(cx, now);
        self.post(now);
        // Last, so that a failure which the steps before have met is seen by who is waiting now.
        self.session.handle_queue_empty();
    }

    fn take_events(&mut self, cx: &mut Context<'_>, now: Instant) -> io::Result<()> {
        while let Poll::Ready(ready) = self.events.poll_read_ready(cx) {
            let mut ready = ready?;
            let event = self.events.get_ref().next();
            if !matches!(event, Ok(Some(_))) {
                ready.clear_ready();
            }
            let Some(event) = event? else { continue };
            match News::of(event.kind, self.session.is_established()) {
                News::Established => self.session.handle_established(now),
                News::Of(what) => {
                    if what == ConnectionEvent::Disconnected {
                        // Puts our queue pair into its error state too: nothing arrives from then on, and what has arrived
                        // is all there is. Whether there was anything left to disconnect does not matter.
                        let _ = self.endpoint.id().disconnect();
                    }
                    self.session.handle_event(what);
                }
                News::Refused => self.refused = Some(event),
                News::Nothing => {
                    tracing::debug!(?event, "the connection manager says more than was asked");
                }
            }
        }
        Ok(())
    }

    /// Ends with the channel armed, the queue found empty after that, and the tasks waiting for the channel: what completes
    /// from then on wakes them.
    fn take_completions(&mut self, cx: &mut Context<'_>, now: Instant) -> io::Result<()> {
        let endpoint = &*self.endpoint;
        while let Poll::Ready(ready) = self.completions.poll_read_ready(cx) {
            let mut ready = ready?;
            // With or without an event, the channel has nothing more to say until the queue is armed again, below.
            ready.clear_ready();
            if endpoint.queue().take_event()? {
                self.armed = false;
            }
        }
        if !self.armed {
            endpoint.queue().arm()?;
            self.armed = true;
        }
        endpoint.drain(&mut self.session, now)
    }

    /// Tells the session when the time has come that it asked for. The timer is set anew only for an earlier time than
    /// it goes off at, because what moves the time on is every message.
    fn keep_time(&mut self, cx: &mut Context<'_>, now: Instant) {
        if self.session.next_timeout().is_some_and(|at| at <= now) {
            self.session.handle_timeout(now);
        }
        let Some(at) = self.session.next_timeout() else { return };
        if self.timer_at.is_none_or(|set| set > at) {
            self.timer.as_mut().reset(at.into());
            self.timer_at = Some(at);
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            // Once more, with a later look at the clock.
            self.timer_at = None;
            cx.waker().wake_by_ref();
        }
    }

    /// Posts receives and commands, as many as are due.
    fn post(&mut self, now: Instant) {
        let Self { session, endpoint, .. } = self;
        let endpoint = &mut **endpoint;
        let posted = loop {
            match session.post_receive(|slot| endpoint.post_receive(slot)) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(refused) => break Err(refused),
            }
        };
        let posted = posted.and_then(|()| {
            loop {
                match session.send_command(now, |command| endpoint.post_command(command)) {
                    Ok(true) => {}
                    Ok(false) => break Ok(()),
                    Err(refused) => break Err(refused),
                }
            }
        });
        if let Err(refused) = posted {
            self.refused(refused);
        }
    }

    /// Work was not taken. If that passes, a completion will tell; else the connection is over.
    fn refused(&mut self, refused: Posted) {
        match refused {
            Posted::Full if self.session.awaits_completion() => {}
            Posted::Full => self.session.handle_post_failure(libc::ENOMEM),
            Posted::Failed(error) => self.session.handle_post_failure(error),
            Posted::Taken => {}
        }
    }

    /// Writes from the front of `slices`, and not all of them where they are long; how many bytes.
    fn write(&mut self, slices: &[IoSlice<'_>], now: Instant) -> usize {
        let total = slices.iter().map(|slice| slice.len()).sum::<usize>().min(COPIED_BYTES_MAX);
        let mut taken = 0;
        while taken < total {
            let Self { session, endpoint, .. } = self;
            let endpoint = &mut **endpoint;
            let written = session.write(total - taken, now, |write| {
                endpoint.post_write(write, behind(slices, taken))
            });
            match written {
                Ok(0) => break,
                Ok(count) => taken += count as usize,
                Err(refused) => {
                    self.refused(refused);
                    break;
                }
            }
        }
        taken
    }
}

/// What the slices hold behind the first `skipped` bytes.
fn behind<'a>(slices: &'a [IoSlice<'_>], mut skipped: usize) -> impl Iterator<Item = &'a [u8]> {
    slices.iter().map(move |slice| {
        let skip = skipped.min(slice.len());
        skipped -= skip;
        &slice[skip..]
    })
}

/// The direction towards us. It lends the receive memory.
struct RdmaReceive {
    /// Dropped before the link, so that it is not this task which gives the memory back to the card, and all that the
    /// memory belongs to.
    memory: Arc<Region>,
    link: Arc<Link>,
}

impl ReceiveHalf for RdmaReceive {
    fn poll_receive<'a>(
        &'a mut self,
        cx: &mut Context<'_>,
        _: &mut BytesMut,
    ) -> Poll<io::Result<Received<'a>>> {
        let Self { memory, link } = self;
        let Link { wakers, both, .. } = &**link;
        let mut state = link.state();
        // Before anything is looked at, so that what happens meanwhile wakes this task.
        wakers.receiver.register(cx.waker());
        state.drive(&mut Context::from_waker(both));
        if state.session.can_send() {
            wakers.sender.wake();
        }
        let received = match state.session.receive() {
            Receive::Pending => return Poll::Pending,
            Receive::Bytes { range, room } => {
                Ok(Received::Lent(Lease { bytes: lend(memory, range), room }))
            }
            Receive::End => Ok(Received::End),
            Receive::Failed(failure) => Err(failure.into()),
        };
        wakers.receiver.take();
        Poll::Ready(received)
    }

    fn release(&mut self, count: usize) {
        let mut state = self.link.state();
        state.session.release(count);
        state.post(Instant::now());
        if state.session.can_send() {
            self.link.wakers.sender.wake();
        }
    }
}

/// Lends a range of the receive memory that the session has given out.
#[allow(unsafe_code, reason = "the session is what says that nobody writes there")]
fn lend(memory: &Region, range: std::ops::Range<usize>) -> &[u8] {
    // SAFETY: it is the receive memory, to which nobody writes by a copy, and no work that we post. The peer was allowed to
    // write this range once since the memory was announced, and has said that it is done; it is announced again only when
    // all of it was released, and the reader, who alone calls this, has to give the slice up for that.
    unsafe { memory.bytes(range) }
}

/// The direction away from us.
struct RdmaSend {
    link: Arc<Link>,
    /// A close was begun and has not come to its end.
    is_closing: bool,
}

impl SendHalf for RdmaSend {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<Taken>> {
        let Link { wakers, both, .. } = &*self.link;
        let mut state = self.link.state();
        wakers.sender.register(cx.waker());
        state.drive(&mut Context::from_waker(both));
        let now = Instant::now();
        let taken = state.write(slices, now);
        if taken > 0 {
            // A fence may be due.
            state.post(now);
        }
        if state.session.can_receive() {
            wakers.receiver.wake();
        }
        let sent = match (taken, state.session.send_failure()) {
            (0, None) => return Poll::Pending,
            (0, Some(failure)) => Err(failure.into()),
            // A failure comes again with the next call: this one has taken its bytes.
            (taken, _) => Ok(Taken::sent(taken)),
        };
        wakers.sender.take();
        Poll::Ready(sent)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_closing = true;
        if self.link.poll_flushed(cx).is_pending() {
            return Poll::Pending;
        }
        self.is_closing = false;
        self.link.disconnect();
        Poll::Ready(Ok(()))
    }
}

impl Drop for RdmaSend {
    /// Who has asked for a close and does not wait for it, still has what was sent delivered where that is possible.
    fn drop(&mut self) {
        if !self.is_closing {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let link = Arc::clone(&self.link);
        runtime.spawn(async move {
            let flushed = poll_fn(|cx| link.poll_flushed(cx));
            if tokio::time::timeout(FLUSHED_WITHIN, flushed).await.is_err() {
                tracing::debug!(
                    "a connection over RDMA is let go before all that was sent has arrived"
                );
            }
            link.disconnect();
        });
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}
