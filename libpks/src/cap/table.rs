//! The operations of the capability table that take one step.
#![forbid(unsafe_code)]

use super::node::{Link, Node, Tenure};
use super::space::{Space, SpaceState};
use super::{CapError, CapRights, Capability, Cause, Handle, ObjectId, ObjectKind, Owner, Removal};
use crate::table::{Arena, ArenaError, Slot, Table, checked_index};

/// All capabilities of the system. `N` stores the nodes, `S` the spaces.
#[derive(Debug)]
pub struct CapTable<N, S> {
    pub(super) nodes: Arena<Node, N>,
    pub(super) spaces: S,
}

/// How many capabilities hang below one, as far as they were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Derived {
    /// Capabilities seen.
    pub count: u32,
    /// Whether these are all.
    pub complete: bool,
}

impl<N: Table<Slot<Node>>, S: Table<Space>> CapTable<N, S> {
    /// A table without capabilities over two empty tables.
    pub const fn new(nodes: N, spaces: S) -> Self {
        Self { nodes: Arena::new(nodes), spaces }
    }

    /// Opens the space of `owner`, for at most `limit` capabilities (see [`set_limit`](Self::set_limit)).
    ///
    /// The table of spaces is dense: `owner` is one that had a space before, or the next number.
    ///
    /// # Errors
    /// [`CapError::SpaceInUse`] if it is open or not empty yet, [`CapError::NoSuchSpace`] if `owner` leaves a
    /// gap, [`CapError::OutOfMemory`] if the table of spaces cannot grow.
    pub fn open_space(&mut self, owner: Owner, limit: u32) -> Result<(), CapError> {
        if owner.0 == self.spaces.len() {
            self.spaces.push(Space::CLOSED)?;
        }
        let space = self.spaces.get_mut(owner.0).ok_or(CapError::NoSuchSpace)?;
        if space.state != SpaceState::Closed {
            return Err(CapError::SpaceInUse);
        }
        *space = Space { state: SpaceState::Open, limit, ..Space::CLOSED };
        Ok(())
    }

    /// Changes how many capabilities `owner` may hold. Nothing is taken away if it holds more.
    ///
    /// The kernel charges the owner's memory quota for the limit, at two nodes a capability: dead nodes that
    /// hold a tree together are always fewer than the live ones.
    ///
    /// # Errors
    /// [`CapError::NoSuchSpace`].
    pub fn set_limit(&mut self, owner: Owner, limit: u32) -> Result<(), CapError> {
        self.open_mut(owner)?.limit = limit;
        Ok(())
    }

    /// How many capabilities `owner` holds.
    pub fn count(&self, owner: Owner) -> u32 {
        self.spaces.get(owner.0).map_or(0, |space| space.count)
    }

    /// How many nodes are in use: all capabilities, the dead nodes that hold a tree together, and loans that were
    /// dropped before their end.
    pub const fn nodes_in_use(&self) -> u32 {
        self.nodes.len()
    }

    /// How many nodes there is room for without growing.
    pub fn node_slots(&self) -> u32 {
        self.nodes.capacity()
    }

    /// Puts the first capability to an object into the space of `owner`.
    ///
    /// # Errors
    /// [`CapError::NoSuchSpace`], [`CapError::SpaceFull`], [`CapError::OutOfMemory`].
    pub fn insert_root(&mut self, owner: Owner, capability: Capability) -> Result<Handle, CapError> {
        self.insert(Node::new(owner, capability, Tenure::Kept), Link::NONE)
    }

    /// Puts the first capability to an object into the space of `owner`, below `parent`: the object is a part of what
    /// that names, and the capability goes when `parent` is revoked.
    ///
    /// # Errors
    /// As [`insert_root`](Self::insert_root); [`CapError::NoSuchCapability`]; [`CapError::Lent`] if `parent` is on loan,
    /// because what comes of it would outlive the loan.
    pub fn insert_below(
        &mut self,
        owner: Owner,
        parent: Handle,
        capability: Capability,
    ) -> Result<Handle, CapError> {
        if self.held(owner, parent)?.tenure == Tenure::Lent {
            return Err(CapError::Lent);
        }
        self.insert(Node::new(owner, capability, Tenure::Kept), Link::to(parent.id().index))
    }

    /// What `owner` holds as `handle`.
    ///
    /// # Errors
    /// [`CapError::NoSuchCapability`].
    pub fn lookup(&self, owner: Owner, handle: Handle) -> Result<&Capability, CapError> {
        Ok(&self.held(owner, handle)?.capability)
    }

    /// What `owner` holds as `handle`, provided that it names a `kind` and has all of `rights`.
    ///
    /// # Errors
    /// [`CapError::NoSuchCapability`], [`CapError::WrongKind`], [`CapError::MissingRights`].
    pub fn require(
        &self,
        owner: Owner,
        handle: Handle,
        kind: ObjectKind,
        rights: CapRights,
    ) -> Result<&Capability, CapError> {
        let capability = self.lookup(owner, handle)?;
        if capability.object.kind != kind {
            return Err(CapError::WrongKind);
        }
        if !capability.rights.contains(rights) {
            return Err(CapError::MissingRights);
        }
        Ok(capability)
    }

    /// Derives a capability from `handle` and puts it into the space of `to`.
    ///
    /// With all the source's rights and badge 0 it is a copy. A `badge` other than 0 is set if the source
    /// has none; 0 keeps the source's.
    ///
    /// # Errors
    /// [`CapError::NoSuchCapability`]; [`CapError::Lent`] if it is on loan; [`CapError::MissingRights`] if `to`
    /// is another space and the source lacks GRANT; [`CapError::RightsExceeded`]; [`CapError::AlreadyBadged`];
    /// [`CapError::NoSuchSpace`], [`CapError::SpaceFull`] for `to`; [`CapError::OutOfMemory`].
    pub fn mint(
        &mut self,
        owner: Owner,
        handle: Handle,
        to: Owner,
        rights: CapRights,
        badge: u64,
    ) -> Result<Handle, CapError> {
        let source = self.held(owner, handle)?;
        if source.tenure == Tenure::Lent {
            return Err(CapError::Lent);
        }
        if to != owner && !source.capability.rights.contains(CapRights::GRANT) {
            return Err(CapError::MissingRights);
        }
        let capability = derive(&source.capability, rights, badge)?;
        self.insert(Node::new(to, capability, Tenure::Kept), Link::to(handle.id().index))
    }

    /// Hands a capability over. It keeps its place in the derivation tree and what was derived from it.
    ///
    /// The loss is reported with [`Cause::Moved`]; moving to the same space changes nothing.
    ///
    /// # Errors
    /// [`CapError::NoSuchCapability`], [`CapError::Lent`], [`CapError::MissingRights`] without GRANT,
    /// [`CapError::NoSuchSpace`] and [`CapError::SpaceFull`] for `to`, [`CapError::Worn`].
    pub fn move_to(
        &mut self,
        owner: Owner,
        handle: Handle,
        to: Owner,
        mut removed: impl FnMut(Removal<'_>),
    ) -> Result<Handle, CapError> {
        let capability = self.check_move(owner, handle, to)?;
        if to == owner {
            return Ok(handle);
        }
        let id = self.nodes.renew(handle.id()).map_err(|error| match error {
            ArenaError::NoSuchEntry => CapError::NoSuchCapability,
            ArenaError::Worn => CapError::Worn,
        })?;
        self.leave_space(id.index);
        self.update(Link::to(id.index), |node| node.owner = to);
        self.enter_space(id.index);
        removed(Removal { owner, handle, capability: &capability, cause: Cause::Moved });
        Ok(Handle::from_id(id))
    }

    /// Checks that [`move_to`](Self::move_to) would do it, and gives what would be handed over.
    ///
    /// # Errors
    /// As [`move_to`](Self::move_to).
    pub fn check_move(&self, owner: Owner, handle: Handle, to: Owner) -> Result<Capability, CapError> {
        let node = self.held(owner, handle)?;
        if to == owner {
            return Ok(node.capability);
        }
        if node.tenure == Tenure::Lent {
            return Err(CapError::Lent);
        }
        if !node.capability.rights.contains(CapRights::GRANT) {
            return Err(CapError::MissingRights);
        }
        self.check_room(to, 1)?;
        if self.nodes.is_worn(handle.id()) { Err(CapError::Worn) } else { Ok(node.capability) }
    }

    /// Drops a capability. What was derived from it stays, now derived from what it came from.
    ///
    /// # Errors
    /// [`CapError::NoSuchCapability`].
    pub fn delete(
        &mut self,
        owner: Owner,
        handle: Handle,
        mut removed: impl FnMut(Removal<'_>),
    ) -> Result<(), CapError> {
        self.held(owner, handle)?;
        self.condemn(handle.id().index, Cause::Deleted, &mut removed);
        Ok(())
    }

    /// All that `owner` holds, what came last first.
    pub fn owned(&self, owner: Owner) -> impl Iterator<Item = (Handle, &Capability)> {
        let newest = self.spaces.get(owner.0).map_or(Link::NONE, |space| space.newest);
        let next = |index: &u32| self.nodes.at(*index)?.next_owned.get();
        core::iter::successors(newest.get(), next).filter_map(|index| {
            Some((Handle::from_id(self.nodes.id_at(index)?), &self.nodes.at(index)?.capability))
        })
    }

    /// The rights that all capabilities of `owner` to `object` give together; walks the whole space. A space that is
    /// being emptied gives none from the first step on, so that emptying it looks at each capability once.
    pub fn rights_to(&self, owner: Owner, object: ObjectId) -> CapRights {
        self.rights_without(owner, object, &[])
    }

    /// The same without those that these handles name.
    pub fn rights_without(&self, owner: Owner, object: ObjectId, without: &[Handle]) -> CapRights {
        if self.open(owner).is_err() {
            return CapRights::empty();
        }
        self.owned(owner)
            .filter(|(handle, capability)| capability.object == object && !without.contains(handle))
            .fold(CapRights::empty(), |all, (_, capability)| all | capability.rights)
    }

    /// Whether `owner` has `handle` on loan.
    ///
    /// # Errors
    /// [`CapError::NoSuchCapability`].
    pub fn is_lent(&self, owner: Owner, handle: Handle) -> Result<bool, CapError> {
        Ok(self.held(owner, handle)?.tenure == Tenure::Lent)
    }

    /// Counts the capabilities derived from `handle`, directly or not, looking at `budget` nodes at most.
    ///
    /// # Errors
    /// [`CapError::NoSuchCapability`].
    pub fn derived_count(&self, owner: Owner, handle: Handle, budget: u32) -> Result<Derived, CapError> {
        self.held(owner, handle)?;
        let top = handle.id().index;
        let mut count = 0;
        let mut at = top;
        for _ in 0..budget {
            let Some(next) = self.after(at, top) else {
                return Ok(Derived { count, complete: true });
            };
            at = next;
            count += u32::from(self.nodes.at(at).is_some_and(|node| node.tenure.is_held()));
        }
        Ok(Derived { count, complete: self.after(at, top).is_none() })
    }

    /// The node after `at`, in the order parent before children, in the tree below `top`.
    fn after(&self, at: u32, top: u32) -> Option<u32> {
        let node = self.nodes.at(at)?;
        if let Some(child) = node.first_child.get() {
            return Some(child);
        }
        let mut up = at;
        while up != top {
            let node = self.nodes.at(up)?;
            if let Some(next) = node.next.get() {
                return Some(next);
            }
            up = node.parent.get()?;
        }
        None
    }

    /// The live node that `owner` calls `handle`.
    pub(super) fn held(&self, owner: Owner, handle: Handle) -> Result<&Node, CapError> {
        self.open(owner)?;
        let node = self.nodes.get(handle.id()).ok_or(CapError::NoSuchCapability)?;
        if node.owner != owner || !node.tenure.is_held() {
            return Err(CapError::NoSuchCapability);
        }
        Ok(node)
    }

    pub(super) fn open(&self, owner: Owner) -> Result<&Space, CapError> {
        let index = checked_index(owner.0, self.spaces.len()).ok_or(CapError::NoSuchSpace)?;
        self.spaces.get(index).filter(|space| space.state == SpaceState::Open).ok_or(CapError::NoSuchSpace)
    }

    fn open_mut(&mut self, owner: Owner) -> Result<&mut Space, CapError> {
        self.open(owner)?;
        self.spaces.get_mut(owner.0).ok_or(CapError::NoSuchSpace)
    }

    /// Checks that `owner` may get so many more.
    ///
    /// # Errors
    /// [`CapError::NoSuchSpace`], [`CapError::SpaceFull`].
    pub fn check_room(&self, owner: Owner, more: u32) -> Result<(), CapError> {
        let space = self.open(owner)?;
        if space.count.saturating_add(more) > space.limit { Err(CapError::SpaceFull) } else { Ok(()) }
    }

    pub(super) fn insert(&mut self, node: Node, parent: Link) -> Result<Handle, CapError> {
        self.check_room(node.owner, 1)?;
        let id = self.nodes.insert(node)?;
        self.adopt(parent, id.index);
        self.enter_space(id.index);
        Ok(Handle::from_id(id))
    }
}

/// The capability that comes of `source` with `rights` and, if not 0, `badge`.
pub(super) fn derive(source: &Capability, rights: CapRights, badge: u64) -> Result<Capability, CapError> {
    if !source.rights.contains(rights) {
        return Err(CapError::RightsExceeded);
    }
    if badge != 0 && source.badge != 0 {
        return Err(CapError::AlreadyBadged);
    }
    Ok(Capability { object: source.object, rights, badge: source.badge | badge })
}
