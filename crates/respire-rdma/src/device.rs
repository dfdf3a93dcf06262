//! Which devices there are, and which addresses are theirs.

use std::{
    fs, io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

/// Where the kernel says what it knows of devices.
const CLASS: &str = "/sys/class/infiniband";

/// An address of the device of the target's kind, to be reached from: the connection manager then chooses that device. Nothing
/// where the device has no such address, as with InfiniBand, whose addresses are others: the routing tables choose then.
pub(crate) fn source_address(device: &str, target: SocketAddr) -> io::Result<Option<SocketAddr>> {
    let folder = folder(device)?;
    let found = addresses(&folder)?
        .into_iter()
        .find(|address| address.is_ipv4() == target.is_ipv4() && is_usable(address, &target));
    Ok(found.map(|address| SocketAddr::new(address, 0)))
}

/// A link-local address reaches its own link only, and needs to be told which; it is left to the routing tables.
fn is_usable(address: &IpAddr, target: &SocketAddr) -> bool {
    let is_local =
        |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    !is_local(address) && !is_local(&target.ip())
}

fn folder(device: &str) -> io::Result<PathBuf> {
    let path = Path::new(CLASS).join(device);
    // The name is one of a folder there, and no path.
    if device.is_empty() || device.contains('/') || device.starts_with('.') || !path.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("there is no RDMA device {device:?}; `rdma link` lists those that there are"),
        ));
    }
    Ok(path)
}

/// The addresses of a device's ports. For Ethernet they stand among the port's global identifiers.
fn addresses(folder: &Path) -> io::Result<Vec<IpAddr>> {
    let mut found = Vec::new();
    for port in fs::read_dir(folder.join("ports"))? {
        for entry in fs::read_dir(port?.path().join("gids"))? {
            // A place that is not taken cannot be read.
            let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
            let Ok(address) = text.trim().parse::<Ipv6Addr>() else { continue };
            if !address.is_unspecified() {
                found.push(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4));
            }
        }
    }
    Ok(found)
}

/// What the kernel says of a device.
pub(crate) fn describe(name: String) -> crate::probe::Device {
    let folder = Path::new(CLASS).join(&name);
    let ports = fs::read_dir(folder.join("ports")).into_iter().flatten().flatten();
    let is_active = ports
        .map(|port| fs::read_to_string(port.path().join("state")).unwrap_or_default())
        .any(|state| state.contains("ACTIVE"));
    let mut addresses = addresses(&folder).unwrap_or_default();
    addresses.sort();
    addresses.dedup();
    crate::probe::Device { name, is_active, addresses }
}
