//! The steps, carried out on the books.

use fastrand::Rng;
use libpks::abi::Error;
use libpks::cap::{CapRights, Capability, Progress};
use libpks::model::{Access, After, Model, Says, Step, View};
use libpks::pkey::Rights;
use libpks::sharing::Spread;

use super::{Machine, Opening, Region, cap_rights, object, owner, rights};

impl Machine {
    pub(in super::super) fn run(&mut self, model: &Model, step: &Step, rng: &mut Rng) -> Result<(), Error> {
        let home = |thread: usize| model.threads[thread].domain;
        let holder = |cap: usize| model.caps[cap].domain;
        let mut removed = Vec::new();
        match *step {
            Step::Spawn { domain } => self.threads.push((domain, Vec::new())),
            Step::Kill { thread } => self.threads[thread].1.clear(),
            Step::Create { domain, key, .. } => self.create(domain, key)?,
            Step::TakeKey => {
                let key = self.keys.allocate()?;
                self.pool.push((Some(key), true));
            }
            Step::DropKey { key } => {
                self.pool[key].1 = false;
                self.drop_unused_pins();
            }
            Step::Rekey { cap, key } => self.rekey(cap, key)?,
            Step::Open { thread, cap, access } => {
                let opening = self.open(home(thread), cap, access)?;
                self.threads[thread].1.push(opening);
            }
            Step::Close { thread, nth } => {
                let list = &mut self.threads[thread].1;
                let place = (0..list.len()).filter(|&at| list[at].guarded).nth(nth).unwrap();
                list.remove(place);
            }
            Step::Global { cap, access } => {
                let opening = self.open(holder(cap), cap, access)?;
                let list = &mut self.globals[holder(cap)];
                list.retain(|other| other.region != opening.region);
                list.push(opening);
            }
            Step::Mint { cap, says } => self.mint(holder(cap), cap, holder(cap), cap_rights(says))?,
            Step::Delete { cap } => {
                self.caps.delete(owner(holder(cap)), self.handles[cap], |removal| {
                    removed.push((removal.owner, *removal.capability));
                })?;
                self.look_after(&removed);
            }
            Step::Revoke { cap } => loop {
                // Whoever is more urgent gets in between; what is open must have shrunk with each piece.
                let budget = rng.u32(1..5);
                let progress =
                    self.caps.revoke_step(owner(holder(cap)), self.handles[cap], budget, |removal| {
                        removed.push((removal.owner, *removal.capability));
                    })?;
                self.look_after(&removed);
                removed.clear();
                self.nobody_exceeds_what_is_held();
                if progress == Progress::Done {
                    break;
                }
            },
            Step::Give { cap, to, how } => self.give(holder(cap), cap, to, how)?,
            Step::Restart { domain } => self.restart(domain),
            Step::Touch { thread, region, write, after: After::Mend(_) } => {
                self.mend(model, thread, region, if write { Access::Write } else { Access::Read });
            }
            Step::Touch { thread, region, write, after: After::Kill } => {
                let wanted = if write { Access::Write } else { Access::Read };
                if View::of(model).may(thread, region) < wanted {
                    self.threads[thread].1.clear();
                }
            }
            Step::Lend { .. } | Step::Migrate { .. } | Step::Nmi { .. } => {}
        }
        Ok(())
    }

    fn create(&mut self, domain: usize, key: Option<usize>) -> Result<(), Error> {
        let mut member = match key {
            Some(at) if !self.pool[at].1 => return Err(Error::NoSuchCapability),
            Some(at) => self.classes.join_pinned(
                &mut self.keys,
                owner(domain),
                Rights::ReadWrite,
                self.pool[at].0.unwrap(),
            )?,
            None => self.classes.join(&self.keys, owner(domain), Rights::ReadWrite, Spread::OneView)?,
        };
        let pages = self.classes.map(&mut member, &mut self.keys)?;
        let capability = Capability { object: object(self.made), rights: cap_rights(Says::ALL), badge: 0 };
        self.handles.push(self.caps.insert_root(owner(domain), capability)?);
        self.regions.insert(self.made, Region { member, key: pages, pin: key });
        self.made += 1;
        Ok(())
    }

    fn rekey(&mut self, cap: usize, key: usize) -> Result<(), Error> {
        let capability = *self.caps.lookup(owner(0), self.handles[cap])?;
        if !capability.rights.contains(CapRights::MANAGE) {
            return Err(Error::MissingRights);
        }
        if !self.pool[key].1 {
            return Err(Error::NoSuchCapability);
        }
        let region = capability.object.index as usize;
        let class = self.regions[&region].member.class();
        if self.classes.holders(class).next().is_none() {
            return Err(Error::MissingRights);
        }
        if self.classes.holders(class).any(|(holder, _)| holder != owner(0)) {
            return Err(Error::Busy);
        }
        let held = self.caps.rights_to(owner(0), capability.object).access();
        let mut member =
            self.classes.join_pinned(&mut self.keys, owner(0), held, self.pool[key].0.unwrap())?;
        let pages = self.classes.map(&mut member, &mut self.keys)?;
        let books = self.regions.get_mut(&region).unwrap();
        let old = std::mem::replace(books, Region { member, key: pages, pin: Some(key) });
        self.leave(old.member);
        Ok(())
    }

    fn restart(&mut self, domain: usize) {
        for (_, list) in self.threads.iter_mut().filter(|(home, _)| *home == domain) {
            list.clear();
        }
        loop {
            let mut removed = Vec::new();
            let progress = self.caps.delete_space_step(owner(domain), 3, |removal| {
                removed.push((removal.owner, *removal.capability));
            });
            self.look_after(&removed);
            if progress.unwrap() == Progress::Done {
                break;
            }
        }
        self.globals[domain].clear();
        let member = self.own[domain].0.take().unwrap();
        self.leave(member);
        self.caps.open_space(owner(domain), 1000).unwrap();
        self.own[domain] = self.own_memory(domain);
    }

    fn mend(&mut self, model: &Model, thread: usize, region: usize, wanted: Access) {
        if View::of(model).may(thread, region) >= wanted {
            return;
        }
        let list = &mut self.threads[thread].1;
        let mut own = list.iter_mut().filter(|opening| opening.region == region).rev();
        match own.next() {
            Some(newest) => {
                newest.rights = rights(wanted);
                own.for_each(|older| older.rights = Rights::NoAccess);
            }
            None => list.push(Opening { region, rights: rights(wanted), guarded: false }),
        }
    }
}
