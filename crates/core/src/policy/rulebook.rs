//! Everything that was declared, prepared for lookups: whose mail a message is, of which kind, and which
//! rules apply.

use super::conditions::{Asked, Conditions, Marks, Origin};
use super::jurisdiction::Jurisdictions;
use super::mailstream::{Controller, Mailstream};

/// All controllers with their mailstreams, and the jurisdictions.
#[derive(Clone, Debug)]
pub struct Rulebook {
    /// In the order of the configuration.
    houses: Vec<House>,
    /// The controller of mail that matches no other.
    rest: House,
    asked: Asked,
    /// The jurisdictions.
    pub jurisdictions: Jurisdictions,
}

/// A controller with its mailstreams.
#[derive(Clone, Debug)]
struct House {
    controller: Controller,
    mailstreams: Vec<Mailstream>,
    unmatched: Mailstream,
}

/// The controller and mailstream of a message.
#[derive(Clone, Copy, Debug)]
pub struct Chosen<'a> {
    /// The controller.
    pub controller: &'a Controller,
    /// The mailstream.
    pub mailstream: &'a Mailstream,
}

impl Rulebook {
    /// Creates it from the declarations. `default` is the controller of mail that matches none of
    /// `controllers`, and `unmatched` applies to mail that matches none of `mailstreams`.
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

    /// Reads what the header of a message says about its kind.
    pub fn marks(&self, message: &[u8]) -> Marks {
        self.asked.read(message)
    }

    /// Returns the controller and mailstream of a message: the first controller that matches, and of its
    /// mailstreams the first that matches.
    pub fn choose(&self, origin: &Origin<'_>, marks: &Marks) -> Chosen<'_> {
        let fits = |conditions: &Conditions| conditions.fit(origin, marks);
        let house = self.houses.iter().find(|house| fits(&house.controller.conditions)).unwrap_or(&self.rest);
        let mailstream = house.mailstreams.iter().find(|mailstream| fits(&mailstream.conditions));
        Chosen { controller: &house.controller, mailstream: mailstream.unwrap_or(&house.unmatched) }
    }

    /// Returns what applies to mail that matches no controller and no mailstream: the strictest.
    pub fn unmatched(&self) -> Chosen<'_> {
        Chosen { controller: &self.rest.controller, mailstream: &self.rest.unmatched }
    }

    /// Returns the controllers to whom a client is tied by its listener or its login, whatever it writes into
    /// its mail.
    pub fn tied<'a>(&'a self, origin: &Origin<'_>) -> impl Iterator<Item = &'a Controller> {
        self.houses
            .iter()
            .map(|house| &house.controller)
            .filter(|controller| controller.conditions.tie(origin))
    }

    /// Returns the controllers to whom no client is tied, and the controller of mail that matches no other.
    pub fn untied(&self) -> Vec<&Controller> {
        let free = |controller: &&Controller| {
            !controller.conditions.can_tie() || controller.name == self.rest.controller.name
        };
        self.controllers().filter(free).collect()
    }

    /// Returns the controllers whose conditions, or whose mailstreams' conditions, name a domain, its parent
    /// or a subdomain.
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

    /// Returns the controller of mail that matches no other.
    pub fn default_controller(&self) -> &Controller {
        &self.rest.controller
    }

    /// Returns every controller, each once.
    pub fn controllers(&self) -> impl Iterator<Item = &Controller> {
        self.all_houses().map(|house| &house.controller)
    }

    fn all_houses(&self) -> impl Iterator<Item = &House> {
        // The default controller may be one of those declared.
        let rest = Some(&self.rest);
        let is_declared = self.houses.iter().any(|house| house.controller.name == self.rest.controller.name);
        self.houses.iter().chain(rest.filter(|_| !is_declared))
    }

    /// Returns a mailstream by name: the one of unmatched mail if `mailstream` is `None`, of the default
    /// controller if `controller` is.
    ///
    /// # Errors
    ///
    /// A description of the alternatives, if there is none of that name.
    pub fn named(&self, controller: Option<&str>, mailstream: Option<&str>) -> Result<Chosen<'_>, String> {
        let house = match controller {
            None => Some(&self.rest),
            Some(name) => self.all_houses().find(|house| house.controller.name.as_str() == name),
        };
        let Some(house) = house else {
            let names: Vec<&str> = self.all_houses().map(|house| house.controller.name.as_str()).collect();
            let wanted = controller.unwrap_or_default();
            return Err(format!("unknown controller {wanted:?}: use one of {}", names.join(", ")));
        };
        let wanted = mailstream.unwrap_or(Mailstream::UNMATCHED);
        let found = house.all().find(|chosen| &*chosen.name == wanted).ok_or_else(|| {
            let names: Vec<&str> = house.all().map(|chosen| &*chosen.name).collect();
            format!(
                "unknown mailstream {wanted:?} of the controller {}: use one of {}",
                house.controller.name,
                names.join(", ")
            )
        })?;
        Ok(Chosen { controller: &house.controller, mailstream: found })
    }

    /// Iterates over every controller with each of its mailstreams, including the one of unmatched mail.
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
