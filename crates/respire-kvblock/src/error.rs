//! Why a call to an index failed.

use std::{borrow::Cow, error::Error as StdError, fmt};

use crate::{BlockHash, ConfigError};

/// Why a call to an index failed.
///
/// `Display` says what happened at this level, in llm-d's words where it has some; [`source`](StdError::source) leads to
/// the cause. Neither shows credentials.
#[derive(Clone, Debug)]
pub struct IndexError {
    kind: Box<Kind>,
}

#[derive(Clone, Debug)]
enum Kind {
    InvalidInput(&'static str),
    EngineKeyNotFound(BlockHash),
    InvalidHash(String),
    ForeignKey(String),
    Config(ConfigError),
    Create { backend: &'static str, source: IndexError },
    Contended,
    Full,
    Client { doing: Cow<'static, str>, source: respire::Error },
}

impl IndexError {
    /// What an [`Index`](crate::Index) answers to [`add`](crate::Index::add) without keys or entries.
    pub(crate) const NOTHING_TO_ADD: &'static str =
        "no keys or entries provided for adding to index";
    pub(crate) const NOTHING_TO_EVICT: &'static str =
        "no keys or entries provided for eviction from index";

    pub(crate) fn invalid_input(what: &'static str) -> Self {
        Kind::InvalidInput(what).into()
    }

    pub(crate) fn engine_key_not_found(engine_key: BlockHash) -> Self {
        Kind::EngineKeyNotFound(engine_key).into()
    }

    pub(crate) fn invalid_hash(found: &[u8]) -> Self {
        Kind::InvalidHash(excerpt(found)).into()
    }

    pub(crate) fn foreign_key(key: &[u8]) -> Self {
        Kind::ForeignKey(excerpt(key)).into()
    }

    pub(crate) fn contended() -> Self {
        Kind::Contended.into()
    }

    pub(crate) fn full() -> Self {
        Kind::Full.into()
    }

    pub(crate) fn create(backend: &'static str, source: IndexError) -> Self {
        Kind::Create { backend, source }.into()
    }

    pub(crate) fn client(doing: impl Into<Cow<'static, str>>, source: respire::Error) -> Self {
        Kind::Client { doing: doing.into(), source }.into()
    }

    /// Whether the call could not have worked: something that has to be there was left out.
    pub fn is_invalid_input(&self) -> bool {
        matches!(*self.kind, Kind::InvalidInput(_))
    }

    /// Whether the engine key that was asked for is not mapped.
    pub fn is_not_found(&self) -> bool {
        matches!(*self.kind, Kind::EngineKeyNotFound(_))
    }

    /// Whether a key on the server holds what the index cannot have written there, and has left alone.
    pub fn is_foreign_data(&self) -> bool {
        matches!(*self.kind, Kind::InvalidHash(_) | Kind::ForeignKey(_))
    }

    /// Whether the index has no column left for an entry: a sweep frees those of pods that are gone.
    pub fn is_full(&self) -> bool {
        matches!(*self.kind, Kind::Full)
    }

    /// Whether a deadline passed on the way to the server and back.
    pub fn is_timeout(&self) -> bool {
        self.client_error().is_some_and(respire::Error::is_timeout)
    }

    /// What is wrong with the configuration, where that is the reason.
    pub fn config_error(&self) -> Option<&ConfigError> {
        match &*self.kind {
            Kind::Config(error) => Some(error),
            Kind::Create { source, .. } => source.config_error(),
            _ => None,
        }
    }

    /// The client's error, where the server could not be reached, did not answer, or answered with an error.
    pub fn client_error(&self) -> Option<&respire::Error> {
        match &*self.kind {
            Kind::Client { source, .. } => Some(source),
            Kind::Create { source, .. } => source.client_error(),
            _ => None,
        }
    }
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.kind {
            Kind::InvalidInput(what) => f.write_str(what),
            Kind::EngineKeyNotFound(engine_key) => write!(f, "engine key not found: {engine_key}"),
            Kind::InvalidHash(found) => write!(f, "invalid hash format: {found}"),
            Kind::ForeignKey(key) => {
                write!(f, "the key \"{key}\" is taken by something that is not the index's")
            }
            Kind::Config(_) => f.write_str("the configuration of the index cannot be used"),
            Kind::Create { backend, .. } => write!(f, "failed to create {backend} index"),
            Kind::Contended => f.write_str("the index changes faster than it can be used"),
            Kind::Full => f.write_str("the index has no column left"),
            Kind::Client { doing, .. } => f.write_str(doing),
        }
    }
}

impl StdError for IndexError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &*self.kind {
            Kind::Config(error) => Some(error),
            Kind::Create { source, .. } => Some(source),
            Kind::Client { source, .. } => Some(source),
            Kind::InvalidInput(_)
            | Kind::Contended
            | Kind::Full
            | Kind::EngineKeyNotFound(_)
            | Kind::InvalidHash(_)
            | Kind::ForeignKey(_) => None,
        }
    }
}

/// The most bytes of somebody else's content that a text quotes.
const EXCERPT_MAX: usize = 64;

/// What is shown of bytes that somebody else has written: the start of them, nothing but printable ASCII.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    match bytes.get(..EXCERPT_MAX) {
        Some(start) if start.len() < bytes.len() => {
            format!("{}... ({} bytes)", start.escape_ascii(), bytes.len())
        }
        _ => bytes.escape_ascii().to_string(),
    }
}

impl From<ConfigError> for IndexError {
    fn from(error: ConfigError) -> Self {
        Kind::Config(error).into()
    }
}

impl From<Kind> for IndexError {
    fn from(kind: Kind) -> Self {
        Self { kind: Box::new(kind) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_written_is_quoted_in_part_and_escaped() {
        let error = IndexError::invalid_hash(b"model@77");
        assert_eq!(error.to_string(), "invalid hash format: model@77");
        let error = IndexError::invalid_hash(b"\x1b[31m\n\xff\"");
        assert_eq!(error.to_string(), r#"invalid hash format: \x1b[31m\n\xff\""#);
        assert_eq!(excerpt(&[b'x'; 64]), "x".repeat(64));
        let long = excerpt(&vec![b'\n'; 1 << 20]);
        assert_eq!(long, format!("{}... (1048576 bytes)", r"\n".repeat(64)));
    }
}
