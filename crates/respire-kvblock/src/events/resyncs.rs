//! The pods that have to announce their blocks again, until somebody asks for them.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{Resync, ResyncReason};

/// How many pods can be waiting. A fleet has some hundred.
const PODS_MAX: usize = 4096;

/// A queue with at most one request for each pod.
#[derive(Debug, Default)]
pub(super) struct Resyncs {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The pods in the order in which they were named. The keys of `reasons`, each once.
    order: VecDeque<Arc<str>>,
    reasons: HashMap<Arc<str>, ResyncReason>,
    closed: bool,
}

impl Resyncs {
    /// Names a pod. One that is waiting already gets this reason only if it is graver than its own. `false` if there is no
    /// room.
    pub(super) fn push(&self, pod: &Arc<str>, reason: ResyncReason) -> bool {
        let mut state = self.state();
        if let Some(waiting) = state.reasons.get_mut(pod) {
            if reason.may_be_stale() && !waiting.may_be_stale() {
                *waiting = reason;
            }
            return true;
        }
        if state.order.len() >= PODS_MAX {
            return false;
        }
        state.order.push_back(Arc::clone(pod));
        state.reasons.insert(Arc::clone(pod), reason);
        drop(state);
        self.changed.notify_one();
        true
    }

    pub(super) fn try_next(&self) -> Option<Resync> {
        let mut state = self.state();
        let pod = state.order.pop_front()?;
        let reason = state.reasons.remove(&pod)?;
        if !state.order.is_empty() {
            // Several may be waiting, and two pods may have been named before one of them woke up.
            self.changed.notify_one();
        }
        Some(Resync::new(&*pod, reason))
    }

    /// The next pod, or `None` when there is none left and none will come.
    pub(super) async fn next(&self) -> Option<Resync> {
        loop {
            let changed = self.changed.notified();
            if let Some(resync) = self.try_next() {
                return Some(resync);
            }
            if self.state().closed {
                // Whoever else is waiting has to learn of it too.
                self.changed.notify_one();
                return None;
            }
            changed.await;
        }
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BlockHash;

    fn unknown(parent: u64) -> ResyncReason {
        ResyncReason::UnknownParent { parent: BlockHash(parent) }
    }

    #[tokio::test]
    async fn a_pod_waits_once_with_its_gravest_reason() {
        let resyncs = Resyncs::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        assert!(resyncs.push(&a, unknown(1)));
        assert!(resyncs.push(&b, ResyncReason::Overrun));
        assert!(resyncs.push(&a, ResyncReason::Unreadable));
        assert!(resyncs.push(&b, unknown(2)));
        assert!(resyncs.push(&a, ResyncReason::Overrun));
        assert_eq!(resyncs.next().await, Some(Resync::new("a", ResyncReason::Unreadable)));
        assert_eq!(resyncs.next().await, Some(Resync::new("b", ResyncReason::Overrun)));
        assert_eq!(resyncs.try_next(), None);
        assert!(resyncs.push(&a, unknown(3)));
        assert_eq!(resyncs.try_next(), Some(Resync::new("a", unknown(3))));
    }

    #[tokio::test]
    async fn whoever_waits_learns_of_pods_and_of_the_end() {
        let resyncs = Arc::new(Resyncs::default());
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let resyncs = Arc::clone(&resyncs);
                tokio::spawn(async move { resyncs.next().await })
            })
            .collect();
        tokio::task::yield_now().await;
        resyncs.push(&"a".into(), ResyncReason::Overrun);
        resyncs.close();
        let mut answers = Vec::new();
        for task in waiting {
            answers.push(task.await.unwrap().is_some());
        }
        answers.sort_unstable();
        assert_eq!(answers, [false, false, true]);
    }

    #[test]
    fn there_is_room_for_so_many_pods_and_no_more() {
        let resyncs = Resyncs::default();
        for pod in 0..PODS_MAX {
            assert!(resyncs.push(&pod.to_string().into(), ResyncReason::Overrun));
        }
        assert!(!resyncs.push(&"one more".into(), ResyncReason::Overrun));
        assert!(resyncs.push(&"0".into(), ResyncReason::Overrun), "it is waiting already");
        assert!(resyncs.try_next().is_some());
        assert!(resyncs.push(&"one more".into(), ResyncReason::Overrun));
    }
}
