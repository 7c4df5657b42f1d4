//! Subject and Message-ID of a message, sealed for each of its recipients.
//!
//! A subject may name its reader, so it is kept only where the operator asks for it, and under a key that the
//! message has for this recipient alone, made from the recipient's pseudonym. Promised: it opens only for who
//! knows the recipient, and once the recipient is erased it opens for nobody, while the record and its chain
//! stay as they are. Absent: a search by subject.

use super::Note;
use super::note::bare_message_id;
use crate::consent::Pseudonym;
use crate::consent::seal::Sealer;

/// What the keys are derived for.
const LABEL: &str = "evidence headlines";
/// The maximum length of a subject, in characters. What is longer is cut.
const MAX_SUBJECT: usize = 300;

/// What names a message to people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headline {
    /// The subject as people read it.
    pub subject: String,
    /// The Message-ID without its angle brackets; empty if there is none.
    pub message_id: String,
}

impl Headline {
    /// Returns that of a note; `None` unless subjects are kept.
    pub fn of(note: &Note) -> Option<Headline> {
        let subject = note.subject.as_ref()?;
        let clean = subject.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
        Some(Headline {
            subject: clean.take(MAX_SUBJECT).collect(),
            message_id: bare_message_id(&note.message_id).unwrap_or_default(),
        })
    }

    /// Seals it for a recipient. `scope` is that of the segment, `id` the relay's id of the message.
    pub fn sealed(&self, pseudonym: &Pseudonym, scope: &[u8], id: &str) -> Vec<u8> {
        let plain = format!("{}\n{}", self.message_id, self.subject);
        sealer(pseudonym, scope, id).seal(plain.as_bytes(), scope)
    }

    /// Opens what was sealed for this recipient; `None` if it was sealed for somebody else, or altered.
    pub fn opened(sealed: &[u8], pseudonym: &Pseudonym, scope: &[u8], id: &str) -> Option<Headline> {
        let plain = sealer(pseudonym, scope, id).open(sealed, scope).ok()?;
        let plain = String::from_utf8(plain).ok()?;
        let (message_id, subject) = plain.split_once('\n')?;
        Some(Headline { subject: subject.to_owned(), message_id: message_id.to_owned() })
    }
}

fn sealer(pseudonym: &Pseudonym, scope: &[u8], id: &str) -> Sealer {
    Sealer::new(&pseudonym.secret(LABEL, &[scope, id.as_bytes()].concat()))
}
