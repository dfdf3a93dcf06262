use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Wake,
};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Note(u32);

/// Of the notes between dropped items, the last one is enough.
impl Mark for Note {
    fn merge_into(self, marks: &mut VecDeque<Self>) {
        marks.clear();
        marks.push_back(self);
    }
}

type Numbers = Queue<u32, Note>;

fn queue(items: usize, bytes: usize) -> Numbers {
    Queue::new(QueueMax { items, bytes })
}

fn next(queue: &Numbers) -> Option<Next<u32, Note>> {
    match queue.poll_next(&Context::from_waker(Waker::noop())) {
        Poll::Ready(next) => next,
        Poll::Pending => None,
    }
}

fn all(queue: &Numbers) -> Vec<Next<u32, Note>> {
    std::iter::from_fn(|| next(queue)).collect()
}

fn push(queue: &Numbers, item: u32) {
    let _ = queue.push(item, 1);
}

#[test]
fn a_full_queue_drops_the_oldest_and_says_how_many_in_their_place() {
    let queue = queue(3, usize::MAX);
    (0..10).for_each(|item| push(&queue, item));
    assert_eq!(queue.dropped(), 7);
    let expected = [Next::Dropped(7), Next::Item(7), Next::Item(8), Next::Item(9)];
    assert_eq!(all(&queue), expected);
    push(&queue, 10);
    assert_eq!(all(&queue), [Next::Item(10)]);
    assert_eq!(queue.dropped(), 7);
}

#[test]
fn the_bytes_that_wait_are_bounded_too() {
    let queue = queue(1000, 10 * (ENTRY_BYTES + 100));
    for item in 0..25 {
        let _ = queue.push(item, 100);
    }
    assert_eq!(next(&queue), Some(Next::Dropped(15)));
    // One that has no room at all is dropped with everything before it.
    let _ = queue.push(99, 1 << 20);
    assert_eq!(all(&queue), [Next::Dropped(11)]);
    let _ = queue.push(7, usize::MAX);
    assert_eq!(all(&queue), [Next::Dropped(1)]);
}

#[test]
fn marks_survive_what_is_dropped_around_them() {
    let queue = queue(2, usize::MAX);
    push(&queue, 1);
    assert!(queue.mark(Note(1)).is_none());
    push(&queue, 2);
    assert!(queue.mark(Note(2)).is_none());
    push(&queue, 3);
    push(&queue, 4);
    assert!(queue.mark(Note(3)).is_none());
    let expected = [
        Next::Dropped(2),
        Next::Mark(Note(1)),
        Next::Mark(Note(2)),
        Next::Item(3),
        Next::Item(4),
        Next::Mark(Note(3)),
    ];
    assert_eq!(all(&queue), expected);
}

#[test]
fn marks_that_nobody_reads_do_not_pile_up() {
    let queue = queue(2, usize::MAX);
    push(&queue, 1);
    (0..1000).for_each(|note| assert!(queue.mark(Note(note)).is_none()));
    push(&queue, 2);
    (1000..2000).for_each(|note| assert!(queue.mark(Note(note)).is_none()));
    let expected = [Next::Item(1), Next::Mark(Note(999)), Next::Item(2), Next::Mark(Note(1999))];
    assert_eq!(all(&queue), expected);
}

#[test]
fn a_closed_queue_yields_what_it_had_and_ends() {
    let queue = queue(2, usize::MAX);
    push(&queue, 1);
    assert!(queue.close().is_none());
    push(&queue, 2);
    let cx = Context::from_waker(Waker::noop());
    assert_eq!(queue.poll_next(&cx), Poll::Ready(Some(Next::Item(1))));
    assert_eq!(queue.poll_next(&cx), Poll::Ready(None));
}

#[test]
fn a_reader_that_waits_is_woken_once_by_each_of_push_mark_and_close() {
    #[derive(Default)]
    struct Counter(AtomicUsize);
    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let counter = Arc::new(Counter::default());
    let waker = Waker::from(Arc::clone(&counter));
    let queue = queue(2, usize::MAX);
    let wakers: [fn(&Numbers) -> Option<Waker>; 3] =
        [|queue| queue.push(1, 1), |queue| queue.mark(Note(1)), |queue| queue.close()];
    for (at, event) in wakers.into_iter().enumerate() {
        assert!(queue.poll_next(&Context::from_waker(&waker)).is_pending());
        event(&queue).expect("the reader waits").wake();
        assert!(event(&queue).is_none(), "it was woken before");
        assert_eq!(counter.0.load(Ordering::Relaxed), at + 1);
        all(&queue);
    }
}

proptest! {
    /// Whatever comes and is read in whatever order: what is read and what is said to be dropped are together what came,
    /// in order, and never more than the bound waits.
    #[test]
    fn what_is_read_and_what_was_dropped_are_all_that_came(
        items in 1_usize..6,
        steps in proptest::collection::vec(0_u8..4, 0..200),
    ) {
        let queue = queue(items, usize::MAX);
        let (mut came, mut seen) = (0_u32, 0_u32);
        for step in steps {
            if step < 3 {
                push(&queue, came);
                came += 1;
                continue;
            }
            prop_assert!(queue.state().items <= items);
            match next(&queue) {
                Some(Next::Item(item)) => {
                    prop_assert_eq!(item, seen);
                    seen += 1;
                }
                Some(Next::Dropped(dropped)) => seen += dropped as u32,
                Some(Next::Mark(_)) => unreachable!("there are none"),
                None => prop_assert_eq!(seen, came),
            }
        }
        for next in all(&queue) {
            match next {
                Next::Item(item) => {
                    prop_assert_eq!(item, seen);
                    seen += 1;
                }
                Next::Dropped(dropped) => seen += dropped as u32,
                Next::Mark(_) => unreachable!("there are none"),
            }
        }
        prop_assert_eq!(seen, came);
    }
}
