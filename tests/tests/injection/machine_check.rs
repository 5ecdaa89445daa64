//! A machine check at the instructions of the entry code: wherever it comes, the kernel reports it and stops.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use iced_x86::Mnemonic;
use libpks::abi::layout::GATE_SYSCALL;
use tests::console::Console;
use tests::guest::SOON;
use tests::plan::{End as MachineEnd, is_full};

use crate::retry::{Elsewhere, again};
use crate::stand::{INTERRUPTS, Stand};
use crate::ways::WAYS;

/// An uncorrected error in bank 0, with address and misc; MCG_STATUS says "restart address valid" and "in progress".
const REAL: &str = "mce 0 0 0xbe00000000000135 5 0x1234 0x8c";
/// Every how many instructions one arrives, if time matters. Coprime to the length of what stubs repeat.
const STRIDE: usize = 11;

#[test]
fn machine_check_at_instructions_of_the_entry_code() -> Result<()> {
    let mut stand = Stand::new()?;
    let mut struck = Struck { seen: BTreeSet::new(), stride: if is_full() { 1 } else { STRIDE }, count: 0 };
    for way in WAYS {
        way.begin(&mut stand)?;
        struck.along(&mut stand).with_context(|| format!("way: {}", way.name))?;
    }
    for vector in 0..=255_u8 {
        stand.home()?;
        stand.execute_in_domain(&[0xcd, vector])?;
        struck.along_stub(&mut stand).with_context(|| format!("vector {vector}"))?;
    }
    let all: BTreeSet<u64> = stand.text.addresses().collect();
    println!("machine checks at {} of {} instructions", struck.count, all.len());
    let missed: Vec<_> = all.difference(&struck.seen).map(|at| format!("{at:#x}")).collect();
    ensure!(missed.is_empty(), "not passed: {missed:?}");
    ensure!(
        struck.count == all.len() / struck.stride,
        "machine checks at {} instructions only",
        struck.count
    );
    // The last one really ends the machine.
    stand.home()?;
    strike(&mut stand, GATE_SYSCALL)?;
    stand.guest.gdb.resume()?;
    let end = stand.end(SOON)?;
    ensure!(end == MachineEnd::Panic, "the machine ended with {end}");
    Ok(())
}

/// Where machine checks have been.
struct Struck {
    /// Instructions that were passed.
    seen: BTreeSet<u64>,
    stride: usize,
    count: usize,
}

impl Struck {
    /// Goes a way to its end, then again with a machine check at each instruction that is due.
    fn along(&mut self, stand: &mut Stand) -> Result<()> {
        stand.guest.gdb.save("way")?;
        let mut due = Vec::new();
        stand.walk(&mut |_, at| {
            due.extend(self.is_due(at).then_some(at));
            Ok(())
        })?;
        self.strike_all(stand, &due)
    }

    /// The same for what stands before the first jump.
    fn along_stub(&mut self, stand: &mut Stand) -> Result<()> {
        stand.guest.gdb.save("way")?;
        let mut due = Vec::new();
        loop {
            let at = stand.guest.gdb.rip()?;
            due.extend(self.is_due(at).then_some(at));
            if stand.text.at(at) == Some(Mnemonic::Jmp) {
                return self.strike_all(stand, &due);
            }
            stand.guest.gdb.step()?;
        }
    }

    fn is_due(&mut self, at: u64) -> bool {
        self.seen.insert(at) && self.seen.len().is_multiple_of(self.stride)
    }

    fn strike_all(&mut self, stand: &mut Stand, due: &[u64]) -> Result<()> {
        for &at in due {
            strike_again(stand, at).with_context(|| format!("#MC at {at:#x}"))?;
            self.count += 1;
        }
        Ok(())
    }
}

/// Has one arrive at an instruction of the way that is saved, again if QEMU lets the CPU run on before: then with
/// interrupts off, and after the timer that is in the way.
fn strike_again(stand: &mut Stand, at: u64) -> Result<()> {
    let mut late = false;
    again(|| {
        stand.guest.gdb.load("way")?;
        if std::mem::replace(&mut late, true) {
            let flags = stand.guest.gdb.all_registers()?.flags();
            stand.guest.gdb.set_flags(flags & !INTERRUPTS)?;
            reach(stand, at)?;
            stand.let_timer_expire()?;
        }
        strike(stand, at)
    })
}

/// Has one arrive at an instruction that comes next; the guest stops with the report before it would end.
fn strike(stand: &mut Stand, at: u64) -> Result<()> {
    let interrupts = stand.guest.gdb.all_registers()?.flags() & INTERRUPTS != 0;
    if stand.guest.gdb.rip()? != at || !interrupts {
        // What is due is then served before and not in between, as in `Stand::strike`.
        reach(stand, at)?;
    }
    let said = stand.console.text().len();
    stand.guest.gdb.monitor(REAL)?;
    let exit = stand.exit_port;
    ensure!(stand.guest.gdb.go_to(&[exit], SOON)?, "the machine does not stop");
    let report = [
        "KERNEL PANIC on CPU 0",
        "machine check, MCG_STATUS 0x5: restart address valid, error address not valid",
        "bank 0: status 0xbe00000000000135, error code 0x0135, uncorrected, context corrupt, address 0x1234, misc 0x8c",
    ];
    heard(stand, said, &report)?;
    let hit = reported_rip(&stand.console, said)?;
    ensure!(hit == format!("{at:#018x}"), Elsewhere(format!("machine check for {at:#x} arrived at {hit}")));
    Ok(())
}

/// Goes on to the instruction. Where interrupts are on, the timer may have another thread run first.
fn reach(stand: &mut Stand, at: u64) -> Result<()> {
    let interrupts = stand.guest.gdb.all_registers()?.flags() & INTERRUPTS != 0;
    stand.come_to(at).map_err(|why| match interrupts {
        true => Elsewhere(format!("{why:#}")).into(),
        false => why,
    })
}

/// RIP of the report that follows a place in the console's text.
fn reported_rip(console: &Console, since: usize) -> Result<String> {
    let digits = "0x".len() + 16;
    let until = Instant::now() + SOON;
    while Instant::now() < until {
        let text = console.text();
        let hit = text[since..].split("rip=").nth(1).and_then(|rest| rest.get(..digits));
        if let Some(hit) = hit {
            return Ok(hit.to_owned());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    bail!("no RIP in the report")
}

/// Waits until all of this has been said since the console's text had that length.
pub(crate) fn heard(stand: &Stand, since: usize, wanted: &[&str]) -> Result<()> {
    heard_on(&stand.console, since, wanted)
}

/// The same of any console.
pub(crate) fn heard_on(console: &Console, since: usize, wanted: &[&str]) -> Result<()> {
    let until = Instant::now() + SOON;
    loop {
        let text = console.text();
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
