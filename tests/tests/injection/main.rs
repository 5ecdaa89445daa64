//! Events at exact instructions, through QEMU's gdb stub: NMIs, machine checks, timer interrupts, faults.

mod adversary;
mod blame;
mod entry_text;
mod live;
mod machine_check;
mod nmi;
mod stand;
mod stops;
mod timer;
mod ways;
