//! A timer that is exact to some microseconds. A runtime's own has a resolution of one millisecond,
//! in which a thousand requests may be due.

use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

/// Wakes its task at an instant.
pub(crate) struct Timer {
    inner: inner::Timer,
    /// What it is set to.
    set: Option<Instant>,
}

impl Timer {
    /// A timer of the present runtime.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { inner: inner::Timer::new()?, set: None })
    }

    /// Whether the instant has come. Else the task is woken when it does.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<io::Result<()>> {
        loop {
            let now = Instant::now();
            if at <= now {
                return Poll::Ready(Ok(()));
            }
            if self.set != Some(at) {
                self.inner.set(at - now)?;
                self.set = Some(at);
            }
            match self.inner.poll(cx) {
                Poll::Pending => return Poll::Pending,
                // Looks at the clock again: an expiry may be that of an instant set before.
                Poll::Ready(expired) => {
                    expired?;
                    self.set = None;
                }
            }
        }
    }

    /// Waits until an instant.
    pub(crate) async fn wait(&mut self, at: Instant) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll(cx, at)).await
    }
}

#[cfg(target_os = "linux")]
mod inner {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::task::{Context, Poll, ready};
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    /// The kernel's high-resolution timer as a file descriptor: unlike a sleep, it has no slack.
    pub(super) struct Timer(AsyncFd<OwnedFd>);

    impl Timer {
        #[allow(
            deprecated,
            reason = "its successor is unsafe, for the sake of types that hand out other \
                      descriptors than they own; OwnedFd cannot"
        )]
        pub(super) fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            Ok(Self(AsyncFd::with_interest(timer, Interest::READABLE)?))
        }

        pub(super) fn set(&mut self, after: Duration) -> io::Result<()> {
            let once = Itimerspec {
                it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
                it_value: Timespec {
                    tv_sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
                    tv_nsec: after.subsec_nanos().into(),
                },
            };
            timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
            Ok(())
        }

        pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            loop {
                let mut ready = ready!(self.0.poll_read_ready(cx))?;
                let mut expirations = [0; 8];
                let read =
                    ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut expirations)?));
                if let Ok(read) = read {
                    return Poll::Ready(read.map(|_| ()));
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod inner {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Duration;

    use tokio::time::{Instant, Sleep, sleep};

    /// The runtime's timer, which is exact to a millisecond.
    pub(super) struct Timer(Pin<Box<Sleep>>);

    impl Timer {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self(Box::pin(sleep(Duration::ZERO))))
        }

        pub(super) fn set(&mut self, after: Duration) -> io::Result<()> {
            self.0.as_mut().reset(Instant::now() + after);
            Ok(())
        }

        pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            use std::future::Future;
            self.0.as_mut().poll(cx).map(Ok)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_never_fires_early_and_can_be_set_to_any_instant() {
        let mut timer = Timer::new().unwrap();
        for micros in [300, 50, 0, 1500, 10] {
            let at = Instant::now() + Duration::from_micros(micros);
            timer.wait(at).await.unwrap();
            assert!(Instant::now() >= at);
        }
    }

    #[tokio::test]
    async fn an_earlier_instant_replaces_a_later_one() {
        let mut timer = Timer::new().unwrap();
        let late = Instant::now() + Duration::from_secs(3600);
        std::future::poll_fn(|cx| {
            assert!(timer.poll(cx, late).is_pending());
            Poll::Ready(())
        })
        .await;
        let soon = Instant::now() + Duration::from_millis(2);
        let waited = tokio::time::timeout(Duration::from_secs(60), timer.wait(soon)).await;
        waited.expect("it does not wait for the later one").unwrap();
        assert!(Instant::now() >= soon);
    }
}
