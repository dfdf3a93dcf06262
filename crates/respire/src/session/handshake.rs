//! The first flight on a connection: everything is asked for at once, and a server without RESP3 is asked again without.

use bytes::BytesMut;
use respire_codec::{Frame, Protocol, Value, encode};

use crate::{config::Config, error::ConnectFailure, reply::ServerError};

/// What to do next.
#[derive(Debug)]
pub(crate) enum Progress {
    /// More replies are to come.
    Await,
    /// Send these bytes; more replies will come.
    Send(BytesMut),
    /// The connection is ready.
    Done(Protocol),
}

/// A handshake under way: send [`first_flight`](Self::first_flight), then feed each frame.
#[derive(Debug)]
pub(crate) struct Handshake<'a> {
    config: &'a Config,
    /// What the replies still to come answer, oldest last.
    expected: Vec<Step>,
    /// The server does not know `HELLO 3`; the rest of the first flight counts for nothing.
    fall_back: bool,
    protocol: Protocol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Hello,
    Auth,
    SetName,
    /// In RESP2, where nothing else makes a server refuse a client that has to log in.
    Ping,
    SetInfo,
    Moves,
    Select,
    Tracking,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Hello => "HELLO",
            Self::Auth => "AUTH",
            Self::SetName => "CLIENT SETNAME",
            Self::Ping => "PING",
            Self::SetInfo => "CLIENT SETINFO",
            Self::Moves => "CLIENT MAINT_NOTIFICATIONS",
            Self::Select => "SELECT",
            Self::Tracking => "CLIENT TRACKING",
        }
    }
}

impl<'a> Handshake<'a> {
    pub(crate) fn new(config: &'a Config) -> Self {
        Self { config, expected: Vec::new(), fall_back: false, protocol: Protocol::Resp2 }
    }

    /// What is sent first. Empty where there is nothing to say; then the connection is ready at once.
    pub(crate) fn first_flight(&mut self) -> BytesMut {
        match self.config.protocol() {
            Protocol::Resp3 => self.flight(true),
            Protocol::Resp2 => self.flight(false),
        }
    }

    pub(crate) fn handle_frame(&mut self, frame: &Frame) -> Result<Progress, ConnectFailure> {
        if frame.is_push() {
            return Ok(Progress::Await);
        }
        let Some(step) = self.expected.pop() else { return Err(ConnectFailure::Protocol(None)) };
        let ignored = |text| match step {
            Step::Hello => false,
            _ if self.fall_back => true,
            Step::SetInfo => is_optional(text),
            // Few servers know it, and all can do without.
            Step::Moves => true,
            Step::Ping => is_passing(text),
            _ => false,
        };
        match frame.value().error() {
            Some(text) if step == Step::Hello && (lacks_resp3(text) || self.hides_hello(text)) => {
                self.need_no_pushes()?;
                self.fall_back = true;
            }
            Some(text) if !ignored(text) => {
                return Err(ConnectFailure::Refused {
                    step: step.name(),
                    source: ServerError::new(self.scrub(text)),
                });
            }
            None if step == Step::Hello => {
                // A server that answers HELLO with a flat array still speaks RESP2.
                match frame.value().get() {
                    Value::Map(_) => self.protocol = Protocol::Resp3,
                    _ => self.need_no_pushes()?,
                }
            }
            _ => {}
        }
        if !self.expected.is_empty() {
            return Ok(Progress::Await);
        }
        if std::mem::take(&mut self.fall_back) {
            return Ok(Progress::Send(self.flight(false)));
        }
        Ok(Progress::Done(self.protocol))
    }

    /// The connection will have none, in RESP2.
    fn need_no_pushes(&self) -> Result<(), ConnectFailure> {
        match self.config.tracking() {
            Some(_) => Err(ConnectFailure::NoPushes),
            None => Ok(()),
        }
    }

    fn flight(&mut self, hello: bool) -> BytesMut {
        let mut bytes = BytesMut::new();
        let mut expected = Vec::new();
        let mut ask = |step, args: &[&str]| {
            encode::command(&mut bytes, args);
            expected.push(step);
        };
        let password = self.config.password().map(crate::config::Secret::expose);
        let name = self.config.client_name();
        if hello {
            let mut args = vec!["HELLO", "3"];
            if let Some(password) = password {
                args.extend(["AUTH", self.config.user().unwrap_or("default"), password]);
            }
            if let Some(name) = name {
                args.extend(["SETNAME", name]);
            }
            ask(Step::Hello, &args);
        } else {
            match (self.config.user(), password) {
                (Some(user), Some(password)) => ask(Step::Auth, &["AUTH", user, password]),
                (None, Some(password)) => ask(Step::Auth, &["AUTH", password]),
                (_, None) => {}
            }
            if let Some(name) = name {
                ask(Step::SetName, &["CLIENT", "SETNAME", name]);
            }
        }
        if !hello {
            ask(Step::Ping, &["PING"]);
        }
        if self.config.client_info() && (hello || self.config.protocol() == Protocol::Resp2) {
            // Servers before 7.2 do not know it; their error is ignored.
            ask(Step::SetInfo, &["CLIENT", "SETINFO", "LIB-NAME", "respire"]);
            ask(Step::SetInfo, &["CLIENT", "SETINFO", "LIB-VER", env!("CARGO_PKG_VERSION")]);
        }
        if hello && self.config.announced_moves() {
            // The address is known, and what it leads to.
            let words = ["CLIENT", "MAINT_NOTIFICATIONS", "ON", "moving-endpoint-type", "none"];
            ask(Step::Moves, &words);
        }
        if self.config.database() != 0 {
            ask(Step::Select, &["SELECT", &self.config.database().to_string()]);
        }
        if let Some(tracking) = self.config.tracking() {
            encode::command(&mut bytes, &tracking.words());
            expected.push(Step::Tracking);
        }
        expected.reverse();
        self.expected = expected;
        bytes
    }

    /// Whether a server's error to `HELLO` may mean that it does not know it. Valkey 9 says of no command that it is unknown to who
    /// has not logged in, and credentials with `HELLO` log in where it is known.
    fn hides_hello(&self, text: &[u8]) -> bool {
        self.config.password().is_some() && text.starts_with(b"NOAUTH")
    }

    /// Takes out of a server's error what it may have echoed of the credentials.
    ///
    /// A server that does not know a command quotes its arguments, cut at some length: all of that goes. A text that
    /// holds the password elsewhere is withheld whole.
    fn scrub<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        const ECHO: &[u8] = b", with args beginning with";
        let text = &text[..text.len().min(ERROR_BYTES_MAX)];
        let end = memchr::memmem::find(text, ECHO).unwrap_or(text.len());
        let text = &text[..end];
        let password = self.config.password().map_or("", crate::config::Secret::expose);
        if !password.is_empty() && memchr::memmem::find(text, password.as_bytes()).is_some() {
            return b"ERR (the server's text is withheld: it holds the password)";
        }
        text
    }
}

/// Of an error in the handshake, no more is kept; servers say it in less.
const ERROR_BYTES_MAX: usize = 1024;

/// Whether a server's error to `PING` is one of its state or the user's rights, and not of the client as such.
fn is_passing(text: &[u8]) -> bool {
    ["LOADING", "BUSY", "MASTERDOWN", "NOPERM"].iter().any(|code| text.starts_with(code.as_bytes()))
}

/// Whether a server's error to `CLIENT SETINFO` means only that it does without.
fn is_optional(text: &[u8]) -> bool {
    let text = text.to_ascii_lowercase();
    text.starts_with(b"noperm")
        || memchr::memmem::find(&text, b"unknown command").is_some()
        || memchr::memmem::find(&text, b"unknown subcommand").is_some()
        || memchr::memmem::find(&text, b"syntax error").is_some()
        || memchr::memmem::find(&text, b"wrong number of arguments").is_some()
}

/// Whether a server's error to `HELLO 3` means that it is to be spoken to in RESP2.
fn lacks_resp3(text: &[u8]) -> bool {
    text.starts_with(b"NOPROTO")
        || memchr::memmem::find(&text.to_ascii_lowercase(), b"unknown command").is_some()
}

#[cfg(test)]
mod tests;
