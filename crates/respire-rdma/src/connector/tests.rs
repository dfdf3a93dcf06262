use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use respire::{Client, Command, Config};

use super::*;

/// What the URL's parameters make of the defaults.
fn read(pairs: &[(&str, &str)]) -> io::Result<RdmaConfig> {
    RdmaConfig::new().with_parameters(&pairs.iter().copied().collect())
}

#[test]
fn parameters_of_a_url_are_read() {
    let config = read(&[("rdma_device", "mlx5_0"), ("rx_size", "64KB"), ("rdma", "preferred")]);
    let config = config.unwrap();
    assert_eq!(config.device(), Some("mlx5_0"));
    assert_eq!((config.receive_bytes(), config.send_bytes()), (65_536, 1 << 20));
    assert_eq!(config.requirement(), Requirement::Preferred);
    for (text, bytes) in [("4096", 4096), ("4kb", 4096), ("16mb", 16 << 20), ("1Mb", 1 << 20)] {
        assert_eq!(read(&[("rx_size", text)]).unwrap().receive_bytes(), bytes);
    }
    assert_eq!(read(&[("rdma", "required")]).unwrap(), RdmaConfig::new());
}

#[test]
fn parameters_that_cannot_be_read_are_named() {
    for (name, value) in [
        ("rdma_device", ""),
        ("rx_size", ""),
        ("rx_size", "kb"),
        ("rx_size", "4095"),
        ("rx_size", "16777217"),
        ("rx_size", "17mb"),
        ("rx_size", "4194304kb"),
        ("rx_size", "99999999999"),
        ("rx_size", "1m"),
        ("rx_size", "+4096"),
        ("rdma", "maybe"),
        ("rdma_speed", "7"),
    ] {
        let error = read(&[(name, value)]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}={value}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn memory_is_brought_into_its_range() {
    let config = RdmaConfig::new().with_receive_bytes(0).with_send_bytes(u32::MAX);
    assert_eq!((config.receive_bytes(), config.send_bytes()), (4096, 16 << 20));
}

#[test]
fn a_time_without_end_is_one_that_the_clock_can_add() {
    let config = RdmaConfig::new().with_announced_within(Duration::MAX);
    assert_eq!(config.announced_within(), RdmaConfig::ANNOUNCED_WITHIN_MAX);
    assert!(Instant::now().checked_add(config.announced_within()).is_some());
}

#[test]
fn a_quiet_connection_is_not_probed_without_pause() {
    let probe_after = |time| RdmaConfig::new().with_probe_after(time).probe_after();
    assert_eq!(probe_after(Some(Duration::ZERO)), Some(RdmaConfig::PROBE_AFTER_MIN));
    assert_eq!(probe_after(Some(Duration::from_secs(60))), Some(Duration::from_secs(60)));
    assert_eq!(probe_after(None), None);
}

/// A server for one connection that knows one reply, over TCP.
async fn tcp_server() -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        // RESP2 has no handshake here but for the client's name and version, which it need not wait for.
        while stream.read_buf(&mut received).await.is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&received);
            let commands = text.lines().filter(|line| line.starts_with('*')).count();
            received.clear();
            let _ = stream.write_all("+OK\r\n".repeat(commands).as_bytes()).await;
        }
    });
    port
}

/// Gathers the warnings of this thread.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        self.0.lock().unwrap().push(String::new());
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

impl tracing::field::Visit for Warnings {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if let Some(warning) = self.0.lock().unwrap().last_mut() {
            warning.push_str(&format!("{field}={value:?} "));
        }
    }
}

#[tokio::test]
async fn tcp_is_fallen_back_to_where_rdma_is_only_preferred() {
    // Nothing on this machine leads to the loopback address over RDMA.
    let config =
        |port: u16| -> Config { format!("valkey://127.0.0.1:{port}?protocol=2").parse().unwrap() };
    let preferred = RdmaConfig::new().with_requirement(Requirement::Preferred).connector();
    let required = RdmaConfig::new().connector();

    let port = tcp_server().await;
    let warnings = Warnings::default();
    let client = {
        let _guard = tracing::subscriber::set_default(warnings.clone());
        Client::with_config(config(port).with_connector(preferred)).await.unwrap()
    };
    assert_eq!(client.query::<String>(Command::new("PING")).await.unwrap(), "OK");
    let warnings = std::mem::take(&mut *warnings.0.lock().unwrap());
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(warning.contains("TCP is used") && warning.contains(&port.to_string()), "{warning}");
    assert!(warning.contains("error="), "it says why: {warning}");

    let port = tcp_server().await;
    let error = Client::with_config(config(port).with_connector(required)).await.unwrap_err();
    assert!(error.is_connect(), "{error:#}");
}
