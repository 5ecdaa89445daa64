//! Keys out of the bytes that a terminal sends.
//!
//! Source: ECMA-48 (control sequences), and what xterm, the Linux console and tmux send for cursor and editing keys.

/// A key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    /// A character.
    Char(char),
    /// Control and this letter.
    Control(char),
    /// Return.
    Enter,
    /// Deletes the character before the cursor.
    Backspace,
    /// Deletes the character under the cursor.
    Delete,
    /// Cursor up.
    Up,
    /// Cursor down.
    Down,
    /// Cursor left.
    Left,
    /// Cursor right.
    Right,
    /// To the beginning.
    Home,
    /// To the end.
    End,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Ground,
    /// After ESC.
    Escape,
    /// After ESC O.
    Single,
    /// After ESC [, with the number that came so far.
    Sequence(u8),
    /// After ESC [ and a semicolon: what follows says which modifiers were held.
    Modifiers(u8),
    /// Within a character of several bytes: how many are missing, and its bits so far.
    Character(u8, u32),
}

/// Turns bytes into keys. What it does not know it drops.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    state: State,
    is_after_return: bool,
}

impl Decoder {
    /// Takes a byte; gives a key if it completes one.
    pub fn feed(&mut self, byte: u8) -> Option<Key> {
        let was_after_return = core::mem::take(&mut self.is_after_return);
        match core::mem::take(&mut self.state) {
            State::Ground => self.ground(byte, was_after_return),
            State::Escape => {
                self.state = match byte {
                    b'[' => State::Sequence(0),
                    b'O' => State::Single,
                    _ => State::Ground,
                };
                None
            }
            State::Single => cursor_key(byte),
            State::Sequence(number) => self.sequence(byte, number),
            State::Modifiers(number) => {
                if (0x20..0x40).contains(&byte) {
                    self.state = State::Modifiers(number);
                    return None;
                }
                final_byte(byte, number)
            }
            State::Character(missing, bits) => self.continuation(byte, missing, bits),
        }
    }

    fn ground(&mut self, byte: u8, was_after_return: bool) -> Option<Key> {
        match byte {
            b'\r' => {
                self.is_after_return = true;
                Some(Key::Enter)
            }
            b'\n' if was_after_return => None,
            b'\n' => Some(Key::Enter),
            0x08 | 0x7f => Some(Key::Backspace),
            0x1b => {
                self.state = State::Escape;
                None
            }
            0x01..=0x1a => Some(Key::Control(char::from(byte - 1 + b'a'))),
            0x20..0x7f => Some(Key::Char(char::from(byte))),
            _ => {
                self.state = match byte {
                    0xc2..0xe0 => State::Character(1, u32::from(byte & 0x1f)),
                    0xe0..0xf0 => State::Character(2, u32::from(byte & 0x0f)),
                    0xf0..0xf5 => State::Character(3, u32::from(byte & 0x07)),
                    _ => State::Ground,
                };
                None
            }
        }
    }

    fn continuation(&mut self, byte: u8, missing: u8, bits: u32) -> Option<Key> {
        if byte & 0xc0 != 0x80 {
            return self.ground(byte, false);
        }
        let bits = bits << 6 | u32::from(byte & 0x3f);
        if missing > 1 {
            self.state = State::Character(missing - 1, bits);
            return None;
        }
        char::from_u32(bits).filter(|c| !c.is_control()).map(Key::Char)
    }

    fn sequence(&mut self, byte: u8, number: u8) -> Option<Key> {
        match byte {
            b'0'..=b'9' => {
                self.state = State::Sequence(number.saturating_mul(10).saturating_add(byte - b'0'));
                None
            }
            b';' => {
                self.state = State::Modifiers(number);
                None
            }
            // Other parameters and intermediates: of a sequence that is not for us, but that has to end.
            0x20..0x40 => {
                self.state = State::Modifiers(u8::MAX);
                None
            }
            _ => final_byte(byte, number),
        }
    }
}

fn final_byte(byte: u8, number: u8) -> Option<Key> {
    match (byte, number) {
        (b'~', 1 | 7) => Some(Key::Home),
        (b'~', 3) => Some(Key::Delete),
        (b'~', 4 | 8) => Some(Key::End),
        (_, 0 | 1) => cursor_key(byte),
        _ => None,
    }
}

fn cursor_key(byte: u8) -> Option<Key> {
    match byte {
        b'A' => Some(Key::Up),
        b'B' => Some(Key::Down),
        b'C' => Some(Key::Right),
        b'D' => Some(Key::Left),
        b'H' => Some(Key::Home),
        b'F' => Some(Key::End),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = Decoder::default();
        bytes.iter().filter_map(|&byte| decoder.feed(byte)).collect()
    }

    #[test]
    fn sequences_of_common_terminals_are_known() {
        let bytes = b"\x1b[A\x1b[B\x1b[C\x1b[D\x1b[H\x1b[F\x1bOH\x1bOF\x1b[1~\x1b[4~\x1b[3~\x1b[1;5D";
        use Key::*;
        assert_eq!(keys(bytes), [Up, Down, Right, Left, Home, End, Home, End, Home, End, Delete, Left]);
    }

    #[test]
    fn unknown_sequences_are_swallowed_whole() {
        assert_eq!(
            keys(b"\x1b[200~a\x1b[?25hb\x1bxc\x1b[5;2~d\x1b[999999~e"),
            "abcde".chars().map(Key::Char).collect::<Vec<_>>()
        );
    }

    #[test]
    fn return_is_one_key_however_it_ends() {
        assert_eq!(keys(b"\r\n\n\ra\n"), [Key::Enter, Key::Enter, Key::Enter, Key::Char('a'), Key::Enter]);
    }

    #[test]
    fn characters_of_several_bytes_are_put_together_and_broken_ones_dropped() {
        assert_eq!(keys("é€😀".as_bytes()), ['é', '€', '😀'].map(Key::Char));
        assert_eq!(keys(b"\xc3a\x80\xff\xed\xa0\x80b\xc2\x9bc"), ['a', 'b', 'c'].map(Key::Char));
    }

    #[test]
    fn control_letters_are_named() {
        assert_eq!(
            keys(b"\x01\x0c\x7f\x08"),
            [Key::Control('a'), Key::Control('l'), Key::Backspace, Key::Backspace]
        );
    }
}
