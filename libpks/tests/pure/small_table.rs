//! A table that is full after a set number of entries.

use libpks::table::{OutOfMemory, Table};

pub(crate) struct SmallTable<T> {
    entries: Vec<T>,
    limit: usize,
}

impl<T> SmallTable<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { entries: Vec::new(), limit }
    }
}

impl<T> Table<T> for SmallTable<T> {
    fn len(&self) -> u32 {
        Table::len(&self.entries)
    }

    fn get(&self, index: u32) -> Option<&T> {
        Table::get(&self.entries, index)
    }

    fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        Table::get_mut(&mut self.entries, index)
    }

    fn push(&mut self, value: T) -> Result<u32, OutOfMemory> {
        if self.entries.len() == self.limit {
            return Err(OutOfMemory);
        }
        Table::push(&mut self.entries, value)
    }
}
