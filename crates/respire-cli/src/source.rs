//! Where a replay's requests come from: read on a thread of their own.
//!
//! A trace may come from a pipe that says nothing for a long time. Reading it must hold up neither
//! the lookups nor the reaction to Ctrl-C, so it happens on a thread that hands requests over
//! through a bounded queue.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// Opens the source for its first `limit` requests. A file is opened once and read as the
    /// requests are taken; opening a named pipe waits for its writer.
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub fn open(&self, limit: Option<u64>) -> io::Result<(Requests, Extent)> {
        let limited = usize::try_from(limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let (requests, extent): (Requests, _) = match self {
            Self::File(path) => {
                let (file, extent) = open_file(path)?;
                (Box::new(TraceReader::new(BufReader::new(file)).take(limited)), extent)
            }
            Self::Stdin => {
                let reader = TraceReader::new(BufReader::new(io::stdin()));
                (Box::new(reader.take(limited)), Extent::Unknown)
            }
            Self::Generator(seed) => {
                let requests = limit.unwrap_or(REQUESTS_DEFAULT);
                let generator = Generator::new(*seed).map(Ok);
                let n = usize::try_from(requests).unwrap_or(usize::MAX);
                (Box::new(generator.take(n)), Extent::Requests(requests))
            }
        };
        Ok((requests, limit.map_or(extent, Extent::Requests)))
    }
}

/// As messages name it.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Stdin => f.write_str("standard input"),
            Self::Generator(_) => f.write_str("the built-in generator"),
        }
    }
}

/// How long a source is, as far as that is known without reading it.
#[derive(Debug)]
pub enum Extent {
    /// This many requests, or fewer where a trace ends before.
    Requests(u64),
    /// A file of a known size.
    Bytes {
        /// Its size.
        total: u64,
        /// How much of it has been read.
        read: BytesRead,
    },
    /// A pipe or the like.
    Unknown,
}

/// How far a file has been read. Clones count the same.
#[derive(Debug, Clone, Default)]
pub struct BytesRead(Arc<AtomicU64>);

impl BytesRead {
    /// Bytes read so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A reader that counts.
struct Counted<R> {
    inner: R,
    read: BytesRead,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.read.0.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

fn open_file(path: &Path) -> io::Result<(Counted<File>, Extent)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let read = BytesRead::default();
    let extent = if metadata.is_file() {
        Extent::Bytes { total: metadata.len(), read: read.clone() }
    } else {
        Extent::Unknown
    };
    Ok((Counted { inner: file, read }, extent))
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
    fn a_file_is_limited_and_measured_by_what_is_read() {
        for (content, lines) in
            [(String::new(), 0), (LINE.to_owned(), 1), (format!("{LINE}\n{LINE}\n"), 2)]
        {
            let file = file(&content);
            let source = Source::File(file.path().to_owned());
            let (requests, extent) = source.open(None).unwrap();
            let Extent::Bytes { total, read } = extent else { panic!("{extent:?}") };
            assert_eq!((total, read.count()), (content.len() as u64, 0));
            assert_eq!(requests.count() as u64, lines);
            assert_eq!(read.count(), total);
            for limit in [1, 2, u64::MAX] {
                let (requests, extent) = source.open(Some(limit)).unwrap();
                assert!(matches!(extent, Extent::Requests(n) if n == limit), "{extent:?}");
                assert_eq!(requests.count() as u64, lines.min(limit));
            }
        }
    }

    #[test]
    fn a_limit_spares_what_comes_after_it() {
        let file = file(&format!("{LINE}\nnonsense\n"));
        let (mut requests, _) = Source::File(file.path().to_owned()).open(Some(1)).unwrap();
        assert!(requests.next().unwrap().is_ok());
        assert!(requests.next().is_none());
    }

    #[test]
    fn a_directory_is_an_error_at_once() {
        let directory = tempfile::TempDir::new().unwrap();
        let error = Source::File(directory.path().to_owned()).open(None).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }

    #[test]
    fn a_missing_file_is_an_error() {
        let source = Source::File("no/such/trace.jsonl".into());
        let error = source.open(None).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_limit_may_exceed_what_the_generator_makes_by_itself() {
        for limit in [None, Some(REQUESTS_DEFAULT + 1)] {
            let (requests, extent) = Source::Generator(0).open(limit).unwrap();
            let n = limit.unwrap_or(REQUESTS_DEFAULT);
            assert!(matches!(extent, Extent::Requests(m) if m == n), "{extent:?}");
            assert_eq!(requests.count() as u64, n);
        }
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
