//! Which of a pod's publishers speaks over a connection.
//!
//! Whether messages are missing, or an engine has started anew, is seen by comparing numbers with those of the connection before. An
//! engine says nothing of that: which connection came before has to be told from the numbers. The rules are in the design page
//! of events.

use std::{num::NonZeroUsize, sync::Arc};

use lru::LruCache;

use crate::ResyncReason;

/// How many pods are known here. What is forgotten of one makes its next connection a new publisher.
const PODS_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not 0");

/// How many publishers of a pod are told apart at one address.
const PER_POD_MAX: usize = 64;

/// How many numbers a listener has for the publishers of a pod, so that none of them is one of another listener's.
const PER_LISTENER: u32 = PER_POD_MAX as u32;

/// The largest number of a listener.
pub(super) const LISTENER_MAX: u32 = u32::MAX / PER_LISTENER - 1;

/// The publishers of each pod that have connected to one address.
#[derive(Debug)]
pub(super) struct Publishers {
    /// The number of each pod's first publisher; the others follow.
    first: u32,
    /// How many publishers a pod has, as far as was said beforehand.
    per_pod: usize,
    /// A pod's publishers by their numbers.
    pods: LruCache<Arc<str>, Vec<Publisher>>,
}

#[derive(Clone, Copy, Debug)]
struct Publisher {
    /// The connection that speaks for it; `None` when that has ended.
    connection: Option<u64>,
    /// The number of the first message of that connection.
    from: u64,
    /// The number that is due.
    due: u64,
}

/// What a connection was the last time that it spoke for a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spoken {
    place: usize,
    /// The number that is due over this connection.
    due: u64,
}

/// Who sent a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Heard {
    /// The number of the publisher.
    pub(super) publisher: u32,
    pub(super) spoken: Spoken,
    /// What was wrongly believed before, where that may have left the index stale.
    pub(super) amends: Option<ResyncReason>,
}

impl Publishers {
    /// For the listener with this number, at most [`LISTENER_MAX`]. Takes a pod to have `per_pod` publishers there, at least 1.
    pub(super) fn new(listener: u32, per_pod: usize) -> Self {
        let per_pod = per_pod.clamp(1, PER_POD_MAX);
        let first = listener.min(LISTENER_MAX) * PER_LISTENER;
        Self { first, per_pod, pods: LruCache::sparse(PODS_MAX) }
    }

    /// The number of each pod's first publisher.
    pub(super) fn first(&self) -> u32 {
        self.first
    }

    /// Who has sent message `found` for a pod over this connection, which last was `before`.
    pub(super) fn hear(
        &mut self,
        pod: &Arc<str>,
        connection: u64,
        found: u64,
        before: Option<Spoken>,
    ) -> Heard {
        let per_pod = self.per_pod;
        let publishers = self.pods.get_or_insert_mut(Arc::clone(pod), Vec::new);
        let due = found.saturating_add(1);
        let mut amends = None;
        let speaks = |publisher: &Publisher| publisher.connection == Some(connection);
        let place = match publishers.iter().position(speaks) {
            Some(place) => {
                publishers[place].due = due;
                place
            }
            None => {
                let place = match before {
                    // Another connection was taken for this one come again, and both speak.
                    Some(before) => {
                        amends = publishers.get(before.place).and_then(|it| it.amends(before.due));
                        // A new publisher's first number is compared with none, but this one's is that of a connection which goes on.
                        amends = amends.or_else(|| amends_of(before.due, found));
                        (publishers.len() < PER_POD_MAX).then_some(publishers.len())
                    }
                    None => predecessor(publishers, found, per_pod),
                };
                let publisher = Publisher { connection: Some(connection), from: found, due };
                match place.unwrap_or(0) {
                    place if place < publishers.len() => publishers[place] = publisher,
                    _ => publishers.push(publisher),
                }
                place.unwrap_or(0)
            }
        };
        let offset = u32::try_from(place).expect("fewer than PER_POD_MAX");
        let publisher = self.first.saturating_add(offset);
        Heard { publisher, spoken: Spoken { place, due }, amends }
    }

    /// A connection has ended.
    pub(super) fn leave(&mut self, connection: u64) {
        let publishers = self.pods.iter_mut().flat_map(|(_, publishers)| publishers);
        for publisher in publishers.filter(|it| it.connection == Some(connection)) {
            publisher.connection = None;
        }
    }
}

impl Publisher {
    /// The connection before this one speaks after all, and `due` was due over it: what its end was taken to mean was wrong.
    fn amends(&self, due: u64) -> Option<ResyncReason> {
        amends_of(due, self.from)
    }
}

/// What is wrong where one number was due and another one came.
fn amends_of(expected: u64, found: u64) -> Option<ResyncReason> {
    match found {
        _ if found == expected => None,
        _ if found > expected => Some(ResyncReason::Gap { expected, found }),
        _ => Some(ResyncReason::Restarted { expected, found }),
    }
}

/// The place of the publisher that a new connection is, whose first message has this number. It may be the place behind the last.
fn predecessor(publishers: &[Publisher], found: u64, per_pod: usize) -> Option<usize> {
    let places = |is_open: bool| {
        let all = publishers.iter().enumerate();
        all.filter(move |(_, publisher)| publisher.connection.is_some() == is_open)
    };
    let exact = |is_open| places(is_open).find(|(_, publisher)| publisher.due == found);
    let below = |is_open| {
        let below = places(is_open).filter(|(_, publisher)| publisher.due < found);
        below.max_by_key(|(_, publisher)| publisher.due)
    };
    // Whoever has been connected for longest has gone without a word, most likely.
    let any = |is_open| places(is_open).min_by_key(|(_, publisher)| publisher.connection);
    let come_again = exact(false)
        .or_else(|| exact(true))
        .or_else(|| below(false))
        .or_else(|| any(false))
        .map(|(place, _)| place);
    let another = (publishers.len() < per_pod).then_some(publishers.len());
    come_again.or(another).or_else(|| below(true).or_else(|| any(true)).map(|(place, _)| place))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        publishers: Publishers,
        spoken: std::collections::HashMap<u64, Spoken>,
    }

    impl Bench {
        fn new(per_pod: usize) -> Self {
            Self { publishers: Publishers::new(0, per_pod), spoken: Default::default() }
        }

        fn hear_all(&mut self, connection: u64, found: u64) -> Heard {
            let before = self.spoken.get(&connection).copied();
            let heard = self.publishers.hear(&"pod".into(), connection, found, before);
            self.spoken.insert(connection, heard.spoken);
            heard
        }

        /// Who sends this message, where nothing has to be amended.
        fn hear(&mut self, connection: u64, found: u64) -> u32 {
            let heard = self.hear_all(connection, found);
            assert_eq!(heard.amends, None);
            heard.publisher
        }
    }

    #[test]
    fn a_connection_that_comes_before_the_one_of_its_publisher_has_ended_is_the_same_publisher() {
        for (name, found) in [("it goes on", 501), ("with a gap", 900), ("it has started anew", 0)]
        {
            let mut bench = Bench::new(1);
            assert_eq!(bench.hear(1, 500), 0);
            assert_eq!(bench.hear(2, found), 0, "{name}");
            assert_eq!(bench.hear(2, found + 1), 0, "{name}");
            // That it ends later says nothing of the one that speaks now.
            bench.publishers.leave(1);
            assert_eq!(bench.hear(3, 0), 0, "{name}");
        }
    }

    #[test]
    fn ranks_that_come_again_together_keep_their_numbers_in_whatever_order() {
        for is_ended in [true, false] {
            for (name, order) in [
                ("as they were", [501, 80]),
                ("the other way round", [80, 501]),
                ("with gaps", [83, 503]),
                ("one anew", [501, 0]),
            ] {
                let mut bench = Bench::new(2);
                assert_eq!((bench.hear(1, 500), bench.hear(2, 76)), (0, 1));
                bench.hear(2, 79);
                if is_ended {
                    bench.publishers.leave(1);
                    bench.publishers.leave(2);
                }
                let heard = [bench.hear(3, order[0]), bench.hear(4, order[1])];
                let expected = order.map(|found| if found > 400 { 0 } else { 1 });
                assert_eq!(heard, expected, "{name}, ended: {is_ended}");
            }
        }
    }

    #[test]
    fn whoever_is_overtaken_and_speaks_is_another_publisher_and_the_pod_is_named_if_it_was_wronged()
    {
        let gap = |expected, found| Some(ResyncReason::Gap { expected, found });
        let restarted = |expected, found| Some(ResyncReason::Restarted { expected, found });
        for (first, amends) in [(501, None), (600, gap(501, 600)), (0, restarted(501, 0))] {
            let mut bench = Bench::new(1);
            assert_eq!((bench.hear(1, 500), bench.hear(2, first)), (0, 0));
            let heard = bench.hear_all(1, 501);
            assert_eq!((heard.publisher, heard.amends), (1, amends));
            // From now on there are two, and neither is wronged.
            assert_eq!((bench.hear(1, 502), bench.hear(2, first + 1)), (1, 0));
            assert_eq!(bench.hear(1, 503), 1);
            bench.publishers.leave(1);
            bench.publishers.leave(2);
            assert_eq!((bench.hear(3, 504), bench.hear(4, first + 2)), (1, 0));
        }
    }

    #[test]
    fn what_is_missing_of_a_connection_is_seen_though_another_has_gone_on_with_its_numbers() {
        let mut bench = Bench::new(2);
        // Two ranks that have started together: the second one's first word is what was due from the first.
        assert_eq!((bench.hear(1, 0), bench.hear(2, 1)), (0, 0));
        let heard = bench.hear_all(1, 5);
        let gap = ResyncReason::Gap { expected: 1, found: 5 };
        assert_eq!((heard.publisher, heard.amends), (1, Some(gap)));
        assert_eq!((bench.hear(1, 6), bench.hear(2, 2)), (1, 0));
    }

    #[test]
    fn listeners_have_no_number_in_common_however_many_publishers_are_overtaken() {
        let numbers = |listener| {
            let mut publishers = Publishers::new(listener, 1);
            let pod: Arc<str> = "pod".into();
            let mut spoken = Vec::new();
            for connection in 0..100 {
                spoken.push(publishers.hear(&pod, connection, 500, None).spoken);
            }
            let again = (0..100).zip(spoken).map(|(connection, spoken)| {
                publishers.hear(&pod, connection, 501, Some(spoken)).publisher
            });
            again.collect::<std::collections::BTreeSet<u32>>()
        };
        let (first, second) = (numbers(0), numbers(1));
        assert_eq!((first.len(), second.len()), (PER_POD_MAX, PER_POD_MAX));
        assert!(first.is_disjoint(&second), "{first:?} {second:?}");
        assert!(numbers(LISTENER_MAX - 1).is_disjoint(&numbers(LISTENER_MAX)));
    }

    #[test]
    fn as_many_publishers_as_a_pod_has_are_told_apart_from_the_start() {
        let mut bench = Bench::new(3);
        assert_eq!((bench.hear(1, 0), bench.hear(2, 0), bench.hear(3, 70)), (0, 1, 2));
        // Of one more, somebody has come again.
        assert_eq!(bench.hear(4, 0), 0);
        // One that has ended is taken before a new place.
        let mut bench = Bench::new(3);
        bench.hear(1, 500);
        bench.publishers.leave(1);
        assert_eq!((bench.hear(2, 0), bench.hear(3, 0)), (0, 1));
        assert_eq!(Bench::new(0).hear(1, 0), 0);
    }

    #[test]
    fn pods_and_their_publishers_are_bounded() {
        let mut bench = Bench::new(usize::MAX);
        for connection in 0..100 {
            bench.hear(connection, 5);
        }
        assert_eq!(bench.publishers.pods.get("pod").unwrap().len(), PER_POD_MAX);
        for pod in 0..5000 {
            bench.publishers.hear(&pod.to_string().into(), 7, 0, None);
        }
        assert_eq!(bench.publishers.pods.len(), PODS_MAX.get());
        // A connection that was known, of a pod that is forgotten.
        assert_eq!(bench.hear(1, 6), 0);
    }
}
