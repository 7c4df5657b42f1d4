//! Writing down who looked at what, before it is shown.

use serde_json::json;

use super::failure::Failure;
use super::{Call, Console};

/// What somebody does.
pub(super) struct Deed<'a> {
    /// What, in a word with a dot.
    pub(super) action: &'a str,
    /// About whom, by keyed hash.
    pub(super) person: Option<&'a str>,
    /// What else there is to know.
    pub(super) detail: Option<&'a str>,
}

impl<'a> Deed<'a> {
    /// Something about a person.
    pub(super) fn about(action: &'a str, person: &'a str) -> Deed<'a> {
        Deed { action, person: Some(person), detail: None }
    }

    /// Something else.
    pub(super) fn of(action: &'a str, detail: &'a str) -> Deed<'a> {
        Deed { action, person: None, detail: Some(detail).filter(|detail| !detail.is_empty()) }
    }
}

/// Writes it down. Where that fails, what was wanted is not done.
pub(super) async fn note(call: &Call, deed: Deed<'_>) -> Result<(), Failure> {
    let actor = call.session()?.subject.clone();
    let controller = Some(call.controller.as_str()).filter(|controller| !controller.is_empty());
    write(&call.console, &actor, controller, deed).await
}

/// The same, of somebody whose session is not open yet or any more.
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
