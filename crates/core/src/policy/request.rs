//! Decides whether a message may ask its reader for consent (N17, N19).

use super::{MailKind, Mailstream};
use crate::consent::{MayAsk, Standing, Timestamp};

/// What happens to a request that comes too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooEarly {
    /// The part that its author marked is removed; without markers the message is rejected.
    Strip,
    /// The message is rejected.
    Reject,
}

/// What happens to a request for consent in one recipient's copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// The message asks nothing.
    None,
    /// The person may be asked.
    Asks,
    /// The person may not be asked: the question is removed.
    Goes,
    /// The person may not be asked, and the message consists of nothing else: it is rejected.
    Rejects,
}

/// Decides about the request in a message. `has_question` says whether its author marked one. If the store
/// does not answer, nobody may be asked.
pub fn request(
    mailstream: &Mailstream,
    has_question: bool,
    standing: Option<&Standing>,
    now: Timestamp,
) -> Request {
    let is_request = mailstream.kind == MailKind::ConsentRequest;
    if !is_request && !has_question {
        return Request::None;
    }
    match standing.map(|standing| standing.may_ask(&mailstream.purposes, now)) {
        Some(MayAsk::Yes) => Request::Asks,
        // People who agreed to everything are not bothered with a question, but mail about it does no harm.
        Some(MayAsk::NoNeed) if !has_question => Request::Asks,
        Some(MayAsk::NoNeed) => Request::Goes,
        Some(MayAsk::NotBefore(_) | MayAsk::Never) | None => match (is_request, mailstream.too_early) {
            (false, _) => Request::Goes,
            (true, TooEarly::Strip) if has_question => Request::Goes,
            (true, TooEarly::Strip | TooEarly::Reject) => Request::Rejects,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::{Change, State};
    use crate::policy::{Footer, Mode, Treatment};
    use crate::rewrite::{LinkTreatment, Personal, Receipts};
    use crate::tracker::{Extent, Links, Unreadable};

    fn check(kind: MailKind, too_early: TooEarly, has_question: bool, said: &[State]) -> Request {
        let treatment = Treatment {
            extent: Extent::Trackers,
            receipts: Receipts::Strip,
            personal: Personal::Gentlest,
            links: Links::Count,
            link_treatment: LinkTreatment::Keep,
            unreadable: Unreadable::Count,
        };
        let unmatched = Mailstream::unmatched("shop", Mode::Enforce, treatment, Footer::WhenTracked);
        let mailstream = Mailstream { kind, too_early, ..unmatched };
        let mut standing = Standing::unknown();
        for (at, state) in (1..).zip(said) {
            let change =
                Change::new("shop".parse().unwrap(), mailstream.purposes.clone(), *state, Timestamp(at));
            let _ = standing.merge(&change, 1, true);
        }
        request(&mailstream, has_question, Some(&standing), Timestamp(1000))
    }

    #[test]
    fn nobody_is_asked_too_early() {
        use MailKind::{ConsentRequest, Ordinary};
        use TooEarly::{Reject, Strip};
        for (kind, too_early, has_question, said, wanted) in [
            (Ordinary, Strip, false, &[State::Refused][..], Request::None),
            (Ordinary, Strip, true, &[], Request::Asks),
            (Ordinary, Strip, true, &[State::Refused], Request::Goes),
            (Ordinary, Reject, true, &[State::Asked], Request::Goes),
            (Ordinary, Strip, true, &[State::Granted], Request::Goes),
            (ConsentRequest, Strip, false, &[], Request::Asks),
            (ConsentRequest, Strip, false, &[State::Granted], Request::Asks),
            (ConsentRequest, Strip, false, &[State::Asked], Request::Rejects),
            (ConsentRequest, Strip, true, &[State::Asked], Request::Goes),
            (ConsentRequest, Reject, true, &[State::Withdrawn], Request::Rejects),
        ] {
            assert_eq!(check(kind, too_early, has_question, said), wanted, "{kind:?} {too_early:?} {said:?}");
        }
    }

    #[test]
    fn a_store_that_does_not_answer_lets_nobody_be_asked() {
        let asked = |has_question| {
            let treatment = Treatment {
                extent: Extent::Trackers,
                receipts: Receipts::Strip,
                personal: Personal::Gentlest,
                links: Links::Count,
                link_treatment: LinkTreatment::Keep,
                unreadable: Unreadable::Count,
            };
            let mailstream = Mailstream::unmatched("shop", Mode::Enforce, treatment, Footer::WhenTracked);
            request(
                &Mailstream { kind: MailKind::ConsentRequest, ..mailstream },
                has_question,
                None,
                Timestamp(0),
            )
        };
        assert_eq!((asked(false), asked(true)), (Request::Rejects, Request::Goes));
    }
}
