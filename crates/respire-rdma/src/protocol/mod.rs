//! Valkey over RDMA without a card: no memory, no clock, no task; counters only.

mod command;
mod failure;
