//! Messages to the kernel and to servers.

use alloc::vec::Vec;
use core::time::Duration;

use libpks::abi::layout::{GATE_CALL, GATE_REPLY, GATE_SYSCALL, ipc_buffer_of};
use libpks::abi::message::Info;
use libpks::abi::name;
use libpks::proto::Protocol;
use libpks::proto::adversary;
use libpks::proto::console::{self, Console};
use libpks::proto::supervisor::{self, Refusal};
use libpks::rt::thread::spawn;
use libpks::rt::{CallError, Capability, Client, Endpoint, Error, Notification, Offer, Region, time};
use serde::{Deserialize, Serialize};

use crate::act::{Registers, STACK, at_home, leap, write};
use crate::{Case, Loot, Means, Outcome, all_refused, unless};

/// How a handle is given away for good, in the information word.
const MOVE: u64 = 1;
/// Numbers as postcard writes them, in seven bits a byte: small ones, and such as no message holds.
const LENGTHS: [&[u8]; 8] = [
    &[0],
    &[1],
    &[0x7f],
    &[0x80, 0x08],
    &[0x81, 0x08],
    &[0xff, 0xff, 0x03],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
];

pub(crate) fn commit(case: &Case<'_>) -> Option<Outcome> {
    let means = case.means;
    let console = means.console.handle().raw();
    Some(match (case.name, case.region) {
        ("wrong_syscall", _) => all_refused(
            Error::NoSuchSyscall,
            [8, 99, 255, 256, 1 << 31, 1 << 32, u64::MAX].map(|number| noisy(GATE_SYSCALL, number, 0)),
        ),
        ("oversized_message", _) => all_refused(
            Error::BadMessage,
            // One byte too many, all bits of the size, a capability too many, reserved bits, an error.
            [4097, 0x1fff, 5 << 16, 7 << 16, 1 << 13, 1 << 15, 1 << 19, 1 << 32, u64::MAX]
                .map(|info| noisy(GATE_CALL, console, info)),
        ),
        ("garbage_message", _) => garbage(means.console),
        ("lying_lengths", _) => lying_lengths(means),
        ("console_requests", _) => console_requests(means.console),
        ("supervisor_requests", _) => supervisor_requests(means),
        ("false_capability", _) => all_refused(
            Error::NoSuchCapability,
            [1_u64, 2, 3, 4].map(|count| noisy(GATE_CALL, console, count << 16)),
        ),
        ("same_capability_twice", _) => same_twice(console),
        ("reply_to_nobody", _) => at_home(means.priority, || {
            all_refused(Error::WrongState, [0, 8, 4096].map(|info| noisy(GATE_REPLY, 0, info)))
        }),
        ("call_itself", _) => call_itself(means),
        ("change_message_meanwhile", _) => change_message(means),
        ("change_region_meanwhile", Some(region)) => change_region(region, means.priority),
        _ => return None,
    })
}

/// Through a gate with a bare handle or number and a bare information word, all other registers full of noise.
fn noisy(gate: u64, target: u64, info: u64) -> Result<(), Error> {
    let noise = u64::MAX;
    let registers = Registers {
        rip: gate,
        r15: target,
        r11: info,
        rbx: noise,
        rdi: noise,
        rsi: noise,
        r8: noise,
        r9: noise,
        r10: noise,
        r12: noise,
        r13: noise,
        r14: noise,
        ..Registers::default()
    };
    Info::from_raw(leap(&registers).r11).result()
}

/// A protocol that nobody speaks.
struct Noise;

impl Protocol for Noise {
    const NAME: &'static str = "noise";
    type Request = Bytes;
    type Reply = ();
}

#[derive(Serialize, Deserialize)]
struct Bytes(Vec<u8>);

/// Noise of many lengths to a server whose requests it cannot be.
fn garbage(server: Endpoint) -> Outcome {
    let client = Client::<Noise>::new(server);
    let sends = [70, 300, 1000, 4000].map(|length| match client.call(&Bytes(alloc::vec![0xff; length])) {
        Err(CallError::Refused(error) | CallError::Failed(error)) => Err(error),
        Ok(()) | Err(CallError::BadReply | CallError::Killer(_)) => Ok(()),
    });
    all_refused(Error::Malformed, sends)
}

/// The IPC buffer of the thread that asks.
#[inline(never)]
fn own_buffer() -> u64 {
    let here = 0_u64;
    ipc_buffer_of((&raw const here).expose_provenance() as u64)
}

/// Puts bytes into an IPC buffer, in words.
fn put(buffer: u64, bytes: &[u8]) {
    for (n, chunk) in bytes.chunks(8).enumerate() {
        let word = chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        write(buffer + 8 * n as u64, word);
    }
}

/// Each request of console and supervisor with lengths that lie, in messages of lengths that lie as well. What they
/// answer is theirs to say; they must live.
fn lying_lengths(means: &Means) -> Outcome {
    let buffer = own_buffer();
    for server in [means.console, means.supervisor.endpoint()] {
        for variant in 1..8 {
            for length in LENGTHS {
                let mut bytes = alloc::vec![variant];
                bytes.extend(length);
                bytes.extend([0xf0, 0x28, 0x8c, 0x28]);
                put(buffer, &bytes);
                for said in [1, 2, bytes.len() as u64, 4096] {
                    let r15 = server.handle().raw();
                    leap(&Registers { rip: GATE_CALL, r15, r11: said, ..Registers::default() });
                }
            }
        }
    }
    Ok(Loot::Nothing)
}

fn console_requests(endpoint: Endpoint) -> Outcome {
    use console::{Reply, Request};
    let client = Client::<Console>::new(endpoint);
    let subscribe = Request::Subscribe { input: u64::MAX, space: u64::MAX };
    for request in [Request::Read, Request::Attend, Request::ShowLog(false), subscribe.clone()] {
        if !matches!(client.call(&request), Ok(Reply::Refused(_))) {
            return Ok(Loot::Got(1));
        }
    }
    // With a notification, which is what the one has who reads the input.
    let notification = Notification::create()?.keep();
    let taken = client.exchange(&subscribe, &[Offer::copy(notification)], None);
    if !matches!(taken, Ok((Reply::Refused(console::Refusal::Taken), _))) {
        return Ok(Loot::Got(2));
    }
    for bytes in [&[][..], &[0; console::WRITE_BYTES]] {
        let bytes = bytes.iter().copied().collect();
        if client.call(&Request::Write(bytes)).is_err() {
            return Ok(Loot::Got(3));
        }
    }
    Ok(Loot::Nothing)
}

fn supervisor_requests(means: &Means) -> Outcome {
    use supervisor::{Reply, Request};
    let is_refused = |request| {
        let reply = means.supervisor.call(&request);
        matches!(reply, Ok(Reply::Refused(Refusal::NotYours | Refusal::UnknownServer)))
    };
    let longest = core::str::from_utf8(&[b'x'; 32]).unwrap_or("");
    for who in ["", "init", "nobody", "adversary", "../init", "%s%n\u{1b}[2J", longest] {
        let asks = [Request::Start(name(who)), Request::Stop(name(who)), Request::Restart(name(who))];
        if !asks.into_iter().all(is_refused) {
            return Ok(Loot::Got(1));
        }
    }
    if !is_refused(Request::Attend) || !is_refused(Request::Fault(name("nobody"))) {
        return Ok(Loot::Got(2));
    }
    let list = means.supervisor.call(&Request::List { from: u32::MAX });
    unless(!matches!(list, Ok(Reply::Servers(servers)) if servers.is_empty()), 3)
}

fn same_twice(console: u64) -> Outcome {
    let notification = Notification::create()?.keep().handle().raw();
    let registers = Registers {
        rip: GATE_CALL,
        r15: console,
        r11: 2 << 16 | MOVE << 20 | MOVE << 23,
        r14: notification,
        r13: notification,
        ..Registers::default()
    };
    all_refused(Error::BadMessage, [Info::from_raw(leap(&registers).r11).result()])
}

fn call_itself(means: &Means) -> Outcome {
    let nothing = adversary::Request::Commit { name: name(""), target: 0, witness: 0 };
    match means.own.call(&nothing) {
        Err(CallError::Failed(error)) => Err(error),
        _ => Ok(Loot::Got(0)),
    }
}

/// Another thread writes into the message all the time: variant, lengths, text.
fn change_message(means: &Means) -> Outcome {
    let buffer = own_buffer();
    spawn(STACK, means.priority, move || {
        for n in 0_u64.. {
            write(buffer, n.wrapping_mul(0x9e37_79b9_7f4a_7c15) & 0xffff_ffff_ffff_ff07 | 4);
        }
    })?;
    for round in 0..500 {
        let r15 = means.supervisor.endpoint().handle().raw();
        leap(&Registers { rip: GATE_CALL, r15, r11: 1 + round % 64, ..Registers::default() });
        if round % 50 == 0 {
            time::sleep(Duration::from_millis(1))?;
        }
    }
    Ok(Loot::Nothing)
}

/// Another thread changes the length of a message in shared memory, honest one moment and not the next.
fn change_region(region: Region, priority: u8) -> Outcome {
    spawn(STACK, priority, move || -> Result<(), Error> {
        let open = region.open_write()?;
        loop {
            open.write_u64(0, 8)?;
            open.write_u64(0, u64::MAX)?;
        }
    })?;
    time::sleep(Duration::from_millis(20))?;
    Ok(Loot::Nothing)
}
