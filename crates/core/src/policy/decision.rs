//! What is decided for one recipient, and why.
//!
//! Promised: nothing leads to `keep` or `swap_gated` without a standing grant of every purpose (N8, N9), but
//! the exemptions that a mailstream declared and a jurisdiction knows, and the jurisdiction without rules. A
//! store that does not answer, `no_track` and a consent request always strip.

use std::sync::Arc;

use super::{
    Exemption, Instruction, MailKind, Mailstream, Need, OnGrant, Outcome, Purpose, Requested, Rules,
    SharedAfterNo,
};
use crate::consent::{Permission, Standing, State, Timestamp};
use crate::rewrite::Receipts;

/// Addresses collected from then on have no transition (N30): 2026-04-14.
pub const COLLECTED_BEFORE: Timestamp = Timestamp(1_776_124_800_000);
/// Who was not informed before then has none either (N29): the end of 2026-07-14.
pub const INFORMED_BEFORE: Timestamp = Timestamp(1_784_073_600_000);

/// Why it was decided so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The person agreed to every purpose.
    Granted,
    /// The person agreed, and the configuration strips all the same.
    GrantStripped,
    /// At least one purpose lacks a standing grant (N8).
    NoConsent,
    /// The person said no to a purpose.
    Refused,
    /// The sending application says so of this message.
    RefusedBySender,
    /// Never track this person (N32).
    NoTrack,
    /// The store could not be asked; nothing counts as granted then (N8).
    StoreUnreachable,
    /// Mail that asks for consent carries nothing that needs it (N17).
    ConsentRequest,
    /// Where the person is, no rule is applied.
    NoRules,
    /// An exemption holds, with all its conditions.
    Exempt(Exemption),
    /// Every purpose is allowed, but one pixel cannot serve them in different ways.
    PurposesDiffer,
    /// Analysis or decision ended in an internal error, so nothing counts as allowed.
    InternalError,
}

impl Rule {
    /// The name used in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Rule::Granted => "granted",
            Rule::GrantStripped => "granted_but_on_grant_is_strip",
            Rule::NoConsent => "no_consent",
            Rule::Refused => "refused",
            Rule::RefusedBySender => "refused_by_sender",
            Rule::NoTrack => "no_track",
            Rule::StoreUnreachable => "store_unreachable",
            Rule::ConsentRequest => "consent_request",
            Rule::NoRules => "no_rules",
            Rule::Exempt(exemption) => exemption.name(),
            Rule::PurposesDiffer => "purposes_differ",
            Rule::InternalError => "internal_error",
        }
    }
}

/// What becomes of links that report who followed them (N3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkFate {
    /// They stay: nobody has to be asked.
    Stay,
    /// They may report, since the person agreed.
    Granted,
    /// They are treated as the mailstream says.
    Treat,
}

impl LinkFate {
    /// The name used in interfaces.
    pub const fn name(self) -> &'static str {
        match self {
            LinkFate::Stay => "stay",
            LinkFate::Granted => "granted",
            LinkFate::Treat => "treat",
        }
    }
}

/// What is done for one recipient, with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What happens to trackers in this recipient's copy.
    pub outcome: Outcome,
    /// What happens to tracked links.
    pub links: LinkFate,
    /// What happens to requests for a receipt.
    pub receipts: Receipts,
    /// Why.
    pub rule: Rule,
    /// By which version of which rules, such as `fr/2026-07-14`.
    pub version: Arc<str>,
    /// The journal's number of the newest record that led there.
    pub record: Option<u64>,
}

impl Decision {
    /// What holds for everybody where analysis or decision ended in an internal error.
    pub fn after_internal_error(mailstream: &Mailstream) -> Decision {
        Decision {
            outcome: Outcome::Strip,
            links: LinkFate::Treat,
            receipts: mailstream.treatment.receipts,
            rule: Rule::InternalError,
            version: Arc::from("none"),
            record: None,
        }
    }
}

/// What a decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The rules that hold for the person now.
    pub rules: &'a Rules,
    /// What was declared about the mail.
    pub mailstream: &'a Mailstream,
    /// What a grant leads to.
    pub on_grant: OnGrant,
    /// What the person said; `None` where the store could not be asked.
    pub standing: Option<&'a Standing>,
    /// What the sending application says of the message.
    pub instruction: Instruction,
    /// The moment of the decision.
    pub now: Timestamp,
}

/// Decides for one recipient.
pub fn decide(facts: &Facts<'_>) -> Decision {
    let (outcome, rule, record) = judge(facts);
    Decision {
        outcome,
        links: links(facts, rule),
        receipts: facts.mailstream.treatment.receipts,
        rule,
        version: Arc::clone(&facts.rules.version),
        record,
    }
}

type Judgement = (Outcome, Rule, Option<u64>);

const fn strip(rule: Rule, record: Option<u64>) -> Judgement {
    (Outcome::Strip, rule, record)
}

fn judge(facts: &Facts<'_>) -> Judgement {
    if facts.mailstream.kind == MailKind::ConsentRequest {
        return strip(Rule::ConsentRequest, None);
    }
    if facts.instruction == Instruction::Refused {
        return strip(Rule::RefusedBySender, None);
    }
    let Some(standing) = facts.standing else { return strip(Rule::StoreUnreachable, None) };
    if standing.no_track() {
        return strip(Rule::NoTrack, standing.no_track_record().max(newest(standing)));
    }
    match facts.rules.flags.opens {
        // Where nobody has to ask, a no is heard all the same.
        Need::Free => refused(facts, standing).unwrap_or((Outcome::Keep, Rule::NoRules, None)),
        Need::Consent => by_purposes(facts, standing),
    }
}

/// Every purpose needs a grant or an exemption (N9), and all of them must lead to the same outcome.
fn by_purposes(facts: &Facts<'_>, standing: &Standing) -> Judgement {
    let (mut outcome, mut granted, mut exempt) = (None, None, None);
    for purpose in facts.mailstream.purposes_of_opens() {
        let allowed = match (standing.allows(purpose, facts.now), exemption(facts, standing, purpose)) {
            (Permission::Granted(record), _) => {
                granted = granted.max(Some(record));
                on_grant(facts.on_grant)
            }
            (Permission::NotGranted(_), Some(exemption)) => {
                exempt = Some(exemption);
                exemption.outcome()
            }
            (Permission::NotGranted(_), None) => {
                return refused(facts, standing).unwrap_or(strip(Rule::NoConsent, None));
            }
        };
        outcome = Some(outcome.map_or(allowed, |before: Outcome| before.join(allowed)));
    }
    match (outcome, exempt) {
        (None, _) => strip(Rule::NoConsent, None),
        (Some(_), _) if granted.is_some() && facts.on_grant == OnGrant::Strip => {
            strip(Rule::GrantStripped, granted)
        }
        (Some(outcome), None) => (outcome, Rule::Granted, granted),
        (Some(outcome), Some(exemption)) if outcome == exemption.outcome() => {
            let informed = exemption == Exemption::LegacyInformed;
            (outcome, Rule::Exempt(exemption), if informed { newest(standing) } else { granted })
        }
        (Some(_), Some(_)) => strip(Rule::PurposesDiffer, granted),
    }
}

const fn on_grant(on_grant: OnGrant) -> Outcome {
    match on_grant {
        OnGrant::Gate => Outcome::SwapGated,
        OnGrant::Keep => Outcome::Keep,
        OnGrant::Strip => Outcome::Strip,
    }
}

/// The exemption that stands in for consent to a purpose, where the mailstream declares it, the jurisdiction
/// knows it, its conditions hold, and the person did not object to this very use.
fn exemption(facts: &Facts<'_>, standing: &Standing, purpose: Purpose) -> Option<Exemption> {
    let exemption = facts.mailstream.exemption.filter(|exemption| exemption.covers(purpose))?;
    let said_no = || Purpose::ALL.into_iter().any(|purpose| refusal(standing, purpose).is_some());
    let holds = match exemption {
        // N11 b and c: only mail the person asked for. A no to any purpose is one to this, too.
        Exemption::Deliverability => facts.mailstream.requested == Requested::Requested && !said_no(),
        // N10: an allow-listed kind of mail, never all that a domain sends.
        Exemption::AuthSecurity | Exemption::LegalNotice => facts.mailstream.conditions.name_a_template(),
        Exemption::AggregateStatistics => {
            facts.mailstream.shared_after_no == SharedAfterNo::Stays || !said_no()
        }
        Exemption::LegacyInformed => informed_in_time(standing) && !said_no(),
    };
    let known = facts.rules.flags.exempt.has(exemption);
    (holds && known && refusal(standing, purpose).is_none()).then_some(exemption)
}

/// N29, N30: collected before the recommendation was published, and informed before the transition ended.
fn informed_in_time(standing: &Standing) -> bool {
    standing.collected_at.is_some_and(|time| time < COLLECTED_BEFORE)
        && standing.notice_sent_at.is_some_and(|time| time < INFORMED_BEFORE)
}

/// What follows where the person said no to any purpose of the mailstream's opens.
fn refused(facts: &Facts<'_>, standing: &Standing) -> Option<Judgement> {
    let record = facts.mailstream.purposes_of_opens().find_map(|purpose| refusal(standing, purpose))?;
    Some(strip(Rule::Refused, Some(record)))
}

/// The record in which the person said no to a purpose.
fn refusal(standing: &Standing, purpose: Purpose) -> Option<u64> {
    let stand = standing.of(purpose)?;
    matches!(stand.state, State::Refused | State::Withdrawn | State::Objected).then_some(stand.record)
}

fn newest(standing: &Standing) -> Option<u64> {
    standing.all().map(|(_, stand)| stand.record).max()
}

/// Links are an axis of their own (N3): only consent to their being followed up, or rules that leave them free,
/// lets them report. Consent to opens and an exemption say nothing about them, and only a mailstream that
/// declares the purpose is served by a yes.
fn links(facts: &Facts<'_>, rule: Rule) -> LinkFate {
    const LINKS: Purpose = Purpose::LinkTracking;
    let Some(standing) = facts.standing else { return LinkFate::Treat };
    match rule {
        Rule::RefusedBySender
        | Rule::NoTrack
        | Rule::StoreUnreachable
        | Rule::ConsentRequest
        | Rule::InternalError => return LinkFate::Treat,
        Rule::Granted
        | Rule::GrantStripped
        | Rule::NoConsent
        | Rule::Refused
        | Rule::NoRules
        | Rule::Exempt(_)
        | Rule::PurposesDiffer => {}
    }
    match (facts.rules.flags.links, standing.allows(LINKS, facts.now)) {
        // Where nobody has to ask, a no is heard all the same: to links, or to what opens are used for.
        (Need::Free, _)
            if matches!(rule, Rule::Refused | Rule::GrantStripped) || refusal(standing, LINKS).is_some() =>
        {
            LinkFate::Treat
        }
        (Need::Free, _) => LinkFate::Stay,
        (Need::Consent, Permission::Granted(_))
            if facts.mailstream.declares_links() && facts.on_grant != OnGrant::Strip =>
        {
            LinkFate::Granted
        }
        (Need::Consent, Permission::Granted(_) | Permission::NotGranted(_)) => LinkFate::Treat,
    }
}
