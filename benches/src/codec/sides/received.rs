use std::sync::Arc;

use bytes::BytesMut;

use crate::codec::buffers::Buffer;

/// A receive buffer that is filled anew for every pass, in the memory of the
/// last one.
pub(super) struct Received {
    source: Arc<Buffer>,
    pub(super) buffer: BytesMut,
}

impl Received {
    pub(super) fn new(source: &Arc<Buffer>) -> Self {
        Self { source: Arc::clone(source), buffer: BytesMut::with_capacity(source.wire.len()) }
    }

    pub(super) fn refill(&mut self) {
        self.buffer.clear();
        self.buffer.extend_from_slice(&self.source.wire);
    }
}
