//! What the bench measures, as the server that does it and the host that counts both know it.
//!
//! The server executes each operation between two **marks**: instructions that do nothing, which a plugin of the
//! emulator knows. So the counts are those of the image as it is.
#![forbid(unsafe_code)]

/// What the second and third byte of a mark's displacement are.
const MAGIC: u32 = 0x5050_4b00;

/// A mark: `NOP [RAX + value]`, a long form of NOP (Intel SDM vol. 2B, NOP) that no compiler makes with such a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Mark {
    /// Counting starts with the next instruction.
    Begin = MAGIC | 1,
    /// It ends with the instruction before.
    End = MAGIC | 2,
    /// What follows belongs to the next row of [`ROWS`].
    Next = MAGIC | 3,
    /// The last row is done.
    Done = MAGIC | 4,
}

impl Mark {
    /// The bytes of the instruction before its displacement.
    pub const OPCODE: [u8; 3] = [0x0f, 0x1f, 0x80];

    /// The mark that an instruction is.
    #[must_use]
    pub fn of(instruction: &[u8]) -> Option<Self> {
        let displacement = instruction.strip_prefix(&Self::OPCODE)?;
        let value = u32::from_le_bytes(displacement.try_into().ok()?);
        [Self::Begin, Self::End, Self::Next, Self::Done].into_iter().find(|mark| *mark as u32 == value)
    }
}

/// A row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// What is counted.
    pub about: &'static str,
    /// How often, after as many rounds to warm up as [`WARM_UP`] says.
    pub rounds: u32,
}

/// Rounds of each row that are not counted.
pub const WARM_UP: u32 = 16;

macro_rules! rows {
    ($($name:ident, $rounds:literal, $about:literal;)+) => {
        /// All rows, in the order in which the server comes to them.
        pub const ROWS: &[Row] = &[$(Row { name: stringify!($name), about: $about, rounds: $rounds }),+];

        /// The rows' places in [`ROWS`].
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[allow(non_camel_case_types, reason = "they are the names of the rows")]
        pub enum Place { $(#[doc = $about] $name),+ }
    };
}

rows! {
    call_mediated, 1000, "a call with 8 words and its reply, from the CALL into the gate to the instruction after it; the server replies with its first instructions";
    call_across, 1000, "the same to a server in another view";
    lend_4k_across, 1000, "a call to a server in another view that lends a region of 4 KiB, which the server opens and closes";
    call_words, 1000, "the same to a server in Rust, through the runtime on both sides";
    function_call, 1000, "a call of a function with 8 words, in the same domain";
    pointer_call, 1000, "the same through a pointer";
    message_64, 1000, "a typed call whose request and reply have 64 bytes, encoding and decoding included";
    message_512, 1000, "the same with 512 bytes";
    message_4000, 1000, "the same with 4,000 bytes";
    lend_4k, 1000, "a call that lends a region of 4 KiB, which the server opens and closes";
    lend_1m, 1000, "the same with 1 MiB";
    transfer, 1000, "a call that copies a capability, which the server deletes";
    signal_poll, 1000, "a signal, and the bits taken at once";
    signal_wake, 1000, "a signal to a more urgent thread that waits for it, until that thread runs";
    ring_message, 1000, "a message of 2 words sent and taken through a ring, both ends busy";
    ring_message_8, 1000, "the same of 8 words";
    ring_batch, 1000, "64 messages of 2 words sent in a batch and taken in one";
    ring_pass, 100, "512 messages of 2 words through a ring to another thread and back, by ends that wait for each other";
    guard, 1000, "a region opened for writing and closed";
    key, 1000, "a key taken from the pool and given back";
    yield_switch, 1000, "a yield until another thread of the domain runs";
    clock, 1000, "the least system call: what time it is";
    fault_report, 1000, "an access against a key until the thread that hears of the fault runs";
    mint, 1000, "a capability derived";
    delete, 1000, "a capability deleted";
    revoke_1, 1000, "a revoke of one derived capability";
    revoke_10, 1000, "the same of 10";
    revoke_1000, 32, "the same of 1,000, in steps";
    region, 1000, "a region of a page made";
    thread, 1000, "a thread made, and joined when it has ended";
    domain_create, 100, "a domain made from an image";
    domain_start, 100, "its start, until its first call arrives";
    domain_stop, 100, "its end, all that it had taken back";
    call_among_16, 1000, "a call as in `call_mediated`, while 16 other domains live";
    across_among_16, 1000, "a call as in `call_across`, while 16 other domains live";
    domain_among_16, 100, "a domain made and started, until it serves, while 16 others live";
    call_among_256, 1000, "a call as in `call_mediated`, while 256 other domains live";
    across_among_256, 1000, "a call as in `call_across`, while 256 other domains live";
    domain_among_256, 100, "a domain made and started, until it serves, while 256 others live";
    call_among_4096, 1000, "a call as in `call_mediated`, while 4,096 other domains live";
    across_among_4096, 1000, "a call as in `call_across`, while 4,096 other domains live";
    domain_among_4096, 100, "a domain made and started, until it serves, while 4,096 others live";
    call_each_of_4096, 4096, "a call as in `call_words` to each of 4,096 domains in turn, nearly all in other views";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_they_are_written() {
        for mark in [Mark::Begin, Mark::End, Mark::Next, Mark::Done] {
            let bytes = [&Mark::OPCODE[..], &(mark as u32).to_le_bytes()].concat();
            assert_eq!(Mark::of(&bytes), Some(mark));
            assert_eq!(Mark::of(&bytes[..6]), None);
            assert_eq!(Mark::of(&[&bytes[..], &[0]].concat()), None);
        }
        assert_eq!(Mark::of(&[0x0f, 0x1f, 0x80, 0, 0, 0, 0]), None);
    }

    #[test]
    fn names_are_unique() {
        for (n, row) in ROWS.iter().enumerate() {
            assert!(ROWS[..n].iter().all(|other| other.name != row.name), "{}", row.name);
        }
    }
}
