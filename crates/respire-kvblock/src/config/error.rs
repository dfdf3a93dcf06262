//! What is wrong with a configuration.

use std::fmt;

/// What is wrong with a configuration: where, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// The text is not JSON.
    Syntax { line: usize, column: usize, problem: String },
    /// One setting cannot be used. No value of an address stands in the text: it may hold a password.
    Setting { setting: String, problem: String },
    /// There is no backend.
    NoBackend,
}

impl ConfigError {
    pub(crate) fn syntax(error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        // The library's text ends with the position, which stands at the front here.
        let mut problem = error.to_string();
        if let Some(end) = problem.rfind(" at line ") {
            problem.truncate(end);
        }
        Self { kind: Kind::Syntax { line, column, problem } }
    }

    pub(crate) fn invalid(setting: &str, problem: String) -> Self {
        Self { kind: Kind::Setting { setting: setting.to_owned(), problem } }
    }

    pub(crate) fn no_backend() -> Self {
        Self { kind: Kind::NoBackend }
    }

    /// The setting that cannot be used, with what it stands in: `valkeyConfig.enableRDMA`. What belongs to the index is
    /// named from within `kvBlockIndexConfig`, whether it was found in reading or in opening.
    pub fn setting(&self) -> Option<&str> {
        match &self.kind {
            Kind::Setting { setting, .. } => Some(setting),
            Kind::Syntax { .. } | Kind::NoBackend => None,
        }
    }

    /// Line and column, each from 1, where the text stops being JSON.
    pub fn position(&self) -> Option<(usize, usize)> {
        match self.kind {
            Kind::Syntax { line, column, .. } => Some((line, column)),
            Kind::Setting { .. } | Kind::NoBackend => None,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Syntax { line, column, problem } => {
                write!(f, "line {line}, column {column}: {problem}")
            }
            Kind::Setting { setting, problem } => write!(f, "{setting}: {problem}"),
            Kind::NoBackend => f.write_str("no valid index configuration provided"),
        }
    }
}

impl std::error::Error for ConfigError {}
