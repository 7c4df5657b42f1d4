//! Roles, and who has them for which controller.

use crate::config::console::{Role, RoleRule};
use crate::consent::Controller;

/// A person's rights: roles, each for one controller or for all. Nobody has any unless it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights(Vec<(Role, Option<Controller>)>);

impl Rights {
    /// Returns every role for all controllers, which the one-time link gives.
    pub fn everything() -> Rights {
        Rights(Role::ALL.map(|role| (role, None)).to_vec())
    }

    /// Returns the roles that these attributes give, by the rules of the configuration. `attributes` are
    /// names and values, as signed by the identity provider.
    pub fn of<'a>(
        rules: &[RoleRule],
        attributes: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Rights {
        let mut given: Vec<(Role, Option<Controller>)> = rules
            .iter()
            .filter(|rule| {
                attributes.clone().any(|pair| pair == (rule.attribute.as_str(), rule.value.as_str()))
            })
            .map(|rule| (rule.role, rule.controller.clone()))
            .collect();
        given.sort_by_key(|(role, controller)| (*role, controller.as_ref().map(ToString::to_string)));
        given.dedup();
        Rights(given)
    }

    /// Returns whether there are no roles.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether one of these roles is held for this controller.
    pub fn allow(&self, roles: &[Role], controller: &str) -> bool {
        let covers =
            |scope: &Option<Controller>| scope.as_ref().is_none_or(|name| name.as_str() == controller);
        self.0.iter().any(|(role, scope)| roles.contains(role) && covers(scope))
    }

    /// Returns whether one of these roles is held for all controllers.
    pub fn allow_all(&self, roles: &[Role]) -> bool {
        self.0.iter().any(|(role, scope)| roles.contains(role) && scope.is_none())
    }

    /// Returns whether one of these roles is held for any controller.
    pub fn allow_somewhere(&self, roles: &[Role]) -> bool {
        self.0.iter().any(|(role, _)| roles.contains(role))
    }

    /// Describes the rights: `officer of shop, viewer of all`.
    pub fn described(&self) -> String {
        let each = self.0.iter().map(|(role, controller)| {
            format!("{} of {}", role.name(), controller.as_ref().map_or("all", Controller::as_str))
        });
        each.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(value: &str, role: Role, controller: Option<&str>) -> RoleRule {
        let controller = controller.map(|controller| controller.parse().unwrap());
        RoleRule { attribute: "groups".to_owned(), value: value.to_owned(), role, controller }
    }

    fn check(attributes: &[(&str, &str)], expected: &str) -> Rights {
        let rules = [
            rule("staff", Role::Viewer, None),
            rule("privacy", Role::Officer, Some("shop")),
            rule("dpo", Role::Officer, None),
        ];
        let rights = Rights::of(&rules, attributes.iter().copied());
        assert_eq!(rights.described(), expected);
        rights
    }

    #[test]
    fn attributes_give_roles_and_nothing_gives_none() {
        assert!(check(&[], "").is_empty());
        check(&[("groups", "Staff"), ("group", "staff"), ("groups", "staff ")], "");
        check(&[("groups", "staff"), ("groups", "staff")], "viewer of all");
        let both = check(&[("groups", "privacy"), ("groups", "staff")], "viewer of all, officer of shop");
        assert!(both.allow(&[Role::Officer], "shop") && !both.allow(&[Role::Officer], "club"));
        assert!(both.allow(&Role::ALL, "club") && !both.allow_all(&[Role::Officer]));
        assert!(both.allow_all(&[Role::Viewer]) && both.allow_somewhere(&[Role::Officer]));
        assert!(!both.allow(&[Role::Operator], "shop"));
        assert!(check(&[("groups", "dpo")], "officer of all").allow_all(&[Role::Officer]));
    }
}
