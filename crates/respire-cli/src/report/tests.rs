use serde_json::{Value, json};

use super::*;
use crate::restart::Restarted;

fn setting(route: Route) -> Setting {
    let fleet = FleetSize { pods: 3, capacity: "70".parse().unwrap() };
    Setting {
        fleet,
        options: Options { route, prefill_rate: 8000.5, writers: None, restart: None },
    }
}

fn tally() -> Tally {
    Tally {
        blocks: 7,
        hit_blocks: 2,
        adds: 5,
        evicts: 1,
        ttft_s: vec![0.3, 0.1, 0.2],
        lookups: [3001, 1000, 2000].map(Duration::from_nanos).to_vec(),
        requests_per_pod: vec![2, 0, 1],
        verdict: Verdict { false_hits: 4, missed_blocks: 9 },
        restart: None,
    }
}

fn restart() -> RestartReport {
    RestartReport {
        server: Restarted::Empty,
        after_requests: 2,
        down_ms: 61.5,
        repeated_calls: 71,
        resyncs: 3,
        announced_again: 400,
        missed_before_resync: 11,
    }
}

#[test]
fn a_restart_is_reported_where_there_was_one() {
    let tally = Tally { restart: Some(restart()), ..tally() };
    let report = tally.report("valkey-server", setting(Route::Index)).unwrap();
    let value: Value = serde_json::from_str(&report.to_json()).unwrap();
    let expected = json!({
        "server": "empty",
        "after_requests": 2,
        "down_ms": 61.5,
        "repeated_calls": 71,
        "resyncs": 3,
        "announced_again": 400,
        "missed_before_resync": 11,
    });
    assert_eq!(value["restart"], expected);
    let table = report.to_string();
    for text in ["empty, after 2 requests", "62 ms", "71", "400", "11"] {
        assert!(table.contains(text), "{text} in\n{table}");
    }
    assert_eq!(table.lines().count(), 27, "\n{table}");
}

#[test]
fn json_is_one_line_with_exactly_the_documented_fields_unrounded() {
    let report = tally().report("memory", setting(Route::RoundRobin)).unwrap();
    let json = report.to_json();
    assert!(!json.contains('\n'));
    let value: Value = serde_json::from_str(&json).unwrap();
    let expected = json!({
        "requests": 3,
        "blocks": 7,
        "block_hit_rate": 2.0 / 7.0,
        "ttft_s": {"mean": (0.1 + 0.2 + 0.3) / 3.0, "p50": 0.2, "p90": 0.3},
        "requests_per_pod": {"min": 0, "max": 2},
        "adds": 5,
        "evicts": 1,
        "lookup_us": {"p50": 2.0, "p99": 3.001, "p999": 3.001},
        "store": "memory",
        "route": "round-robin",
        "false_hits": 4,
        "missed_blocks": 9,
    });
    assert_eq!(value, expected);
    assert!(json.contains("0.2857142857142857"), "{json}");
}

#[test]
fn a_report_needs_a_request() {
    assert_eq!(Tally::default().report("memory", setting(Route::Index)), None);
}

#[test]
fn a_report_is_clean_only_when_both_counters_are_zero() {
    for (false_hits, missed_blocks, clean) in [(0, 0, true), (1, 0, false), (0, 1, false)] {
        let verdict = Verdict { false_hits, missed_blocks };
        let report = Tally { verdict, ..tally() }.report("memory", setting(Route::Index)).unwrap();
        assert_eq!(report.is_clean(), clean);
    }
}

#[test]
fn the_table_shows_every_figure_and_what_was_simulated() {
    let mut report = tally().report("memory", setting(Route::Load)).unwrap();
    let table = report.to_string();
    for text in ["memory", "load", "28.57 %", "0.200 s", "0 to 2", "2.0 µs", "3.0 / 3.0 µs"] {
        assert!(table.contains(text), "{text} in\n{table}");
    }
    for text in ["70 blocks", "8000.5 tokens/s", "every lookup checked"] {
        assert!(table.contains(text), "{text} in\n{table}");
    }
    assert_eq!(table.lines().count(), 21, "\n{table}");

    report.setting.options.writers = std::num::NonZeroUsize::new(4);
    report.setting.fleet.capacity = "unlimited".parse().unwrap();
    let table = report.to_string();
    for text in ["4: checked at the end", "unlimited blocks"] {
        assert!(table.contains(text), "{text} in\n{table}");
    }
}
