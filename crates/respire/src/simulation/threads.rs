//! Threads that take turns as a seed says: one runs at a time, and before each lock another one may go on instead. So a test
//! goes through orders of what threads do that a machine would show once in a million runs, and goes through the same again.
//!
//! What is guarded by locks can be seen by others only between them, so that nothing is missed by turns that change only
//! there.

use std::{
    cell::RefCell,
    future::Future,
    pin::pin,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

thread_local! {
    static ME: RefCell<Option<(Arc<Turns>, usize)>> = const { RefCell::new(None) };
}

struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    random: Xoshiro256PlusPlus,
    /// Once in so many points the turn passes to another thread.
    changes_once_in: usize,
    threads: Vec<Is>,
    running: usize,
    /// Something is wrong: from now on every thread goes on by itself, to its end.
    is_over: bool,
    points: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Is {
    Ready,
    Asleep,
    Done,
}

/// Runs the threads to their ends, and returns how many points there were at which the turn might have passed.
///
/// # Panics
///
/// When one of them panics, or when all that are left sleep.
pub(crate) fn run(seed: u64, threads: Vec<Box<dyn FnOnce() + Send + '_>>) -> u64 {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let state = State {
        changes_once_in: [1, 2, 5, 20][random.random_range(0..4)],
        running: random.random_range(0..threads.len()),
        random,
        threads: vec![Is::Ready; threads.len()],
        is_over: false,
        points: 0,
    };
    let turns = Arc::new(Turns { state: Mutex::new(state), changed: Condvar::new() });
    std::thread::scope(|scope| {
        for (me, thread) in threads.into_iter().enumerate() {
            let turns = Arc::clone(&turns);
            scope.spawn(move || {
                ME.set(Some((Arc::clone(&turns), me)));
                let _ended = Ended { turns: Arc::clone(&turns), me };
                turns.wait_for_turn(me, turns.state());
                thread();
            });
        }
    });
    turns.state().points
}

/// Ends a thread's part, in a panic too.
struct Ended {
    turns: Arc<Turns>,
    me: usize,
}

impl Drop for Ended {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        state.threads[self.me] = Is::Done;
        state.is_over |= std::thread::panicking();
        self.turns.pass_on(&mut state);
    }
}

impl Turns {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the turn to any thread that is ready. Whether there was one.
    fn pass_on(&self, state: &mut State) -> bool {
        let ready: Vec<usize> =
            (0..state.threads.len()).filter(|&at| state.threads[at] == Is::Ready).collect();
        let is_stuck = ready.is_empty() && state.threads.contains(&Is::Asleep);
        if is_stuck && !state.is_over {
            eprintln!("all that are left sleep: {:?}", state.threads);
        }
        state.is_over |= is_stuck;
        if !ready.is_empty() {
            state.running = ready[state.random.random_range(0..ready.len())];
        }
        self.changed.notify_all();
        !is_stuck
    }

    fn wait_for_turn(&self, me: usize, mut state: MutexGuard<'_, State>) {
        while state.running != me && !state.is_over {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let is_over = state.is_over;
        drop(state);
        if is_over && !std::thread::panicking() {
            panic!("another thread has failed, or all that are left sleep");
        }
    }
}

fn me() -> Option<(Arc<Turns>, usize)> {
    ME.with_borrow(Clone::clone)
}

/// Here another thread may go on.
pub(crate) fn point() {
    let Some((turns, me)) = me() else { return };
    let mut state = turns.state();
    if state.is_over || std::thread::panicking() {
        return;
    }
    state.points += 1;
    let once_in = state.changes_once_in;
    if state.random.random_range(0..once_in) == 0 {
        turns.pass_on(&mut state);
        turns.wait_for_turn(me, state);
    }
}

/// Here another thread must go on, because this one waits for what it holds. `false` where threads take no turns.
pub(crate) fn let_another_run() -> bool {
    let Some((turns, me)) = me() else { return false };
    let mut state = turns.state();
    if state.is_over || std::thread::panicking() {
        return false;
    }
    state.threads[me] = Is::Asleep;
    turns.pass_on(&mut state);
    state.threads[me] = Is::Ready;
    turns.wait_for_turn(me, state);
    true
}

struct ThreadWaker {
    turns: Arc<Turns>,
    thread: usize,
    is_woken: AtomicBool,
}

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::Relaxed);
        let mut state = self.turns.state();
        if state.threads[self.thread] == Is::Asleep {
            state.threads[self.thread] = Is::Ready;
        }
    }
}

/// Polls a future on this thread whenever it is woken.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let (turns, thread) = me().expect("it is one of the threads that take turns");
    let waker = Arc::new(ThreadWaker {
        turns: Arc::clone(&turns),
        thread,
        is_woken: AtomicBool::new(false),
    });
    let task = Waker::from(Arc::clone(&waker));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&task)) {
            return output;
        }
        point();
        let mut state = turns.state();
        if !waker.is_woken.swap(false, Ordering::Relaxed) {
            state.threads[thread] = Is::Asleep;
            turns.pass_on(&mut state);
            turns.wait_for_turn(thread, state);
            waker.is_woken.store(false, Ordering::Relaxed);
        }
    }
}
