//! The port sends what llm-d sends: its commands, as a server sees them.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use respire_benches::index::server::Server;
use respire_benches::index::sides::Asked;
use respire_benches::index::sides::port::Port;
use respire_cli::local_server::Flavour;
use respire_kvblock::{BlockHash, PodEntry};

/// What a server was asked to do, by whoever sent it.
struct Monitor(BufReader<TcpStream>);

impl Monitor {
    fn start(url: &str) -> Self {
        let address = url.strip_prefix("redis://").unwrap().split('/').next().unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (&stream).write_all(b"MONITOR\r\n").unwrap();
        let mut monitor = Self(BufReader::new(stream));
        assert_eq!(monitor.line(), "+OK");
        monitor
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The commands up to the one that ends the test, without what scripts do, each with its arguments; of a script's digest
    /// the first characters would say nothing.
    fn until(&mut self, end: &str) -> Vec<String> {
        let mut commands = Vec::new();
        loop {
            let line = self.line();
            let (origin, command) = line.split_once("] ").unwrap();
            if origin.ends_with(" lua") {
                continue;
            }
            if command.starts_with("\"SCRIPT\"") {
                // It follows a call that the server did not know the script of, which is made again.
                commands.pop();
                continue;
            }
            // Inside of quotes a quote is escaped, and no argument of these has a blank.
            let arguments: Vec<String> =
                command.split(' ').map(|a| a[1..a.len() - 1].replace("\\\"", "\"")).collect();
            if arguments[0] == end {
                return commands;
            }
            match arguments[0].as_str() {
                "EVALSHA" => commands.push(format!("EVALSHA {}", arguments[2..].join(" "))),
                _ => commands.push(arguments.join(" ")),
            }
        }
    }
}

const FIELD: &str = r#"{"PodIdentifier":"10.0.0.1:8000","DeviceTier":"gpu","Speculative":false,"HasGroup":false,"GroupIdx":0}"#;

#[tokio::test(flavor = "current_thread")]
async fn the_ports_commands_are_llm_ds() {
    let server = Server::start(Flavour::Valkey, Duration::from_millis(1)).unwrap();
    let url = server.url(0, false);
    let mut port = Port::connect(&url).await.unwrap();
    let mut monitor = Monitor::start(&url);
    let client = redis::Client::open(url).unwrap();
    let mut other = client.get_connection().unwrap();
    let mut end = |name: &str| redis::cmd(name).query::<redis::Value>(&mut other).unwrap();
    let (engine, keys) = ([BlockHash(7), BlockHash(8)], [BlockHash(70), BlockHash(80)]);
    let entry = PodEntry::new("10.0.0.1:8000", "gpu");

    port.add(&engine, &keys, &entry).await.unwrap();
    end("TIME");
    let seen = monitor.until("TIME");
    let seen: Vec<&str> = seen.iter().map(String::as_str).filter(|c| !is_greeting(c)).collect();
    let set = |key| format!("HSET {key} {FIELD} ");
    assert_eq!(seen, ["ZADD engine:7 0 70", "ZADD engine:8 0 80", &set(70), &set(80)]);

    let scores = port.scores(&[keys[0], keys[1], BlockHash(90), BlockHash(91)]).await.unwrap();
    assert_eq!(scores.sorted(), [("10.0.0.1:8000".to_owned(), 2.0)]);
    end("TIME");
    let asked = ["HKEYS 70", "HKEYS 80", "HKEYS 90", "HKEYS 91"];
    assert_eq!(monitor.until("TIME"), asked, "every key, whatever is found");

    port.evict(&engine, &entry).await.unwrap();
    end("TIME");
    let evicted = |engine: u32, key: u32| {
        [
            format!("ZRANGE engine:{engine} 0 -1"),
            format!("HDEL {key} {FIELD}"),
            format!("EVALSHA 1 {key}"),
            format!("EVALSHA 2 engine:{engine} {key}"),
        ]
    };
    assert_eq!(monitor.until("TIME"), [evicted(7, 70), evicted(8, 80)].concat());

    port.add(&engine[..1], &keys[..1], &entry).await.unwrap();
    end("TIME");
    monitor.until("TIME");
    port.clear("10.0.0.1:8000").await.unwrap();
    end("TIME");
    let cleared =
        ["SCAN 0 MATCH * COUNT 1024", "HKEYS 70", &format!("HDEL 70 {FIELD}"), "EVALSHA 1 70"];
    assert_eq!(monitor.until("TIME"), cleared);
}

/// What a connection begins with.
fn is_greeting(command: &str) -> bool {
    ["CLIENT ", "HELLO ", "SELECT "].iter().any(|name| command.starts_with(name))
}
