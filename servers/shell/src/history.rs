//! Lines that were entered before.

use alloc::collections::VecDeque;
use alloc::string::{String, ToString};

/// Lines that are kept.
const LIMIT: usize = 64;

/// The lines, and where one is among them.
#[derive(Debug, Default)]
pub struct History {
    lines: VecDeque<String>,
    /// How many lines back; 0 is the line that is being written.
    back: usize,
    draft: String,
}

impl History {
    /// Adds a line, unless it is empty or the same as the last, and goes to the end.
    pub fn push(&mut self, line: &str) {
        self.back = 0;
        if line.trim().is_empty() || self.lines.back().is_some_and(|last| last == line) {
            return;
        }
        if self.lines.len() == LIMIT {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_string());
    }

    /// Goes one line back from `current`; `None` at the beginning.
    pub fn older(&mut self, current: &str) -> Option<&str> {
        if self.back == self.lines.len() {
            return None;
        }
        if self.back == 0 {
            self.draft = current.to_string();
        }
        self.back += 1;
        self.at()
    }

    /// Goes one line forward, in the end to the line that was being written; `None` there.
    pub fn newer(&mut self) -> Option<&str> {
        self.back = self.back.checked_sub(1)?;
        self.at()
    }

    fn at(&self) -> Option<&str> {
        match self.back {
            0 => Some(&self.draft),
            back => self.lines.get(self.lines.len().checked_sub(back)?).map(String::as_str),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_goes_back_and_returns_to_the_draft() {
        let mut history = History::default();
        for line in ["one", "two", "two", " "] {
            history.push(line);
        }
        assert_eq!(history.older("dra"), Some("two"));
        assert_eq!(history.older("two"), Some("one"));
        assert_eq!(history.older("one"), None);
        assert_eq!(history.newer(), Some("two"));
        assert_eq!(history.newer(), Some("dra"));
        assert_eq!(history.newer(), None);
    }

    #[test]
    fn the_oldest_lines_go() {
        let mut history = History::default();
        (0..LIMIT + 5).for_each(|n| history.push(&n.to_string()));
        let mut oldest = None;
        while let Some(line) = history.older("") {
            oldest = Some(line.to_string());
        }
        assert_eq!(oldest.as_deref(), Some("5"));
    }
}
