//! The other domain: what is called.

use alloc::vec::Vec;

use libpks::abi::message::WORDS;
use libpks::proto::Protocol;
use libpks::rt::serve::{self, WordServer};
use libpks::rt::{Caller, Env, EnvError, Error, Owned, Region, Server, measure};
use serde::{Deserialize, Serialize};

/// Names of the endpoints that the peer serves: bare, by a server of words, by a server of messages.
pub(crate) const ENDPOINTS: [&str; 3] = ["echo", "words", "messages"];
/// What a domain signals that is there to be started.
pub(crate) const HERE: &str = "here";

/// Stands for the protocol of messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Messages;

impl Protocol for Messages {
    const NAME: &'static str = "messages";
    type Request = Request;
    type Reply = Reply;
}

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Send these bytes back.
    Echo(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Open the region that comes along, and close it.
    Open,
    /// Drop what comes along.
    Drop,
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The bytes.
    Bytes(#[serde(with = "serde_bytes")] Vec<u8>),
    /// It is done.
    Done,
    /// It is not.
    Failed(Error),
}

struct Echo;

impl Server for Echo {
    type Protocol = Messages;

    fn handle(&mut self, caller: &mut Caller, request: Request) -> Reply {
        match request {
            Request::Echo(bytes) => Reply::Bytes(bytes),
            Request::Open => match open(caller) {
                Ok(()) => Reply::Done,
                Err(error) => Reply::Failed(error),
            },
            Request::Drop => {
                drop(caller.take(0));
                Reply::Done
            }
        }
    }
}

fn open(caller: &mut Caller) -> Result<(), Error> {
    let region: Owned<Region> = caller.take(0).ok_or(Error::NotFound)?.into_kind()?;
    region.open_read().map(drop)
}

impl WordServer for Echo {
    fn handle(&self, _badge: u64, words: [u64; WORDS]) -> [u64; WORDS] {
        words
    }
}

/// Serves all three endpoints.
pub(crate) fn serve(env: &Env) -> Result<(), EnvError> {
    let [echo, words, messages] = ENDPOINTS;
    let stack = env.stack_bytes();
    let served = measure::serve_echo(env.endpoint(echo)?, stack)
        .and(serve::start_words(env.endpoint(words)?, Echo, 1, stack))
        .and(serve::start(env.endpoint(messages)?, Echo, stack));
    served.unwrap_or_else(|error| panic!("cannot serve: {error}"));
    announce(env)?;
    serve::park()
}

/// Says that this domain runs.
pub(crate) fn announce(env: &Env) -> Result<(), EnvError> {
    env.notification(HERE)?.signal(1).unwrap_or_else(|error| panic!("nobody to tell: {error}"));
    Ok(())
}
