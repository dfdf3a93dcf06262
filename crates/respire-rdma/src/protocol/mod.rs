//! Valkey over RDMA without a card: which message may be sent when, and what a received one means.
//!
//! A [`Session`] has no memory, no clock and no task; it counts. See there for who calls what.

mod budget;
mod command;
mod failure;
mod receiving;
mod sending;
mod session;
mod work;

#[cfg(test)]
mod history;
#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;
#[cfg(test)]
mod simulation;

#[cfg(test)]
use self::failure::Failure;
pub(crate) use self::{
    command::{COMMAND_BYTES, XferMemory},
    failure::WorkStatus,
    sending::{CommandSend, Write},
    session::{ConnectionEvent, Counts, Receive, Session, Settings},
    work::{Outcome, WorkId},
};
