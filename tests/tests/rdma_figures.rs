//! What a request costs over RDMA and over TCP: messages, completions, bytes and processor time of this process. Not how
//! long it takes, since the machine that this runs in is an emulated one and its card is software. See `rdma.rs` for what it needs.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers included")]

use std::{
    collections::BTreeMap,
    fmt, fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use respire::{Bytes, Client, Command};
use respire_cli::local_server::{Flavour, LocalServer};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

/// The numbers that the last connection has logged at its end.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Subscriber for Logged {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("respire_rdma")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Visit for Logged {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.lock().unwrap().insert(field.name(), value);
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// Processor time of this process, the kernel's part included.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = [11, 12].map(|at: usize| fields[at].parse::<u64>().unwrap()).iter().sum();
    Duration::from_millis(ticks * 10)
}

struct Workload {
    name: &'static str,
    requests: usize,
    at_once: usize,
    value_bytes: usize,
}

async fn run(client: &Client, work: &Workload) -> Duration {
    let value = Bytes::from(vec![b'v'; work.value_bytes]);
    let () = client.query(Command::new("SET").arg("k").arg(value.clone())).await.unwrap();
    let before = processor_time();
    let requests =
        stream::iter(0..work.requests).map(|_| client.query::<Bytes>(Command::new("GET").arg("k")));
    let mut replies = requests.buffer_unordered(work.at_once);
    while let Some(found) = replies.next().await {
        assert!(found.unwrap() == value);
    }
    processor_time() - before
}

#[test]
fn figures() {
    let logged = Logged::default();
    tracing::subscriber::set_global_default(logged.clone()).unwrap();
    let server = LocalServer::builder(Flavour::Valkey).tcp().start().unwrap();
    let workloads = [
        Workload { name: "one at a time, 100 bytes", requests: 3000, at_once: 1, value_bytes: 100 },
        Workload { name: "64 at once, 100 bytes", requests: 20_000, at_once: 64, value_bytes: 100 },
        Workload { name: "one at a time, 64 KiB", requests: 500, at_once: 1, value_bytes: 65_536 },
    ];
    for work in &workloads {
        for url in [server.url(), server.tcp_url().unwrap()] {
            logged.0.lock().unwrap().clear();
            // A runtime of its own: at its end, the connection's too is over.
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let spent = runtime.block_on(async {
                let client = Client::connect(&format!("{url}?command_timeout=60s")).await.unwrap();
                run(&client, work).await
            });
            drop(runtime);
            let per_request = |count: u64| count as f64 / work.requests as f64;
            let scheme = url.split_once("://").unwrap().0;
            let micros = spent.as_micros() as f64 / work.requests as f64;
            print!("{} | {scheme} | {micros:.1} us", work.name);
            for (name, count) in logged.0.lock().unwrap().iter() {
                print!(" | {name} {:.3}", per_request(*count));
            }
            println!();
        }
    }
}
