use futures_util::FutureExt;
use respire_codec::{Decoder, DecoderConfig};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn frame(bytes: &[u8]) -> Frame {
    let mut buffer = bytes::BytesMut::from(bytes);
    Decoder::new(DecoderConfig::default()).decode(&mut buffer).unwrap().unwrap()
}

fn reply(text: &str) -> Reply {
    Reply::new(frame(format!("${}\r\n{text}\r\n", text.len()).as_bytes()))
}

struct Harness {
    store: Store,
    connection: ConnectionId,
    now: Instant,
}

/// A read under way, as its client sees it.
struct Trip {
    query: Query,
    seat: Seat,
    /// What the store has only a weak share in.
    flight: Flight,
    passage: Option<Passage>,
}

impl Harness {
    fn new(config: &CacheConfig) -> Self {
        let (store, now) = (Store::new(config), Instant::now());
        Self { store, connection: ConnectionId::next(), now }
    }

    /// `Ok` is a hit, `Err` a read that is to be done; `None` one to be waited for.
    fn look_up(&self, key: &str, command: &str) -> Option<Result<String, Trip>> {
        let query = Query { key: key.to_owned().into(), identity: command.to_owned().into() };
        let mut seat = None;
        let lead = |its: Seat| {
            seat = Some(its);
            std::future::pending().boxed().shared()
        };
        match self.store.look_up(&query, self.now, lead) {
            Lookup::Hit(reply) => Some(Ok(reply.parse().unwrap())),
            Lookup::Join(_) => None,
            Lookup::Lead(flight) => {
                Some(Err(Trip { query, seat: seat.unwrap(), flight, passage: None }))
            }
        }
    }

    fn lead(&self, key: &str, command: &str) -> Trip {
        match self.look_up(key, command) {
            Some(Err(trip)) => trip,
            Some(Ok(text)) => panic!("a hit: {text}"),
            None => panic!("somebody reads it already"),
        }
    }

    fn board(&self, trip: &mut Trip) {
        let epoch = self.store.epoch(self.connection, self.now);
        trip.passage = Some(self.store.board(&trip.query, trip.seat, &epoch));
    }

    fn land(&self, trip: Trip, text: &str) {
        self.land_for(trip, text, Duration::MAX);
    }

    fn land_for(&self, trip: Trip, text: &str, ttl: Duration) {
        let passage = trip.passage.expect("it has boarded");
        passage.epoch.confirm(self.now);
        self.store.land(&trip.query, trip.seat, passage, &reply(text), ttl, self.now);
        drop(trip.flight);
    }

    /// Reads and keeps.
    fn fill(&self, key: &str, command: &str, text: &str) {
        let mut trip = self.lead(key, command);
        self.board(&mut trip);
        self.land(trip, text);
    }

    fn hit(&self, key: &str, command: &str) -> Option<String> {
        self.look_up(key, command)?.ok()
    }

    fn push(&self, bytes: &str) {
        self.store.handle_push(self.connection, frame(bytes.as_bytes()), &mut Vec::new());
    }

    fn stats(&self) -> crate::cache::CacheStats {
        self.store.counters.stats(self.store.size())
    }
}

const INVALIDATE_K: &str = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n";
const INVALIDATE_ALL: &str = ">2\r\n$10\r\ninvalidate\r\n_\r\n";

#[test]
fn what_was_read_is_served_by_command_until_its_key_changes() {
    let h = Harness::new(&CacheConfig::new());
    h.fill("k", "GET", "v");
    h.fill("k", "STRLEN", "1");
    h.fill("l", "GET", "w");
    assert_eq!(h.hit("k", "GET").unwrap(), "v");
    assert_eq!(h.hit("k", "STRLEN").unwrap(), "1");
    h.push(INVALIDATE_K);
    assert!(h.hit("k", "GET").is_none() && h.hit("k", "STRLEN").is_none());
    assert_eq!(h.hit("l", "GET").unwrap(), "w");
    let stats = h.stats();
    assert_eq!((stats.hits, stats.misses, stats.invalidations), (3, 5, 1));
}

#[test]
fn an_announcement_names_several_keys() {
    let h = Harness::new(&CacheConfig::new());
    for key in ["k", "l", "m"] {
        h.fill(key, "GET", key);
    }
    h.push(">2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\nk\r\n$1\r\nm\r\n");
    assert!(h.hit("k", "GET").is_none() && h.hit("m", "GET").is_none());
    assert_eq!(h.hit("l", "GET").unwrap(), "l");
    // Other pushes are none of its business.
    h.push(">2\r\n$3\r\nfoo\r\n*1\r\n$1\r\nl\r\n");
    h.push(">0\r\n");
    assert_eq!(h.hit("l", "GET").unwrap(), "l");
}

#[test]
fn an_announcement_wins_over_a_read_under_way_whenever_it_comes() {
    for announcement in [INVALIDATE_K, INVALIDATE_ALL] {
        for moment in 0..3 {
            let h = Harness::new(&CacheConfig::new());
            // The connection is known, so that "all" concerns somebody.
            h.fill("other", "GET", "x");
            let mut trip = h.lead("k", "GET");
            if moment == 0 {
                h.push(announcement);
            }
            h.board(&mut trip);
            if moment == 1 {
                h.push(announcement);
            }
            h.land(trip, "old");
            if moment == 2 {
                h.push(announcement);
            }
            // Before it was sent, all that was read before was to be forgotten, and nothing had been.
            let may_be_kept = moment == 0 && announcement == INVALIDATE_ALL;
            assert_eq!(h.hit("k", "GET").is_some(), may_be_kept, "{announcement:?} {moment}");
        }
    }
}

#[test]
fn who_reads_the_same_at_the_same_time_waits_for_one_read() {
    let mut h = Harness::new(&CacheConfig::new().with_staleness_max(SECOND));
    let mut first = h.lead("k", "GET");
    assert!(h.look_up("k", "GET").is_none(), "it is to be waited for");
    assert!(h.look_up("k", "STRLEN").unwrap().is_err(), "that is another command");
    h.board(&mut first);
    assert!(h.look_up("k", "GET").is_none());
    // After an announcement, the read may bring what was there before.
    h.push(INVALIDATE_K);
    let mut second = h.lead("k", "GET");
    h.board(&mut second);
    h.land(second, "new");
    h.land(first, "old");
    assert_eq!(h.hit("k", "GET").unwrap(), "new");
    // One whose waiters have all gone brings nothing.
    let gone = h.lead("l", "GET");
    drop(gone.flight);
    let slow = h.lead("l", "GET");
    // And one that was begun long ago may bring what was true then.
    h.now += SECOND;
    assert!(h.look_up("l", "GET").unwrap().is_err());
    drop(slow);
    assert_eq!(h.stats().joined, 2);
}

#[test]
fn a_lost_connection_takes_with_it_what_was_read_over_it() {
    let mut h = Harness::new(&CacheConfig::new());
    h.fill("k", "GET", "v");
    let mut under_way = h.lead("l", "GET");
    h.board(&mut under_way);
    let lost = std::mem::replace(&mut h.connection, ConnectionId::next());
    h.fill("m", "GET", "over the new one");
    h.store.handle_end(lost, &mut Vec::new());
    assert!(h.hit("k", "GET").is_none());
    h.land(under_way, "late");
    assert!(h.look_up("l", "GET").is_some_and(|found| found.is_err()));
    assert_eq!(h.hit("m", "GET").unwrap(), "over the new one");
    assert_eq!(h.stats().losses, 1);
    // Of a connection that nothing was read over, nothing is lost.
    h.store.handle_end(ConnectionId::next(), &mut Vec::new());
    assert_eq!(h.hit("m", "GET").unwrap(), "over the new one");
    // All that is held for nothing is given back.
    h.store.sweep();
    assert_eq!(h.stats().keys, 0);
    assert_eq!(h.stats().bytes, 0);
}

#[test]
fn nothing_is_served_without_a_recent_proof_that_announcements_arrive() {
    let mut h = Harness::new(&CacheConfig::new().with_staleness_max(SECOND));
    h.fill("k", "GET", "v");
    h.now += SECOND - Duration::from_millis(1);
    assert!(h.hit("k", "GET").is_some());
    h.store.epoch(h.connection, h.now).confirm(h.now);
    h.now += SECOND;
    assert!(h.hit("k", "GET").is_some());
    h.now += Duration::from_millis(1);
    assert!(h.look_up("k", "GET").is_some_and(|found| found.is_err()));
    // An older proof than the last is none.
    h.fill("l", "GET", "w");
    h.store.epoch(h.connection, h.now).confirm(h.now - SECOND);
    assert!(h.hit("l", "GET").is_some());
}

#[test]
fn values_expire_by_the_bound_and_by_their_keys() {
    let config = CacheConfig::new().with_staleness_max(100 * SECOND).with_ttl_max(10 * SECOND);
    let mut h = Harness::new(&config);
    for (key, ttl) in [("short", 3 * SECOND), ("long", 60 * SECOND), ("never", Duration::MAX)] {
        let mut trip = h.lead(key, "GET");
        h.board(&mut trip);
        h.land_for(trip, key, ttl);
    }
    h.now += 2 * SECOND;
    assert!(h.hit("short", "GET").is_some());
    h.now += SECOND;
    assert!(h.hit("short", "GET").is_none());
    assert!(h.hit("long", "GET").is_some() && h.hit("never", "GET").is_some());
    h.now += 7 * SECOND;
    assert!(h.hit("long", "GET").is_none() && h.hit("never", "GET").is_none());
}

#[test]
fn what_was_read_longest_ago_makes_room_and_the_bound_holds() {
    let h = Harness::new(&CacheConfig::new().with_bytes_max(100_000));
    let value = "v".repeat(1000);
    for key in 0..1000_u32 {
        h.fill(&key.to_string(), "GET", &value);
        assert!(h.hit("0", "GET").is_some(), "it is read all the time");
        assert!(h.stats().bytes <= 100_000);
    }
    let stats = h.stats();
    assert!(stats.keys > 50 && stats.evictions == 1000 - stats.keys as u64, "{stats:?}");
    assert!(h.hit("999", "GET").is_some() && h.hit("500", "GET").is_none());
    // What has no room at all is not kept, and drives nothing out.
    let before = h.stats().keys;
    h.fill("large", "GET", &"x".repeat(100_000));
    assert!(h.look_up("large", "GET").is_some_and(|found| found.is_err()));
    assert!(h.stats().keys + 2 >= before, "{:?}", h.stats());
    // All is accounted for.
    for key in 0..1000_u32 {
        h.store.forget(key.to_string().as_bytes());
    }
    h.store.forget(b"large");
    assert_eq!((h.stats().keys, h.stats().bytes), (0, 0));
}

#[test]
fn a_read_that_brings_nothing_leaves_nothing() {
    let h = Harness::new(&CacheConfig::new());
    let trip = h.lead("k", "GET");
    h.store.leave(&trip.query, trip.seat);
    assert_eq!((h.stats().keys, h.stats().bytes), (0, 0));
    // Nor does it take away what another has brought.
    h.fill("k", "GET", "v");
    h.store.leave(&trip.query, trip.seat);
    assert!(h.hit("k", "GET").is_some());
}

#[test]
fn connections_that_are_forgotten_vouch_for_nothing() {
    let mut h = Harness::new(&CacheConfig::new());
    h.fill("k", "GET", "v");
    for _ in 0..EPOCHS_MAX {
        h.connection = ConnectionId::next();
        h.store.epoch(h.connection, h.now);
    }
    assert!(h.hit("k", "GET").is_none());
}

proptest::proptest! {
    /// A register on the server, reads and announcements in any order of events that one connection allows: a hit is
    /// never older than the last announcement that has arrived.
    #[test]
    fn a_hit_is_never_older_than_the_last_announcement(
        steps in proptest::collection::vec(0_u8..8, 0..300),
    ) {
        let h = Harness::new(&CacheConfig::new());
        let mut version = 0_u32;
        // What the server has sent and we have not received, in order: announcements, and values for reads.
        let mut wire: std::collections::VecDeque<Option<(Trip, u32)>> = std::collections::VecDeque::new();
        let (mut unboarded, mut sent): (Vec<Trip>, Vec<Trip>) = (Vec::new(), Vec::new());
        let mut tracked = false;
        // The newest version that an announcement has told of: what is served is at least of it.
        let mut announced: std::collections::VecDeque<u32> = std::collections::VecDeque::new();
        let mut known = 0;
        for step in steps {
            match step {
                0 => {
                    version += 1;
                    if std::mem::take(&mut tracked) {
                        wire.push_back(None);
                        announced.push_back(version);
                    }
                }
                1 | 2 => match h.look_up("k", "GET") {
                    Some(Ok(text)) => {
                        let served: u32 = text.parse().unwrap();
                        proptest::prop_assert!(served >= known, "{served} < {known}");
                    }
                    Some(Err(trip)) => unboarded.push(trip),
                    None => {}
                },
                3 => {
                    if let Some(mut trip) = unboarded.pop() {
                        h.board(&mut trip);
                        sent.push(trip);
                    }
                }
                4 | 5 => {
                    if !sent.is_empty() {
                        tracked = true;
                        wire.push_back(Some((sent.remove(0), version)));
                    }
                }
                _ => match wire.pop_front() {
                    Some(None) => {
                        known = announced.pop_front().unwrap();
                        h.push(INVALIDATE_K);
                    }
                    Some(Some((trip, version))) => h.land(trip, &version.to_string()),
                    None => {}
                },
            }
        }
    }
}
