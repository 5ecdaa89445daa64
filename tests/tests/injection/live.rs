//! NMIs at exact instructions of a system that goes on all the while, as it would with NMIs of the hardware.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use libpks::abi::layout::{GATE_CALL, GATE_REPLY, GATE_SYSCALL, KERNEL_BASE};
use libpks::abi::name;
use libpks::proto::pks_test::Verdict;
use libpks::proto::testlink::{Reply, Request};
use tests::guest::{Guest, PATIENT, SOON, boot, close};
use tests::plan::Running;

use crate::stand::frame_rip;

/// How long an instruction is waited for that was executed once.
const RARE: Duration = Duration::from_secs(5);

/// Runs scenarios until it is told to stop; gives the link back.
fn scenarios(mut running: Running, stop: &AtomicBool) -> Result<Running> {
    while !stop.load(Ordering::SeqCst) {
        for scenario in ["S5_exception", "S1_defaults"] {
            let reply = running.link.ask(&Request::Run { name: name(scenario) }, PATIENT)?;
            let Reply::Outcome(outcome) = &reply else { bail!("not an outcome: {reply:?}") };
            ensure!(outcome.verdict == Verdict::Pass, "{scenario} under NMIs: {outcome:?}");
        }
    }
    Ok(running)
}

/// An NMI at each instruction that honest rounds execute in gates and stubs. Scenarios run meanwhile and must pass; at
/// every trap the kernel itself compares the live PKRS with what it wrote, and ends a domain whose word differs.
#[test]
fn nmi_at_every_instruction_of_gates_and_stubs() -> Result<()> {
    let (mut guest, running) = boot(1)?;
    let nmi = guest.symbol("nmi::nmi_entry")?;
    let exit = guest.symbol("exit::trap_exit")?;
    let levels = [guest.symbol("traps::level5")?, guest.symbol("traps::level6")?];
    let landing = guest.symbol("gates::gate_landing")?;
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let worker = thread::spawn(move || scenarios(running, &told));
    let injected = inject_everywhere(&mut guest, nmi, exit, levels, landing);
    stop.store(true, Ordering::SeqCst);
    let _ = guest.gdb.resume();
    let running = worker.join().map_err(|_| anyhow!("the worker panicked"))?;
    let (injected, running) = (injected?, running?);
    // Three gates, two stubs, one exit: a way that got lost would show here.
    ensure!(injected > 250, "only {injected} instructions");
    let said = running.console.text();
    ensure!(!said.contains("ERROR"), "something was ended under NMIs:\n{said}");
    close(running)
}

/// Gives how many NMIs arrived exactly where they were wanted. The guest is stopped before and afterwards.
fn inject_everywhere(
    guest: &mut Guest,
    nmi: u64,
    exit: u64,
    levels: [u64; 2],
    landing: u64,
) -> Result<usize> {
    guest.gdb.interrupt()?;
    let gates_and_stubs = KERNEL_BASE..exit.max(levels[1]) + 0x1000;
    let (mut injected, mut missed) = (0, 0);
    for start in [GATE_CALL, GATE_REPLY, GATE_SYSCALL, levels[0], levels[1], exit] {
        // A way in ends where Rust begins, far behind; the way out at IRETQ, or at the RET of a gate.
        let calls = guest.symbol("trap::kernel_event")?;
        let way =
            guest.way_from(start, |rip| gates_and_stubs.contains(&rip) && rip != landing && rip != calls)?;
        for at in way {
            // What was on the way once, such as a call that was not passed, may not be on it for long. `ways` has the
            // ways that are certain.
            if !guest.gdb.run_to(at, RARE)? {
                missed += 1;
                continue;
            }
            inject_at(guest, at, nmi).with_context(|| format!("on the way from {start:#x}"))?;
            injected += 1;
        }
    }
    ensure!(missed * 10 < injected, "{missed} instructions were not executed again, {injected} were");
    Ok(injected)
}

/// Has an NMI arrive at an instruction. Once in a few thousand times QEMU lets the CPU run on a little before; such an
/// NMI does no harm either, and it is tried again.
fn inject_at(guest: &mut Guest, at: u64, nmi: u64) -> Result<()> {
    let mut late = Vec::new();
    for _ in 0..3 {
        // It stands there the first time.
        ensure!(guest.gdb.rip()? == at || guest.gdb.run_to(at, SOON)?, "{at:#x} is not executed again");
        guest.gdb.monitor("nmi")?;
        ensure!(guest.gdb.run_to(nmi, SOON)?, "no NMI arrived at {at:#x}");
        let hit = guest.gdb.read_word(frame_rip(1))?;
        if hit == at {
            return Ok(());
        }
        late.push(hit);
    }
    bail!("the NMIs for {at:#x} arrived at {late:#x?}")
}
