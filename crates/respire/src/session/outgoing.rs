//! Bytes on their way out.

use std::{collections::VecDeque, fmt, io::IoSlice};

use bytes::{Buf, Bytes, BytesMut};

use crate::command::{Packet, Piece};

/// A tail that grew beyond this in a burst is let go when it has been sent.
const TAIL_BYTES_KEPT: usize = 1024 * 1024;

/// A queue of bytes: pieces that are sent as they are, then a tail that small packets are gathered in.
///
/// `Debug` shows sizes only: the bytes may hold secrets.
#[derive(Default)]
pub(crate) struct Outgoing {
    pieces: VecDeque<Bytes>,
    tail: BytesMut,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.tail.len() + self.pieces.iter().map(Bytes::len).sum::<usize>();
        f.debug_struct("Outgoing").field("bytes", &bytes).finish()
    }
}

impl Outgoing {
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.tail.is_empty()
    }

    pub(crate) fn push(&mut self, packet: &Packet) {
        if let Some([header, body]) = packet.as_small() {
            self.tail.reserve(header.len() + body.len());
            self.tail.extend_from_slice(header);
            self.tail.extend_from_slice(body);
            return;
        }
        for piece in packet.pieces() {
            match piece {
                Piece::Small(bytes) => self.tail.extend_from_slice(bytes),
                Piece::Large(bytes) => {
                    if !self.tail.is_empty() {
                        self.pieces.push_back(self.tail.split().freeze());
                    }
                    self.pieces.push_back(bytes);
                }
            }
        }
    }

    /// Fills `slices` with what is to be sent next, and returns how many it filled.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = Some(&self.tail[..]).filter(|tail| !tail.is_empty());
        let pieces = self.pieces.iter().map(|piece| &piece[..]).chain(tail);
        slices.iter_mut().zip(pieces).map(|(slice, piece)| *slice = IoSlice::new(piece)).count()
    }

    /// Forgets the first `count` bytes.
    ///
    /// # Panics
    ///
    /// When there are fewer.
    pub(crate) fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.pieces.front_mut() {
            if count < first.len() {
                return first.advance(count);
            }
            count -= first.len();
            self.pieces.pop_front();
        }
        self.tail.advance(count);
        if self.tail.is_empty() && self.tail.capacity() > TAIL_BYTES_KEPT {
            self.tail = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, LARGE_BYTES, Pipeline};

    fn drained(mut outgoing: Outgoing, step: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !outgoing.is_empty() {
            let mut slices = [IoSlice::new(&[]); 2];
            let count = outgoing.slices(&mut slices);
            let mut taken = 0;
            for slice in &slices[..count] {
                let part = &slice[..slice.len().min(step - taken)];
                bytes.extend_from_slice(part);
                taken += part.len();
            }
            assert!(taken > 0, "there is something to send");
            outgoing.advance(taken);
        }
        bytes
    }

    #[test]
    fn packets_of_all_sizes_leave_in_order_whatever_the_transport_takes() {
        let fill = |outgoing: &mut Outgoing, expected: &mut Vec<u8>| {
            for (at, size) in
                [3, LARGE_BYTES, 0, 2 * LARGE_BYTES, LARGE_BYTES, 5].iter().enumerate()
            {
                let value = vec![b'a' + at as u8; *size];
                for packet in [
                    Command::new("SET").arg(&value).into_packet().unwrap(),
                    Command::new("SET").arg(value).into_packet().unwrap(),
                ] {
                    expected.extend_from_slice(&packet.to_vec());
                    outgoing.push(&packet);
                }
                let mut pipeline = Pipeline::new();
                pipeline.command(&["PING"]);
                let packet = pipeline.into_packet().unwrap();
                expected.extend_from_slice(&packet.to_vec());
                outgoing.push(&packet);
            }
        };
        for step in [1, 7, 1000, LARGE_BYTES, 1 << 20] {
            let (mut outgoing, mut expected) = (Outgoing::default(), Vec::new());
            fill(&mut outgoing, &mut expected);
            assert!(drained(outgoing, step) == expected, "step {step}");
        }
    }
}
