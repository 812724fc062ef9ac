//! Reads the binary encoding of Avro (specification 1.12, "Binary Encoding") from one message, trusting nothing.
//!
//! The invariant: no read goes beyond the message, and the work is bounded by [`Cursor::spend`] even for types whose
//! values take no bytes, so that no message can hold the decoder up.

use std::fmt;

/// Values one message may have beyond one a byte: what nulls and empty records may add.
const FREE_VALUES_MAX: usize = 1 << 16;

/// Where in a message reading stopped, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReadError {
    /// Byte offset in the message, framing included.
    pub at: usize,
    /// What is wrong there.
    pub why: String,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.why, self.at)
    }
}

/// The unread part of one message.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    work_left: usize,
}

impl<'a> Cursor<'a> {
    /// Reads `bytes` from offset `at` on.
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self {
            bytes,
            at,
            work_left: bytes.len() + FREE_VALUES_MAX,
        }
    }

    /// An error at the present offset.
    pub fn error(&self, why: impl Into<String>) -> ReadError {
        ReadError {
            at: self.at,
            why: why.into(),
        }
    }

    /// The offset in the message of what is read next.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Accounts for one value.
    ///
    /// # Errors
    /// If the message has had more values than its bytes allow.
    pub fn spend(&mut self) -> Result<(), ReadError> {
        let Some(left) = self.work_left.checked_sub(1) else {
            let limit = self.bytes.len() + FREE_VALUES_MAX;
            return Err(self.error(format!("more than {limit} values in one message")));
        };
        self.work_left = left;
        Ok(())
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// If fewer are left.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], ReadError> {
        if count > self.left() {
            return Err(self.error(format!("{count} bytes wanted, {} left", self.left())));
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// If fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// A zigzag varint of at most 64 bits.
    ///
    /// # Errors
    /// If it is cut off or longer than 64 bits.
    pub fn long(&mut self) -> Result<i64, ReadError> {
        let start = self.at;
        let mut value = 0_u64;
        for (i, &byte) in self.bytes[start..].iter().take(10).enumerate() {
            // The tenth byte holds the 64th bit and nothing else.
            if i == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.at = start + i + 1;
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        let why = if self.left() < 10 {
            "a number is cut off"
        } else {
            "a number exceeds 64 bits"
        };
        Err(self.error(why))
    }

    /// A zigzag varint of at most 32 bits.
    ///
    /// # Errors
    /// If it is cut off or longer than 32 bits.
    pub fn int(&mut self) -> Result<i32, ReadError> {
        let start = self.at;
        let value = self.long()?;
        i32::try_from(value).map_err(|_| ReadError {
            at: start,
            why: format!("{value} is no 32-bit number"),
        })
    }

    /// A boolean: the byte 0 or 1.
    ///
    /// # Errors
    /// If it is another byte, or none is left.
    pub fn boolean(&mut self) -> Result<bool, ReadError> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [byte] => {
                let why = format!("{byte:#04x} is no boolean");
                Err(ReadError {
                    at: self.at - 1,
                    why,
                })
            }
        }
    }

    /// Bytes after their length.
    ///
    /// # Errors
    /// If the length is negative or more than is left.
    pub fn bytes(&mut self) -> Result<&'a [u8], ReadError> {
        let start = self.at;
        let length = self.long()?;
        let length = usize::try_from(length).map_err(|_| ReadError {
            at: start,
            why: format!("length {length} is negative"),
        })?;
        self.take(length)
    }

    /// Text after its length.
    ///
    /// # Errors
    /// As [`Cursor::bytes`], and if the bytes are not UTF-8.
    pub fn text(&mut self) -> Result<&'a str, ReadError> {
        let bytes = self.bytes()?;
        let start = self.at - bytes.len();
        std::str::from_utf8(bytes).map_err(|error| ReadError {
            at: start + error.valid_up_to(),
            why: "invalid utf-8".to_owned(),
        })
    }

    /// An index below `count`: a union's branch or an enum's symbol.
    ///
    /// # Errors
    /// If it is not below `count`.
    pub fn index(&mut self, count: usize, of: &str) -> Result<usize, ReadError> {
        let start = self.at;
        let value = self.long()?;
        usize::try_from(value)
            .ok()
            .filter(|&index| index < count)
            .ok_or_else(|| ReadError {
                at: start,
                why: format!("{of} {value}, the writer's schema has {count}"),
            })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_are_zigzag_varints_as_the_specification_gives_them() {
        // The table of the Avro specification, and the ends of the range.
        for (bytes, value) in [
            (&[0x00][..], 0),
            (&[0x01], -1),
            (&[0x02], 1),
            (&[0x7f], -64),
            (&[0x80, 0x01], 64),
            (
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
                i64::MIN,
            ),
            (
                &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
                i64::MAX,
            ),
        ] {
            let mut cursor = Cursor::new(bytes, 0);
            assert_eq!(cursor.long().unwrap(), value);
            assert_eq!(cursor.left(), 0);
        }
    }

    #[test]
    fn what_is_cut_off_or_out_of_range_is_an_error_with_its_offset() {
        assert_eq!(Cursor::new(&[9, 0x80], 1).long().unwrap_err().at, 1);
        assert!(
            Cursor::new(&[0xff; 11], 0)
                .long()
                .unwrap_err()
                .why
                .contains("64 bits")
        );
        assert!(
            Cursor::new(&[0xfe, 0xff, 0xff, 0xff, 0x1f], 0)
                .int()
                .is_err()
        );
        assert_eq!(Cursor::new(&[2], 0).boolean().unwrap_err().at, 0);
        assert!(
            Cursor::new(&[0x01], 0)
                .bytes()
                .unwrap_err()
                .why
                .contains("negative")
        );
        assert!(
            Cursor::new(&[0x08, b'a'], 0)
                .bytes()
                .unwrap_err()
                .why
                .contains("4 bytes wanted")
        );
        assert_eq!(
            Cursor::new(&[0x06, b'a', 0xff, b'c'], 0)
                .text()
                .unwrap_err()
                .at,
            2
        );
        assert!(Cursor::new(&[0x04], 0).index(2, "branch").is_err());
    }

    #[test]
    fn values_without_bytes_are_counted() {
        let mut cursor = Cursor::new(&[0], 0);
        let spent = std::iter::repeat_with(|| cursor.spend())
            .take_while(Result::is_ok)
            .count();
        assert_eq!(spent, FREE_VALUES_MAX + 1);
    }
}
