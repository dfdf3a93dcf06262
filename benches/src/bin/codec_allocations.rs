//! Counts what the sides allocate once their buffers have their size: one line
//! for each workload and side, with the allocations and the replies of several
//! passes. The harness reads it.

use allocation_counter::measure;
use anyhow::Result;
use respire_benches::codec::alternate::checked;
use respire_benches::codec::capture::command_reply;
use respire_benches::codec::sides::Side;
use respire_benches::codec::workload;

/// Passes that a side gets to bring its buffers to their size. A pool that hands
/// out one buffer after another has to come round once.
const WARM_UP: u64 = 100;

/// Passes that are counted.
const PASSES: u64 = 10;

fn main() -> Result<()> {
    let captured = command_reply().ok();
    for workload in workload::all(captured.as_ref())?.iter().filter(|workload| workload.peers) {
        for contestant in checked(workload, None)?.into_iter().flatten() {
            let mut pass = contestant.pass;
            if contestant.side == Side::RustisShim || !pass.allocates_here() {
                continue;
            }
            let replies = pass.tally()?.replies * PASSES;
            let slow = workload.buffer.wire.len() > 1 << 20 || pass.time(1)?.as_millis() > 20;
            pass.time(if slow { 1 } else { WARM_UP })?;
            let mut timed = Ok(Default::default());
            let count = measure(|| timed = pass.time(PASSES)).count_total;
            timed?;
            println!("{}\t{}\t{count}\t{replies}", workload.name(), contestant.side);
        }
    }
    Ok(())
}
