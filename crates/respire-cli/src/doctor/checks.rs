//! What a connection shows of a server, beside the settings that the index itself looks at.

use std::time::Duration;

use respire::commands::Info;

use super::Finding;

/// What is known of a server.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) info: Info,
    /// How long round trips took, ascending, at least one.
    pub(super) round_trips: Vec<Duration>,
    pub(super) speaks_resp3: bool,
}

type Check = fn(&Facts) -> Option<Finding>;

/// In the order in which they are shown.
pub(super) const CHECKS: [Check; 5] = [protocol, loading, evicted_keys, last_save, round_trip];

fn protocol(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "protocol";
    Some(if facts.speaks_resp3 {
        Finding::ok(CHECK, "RESP3")
    } else {
        let advice = "what is cached of an index is kept right by messages that only RESP3 has: \
                      everything else works";
        Finding::note(CHECK, "RESP2", advice)
    })
}

fn loading(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "data";
    (facts.info.field("loading") == Some("1")).then(|| {
        let advice = "the server reads its data and answers nothing until then: wait";
        Finding::warning(CHECK, "loading", advice)
    })
}

fn evicted_keys(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "keys dropped";
    let dropped = facts.info.parse::<u64>("evicted_keys")?;
    Some(if dropped == 0 {
        Finding::ok(CHECK, "none")
    } else {
        let advice = "for want of memory, since the server's start or the last CONFIG RESETSTAT: \
                      what the index says may be wrong until its pods announce their blocks again";
        Finding::warning(CHECK, dropped.to_string(), advice)
    })
}

fn last_save(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "last snapshot";
    let status = facts.info.field("rdb_last_bgsave_status")?;
    (status != "ok").then(|| {
        let advice = "a server whose snapshot failed refuses all writes by default: look at its \
                      log, most often its disk is full or not its own";
        Finding::warning(CHECK, status, advice)
    })
}

/// From here on a lookup takes longer than a router should wait.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(5);

fn round_trip(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "round trip";
    let of = |share: usize| facts.round_trips.get((facts.round_trips.len() - 1) * share / 100);
    let (shortest, median, longest) = (of(0)?, of(50)?, of(100)?);
    let found = format!("{shortest:.1?} at least, {median:.1?} mostly, {longest:.1?} at most");
    Some(if *median < ROUND_TRIP_MAX {
        Finding::ok(CHECK, found)
    } else {
        let advice = "a lookup takes one or two of them: move the server closer, or find out what \
                      keeps it busy with SLOWLOG GET";
        Finding::warning(CHECK, found, advice)
    })
}
