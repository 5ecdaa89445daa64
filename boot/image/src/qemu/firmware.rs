//! UEFI firmware for QEMU: OVMF as distributions install it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// UEFI firmware, ready for one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firmware {
    /// Two flash chips; the machine writes to the second.
    Flash {
        /// The code, never written.
        code: PathBuf,
        /// The variables: a copy that belongs to the machine.
        variables: PathBuf,
    },
    /// One file that holds everything, without lasting variables.
    Whole(PathBuf),
}

const PAIRS: [(&str, &str); 4] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
];
const WHOLE: [&str; 2] = ["/usr/share/ovmf/OVMF.fd", "/usr/share/qemu/OVMF.fd"];

impl Firmware {
    /// Whether this host has OVMF.
    #[must_use]
    pub fn installed() -> Option<&'static Path> {
        let pair = PAIRS.iter().find(|(code, vars)| exists(code) && exists(vars)).map(|(code, _)| *code);
        pair.or_else(|| WHOLE.into_iter().find(|file| exists(file))).map(Path::new)
    }

    /// The host's OVMF with variables of its own in `dir`.
    ///
    /// # Errors
    /// When there is no OVMF (the message says where it was looked for), or the variables cannot be
    /// copied.
    pub fn prepare(dir: &Path) -> Result<Self> {
        for (code, vars) in PAIRS {
            if exists(code) && exists(vars) {
                let variables = dir.join("OVMF_VARS.fd");
                // Read and write: a copy would keep the original's read-only mode.
                let fresh = std::fs::read(vars).with_context(|| format!("cannot read {vars}"))?;
                std::fs::write(&variables, fresh).context("cannot copy OVMF's variables")?;
                return Ok(Self::Flash { code: code.into(), variables });
            }
        }
        match WHOLE.into_iter().find(|file| exists(file)) {
            Some(file) => Ok(Self::Whole(file.into())),
            None => {
                let looked: Vec<_> = PAIRS.iter().map(|(code, _)| *code).chain(WHOLE).collect();
                bail!("no UEFI firmware (Debian package ovmf); looked for {}", looked.join(", "))
            }
        }
    }
}

fn exists(file: &str) -> bool {
    Path::new(file).is_file()
}
