//! Calls: between domains, and for comparison within one.

use alloc::vec;
use core::hint::black_box;

use libpks::proto::bench::Place;
use libpks::rt::domain::Placement;
use libpks::rt::{Client, Error, Offer, Region, measure};

use super::{Tools, any};
use crate::peer::{Messages, Reply, Request};
use crate::table::Table;

pub(super) const WORDS: [u64; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

pub(crate) fn run(tools: &Tools, table: &mut Table) -> Result<(), Error> {
    let peer = tools.peer(Placement::Here)?;
    let [echo, words, messages] = &peer.endpoints;
    table.row(Place::call_mediated, || measure::call_words(**echo, WORDS).map(Some))?;
    across(tools, table)?;
    table.operation(Place::call_words, || words.call_words(black_box(WORDS), None))?;
    table.operation(Place::function_call, || Ok(black_box(called(black_box(WORDS)))))?;
    let pointer: fn([u64; 8]) -> [u64; 8] = black_box(called);
    table.operation(Place::pointer_call, || Ok(black_box(pointer(black_box(WORDS)))))?;
    let client = Client::<Messages>::new(**messages);
    for (place, bytes) in [(Place::message_64, 64), (Place::message_512, 512), (Place::message_4000, 4000)] {
        let request = Request::Echo(vec![0x5a; bytes]);
        table.operation(place, || client.call(&request).map_err(cause))?;
    }
    for (place, bytes) in [(Place::lend_4k, 4 << 10), (Place::lend_1m, 1 << 20)] {
        let region = Region::create(bytes, None)?;
        let lend = || expect_done(client.exchange(&Request::Open, &[Offer::lend(*region)], None));
        table.operation(place, lend)?;
    }
    let given = any()?;
    table.operation(Place::transfer, || {
        expect_done(client.exchange(&Request::Drop, &[Offer::copy(*given)], None))
    })
}

/// The same calls to a domain in another view.
fn across(tools: &Tools, table: &mut Table) -> Result<(), Error> {
    let peer = tools.peer(Placement::Alone)?;
    let [echo, _, messages] = &peer.endpoints;
    table.row(Place::call_across, || measure::call_words(**echo, WORDS).map(Some))?;
    let client = Client::<Messages>::new(**messages);
    let region = Region::create(4 << 10, None)?;
    let lend = || expect_done(client.exchange(&Request::Open, &[Offer::lend(*region)], None));
    table.operation(Place::lend_4k_across, lend)
}

/// What a call is compared with.
#[inline(never)]
fn called(words: [u64; 8]) -> [u64; 8] {
    black_box(words)
}

fn expect_done<C>(outcome: Result<(Reply, C), libpks::rt::CallError>) -> Result<(), Error> {
    match outcome.map_err(cause)?.0 {
        Reply::Done => Ok(()),
        Reply::Failed(error) => Err(error),
        Reply::Bytes(_) => Err(Error::BadMessage),
    }
}

fn cause(error: libpks::rt::CallError) -> Error {
    match error {
        libpks::rt::CallError::Failed(error) | libpks::rt::CallError::Refused(error) => error,
        libpks::rt::CallError::BadReply | libpks::rt::CallError::Killer(_) => Error::BadMessage,
    }
}
