//! Stacks of the kernel that overflow, faults that cannot be delivered, interrupts where there can be none: each stops
//! the machine with a report that says so.

use anyhow::{Context, Result, ensure};
use libpks::abi::selftest::SelfTestOp;
use tests::guest::SOON;

use crate::machine_check::heard;
use crate::stand::Stand;
use crate::ways::{in_kernel, self_test};

/// Where the TSS has the stack of exceptions: the page of tables, the TSS in it, IST 5 (Intel SDM vol. 3A, figure 8-11).
pub(crate) const IST5: u64 = 0xffff_ffff_c000_4000 + 0x100 + 0x24 + 4 * 8;
/// The guard page below the kernel's stack.
pub(crate) const NOWHERE: u64 = 0xffff_ffff_c000_f800;

#[test]
fn overflowing_stacks_and_undeliverable_faults() -> Result<()> {
    let mut stand = Stand::new()?;
    for (what, says) in [
        (0, "the event kernel's stack overflows at 0xffffffffc000"),
        (1, "the nested trap's stack overflows at 0xffffffffc004"),
        (2, "traps inside one another to depth 12, and stacks for 11 only"),
    ] {
        stand.home()?;
        self_test(&mut stand, SelfTestOp::Overflow, [what, 0, 0])?;
        stops(&mut stand, &["KERNEL PANIC on CPU 0", says]).context(says)?;
    }
    stand.home()?;
    let event = stand.guest.symbol("trap::kernel_event")?;
    ensure!(stand.guest.gdb.go_to(&[event], SOON)?, "no event");
    stand.guest.gdb.write(IST5, &NOWHERE.to_le_bytes())?;
    stand.execute(&[0xcd, 3])?;
    stops(&mut stand, &["double fault in the kernel"])?;
    stand.home()?;
    in_kernel(&mut stand, 0x21)?;
    stops(&mut stand, &["interrupt 0x21 in the kernel"])?;
    stand.home()?;
    in_kernel(&mut stand, 13)?;
    stops(&mut stand, &["exception 13 in the kernel"])?;
    stand.home()?;
    let exit = stand.guest.symbol("exit::trap_exit")?;
    stand.come_to(exit)?;
    stand.execute(&[0xcd, 14])?;
    // RIP behind INT 14, on the way out with the kernel's rights.
    let at = format!("depth=2 rip={:#018x}", exit + 2);
    stops(&mut stand, &["page fault in the kernel at ", &at])?;
    stand.finish()
}

/// The machine comes to its end, and says why.
fn stops(stand: &mut Stand, says: &[&str]) -> Result<()> {
    let said = stand.console.text().len();
    let exit = stand.exit_port;
    ensure!(stand.guest.gdb.go_to(&[exit], SOON)?, "the machine does not stop");
    heard(stand, said, says)
}
