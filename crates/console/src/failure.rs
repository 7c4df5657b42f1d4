//! Why there is no page, and what people are told then.

use axum::http::StatusCode;

use super::client::ApiError;
use super::text::{Language, Text};

/// Why there is no page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There is nothing under this path, or nothing of this name.
    Nothing,
    /// The path is there, the method is not.
    WrongMethod,
    /// Nobody is signed in.
    SignedOut,
    /// Their roles do not go so far.
    Forbidden,
    /// The console was asked for under another name than its own.
    Elsewhere,
    /// A form is none of ours.
    ForeignForm,
    /// What was sent is malformed; names what.
    Malformed(&'static str),
    /// The body is larger than this.
    TooLarge(usize),
    /// It takes too long.
    Slow,
    /// Signing in did not work. Why is logged, and not said to those who may be trying.
    NotLetIn,
    /// The relay's API does not do what is needed.
    Api(ApiError),
    /// A fault of the program or the machine, which is logged.
    Fault,
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Failure {
        if error.is_absence() { Failure::Nothing } else { Failure::Api(error) }
    }
}

impl Failure {
    /// What was sent is malformed.
    pub(super) fn malformed(what: &'static str) -> Failure {
        Failure::Malformed(what)
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Failure::Nothing => StatusCode::NOT_FOUND,
            Failure::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Failure::SignedOut => StatusCode::UNAUTHORIZED,
            Failure::Forbidden | Failure::ForeignForm | Failure::NotLetIn => StatusCode::FORBIDDEN,
            Failure::Elsewhere => StatusCode::MISDIRECTED_REQUEST,
            Failure::Malformed(_) => StatusCode::BAD_REQUEST,
            Failure::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Failure::Slow => StatusCode::GATEWAY_TIMEOUT,
            Failure::Api(ApiError::Refused { status: 400, .. }) => StatusCode::BAD_REQUEST,
            Failure::Api(ApiError::Refused { status: 409, .. }) => StatusCode::CONFLICT,
            Failure::Api(_) => StatusCode::BAD_GATEWAY,
            Failure::Fault => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    pub(super) fn title(&self, language: Language) -> &'static str {
        let text = match self {
            Failure::Nothing => Text("Not found", "Das gibt es nicht", "Cela n’existe pas"),
            Failure::WrongMethod => Text("That cannot be done here", "Das geht hier nicht", "Impossible ici"),
            Failure::SignedOut => {
                Text("Please sign in", "Bitte melden Sie sich an", "Veuillez vous connecter")
            }
            Failure::Forbidden => Text(
                "Your roles do not go so far",
                "Ihre Rollen reichen dafür nicht",
                "Vos rôles ne vont pas jusque-là",
            ),
            Failure::Elsewhere => {
                Text("This is not my name", "Das ist nicht mein Name", "Ce n’est pas mon nom")
            }
            Failure::ForeignForm => {
                Text("That form is too old", "Dieses Formular ist veraltet", "Ce formulaire est périmé")
            }
            Failure::Malformed(_) => {
                Text("Something in it is wrong", "Etwas darin ist falsch", "Quelque chose y est faux")
            }
            Failure::TooLarge(_) => Text("That is too large", "Das ist zu groß", "C’est trop grand"),
            Failure::Slow => Text("Timed out", "Es dauert zu lange", "C’est trop long"),
            Failure::NotLetIn => {
                Text("Signing in did not work", "Die Anmeldung ging nicht", "La connexion a échoué")
            }
            Failure::Api(ApiError::Refused { status: 400 | 409, .. }) => {
                Text("The relay says no", "Das Relay lehnt es ab", "Le relais refuse")
            }
            Failure::Api(_) => {
                Text("The relay does not answer", "Das Relay antwortet nicht", "Le relais ne répond pas")
            }
            Failure::Fault => Text("Something went wrong", "Etwas ging schief", "Une erreur est survenue"),
        };
        language.say(&text)
    }

    /// What to do about it.
    pub(super) fn advice(&self, language: Language) -> String {
        let say = |en, de, fr| language.say(&Text(en, de, fr)).to_owned();
        match self {
            Failure::Nothing => say(
                "The address may be wrong, or what it named is gone.",
                "Vielleicht stimmt die Adresse nicht, oder was sie nannte, ist nicht mehr da.",
                "L’adresse est peut-être fausse, ou ce qu’elle désignait n’est plus là.",
            ),
            Failure::WrongMethod | Failure::ForeignForm => say(
                "Go back, load the page again and try once more.",
                "Gehen Sie zurück, laden Sie die Seite neu und versuchen Sie es noch einmal.",
                "Revenez en arrière, rechargez la page et réessayez.",
            ),
            Failure::SignedOut => say(
                "Nobody is signed in, or it is too long ago.",
                "Niemand ist angemeldet, oder es ist zu lange her.",
                "Personne n’est connecté, ou c’est trop ancien.",
            ),
            Failure::Forbidden => say(
                "Whoever looks after the console can give you a role.",
                "Wer die Konsole betreut, kann Ihnen eine Rolle geben.",
                "La personne qui gère la console peut vous donner un rôle.",
            ),
            Failure::Elsewhere => say(
                "Use the address that the configuration names (server.public_url).",
                "Benutzen Sie die Adresse, die in der Konfiguration steht (server.public_url).",
                "Utilisez l’adresse de la configuration (server.public_url).",
            ),
            Failure::Malformed(what) => format!(
                "{} {what}",
                say("This cannot be read:", "Das kann nicht gelesen werden:", "Ceci n’est pas lisible :")
            ),
            Failure::TooLarge(limit) => {
                format!(
                    "{} {}",
                    say("The most bytes:", "Höchstens so viele Bytes:", "Octets au plus :"),
                    language.number(*limit as u64)
                )
            }
            Failure::Slow => say(
                "Ask for less, such as fewer days.",
                "Fragen Sie nach weniger, etwa weniger Tagen.",
                "Demandez moins, par exemple moins de jours.",
            ),
            Failure::NotLetIn => say(
                "The link was used or is too old, or the answer of the identity provider does not count. Begin again; the log says more.",
                "Der Link wurde benutzt oder ist zu alt, oder die Antwort des Identitätsanbieters zählt nicht. Beginnen Sie neu; im Protokoll steht mehr.",
                "Le lien a servi ou est trop ancien, ou la réponse du fournisseur d’identité ne compte pas. Recommencez ; le journal en dit plus.",
            ),
            Failure::Api(ApiError::Refused { detail, .. }) => detail.clone(),
            Failure::Api(ApiError::Unreachable(_)) => say(
                "Mail may flow all the same. Look whether the relay runs and serves its API, and whether the console has a token that counts; the console’s log says more.",
                "Post kann trotzdem fließen. Sehen Sie nach, ob das Relay läuft und seine Schnittstelle anbietet und ob die Konsole ein gültiges Token hat; mehr steht im Protokoll der Konsole.",
                "Le courrier passe peut-être quand même. Vérifiez que le relais tourne, que son interface répond et que la console a un jeton valable ; son journal en dit plus.",
            ),
            Failure::Fault => {
                say("The log says more.", "Im Protokoll steht mehr.", "Le journal en dit plus.")
            }
        }
    }
}
