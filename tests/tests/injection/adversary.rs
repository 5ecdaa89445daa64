//! A domain that jumps where it should not, with what a debugger puts into its registers; and one that switches
//! interrupts off.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use libpks::abi::layout::{GATE_SYSCALL, KERNEL_BASE};
use libpks::abi::name;
use libpks::proto::adversary::Consequence;
use libpks::proto::testlink::{Reply, Request};
use tests::guest::{Guest, LONGEST_WAY, PATIENT, SOON, boot, close};

/// The stub of vector 0: what lies behind the gates. Only `jump_past_gates` comes there.
const BEHIND_GATES: u64 = KERNEL_BASE + 0x180;

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
            way = forged_way(&mut guest, nmi, handler)?;
            ensure!(way.len() > 60, "only {} instructions: {way:x?}", way.len());
        } else {
            ensure!(way[at] == nmi || guest.gdb.run_to(way[at], SOON)?, "not at {:#x}", way[at]);
            guest.gdb.monitor("nmi")?;
        }
        guest.gdb.resume()?;
        let (back, reply) = worker.join().map_err(|_| anyhow!("the worker panicked"))?;
        running = back;
        let place = way.get(at).copied().unwrap_or_default();
        match reply.with_context(|| format!("NMI at {place:#x}"))? {
            // The first round meets no NMI: it ends at whatever the forged frame leads to.
            Reply::Crime(Consequence::Ended(_)) => {}
            other => bail!("NMI at {place:#x} of the forged handler: {other:?}"),
        }
        // The end of the handler one by one, the rest here and there: each round ends a domain.
        let left = way.len() - at;
        if left == 1 {
            break;
        }
        at += if left > 24 { (left - 24).min(16) } else { 1 };
    }
    close(running)
}

/// The instructions of the stub that a forged entry executes, without the Rust part.
fn forged_way(guest: &mut Guest, nmi: u64, handler: u64) -> Result<Vec<u64>> {
    let mut way = vec![nmi];
    while way.len() < LONGEST_WAY {
        guest.gdb.step()?;
        let mut rip = guest.gdb.rip()?;
        if rip == handler {
            let back = guest.gdb.rsp()?;
            rip = guest.gdb.read_word(back)?;
            ensure!(guest.gdb.run_to(rip, SOON)?, "the handler does not return");
        }
        if !(nmi..nmi + 0x400).contains(&rip) {
            return Ok(way);
        }
        way.push(rip);
    }
    bail!("a forged handler does not end");
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
    let stack = guest.gdb.rsp()?;
    let back = guest.gdb.read_word(stack)?;
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
    guest.gdb.set_rip(GATE_SYSCALL + 0x10)?;
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
