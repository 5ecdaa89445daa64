//! Who holds what, and what that lets a thread do.
#![forbid(unsafe_code)]

use super::{Access, Model, Opening};
use alloc::vec::Vec;

/// What makes two regions share a hardware key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Class {
    /// They were put under this key of the pool.
    Pinned(usize),
    /// These domains hold them for this, and nobody else.
    Held(Vec<(usize, Access)>),
}

/// The model with the classes of all regions worked out.
#[derive(Debug)]
pub struct View<'a> {
    model: &'a Model,
    /// By region; none for one that nobody reaches.
    pub classes: Vec<Option<Class>>,
}

impl<'a> View<'a> {
    /// Works them out.
    #[must_use]
    pub fn of(model: &'a Model) -> Self {
        let reached = |region: usize| model.regions[region].alive && !model.regions[region].closed;
        let class = |region: usize| reached(region).then(|| model.class(region));
        Self { model, classes: (0..model.regions.len()).map(class).collect() }
    }

    /// What a thread may do with a region. Its own domain's memory is open to it, and what shares a key with that; of
    /// the rest what it has open itself or all threads of its domain have, of this region or of one that shares the key.
    #[must_use]
    pub fn may(&self, thread: usize, region: usize) -> Access {
        let thread = &self.model.threads[thread];
        let Some(class) = &self.classes[region] else { return Access::Nothing };
        if *class == Model::own_class(thread.domain) {
            return Access::Write;
        }
        let openings = thread.openings.iter().chain(&self.model.domains[thread.domain].openings);
        let counts = |opening: &&Opening| self.classes[opening.region].as_ref() == Some(class);
        openings.filter(counts).map(|opening| opening.access).max().unwrap_or(Access::Nothing)
    }
}

impl Model {
    /// The most that a domain may do with a region by all of its capabilities together.
    #[must_use]
    pub fn held(&self, domain: usize, region: usize) -> Access {
        let own = self.caps.iter().filter(|cap| cap.alive && cap.domain == domain && cap.region == region);
        let (mut read, mut write) = (false, false);
        for cap in own {
            read |= cap.says.read;
            write |= cap.says.write;
        }
        match (read, write) {
            (true, true) => Access::Write,
            (true, false) => Access::Read,
            (false, _) => Access::Nothing,
        }
    }

    /// Who holds a region.
    #[must_use]
    pub fn holders(&self, region: usize) -> Vec<(usize, Access)> {
        (0..self.domains.len())
            .map(|domain| (domain, self.held(domain, region)))
            .filter(|(_, access)| *access != Access::Nothing)
            .collect()
    }

    /// The class of a region.
    #[must_use]
    pub fn class(&self, region: usize) -> Class {
        match self.regions[region].pin {
            Some(key) => Class::Pinned(key),
            None => Class::Held(self.holders(region)),
        }
    }

    /// The class of a domain's own memory.
    #[must_use]
    pub fn own_class(domain: usize) -> Class {
        Class::Held(alloc::vec![(domain, Access::Write)])
    }

    /// What was open of a region in a domain is open for no more than this from now on.
    pub(super) fn narrow_openings(&mut self, domain: usize, region: usize, most: Access) {
        let threads = self.threads.iter_mut().filter(|thread| thread.domain == domain);
        let lists = threads.map(|thread| &mut thread.openings);
        for list in lists.chain(self.domains.get_mut(domain).map(|domain| &mut domain.openings)) {
            for opening in list.iter_mut().filter(|opening| opening.region == region) {
                opening.access = opening.access.min(most);
            }
        }
    }

    /// Some capabilities have gone: what nobody names goes, and what is open shrinks.
    pub(super) fn settle(&mut self) {
        for region in 0..self.regions.len() {
            let named = self.caps.iter().any(|cap| cap.alive && cap.region == region);
            if !named {
                self.regions[region].alive = false;
            }
            for domain in 0..self.domains.len() {
                self.narrow_openings(domain, region, self.held(domain, region));
            }
        }
    }
}
