//! The kernel's objects: tables with typed references that go stale with their object.

use crate::mem::ReservedTable;
use core::marker::PhantomData;
use core::ops::{Index, IndexMut};
use libpks::cap::{ObjectId, ObjectKind};
use libpks::table::{Arena, Id, OutOfMemory, Slot};

/// Names an object of type `T`. It never names another one later.
pub(crate) struct Ref<T>(Id, PhantomData<fn() -> T>);

impl<T> Ref<T> {
    /// The object's number, for people.
    pub(crate) fn number(self) -> u32 {
        self.0.index
    }

    /// What a capability says of it.
    pub(crate) fn object(self, kind: ObjectKind) -> ObjectId {
        ObjectId { kind, index: self.0.index, generation: self.0.generation }
    }

    /// What a capability names, as this type: the caller has checked the kind.
    pub(crate) fn of(object: ObjectId) -> Self {
        Self(Id { index: object.index, generation: object.generation }, PhantomData)
    }

    /// Index and generation in a word.
    pub(crate) fn raw(self) -> u64 {
        u64::from(self.0.index) | (u64::from(self.0.generation) << 32)
    }
}

impl<T> Clone for Ref<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Ref<T> {}
impl<T> PartialEq for Ref<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<T> Eq for Ref<T> {}
impl<T> core::fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{}", self.0.index, self.0.generation)
    }
}

/// All objects of one type.
pub(crate) struct Objects<T>(Arena<T, ReservedTable<Slot<T>>>);

impl<T> Objects<T> {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self(Arena::new(ReservedTable::new()))
    }

    /// Puts an object in.
    ///
    /// # Errors
    /// [`OutOfMemory`] if the table cannot grow.
    pub(crate) fn insert(&mut self, object: T) -> Result<Ref<T>, OutOfMemory> {
        self.0.insert(object).map(|id| Ref(id, PhantomData))
    }

    /// Makes sure that so many calls of [`Objects::insert`] find a place.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub(crate) fn reserve(&mut self, count: u32) -> Result<(), OutOfMemory> {
        self.0.reserve(count)
    }

    /// Takes an object out.
    pub(crate) fn remove(&mut self, at: Ref<T>) -> Option<T> {
        self.0.remove(at.0)
    }

    /// The object, if it is still there.
    pub(crate) fn get(&self, at: Ref<T>) -> Option<&T> {
        self.0.get(at.0)
    }

    /// The object, if it is still there.
    pub(crate) fn get_mut(&mut self, at: Ref<T>) -> Option<&mut T> {
        self.0.get_mut(at.0)
    }

    /// The object with this number, if there is one.
    pub(crate) fn at_number(&self, number: u32) -> Option<Ref<T>> {
        self.0.id_at(number).map(|id| Ref(id, PhantomData))
    }

    /// The object at an address that the kernel has from a reference to it.
    pub(crate) fn at_address(&self, address: u64) -> Option<Ref<T>> {
        let first = self.0.table().address_of(0);
        let number = u32::try_from(address.checked_sub(first)? / size_of::<Slot<T>>() as u64).ok()?;
        self.at_number(number)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.0.len()
    }

    /// Numbers are below this.
    pub(crate) fn capacity(&self) -> u32 {
        self.0.capacity()
    }
}

/// For references that the kernel's own books hold: the books keep the object alive as long as they hold it.
impl<T> Index<Ref<T>> for Objects<T> {
    type Output = T;

    fn index(&self, at: Ref<T>) -> &T {
        self.get(at).expect("the books hold only live objects")
    }
}

impl<T> IndexMut<Ref<T>> for Objects<T> {
    fn index_mut(&mut self, at: Ref<T>) -> &mut T {
        self.get_mut(at).expect("the books hold only live objects")
    }
}
