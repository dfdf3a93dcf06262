//! Where a replay's requests come from: read on a thread of their own.
//!
//! A trace may come from a pipe that says nothing for a long time. Reading it must hold up neither
//! the lookups nor the reaction to Ctrl-C, so it happens on a thread that hands requests over
//! through a bounded queue.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc;

use crate::generate::{Generator, REQUESTS_DEFAULT};
use crate::trace::{Request, TraceError, TraceReader};

/// Requests that are read ahead.
const READ_AHEAD: usize = 256;

/// The requests to replay, in the order of their arrival.
pub type Requests = Box<dyn Iterator<Item = Result<Request, TraceError>> + Send>;

/// Where requests come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A trace in a file.
    File(PathBuf),
    /// A trace on standard input.
    Stdin,
    /// The built-in generator with this seed.
    Generator(u64),
}

impl Source {
    /// Opens the source for its first `limit` requests. Also returns how many there will be, as
    /// far as that can be known: a regular file's lines are counted, malformed ones included.
    ///
    /// # Errors
    ///
    /// The file cannot be opened or read.
    pub fn open(&self, limit: Option<u64>) -> io::Result<(Requests, Option<u64>)> {
        let limited = usize::try_from(limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        Ok(match self {
            Self::File(path) => {
                let lines = count_lines(path)?;
                let expected = lines.map(|n| n.min(limit.unwrap_or(u64::MAX)));
                let reader = TraceReader::new(BufReader::new(File::open(path)?));
                (Box::new(reader.take(limited)), expected)
            }
            Self::Stdin => {
                let reader = TraceReader::new(BufReader::new(io::stdin()));
                (Box::new(reader.take(limited)), None)
            }
            Self::Generator(seed) => {
                let requests = limit.unwrap_or(REQUESTS_DEFAULT);
                let generator = Generator::new(*seed).map(Ok);
                let n = usize::try_from(requests).unwrap_or(usize::MAX);
                (Box::new(generator.take(n)), Some(requests))
            }
        })
    }
}

/// Requests on their way from the thread that reads them.
///
/// The thread ends with the requests, or when this is dropped. One that waits for input at that
/// moment ends with the process.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    requests: mpsc::Receiver<Result<Request, TraceError>>,
    thread: Option<JoinHandle<()>>,
}

impl ReadAhead {
    /// Starts the thread.
    pub(crate) fn start(
        requests: impl Iterator<Item = Result<Request, TraceError>> + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let read = move || {
            for request in requests {
                if sender.blocking_send(request).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("trace".to_owned()).spawn(read)?;
        Ok(Self { requests: receiver, thread: Some(thread) })
    }

    /// The next request; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Result<Request, TraceError>> {
        let request = self.requests.recv().await;
        if request.is_none()
            && let Some(thread) = self.thread.take()
            // It has let go of its end of the queue, so that it is all but over.
            && let Err(panic) = thread.join()
        {
            // A reader that broke must not pass for a trace that ended.
            std::panic::resume_unwind(panic);
        }
        request
    }
}

/// The lines of a regular file; `None` for anything else, which may only be read once.
fn count_lines(path: &Path) -> io::Result<Option<u64>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut reader = BufReader::new(file);
    let (mut ends, mut last) = (0, b'\n');
    loop {
        let chunk = reader.fill_buf()?;
        let Some(&end) = chunk.last() else { break };
        ends += chunk.iter().filter(|byte| **byte == b'\n').count() as u64;
        last = end;
        let n = chunk.len();
        reader.consume(n);
    }
    Ok(Some(ends + u64::from(last != b'\n')))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(content: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file
    }

    const LINE: &str = r#"{"timestamp":0,"input_length":1,"output_length":1,"hash_ids":[0]}"#;

    #[test]
    fn a_files_requests_are_counted_and_limited() {
        for (content, lines) in [
            (String::new(), 0),
            (LINE.to_owned(), 1),
            (format!("{LINE}\n"), 1),
            (format!("{LINE}\n{LINE}"), 2),
        ] {
            let file = file(&content);
            let source = Source::File(file.path().to_owned());
            for limit in [None, Some(1), Some(2), Some(u64::MAX)] {
                let (requests, expected) = source.open(limit).unwrap();
                let n = lines.min(limit.unwrap_or(u64::MAX));
                assert_eq!(expected, Some(n));
                assert_eq!(requests.count() as u64, n);
            }
        }
    }

    #[test]
    fn a_missing_file_is_an_error() {
        let source = Source::File("no/such/trace.jsonl".into());
        let error = source.open(None).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_limit_may_exceed_what_the_generator_makes_by_itself() {
        let (requests, expected) = Source::Generator(0).open(Some(REQUESTS_DEFAULT + 1)).unwrap();
        assert_eq!(expected, Some(REQUESTS_DEFAULT + 1));
        assert_eq!(requests.count() as u64, REQUESTS_DEFAULT + 1);
        let (_, expected) = Source::Generator(0).open(None).unwrap();
        assert_eq!(expected, Some(REQUESTS_DEFAULT));
    }

    #[tokio::test]
    async fn reading_ahead_keeps_the_order_and_stops_when_unwanted() {
        let (requests, _) = Source::Generator(0).open(Some(1000)).unwrap();
        let mut ahead = ReadAhead::start(requests).unwrap();
        let direct: Vec<_> = Generator::new(0).take(1000).collect();
        for expected in &direct[..500] {
            assert_eq!(ahead.next().await.unwrap().unwrap(), *expected);
        }

        let (dropped, was_dropped) = std::sync::mpsc::channel::<()>();
        let endless = Generator::new(0).map(move |request| {
            let _kept_by_the_thread = &dropped;
            Ok(request)
        });
        drop(ReadAhead::start(endless).unwrap());
        let timeout = std::time::Duration::from_secs(20);
        assert_eq!(
            was_dropped.recv_timeout(timeout),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected)
        );
    }
    #[tokio::test]
    async fn the_end_is_the_end_and_a_reader_that_breaks_is_not() {
        let (requests, _) = Source::Generator(0).open(Some(1)).unwrap();
        let mut ahead = ReadAhead::start(requests).unwrap();
        assert!(ahead.next().await.unwrap().is_ok());
        assert!(ahead.next().await.is_none());
        assert!(ahead.next().await.is_none());

        let broken = std::iter::from_fn(|| std::panic::resume_unwind(Box::new("on purpose")));
        let reading = tokio::spawn(async move { ReadAhead::start(broken).unwrap().next().await });
        assert!(reading.await.unwrap_err().is_panic());
    }
}
