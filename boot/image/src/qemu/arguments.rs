//! The composition of QEMU's command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Accelerator, Chipset, Firmware, Loader, Machine, Medium, Paging, Serial};

/// The files that a machine boots from.
#[derive(Debug)]
pub(super) enum BootFiles {
    /// For [`Loader::Direct`].
    Direct { loader: PathBuf, bundle: PathBuf },
    /// For Limine; with firmware other than QEMU's BIOS for UEFI.
    Iso { iso: PathBuf, firmware: Option<Firmware> },
}

/// QEMU's arguments for `machine`; its control socket is connected to the listener at `qmp`.
pub(super) fn compose(machine: &Machine, boot: &BootFiles, qmp: &Path) -> Vec<OsString> {
    let mut args = Arguments::default();
    // No default devices: no network boot attempt, no drive or port that nobody asked for.
    args.words(["-nodefaults", "-no-user-config", "-vga", "std", "-display", "none"]);
    args.pair("-machine", chipset(machine));
    args.words(["-accel", accelerator(machine)]);
    args.pair("-cpu", cpu(machine));
    args.pair("-smp", machine.cpus.to_string());
    args.pair("-m", format!("{}M", machine.memory_mib));
    args.words(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
    args.pair("-chardev", option("socket,id=qmp,path=", qmp, ""));
    args.words(["-mon", "chardev=qmp,mode=control"]);
    args.serial("com1", &machine.serial1);
    args.serial("com2", &machine.serial2);
    args.boot(machine, boot);
    if let Some(icount) = machine.icount {
        let sleep = if icount.sleep { "on" } else { "off" };
        args.pair("-icount", format!("shift={},align=off,sleep={sleep}", icount.shift));
    }
    if let Some(port) = machine.gdb_port {
        args.pair("-gdb", format!("tcp:127.0.0.1:{port}"));
    }
    if machine.stopped {
        args.words(["-S"]);
    }
    if !machine.reboots {
        args.words(["-no-reboot"]);
    }
    if let Some(log) = &machine.debug_log {
        args.pair("-d", &log.items);
        args.pair("-D", &log.file);
    }
    args.0.extend(machine.extra.iter().cloned());
    args.0
}

fn chipset(machine: &Machine) -> &'static str {
    match machine.chipset {
        Chipset::Q35 => "q35",
        Chipset::I440Fx => "pc",
    }
}

fn accelerator(machine: &Machine) -> &'static str {
    if machine.accelerator == Accelerator::Kvm {
        return "kvm";
    }
    match machine.cpus > 1 && machine.icount.is_none() {
        true => "tcg,thread=multi",
        false => "tcg,thread=single",
    }
}

fn cpu(machine: &Machine) -> String {
    match machine.paging {
        Paging::Four => format!("{},-la57", machine.cpu),
        Paging::Five => machine.cpu.clone(),
    }
}

/// An option with a path in it, whose commas are doubled as QEMU's option syntax wants.
fn option(before: &str, path: &Path, after: &str) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut text = before.as_bytes().to_vec();
    for &byte in path.as_os_str().as_bytes() {
        text.push(byte);
        if byte == b',' {
            text.push(byte);
        }
    }
    text.extend(after.as_bytes());
    OsString::from_vec(text)
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn words<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) {
        self.0.extend(words.into_iter().map(OsString::from));
    }

    fn pair(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.extend([name.into(), value.into()]);
    }

    fn serial(&mut self, id: &str, serial: &Serial) {
        let backend = match serial {
            Serial::Absent => return self.words(["-serial", "none"]),
            Serial::Null => format!("null,id={id}").into(),
            Serial::Stdio => format!("stdio,id={id}").into(),
            Serial::Terminal => format!("stdio,id={id},mux=on,signal=off").into(),
            Serial::File(path) => option(&format!("file,id={id},path="), path, ""),
            Serial::Connect(path) => option(&format!("socket,id={id},path="), path, ""),
            Serial::Listen(path) => option(&format!("socket,id={id},path="), path, ",server=on,wait=off"),
        };
        self.pair("-chardev", backend);
        self.pair("-serial", format!("chardev:{id}"));
        if *serial == Serial::Terminal {
            self.pair("-mon", format!("chardev={id},mode=readline"));
        }
    }

    fn boot(&mut self, machine: &Machine, boot: &BootFiles) {
        match boot {
            BootFiles::Direct { loader, bundle } => {
                self.pair("-kernel", loader);
                self.pair("-initrd", option("", bundle, ""));
                self.pair("-append", &machine.cmdline);
            }
            BootFiles::Iso { iso, firmware } => {
                if let Some(firmware) = firmware {
                    self.firmware(firmware);
                }
                self.medium(machine.medium, iso);
            }
        }
    }

    fn firmware(&mut self, firmware: &Firmware) {
        match firmware {
            Firmware::Flash { code, variables } => {
                self.pair("-drive", option("if=pflash,format=raw,unit=0,readonly=on,file=", code, ""));
                self.pair("-drive", option("if=pflash,format=raw,unit=1,file=", variables, ""));
            }
            Firmware::Whole(file) => self.pair("-bios", file),
        }
    }

    fn medium(&mut self, medium: Medium, iso: &Path) {
        // Limine does not get on with a write-protected stick under OVMF: writes go to a snapshot.
        let (device, kind) = match medium {
            Medium::Cd => ("ide-cd,drive=iso,bootindex=0", "readonly=on,media=cdrom"),
            Medium::UsbStick => ("usb-storage,drive=iso,bootindex=0", "snapshot=on"),
        };
        if medium == Medium::UsbStick {
            self.words(["-device", "qemu-xhci"]);
        }
        self.pair("-drive", option(&format!("if=none,id=iso,format=raw,{kind},file="), iso, ""));
        self.words(["-device", device]);
    }
}

impl Loader {
    /// Whether this loader boots from an ISO.
    pub(super) fn needs_iso(self) -> bool {
        self != Self::Direct
    }
}

#[cfg(test)]
mod tests {
    use super::super::Icount;
    use super::*;

    fn direct(machine: &Machine) -> Vec<String> {
        let boot = BootFiles::Direct { loader: "/b/direct".into(), bundle: "/b/a,b".into() };
        words(compose(machine, &boot, Path::new("/q,mp")))
    }

    fn words(args: Vec<OsString>) -> Vec<String> {
        args.into_iter().map(|arg| arg.into_string().expect("text")).collect()
    }

    fn after<'a>(args: &'a [String], name: &str) -> Vec<&'a str> {
        args.windows(2).filter(|pair| pair[0] == name).map(|pair| pair[1].as_str()).collect()
    }

    #[test]
    fn user_text_is_one_argument() {
        let nasty = r#"cmd=x"; touch /tmp/a,b; $(touch c) "#;
        let args = direct(&Machine::new(Loader::Direct).cmdline(nasty));
        assert_eq!(after(&args, "-append"), [nasty]);
        assert_eq!(after(&args, "-initrd"), ["/b/a,,b"]);
        assert!(args.contains(&"socket,id=qmp,path=/q,,mp".to_owned()));
    }

    #[test]
    fn the_cpu_follows_paging_and_count() {
        let machine = Machine::new(Loader::Direct);
        assert_eq!(after(&direct(&machine), "-machine"), ["q35"]);
        assert_eq!(after(&direct(&machine.clone().chipset(Chipset::I440Fx)), "-machine"), ["pc"]);
        assert_eq!(after(&direct(&machine), "-cpu"), ["max,-la57"]);
        assert_eq!(after(&direct(&machine), "-accel"), ["tcg,thread=single"]);
        let machine = machine.cpus(4).paging(Paging::Five).cpu("qemu64,+pks");
        assert_eq!(after(&direct(&machine), "-cpu"), ["qemu64,+pks"]);
        assert_eq!(after(&direct(&machine), "-accel"), ["tcg,thread=multi"]);
        let machine = machine.icount(Icount { shift: 3, sleep: false });
        assert_eq!(after(&direct(&machine), "-accel"), ["tcg,thread=single"]);
        assert_eq!(after(&direct(&machine), "-icount"), ["shift=3,align=off,sleep=off"]);
    }

    #[test]
    fn serial_ports_keep_their_places() {
        let machine =
            Machine::new(Loader::Direct).serial1(Serial::Absent).serial2(Serial::Connect("/s,2".into()));
        let args = direct(&machine);
        assert_eq!(after(&args, "-serial"), ["none", "chardev:com2"]);
        assert!(args.contains(&"socket,id=com2,path=/s,,2".to_owned()));
        let args = direct(&Machine::new(Loader::Direct).serial1(Serial::Terminal));
        assert_eq!(after(&args, "-serial"), ["chardev:com1", "none"]);
        assert_eq!(after(&args, "-mon"), ["chardev=qmp,mode=control", "chardev=com1,mode=readline"]);
    }

    #[test]
    fn an_iso_is_a_cd_or_a_stick() {
        let firmware = Firmware::Flash { code: "/code".into(), variables: "/vars".into() };
        let boot = BootFiles::Iso { iso: "/i".into(), firmware: Some(firmware) };
        let mut machine = Machine::new(Loader::LimineUefi);
        let args = words(compose(&machine, &boot, Path::new("/q")));
        assert_eq!(
            after(&args, "-drive"),
            [
                "if=pflash,format=raw,unit=0,readonly=on,file=/code",
                "if=pflash,format=raw,unit=1,file=/vars",
                "if=none,id=iso,format=raw,readonly=on,media=cdrom,file=/i"
            ]
        );
        machine.medium = Medium::UsbStick;
        let args = words(compose(&machine, &boot, Path::new("/q")));
        assert!(args.contains(&"usb-storage,drive=iso,bootindex=0".to_owned()));
        assert!(!args.contains(&"-append".to_owned()));
    }
}
