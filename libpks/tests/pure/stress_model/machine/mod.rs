//! The kernel in miniature: capability table, sharing classes and key allocator put together as the kernel does.

mod steps;

use std::collections::HashMap;

use libpks::abi::Error;
use libpks::cap::{CapRights, CapTable, Capability, Handle, Loan, Node, ObjectId, ObjectKind, Owner, Space};
use libpks::model::{Access, Give, Model, Says, View};
use libpks::pkey::{Pkey, Pkrs, Rights};
use libpks::sharing::{Class, Holder, Member, Sharing, Spread, ViewKeys};
use libpks::table::Slot;

type Caps = CapTable<Vec<Slot<Node>>, Vec<Space>>;
type Classes = Sharing<Vec<Slot<Class>>, Vec<Slot<Holder>>>;

pub(super) struct Region {
    member: Member,
    /// The kernel's while its class has none.
    pub(super) key: Pkey,
    pin: Option<usize>,
}

#[derive(Clone, Copy)]
pub(super) struct Opening {
    pub(super) region: usize,
    rights: Rights,
    guarded: bool,
}

/// The books.
pub(super) struct Machine {
    pub(super) caps: Caps,
    classes: Classes,
    keys: ViewKeys,
    own: Vec<(Option<Member>, Pkey)>,
    pub(super) regions: HashMap<usize, Region>,
    pool: Vec<(Option<Pkey>, bool)>,
    threads: Vec<(usize, Vec<Opening>)>,
    pub(super) globals: Vec<Vec<Opening>>,
    /// By the model's numbers.
    handles: Vec<Handle>,
    made: usize,
}

fn object(region: usize) -> ObjectId {
    ObjectId { kind: ObjectKind::Region, index: region as u32, generation: 1 }
}

fn owner(domain: usize) -> Owner {
    Owner(domain as u32)
}

fn rights(access: Access) -> Rights {
    match access {
        Access::Nothing => Rights::NoAccess,
        Access::Read => Rights::ReadOnly,
        Access::Write => Rights::ReadWrite,
    }
}

fn cap_rights(says: Says) -> CapRights {
    let mut rights = CapRights::empty();
    rights.set(CapRights::READ, says.read);
    rights.set(CapRights::WRITE, says.write);
    rights.set(CapRights::GRANT, says.grant);
    rights.set(CapRights::MANAGE, says.manage);
    rights
}

impl Machine {
    /// So many domains, and so many keys left besides their own.
    pub(super) fn new(domains: usize, spare: usize) -> Self {
        let mut machine = Self {
            caps: Caps::new(Vec::new(), Vec::new()),
            classes: Classes::new(Vec::new(), Vec::new()),
            keys: ViewKeys::new(0),
            own: Vec::new(),
            regions: HashMap::new(),
            pool: Vec::new(),
            threads: Vec::new(),
            globals: vec![Vec::new(); domains],
            handles: Vec::new(),
            made: 0,
        };
        while usize::from(machine.keys.available()) > domains + spare {
            machine.keys.allocate().unwrap();
        }
        for domain in 0..domains {
            machine.caps.open_space(owner(domain), 1000).unwrap();
            let own = machine.own_memory(domain);
            machine.own.push(own);
        }
        machine
    }

    fn own_memory(&mut self, domain: usize) -> (Option<Member>, Pkey) {
        let mut member =
            self.classes.join(&self.keys, owner(domain), Rights::ReadWrite, Spread::OneView).unwrap();
        let key = self.classes.map(&mut member, &mut self.keys).unwrap();
        (Some(member), key)
    }

    fn set_holder(&mut self, region: usize, to: usize, rights: Rights) -> Result<(), Error> {
        self.set_holders(region, &[(owner(to), rights)])
    }

    fn set_holders(&mut self, region: usize, edits: &[(Owner, Rights)]) -> Result<(), Error> {
        let books = self.regions.get_mut(&region).unwrap();
        let edited = |holder: Owner| edits.iter().any(|&(owner, _)| owner == holder);
        let mut others = self.classes.holders(books.member.class());
        if !others.any(|(holder, _)| !edited(holder)) && edits.iter().all(|edit| edit.1 == Rights::NoAccess) {
            drop(others);
            // Shown to nobody any more.
            let nobody = self.classes.join(&self.keys, edits[0].0, Rights::NoAccess, Spread::OneView)?;
            let old = std::mem::replace(&mut books.member, nobody);
            (books.key, books.pin) = (Pkey::KERNEL, None);
            self.leave(old);
            return Ok(());
        }
        drop(others);
        let change = self.classes.set_holders(&mut books.member, edits, Spread::OneView, &mut self.keys)?;
        if let Some(key) = change.new_key {
            books.key = key;
        }
        if let Some(key) = change.freed {
            self.keys.release(key).unwrap();
        }
        Ok(())
    }

    fn widen(&mut self, region: usize, to: usize, more: CapRights) -> Result<(), Error> {
        let Some(books) = self.regions.get(&region) else { return Err(Error::Gone) };
        let wanted = (self.caps.rights_to(owner(to), object(region)) | more).access();
        if wanted > self.classes.rights(books.member.class(), owner(to)) {
            return self.set_holder(region, to, wanted);
        }
        Ok(())
    }

    fn narrow(&mut self, region: usize, domain: usize) {
        let Some(books) = self.regions.get(&region) else { return };
        let held = self.caps.rights_to(owner(domain), object(region)).access();
        if self.classes.rights(books.member.class(), owner(domain)) <= held {
            return;
        }
        self.narrow_openings(region, domain, held);
        if self.set_holder(region, domain, held).is_err() {
            self.close(region, domain, held);
        }
    }

    fn narrow_openings(&mut self, region: usize, domain: usize, held: Rights) {
        let threads = self.threads.iter_mut().filter(|(home, _)| *home == domain).map(|(_, list)| list);
        for opening in threads.chain([&mut self.globals[domain]]).flatten() {
            if opening.region == region {
                opening.rights = opening.rights.min(held);
            }
        }
    }

    /// Closed for want of a key: into the class of its holders, unmapped.
    fn close(&mut self, region: usize, changed: usize, held: Rights) {
        let class = self.regions[&region].member.class();
        let mut holders: Vec<(Owner, Rights)> = self.classes.holders(class).collect();
        holders.retain(|(holder, _)| *holder != owner(changed));
        holders.push((owner(changed), held));
        holders.retain(|(_, rights)| *rights > Rights::NoAccess);
        let (first, rights) = holders.first().copied().unwrap_or((owner(changed), Rights::NoAccess));
        let mut member = self.classes.join(&self.keys, first, rights, Spread::OneView).unwrap();
        for (holder, rights) in holders.into_iter().skip(1) {
            let _ = self.classes.set_holder(&mut member, holder, Some(rights), &mut self.keys).unwrap();
        }
        let books = self.regions.get_mut(&region).unwrap();
        let old = std::mem::replace(&mut books.member, member);
        (books.key, books.pin) = (Pkey::KERNEL, None);
        self.leave(old);
    }

    fn leave(&mut self, member: Member) {
        if let Some(key) = self.classes.leave(member, &mut self.keys) {
            self.keys.release(key).unwrap();
        }
        self.drop_unused_pins();
    }

    fn drop_unused_pins(&mut self) {
        for (at, (key, held)) in self.pool.iter_mut().enumerate() {
            let pinned = self.regions.values().any(|region| region.pin == Some(at));
            if let Some(unused) = key.take_if(|_| !*held && !pinned) {
                self.keys.release(unused).unwrap();
            }
        }
    }

    pub(super) fn look_after(&mut self, removed: &[(Owner, Capability)]) {
        for (_, capability) in removed {
            let region = capability.object.index as usize;
            let named = (0..self.own.len())
                .any(|domain| self.caps.owned(owner(domain)).any(|(_, cap)| cap.object == capability.object));
            if !named && let Some(books) = self.regions.remove(&region) {
                self.leave(books.member);
            }
        }
        for (domain, capability) in removed {
            self.narrow(capability.object.index as usize, domain.0 as usize);
        }
    }

    fn mint(&mut self, from: usize, cap: usize, to: usize, rights: CapRights) -> Result<(), Error> {
        let source = *self.caps.lookup(owner(from), self.handles[cap])?;
        let region = source.object.index as usize;
        self.widen(region, to, rights & source.rights)?;
        match self.caps.mint(owner(from), self.handles[cap], owner(to), rights, 0) {
            Ok(handle) => {
                self.handles.push(handle);
                Ok(())
            }
            Err(error) => {
                self.narrow(region, to);
                Err(error.into())
            }
        }
    }

    pub(super) fn open(&mut self, domain: usize, cap: usize, access: Access) -> Result<Opening, Error> {
        let capability = *self.caps.lookup(owner(domain), self.handles[cap])?;
        let (region, wanted) = (capability.object.index as usize, rights(access));
        if wanted > capability.rights.access() {
            return Err(Error::RightsExceeded);
        }
        let books = self.regions.get_mut(&region).unwrap();
        if wanted > Rights::NoAccess && !books.member.is_mapped() {
            books.key = self.classes.map(&mut books.member, &mut self.keys)?;
        }
        Ok(Opening { region, rights: wanted, guarded: true })
    }

    fn give(&mut self, from: usize, cap: usize, to: usize, how: Give) -> Result<(), Error> {
        let source = *self.caps.lookup(owner(from), self.handles[cap])?;
        if !source.rights.contains(CapRights::GRANT) {
            return Err(Error::MissingRights);
        }
        match how {
            Give::Copy => self.mint(from, cap, to, source.rights),
            Give::ReadOnly => self.mint(from, cap, to, source.rights - CapRights::WRITE),
            Give::Move => {
                let region = source.object.index as usize;
                self.shift(region, from, cap, to)?;
                self.handles[cap] = self.caps.move_to(owner(from), self.handles[cap], owner(to), |_| {})?;
                Ok(())
            }
        }
    }

    /// Makes the receiver of what is handed over a holder in its sender's place.
    fn shift(&mut self, region: usize, from: usize, cap: usize, to: usize) -> Result<(), Error> {
        let handle = self.handles[cap];
        let source = *self.caps.lookup(owner(from), handle)?;
        let keeps = self.caps.rights_without(owner(from), source.object, &[handle]).access();
        let gains = (self.caps.rights_to(owner(to), source.object) | source.rights).access();
        self.set_holders(region, &[(owner(from), keeps), (owner(to), gains)])?;
        self.narrow_openings(region, from, keeps);
        Ok(())
    }

    pub(super) fn lend(&mut self, cap: usize, to: usize, read_only: bool) -> Result<Loan, Error> {
        let source = *self.caps.lookup(owner(0), self.handles[cap])?;
        if !source.rights.contains(CapRights::GRANT) {
            return Err(Error::MissingRights);
        }
        let rights = if read_only { source.rights - CapRights::WRITE } else { source.rights };
        self.widen(source.object.index as usize, to, rights)?;
        let (handle, loan) = self.caps.lend(owner(0), self.handles[cap], owner(to), rights)?;
        self.handles.push(handle);
        Ok(loan)
    }

    /// Whether a region that somebody holds is closed for all of them.
    pub(super) fn is_closed(&self, region: usize) -> bool {
        self.regions.get(&region).is_some_and(|books| {
            books.key == Pkey::KERNEL && self.classes.holders(books.member.class()).next().is_some()
        })
    }

    /// The word that the books give a thread, as the kernel derives it.
    fn word(&self, thread: usize) -> Pkrs {
        let (domain, list) = &self.threads[thread];
        let mut word = Pkrs::DEFAULT.with(self.own[*domain].1, Rights::ReadWrite);
        for opening in self.globals[*domain].iter().chain(list) {
            let Some(region) = self.regions.get(&opening.region) else { continue };
            let held = self.classes.rights(region.member.class(), owner(*domain));
            let rights = opening.rights.min(held).max(word.rights(region.key));
            if region.key > Pkey::KERNEL {
                word = word.with(region.key, rights);
            }
        }
        word
    }

    pub(super) fn nobody_exceeds_what_is_held(&self) {
        let threads = self.threads.iter().map(|(home, list)| (*home, list));
        for (home, list) in threads.chain(self.globals.iter().enumerate()) {
            for opening in list.iter().filter(|opening| self.regions.contains_key(&opening.region)) {
                let held = self.caps.rights_to(owner(home), object(opening.region)).access();
                assert!(opening.rights <= held);
            }
        }
    }

    pub(super) fn compare(&self, model: &Model) {
        let view = View::of(model);
        for region in 0..model.regions.len() {
            assert_eq!(self.regions.contains_key(&region), model.regions[region].alive, "region {region}");
        }
        for thread in (0..model.threads.len()).filter(|&thread| model.threads[thread].alive) {
            let word = self.word(thread);
            for (region, books) in &self.regions {
                let expected = rights(view.may(thread, *region));
                assert_eq!(word.rights(books.key), expected, "thread {thread}, region {region}");
            }
        }
        assert_eq!(usize::from(self.keys.available()), model.keys_left(), "keys left");
    }
}
