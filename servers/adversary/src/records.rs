//! Reports and the log.

use core::time::Duration;

use libpks::abi::Syscall;
use libpks::abi::layout::{GATE_SYSCALL, GATE_WRITE_OFFSET, SLOT_BYTES, ipc_buffer_of};
use libpks::proto::adversary::FORGED;
use libpks::rt::thread::spawn;
use libpks::rt::{Capability, Endpoint, Error, Instant, Notification, Thread, raw};

use crate::act::{Registers, STACK, leap, own_slot, write};
use crate::frames::fault_with_frame;
use crate::{Case, Loot, Outcome, all_refused, unless};

const LINES: u32 = 300;
/// Of the instruction that writes the rights word.
const WRITE_BYTES: u64 = 3;

pub(crate) fn commit(case: &Case<'_>) -> Option<Outcome> {
    let log = case.means.log;
    Some(match case.name {
        "forge_log_lines" => {
            let lines = [
                alloc::format!("\r[    0.000] init     {FORGED} by a carriage return"),
                alloc::format!("\x1b[2K\x1b[1G[    0.000] init     {FORGED} by escapes"),
                alloc::format!("\u{9b}2K[    0.000] init     {FORGED} by an escape of one byte"),
                alloc::format!("one line\n[    0.000] kernel   {FORGED} by another"),
                alloc::format!("\x0b\x0c\x08\x08{FORGED} by tabs and backspaces"),
            ];
            lines.iter().try_for_each(|line| log.write(line)).map(|()| Loot::Nothing)
        }
        "forge_panic_message" => {
            panic!("\r\n[    0.000] init     {FORGED} by a panic\x1b[2J\n[    0.000] init     {FORGED} again")
        }
        "log_without_right" => all_refused(Error::MissingRights, [log.read(0).map(drop)]),
        "log_no_text" => {
            let here = 0_u64;
            write(ipc_buffer_of((&raw const here).expose_provenance() as u64), 0xffff_fffe_c0c0_c0c0);
            let words = [log.handle().raw(), 0, 0, 0, 0, 0, 0, 0];
            all_refused(Error::Malformed, [raw::operate(Syscall::LogWrite as u64, 8, words).map(drop)])
        }
        "log_flood" => (0..LINES)
            .try_for_each(|n| log.write(&alloc::format!("line {n} of {LINES}")))
            .map(|()| Loot::Nothing),
        "backtrace_of_nonsense" => fault_with_frame(case.target + 8),
        "report_of_what_was_before" => report_of_a_failed_check(case.means.console, case.means.priority),
        _ => return None,
    })
}

/// Has a thread that comes home from a server jump to the check of a gate, which fails, and reads the report. The kernel saw it go
/// in, because its message was more than words, and not come out.
fn report_of_a_failed_check(console: Endpoint, priority: u8) -> Outcome {
    let note = Notification::create()?;
    let hears = *note;
    let prey = spawn(STACK, priority, move || -> Result<(), Error> {
        Thread::current()?.on_fault(hears, 1)?;
        // Noise, which is answered in words.
        let _ = raw::call(console, 8, [u64::MAX; 8]);
        leap(&Registers { rip: GATE_SYSCALL + GATE_WRITE_OFFSET + WRITE_BYTES, ..Registers::default() });
        Ok(())
    })?;
    note.wait(Some(Instant::after(Duration::from_secs(5))))?;
    let report = prey.thread().fault()?;
    prey.thread().kill()?;
    unless(report.rsp != 0 && report.rsp & !(SLOT_BYTES - 1) != own_slot(), report.rsp)
}
