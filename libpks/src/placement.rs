//! Which servers of a manifest are put into one view: those that call each other, as far as there is room. A call inside a
//! view loads no page tables.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

use crate::manifest::{Manifest, Tier};
/// The view of each server, by its place in the manifest: numbers from 0 on, where 0 is that of the first server, which
/// makes the others. No view has more than `room` servers, and none but one that has a view of its own.
///
/// Servers that call each other are put together, the manifest's first ones first; then what is together is put into as
/// few views as one finds by looking for the first with room.
#[must_use]
pub fn views(manifest: &Manifest, room: usize) -> Vec<usize> {
    let mut groups = Groups::new(manifest);
    for (caller, entry) in manifest.servers.iter().enumerate() {
        for used in &entry.uses {
            let provides = |provides: &Vec<_>| provides.contains(&used.endpoint);
            if let Some(server) = manifest.servers.iter().position(|other| provides(&other.provides)) {
                groups.join(caller, server, room);
            }
        }
    }
    groups.pack(room)
}

/// Servers that are together, as trees: each names one that it is with, the first of them itself.
struct Groups<'a> {
    manifest: &'a Manifest,
    with: Vec<usize>,
}

impl<'a> Groups<'a> {
    fn new(manifest: &'a Manifest) -> Self {
        Self { manifest, with: (0..manifest.servers.len()).collect() }
    }

    fn is_alone(&self, server: usize) -> bool {
        self.manifest.servers.get(server).is_some_and(|entry| entry.tier == Tier::OwnView)
    }

    /// The first of those that a server is with.
    fn first(&self, server: usize) -> usize {
        let mut at = server;
        while let Some(&with) = self.with.get(at).filter(|&&with| with != at) {
            at = with;
        }
        at
    }

    fn size(&self, first: usize) -> usize {
        (0..self.with.len()).filter(|&server| self.first(server) == first).count()
    }

    /// Puts two servers together, with all that they are with, if there is room.
    fn join(&mut self, one: usize, other: usize, room: usize) {
        let (one, other) = (self.first(one), self.first(other));
        let fits = self.size(one) + self.size(other) <= room;
        let apart = self.is_alone(one) || self.is_alone(other);
        if one == other || apart || !fits {
            return;
        }
        if let Some(with) = self.with.get_mut(one.max(other)) {
            *with = one.min(other);
        }
    }

    /// Puts groups into views, the first into the first with room.
    fn pack(&self, room: usize) -> Vec<usize> {
        let mut views = alloc::vec![0; self.with.len()];
        // By view: how many are in it, none in one that is not to have more.
        let mut left: Vec<usize> = Vec::new();
        for first in (0..self.with.len()).filter(|&server| self.first(server) == server) {
            let alone = self.is_alone(first);
            let size = self.size(first);
            let found = left.iter().position(|&left| !alone && left >= size);
            let view = found.unwrap_or(left.len());
            match left.get_mut(view) {
                Some(left) => *left -= size,
                None => left.push(if alone { 0 } else { room.saturating_sub(size) }),
            }
            for (server, place) in views.iter_mut().enumerate() {
                if self.first(server) == first {
                    *place = view;
                }
            }
        }
        views
    }
}
