//! How many hardware keys are in use, and who may be closed for want of one.
#![forbid(unsafe_code)]

use super::access::Class;
use super::{Access, Model, Step};
use alloc::vec::Vec;

impl Model {
    /// Keys that are in use: one for each domain but 0, one for each key out of the pool, and one for each class of
    /// regions that is no domain's own.
    #[must_use]
    pub fn keys_in_use(&self) -> usize {
        let domains = self.domains.iter().skip(1).filter(|domain| domain.alive).count();
        let under =
            |key: usize, region: usize| self.is_shown(region) && self.regions[region].pin == Some(key);
        let pinned = |key: usize| (0..self.regions.len()).any(|region| under(key, region));
        let pool = (0..self.keys.len()).filter(|&key| self.keys[key].held || pinned(key)).count();
        domains + pool + self.shared_classes().len()
    }

    /// Keys that are left.
    #[must_use]
    pub fn keys_left(&self) -> usize {
        self.hardware_keys.saturating_sub(self.keys_in_use())
    }

    /// The classes of open regions that need a key of their own.
    fn shared_classes(&self) -> Vec<Class> {
        let mut classes = Vec::new();
        for region in (0..self.regions.len()).filter(|&region| self.is_open(region)) {
            let class = self.class(region);
            let own = (0..self.domains.len())
                .any(|domain| self.domains[domain].alive && class == Self::own_class(domain));
            if !own && matches!(class, Class::Held(_)) && !classes.contains(&class) {
                classes.push(class);
            }
        }
        classes
    }

    /// Whether a region is shown to somebody, and not closed for want of a key: so it has a key.
    #[must_use]
    pub fn is_open(&self, region: usize) -> bool {
        self.is_shown(region) && !self.regions[region].closed
    }

    /// Whether anybody may reach a region; one that nobody may is mapped nowhere, and under no key.
    #[must_use]
    pub fn is_shown(&self, region: usize) -> bool {
        self.regions[region].alive && !self.holders(region).is_empty()
    }

    /// Whether more keys are in use than there are: the step that led here cannot be.
    #[must_use]
    pub(super) fn is_overdrawn(&self) -> bool {
        self.keys_in_use() > self.hardware_keys
    }

    /// How many other regions are under the same key of the pool.
    pub(super) fn pinned_beside(&self, region: usize) -> usize {
        let pin = self.regions[region].pin;
        let same =
            |other: &usize| *other != region && self.is_shown(*other) && self.regions[*other].pin == pin;
        if pin.is_none() { 0 } else { (0..self.regions.len()).filter(same).count() }
    }

    /// Takes in which regions nobody reaches any more after a step, `before` being the model as it was. One that gave a
    /// capability to another domain closes nothing: it is refused if there is no key for what comes of it. Gives a
    /// region that was closed without need: none of its holders lost anything, or there was a key for it; or one that
    /// became open by itself.
    ///
    /// # Errors
    /// The region.
    pub fn observe_closed(&mut self, before: &Self, step: &Step, closed: &[bool]) -> Result<(), usize> {
        let gave = matches!(step, Step::Give { .. });
        let lost = |region: usize| {
            (0..self.domains.len())
                .filter(|&domain| self.held(domain, region) < before.held(domain, region))
                .count()
        };
        let known = before.regions.len();
        let losses: Vec<usize> = (0..known).map(lost).collect();
        // Each loss may need one key more for as long as the step lasts.
        let total: usize = losses.iter().sum();
        for region in 0..self.regions.len() {
            if !self.is_shown(region) {
                (self.regions[region].closed, self.regions[region].pin) = (false, None);
            }
            let (now, then) = (closed[region], self.regions[region].closed);
            if !self.regions[region].alive || now == then {
                continue;
            }
            let pinned = region < known && before.pinned_beside(region) > 0;
            let scarce = before.keys_left() < total || self.keys_left() < 1;
            if then || gave || region >= known || losses[region] == 0 || !(pinned || scarce) {
                return Err(region);
            }
            (self.regions[region].closed, self.regions[region].pin) = (true, None);
        }
        if self.is_overdrawn() { Err(usize::MAX) } else { Ok(()) }
    }

    /// Whether a region is one that a domain may not open for this, whatever its capabilities say.
    pub(super) fn needs_key_to_open(&self, region: usize, access: Access) -> bool {
        let mut opened = self.clone();
        opened.regions[region].closed = false;
        access != Access::Nothing && self.regions[region].closed && opened.is_overdrawn()
    }
}
