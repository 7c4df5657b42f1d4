//! Routes: which mail goes to which next hops.

use super::reader::Section;
use super::{Listener, NextHop};

/// A route. A condition that is not set matches all mail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// The listener through which it came.
    pub listener: Option<String>,
    /// The login of the client, or the name in its verified certificate.
    pub login: Option<String>,
    /// The domain of the envelope sender, in lower case.
    pub sender_domain: Option<String>,
    /// The names of the next hops, in the order in which they are tried.
    pub next_hops: Vec<String>,
}

impl Route {
    /// Returns whether mail matches. `sender` is the address in the envelope.
    pub fn takes(&self, listener: &str, login: Option<&str>, sender: &str) -> bool {
        let domain = sender.rsplit_once('@').map_or("", |(_, domain)| domain);
        self.listener.as_deref().is_none_or(|name| name == listener)
            && self.login.as_deref().is_none_or(|name| Some(name) == login)
            && self.sender_domain.as_deref().is_none_or(|name| name.eq_ignore_ascii_case(domain))
    }

    fn takes_all(&self) -> bool {
        self.listener.is_none() && self.login.is_none() && self.sender_domain.is_none()
    }
}

impl super::Config {
    /// The service that the next hops of a mail belong to. `sender` is the address of the envelope.
    pub fn esp(
        &self,
        listener: &str,
        login: Option<&str>,
        sender: &str,
    ) -> Option<pixelward_core::rewrite::downstream::Esp> {
        let route = self.routes.iter().find(|route| route.takes(listener, login, sender))?;
        let first = route.next_hops.first()?;
        self.next_hops.iter().find(|hop| hop.name == *first)?.esp
    }
}

/// Reads the routes of a file; without any, one that sends all mail to all next hops in order.
pub(super) fn routes(root: &mut Section<'_>, listeners: &[Listener], next_hops: &[NextHop]) -> Vec<Route> {
    if next_hops.is_empty() {
        root.problem(0, "[next_hop] is missing: set its host to the server that takes the mail");
    }
    for (index, hop) in next_hops.iter().enumerate() {
        if next_hops.iter().take(index).any(|other| other.name == hop.name) {
            root.problem(0, format!("two [[next_hop]] are named {:?}: use different names", hop.name));
        }
    }
    let mut routes = root.sections("route", |section| route(section, listeners, next_hops));
    match routes.last() {
        None => routes.push(Route {
            next_hops: next_hops.iter().map(|hop| hop.name.clone()).collect(),
            ..Route::default()
        }),
        Some(last) if !last.takes_all() => {
            root.problem(
                0,
                "no [[route]] matches the rest of the mail: add one at the end that has only next_hops",
            );
        }
        Some(_) => {}
    }
    for route in &routes {
        let named = route.next_hops.iter().filter_map(|name| next_hops.iter().find(|hop| hop.name == *name));
        let services: Vec<_> = named.map(|hop| hop.esp).collect();
        if services.windows(2).any(|pair| pair.first() != pair.last()) {
            root.problem(
                0,
                format!(
                    "next_hops {:?} of one route have different esp: a copy is made for one service, so use \
                     a route for each",
                    route.next_hops
                ),
            );
        }
    }
    routes
}

fn route(section: &mut Section<'_>, listeners: &[Listener], next_hops: &[NextHop]) -> Route {
    let listener = section.parsed("listener", |text| {
        let is_known = listeners.iter().any(|listener| listener.name == text);
        is_known.then(|| text.to_owned()).ok_or_else(|| format!("unknown listener {text:?}"))
    });
    let route = Route {
        listener,
        login: section.string("login"),
        sender_domain: section.string("sender_domain").map(|domain| domain.to_ascii_lowercase()),
        next_hops: section.list("next_hops", |text| {
            let is_known = next_hops.iter().any(|hop| hop.name == text);
            is_known.then(|| text.to_owned()).ok_or_else(|| format!("unknown next hop {text:?}"))
        }),
    };
    if route.next_hops.is_empty() {
        section.problem(section.start_line(), "route.next_hops is missing: name at least one [[next_hop]]");
    }
    route
}

#[cfg(test)]
mod tests {
    use crate::Config;

    const HOPS: &str = "[[listener]]\n\
                        name = \"inside\"\n\
                        address = \"127.0.0.1:2525\"\n\
                        [[next_hop]]\n\
                        name = \"one\"\n\
                        host = \"one.example\"\n\
                        [[next_hop]]\n\
                        name = \"two\"\n\
                        host = \"two.example\"\n";

    fn problem(routes: &str) -> String {
        let problems = Config::parse(&format!("{HOPS}{routes}")).map(|_| ()).unwrap_err();
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn without_routes_all_mail_goes_to_all_in_order() {
        let routes = Config::parse(HOPS).unwrap().routes;
        assert_eq!(routes.len(), 1);
        assert_eq!(routes[0].next_hops, ["one", "two"]);
        assert!(routes[0].takes("inside", None, ""));
    }

    #[test]
    fn the_first_that_fits_takes_the_mail() {
        let text = format!(
            "{HOPS}[[route]]\n\
             listener = \"inside\"\n\
             login = \"shop\"\n\
             next_hops = [\"two\"]\n\
             [[route]]\n\
             sender_domain = \"Shop.example\"\n\
             next_hops = [\"two\", \"one\"]\n\
             [[route]]\n\
             next_hops = [\"one\"]\n"
        );
        let routes = Config::parse(&text).unwrap().routes;
        let chosen = |listener: &str, login, sender: &str| {
            routes.iter().position(|route| route.takes(listener, login, sender)).unwrap()
        };
        assert_eq!(chosen("inside", Some("shop"), "a@b.example"), 0);
        assert_eq!(chosen("outside", Some("shop"), "a@b.example"), 2);
        assert_eq!(chosen("inside", None, "News@SHOP.example"), 1);
        assert_eq!(chosen("inside", None, "news@sub.shop.example"), 2);
        assert_eq!(chosen("inside", None, ""), 2);
    }

    #[test]
    fn what_does_not_fit_together_is_named() {
        assert!(
            problem("[[route]]\nlogin = \"a\"\nnext_hops = [\"one\"]\n").contains("the rest of the mail")
        );
        assert!(problem("[[route]]\nnext_hops = [\"three\"]\n").contains("\"three\""));
        assert!(problem("[[route]]\nlistener = \"x\"\nnext_hops = [\"one\"]\n").contains("unknown listener"));
        assert!(problem("[[route]]\n").contains("next_hops is missing"));
        assert!(problem("[[next_hop]]\nname = \"one\"\nhost = \"x.example\"\n").contains("two [[next_hop]]"));
        assert!(
            problem("[[next_hop]]\nname = \"s\"\nhost = \"x.example\"\nesp = \"none\"\n")
                .contains("different esp")
        );
    }
}
