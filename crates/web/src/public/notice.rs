//! What a person is told before choosing (N20), as one text whose hash a record keeps (N21).

use aws_lc_rs::digest;

use super::face::Face;
use super::texts::{Texts, VERSION, fill};
use crate::consent::{Standing, State, Timestamp};
use crate::policy::decision::{Facts, Rule, decide};
use crate::policy::{
    Controller, Exemption, Instruction, Language, MailKind, Mailstream, Mode, Need, OnGrant, Purpose,
    Rulebook,
};
use crate::rewrite::LinkTreatment;

/// What a controller asks for, and what it does without asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// Every purpose for which any of its mail needs consent, each once.
    pub(super) purposes: Vec<Purpose>,
    links: Covered,
    /// What becomes of links in delivered mail after a withdrawal; `None` if nobody is asked about links.
    delivered_links: Option<DeliveredLinks>,
    /// What is done with the opens of somebody who has not answered; of this person's, once they said no.
    unasked: Vec<Use>,
    /// What of that is not done with the opens of this person, who objected to it.
    objected: Vec<Use>,
    /// Whether trackers of any mail stay for everybody.
    stays: bool,
    on_grant: OnGrant,
}

/// What may be done with opens without a yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Use {
    /// The day of the last open is noted (N11).
    LastDay,
    /// Opens are counted for everybody together (N14).
    Shared,
    /// Opens of mail that secures an account are recorded (N10).
    Security,
    /// Opens of legally required notices are recorded (N13).
    Legal,
    /// It goes on as before for who was informed in time (N29).
    Informed,
    /// Trackers stay: mail is only observed, or no rule applies to it.
    Unasked,
}

impl Use {
    /// Determines what a mailstream leads to for somebody with this standing.
    fn of(mailstream: &Mailstream, facts: &Facts<'_>) -> Option<Use> {
        if mailstream.mode == Mode::Observe {
            return Some(Use::Unasked);
        }
        match decide(facts).rule {
            Rule::NoRules => Some(Use::Unasked),
            Rule::Exempt(Exemption::Deliverability) => Some(Use::LastDay),
            Rule::Exempt(Exemption::AggregateStatistics) => Some(Use::Shared),
            Rule::Exempt(Exemption::AuthSecurity) => Some(Use::Security),
            Rule::Exempt(Exemption::LegalNotice) => Some(Use::Legal),
            Rule::Exempt(Exemption::LegacyInformed) => Some(Use::Informed),
            Rule::Granted
            | Rule::GrantStripped
            | Rule::NoConsent
            | Rule::Refused
            | Rule::RefusedBySender
            | Rule::NoTrack
            | Rule::StoreUnreachable
            | Rule::ConsentRequest
            | Rule::PurposesDiffer
            | Rule::InternalError => None,
        }
    }

    /// What a person objects to who does not want it.
    fn purpose(self) -> Option<Purpose> {
        match self {
            Use::LastDay => Some(Purpose::Deliverability),
            Use::Shared => Some(Purpose::AggregateStatistics),
            Use::Security | Use::Legal | Use::Informed | Use::Unasked => None,
        }
    }

    pub(super) fn text(self, texts: &Texts) -> &str {
        match self {
            Use::LastDay => &texts.last_day,
            Use::Shared => &texts.exempt_shared,
            Use::Security => &texts.exempt_security,
            Use::Legal => &texts.exempt_legal,
            Use::Informed => &texts.exempt_informed,
            Use::Unasked => &texts.unasked,
        }
    }
}

/// The mailstreams that a controller's readers get mail of.
fn mailstreams<'a>(rulebook: &'a Rulebook, controller: &Controller) -> Vec<&'a Mailstream> {
    let chosen = rulebook.all().filter(|chosen| chosen.controller.name == controller.name);
    let all: Vec<_> = chosen
        .map(|chosen| chosen.mailstream)
        .filter(|mailstream| mailstream.kind == MailKind::Ordinary)
        .collect();
    // Mail that matches no mailstream counts only if there is no other.
    let is_only = all.iter().all(|mailstream| mailstream.is_unmatched());
    all.into_iter().filter(|mailstream| is_only || !mailstream.is_unmatched()).collect()
}

/// Lists what is done with the opens of somebody with this standing who did not agree, by the decisions that
/// the relay makes about their mail.
pub(super) fn uses(
    rulebook: &Rulebook,
    controller: &Controller,
    standing: &Standing,
    now: Timestamp,
) -> Vec<Use> {
    let in_force = rulebook.jurisdictions.at(now);
    let used = mailstreams(rulebook, controller).into_iter().filter_map(|mailstream| {
        let rules = in_force.named(mailstream.declared());
        let facts = Facts {
            rules: &rules,
            mailstream,
            on_grant: controller.on_grant,
            standing: Some(standing),
            instruction: Instruction::None,
            now,
        };
        Use::of(mailstream, &facts)
    });
    let mut uses: Vec<Use> = used.collect();
    uses.sort_unstable();
    uses.dedup();
    uses
}

/// In how much of its mail links follow the choice (N3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Covered {
    All,
    Some,
    None,
}

/// What becomes of links in delivered mail after a withdrawal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeliveredLinks {
    /// They are gates, as far as their pages are known.
    Gated,
    /// Some of them go on reporting.
    Report,
}

impl Offer {
    /// Determines what a controller asks a person for now.
    pub(super) fn of(
        rulebook: &Rulebook,
        controller: &Controller,
        standing: &Standing,
        now: Timestamp,
    ) -> Offer {
        let mailstreams = mailstreams(rulebook, controller);
        let in_force = rulebook.jurisdictions.at(now);
        let obeying: Vec<&Mailstream> = mailstreams
            .iter()
            .copied()
            .filter(|mailstream| {
                mailstream.mode == Mode::Enforce
                    && mailstream.treatment.link_treatment != LinkTreatment::Keep
                    && in_force.named(mailstream.declared()).flags.links == Need::Consent
            })
            .collect();
        let links = match obeying.len() {
            0 => Covered::None,
            all if all == mailstreams.len() => Covered::All,
            _ => Covered::Some,
        };
        let asking: Vec<&&Mailstream> =
            obeying.iter().filter(|mailstream| mailstream.declares_links()).collect();
        let asks_about_links = controller.on_grant != OnGrant::Strip && !asking.is_empty();
        let are_gated = controller.public_url.is_some()
            && asking.iter().all(|mailstream| mailstream.treatment.link_treatment == LinkTreatment::Gate);
        let delivered_links = asks_about_links.then_some(if are_gated {
            DeliveredLinks::Gated
        } else {
            DeliveredLinks::Report
        });
        // A yes that leads to nothing is not asked for.
        let is_served = |purpose: &Purpose| match purpose {
            Purpose::LinkTracking => asks_about_links,
            _ => {
                controller.on_grant != OnGrant::Strip
                    && mailstreams.iter().any(|mailstream| mailstream.purposes.contains(purpose))
            }
        };
        let unasked = uses(rulebook, controller, &unanswered(standing), now);
        let done = uses(rulebook, controller, standing, now);
        let says_no = |purpose: Purpose| {
            let state = standing.of(purpose).map(|mark| mark.state);
            matches!(state, Some(State::Refused | State::Withdrawn | State::Objected))
        };
        let is_objected = |used: &Use| used.purpose().is_some_and(says_no) && !done.contains(used);
        // Who said no is told what is done all the same.
        let has_said_no = Purpose::ALL.into_iter().any(says_no);
        let told = |used: &Use| !has_said_no || done.contains(used);
        Offer {
            purposes: Purpose::CONSENT.into_iter().filter(is_served).collect(),
            links,
            delivered_links,
            objected: unasked.iter().copied().filter(is_objected).collect(),
            stays: unasked.contains(&Use::Unasked),
            unasked: unasked.into_iter().filter(told).collect(),
            on_grant: controller.on_grant,
        }
    }

    /// Says what becomes of links, and of mail that was delivered while a yes stood.
    pub(super) fn after_refusal(&self, texts: &Texts, had_agreed: bool) -> Vec<String> {
        let delivered = self.delivered(texts).into_iter().chain(self.delivered_links(texts));
        let delivered = delivered.filter(|_| had_agreed).map(str::to_owned);
        delivered.chain([self.links(texts).to_owned()]).collect()
    }

    /// Says what is not done because the person objected to it.
    pub(super) fn objected<'a>(&self, texts: &'a Texts) -> impl Iterator<Item = &'a str> {
        self.objected.iter().filter_map(|used| match used {
            Use::LastDay => Some(texts.objected_day.as_str()),
            Use::Shared => Some(texts.objected_shared.as_str()),
            Use::Security | Use::Legal | Use::Informed | Use::Unasked => None,
        })
    }

    fn links<'a>(&self, texts: &'a Texts) -> &'a str {
        match self.links {
            Covered::All => &texts.links_all,
            Covered::Some => &texts.links_some,
            Covered::None => &texts.links_none,
        }
    }

    /// Says whether a withdrawal reaches delivered mail.
    fn delivered<'a>(&self, texts: &'a Texts) -> Option<&'a str> {
        if self.asks_about_links() && !self.asks_about_opens() {
            return None;
        }
        match self.on_grant {
            // Mail whose trackers stay for everybody leads to no gate.
            OnGrant::Gate | OnGrant::Strip if self.stays => Some(&texts.delivered_keep),
            OnGrant::Gate => Some(&texts.delivered_gate),
            OnGrant::Keep => Some(&texts.delivered_keep),
            OnGrant::Strip => None,
        }
    }

    /// Says whether a withdrawal reaches links in delivered mail, where anybody is asked about them.
    fn delivered_links<'a>(&self, texts: &'a Texts) -> Option<&'a str> {
        self.delivered_links.map(|links| match links {
            DeliveredLinks::Gated => texts.delivered_links_gate.as_str(),
            DeliveredLinks::Report => texts.delivered_links_keep.as_str(),
        })
    }

    /// What is asked: about opens, about links, or about both.
    fn title<'a>(&self, texts: &'a Texts) -> &'a str {
        match (self.asks_about_links(), self.asks_about_opens()) {
            (false, _) => &texts.title,
            (true, true) => &texts.title_both,
            (true, false) => &texts.title_links,
        }
    }

    /// What a yes leads to.
    fn what(&self, texts: &Texts) -> String {
        match (self.asks_about_links(), self.asks_about_opens()) {
            (false, _) => texts.what.clone(),
            (true, true) => format!("{} {}", texts.what, texts.what_links_too),
            (true, false) => texts.what_links.clone(),
        }
    }

    fn asks_about_links(&self) -> bool {
        self.purposes.contains(&Purpose::LinkTracking)
    }

    fn asks_about_opens(&self) -> bool {
        self.purposes.iter().any(|purpose| purpose.is_about_opens())
    }

    /// Whether nobody but who agreed is ever known to have done what the title asks about. Of links, that cannot
    /// be said: some say nowhere what they lead to.
    fn needs_a_yes(&self) -> bool {
        !self.asks_about_links() && self.unasked.iter().all(|used| *used == Use::Shared)
    }

    /// Whether the purposes asked about are served for nobody who did not agree.
    fn asks_first(&self) -> bool {
        !self.unasked.iter().any(|used| matches!(used, Use::Informed | Use::Unasked))
    }
}

/// The same person before any answer: only what does not come from a choice.
fn unanswered(standing: &Standing) -> Standing {
    let mut before = Standing::unknown();
    before.collected_at = standing.collected_at;
    before.notice_sent_at = standing.notice_sent_at;
    before
}

/// The information given to a person.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    pub(super) title: String,
    pub(super) lead: String,
    pub(super) what: String,
    /// Each purpose with its name and meaning.
    pub(super) purposes: Vec<(Purpose, String, String)>,
    /// Who is responsible, how long it lasts, and which rights there are, a paragraph each.
    pub(super) more: Vec<String>,
    /// What follows from a choice, and what is done without one.
    pub(super) also: Vec<String>,
    /// What is not done with the opens of this person, who objected to it. The hash has every such sentence, as
    /// it has those of what was said before.
    pub(super) objected: Vec<String>,
    /// What the button to withdraw does.
    pub(super) stop: String,
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
        let purpose = |purpose: &Purpose| {
            let (name, meaning) = texts.purpose(*purpose);
            (*purpose, filled(name), filled(meaning))
        };
        let lead = if offer.needs_a_yes() {
            format!("{} {}", filled(&texts.lead_only), filled(&texts.lead))
        } else {
            filled(&texts.lead)
        };
        let mut also = vec![filled(&texts.mail_stays), filled(offer.links(texts))];
        also.extend(offer.unasked.iter().map(|used| filled(used.text(texts))));
        let suffix = if face.is_own(language) { "+own" } else { "" };
        let delivered = offer.delivered(texts).map(filled);
        let delivered_links = offer.delivered_links(texts).map(filled);
        let mut notice = Notice {
            title: filled(offer.title(texts)),
            lead,
            what: filled(&offer.what(texts)),
            purposes: offer.purposes.iter().map(purpose).collect(),
            more: more(face, texts, offer),
            also,
            objected: offer.objected(texts).map(filled).collect(),
            stop: [Some(filled(&texts.stop_text)), delivered, delivered_links]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" "),
            version: format!("{VERSION}{suffix}/{}", language.code()),
            hash: String::new(),
        };
        let text = notice.text(face, texts);
        notice.hash = hex::encode(digest::digest(&digest::SHA256, text.as_bytes()));
        notice
    }

    /// Returns the exact text, one paragraph per line: every word on the page before a choice but the address
    /// and what was said before, and where the privacy notice stands.
    pub(super) fn text(&self, face: &Face, texts: &Texts) -> String {
        let mut lines: Vec<&str> = vec![&self.title, &self.lead, &self.what, &texts.for_purposes];
        lines.extend(self.purposes.iter().map(|(_, name, _)| name.as_str()));
        lines.extend([&*texts.refuse_all, &texts.accept_all, &texts.object, &texts.whose, &texts.one_by_one]);
        for (_, name, meaning) in &self.purposes {
            lines.extend([name.as_str(), meaning]);
        }
        lines.extend([&*texts.state_yes, &texts.state_no, &texts.state_over, &texts.state_none]);
        lines.extend([&*texts.objected_day, &texts.objected_shared]);
        lines.extend([&*texts.yes, &texts.no, &texts.save, &texts.more_heading]);
        lines.extend(self.more.iter().chain(&self.also).map(String::as_str));
        lines.extend([&*texts.privacy, face.privacy_url.as_deref().unwrap_or_default()]);
        lines.extend([&*texts.stop_heading, &self.stop, &texts.stop]);
        lines.join("\n") + "\n"
    }
}

/// Says who is responsible, how long it lasts, and which rights there are.
fn more(face: &Face, texts: &Texts, offer: &Offer) -> Vec<String> {
    let filled = |text: &str| fill(text, &[("controller", &face.title)]);
    let mut who = filled(&texts.who);
    if offer.asks_first() {
        let only_yes = if offer.asks_about_links() { &texts.only_yes_opens } else { &texts.only_yes };
        if !offer.asks_about_links() || offer.asks_about_opens() {
            who = format!("{who} {}", filled(only_yes));
        }
    }
    if let Some(names) = &face.recipients {
        who = format!("{who} {}", fill(&texts.recipients, &[("recipients", names)]));
    }
    let days = face.retention_days.map(|days| days.to_string());
    let retention = days.map(|days| fill(&texts.retention, &[("count", &days)]));
    let contact = face.contact.as_deref().map(|contact| fill(&texts.contact, &[("contact", contact)]));
    let see_notice = face.privacy_url.as_ref().map(|_| filled(&texts.see_notice));
    // Where nothing is asked, there is no later yes.
    let priority = (!offer.purposes.is_empty()).then(|| filled(&texts.priority));
    let long = [Some(filled(&texts.long)), priority, retention, see_notice];
    let long = long.into_iter().flatten().collect::<Vec<_>>().join(" ");
    [Some(who), Some(long), Some(filled(&texts.rights)), contact].into_iter().flatten().collect()
}
