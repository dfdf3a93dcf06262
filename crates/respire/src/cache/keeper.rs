//! The task that proves, while the cache is read, that announcements still arrive.

use std::{sync::Weak, time::Instant};

use super::client::Inner;
use crate::command::{Command, Packet};

/// How often the proof is renewed in the time that it holds for.
const PROOFS: u32 = 3;

/// Keeps a cache until it is dropped.
pub(super) async fn keep(inner: Weak<Inner>) {
    let Some(staleness_max) = inner.upgrade().map(|inner| inner.config.staleness_max) else {
        return;
    };
    let mut pause = tokio::time::interval(staleness_max / PROOFS);
    pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let ping = Command::new("PING").into_unchecked_packet();
    let mut reads = 0;
    loop {
        pause.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        inner.store.sweep();
        // While nobody reads, nothing has to be proved; the first read after that is a proof itself.
        let now = inner.store.counters.reads();
        if std::mem::replace(&mut reads, now) != now {
            prove(&inner, &ping).await;
        }
    }
}

/// A reply to a request is behind all that was announced before it.
async fn prove(inner: &Inner, ping: &Packet) {
    let Some(connection) = inner.link.present() else { return };
    let submitted = Instant::now();
    let epoch = inner.store.epoch(connection.id(), submitted);
    let deadline = submitted + inner.config.staleness_max;
    // What goes wrong with the connection is for the next read to find.
    let Ok(pong) = connection.submit(ping, Some(deadline)) else { return };
    if pong.await.is_ok() {
        epoch.confirm(submitted);
    }
}
