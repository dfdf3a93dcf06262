//! Whether the credentials that a connection was made with have been replaced since.

use std::sync::{Arc, Mutex, OnceLock, Weak};

use futures_util::FutureExt;
use tokio::{
    runtime::Handle,
    sync::watch,
    task::AbortHandle,
    time::{Duration, sleep},
};

use super::pool::Pool;
use crate::{
    config::{Config, CredentialsProvider},
    lock::lock,
};

/// The pause where a provider says at once that what it has just given out is not to be used any longer.
const PAUSE: Duration = Duration::from_secs(1);

/// Counts how often the credentials of a client have changed.
///
/// A connection is made with the number that it had before the credentials were asked for, and from before that the next change
/// is waited for: so none can pass unnoticed, whenever it comes.
pub(crate) struct Rotation {
    provider: Option<Arc<dyn CredentialsProvider>>,
    number: watch::Sender<u64>,
    /// Who waits for changes, since the first connection was made.
    watcher: Mutex<Watcher>,
    /// Has idle connections, which are of no use after a change.
    pool: OnceLock<Weak<Pool>>,
}

#[derive(Default)]
enum Watcher {
    /// Nobody yet.
    #[default]
    None,
    /// The provider is being asked to say when they change. It may use the client for that, so no lock is held.
    Starting {
        /// Connections were started meanwhile, which did not wait for it.
        passed: bool,
    },
    /// This task.
    Task(AbortHandle),
}

impl Rotation {
    pub(super) fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self {
            provider: config.credentials_provider().cloned(),
            number: watch::Sender::new(0),
            watcher: Mutex::default(),
            pool: OnceLock::new(),
        })
    }

    /// The pool whose idle connections are closed after a change.
    pub(super) fn empties(&self, pool: Weak<Pool>) {
        // There is one pool a client.
        let _ = self.pool.set(pool);
    }

    /// The number for a connection that is started after this call.
    pub(super) fn before_start(self: &Arc<Self>) -> u64 {
        if let Some(provider) = &self.provider {
            self.watch(provider);
        }
        self.number()
    }

    pub(super) fn number(&self) -> u64 {
        *self.number.borrow()
    }

    /// Waits for a change after the one of this number.
    pub(super) async fn changed_since(&self, number: u64) {
        let mut numbers = self.number.subscribe();
        if numbers.wait_for(|present| *present > number).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Sees to it that changes are waited for.
    fn watch(self: &Arc<Self>, provider: &Arc<dyn CredentialsProvider>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let has_lapsed = {
            let mut watcher = lock(&self.watcher);
            match &mut *watcher {
                Watcher::Starting { passed } => {
                    *passed = true;
                    return;
                }
                Watcher::Task(task) if !task.is_finished() => return,
                Watcher::None | Watcher::Task(_) => {}
            }
            let last = std::mem::replace(&mut *watcher, Watcher::Starting { passed: false });
            matches!(last, Watcher::Task(_))
        };
        if has_lapsed {
            // Its runtime was shut down. Who knows what has changed since.
            self.count();
        }
        let mut starting = Starting { rotation: self, next: Watcher::None };
        let mut task = watch(Arc::clone(provider), Arc::downgrade(self)).boxed();
        // It has begun to wait before this returns, and not only when the runtime comes to it.
        if (&mut task).now_or_never().is_none() {
            starting.next = Watcher::Task(runtime.spawn(task).abort_handle());
        }
    }

    fn count(&self) {
        self.number.send_modify(|number| *number += 1);
    }
}

/// Says at its end who waits for changes from then on: nobody, where the provider has panicked.
struct Starting<'a> {
    rotation: &'a Rotation,
    next: Watcher,
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        let next = std::mem::take(&mut self.next);
        let last = std::mem::replace(&mut *lock(&self.rotation.watcher), next);
        if let Watcher::Starting { passed: true } = last {
            // They may have asked for credentials before changes were waited for.
            self.rotation.count();
        }
    }
}

impl Drop for Rotation {
    fn drop(&mut self) {
        if let Watcher::Task(watcher) = &*lock(&self.watcher) {
            watcher.abort();
        }
    }
}

/// Waits for changes and counts them.
async fn watch(provider: Arc<dyn CredentialsProvider>, rotation: Weak<Rotation>) {
    let mut change = provider.changed();
    loop {
        change.await;
        // The one after it is waited for before anybody can ask for the new credentials.
        let mut next = provider.changed();
        let at_once = (&mut next).now_or_never().is_some();
        {
            let Some(rotation) = rotation.upgrade() else { return };
            tracing::debug!("the credentials have changed");
            rotation.count();
            if let Some(pool) = rotation.pool.get().and_then(Weak::upgrade) {
                pool.drop_idle();
            }
        }
        if at_once {
            sleep(PAUSE).await;
            next = std::future::ready(()).boxed();
        }
        change = next;
    }
}
