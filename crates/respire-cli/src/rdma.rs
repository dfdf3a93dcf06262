//! RDMA as a transport of the client, where it is built in: on Linux, with the feature `rdma`.

/// Registers the transport, so that `valkey+rdma://` and `enableRDMA` find it. Does so once, and nothing where RDMA is not
/// built in, or where the program has registered another under the name.
pub fn register() {
    #[cfg(all(feature = "rdma", target_os = "linux"))]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| _ = respire_rdma::register());
    }
}
