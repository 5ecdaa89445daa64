//! Reports of faults, in words.

use alloc::string::String;
use core::fmt::{self, Display};
use libpks::abi::fault::{FaultAccess, FaultKind, FaultReport};
use libpks::pkey::Pkrs;

/// A report that displays as a block of lines.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a>(pub &'a FaultReport);

impl Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        let FaultReport { domain, domain_name, thread, cpu, rip, rsp, .. } = report;
        let seconds = report.time_ns / 1_000_000_000;
        let millis = report.time_ns / 1_000_000 % 1000;
        writeln!(
            f,
            "FAULT  at {seconds}.{millis:03} s  domain={domain_name}({domain})  thread={thread}  cpu={cpu}"
        )?;
        write!(f, "       {}", kind(report.kind))?;
        if report.access != FaultAccess::None {
            write!(f, ": {} at {:#x}", access(report.access), report.address)?;
        }
        writeln!(f, "  error={:#x}", report.error_code)?;
        if report.owner.is_some() || report.key.is_some() {
            let owner = report.owner.as_deref().unwrap_or("nobody");
            let key = report.key.map_or_else(|| "none".into(), |key| alloc::format!("{key}"));
            writeln!(f, "       memory of {owner}, key {key}")?;
        }
        writeln!(
            f,
            "       PKRS={:#010x} ({})  live={:#010x}",
            report.pkrs,
            Pkrs::from_raw(report.pkrs),
            report.pkrs_live
        )?;
        writeln!(f, "       rip={rip:#x}  rsp={rsp:#x}  rflags={:#x}", report.rflags)?;
        if !report.message.is_empty() {
            writeln!(f, "       \"{}\"", report.message)?;
        }
        for step in &report.backtrace {
            match &step.symbol {
                Some((name, offset)) => writeln!(f, "         {:#x} {name}+{offset:#x}", step.address)?,
                None => writeln!(f, "         {:#x}", step.address)?,
            }
        }
        Ok(())
    }
}

pub(crate) fn kind(kind: FaultKind) -> String {
    match kind {
        FaultKind::ProtectionKey => "protection key".into(),
        FaultKind::Protection => "protection".into(),
        FaultKind::NotMapped => "nothing mapped".into(),
        FaultKind::OtherView => "another view's memory".into(),
        FaultKind::StackOverflow => "stack overflow".into(),
        FaultKind::Exception(vector) => alloc::format!("exception {vector}"),
        FaultKind::Panic => "panic".into(),
        FaultKind::GateAbuse => "abuse of a gate".into(),
        FaultKind::Hung => "hung".into(),
    }
}

pub(crate) fn access(access: FaultAccess) -> &'static str {
    match access {
        FaultAccess::Read => "read",
        FaultAccess::Write => "write",
        FaultAccess::Execute => "execution",
        FaultAccess::None => "no access",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use libpks::abi::fault::BacktraceStep;
    use libpks::abi::name;

    #[test]
    fn a_report_says_who_did_what_to_whom() {
        let report = FaultReport {
            time_ns: 1_234_567_890,
            domain: 5,
            domain_name: name("adversary"),
            thread: 7,
            cpu: 1,
            kind: FaultKind::ProtectionKey,
            access: FaultAccess::Write,
            address: 0xffff_c000_4000_2008,
            error_code: 0x23,
            key: Some(2),
            owner: Some(name("console")),
            pkrs: 0x5555_5156,
            pkrs_live: 0x5555_5156,
            rip: 0x1000,
            rsp: 0x2000,
            rflags: 0x202,
            registers: [0; 15],
            backtrace: [BacktraceStep { address: 0x1000, symbol: Some(("poke".try_into().unwrap(), 0x1e)) }]
                .into_iter()
                .collect(),
            message: Default::default(),
        };
        let expected = "\
FAULT  at 1.234 s  domain=adversary(5)  thread=7  cpu=1
       protection key: write at 0xffffc00040002008  error=0x23
       memory of console, key 2
       PKRS=0x55555156 (0:ro 5:rw rest:none)  live=0x55555156
       rip=0x1000  rsp=0x2000  rflags=0x202
         0x1000 poke+0x1e
";
        assert_eq!(Report(&report).to_string(), expected);
    }
}
