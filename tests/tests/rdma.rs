//! What is particular to RDMA, against a real server. Most of it needs a machine with an RDMA device and a server on PATH
//! that was built with RDMA: `scripts/rdma-test` starts one, with the device's address in `RESPIRE_LOCAL_RDMA`.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers included")]

use std::{
    error::Error as _,
    fs,
    os::unix::process::CommandExt,
    process::Command as Process,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use respire::{Bytes, Client, Command, Config, Error};
use respire_cli::{
    doctor::{Finding, Level},
    local_server::{Flavour, LocalServer},
};
use respire_kvblock::{BlockHash, Index as _, IndexConfig, PodEntry, PodSet};
use respire_tests::servers::{HUNG, config, in_time};

/// A server whose URL leads over RDMA.
fn server(args: &[&str]) -> LocalServer {
    let server = LocalServer::builder(Flavour::Valkey)
        .tcp()
        .args(["--enable-debug-command", "yes"])
        .args(args)
        .start()
        .unwrap();
    assert!(server.url().starts_with("valkey+rdma://"), "RESPIRE_LOCAL_RDMA names no address");
    server
}

async fn connect(server: &LocalServer) -> Client {
    connect_to(&server.url()).await
}

async fn connect_to(url: &str) -> Client {
    in_time(Client::with_config(config(url))).await.unwrap()
}

async fn id(client: &Client) -> u64 {
    client.query(Command::new("CLIENT").arg("ID")).await.unwrap()
}

/// An error and all its causes, in words.
fn words(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

/// Bytes in which no part looks like another, so that one that is out of place is seen.
fn pattern(length: usize) -> Bytes {
    let mut state = 0x9e37_79b9_u32;
    let bytes = (0..length).map(|_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    });
    bytes.collect::<Vec<u8>>().into()
}

#[tokio::test]
async fn where_there_is_no_rdma_the_error_says_what_is_missing() {
    if std::env::var_os("RESPIRE_LOCAL_RDMA").is_some() {
        return;
    }
    // It fails where another test of this process has registered it.
    let _ = respire_rdma::register();
    let error = in_time(Client::connect("valkey+rdma://127.0.0.1:1")).await.unwrap_err();
    assert!(error.is_connect(), "{error:?}");
    let words = words(&error);
    let reasons =
        ["libibverbs.so.1", "librdmacm.so.1", "rdma_ucm", "RDMA device", "RDMA on that port"];
    assert!(reasons.iter().any(|reason| words.contains(reason)), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an RDMA device: scripts/rdma-test"]
async fn a_value_comes_back() {
    let server = server(&[]);
    let client = connect(&server).await;
    let () = client.query(Command::new("SET").arg("k").arg("v")).await.unwrap();
    assert_eq!(client.query::<String>(Command::new("GET").arg("k")).await.unwrap(), "v");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an RDMA device: scripts/rdma-test"]
async fn large_values_go_both_ways() {
    let server = server(&[]);
    let client = connect(&server).await;
    for length in [(1 << 20) - 40, 1 << 20, 3_000_001, 64 << 20] {
        let value = pattern(length);
        let () = client.query(Command::new("SET").arg("k").arg(value.clone())).await.unwrap();
        let found: Bytes = client.query(Command::new("GET").arg("k")).await.unwrap();
        assert!(found == value, "{length} bytes came back as others");
    }
}

/// A reply fills the memory many times, and ends at every place of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an RDMA device: scripts/rdma-test"]
async fn little_memory_takes_replies_of_any_length() {
    let server = server(&[]);
    let client = connect_to(&format!("{}?rx_size=4kb", server.url())).await;
    let connection = id(&client).await;
    for length in (0..400).map(|step| step * 37).chain([1 << 20]) {
        let value = pattern(length);
        let found: Bytes = client.query(Command::new("ECHO").arg(value.clone())).await.unwrap();
        assert!(found == value, "{length} bytes came back as others");
    }
    assert_eq!(id(&client).await, connection, "it took a second connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an RDMA device: scripts/rdma-test"]
async fn the_device_that_is_asked_for_is_taken_and_another_is_an_error() {
    let server = server(&[]);
    let url = |device: &str| format!("{}?rdma_device={device}", server.url());
    let probe = respire_rdma::probe();
    assert!(probe.is_loaded && probe.devices[0].is_active, "{probe:?}");
    let client = connect_to(&url(&probe.devices[0].name)).await;
    let _: String = client.query(Command::new("PING")).await.unwrap();
    let error = in_time(Client::connect(&url("none0"))).await.unwrap_err();
    assert!(words(&error).contains("none0"), "{}", words(&error));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an RDMA device: scripts/rdma-test"]
async fn large_values_in_both_directions_at_once_do_not_stall() {
    let server = server(&[]);
    let client = connect(&server).await;
    let value = pattern(5 << 20);
    let connection = id(&client).await;
    let turns = (0..8).map(|_| {
        let echo = Command::new("ECHO").arg(value.clone());
        client.query::<Bytes>(echo)
    });
    for found in in_time(try_join_all(turns)).await.unwrap() {
        assert!(found == value);
    }
    assert_eq!(id(&client).await, connection, "it took a second connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an RDMA device: scripts/rdma-test"]
async fn twenty_thousand_pipelined_commands_are_answered_in_order() {
    let server = server(&[]);
    let client = connect(&server).await;
    let connection = id(&client).await;
    let turns = (0..20_000_u32)
        .map(|number| client.query::<String>(Command::new("ECHO").arg(number.to_string())));
    let found = in_time(try_join_all(turns)).await.unwrap();
    assert!(found.iter().enumerate().all(|(number, found)| *found == number.to_string()));
    assert_eq!(id(&client).await, connection, "it took a second connection");
}

/// Each would take a receive of a server that posts none meanwhile, and has 1024.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an RDMA device: scripts/rdma-test"]
async fn small_writes_to_a_sleeping_server_do_not_end_the_connection() {
    let server = server(&[]);
    let client = connect(&server).await;
    let connection = id(&client).await;
    let sleeper = connect(&server).await;
    let sleeping = tokio::spawn(async move {
        sleeper.query::<String>(Command::new("DEBUG").arg("SLEEP").arg("4")).await
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut running = Vec::new();
    for number in 0..5000 {
        let client = client.clone();
        running.push(tokio::spawn(async move {
            client.query::<String>(Command::new("ECHO").arg(number.to_string())).await
        }));
        // So that this one is sent before the next is there.
        tokio::task::yield_now().await;
    }
    assert!(!sleeping.is_finished(), "the server slept too short for the test to say anything");
    for (number, running) in running.into_iter().enumerate() {
        assert_eq!(in_time(running).await.unwrap().unwrap(), number.to_string());
    }
    in_time(sleeping).await.unwrap().unwrap();
    assert_eq!(id(&client).await, connection, "it took a second connection");
}

/// What this process holds of the system, by name.
fn held() -> Vec<(&'static str, u64)> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    vec![("descriptors", descriptors), ("VmPin", field("VmPin:")), ("VmRSS", field("VmRSS:"))]
}

/// What the kernel's part of RDMA keeps, counted by kind: for anybody but the kernel itself and the server, which leaves things
/// behind. What this process has made bears the numbers of its threads.
fn resources(server: &LocalServer) -> Vec<(&'static str, usize)> {
    let theirs = format!(" pid {} ", server.process_id().unwrap());
    let count = |kind| {
        let output = Process::new("rdma").args(["resource", "show", kind]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let ours = |line: &&str| line.contains(" pid ") && !line.contains(&theirs);
        text.lines().filter(ours).count()
    };
    ["pd", "cq", "qp", "mr", "cm_id"].map(|kind| (kind, count(kind))).to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an RDMA device: scripts/rdma-test"]
async fn connections_leave_nothing_behind() {
    let server = server(&[]);
    let turn = async || {
        let client = connect(&server).await;
        let _: String = client.query(Command::new("PING")).await.unwrap();
    };
    let settled = async || {
        tokio::time::sleep(Duration::from_secs(3)).await;
        (held(), resources(&server))
    };
    {
        let _client = connect(&server).await;
        let shown = resources(&server);
        assert!(shown.iter().all(|&(_, count)| count > 0), "{shown:?}");
    }
    for _ in 0..20 {
        turn().await;
    }
    let (before, devices_before) = settled().await;
    for _ in 0..500 {
        turn().await;
    }
    let (after, devices_after) = settled().await;
    println!("{before:?} {devices_before:?}\n{after:?} {devices_after:?}");
    assert_eq!(devices_before, devices_after);
    for ((name, before), (_, after)) in before.into_iter().zip(after) {
        // An allocator keeps some; one connection's memory alone is 2 MiB.
        let spare = if name == "VmRSS" { 8192 } else { 0 };
        assert!(after <= before + spare, "{name}: {before} before, {after} after");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an RDMA device: scripts/rdma-test"]
async fn a_killed_server_ends_what_is_under_way_and_is_found_again() {
    let mut server = server(&[]);
    let client = connect(&server).await;
    let waiting = client.clone();
    let waiting = tokio::spawn(async move {
        waiting.query::<String>(Command::new("DEBUG").arg("SLEEP").arg("30")).await
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.kill();
    let error = in_time(waiting).await.unwrap().unwrap_err();
    assert!(error.is_closed(), "{error:?}");
    server.restart().unwrap();
    let started = Instant::now();
    while client.query::<String>(Command::new("PING")).await.is_err() {
        assert!(started.elapsed() < HUNG, "the server is not found again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an RDMA device: scripts/rdma-test"]
async fn a_frozen_server_ends_requests_by_their_deadline() {
    let server = server(&[]);
    let config: Config = server.url().parse().unwrap();
    let config = config.with_command_timeout(Some(Duration::from_secs(2)));
    let client = Client::with_config(config).await.unwrap();
    let signal = |name: &str| {
        let process = server.process_id().unwrap().to_string();
        assert!(Process::new("kill").args([name, &process]).status().unwrap().success());
    };
    signal("-STOP");
    let error = in_time(client.execute(Command::new("PING"))).await.unwrap_err();
    signal("-CONT");
    assert!(error.is_timeout(), "{error:?}");
    let _: String = in_time(client.query(Command::new("PING"))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an RDMA device: scripts/rdma-test"]
async fn a_port_that_nothing_listens_on_refuses() {
    let server = server(&[]);
    let url = server.url();
    let (host, _) = url.rsplit_once(':').unwrap();
    let error = in_time(Client::connect(&format!("{host}:9"))).await.unwrap_err();
    assert!(error.is_connect(), "{error:?}");
    assert!(words(&error).contains("nothing listens for RDMA"), "{}", words(&error));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an RDMA device: scripts/rdma-test"]
async fn a_full_server_cannot_say_so_and_the_error_guesses_it() {
    let server = server(&["--maxclients", "1"]);
    let _first = connect(&server).await;
    let error = in_time(Client::connect(&server.url())).await.unwrap_err();
    assert!(error.is_connect(), "{error:?}");
    assert!(words(&error).contains("maxclients"), "{}", words(&error));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an RDMA device: scripts/rdma-test"]
async fn a_client_that_the_server_kills_connects_again() {
    let server = server(&[]);
    let client = connect(&server).await;
    let other = connect(&server).await;
    let victim = id(&client).await;
    let kill = Command::new("CLIENT").arg("KILL").arg("ID").arg(victim.to_string());
    assert_eq!(other.query::<u64>(kill).await.unwrap(), 1);
    let started = Instant::now();
    loop {
        match client.query::<u64>(Command::new("CLIENT").arg("ID")).await {
            Ok(found) => break assert_ne!(found, victim),
            Err(error) => assert!(error.is_closed(), "{error:?}"),
        }
        assert!(started.elapsed() < HUNG, "the server is not found again");
    }
}

/// Over TCP the kernel sends what is left after a close.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an RDMA device: scripts/rdma-test"]
async fn what_was_sent_and_is_not_waited_for_survives_a_close_while_the_server_sleeps() {
    const ROUNDS: i64 = 10;
    let server = server(&[]);
    let watcher = connect(&server).await;
    for _ in 0..ROUNDS {
        let client = connect(&server).await;
        let sleeper = watcher.clone();
        let sleeping = tokio::spawn(async move {
            sleeper.query::<String>(Command::new("DEBUG").arg("SLEEP").arg("0.5")).await
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        let sends = client.stats().sends;
        let request = tokio::spawn({
            let client = client.clone();
            async move { client.query::<i64>(Command::new("INCR").arg("k")).await }
        });
        in_time(async {
            while client.stats().sends == sends {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        request.abort();
        assert!(in_time(request).await.unwrap_err().is_cancelled(), "it was answered");
        drop(client);
        in_time(sleeping).await.unwrap().unwrap();
    }
    let started = Instant::now();
    let mut seen = 0;
    while seen < ROUNDS && started.elapsed() < HUNG {
        seen = watcher.query(Command::new("GET").arg("k")).await.unwrap();
    }
    assert_eq!(seen, ROUNDS);
}

/// Nothing listens for TCP on the device's address, so that it can be no other connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an RDMA device: scripts/rdma-test"]
async fn an_index_by_llm_ds_configuration_is_connected_over_rdma() {
    let server = server(&[]);
    let address = server.url().replace("valkey+rdma://", "");
    for layout in ["llm-d", "bitmap"] {
        let text = format!(
            r#"{{"valkeyConfig":{{"address":"valkey://{address}","backendType":"valkey","enableRDMA":true,"layout":"{layout}"}}}}"#
        );
        let config: IndexConfig = text.parse().unwrap();
        let index = in_time(config.open()).await.unwrap();
        index.add(None, &[BlockHash(1)], &[PodEntry::new("a", "gpu")]).await.unwrap();
        let found = index.lookup(&[BlockHash(1)], &PodSet::all()).await.unwrap();
        assert_eq!(found.entries(0).map(|entry| &*entry.pod_identifier).collect::<Vec<_>>(), ["a"]);
    }
    let over_tcp = format!(r#"{{"valkeyConfig":{{"address":"valkey://{address}"}}}}"#);
    let over_tcp: IndexConfig = over_tcp.parse().unwrap();
    assert!(in_time(over_tcp.open()).await.is_err(), "something listens there for TCP");
}

/// The device leads to the address, and nothing listens there on the port that TCP has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an RDMA device: scripts/rdma-test"]
async fn tcp_is_fallen_back_to_where_rdma_is_only_preferred() {
    let device = std::env::var("RESPIRE_LOCAL_RDMA").unwrap();
    let server = server(&["--bind", "127.0.0.1", &device, "--protected-mode", "no"]);
    let address = format!("{device}:{}", server.tcp_address().unwrap().port());
    let error = in_time(Client::connect(&format!("valkey+rdma://{address}"))).await.unwrap_err();
    assert!(words(&error).contains("nothing listens for RDMA"), "{}", words(&error));
    let client = connect_to(&format!("valkey+rdma://{address}?rdma=preferred")).await;
    let info: String = client.query(Command::new("CLIENT").arg("INFO")).await.unwrap();
    assert!(info.contains(&format!(" laddr={address} ")), "{info}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an RDMA device: scripts/rdma-test"]
async fn the_doctor_says_of_this_machine_that_it_can() {
    let server = server(&[]);
    let examination = respire_cli::doctor::examine(&config(&server.url())).await.unwrap();
    let here = |finding: &&Finding| finding.check == "RDMA here";
    let here = examination.findings.iter().find(here).unwrap();
    assert_eq!((here.level, &here.advice), (Level::Ok, &None), "{here:?}");
    let address = std::env::var("RESPIRE_LOCAL_RDMA").unwrap();
    assert!(here.found.contains("up") && here.found.contains(&address), "{here:?}");
}

/// Gathers what devices have to say.
#[derive(Clone, Default)]
struct DeviceNews(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for DeviceNews {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("respire_rdma::verbs")
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

impl tracing::field::Visit for DeviceNews {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        if field.name() == "event" {
            self.0.lock().unwrap().push(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &tracing::field::Field, _: &dyn std::fmt::Debug) {}
}

/// The kernel keeps them until somebody has read them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an RDMA device: scripts/rdma-test"]
async fn what_a_device_says_of_itself_is_taken_with_the_next_connection() {
    let news = DeviceNews::default();
    tracing::subscriber::set_global_default(news.clone()).unwrap();
    let server = server(&[]);
    // From then on the device is open.
    drop(connect(&server).await);
    news.0.lock().unwrap().clear();
    for state in ["down", "up", "down", "up"] {
        let set = Process::new("ip").args(["link", "set", "dummy0", state]).status();
        assert!(set.unwrap().success());
    }
    let client = connect(&server).await;
    let _: String = client.query(Command::new("PING")).await.unwrap();
    let taken = std::mem::take(&mut *news.0.lock().unwrap());
    assert!(taken.iter().filter(|&event| event.contains("port")).count() >= 2, "{taken:?}");
    drop(connect(&server).await);
    assert_eq!(*news.0.lock().unwrap(), [""; 0], "it is said once");
}

/// The child has the parent's memory for a moment, and the pages that are registered among it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an RDMA device: scripts/rdma-test"]
async fn a_forked_child_does_not_disturb_the_connection() {
    let server = server(&[]);
    let client = connect(&server).await;
    let connection = id(&client).await;
    for number in 0..20 {
        // Changing the user's rights makes the standard library fork instead of spawning.
        let mut child = Process::new("sleep").arg("0.2").uid(0).spawn().unwrap();
        let value = pattern(100_000 + number);
        let found: Bytes = client.query(Command::new("ECHO").arg(value.clone())).await.unwrap();
        assert!(found == value);
        child.wait().unwrap();
    }
    assert_eq!(id(&client).await, connection, "it took a second connection");
}

/// A step of its own, which takes the right to lock any amount of memory from this process.
#[tokio::test]
#[ignore = "needs an RDMA device and a limit on locked memory: scripts/rdma-test"]
async fn a_limit_on_locked_memory_is_named() {
    let server = server(&[]);
    let mut clients = Vec::new();
    for _ in 0..20 {
        match in_time(Client::connect(&server.url())).await {
            Ok(client) => clients.push(client),
            Err(error) => {
                let words = words(&error);
                assert!(words.contains("RLIMIT_MEMLOCK"), "{words}");
                assert!(words.contains("8192 KiB"), "{words}");
                println!("after {} connections: {words}", clients.len());
                return;
            }
        }
    }
    panic!("twenty connections within 8 MiB");
}

/// A step of its own, since it takes the device away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an RDMA device that may be removed: scripts/rdma-test"]
async fn a_removed_device_ends_the_connection_in_time() {
    let server = server(&[]);
    let client = connect(&server).await;
    let waiting = client.clone();
    let waiting = tokio::spawn(async move {
        waiting.query::<String>(Command::new("DEBUG").arg("SLEEP").arg("30")).await
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    // The command returns when the last process has let go of the device, which this one does at its end.
    std::thread::spawn(|| Process::new("rdma").args(["link", "delete", "rxe0"]).status());
    let error = in_time(waiting).await.unwrap().unwrap_err();
    assert!(error.is_closed(), "{error:?}");
    assert!(words(&error).contains("device was removed"), "{}", words(&error));
    let error = in_time(client.execute(Command::new("PING"))).await.unwrap_err();
    assert!(words(&error).contains("RDMA"), "{}", words(&error));
}
