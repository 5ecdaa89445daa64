//! `image gdb`: a debugger at the system, with symbols of the kernel and the servers.

use std::net::TcpListener;
use std::process::Command;

use anyhow::{Context, Result};

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

    let mut gdb = Command::new("gdb");
    gdb.arg("-q").args(arguments(&system, port)).args(gdb_arguments);
    let status = gdb.status().with_context(|| tool::cannot_start("gdb"));
    guest.kill();
    status.map(|_| ())
}

/// gdb's arguments: the kernel as its program, the servers' symbols at hand, a stop at the entry.
fn arguments(system: &System, port: u16) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut command = |text: String| arguments.extend(["-ex".to_owned(), text]);
    command("set confirm off".into());
    let (kernel, servers) = system.symbols().split_first().expect("a system has a kernel");
    command(format!("file {}", quoted(kernel)));
    for server in servers {
        // Only its debugger knows the slot that a server was loaded to; 0 until `symbols` moves it.
        let name = server.file_name().unwrap_or_default().to_string_lossy();
        let file = quoted(server);
        command(format!("define symbols-{name}\nadd-symbol-file {file} -o $arg0\nend"));
    }
    command(format!("target remote 127.0.0.1:{port}"));
    arguments
}

fn quoted(path: &std::path::Path) -> String {
    format!("\"{}\"", path.display())
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no TCP port is free")?;
    Ok(listener.local_addr()?.port())
}
