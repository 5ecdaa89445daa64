//! Editing of one line: from keys to what the terminal must show.
//!
//! Only one row of the terminal is used. A line that is longer is shown in part, around the cursor.

use crate::history::History;
use crate::key::{Decoder, Key};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

/// Columns that are used.
const COLUMNS: usize = 79;
/// Characters that a line may have.
const LIMIT: usize = 1000;
/// To the first column, and clear what is there (ECMA-48, 8.3.41 "EL").
const WIPE: &str = "\r\x1b[K";
/// Clear everything, cursor to the top left (ECMA-48, 8.3.39 "ED", 8.3.21 "CUP").
const CLEAR: &str = "\x1b[2J\x1b[H";

/// The line that is being written.
#[derive(Debug)]
pub struct Editor {
    prompt: String,
    text: Vec<char>,
    cursor: usize,
    decoder: Decoder,
    history: History,
}

impl Editor {
    /// An empty line behind `prompt`, which must be shorter than a row.
    pub fn new(prompt: &str) -> Self {
        Self {
            prompt: prompt.into(),
            text: Vec::new(),
            cursor: 0,
            decoder: Decoder::default(),
            history: History::default(),
        }
    }

    /// Shows prompt and line.
    pub fn show(&self, screen: &mut String) {
        let first = self.first_shown();
        let shown = self.text.iter().skip(first).take(self.room());
        screen.push_str(WIPE);
        screen.push_str(&self.prompt);
        let end = first + shown.clone().count();
        screen.extend(shown);
        if end > self.cursor {
            // Writing to a string cannot fail.
            let _ = write!(screen, "\x1b[{}D", end - self.cursor);
        }
    }

    /// Takes a byte from the terminal and appends what it must show. Gives the line when it is entered.
    pub fn feed(&mut self, byte: u8, screen: &mut String) -> Option<String> {
        let key = self.decoder.feed(byte)?;
        match key {
            Key::Enter => return Some(self.enter(screen)),
            Key::Control('c') => {
                screen.push_str("^C\n");
                self.replace("");
            }
            Key::Control('l') => screen.push_str(CLEAR),
            Key::Char(c) if self.appends() => {
                self.insert(c);
                screen.push(c);
                return None;
            }
            Key::Backspace if self.cursor == self.text.len() && self.first_shown() == 0 => {
                if self.text.pop().is_some() {
                    self.cursor -= 1;
                    screen.push_str("\x08 \x08");
                }
                return None;
            }
            _ if !self.edit(key) => return None,
            _ => {}
        }
        self.show(screen);
        None
    }

    fn enter(&mut self, screen: &mut String) -> String {
        let line: String = self.text.iter().collect();
        self.history.push(&line);
        self.replace("");
        screen.push('\n');
        line
    }

    /// Carries out a key. Tells whether anything changed.
    fn edit(&mut self, key: Key) -> bool {
        match key {
            Key::Char(c) if self.text.len() < LIMIT => self.insert(c),
            Key::Backspace if self.cursor > 0 => {
                self.cursor -= 1;
                self.text.remove(self.cursor);
            }
            Key::Delete | Key::Control('d') if self.cursor < self.text.len() => {
                self.text.remove(self.cursor);
            }
            Key::Left | Key::Control('b') => self.cursor = self.cursor.saturating_sub(1),
            Key::Right | Key::Control('f') => self.cursor = self.text.len().min(self.cursor + 1),
            Key::Home | Key::Control('a') => self.cursor = 0,
            Key::End | Key::Control('e') => self.cursor = self.text.len(),
            Key::Control('k') => self.text.truncate(self.cursor),
            Key::Control('u') => self.cut(0),
            Key::Control('w') => self.cut(self.word_start()),
            Key::Up | Key::Control('p') => return self.go_back(),
            Key::Down | Key::Control('n') => return self.go_forward(),
            _ => return false,
        }
        true
    }

    fn insert(&mut self, c: char) {
        self.text.insert(self.cursor, c);
        self.cursor += 1;
    }

    fn replace(&mut self, line: &str) {
        self.text = line.chars().collect();
        self.cursor = self.text.len();
    }

    /// Removes what is between `from` and the cursor.
    fn cut(&mut self, from: usize) {
        self.text.drain(from..self.cursor);
        self.cursor = from;
    }

    fn word_start(&self) -> usize {
        let before = self.text.get(..self.cursor).unwrap_or(&[]);
        let end = before.iter().rposition(|c| !c.is_whitespace()).map_or(0, |n| n + 1);
        before.get(..end).unwrap_or(&[]).iter().rposition(|c| c.is_whitespace()).map_or(0, |n| n + 1)
    }

    fn go_back(&mut self) -> bool {
        let current: String = self.text.iter().collect();
        let Some(line) = self.history.older(&current) else { return false };
        let line = String::from(line);
        self.replace(&line);
        true
    }

    fn go_forward(&mut self) -> bool {
        let Some(line) = self.history.newer().map(String::from) else { return false };
        self.replace(&line);
        true
    }

    /// Whether a character goes behind all others and there is room for it.
    fn appends(&self) -> bool {
        self.cursor == self.text.len() && self.text.len() + 1 < self.room()
    }

    /// Columns behind the prompt, one of them for the cursor at the end.
    fn room(&self) -> usize {
        COLUMNS.saturating_sub(self.prompt.chars().count()).max(2)
    }

    fn first_shown(&self) -> usize {
        (self.cursor + 1).saturating_sub(self.room())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    /// A terminal of one row, enough of it to check what an editor shows.
    #[derive(Default)]
    struct Row {
        cells: Vec<char>,
        column: usize,
    }

    impl Row {
        fn print(&mut self, text: &str) {
            let mut chars = text.chars().peekable();
            while let Some(c) = chars.next() {
                match c {
                    '\r' => self.column = 0,
                    '\n' => *self = Row::default(),
                    '\x08' => self.column -= 1,
                    '\x1b' => {
                        assert_eq!(chars.next(), Some('['));
                        let mut number = 0;
                        while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                            number = number * 10 + digit as usize;
                            chars.next();
                        }
                        match chars.next() {
                            Some('K') => self.cells.truncate(self.column),
                            Some('D') => self.column -= number,
                            Some('J') => *self = Row::default(),
                            Some('H') => self.column = 0,
                            other => panic!("sequence ends in {other:?}"),
                        }
                    }
                    c => {
                        assert!(self.column < 80, "the row wraps");
                        self.cells.resize(self.cells.len().max(self.column + 1), ' ');
                        self.cells[self.column] = c;
                        self.column += 1;
                    }
                }
            }
        }

        fn text(&self) -> String {
            self.cells.iter().collect::<String>().trim_end().into()
        }
    }

    /// Types `bytes`; gives the lines entered, and what the row shows with its cursor's column.
    fn typed(bytes: &[u8]) -> (Vec<String>, String, usize) {
        let mut editor = Editor::new("pks> ");
        let mut row = Row::default();
        let mut screen = String::new();
        editor.show(&mut screen);
        let mut lines = vec![];
        for &byte in bytes {
            if let Some(line) = editor.feed(byte, &mut screen) {
                lines.push(line);
                editor.show(&mut screen);
            }
            row.print(&core::mem::take(&mut screen));
        }
        (lines, row.text(), row.column)
    }

    fn line(bytes: &[u8]) -> String {
        typed(&[bytes, b"\r"].concat()).0.remove(0)
    }

    #[test]
    fn what_is_typed_is_shown_and_entered() {
        assert_eq!(typed(b"domains"), (vec![], "pks> domains".into(), 12));
        assert_eq!(typed(b"domains\rk"), (vec!["domains".into()], "pks> k".into(), 6));
    }

    #[test]
    fn keys_edit_the_line() {
        for (bytes, expected) in [
            (&b"helo\x1b[Dl"[..], "hello"),
            (b"hello\x7f\x7fp", "help"),
            (b"xhelp\x01\x1b[3~", "help"),
            (b"elp\x1b[Hh\x1b[F me", "help me"),
            (b"help me\x17you", "help you"),
            (b"help me  \x17you", "help you"),
            (b"rubbish\x15help", "help"),
            (b"help me\x1b[D\x1b[D\x1b[D\x0b", "help"),
            (b"b\x01a\x05c", "abc"),
            (b"rubbish\x03help", "help"),
            (b"\x7f\x1b[3~\x1b[D\x17\x15\x0b\x04a", "a"),
        ] {
            assert_eq!(line(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn the_row_shows_the_line_after_every_edit() {
        assert_eq!(typed(b"helo\x1b[Dl"), (vec![], "pks> hello".into(), 9));
        assert_eq!(typed(b"abc\x01\x1b[C\x7f"), (vec![], "pks> bc".into(), 5));
        assert_eq!(typed(b"abc\x7f"), (vec![], "pks> ab".into(), 7));
        assert_eq!(typed(b"abc\x0c"), (vec![], "pks> abc".into(), 8));
        assert_eq!(typed(b"abc\x03"), (vec![], "pks>".into(), 5));
    }

    #[test]
    fn history_comes_back() {
        let (lines, ..) = typed(b"one\rtwo\r\x1b[A\x1b[A\r\x1b[A\x1b[A\x1b[B\r");
        assert_eq!(lines, ["one", "two", "one", "one"]);
        assert_eq!(typed(b"one\rtw\x1b[A\x1b[B"), (vec!["one".into()], "pks> tw".into(), 7));
    }

    #[test]
    fn a_long_line_scrolls_within_its_row() {
        let long = [b'a'; 200];
        let (_, shown, column) = typed(&long);
        assert_eq!((shown.len(), column), (78, 78));
        let (_, shown, column) = typed(&[&long[..], b"\x01b"].concat());
        assert!(shown.starts_with("pks> baaa") && shown.len() == 79, "{shown}");
        assert_eq!(column, 6);
        let (_, shown, _) = typed(&[&long[..], b"xyz\x7f"].concat());
        assert!(shown.ends_with("aaxy"), "{shown}");
        assert_eq!(line(&[b'a'; 2 * LIMIT]).len(), LIMIT);
    }
}
