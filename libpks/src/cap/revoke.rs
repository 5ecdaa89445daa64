//! Links of the derivation tree, and the operations that run over many nodes.
#![forbid(unsafe_code)]

use super::node::{Link, Node, Tenure};
use super::space::{Space, SpaceState};
use super::{CapError, CapTable, Cause, Handle, Owner, Removal};
use crate::table::{Slot, Table};

/// How far an operation with a budget came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an operation that is not done has to be called again"]
pub enum Progress {
    /// Nothing is left to do.
    Done,
    /// The budget ran out; call again.
    More,
}

impl<N: Table<Slot<Node>>, S: Table<Space>> CapTable<N, S> {
    /// Takes back what was derived from `handle`, directly or not, at most `budget` steps at a time. The
    /// capability itself stays.
    ///
    /// Between two steps the tree is sound: what is still there is still derived from what it was derived
    /// from, so a revoke may be left off, and other operations may run. Each capability costs two steps at
    /// most, and each loan that its borrower has dropped one. Somebody who can mint faster than the budget outruns it: let the budget be larger than the
    /// number of operations that get in between two steps.
    ///
    /// # Errors
    /// [`CapError::NoSuchCapability`], also when the capability itself went between two steps.
    pub fn revoke_step(
        &mut self,
        owner: Owner,
        handle: Handle,
        budget: u32,
        mut removed: impl FnMut(Removal<'_>),
    ) -> Result<Progress, CapError> {
        self.held(owner, handle)?;
        Ok(match self.prune(handle.id().index, budget, Cause::Revoked, &mut removed) {
            Some(_) => Progress::Done,
            None => Progress::More,
        })
    }

    /// Empties the space of `owner` and closes it, at most `budget` steps at a time.
    ///
    /// From the first call on the owner's handles are no longer good and nothing comes into the space. What
    /// others derived from its capabilities stays with them, as with [`delete`](Self::delete).
    ///
    /// # Errors
    /// [`CapError::NoSuchSpace`] if it is closed.
    pub fn delete_space_step(
        &mut self,
        owner: Owner,
        budget: u32,
        mut removed: impl FnMut(Removal<'_>),
    ) -> Result<Progress, CapError> {
        let space = self.spaces.get_mut(owner.0).ok_or(CapError::NoSuchSpace)?;
        if space.state == SpaceState::Closed {
            return Err(CapError::NoSuchSpace);
        }
        space.state = SpaceState::Closing;
        for _ in 0..budget {
            let Some(newest) = self.spaces.get(owner.0).and_then(|space| space.newest.get()) else {
                break;
            };
            self.condemn(newest, Cause::SpaceDeleted, &mut removed);
        }
        let space = self.spaces.get_mut(owner.0).ok_or(CapError::NoSuchSpace)?;
        if space.newest != Link::NONE {
            return Ok(Progress::More);
        }
        *space = Space::CLOSED;
        Ok(Progress::Done)
    }

    /// Removes everything below `top` in steps: what is left of the budget when it is all gone, else `None`.
    ///
    /// Always works on the first child. One that is held dies: without children it goes, an only child takes its
    /// place, and with more it stays as a dead node. Any other has its children moved up to `top` one by
    /// one, which takes no ancestor from them that anybody holds. So no step walks a list or descends.
    pub(super) fn prune(
        &mut self,
        top: u32,
        budget: u32,
        cause: Cause,
        removed: &mut dyn FnMut(Removal<'_>),
    ) -> Option<u32> {
        for left in (0..=budget).rev() {
            let Some(child) = self.nodes.at(top).and_then(|node| node.first_child.get()) else {
                return Some(left);
            };
            if left == 0 {
                break;
            }
            match self.nodes.at(child).map(|node| (node.tenure, node.first_child.get())) {
                Some((tenure, Some(grandchild))) if !tenure.is_held() => {
                    self.orphan(grandchild);
                    self.adopt(Link::to(top), grandchild);
                    match self.nodes.at(child).map(|node| node.first_child) {
                        Some(Link::NONE) => self.bury(child),
                        _ => self.shorten(child),
                    }
                }
                _ => self.condemn(child, cause, removed),
            }
        }
        None
    }

    /// Takes a node from its holder, if it has one, and out of the tree as far as its children allow.
    pub(super) fn condemn(&mut self, index: u32, cause: Cause, removed: &mut dyn FnMut(Removal<'_>)) {
        let (Some(id), Some(node)) = (self.nodes.id_at(index), self.nodes.at(index)) else { return };
        let (tenure, has_children) = (node.tenure, node.first_child != Link::NONE);
        if tenure.is_held() {
            let (owner, capability) = (node.owner, node.capability);
            self.leave_space(index);
            removed(Removal { owner, handle: Handle::from_id(id), capability: &capability, cause });
        }
        // What it lent on ends with its loan, whoever drops what meanwhile.
        let by_its_holder = matches!(cause, Cause::Deleted | Cause::SpaceDeleted);
        let stays = tenure == Tenure::Lent && has_children && by_its_holder;
        self.update(Link::to(index), |node| {
            node.tenure = if stays { Tenure::Dropped } else { Tenure::Dead };
        });
        if !has_children {
            self.bury(index);
        } else if !stays {
            self.shorten(index);
        }
    }

    /// Takes out a node that nobody holds and that has no children.
    fn bury(&mut self, index: u32) {
        let (Some(id), Some(node)) = (self.nodes.id_at(index), self.nodes.at(index)) else { return };
        let parent = node.parent;
        self.orphan(index);
        self.nodes.remove(id);
        // A dead parent had two children or more, so it has one at least: this does not go on upwards.
        if let Some(parent) = parent.get() {
            self.shorten(parent);
        }
    }

    /// If `index` is dead and has exactly one child, puts that child in its place.
    fn shorten(&mut self, index: u32) {
        let Some(id) = self.nodes.id_at(index) else { return };
        let Some(node) = self.nodes.get(id) else { return };
        let (tenure, parent, prev, next, only) =
            (node.tenure, node.parent, node.prev, node.next, node.first_child);
        let siblings = only.get().and_then(|child| self.nodes.at(child)).map(|child| child.next);
        if tenure != Tenure::Dead || siblings != Some(Link::NONE) {
            return;
        }
        self.update(only, |child| (child.parent, child.prev, child.next) = (parent, prev, next));
        self.update(next, |node| node.prev = only);
        match prev {
            Link::NONE => self.update(parent, |node| node.first_child = only),
            _ => self.update(prev, |node| node.next = only),
        }
        self.nodes.remove(id);
    }

    /// Makes `child`, which has no parent, the first child of `parent`, if that is a node.
    pub(super) fn adopt(&mut self, parent: Link, child: u32) {
        let Some(next) = parent.get().and_then(|index| self.nodes.at(index)).map(|node| node.first_child)
        else {
            return;
        };
        self.update(Link::to(child), |node| (node.parent, node.prev, node.next) = (parent, Link::NONE, next));
        self.update(next, |node| node.prev = Link::to(child));
        self.update(parent, |node| node.first_child = Link::to(child));
    }

    /// Takes `child` from its parent, if it has one.
    fn orphan(&mut self, child: u32) {
        let Some(node) = self.nodes.at_mut(child) else { return };
        let (parent, prev, next) = (node.parent, node.prev, node.next);
        (node.parent, node.prev, node.next) = (Link::NONE, Link::NONE, Link::NONE);
        self.update(next, |node| node.prev = prev);
        match prev {
            Link::NONE => self.update(parent, |node| node.first_child = next),
            _ => self.update(prev, |node| node.next = next),
        }
    }

    /// Puts a node into the list of its owner.
    pub(super) fn enter_space(&mut self, index: u32) {
        let Some(owner) = self.nodes.at(index).map(|node| node.owner) else { return };
        let Some(space) = self.spaces.get_mut(owner.0) else { return };
        let next = core::mem::replace(&mut space.newest, Link::to(index));
        space.count += 1;
        self.update(Link::to(index), |node| (node.prev_owned, node.next_owned) = (Link::NONE, next));
        self.update(next, |node| node.prev_owned = Link::to(index));
    }

    /// Takes a node out of the list of its owner.
    pub(super) fn leave_space(&mut self, index: u32) {
        let Some(node) = self.nodes.at_mut(index) else { return };
        let (owner, prev, next) = (node.owner, node.prev_owned, node.next_owned);
        (node.prev_owned, node.next_owned) = (Link::NONE, Link::NONE);
        if let Some(space) = self.spaces.get_mut(owner.0) {
            space.count -= 1;
            if prev == Link::NONE {
                space.newest = next;
            }
        }
        self.update(next, |node| node.prev_owned = prev);
        self.update(prev, |node| node.next_owned = next);
    }

    /// Changes the node that `link` points to; does nothing for a link to none.
    pub(super) fn update(&mut self, link: Link, change: impl FnOnce(&mut Node)) {
        if let Some(node) = link.get().and_then(|index| self.nodes.at_mut(index)) {
            change(node);
        }
    }
}
