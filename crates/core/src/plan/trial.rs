//! A message taken through the whole plan by somebody who wants to see what becomes of it: nothing is kept or
//! recorded, and nobody is asked anything but whoever says what the controller's links lead to.

use std::sync::Arc;

use super::{
    Draft, Made, Message, Notes, People, Plan, Settings, copy_after, decide_each, links_to_ask, plan_after,
    read,
};
use crate::consent::{Change, Controller, Person, Standing, State, StoreKey, Timestamp};
use crate::faults;
use crate::guarded::{Panicked, guarded};
use crate::policy::{Chosen, Purpose};
use crate::rewrite::Fate;
use crate::rewrite::reader_token::Mint;
use crate::smtp::Reply;
use crate::tracker::Analysis;

/// Recipients who are all assumed to have said the same. Tokens for them are sealed with a key that opens
/// nothing: they are as long as real ones, and lead nowhere.
pub struct Assumed {
    standing: Arc<Standing>,
    mint: Mint,
}

impl Assumed {
    /// Recipients who said this at this moment about every purpose; nothing at all where there is no `state`.
    pub fn to_have_said(state: Option<State>, controller: &Controller, now: Timestamp) -> Assumed {
        let mut standing = Standing::unknown();
        if let Some(state) = state {
            let change = Change::new(controller.clone(), Purpose::ALL.to_vec(), state, now);
            let _ = standing.merge(&change, 0, true);
        }
        Assumed { standing: Arc::new(standing), mint: Mint::new(StoreKey::new([0; 32])) }
    }

    /// What they said.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }
}

impl People for Assumed {
    fn person(&self, _address: &str) -> Person {
        Person([0; 16])
    }

    fn standing(&self, _controller: &Controller, _person: Person) -> Option<Arc<Standing>> {
        Some(Arc::clone(&self.standing))
    }

    fn may_hold(&self, _person: Person) -> bool {
        true
    }

    fn mint(&self) -> &Mint {
        &self.mint
    }
}

/// What becomes of a message.
pub struct Tried<'a> {
    /// Whose mail it is, and of which kind.
    pub chosen: Chosen<'a>,
    /// What was found in it; `None` where an internal error kept it from being analysed.
    pub analysis: Option<&'a Analysis<'a>>,
    /// What was decided for each recipient.
    pub plan: &'a Plan,
    /// What becomes of each group's copy, in the order of the plan.
    pub copies: Vec<TriedCopy>,
    /// The internal error.
    pub fault: Option<Panicked>,
}

/// What becomes of a copy.
pub struct TriedCopy {
    /// The copy, or what its recipients hear.
    pub made: Result<Made, Reply>,
    /// What the relay would log of it.
    pub notes: Notes,
    /// What happens to each sighting.
    pub fates: Vec<Fate>,
}

impl Tried<'_> {
    /// The copy of a recipient.
    pub fn copy_of(&self, recipient: usize) -> Option<&TriedCopy> {
        let number = self.plan.groups.iter().position(|group| group.recipients.contains(&recipient))?;
        self.copies.get(number)
    }
}

/// Links, each as a sighting has it and beside it as browsers ask for it, or the page it leads to.
pub type Links = Vec<(String, String)>;

/// Takes a message through the plan, and shows what became of it. `chosen` says whose mail of which kind it
/// is taken to be; without it, the rulebook chooses. `ask` is what the controller's own service says of links of which
/// nobody else knows the page.
pub fn treat<'a, T>(
    settings: &Settings<'a>,
    message: &Message<'a>,
    chosen: Option<Chosen<'a>>,
    people: &dyn People,
    ask: &dyn Fn(&Controller, Links) -> Links,
    see: impl Fn(Tried<'_>) -> T,
) -> T {
    let treated = guarded(|| {
        faults::arm(message.bytes);
        let reading = read(settings, message, chosen, |_| None);
        let texts = reading.texts(message);
        let decided = decide_each(settings, message, &reading, texts.as_ref(), people);
        let links = links_to_ask(settings, &reading, &decided);
        let told = if links.is_empty() { links } else { ask(&reading.chosen.controller.name, links) };
        let draft =
            Draft::new(settings, message, &reading, texts.as_ref(), people, &decided).with_asked(told);
        let plan = draft.plan(decided);
        let mut fault = None;
        let copies = plan.groups.iter().map(|group| {
            let mut notes = Notes::default();
            let made = guarded(|| draft.copy(group, &mut notes)).unwrap_or_else(|panicked| {
                fault = Some(panicked);
                copy_after(settings, message, reading.chosen).map_err(|(reply, _)| reply)
            });
            let fates = if fault.is_none() { draft.fates(group) } else { Vec::new() };
            TriedCopy { made, notes, fates }
        });
        let copies = copies.collect();
        let analysis = Some(&reading.analysis);
        see(Tried { chosen: reading.chosen, analysis, plan: &plan, copies, fault })
    });
    treated.unwrap_or_else(|fault| {
        let (chosen, plan) = plan_after(settings, message, chosen, |address| people.person(address));
        let made = copy_after(settings, message, chosen).map_err(|(reply, _)| reply);
        let copies = vec![TriedCopy { made, notes: Notes::default(), fates: Vec::new() }];
        see(Tried { chosen, analysis: None, plan: &plan, copies, fault: Some(fault) })
    })
}

/// The addresses that the To, Cc and Delivered-To fields of a message name.
pub fn named_recipients(message: &[u8]) -> Vec<String> {
    addresses(message, &["To", "Cc", "Delivered-To"])
}

/// The addresses in fields of these names, in their order.
pub fn addresses(message: &[u8], names: &[&str]) -> Vec<String> {
    crate::message::header::fields(message, 0)
        .filter(|field| names.iter().any(|name| field.is(message, name)))
        .flat_map(|field| {
            let value = String::from_utf8_lossy(field.value(message)).into_owned();
            let words: Vec<String> = value
                .split(|character: char| character.is_whitespace() || "<>,;\"()".contains(character))
                .filter(|word| word.contains('@'))
                .map(str::to_owned)
                .collect();
            words
        })
        .collect()
}
