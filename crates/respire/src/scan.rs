//! Going through all keys, or all members of a key, page by page.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    vec,
};

use futures_util::{Stream, stream::FusedStream};
use respire_codec::FromValue;

use crate::{
    Bytes,
    client::Client,
    command::{Args, Command, ToArg},
    commands::{FromReply, Scored},
    error::Error,
};

/// Which keys or members a [`Scan`] goes through, and how.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ScanOptions {
    cursor: u64,
    pattern: Option<Bytes>,
    count: Option<u64>,
    key_type: Option<Bytes>,
}

impl ScanOptions {
    /// All, in pages of the size that the server chooses.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those that match a pattern such as `user:*`. The server goes through the others as well; a page may be empty.
    pub fn pattern(mut self, pattern: impl Into<Bytes>) -> Self {
        self.pattern = Some(pattern.into());
        self
    }

    /// In pages of about so many. More of them a page take fewer round trips, and keep the server busy for longer at a time.
    pub fn count(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// Keys of a type, such as `hash`. Only for [`Client::scan`].
    pub fn key_type(mut self, name: impl Into<Bytes>) -> Self {
        self.key_type = Some(name.into());
        self
    }

    /// From where another scan of the same stopped; see [`Scan::cursor`].
    pub fn from_cursor(mut self, cursor: u64) -> Self {
        self.cursor = cursor;
        self
    }

    /// The command for one page.
    pub(crate) fn page_of(self, command: Command) -> Command {
        let cursor = self.cursor;
        command.arg(cursor).arg(self.into_args())
    }

    fn into_args(self) -> Args {
        let mut args = Args::default();
        if let Some(pattern) = self.pattern {
            ("MATCH", pattern).move_to(&mut args);
        }
        if let Some(count) = self.count {
            ("COUNT", count).move_to(&mut args);
        }
        if let Some(key_type) = self.key_type {
            ("TYPE", key_type).move_to(&mut args);
        }
        args
    }
}

impl Client {
    /// `SCAN`: all keys of the database.
    ///
    /// ```no_run
    /// use futures_util::TryStreamExt;
    /// use respire::ScanOptions;
    ///
    /// # async fn example(client: &respire::Client) -> Result<(), respire::Error> {
    /// let mut keys = client.scan::<String>(ScanOptions::new().pattern("user:*").count(500));
    /// while let Some(key) = keys.try_next().await? {
    ///     println!("{key}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn scan<T: FromReply>(&self, options: ScanOptions) -> Scan<T> {
        Scan::new(self, Command::new("SCAN"), options, None)
    }

    /// `HSCAN`: all fields of a hash, with their values.
    pub fn hscan<F: FromReply, V: FromReply>(
        &self,
        key: impl ToArg,
        options: ScanOptions,
    ) -> Scan<(F, V)> {
        Scan::new(self, Command::new("HSCAN").arg(key), options, None)
    }

    /// `HSCAN … NOVALUES`: all fields of a hash. *Valkey*, Redis since 7.4.
    pub fn hscan_fields<F: FromReply>(&self, key: impl ToArg, options: ScanOptions) -> Scan<F> {
        Scan::new(self, Command::new("HSCAN").arg(key), options, Some("NOVALUES"))
    }

    /// `SSCAN`: all members of a set.
    pub fn sscan<T: FromReply>(&self, key: impl ToArg, options: ScanOptions) -> Scan<T> {
        Scan::new(self, Command::new("SSCAN").arg(key), options, None)
    }

    /// `ZSCAN`: all members of a sorted set, with their scores.
    pub fn zscan<T: FromReply>(&self, key: impl ToArg, options: ScanOptions) -> Scan<Scored<T>> {
        Scan::new(self, Command::new("ZSCAN").arg(key), options, None)
    }
}

/// A stream of keys or members, of which one page is held at a time: the next one is asked for when the last of this one was
/// taken.
///
/// What servers promise holds for it: all that is there from the beginning to the end is seen at least once, what is there for
/// a part of the time may be, and anything may be seen more than once. Values are those of the moment when their page was
/// made.
///
/// Each page is a request with a deadline of its own. The stream ends after an error; another one can go on from its
/// [`cursor`](Self::cursor).
///
/// # Cancel safety
///
/// Dropping the future of the next item loses nothing: what was asked for is kept by the stream.
#[must_use = "streams do nothing unless polled"]
pub struct Scan<T> {
    client: Client,
    /// The command up to the cursor, which follows, and the arguments behind it.
    command: Command,
    options: Args,
    page: vec::IntoIter<T>,
    /// Where this page started.
    start: u64,
    /// Where the next one starts; `None` if this is the last.
    next: Option<u64>,
    failed: bool,
    request: Option<Page<T>>,
}

type Page<T> = Pin<Box<dyn Future<Output = Result<(u64, Vec<T>), Error>> + Send>>;

impl<T> Scan<T>
where
    T: FromReply,
{
    fn new(
        client: &Client,
        command: Command,
        options: ScanOptions,
        last: Option<&'static str>,
    ) -> Self {
        let cursor = options.cursor;
        let mut args = options.into_args();
        last.into_iter().for_each(|last| last.add_to(&mut args));
        Self {
            client: client.clone(),
            command,
            options: args,
            page: Vec::new().into_iter(),
            start: cursor,
            next: Some(cursor),
            failed: false,
            request: None,
        }
    }

    fn request(&self, cursor: u64) -> Page<T> {
        let client = self.client.clone();
        let command = self.command.clone().arg(cursor).arg(&self.options);
        Box::pin(async move { client.query(command).await })
    }
}

impl<T> Scan<T> {
    /// Where another scan goes on with what this one has not handed out, also after an error; `None` when there is nothing
    /// left. What was handed out of a page that is not at its end comes again.
    pub fn cursor(&self) -> Option<u64> {
        if self.page.len() > 0 { Some(self.start) } else { self.next }
    }

    fn is_last(&self) -> bool {
        self.failed || self.next.is_none()
    }
}

/// What is held is never pinned.
impl<T> Unpin for Scan<T> {}

impl<T: for<'a> FromValue<'a>> Stream for Scan<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(item) = self.page.next() {
                return Poll::Ready(Some(Ok(item)));
            }
            let Some(cursor) = self.next.filter(|_| !self.failed) else {
                return Poll::Ready(None);
            };
            let mut request = self.request.take().unwrap_or_else(|| self.request(cursor));
            match request.as_mut().poll(cx) {
                Poll::Pending => {
                    self.request = Some(request);
                    return Poll::Pending;
                }
                Poll::Ready(Ok((next, page))) => {
                    self.start = cursor;
                    self.next = Some(next).filter(|next| *next != 0);
                    self.page = page.into_iter();
                }
                Poll::Ready(Err(error)) => {
                    self.failed = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let held = self.page.len();
        (held, self.is_last().then_some(held))
    }
}

impl<T: for<'a> FromValue<'a>> FusedStream for Scan<T> {
    fn is_terminated(&self) -> bool {
        self.is_last() && self.page.len() == 0
    }
}

impl<T> fmt::Debug for Scan<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan").field("next", &self.next).field("held", &self.page.len()).finish()
    }
}
