//! What is wanted of each recipient's copy, and which recipients can share one.

use super::{Decided, is_observed};
use crate::policy::{Chosen, Footer, LinkFate, MailKind, Mode, Outcome, Request, Rule};
use crate::rewrite::LinkTreatment;
use crate::rewrite::notice::Need;

/// What is wanted of a copy. Recipients of whom the same is wanted share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// What happens to what reports an open.
    pub(super) opens: Outcome,
    /// What happens to tracked links.
    pub(super) links: LinkFate,
    /// What becomes of a question that its author marked.
    pub(super) request: Request,
    /// Whether it needs a link to the preference page.
    pub(super) need: Need,
    /// The recipient whose pixels stand in it; nobody else may get it then.
    pub(super) owner: Option<usize>,
}

impl Wanted {
    /// Nothing.
    pub(super) const AS_IT_CAME: Wanted = Wanted {
        opens: Outcome::Keep,
        links: LinkFate::Stay,
        request: Request::None,
        need: Need::AtMarks,
        owner: None,
    };

    /// All that can be.
    pub(super) const STRICTEST: Wanted = Wanted {
        opens: Outcome::Strip,
        links: LinkFate::Treat,
        request: Request::Goes,
        ..Wanted::AS_IT_CAME
    };

    /// What satisfies everybody who shares a copy.
    pub(super) fn join(self, other: Wanted) -> Wanted {
        // A pixel of one person is none of another's, and neither is a gate of links.
        let is_shared = self.owner != other.owner;
        let links = match self.links.max(other.links) {
            LinkFate::Granted if is_shared => LinkFate::Treat,
            links => links,
        };
        Wanted {
            opens: if is_shared { Outcome::Strip } else { self.opens.join(other.opens) },
            links,
            request: if self.request == other.request { self.request } else { Request::Goes },
            need: self.need.max(other.need),
            owner: self.owner.filter(|_| !is_shared),
        }
    }
}

/// Whether anything may be put into the mail: the link to a preference page, or a question that not everybody
/// is asked.
pub(super) fn may_put_in(chosen: Chosen<'_>) -> bool {
    let mailstream = chosen.mailstream;
    let has_page = chosen.controller.public_url.is_some();
    mailstream.mode == Mode::Enforce && (has_page || mailstream.kind == MailKind::ConsentRequest)
}

/// What was found in a message that can be changed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Changeable {
    /// Trackers of opens.
    pub(super) pixels: usize,
    /// Links that report who follows them.
    pub(super) links: usize,
}

/// What is wanted of a recipient's copy.
pub(super) fn wanted(chosen: Chosen<'_>, decided: &Decided, found: Changeable, recipient: usize) -> Wanted {
    let mailstream = chosen.mailstream;
    if is_observed(chosen) {
        return Wanted::AS_IT_CAME;
    }
    let links = links(chosen, decided, found);
    let is_personal = matches!(decided.possible, Outcome::SwapGated | Outcome::SwapDay);
    let is_gated = links == LinkFate::Granted && mailstream.treatment.link_treatment == LinkTreatment::Gate;
    Wanted {
        opens: decided.possible,
        links,
        request: decided.request,
        need: need(chosen, decided, found.pixels, links),
        owner: Some(recipient).filter(|_| is_personal && found.pixels > 0 || is_gated),
    }
}

/// What is wanted of tracked links. Where there are none, or they are left alone anyway, they divide no copies.
fn links(chosen: Chosen<'_>, decided: &Decided, found: Changeable) -> LinkFate {
    match (chosen.mailstream.treatment.link_treatment, decided.decision.links) {
        (LinkTreatment::Keep, _) => LinkFate::Stay,
        _ if found.links == 0 => LinkFate::Stay,
        // A withdrawal could not reach them.
        (LinkTreatment::Gate, LinkFate::Granted) if chosen.controller.public_url.is_none() => LinkFate::Treat,
        (LinkTreatment::Unwrap | LinkTreatment::Gate, fate) => fate,
    }
}

/// Whether a copy needs a link to the preference page (N20, N24).
fn need(chosen: Chosen<'_>, decided: &Decided, pixels: usize, links: LinkFate) -> Need {
    let mailstream = chosen.mailstream;
    // Where no rule is applied, none asks for a link.
    let reports_opens =
        pixels > 0 && decided.possible != Outcome::Strip && decided.decision.rule != Rule::NoRules;
    let is_tracked = reports_opens || links == LinkFate::Granted;
    match mailstream.footer {
        _ if chosen.controller.public_url.is_none() => Need::AtMarks,
        _ if mailstream.kind == MailKind::ConsentRequest && decided.request == Request::Asks => {
            Need::Anywhere
        }
        Footer::Always => Need::Anywhere,
        Footer::WhenTracked if is_tracked => Need::Anywhere,
        Footer::MarkerOnly if is_tracked => Need::MarkedOnly,
        Footer::WhenTracked | Footer::MarkerOnly => Need::AtMarks,
    }
}

/// Recipients by what is wanted of their copy, in the order in which it first appears. What is more than
/// `most` groups joins to one, with what satisfies all of them; the second value tells of that.
pub(super) fn groups(wanted: &[(usize, Wanted)], most: usize) -> (Vec<(Wanted, Vec<usize>)>, bool) {
    let mut groups: Vec<(Wanted, Vec<usize>)> = Vec::new();
    for (index, wanted) in wanted {
        match groups.iter_mut().find(|(known, _)| known == wanted) {
            Some((_, recipients)) => recipients.push(*index),
            None => groups.push((*wanted, vec![*index])),
        }
    }
    let is_joined = groups.len() > most;
    if is_joined {
        let beyond = groups.split_off(most.saturating_sub(1));
        let joined = beyond.iter().map(|(wanted, _)| *wanted).reduce(Wanted::join);
        let recipients = beyond.into_iter().flat_map(|(_, recipients)| recipients).collect();
        groups.push((joined.unwrap_or(Wanted::STRICTEST), recipients));
    }
    (groups, is_joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_shares_a_copy_gets_the_stricter_treatment() {
        let wanted = |opens, links| Wanted { opens, links, ..Wanted::AS_IT_CAME };
        let (keep, strip) = (Outcome::Keep, Outcome::Strip);
        let (stay, granted, treat) = (LinkFate::Stay, LinkFate::Granted, LinkFate::Treat);
        assert_eq!(wanted(keep, stay).join(wanted(strip, treat)), wanted(strip, treat));
        assert_eq!(wanted(keep, treat).join(wanted(keep, stay)), wanted(keep, treat));
        assert_eq!(wanted(keep, stay).join(Wanted::AS_IT_CAME), Wanted::AS_IT_CAME);
        assert_eq!(wanted(keep, granted).join(wanted(keep, stay)), wanted(keep, granted));
        let gated = Wanted { owner: Some(1), ..wanted(keep, granted) };
        assert_eq!(gated.join(wanted(keep, granted)).links, treat, "a gate is one person's");
    }

    #[test]
    fn a_pixel_of_one_person_stands_in_no_copy_of_two() {
        let of = |owner| Wanted { opens: Outcome::SwapGated, owner, ..Wanted::AS_IT_CAME };
        let joined = of(Some(0)).join(of(Some(1)));
        assert_eq!((joined.opens, joined.owner), (Outcome::Strip, None));
        assert_eq!(of(Some(0)).join(of(Some(0))), of(Some(0)));
        let shared = Wanted { opens: Outcome::SwapShared, ..Wanted::AS_IT_CAME };
        assert_eq!(shared.join(shared).opens, Outcome::SwapShared);
    }
}
