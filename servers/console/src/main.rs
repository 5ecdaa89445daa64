//! `console`: the driver of the first serial port. Clients write lines and read input; the kernel's log goes out on the
//! same line without tearing theirs.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod server;

use console::uart::{Bus, Register, Uart, UartError};
use core::time::Duration;
use libpks::proto::console::{Console, Request};
use libpks::rt::log::warn;
use libpks::rt::{
    Client, Env, EnvError, Error, Instant, IoPorts, IrqLine, KernelLog, Notification, serve, time,
};
use server::ConsoleServer;

libpks::server_main!(main);

/// Where the first serial port is on a PC.
const FIRST_PORT: u16 = 0x3f8;
/// The bits of the server's own notification.
const INTERRUPT: u64 = 1 << 0;
const LOG_GREW: u64 = 1 << 1;
/// How often a device without an interrupt is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Why there is no console.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The manifest does not give what it needs.
    #[error("{0}")]
    Env(#[from] EnvError),
    /// The kernel refused something.
    #[error("{0}")]
    Kernel(#[from] Error),
    /// There is no device.
    #[error("{0}")]
    Uart(#[from] UartError<Error>),
}

/// The UART's ports behind their capability.
#[derive(Debug)]
pub(crate) struct Ports(IoPorts);

impl Bus for Ports {
    type Error = Error;

    fn read(&mut self, register: Register) -> Result<u8, Error> {
        self.0.read(FIRST_PORT + register as u16, 1).map(|value| value as u8)
    }

    fn write(&mut self, register: Register, value: u8) -> Result<(), Error> {
        self.0.write(FIRST_PORT + register as u16, 1, u32::from(value))
    }
}

fn main(env: Env) -> Result<(), Failure> {
    let uart = Uart::new(Ports(env.capability("ports:3f8")?))?;
    let events = Notification::create()?.keep();
    let irq = bind_interrupt(&env, events);
    let log: KernelLog = env.capability("log")?;
    let position = log.subscribe(events, LOG_GREW)?;
    let server = ConsoleServer::new(uart, log, position);
    serve::start(env.served::<Console>()?, server, env.stack_bytes())?;
    attend(env.own_client()?, events, irq)
}

/// The interrupt line; without one the device is polled.
fn bind_interrupt(env: &Env, events: Notification) -> Option<IrqLine> {
    let bound = env.capability::<IrqLine>("irq:4").map_err(Failure::Env).and_then(|irq| {
        irq.bind(events, INTERRUPT)?;
        Ok(irq)
    });
    bound.inspect_err(|error| warn!("no interrupt, polling: {error}")).ok()
}

/// Has the server look after device and log whenever one of them has something.
fn attend(own: Client<Console>, events: Notification, irq: Option<IrqLine>) -> ! {
    loop {
        if let Err(error) = own.call(&Request::Attend) {
            warn!("cannot attend to the device: {error}");
            let _ = time::sleep(POLL);
        }
        let deadline = if irq.is_some() { None } else { Some(Instant::after(POLL)) };
        match (events.wait(deadline), irq) {
            // First unmask, then look at the device: an edge that comes in between is not lost.
            (Ok(bits), Some(irq)) if bits & INTERRUPT != 0 => {
                if let Err(error) = irq.ack() {
                    warn!("cannot unmask the interrupt: {error}");
                }
            }
            (Ok(_) | Err(Error::TimedOut), _) => {}
            (Err(error), _) => {
                warn!("cannot wait for events: {error}");
                let _ = time::sleep(POLL);
            }
        }
    }
}
