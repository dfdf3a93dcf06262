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

/// How many publishers of a pod are told apart.
const PER_POD_MAX: usize = 64;

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
    /// Numbers publishers from `first`, and takes a pod to have `per_pod` of them, at least 1.
    pub(super) fn new(first: u32, per_pod: usize) -> Self {
        let per_pod = per_pod.clamp(1, PER_POD_MAX);
        Self { first, per_pod, pods: LruCache::sparse(PODS_MAX) }
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
        let (expected, found) = (due, self.from);
        match found {
            _ if found == expected => None,
            _ if found > expected => Some(ResyncReason::Gap { expected, found }),
            _ => Some(ResyncReason::Restarted { expected, found }),
        }
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
            Self { publishers: Publishers::new(10, per_pod), spoken: Default::default() }
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
            assert_eq!(bench.hear(1, 500), 10);
            assert_eq!(bench.hear(2, found), 10, "{name}");
            assert_eq!(bench.hear(2, found + 1), 10, "{name}");
            // That it ends later says nothing of the one that speaks now.
            bench.publishers.leave(1);
            assert_eq!(bench.hear(3, 0), 10, "{name}");
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
                assert_eq!((bench.hear(1, 500), bench.hear(2, 76)), (10, 11));
                bench.hear(2, 79);
                if is_ended {
                    bench.publishers.leave(1);
                    bench.publishers.leave(2);
                }
                let heard = [bench.hear(3, order[0]), bench.hear(4, order[1])];
                let expected = order.map(|found| if found > 400 { 10 } else { 11 });
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
            assert_eq!((bench.hear(1, 500), bench.hear(2, first)), (10, 10));
            let heard = bench.hear_all(1, 501);
            assert_eq!((heard.publisher, heard.amends), (11, amends));
            // From now on there are two, and neither is wronged.
            assert_eq!((bench.hear(1, 502), bench.hear(2, first + 1)), (11, 10));
            assert_eq!(bench.hear(1, 503), 11);
            bench.publishers.leave(1);
            bench.publishers.leave(2);
            assert_eq!((bench.hear(3, 504), bench.hear(4, first + 2)), (11, 10));
        }
    }

    #[test]
    fn as_many_publishers_as_a_pod_has_are_told_apart_from_the_start() {
        let mut bench = Bench::new(3);
        assert_eq!((bench.hear(1, 0), bench.hear(2, 0), bench.hear(3, 70)), (10, 11, 12));
        // Of one more, somebody has come again.
        assert_eq!(bench.hear(4, 0), 10);
        // One that has ended is taken before a new place.
        let mut bench = Bench::new(3);
        bench.hear(1, 500);
        bench.publishers.leave(1);
        assert_eq!((bench.hear(2, 0), bench.hear(3, 0)), (10, 11));
        assert_eq!(Bench::new(0).hear(1, 0), 10);
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
        assert_eq!(bench.hear(1, 6), 10);
    }
}
