//! What travels in registers through a gate.
//!
//! The three gates of [`super::layout`] take and give the same registers:
//!
//! | register | in | out |
//! |---|---|---|
//! | R15 | call: capability handle; syscall: number | at a server's entry: badge of the capability used |
//! | R11 | [`Info`] | [`Info`], with the error code |
//! | RBX | deadline in nanoseconds since boot, 0 for none | at a server's entry: the cookie of the endpoint |
//! | RDI RSI R8 R9 R10 R12 R13 R14 | message words 0 to 7 | message words 0 to 7 |
//! | RSP | the caller's stack, kept | kept; at a server's entry the activation's own |
//! | RAX RCX RDX RBP, flags | ignored | cleared or undefined |
//!
//! What does not fit into eight words travels in the sender's IPC buffer, from where the kernel copies
//! [`Info::bytes`] bytes into the receiver's. Capabilities travel as handles in the last words: word 7 holds the first,
//! word 6 the second and so on; the receiver finds its new handles in the same words.

/// Words of a message that travel in registers.
pub const WORDS: usize = 8;
/// Capabilities that one message can carry.
pub const MAX_TRANSFERS: usize = 4;

/// The word in R11: how much of the IPC buffer is meant, how many capabilities are carried, and what went wrong.
///
/// | bits | meaning |
/// |---|---|
/// | 0..=12 | bytes in the IPC buffer, 0 to 4096 |
/// | 16..=18 | how many capabilities are carried |
/// | 20..=31 | three bits for each of them: its [`TransferMode`] and, in the third, whether it is narrowed to reading |
/// | 32..=63 | error code ([`super::Error`]), 0 for success |
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct Info(u64);

impl Info {
    /// A message of `bytes` bytes in the IPC buffer and no capabilities; `None` if that is too large.
    pub const fn new(bytes: usize) -> Option<Info> {
        if bytes > super::layout::IPC_BUFFER_BYTES { None } else { Some(Info(bytes as u64)) }
    }

    /// The same message with one capability more; `None` if it has [`MAX_TRANSFERS`] already.
    pub const fn with_transfer(self, transfer: Transfer) -> Option<Info> {
        let n = self.capabilities();
        if n >= MAX_TRANSFERS {
            return None;
        }
        let bits = transfer.mode as u64 | ((transfer.read_only as u64) << 2);
        Some(Info((self.0 & !(7 << 16)) | ((n as u64 + 1) << 16) | (bits << (20 + 3 * n))))
    }

    /// The answer that says only what went wrong.
    pub const fn failed(error: super::Error) -> Info {
        Info((error as u64) << 32)
    }

    /// As it came in R11. Every value is accepted; ask [`Info::is_valid`].
    pub const fn from_raw(raw: u64) -> Info {
        Info(raw)
    }

    /// As it goes into R11.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Bytes of the IPC buffer that belong to the message.
    pub const fn bytes(self) -> usize {
        (self.0 & 0x1fff) as usize
    }

    /// How many capabilities the message carries.
    pub const fn capabilities(self) -> usize {
        ((self.0 >> 16) & 7) as usize
    }

    /// What becomes of capability `n`; `None` if the message carries fewer or the mode does not exist.
    pub const fn transfer(self, n: usize) -> Option<Transfer> {
        if n >= self.capabilities() || n >= MAX_TRANSFERS {
            return None;
        }
        let bits = self.0 >> (20 + 3 * n);
        let mode = match bits & 3 {
            0 => TransferMode::Copy,
            1 => TransferMode::Move,
            2 => TransferMode::Lend,
            _ => return None,
        };
        Some(Transfer { mode, read_only: bits & 4 != 0 })
    }

    /// Whether a sender may say this: sizes in range, no reserved bit set, no error.
    pub const fn is_valid(self) -> bool {
        let n = self.capabilities();
        if self.0 & 0xffff_ffff_0008_e000 != 0
            || self.bytes() > super::layout::IPC_BUFFER_BYTES
            || n > MAX_TRANSFERS
        {
            return false;
        }
        if n < MAX_TRANSFERS && self.0 >> (20 + 3 * n) != 0 {
            return false;
        }
        let mut i = 0;
        while i < n {
            if self.transfer(i).is_none() {
                return false;
            }
            i += 1;
        }
        true
    }

    /// The outcome that the word carries.
    ///
    /// # Errors
    /// The error that the kernel reported.
    pub fn result(self) -> Result<(), super::Error> {
        super::Error::from_code((self.0 >> 32) as u32)
    }
}

/// What becomes of a capability that is named in a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum TransferMode {
    /// The receiver gets a capability derived from the sender's, with the rights that the sender chose.
    Copy = 0,
    /// The sender's capability becomes the receiver's.
    Move = 1,
    /// The receiver has it until it replies; it comes back on reply, on death and on timeout.
    Lend = 2,
}

/// What is said of one capability in a message. Its handle is the message word: word 7 for the first, 6 for the
/// second and so on ([`Transfer::word`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transfer {
    /// What becomes of it.
    pub mode: TransferMode,
    /// Whether the receiver gets it without the right to write.
    pub read_only: bool,
}

impl Transfer {
    /// The message word that holds the handle of capability `n`.
    pub const fn word(n: usize) -> usize {
        WORDS - 1 - n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEND: Transfer = Transfer { mode: TransferMode::Lend, read_only: true };

    #[test]
    fn info_refuses_what_does_not_fit() {
        assert!(Info::new(4097).is_none());
        let mut info = Info::new(4096).unwrap();
        for n in 0..MAX_TRANSFERS {
            assert_eq!((info.bytes(), info.capabilities()), (4096, n));
            info = info.with_transfer(LEND).unwrap();
            assert_eq!(info.transfer(n), Some(LEND));
            assert!(info.is_valid());
        }
        assert!(info.with_transfer(LEND).is_none());
    }

    #[test]
    fn info_from_a_domain_is_checked() {
        for raw in
            [1 << 13, 4097, 5 << 16, 1 << 19, 1 << 20, 1 << 16 | 3 << 20, 1 << 16 | 1 << 23, 1 << 32, 1 << 63]
        {
            assert!(!Info::from_raw(raw).is_valid(), "{raw:#x}");
        }
    }

    #[test]
    fn modes_and_narrowing_survive_the_register() {
        let copy = Transfer { mode: TransferMode::Copy, read_only: false };
        let take = Transfer { mode: TransferMode::Move, read_only: false };
        let info = Info::default()
            .with_transfer(take)
            .unwrap()
            .with_transfer(LEND)
            .unwrap()
            .with_transfer(copy)
            .unwrap();
        let info = Info::from_raw(info.raw());
        assert_eq!(
            [info.transfer(0), info.transfer(1), info.transfer(2), info.transfer(3)],
            [Some(take), Some(LEND), Some(copy), None]
        );
        assert_eq!([Transfer::word(0), Transfer::word(3)], [7, 4]);
    }
}
