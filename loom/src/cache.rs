//! For how long what a cache has read is believed.

mod atomic {
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
}

#[allow(dead_code, reason = "what is not modelled is not called")]
#[path = "../../crates/respire/src/cache/epoch.rs"]
mod epoch;

use std::time::{Duration, Instant};

use loom::{
    sync::{Arc, Mutex},
    thread,
};

use self::epoch::Epoch;
use crate::session::push::ConnectionId;

/// A server with one value, and what a cache keeps of it with the generation that it was read in.
struct World {
    epoch: Epoch,
    server: Mutex<u32>,
    kept: Mutex<Option<(u32, u64)>>,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            epoch: Epoch::new(ConnectionId(1), Instant::now()),
            server: Mutex::new(1),
            kept: Mutex::new(None),
        })
    }

    /// As a read that misses: what is to be believed is settled before the server is asked.
    fn read(&self) {
        let generation = self.epoch.generation();
        let value = *self.server.lock().expect("nothing panics under it");
        let mut kept = self.kept.lock().expect("nothing panics under it");
        if self.epoch.holds(generation) {
            *kept = Some((value, generation));
        }
    }

    /// As a read that may hit.
    fn look_up(&self) -> Option<u32> {
        let kept = *self.kept.lock().expect("nothing panics under it");
        kept.filter(|(_, generation)| self.epoch.holds(*generation)).map(|(value, _)| value)
    }
}

#[test]
fn once_everything_is_forgotten_nobody_sees_what_was_there_before() {
    loom::model(|| {
        let world = World::new();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let world = Arc::clone(&world);
                thread::spawn(move || world.read())
            })
            .collect();
        *world.server.lock().expect("nothing panics under it") = 2;
        world.epoch.forget_all();
        assert_ne!(world.look_up(), Some(1), "a value of before");
        readers.into_iter().for_each(|reader| reader.join().expect("it does not panic"));
        assert_ne!(world.look_up(), Some(1), "a value of before");
    });
}

#[test]
fn once_the_connection_has_ended_nothing_of_it_is_believed() {
    loom::model(|| {
        let world = World::new();
        let reader = {
            let world = Arc::clone(&world);
            thread::spawn(move || world.read())
        };
        world.epoch.end();
        assert_eq!(world.look_up(), None);
        reader.join().expect("it does not panic");
        assert_eq!(world.look_up(), None);
    });
}

#[test]
fn of_two_confirmations_the_later_one_counts_whichever_comes_first() {
    loom::model(|| {
        let start = Instant::now();
        let at = move |seconds| start + Duration::from_secs(seconds);
        let epoch = Arc::new(Epoch::new(ConnectionId(1), start));
        let other = {
            let epoch = Arc::clone(&epoch);
            thread::spawn(move || epoch.confirm(at(3)))
        };
        epoch.confirm(at(1));
        let patience = Duration::from_secs(2);
        assert!(epoch.is_fresh(at(3), patience), "what was confirmed stays so");
        other.join().expect("it does not panic");
        assert!(epoch.is_fresh(at(5), patience));
        assert!(!epoch.is_fresh(at(6), patience));
    });
}
