//! What the suites share: real servers, a scripted peer, an allocation counter.
pub mod command_table;
pub mod index_suite;
pub mod peer;

/// The examples of README, compiled and, where they need no server, run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
