//! What comes back.

use std::fmt;

use respire_codec::{Frame, FromValue, ValueError, ValueRef};

use crate::error::Error;

/// The answer to one command: a reference-counted slice of what was received, decoded when it is read.
///
/// A reply keeps alive the block of memory that it was received into. [`detach`](Self::detach) copies it out, for a
/// small reply that is kept for long.
#[derive(Clone, PartialEq)]
pub struct Reply {
    frame: Frame,
}

impl Reply {
    pub(crate) fn new(frame: Frame) -> Self {
        Self { frame }
    }

    /// A cursor on the answer.
    pub fn value(&self) -> ValueRef<'_> {
        self.frame.value()
    }

    /// Reads the answer as a value of the type that is asked for, which may borrow from this reply.
    ///
    /// ```no_run
    /// # async fn example(client: respire::Client) -> Result<(), respire::Error> {
    /// let reply = client.execute(respire::Command::new("MGET").arg("a").arg("b")).await?;
    /// let values: Vec<Option<&str>> = reply.parse()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the server answered with an error, or with another type.
    pub fn parse<'a, T: FromValue<'a>>(&'a self) -> Result<T, Error> {
        if let Some(error) = self.server_error() {
            return Err(Error::server(error));
        }
        self.frame.parse().map_err(Error::value)
    }

    /// As [`parse`](Self::parse), by a function of the caller's.
    pub(crate) fn read<T>(
        &self,
        decode: for<'a> fn(ValueRef<'a>) -> Result<T, ValueError>,
    ) -> Result<T, Error> {
        if let Some(error) = self.server_error() {
            return Err(Error::server(error));
        }
        decode(self.value()).map_err(Error::value)
    }

    /// The server's error, where the answer is one. Errors inside an array, as in the answer to `EXEC`, are not it.
    pub fn server_error(&self) -> Option<ServerError> {
        self.value().error().map(ServerError::new)
    }

    /// The reply itself, or the server's error as an [`Error`].
    ///
    /// # Errors
    ///
    /// When the server answered with an error.
    pub fn into_result(self) -> Result<Self, Error> {
        match self.server_error() {
            Some(error) => Err(Error::server(error)),
            None => Ok(self),
        }
    }

    /// The frame as it was received.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// A copy that keeps nothing else alive.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self { frame: self.frame.detach() }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reply").field(&self.frame).finish()
    }
}

/// An error that a server answered with.
///
/// Its text is the server's, with bytes that are not UTF-8 replaced. By convention the first word is a code in capitals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    text: Box<str>,
}

impl ServerError {
    pub(crate) fn new(text: &[u8]) -> Self {
        Self { text: String::from_utf8_lossy(text).into() }
    }

    /// The first word: `ERR`, `WRONGTYPE`, `NOAUTH`, `MOVED` and so on. Empty where the text is.
    pub fn code(&self) -> &str {
        self.text.split(' ').next().unwrap_or_default()
    }

    /// What follows the code.
    pub fn message(&self) -> &str {
        self.text.split_once(' ').map_or("", |(_, message)| message)
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered: {}", self.text)
    }
}

impl std::error::Error for ServerError {}
