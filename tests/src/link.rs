//! The harness's end of the test link: numbered requests, answers within a limit, damaged frames asked for again.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use libpks::abi::inspect::DomainInfo;
use libpks::proto::testlink::{Answered, Asked, Closing, Reply, Request};

use crate::failure::Failure;
use crate::frame::{self, Frames};

/// How long an answer may take before the request is sent once more, in case one of the two was damaged. The guest
/// carries no number out twice.
const AGAIN: Duration = Duration::from_secs(2);
/// The same while the guest boots: what came before its port was set up is lost.
const HELLO_AGAIN: Duration = Duration::from_millis(150);

/// A connection to the guest's test link.
#[derive(Debug)]
pub struct Link {
    stream: UnixStream,
    frames: Frames,
    number: u32,
    counted: Closing,
}

impl Link {
    /// A link over `stream`, the other end of the guest's second serial port.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, frames: Frames::default(), number: 0, counted: Closing::default() }
    }

    /// What the harness has counted: scenarios by verdict, requests, damaged frames *received*.
    #[must_use]
    pub fn counted(&self) -> Closing {
        self.counted
    }

    /// Asks until the guest is there.
    ///
    /// # Errors
    /// As [`Link::ask`].
    pub fn hello(&mut self, limit: Duration) -> Result<Reply, Failure> {
        self.exchange(&Request::Hello, limit, HELLO_AGAIN)
    }

    /// Asks and waits for the answer to just that.
    ///
    /// # Errors
    /// [`Failure::TimedOut`] without an answer within `limit`, [`Failure::Lost`] when the guest's end closes,
    /// [`Failure::Refused`] when the answer is that it could not be done.
    pub fn ask(&mut self, request: &Request, limit: Duration) -> Result<Reply, Failure> {
        self.exchange(request, limit, AGAIN)
    }

    /// Sends bytes that are no frame.
    ///
    /// # Errors
    /// [`Failure::Lost`] when the guest's end is closed.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(bytes).map_err(lost)
    }

    /// All domains, by their numbers; each answer may take so long.
    ///
    /// # Errors
    /// As [`ask`](Self::ask), and [`Failure::Wrong`] for an answer to something else.
    pub fn domains(&mut self, limit: Duration) -> Result<Vec<DomainInfo>, Failure> {
        let (mut domains, mut from) = (Vec::new(), 0);
        loop {
            match self.ask(&Request::Domain { from }, limit)? {
                Reply::Domain(Some(domain)) => {
                    from = domain.id + 1;
                    domains.push(domain);
                }
                Reply::Domain(None) => return Ok(domains),
                other => return Err(Failure::Wrong(format!("not a domain: {other:?}"))),
            }
        }
    }

    fn exchange(&mut self, request: &Request, limit: Duration, again: Duration) -> Result<Reply, Failure> {
        self.number += 1;
        let sent = frame::encode(&Asked { number: self.number, request: request.clone() });
        let begun = Instant::now();
        while begun.elapsed() < limit {
            self.send_raw(&sent)?;
            let until = (begun + limit).min(Instant::now() + again);
            if let Some(reply) = self.answer_until(until)? {
                self.count(&reply);
                return match reply {
                    Reply::Failed(problem) => Err(Failure::Refused(problem)),
                    reply => Ok(reply),
                };
            }
        }
        Err(Failure::TimedOut { what: format!("the answer to {request:?}"), limit })
    }

    fn count(&mut self, reply: &Reply) {
        self.counted.requests += 1;
        if let Reply::Outcome(outcome) = reply {
            self.counted.count(outcome.verdict);
        }
    }

    /// The answer to the last request; `None` if it does not come in time.
    fn answer_until(&mut self, until: Instant) -> Result<Option<Reply>, Failure> {
        loop {
            while let Some(frame) = self.frames.next_message::<Answered>() {
                match frame {
                    Ok(answered) if answered.number == self.number => return Ok(Some(answered.reply)),
                    Ok(_) => {} // The second answer to a request that was sent twice.
                    Err(_) => self.counted.damaged += 1,
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.receive(left)? {
                return Ok(None);
            }
        }
    }

    /// Takes in what has come; `false` if nothing came in time.
    fn receive(&mut self, limit: Duration) -> Result<bool, Failure> {
        self.stream.set_read_timeout(Some(limit)).map_err(lost)?;
        let mut bytes = [0; 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(Failure::Lost("it closed the test link".into())),
            Ok(count) => {
                self.frames.push(&bytes[..count]);
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(lost(error)),
        }
    }
}

fn lost(error: std::io::Error) -> Failure {
    Failure::Lost(format!("the test link: {error}"))
}
