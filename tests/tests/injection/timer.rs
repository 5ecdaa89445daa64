//! The timer's interrupt at every instruction of the gates at which interrupts are open.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use iced_x86::Mnemonic;
use libpks::abi::layout::{GATE_CALL, GATE_REPLY, GATE_SYSCALL};
use tests::guest::{LONGEST_WAY, SOON};

use crate::retry::{Elsewhere, again};
use crate::stand::{CELL, INTERRUPTS, RAX, Stand, frame_rip};

/// Vector of the timer.
const TIMER: u64 = 0x20;
/// `JMP .`
const SPIN: [u8; 2] = [0xeb, 0xfe];

#[test]
fn timer_at_every_instruction_with_interrupts_open() -> Result<()> {
    let mut stand = Stand::new()?;
    let vectors = stand.guest.symbol("traps::vectors")?;
    let landing = stand.guest.symbol("gates::gate_landing")?;
    let mut hits = 0;
    for gate in [GATE_SYSCALL, GATE_CALL, GATE_REPLY, landing] {
        save_pending(&mut stand, gate)?;
        // Open up to CLI, which is the last to be interrupted; the landing is a single RET.
        let last = if gate == landing { landing } else { stand.text.next(gate, Mnemonic::Cli)? };
        let places: Vec<u64> = stand.text.addresses().filter(|at| (gate..=last).contains(at)).collect();
        for (steps, at) in places.into_iter().enumerate() {
            again(|| {
                stand.guest.gdb.load("pending")?;
                let outcome = interrupt(&mut stand, gate, steps, at, vectors + TIMER * 16);
                if outcome.as_ref().is_err_and(|why| why.is::<Elsewhere>()) {
                    save_pending(&mut stand, gate)?;
                }
                outcome
            })
            .with_context(|| format!("gate {gate:#x}, timer at {at:#x}"))?;
            hits += 1;
        }
    }
    hits += in_failed_checks(&mut stand, vectors + TIMER * 16)?;
    println!("timer interrupts at {hits} instructions");
    ensure!(hits > 30, "timer interrupts at {hits} instructions only");
    stand.finish()
}

/// Comes to a gate while a timer's interrupt waits, and saves the machine as `pending`.
fn save_pending(stand: &mut Stand, gate: u64) -> Result<()> {
    stand.home()?;
    if gate != GATE_SYSCALL {
        ensure!(stand.guest.gdb.go_to(&[gate], SOON)?, "the guest does not come to {gate:#x}");
    }
    until_pending(stand)?;
    stand.guest.gdb.save("pending")
}

/// Goes on from where a timer's interrupt waits, by steps that hold it back, and lets it come.
fn interrupt(stand: &mut Stand, gate: u64, steps: usize, at: u64, stub: u64) -> Result<()> {
    let (rsp, cell) = (stand.guest.gdb.rsp()?, stand.guest.gdb.read_word(CELL)?);
    for _ in 0..steps {
        stand.guest.gdb.step()?;
    }
    let rip = stand.guest.gdb.rip()?;
    ensure!(rip == at, "stopped at {rip:#x}");
    let before = stand.seen()?;
    arrives(stand, stub, at)?;
    // Between the write of PKRS and the commit the gate begins again, under the domain's word.
    let starts_again = u64::from(before.pkrs) != cell;
    if !starts_again {
        let iretq = stand.text.next(stand.guest.symbol("exit::trap_exit")?, Mnemonic::Iretq)?;
        let landing = stand.guest.symbol("gates::gate_landing")?;
        stand.must_come_back(&before, &[iretq, landing])?;
        return if gate == GATE_SYSCALL { stand.other_is_untouched() } else { Ok(()) };
    }
    stand.thread_comes_to(gate, rsp).context("the gate does not begin again")?;
    let word = stand.pkrs()?;
    ensure!(u64::from(word) == cell, "the gate begins again under {word:#x} instead of {cell:#x}");
    Ok(())
}

/// A gate's check has failed, and interrupts are still open where that leads to. Whatever word was in force there, the
/// domain comes back with its own. Gives the number of instructions.
fn in_failed_checks(stand: &mut Stand, stub: u64) -> Result<usize> {
    let bad = stand.guest.symbol("traps::gate_bad")?;
    let exit = stand.guest.symbol("exit::trap_exit")?;
    let iretq = stand.text.next(exit, Mnemonic::Iretq)?;
    let last = stand.text.next(bad, Mnemonic::Cli)?;
    let check = stand.text.behind(GATE_SYSCALL, Mnemonic::Wrmsr)?;
    let places: Vec<u64> = stand.text.addresses().filter(|at| (bad..=last).contains(at)).collect();
    for &at in &places {
        again(|| {
            stand.home()?;
            until_pending(stand)?;
            step_to(stand, check)?;
            stand.guest.gdb.set_general(RAX, 0)?;
            step_to(stand, at)?;
            arrives(stand, stub, at)
        })?;
        stand.come_to(iretq)?;
        while stand.guest.gdb.read_word(frame_rip(5))? != at {
            stand.guest.gdb.step()?;
            stand.come_to(iretq)?;
        }
        let (word, cell) = (stand.pkrs()?, stand.guest.gdb.read_word(CELL)?);
        ensure!(u64::from(word) == cell, "back at {at:#x} under {word:#x} instead of {cell:#x}");
    }
    Ok(places.len())
}

/// Goes on by steps, which hold interrupts back.
fn step_to(stand: &mut Stand, at: u64) -> Result<()> {
    for _ in 0..LONGEST_WAY {
        if stand.guest.gdb.rip()? == at {
            return Ok(());
        }
        stand.guest.gdb.step()?;
    }
    bail!("{at:#x} does not come")
}

/// The timer's interrupt comes, at this instruction.
fn arrives(stand: &mut Stand, stub: u64, at: u64) -> Result<()> {
    stand.come_to(stub)?;
    let hit = stand.guest.gdb.read_word(frame_rip(6))?;
    ensure!(hit == at, Elsewhere(format!("the timer came at {hit:#x}")));
    Ok(())
}

/// Lets the timer's time pass while interrupts are off, then stands where it stood, the interrupt waiting.
fn until_pending(stand: &mut Stand) -> Result<()> {
    // In the gap before the gate: NMIs that come to entry text leave interrupts off.
    const GAP: u64 = GATE_SYSCALL - SPIN.len() as u64;
    let registers = stand.guest.gdb.all_registers()?;
    let there = stand.guest.gdb.read(GAP, SPIN.len())?;
    stand.guest.gdb.write(GAP, &SPIN)?;
    stand.guest.gdb.set_rip(GAP)?;
    stand.guest.gdb.set_flags(registers.flags() & !INTERRUPTS)?;
    for _ in 0..200 {
        stand.guest.gdb.resume()?;
        thread::sleep(Duration::from_millis(5));
        stand.guest.gdb.interrupt()?;
        let lapic = stand.guest.gdb.monitor("info lapic")?;
        let waiting = lapic.lines().find(|line| line.trim_start().starts_with("IRR")).unwrap_or_default();
        if waiting.split_whitespace().skip(1).any(|vector| vector == "32") {
            // Out of the handler of an NMI, if there is one.
            ensure!(stand.guest.gdb.go_to(&[GAP], SOON)?, "the guest does not wait");
            stand.guest.gdb.write(GAP, &there)?;
            return stand.guest.gdb.set_all_registers(&registers);
        }
    }
    bail!("the timer does not come")
}
