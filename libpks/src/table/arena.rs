//! A slab with generations over any [`Table`].
#![forbid(unsafe_code)]

use core::marker::PhantomData;

use super::{OutOfMemory, Table, checked_index};

/// End of the list of free slots.
const NONE: u32 = u32::MAX;

/// Names one value that was put into an [`Arena`]; never names another one later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Slot in the arena.
    pub index: u32,
    /// Which of the slot's values; the first is 1, so that an all-zero id is never valid.
    pub generation: u32,
}

/// One entry of the table under an [`Arena`].
#[derive(Debug)]
pub struct Slot<T> {
    generation: u32,
    content: Content<T>,
}

#[derive(Debug)]
enum Content<T> {
    Occupied(T),
    Free { next: u32 },
    Retired,
}

/// Why a value could not be given a new id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArenaError {
    /// No value has this id.
    #[error("no such entry")]
    NoSuchEntry,
    /// The slot has used up its generations.
    #[error("entry has used up its generations")]
    Worn,
}

/// A growable set of values with stable ids.
///
/// A removed slot is used again under the next generation. A slot whose generation reached `u32::MAX` is
/// retired instead, so an id that went stale stays stale for ever.
#[derive(Debug)]
pub struct Arena<T, S> {
    slots: S,
    free: u32,
    live: u32,
    /// Length of the list of free slots.
    spare: u32,
    value: PhantomData<T>,
}

impl<T, S: Table<Slot<T>>> Arena<T, S> {
    /// An arena over an empty table.
    pub const fn new(slots: S) -> Self {
        Self { slots, free: NONE, live: 0, spare: 0, value: PhantomData }
    }

    /// The table under the arena.
    pub const fn table(&self) -> &S {
        &self.slots
    }

    /// Number of values.
    pub const fn len(&self) -> u32 {
        self.live
    }

    /// Whether the arena holds no value.
    pub const fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Number of slots ever made, which bounds every index.
    pub fn capacity(&self) -> u32 {
        self.slots.len()
    }

    /// Puts `value` into a free slot, or into a new one.
    ///
    /// # Errors
    /// [`OutOfMemory`] when no slot is free and the table cannot grow.
    pub fn insert(&mut self, value: T) -> Result<Id, OutOfMemory> {
        let id = match self.slots.get_mut(self.free) {
            Some(slot) if self.free != NONE => {
                let index = self.free;
                if let Content::Free { next } = slot.content {
                    self.free = next;
                    self.spare -= 1;
                }
                slot.content = Content::Occupied(value);
                Id { index, generation: slot.generation }
            }
            _ => {
                // The last index marks the end of the list.
                if self.slots.len() == NONE {
                    return Err(OutOfMemory);
                }
                let index = self.slots.push(Slot { generation: 1, content: Content::Occupied(value) })?;
                Id { index, generation: 1 }
            }
        };
        self.live += 1;
        Ok(id)
    }

    /// Makes sure that the next `count` calls of [`insert`](Self::insert) find a slot, for values that must not
    /// be lost then.
    ///
    /// # Errors
    /// [`OutOfMemory`] when there are not so many free slots and the table cannot grow; those that could be
    /// made stay.
    pub fn reserve(&mut self, count: u32) -> Result<(), OutOfMemory> {
        while self.spare < count {
            if self.slots.len() == NONE {
                return Err(OutOfMemory);
            }
            let free = Slot { generation: 1, content: Content::Free { next: self.free } };
            self.free = self.slots.push(free)?;
            self.spare += 1;
        }
        Ok(())
    }

    /// Takes the value `id` out; `None` if there is none.
    pub fn remove(&mut self, id: Id) -> Option<T> {
        self.get(id)?;
        let free = self.free;
        let slot = self.slots.get_mut(id.index)?;
        let content = match slot.generation.checked_add(1) {
            Some(generation) => {
                slot.generation = generation;
                self.free = id.index;
                self.spare += 1;
                Content::Free { next: free }
            }
            None => Content::Retired,
        };
        self.live -= 1;
        match core::mem::replace(&mut slot.content, content) {
            Content::Occupied(value) => Some(value),
            Content::Free { .. } | Content::Retired => None,
        }
    }

    /// Gives the value `id` its slot's next generation, so that the old id goes stale.
    ///
    /// # Errors
    /// [`ArenaError::NoSuchEntry`], or [`ArenaError::Worn`] if there is no next generation (the old id then
    /// stays good).
    pub fn renew(&mut self, id: Id) -> Result<Id, ArenaError> {
        self.get(id).ok_or(ArenaError::NoSuchEntry)?;
        let slot = self.slots.get_mut(id.index).ok_or(ArenaError::NoSuchEntry)?;
        slot.generation = slot.generation.checked_add(1).ok_or(ArenaError::Worn)?;
        Ok(Id { index: id.index, generation: slot.generation })
    }

    /// Whether [`renew`](Self::renew) finds no further generation for the value `id`.
    pub fn is_worn(&self, id: Id) -> bool {
        self.get(id).is_some() && id.generation == u32::MAX
    }

    /// The value `id`, or `None` if it is stale or made up.
    pub fn get(&self, id: Id) -> Option<&T> {
        let slot = self.slots.get(checked_index(id.index, self.slots.len())?)?;
        match &slot.content {
            Content::Occupied(value) if slot.generation == id.generation => Some(value),
            _ => None,
        }
    }

    /// The value `id` for changing, or `None` if it is stale or made up.
    pub fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        let index = checked_index(id.index, self.slots.len())?;
        let slot = self.slots.get_mut(index)?;
        match &mut slot.content {
            Content::Occupied(value) if slot.generation == id.generation => Some(value),
            _ => None,
        }
    }

    /// The id of the value that slot `index` holds now. For indices from the owner's own books.
    pub fn id_at(&self, index: u32) -> Option<Id> {
        let slot = self.slots.get(index)?;
        matches!(slot.content, Content::Occupied(_)).then_some(Id { index, generation: slot.generation })
    }

    /// The value that slot `index` holds now. For indices from the owner's own books.
    pub fn at(&self, index: u32) -> Option<&T> {
        match &self.slots.get(index)?.content {
            Content::Occupied(value) => Some(value),
            Content::Free { .. } | Content::Retired => None,
        }
    }

    /// The value that slot `index` holds now, for changing.
    pub fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        match &mut self.slots.get_mut(index)?.content {
            Content::Occupied(value) => Some(value),
            Content::Free { .. } | Content::Retired => None,
        }
    }

    /// All values with their ids, by index.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        (0..self.slots.len()).filter_map(|index| Some((self.id_at(index)?, self.at(index)?)))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;

    /// An arena whose only slot is free and has one generation left.
    fn nearly_worn() -> (Arena<u32, Vec<Slot<u32>>>, Id) {
        let slots = vec![Slot { generation: u32::MAX, content: Content::Free { next: NONE } }];
        (Arena { free: 0, spare: 1, ..Arena::new(slots) }, Id { index: 0, generation: u32::MAX })
    }

    #[test]
    fn worn_out_slot_is_retired_and_never_reused() {
        let (mut arena, last) = nearly_worn();
        assert_eq!(arena.insert(5), Ok(last));
        assert_eq!(arena.remove(last), Some(5));
        assert_eq!((arena.get(last), arena.id_at(0), arena.len()), (None, None, 0));
        assert_eq!(arena.insert(6), Ok(Id { index: 1, generation: 1 }), "a new slot");
    }

    #[test]
    fn worn_out_slot_cannot_be_renewed_but_keeps_its_value() {
        let (mut arena, last) = nearly_worn();
        assert_eq!(arena.insert(5), Ok(last));
        assert!(arena.is_worn(last) && !arena.is_worn(Id { index: 0, generation: 1 }));
        assert_eq!(arena.renew(last), Err(ArenaError::Worn));
        assert_eq!(arena.get(last), Some(&5));
    }
}
