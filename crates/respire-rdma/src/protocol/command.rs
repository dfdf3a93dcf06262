//! The control commands: 32 bytes each, numbers in network order.
//!
//! ```text
//! 0      2        4           16         24        28      32
//! opcode select   0 ......................features ........   GetServerFeature 0, SetClientFeature 1
//! opcode 0 ................................................   Keepalive 2
//! opcode 0 ...................address....length....key.....   RegisterXferMemory 3
//! ```

/// Every command has this length.
pub(crate) const COMMAND_BYTES: usize = 32;

/// What the two ends tell each other beside the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Asks a server for the features in `select`; it answers with the same `select`.
    GetServerFeature { select: u16, features: u64 },
    /// Sets features; no server knows any.
    SetClientFeature { select: u16, features: u64 },
    /// Says nothing.
    Keepalive,
    /// Announces memory that the peer may write to, from its first byte on.
    RegisterXferMemory(XferMemory),
}

/// Memory of one end that the other may write to. It is not empty, and does not go beyond the end of the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct XferMemory {
    address: u64,
    length: u32,
    key: u32,
}

/// Why bytes are no command that a peer may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("a command has {0} bytes and not {COMMAND_BYTES}")]
    Length(usize),
    #[error("the command has the unknown opcode {0}")]
    Opcode(u16),
    #[error("the announced memory is empty")]
    EmptyMemory,
    #[error("the announced memory goes beyond the end of the address space")]
    MemoryWraps,
}

const GET_SERVER_FEATURE: u16 = 0;
const SET_CLIENT_FEATURE: u16 = 1;
const KEEPALIVE: u16 = 2;
const REGISTER_XFER_MEMORY: u16 = 3;

impl Command {
    pub(crate) fn encode(&self) -> [u8; COMMAND_BYTES] {
        let mut bytes = [0; COMMAND_BYTES];
        let opcode = match *self {
            Self::GetServerFeature { select, features } => {
                encode_features(&mut bytes, select, features);
                GET_SERVER_FEATURE
            }
            Self::SetClientFeature { select, features } => {
                encode_features(&mut bytes, select, features);
                SET_CLIENT_FEATURE
            }
            Self::Keepalive => KEEPALIVE,
            Self::RegisterXferMemory(XferMemory { address, length, key }) => {
                bytes[16..24].copy_from_slice(&address.to_be_bytes());
                bytes[24..28].copy_from_slice(&length.to_be_bytes());
                bytes[28..32].copy_from_slice(&key.to_be_bytes());
                REGISTER_XFER_MEMORY
            }
        };
        bytes[..2].copy_from_slice(&opcode.to_be_bytes());
        bytes
    }

    /// Reads a command. What is to be zero is not looked at: a later server may have put something there.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CommandError> {
        let bytes: &[u8; COMMAND_BYTES] =
            bytes.try_into().map_err(|_| CommandError::Length(bytes.len()))?;
        let select = u16::from_be_bytes([bytes[2], bytes[3]]);
        match u16::from_be_bytes([bytes[0], bytes[1]]) {
            GET_SERVER_FEATURE => {
                Ok(Self::GetServerFeature { select, features: u64_at(bytes, 24) })
            }
            SET_CLIENT_FEATURE => {
                Ok(Self::SetClientFeature { select, features: u64_at(bytes, 24) })
            }
            KEEPALIVE => Ok(Self::Keepalive),
            REGISTER_XFER_MEMORY => {
                let sizes = u64_at(bytes, 24);
                XferMemory::new(u64_at(bytes, 16), (sizes >> 32) as u32, sizes as u32)
                    .map(Self::RegisterXferMemory)
            }
            opcode => Err(CommandError::Opcode(opcode)),
        }
    }
}

impl XferMemory {
    pub(crate) fn new(address: u64, length: u32, key: u32) -> Result<Self, CommandError> {
        if length == 0 {
            return Err(CommandError::EmptyMemory);
        }
        if address.checked_add(u64::from(length) - 1).is_none() {
            return Err(CommandError::MemoryWraps);
        }
        Ok(Self { address, length, key })
    }

    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    pub(crate) fn length(&self) -> u32 {
        self.length
    }

    pub(crate) fn key(&self) -> u32 {
        self.key
    }
}

fn encode_features(bytes: &mut [u8; COMMAND_BYTES], select: u16, features: u64) {
    bytes[2..4].copy_from_slice(&select.to_be_bytes());
    bytes[24..].copy_from_slice(&features.to_be_bytes());
}

fn u64_at(bytes: &[u8; COMMAND_BYTES], at: usize) -> u64 {
    bytes[at..at + 8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_look_as_the_protocol_says() {
        let memory = XferMemory { address: 0x0102_0304_0506_0708, length: 0x10_0000, key: 0x2a2b };
        let mut expected = [0; 32];
        expected[1] = 3;
        expected[16..].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 0, 0x10, 0, 0, 0, 0, 0x2a, 0x2b]);
        assert_eq!(Command::RegisterXferMemory(memory).encode(), expected);
        let mut expected = [0; 32];
        expected[2..4].copy_from_slice(&[0x12, 0x34]);
        expected[31] = 7;
        let features = Command::GetServerFeature { select: 0x1234, features: 7 };
        assert_eq!(features.encode(), expected);
        let mut expected = [0; 32];
        expected[1] = 2;
        assert_eq!(Command::Keepalive.encode(), expected);
    }

    #[test]
    fn commands_are_read_as_they_are_written() {
        let memory = XferMemory { address: u64::MAX - 63, length: 64, key: u32::MAX };
        for command in [
            Command::GetServerFeature { select: u16::MAX, features: u64::MAX },
            Command::SetClientFeature { select: 1, features: 1 << 63 },
            Command::Keepalive,
            Command::RegisterXferMemory(memory),
            Command::RegisterXferMemory(XferMemory { address: 0, length: u32::MAX, key: 0 }),
        ] {
            assert_eq!(Command::decode(&command.encode()), Ok(command));
        }
    }

    #[test]
    fn what_should_be_zero_is_not_looked_at() {
        let mut bytes = [0xff; 32];
        bytes[..2].copy_from_slice(&[0, 2]);
        assert_eq!(Command::decode(&bytes), Ok(Command::Keepalive));
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for length in [0, 1, 2, 31, 33, 64] {
            assert_eq!(Command::decode(&vec![0; length]), Err(CommandError::Length(length)));
        }
        for opcode in [4, 0x0300, u16::MAX] {
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&opcode.to_be_bytes());
            assert_eq!(Command::decode(&bytes), Err(CommandError::Opcode(opcode)));
        }
        let announce = |address: u64, length: u32| {
            let memory = XferMemory { address, length, key: 1 };
            Command::decode(&Command::RegisterXferMemory(memory).encode())
        };
        assert_eq!(announce(4096, 0), Err(CommandError::EmptyMemory));
        assert_eq!(announce(u64::MAX, 2), Err(CommandError::MemoryWraps));
        assert_eq!(announce(u64::MAX - 62, 64), Err(CommandError::MemoryWraps));
    }
}
