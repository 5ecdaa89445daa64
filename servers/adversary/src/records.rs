//! Reports and the log.

use libpks::abi::Syscall;
use libpks::abi::layout::ipc_buffer_of;
use libpks::proto::adversary::FORGED;
use libpks::rt::{Capability, Error, raw};

use crate::act::write;
use crate::frames::fault_with_frame;
use crate::{Case, Loot, Outcome, all_refused};

const LINES: u32 = 300;

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
        _ => return None,
    })
}
