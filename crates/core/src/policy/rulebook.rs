//! Everything that was declared, made ready for looking up: whose mail a message is, of which kind, and which rules hold.

use super::conditions::{Asked, Conditions, Marks, Origin};
use super::jurisdiction::Jurisdictions;
use super::mailstream::{Controller, Mailstream};

/// All controllers with their mailstreams, and the jurisdictions.
#[derive(Clone, Debug)]
pub struct Rulebook {
    /// In the order of the configuration.
    houses: Vec<House>,
    /// What fits no other.
    rest: House,
    asked: Asked,
    /// Which rules hold where.
    pub jurisdictions: Jurisdictions,
}

/// A controller with its kinds of mail.
#[derive(Clone, Debug)]
struct House {
    controller: Controller,
    mailstreams: Vec<Mailstream>,
    unmatched: Mailstream,
}

/// Whose a message is, and of which kind.
#[derive(Clone, Copy, Debug)]
pub struct Chosen<'a> {
    /// Whose.
    pub controller: &'a Controller,
    /// Of which kind.
    pub mailstream: &'a Mailstream,
}

impl Rulebook {
    /// From what was declared. `default` is the controller of mail that fits none of `controllers`, and `unmatched` what counts for mail that
    /// fits none of `mailstreams`.
    pub fn new(
        controllers: Vec<Controller>,
        default: Controller,
        mailstreams: Vec<Mailstream>,
        unmatched: &Mailstream,
        jurisdictions: Jurisdictions,
    ) -> Rulebook {
        let mut asked = Asked::default();
        let all = controllers.iter().map(|controller| &controller.conditions);
        all.chain(mailstreams.iter().map(|mailstream| &mailstream.conditions))
            .for_each(|conditions| asked.add(conditions));
        let house = |controller: Controller| House::new(controller, &mailstreams, unmatched);
        let houses = controllers.into_iter().map(house).collect();
        Rulebook { houses, rest: house(default), asked, jurisdictions }
    }

    /// What the header of a message says of its kind.
    pub fn marks(&self, message: &[u8]) -> Marks {
        self.asked.read(message)
    }

    /// Whose a message is, and of which kind: the first controller that fits, and of its mailstreams the first that fits.
    pub fn choose(&self, origin: &Origin<'_>, marks: &Marks) -> Chosen<'_> {
        let fits = |conditions: &Conditions| conditions.fit(origin, marks);
        let house = self.houses.iter().find(|house| fits(&house.controller.conditions)).unwrap_or(&self.rest);
        let mailstream = house.mailstreams.iter().find(|mailstream| fits(&mailstream.conditions));
        Chosen { controller: &house.controller, mailstream: mailstream.unwrap_or(&house.unmatched) }
    }

    /// What counts for mail that fits no controller and no mailstream: the strictest.
    pub fn unmatched(&self) -> Chosen<'_> {
        Chosen { controller: &self.rest.controller, mailstream: &self.rest.unmatched }
    }

    /// The controllers to whom a client is tied by its listener or its login, whatever it writes into its
    /// mail.
    pub fn tied<'a>(&'a self, origin: &Origin<'_>) -> impl Iterator<Item = &'a Controller> {
        self.houses
            .iter()
            .map(|house| &house.controller)
            .filter(|controller| controller.conditions.tie(origin))
    }

    /// The controllers to whom no client is tied, and the controller of mail that fits no other.
    pub fn untied(&self) -> Vec<&Controller> {
        let free = |controller: &&Controller| {
            !controller.conditions.can_tie() || controller.name == self.rest.controller.name
        };
        self.controllers().filter(free).collect()
    }

    /// The controllers in whose conditions, or in those of whose mailstreams, a domain stands, or one above
    /// or below it.
    pub fn claimants(&self, domain: &str) -> Vec<&Controller> {
        let claims = |house: &&House| {
            let streams = house.mailstreams.iter().map(|stream| &stream.conditions);
            [&house.controller.conditions]
                .into_iter()
                .chain(streams)
                .any(|conditions| conditions.name_domain(domain))
        };
        let declared: Vec<&House> = self.houses.iter().filter(claims).collect();
        let is_there = declared.iter().any(|house| house.controller.name == self.rest.controller.name);
        let rest = Some(&self.rest).filter(|house| !is_there && claims(house));
        declared.into_iter().chain(rest).map(|house| &house.controller).collect()
    }

    /// The controller of mail that fits no other.
    pub fn default_controller(&self) -> &Controller {
        &self.rest.controller
    }

    /// Every controller, each once.
    pub fn controllers(&self) -> impl Iterator<Item = &Controller> {
        self.all_houses().map(|house| &house.controller)
    }

    fn all_houses(&self) -> impl Iterator<Item = &House> {
        // The controller of the rest may be one of those that were declared.
        let rest = Some(&self.rest);
        let is_declared = self.houses.iter().any(|house| house.controller.name == self.rest.controller.name);
        self.houses.iter().chain(rest.filter(|_| !is_declared))
    }

    /// A mailstream by name: the one of mail that fits none where `mailstream` is `None`, of the default controller where `controller` is.
    ///
    /// # Errors
    ///
    /// What there is, where there is none of that name.
    pub fn named(&self, controller: Option<&str>, mailstream: Option<&str>) -> Result<Chosen<'_>, String> {
        let house = match controller {
            None => Some(&self.rest),
            Some(name) => self.all_houses().find(|house| house.controller.name.as_str() == name),
        };
        let Some(house) = house else {
            let names: Vec<&str> = self.all_houses().map(|house| house.controller.name.as_str()).collect();
            let wanted = controller.unwrap_or_default();
            return Err(format!("no controller is named {wanted:?}; there are {}", names.join(", ")));
        };
        let wanted = mailstream.unwrap_or(Mailstream::UNMATCHED);
        let found = house.all().find(|chosen| &*chosen.name == wanted).ok_or_else(|| {
            let names: Vec<&str> = house.all().map(|chosen| &*chosen.name).collect();
            format!(
                "the controller {} has no mailstream named {wanted:?}; it has {}",
                house.controller.name,
                names.join(", ")
            )
        })?;
        Ok(Chosen { controller: &house.controller, mailstream: found })
    }

    /// Every controller with each of its mailstreams, the one of mail that fits none included.
    pub fn all(&self) -> impl Iterator<Item = Chosen<'_>> {
        self.all_houses().flat_map(|house| {
            house.all().map(|mailstream| Chosen { controller: &house.controller, mailstream })
        })
    }
}

impl House {
    fn new(controller: Controller, mailstreams: &[Mailstream], unmatched: &Mailstream) -> House {
        let mailstreams_of_it =
            mailstreams.iter().filter(|mailstream| mailstream.controller == controller.name.as_str());
        let mailstreams: Vec<Mailstream> = mailstreams_of_it
            .map(|mailstream| {
                let jurisdiction = mailstream.jurisdiction.as_ref().or(controller.jurisdiction.as_ref());
                Mailstream { jurisdiction: jurisdiction.cloned(), ..mailstream.clone() }
            })
            .collect();
        let unmatched = Mailstream { controller: controller.name.as_str().to_owned(), ..unmatched.clone() };
        House { controller, mailstreams, unmatched }
    }

    fn all(&self) -> impl Iterator<Item = &Mailstream> {
        self.mailstreams.iter().chain([&self.unmatched])
    }
}
