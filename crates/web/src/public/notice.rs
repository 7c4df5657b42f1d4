//! What a person is told before choosing (N20), as one text whose hash a record keeps (N21).

use aws_lc_rs::digest;

use super::face::Face;
use super::texts::{Texts, VERSION, fill};
use crate::consent::{Controller, Timestamp};
use crate::policy::{Exemption, Language, MailKind, Need, Purpose, Rulebook};
use crate::rewrite::LinkTreatment;

/// What a controller asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// Every purpose for which any of its mail needs consent, each once.
    pub(super) purposes: Vec<Purpose>,
    links: Covered,
    /// Whether some of its mail may record the day of the last open (N11).
    last_day: bool,
}

/// In how much of its mail links follow the choice (N3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Covered {
    All,
    Some,
    None,
}

impl Offer {
    /// Determines what a controller asks for now.
    pub(super) fn of(rulebook: &Rulebook, controller: &Controller, now: Timestamp) -> Offer {
        let chosen = rulebook.all().filter(|chosen| chosen.controller.name == *controller);
        let mailstreams: Vec<_> = chosen
            .map(|chosen| chosen.mailstream)
            .filter(|mailstream| mailstream.kind == MailKind::Ordinary)
            .collect();
        // Mail that matches no mailstream counts only if there is no other.
        let is_only = mailstreams.iter().all(|mailstream| mailstream.is_unmatched());
        let mailstreams: Vec<_> =
            mailstreams.into_iter().filter(|mailstream| is_only || !mailstream.is_unmatched()).collect();
        let in_force = rulebook.jurisdictions.at(now);
        let obeys = mailstreams.iter().map(|mailstream| {
            mailstream.treatment.link_treatment == LinkTreatment::Unwrap
                && in_force.named(mailstream.declared()).flags.links == Need::Consent
        });
        let obeying = obeys.filter(|obeys| *obeys).count();
        let links = match obeying {
            0 => Covered::None,
            all if all == mailstreams.len() => Covered::All,
            _ => Covered::Some,
        };
        let is_served =
            |purpose: &Purpose| mailstreams.iter().any(|mailstream| mailstream.purposes.contains(purpose));
        Offer {
            purposes: Purpose::CONSENT.into_iter().filter(is_served).collect(),
            links,
            last_day: mailstreams
                .iter()
                .any(|mailstream| mailstream.exemption == Some(Exemption::Deliverability)),
        }
    }
}

/// The information given to a person.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    pub(super) title: String,
    pub(super) lead: String,
    pub(super) what: String,
    pub(super) who: String,
    pub(super) long: String,
    pub(super) also: Vec<String>,
    pub(super) choice: String,
    /// Each purpose with its name and meaning.
    pub(super) purposes: Vec<(Purpose, String, String)>,
    /// The version of the texts.
    pub(super) version: String,
    /// The SHA-256 of all of it, in hexadecimal.
    pub(super) hash: String,
}

impl Notice {
    /// Builds the information about an offer in a language.
    pub(super) fn new(face: &Face, language: Language, offer: &Offer) -> Notice {
        let texts = face.texts(language);
        let filled = |text: &str| fill(text, &[("controller", &face.title)]);
        let links = match offer.links {
            Covered::All => &texts.links_all,
            Covered::Some => &texts.links_some,
            Covered::None => &texts.links_none,
        };
        let mut also = vec![filled(&texts.mail_stays), filled(links)];
        if offer.last_day {
            also.push(filled(&texts.last_day));
        }
        let purpose = |purpose: &Purpose| {
            let (name, meaning) = texts.purpose(*purpose);
            (*purpose, filled(name), filled(meaning))
        };
        let suffix = if face.is_own(language) { "+own" } else { "" };
        let mut notice = Notice {
            title: filled(&texts.title),
            lead: filled(&texts.lead),
            what: filled(&texts.what),
            who: filled(&texts.who),
            long: filled(&texts.long),
            also,
            choice: filled(&texts.choice_lead),
            purposes: offer.purposes.iter().map(purpose).collect(),
            version: format!("{VERSION}{suffix}/{}", language.code()),
            hash: String::new(),
        };
        notice.hash = hex::encode(digest::digest(&digest::SHA256, notice.text(texts).as_bytes()).as_ref());
        notice
    }

    /// Returns the exact text, one paragraph per line.
    pub(super) fn text(&self, texts: &Texts) -> String {
        let mut lines: Vec<&str> = vec![&self.title, &self.lead, &self.what, &self.who, &self.long];
        lines.extend(self.also.iter().map(String::as_str));
        lines.push(&self.choice);
        for (_, name, meaning) in &self.purposes {
            lines.extend([name.as_str(), meaning]);
        }
        lines.extend([&*texts.yes, &texts.no, &texts.save, &texts.accept_all, &texts.refuse_all]);
        lines.join("\n") + "\n"
    }
}
