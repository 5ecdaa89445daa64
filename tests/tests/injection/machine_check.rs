//! A machine check at the instructions of the entry code: wherever it comes, the kernel reports it and stops.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tests::guest::SOON;
use tests::plan::End as MachineEnd;

use crate::stand::Stand;
use crate::ways::WAYS;

/// An uncorrected error in bank 0, with address and misc; MCG_STATUS says "restart address valid" and "in progress".
const REAL: &str = "mce 0 0 0xbe00000000000135 5 0x1234 0x8c";
/// Every how many instructions one arrives, if time matters. Coprime to the length of what stubs repeat.
const STRIDE: usize = 11;
/// How often a strike is tried: an NMI of the PIT, due when the guest goes on, often comes first.
const ATTEMPTS: usize = 40;

#[test]
fn machine_check_at_instructions_of_the_entry_code() -> Result<()> {
    let mut stand = Stand::new()?;
    let mut done = BTreeSet::new();
    let (mut counter, stride) = (0, if is_full() { 1 } else { STRIDE });
    for way in WAYS {
        way.begin(&mut stand)?;
        stand.guest.gdb.save("way")?;
        let mut passed = Vec::new();
        stand.walk(&mut |_, at| {
            passed.push(at);
            Ok(())
        })?;
        for at in passed {
            if done.contains(&at) {
                continue;
            }
            done.insert(at);
            counter += 1;
            if counter % stride == 0 {
                // The PIT's NMI may come in between; then it is done again.
                let again_fn = || stand.guest.gdb.load("way").and_then(|()| strike(&mut stand, at));
                repeat(again_fn).with_context(|| format!("way: {}, #MC at {at:#x}", way.name))?;
            }
        }
    }
    println!("machine checks at {} of {} instructions", counter / stride, done.len());
    ensure!(counter / stride > 60, "machine checks at {} instructions only", counter / stride);
    // The last one really ends the machine.
    stand.guest.gdb.resume()?;
    let end = stand.end(SOON)?;
    ensure!(end == MachineEnd::Panic, "the machine ended with {end}");
    Ok(())
}

/// Has one arrive at an instruction that comes next; the guest stops with the report before it would end.
fn strike(stand: &mut Stand, at: u64) -> Result<()> {
    if stand.guest.gdb.rip()? != at {
        ensure!(stand.guest.gdb.go_to(&[at], SOON)?, "the guest does not come there");
    }
    let said = stand.console.text().len();
    stand.guest.gdb.monitor(REAL)?;
    let exit = stand.exit_port;
    ensure!(stand.guest.gdb.go_to(&[exit], SOON)?, "the machine does not stop");
    let report = [
        "KERNEL PANIC on CPU 0",
        "machine check, MCG_STATUS 0x5: restart address valid, error address not valid",
        "bank 0: status 0xbe00000000000135, error code 0x0135, uncorrected, context corrupt, address 0x1234, misc 0x8c",
        &format!("rip={at:#018x}"),
    ];
    heard(stand, said, &["KERNEL PANIC", " rax="])?;
    let text = stand.console.text();
    let new = text.get(said..).unwrap_or_default();
    for part in report {
        ensure!(new.contains(part), "the guest does not say `{part}`, but:\n{new}");
    }
    Ok(())
}

fn repeat(mut attempt_fn: impl FnMut() -> Result<()>) -> Result<()> {
    for _ in 1..ATTEMPTS {
        if attempt_fn().is_ok() {
            return Ok(());
        }
    }
    attempt_fn()
}

/// Whether time does not matter: a machine check at every instruction.
fn is_full() -> bool {
    std::env::var_os("PORTCULLIS_FULL").is_some_and(|value| value == "1")
}

/// Waits until all of this has been said since the console's text had that length.
pub(crate) fn heard(stand: &Stand, since: usize, wanted: &[&str]) -> Result<()> {
    let until = Instant::now() + SOON;
    loop {
        let text = stand.console.text();
        let new = text.get(since..).unwrap_or_default();
        let missing = wanted.iter().find(|wanted| !new.contains(**wanted));
        match missing {
            None => return Ok(()),
            Some(missing) if Instant::now() > until => {
                bail!("the guest does not say `{missing}`, but:\n{new}")
            }
            Some(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}
