//! Ctrl-C and its kin.

use std::io;
use std::process;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::say;

/// Turns SIGINT, SIGTERM and SIGHUP into a request to stop. A second one ends the process at once,
/// after a last word.
///
/// That a terminal is closed is treated like Ctrl-C, because the keys on a server have to go; the
/// price is that `nohup` does not shield a replay.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    stop: CancellationToken,
    number: Arc<AtomicU8>,
    last_word: Arc<Mutex<String>>,
}

impl Signals {
    /// Listens from now on, in a task.
    pub(crate) fn listen() -> io::Result<Self> {
        let mut incoming = Incoming {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        };
        let signals = Self {
            stop: CancellationToken::new(),
            number: Arc::default(),
            last_word: Arc::new(Mutex::new("left at once".to_owned())),
        };
        let listener = signals.clone();
        tokio::spawn(async move {
            listener.number.store(incoming.next().await, Ordering::Relaxed);
            listener.stop.cancel();
            incoming.next().await;
            say(&listener.last_word.lock().unwrap_or_else(PoisonError::into_inner));
            process::exit(i32::from(listener.exit_code()));
        });
        Ok(signals)
    }

    /// Cancelled by the first signal.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// What a second signal has said from now on.
    pub(crate) fn set_last_word(&self, line: String) {
        *self.last_word.lock().unwrap_or_else(PoisonError::into_inner) = line;
    }

    /// The exit code after a signal: 128 and its number, as a shell reports it.
    pub(crate) fn exit_code(&self) -> u8 {
        128 + self.number.load(Ordering::Relaxed)
    }
}

struct Incoming {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Incoming {
    /// Waits for a signal; its number.
    async fn next(&mut self) -> u8 {
        // The numbers are the same on every Unix.
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
            _ = self.hangup.recv() => 1,
        }
    }
}
