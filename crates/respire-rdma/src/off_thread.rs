//! What may block for milliseconds happens where that holds nobody up.

use std::{
    io,
    ops::{Deref, DerefMut},
};

use tokio::runtime::Handle;

/// Runs something on a thread that may block, and waits for it.
///
/// # Cancel safety
///
/// What has begun goes on, and what it comes to is dropped on that thread.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// A value that is dropped on a thread that may block; on the thread that lets go of it where there is no runtime, or not any more.
#[derive(Debug)]
pub(crate) struct OffThread<T: Send + 'static>(Option<T>);

const TAKEN: &str = "it is taken when it ceases to be, and not before";

impl<T: Send + 'static> OffThread<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// The value, which is dropped wherever its new owner does that.
    pub(crate) fn into_inner(mut self) -> T {
        self.0.take().expect(TAKEN)
    }
}

impl<T: Send + 'static> Deref for OffThread<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect(TAKEN)
    }
}

impl<T: Send + 'static> DerefMut for OffThread<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect(TAKEN)
    }
}

impl<T: Send + 'static> Drop for OffThread<T> {
    fn drop(&mut self) {
        let Some(value) = self.0.take() else { return };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn_blocking(move || drop(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc,
        thread::{self, ThreadId},
        time::Duration,
    };

    use super::*;

    /// Says where it is dropped.
    struct Tells(mpsc::Sender<ThreadId>);

    impl Drop for Tells {
        fn drop(&mut self) {
            let _ = self.0.send(thread::current().id());
        }
    }

    #[test]
    fn a_value_is_dropped_on_another_thread_where_there_is_a_runtime() {
        let (sender, told) = mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { drop(OffThread::new(Tells(sender.clone()))) });
        let dropped = told.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_ne!(dropped, thread::current().id());
        drop(runtime);
        drop(OffThread::new(Tells(sender)));
        assert_eq!(told.try_recv(), Ok(thread::current().id()));
    }
}
