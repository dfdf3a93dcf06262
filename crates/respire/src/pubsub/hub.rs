//! The subscriptions of one client, and the one connection that they share.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};

use tokio::runtime::Handle;

use super::{
    SubscriptionStats, driver,
    event::EventQueue,
    name::Name,
    queue::{Queue, QueueMax},
    registry::{Registry, SubscriberId},
};
use crate::{
    config::Config,
    deadline::until,
    error::{Error, SendState},
};

/// What subscriptions and the driver share.
#[derive(Debug)]
pub(crate) struct Hub {
    config: Arc<Config>,
    /// Held for moments, never across an await, and never while a task is woken.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) registry: Registry,
    pub(super) driver: Driver,
    /// Since the last attempt to connect failed, until the next one.
    pub(super) down: Option<Error>,
    pub(super) dials: u64,
    pub(super) connections: u64,
    closed: bool,
}

/// The task that connects and drives.
#[derive(Debug, Default)]
pub(super) enum Driver {
    #[default]
    None,
    Awake,
    /// It was to be woken while it was awake: it looks again before it sleeps.
    Missed,
    Asleep(Waker),
}

impl State {
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Sees to it that the driver looks at everything anew. The waker is to be woken when the lock is gone.
    #[must_use]
    fn rouse(&mut self) -> Option<Waker> {
        match std::mem::take(&mut self.driver) {
            Driver::None => None,
            Driver::Awake | Driver::Missed => {
                self.driver = Driver::Missed;
                None
            }
            Driver::Asleep(waker) => {
                self.driver = Driver::Awake;
                Some(waker)
            }
        }
    }

    /// Where to start a driver, if there is none.
    fn runtime_for_driver(&self) -> Result<Option<Handle>, Error> {
        if !matches!(self.driver, Driver::None) {
            return Ok(None);
        }
        Handle::try_current().map(Some).map_err(|_| {
            Error::usage("a subscription needs a tokio runtime to connect in".to_owned())
        })
    }

    /// Puts the driver to sleep, unless there is something new for it to see.
    pub(super) fn sleep(&mut self, cx: &Context<'_>) -> bool {
        let missed = matches!(self.driver, Driver::Missed);
        self.driver = if missed { Driver::Awake } else { Driver::Asleep(cx.waker().clone()) };
        !missed
    }
}

impl Hub {
    pub(crate) fn new(config: Arc<Config>) -> Arc<Self> {
        Arc::new(Self { config, state: Mutex::default() })
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is to be told the server, and wakes whom it concerns.
    fn change<T>(&self, change: impl FnOnce(&mut Registry, &mut Vec<Waker>) -> T) -> T {
        let mut woken = Vec::new();
        let mut state = self.state();
        let result = change(&mut state.registry, &mut woken);
        woken.extend(state.rouse());
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        result
    }

    pub(super) fn add(&self, max: QueueMax, is_patient: bool) -> (SubscriberId, Arc<EventQueue>) {
        let queue = Arc::new(Queue::new(max));
        let mut state = self.state();
        if state.closed {
            // Nobody waits for it yet.
            let _ = queue.close();
        }
        (state.registry.add(Arc::clone(&queue), is_patient), queue)
    }

    pub(super) fn remove(&self, id: SubscriberId) {
        self.change(|registry, _| registry.remove(id));
    }

    pub(super) fn leave(&self, id: SubscriberId, names: &[Name]) {
        self.change(|registry, woken| registry.leave(id, names, woken));
    }

    pub(super) fn names(&self, id: SubscriberId) -> Vec<Name> {
        self.state().registry.names(id).cloned().collect()
    }

    /// Adds names to a subscription, and returns those that are new to it.
    pub(super) fn join(
        self: &Arc<Self>,
        id: SubscriberId,
        names: Vec<Name>,
    ) -> Result<Vec<Name>, Error> {
        let mut state = self.state();
        if state.closed {
            return Err(Error::closed_by_us().with_send_state(SendState::NotSent));
        }
        if let Some(error) = &state.down
            && !state.registry.is_patient(id)
        {
            return Err(error.with_send_state(SendState::NotSent));
        }
        let runtime = state.runtime_for_driver()?;
        let new = state.registry.join(id, names);
        self.start_or_rouse(state, runtime);
        Ok(new)
    }

    /// Waits until the server has confirmed what was joined.
    pub(super) async fn joined(
        &self,
        id: SubscriberId,
        deadline: Option<Instant>,
    ) -> Result<(), Error> {
        let joined = std::future::poll_fn(|cx| self.state().registry.poll_joined(id, cx));
        let late = || {
            let error = Error::timeout("waiting for the subscription", SendState::MaybeSent);
            match &self.state().down {
                Some(cause) => error.because(cause.clone()),
                None => error,
            }
        };
        until(deadline, joined, late).await?
    }

    /// What comes next of a subscription. One whose driver has ended with its runtime gets another in this one.
    pub(super) fn poll_event(
        self: &Arc<Self>,
        queue: &EventQueue,
        cx: &Context<'_>,
    ) -> Poll<Option<super::Event>> {
        let next = queue.poll_next(cx);
        if next.is_pending() {
            let state = self.state();
            if matches!(state.driver, Driver::None) && !state.registry.is_unused() {
                // Outside of a runtime there is none to be had; whoever asks next may be inside of one.
                if let Ok(runtime) = state.runtime_for_driver() {
                    self.start_or_rouse(state, runtime);
                }
            }
        }
        next.map(|next| next.map(Into::into))
    }

    /// Lets a driver see what has changed: the one that is there, or a new one in this runtime.
    fn start_or_rouse(self: &Arc<Self>, mut state: MutexGuard<'_, State>, runtime: Option<Handle>) {
        match runtime {
            None => {
                let driver = state.rouse();
                drop(state);
                driver.into_iter().for_each(Waker::wake);
            }
            Some(runtime) => {
                state.driver = Driver::Awake;
                state.down = None;
                // A runtime that is being shut down drops the task at once, which takes the lock.
                drop(state);
                runtime.spawn(driver::run(driver::Guard(Arc::clone(self))));
            }
        }
    }

    /// What has happened, and what there is.
    pub(crate) fn stats(&self) -> SubscriptionStats {
        let state = self.state();
        let State { dials, connections, .. } = *state;
        SubscriptionStats { dials, connections, ..state.registry.stats() }
    }

    /// Ends every subscription, and takes no new ones.
    pub(crate) fn close(&self) {
        let mut woken = Vec::new();
        let mut state = self.state();
        state.closed = true;
        state.registry.close(&Error::closed_by_us(), &mut woken);
        woken.extend(state.rouse());
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }
}
