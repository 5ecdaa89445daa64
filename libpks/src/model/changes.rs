//! What a step does.
#![forbid(unsafe_code)]

use super::{Access, After, Cap, Give, Key, Model, Opening, Region, Says, Step, Thread, View};
use alloc::vec::Vec;

impl Model {
    /// A step against which there was nothing to say has been done. [`Step::Lend`] is over then, and what faulted in
    /// [`Step::Touch`] is looked after.
    pub fn commit(&mut self, step: &Step) {
        match *step {
            Step::Spawn { domain } => {
                self.threads.push(Thread { domain, alive: true, openings: Vec::new() });
            }
            Step::Kill { thread } => self.kill(thread),
            Step::Create { domain, pages, key } => {
                self.regions.push(Region { alive: true, pages, closed: false, pin: key, value: 0 });
                self.add(domain, self.regions.len() - 1, Says::ALL, None);
            }
            Step::TakeKey => self.keys.push(Key { held: true }),
            Step::DropKey { key } => self.keys[key].held = false,
            Step::Rekey { cap, key } => {
                let region = self.caps[cap].region;
                (self.regions[region].pin, self.regions[region].closed) = (Some(key), false);
            }
            Step::Open { thread, cap, access } => {
                let region = self.caps[cap].region;
                self.regions[region].closed = false;
                self.threads[thread].openings.push(Opening { region, access, guarded: true });
            }
            Step::Close { thread, nth } => self.close(thread, nth),
            Step::Global { cap, access } => self.global(cap, access),
            Step::Mint { cap, says } => {
                let Cap { domain, region, .. } = self.caps[cap];
                self.add(domain, region, says, Some(cap));
            }
            Step::Delete { cap } => {
                self.caps[cap].alive = false;
                self.settle();
            }
            Step::Revoke { cap } => {
                for below in (0..self.caps.len()).filter(|&at| self.is_below(at, cap)).collect::<Vec<_>>() {
                    self.caps[below].alive = false;
                }
                self.settle();
            }
            Step::Give { cap, to, how } => self.give(cap, to, how),
            Step::Touch { thread, region, write, after } => self.touch(thread, region, write, after),
            Step::Restart { domain } => self.restart(domain),
            Step::Lend { .. } | Step::Migrate { .. } | Step::Nmi { .. } => {}
        }
    }

    fn add(&mut self, domain: usize, region: usize, says: Says, parent: Option<usize>) {
        self.caps.push(Cap { domain, region, says, parent, alive: true });
    }

    fn kill(&mut self, thread: usize) {
        self.threads[thread].alive = false;
        self.threads[thread].openings.clear();
    }

    fn close(&mut self, thread: usize, nth: usize) {
        let openings = &mut self.threads[thread].openings;
        let place = (0..openings.len()).filter(|&at| openings[at].guarded).nth(nth);
        place.map(|at| openings.remove(at));
    }

    fn global(&mut self, cap: usize, access: Access) {
        let Cap { domain, region, .. } = self.caps[cap];
        let openings = &mut self.domains[domain].openings;
        openings.retain(|opening| opening.region != region);
        if access != Access::Nothing {
            openings.push(Opening { region, access, guarded: false });
            self.regions[region].closed = false;
        }
    }

    fn give(&mut self, cap: usize, to: usize, how: Give) {
        let Cap { region, says, .. } = self.caps[cap];
        match how {
            Give::Copy => self.add(to, region, says, Some(cap)),
            Give::ReadOnly => self.add(to, region, Says { write: false, ..says }, Some(cap)),
            Give::Move => self.caps[cap].domain = to,
        }
        self.settle();
    }

    /// The first half of [`Step::Lend`]: the borrower has it. Gives the number of what it has.
    pub fn lend(&mut self, cap: usize, to: usize, read_only: bool) -> usize {
        let Cap { region, says, .. } = self.caps[cap];
        self.add(to, region, Says { write: says.write && !read_only, ..says }, Some(cap));
        self.caps.len() - 1
    }

    /// The other half: it has gone, and all that came of it.
    pub fn end_loan(&mut self, lent: usize) {
        self.caps[lent].alive = false;
        self.settle();
    }

    /// Something was written to the first word of a region. Gives what.
    pub fn next_value(&mut self) -> u64 {
        self.last_value += 1;
        self.last_value
    }

    fn touch(&mut self, thread: usize, region: usize, write: bool, after: After) {
        let wanted = if write { Access::Write } else { Access::Read };
        if View::of(self).may(thread, region) < wanted {
            match after {
                After::Kill => return self.kill(thread),
                After::Mend(_) => self.mend(thread, region, wanted),
            }
        }
        if write {
            self.regions[region].value = self.last_value;
        }
    }

    /// The first opening of the region is for this, any other for nothing; without one there is one more.
    fn mend(&mut self, thread: usize, region: usize, access: Access) {
        let openings = &mut self.threads[thread].openings;
        let mut own = openings.iter_mut().filter(|opening| opening.region == region);
        // The kernel's list has the newest first.
        match own.next_back() {
            Some(newest) => {
                newest.access = access;
                own.for_each(|older| older.access = Access::Nothing);
            }
            None => openings.push(Opening { region, access, guarded: false }),
        }
    }

    fn restart(&mut self, domain: usize) {
        for thread in (0..self.threads.len())
            .filter(|&thread| self.threads[thread].domain == domain)
            .collect::<Vec<_>>()
        {
            self.kill(thread);
        }
        for cap in self.caps.iter_mut().filter(|cap| cap.domain == domain) {
            cap.alive = false;
        }
        self.domains[domain].openings.clear();
        self.settle();
    }
}
