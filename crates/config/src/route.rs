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
    /// Domains of recipients, in lower case. One that begins with a dot stands for those below it.
    pub recipient_domains: Vec<String>,
    /// The names of the next hops, in the order in which they are tried.
    pub next_hops: Vec<String>,
}

impl Route {
    /// Returns whether mail to this recipient matches. `sender` is the address in the envelope. Without a
    /// recipient, only routes match that are for all of them.
    pub fn takes(&self, listener: &str, login: Option<&str>, sender: &str, recipient: Option<&str>) -> bool {
        let is_named = |recipient: &str| {
            let domain = domain_of(recipient).to_ascii_lowercase();
            self.recipient_domains.iter().any(|name| match name.starts_with('.') {
                true => domain.ends_with(name.as_str()),
                false => *name == domain,
            })
        };
        self.takes_from(listener, login, sender)
            && (self.recipient_domains.is_empty() || recipient.is_some_and(is_named))
    }

    /// Returns whether mail of this sender matches if it is to the right recipient.
    pub fn takes_from(&self, listener: &str, login: Option<&str>, sender: &str) -> bool {
        let domain = domain_of(sender);
        self.listener.as_deref().is_none_or(|name| name == listener)
            && self.login.as_deref().is_none_or(|name| Some(name) == login)
            && self.sender_domain.as_deref().is_none_or(|name| name.eq_ignore_ascii_case(domain))
    }

    fn takes_all(&self) -> bool {
        self.listener.is_none()
            && self.login.is_none()
            && self.sender_domain.is_none()
            && self.recipient_domains.is_empty()
    }

    /// Returns whether one message can match both, to different recipients.
    fn meets(&self, other: &Route) -> bool {
        let may_be_same = |one: &Option<String>, other: &Option<String>| match (one, other) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        may_be_same(&self.listener, &other.listener)
            && may_be_same(&self.login, &other.login)
            && may_be_same(&self.sender_domain, &other.sender_domain)
            && !(self.recipient_domains.is_empty() && other.recipient_domains.is_empty())
    }
}

fn domain_of(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}

impl super::Config {
    /// The service that the next hops of a mail belong to. `sender` is the address of the envelope.
    pub fn esp(
        &self,
        listener: &str,
        login: Option<&str>,
        sender: &str,
    ) -> Option<pixelward_core::rewrite::downstream::Esp> {
        let route = self.routes.iter().find(|route| route.takes(listener, login, sender, None))?;
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
        let services: Vec<_> = named(route, next_hops).map(|hop| hop.esp).collect();
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
    let esp = |route| named(route, next_hops).map(|hop| hop.esp).next();
    let pairs = routes.iter().enumerate().flat_map(|(index, route)| {
        routes.iter().skip(index + 1).map(move |other| (route, other)).filter(|(one, other)| one.meets(other))
    });
    if let Some((one, other)) = pairs.into_iter().find(|(one, other)| esp(one) != esp(other)) {
        root.problem(
            0,
            format!(
                "next_hops {:?} and {:?} have different esp, and recipient_domain can send one message to \
                 both: a copy is made for one service, so use sender_domain, login or listener instead",
                one.next_hops, other.next_hops
            ),
        );
    }
    routes
}

/// Returns the next hops that a route names.
fn named<'a>(route: &'a Route, next_hops: &'a [NextHop]) -> impl Iterator<Item = &'a NextHop> {
    route.next_hops.iter().filter_map(|name| next_hops.iter().find(|hop| hop.name == *name))
}

/// Reads the domain of recipients, or a dot and the domain that theirs are below.
fn recipient_domain(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix('.').unwrap_or(text);
    let is_domain = bare.split('.').all(|label| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    });
    let invalid = || format!("invalid domain {text:?}: use a domain, or a dot and a domain for all below it");
    is_domain.then(|| text.to_ascii_lowercase()).ok_or_else(invalid)
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
        recipient_domains: section.one_or_more("recipient_domain", recipient_domain),
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
        assert!(routes[0].takes("inside", None, "", None));
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
            routes.iter().position(|route| route.takes(listener, login, sender, None)).unwrap()
        };
        assert_eq!(chosen("inside", Some("shop"), "a@b.example"), 0);
        assert_eq!(chosen("outside", Some("shop"), "a@b.example"), 2);
        assert_eq!(chosen("inside", None, "News@SHOP.example"), 1);
        assert_eq!(chosen("inside", None, "news@sub.shop.example"), 2);
        assert_eq!(chosen("inside", None, ""), 2);
    }

    #[test]
    fn recipients_are_told_apart_by_domain_and_by_what_it_is_below() {
        let text = format!(
            "{HOPS}[[route]]\nrecipient_domain = [\"Home.example\", \".inside.example\"]\n\
             next_hops = [\"two\"]\n[[route]]\nnext_hops = [\"one\"]\n"
        );
        let routes = Config::parse(&text).unwrap().routes;
        let chosen = |recipient| {
            routes.iter().position(|route| route.takes("inside", None, "a@b.example", recipient)).unwrap()
        };
        for (recipient, number) in [
            ("ann@home.example", 0),
            ("ann@HOME.example", 0),
            ("ann@sub.home.example", 1),
            ("ann@a.b.inside.example", 0),
            ("ann@inside.example", 1),
            ("ann@notinside.example", 1),
            ("postmaster", 1),
        ] {
            assert_eq!(chosen(Some(recipient)), number, "{recipient}");
        }
        assert_eq!(chosen(None), 1);
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
            problem("[[route]]\nrecipient_domain = \"a b\"\nnext_hops = [\"one\"]\n")
                .contains("invalid domain")
        );
        assert!(
            problem("[[route]]\nrecipient_domain = \"a.example\"\nnext_hops = [\"one\"]\n")
                .contains("the rest of the mail")
        );
        let services = "[[next_hop]]\nname = \"s\"\nhost = \"x.example\"\nesp = \"none\"\n\
                        [[route]]\nsender_domain = \"b.example\"\nrecipient_domain = \"a.example\"\n\
                        next_hops = [\"s\"]\n[[route]]\nnext_hops = [\"one\"]\n";
        assert!(problem(services).contains("recipient_domain can send one message to both"));
        assert!(
            problem("[[next_hop]]\nname = \"s\"\nhost = \"x.example\"\nesp = \"none\"\n")
                .contains("different esp")
        );
    }
}
