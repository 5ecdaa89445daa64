//! Messages. The first byte chooses a type, the others are decoded as one: that never panics, and what decodes comes back
//! the same through its own encoding.

use libpks::abi::fault::FaultReport;
use libpks::abi::inspect::{CapInfo, CpuInfo, DomainInfo, KeyInfo, SystemInfo, ThreadInfo};
use libpks::abi::layout::IPC_BUFFER_BYTES;
use libpks::abi::start::StartInfo;
use libpks::proto::{Protocol, adversary, console, fuzzer, ipc_test, pks_test, stress, supervisor, testlink};
use libpks::wire;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Decodes, and compares what was decoded with what comes of its encoding.
fn message<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let Ok(value) = wire::decode::<T>(bytes) else { return };
    let mut room = [0; 2 * IPC_BUFFER_BYTES];
    let used = wire::encode(&value, &mut room).expect("what was decoded has an encoding");
    // A number may come in more bytes than it needs, and goes out in as few.
    assert!(used <= bytes.len(), "{} bytes became {used}", bytes.len());
    assert_eq!(wire::decode::<T>(&room[..used]).as_ref(), Ok(&value));
    // Cut off it is no message.
    assert!(wire::decode::<T>(&room[..used.saturating_sub(1)]).is_err() || used == 0, "a part of {value:?}");
}

/// Requests, replies.
fn protocol<P: Protocol>(bytes: &[u8], replies: bool)
where
    P::Request: PartialEq + std::fmt::Debug,
    P::Reply: PartialEq + std::fmt::Debug,
{
    if replies { message::<P::Reply>(bytes) } else { message::<P::Request>(bytes) }
}

/// Runs the target.
pub fn run(bytes: &[u8]) {
    let Some((&kind, bytes)) = bytes.split_first() else { return };
    let replies = kind & 1 != 0;
    match kind >> 1 {
        0 => protocol::<supervisor::Supervisor>(bytes, replies),
        1 => protocol::<console::Console>(bytes, replies),
        2 => protocol::<pks_test::PksTest>(bytes, replies),
        3 => protocol::<ipc_test::IpcTest>(bytes, replies),
        4 => protocol::<adversary::Adversary>(bytes, replies),
        5 => protocol::<stress::Stress>(bytes, replies),
        11 => protocol::<fuzzer::Fuzzer>(bytes, replies),
        6 if replies => message::<testlink::Answered>(bytes),
        6 => message::<testlink::Asked>(bytes),
        7 if replies => message::<StartInfo>(bytes),
        7 => message::<FaultReport>(bytes),
        8 if replies => message::<SystemInfo>(bytes),
        8 => message::<DomainInfo>(bytes),
        9 if replies => message::<ThreadInfo>(bytes),
        9 => message::<KeyInfo>(bytes),
        10 if replies => message::<CapInfo>(bytes),
        10 => message::<CpuInfo>(bytes),
        _ => {}
    }
}
