//! Where a driver runs.

use std::{future::Future, sync::Arc};

use crate::{
    config::Config,
    error::{Error, SendState},
};

pub(super) enum Host {
    /// The runtime of whoever connects.
    Caller(tokio::runtime::Handle),
    /// A thread of its own, with a runtime that has nothing else to do.
    Thread(tokio::runtime::Runtime),
}

impl Host {
    /// # Errors
    ///
    /// There is no runtime, or none can be had.
    pub(super) fn of(config: &Arc<Config>) -> Result<Self, Error> {
        if !config.driver_thread() {
            return tokio::runtime::Handle::try_current().map(Self::Caller).map_err(|_| {
                Error::usage("a client needs a tokio runtime to connect in".to_owned())
            });
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map(Self::Thread).map_err(no_thread)
    }

    /// # Errors
    ///
    /// The thread cannot be started.
    pub(super) fn run(
        self,
        driver: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Error> {
        match self {
            Self::Caller(runtime) => {
                runtime.spawn(driver);
            }
            Self::Thread(runtime) => {
                // Ends with the connection: nobody has to wait for it.
                std::thread::Builder::new()
                    .name("respire-driver".to_owned())
                    .spawn(move || runtime.block_on(driver))
                    .map_err(no_thread)?;
            }
        }
        Ok(())
    }
}

fn no_thread(error: std::io::Error) -> Error {
    Error::closed_by("its driver's thread cannot be started", error)
        .with_send_state(SendState::NotSent)
}
