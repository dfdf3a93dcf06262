//! Whether the server still has what was kept there.
//!
//! Beside llm-d's keys stands a *mark*, a string of random bytes under a name that llm-d's clear passes by. It goes when the
//! database is flushed, and when a server starts without its data; whoever looks for it then sets another one. So a mark that
//! is another one than before says that everything was lost in between, and one that has stayed that not everything was.

use std::{
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;
use respire::{Command, Pipeline};

use super::{ServerIndex, is_wrong_type};
use crate::{IndexError, PodEntry, Resync, ResyncReason};

const MARK_FAILED: &str = "failed to read the index's mark";

/// The bytes of a mark: no two that are drawn are equal.
const MARK_BYTES: usize = 16;

/// How many pods are known by name: those that were added to last. A fleet has some hundred, and one whose pods get new names each time
/// that they start would otherwise leave all of them here.
const PODS_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not 0");

/// What one index knows of the mark, and whom a loss concerns.
#[derive(Default)]
pub(super) struct LossWatch {
    state: Mutex<State>,
}

struct State {
    /// The mark as it was seen last; never another one than when the pods' entries were added without their being named.
    mark: Option<Vec<u8>>,
    /// The pods that this index has added entries for and not cleared since, and whether they are to be named.
    pods: LruCache<Arc<str>, bool>,
    /// How many pods were to be named and had to make room for others first.
    never_named: u64,
}

impl Default for State {
    fn default() -> Self {
        Self { mark: None, pods: LruCache::sparse(PODS_MAX), never_named: 0 }
    }
}

impl LossWatch {
    fn is_marked(&self) -> bool {
        self.state().mark.is_some()
    }

    /// To be called before an add is sent, so that no entry can be lost before its pod is known, and [after it](Self::note_when_done),
    /// because a clear may have been carried out between the two.
    pub(super) fn note(&self, entries: &[PodEntry]) {
        let mut state = self.state();
        let before = state.never_named;
        for entry in entries {
            let pod = entry.pod_identifier.as_str();
            // This makes it the one that was added to last.
            if state.pods.get(pod).is_none()
                && let Some((_, is_lost)) = state.pods.push(pod.into(), false)
            {
                state.never_named += u64::from(is_lost);
            }
        }
        let never_named = state.never_named - before;
        drop(state);
        if never_named > 0 {
            tracing::warn!(
                pods = never_named,
                "what pods had in the index was lost, and there are too many to name them"
            );
        }
    }

    /// Takes note once more when this is dropped: however the add ends, and if nobody waits for it any more.
    pub(super) fn note_when_done<'a>(&'a self, entries: &'a [PodEntry]) -> NoteWhenDone<'a> {
        NoteWhenDone { watch: self, entries }
    }

    /// The pod has no entries any more.
    pub(super) fn forget(&self, pod: &str) {
        self.state().pods.pop(pod);
    }

    /// Takes note of the mark that was found: if it is another one, all pods are to be named.
    ///
    /// Two calls at once may take their answers in the wrong order. Then pods are named twice, and none is left out.
    fn found(&self, mark: Vec<u8>) {
        let state = &mut *self.state();
        let before = state.mark.replace(mark);
        if before.is_some() && before != state.mark {
            state.pods.iter_mut().for_each(|(_, is_lost)| *is_lost = true);
        }
    }

    /// Names the pods that are to be named.
    fn take_lost(&self) -> Vec<Resync> {
        let state = &mut *self.state();
        let lost = state.pods.iter_mut().filter_map(|(pod, is_lost)| {
            std::mem::take(is_lost).then(|| Resync::new(&**pod, ResyncReason::IndexLost))
        });
        let mut lost: Vec<Resync> = lost.collect();
        lost.sort_unstable_by(|one, other| one.pod_identifier.cmp(&other.pod_identifier));
        lost
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic leaves nothing half done there: each change is a single one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`LossWatch::note_when_done`].
pub(super) struct NoteWhenDone<'a> {
    watch: &'a LossWatch,
    entries: &'a [PodEntry],
}

impl Drop for NoteWhenDone<'_> {
    fn drop(&mut self) {
        self.watch.note(self.entries);
    }
}

impl fmt::Debug for LossWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (is_marked, never_named) = {
            let state = self.state();
            (state.mark.is_some(), state.never_named)
        };
        f.debug_struct("LossWatch")
            .field("is_marked", &is_marked)
            .field("never_named", &never_named)
            .finish_non_exhaustive()
    }
}

impl ServerIndex {
    /// The same index, which keeps a mark on the server so that [`resyncs`](Self::resyncs) notices when everything there was lost.
    ///
    /// The mark is one more key, named `engine:~mark:` and the prefix, and costs one round trip before the first add.
    #[must_use]
    pub fn with_loss_detection(mut self) -> Self {
        self.loss = Some(LossWatch::default());
        self
    }

    /// Asks the server whether everything was lost since the last call: it was flushed, or started without its data. The pods that
    /// this index has added entries for, and that have to announce their blocks again; none when nothing was lost, and none without
    /// [`with_loss_detection`](Self::with_loss_detection). One round trip, to be made now and then and after errors.
    ///
    /// It is told by their names in order. Of more than 4,096 pods those are known that were added to last; a pod is known until it is
    /// cleared, so clear those that have gone. One that is forgotten between the loss and its being told is in the log, as a number.
    ///
    /// A server that comes back as it was at some earlier time has kept its mark, so that this names nobody, and in llm-d's layout
    /// blocks that were evicted since are believed to be held again. Keep such a server from saving, or have it write a log with
    /// `appendfsync always`; or use [`BitmapIndex`](crate::BitmapIndex), which notices.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked, or something else stands under the mark's name.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped, the pods are named by the next call.
    pub async fn resyncs(&self) -> Result<Vec<Resync>, IndexError> {
        match &self.loss {
            None => Ok(Vec::new()),
            Some(watch) => {
                watch.found(self.mark().await?);
                Ok(watch.take_lost())
            }
        }
    }

    /// Makes sure, before anything is added, that there is a mark to go by.
    pub(super) async fn watch_loss(&self, entries: &[PodEntry]) -> Result<(), IndexError> {
        let Some(watch) = &self.loss else { return Ok(()) };
        if !watch.is_marked() {
            // Another add may have been the first meanwhile, and what it added lost already.
            watch.found(self.mark().await?);
        }
        watch.note(entries);
        Ok(())
    }

    /// The mark on the server, which is a new one if there was none.
    async fn mark(&self) -> Result<Vec<u8>, IndexError> {
        let name = self.names.mark();
        let new: [u8; MARK_BYTES] = rand::random();
        let mut pipeline = Pipeline::new();
        pipeline.push(Command::new("SET").arg(name.as_ref()).arg(&new[..]).arg("NX"));
        pipeline.push(Command::new("GET").arg(name.as_ref()));
        let replies = self.send(MARK_FAILED, pipeline).await?;
        for reply in &replies {
            if is_wrong_type(reply) {
                return Err(IndexError::foreign_key(name.as_ref()));
            }
            super::check(MARK_FAILED, reply)?;
        }
        let found = replies[1].parse::<Option<Vec<u8>>>();
        let found = found.map_err(|error| IndexError::client(MARK_FAILED, error))?;
        // Deleted by somebody between the two commands, so that it counts as lost all the same.
        Ok(found.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(pods: &[&str]) -> Vec<PodEntry> {
        pods.iter().map(|pod| PodEntry::new(*pod, "gpu")).collect()
    }

    fn named(resyncs: &[Resync]) -> Vec<&str> {
        resyncs.iter().map(|resync| resync.pod_identifier.as_str()).collect()
    }

    #[test]
    fn a_mark_that_is_another_one_names_whoever_may_have_entries() {
        let watch = LossWatch::default();
        let after = |mark: &[u8]| {
            watch.found(mark.to_vec());
            watch.take_lost()
        };
        assert!(!watch.is_marked());
        assert!(after(b"first").is_empty());
        watch.note(&entries(&["a", "b"]));
        watch.note(&entries(&["c"]));
        assert!(after(b"first").is_empty());
        watch.forget("b");
        let resyncs = after(b"second");
        assert_eq!(named(&resyncs), ["a", "c"]);
        assert!(resyncs.iter().all(|resync| resync.reason == ResyncReason::IndexLost));
        assert!(after(b"second").is_empty());
        // They are announced again, and may be lost again.
        assert_eq!(named(&after(b"third")), ["a", "c"]);
    }

    #[test]
    fn a_pod_that_is_cleared_under_an_add_is_known_again_when_that_has_ended() {
        let watch = LossWatch::default();
        watch.found(b"first".to_vec());
        let entries = entries(&["a"]);
        watch.note(&entries);
        let noted = watch.note_when_done(&entries);
        watch.forget("a");
        drop(noted);
        watch.found(b"second".to_vec());
        assert_eq!(named(&watch.take_lost()), ["a"]);
    }

    #[test]
    fn pods_are_bounded_and_those_added_to_last_are_named() {
        let watch = LossWatch::default();
        watch.found(b"first".to_vec());
        watch.note(&entries(&["0", "1"]));
        for pod in 2..=PODS_MAX.get() {
            watch.note(&entries(&[&pod.to_string()]));
            watch.note(&entries(&["0"]));
        }
        watch.found(b"second".to_vec());
        let resyncs = watch.take_lost();
        assert_eq!(resyncs.len(), PODS_MAX.get());
        let names = named(&resyncs);
        assert!(names.contains(&"0") && !names.contains(&"1") && names.contains(&"4096"));
        assert!(names.is_sorted());
    }

    #[test]
    fn pods_that_are_forgotten_before_they_are_named_are_counted() {
        let watch = LossWatch::default();
        watch.found(b"first".to_vec());
        for pod in 0..PODS_MAX.get() {
            watch.note(&entries(&[&pod.to_string()]));
        }
        let never_named = || watch.state().never_named;
        watch.note(&entries(&["one more"]));
        assert_eq!(never_named(), 0, "nothing was lost");
        watch.found(b"second".to_vec());
        watch.note(&entries(&["a", "b", "b"]));
        assert_eq!(never_named(), 2);
        assert_eq!(watch.take_lost().len(), PODS_MAX.get() - 2);
        watch.note(&entries(&["c"]));
        assert_eq!(never_named(), 2, "it was named");
    }

    #[test]
    fn a_loss_that_an_add_comes_upon_is_named_by_the_next_question() {
        let watch = LossWatch::default();
        watch.found(b"first".to_vec());
        watch.note(&entries(&["a", "b"]));
        watch.found(b"second".to_vec());
        watch.forget("b");
        watch.found(b"second".to_vec());
        assert_eq!(named(&watch.take_lost()), ["a"]);
        assert!(watch.take_lost().is_empty());
    }
}
