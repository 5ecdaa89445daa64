//! A trap flag that is set inside the kernel, however it came there.

use anyhow::{Result, ensure};
use tests::guest::SOON;

use crate::stand::Stand;

/// RFLAGS.TF, and the bit that is always set.
const TRAP: u32 = 0x102;

/// No domain gets this far with it: the CPU traps after the first instruction of the gate. If one did, before the kernel has
/// loaded flags of its own, the trap must be dropped and the system call go on.
#[test]
fn a_trap_flag_inside_the_kernel_is_dropped() -> Result<()> {
    let mut stand = Stand::new()?;
    let common = stand.guest.symbol("gates::gate_common")?;
    let nested = stand.guest.symbol("traps::nested4")?;
    let exit = stand.guest.symbol("exit::trap_exit")?;
    stand.home()?;
    stand.come_to(common)?;
    ensure!(stand.depth()? == 1, "a gate that has not committed");
    stand.guest.gdb.set_flags(TRAP)?;
    ensure!(stand.guest.gdb.run_to(nested, SOON)?, "no #DB inside the kernel");
    ensure!(stand.guest.gdb.run_to(exit, SOON)?, "the system call does not go on");
    ensure!(stand.depth()? == 1, "DEPTH is {} on the way out", stand.depth()?);
    stand.finish()
}
