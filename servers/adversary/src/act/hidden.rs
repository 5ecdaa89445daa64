//! Instructions in the middle of others: the builder takes them for the immediate of a MOV, and the CPU does too, until
//! somebody jumps two bytes in. So a hijacked server has every instruction whose bytes the loader lets pass.

use core::arch::naked_asm;

/// Bytes from one MOV to the next, and to the immediate in each.
const STRIDE: u64 = 16;
const OPCODE: u64 = 2;

macro_rules! hidden {
    ($($(#[doc = $doc:literal])+ $name:ident = $bytes:literal;)+) => {
        /// An instruction, and RET behind it unless it does not come back.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Hidden {
            $($(#[doc = $doc])+ $name,)+
        }

        /// # Safety
        /// Not to be called: it is there for its bytes.
        #[unsafe(naked)]
        unsafe extern "sysv64" fn movs() {
            naked_asm!($(".p2align 4, 0xcc", concat!(".byte 0x48, 0xb8, ", $bytes),)+ ".p2align 4, 0xcc", "ret")
        }
    };
}

hidden! {
    /// SYSCALL.
    Syscall = "0x0f, 0x05, 0xc3";
    /// SYSRET to 64-bit mode.
    Sysret = "0x48, 0x0f, 0x07, 0xc3";
    /// SYSENTER.
    Sysenter = "0x0f, 0x34, 0xc3";
    /// SYSEXIT to 64-bit mode.
    Sysexit = "0x48, 0x0f, 0x35, 0xc3";
    /// VMCALL.
    Vmcall = "0x0f, 0x01, 0xc1, 0xc3";
    /// VMXON of what RDI points to.
    Vmxon = "0xf3, 0x0f, 0xc7, 0x37, 0xc3";
    /// GETSEC.
    Getsec = "0x0f, 0x37, 0xc3";
    /// RSM.
    Rsm = "0x0f, 0xaa, 0xc3";
    /// XRSTOR from what RDI points to.
    Xrstor = "0x0f, 0xae, 0x2f, 0xc3";
    /// XGETBV.
    Xgetbv = "0x0f, 0x01, 0xd0, 0xc3";
    /// WRGSBASE from RAX.
    Wrgsbase = "0xf3, 0x48, 0x0f, 0xae, 0xd8, 0xc3";
    /// XORPS of XMM0.
    Sse = "0x0f, 0x57, 0xc0, 0xc3";
    /// FNINIT.
    X87 = "0xdb, 0xe3, 0xc3";
    /// CLTS and FNINIT.
    CltsX87 = "0x0f, 0x06, 0xdb, 0xe3, 0xc3";
    /// WBINVD.
    Wbinvd = "0x0f, 0x09, 0xc3";
    /// MONITOR of what RAX points to, and MWAIT.
    Mwait = "0x0f, 0x01, 0xc8, 0x0f, 0x01, 0xc9, 0xc3";
    /// SGDT to where RDI points.
    StoreGdt = "0x0f, 0x01, 0x07, 0xc3";
    /// SIDT.
    StoreIdt = "0x0f, 0x01, 0x0f, 0xc3";
    /// STR to EAX.
    StoreTask = "0x0f, 0x00, 0xc8, 0xc3";
    /// SLDT to EAX.
    StoreLdt = "0x0f, 0x00, 0xc0, 0xc3";
    /// JMP FAR through what RDI points to.
    JumpFar = "0x48, 0xff, 0x2f, 0xc3";
    /// CALL FAR through what RDI points to.
    CallFar = "0x48, 0xff, 0x1f, 0xc3";
    /// POPFQ.
    Popfq = "0x9d, 0xc3";
    /// IRETQ.
    Iretq = "0x48, 0xcf";
    /// MOV DS, EAX.
    LoadDs = "0x8e, 0xd8, 0xc3";
    /// MOV ES, EAX.
    LoadEs = "0x8e, 0xc0, 0xc3";
    /// MOV FS, EAX.
    LoadFs = "0x8e, 0xe0, 0xc3";
    /// MOV GS, EAX.
    LoadGs = "0x8e, 0xe8, 0xc3";
    /// MOV SS, EAX.
    LoadSs = "0x8e, 0xd0, 0xc3";
    /// MOV SS, EAX and INT 33 in its shadow.
    LoadSsInt = "0x8e, 0xd0, 0xcd, 0x21, 0xc3";
    /// CLI and JMP to itself.
    CliSpin = "0xfa, 0xeb, 0xfe";
    /// CLI and HLT, for ever.
    CliHalt = "0xfa, 0xf4, 0xeb, 0xfc";
    /// INT1.
    Icebp = "0xf1, 0xc3";
    /// RDMSR.
    Rdmsr = "0x0f, 0x32, 0xc3";
    /// RDPKRU.
    Rdpkru = "0x0f, 0x01, 0xee, 0xc3";
    /// UD2.
    Ud2 = "0x0f, 0x0b";
}

impl Hidden {
    /// Where it begins.
    pub(crate) fn address(self) -> u64 {
        movs as *const () as u64 + STRIDE * self as u64 + OPCODE
    }
}

/// Where INT with this vector begins, and RET behind it.
pub(crate) fn interrupt(vector: u8) -> u64 {
    interrupts as *const () as u64 + STRIDE * u64::from(vector) + OPCODE
}

/// # Safety
/// As [`movs`].
#[unsafe(naked)]
unsafe extern "sysv64" fn interrupts() {
    naked_asm!(
        ".set hidden_vector, 0",
        ".rept 256",
        ".byte 0x48, 0xb8, 0xcd, hidden_vector, 0xc3",
        ".p2align 4, 0xcc",
        ".set hidden_vector, hidden_vector + 1",
        ".endr",
        "ret",
    )
}
