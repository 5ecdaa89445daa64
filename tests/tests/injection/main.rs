//! Events at exact instructions, through QEMU's gdb stub: NMIs, machine checks, timer interrupts, faults.

mod adversary;
mod blame;
mod entry_text;
mod live;
mod machine_check;
mod nmi;
mod registers;
mod retry;
mod stand;
mod stops;
mod sweep;
mod timer;
mod trap_flag;
mod ways;
