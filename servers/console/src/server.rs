//! The `console` protocol on top of device, log and terminal.

use crate::Ports;
use alloc::format;
use console::input::Input;
use console::terminal::Terminal;
use console::uart::Uart;
use libpks::abi::layout::IPC_BUFFER_BYTES;
use libpks::proto::console::{Console, Refusal, Reply, Request};
use libpks::rt::{Caller, Error, KernelLog, Notification, Owned, Server};

/// How often the device is served in a row before others get their turn.
const ROUNDS: u32 = 256;

/// Who reads the input.
struct Reader {
    badge: u64,
    notification: Owned<Notification>,
    input: u64,
    space: u64,
    /// Whether a write of some client was cut since the reader was last told of space.
    is_space_wanted: bool,
}

/// Serves the protocol.
pub(crate) struct ConsoleServer {
    uart: Uart<Ports>,
    log: KernelLog,
    /// How far the log has been taken.
    position: u64,
    /// Whether it goes to the terminal.
    is_log_shown: bool,
    terminal: Terminal,
    input: Input,
    reader: Option<Reader>,
}

impl Server for ConsoleServer {
    type Protocol = Console;

    fn handle(&mut self, caller: &mut Caller, request: Request) -> Reply {
        match request {
            Request::Write(bytes) => self.write(&bytes),
            Request::Read => self.read(caller),
            Request::Subscribe { input, space } => self.subscribe(caller, input, space),
            Request::ShowLog(shown) => self.show_log(caller, shown),
            Request::Attend if caller.is_self() => {
                self.attend();
                Reply::Done
            }
            Request::Attend => Reply::Refused(Refusal::NotYours),
        }
    }
}

impl ConsoleServer {
    /// The log is taken from `position` on.
    pub(crate) fn new(uart: Uart<Ports>, log: KernelLog, position: u64) -> Self {
        let (terminal, input) = (Terminal::default(), Input::default());
        Self { uart, log, position, is_log_shown: true, terminal, input, reader: None }
    }

    fn write(&mut self, bytes: &[u8]) -> Reply {
        // Lines that were logged before this call go out before its bytes.
        self.drain();
        let taken = self.terminal.write(bytes);
        if let (true, Some(reader)) = (taken < bytes.len(), &mut self.reader) {
            reader.is_space_wanted = true;
        }
        self.drain();
        Reply::Written(taken as u32)
    }

    fn read(&mut self, caller: &Caller) -> Reply {
        match &self.reader {
            Some(reader) if reader.badge == caller.badge => Reply::Input(self.input.take()),
            Some(_) => Reply::Refused(Refusal::Taken),
            None => Reply::Refused(Refusal::NotSubscribed),
        }
    }

    fn show_log(&mut self, caller: &Caller, shown: bool) -> Reply {
        if self.reader.as_ref().is_none_or(|reader| reader.badge != caller.badge) {
            return Reply::Refused(Refusal::NotSubscribed);
        }
        // What was logged before is dealt with as it was.
        self.drain();
        self.is_log_shown = shown;
        Reply::Done
    }

    /// The reader stays the reader until its notification is gone; the same client may subscribe anew.
    fn subscribe(&mut self, caller: &mut Caller, input: u64, space: u64) -> Reply {
        let is_other =
            |reader: &Reader| reader.badge != caller.badge && reader.notification.signal(0).is_ok();
        if self.reader.as_ref().is_some_and(is_other) {
            return Reply::Refused(Refusal::Taken);
        }
        let notification = caller.take(0).and_then(|cap| cap.into_kind::<Notification>().ok());
        let Some(notification) = notification else { return Reply::Refused(Refusal::NoNotification) };
        let reader = Reader { badge: caller.badge, notification, input, space, is_space_wanted: false };
        self.reader = Some(reader);
        self.is_log_shown = true;
        self.tell_reader();
        Reply::Done
    }

    /// Looks after device and log until the device has nothing more to say.
    fn attend(&mut self) {
        for _ in 0..ROUNDS {
            self.receive();
            self.drain();
            if !self.uart.is_interrupting().unwrap_or(false) {
                break;
            }
        }
        self.tell_reader();
    }

    fn receive(&mut self) {
        // A device that never runs out is cut off at what the input holds.
        for _ in 0..IPC_BUFFER_BYTES {
            match self.uart.receive() {
                Ok(Some(byte)) => self.input.push(byte),
                // Without its ports the server is of no use; it must not add to the log by the line.
                Ok(None) | Err(_) => break,
            }
        }
    }

    /// Moves log lines to the terminal and the terminal's bytes to the device, as far as both go.
    fn drain(&mut self) {
        loop {
            let is_more_logged = self.take_log().unwrap_or(false);
            let _ = self.uart.send(|| self.terminal.next_byte());
            if !is_more_logged {
                break;
            }
        }
    }

    /// Takes lines from the log. Tells whether it got any.
    fn take_log(&mut self) -> Result<bool, Error> {
        let piece = self.log.read(self.position)?;
        if !self.is_log_shown {
            self.position = piece.next;
            return Ok(!piece.bytes.is_empty());
        }
        let lost = piece.first.saturating_sub(self.position);
        if lost > 0 {
            let line = format!("(console: {lost} bytes of the log are lost)\n");
            if self.terminal.write_log(line.as_bytes(), false) == 0 {
                return Ok(false);
            }
            self.position = piece.first;
        }
        let taken = self.terminal.write_log(&piece.bytes, piece.bytes.len() == IPC_BUFFER_BYTES);
        self.position = self.position.saturating_add(taken as u64);
        Ok(taken > 0)
    }

    fn tell_reader(&mut self) {
        let Some(reader) = &mut self.reader else { return };
        let mut bits = if self.input.is_empty() { 0 } else { reader.input };
        if reader.is_space_wanted && self.terminal.has_space() {
            reader.is_space_wanted = false;
            bits |= reader.space;
        }
        if bits != 0 && reader.notification.signal(bits).is_err() {
            // Its domain has gone: whoever asks next may read.
            self.reader = None;
        }
    }
}
