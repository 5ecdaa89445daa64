//! The terminal, through `console`, whether or not that has been restarted meanwhile.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use libpks::proto::console::{Console, Refusal, Reply, Request, WRITE_BYTES};
use libpks::rt::log::warn;
use libpks::rt::{CallError, CapRights, Capability, Client, Error, Instant, Notification, Offer, time};

/// The bits that `console` sets.
const INPUT: u64 = 1 << 0;
const SPACE: u64 = 1 << 1;
/// How long to wait for a console that is not there.
const ABSENCE: Duration = Duration::from_millis(20);
/// How long to wait for input before looking whether the console is still the one that was subscribed to.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a terminal may take to answer.
const ANSWER: Duration = Duration::from_millis(150);
/// Asks a terminal for its attributes.
const ASK_ATTRIBUTES: &str = "\x1b[c";

/// Whether input is a terminal's answer to that: `ESC [ ? ... c`.
fn is_attributes(input: &[u8]) -> bool {
    input.windows(3).any(|window| window == b"\x1b[?") && input.ends_with(b"c")
}

/// What came from the terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// A byte.
    Byte(u8),
    /// The console is a new one, and knows nothing of what was shown.
    Renewed,
}

/// The terminal.
pub(crate) struct Screen {
    console: Client<Console>,
    events: Notification,
    input: VecDeque<u8>,
    output: Vec<u8>,
}

impl fmt::Write for Screen {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.output.extend(text.as_bytes());
        if self.output.len() >= WRITE_BYTES {
            self.flush();
        }
        Ok(())
    }
}

impl Screen {
    /// A screen on this console, which need not run yet: it is waited for. What is typed there is for this screen from now
    /// on, before anybody else asks for it.
    ///
    /// # Errors
    /// What the kernel says to another notification.
    pub(crate) fn new(console: Client<Console>) -> Result<Self, Error> {
        let events = Notification::create()?.keep();
        let screen = Self { console, events, input: VecDeque::new(), output: Vec::new() };
        // If it cannot be had now it is asked for again with the first read.
        screen.subscribe();
        Ok(screen)
    }

    /// Sends what was written, waiting for a console that is being restarted.
    pub(crate) fn flush(&mut self) {
        while !self.output.is_empty() {
            let chunk = self.output.iter().copied().take(WRITE_BYTES).collect();
            match self.console.call(&Request::Write(chunk)) {
                Ok(Reply::Written(0)) => self.wait(ABSENCE),
                Ok(Reply::Written(count)) => drop(self.output.drain(..self.output.len().min(count as usize))),
                Err(CallError::Failed(error)) if is_passing(error) => self.wait(ABSENCE),
                other => {
                    warn!("console does not take output: {other:?}");
                    self.output.clear();
                }
            }
        }
    }

    /// Whether lines of the kernel's log appear between what is written.
    pub(crate) fn show_log(&mut self, shown: bool) {
        self.flush();
        if self.console.call(&Request::ShowLog(shown)).is_err() {
            // Then they appear, which harms nobody.
        }
    }

    /// Asks the terminal what it is. One that answers knows colours too (ECMA-48, 8.3.24 "DA"; SGR is older).
    pub(crate) fn is_terminal_there(&mut self) -> bool {
        let _ = fmt::Write::write_str(self, ASK_ATTRIBUTES);
        self.flush();
        let until = Instant::after(ANSWER);
        let mut answer = Vec::new();
        while Instant::now() < until && !is_attributes(&answer) {
            match self.console.call(&Request::Read) {
                Ok(Reply::Input(bytes)) if bytes.is_empty() => self.wait(ABSENCE),
                Ok(Reply::Input(bytes)) => answer.extend(bytes),
                Ok(Reply::Refused(Refusal::NotSubscribed)) if self.subscribe() => {}
                _ => self.wait(ABSENCE),
            }
        }
        let is_there = is_attributes(&answer);
        if !is_there {
            // It was typed.
            self.input.extend(answer);
        }
        is_there
    }

    /// Whether there is input that can be had without waiting.
    pub(crate) fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Waits for the next event.
    pub(crate) fn next_event(&mut self) -> Event {
        loop {
            if let Some(byte) = self.input.pop_front() {
                return Event::Byte(byte);
            }
            match self.console.call(&Request::Read) {
                Ok(Reply::Input(bytes)) if bytes.is_empty() => self.wait(PATIENCE),
                Ok(Reply::Input(bytes)) => self.input.extend(bytes),
                Ok(Reply::Refused(Refusal::NotSubscribed)) if self.subscribe() => return Event::Renewed,
                Ok(_) => self.wait(PATIENCE),
                Err(_) => self.wait(ABSENCE),
            }
        }
    }

    fn subscribe(&self) -> bool {
        // It goes for good; only setting these two bits goes with it.
        let Ok(signal) = self.events.mint(CapRights::SIGNAL | CapRights::GRANT, INPUT | SPACE) else {
            return false;
        };
        let request = Request::Subscribe { input: INPUT, space: SPACE };
        let outcome = self.console.exchange(&request, &[Offer::hand_over(signal)], None);
        matches!(outcome, Ok((Reply::Done, _)))
    }

    /// Waits for the console to signal, or for so long.
    fn wait(&self, duration: Duration) {
        if !matches!(self.events.wait(Some(Instant::after(duration))), Ok(_) | Err(Error::TimedOut)) {
            // Without notifications there is still the clock.
            let _ = time::sleep(duration);
        }
    }
}

/// Whether the error is one of a server that will be there again.
fn is_passing(error: Error) -> bool {
    matches!(error, Error::NotServed | Error::PeerDied | Error::PeerDiedMidCall | Error::Busy)
}
