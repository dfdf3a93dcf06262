//! What this machine has for RDMA, which is of no concern to whoever connects by TCP.

use respire_rdma::{Device, Probe};

use super::Finding;

/// Looks. `None` where that ended in a panic: that nobody can look says as much as that there is nothing.
pub(super) async fn look() -> Option<Finding> {
    // It reads files, for milliseconds.
    let probe = tokio::task::spawn_blocking(respire_rdma::probe).await.ok()?;
    Some(finding(&probe))
}

fn finding(probe: &Probe) -> Finding {
    const CHECK: &str = "RDMA here";
    let devices: Vec<String> = probe.devices.iter().map(device).collect();
    let found = match devices.is_empty() {
        true => "no device".to_owned(),
        false => devices.join(", "),
    };
    if probe.problems.is_empty() {
        return Finding::ok(CHECK, found);
    }
    let advice = format!(
        "this machine cannot connect by RDMA, or not for long: {}. TCP does not need it",
        probe.problems.join("; ")
    );
    Finding::note(CHECK, found, advice)
}

/// A device with its state and its addresses.
fn device(device: &Device) -> String {
    let state = if device.is_active { "up" } else { "down" };
    let addresses: Vec<String> = device.addresses.iter().map(ToString::to_string).collect();
    match addresses.is_empty() {
        true => format!("{} ({state})", device.name),
        false => format!("{} ({state}, {})", device.name, addresses.join(" ")),
    }
}
