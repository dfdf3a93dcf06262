use super::super::tally::Outcome;
use super::super::workload::Mix;
use super::*;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A run at 100 requests a second for a second.
fn run(tally: &Tally, share: Option<f64>) -> Run {
    let mode = Mode::open(share);
    let pipeline = NonZeroUsize::new(2).unwrap();
    Run::new(mode, Arrivals::Constant(100.0), tally, ms(1000), ms(50), pipeline)
}

/// 100 requests, of which these were answered, each a millisecond after its start, and the others
/// failed.
fn tally(answered: u64) -> Tally {
    let mut tally = Tally::new();
    tally.ended = 125;
    for n in 0..100 {
        let outcome = match n < answered {
            true => Outcome::Answered { nulls: 1 },
            false => Outcome::Failed("closed".to_owned()),
        };
        tally.finish(ms(10 * n), ms(10 * n), ms(10 * n + 1), outcome);
    }
    tally
}

fn report(load: Load, runs: Vec<Run>) -> Report {
    let options = Options {
        server: "localhost".parse().unwrap(),
        load,
        duration: ms(1000),
        warm_up: ms(0),
        connections: 1.try_into().unwrap(),
        callers: 2.try_into().unwrap(),
        threads: 1.try_into().unwrap(),
        mix: Mix::GetSet { gets: 9, sets: 1 },
        pipeline: 2.try_into().unwrap(),
        keys: 1000.try_into().unwrap(),
        key_prefix: "p:".to_owned(),
        value_bytes: 100,
        delay: Some(super::super::Delay { min: ms(1), max: ms(2) }),
        seed: 1,
        phases: true,
    };
    let server = Server {
        address: "localhost:6379".to_owned(),
        software: Some("valkey 8.0.1".to_owned()),
        protocol: Some(3),
    };
    Report::new(server, &options, runs, false)
}

fn at_rate() -> Load {
    Load::Open(Arrivals::Constant(100.0))
}

#[test]
fn rates_are_over_the_time_that_was_measured() {
    let run = run(&tally(100), None);
    assert_eq!((run.scheduled, run.answered, run.null_replies), (100, 100, 100));
    assert_eq!((run.rate, run.commands_rate, run.target_rate), (100.0, 200.0, Some(100.0)));
    assert_eq!(run.cpu_us_per_request, Some(400.0));
    assert_eq!(run.histogram.iter().map(|bin| bin.count).sum::<u64>(), run.latency_us.count);
    assert!((999.0..=1001.0).contains(&run.latency_us.p99_99.unwrap()));
    assert!(run.kept_up);
}

#[test]
fn a_hundredth_may_fail_and_more_says_nothing() {
    let meaningless = |answered| report(at_rate(), vec![run(&tally(answered), None)]).meaningless;
    assert_eq!(meaningless(99), None);
    assert_eq!(meaningless(98).unwrap(), "2 of 100 requests failed");
    assert_eq!(meaningless(0).unwrap(), "nothing was answered");
}

#[test]
fn a_load_that_fell_behind_says_so_and_why() {
    let mut behind = tally(100);
    for n in 0..2 {
        behind.never_started(ms(n), ms(2000));
    }
    behind.waited_for_caller = 2;
    let run = run(&behind, None);
    assert!(!run.kept_up);
    assert_eq!((run.scheduled, run.started, run.not_started), (102, 100, 2));
    assert!(run.latency_us.max.unwrap() > 1_990_000.0);
    let warnings = report(at_rate(), vec![run]).warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("fell behind its schedule"), "{warnings:?}");
    assert!(warnings[0].contains("2 not at all; all callers were busy"), "{warnings:?}");
}

#[test]
fn the_json_is_one_line_with_documented_names() {
    let runs = vec![run(&tally(99), Some(0.5)), run(&Tally::new(), Some(0.9))];
    let peak = Load::PeakAndShares { shares: vec![0.5, 0.9], poisson: false };
    let text = report(peak, runs).to_json();
    assert!(!text.contains('\n'));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["format"], &json["peak_rate"]), (&1.into(), &99.0.into()));
    assert_eq!(json["settings"]["delay_us"], serde_json::json!([1000.0, 2000.0]));
    assert_eq!(json["runs"][0]["mode"], "open-loop");
    assert_eq!(json["runs"][0]["errors"]["closed"], 1);
    assert_eq!(json["runs"][0]["share_of_peak"], 0.5);
    assert!(json["runs"][1]["latency_us"]["p50"].is_null(), "nothing was measured");
    assert_eq!(json["runs"][1]["latency_us"]["count"], 0);
    assert_eq!(json["meaningless"], "nothing was answered");
}

#[test]
fn the_table_has_a_column_a_run() {
    let runs = vec![run(&tally(99), Some(0.5)), run(&tally(100), None)];
    let text = report(at_rate(), runs).to_string();
    for expected in [
        "valkey 8.0.1 at localhost:6379, RESP3",
        "GET:SET 9:1, 2 commands a request; 1,000 keys of 100 bytes; 1 connection, 2 callers, 1 thread",
        "a delay of 1.00 ms to 2.00 ms injected in each direction",
        "50 % of the peak",
        "100/s",
        "closed: 1",
        "latency, p99.99",
        "100.000 %",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
}

#[test]
fn numbers_are_written_for_people() {
    assert_eq!([grouped(0), grouped(999), grouped(1000)], ["0", "999", "1,000"]);
    assert_eq!(grouped(1_234_567), "1,234,567");
    assert_eq!([rounded(0.5), rounded(50.0), rounded(12345.6)], ["0.5", "50", "12,346"]);
    assert_eq!(time(Some(999.94)), "999.9 µs");
    assert_eq!([time(Some(1500.0)), time(Some(2e6)), time(None)], ["1.50 ms", "2.00 s", "-"]);
}
