//! `respire bench` as a person or a script runs it, against real servers.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use respire::{Client, Config};
use respire_cli::local_server::{Flavour, LocalServer};
use serde_json::Value;

/// How long anything may take to get somewhere.
const PATIENCE: Duration = Duration::from_secs(60);

fn respire(url: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_respire"));
    command.args(["bench", url]).args(args).stdin(Stdio::null());
    command
}

fn run(url: &str, args: &[&str]) -> Output {
    respire(url, args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The one JSON object that stands on standard output, and nothing else does.
fn json(output: &Output) -> Value {
    let stdout = text(&output.stdout);
    assert_eq!(stdout.lines().count(), 1, "{output:?}");
    serde_json::from_str(&stdout).unwrap()
}

/// Runs a load test that is to succeed, and checks what holds for every one.
fn measure(url: &str, args: &[&str]) -> Value {
    let output = run(url, &[args, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = json(&output);
    check(&report);
    assert_eq!((&report["meaningless"], &report["interrupted"]), (&Value::Null, &false.into()));
    report
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no count"))
}

/// What the documentation says of every report.
fn check(report: &Value) {
    assert_eq!(report["format"], 1);
    for run in report["runs"].as_array().unwrap() {
        let errors = run["errors"].as_object().unwrap();
        let failed: u64 = errors.values().map(count).sum();
        let lower_bounds: u64 =
            ["timeout", "unanswered"].iter().filter_map(|kind| errors.get(*kind)).map(count).sum();
        let [scheduled, started, not_started, answered] =
            ["scheduled", "started", "not_started", "answered"].map(|name| count(&run[name]));
        assert_eq!(scheduled, started + not_started, "{run}");
        assert_eq!(started, answered + failed, "{run}");
        let latency = &run["latency_us"];
        assert_eq!(count(&latency["count"]), answered + lower_bounds + not_started, "{run}");
        assert_eq!(count(&run["service_us"]["count"]), answered + lower_bounds, "{run}");
        assert_eq!(count(&run["start_delay_us"]["count"]), started, "{run}");
        let bins = run["histogram"].as_array().unwrap();
        assert_eq!(
            bins.iter().map(|bin| count(&bin["count"])).sum::<u64>(),
            count(&latency["count"])
        );
        for times in ["latency_us", "service_us", "start_delay_us"].map(|name| &run[name]) {
            let order = ["min", "p50", "p90", "p99", "p99_9", "p99_99", "max"];
            let order = order.map(|name| times[name].as_f64());
            assert!(order.is_sorted(), "{times}");
        }
    }
}

/// A server of the test's own.
struct Server {
    server: LocalServer,
    runtime: tokio::runtime::Runtime,
}

impl Server {
    fn start(flavour: Flavour) -> Self {
        let server = LocalServer::builder(flavour).tcp().start();
        let server = server.expect("both servers are needed for the tests");
        Self { server, runtime: tokio::runtime::Runtime::new().unwrap() }
    }

    fn tcp(&self) -> String {
        self.server.tcp_url().unwrap()
    }

    fn ask<T: for<'a> respire::FromValue<'a>>(&self, words: &[&str]) -> T {
        let (name, args) = words.split_first().unwrap();
        let command = respire::Command::new(name).args(args.iter().copied());
        self.runtime.block_on(async {
            let config: Config = self.server.url().parse().unwrap();
            Client::with_config(config).await.unwrap().query(command).await.unwrap()
        })
    }

    fn keys(&self) -> Vec<String> {
        self.ask(&["KEYS", "*"])
    }

    /// How often a command was called, by anybody.
    fn calls(&self, command: &str) -> u64 {
        let info: String = self.ask(&["INFO", "commandstats"]);
        let line = format!("cmdstat_{command}:calls=");
        let calls = info.lines().find_map(|found| found.strip_prefix(&line));
        calls.map_or(0, |calls| calls.split(',').next().unwrap().parse().unwrap())
    }
}

const SHORT: [&str; 4] = ["--duration", "500ms", "--warmup", "100ms"];

#[test]
fn every_request_of_the_schedule_is_sent_once() {
    for flavour in Flavour::ALL {
        for (protocol, args) in [("2", &[][..]), ("3", &["--threads", "2", "--connections", "3"])] {
            let server = Server::start(flavour);
            let wanted = ["--rate", "600", "--keys", "50", "--protocol", protocol];
            let report = measure(&server.tcp(), &[&SHORT, &wanted[..], args].concat());
            let run = &report["runs"][0];
            assert_eq!(run["scheduled"], 300, "{run}");
            // Only a machine that stands still for a second leaves one over.
            let left_over = count(&run["not_started"]);
            assert_eq!(count(&run["answered"]), 300 - left_over, "{run}");
            assert_eq!((&run["mode"], &run["arrivals"]), (&"open-loop".into(), &"constant".into()));
            assert_eq!((&run["null_replies"], &run["target_rate"]), (&0.into(), &600.0.into()));
            assert_eq!(report["server"]["protocol"].to_string(), protocol);
            let software = report["server"]["software"].as_str().unwrap();
            assert!(flavour.program().starts_with(software.split(' ').next().unwrap()));
            // The warm-up's 60 requests count nothing and are sent; 50 keys were written before.
            assert_eq!(server.calls("get") + server.calls("set"), 360 + 50 - left_over);
            assert!(server.calls("get") > server.calls("set") - 50);
            assert_eq!(server.keys(), [""; 0]);
        }
    }
}

#[test]
fn the_peak_is_found_and_then_shares_of_it_are_run() {
    let server = Server::start(Flavour::Valkey);
    let wanted = ["--find-peak", "--at", "10%,20%", "--callers", "8", "--delay", "500us..1ms"];
    let report = measure(&server.server.url(), &[&SHORT, &wanted[..]].concat());
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3);
    assert_eq!((&runs[0]["mode"], &runs[0]["target_rate"]), (&"closed-loop".into(), &Value::Null));
    assert_eq!(runs[0]["rate"], report["peak_rate"]);
    let peak = report["peak_rate"].as_f64().unwrap();
    for (run, share) in [(&runs[1], 0.1), (&runs[2], 0.2)] {
        assert_eq!(run["share_of_peak"], share);
        let target = run["target_rate"].as_f64().unwrap();
        assert!((target / (peak * share) - 1.0).abs() < 1e-9, "{run}");
        let expected = peak * share / 2.0;
        assert!((run["scheduled"].as_f64().unwrap() - expected).abs() <= 1.0, "{run}");
    }
    // Nothing is faster than both delays; of that, a machine can only take more.
    for run in runs {
        assert!(run["service_us"]["min"].as_f64().unwrap() >= 1000.0, "{run}");
    }
    assert_eq!(server.keys(), [""; 0]);
}

#[test]
fn pipelines_count_their_commands() {
    let server = Server::start(Flavour::Redis);
    let wanted = ["--rate", "100", "--pipeline", "7", "--warmup", "0", "--duration", "500ms"];
    let report = measure(&server.tcp(), &[&wanted[..], &["--ratio", "0:1"]].concat());
    let run = &report["runs"][0];
    assert_eq!(run["scheduled"], 50);
    let (rate, commands) = (run["rate"].as_f64().unwrap(), run["commands_rate"].as_f64().unwrap());
    assert!((commands / rate - 7.0).abs() < 0.001, "{run}");
    assert_eq!((server.calls("set"), server.calls("get")), (7 * count(&run["started"]), 0));
}

#[test]
fn phases_are_those_of_every_request() {
    let server = Server::start(Flavour::Valkey);
    let wanted = ["--rate", "500", "--phases", "--threads", "2", "--connections", "2"];
    let report = measure(&server.tcp(), &[&SHORT, &wanted[..]].concat());
    let client = &report["runs"][0]["client"];
    // Those of the warm-up too.
    let sent = 300 - count(&report["runs"][0]["not_started"]);
    assert_eq!((&client["requests"], &client["retried"]), (&sent.into(), &0.into()));
    for phase in ["queue_us", "server_us", "wake_up_us", "total_us"] {
        assert_eq!(client[phase]["count"], sent, "{client}");
        assert!(client[phase]["p50"].as_f64() <= client[phase]["max"].as_f64(), "{client}");
    }
    assert!((1..=sent).contains(&count(&client["sends"])), "{client}");
    assert!(count(&client["bytes_sent"]) > sent * 30, "{client}");

    let output = run(&server.tcp(), &[&SHORT, &["--phases"][..]].concat());
    let stdout = text(&output.stdout);
    for expected in ["server and network, p99", "wake-up, p50", "requests a send"] {
        assert!(stdout.contains(expected), "{expected:?} is not in\n{stdout}");
    }
    assert!(measure(&server.tcp(), &SHORT)["runs"][0]["client"].is_null());
}

#[test]
fn poisson_arrivals_are_those_of_the_seed() {
    let server = Server::start(Flavour::Valkey);
    let scheduled = |seed: &str| {
        let wanted = ["--rate", "2000", "--poisson", "--seed", seed, "--command", "ECHO x"];
        let report = measure(&server.tcp(), &[&SHORT, &wanted[..]].concat());
        assert_eq!(report["runs"][0]["arrivals"], "poisson");
        count(&report["runs"][0]["scheduled"])
    };
    let first = scheduled("1");
    assert_eq!(first, scheduled("1"));
    // Five standard deviations of a Poisson count of 1,000.
    assert!((842..=1158).contains(&first), "{first}");
}

#[test]
fn custom_commands_are_sent_as_they_are_and_their_keys_removed() {
    let server = Server::start(Flavour::Valkey);
    let _: String = server.ask(&["SET", "respire-bench:mine", "kept"]);
    let wanted = ["--rate", "400", "--command", "HSET {key} field {value}", "--keys", "3"];
    let report =
        measure(&server.tcp(), &[&SHORT, &wanted[..], &["--command", "ECHO hello"]].concat());
    assert_eq!(report["settings"]["commands"], "HSET {key} field {value} | ECHO hello");
    let left_over = count(&report["runs"][0]["not_started"]);
    assert_eq!(server.calls("hset") + server.calls("echo"), 240 - left_over);
    assert!(server.calls("hset") > 60 && server.calls("echo") > 60);
    assert_eq!(server.keys(), ["respire-bench:mine"]);
}

#[test]
fn keys_stay_when_asked_to_and_their_prefix_is_said() {
    let server = Server::start(Flavour::Redis);
    let wanted = ["--keys", "20", "--keep", "--value-size", "11", "--key-prefix", "mine:"];
    let output = run(&server.tcp(), &[&SHORT, &wanted[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let stderr = text(&output.stderr);
    let line = stderr.lines().find(|line| line.contains("its keys begin with")).unwrap();
    let prefix = line.split(' ').find(|word| word.starts_with("mine:")).unwrap();
    assert!(line.ends_with("and are left there"), "{line}");
    let keys = server.keys();
    assert_eq!(keys.len(), 20);
    assert!(keys.iter().all(|key| key.starts_with(prefix)), "{keys:?} and {prefix}");
    let value: String = server.ask(&["GET", &keys[0]]);
    assert_eq!(value.len(), 11);
}

#[test]
fn without_json_a_table_and_a_plot_stand_on_standard_output() {
    let server = Server::start(Flavour::Valkey);
    let output = run(&server.tcp(), &SHORT);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let stdout = text(&output.stdout);
    for expected in ["valkey ", " at 127.0.0.1:", "latency, p99.9", "1,000/s", "█", "100.000 %"] {
        assert!(stdout.contains(expected), "{expected:?} is not in\n{stdout}");
    }
    let stderr = text(&output.stderr);
    assert!(!stderr.contains('\r') && !stderr.contains('\x1b'), "no progress bar: {stderr:?}");
}

#[test]
fn what_the_client_does_not_send_ends_the_run() {
    let server = Server::start(Flavour::Valkey);
    let output = run(&server.tcp(), &[&SHORT, &["--command", "SELECT 1"][..]].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("changes the shared connection"), "{output:?}");
    assert_eq!(server.calls("select"), 0);
}

#[test]
fn errors_of_the_server_are_counted_and_make_the_figures_worthless() {
    for pipeline in ["1", "3"] {
        let server = Server::start(Flavour::Valkey);
        let wanted =
            ["--rate", "200", "--command", "NOSUCHCOMMAND", "--pipeline", pipeline, "--json"];
        let output = run(&server.tcp(), &[&SHORT, &wanted[..]].concat());
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let report = json(&output);
        check(&report);
        let run = &report["runs"][0];
        assert_eq!(run["scheduled"], 100);
        assert_eq!(run["errors"]["server: ERR"], run["started"]);
        assert_eq!(report["meaningless"], "nothing was answered");
        assert!(text(&output.stderr).contains("the figures say nothing"), "{output:?}");
    }
}

/// A load test under way.
struct Running(Child);

impl Running {
    fn start(url: &str, args: &[&str]) -> Self {
        let mut command = respire(url, args);
        Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn wait(mut self) -> Output {
        let began = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < PATIENCE, "respire has not ended within {PATIENCE:?}");
            thread::sleep(Duration::from_millis(5));
        }
        let mut output =
            Output { status: self.0.wait().unwrap(), stdout: Vec::new(), stderr: Vec::new() };
        use std::io::Read;
        self.0.stdout.take().unwrap().read_to_end(&mut output.stdout).unwrap();
        self.0.stderr.take().unwrap().read_to_end(&mut output.stderr).unwrap();
        output
    }

    fn signal(&self, name: &str) {
        signal(self.0.id(), name);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn signal(process_id: u32, name: &str) {
    let script = format!("kill -{name} {process_id}");
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_server_that_dies_is_counted_and_the_run_ends() {
    for load in [&["--rate", "500"][..], &["--closed-loop", "--callers", "4"]] {
        let mut server = Server::start(Flavour::Valkey);
        let rest = ["--duration", "5s", "--warmup", "0", "--json"];
        let running = Running::start(&server.tcp(), &[load, &rest[..]].concat());
        wait_until("the load", || server.calls("get") > 100);
        server.server.kill();
        let output = running.wait();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let report = json(&output);
        check(&report);
        let run = &report["runs"][0];
        assert!(count(&run["answered"]) > 0, "{run}");
        let errors = run["errors"].as_object().unwrap();
        assert!(errors.contains_key("connect"), "{errors:?}");
        assert!(report["meaningless"].as_str().unwrap().ends_with("requests failed"));
        assert!(text(&output.stderr).contains("the keys could not all be removed"), "{output:?}");
    }
}

#[test]
fn a_stall_of_the_server_is_charged_to_all_that_came_in_it() {
    let server = Server::start(Flavour::Valkey);
    // With one caller, the rest of what arrives in the stall can only wait.
    for callers in ["1", "1000"] {
        let args = ["--rate", "500", "--duration", "4s", "--warmup", "0", "--callers", callers];
        let before = server.calls("get");
        let running = Running::start(&server.tcp(), &[&args[..], &["--json"]].concat());
        wait_until("the load", || server.calls("get") > before + 50);
        let server_process = server.server.process_id().unwrap();
        signal(server_process, "STOP");
        thread::sleep(Duration::from_millis(600));
        signal(server_process, "CONT");
        let output = running.wait();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let report = json(&output);
        check(&report);
        let run = &report["runs"][0];
        assert_eq!(run["scheduled"], 2000);
        // 300 of 2,000 came in the 600 ms, 250 of them with 100 ms of it left.
        assert!(run["latency_us"]["p90"].as_f64().unwrap() > 100_000.0, "{run}");
        assert!(run["latency_us"]["max"].as_f64().unwrap() > 590_000.0, "{run}");
        if callers == "1" {
            // From their starts, most of them look well.
            assert!(run["service_us"]["p90"].as_f64() < run["latency_us"]["p90"].as_f64(), "{run}");
            let waited = count(&run["waited_for_caller"]) + count(&run["not_started"]);
            assert!(waited >= 250, "{run}");
            assert_eq!(run["kept_up"], false);
            assert!(text(&output.stderr).contains("fell behind its schedule"), "{output:?}");
        }
    }
}

#[test]
fn ctrl_c_ends_the_run_and_shows_what_was_measured() {
    let server = Server::start(Flavour::Redis);
    let args = ["--rate", "500", "--duration", "1h", "--warmup", "0", "--json"];
    let running = Running::start(&server.tcp(), &args);
    wait_until("the load", || server.calls("get") > 100);
    running.signal("INT");
    let output = running.wait();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let report = json(&output);
    check(&report);
    assert_eq!(report["interrupted"], true);
    let scheduled = count(&report["runs"][0]["scheduled"]);
    assert!((90..500 * PATIENCE.as_secs()).contains(&scheduled), "{scheduled}");
    assert_eq!(server.keys(), [""; 0]);
}

#[test]
fn bad_options_and_servers_that_are_not_there_give_clear_errors() {
    let output = run("localhost", &["--rate", "fast"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("expected a number of requests a second"));
    let output = run("localhost", &["--threads", "2"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("needs one of the --connections"), "{output:?}");
    let output = run("http://user:hunter2@host", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!text(&output.stderr).contains("hunter2"), "{output:?}");

    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let output = run(&nobody.to_string(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no connection: cannot connect to"), "{output:?}");
}
