//! A second look at a message that differs from an analysed one in a few places: only what differs is read, and
//! all that was found is judged again.
//!
//! Promised: the sightings of an analysis of all of it, as far as they say what is there. Where that cannot be
//! promised, there is no answer, and the message must be analysed as a whole: where its parts are others than
//! before, where an edit lies in anything but markup and words, and where `scan::trail` gives none.

use super::analysis::{Analysis, Detector, Inquiry, Position, Reading, Sighting, sighting_of};
use super::carrier::Axis;
use super::catalogue::Start;
use super::copies::form::Walked;
use super::judge;
use super::scan::trail::Stretch;
use super::scan::{Extent, Found, Links, Place};
use super::signal::Verdict;
use crate::message::charset::Charset;
use crate::message::header::fields;
use crate::message::transfer::{Edit, apply};
use crate::message::{Content, Leaf, Text};

/// What is found in a message after edits.
#[derive(Debug)]
pub struct Difference<'s> {
    /// Sightings in texts that did not change.
    kept: Vec<&'s Sighting>,
    /// Those in texts that did.
    found: Vec<Sighting>,
}

impl Difference<'_> {
    /// All of them. Of those in texts that changed, edits say only whether there are any.
    pub fn sightings(&self) -> impl Iterator<Item = &Sighting> {
        self.kept.iter().copied().chain(&self.found)
    }
}

impl Detector {
    /// What an analysis of `edited` would find, links aside: the message of this analysis after these edits,
    /// which are sorted and do not overlap. `inquiry` is the one of the analysis. `None` where only an
    /// analysis can say.
    pub fn difference<'s>(
        &self,
        analysis: &'s Analysis<'_>,
        edits: &[Edit],
        edited: &[u8],
        inquiry: &Inquiry<'_>,
    ) -> Option<Difference<'s>> {
        let layer = analysis.layers.first()?;
        let longer: isize =
            edits.iter().map(|edit| edit.with.len() as isize - edit.range.len() as isize).sum();
        let is_edited_alone = layer.bytes.len().checked_add_signed(longer) == Some(edited.len());
        if analysis.trouble.is_some() || analysis.extent != inquiry.extent || !is_edited_alone {
            return None;
        }
        let leaves = &layer.structure.leaves;
        // A body may begin within what is also read as the header: its edits change what that says.
        let header = layer.structure.header_blocks.first();
        let header = header.and_then(|block| fields(&layer.bytes, block.start).last());
        if header.is_some_and(|field| edits.iter().any(|edit| edit.range.start < field.range.end)) {
            return None;
        }
        let of_leaves = each_within(edits, leaves)?;
        if !layer.structure.is_same_in(&layer.bytes, edits, edited) {
            return None;
        }
        let reading = Reading::of(inquiry);
        let mut changed = Vec::new();
        let mut found = Vec::new();
        for (index, (leaf, of_leaf)) in leaves.iter().zip(of_leaves).enumerate() {
            match leaf.content {
                _ if of_leaf.is_empty() => continue,
                Content::Html => {
                    let known = |leaf: &usize| *leaf == index;
                    let (_, text) = layer.texts.iter().find(|(leaf, _)| known(leaf))?;
                    let (_, walked) = layer.trails.iter().find(|(leaf, _)| known(leaf))?;
                    let position = Position { layer: 0, leaf: Some(index) };
                    found.extend(self.found_anew(text, walked, of_leaf, leaf, position, &reading)?);
                    changed.push(index);
                }
                // Words are not looked into, nor are files where only trackers are looked for.
                Content::Text | Content::Other => {}
                Content::File if inquiry.extent == Extent::Trackers => {}
                Content::File | Content::Style | Content::Message | Content::Calendar => return None,
            }
        }
        let is_kept = |sighting: &&Sighting| {
            let place = sighting.place;
            let is_in_changed = place.layer == 0 && place.leaf.is_some_and(|leaf| changed.contains(&leaf));
            !is_in_changed && sighting.axis() != Axis::Link
        };
        Some(Difference { kept: analysis.sightings.iter().filter(is_kept).collect(), found })
    }

    /// What is found in one text after edits of the message.
    fn found_anew(
        &self,
        text: &Text<'_>,
        walked: &Walked,
        edits: &[Edit],
        leaf: &Leaf,
        position: Position,
        reading: &Reading<'_>,
    ) -> Option<Vec<Sighting>> {
        let extent = reading.inquiry.extent;
        if let Walked::OfForm(form, weighed) = walked
            && let Some(found) = form.found_after(edits, weighed, (leaf, position), extent)
        {
            return Some(found);
        }
        let changes = text.edits_of_text(edits)?;
        let new = apply(text.bytes(), &changes);
        if Charset::of(&leaf.charset, &new) != Charset::AsciiCompatible {
            return None;
        }
        let (base, extent_of_walk) = (leaf.base.as_deref(), self.extent_of_walk(extent));
        let inquiry = (base, extent_of_walk, Links::Ignore);
        let (trail, besides) = walked.trail();
        let mut stretches = trail.stretches(&new, &changes, inquiry, besides)?;
        let mut places: Vec<Place<'_>> = Vec::new();
        for stretch in &mut stretches {
            match stretch {
                Stretch::Passed(passed) => places.append(&mut passed.places),
                Stretch::Read(read) => places.extend(read.found.places.drain(..).map(|mut place| {
                    let _ = judge::weigh(
                        self,
                        &mut place,
                        reading.inquiry,
                        &reading.traces,
                        &mut Start::default(),
                    );
                    place
                })),
            }
        }
        let asks = judge::asks_neighbours(&places, extent);
        let plain = if asks { trail.plain(&mut stretches, &new, &changes, base) } else { Vec::new() };
        let mut found = Found { places, plain, links: 0 };
        judge::judge(&new, &mut found, extent);
        let is_listed = |place: &&Place<'_>| {
            extent == Extent::EveryRequest || place.signals.verdict() != Verdict::Picture
        };
        let listed = found.places.iter().filter(is_listed);
        let found: Vec<Sighting> = listed.map(|place| sighting_of(place, leaf, position)).collect();
        if let Walked::OfForm(form, weighed) = walked {
            let extents = (extent, extent_of_walk);
            form.note_found_after(edits, weighed, (&changes, &new), leaf, extents, &found);
        }
        Some(found)
    }
}

/// The edits in the body of each leaf. `None` where one lies in none, or reaches from one into another: where parsers
/// disagree on where a header ends, a part has two bodies that overlap.
fn each_within<'e>(edits: &'e [Edit], leaves: &[Leaf]) -> Option<Vec<&'e [Edit]>> {
    let mut lies_in_one = vec![false; edits.len()];
    let mut within = |leaf: &Leaf| {
        let body = &leaf.body;
        let first = edits.partition_point(|edit| edit.range.start < body.start);
        let (before, from) = edits.split_at_checked(first)?;
        let (of_leaf, behind) =
            from.split_at_checked(from.partition_point(|edit| edit.range.end <= body.end))?;
        let reaches_in = before.last().is_some_and(|edit| body.start < edit.range.end);
        let reaches_out = behind.first().is_some_and(|edit| edit.range.start < body.end);
        lies_in_one.get_mut(first..first + of_leaf.len())?.fill(true);
        (!reaches_in && !reaches_out).then_some(of_leaf)
    };
    let of_leaves = leaves.iter().map(&mut within).collect::<Option<Vec<&[Edit]>>>()?;
    lies_in_one.into_iter().all(|lies_in_one| lies_in_one).then_some(of_leaves)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracker::Carrier;

    /// A line of the header that is no field ends it for some parsers. What they read as a body holds what others do,
    /// and an edit may begin before that and end within it.
    #[test]
    fn where_an_edit_reaches_from_one_body_into_another_only_an_analysis_can_say() {
        let lines = "<p>Some words of a letter.</p>\r\n".repeat(400);
        let kind = "MIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n";
        let pixel =
            "<img src=\"https://t.news.example/wf/open?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6\" width=1>";
        let raw = format!("Subject: a\r\n{lines}{kind}{pixel}{lines}");
        let (detector, inquiry) = (Detector::default(), Inquiry::to(&[]));
        let analysis = detector.analyse(raw.as_bytes(), &inquiry);
        let start = raw.find(kind).unwrap();
        let bodies = analysis.layers[0].structure.leaves.iter().filter(|leaf| leaf.body.start <= start);
        assert_eq!((bodies.count(), analysis.layers[0].structure.leaves.len()), (1, 2));
        let edits = [Edit::replace(start..start + kind.len() + pixel.len(), kind.as_bytes())];
        let edited = apply(raw.as_bytes(), &edits);
        assert!(analysis.layers[0].structure.is_same_in(raw.as_bytes(), &edits, &edited));
        assert!(detector.difference(&analysis, &edits, &edited, &inquiry).is_none());
    }

    /// Some parsers end a header at a line that others take for a field. What follows is a body to the ones, and
    /// asks for a receipt to the others.
    #[test]
    fn where_a_body_is_also_a_header_only_an_analysis_can_say() {
        // Long enough for notes of the walk.
        let lines = "<p style=\"color: red\">Some words of a letter.</p>\r\n".repeat(400);
        let asking = "Disposition-Notification-To: ann@home.example\r\nContent-Type: text/plain\r\n\r\n";
        let raw = format!("Subject: a\r\n{lines}{asking}{lines}");
        let (detector, inquiry) = (Detector::default(), Inquiry::to(&[]));
        let analysis = detector.analyse(raw.as_bytes(), &inquiry);
        let asks = |sighting: &&Sighting| sighting.carrier == Carrier::ReceiptHeader;
        let removal = analysis.sightings.iter().find(asks).unwrap().removal().unwrap().clone();
        let leaves = &analysis.layers[0].structure.leaves;
        assert!(leaves.iter().any(|leaf| leaf.body.start <= removal.range.start));
        let edits = [removal];
        let edited = apply(raw.as_bytes(), &edits);
        assert!(detector.difference(&analysis, &edits, &edited, &inquiry).is_none());
        assert!(!detector.analyse(&edited, &inquiry).sightings.iter().any(|sighting| asks(&sighting)));
    }
}
