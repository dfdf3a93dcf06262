//! Those who are compared.

use std::fmt;
use std::future::Future;

use anyhow::Result;
use bytes::Bytes;
use clap::ValueEnum;

use super::data::Data;
use super::floor;
use super::server::Endpoints;
use super::turn::{Runner, Turns};
use super::workload::{Job, Workload};

mod fred;
mod redis;
mod respire;
mod rustis;

/// A side, in the order of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Side {
    /// Prebuilt bytes on a stream of the runtime's.
    Floor,
    /// respire, driven by the tasks of the caller's runtime.
    Respire,
    /// respire, asking for replies again and again instead of sleeping.
    RespireBusy,
    /// rustis
    Rustis,
    /// redis-rs
    Redis,
    /// fred
    Fred,
}

impl Side {
    /// Whether it is another client.
    pub fn is_peer(self) -> bool {
        !matches!(self, Self::Floor | Self::Respire | Self::RespireBusy)
    }

    /// Whether it is of interest. Busy polling is for those who wait for one reply at a time: many
    /// tasks leave nobody time to sleep.
    pub fn takes_part(self, job: Job) -> bool {
        self != Self::RespireBusy || job == Job::Gets { tasks: 1 }
    }

    /// Connects, on a runtime of the side's own.
    ///
    /// # Errors
    ///
    /// When the side cannot connect this way, or cannot connect at all.
    pub fn connect(
        self,
        workload: Workload,
        endpoints: &Endpoints,
        data: &Data,
    ) -> Result<Box<dyn Turns>> {
        let transport = workload.transport;
        match self {
            Self::Floor => floor::connect(workload, endpoints, data),
            Self::Respire => Runner::start(workload, data, respire::connect(endpoints, transport)),
            Self::RespireBusy => {
                Runner::start(workload, data, respire::connect_busy(endpoints, transport))
            }
            Self::Rustis => Runner::start(workload, data, rustis::connect(endpoints, transport)),
            Self::Redis => Runner::start(workload, data, redis::connect(endpoints, transport)),
            Self::Fred => Runner::start(workload, data, fred::connect(endpoints, transport)),
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Floor => "floor",
            Self::Respire => "respire",
            Self::RespireBusy => "respire, busy",
            Self::Rustis => "rustis",
            Self::Redis => "redis-rs",
            Self::Fred => "fred",
        })
    }
}

/// A connected client. Its clones share the connection.
pub trait Client: Clone + Send + Sync + 'static {
    /// What a value is read as.
    type Value: AsRef<[u8]> + Send;

    /// `GET`
    fn get(&mut self, key: &str) -> impl Future<Output = Result<Self::Value>> + Send;

    /// `SET`
    fn set(&mut self, key: &str, value: &Bytes) -> impl Future<Output = Result<()>> + Send;

    /// A `GET` for each key in one pipeline. Each value is given to `each`.
    fn get_all<F: FnMut(&[u8]) + Send>(
        &mut self,
        keys: &[String],
        each: F,
    ) -> impl Future<Output = Result<()>> + Send;

    /// An `HKEYS` for each key in one pipeline. Each field is given to `each`.
    fn hash_keys_all<F: FnMut(&[u8]) + Send>(
        &mut self,
        keys: &[String],
        each: F,
    ) -> impl Future<Output = Result<()>> + Send;
}
