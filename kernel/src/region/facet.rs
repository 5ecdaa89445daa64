//! What a view shows of a region: its class and its key there, and who of the view's domains holds it.
//!
//! A view shows a region while one of its domains may reach it. Of those in other views that hold it too, it matters only
//! whether there are any: what a domain shares is not under the key of what it has for itself.

use super::{PooledKey, Region};
use crate::arch::protection;
use crate::mem::{self, PAGE, translations};
use crate::object::Ref;
use crate::state::Kernel;
use crate::view::View;
use heapless::Vec;
use libpks::abi::Error;
use libpks::cap::{ObjectKind, Owner};
use libpks::pkey::{Pkey, Rights};
use libpks::sharing::{Member, Spread};

/// The most domains whose rights change in one operation: who gives and who gets.
const MAX_EDITS: usize = 2;
/// Domains, each named once, and what they hold of a region from now on.
type Edits = Vec<(Owner, Rights), MAX_EDITS>;

/// A facet, and who of its view gets other rights.
type Edit = (Ref<Facet>, Edits);

/// What an operation means for one view.
struct Part {
    view: Ref<View>,
    /// What it shows of the region before.
    facet: Option<Ref<Facet>>,
    edits: Edits,
    /// Whether any domain of it holds the region afterwards.
    held: bool,
}

impl Part {
    /// The change of a facet that stays.
    fn edit(&self) -> Option<Edit> {
        self.facet.filter(|_| self.held).map(|facet| (facet, self.edits.clone()))
    }
}

/// A region in a view.
#[derive(Debug)]
pub(crate) struct Facet {
    pub(crate) view: Ref<View>,
    member: Member,
    /// The key that its pages carry there. While its class has none, that is the kernel's, and nobody reaches it.
    pub(crate) key: Pkey,
    /// Where that comes from, if somebody asked for one.
    pooled: Option<Ref<PooledKey>>,
    next: Option<Ref<Facet>>,
}

impl Kernel {
    /// All that views show of a region.
    fn facets_of(&self, region: Ref<Region>) -> impl Iterator<Item = Ref<Facet>> {
        let first = self.regions.get(region).and_then(|books| books.facets);
        core::iter::successors(first, |at| self.facets[*at].next)
    }

    /// What a view shows of a region.
    pub(crate) fn facet_in(&self, region: Ref<Region>, view: Ref<View>) -> Option<Ref<Facet>> {
        self.facets_of(region).find(|&at| self.facets[at].view == view)
    }

    /// What a domain's view shows of a region.
    pub(crate) fn facet_for(&self, region: Ref<Region>, owner: Owner) -> Option<Ref<Facet>> {
        self.facet_in(region, self.view_of(owner)?)
    }

    /// The most that a domain may do with a region.
    pub(crate) fn held(&self, region: Ref<Region>, owner: Owner) -> Rights {
        self.facet_for(region, owner).map_or(Rights::NoAccess, |at| self.held_by(at, owner))
    }

    /// The most that a domain of its view may do through a facet.
    pub(crate) fn held_by(&self, facet: Ref<Facet>, owner: Owner) -> Rights {
        self.sharing.rights(self.facets[facet].member.class(), owner)
    }

    /// Shows a new region to who made it, under a key of the pool if one is given.
    ///
    /// # Errors
    /// Those of making a region.
    pub(super) fn show_to_maker(
        &mut self,
        region: Ref<Region>,
        owner: Owner,
        pooled: Option<Ref<PooledKey>>,
    ) -> Result<(), Error> {
        let view = self.view_of(owner).ok_or(Error::Gone)?;
        let member = self.enter_class(view, owner, Rights::ReadWrite, Spread::OneView, pooled)?;
        self.add_facet(region, view, member, pooled)
    }

    /// Enters a region into a class of a view, in which this domain alone holds it.
    fn enter_class(
        &mut self,
        view: Ref<View>,
        owner: Owner,
        rights: Rights,
        spread: Spread,
        pooled: Option<Ref<PooledKey>>,
    ) -> Result<Member, Error> {
        let keys = &mut self.views[view].keys;
        let Some(pooled) = pooled else { return Ok(self.sharing.join(keys, owner, rights, spread)?) };
        let PooledKey { key, view: of, .. } = self.pooled_keys[pooled];
        if of != view {
            return Err(Error::InvalidArgument);
        }
        Ok(self.sharing.join_pinned(keys, owner, rights, key)?)
    }

    /// Shows a region in a view that did not.
    fn add_facet(
        &mut self,
        region: Ref<Region>,
        view: Ref<View>,
        mut member: Member,
        pooled: Option<Ref<PooledKey>>,
    ) -> Result<(), Error> {
        let key = self.map_class(view, &mut member).and_then(|key| {
            self.facets.reserve(1)?;
            self.show_pages(region, view, key).map(|()| key)
        });
        let key = match key {
            Ok(key) => key,
            Err(error) => {
                self.leave_class(view, member);
                return Err(error);
            }
        };
        if let Some(at) = pooled {
            self.pooled_keys[at].regions += 1;
        }
        let next = self.regions[region].facets;
        let facet = self.facets.insert(Facet { view, member, key, pooled, next })?;
        self.regions[region].facets = Some(facet);
        Ok(())
    }

    /// Shows the pages of a region in a view, all or none.
    fn show_pages(&mut self, region: Ref<Region>, view: Ref<View>, key: Pkey) -> Result<(), Error> {
        let Region { address, pages, .. } = self.regions[region];
        let tables = &mut self.views[view].tables;
        let shown = mem::with(|memory| {
            (0..pages).try_for_each(|page| tables.show_page(memory, address + page * PAGE, key))
        });
        shown.map_err(|_| {
            self.hide_pages(region, view);
            Error::OutOfMemory
        })
    }

    /// Takes the pages of a region out of a view, on every CPU.
    fn hide_pages(&mut self, region: Ref<Region>, view: Ref<View>) {
        let Region { address, pages, .. } = self.regions[region];
        self.views[view].tables.hide_pages(address, pages);
        self.invalidate(address, pages);
        if protection::in_force().has_roots() {
            let tables = &mut self.views[view].tables;
            mem::with(|memory| memory.release_tables(Some(tables), address, pages));
        }
    }

    /// A view shows a region no longer.
    pub(super) fn drop_facet(&mut self, region: Ref<Region>, at: Ref<Facet>) {
        let Some(Facet { next, view, .. }) = self.facets.get(at) else { return };
        let (next, view) = (*next, *view);
        self.hide_pages(region, view);
        let before = self.facets_of(region).find(|&before| self.facets[before].next == Some(at));
        match before {
            Some(before) => self.facets[before].next = next,
            None => self.regions[region].facets = next,
        }
        let Some(Facet { member, pooled, .. }) = self.facets.remove(at) else { return };
        self.recompute_words(view);
        self.leave_class(view, member);
        self.leave_pooled(pooled);
    }

    /// The key for the pages of a region that a view shows.
    fn map_class(&mut self, view: Ref<View>, member: &mut Member) -> Result<Pkey, Error> {
        let keys = &mut self.views[view].keys;
        let key = self.sharing.map(member, keys)?;
        translations::note_keys(keys);
        Ok(key)
    }

    /// A region leaves its class; a key that nothing is under any more goes back. No TLB has its pages any more.
    fn leave_class(&mut self, view: Ref<View>, member: Member) {
        if let Some(key) = self.sharing.leave(member, &mut self.views[view].keys) {
            self.release_key(view, key);
        }
    }

    /// A region is under a key of the pool no longer.
    fn leave_pooled(&mut self, pooled: Option<Ref<PooledKey>>) {
        if let Some(pooled) = pooled {
            self.pooled_keys[pooled].regions -= 1;
            self.drop_pooled_key_if_unused(pooled);
        }
    }

    /// Gives all pages of a region another key in a view, on every CPU.
    fn retag(&mut self, region: Ref<Region>, facet: Ref<Facet>, key: Pkey) {
        let Region { address, pages, .. } = self.regions[region];
        let Facet { view, key: old, .. } = self.facets[facet];
        if old == key {
            return;
        }
        self.views[view].tables.set_key(address, pages, key);
        self.facets[facet].key = key;
        self.invalidate(address, pages);
    }

    /// Gives the pages of a region a key again that was closed for want of one.
    ///
    /// # Errors
    /// `KeysExhausted`.
    pub(crate) fn open_facet(&mut self, region: Ref<Region>, facet: Ref<Facet>) -> Result<(), Error> {
        let Facet { view, member, .. } = &mut self.facets[facet];
        if member.is_mapped() {
            return Ok(());
        }
        let view = *view;
        let keys = &mut self.views[view].keys;
        let key = self.sharing.map(member, keys)?;
        translations::note_keys(keys);
        self.retag(region, facet, key);
        // Whoever had it open when it was closed for want of a key has it open again.
        self.recompute_words(view);
        Ok(())
    }

    /// Puts a region that only `owner` holds under a key of the pool.
    ///
    /// # Errors
    /// `Busy` if others hold it, or if the key is in use with other holders; `InvalidArgument` for a key of another
    /// view.
    pub(crate) fn rekey(
        &mut self,
        owner: Owner,
        region: Ref<Region>,
        pooled: Ref<PooledKey>,
    ) -> Result<(), Error> {
        let rights = self.caps.rights_to(owner, region.object(ObjectKind::Region)).access();
        let facet = self.facet_for(region, owner).ok_or(Error::MissingRights)?;
        let Facet { view, next, .. } = self.facets[facet];
        let class = self.facets[facet].member.class();
        let only = self.regions[region].facets == Some(facet) && next.is_none();
        if !only || self.sharing.holders(class).any(|(holder, _)| holder != owner) {
            return Err(Error::Busy);
        }
        let mut member = self.enter_class(view, owner, rights, Spread::OneView, Some(pooled))?;
        let key = match self.map_class(view, &mut member) {
            Ok(key) => key,
            Err(error) => {
                self.leave_class(view, member);
                return Err(error);
            }
        };
        self.pooled_keys[pooled].regions += 1;
        let old_member = core::mem::replace(&mut self.facets[facet].member, member);
        let old_pooled = self.facets[facet].pooled.replace(pooled);
        self.retag(region, facet, key);
        self.recompute_words(view);
        self.leave_class(view, old_member);
        self.leave_pooled(old_pooled);
        Ok(())
    }

    /// These domains, each named once, hold a region with at most these rights from now on; in a view the region may
    /// change its class and its key, come or go. Rights words follow.
    ///
    /// # Errors
    /// `KeysExhausted` if a new class needs a key and there is none; `Busy` for a region under a pooled key that
    /// others are under; `OutOfMemory`; `Gone` for a domain that is in no view. Nothing was changed then.
    pub(crate) fn set_holders(
        &mut self,
        region: Ref<Region>,
        holders: &[(Owner, Rights)],
    ) -> Result<(), Error> {
        let parts = self.parts(region, holders)?;
        let (first, before) = (self.regions[region].facets, self.facets_of(region).count());
        let come = parts.iter().filter(|part| part.held && part.facet.is_none()).count();
        let go = parts.iter().filter(|part| !part.held && part.facet.is_some()).count();
        let spread = if before + come - go > 1 { Spread::ManyViews } else { Spread::OneView };
        let mut changes: Vec<Edit, { MAX_EDITS + 1 }> = parts.iter().filter_map(Part::edit).collect();
        // Whoever had it in the only view until now is told that there is another.
        let only = first.filter(|_| before == 1 && spread == Spread::ManyViews);
        if let Some(only) = only.filter(|only| parts.iter().all(|part| part.facet != Some(*only))) {
            let _ = changes.push((only, Edits::new()));
        }
        // What can fail comes first, and what cannot fail takes it back.
        let mut shown = Vec::<Ref<View>, MAX_EDITS>::new();
        for part in parts.iter().filter(|part| part.held && part.facet.is_none()) {
            if let Err(error) = self.show_to_holders(region, part, spread) {
                self.hide_again(region, &shown);
                return Err(error);
            }
            let _ = shown.push(part.view);
        }
        if let Err(error) = self.change_facets(region, &changes, spread) {
            self.hide_again(region, &shown);
            return Err(error);
        }
        for facet in parts.iter().filter(|part| !part.held).filter_map(|part| part.facet) {
            self.drop_facet(region, facet);
        }
        if before > 1 && spread == Spread::OneView {
            // Those who are left need not know: without a key for what is theirs alone it stays as it is.
            let last = self.regions[region].facets;
            let _ = last.map(|facet| self.change_facet(region, facet, &[], spread));
        }
        Ok(())
    }

    /// Domains that get other rights to a region, by their views.
    fn parts(&self, region: Ref<Region>, edits: &[(Owner, Rights)]) -> Result<Vec<Part, MAX_EDITS>, Error> {
        let mut parts = Vec::<Part, MAX_EDITS>::new();
        for &edit in edits {
            let view = self.view_of(edit.0).ok_or(Error::Gone)?;
            match parts.iter_mut().find(|part| part.view == view) {
                Some(part) => drop(part.edits.push(edit)),
                None => {
                    let facet = self.facet_in(region, view);
                    let edits = [edit].into_iter().collect();
                    let _ = parts.push(Part { view, facet, edits, held: false });
                }
            }
        }
        for part in &mut parts {
            let edited = |holder: Owner| part.edits.iter().any(|&(owner, _)| owner == holder);
            let class = part.facet.map(|facet| self.facets[facet].member.class());
            let others = class.into_iter().flat_map(|class| self.sharing.holders(class));
            part.held = others.into_iter().any(|(holder, _)| !edited(holder))
                || part.edits.iter().any(|&(_, rights)| rights > Rights::NoAccess);
        }
        Ok(parts)
    }

    /// Shows a region in a view for the first of its domains that hold it.
    fn show_to_holders(&mut self, region: Ref<Region>, part: &Part, spread: Spread) -> Result<(), Error> {
        let mut member = None;
        for &holder in &part.edits {
            member = self.add_holder(part.view, member, holder, spread)?;
        }
        let Some(member) = member else { return Ok(()) };
        self.add_facet(region, part.view, member, None)?;
        // Who had it open here before, and lost it for a moment only, has it open again.
        self.recompute_words(part.view);
        Ok(())
    }

    /// Enters an unmapped region into the class of one holder more in a view, if that holds anything; no page and no
    /// rights word has to follow. An error takes it out of its class.
    fn add_holder(
        &mut self,
        view: Ref<View>,
        member: Option<Member>,
        (owner, rights): (Owner, Rights),
        spread: Spread,
    ) -> Result<Option<Member>, Error> {
        if rights == Rights::NoAccess {
            return Ok(member);
        }
        let keys = &mut self.views[view].keys;
        let Some(mut member) = member else {
            return Ok(Some(self.sharing.join(keys, owner, rights, spread)?));
        };
        match self.sharing.set_holder(&mut member, owner, Some(rights), keys) {
            Ok(_) => Ok(Some(member)),
            Err(error) => {
                self.leave_class(view, member);
                Err(error.into())
            }
        }
    }

    /// Takes back what was shown in vain.
    fn hide_again(&mut self, region: Ref<Region>, shown: &[Ref<View>]) {
        for &view in shown {
            if let Some(facet) = self.facet_in(region, view) {
                self.drop_facet(region, facet);
            }
        }
    }

    /// Changes facets of a region that stay, all or none.
    fn change_facets(&mut self, region: Ref<Region>, edits: &[Edit], spread: Spread) -> Result<(), Error> {
        let mut done = Vec::<(Edit, Spread), { MAX_EDITS + 1 }>::new();
        for (facet, edits) in edits {
            let held = edits.iter().map(|&(owner, _)| (owner, self.held_by(*facet, owner))).collect();
            let before = self.sharing.spread(self.facets[*facet].member.class()).unwrap_or(spread);
            if let Err(error) = self.change_facet(region, *facet, edits, spread) {
                for ((facet, held), spread) in done.into_iter().rev() {
                    // Back the way that it came, over books that there was room for a moment ago.
                    let undone = self.change_facet(region, facet, &held, spread);
                    debug_assert!(undone.is_ok());
                }
                return Err(error);
            }
            let _ = done.push(((*facet, held), before));
        }
        Ok(())
    }

    /// Domains of a view have other rights to a region that it shows before and after.
    fn change_facet(
        &mut self,
        region: Ref<Region>,
        facet: Ref<Facet>,
        edits: &[(Owner, Rights)],
        spread: Spread,
    ) -> Result<(), Error> {
        let Facet { view, member, .. } = &mut self.facets[facet];
        let view = *view;
        let keys = &mut self.views[view].keys;
        let change = self.sharing.set_holders(member, edits, spread, keys)?;
        translations::note_keys(keys);
        if let Some(key) = change.new_key {
            self.retag(region, facet, key);
        }
        self.recompute_words(view);
        if let Some(key) = change.freed {
            self.release_key(view, key);
        }
        Ok(())
    }

    /// What a domain holds of a region has shrunk. Where that needs a key and there is none, the region is closed for
    /// the domain's view until one is free: rights are never kept for want of a key.
    pub(crate) fn narrow_holder(&mut self, region: Ref<Region>, owner: Owner) {
        let Some(facet) = self.facet_for(region, owner) else { return };
        let object = region.object(ObjectKind::Region);
        let rights = self.caps.rights_to(owner, object).access();
        if self.held_by(facet, owner) <= rights {
            return;
        }
        self.narrow_openings(region, owner, rights);
        if self.set_holders(region, &[(owner, rights)]).is_ok() {
            return;
        }
        let address = self.regions[region].address;
        log::warn!(target: "pks", "region at {address:#x} is closed: its holders changed and no key is free for it");
        self.retag(region, facet, Pkey::KERNEL);
        self.recompute_words(self.facets[facet].view);
        if let Err(error) = self.move_to_class_of(facet, owner, rights) {
            // Not even room for the books: nobody holds it in them, so nobody can open it.
            log::error!(target: "pks", "region at {address:#x} stays closed: {error}");
        }
    }

    /// Takes a region that nobody of a view reaches out of its class there, and into the one of its holders as they are
    /// now, unmapped: it gets a key when it is opened next.
    fn move_to_class_of(&mut self, facet: Ref<Facet>, owner: Owner, rights: Rights) -> Result<(), Error> {
        let Facet { view, ref member, .. } = self.facets[facet];
        let class = member.class();
        let spread = self.sharing.spread(class).unwrap_or(Spread::OneView);
        let mut member = None;
        for number in 0..self.domains.capacity() {
            let holder = Owner(number);
            let held = if holder == owner { rights } else { self.sharing.rights(class, holder) };
            member = self.add_holder(view, member, (holder, held), spread)?;
        }
        // A facet without a holder would have been dropped.
        let Some(member) = member else { return Ok(()) };
        let old = core::mem::replace(&mut self.facets[facet].member, member);
        self.leave_class(view, old);
        let pooled = self.facets[facet].pooled.take();
        self.leave_pooled(pooled);
        Ok(())
    }
}
