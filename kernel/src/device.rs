//! Devices in the kernel: ranges of I/O ports and interrupt lines, as capabilities name them.

use crate::arch::acpi::SoftOff;
use crate::arch::apic::VECTOR_LINES;
use crate::arch::insn;
use crate::arch::ioapic::LINES;
use crate::domain::Domain;
use crate::ipc::Signal;
use crate::object::Ref;
use crate::state::Kernel;
use libpks::abi::Error;
use libpks::cap::{CapRights, ObjectId, Owner};
use libpks::ports::{self, FORBIDDEN_PORTS};

/// The object number of the capability to all lines, from which single ones are derived.
pub(crate) const ALL_LINES: u32 = u32::MAX;

/// A range of ports, both ends included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PortRange {
    pub(crate) first: u16,
    pub(crate) last: u16,
    /// Capabilities that name it.
    pub(crate) refs: u32,
}

/// The block of ports that holds PM1, its neighbours for general purpose events and sleep, and the SMI command
/// beside them: chipsets give 128 ports, aligned.
fn power_ports(soft_off: SoftOff) -> ports::PortRange {
    let from = soft_off.port & !0x7f;
    ports::PortRange { from, to: from | 0x7f }
}

/// What a line's interrupt does.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    /// Capabilities that name it.
    refs: u32,
    /// What is signalled, and for which domain.
    bound: Option<(Signal, Ref<Domain>)>,
}

/// All lines.
#[derive(Debug)]
pub(crate) struct Lines([Line; LINES as usize]);

impl Default for Lines {
    fn default() -> Lines {
        Lines([Line::default(); LINES as usize])
    }
}

impl PortRange {
    /// The part of this range from `first` to `last`.
    ///
    /// # Errors
    /// `InvalidArgument` if it is not part of it, or holds a port that no domain gets: those of
    /// [`FORBIDDEN_PORTS`], and the machine's own power management.
    pub(crate) fn part(&self, first: u64, last: u64, soft_off: Option<SoftOff>) -> Result<PortRange, Error> {
        let (Ok(first), Ok(last)) = (u16::try_from(first), u16::try_from(last)) else {
            return Err(Error::InvalidArgument);
        };
        let inside = first <= last && first >= self.first && last <= self.last;
        let asked = ports::PortRange { from: first, to: last };
        let forbidden = FORBIDDEN_PORTS.iter().any(|(range, _)| range.overlaps(asked))
            || soft_off.is_some_and(|soft_off| power_ports(soft_off).overlaps(asked));
        if inside && !forbidden {
            Ok(PortRange { first, last, refs: 1 })
        } else {
            Err(Error::InvalidArgument)
        }
    }

    /// The port, if an access of this width lies in the range.
    fn checked(&self, port: u64, width: u64) -> Result<u16, Error> {
        let port = u16::try_from(port).map_err(|_| Error::InvalidArgument)?;
        if !matches!(width, 1 | 2 | 4) {
            return Err(Error::InvalidArgument);
        }
        let end = u64::from(port) + width - 1;
        let allowed = port >= self.first && end <= u64::from(self.last);
        // The range of all ports is there to be divided, not to be used.
        let everything = self.first == 0 && self.last == u16::MAX;
        if allowed && !everything { Ok(port) } else { Err(Error::InvalidArgument) }
    }

    /// Reads from a port.
    ///
    /// # Errors
    /// `InvalidArgument` if the range does not hold it, or for a width other than 1, 2, 4.
    pub(crate) fn read(&self, port: u64, width: u64) -> Result<u64, Error> {
        let port = self.checked(port, width)?;
        // SAFETY: the range holds no port that reaches memory or the machine's controllers; what the device makes of
        // the access is the driver's affair.
        unsafe {
            Ok(match width {
                1 => u64::from(insn::in8(port)),
                2 => u64::from(insn::in16(port)),
                _ => u64::from(insn::in32(port)),
            })
        }
    }

    /// Writes to a port.
    ///
    /// # Errors
    /// As [`PortRange::read`].
    pub(crate) fn write(&self, port: u64, width: u64, value: u64) -> Result<(), Error> {
        let port = self.checked(port, width)?;
        // SAFETY: as in `read`.
        unsafe {
            match width {
                1 => insn::out8(port, value as u8),
                2 => insn::out16(port, value as u16),
                _ => insn::out32(port, value as u32),
            }
        }
        Ok(())
    }
}

impl Kernel {
    /// Takes a line for a capability.
    ///
    /// # Errors
    /// `InvalidArgument` if there is none with this number, `Busy` if somebody has it.
    pub(crate) fn take_line(&mut self, line: u64) -> Result<u32, Error> {
        let number =
            u8::try_from(line).ok().filter(|&line| self.io_apics.has(line)).ok_or(Error::InvalidArgument)?;
        let line = &mut self.lines.0[usize::from(number)];
        if line.refs > 0 {
            return Err(Error::Busy);
        }
        line.refs = 1;
        Ok(u32::from(number))
    }

    /// How many capabilities name a line; `None` for that of all lines.
    pub(crate) fn line_references(&mut self, line: u32) -> Option<&mut u32> {
        self.lines.0.get_mut(line as usize).map(|books| &mut books.refs)
    }

    /// The last capability to a line has gone.
    pub(crate) fn release_line(&mut self, line: u32) {
        self.unbind_line(line);
    }

    /// Routes a line's interrupts to a notification and lets them in.
    pub(crate) fn bind_line(&mut self, line: u32, domain: Ref<Domain>, signal: Signal) {
        let apic_id = self.cpu(0).apic_id;
        if let Some(books) = self.lines.0.get_mut(line as usize) {
            books.bound = Some((signal, domain));
            self.io_apics.set_masked(line as u8, false, apic_id);
        }
    }

    fn unbind_line(&mut self, line: u32) {
        if let Some(books) = self.lines.0.get_mut(line as usize)
            && books.bound.take().is_some()
        {
            self.io_apics.set_masked(line as u8, true, 0);
        }
    }

    /// A domain has ended: nobody serves the devices any more whose interrupts went to it.
    pub(crate) fn unbind_lines_of(&mut self, domain: Ref<Domain>) {
        for line in 0..u32::from(LINES) {
            if self.lines.0[line as usize].bound.is_some_and(|(_, bound)| bound == domain) {
                self.unbind_line(line);
            }
        }
    }

    /// A domain has lost a capability to a line. Without another one its interrupts are not for it any more.
    pub(crate) fn narrow_line(&mut self, object: ObjectId, owner: Owner) {
        let bound = self.lines.0.get(object.index as usize).and_then(|books| books.bound);
        let theirs = bound.is_some_and(|(_, domain)| domain.number() == owner.0);
        if theirs && !self.caps.rights_to(owner, object).contains(CapRights::MANAGE) {
            self.unbind_line(object.index);
        }
    }

    /// Lets a line interrupt again after its device was served.
    pub(crate) fn acknowledge_line(&mut self, line: u32) {
        let apic_id = self.cpu(0).apic_id;
        if self.lines.0.get(line as usize).is_some_and(|books| books.bound.is_some())
            && self.io_apics.is_level(line as u8)
        {
            self.io_apics.set_masked(line as u8, false, apic_id);
        }
    }

    /// A vector of the I/O APIC has arrived. A domain can claim that with INT n, so this does no more than a spurious
    /// interrupt would. A line that stays raised is masked until its driver has served the device.
    pub(crate) fn line_interrupt(&mut self, vector: u64) {
        let line = vector.wrapping_sub(u64::from(VECTOR_LINES)) as usize;
        let Some((signal, _)) = self.lines.0.get(line).and_then(|books| books.bound) else { return };
        if !self.is_heard(&signal) {
            return self.unbind_line(line as u32);
        }
        if self.io_apics.is_level(line as u8) {
            self.io_apics.set_masked(line as u8, true, 0);
        }
        self.signal(signal);
    }
}
