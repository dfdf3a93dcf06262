//! What the `respire` command is made of, as a library so that tests can reach in.
//!
//! [`replay::run`] sends the requests of a [`trace`], or of a [`generate`]d workload, through
//! simulated [`pod`]s in front of the index of a [`store`], and sums up in a [`report`].
//! [`mod@bench`] loads a server and measures it. [`decode`] prints raw replies, [`hash`] block keys.
//! [`doctor`] examines a server.
//! [`local_server`] starts a private Valkey or Redis server in a temporary directory and stops it
//! again.
//!
//! # Example
//!
//! ```
//! use respire_cli::fleet::FleetSize;
//! use respire_cli::generate::Generator;
//! use respire_cli::pod::Capacity;
//! use respire_cli::replay::{self, Options};
//! use respire_cli::route::Route;
//! use respire_cli::store::Store;
//! use tokio_util::sync::CancellationToken;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut store = Store::memory(FleetSize { pods: 4, capacity: Capacity::Unlimited }, 0);
//! let options = Options { route: Route::Index, prefill_rate: 8000.0, writers: None, restart: None };
//! let requests = Generator::new(1).take(100).map(Ok);
//! let stop = CancellationToken::new();
//! let report = replay::run(&options, requests, &mut store, || (), &stop).await?;
//! assert_eq!((report.requests, report.false_hits, report.missed_blocks), (100, 0, 0));
//! # Ok(())
//! # }
//! ```

pub mod bench;
pub mod causes;
pub mod decode;
pub mod doctor;
mod dump;
pub mod fleet;
pub mod generate;
pub mod hash;
pub mod index;
pub mod keys;
pub mod local_server;
pub mod oracle;
pub mod pod;
pub mod rdma;
pub mod replay;
pub mod report;
pub mod restart;
pub mod route;
pub mod source;
pub mod stats;
pub mod store;
pub mod trace;
mod watchdog;
mod writers;
mod written;
