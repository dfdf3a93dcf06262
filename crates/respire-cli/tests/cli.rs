//! The binary as a person or a script runs it.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use respire::{Address, Client, Config};
use respire_cli::local_server::{Flavour, LocalServer};
use serde_json::Value;
use tempfile::TempDir;

/// How long a replay may take to get somewhere.
const PATIENCE: Duration = Duration::from_secs(60);

fn respire(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_respire"));
    command.arg("replay").args(args).stdin(Stdio::null());
    command.env_remove("VALKEY_ADDR").env_remove("VALKEY_ENABLE_RDMA");
    command
}

fn run(args: &[&str]) -> Output {
    respire(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The one JSON object that stands on standard output, and nothing else does.
fn json(output: &Output) -> Value {
    let stdout = text(&output.stdout);
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    serde_json::from_str(&stdout).unwrap()
}

fn line(timestamp: u64, ids: &[u64]) -> String {
    let tokens = 512 * ids.len();
    format!(
        r#"{{"timestamp":{timestamp},"input_length":{tokens},"output_length":1,"hash_ids":{ids:?}}}"#
    ) + "\n"
}

/// A server of the test's own, asked without a word of the index.
struct Server {
    server: LocalServer,
    runtime: tokio::runtime::Runtime,
}

impl Server {
    fn start(flavour: Flavour) -> Self {
        Self::with_args(flavour, &[])
    }

    fn with_args(flavour: Flavour, args: &[&str]) -> Self {
        let builder = LocalServer::builder(flavour).tcp().args(args.iter().copied());
        let server = builder.start().expect("both servers are needed for the tests");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        Self { server, runtime }
    }

    fn url(&self) -> String {
        self.server.url()
    }

    fn client(&self) -> Client {
        let path = self.server.socket_path().to_owned();
        let config = Config::new(Address::Unix(path));
        self.runtime.block_on(Client::with_config(config)).unwrap()
    }

    fn run(&self, words: &[&str]) {
        let (name, args) = words.split_first().unwrap();
        let command = respire::Command::new(name).args(args.iter().copied());
        self.runtime.block_on(self.client().execute(command)).unwrap();
    }

    fn keys(&self) -> Vec<String> {
        let command = respire::Command::new("KEYS").arg("*");
        self.runtime.block_on(self.client().query(command)).unwrap()
    }

    fn wait_for_keys(&self, enough: usize) {
        wait_until("writing to the server", || self.keys().len() >= enough);
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A replay of a trace that the test writes as it goes along.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Running {
    fn start(args: &[&str], lines: &[String]) -> Self {
        Self::spawn(respire(args), lines)
    }

    fn spawn(mut command: Command, lines: &[String]) -> Self {
        command.args(["--trace", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let mut running = Self { child, stdin };
        running.send(lines);
        running
    }

    fn send(&mut self, lines: &[String]) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(lines.concat().as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for its end, with standard input left open.
    fn wait(mut self) -> Output {
        let status = self.wait_status();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        self.child.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
        self.child.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
        Output { status, stdout, stderr }
    }

    fn wait_status(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "respire has not ended within {PATIENCE:?}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn finish(mut self) -> Output {
        self.stdin = None;
        self.wait()
    }
}

fn signal(process_id: u32, name: &str) {
    let script = format!("kill -{name} {process_id}");
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn json_stands_alone_on_standard_output() {
    let output = run(&["--store", "memory", "--limit", "200", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = json(&output);
    let fields: Vec<_> = report.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = [
        "requests",
        "blocks",
        "block_hit_rate",
        "ttft_s",
        "requests_per_pod",
        "adds",
        "evicts",
        "lookup_us",
        "store",
        "route",
        "false_hits",
        "missed_blocks",
    ];
    expected.sort_unstable();
    assert_eq!(fields, expected);
    assert_eq!((&report["requests"], &report["store"]), (&200.into(), &"memory".into()));
    assert_eq!((&report["false_hits"], &report["missed_blocks"]), (&0.into(), &0.into()));

    let stderr = text(&output.stderr);
    assert!(stderr.contains("replaying 200 requests of the built-in generator"), "{stderr}");
    assert!(stderr.contains("block hit rate"), "the table is there too: {stderr}");
    assert!(!stderr.contains('\r') && !stderr.contains('\x1b'), "no progress bar: {stderr:?}");
}

#[test]
fn without_json_the_table_stands_on_standard_output() {
    let output = run(&["--store", "memory", "--limit", "50", "--route", "load"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let stdout = text(&output.stdout);
    assert!(stdout.contains("block hit rate") && stdout.contains("load"), "{stdout}");
    assert!(!text(&output.stderr).contains("block hit rate"));
}

#[test]
fn the_generated_workload_is_the_same_in_every_run() {
    let args = ["--store", "memory", "--limit", "300", "--capacity", "300", "--json"];
    let report = || {
        let mut report = json(&run(&args));
        assert!(report.as_object_mut().unwrap().remove("lookup_us").is_some());
        report
    };
    assert_eq!(report(), report());
}

#[test]
fn auto_starts_a_private_server_and_leaves_nothing_behind() {
    for flavour in Flavour::ALL {
        let (programs, scratch) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        link_program(flavour.program(), programs.path());
        link_program("sh", programs.path());
        link_program("rm", programs.path());
        let mut command = respire(&["--limit", "100", "--json"]);
        command.env("PATH", programs.path()).env("TMPDIR", scratch.path());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(json(&output)["store"], flavour.program());
        let note = format!("started a private {}", flavour.program());
        assert!(text(&output.stderr).contains(&note), "{output:?}");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    }
}

#[test]
fn auto_falls_back_to_memory_and_says_so() {
    let empty = TempDir::new().unwrap();
    let output = respire(&["--limit", "50", "--json"]).env("PATH", empty.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(json(&output)["store"], "memory");
    let stderr = text(&output.stderr);
    for expected in [
        "no `valkey-server` on PATH",
        "no `redis-server`",
        "there is no server to start, so the index is in memory",
    ] {
        assert!(stderr.contains(expected), "{stderr}");
    }
}

#[test]
fn auto_tells_a_server_that_fails_from_one_that_is_missing() {
    let programs = TempDir::new().unwrap();
    write_program("valkey-server", "exit 3", programs.path());
    link_program("sh", programs.path());
    let mut command = respire(&["--limit", "50", "--json"]);
    let output = command.env("PATH", programs.path()).output().unwrap();
    assert_eq!(json(&output)["store"], "memory");
    let stderr = text(&output.stderr);
    for expected in [
        "`valkey-server` ended at its start (exit status: 3) and said nothing\n",
        "no `redis-server`",
        "no server could be started, so the index is in memory",
    ] {
        assert!(stderr.contains(expected), "{stderr}");
    }
}

#[test]
fn auto_prefers_the_address_in_valkey_addr() {
    let server = Server::start(Flavour::Valkey);
    let address = server.server.tcp_address().unwrap().to_string();
    let mut command = respire(&["--limit", "100", "--json"]);
    let output = command.env("VALKEY_ADDR", &address).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(json(&output)["store"], *address);
    let note = format!("store: VALKEY_ADDR, {address}\n");
    assert!(text(&output.stderr).contains(&note), "{output:?}");
    assert_eq!(server.keys(), [""; 0]);
}

#[test]
fn a_variable_that_cannot_be_followed_is_an_error_and_not_passed_over() {
    use std::os::unix::ffi::OsStrExt;
    let not_text = std::ffi::OsStr::from_bytes(b"host\xff:6379");
    for (name, value, reason) in [
        ("VALKEY_ADDR", not_text, "VALKEY_ADDR"),
        ("VALKEY_ENABLE_RDMA", "perhaps".as_ref(), "VALKEY_ENABLE_RDMA"),
    ] {
        let output = respire(&["--limit", "1"]).env(name, value).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains(reason), "{output:?}");
        // A store that was chosen asks no variable.
        let mut command = respire(&["--limit", "1", "--store", "memory"]);
        assert_eq!(command.env(name, value).output().unwrap().status.code(), Some(0));
    }
}

#[cfg(all(feature = "rdma", target_os = "linux"))]
#[test]
fn rdma_is_what_is_dialled_where_it_is_asked_for() {
    // Whatever this machine has, nothing leads there.
    for args in [&["--limit", "1"][..], &["--limit", "1", "--store", "valkey+rdma://127.0.0.1:1"]] {
        let mut command = respire(args);
        command.env("VALKEY_ADDR", "valkey://127.0.0.1:1").env("VALKEY_ENABLE_RDMA", "true");
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = text(&output.stderr);
        assert!(said.contains("the transport cannot be connected"), "{said}");
    }
}

#[test]
fn an_address_where_no_server_is_fails_and_does_not_fall_back() {
    let mut server = Server::start(Flavour::Valkey);
    let address = server.server.tcp_address().unwrap().to_string();
    server.server.kill();
    let output = respire(&["--limit", "1"]).env("VALKEY_ADDR", &address).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr = text(&output.stderr);
    assert!(stderr.contains("the server cannot be used") && stderr.contains(&address), "{stderr}");
}

#[test]
fn a_password_is_used_and_never_shown() {
    let server = Server::with_args(Flavour::Redis, &[]);
    server.run(&["CONFIG", "SET", "requirepass", "hunter2"]);
    let address = server.server.tcp_address().unwrap();
    for (password, code) in [("hunter2", 0), ("hunter3", 1)] {
        let url = format!("redis://:{password}@{address}");
        let output = run(&["--store", &url, "--limit", "50", "--json"]);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(!format!("{output:?}").contains("hunter"), "{output:?}");
    }
    for url in ["redis://:hunter2@host:port", "http://:hunter2@host"] {
        let output = run(&["--store", url]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(!format!("{output:?}").contains("hunter"), "{output:?}");
    }
}

#[test]
fn a_wrong_line_is_reported_with_its_number_and_the_keys_are_removed() {
    let server = Server::start(Flavour::Valkey);
    let good = line(0, &[1, 2, 3]);
    for (wrong, reason) in [
        (
            "{\"timestamp\": 1\n",
            "standard input: the trace cannot be replayed: \
             line 3: EOF while parsing an object (column 15)\n",
        ),
        (&line(0, &[])[..], "line 3: `hash_ids` is empty\n"),
    ] {
        let running = Running::start(
            &["--store", &server.url()],
            &[good.clone(), good.clone(), wrong.into()],
        );
        let output = running.finish();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output.stderr).contains(reason), "{output:?}");
        assert_eq!(text(&output.stdout), "");
        assert_eq!(server.keys(), [""; 0]);
    }
    let backwards = [line(5, &[1]), line(4, &[1])];
    let output = Running::start(&["--store", "memory"], &backwards).finish();
    let reason = "line 2: the timestamp goes backwards, from 5 to 4";
    assert!(text(&output.stderr).contains(reason), "{output:?}");
}

#[test]
fn a_trace_may_come_from_a_file_or_from_standard_input() {
    let lines = [line(0, &[1, 2]), line(1000, &[1, 2]), line(2000, &[1, 3])];
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), lines.concat()).unwrap();
    let args = ["--store", "memory", "--json", "--pods", "1"];
    let path = file.path().to_str().unwrap();
    let from_file = json(&run(&[&args[..], &["--trace", path]].concat()));
    let from_stdin = json(&Running::start(&args, &lines).finish());
    for report in [from_file, from_stdin] {
        assert_eq!(report["block_hit_rate"], 0.5);
        assert_eq!(report["adds"], 3);
    }
    let limited = json(&run(&[&args[..], &["--trace", path, "--limit", "1"]].concat()));
    assert_eq!((&limited["requests"], &limited["blocks"]), (&1.into(), &2.into()));
}

#[test]
fn a_trace_may_come_through_a_named_pipe() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let trace = path.to_str().unwrap();
    let mut command = respire(&["--store", "memory", "--json", "--trace", trace]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Opening it waits until the replay has opened it as well.
    let lines = [line(0, &[1, 2]), line(1000, &[1, 2])];
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .write_all(lines.concat().as_bytes())
        .unwrap();
    let output = Running { child, stdin: None }.wait();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(json(&output)["requests"], 2);
}

#[test]
fn a_trace_that_is_missing_or_empty_is_an_error_with_its_name() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let empty = file.path().to_str().unwrap();
    for (trace, reason) in [
        ("no/such/trace.jsonl", "no/such/trace.jsonl: the trace cannot be opened".to_owned()),
        ("/", "/: the trace cannot be opened: is a directory".to_owned()),
        (empty, format!("{empty}: the trace holds no request")),
        ("-", "standard input: the trace holds no request".to_owned()),
    ] {
        let output = run(&["--store", "memory", "--trace", trace]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output.stderr).contains(&reason), "{output:?}");
    }
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for args in [&["--pods", "0"][..], &["--store", "http://x"], &["--no-such"], &["--route", "x"]]
    {
        assert_eq!(run(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn a_database_with_keys_is_refused_and_left_as_it_is() {
    let server = Server::start(Flavour::Redis);
    server.run(&["SET", "theirs", "1"]);
    let url = server.url();
    let output = run(&["--store", &url, "--limit", "10"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("already holds 1 keys"), "{output:?}");
    let output = run(&["--store", &url, "--limit", "10", "--allow-non-empty", "--writers", "2"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(server.keys(), ["theirs"]);
}

#[test]
fn a_foreign_value_that_has_taken_a_keys_place_stays() {
    let server = Server::start(Flavour::Valkey);
    let url = server.url();
    let running = Running::start(&["--store", &url], &[line(0, &[1, 2, 3])]);
    server.wait_for_keys(6);
    let taken = server.keys().into_iter().find(|key| !key.starts_with("engine:")).unwrap();
    server.run(&["SET", &taken, "theirs"]);
    let output = running.finish();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(server.keys(), [taken]);
}

#[test]
fn another_database_of_the_same_server_is_its_own() {
    let server = Server::start(Flavour::Valkey);
    server.run(&["SET", "theirs", "1"]);
    let url = format!("{}/3", server.server.tcp_url().unwrap());
    let output = run(&["--store", &url, "--limit", "10", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(json(&output)["store"].as_str().unwrap().ends_with(", database 3"), "{output:?}");
    assert_eq!(server.keys(), ["theirs"]);
}

#[test]
fn an_interrupt_removes_the_keys_while_the_trace_is_silent() {
    let server = Server::start(Flavour::Valkey);
    server.run(&["SET", "theirs", "1"]);
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        for more in [&[][..], &["--writers", "4"]] {
            let url = server.url();
            let args = [&["--store", &url, "--allow-non-empty", "--json"], more].concat();
            let running = Running::start(&args, &[line(0, &[1, 2, 3])]);
            server.wait_for_keys(7);
            running.signal(signal);
            let output = running.wait();
            assert_eq!(output.status.code(), Some(code), "{output:?}");
            let notice = "removing the keys of 3 blocks; press again to leave them\n";
            assert!(text(&output.stderr).contains(notice), "{output:?}");
            assert_eq!(server.keys(), ["theirs"]);
            assert_eq!(text(&output.stdout), "");
        }
    }
}

#[test]
fn an_interrupt_removes_the_keys_in_the_midst_of_work() {
    let server = Server::start(Flavour::Redis);
    for more in [&[][..], &["--writers", "4"]] {
        let url = server.url();
        let mut command = respire(&["--store", &url, "--limit", "1000000"]);
        command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let running = Running { child, stdin: None };
        server.wait_for_keys(200);
        running.signal("INT");
        let output = running.wait();
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        assert_eq!(server.keys(), [""; 0]);
    }
}

#[test]
fn a_second_interrupt_leaves_the_keys_and_says_whose_they_are() {
    let server = Server::start(Flavour::Valkey);
    let mut running = Running::start(&["--store", &server.url()], &[line(0, &[1, 2, 3])]);
    server.wait_for_keys(6);
    let fields = |key: &str| {
        let command = respire::Command::new("HKEYS").arg(key);
        let fields: Vec<String> = server.runtime.block_on(server.client().query(command)).unwrap();
        fields.concat()
    };
    let key = server.keys().into_iter().find(|key| !key.starts_with("engine:")).unwrap();
    let field = fields(&key);

    // A server that does not answer holds the removal up.
    signal(server.server.process_id().unwrap(), "STOP");
    running.signal("INT");
    let mut stderr = BufReader::new(running.child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("interrupted: removing the keys of 3 blocks; press again"), "{line}");
    running.signal("INT");
    assert_eq!(running.wait_status().code(), Some(130));
    line.clear();
    stderr.read_line(&mut line).unwrap();
    let (_, pods) = line.trim_end().rsplit_once(' ').unwrap();
    assert!(line.contains("may still hold keys") && pods.starts_with("replay-"), "{line}");
    assert!(field.contains(pods.strip_suffix('*').unwrap()), "{field} is not of {pods}");
    signal(server.server.process_id().unwrap(), "CONT");
}

#[test]
fn an_interrupt_ends_the_start_of_a_private_server_at_once() {
    let (programs, scratch) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    write_program("valkey-server", "exec sleep 1000", programs.path());
    for name in ["sh", "sleep", "rm"] {
        link_program(name, programs.path());
    }
    let mut command = respire(&[]);
    command.env("PATH", programs.path()).env("TMPDIR", scratch.path());
    let running = Running::spawn(command, &[line(0, &[1, 2, 3])]);
    wait_until("the private server", || fs::read_dir(scratch.path()).unwrap().count() == 1);
    let began = Instant::now();
    running.signal("INT");
    let output = running.wait();
    // Far from the time that a server is given to start, which is half a minute.
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(text(&output.stderr).contains("interrupted"), "{output:?}");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[test]
fn an_interrupt_stops_the_private_server() {
    let scratch = TempDir::new().unwrap();
    let mut command = respire(&[]);
    command.env("TMPDIR", scratch.path());
    let running = Running::spawn(command, &[line(0, &[1, 2, 3])]);
    wait_until("the private server", || fs::read_dir(scratch.path()).unwrap().count() == 1);
    running.signal("INT");
    let output = running.wait();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[test]
fn even_a_killed_replay_leaves_no_private_server() {
    let scratch = TempDir::new().unwrap();
    let mut command = respire(&[]);
    command.env("TMPDIR", scratch.path());
    let mut running = Running::spawn(command, &[line(0, &[1, 2, 3])]);
    let mut note = String::new();
    let mut stderr = BufReader::new(running.child.stderr.take().unwrap());
    stderr.read_line(&mut note).unwrap();
    assert!(note.contains("started a private"), "{note}");
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    // The watchdog removes the directory after it has killed the server.
    wait_until("the watchdog", || fs::read_dir(scratch.path()).unwrap().count() == 0);
}

#[test]
fn an_index_that_forgets_is_seen_and_ends_with_1() {
    let server = Server::start(Flavour::Valkey);
    let args = ["--store", &server.url(), "--json"];
    let mut running = Running::start(&args, &[line(0, &[1, 2, 3])]);
    server.wait_for_keys(6);
    server.run(&["FLUSHDB"]);
    running.send(&[line(1000, &[1, 2])]);
    let output = running.finish();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report = json(&output);
    assert_eq!((&report["false_hits"], &report["missed_blocks"]), (&0.into(), &2.into()));
    assert!(text(&output.stderr).contains("the index and the pods disagree"), "{output:?}");
}

#[test]
fn a_server_that_dies_ends_the_replay_in_bounded_time() {
    let mut server = Server::start(Flavour::Valkey);
    let url = server.url();
    let mut running = Running::start(&["--store", &url], &[line(0, &[1, 2, 3])]);
    server.wait_for_keys(6);
    server.server.kill();
    running.send(&[line(1000, &[1, 2])]);
    let output = running.finish();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr = text(&output.stderr);
    assert!(stderr.contains("the index failed"), "{stderr}");
    assert!(stderr.contains("keys could not all be removed"), "{stderr}");
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    for more in [&[][..], &["--json"]] {
        let mut command = respire(&["--store", "memory", "--limit", "50"]);
        command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(!text(&output.stderr).contains("panicked"), "{output:?}");
    }
}

/// Puts a shell script in the place of a program. Another process writes it: a file that another
/// thread's child has inherited open for writing cannot be run.
fn write_program(name: &str, lines: &str, directory: &Path) {
    let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$2" && chmod 700 "$2""#;
    let mut command = Command::new("sh");
    command.args(["-c", write, "sh", lines]).arg(directory.join(name));
    assert!(command.status().unwrap().success());
}

/// Makes the program, as it is found on PATH, available in `directory` alone.
fn link_program(name: &str, directory: &Path) {
    let path = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name));
    let program = found.into_iter().find(|path| path.is_file()).expect(name);
    std::os::unix::fs::symlink(program, directory.join(name)).unwrap();
}
