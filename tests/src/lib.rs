//! What the suites share: a scripted peer, a proxy that fails, the suite that every index passes, the command table.
pub mod chance;
pub mod command_table;
pub mod index_suite;
pub mod ledger;
pub mod lending;
pub mod narrow;
pub mod peer;
pub mod proxy;
pub mod servers;
pub mod socks;
pub mod tls;

/// The examples of README, compiled and, where they need no server, run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// The migration page's, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../docs/migrating-from-redis-rs.md")]
struct Migrating;
