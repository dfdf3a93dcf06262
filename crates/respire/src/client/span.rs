//! A span for each request, for programs that follow a request through what they are made of.

use std::future::Future;

use tracing::{Instrument, Level, Span, field};

use crate::{command::Packet, error::Error};

/// Runs a request in a span of its own, which gets the error if there is one. Names a command only where the table of
/// commands does, and shows no argument.
pub(super) async fn around<T>(
    packet: &Packet,
    request: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let span = tracing::span!(
        target: "respire::request",
        Level::TRACE,
        "request",
        command = packet.command_name(),
        commands = packet.replies,
        bytes = packet.len(),
        error = field::Empty,
    );
    let outcome = request.instrument(span.clone()).await;
    if let Err(error) = &outcome {
        record(&span, error);
    }
    outcome
}

#[cold]
fn record(span: &Span, error: &Error) {
    span.record("error", field::display(error));
}
