//! The Portcullis microkernel.
//!
//! Bring-up, in order: what the loader tells (`boot`), memory and page tables (`mem`), this CPU (`arch`), the
//! platform, the other CPUs, the first domain. From then on everything is an event (`trap`).
#![no_std]
#![no_main]

mod arch;
mod boot;
mod cap;
mod device;
mod domain;
mod fault;
mod first;
mod ipc;
mod list;
mod lock;
mod log;
mod mem;
mod object;
mod places;
mod region;
mod rights;
mod sched;
mod selftest;
mod state;
mod stop;
mod syscall;
mod thread;
mod tlb;
mod trap;
mod view;

use arch::protection::{self, Protection};
use arch::{acpi, apic, clock, cpu, idt, insn, ioapic, start};
use boot::Boot;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use spin::Once;

/// What bring-up found out, for all CPUs.
struct Bringup {
    boot: Boot,
    roots: mem::bringup::Roots,
    features: cpu::Features,
}

static BRINGUP: Once<Bringup> = Once::new();
/// CPUs that are up.
static CPUS_UP: AtomicUsize = AtomicUsize::new(0);
/// Set when the CPUs may leave the text of bring-up.
static GO: AtomicBool = AtomicBool::new(false);
/// CPUs that have left it.
static CPUS_WAITING: AtomicUsize = AtomicUsize::new(0);
/// Set when domains may run.
static RUN: AtomicBool = AtomicBool::new(false);
/// Set when the machine stops for good.
static STOPPED: AtomicBool = AtomicBool::new(false);
/// The CPU that reports a panic, or [`NOBODY`].
static PANICKING: AtomicUsize = AtomicUsize::new(NOBODY);
const NOBODY: usize = usize::MAX;

/// Stops the machine, on which nothing can run, with a message that a person can act on.
pub(crate) fn give_up(why: core::fmt::Arguments<'_>) -> ! {
    ::log::error!(target: "boot", "{why}");
    stop_machine()
}

/// Ends QEMU where there is one to end, and else stops all CPUs: no domain runs on under a kernel that is gone.
fn stop_machine() -> ! {
    STOPPED.store(true, Ordering::SeqCst);
    arch::power::debug_exit(arch::power::EXIT_PANIC);
    apic::send_nmi_to_others();
    insn::stop()
}

/// Whether this CPU has to stop too.
pub(crate) fn is_stopped() -> bool {
    STOPPED.load(Ordering::SeqCst)
}

/// The root page tables of the CPUs, in the order of their numbers.
pub(crate) fn roots() -> &'static [u64] {
    BRINGUP.get().map_or(&[], |bringup| &bringup.roots)
}

/// Where the loader enters, on its own page tables and stack.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".init.text")]
extern "C" fn kernel_start() -> ! {
    log::start();
    ::log::info!(target: "boot", "Portcullis {}", env!("CARGO_PKG_VERSION"));
    let boot = boot::collect().unwrap_or_else(|error| give_up(format_args!("{error}")));
    let features = cpu::features();
    if !cpu::can_forbid_execution(features) {
        give_up(format_args!("this CPU cannot forbid execution (no NX)"));
    }
    let protection = protection::choose(features, boot.option(protection::OPTION));
    let protection = protection.unwrap_or_else(|error| give_up(format_args!("{error}")));
    if mem::translations::ON && protection.has_roots() {
        // The entry code loads roots that the log knows nothing of.
        give_up(format_args!("a kernel that logs translations needs protection keys"));
    }
    if let Some(instructions) = protection.instructions() {
        // SAFETY: still on the loader's page tables, before any other CPU runs.
        unsafe { mem::bringup::fit_pkrs_accesses(&boot, instructions) };
    }
    // SAFETY: the loader's page tables are in force, nothing else runs.
    let roots = unsafe {
        idt::fill();
        mem::bringup::build(&boot)
    };
    let roots = roots.unwrap_or_else(|error| give_up(format_args!("{error}")));
    let root = roots[0];
    BRINGUP.call_once(|| Bringup { boot, roots, features });
    // SAFETY: `build` made this root with the image and a window.
    unsafe { start::continue_on_root(root, first_cpu_main) }
}

fn bringup() -> &'static Bringup {
    BRINGUP.get().expect("set before any CPU leaves the loader's page tables")
}

#[unsafe(link_section = ".init.text")]
fn set_up_this_cpu(number: usize) {
    let Bringup { roots, features, .. } = bringup();
    // Asked on every CPU: MOV CR4 with a bit that this one lacks would be #GP before there is a handler.
    if cpu::features() != *features {
        give_up(format_args!("CPU {number} has other features than the first"));
    }
    // SAFETY: this CPU runs on its own root and comes here once.
    if let Err(error) = unsafe { start::set_up_cpu(roots[number], *features, protection::in_force()) } {
        give_up(format_args!("CPU {number}: {error}"));
    }
    arch::registers::record();
}

/// The bootstrap CPU, on the kernel's own page tables.
#[unsafe(link_section = ".init.text")]
extern "C" fn first_cpu_main() -> ! {
    mem::translations::root_loaded();
    // SAFETY: this CPU has just loaded the root that `build` made.
    unsafe { mem::bringup::leave_loader_map() };
    set_up_this_cpu(0);
    let Bringup { boot, .. } = bringup();
    report(boot);
    let platform = acpi::read(boot.rsdp);
    start_apic();
    start_clock();
    CPUS_UP.store(1, Ordering::SeqCst);
    start_other_cpus(boot);
    ::log::info!(target: "boot", "{} CPUs", boot.cpus.len());
    let io_apics = ioapic::IoApics::start(platform.controllers);
    let mut io_apics = io_apics.unwrap_or_else(|error| give_up(format_args!("I/O APIC: {error}")));
    if let [only] = boot.cpus[..] {
        io_apics.start_watchdog(only.apic_id);
    }
    if !platform.has_tables {
        ::log::warn!(target: "acpi", "no tables: the usual PC is assumed, and it cannot be turned off");
    }
    let view_room = view::room_asked_for(boot).unwrap_or_else(|error| give_up(format_args!("{error}")));
    let kernel = state::Kernel::new(boot, view_room, io_apics, platform.soft_off);
    // SAFETY: the other CPUs wait for `GO`.
    unsafe { lock::install(kernel) };
    finish_bringup()
}

/// The last step: the text of bring-up goes, what the loader used is freed, domains may run. Never inlined: it must not lie in the
/// text that it takes away.
#[inline(never)]
fn finish_bringup() -> ! {
    let Bringup { boot, .. } = bringup();
    lock::enter(|kernel| {
        if let Err(error) = kernel.create_idle_threads() {
            give_up(format_args!("idle threads: {error}"));
        }
        if protection::in_force().has_roots()
            && let Err(error) = kernel.prepare_narrow_roots()
        {
            give_up(format_args!("page tables for rights words: {error}"));
        }
    });
    GO.store(true, Ordering::SeqCst);
    while CPUS_WAITING.load(Ordering::SeqCst) + 1 < boot.cpus.len() {
        core::hint::spin_loop();
    }
    mem::with(|memory| {
        memory.unmap_init();
        // CPUs that were left parked run on the loader's tables and wait at its mailboxes, for good.
        if boot.cpus_left_out == 0 {
            // SAFETY: all CPUs are on the kernel's page tables and stacks; `boot` holds copies.
            unsafe { memory.reclaim_loader(boot) };
        }
    });
    lock::enter(|kernel| {
        if let Err(error) = kernel.start_init() {
            give_up(format_args!("init does not start: {error}"));
        }
    });
    RUN.store(true, Ordering::SeqCst);
    run_first_domain()
}

/// Enters whatever is there to run on this CPU.
fn run_first_domain() -> ! {
    mem::forget_init();
    lock::enter(state::Kernel::enter_first);
    // SAFETY: `enter_first` has filled the record and the cell; DEPTH has been 1 since the window was made.
    unsafe { arch::entry::enter() }
}

fn report(boot: &Boot) {
    ::log::info!(target: "boot", "loaded by {}, command line \"{}\"", boot.loader, boot.command_line);
    let mib = mem::with(|memory| memory.frames_total) / 256;
    ::log::info!(target: "mem", "{mib} MiB, {} paging levels, own page tables", boot.levels);
    mem::translations::announce();
    let word = libpks::pkey::Pkrs::DEFAULT;
    match protection::in_force() {
        Protection::Pks => ::log::info!(target: "pks", "CR4.PKS on, 16 keys, PKRS {word}"),
        Protection::Pku => {
            ::log::info!(target: "pks", "CR4.PKE on, 16 keys, PKRU {word}: user keys, in ring 0")
        }
        Protection::Roots => {
            ::log::info!(target: "pks", "no keys in use: page tables for each rights word, at first {word}")
        }
    }
    if boot.cpus_left_out > 0 {
        ::log::warn!(target: "boot", "{} CPUs are left parked: the kernel keeps {}", boot.cpus_left_out, boot::MAX_CPUS);
    }
}

#[unsafe(link_section = ".init.text")]
fn start_apic() {
    let (base, x2apic) = cpu::local_apic_base();
    if x2apic {
        give_up(format_args!("firmware left the local APIC in x2APIC mode, which this kernel does not use"));
    }
    let registers = mem::with(|memory| memory.map_device(base, 4096));
    let registers = registers.unwrap_or_else(|error| give_up(format_args!("local APIC: {error}")));
    // SAFETY: just mapped, uncached.
    unsafe { apic::set_registers(registers) };
    apic::start();
}

#[unsafe(link_section = ".init.text")]
fn start_clock() {
    let measured = clock::measure();
    apic::measure_timer();
    if !measured.by_pit {
        ::log::warn!(target: "time", "no PIT to measure the clock with; 1 GHz is assumed");
    }
    ::log::info!(target: "time", "TSC {} MHz, local APIC timer {} MHz", measured.tsc_hz / 1_000_000, apic::timer_hz() / 1_000_000);
}

/// Starts the other CPUs one after the other. One that does not come stops the machine: it might come later, into
/// memory that is somebody else's by then.
#[unsafe(link_section = ".init.text")]
fn start_other_cpus(boot: &Boot) {
    const PATIENCE_NS: u64 = 2_000_000_000;
    for (number, cpu) in boot.cpus.iter().enumerate().skip(1) {
        let root = bringup().roots[number];
        // SAFETY: the loader's CPU waits at this mailbox; the root is complete before the entry is written.
        unsafe {
            mem::write_mailbox(cpu.mailbox + boot::MAILBOX_EXTRA, root);
            mem::write_mailbox(cpu.mailbox + boot::MAILBOX_ENTRY, start::other_cpu_start as *const () as u64);
        }
        let begin = clock::now_ns();
        while CPUS_UP.load(Ordering::SeqCst) == number {
            if clock::now_ns().saturating_sub(begin) > PATIENCE_NS {
                give_up(format_args!("CPU {number} (APIC {}) does not start", cpu.apic_id));
            }
            core::hint::spin_loop();
        }
    }
}

/// Another CPU, on the kernel's own page tables.
#[unsafe(link_section = ".init.text")]
extern "C" fn other_cpu_main() -> ! {
    mem::translations::root_loaded();
    let number = arch::window::cpu();
    set_up_this_cpu(number);
    apic::start();
    CPUS_UP.fetch_add(1, Ordering::SeqCst);
    while !GO.load(Ordering::SeqCst) {
        core::hint::spin_loop();
    }
    wait_for_domains()
}

/// Never inlined, as [`finish_bringup`].
#[inline(never)]
fn wait_for_domains() -> ! {
    CPUS_WAITING.fetch_add(1, Ordering::SeqCst);
    while !RUN.load(Ordering::SeqCst) {
        // The first domain is being loaded; this CPU counts as inside the kernel, so it has to listen.
        tlb::forget_stale(arch::window::cpu());
        core::hint::spin_loop();
    }
    run_first_domain()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    // Before there are windows only the bootstrap CPU runs, and its number cannot be asked for.
    let cpu = BRINGUP.get().map_or(0, |_| arch::window::cpu());
    if let Err(reporter) = PANICKING.compare_exchange(NOBODY, cpu, Ordering::SeqCst, Ordering::SeqCst) {
        // What has gone wrong in the report itself is not reported; another CPU lets the first one finish.
        if reporter == cpu { stop_machine() } else { insn::stop() }
    }
    log::panic_line(format_args!("KERNEL PANIC on CPU {cpu}: {info}"));
    stop_machine()
}
