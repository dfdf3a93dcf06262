//! Valkey over RDMA, as a transport of [respire](https://docs.rs/respire): requests and replies are written by network
//! cards into each other's memory, past both kernels.
//!
//! A server listens for it where it was built and set up to (Valkey 8.0 and later, `rdma-bind` and `rdma-port`). The
//! libraries that this needs, libibverbs and librdmacm, are looked for when a connection is made and not before: the
//! crate builds, and a program that uses it starts, where they are not.
//!
//! For Linux; elsewhere the crate is empty.
//!
//! It is layers, each of which knows only the one below:
//!
//! | module | what it is |
//! |---|---|
//! | `connector`, `connect` | from a URL to a connection |
//! | `driver`, `endpoint` | joins the two below, and is a transport |
//! | `verbs`, `sys` | who owns what the libraries hand out; how they are called |
//! | `protocol` | which message may be sent when, and what a received one means: no memory, no clock, no card |
//!
//! `docs/design/rdma.md` has the choices.

#![cfg(target_os = "linux")]
#![allow(
    dead_code,
    unused_imports,
    reason = "the driver, which uses what is here, is not there yet"
)]

mod connect;
mod connector;
mod device;
mod driver;
mod endpoint;
mod protocol;
mod sys;
mod verbs;

pub use connector::register;
