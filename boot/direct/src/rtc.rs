//! The date in the CMOS clock's registers (MC146818A), as seconds since 1970.

/// The clock's registers as they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockRegisters {
    /// Registers 0, 2, 4, 7, 8, 9: second, minute, hour, day, month, year of the century.
    pub fields: [u8; 6],
    /// Register 11: bit 2 set means binary, bit 1 set means 24 hours.
    pub status_b: u8,
}

impl ClockRegisters {
    /// The seconds since 1970-01-01 UTC, taking the century to be the 21st, or `None` if the
    /// registers hold no date, as where there is no clock and every read gives FFh.
    #[must_use]
    pub fn unix_time(&self) -> Option<i64> {
        let binary = self.status_b & 4 != 0;
        let number = |raw: u8| if binary { raw } else { (raw >> 4) * 10 + (raw & 15) };
        let [second, minute, _, day, month, year] = self.fields.map(|raw| i64::from(number(raw)));
        let mut hour = i64::from(number(self.fields[2] & 0x7f));
        if self.status_b & 2 == 0 {
            hour = hour % 12 + if self.fields[2] & 0x80 != 0 { 12 } else { 0 };
        }
        let valid = second < 60 && minute < 60 && hour < 24 && (1..=31).contains(&day);
        if !valid || !(1..=12).contains(&month) || year > 99 {
            return None;
        }
        Some(((days_since_1970(2000 + year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar after it.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Counted in years that begin in March, so that the leap day is the last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 719_469
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(fields: [u8; 6], status_b: u8) -> Option<i64> {
        ClockRegisters { fields, status_b }.unix_time()
    }

    #[test]
    fn reads_every_format() {
        assert_eq!(time([0x56, 0x34, 0x12, 0x29, 0x02, 0x24], 2), Some(1_709_210_096));
        assert_eq!(time([56, 34, 12, 29, 2, 24], 6), Some(1_709_210_096));
        assert_eq!(time([0x56, 0x34, 0x92, 0x29, 0x02, 0x24], 0), Some(1_709_210_096));
        assert_eq!(time([0, 0, 0x12, 1, 1, 0], 0), Some(946_684_800));
        assert_eq!(time([0, 0, 0, 1, 3, 0], 2), Some(951_868_800));
    }

    #[test]
    fn a_missing_clock_has_no_date() {
        assert_eq!(time([0xff; 6], 0xff), None);
        assert_eq!(time([0; 6], 2), None);
        assert_eq!(time([0, 0, 0, 1, 13, 0], 6), None);
        assert_eq!(time([0, 0, 0, 32, 1, 0], 6), None);
        assert_eq!(time([0, 0, 24, 1, 1, 0], 6), None);
    }
}
