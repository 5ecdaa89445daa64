//! A domain that jumps where it should not, with what a debugger puts into its registers; and one that switches
//! interrupts off.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use libpks::abi::fault::FaultKind;
use libpks::abi::layout::{self, GATE_SYSCALL, GATE_WRITE_OFFSET, KERNEL_BASE};
use libpks::abi::name;
use libpks::proto::adversary::Consequence;
use libpks::proto::testlink::{Reply, Request};
use tests::guest::{Guest, LONGEST_WAY, PATIENT, SOON, boot, close};

/// The stub of vector 0: what lies behind the gates. Only `jump_past_gates` comes there.
const BEHIND_GATES: u64 = KERNEL_BASE + 0x180;

/// More instructions than the Rust part of the NMI handler takes.
const LONGEST_HANDLER: usize = 50_000;

/// The adversary jumps into the NMI stub, and a real NMI arrives at instructions of it. Whatever it interrupts there is
/// a forgery: its domain ends, and everything else goes on.
#[test]
fn nmi_inside_a_forged_nmi_handler() -> Result<()> {
    let (mut guest, mut running) = boot(1)?;
    let nmi = guest.symbol("nmi::nmi_entry")?;
    let handler = guest.symbol("trap::kernel_nmi")?;
    let mut way: Vec<u64> = Vec::new();
    let mut at = 0;
    loop {
        guest.gdb.interrupt()?;
        guest.gdb.set_breakpoint(BEHIND_GATES)?;
        guest.gdb.resume()?;
        let worker = thread::spawn(move || {
            let reply = running.link.ask(&Request::Crime { name: name("jump_past_gates") }, PATIENT);
            (running, reply)
        });
        ensure!(guest.gdb.stopped_within(SOON)?, "the adversary does not come");
        guest.gdb.clear_breakpoint(BEHIND_GATES)?;
        guest.gdb.set_rip(nmi)?;
        if way.is_empty() {
            way = walk_forged(&mut guest, nmi, handler, LONGEST_WAY)?;
            ensure!(way.len() < LONGEST_WAY, "a forged handler does not end");
            ensure!(way.len() > 60, "only {} instructions: {way:x?}", way.len());
        } else {
            let walked = walk_forged(&mut guest, nmi, handler, at + 1)?;
            ensure!(walked == way[..=at], "another way than before: {walked:x?}");
            guest.gdb.monitor("nmi")?;
        }
        guest.gdb.resume()?;
        let (back, reply) = worker.join().map_err(|_| anyhow!("the worker panicked"))?;
        running = back;
        let place = way.get(at).copied().unwrap_or_default();
        match reply.with_context(|| format!("NMI at {place:#x}"))? {
            // The first round meets no NMI: it ends at whatever the forged frame leads to. The others must not come there.
            Reply::Crime(Consequence::Ended(report)) if at == 0 || report.kind == FaultKind::GateAbuse => {}
            other => bail!("NMI at {place:#x} of the forged handler: {other:?}"),
        }
        // The Rust part, the end of the stub one by one, the rest here and there: each round ends a domain.
        let next = (at + 1..way.len()).find(|&at| way[at] == handler || at % 16 == 0 || at + 24 >= way.len());
        let Some(next) = next else { break };
        at = next;
    }
    close(running)
}

/// The first `count` instructions of the stub that a forged entry executes, and of its Rust part the first; fewer where
/// it leaves the stub before. The CPU is at the last of them, or behind it all. It goes step by step, the Rust part too:
/// steps hold back the timer's interrupt, which would find the forgery out, and the watchdog's NMI, which leaves its
/// mark.
fn walk_forged(guest: &mut Guest, nmi: u64, handler: u64, count: usize) -> Result<Vec<u64>> {
    let mut way = vec![nmi];
    while way.len() < count {
        guest.gdb.step()?;
        let mut rip = guest.gdb.rip()?;
        if rip == handler {
            way.push(rip);
            if way.len() == count {
                break;
            }
            let back = guest.gdb.rsp()?;
            let behind = guest.gdb.read_word(back)?;
            let mut steps = 0;
            while rip != behind {
                guest.gdb.step()?;
                rip = guest.gdb.rip()?;
                steps += 1;
                ensure!(steps < LONGEST_HANDLER, "the handler does not return");
            }
        }
        if !(nmi..nmi + 0x400).contains(&rip) {
            break;
        }
        way.push(rip);
    }
    Ok(way)
}

/// A domain switches interrupts off and spins. Other CPUs that have to wait for its CPU go on, and so does that one.
#[test]
fn interrupts_off_wedge_no_cpu_of_two() -> Result<()> {
    interrupts_off::<2>()
}

/// Where there is no other CPU the PIT's NMI does it.
#[test]
fn interrupts_off_do_not_wedge_the_only_cpu() -> Result<()> {
    interrupts_off::<1>()
}

/// An address of the adversary's text: the innermost one that its stack holds.
fn caller(guest: &mut Guest) -> Result<u64> {
    let stack = guest.gdb.rsp()?;
    for at in (stack..).step_by(8).take(256) {
        let word = guest.gdb.read_word(at)?;
        let offset = word.wrapping_sub(layout::SLOTS_BASE) % layout::SLOT_BYTES;
        if layout::slot_of(word).is_none() || !(layout::IMAGE_OFFSET..layout::HEAP_OFFSET).contains(&offset) {
            continue;
        }
        // Behind a CALL, by a displacement or through a register or memory.
        if let [0xe8, ..] | [_, _, 0xff, ..] | [_, _, _, 0xff, _] = guest.gdb.read(word - 5, 5)?[..] {
            return Ok(word);
        }
    }
    bail!("no address of its text on its stack")
}

fn interrupts_off<const CPUS: usize>() -> Result<()> {
    let (mut guest, running) = boot(u32::try_from(CPUS)?)?;
    guest.gdb.interrupt()?;
    guest.gdb.set_breakpoint(BEHIND_GATES)?;
    guest.gdb.resume()?;
    let mut running = running;
    let worker = thread::spawn(move || {
        // It never answers: the adversary spins.
        let _ = running.link.ask(&Request::Crime { name: name("jump_past_gates") }, Duration::from_secs(5));
        running
    });
    ensure!(guest.gdb.stopped_within(SOON)?, "the adversary does not come");
    guest.gdb.clear_breakpoint(BEHIND_GATES)?;
    // Where it was called from there is now `JMP .`, and interrupts are off.
    let back = caller(&mut guest)?;
    guest.gdb.write(back, &[0xeb, 0xfe])?;
    guest.gdb.set_rip(back)?;
    guest.gdb.set_flags(0x2)?;
    guest.gdb.resume()?;
    let running = worker.join().map_err(|_| anyhow!("the worker panicked"))?;
    guest.gdb.interrupt()?;
    // Each CPU has been in the kernel since: interrupts get through.
    let timer = guest.symbol("traps::level6")?;
    let mut seen = [false; CPUS];
    for _ in 0..200 {
        ensure!(guest.gdb.run_to(timer, SOON)?, "no interrupt arrives any more");
        // CONSTANTS.cpu of the window says which CPU this is.
        let cpu = guest.gdb.read_word(0xffff_ffff_c000_0020)?;
        seen[usize::try_from(cpu)?] = true;
        if seen == [true; CPUS] {
            break;
        }
    }
    let registers = guest.gdb.monitor("info registers -a")?;
    ensure!(seen == [true; CPUS], "interrupts arrive on {seen:?} only:\n{registers}");
    drop(running);
    Ok(())
}

/// The adversary jumps to the WRMSR of a gate with the number of EFER in ECX, and switches SYSCALL on. The check comes
/// too late for the register; the kernel puts it right and ends the domain.
#[test]
fn another_register_is_put_right() -> Result<()> {
    const EFER: u64 = 0xc000_0080;
    let (mut guest, mut running) = boot(1)?;
    guest.gdb.interrupt()?;
    let before = efer(&mut guest)?;
    guest.gdb.set_breakpoint(BEHIND_GATES)?;
    guest.gdb.resume()?;
    let worker = thread::spawn(move || {
        let reply = running.link.ask(&Request::Crime { name: name("jump_past_gates") }, PATIENT);
        (running, reply)
    });
    ensure!(guest.gdb.stopped_within(SOON)?, "the adversary does not come");
    guest.gdb.clear_breakpoint(BEHIND_GATES)?;
    // RAX, RCX, RDX, then the WRMSR itself: ENDBR64, MOV ECX, XOR EDX, MOV EAX before it are 16 bytes.
    for (register, value) in [(0, before | 1), (2, EFER), (3, 0)] {
        guest.gdb.set_general(register, value)?;
    }
    guest.gdb.set_rip(GATE_SYSCALL + GATE_WRITE_OFFSET)?;
    guest.gdb.step()?;
    ensure!(efer(&mut guest)? == before | 1, "that was no WRMSR");
    guest.gdb.resume()?;
    let (running, reply) = worker.join().map_err(|_| anyhow!("the worker panicked"))?;
    ensure!(matches!(reply, Ok(Reply::Crime(Consequence::Ended(_)))), "the adversary lives: {reply:?}");
    guest.gdb.interrupt()?;
    let after = efer(&mut guest)?;
    ensure!(after == before, "EFER is {after:#x} instead of {before:#x}");
    guest.gdb.resume()?;
    close(running)
}

fn efer(guest: &mut Guest) -> Result<u64> {
    let said = guest.gdb.monitor("info registers")?;
    let digits = said.split("EFER=").nth(1).and_then(|rest| rest.get(..16)).context("no EFER")?;
    Ok(u64::from_str_radix(digits, 16)?)
}
