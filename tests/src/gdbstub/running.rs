//! Running and stopping: all CPUs or one, to an address, by one instruction.

use std::io::Write;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{ANSWER, GdbStub};

/// Why the guest stopped, as the stub told it last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stop {
    /// The CPU that stopped it.
    pub cpu: usize,
    /// The address that was accessed, if a watchpoint stopped it.
    pub watched: Option<u64>,
}

impl Stop {
    /// Reads `T05thread:p01.02;watch:f000;` or the like; `None` for another answer.
    fn parse(packet: &str) -> Option<Self> {
        let mut stop = Self { cpu: 0, watched: None };
        for part in packet.strip_prefix('T')?.get(2..)?.split(';') {
            match part.split_once(':') {
                Some(("thread", id)) => {
                    let number = id.rsplit('.').next()?;
                    stop.cpu = usize::from_str_radix(number, 16).ok()?.checked_sub(1)?;
                }
                Some(("watch" | "rwatch" | "awatch", address)) => {
                    stop.watched = Some(u64::from_str_radix(address, 16).ok()?);
                }
                _ => {}
            }
        }
        Some(stop)
    }
}

impl GdbStub {
    /// Lets all CPUs run.
    ///
    /// # Errors
    /// When the connection is lost, as for all that follow.
    pub fn resume(&mut self) -> Result<()> {
        self.send("c")
    }

    /// Lets one CPU run while all others stand still.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn resume_only(&mut self, cpu: usize) -> Result<()> {
        self.send(&format!("vCont;c:{:x}", cpu + 1))
    }

    /// Lets one CPU execute one instruction, interrupts held back, while all others stand still. Gives whether it did
    /// within `limit`; a CPU that is halted does not. The guest is stopped in any case.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn step_only(&mut self, cpu: usize, limit: Duration) -> Result<bool> {
        self.send(&format!("vCont;s:{:x}", cpu + 1))?;
        let stepped = self.stopped_within(limit)?;
        if !stepped {
            self.interrupt()?;
        }
        Ok(stepped)
    }

    /// Registers and memory are those of this CPU until the guest runs again.
    ///
    /// # Errors
    /// When there is no such CPU.
    pub fn select(&mut self, cpu: usize) -> Result<()> {
        self.demand_ok(&format!("Hg{:x}", cpu + 1))
    }

    /// Why the guest stopped last; `None` if the stub did not say.
    #[must_use]
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }

    /// Waits until the guest stops; whether it did in time.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn stopped_within(&mut self, limit: Duration) -> Result<bool> {
        let packet = self.receive(limit)?;
        self.stop = packet.as_deref().and_then(Stop::parse);
        Ok(packet.is_some())
    }

    /// Stops all CPUs.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn interrupt(&mut self) -> Result<()> {
        self.stream.write_all(&[3])?;
        ensure!(self.stopped_within(ANSWER)?, "the guest does not stop");
        Ok(())
    }

    /// Executes one instruction of the CPU that stopped; interrupts are held back meanwhile.
    ///
    /// # Errors
    /// When the guest does not stop behind it.
    pub fn step(&mut self) -> Result<()> {
        self.command("s").map(drop)
    }

    /// Runs the stopped guest until an instruction is about to be executed. Gives whether it was in time; the guest is
    /// stopped in any case. If the CPU that stopped stands there it goes on until it comes there once more.
    ///
    /// # Errors
    /// When it stops elsewhere.
    pub fn run_to(&mut self, address: u64, limit: Duration) -> Result<bool> {
        if self.rip()? == address {
            self.step()?;
        }
        self.set_breakpoint(address)?;
        self.resume()?;
        let arrived = self.stopped_within(limit)?;
        if !arrived {
            self.interrupt()?;
        }
        self.clear_breakpoint(address)?;
        let rip = self.rip()?;
        ensure!(!arrived || rip == address, "stopped at {rip:#x} instead of {address:#x}");
        Ok(arrived)
    }

    /// Goes on from here, without a step first, until an instruction is about to be executed: what is pending is taken
    /// at once. Gives whether it was in time; the guest is stopped in any case.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn go_to(&mut self, addresses: &[u64], limit: Duration) -> Result<bool> {
        for &address in addresses {
            self.set_breakpoint(address)?;
        }
        self.resume()?;
        let arrived = self.stopped_within(limit)?;
        if !arrived {
            self.interrupt()?;
        }
        for &address in addresses {
            self.clear_breakpoint(address)?;
        }
        Ok(arrived)
    }

    /// Sets a hardware breakpoint while the guest is stopped.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn set_breakpoint(&mut self, address: u64) -> Result<()> {
        self.demand_ok(&format!("Z1,{address:x},1"))
    }

    /// Removes a hardware breakpoint while the guest is stopped.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn clear_breakpoint(&mut self, address: u64) -> Result<()> {
        self.demand_ok(&format!("z1,{address:x},1"))
    }

    /// Stops the guest at each access of any CPU to eight bytes at a virtual address, after it was made.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn set_watchpoint(&mut self, address: u64) -> Result<()> {
        self.demand_ok(&format!("Z4,{address:x},8"))
    }

    /// Removes such a watchpoint.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn clear_watchpoint(&mut self, address: u64) -> Result<()> {
        self.demand_ok(&format!("z4,{address:x},8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_are_read() {
        let stop = |cpu, watched| Some(Stop { cpu, watched });
        assert_eq!(Stop::parse("T05thread:p01.02;"), stop(1, None));
        assert_eq!(Stop::parse("T05thread:0a;"), stop(9, None));
        assert_eq!(
            Stop::parse("T05thread:p01.01;awatch:ffffd00000000008;"),
            stop(0, Some(0xffff_d000_0000_0008))
        );
        assert_eq!(Stop::parse("OK"), None);
    }
}
