//! A span for each request, for programs that follow a request through what they are made of.

use tracing::{Level, Span, field};

use crate::{command::Packet, error::Error};

/// The span of a request. Names a command only where the table of commands does, and shows no argument.
pub(super) fn of(packet: &Packet) -> Span {
    tracing::span!(
        target: "respire::request",
        Level::TRACE,
        "request",
        command = packet.command_name(),
        commands = packet.replies,
        bytes = packet.len(),
        error = field::Empty,
    )
}

#[cold]
pub(super) fn record(span: &Span, error: &Error) {
    span.record("error", field::display(error));
}
