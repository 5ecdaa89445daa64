//! Lists of objects, linked through the objects themselves: they need no memory of their own, and an object gets in and
//! out in a step, wherever it stands.

use crate::object::{Objects, Ref};

/// The neighbours of an object in a list.
pub(crate) struct Links<T> {
    pub(crate) next: Option<Ref<T>>,
    pub(crate) previous: Option<Ref<T>>,
}

/// Through which of its links an object is in a list.
pub(crate) type Chain<T> = fn(&mut T) -> &mut Links<T>;

/// A list.
pub(crate) struct List<T> {
    pub(crate) head: Option<Ref<T>>,
    pub(crate) tail: Option<Ref<T>>,
}

impl<T> Links<T> {
    /// In no list.
    pub(crate) const NONE: Self = Links { next: None, previous: None };
}

impl<T> List<T> {
    /// Nobody.
    pub(crate) const EMPTY: Self = List { head: None, tail: None };

    /// Whether nobody is in it.
    pub(crate) const fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// Puts an object, which is in no list of this chain, behind another, or at the head.
    pub(crate) fn insert_behind(
        &mut self,
        objects: &mut Objects<T>,
        chain: Chain<T>,
        at: Ref<T>,
        behind: Option<Ref<T>>,
    ) {
        let next = match behind {
            Some(behind) => chain(&mut objects[behind]).next.replace(at),
            None => self.head.replace(at),
        };
        *chain(&mut objects[at]) = Links { next, previous: behind };
        match next {
            Some(next) => chain(&mut objects[next]).previous = Some(at),
            None => self.tail = Some(at),
        }
    }

    /// Puts an object, which is in no list of this chain, behind all others.
    pub(crate) fn push(&mut self, objects: &mut Objects<T>, chain: Chain<T>, at: Ref<T>) {
        self.insert_behind(objects, chain, at, self.tail);
    }

    /// Takes an object out, which is in this list.
    pub(crate) fn remove(&mut self, objects: &mut Objects<T>, chain: Chain<T>, at: Ref<T>) {
        let links = core::mem::replace(chain(&mut objects[at]), Links::NONE);
        debug_assert!(links.previous.is_some() || self.head == Some(at), "{at:?} is not in this list");
        debug_assert!(links.next.is_some() || self.tail == Some(at), "{at:?} is not in this list");
        match links.previous {
            Some(previous) => chain(&mut objects[previous]).next = links.next,
            None => self.head = links.next,
        }
        match links.next {
            Some(next) => chain(&mut objects[next]).previous = links.previous,
            None => self.tail = links.previous,
        }
    }
}

impl<T> Clone for Links<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Links<T> {}
impl<T> Default for Links<T> {
    fn default() -> Self {
        Self::NONE
    }
}
impl<T> core::fmt::Debug for Links<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?} < > {:?}", self.previous, self.next)
    }
}

impl<T> Clone for List<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for List<T> {}
impl<T> Default for List<T> {
    fn default() -> Self {
        Self::EMPTY
    }
}
impl<T> core::fmt::Debug for List<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?} ... {:?}", self.head, self.tail)
    }
}
