//! Rings.

use libpks::proto::bench::{Place, ROWS, WARM_UP};
use libpks::rt::ring::{Receiver, RingFailure, Sender};
use libpks::rt::thread::spawn;
use libpks::rt::{Error, Notification, Owned, Region};

use super::Tools;
use crate::STACK;
use crate::table::Table;

/// Bytes of a ring.
const BYTES: u64 = 4096;
/// Messages of a batch.
const BATCH: u64 = 512;

pub(crate) fn run(tools: &Tools, table: &mut Table) -> Result<(), Error> {
    message::<2>(table, Place::ring_message)?;
    message::<8>(table, Place::ring_message_8)?;
    batch(table)?;
    pass(tools, table)
}

/// A region and two notifications, which last as long as the bench.
fn ring() -> Result<(Region, Notification, Notification), Error> {
    let notes = [Notification::create()?, Notification::create()?];
    let [arrived, room] = notes.map(Owned::keep);
    Ok((Region::create(BYTES, None)?.keep(), arrived, room))
}

fn message<const N: usize>(table: &mut Table, place: Place) -> Result<(), Error> {
    let (region, arrived, room) = ring()?;
    let mut sender = Sender::<N>::new(region, arrived, room).map_err(cause)?;
    let mut receiver = Receiver::<N>::new(region, arrived, room).map_err(cause)?;
    // A few under way, so that neither end looks at the other's count each time.
    for _ in 0..4 {
        sender.send(&[1; N]).map_err(cause)?;
    }
    table.operation(place, || {
        let sent = sender.send(&[1; N]).map_err(cause)?;
        let taken = receiver.take().map_err(cause)?;
        if sent && taken.is_some() { Ok(taken) } else { Err(Error::WouldBlock) }
    })
}

fn batch(table: &mut Table) -> Result<(), Error> {
    const MESSAGES: usize = 64;
    let (region, arrived, room) = ring()?;
    let mut sender = Sender::<2>::new(region, arrived, room).map_err(cause)?;
    let mut receiver = Receiver::<2>::new(region, arrived, room).map_err(cause)?;
    let (messages, mut taken) = ([[1; 2]; MESSAGES], [[0; 2]; MESSAGES]);
    table.operation(Place::ring_batch, || {
        let sent = sender.send_batch(&messages).map_err(cause)?;
        let came = receiver.take_batch(&mut taken).map_err(cause)?;
        if (sent, came) == (MESSAGES, MESSAGES) { Ok(()) } else { Err(Error::WouldBlock) }
    })
}

/// There and back: each end waits when it can do nothing else.
fn pass(tools: &Tools, table: &mut Table) -> Result<(), Error> {
    let (there, back) = (ring()?, ring()?);
    let rounds = ROWS.get(Place::ring_pass as usize).map_or(0, |row| row.rounds + WARM_UP);
    let echo = spawn(STACK, tools.priority.saturating_sub(1), move || -> Result<(), RingFailure> {
        let mut receiver = Receiver::<2>::new(there.0, there.1, there.2)?;
        let mut sender = Sender::<2>::new(back.0, back.1, back.2)?;
        for _ in 0..u64::from(rounds) * BATCH {
            let message = match receiver.take()? {
                Some(message) => message,
                None => {
                    sender.flush()?;
                    receiver.take_until(None)?
                }
            };
            if !sender.send(&message)? {
                sender.send_until(&message, None)?;
            }
        }
        sender.flush()
    })?;
    let mut sender = Sender::<2>::new(there.0, there.1, there.2).map_err(cause)?;
    let mut receiver = Receiver::<2>::new(back.0, back.1, back.2).map_err(cause)?;
    table.operation(Place::ring_pass, || {
        let (mut sent, mut taken) = (0, 0);
        while taken < BATCH {
            while sent < BATCH && sender.send(&[sent, 0]).map_err(cause)? {
                sent += 1;
            }
            sender.flush().map_err(cause)?;
            receiver.take_until(None).map_err(cause)?;
            taken += 1;
            while receiver.take().map_err(cause)?.is_some() {
                taken += 1;
            }
        }
        Ok(())
    })?;
    echo.join(None)?.map_err(cause)
}

fn cause(failure: RingFailure) -> Error {
    match failure {
        RingFailure::Kernel(error) => error,
        RingFailure::Ring(_) => Error::Malformed,
    }
}
