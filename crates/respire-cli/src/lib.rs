//! What the `respire` command is made of, as a library so that tests can reach in.
//!
//! [`local_server`] starts a private Valkey or Redis server in a temporary directory and stops it
//! again.

pub mod generate;
pub mod local_server;
pub mod pod;
pub mod route;
pub mod stats;
pub mod trace;
mod watchdog;
