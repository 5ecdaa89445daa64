//! `image gdb`: a debugger at the system, with symbols of the kernel and the servers.

use std::net::TcpListener;
use std::process::Command;

use anyhow::{Context, Result};
use libpks::abi::layout::{IMAGE_OFFSET, slot_base};

use crate::qemu::Serial;
use crate::run::Request;
use crate::system::System;
use crate::tool;
use crate::workspace::Workspace;

/// Boots the system with stopped CPUs and starts gdb on it; QEMU ends with gdb. The console goes to
/// a file, since gdb has the terminal.
///
/// # Errors
/// When something does not build, or QEMU or gdb does not start.
pub fn run(workspace: &Workspace, request: &Request, gdb_arguments: &[String]) -> Result<()> {
    let system = System::build(workspace, &workspace.system_manifest())?;
    let (loader, why) = request.choose_loader()?;
    let console = workspace.output().join("console.log");
    let port = free_port()?;
    let machine = request.machine(loader).serial1(Serial::File(console.clone())).gdb(port);
    let guest = machine.spawn(workspace, &system)?;
    eprintln!("image: loader {loader} ({why}); the console goes to {}", console.display());

    let commands = guest.directory().join("commands.gdb");
    std::fs::write(&commands, script(&system, port)?).context("cannot write gdb's commands")?;
    let mut gdb = Command::new("gdb");
    gdb.arg("-q").arg("-x").arg(commands).args(gdb_arguments);
    let status = gdb.status().with_context(|| tool::cannot_start("gdb"));
    guest.kill();
    status.map(|_| ())
}

/// A gdb script: symbols of the kernel and of each server, and the way to QEMU.
///
/// The kernel gives slots from 1 on in the order in which domains start, which is the manifest's;
/// `symbols-NAME ADDRESS` puts its symbols where it really is, for instance after a restart.
fn script(system: &System, port: u16) -> Result<String> {
    let (kernel, servers) = system.symbols().split_first().context("a system has a kernel")?;
    let mut text = format!("set confirm off\nset pagination off\nfile {}\n", quoted(kernel));
    for (slot, (module, file)) in (1..).zip(system.servers().iter().zip(servers)) {
        let file = quoted(file);
        let base = slot_base(slot).context("there are more servers than slots")? + IMAGE_OFFSET;
        text += &format!("add-symbol-file {file} -o {base:#x}\n");
        text += &format!("define symbols-{}\n", module.name);
        text += &format!("remove-symbol-file {file}\nadd-symbol-file {file} -o $arg0\nend\n");
    }
    text += &format!("target remote 127.0.0.1:{port}\n");
    Ok(text)
}

fn quoted(path: &std::path::Path) -> String {
    format!("\"{}\"", path.display())
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no TCP port is free")?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_has_symbols_in_its_slot() {
        let system = System::for_tests(&["manifest", "init", "shell"]);
        let script = script(&system, 1234).expect("a script");
        assert!(script.contains("file \"/f/debug/kernel\"\n"), "{script}");
        assert!(script.contains("add-symbol-file \"/f/debug/init\" -o 0xffffc00040200000\n"), "{script}");
        assert!(script.contains("add-symbol-file \"/f/debug/shell\" -o 0xffffc00080200000\n"), "{script}");
        assert!(script.ends_with("target remote 127.0.0.1:1234\n"), "{script}");
    }
}
