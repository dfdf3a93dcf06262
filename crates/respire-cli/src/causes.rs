//! Errors as a person reads them.

use std::error::Error;

/// An error and all its causes in one line, the last cause at the end.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        line = format!("{line}: {cause}");
        next = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{what}")]
    struct Level {
        what: &'static str,
        source: Option<Box<Level>>,
    }

    #[test]
    fn causes_follow_in_order() {
        let cause = Level { what: "no space", source: None };
        let middle = Level { what: "cannot write", source: Some(Box::new(cause)) };
        let error = Level { what: "failed", source: Some(Box::new(middle)) };
        assert_eq!(with_causes(&error), "failed: cannot write: no space");
    }
}
