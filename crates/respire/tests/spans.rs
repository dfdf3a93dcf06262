//! The spans of requests, as a subscriber sees them.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::{
    fmt::{Debug, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::BytesMut;
use respire::{
    Client, Command, Config, Pipeline,
    codec::{Decoder, DecoderConfig},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

/// Notes the spans of requests with their fields, and when they are closed.
#[derive(Clone, Default)]
struct Notes {
    lines: Arc<Mutex<Vec<String>>>,
    ids: Arc<AtomicU64>,
}

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).expect("a string takes all");
    }
}

impl Subscriber for Notes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "respire::request"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut line = span.metadata().name().to_owned();
        span.record(&mut Line(&mut line));
        self.lines.lock().unwrap().push(line);
        Id::from_u64(self.ids.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        values.record(&mut Line(&mut self.lines.lock().unwrap()[id.into_u64() as usize - 1]));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// A peer that answers everything with `+OK`, and `FAIL` with an error.
async fn peer() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut decoder = Decoder::new(DecoderConfig::default());
        let mut received = BytesMut::new();
        while stream.read_buf(&mut received).await.unwrap_or(0) > 0 {
            while let Some(frame) = decoder.decode(&mut received).unwrap() {
                let words: Vec<String> = frame.parse().unwrap();
                let reply = if words[0] == "FAIL" { "-ERR no\r\n" } else { "+OK\r\n" };
                stream.write_all(reply.as_bytes()).await.unwrap();
            }
        }
    });
    url
}

#[tokio::test]
async fn each_request_has_a_span_that_shows_no_argument() {
    let notes = Notes::default();
    let _default = tracing::subscriber::set_default(notes.clone());
    let config: Config = peer().await.parse().unwrap();
    let config = config.with_protocol(respire::Protocol::Resp2);
    let client = Client::with_config(config).await.unwrap();
    client.execute(Command::new("SET").arg("secret-key").arg("secret-value")).await.unwrap();
    let mut pipeline = Pipeline::new();
    pipeline.push(Command::new("get").arg("a")).push(Command::new("PING"));
    client.pipeline(pipeline).await.unwrap();
    client.execute(Command::new("FAIL")).await.unwrap_err();

    let lines = notes.lines.lock().unwrap();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(lines[0], "request command=\"set\" commands=1 bytes=49");
    assert_eq!(lines[1], "request command=\"get\" commands=2 bytes=34");
    assert_eq!(lines[2], "request commands=1 bytes=14 error=the server answered: ERR no");
}
