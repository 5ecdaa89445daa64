//! The direct loader: `qemu-system-x86_64 -kernel direct -initrd BUNDLE -append 'key=value ...'`.
//!
//! QEMU enters by PVH in `entry.s`, which turns on long mode with memory below 4 GiB mapped where it
//! is and calls [`loader_main`]. From there [`boot`] reads start information, bundle and kernel,
//! answers the kernel's Limine requests, starts the other CPUs and leaves for the kernel. Whatever
//! is wrong on the way ends in one message on COM1 and QEMU's exit.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod boot;
#[cfg(target_os = "none")]
mod console;
#[cfg(target_os = "none")]
mod handoff;
#[cfg(target_os = "none")]
mod interrupts;
#[cfg(target_os = "none")]
mod machine;
#[cfg(target_os = "none")]
mod processors;

#[cfg(target_os = "none")]
core::arch::global_asm!(include_str!("entry.s"), options(att_syntax));

/// Where `entry.s` goes once it is in long mode; `start_info` is the physical address that QEMU gave.
#[cfg(target_os = "none")]
#[unsafe(no_mangle)]
extern "C" fn loader_main(start_info: u64) -> ! {
    console::init();
    match boot::boot(start_info) {
        Ok(never) => match never {},
        Err(error) => console::stop(format_args!("{error}")),
    }
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    console::stop(format_args!("{info}"))
}

/// The loader means nothing to an operating system.
#[cfg(not(target_os = "none"))]
fn main() -> std::process::ExitCode {
    eprintln!("direct runs without an operating system: build it for x86_64-unknown-none");
    std::process::ExitCode::FAILURE
}
