//! The registers of a CPU that stopped.

use std::fmt;

use anyhow::{Result, ensure};

use super::GdbStub;

/// Number of RIP among the registers (GDB's `i386:x86-64` description).
const RIP: usize = 16;
/// Number of RSP.
const RSP: usize = 7;
/// Number of EFLAGS.
const FLAGS: usize = 17;

/// What comes behind EFLAGS in QEMU's description of the CPU, and how many hexadecimal digits each takes.
const BEHIND_FLAGS: [(&str, usize); 15] = [
    ("cs", 8),
    ("ss", 8),
    ("ds", 8),
    ("es", 8),
    ("fs", 8),
    ("gs", 8),
    ("fs_base", 16),
    ("gs_base", 16),
    ("k_gs_base", 16),
    ("cr0", 16),
    ("cr2", 16),
    ("cr3", 16),
    ("cr4", 16),
    ("cr8", 16),
    ("efer", 16),
];

/// What the stub calls "all registers", bit for bit.
#[derive(Clone, PartialEq, Eq)]
pub struct Registers(String);

impl fmt::Debug for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 17] = [
            "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
            "r14", "r15", "rip",
        ];
        for (number, name) in NAMES.iter().enumerate() {
            write!(f, "{name}={:x} ", self.word(number))?;
        }
        write!(f, "flags={:x}", self.flags())?;
        for (name, digits) in self.behind_flags() {
            write!(f, " {name}={digits}")?;
        }
        Ok(())
    }
}

impl Registers {
    /// The number of RIP.
    pub const RIP: usize = RIP;

    /// The same with another value in one of them.
    #[must_use]
    pub fn with(&self, number: usize, value: u64) -> Self {
        self.replaced(number * 16, &format!("{:016x}", value.swap_bytes()))
    }

    /// What an event must leave as it was: everything but the resume flag, which is the CPU's own affair, and SS, which
    /// QEMU clears when it delivers an event on another stack, and IRETQ sets.
    #[must_use]
    pub fn interrupted(&self) -> Self {
        const RESUME_FLAG: u32 = 1 << 16;
        // Behind EFLAGS come CS and SS, of 4 bytes each.
        let flags = self.flags() & !RESUME_FLAG;
        self.replaced(FLAGS * 16, &format!("{:08x}", flags.swap_bytes()))
            .replaced(FLAGS * 16 + 16, "00000000")
    }

    /// The same without CR2, which is the CPU's: what a thread gets back when others have run.
    #[must_use]
    pub fn of_thread(&self) -> Self {
        let before_cr2 = BEHIND_FLAGS.iter().take_while(|(name, _)| *name != "cr2").map(|(_, digits)| digits);
        self.interrupted().replaced(FLAGS * 16 + 8 + before_cr2.sum::<usize>(), &"0".repeat(16))
    }

    /// What comes behind EFLAGS, as the stub gives it.
    fn behind_flags(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let mut rest = &self.0[FLAGS * 16 + 8..];
        BEHIND_FLAGS.into_iter().map_while(move |(name, digits)| {
            let (this, behind) = rest.split_at_checked(digits)?;
            rest = behind;
            Some((name, this))
        })
    }

    fn replaced(&self, at: usize, digits: &str) -> Self {
        let mut all = self.0.clone();
        all.replace_range(at..at + digits.len(), digits);
        Self(all)
    }

    fn word(&self, number: usize) -> u64 {
        u64::from_str_radix(&self.0[number * 16..number * 16 + 16], 16).map_or(0, u64::swap_bytes)
    }

    /// A general register: 0 RAX, 1 RBX, 2 RCX, 3 RDX, 4 RSI, 5 RDI, 6 RBP, 7 RSP, 8 R8, and so on.
    #[must_use]
    pub fn general(&self, number: usize) -> u64 {
        self.word(number)
    }

    /// RIP.
    #[must_use]
    pub fn rip(&self) -> u64 {
        self.word(RIP)
    }

    /// RSP.
    #[must_use]
    pub fn rsp(&self) -> u64 {
        self.word(RSP)
    }

    /// EFLAGS.
    #[must_use]
    pub fn flags(&self) -> u32 {
        u32::from_str_radix(&self.0[FLAGS * 16..FLAGS * 16 + 8], 16).map_or(0, u32::swap_bytes)
    }
}

impl GdbStub {
    /// The registers in hexadecimal: 17 of 8 bytes, RIP the last, then EFLAGS of 4.
    fn registers(&mut self) -> Result<String> {
        let all = self.command("g")?;
        ensure!(all.is_ascii() && all.len() > 18 * 16, "not registers: {all}");
        Ok(all)
    }

    fn register(&mut self, number: usize) -> Result<u64> {
        let all = self.registers()?;
        Ok(u64::from_str_radix(&all[number * 16..number * 16 + 16], 16)?.swap_bytes())
    }

    /// Writes one register, alone: after a write of all of them QEMU executes up to a branch before it looks for what
    /// is pending.
    fn set_register(&mut self, number: usize, digits: &str) -> Result<()> {
        self.demand_ok(&format!("P{number:x}={digits}"))
    }

    /// All registers that the stub knows, but PKRS, which it does not.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn all_registers(&mut self) -> Result<Registers> {
        self.registers().map(Registers)
    }

    /// Makes the general registers, RIP and EFLAGS what they were.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn set_all_registers(&mut self, wanted: &Registers) -> Result<()> {
        let now = self.all_registers()?;
        for number in (0..=RIP).filter(|&number| now.word(number) != wanted.word(number)) {
            self.set_register(number, &format!("{:016x}", wanted.word(number).swap_bytes()))?;
        }
        if now.flags() == wanted.flags() { Ok(()) } else { self.set_flags(wanted.flags()) }
    }

    /// RIP of the CPU that stopped.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn rip(&mut self) -> Result<u64> {
        self.register(RIP)
    }

    /// RSP of the CPU that stopped.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn rsp(&mut self) -> Result<u64> {
        self.register(RSP)
    }

    /// A general register of the selected CPU: 0 RAX, 1 RBX, 2 RCX, 3 RDX, 4 RSI, 5 RDI, and so on.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn general(&mut self, number: usize) -> Result<u64> {
        ensure!(number < RIP, "no general register has number {number}");
        self.register(number)
    }

    /// Lets the CPU that stopped go on elsewhere.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn set_rip(&mut self, address: u64) -> Result<()> {
        self.set_register(RIP, &format!("{:016x}", address.swap_bytes()))
    }

    /// Sets a general register of the CPU that stopped: 0 RAX, 1 RBX, 2 RCX, 3 RDX, and so on.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn set_general(&mut self, number: usize, value: u64) -> Result<()> {
        ensure!(number < RIP, "no general register has number {number}");
        self.set_register(number, &format!("{:016x}", value.swap_bytes()))
    }

    /// Sets the flags of the CPU that stopped.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn set_flags(&mut self, flags: u32) -> Result<()> {
        self.set_register(FLAGS, &format!("{:08x}", flags.swap_bytes()))
    }
}
