//! Machine checks: whether there is one, and what the CPU's banks say of it (Intel SDM vol. 3B, chapter 16).

use super::insn;
use core::fmt;

/// Vector of a machine check.
pub(crate) const MACHINE_CHECK: u64 = 18;

const IA32_MCG_CAP: u32 = 0x179;
const IA32_MCG_STATUS: u32 = 0x17a;
/// IA32_MC0_STATUS; ADDR and MISC follow, and each bank has four registers.
const IA32_MC0_STATUS: u32 = 0x401;

const RESTART_IP_VALID: u64 = 1 << 0;
const ERROR_IP_VALID: u64 = 1 << 1;
const IN_PROGRESS: u64 = 1 << 2;

const BANK_VALID: u64 = 1 << 63;
const BANK_OVERFLOW: u64 = 1 << 62;
const BANK_UNCORRECTED: u64 = 1 << 61;
const BANK_MISC_VALID: u64 = 1 << 59;
const BANK_ADDRESS_VALID: u64 = 1 << 58;
const BANK_CONTEXT_CORRUPT: u64 = 1 << 57;

/// Whether this CPU is told of a machine check. INT 18 alone is none, and any domain can execute it.
pub(crate) fn is_in_progress() -> bool {
    global_status() & IN_PROGRESS != 0
}

fn global_status() -> u64 {
    // SAFETY: IA32_MCG_STATUS exists where CPUID names MCA, as every x86-64 CPU does.
    unsafe { insn::read_msr(IA32_MCG_STATUS) }
}

/// A bank in which an error is recorded.
#[derive(Clone, Copy, Debug)]
struct Bank {
    number: u32,
    status: u64,
    address: Option<u64>,
    misc: Option<u64>,
}

impl Bank {
    fn read(number: u32) -> Option<Bank> {
        let first = IA32_MC0_STATUS + 4 * number;
        // SAFETY: IA32_MCG_CAP counts this bank; ADDR and MISC exist where their valid bits are set.
        let read = |register| unsafe { insn::read_msr(register) };
        let status = read(first);
        (status & BANK_VALID != 0).then(|| Bank {
            number,
            status,
            address: (status & BANK_ADDRESS_VALID != 0).then(|| read(first + 1)),
            misc: (status & BANK_MISC_VALID != 0).then(|| read(first + 2)),
        })
    }
}

impl fmt::Display for Bank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "  bank {}: status {:#x}, error code {:#06x}",
            self.number,
            self.status,
            self.status & 0xffff
        )?;
        let marks = [
            (BANK_UNCORRECTED, "uncorrected"),
            (BANK_CONTEXT_CORRUPT, "context corrupt"),
            (BANK_OVERFLOW, "others lost"),
        ];
        for (bit, mark) in marks {
            if self.status & bit != 0 {
                write!(f, ", {mark}")?;
            }
        }
        if let Some(address) = self.address {
            write!(f, ", address {address:#x}")?;
        }
        if let Some(misc) = self.misc {
            write!(f, ", misc {misc:#x}")?;
        }
        Ok(())
    }
}

/// What this CPU has on record, in words.
#[derive(Debug)]
pub(crate) struct MachineCheck;

impl fmt::Display for MachineCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = global_status();
        let is = |bit| if status & bit != 0 { "" } else { "not " };
        write!(
            f,
            "machine check, MCG_STATUS {status:#x}: restart address {}valid, error address {}valid",
            is(RESTART_IP_VALID),
            is(ERROR_IP_VALID)
        )?;
        // SAFETY: as in `global_status`.
        let banks = unsafe { insn::read_msr(IA32_MCG_CAP) } & 0xff;
        for bank in (0..banks as u32).filter_map(Bank::read) {
            write!(f, "\n{bank}")?;
        }
        Ok(())
    }
}
