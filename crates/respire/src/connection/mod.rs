//! One connection: the session that tasks submit to, and the task that drives it.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};

use respire_codec::{Frame, Protocol};

use crate::{
    command::Packet,
    config::Config,
    error::Error,
    session::{Bounds, RequestId, Session},
};

mod dial;
mod driver;
#[cfg(test)]
mod tests;

/// The connection as its users see it. The driver task holds the other reference.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Held for moments, never across an await, and never while a task is woken.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    session: Session,
    /// The driver's task while it sleeps. Whoever gives it work takes the waker, so that it is woken once.
    driver: Option<Waker>,
    protocol: Option<Protocol>,
    /// Tasks that wait for the end of the handshake.
    awaiting_open: Vec<Waker>,
    /// Tasks that wait for the end of the connection.
    awaiting_end: Vec<Waker>,
    /// Why there is no connection, once there is none.
    ended: Option<Error>,
}

impl Connection {
    /// Starts to connect, in a task of its own. Requests may be submitted at once.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub(crate) fn start(config: Arc<Config>) -> Arc<Self> {
        let (commands, bytes) = config.in_flight_max();
        let bounds = Bounds { commands, bytes, stall: config.command_timeout() };
        let connection = Arc::new(Self::new(bounds));
        tokio::spawn(driver::run(driver::Guard(Arc::clone(&connection)), config));
        connection
    }

    fn new(bounds: Bounds) -> Self {
        Self {
            state: Mutex::new(State {
                session: Session::new(bounds, Instant::now()),
                driver: None,
                protocol: None,
                awaiting_open: Vec::new(),
                awaiting_end: Vec::new(),
                ended: None,
            }),
        }
    }

    /// A panic under the lock would be a defect of ours; what it guards is then ended by whoever comes next.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether new requests are taken.
    pub(crate) fn accepts(&self) -> bool {
        self.state().session.accepts()
    }

    /// The protocol that was agreed on, once it was.
    pub(crate) fn protocol(&self) -> Option<Protocol> {
        self.state().protocol
    }

    /// Why the connection ended, once it has.
    pub(crate) fn ended(&self) -> Option<Error> {
        self.state().ended.clone()
    }

    /// Submits a request. Its replies come by the future that is returned; dropping that abandons the request.
    pub(crate) fn submit(
        self: &Arc<Self>,
        packet: Packet,
        deadline: Option<Instant>,
    ) -> Result<Pending, Error> {
        let now = Instant::now();
        let mut state = self.state();
        let id = state.session.submit(packet, deadline, now)?;
        let driver = state.driver.take();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        Ok(Pending { connection: Arc::clone(self), id: Some(id) })
    }

    /// Waits until the handshake is done, and says how it went.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect on the connection.
    pub(crate) async fn opened(&self) -> Result<Protocol, Error> {
        std::future::poll_fn(|cx| {
            let mut state = self.state();
            // It may have opened and ended since; that is for the next request to find.
            if let Some(protocol) = state.protocol {
                return Poll::Ready(Ok(protocol));
            }
            if let Some(error) = &state.ended {
                return Poll::Ready(Err(error.clone()));
            }
            register(&mut state.awaiting_open, cx);
            Poll::Pending
        })
        .await
    }

    /// Takes no new requests, and ends when those that were taken have.
    pub(crate) fn drain(&self) {
        self.change(Session::drain);
    }

    /// Ends, with every request.
    pub(crate) fn abort(&self) {
        self.change(|session| session.fail(&Error::closed("it is closed by the client")));
    }

    fn change(&self, change: impl FnOnce(&mut Session)) {
        let mut state = self.state();
        change(&mut state.session);
        let mut woken: Vec<Waker> = state.driver.take().into_iter().collect();
        state.session.take_woken(&mut woken);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Waits until the connection has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect on the connection.
    pub(crate) async fn finished(&self) {
        std::future::poll_fn(|cx| {
            let mut state = self.state();
            if state.ended.is_some() {
                return Poll::Ready(());
            }
            register(&mut state.awaiting_end, cx);
            Poll::Pending
        })
        .await;
    }

    fn opened_with(&self, protocol: Protocol) {
        let mut state = self.state();
        state.protocol = Some(protocol);
        state.session.open(Instant::now());
        let woken = std::mem::take(&mut state.awaiting_open);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Ends every request and everything that waits. The first error stands.
    fn fail(&self, error: &Error) {
        let mut state = self.state();
        state.session.fail(error);
        state.ended.get_or_insert_with(|| error.clone());
        let mut woken = std::mem::take(&mut state.awaiting_open);
        woken.append(&mut state.awaiting_end);
        state.session.take_woken(&mut woken);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }
}

/// Keeps one entry a task, so that a future that is polled often does not grow the list.
fn register(wakers: &mut Vec<Waker>, cx: &Context<'_>) {
    if !wakers.iter().any(|known| known.will_wake(cx.waker())) {
        wakers.push(cx.waker().clone());
    }
}

/// The replies of a request, once they are all there.
#[derive(Debug)]
pub(crate) struct Pending {
    connection: Arc<Connection>,
    /// Until the outcome was taken.
    id: Option<RequestId>,
}

impl Future for Pending {
    type Output = Result<Vec<Frame>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let id = self.id.expect("a future that is ready is not polled again");
        let outcome = self.connection.state().session.poll_outcome(id, cx.waker());
        if outcome.is_ready() {
            self.id = None;
        }
        outcome
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let mut state = self.connection.state();
        state.session.abandon(id);
        // What waited behind it may have its turn now, and a retired connection may have lost its last user.
        let driver = state.driver.take();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}
