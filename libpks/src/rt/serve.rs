//! Serving an endpoint: a server is one trait and one call of [`start`].
//!
//! A server with one activation implements [`Server`] and gets `&mut self`: the kernel lets one caller in at a time and
//! queues the others. One with several implements [`SharedServer`] and gets `&self`. What a client sends is decoded
//! before the server sees it, and what cannot be decoded is answered with [`Error::Malformed`] by the runtime.
//!
//! A server that also waits for interrupts has a thread of its own (that of `main` will do) which waits for a
//! notification and then calls the server's own endpoint through the capability `self:NAME`, whose badge is
//! [`SELF_BADGE`]. So its state has one owner, whoever caused the work.

use super::endpoint::{Endpoint, Offer, Received, delete_moves, received};
use super::gate::{self, Registers, syscall};
use super::{AnyCap, Env, EnvError, Owned, client};
use crate::abi::message::{MAX_TRANSFERS, WORDS};
use crate::abi::{Error, Syscall};
use crate::proto::Protocol;
use alloc::boxed::Box;
use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

/// The badge of a server's own capability to its endpoint.
pub const SELF_BADGE: u64 = u64::MAX;

/// Who calls, and which capabilities go with the call and its reply.
#[derive(Debug)]
pub struct Caller {
    /// The badge of the capability through which the call came. Nobody can choose it but who made that capability.
    pub badge: u64,
    received: [Option<Owned<AnyCap>>; MAX_TRANSFERS],
    offers: heapless::Vec<Offer, MAX_TRANSFERS>,
}

impl Caller {
    fn new(badge: u64, received: Received) -> Self {
        let mut slots = [const { None }; MAX_TRANSFERS];
        for (slot, capability) in slots.iter_mut().zip(received) {
            *slot = Some(capability);
        }
        Self { badge, received: slots, offers: heapless::Vec::new() }
    }

    /// Whether the server calls itself.
    pub const fn is_self(&self) -> bool {
        self.badge == SELF_BADGE
    }

    /// Takes the caller's capability `n`; `None` if there is none or it was taken. Those not taken are deleted after
    /// the handler; a lent one is gone then in any case.
    pub fn take(&mut self, n: usize) -> Option<Owned<AnyCap>> {
        self.received.get_mut(n)?.take()
    }

    /// Sends a capability with the reply.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the reply has as many as it can carry.
    pub fn give(&mut self, offer: Offer) -> Result<(), Error> {
        self.offers.push(offer).map_err(|_| Error::TooLarge)
    }
}

/// A server with one activation.
pub trait Server: Send + 'static {
    /// What it speaks.
    type Protocol: Protocol;

    /// Carries out one request.
    fn handle(
        &mut self,
        caller: &mut Caller,
        request: <Self::Protocol as Protocol>::Request,
    ) -> <Self::Protocol as Protocol>::Reply;
}

/// A server with several activations.
pub trait SharedServer: Sync + Send + 'static {
    /// What it speaks.
    type Protocol: Protocol;

    /// Carries out one request, while others may be under way.
    fn handle(
        &self,
        caller: &mut Caller,
        request: <Self::Protocol as Protocol>::Request,
    ) -> <Self::Protocol as Protocol>::Reply;
}

/// A server that is called with eight words and gives eight words, without a protocol.
pub trait WordServer: Sync + Send + 'static {
    /// Carries out one request, while others may be under way if it has several activations.
    fn handle(&self, badge: u64, words: [u64; WORDS]) -> [u64; WORDS];
}

/// Begins to serve `endpoint` with one activation of `stack_bytes` of stack; it does not wait for calls.
///
/// # Errors
/// [`Error::Busy`] if it is served, [`Error::InvalidArgument`] for the stack, [`Error::QuotaExceeded`].
pub fn start<S: Server>(endpoint: Endpoint, server: S, stack_bytes: u64) -> Result<(), Error> {
    let server = Exclusive { claimed: AtomicBool::new(false), server: UnsafeCell::new(server) };
    begin(endpoint, Box::new(server), 1, stack_bytes)
}

/// The same with several activations.
///
/// # Errors
/// As [`start`].
pub fn start_shared<S: SharedServer>(
    endpoint: Endpoint,
    server: S,
    activations: u64,
    stack_bytes: u64,
) -> Result<(), Error> {
    begin(endpoint, Box::new(Shared(server)), activations, stack_bytes)
}

/// The same with words only.
///
/// # Errors
/// As [`start`].
pub fn start_words<S: WordServer>(
    endpoint: Endpoint,
    server: S,
    activations: u64,
    stack_bytes: u64,
) -> Result<(), Error> {
    begin(endpoint, Box::new(Words(server)), activations, stack_bytes)
}

/// Serves the endpoint of the server's protocol as the manifest says, and does not come back.
///
/// # Errors
/// [`EnvError`].
pub fn run<S: Server>(env: &Env, server: S) -> Result<(), EnvError> {
    start(env.served::<S::Protocol>()?, server, env.stack_bytes()).map_err(not_served::<S::Protocol>)?;
    park()
}

/// The same with as many activations as the manifest says.
///
/// # Errors
/// [`EnvError`].
pub fn run_shared<S: SharedServer>(env: &Env, server: S) -> Result<(), EnvError> {
    let endpoint = env.served::<S::Protocol>()?;
    start_shared(endpoint, server, env.activations(), env.stack_bytes())
        .map_err(not_served::<S::Protocol>)?;
    park()
}

fn not_served<P: Protocol>(error: Error) -> EnvError {
    EnvError::NotServed { name: crate::abi::name(P::NAME), error }
}

/// Lets the calling thread sleep for good, so that the domain lives on for its activations.
pub fn park() -> ! {
    loop {
        let _ = super::time::sleep_until(super::Instant::from_nanos(u64::MAX));
    }
}

/// What the entry runs, whatever the server is.
trait Activate: Sync + Send {
    fn activate(&self, call: &Registers) -> Registers;
}

struct Exclusive<S> {
    claimed: AtomicBool,
    server: UnsafeCell<S>,
}

// SAFETY: `server` is reached only by the activation that has set `claimed`, one at a time; S: Send lets the threads
// that come through the activation take turns with it.
unsafe impl<S: Send> Sync for Exclusive<S> {}

impl<S: Server> Activate for Exclusive<S> {
    fn activate(&self, call: &Registers) -> Registers {
        typed::<S::Protocol>(call, |caller, request| {
            // The kernel lets one caller in at a time; this must not rest on it alone.
            assert!(!self.claimed.swap(true, Ordering::Acquire), "activation taken twice");
            // SAFETY: `claimed` was clear, so no other reference to the server exists until it is cleared below.
            let reply = unsafe { &mut *self.server.get() }.handle(caller, request);
            self.claimed.store(false, Ordering::Release);
            reply
        })
    }
}

struct Shared<S>(S);

impl<S: SharedServer> Activate for Shared<S> {
    fn activate(&self, call: &Registers) -> Registers {
        typed::<S::Protocol>(call, |caller, request| self.0.handle(caller, request))
    }
}

struct Words<S>(S);

impl<S: WordServer> Activate for Words<S> {
    fn activate(&self, call: &Registers) -> Registers {
        drop(received(call));
        Registers { words: self.0.handle(call.target, call.words), ..Registers::default() }
    }
}

fn typed<P: Protocol>(
    call: &Registers,
    handle_fn: impl FnOnce(&mut Caller, P::Request) -> P::Reply,
) -> Registers {
    let mut caller = Caller::new(call.target, received(call));
    let reply = match client::read::<P::Request>(call) {
        Ok(request) => Ok(handle_fn(&mut caller, request)),
        Err(error) => Err(error),
    };
    client::write(&reply, &caller.offers).unwrap_or_else(refusal)
}

fn refusal(error: Error) -> Registers {
    // It always fits into words; a message of zeros, which no protocol's client takes, stands in for the impossible.
    client::write(&Err::<(), _>(error), &[]).unwrap_or_default()
}

fn begin(
    endpoint: Endpoint,
    server: Box<dyn Activate>,
    activations: u64,
    stack_bytes: u64,
) -> Result<(), Error> {
    let cookie = Box::into_raw(Box::new(server));
    let entry = activation_entry as unsafe extern "sysv64" fn() -> ! as usize as u64;
    let arguments = [endpoint.word(), entry, cookie.expose_provenance() as u64, activations, stack_bytes];
    let outcome = syscall(Syscall::EndpointServe, arguments);
    if outcome.is_err() {
        // SAFETY: it came from `Box::into_raw` above, and the kernel has not taken the cookie.
        drop(unsafe { Box::from_raw(cookie) });
    }
    outcome.map(drop)
}

/// Where the kernel enters an activation: RSP is the end of its stack, all payload registers as in
/// [`crate::abi::message`]. They are laid out on the stack as a [`Registers`].
///
/// # Safety
/// Only the kernel enters here, with a cookie that `begin` gave it.
#[unsafe(naked)]
unsafe extern "sysv64" fn activation_entry() -> ! {
    naked_asm!(
        "sub rsp, 96",
        "mov [rsp], rdi",
        "mov [rsp + 8], rsi",
        "mov [rsp + 16], r8",
        "mov [rsp + 24], r9",
        "mov [rsp + 32], r10",
        "mov [rsp + 40], r12",
        "mov [rsp + 48], r13",
        "mov [rsp + 56], r14",
        "mov [rsp + 64], r11",
        "mov [rsp + 72], r15",
        "mov [rsp + 80], rbx",
        "mov rdi, rsp",
        "xor ebp, ebp",
        "cld",
        "call {activated}",
        "ud2",
        activated = sym activated,
    )
}

/// # Safety
/// The cookie in `call` is one that `begin` gave the kernel.
unsafe extern "sysv64" fn activated(call: &Registers) -> ! {
    let cookie: *const Box<dyn Activate> = core::ptr::with_exposed_provenance(call.extra as usize);
    // SAFETY: by this function's contract it came from `Box::into_raw` in `begin`; since the kernel took it, nobody
    // frees it, and it is only shared.
    let server = unsafe { &*cookie };
    let reply = server.activate(call);
    let refused = gate::reply(reply);
    delete_moves(&reply);
    // What the handler wanted to send is not the handler's to send; tell the caller that.
    let last = gate::reply(refusal(refused));
    panic!("the kernel takes no reply: {refused}, {last}");
}
