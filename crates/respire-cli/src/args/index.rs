//! The command line of `index`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use respire_cli::index::parse_entry;
use respire_kvblock::{BlockHash, Layout, PodEntry};

/// Ask or change a live index by hand.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct IndexArgs {
    /// The server [default: the one that VALKEY_ADDR names]
    #[arg(long, value_name = "URL", global = true, conflicts_with = "config")]
    pub(crate) url: Option<String>,

    /// A file with llm-d's configuration of an indexer, in JSON
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,

    /// How the index is kept on the server [default: llm-d]
    #[arg(long, value_name = "llm-d|bitmap", global = true, hide_possible_values = true)]
    #[arg(value_enum, conflicts_with = "config")]
    pub(crate) layout: Option<LayoutArg>,

    /// What the names of the index's keys begin with [default: the layout's]
    #[arg(long, value_name = "TEXT", global = true, conflicts_with = "config")]
    pub(crate) key_prefix: Option<String>,

    /// Print one JSON object
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) action: Action,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LayoutArg {
    LlmD,
    Bitmap,
}

impl From<LayoutArg> for Layout {
    fn from(layout: LayoutArg) -> Self {
        match layout {
            LayoutArg::LlmD => Self::LlmD,
            LayoutArg::Bitmap => Self::Bitmap,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Find out who holds the first blocks of a prompt
    Lookup {
        /// The request keys in the order of the prompt [default: read from standard input]
        #[arg(value_name = "KEY")]
        keys: Vec<BlockHash>,

        /// Only these pods
        #[arg(long, value_name = "NAME")]
        pod: Vec<String>,
    },
    /// Add entries to request keys
    Add {
        /// The request keys [default: read from standard input]
        #[arg(value_name = "KEY")]
        keys: Vec<BlockHash>,

        /// Who holds the blocks
        #[arg(long, value_name = "POD@TIER", required = true, value_parser = parse_entry)]
        entry: Vec<PodEntry>,

        /// What an engine calls the blocks, in the same order
        #[arg(long, value_name = "KEY")]
        engine_key: Vec<BlockHash>,
    },
    /// Remove entries from keys
    Evict {
        /// The keys [default: read from standard input]
        #[arg(value_name = "KEY")]
        keys: Vec<BlockHash>,

        /// Which entries
        #[arg(long, value_name = "POD@TIER", required = true, value_parser = parse_entry)]
        entry: Vec<PodEntry>,

        /// The keys are an engine's
        #[arg(long)]
        engine: bool,
    },
    /// Remove a pod with all of its entries
    Clear {
        /// The pod
        #[arg(value_name = "POD")]
        pod: String,
    },
    /// Give back the room of pods that are gone; bitmap layout only
    Sweep,
    /// Count what there is
    Stat {
        /// Count the entries of each pod as well, which reads the whole index; llm-d's layout only
        #[arg(long)]
        entries: bool,
    },
}

/// Wrapped by hand, at 80 columns.
const AFTER_HELP: &str = "\
Keys are unsigned decimal numbers; `respire hash` prints those of a prompt. An
entry is POD@TIER, such as 10.0.0.1:8000@gpu, and behind it [speculative] and
[group=N] where they apply.

  respire hash --model M < tokens.json | respire index lookup --url URL

Lookup prints each block that was found with its entries, and how many blocks
each pod holds from the first on; with --json:
  {\"asked\":3,\"complete\":true,\"blocks\":[{\"key\":7,\"entries\":[\"a@gpu\"]}],
   \"pods\":{\"a\":1}}
Add, evict and clear print nothing, or {\"done\":true}. Sweep walks over the
whole database once and prints what it has done.

Exit status: 0 if it was done, even if nothing was found; 1 if the index cannot
be asked or refuses; 2 for a wrong command line.";
