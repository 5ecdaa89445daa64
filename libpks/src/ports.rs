//! I/O ports: ranges of them, and those that no server gets. The image builder refuses a manifest that names one; the
//! kernel refuses it whoever asks.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

/// I/O ports, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRange {
    /// The first port.
    pub from: u16,
    /// The last port.
    pub to: u16,
}

impl PortRange {
    /// Whether a port is in both ranges.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.from <= other.to && other.from <= self.to
    }
}

/// Ports that no server may have, each with what is there: whoever has one of them has the machine.
/// The ports of ACPI's power management are not here, because their place differs between machines.
pub const FORBIDDEN_PORTS: [(PortRange, &str); 13] = [
    (range(0x00, 0x0f), "ISA DMA"),
    (range(0x20, 0x21), "interrupt controller (PIC)"),
    (range(0x40, 0x43), "interval timer (PIT)"),
    (range(0x61, 0x61), "interval timer (PIT) gate and NMI control"),
    (range(0x80, 0x80), "delays of the kernel"),
    (range(0x81, 0x8f), "ISA DMA pages"),
    (range(0x92, 0x92), "system control port A (reset, A20)"),
    (range(0xa0, 0xa1), "interrupt controller (PIC)"),
    (range(0xb2, 0xb3), "system management mode"),
    (range(0xc0, 0xdf), "ISA DMA"),
    (range(0x4d0, 0x4d1), "interrupt controller (PIC) edge and level"),
    (range(0xcf8, 0xcff), "PCI configuration and reset (CF8, CF9, CFC)"),
    (range(0xf4, 0xf4), "QEMU's debug exit"),
];

const fn range(from: u16, to: u16) -> PortRange {
    PortRange { from, to }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges_overlap_at_their_ends() {
        assert!(range(1, 4).overlaps(range(4, 4)) && range(4, 4).overlaps(range(1, 4)));
        assert!(!range(1, 4).overlaps(range(5, 9)) && !range(5, 9).overlaps(range(1, 4)));
    }
}
