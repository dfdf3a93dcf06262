//! Valkey over RDMA, as a transport of [respire](https://docs.rs/respire): requests and replies are written by network
//! cards into each other's memory, past both kernels.
//!
//! A server listens for it where it was built and set up to (Valkey 8.0 and later, `rdma-bind` and `rdma-port`). The
//! libraries that this needs, libibverbs and librdmacm, are looked for when a connection is made and not before: the
//! crate builds, and a program that uses it starts, where they are not.
//!
//! For Linux; elsewhere connecting is an error, or goes over TCP where the settings allow that.
//!
//! It is layers, each of which knows only the ones below:
//!
//! | module | what it is |
//! |---|---|
//! | `config`, `connector`, `connect` | from a URL to a connection |
//! | `driver`, `endpoint` | joins the two below, and is a transport |
//! | `verbs`, `sys` | who owns what the libraries hand out; how they are called |
//! | `protocol` | which message may be sent when, and what a received one means: no memory, no clock, no card |
//!
//! `docs/rdma.md` says how to set it up and what it cannot do; `docs/design/rdma.md` has the choices.

mod config;
#[cfg(target_os = "linux")]
mod connect;
mod connector;
#[cfg(target_os = "linux")]
mod device;
#[cfg(target_os = "linux")]
mod driver;
#[cfg(target_os = "linux")]
mod endpoint;
#[cfg(target_os = "linux")]
mod news;
#[cfg(target_os = "linux")]
mod off_thread;
mod probe;
#[cfg(target_os = "linux")]
mod protocol;
#[cfg(target_os = "linux")]
mod sys;
#[cfg(target_os = "linux")]
mod verbs;

pub use config::{RdmaConfig, Requirement};
pub use connector::register;
pub use probe::{Device, Probe, probe};
