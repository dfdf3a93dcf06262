//! What `enableRDMA` does to an address.

use serde::Serialize;

use super::ConfigError;

/// What happens where RDMA was asked for and cannot be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rdma {
    /// Opening the index fails.
    #[default]
    Required,
    /// The index is opened over TCP, and a warning is logged. Once opened it stays with what it was opened with.
    Preferred,
}

/// The URL with which the client dials by RDMA. Nothing of the address stands in an error: it may hold a password.
pub(super) fn url(tcp: &str, setting: &str) -> Result<String, ConfigError> {
    let invalid = |problem: &str| {
        ConfigError::invalid(&format!("{setting}.enableRDMA"), format!("contradicts {problem}"))
    };
    let (scheme, rest) = tcp.split_once("://").unwrap_or(("unix", tcp));
    match scheme {
        "redis" | "valkey" => Ok(format!("{scheme}+rdma://{rest}")),
        "redis+rdma" | "valkey+rdma" => Ok(tcp.to_owned()),
        "rediss" | "valkeys" => {
            Err(invalid("the address, which asks for TLS: there is none over RDMA"))
        }
        _ => Err(invalid("the address, which is that of a socket in this machine")),
    }
}

/// What is said where nobody has registered a transport for RDMA.
pub(super) fn not_registered(setting: &str) -> ConfigError {
    let problem = "no transport for RDMA is registered in this process, and TCP is not used in its \
                   place: register one as \"rdma\", set it to false, or set rdma to preferred";
    ConfigError::invalid(&format!("{setting}.enableRDMA"), problem.to_owned())
}
