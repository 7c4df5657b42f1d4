//! Notes that the mail path hands over: one per message, from which a record for each recipient is made
//! elsewhere.

use std::borrow::Cow;
use std::sync::Arc;

use super::record::{Record, Reported, Sighted, Tag};
use crate::Effect;
use crate::consent::{Person, Timestamp};
use crate::digest::BodyHash;
use crate::policy::Decision;
use crate::smtp::{Reply, reply::Class};

/// The maximum length of a Message-ID, in characters.
const MAX_MESSAGE_ID: usize = 200;
/// The maximum length of a next hop's queue id.
const MAX_QUEUE_ID: usize = 64;

/// The rule in records of recipients who were refused before the message came: nothing was decided.
pub const NOT_RECEIVED: &str = "not_received";

/// A note about one message.
#[derive(Debug)]
pub struct Note {
    /// When it was decided.
    pub at: Timestamp,
    /// The relay's id of the message.
    pub id: String,
    /// Its Message-ID.
    pub message_id: String,
    /// What the sender calls the campaign; empty if the header does not say.
    pub campaign: String,
    /// Its subject as people read it, if subjects are kept. It is sealed before it is written.
    pub subject: Option<String>,
    /// The controller.
    pub controller: Arc<str>,
    /// After how many days that controller's records are deleted, if it sets fewer.
    pub days: Option<u16>,
    /// The mailstream.
    pub mailstream: Arc<str>,
    /// Whether decisions are only observed.
    pub observed: bool,
    /// The listener through which it came.
    pub listener: String,
    /// The next hops of its route.
    pub route: String,
    /// A service that may still track; empty if there is none.
    pub downstream: String,
    /// How many trackers were found.
    pub found: usize,
    /// How many links report who followed them.
    pub links: usize,
    /// How many text parts cannot be read.
    pub unreadable: usize,
    /// The same by carrier and vendor.
    pub sightings: Vec<Sighted<'static>>,
    /// Where they report to.
    pub reports: Vec<Reported<'static>>,
    /// The hosts of trackers of unknown vendors, as far as they may be kept, and their counts; only for the
    /// statistics.
    pub hosts: Vec<(String, u64)>,
    /// The hash of the body as received, if bodies are hashed.
    pub before: Option<BodyHash>,
    /// The copies offered to the next hop.
    pub copies: Vec<NotedCopy>,
}

/// A copy.
#[derive(Debug)]
pub struct NotedCopy {
    /// The hash of its body; `None` if it could not be made, or bodies are not hashed.
    pub after: Option<BodyHash>,
    /// The recipients.
    pub recipients: Vec<NotedRecipient>,
}

/// A recipient.
#[derive(Debug)]
pub struct NotedRecipient {
    /// The person.
    pub person: Person,
    /// What was decided, and why; `None` if nothing was, as the message never came.
    pub decision: Option<Decision>,
    /// What was done in the copy that the next hop took.
    pub effect: Effect,
    /// The result of the delivery.
    pub reply: Reply,
    /// Whether 8-bit text went out as quoted-printable.
    pub converted: bool,
}

impl Note {
    /// Returns how many recipients it has.
    pub fn recipients(&self) -> usize {
        self.copies.iter().map(|copy| copy.recipients.len()).sum()
    }

    /// Iterates over all recipients with their copies.
    pub fn each(&self) -> impl Iterator<Item = (&NotedCopy, &NotedRecipient)> {
        self.copies.iter().flat_map(|copy| copy.recipients.iter().map(move |recipient| (copy, recipient)))
    }

    /// Builds the record of one recipient, in which nothing is sealed yet.
    pub fn record<'a>(
        &'a self,
        copy: &'a NotedCopy,
        recipient: &'a NotedRecipient,
        message_id: Option<Tag>,
        person: Option<Tag>,
    ) -> Record<'a> {
        let decision = recipient.decision.as_ref();
        Record {
            at: self.at.0,
            id: self.id.as_str().into(),
            message_id,
            person,
            controller: (&*self.controller).into(),
            mailstream: (&*self.mailstream).into(),
            listener: self.listener.as_str().into(),
            route: self.route.as_str().into(),
            rule: decision.map_or(NOT_RECEIVED, |decision| decision.rule.name()).into(),
            version: decision.map_or("none", |decision| &*decision.version).into(),
            consent_record: decision.and_then(|decision| decision.record),
            decided: decision.map_or("none", |decision| decision.outcome.name()).into(),
            done: recipient.effect.done.name().into(),
            observed: self.observed,
            shortfall: recipient.effect.shortfall.map(Into::into),
            found: self.found as u64,
            links: self.links as u64,
            links_unwrapped: recipient.effect.links.unwrapped as u64,
            links_gated: recipient.effect.links.gated as u64,
            links_left: recipient.effect.links.left as u64,
            unreadable: self.unreadable as u64,
            removed: recipient.effect.removed as u64,
            swapped: recipient.effect.swapped as u64,
            sightings: Cow::Borrowed(&self.sightings),
            reports: Cow::Borrowed(&self.reports),
            before: self.before,
            after: copy.after,
            result: recipient.reply.class().name().into(),
            code: recipient.reply.code(),
            status: (recipient.reply.class() != Class::Positive).then(|| recipient.reply.enhanced().into()),
            queue_id: queue_id(&recipient.reply).map(Into::into),
            converted: recipient.converted,
            downstream: (!self.downstream.is_empty()).then(|| self.downstream.as_str().into()),
            campaign: (!self.campaign.is_empty()).then(|| self.campaign.as_str().into()),
            headline: None,
        }
    }
}

/// Returns the form of a Message-ID that is hashed: without the angle brackets and what is around them;
/// `None` if nothing is left.
pub fn bare_message_id(text: &str) -> Option<String> {
    let text = text.trim();
    let inner = text.split_once('<').map_or(text, |(_, rest)| rest);
    let inner = inner.split_once('>').map_or(inner, |(inner, _)| inner);
    let inner: String = inner.chars().filter(char::is_ascii_graphic).take(MAX_MESSAGE_ID).collect();
    (!inner.is_empty()).then_some(inner)
}

/// Extracts the next hop's id from its reply, as common servers write it. Nothing else of the text is kept:
/// it may name people.
pub fn queue_id(reply: &Reply) -> Option<String> {
    if reply.code() / 100 != 2 {
        return None;
    }
    let text = reply.text();
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let found = words.iter().enumerate().find_map(|(index, word)| {
        let following = |ahead: usize| words.get(index + ahead).copied();
        let starts = |word: &str, wanted: &str| {
            word.get(..wanted.len()).is_some_and(|start| start.eq_ignore_ascii_case(wanted))
        };
        let is_next = |wanted: &str| following(1).is_some_and(|word| starts(word, wanted));
        if word.eq_ignore_ascii_case("queued") && is_next("as") {
            // Postfix: "queued as X".
            following(2)
        } else if word.eq_ignore_ascii_case("queued") && !is_next("mail") && !is_next("for") {
            // Others: "queued X".
            following(1)
        } else if word.eq_ignore_ascii_case("message") && is_next("accepted") {
            // Sendmail, OpenSMTPD: "X Message accepted for delivery".
            index.checked_sub(1).and_then(|before| words.get(before)).copied()
        } else {
            // Exim: "OK id=X".
            starts(word, "id=").then(|| word.get(3..)).flatten()
        }
    })?;
    let id = found.trim_matches(|character: char| !character.is_ascii_alphanumeric());
    let is_one = !id.is_empty()
        && id.len() <= MAX_QUEUE_ID
        && id.bytes().any(|byte| byte.is_ascii_digit())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.=+".contains(&byte));
    is_one.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_ids_are_found_and_nothing_else_is_kept() {
        let check = |text: &str, wanted: Option<&str>| {
            assert_eq!(queue_id(&Reply::new(250, text)).as_deref(), wanted, "{text}");
        };
        check("2.0.0 Ok: queued as 4XyZ12", Some("4XyZ12"));
        check("2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as 9A8B7C", Some("9A8B7C"));
        check("OK id=1rAbCd-000123-AB", Some("1rAbCd-000123-AB"));
        check("2.0.0 41ABcdEF012345 Message accepted for delivery", Some("41ABcdEF012345"));
        check("2.0.0: 5f1c3a2b Message accepted for delivery", Some("5f1c3a2b"));
        check("2.6.0 <a1@home.example> [InternalId=5] Queued mail for delivery", None);
        check("2.1.5 queued as eve7@home.example", None);
        check("2.0.0 queued as eve", None);
        check("queued", None);
        check("2.0.0 OK", None);
        assert_eq!(queue_id(&Reply::new(451, "queued as 4XyZ12")), None);
    }

    #[test]
    fn message_ids_are_the_same_however_they_are_written() {
        for written in ["<a.1@shop.example>", " a.1@shop.example ", "<a.1@shop.\r\n example> (comment)"] {
            assert_eq!(bare_message_id(written).as_deref(), Some("a.1@shop.example"));
        }
        assert_eq!(bare_message_id(" <> "), None);
        assert_eq!(bare_message_id(""), None);
    }
}
