//! The guest's memory, and QEMU's own commands.

use anyhow::{Context, Result, ensure};

use super::{ANSWER, GdbStub};

impl GdbStub {
    /// Reads bytes at a virtual address of the CPU that stopped, whatever its keys say.
    ///
    /// # Errors
    /// When nothing is mapped there.
    pub fn read(&mut self, address: u64, count: usize) -> Result<Vec<u8>> {
        let digits = self.command(&format!("m{address:x},{count:x}"))?;
        let pairs = digits.as_bytes().chunks(2);
        let bytes = pairs.map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16));
        bytes.collect::<Result<_, _>>().with_context(|| format!("memory at {address:#x}: {digits}"))
    }

    /// Reads a word at a virtual address of the CPU that stopped, whatever its keys say.
    ///
    /// # Errors
    /// When nothing is mapped there.
    pub fn read_word(&mut self, address: u64) -> Result<u64> {
        let digits = self.command(&format!("m{address:x},8"))?;
        Ok(u64::from_str_radix(&digits, 16).with_context(|| format!("memory at {address:#x}"))?.swap_bytes())
    }

    /// Writes bytes at a virtual address of the CPU that stopped, whatever its rights are.
    ///
    /// # Errors
    /// When nothing is mapped there.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.demand_ok(&format!("M{address:x},{:x}:{digits}", bytes.len()))
    }

    /// Runs a command of QEMU's monitor, `nmi` for instance, and gives what it says.
    ///
    /// # Errors
    /// When the stub does not answer.
    pub fn monitor(&mut self, line: &str) -> Result<String> {
        let digits: String = line.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut said = self.command(&format!("qRcmd,{digits}"))?;
        let mut text = Vec::new();
        while said != "OK" {
            ensure!(!said.starts_with('E'), "QEMU refuses `{line}`: {said}");
            let digits = said.strip_prefix('O').unwrap_or(&said).as_bytes();
            let pairs = digits.chunks(2).map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16));
            text.extend(pairs.collect::<Result<Vec<u8>, _>>().with_context(|| said.clone())?);
            said = self.receive(ANSWER)?.with_context(|| format!("no end of the answer to `{line}`"))?;
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// A command that says nothing unless it fails.
    fn quiet(&mut self, line: &str) -> Result<()> {
        let said = self.monitor(line)?;
        ensure!(said.trim().is_empty(), "`{line}`: {said}");
        Ok(())
    }

    /// Keeps the stopped machine under a name; it needs a drive that holds snapshots.
    ///
    /// # Errors
    /// When QEMU says that it cannot.
    pub fn save(&mut self, name: &str) -> Result<()> {
        self.quiet(&format!("savevm {name}"))
    }

    /// Makes the machine what it was when it was saved under a name; it stays stopped.
    ///
    /// # Errors
    /// When QEMU says that it cannot.
    pub fn load(&mut self, name: &str) -> Result<()> {
        self.quiet(&format!("loadvm {name}"))
    }
}
