//! A reply of a real server.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use respire_cli::local_server::{Flavour, LocalServer};
use respire_codec::{Decoder, Frame, encode};

use super::buffers::Buffer;

/// How long the server may take for a part of its answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What a private valkey-server, or else redis-server, answers to COMMAND in
/// RESP3.
///
/// # Errors
///
/// When neither server is on PATH or starts, or it answers something else.
pub fn command_reply() -> Result<Arc<Buffer>> {
    let (flavour, server) = start()?;
    let mut stream = UnixStream::connect(server.socket_path())?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut connection = Connection::default();
    let hello = connection.execute(&mut stream, &["HELLO", "3"])?;
    let version = field(&hello, "version").context("HELLO names no version")?;
    let reply = connection.execute(&mut stream, &["COMMAND"])?;
    let contents = format!("the reply of {} {version} to COMMAND in RESP3", flavour.program());
    Buffer::new("COMMAND", contents, reply.bytes().to_vec())
}

fn start() -> Result<(Flavour, LocalServer)> {
    let mut causes = Vec::new();
    for flavour in Flavour::ALL {
        match LocalServer::start(flavour) {
            Ok(server) => return Ok((flavour, server)),
            Err(error) => causes.push(error.to_string()),
        }
    }
    bail!("no server: {}", causes.join("; "))
}

#[derive(Default)]
struct Connection {
    decoder: Decoder,
    received: BytesMut,
}

impl Connection {
    fn execute(&mut self, stream: &mut UnixStream, args: &[&str]) -> Result<Frame> {
        let mut request = BytesMut::new();
        encode::command(&mut request, args);
        stream.write_all(&request)?;
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.received)? {
                if let Some(error) = frame.value().error() {
                    bail!("{}: {}", args.join(" "), error.escape_ascii());
                }
                return Ok(frame);
            }
            let length = stream.read(&mut chunk)?;
            if length == 0 {
                bail!("the server closed the connection");
            }
            self.received.extend_from_slice(chunk.get(..length).unwrap_or_default());
        }
    }
}

fn field(map: &Frame, name: &str) -> Option<String> {
    let pairs: Vec<(&str, respire_codec::ValueRef<'_>)> = map.parse().ok()?;
    pairs.iter().find(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok())
}
