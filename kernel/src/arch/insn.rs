//! Every privileged instruction of the kernel that is not entry code, each a function of its own that is never
//! inlined, so that its one site can be listed and checked in the linked kernel.
//!
//! What only bring-up needs lies in `.init.text`, which is unmapped once all CPUs are up: a domain that jumped there
//! would find nothing.

use crate::mem::translations;
use core::arch::asm;
use libpks::translations::Event;

/// Reads a byte from a port.
///
/// # Safety
/// Reading the port has no side effect that breaks the kernel's assumptions about the device.
#[inline(never)]
pub(crate) unsafe fn in8(port: u16) -> u8 {
    let value;
    // SAFETY: the caller answers for the port; the instruction touches no memory.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Reads two bytes from a port.
///
/// # Safety
/// As [`in8`].
#[inline(never)]
pub(crate) unsafe fn in16(port: u16) -> u16 {
    let value;
    // SAFETY: as in `in8`.
    unsafe { asm!("in ax, dx", in("dx") port, out("ax") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Reads four bytes from a port.
///
/// # Safety
/// As [`in8`].
#[inline(never)]
pub(crate) unsafe fn in32(port: u16) -> u32 {
    let value;
    // SAFETY: as in `in8`.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes a byte to a port.
///
/// # Safety
/// The device does nothing that breaks memory safety when it sees the value.
#[inline(never)]
pub(crate) unsafe fn out8(port: u16, value: u8) {
    // SAFETY: the caller answers for the port; the instruction touches no memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) };
}

/// Writes two bytes to a port.
///
/// # Safety
/// As [`out8`].
#[inline(never)]
pub(crate) unsafe fn out16(port: u16, value: u16) {
    // SAFETY: as in `out8`.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack, preserves_flags)) };
}

/// Writes four bytes to a port.
///
/// # Safety
/// As [`out8`].
#[inline(never)]
pub(crate) unsafe fn out32(port: u16, value: u32) {
    // SAFETY: as in `out8`.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack, preserves_flags)) };
}

/// Drops this CPU's translation of one page (Intel SDM vol. 2A, INVLPG).
#[inline(never)]
pub(crate) fn invalidate_page(address: u64) {
    translations::step(|| {
        // SAFETY: forgetting a translation changes no memory; the next access walks the page table.
        unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack, preserves_flags)) };
        Some(Event::PageInvalidated { cpu: translations::this_cpu()?, address })
    });
}

/// The address of the last page fault.
#[inline(never)]
pub(crate) fn read_cr2() -> u64 {
    let value;
    // SAFETY: reading CR2 has no side effect.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// The physical address of the root page table, with its flags.
#[inline(never)]
pub(crate) fn read_cr3() -> u64 {
    let value;
    // SAFETY: reading CR3 has no side effect.
    unsafe { asm!("mov {}, cr3", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// CR4.
#[inline(never)]
pub(crate) fn read_cr4() -> u64 {
    let value;
    // SAFETY: reading CR4 has no side effect.
    unsafe { asm!("mov {}, cr4", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Reads a model-specific register.
///
/// # Safety
/// The register exists on this CPU; reading another one is #GP.
#[inline(never)]
pub(crate) unsafe fn read_msr(register: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller answers for the register's existence; reading has no side effect on those the kernel uses.
    unsafe {
        asm!("rdmsr", in("ecx") register, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    u64::from(low) | (u64::from(high) << 32)
}

/// PKRU (Intel SDM vol. 2B, RDPKRU).
///
/// # Safety
/// CR4.PKE is set; else it is #UD.
#[inline(never)]
pub(crate) unsafe fn read_pkru() -> u32 {
    let word;
    // SAFETY: the caller answers for CR4.PKE; reading has no side effect.
    unsafe {
        asm!("rdpkru", in("ecx") 0, out("eax") word, out("edx") _, options(nomem, nostack, preserves_flags));
    }
    word
}

/// The time-stamp counter.
#[inline(never)]
pub(crate) fn read_tsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: CR4.TSD is clear and the kernel runs in ring 0; LFENCE keeps earlier loads before the read (SDM
    // vol. 2B, RDTSC).
    unsafe {
        asm!("lfence", "rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags))
    };
    u64::from(low) | (u64::from(high) << 32)
}

/// Stops this CPU for good.
#[inline(never)]
pub(crate) fn stop() -> ! {
    loop {
        // SAFETY: interrupts are off; an NMI's handler returns here.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

/// Instructions of bring-up. `init` text is gone afterwards.
pub(crate) mod init {
    use crate::mem::translations;
    use core::arch::asm;
    use libpks::translations::Event;

    /// Loads the root page table, which also flushes the TLB (there are no global pages).
    ///
    /// # Safety
    /// The table maps everything the caller still uses, at the same addresses.
    #[inline(never)]
    #[unsafe(link_section = ".init.text")]
    pub(crate) unsafe fn write_cr3(value: u64) {
        // SAFETY: as the caller promises. Not nomem: every mapping may change.
        unsafe { asm!("mov cr3, {}", in(reg) value, options(nostack, preserves_flags)) };
        translations::root_loaded();
    }

    /// CR0.
    #[inline(never)]
    #[unsafe(link_section = ".init.text")]
    pub(crate) fn read_cr0() -> u64 {
        let value;
        // SAFETY: reading CR0 has no side effect.
        unsafe { asm!("mov {}, cr0", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }

    /// Sets CR0.
    ///
    /// # Safety
    /// The value keeps long mode and paging on and has a meaning on this CPU.
    #[inline(never)]
    #[unsafe(link_section = ".init.text")]
    pub(crate) unsafe fn write_cr0(value: u64) {
        // SAFETY: as the caller promises.
        unsafe { asm!("mov cr0, {}", in(reg) value, options(nostack, preserves_flags)) };
    }

    /// Sets CR4.
    ///
    /// # Safety
    /// Every bit set is one that this CPU's CPUID names (another one is #GP) and that paging can stay on with.
    #[inline(never)]
    #[unsafe(link_section = ".init.text")]
    pub(crate) unsafe fn write_cr4(value: u64) {
        let old = super::read_cr4();
        // SAFETY: as the caller promises.
        unsafe { asm!("mov cr4, {}", in(reg) value, options(nostack, preserves_flags)) };
        translations::step(|| {
            Some(Event::ControlWritten { cpu: translations::this_cpu()?, old, new: value })
        });
    }

    /// Sets CR4, with CR4.PKE, and then PKRU.
    ///
    /// # Safety
    /// As [`write_cr4`]; CPUID names PKU, and the word opens what the caller uses.
    #[inline(never)]
    #[unsafe(link_section = ".init.text")]
    pub(crate) unsafe fn enable_pku(cr4: u64, word: u32) {
        let old = super::read_cr4();
        // SAFETY: as the caller promises. No memory is accessed before PKRU has its value.
        unsafe {
            asm!("mov cr4, {}", "wrpkru", in(reg) cr4, in("eax") word, in("ecx") 0, in("edx") 0,
                options(nostack, preserves_flags));
        }
        translations::step(|| Some(Event::ControlWritten { cpu: translations::this_cpu()?, old, new: cr4 }));
    }

    /// Sets a model-specific register.
    ///
    /// # Safety
    /// The register exists and the value breaks none of the kernel's assumptions.
    #[inline(never)]
    #[unsafe(link_section = ".init.text")]
    pub(crate) unsafe fn write_msr(register: u32, value: u64) {
        // SAFETY: as the caller promises. Not nomem: PKRS and EFER change what memory may be accessed.
        unsafe {
            asm!("wrmsr", in("ecx") register, in("eax") value as u32, in("edx") (value >> 32) as u32,
                options(nostack, preserves_flags));
        }
    }

    /// What LGDT and LIDT read.
    #[repr(C, packed)]
    pub(crate) struct TablePointer {
        /// Bytes of the table, minus one.
        pub(crate) limit: u16,
        /// Its linear address.
        pub(crate) base: u64,
    }

    /// Loads the GDT and reloads every segment register: CS, SS, DS, ES get the flat segments, FS and GS are null.
    ///
    /// # Safety
    /// The table holds the segments of `arch::gdt` and stays mapped.
    #[inline(never)]
    #[unsafe(link_section = ".init.text")]
    pub(crate) unsafe fn load_gdt(pointer: &TablePointer, code: u64, data: u64, task: u64) {
        // SAFETY: as the caller promises; the far return goes to the next instruction.
        unsafe {
            asm!(
                "lgdt [{pointer}]",
                "push {code}",
                "lea {code}, [rip + 2f]",
                "push {code}",
                "retfq",
                "2:",
                "mov ss, {data:x}",
                "mov ds, {data:x}",
                "mov es, {data:x}",
                "xor {data:e}, {data:e}",
                "mov fs, {data:x}",
                "mov gs, {data:x}",
                "lldt {data:x}",
                "ltr {task:x}",
                pointer = in(reg) pointer, code = inout(reg) code => _, data = inout(reg) data => _, task = in(reg) task,
            );
        }
    }

    /// Loads the IDT.
    ///
    /// # Safety
    /// The table is a complete IDT and stays mapped.
    #[inline(never)]
    #[unsafe(link_section = ".init.text")]
    pub(crate) unsafe fn load_idt(pointer: &TablePointer) {
        // SAFETY: as the caller promises.
        unsafe { asm!("lidt [{}]", in(reg) pointer, options(nostack, preserves_flags)) };
    }
}
