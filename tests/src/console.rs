//! The guest's console on the first serial port: everything that it says is kept, and a dialogue can be held.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// A console. A thread reads it all the time, so that the guest never waits for us.
#[derive(Debug)]
pub struct Console {
    stream: UnixStream,
    said: Arc<Said>,
    /// Bytes of the text that the dialogue has consumed.
    heard: usize,
}

#[derive(Debug, Default)]
struct Said {
    text: Mutex<Text>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Text {
    raw: Vec<u8>,
    closed: bool,
}

impl Console {
    /// A console over `stream`, the other end of the guest's first serial port.
    ///
    /// # Errors
    /// When the stream cannot be shared with a thread.
    pub fn new(stream: UnixStream) -> std::io::Result<Self> {
        let said = Arc::new(Said::default());
        let (mut reader, keeper) = (stream.try_clone()?, Arc::clone(&said));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                keeper.add(|text| text.raw.extend_from_slice(&bytes[..count]));
            }
            keeper.add(|text| text.closed = true);
        });
        Ok(Self { stream, said, heard: 0 })
    }

    /// Types `text`; a line ends with `\r`.
    ///
    /// # Errors
    /// [`Failure::Lost`] when the guest's end is closed.
    pub fn send(&mut self, text: &str) -> Result<(), Failure> {
        self.stream.write_all(text.as_bytes()).map_err(|error| Failure::Lost(format!("the console: {error}")))
    }

    /// Waits until the guest says `what`, and gives everything from where the last call stopped up to its end.
    ///
    /// # Errors
    /// [`Failure::TimedOut`], or [`Failure::Lost`] when the console closes before.
    pub fn expect(&mut self, what: &str, limit: Duration) -> Result<String, Failure> {
        let heard = self.said.wait_for(self.heard, what, limit)?;
        self.heard += heard.len();
        Ok(heard)
    }

    /// Waits until the guest has said `what`, at whatever time, and leaves the dialogue where it is.
    ///
    /// # Errors
    /// As [`Console::expect`].
    pub fn saw(&self, what: &str, limit: Duration) -> Result<(), Failure> {
        self.said.wait_for(0, what, limit).map(drop)
    }

    /// Everything that was said so far, without colours and cursor movements.
    #[must_use]
    pub fn text(&self) -> String {
        plain(&self.said.lock().raw)
    }

    /// The last `lines` lines.
    #[must_use]
    pub fn tail(&self, lines: usize) -> String {
        let text = self.text();
        let all: Vec<_> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

impl Said {
    fn lock(&self) -> std::sync::MutexGuard<'_, Text> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `what` behind the first `from` bytes; gives the text from there to its end.
    fn wait_for(&self, from: usize, what: &str, limit: Duration) -> Result<String, Failure> {
        let until = Instant::now() + limit;
        let mut text = self.lock();
        loop {
            let plain = plain(&text.raw);
            let rest = plain.get(from..).unwrap_or_default();
            if let Some(at) = rest.find(what) {
                return Ok(rest[..at + what.len()].to_owned());
            }
            let left = until.saturating_duration_since(Instant::now());
            if text.closed {
                return Err(Failure::Lost(format!("its console closed before it said {what:?}")));
            }
            if left.is_zero() {
                return Err(Failure::TimedOut { what: format!("{what:?} on the console"), limit });
            }
            text = self.more.wait_timeout(text, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn add(&self, change: impl FnOnce(&mut Text)) {
        change(&mut self.lock());
        self.more.notify_all();
    }
}

/// Text without escape sequences. It only grows at its end while `raw` grows, but for a sequence or a character that
/// is cut off, which is left out until it is whole.
fn plain(raw: &[u8]) -> String {
    let whole = match std::str::from_utf8(raw) {
        Err(error) if error.error_len().is_none() => &raw[..error.valid_up_to()],
        _ => raw,
    };
    String::from_utf8_lossy(&strip_ansi_escapes::strip(whole)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    fn pair() -> (UnixStream, Console) {
        let (guest, ours) = UnixStream::pair().expect("a socket pair");
        (guest, Console::new(ours).expect("a console"))
    }

    #[test]
    fn a_dialogue_goes_forward_only() {
        let (mut guest, mut console) = pair();
        guest.write_all(b"\x1b[1mpks\x1b[0m> one\r\npks> two\r\n").expect("writes");
        assert_eq!(console.expect("pks> ", SOON), Ok("pks> ".into()));
        assert_eq!(console.expect("pks> two", SOON), Ok("one\npks> two".into()));
        assert_eq!(console.saw("one", SOON), Ok(()), "what was heard was seen too");
        console.send("help\r").expect("sends");
        let mut typed = [0; 5];
        guest.read_exact(&mut typed).expect("reads");
        assert_eq!(&typed, b"help\r");
    }

    #[test]
    fn silence_and_an_end_are_different_failures() {
        let (mut guest, mut console) = pair();
        guest.write_all(b"booting").expect("writes");
        let short = Duration::from_millis(20);
        assert!(matches!(console.expect("prompt", short), Err(Failure::TimedOut { .. })));
        drop(guest);
        assert!(matches!(console.expect("prompt", SOON), Err(Failure::Lost(_))));
        assert_eq!(console.tail(1), "booting");
    }
}
