//! The kernel's own operations, reached through [`super::layout::GATE_SYSCALL`].
//!
//! Arguments and results are message words, in the order given below; "buffer" is the caller's IPC buffer with
//! [`super::message::Info::bytes`] bytes. "Handle" is a capability handle of the caller's domain; the kind and the
//! right that it must have stand in brackets. Every operation that takes a handle can fail with
//! [`Error::NoSuchCapability`](super::Error::NoSuchCapability),
//! [`Error::WrongObject`](super::Error::WrongObject) and [`Error::MissingRights`](super::Error::MissingRights);
//! further errors stand with the operation. Times are nanoseconds since boot; a deadline travels in RBX, 0 for none.

/// Where a domain is to be ([`Syscall::DomainCreate`]): in the view of who makes it if there is room for it, else in any
/// other.
pub const PLACE_ANYWHERE: u64 = 0;
/// In the view of who makes it, and in no other.
pub const PLACE_HERE: u64 = 1;
/// In a view of its own.
pub const PLACE_ALONE: u64 = 2;
/// In a view in which nobody is yet; others may come.
pub const PLACE_EMPTY: u64 = 3;

macro_rules! syscalls {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal;)+) => {
        /// An operation of the kernel; its number travels in R15.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u64)]
        pub enum Syscall {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl Syscall {
            /// The operation with this number, if there is one.
            pub const fn from_number(number: u64) -> Option<Syscall> {
                match number {
                    $($number => Some(Syscall::$name),)+
                    _ => None,
                }
            }
        }
    };
}

syscalls! {
    /// Lets other threads of the same priority run.
    Yield = 0;
    /// Sleeps until the deadline in RBX. `InvalidArgument` without one.
    Sleep = 1;
    /// Ends the calling thread with a code (word 0). Inside an activation it is a fault of the domain.
    Exit = 2;
    /// Reports a panic of the calling domain, its text in the buffer: a domain fault of kind `Panic`.
    Abort = 3;
    /// Gives the time: nanoseconds since boot.
    Clock = 4;
    /// Writes a line (buffer) to the kernel's log. Handle [KernelLog, WRITE].
    LogWrite = 5;
    /// Reads the kernel's log from a byte position (word 1) on into the buffer. Handle [KernelLog, READ].
    /// Gives the position after what was read, and the position of the first byte that was still there.
    LogRead = 6;
    /// Asks to be signalled when the log grows. Handle [KernelLog, READ], notification [SIGNAL], bits. From then on
    /// the kernel writes no line to the serial port itself; gives the position from which on the caller has to.
    LogSubscribe = 7;

    /// Derives a capability: handle, rights ([`CapRights`](crate::cap::CapRights) bits), badge (0: keep). Gives a
    /// handle. `RightsExceeded`, `AlreadyBadged`, `QuotaExceeded`.
    CapMint = 10;
    /// Deletes a capability: handle. The object goes with its last capability.
    CapDelete = 11;
    /// Deletes all capabilities derived from a handle, in every domain; when it returns, no thread on any CPU has
    /// rights through them.
    CapRevoke = 12;
    /// Tells what a handle names: gives kind, rights, badge.
    CapIdentify = 13;

    /// Makes an endpoint. Gives a handle with all rights. `QuotaExceeded`.
    EndpointCreate = 20;
    /// Begins to serve an endpoint in the calling domain: handle [Endpoint, SERVE], entry address, cookie, number of
    /// activations, bytes of stack for each. `Busy` if it is served, `InvalidArgument`, `QuotaExceeded`.
    EndpointServe = 21;
    /// Makes a notification. Gives a handle with all rights. `QuotaExceeded`.
    NotificationCreate = 22;
    /// ORs bits (word 1) into a notification: handle [Notification, SIGNAL]. A badge, if there is one, masks them.
    Signal = 23;
    /// Takes the bits of a notification, waiting until there are any or the deadline passes: handle [Notification,
    /// WAIT]. Gives the bits. `TimedOut`, `Gone`.
    Wait = 24;
    /// Takes the bits of a notification without waiting. `WouldBlock`.
    Poll = 25;

    /// Makes a thread in the calling domain: entry address, argument (in RDI at entry), bytes of stack, priority at
    /// most the domain's. Gives a handle. It runs at once. `InvalidArgument`, `LimitReached`, `QuotaExceeded`.
    ThreadCreate = 30;
    /// Waits until a thread has ended: handle [Thread, WAIT]. Gives its exit code. `TimedOut`, `Gone` if it was killed.
    ThreadJoin = 31;
    /// Kills a thread: handle [Thread, MANAGE].
    ThreadKill = 32;
    /// Binds a thread to a CPU (word 1; `u64::MAX` unbinds): handle [Thread, MANAGE]. `InvalidArgument`.
    ThreadBind = 33;
    /// Gives a handle [Thread, all rights] for the calling thread. `WrongState` in a call: there the thread is its
    /// caller's.
    ThreadSelf = 34;
    /// Routes faults of a thread to a notification instead of ending its domain: handle [Thread, MANAGE],
    /// notification [SIGNAL], bits. A fault in a call to another server is not meant: that ends the server.
    ThreadOnFault = 35;
    /// Tells the fault at which a thread stands: handle [Thread, READ]. The buffer receives a
    /// [`FaultReport`](super::fault::FaultReport). `WrongState` if it does not stand at a fault.
    ThreadFault = 36;
    /// Sets recorded rights of a stopped thread for a region: handle [Thread, MANAGE], handle [Region], rights.
    ThreadSetRights = 37;
    /// Lets a thread that stands at a fault go on: handle [Thread, MANAGE]. `WrongState`.
    ThreadResume = 38;

    /// Makes a region: bytes, handle of a key (0: the kernel chooses). Gives handle, address. `QuotaExceeded`,
    /// `KeysExhausted`, `LimitReached`.
    RegionCreate = 40;
    /// Tells of a region: handle [Region]. Gives address, bytes, hardware key, the caller's live rights.
    RegionInfo = 41;
    /// Opens a region for the calling thread: handle [Region, READ or also WRITE], rights (1 read-only, 2
    /// read-write). Gives a token, the region's address and its bytes. `RightsExceeded`, `QuotaExceeded`,
    /// `LimitReached` with 256 openings, `KeysExhausted` for a region that was closed because its holders changed
    /// when no key was free.
    RegionOpen = 42;
    /// Ends an opening: token. What the thread may do is then what its other openings say.
    RegionClose = 43;
    /// Sets what every thread of the calling domain may do with a region beyond its own openings: handle [Region],
    /// rights (0 none, 1, 2). Takes effect on every CPU before it returns. Errors as `RegionOpen`.
    RegionOpenGlobal = 44;
    /// Gives another hardware key to a region: handle [Region, MANAGE], handle of a key. Flushes every CPU's TLB.
    RegionRekey = 45;
    /// Adds bytes (word 0) to the calling domain's heap. Gives the address of the first. `QuotaExceeded`.
    HeapGrow = 46;

    /// Makes a domain from a boot module: handle [BootModule], handle [MemoryQuota] to take from, bytes of quota,
    /// priority, at most that of the asking domain; nanoseconds of CPU time and the period in which they may be used at
    /// that priority ([`Budget`](crate::budget::Budget)); nanoseconds for which a call may go on beyond its client's
    /// budget; where it is to be: [`PLACE_ANYWHERE`], [`PLACE_HERE`], [`PLACE_ALONE`], [`PLACE_EMPTY`], or the
    /// handle [Domain, READ] of one in whose view; its name in the buffer. Gives a handle. `BadImage`, `AbiMismatch`,
    /// `LimitReached`, `KeysExhausted`, `CpuExceeded`, `InvalidArgument` also for a name with control characters.
    DomainCreate = 50;
    /// Gives a capability to a domain that has not started: handle [Domain, MANAGE], handle, rights, badge. Gives
    /// the handle in that domain.
    DomainGrant = 51;
    /// Starts a domain: handle [Domain, MANAGE]; bytes of stack; the buffer
    /// ([`StartInfo`](super::start::StartInfo)) becomes that of its first thread. `WrongState`.
    DomainStart = 52;
    /// Stops a domain for good: handle [Domain, MANAGE]. Calls that it had accepted end with
    /// `PeerDiedMidCall`; callers that wait stay, for whoever serves next.
    DomainStop = 53;
    /// Routes the end of a domain (fault, stop, exit) to a notification: handle [Domain, MANAGE], notification
    /// [SIGNAL], bits.
    DomainOnEnd = 54;
    /// Tells the state of a domain: handle [Domain, READ]. Gives a [`DomainState`](super::inspect::DomainState); if
    /// it ended by a fault the buffer receives the report.
    DomainStatus = 55;

    /// Reads a port: handle [IoPorts, READ], port, width in bytes. Gives the value. `InvalidArgument`.
    PortRead = 60;
    /// Writes a port: handle [IoPorts, WRITE], port, width in bytes, value. `InvalidArgument`.
    PortWrite = 61;
    /// Derives a range of ports: handle [IoPorts, GRANT], first, last. Gives a handle. `InvalidArgument` also for
    /// ports that no domain may have.
    PortRange = 62;
    /// Derives one interrupt line: handle [IrqLine of all, GRANT], line. Gives a handle. `InvalidArgument`, `Busy`.
    IrqLine = 63;
    /// Routes an interrupt to a notification: handle [IrqLine, MANAGE], notification [SIGNAL], bits.
    IrqBind = 64;
    /// Unmasks an interrupt after it was handled: handle [IrqLine, MANAGE].
    IrqAck = 65;

    /// Takes a key out of the pool: handle [KeyPool, MANAGE], 1 for a key of the CPU in particular, else 0. Gives handle, number
    /// of the key. `KeysExhausted`; `KeysUnsupported` for a key of the CPU where none are in use. It goes back with its last
    /// capability.
    KeyAllocate = 70;
    /// Tells of a boot module: handle [BootModule, READ]. Gives its bytes; the buffer receives its name.
    ModuleInfo = 75;
    /// Reads from a boot module into the buffer: handle [BootModule, READ], offset, bytes.
    ModuleRead = 76;

    /// Does what only tests may: handle [SelfTest], operation ([`SelfTestOp`](super::selftest::SelfTestOp)),
    /// arguments.
    SelfTest = 80;
    /// Tells about the system: handle [Inspect, READ], subject ([`Subject`](super::inspect::Subject)), index,
    /// sub-index. The buffer receives the answer. `NotFound` past the last index.
    Inspect = 81;
    /// Turns the machine off or starts it again: handle [Power, MANAGE],
    /// [`PowerAction`](super::inspect::PowerAction). `Unsupported` if the machine does not say how.
    Power = 82;
}
