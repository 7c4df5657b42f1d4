//! Records who looked at what, before it is shown.

use serde_json::json;

use super::failure::Failure;
use super::{Call, Console};

/// An action.
pub(super) struct Deed<'a> {
    /// The action, as words joined by a dot.
    pub(super) action: &'a str,
    /// The keyed hash of the person concerned.
    pub(super) person: Option<&'a str>,
    /// Further details.
    pub(super) detail: Option<&'a str>,
}

impl<'a> Deed<'a> {
    /// Creates an action that concerns a person.
    pub(super) fn about(action: &'a str, person: &'a str) -> Deed<'a> {
        Deed { action, person: Some(person), detail: None }
    }

    /// Creates any other action.
    pub(super) fn of(action: &'a str, detail: &'a str) -> Deed<'a> {
        Deed { action, person: None, detail: Some(detail).filter(|detail| !detail.is_empty()) }
    }
}

/// Records an action. If that fails, the action is not carried out.
pub(super) async fn note(call: &Call, deed: Deed<'_>) -> Result<(), Failure> {
    let actor = call.session()?.subject.clone();
    let controller = Some(call.controller.as_str()).filter(|controller| !controller.is_empty());
    write(&call.console, &actor, controller, deed).await
}

/// Records an action of a person whose session is not open yet or any more.
pub(super) async fn write(
    console: &Console,
    actor: &str,
    controller: Option<&str>,
    deed: Deed<'_>,
) -> Result<(), Failure> {
    let short = |text: &str, most: usize| text.chars().take(most).collect::<String>();
    let body = json!({
        "actor": short(actor, 1024),
        "action": deed.action,
        "controller": controller,
        "person": deed.person,
        "detail": deed.detail.map(|detail| short(detail, 1024)),
    });
    console.api.post("/v1/audit", &body).await?;
    Ok(())
}
