//! What no client can do without: bytes that are ready are written to a stream of the runtime's,
//! and as many bytes are read as the reply has.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::BytesMut;
use respire_codec::{Decoder, ValueRef, encode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use super::data::{Data, Sum};
use super::server::Endpoints;
use super::turn::{Length, Meter, Turn, Turns, run, runtime};
use super::workload::{Job, Transport, Workload};

/// Room to read into. Larger replies are read in more than one go, as a client must.
const READ_BYTES: usize = 64 * 1024;

/// Connects.
///
/// # Errors
///
/// When there is no such server.
pub fn connect(workload: Workload, endpoints: &Endpoints, data: &Data) -> Result<Box<dyn Turns>> {
    let runtime = runtime(workload.scheduler)?;
    let script = Script::new(workload.job, data)?;
    match workload.transport {
        Transport::Tcp => {
            let stream = runtime.block_on(TcpStream::connect(endpoints.tcp))?;
            stream.set_nodelay(true)?;
            Ok(Floor::boxed(runtime, script, stream))
        }
        Transport::Tls => {
            let stream = runtime.block_on(async {
                let stream = TcpStream::connect(endpoints.tls).await?;
                stream.set_nodelay(true)?;
                let connector = TlsConnector::from(Arc::clone(&endpoints.authority.config));
                connector.connect(endpoints.tls.ip().into(), stream).await
            })?;
            Ok(Floor::boxed(runtime, script, stream))
        }
        Transport::Unix => {
            let stream = runtime.block_on(UnixStream::connect(&endpoints.unix))?;
            Ok(Floor::boxed(runtime, script, stream))
        }
    }
}

/// What is sent and what must come back.
#[derive(Clone, Debug)]
struct Script {
    request: BytesMut,
    /// `GET`s of tasks count one by one; a pipeline counts once.
    requests: u64,
    replies: usize,
    reply_bytes: usize,
    expected: Sum,
}

impl Script {
    fn new(job: Job, data: &Data) -> Result<Self> {
        let mut request = BytesMut::new();
        let bulk = |bytes: usize| bytes + bytes.to_string().len() + 5;
        let (replies, reply_bytes, expected) = match job {
            Job::Gets { tasks: commands } | Job::Pipeline { commands } => {
                let keys = data.keys.get(..commands).context("more commands than keys")?;
                keys.iter().for_each(|key| encode::command(&mut request, &["GET", key]));
                let expected = data.values_sum(commands);
                (commands, commands * bulk(super::data::VALUE_BYTES), expected)
            }
            Job::HashKeys { commands } => {
                let keys = data.hashes.get(..commands).context("more commands than hashes")?;
                keys.iter().for_each(|key| encode::command(&mut request, &["HKEYS", key]));
                let reply = 4 + super::data::FIELDS * bulk(super::data::FIELD_BYTES);
                (commands, commands * reply, data.fields_sum(commands))
            }
            Job::LargeGet => {
                encode::command(&mut request, &["GET", &data.large_key]);
                (1, bulk(data.large.len()), data.large_sum())
            }
            Job::LargeSet => {
                let command: [&[u8]; 3] = [b"SET", data.large_key.as_bytes(), &data.large];
                encode::command(&mut request, &command);
                (1, 5, Sum::default())
            }
        };
        let requests = if let Job::Gets { tasks } = job { tasks as u64 } else { 1 };
        Ok(Self { request, requests, replies, reply_bytes, expected })
    }

    /// Sends everything and reads everything.
    async fn play<S>(&self, stream: &mut S, buffer: &mut [u8]) -> Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        stream.write_all(&self.request).await?;
        stream.flush().await?;
        let mut missing = self.reply_bytes;
        while missing > 0 {
            // With more room than there is to read: tokio takes a full buffer as a sign that there is more, and
            // would ask the system once more in vain.
            let read = stream.read(buffer).await?;
            ensure!(read > 0, "the server closed the connection");
            missing = missing.checked_sub(read).context("more than the replies came back")?;
        }
        Ok(())
    }

    /// The same once, with a look at the replies.
    async fn play_thoroughly<S>(&self, stream: &mut S) -> Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        stream.write_all(&self.request).await?;
        stream.flush().await?;
        let mut received = BytesMut::zeroed(self.reply_bytes);
        stream.read_exact(&mut received).await?;
        let (mut decoder, mut sum) = (Decoder::default(), Sum::default());
        for _ in 0..self.replies {
            let frame = decoder.decode(&mut received)?.context("a reply is not complete")?;
            add(frame.value(), &mut sum)?;
        }
        ensure!(received.is_empty(), "more than the replies came back");
        sum.check_thoroughly(&self.expected)
    }
}

/// Adds the strings of a reply; a `+OK` has none.
fn add(value: ValueRef<'_>, sum: &mut Sum) -> Result<()> {
    if let Some(error) = value.error() {
        anyhow::bail!("the server answered: {}", error.escape_ascii());
    }
    if let Ok(strings) = value.parse::<Vec<&[u8]>>() {
        strings.into_iter().for_each(|string| sum.add_thoroughly(string));
    } else {
        let string: &[u8] = value.parse()?;
        if string != b"OK" {
            sum.add_thoroughly(string);
        }
    }
    Ok(())
}

struct Floor<S> {
    runtime: Runtime,
    script: Script,
    /// Not there while a turn has it.
    stream: Option<S>,
}

impl<S> Floor<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn boxed(runtime: Runtime, script: Script, stream: S) -> Box<dyn Turns> {
        Box::new(Self { runtime, script, stream: Some(stream) })
    }
}

impl<S> Turns for Floor<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn turn(&mut self, length: Length) -> Result<Turn> {
        let mut stream = self.stream.take().context("the stream was lost in an earlier turn")?;
        let script = self.script.clone();
        let (turn, stream) = run(&self.runtime, length, async move {
            script.play_thoroughly(&mut stream).await?;
            let mut buffer = vec![0; READ_BYTES];
            let mut meter = Meter::start(length);
            let mut start = Some(Instant::now());
            while let Some(begun) = start {
                script.play(&mut stream, &mut buffer).await?;
                start = meter.ended(begun);
            }
            Ok((meter.finish(script.requests)?, stream))
        })?;
        self.stream = Some(stream);
        Ok(turn)
    }
}
