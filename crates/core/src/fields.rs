//! Fields of a record: number, length in four bytes, content. Readers skip unknown ones, which belong to
//! later versions.

use crate::consent::Timestamp;

/// The length of most records, in bytes.
const USUAL: usize = 512;

/// The bytes are not fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a field is cut off, or invalid")]
pub struct Malformed;

/// Writes fields after a first byte for the format.
#[derive(Debug)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Creates a writer for this format.
    pub fn new(format: u8) -> Writer {
        let mut bytes = Vec::with_capacity(USUAL);
        bytes.push(format);
        Writer(bytes)
    }

    /// Writes bytes.
    pub fn bytes(&mut self, tag: u8, content: &[u8]) {
        self.0.push(tag);
        self.0.extend_from_slice(&u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.0.extend_from_slice(content);
    }

    /// Writes a text, if there is one.
    pub fn text(&mut self, tag: u8, content: Option<&str>) {
        if let Some(content) = content {
            self.bytes(tag, content.as_bytes());
        }
    }

    /// Writes a moment, if there is one.
    pub fn time(&mut self, tag: u8, content: Option<Timestamp>) {
        if let Some(Timestamp(millis)) = content {
            self.bytes(tag, &millis.to_le_bytes());
        }
    }

    /// Writes a number, in as few bytes as it needs.
    pub fn number(&mut self, tag: u8, content: u64) {
        let used = 8 - content.leading_zeros() as usize / 8;
        self.bytes(tag, content.to_le_bytes().get(..used).unwrap_or_default());
    }

    /// Returns the record.
    pub fn done(self) -> Vec<u8> {
        self.0
    }
}

/// Iterates over the fields of a record, without its first byte.
///
/// # Errors
///
/// When one is cut off.
pub fn fields(bytes: &[u8]) -> Result<Vec<(u8, &[u8])>, Malformed> {
    let mut fields = Vec::new();
    let mut rest = bytes;
    while let Some((&tag, tail)) = rest.split_first() {
        let (length, tail) = tail.split_first_chunk::<4>().ok_or(Malformed)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Malformed)?;
        let (content, tail) = tail.split_at_checked(length).ok_or(Malformed)?;
        fields.push((tag, content));
        rest = tail;
    }
    Ok(fields)
}

/// Reads a text.
///
/// # Errors
///
/// When it is not UTF-8.
pub fn text(content: &[u8]) -> Result<String, Malformed> {
    String::from_utf8(content.to_vec()).map_err(|_| Malformed)
}

/// Reads a moment.
///
/// # Errors
///
/// When it does not have eight bytes.
pub fn time(content: &[u8]) -> Result<Timestamp, Malformed> {
    content.try_into().map(|bytes| Timestamp(i64::from_le_bytes(bytes))).map_err(|_| Malformed)
}

/// Reads a number.
///
/// # Errors
///
/// When it has more than eight bytes.
pub fn number(content: &[u8]) -> Result<u64, Malformed> {
    let mut bytes = [0; 8];
    bytes.get_mut(..content.len()).ok_or(Malformed)?.copy_from_slice(content);
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_as_many_bytes_as_they_need() {
        for (value, length) in [(0, 0), (1, 1), (255, 1), (256, 2), (u64::from(u32::MAX), 4), (u64::MAX, 8)] {
            let mut writer = Writer::new(1);
            writer.number(7, value);
            let bytes = writer.done();
            let read = fields(&bytes[1..]).unwrap();
            assert_eq!((read[0].0, read[0].1.len()), (7, length));
            assert_eq!(number(read[0].1), Ok(value));
        }
        assert_eq!(number(&[0; 9]), Err(Malformed));
    }
}
