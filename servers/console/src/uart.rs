//! The 16550 UART behind its eight ports.
//!
//! Registers and bits: National Semiconductor PC16550D data sheet, 8.0 "Registers". The crate `uart_16550` does port
//! I/O by itself, which a server cannot; here it goes through a capability.

use bitflags::bitflags;

/// Bytes that the transmitter's FIFO takes when it is empty.
const FIFO_BYTES: usize = 16;
/// 115200 baud: the divisor of the 1.8432 MHz clock.
const DIVISOR: [u8; 2] = [1, 0];

/// The ports, counted from the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Register {
    /// Receiver buffer, transmitter holding register; low divisor byte while the latch bit is set.
    Data = 0,
    /// Which interrupts are wanted; high divisor byte while the latch bit is set.
    InterruptEnable = 1,
    /// Read: why it interrupts. Write: FIFO control.
    InterruptIdentification = 2,
    /// Format of a character, and the latch bit.
    LineControl = 3,
    /// Outputs to the modem, and the gate of the interrupt.
    ModemControl = 4,
    /// What the receiver and the transmitter are doing.
    LineStatus = 5,
    /// Keeps a byte.
    Scratch = 7,
}

bitflags! {
    /// Interrupts that are wanted.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct InterruptEnable: u8 {
        const RECEIVED = 1 << 0;
        const TRANSMITTER_EMPTY = 1 << 1;
        const LINE_STATUS = 1 << 2;
    }
}

bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct LineStatus: u8 {
        const DATA_READY = 1 << 0;
        const TRANSMITTER_EMPTY = 1 << 5;
    }
}

/// In the interrupt identification register: no interrupt is pending.
const NOTHING_PENDING: u8 = 1 << 0;
/// FIFO control: enabled, both cleared, interrupt at 14 bytes or after a pause.
const FIFO_CONTROL: u8 = 0b1100_0111;
/// Line control: 8 data bits, no parity, one stop bit.
const EIGHT_N_ONE: u8 = 0b011;
/// Line control: the first two ports are the divisor.
const LATCH: u8 = 1 << 7;
/// Modem control: data terminal ready, request to send, and the interrupt let through.
const MODEM_CONTROL: u8 = 0b1011;

/// How the ports are reached.
pub trait Bus {
    /// Why an access failed.
    type Error;

    /// Reads a register.
    ///
    /// # Errors
    /// What the bus says.
    fn read(&mut self, register: Register) -> Result<u8, Self::Error>;

    /// Writes a register.
    ///
    /// # Errors
    /// What the bus says.
    fn write(&mut self, register: Register, value: u8) -> Result<(), Self::Error>;
}

/// Why there is no UART.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UartError<E> {
    /// The ports cannot be reached.
    #[error("{0}")]
    Bus(#[from] E),
    /// Nothing keeps a byte at the scratch register.
    #[error("no UART answers at these ports")]
    Absent,
}

/// A UART that was set up.
#[derive(Debug)]
pub struct Uart<B> {
    bus: B,
    enabled: InterruptEnable,
}

impl<B: Bus> Uart<B> {
    /// Sets it up: 115200 baud, 8 data bits, no parity, FIFOs on, interrupts for received bytes.
    ///
    /// # Errors
    /// [`UartError`].
    pub fn new(mut bus: B) -> Result<Self, UartError<B::Error>> {
        for pattern in [0x5a, 0xa5] {
            bus.write(Register::Scratch, pattern)?;
            if bus.read(Register::Scratch)? != pattern {
                return Err(UartError::Absent);
            }
        }
        let enabled = InterruptEnable::RECEIVED;
        bus.write(Register::InterruptEnable, 0)?;
        bus.write(Register::LineControl, LATCH)?;
        bus.write(Register::Data, DIVISOR[0])?;
        bus.write(Register::InterruptEnable, DIVISOR[1])?;
        bus.write(Register::LineControl, EIGHT_N_ONE)?;
        bus.write(Register::InterruptIdentification, FIFO_CONTROL)?;
        bus.write(Register::ModemControl, MODEM_CONTROL)?;
        bus.write(Register::InterruptEnable, enabled.bits())?;
        Ok(Self { bus, enabled })
    }

    /// The next byte that was received, if there is one.
    ///
    /// # Errors
    /// What the bus says.
    pub fn receive(&mut self) -> Result<Option<u8>, B::Error> {
        if self.status()?.contains(LineStatus::DATA_READY) {
            self.bus.read(Register::Data).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Sends bytes from `next` as long as the transmitter takes them, and asks for an interrupt when it can take more
    /// if some are left.
    ///
    /// # Errors
    /// What the bus says.
    pub fn send(&mut self, mut next: impl FnMut() -> Option<u8>) -> Result<(), B::Error> {
        while self.status()?.contains(LineStatus::TRANSMITTER_EMPTY) {
            for _ in 0..FIFO_BYTES {
                match next() {
                    Some(byte) => self.bus.write(Register::Data, byte)?,
                    None => return self.want_transmitter(false),
                }
            }
        }
        self.want_transmitter(true)
    }

    /// Whether it still asserts its interrupt. Reading this takes back one for an empty transmitter.
    ///
    /// # Errors
    /// What the bus says.
    pub fn is_interrupting(&mut self) -> Result<bool, B::Error> {
        Ok(self.bus.read(Register::InterruptIdentification)? & NOTHING_PENDING == 0)
    }

    fn status(&mut self) -> Result<LineStatus, B::Error> {
        self.bus.read(Register::LineStatus).map(LineStatus::from_bits_truncate)
    }

    fn want_transmitter(&mut self, wanted: bool) -> Result<(), B::Error> {
        let mut enabled = self.enabled;
        enabled.set(InterruptEnable::TRANSMITTER_EMPTY, wanted);
        if enabled != self.enabled {
            self.bus.write(Register::InterruptEnable, enabled.bits())?;
            self.enabled = enabled;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use core::convert::Infallible;

    /// A UART whose transmitter takes `room` bytes and then is busy.
    #[derive(Default)]
    struct Device {
        scratch: Option<u8>,
        written: Vec<(Register, u8)>,
        received: Vec<u8>,
        sent: Vec<u8>,
        room: usize,
    }

    impl Bus for &mut Device {
        type Error = Infallible;

        fn read(&mut self, register: Register) -> Result<u8, Infallible> {
            Ok(match register {
                Register::Scratch => self.scratch.unwrap_or(0xff),
                Register::LineStatus => {
                    u8::from(!self.received.is_empty()) | u8::from(self.sent.len() < self.room) << 5
                }
                Register::Data => self.received.remove(0),
                _ => NOTHING_PENDING,
            })
        }

        fn write(&mut self, register: Register, value: u8) -> Result<(), Infallible> {
            match register {
                Register::Scratch => self.scratch = self.scratch.map(|_| value),
                Register::Data if !self.latched() => self.sent.push(value),
                _ => self.written.push((register, value)),
            }
            Ok(())
        }
    }

    impl Device {
        fn present() -> Self {
            Self { scratch: Some(0), ..Self::default() }
        }

        fn latched(&self) -> bool {
            let last = self.written.iter().rev().find(|(register, _)| *register == Register::LineControl);
            last.is_some_and(|(_, value)| value & LATCH != 0)
        }

        fn enabled(&self) -> Option<u8> {
            let mut enables =
                self.written.iter().rev().filter(|(register, _)| *register == Register::InterruptEnable);
            enables.next().map(|(_, value)| *value)
        }
    }

    #[test]
    fn nothing_there_is_no_uart() {
        assert!(matches!(Uart::new(&mut Device::default()), Err(UartError::Absent)));
    }

    #[test]
    fn set_up_leaves_the_latch_closed_and_the_receiver_interrupting() {
        let mut device = Device::present();
        Uart::new(&mut device).unwrap();
        assert!(!device.latched());
        assert_eq!(device.enabled(), Some(1));
        assert!(device.written.contains(&(Register::Data, 1)), "the divisor went to the data port");
    }

    #[test]
    fn bytes_come_in_order() {
        let mut device = Device { received: b"ab".into(), ..Device::present() };
        let mut uart = Uart::new(&mut device).unwrap();
        assert_eq!(
            [uart.receive(), uart.receive(), uart.receive()],
            [Ok(Some(b'a')), Ok(Some(b'b')), Ok(None)]
        );
    }

    #[test]
    fn a_busy_transmitter_is_waited_for_by_interrupt() {
        let text = [b'x'; 40];
        let mut device = Device { room: 20, ..Device::present() };
        let mut bytes = text.iter().copied();
        Uart::new(&mut device).unwrap().send(|| bytes.next()).unwrap();
        assert_eq!((device.sent.len(), device.enabled()), (32, Some(3)));
        device.room = 100;
        let mut uart = Uart { bus: &mut device, enabled: InterruptEnable::from_bits_retain(3) };
        uart.send(|| bytes.next()).unwrap();
        assert_eq!((device.sent.len(), device.enabled()), (40, Some(1)));
    }
}
