//! Whether this machine can do RDMA.

use std::net::IpAddr;

/// What this machine and this process have for RDMA; see [`probe`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Probe {
    /// Whether the libraries can be loaded, and the connection manager opened.
    pub is_loaded: bool,
    /// The devices that there are.
    pub devices: Vec<Device>,
    /// How many bytes this process may lock in memory (`RLIMIT_MEMLOCK`); nothing where there is no limit.
    pub locked_bytes_max: Option<u64>,
    /// What stands in the way of a connection, or soon will, in words for people; empty where nothing does.
    pub problems: Vec<String>,
}

/// An RDMA device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Device {
    /// What the parameter `rdma_device` calls it.
    pub name: String,
    /// Whether one of its ports is up.
    pub is_active: bool,
    /// The addresses of its ports, where they are those of a network device.
    pub addresses: Vec<IpAddr>,
}

/// Looks at what this machine has for RDMA. It opens the libraries and the connection manager, and connects to nothing; it
/// reads files and may block for milliseconds.
#[cfg(target_os = "linux")]
pub fn probe() -> Probe {
    let mut probe = Probe {
        is_loaded: false,
        devices: Vec::new(),
        locked_bytes_max: rustix::process::getrlimit(rustix::process::Resource::Memlock).current,
        problems: Vec::new(),
    };
    let libraries = match crate::sys::Libraries::load() {
        Ok(libraries) => libraries,
        Err(error) => {
            probe.problems.push(error.to_string());
            return probe;
        }
    };
    match crate::verbs::EventChannel::new(libraries) {
        Ok(_) => probe.is_loaded = true,
        Err(error) => probe.problems.push(error.to_string()),
    }
    match crate::verbs::devices(libraries) {
        Ok(names) => probe.devices = names.into_iter().map(crate::device::describe).collect(),
        Err(error) => probe.problems.push(format!("the RDMA devices cannot be listed: {error}")),
    }
    if probe.devices.is_empty() {
        probe.problems.push(
            "there is no RDMA device; `rdma link add` makes one of a network device, without a card".to_owned(),
        );
    } else if !probe.devices.iter().any(|device| device.is_active) {
        probe.problems.push("no RDMA device has a port that is up".to_owned());
    }
    if let Some(limit) = probe.locked_bytes_max.filter(|limit| *limit < LOCKED_BYTES_MIN) {
        probe.problems.push(format!(
            "this process may lock {} KiB of memory, and each connection needs about 2 MiB (RLIMIT_MEMLOCK, `ulimit -l`)",
            limit / 1024
        ));
    }
    probe
}

/// Looks at what this machine has for RDMA: elsewhere than on Linux, nothing.
#[cfg(not(target_os = "linux"))]
pub fn probe() -> Probe {
    Probe {
        is_loaded: false,
        devices: Vec::new(),
        locked_bytes_max: None,
        problems: vec!["RDMA is used on Linux only".to_owned()],
    }
}

/// With less, a handful of connections is the end.
#[cfg(target_os = "linux")]
const LOCKED_BYTES_MIN: u64 = 64 * 1024 * 1024;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_and_what_is_there_is_named() {
        let probe = probe();
        // Whatever this machine has: without a device or a library there is a problem, and a device has its name.
        assert!(probe.is_loaded || !probe.problems.is_empty());
        assert!(!probe.devices.is_empty() || !probe.problems.is_empty());
        assert!(probe.devices.iter().all(|device| !device.name.is_empty()));
    }
}
