//! Waiting, no longer than until an instant.

use std::{future::Future, time::Instant};

use crate::error::Error;

/// Waits for a future, at most until the deadline.
///
/// # Errors
///
/// `late()` if the deadline passes; and where there is one and no runtime, which keeps the time here.
pub(crate) async fn until<T>(
    deadline: Option<Instant>,
    future: impl Future<Output = T>,
    late: impl FnOnce() -> Error,
) -> Result<T, Error> {
    let Some(deadline) = deadline else { return Ok(future.await) };
    check_runtime()?;
    tokio::time::timeout_at(deadline.into(), future).await.map_err(|_| late())
}

/// # Errors
///
/// There is no runtime to keep the time.
pub(crate) fn check_runtime() -> Result<(), Error> {
    match tokio::runtime::Handle::try_current() {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::usage("to wait for this takes a tokio runtime".to_owned())),
    }
}
