//! The one error type of the client.

use std::{error::Error as StdError, fmt, io, sync::Arc};

use respire_codec::{DecodeError, ValueError};

use crate::{config::Address, reply::ServerError};

/// Why a request, or an attempt to connect, failed.
///
/// `{}` says what happened at this level only, and [`source`](StdError::source) leads to the cause; `{:#}` says it all.
/// Neither shows credentials or arguments.
#[derive(Clone)]
pub struct Error {
    /// Boxed, so that the results of requests that succeed are no larger than what they hold.
    kind: Box<Kind>,
    sent: SendState,
}

#[derive(Clone)]
enum Kind {
    /// The caller's settings cannot be used.
    Config(String),
    /// The caller asked for what a shared connection cannot do.
    Usage(String),
    /// A connection could not be established.
    Connect { address: Address, cause: Arc<ConnectFailure> },
    /// The deadline passed.
    Timeout { doing: &'static str, cause: Option<Arc<Error>> },
    /// As much was under way as may be.
    Full,
    /// The watched keys of a transaction kept being changed.
    Conflict,
    /// A command of a transaction was refused, so that none was carried out.
    Aborted { command: usize, source: ServerError },
    /// The connection ended.
    Closed { reason: &'static str, by_us: bool, source: Option<Arc<dyn StdError + Send + Sync>> },
    /// The server broke the protocol.
    Protocol { reason: &'static str, source: Option<DecodeError> },
    /// The server answered with an error.
    Server(ServerError),
    /// The reply is not what the caller wanted to read.
    Value(ValueError),
}

/// Why a connection could not be established.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectFailure {
    #[error("the address cannot be resolved")]
    Resolve(#[source] io::Error),
    #[error("the address resolves to nothing")]
    NoAddress,
    #[error("the connection is refused or unreachable")]
    Dial(#[source] io::Error),
    #[error("the transport cannot be connected")]
    Connector(#[source] io::Error),
    #[error(
        "no transport is registered as {0:?}: see respire::transport::register, or bring a connector in Config::with_connector"
    )]
    Unregistered(Box<str>),
    #[error("the time to connect passed during {0}")]
    Timeout(&'static str),
    #[error("there are no credentials")]
    Credentials(#[source] crate::config::CredentialsError),
    #[error("the connection failed during the handshake")]
    Io(#[source] io::Error),
    #[error("the server closed the connection during the handshake")]
    Closed,
    #[error("the server broke the protocol during the handshake")]
    Protocol(#[source] Option<DecodeError>),
    #[error("the server refused the handshake's {step}")]
    Refused { step: &'static str, source: ServerError },
    #[error("the server does not speak RESP3, without which it cannot say what has changed")]
    NoPushes,
    #[error("TLS is not built in: respire's feature `tls` is off")]
    NoTls,
    #[error("the TLS settings cannot be used: {0}")]
    TlsSettings(String),
    #[cfg(feature = "tls")]
    #[error("the TLS handshake failed")]
    TlsHandshake(#[source] io::Error),
    #[cfg(feature = "tls")]
    #[error("the server's certificate is not accepted")]
    Untrusted(#[source] rustls::Error),
    #[cfg(feature = "tls")]
    #[error("the server does not speak TLS on this port: redis:// and valkey:// do without")]
    NotTls,
    #[error("the server speaks TLS on this port: use rediss:// or valkeys://")]
    NotPlain,
}

impl ConnectFailure {
    /// Whether the caller's settings are to blame, and nothing was tried with them.
    fn is_settings(&self) -> bool {
        match self {
            Self::NoTls | Self::TlsSettings(_) | Self::Unregistered(_) => true,
            Self::Connector(error) => error.kind() == io::ErrorKind::InvalidInput,
            _ => false,
        }
    }
}

/// Whether a request may have reached the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SendState {
    /// No byte of it left, and none will: sending it again cannot apply it twice.
    NotSent,
    /// It may have been sent and carried out, wholly, partly or not at all.
    MaybeSent,
    /// The server answered it.
    Answered,
}

/// Whose fault an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The caller's: what was asked for cannot be done, or the answer was read as the wrong type.
    Caller,
    /// The server's, or that of the way to it.
    Peer,
}

impl Error {
    fn of(kind: Kind, sent: SendState) -> Self {
        Self { kind: Box::new(kind), sent }
    }

    pub(crate) fn config(reason: String) -> Self {
        Self::of(Kind::Config(reason), SendState::NotSent)
    }

    pub(crate) fn usage(reason: String) -> Self {
        Self::of(Kind::Usage(reason), SendState::NotSent)
    }

    pub(crate) fn connect(address: Address, cause: ConnectFailure) -> Self {
        let kind = Kind::Connect { address, cause: Arc::new(cause) };
        Self::of(kind, SendState::NotSent)
    }

    pub(crate) fn timeout(while_doing: &'static str, sent: SendState) -> Self {
        Self::of(Kind::Timeout { doing: while_doing, cause: None }, sent)
    }

    pub(crate) fn full() -> Self {
        Self::of(Kind::Full, SendState::NotSent)
    }

    pub(crate) fn conflict() -> Self {
        Self::of(Kind::Conflict, SendState::Answered)
    }

    pub(crate) fn aborted(command: usize, source: ServerError) -> Self {
        Self::of(Kind::Aborted { command, source }, SendState::Answered)
    }

    pub(crate) fn closed(reason: &'static str) -> Self {
        let kind = Kind::Closed { reason, by_us: false, source: None };
        Self::of(kind, SendState::MaybeSent)
    }

    pub(crate) fn closed_by_us() -> Self {
        Self::closed_on_our_side("the client was closed")
    }

    pub(crate) fn closed_on_our_side(reason: &'static str) -> Self {
        let kind = Kind::Closed { reason, by_us: true, source: None };
        Self::of(kind, SendState::MaybeSent)
    }

    pub(crate) fn closed_by(
        reason: &'static str,
        source: impl StdError + Send + Sync + 'static,
    ) -> Self {
        let kind = Kind::Closed { reason, by_us: false, source: Some(Arc::new(source)) };
        Self::of(kind, SendState::MaybeSent)
    }

    pub(crate) fn protocol(reason: &'static str, source: Option<DecodeError>) -> Self {
        Self::of(Kind::Protocol { reason, source }, SendState::MaybeSent)
    }

    pub(crate) fn server(error: ServerError) -> Self {
        Self::of(Kind::Server(error), SendState::Answered)
    }

    pub(crate) fn value(error: ValueError) -> Self {
        Self::of(Kind::Value(error), SendState::Answered)
    }

    /// The same error, where it is that the deadline passed, with what came in between.
    pub(crate) fn because(self, cause: Self) -> Self {
        match *self.kind {
            Kind::Timeout { doing, .. } => {
                Self::of(Kind::Timeout { doing, cause: Some(Arc::new(cause)) }, self.sent)
            }
            _ => self,
        }
    }

    /// The same error for a request of which this much is known.
    pub(crate) fn with_send_state(&self, sent: SendState) -> Self {
        Self { kind: self.kind.clone(), sent }
    }

    /// Whether the deadline passed: of a request, or of an attempt to connect.
    pub fn is_timeout(&self) -> bool {
        match &*self.kind {
            Kind::Timeout { .. } => true,
            Kind::Connect { cause, .. } => matches!(**cause, ConnectFailure::Timeout(_)),
            _ => false,
        }
    }

    /// Whether the request was rejected because as much is under way as may be; see
    /// [`WhenFull::Reject`](crate::WhenFull::Reject).
    pub fn is_full(&self) -> bool {
        matches!(*self.kind, Kind::Full)
    }

    /// Whether a transaction was not carried out, because others changed its keys until the deadline.
    pub fn is_conflict(&self) -> bool {
        matches!(*self.kind, Kind::Conflict)
    }

    /// Which command of a transaction or an atomic pipeline the server refused, the first being 0, so that it carried out
    /// none of them; [`server_error`](Self::server_error) is what it said to that command.
    pub fn aborted_command(&self) -> Option<usize> {
        match *self.kind {
            Kind::Aborted { command, .. } => Some(command),
            _ => None,
        }
    }

    /// Whether the connection ended before the answer was there.
    pub fn is_closed(&self) -> bool {
        matches!(*self.kind, Kind::Closed { .. })
    }

    /// Whether no connection could be established.
    pub fn is_connect(&self) -> bool {
        matches!(*self.kind, Kind::Connect { .. })
    }

    /// Whether the server sent something that is not RESP, or an answer that nobody asked for.
    pub fn is_protocol(&self) -> bool {
        match &*self.kind {
            Kind::Protocol { .. } => true,
            Kind::Connect { cause, .. } => matches!(**cause, ConnectFailure::Protocol(_)),
            _ => false,
        }
    }

    /// The server's error, where it answered with one: to a request, or to the handshake.
    pub fn server_error(&self) -> Option<&ServerError> {
        match &*self.kind {
            Kind::Server(error) | Kind::Aborted { source: error, .. } => Some(error),
            Kind::Connect { cause, .. } => match &**cause {
                ConnectFailure::Refused { source, .. } => Some(source),
                _ => None,
            },
            Kind::Closed { source: Some(source), .. } => source.downcast_ref(),
            _ => None,
        }
    }

    /// Whether a connection that had been there was found to be lost.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(*self.kind, Kind::Closed { .. } | Kind::Protocol { .. })
    }

    /// Whether no connection could be established and another attempt may fare better: the server was not there, or not
    /// able to serve, and has not refused the client as such.
    pub(crate) fn is_down(&self) -> bool {
        match &*self.kind {
            Kind::Connect { cause, .. } => match &**cause {
                cause if cause.is_settings() => false,
                #[cfg(feature = "tls")]
                ConnectFailure::Untrusted(_) | ConnectFailure::NotTls => false,
                ConnectFailure::NotPlain => false,
                ConnectFailure::Refused { source, .. } => {
                    !matches!(source.code(), "WRONGPASS" | "NOAUTH" | "NOPERM" | "NOPROTO")
                }
                _ => true,
            },
            _ => false,
        }
    }

    /// Whether the settings cannot be used.
    pub fn is_config(&self) -> bool {
        match &*self.kind {
            Kind::Config(_) => true,
            Kind::Connect { cause, .. } => cause.is_settings(),
            _ => false,
        }
    }

    /// Whether the caller asked for what the client does not do, so that nothing was sent.
    pub fn is_usage(&self) -> bool {
        matches!(*self.kind, Kind::Usage(_))
    }

    /// Whether the reply is of another type than the one that was asked for.
    pub fn is_value(&self) -> bool {
        matches!(*self.kind, Kind::Value(_))
    }

    /// Whether the request may have reached the server.
    pub fn send_state(&self) -> SendState {
        self.sent
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match &*self.kind {
            Kind::Config(_)
            | Kind::Usage(_)
            | Kind::Full
            | Kind::Value(_)
            | Kind::Closed { by_us: true, .. } => Fault::Caller,
            Kind::Connect { cause, .. } if cause.is_settings() => Fault::Caller,
            _ => Fault::Peer,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.kind {
            Kind::Config(reason) => write!(f, "bad configuration: {reason}"),
            Kind::Usage(reason) => f.write_str(reason),
            Kind::Connect { address, .. } => write!(f, "cannot connect to {address}"),
            Kind::Timeout { doing, .. } => write!(f, "the deadline passed while {doing}"),
            Kind::Full => f.write_str("as much is under way on the connection as may be"),
            Kind::Conflict => {
                f.write_str("the keys of the transaction were changed by others each time")
            }
            Kind::Aborted { command, .. } => {
                write!(f, "the transaction was not carried out: its command {command} was refused")
            }
            Kind::Closed { reason, .. } => write!(f, "the connection ended: {reason}"),
            Kind::Protocol { reason, .. } => write!(f, "the server broke the protocol: {reason}"),
            Kind::Server(error) => write!(f, "{error}"),
            Kind::Value(_) => f.write_str("the reply is not of the type that was asked for"),
        }?;
        let mut source = if f.alternate() { self.source() } else { None };
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Error");
        shown.field("what", &self.to_string());
        if let Some(source) = self.source() {
            shown.field("source", &source);
        }
        shown.field("send_state", &self.sent).finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &*self.kind {
            Kind::Connect { cause, .. } => Some(&**cause),
            Kind::Closed { source, .. } => source.as_ref().map(|source| &**source as _),
            Kind::Protocol { source, .. } => source.as_ref().map(|source| source as _),
            Kind::Value(error) => Some(error),
            Kind::Timeout { cause, .. } => cause.as_ref().map(|cause| &**cause as _),
            Kind::Aborted { source, .. } => Some(source),
            Kind::Config(_) | Kind::Usage(_) | Kind::Full | Kind::Conflict | Kind::Server(_) => {
                None
            }
        }
    }
}
