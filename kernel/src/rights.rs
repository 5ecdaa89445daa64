//! What threads have open of regions, and the rights words that follow from that.
//!
//! A rights word is never edited in place and never restored from memory: it is derived from the books, again after
//! every change of them.

use crate::domain::Domain;
use crate::ipc::Activation;
use crate::object::Ref;
use crate::region::{Facet, Region};
use crate::state::Kernel;
use crate::thread::{Seat, Thread};
use crate::view::View;
use libpks::abi::Error;
use libpks::cap::Owner;
use libpks::pkey::{Pkey, Pkrs, Rights};

/// What somebody has open of a region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    pub(crate) region: Ref<Region>,
    /// What the view of who has it open showed of it then.
    facet: Ref<Facet>,
    pub(crate) rights: Rights,
    /// Whether all threads of its domain have it open.
    for_all: bool,
    pub(crate) next: Option<Ref<Opening>>,
}

/// The most that a thread, or all threads of a domain together, may have open.
const MAX_OPENINGS: usize = 256;
/// What an opening costs its domain.
const OPENING_BYTES: u64 = size_of::<Opening>() as u64;

impl Kernel {
    /// Opens a region for whoever runs: until it is closed the rights are in the seat's word.
    ///
    /// # Errors
    /// `RightsExceeded`, `KeysExhausted` for a region that was closed for want of a key, `OutOfMemory`.
    pub(crate) fn open_region(
        &mut self,
        thread: Ref<Thread>,
        region: Ref<Region>,
        rights: Rights,
    ) -> Result<u64, Error> {
        let domain = self.seat(thread).domain;
        self.check_openings(self.seat(thread).openings)?;
        let opening = self.new_opening(domain, region, rights, false)?;
        let next = self.seat_mut(thread).openings.replace(opening);
        self.openings[opening].next = next;
        self.recompute_word_of(thread);
        Ok(opening.raw())
    }

    fn new_opening(
        &mut self,
        domain: Ref<Domain>,
        region: Ref<Region>,
        rights: Rights,
        for_all: bool,
    ) -> Result<Ref<Opening>, Error> {
        let owner = Owner(domain.number());
        let facet = self.facet_for(region, owner).ok_or(Error::RightsExceeded)?;
        if rights > self.held_by(facet, owner) {
            return Err(Error::RightsExceeded);
        }
        self.open_facet(region, facet)?;
        self.charge(domain, OPENING_BYTES)?;
        let opening = self.openings.insert(Opening { region, facet, rights, for_all, next: None });
        let opening = opening.inspect_err(|_| self.refund(domain, OPENING_BYTES))?;
        self.regions[region].opened_for_all += u32::from(for_all);
        Ok(opening)
    }

    /// Whether a list of openings may grow: a rights word is derived from all of them, under the lock.
    ///
    /// # Errors
    /// `LimitReached`.
    fn check_openings(&self, first: Option<Ref<Opening>>) -> Result<(), Error> {
        let next = |at: &Ref<Opening>| self.openings.get(*at)?.next;
        let count = core::iter::successors(first, next).take(MAX_OPENINGS).count();
        if count < MAX_OPENINGS { Ok(()) } else { Err(Error::LimitReached) }
    }

    fn drop_opening(&mut self, domain: Ref<Domain>, at: Ref<Opening>) -> Option<Opening> {
        let opening = self.openings.remove(at)?;
        self.refund(domain, OPENING_BYTES);
        if let Some(region) = self.regions.get_mut(opening.region) {
            region.opened_for_all -= u32::from(opening.for_all);
        }
        Some(opening)
    }

    /// Ends an opening of whoever runs.
    ///
    /// # Errors
    /// `NoSuchCapability` if the token is none of this seat's.
    pub(crate) fn close_region(&mut self, thread: Ref<Thread>, token: u64) -> Result<(), Error> {
        let (mut previous, mut at) = (None, self.seat(thread).openings);
        while let Some(opening) = at {
            let next = self.openings[opening].next;
            if opening.raw() == token {
                match previous {
                    None => self.seat_mut(thread).openings = next,
                    Some(previous) => self.openings[previous].next = next,
                }
                self.drop_opening(self.seat(thread).domain, opening);
                self.recompute_word_of(thread);
                return Ok(());
            }
            (previous, at) = (Some(opening), next);
        }
        Err(Error::NoSuchCapability)
    }

    /// What every thread of a domain may do with a region beyond its own openings, on every CPU when it returns.
    ///
    /// # Errors
    /// As [`Kernel::open_region`].
    pub(crate) fn open_globally(
        &mut self,
        domain: Ref<Domain>,
        region: Ref<Region>,
        rights: Rights,
    ) -> Result<(), Error> {
        let (mut previous, mut at) = (None, self.domains[domain].openings);
        while let Some(opening) = at.filter(|&opening| self.openings[opening].region != region) {
            (previous, at) = (Some(opening), self.openings[opening].next);
        }
        if at.is_none() && rights > Rights::NoAccess {
            self.check_openings(self.domains[domain].openings)?;
        }
        let replacement = if rights == Rights::NoAccess {
            None
        } else {
            Some(self.new_opening(domain, region, rights, true)?)
        };
        let rest = match at {
            Some(old) => self.drop_opening(domain, old).and_then(|old| old.next),
            None => None,
        };
        if let Some(new) = replacement {
            self.openings[new].next = rest;
        }
        let link = replacement.or(rest);
        match previous {
            None => self.domains[domain].openings = link,
            Some(previous) => self.openings[previous].next = link,
        }
        if self.derive_words_of(domain) {
            self.sync_cpus();
        }
        Ok(())
    }

    /// A region goes: so does what domains have open of it for all of their threads. There is no token by which they could
    /// close that themselves.
    pub(crate) fn drop_global_openings(&mut self, region: Ref<Region>) {
        for number in 0..self.domains.capacity() {
            if self.regions[region].opened_for_all == 0 {
                return;
            }
            let Some(domain) = self.domains.at_number(number) else { continue };
            let (mut previous, mut at) = (None, self.domains[domain].openings);
            while let Some(opening) = at {
                at = self.openings[opening].next;
                if self.openings[opening].region != region {
                    previous = Some(opening);
                    continue;
                }
                match previous {
                    None => self.domains[domain].openings = at,
                    Some(previous) => self.openings[previous].next = at,
                }
                self.drop_opening(domain, opening);
            }
        }
    }

    /// Ends all openings of a list of this domain's.
    pub(crate) fn drop_openings(&mut self, domain: Ref<Domain>, mut first: Option<Ref<Opening>>) {
        while let Some(opening) = first {
            first = self.drop_opening(domain, opening).and_then(|opening| opening.next);
        }
    }

    /// Narrows all openings of a region that a domain has to what it holds of it now. They stay so: what the domain is
    /// given later does not open by itself what was taken from it.
    pub(crate) fn narrow_openings(&mut self, region: Ref<Region>, owner: Owner, rights: Rights) {
        let Some(domain) = self.domains.at_number(owner.0) else { return };
        self.narrow_list(self.domains[domain].openings, region, rights);
        let mut next = self.domains[domain].homes.head;
        while let Some(thread) = next {
            let Thread { home, home_links, .. } = &self.threads[thread];
            next = home_links.next;
            self.narrow_list(home.openings, region, rights);
        }
        let mut next = self.domains[domain].activations.head;
        while let Some(activation) = next {
            let Activation { seat, domain_links, .. } = &self.activations[activation];
            next = domain_links.next;
            self.narrow_list(seat.openings, region, rights);
        }
    }

    /// Narrows all openings of a region in a list.
    fn narrow_list(&mut self, first: Option<Ref<Opening>>, region: Ref<Region>, rights: Rights) {
        let mut at = first;
        while let Some(opening) = at.and_then(|at| self.openings.get_mut(at)) {
            at = opening.next;
            if opening.region == region {
                opening.rights = opening.rights.min(rights);
            }
        }
    }

    /// The rights word that the books give a seat: key 0, the domain's own key, and what is open, each no further than
    /// the domain holds it now.
    pub(crate) fn derive_word(&self, seat: &Seat) -> Pkrs {
        let Some(domain) = self.domains.get(seat.domain) else { return Pkrs::DEFAULT };
        let mut word = Pkrs::DEFAULT;
        if let Some(key) = domain.key {
            word = word.with(key, Rights::ReadWrite);
        }
        for list in [domain.openings, seat.openings] {
            let mut at = list;
            while let Some(opening) = at.and_then(|at| self.openings.get(at)) {
                at = opening.next;
                let owner = Owner(seat.domain.number());
                let Some(facet) = self.facet_of(opening, owner) else { continue };
                let Facet { key, .. } = self.facets[facet];
                let held = self.held_by(facet, owner);
                if key > Pkey::KERNEL {
                    word = word.widened(key, opening.rights.min(held));
                }
            }
        }
        word
    }

    /// What the view of who has something open shows of it now: what it showed before, or what has come in its place.
    fn facet_of(&self, opening: &Opening, owner: Owner) -> Option<Ref<Facet>> {
        match self.facets.get(opening.facet) {
            Some(_) => Some(opening.facet),
            None => self.facet_for(opening.region, owner),
        }
    }

    /// Derives the word of the seat in which a thread is.
    pub(crate) fn recompute_word_of(&mut self, thread: Ref<Thread>) {
        let word = self.derive_word(self.seat(thread));
        self.seat_mut(thread).word = word;
    }

    /// Derives every recorded word of a view's domains. When it returns, no CPU runs a domain under an older one. What
    /// keys and classes a view has is nothing to the words of another.
    pub(crate) fn recompute_words(&mut self, view: Ref<View>) {
        let mut changed = false;
        let mut next = self.views[view].residents.head;
        while let Some(domain) = next {
            next = self.domains[domain].view_links.next;
            changed |= self.derive_words_of(domain);
        }
        if changed {
            self.sync_cpus();
        }
    }

    /// Derives every recorded word of a domain: of its threads, parked or running, and of all calls that it serves. Gives
    /// whether one changed; then CPUs may still run it under an older one.
    fn derive_words_of(&mut self, domain: Ref<Domain>) -> bool {
        let mut changed = false;
        let mut next = self.domains[domain].homes.head;
        while let Some(at) = next {
            let word = self.derive_word(&self.threads[at].home);
            let books = &mut self.threads[at];
            next = books.home_links.next;
            changed |= core::mem::replace(&mut books.home.word, word) != word;
        }
        let mut next = self.domains[domain].activations.head;
        while let Some(at) = next {
            let word = self.derive_word(&self.activations[at].seat);
            let books = &mut self.activations[at];
            next = books.domain_links.next;
            changed |= core::mem::replace(&mut books.seat.word, word) != word;
        }
        changed
    }

    /// The seat in which a thread is.
    pub(crate) fn seat(&self, thread: Ref<Thread>) -> &Seat {
        let thread = &self.threads[thread];
        thread.top.map_or(&thread.home, |top| &self.activations[top].seat)
    }

    /// The seat in which a thread is.
    pub(crate) fn seat_mut(&mut self, thread: Ref<Thread>) -> &mut Seat {
        let thread = &mut self.threads[thread];
        match thread.top {
            Some(top) => &mut self.activations[top].seat,
            None => &mut thread.home,
        }
    }
}
