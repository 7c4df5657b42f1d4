//! Message data (RFC 5321, section 4.5.2): from dot-stuffed lines to a message, and back.
//!
//! Only CRLF.CRLF ends the data. A bare carriage return or line feed is never passed on: two readers that
//! disagree about line ends are how mail is smuggled.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;

/// What to do with a bare line feed or carriage return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BareNewline {
    /// Reject the message.
    Reject,
    /// Turn it into CRLF.
    Normalise,
}

/// The result of reading the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// A message whose lines all end in CRLF.
    Message(Bytes),
    /// It was too large. It was read to its end.
    TooLarge,
    /// There was no memory for it. It was read to its end.
    NoRoom,
    /// It contained a bare carriage return or line feed.
    BareNewline,
}

/// The position of the reader within a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// At the start of a line.
    LineStart,
    /// After a dot at the start of a line.
    Dot,
    /// After a dot and a carriage return.
    DotCr,
    /// Within a line.
    Within,
    /// After a carriage return.
    Cr,
}

/// How many bytes there is room for at least, where there is any.
const ROOM: usize = 4 * 1024;

/// Reads data up to its end.
#[derive(Debug)]
pub struct DataReader {
    at: At,
    message: Vec<u8>,
    max_bytes: usize,
    bare: BareNewline,
    fault: Option<Data>,
}

impl DataReader {
    /// Creates a reader for a message of at most `max_bytes`, with room for as many as are expected.
    pub fn new(max_bytes: usize, bare: BareNewline, expected: usize) -> DataReader {
        // What stands behind the message is read with it.
        let message = Vec::with_capacity(expected.min(max_bytes).min(1 << 20) + 2 * ROOM);
        DataReader { at: At::LineStart, message, max_bytes, bare, fault: None }
    }

    /// Returns the bytes of the message held so far.
    pub fn held(&self) -> usize {
        self.message.len()
    }

    /// Stops holding anything: there is no memory.
    pub fn give_up(&mut self) {
        self.fail(Data::NoRoom);
    }

    fn fail(&mut self, fault: Data) {
        self.message = Vec::new();
        self.fault.get_or_insert(fault);
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        if self.message.len() + bytes.len() > self.max_bytes {
            self.fail(Data::TooLarge);
        } else {
            self.make_room(bytes.len());
            self.message.extend_from_slice(bytes);
        }
    }

    /// Makes room for so many bytes more. What is held is copied then, so a large message gets much more room than
    /// it asks for; what it does not fill is not touched.
    fn make_room(&mut self, more: usize) {
        const TIMES: usize = 31;
        const STRIDE: usize = 8 << 20;
        let held = self.message.len();
        if self.message.capacity() - held < more {
            let ahead = (TIMES * held).min(STRIDE).min(self.max_bytes.saturating_sub(held));
            self.message.reserve_exact(ahead.max(more));
        }
    }

    /// Where what comes next may be read to, behind what is held; [`DataReader::take`] takes it from there. There is
    /// room for a good deal. `None` where it must be read elsewhere.
    pub fn room(&mut self) -> Option<&mut Vec<u8>> {
        let has_room = self.fault.is_none() && matches!(self.at, At::LineStart | At::Within);
        has_room.then(|| {
            self.make_room(ROOM);
            &mut self.message
        })
    }

    /// Takes what was read into [`DataReader::room`] since `held` bytes were held. Returns what stands behind the end
    /// of the data, once that is seen.
    pub fn take(&mut self, held: usize) -> Option<Vec<u8>> {
        let new = self.message.get(held..).unwrap_or_default();
        let starts_with_dot = self.at == At::LineStart && new.first() == Some(&b'.');
        let lines = if starts_with_dot { 0 } else { whole_lines(new) };
        // Lines stay where they are; what follows is looked at before it is kept.
        let rest = self.message.split_off(held + lines);
        if self.message.len() > self.max_bytes {
            self.fail(Data::TooLarge);
        }
        let passed = if starts_with_dot { 0 } else { self.behind_lines(rest.first()) };
        let (taken, ended) = self.feed(rest.get(passed..).unwrap_or_default());
        ended.then(|| rest.get(passed + taken..).unwrap_or_default().to_vec())
    }

    /// Notes a bare carriage return or line feed.
    fn bare(&mut self) {
        match self.bare {
            BareNewline::Reject => self.fail(Data::BareNewline),
            BareNewline::Normalise => self.keep(b"\r\n"),
        }
    }

    /// Takes bytes; returns how many belonged to the data and whether its end was among them.
    pub fn feed(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut taken = 0;
        while let Some(&byte) = bytes.get(taken) {
            match (self.at, byte) {
                (At::LineStart, b'.') => {
                    self.at = At::Dot;
                    taken += 1;
                }
                (At::Dot, b'\r') => {
                    self.at = At::DotCr;
                    taken += 1;
                }
                (At::DotCr, b'\n') => return (taken + 1, true),
                (At::DotCr, _) => {
                    // The stuffed dot is gone. The carriage return may become a line end, but a dot after it
                    // ends nothing.
                    self.at = At::Within;
                    self.bare();
                }
                (At::Cr, b'\n') => {
                    self.keep(b"\r\n");
                    self.at = At::LineStart;
                    taken += 1;
                }
                (At::Cr, _) => {
                    // It may become a line end, but the dot after it ends nothing.
                    self.at = At::Within;
                    self.bare();
                }
                (At::LineStart | At::Dot | At::Within, _) => {
                    taken += self.line(bytes.get(taken..).unwrap_or_default())
                }
            }
        }
        (taken, false)
    }

    /// Takes the rest of a line up to its carriage return, or to what should be one; most lines end within
    /// the same bytes, and many lines are taken at once.
    fn line(&mut self, bytes: &[u8]) -> usize {
        let end = match self.at {
            At::Dot => memchr::memchr2(b'\r', b'\n', bytes).unwrap_or(bytes.len()),
            _ => whole_lines(bytes),
        };
        let (text, rest) = bytes.split_at_checked(end).unwrap_or((bytes, b""));
        self.keep(text);
        end + self.behind_lines(rest.first())
    }

    /// Goes on behind lines that were kept, or behind a part of one, with what stands there. Returns how many bytes of
    /// that were taken.
    fn behind_lines(&mut self, next: Option<&u8>) -> usize {
        match next {
            None => {
                self.at = At::Within;
                0
            }
            Some(b'\r') => {
                self.at = At::Cr;
                1
            }
            Some(b'\n') => {
                self.at = At::Within;
                self.bare();
                1
            }
            // A line that begins with a dot.
            Some(_) => {
                self.at = At::LineStart;
                0
            }
        }
    }

    /// Returns what was read, once the end was seen.
    pub fn finish(self) -> Data {
        match self.fault {
            Some(fault) => fault,
            None => Data::Message(Bytes::from(self.message)),
        }
    }
}

/// How many bytes are examined together; if something is wrong with them, the following ones cost no further
/// examination.
const WINDOW: usize = 1024;
/// A line that begins with a dot, behind another one.
static DOT: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(b"\n."));

/// Returns how far lines go that end in CRLF and do not begin with a dot, and the rest of the last one.
fn whole_lines(bytes: &[u8]) -> usize {
    let mut from = 0;
    while from < bytes.len() {
        let mut to = (from + WINDOW).min(bytes.len());
        // A line end is not split.
        if bytes.get(to - 1) == Some(&b'\r') && bytes.get(to) == Some(&b'\n') {
            to += 1;
        }
        if bytes.get(from..=to).is_some_and(|window| is_plain(window) && DOT.find(window).is_none()) {
            from = to;
            continue;
        }
        let window = bytes.get(from..to).unwrap_or_default();
        if let Some(end) = end_of_lines(window, bytes.get(to)) {
            return from + end;
        }
        from = to;
    }
    bytes.len()
}

/// Returns whether all line ends in some bytes are CRLF. The last byte is only looked at for what it is to the one
/// before it.
fn is_plain(bytes: &[u8]) -> bool {
    // Each pair adds to one number, without a branch, so that many of them are looked at together.
    let pairs = bytes.iter().zip(bytes.get(1..).unwrap_or_default());
    let found =
        pairs.fold(0u8, |found, (byte, next)| found | (u8::from(*byte == b'\r') ^ u8::from(*next == b'\n')));
    found == 0 && bytes.first() != Some(&b'\n')
}

/// Returns where the lines of a window end, before `next`: at a line that begins with a dot, at a line end
/// after which nothing is known yet, or at a bare CR or LF. Only line feeds are searched one by one; the
/// number of carriage returns must match.
fn end_of_lines(window: &[u8], next: Option<&u8>) -> Option<usize> {
    let mut lines = 0;
    let mut end = None;
    for at in memchr::memchr_iter(b'\n', window) {
        if at == 0 || window.get(at - 1) != Some(&b'\r') {
            end = Some(at);
            break;
        }
        lines += 1;
        match window.get(at + 1).or(next) {
            None => end = Some(at - 1),
            Some(b'.') => end = Some(at + 1),
            Some(_) => continue,
        }
        break;
    }
    let text = window.get(..end.unwrap_or(window.len())).unwrap_or_default();
    let cut = usize::from(end.is_some_and(|end| window.get(end) == Some(&b'\r')));
    if memchr::memchr_iter(b'\r', text).count() + cut == lines {
        return end;
    }
    let alone = |at: &usize| text.get(at + 1) != Some(&b'\n');
    memchr::memchr_iter(b'\r', text).find(alone).or(end)
}

/// Returns the offsets at which a dot must be doubled: those of a dot at the start of a line. `at_line_start`
/// says whether the text starts a line.
pub fn dots_to_stuff(text: &[u8], at_line_start: bool) -> impl Iterator<Item = usize> {
    let first = (at_line_start && text.first() == Some(&b'.')).then_some(0);
    first.into_iter().chain(memchr::memmem::find_iter(text, b"\n.").map(|at| at + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads the whole input, and the same one byte at a time and in two parts: always with the same result.
    fn check(wire: &[u8], bare: BareNewline) -> (Data, usize) {
        let reader = || DataReader::new(1000, bare, 0);
        let read = |cuts: &[usize]| {
            let mut reader = reader();
            let mut from = 0;
            for &to in cuts.iter().chain([&wire.len()]) {
                let mut piece = &wire[from..to];
                while !piece.is_empty() {
                    let (taken, ended) = reader.feed(piece);
                    from += taken;
                    piece = &piece[taken..];
                    if ended {
                        return (reader.finish(), from);
                    }
                }
            }
            (reader.finish(), usize::MAX)
        };
        let whole = read(&[]);
        let every: Vec<usize> = (1..wire.len()).collect();
        assert_eq!(read(&every), whole, "byte by byte: {:?}", String::from_utf8_lossy(wire));
        assert_eq!(read_in_place(wire, &every, reader()), whole, "{:?}", String::from_utf8_lossy(wire));
        for cut in every {
            assert_eq!(read(&[cut]), whole, "cut at {cut}: {:?}", String::from_utf8_lossy(wire));
            let in_place = read_in_place(wire, &[cut], reader());
            assert_eq!(in_place, whole, "cut at {cut}: {:?}", String::from_utf8_lossy(wire));
        }
        whole
    }

    /// The same, read to where it is held wherever there is room.
    fn read_in_place(wire: &[u8], cuts: &[usize], mut reader: DataReader) -> (Data, usize) {
        let mut from = 0;
        for &to in cuts.iter().chain([&wire.len()]) {
            let piece = &wire[from..to];
            let held = reader.held();
            let behind = match reader.room() {
                Some(room) => {
                    assert!(room.capacity() - room.len() >= ROOM);
                    room.extend_from_slice(piece);
                    reader.take(held)
                }
                None => {
                    let (taken, ended) = reader.feed(piece);
                    ended.then(|| piece[taken..].to_vec())
                }
            };
            from = to;
            if let Some(behind) = behind {
                return (reader.finish(), to - behind.len());
            }
        }
        (reader.finish(), usize::MAX)
    }

    fn message(text: &[u8]) -> Data {
        Data::Message(Bytes::copy_from_slice(text))
    }

    #[test]
    fn dots_are_unstuffed_and_the_end_is_found() {
        assert_eq!(check(b".\r\nQUIT", BareNewline::Reject), (message(b""), 3));
        assert_eq!(
            check(b"a\r\n..b\r\n...\r\n.\r\nx", BareNewline::Reject),
            (message(b"a\r\n.b\r\n..\r\n"), 16)
        );
        assert_eq!(check(b"a.\r\n.c\r\n\r\n.\r\n", BareNewline::Reject), (message(b"a.\r\nc\r\n\r\n"), 13));
        assert_eq!(check(b"a\r\nb\r\nc", BareNewline::Reject).1, usize::MAX);
    }

    #[test]
    fn a_bare_newline_is_rejected_or_made_a_line_end_and_ends_nothing() {
        for wire in [
            &b"a\n.\r\nb\r\n.\r\n"[..],
            b"a\r.\r\nb\r\n.\r\n",
            b"a\r\n.\nb\r\n.\r\n",
            b"a\r\n.\rb\r\n.\r\n",
            b"a\r\r\nb\r\n.\r\n",
            b"\n.\n\r\n.\r\n",
            b"a\r\n.\r.\r\nb\r\n.\r\n",
            b".\r.\r\nb\r\n.\r\n",
            b"a\r\n.\r\r.\r\nb\r\n.\r\n",
        ] {
            let (data, end) = check(wire, BareNewline::Reject);
            assert_eq!((data, end), (Data::BareNewline, wire.len()), "{:?}", String::from_utf8_lossy(wire));
            let (data, end) = check(wire, BareNewline::Normalise);
            let Data::Message(bytes) = data else { panic!("{data:?}") };
            assert_eq!(end, wire.len());
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "{text:?}");
        }
    }

    #[test]
    fn lines_are_seen_wherever_a_window_ends() {
        for length in WINDOW - 4..WINDOW + 4 {
            for (end, wanted) in [
                (&b"\r\nb\r\n.\r\n"[..], "\r\nb\r\n"),
                (b"\r\n..b\r\n.\r\n", "\r\n.b\r\n"),
                (b"\r\n.\r\n", "\r\n"),
                (b"\rb\n.\r\n.\r\n", "\r\nb\r\n.\r\n"),
            ] {
                let text = "a".repeat(length);
                let wire = [text.as_bytes(), end].concat();
                let reader = || DataReader::new(1 << 20, BareNewline::Normalise, 0);
                let mut reader_of_blocks = reader();
                let (mut from, mut ended) = (0, false);
                while from < wire.len() && !ended {
                    let (taken, is_end) = reader_of_blocks.feed(&wire[from..]);
                    (from, ended) = (from + taken, is_end);
                }
                let read = Data::Message(Bytes::from(format!("{text}{wanted}")));
                let read = (read, wire.len());
                assert_eq!((reader_of_blocks.finish(), from), read, "{length} {end:?}");
                for cut in length - 2..wire.len() {
                    assert_eq!(read_in_place(&wire, &[cut], reader()), read, "{length} {end:?} {cut}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn it_matters_neither_where_data_are_cut_nor_where_they_are_read_to(
            pieces in prop::collection::vec("\\PC{0,3}|\r\n|\r|\n|\\.|\r\n\\.|\r\n\\.\r|a{1000,1030}", 0..24),
            cuts in prop::collection::vec(0usize..2000, 0..6),
            bare in prop::sample::select(vec![BareNewline::Reject, BareNewline::Normalise]),
        ) {
            let wire = [&pieces.concat(), "\r\n.\r\nQUIT\r\n"].concat().into_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut <= wire.len()).collect();
            cuts.sort_unstable();
            let reader = || DataReader::new(1 << 20, bare, 0);
            let mut whole = reader();
            let (taken, ended) = whole.feed(&wire);
            prop_assert!(ended);
            prop_assert_eq!(read_in_place(&wire, &cuts, reader()), (whole.finish(), taken));
            // Where one byte comes after the other, nothing is taken for whole lines.
            let each: Vec<usize> = (1..wire.len()).collect();
            let mut by_bytes = reader();
            let read = wire.iter().position(|byte| by_bytes.feed(std::slice::from_ref(byte)).1);
            let read = (by_bytes.finish(), read.map_or(usize::MAX, |at| at + 1));
            prop_assert_eq!(read_in_place(&wire, &each, reader()), read.clone());
            prop_assert_eq!(read_in_place(&wire, &[], reader()), read);
        }
    }

    #[test]
    fn what_is_too_large_is_read_to_its_end() {
        let mut wire = b"line\r\n".repeat(300);
        wire.extend_from_slice(b".\r\nQUIT\r\n");
        assert_eq!(check(&wire, BareNewline::Reject), (Data::TooLarge, 1803));
    }

    #[test]
    fn dots_are_found_where_lines_start() {
        assert_eq!(dots_to_stuff(b".a\r\n.b.\r\n..", true).collect::<Vec<_>>(), [0, 4, 9]);
        assert_eq!(dots_to_stuff(b".a\r\n.b", false).collect::<Vec<_>>(), [4]);
    }
}
