//! What the SelfTest capability gives: things that no ordinary domain may do, for scenarios that test the kernel
//! itself. Only `pks_test` holds it, and in test manifests `testlink`, which ends the machine with it.

/// An operation of [`super::Syscall::SelfTest`]; its number is word 1, its arguments follow in words 2 to 6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum SelfTestOp {
    /// Accesses memory under a given rights word, in a stub that touches nothing else: address, PKRS word, access (0
    /// read, 1 write), value to write. Gives: faulted (0 or 1), error code, CR2, value read.
    Probe = 0,
    /// The same with CR0.WP clear around the one access. Arguments and results as `Probe`.
    ProbeWithoutWriteProtect = 1,
    /// Reads PKRS of a CPU (word 2). Gives the word as it was for the *interrupted* domain (from the
    /// record written before the entry changed it), the live word in the kernel, and the CR4 of that CPU.
    ReadPkrs = 2,
    /// Maps or unmaps (word 2: 1 or 0) one page out of the keys' reach, with the key in word 3 nevertheless: with PKS
    /// U/S is set there, with PKU clear. Gives its address.
    UnkeyedPage = 3,
    /// Walks the page table at an address. Gives the leaf entry, its level (1 4 KiB, 2 2 MiB, 3 1 GiB), and whether
    /// the page is out of the keys' reach. `NotFound` if nothing is mapped.
    WalkPageTable = 4,
    /// Takes breakpoint exceptions inside the kernel, each in the handler of the one before: how many (word 2, 1 to
    /// 10), what the innermost handler does (word 3: 0 nothing, 1 it takes an NMI), whose view is wanted (word 4: 0
    /// the outermost). Gives PKRS in the event's handler before, in that level's handler before and after the levels
    /// inside it, in the event's handler after; DEPTH of that level; PKRS in the NMI's handler; how many levels came.
    NestedTrap = 5,
    /// Writes a value to IA32_PKRS (words 2, 3: low, high) with a fix-up for #GP. Gives faulted, then the value read
    /// back before the kernel's own word was restored.
    WritePkrsRaw = 6,
    /// Counts: gives context switches, PKRS writes, and traps of the CPU in word 2 since boot.
    Counters = 7,
    /// Sends an NMI to a CPU (word 2) and waits until it was handled. Gives PKRS in the NMI handler and after it.
    Nmi = 8,
    /// Audits all mappings. Gives how many pages were checked and how many rules were broken.
    Audit = 9,
    /// Ends QEMU through isa-debug-exit with the code in word 2. `Unsupported` if there is no such device.
    Exit = 10,
    /// Maps a leaf under a key, accesses it once as `Probe` does, and unmaps it. Arguments: level (1 4 KiB, 2 2 MiB, 3
    /// 1 GiB) with [`LEAF_EXECUTABLE`] or without, key, PKRS word, access (0 read, 1 write, 2 fetch), value (of a
    /// fetch 32 bits). Gives as `Probe`: faulted, error code, CR2, value read (by a fetch: what the page's code
    /// returned); then the leaf entry, its level, what memory holds afterwards, and the address. A read finds the
    /// value in memory, a write its complement. `Unsupported` for 1 GiB on a CPU that has no such leaves.
    LeafAccess = 11,
    /// As `Probe`, with the keys' bit of CR4 clear around the one access.
    ProbeWithoutKeys = 12,
    /// Changes the key in the leaf of a region's page (word 2: address, 3: key) without telling the kernel's books.
    /// Gives the old key.
    SetLeafKey = 13,
    /// Changes the recorded rights word of the calling thread (word 2) without telling the books; it holds until they
    /// are asked again. Gives the old word.
    SetWord = 14,
    /// Fills a stack of the kernel, which must stop the machine with a report: 0 the event kernel's, 1 that of a nested
    /// trap, 2 takes more nested traps than have stacks. If it returns, by `WrongState`, nothing has caught it.
    Overflow = 15,
    /// Ends a domain (word 2: its number) by a fault in its name, whatever it is doing: `NotFound` if it does not live.
    Kill = 16,
}

/// In the level of [`SelfTestOp::LeafAccess`]: the page can be executed, and not be written.
pub const LEAF_EXECUTABLE: u64 = 0x100;

impl SelfTestOp {
    /// The operation with this number, if there is one.
    pub const fn from_number(number: u64) -> Option<SelfTestOp> {
        use SelfTestOp::*;
        const ALL: [SelfTestOp; 17] = [
            Probe,
            ProbeWithoutWriteProtect,
            ReadPkrs,
            UnkeyedPage,
            WalkPageTable,
            NestedTrap,
            WritePkrsRaw,
            Counters,
            Nmi,
            Audit,
            Exit,
            LeafAccess,
            ProbeWithoutKeys,
            SetLeafKey,
            SetWord,
            Overflow,
            Kill,
        ];
        if number < ALL.len() as u64 { Some(ALL[number as usize]) } else { None }
    }
}
