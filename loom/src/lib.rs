//! What in the client synchronises by atomics and decides something by them, in every order that its threads and memory
//! may take: `cargo test` in this directory. The files are the client's own; see docs/design/client.md.

#![cfg(test)]

/// Of the client's, what the files need that are compiled in.
mod session {
    pub(crate) mod push {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct ConnectionId(pub(crate) u64);
    }
}

mod cache;
