//! Computes the block keys of a prompt, for whoever has to compare them with those of another program.
//!
//! # Example
//!
//! ```
//! use respire_cli::hash::{self, Format};
//! use respire_kvblock::{TokenProcessor, TokenProcessorConfig};
//!
//! let config = TokenProcessorConfig { block_size_tokens: 4, ..Default::default() };
//! let processor = TokenProcessor::new(&config)?;
//! let keys = hash::keys(b"[8197, 438, 322, 18926, 432, 45600, 49]", &processor, "ibm-granite/granite-3.1-8b-instruct")?;
//! let mut printed = Vec::new();
//! hash::print(&keys, Format::Lines, &mut printed)?;
//! assert_eq!(printed, b"1334984470577408192\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod input;

use std::io::{self, Write};

use respire_kvblock::{BlockHash, ExtraCountError, TokenProcessor};
use serde::Serialize;
use thiserror::Error;

use self::input::Input;

/// How keys are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One decimal number a line.
    #[default]
    Lines,
    /// One JSON object, with what the keys were computed from.
    Json,
}

/// The keys of a prompt, and what they were computed from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Keys {
    model: String,
    algorithm: &'static str,
    block_size: usize,
    /// The key that the first block follows: the parent that was given, or the model's root.
    root: u64,
    tokens: usize,
    keys: Vec<u64>,
}

impl Keys {
    /// The keys, one for each full block.
    #[must_use]
    pub fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// How many tokens there were.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }
}

/// Why there are no keys.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HashError {
    /// The input is not the JSON that it has to be.
    #[error("line {line}, column {column}: {problem}")]
    Input {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong there.
        problem: String,
    },
    /// There is not an element of `extra` for each full block.
    #[error("`extra` cannot be used")]
    Extra(#[from] ExtraCountError),
}

/// Computes the keys of the tokens in a JSON text: an array of them, or an object with `tokens` and, if need be, `parent`
/// and `extra`.
///
/// # Errors
///
/// When the text is something else; the error says where and why.
pub fn keys(text: &[u8], processor: &TokenProcessor, model: &str) -> Result<Keys, HashError> {
    let input = Input::read(text)?;
    let (parent, tokens) = (input.parent, &*input.tokens);
    let keys = processor.block_keys_with_extra(parent, tokens, model, &input.extra)?;
    let root = if parent == BlockHash::EMPTY { processor.root(model) } else { parent };
    Ok(Keys {
        model: model.to_owned(),
        algorithm: processor.algorithm().name(),
        block_size: processor.block_size(),
        root: root.0,
        tokens: tokens.len(),
        keys: keys.into_iter().map(|key| key.0).collect(),
    })
}

/// Prints keys.
///
/// # Errors
///
/// When the output fails.
pub fn print(keys: &Keys, format: Format, output: &mut impl Write) -> io::Result<()> {
    match format {
        Format::Lines => keys.keys.iter().try_for_each(|key| writeln!(output, "{key}"))?,
        Format::Json => {
            serde_json::to_writer(&mut *output, keys)?;
            output.write_all(b"\n")?;
        }
    }
    output.flush()
}

#[cfg(test)]
mod tests;
