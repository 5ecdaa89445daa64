//! Frames over the second serial port.

use alloc::vec;
use core::time::Duration;

use console::uart::{Bus, Register, Uart};
use libpks::proto::testlink::{Asked, MAX_BYTES};
use libpks::rt::log::warn;
use libpks::rt::{Env, Error, Instant, IoPorts, IrqLine, Notification};
use libpks::wire::{self, FrameReader};

use crate::Failure;

/// Where the second serial port is on a PC.
const FIRST_PORT: u16 = 0x2f8;
const FRAME_BYTES: usize = wire::frame_size(MAX_BYTES);
/// How long the device is left alone if no interrupt comes: one that got lost must not stop the link.
const PATIENCE: Duration = Duration::from_millis(50);

/// The UART's ports behind their capability.
struct Ports(IoPorts);

impl Bus for Ports {
    type Error = Error;

    fn read(&mut self, register: Register) -> Result<u8, Error> {
        self.0.read(FIRST_PORT + register as u16, 1).map(|value| value as u8)
    }

    fn write(&mut self, register: Register, value: u8) -> Result<(), Error> {
        self.0.write(FIRST_PORT + register as u16, 1, u32::from(value))
    }
}

/// The line to the harness.
pub(crate) struct Line {
    uart: Uart<Ports>,
    events: Notification,
    irq: IrqLine,
    reader: FrameReader<FRAME_BYTES>,
}

impl Line {
    pub(crate) fn new(env: &Env) -> Result<Self, Failure> {
        let uart = Uart::new(Ports(env.capability("ports:2f8")?))?;
        let events = Notification::create()?.keep();
        let irq: IrqLine = env.capability("irq:3")?;
        irq.bind(events, 1)?;
        Ok(Self { uart, events, irq, reader: FrameReader::new() })
    }

    /// Waits for the next frame; `None` for one that is damaged or is no request.
    pub(crate) fn next(&mut self) -> Result<Option<Asked>, Error> {
        loop {
            while let Some(byte) = self.uart.receive()? {
                if let Some(frame) = self.reader.push(byte) {
                    return Ok(frame.ok().and_then(|payload| wire::decode(payload).ok()));
                }
            }
            self.rest()?;
        }
    }

    /// Sends a frame of `payload`, a delimiter before it, so that noise before it stays a frame of its own.
    pub(crate) fn send(&mut self, payload: &[u8]) -> Result<(), Error> {
        let mut frame = vec![0; 1 + wire::frame_size(payload.len())];
        let Some(Ok(length)) = frame.get_mut(1..).map(|room| wire::encode_frame(payload, room)) else {
            warn!("an answer of {} bytes does not fit a frame", payload.len());
            return Ok(());
        };
        let mut bytes = frame.iter().take(1 + length).copied().peekable();
        while bytes.peek().is_some() {
            self.uart.send(|| bytes.next())?;
            if bytes.peek().is_some() {
                self.rest()?;
            }
        }
        Ok(())
    }

    /// Waits until the device wants something.
    fn rest(&mut self) -> Result<(), Error> {
        // An edge that came before the line was unmasked is seen here.
        if self.uart.is_interrupting()? {
            return Ok(());
        }
        match self.events.wait(Some(Instant::after(PATIENCE))) {
            Ok(_) => self.irq.ack(),
            Err(Error::TimedOut) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
