//! An opening that somebody holds, closed when it is dropped, whichever way its holder is left: at the end of a block, by
//! an early return, or where panics unwind.
#![forbid(unsafe_code)]

/// Whoever keeps the books on what is open.
pub trait Books {
    /// Ends the opening that this token names. What is open afterwards follows from the openings that are left.
    fn close(&self, token: u64);
}

/// An opening in somebody's books. It remembers no rights: dropping it ends it and restores nothing.
#[derive(Debug)]
#[must_use = "dropping it closes what was opened"]
pub struct Opening<B: Books> {
    token: u64,
    books: B,
}

impl<B: Books> Opening<B> {
    /// Takes charge of an opening that nobody else will end.
    pub const fn new(token: u64, books: B) -> Self {
        Self { token, books }
    }
}

impl<B: Books> Drop for Opening<B> {
    fn drop(&mut self) {
        self.books.close(self.token);
    }
}
