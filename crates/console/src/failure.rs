//! Failures, and what people are told about them.

use axum::http::StatusCode;

use super::client::ApiError;
use super::text::{Language, Text};

/// Why a page cannot be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The path or the thing it names does not exist.
    Nothing,
    /// The path does not allow the method.
    WrongMethod,
    /// Nobody is signed in.
    SignedOut,
    /// The session's roles are not sufficient.
    Forbidden,
    /// The console was requested under a different host name.
    Elsewhere,
    /// A form was not issued by the console for this session.
    ForeignForm,
    /// The request is malformed; names the part.
    Malformed(&'static str),
    /// The body is larger than this.
    TooLarge(usize),
    /// The request timed out.
    Slow,
    /// Sign-in failed. The reason is logged, and withheld from whoever may be guessing.
    NotLetIn,
    /// The relay's API failed.
    Api(ApiError),
    /// An internal error, which is logged.
    Fault,
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Failure {
        if error.is_absence() { Failure::Nothing } else { Failure::Api(error) }
    }
}

impl Failure {
    /// Creates a failure for a malformed request.
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
            Failure::Nothing => Text("Not found", "Nicht gefunden", "Introuvable"),
            Failure::WrongMethod => Text("Not possible here", "Das geht hier nicht", "Impossible ici"),
            Failure::SignedOut => {
                Text("Please sign in", "Bitte melden Sie sich an", "Veuillez vous connecter")
            }
            Failure::Forbidden => Text("Access denied", "Kein Zugriff", "Accès refusé"),
            Failure::Elsewhere => Text("Wrong host name", "Falscher Hostname", "Nom d’hôte incorrect"),
            Failure::ForeignForm => {
                Text("This form has expired", "Dieses Formular ist veraltet", "Ce formulaire est périmé")
            }
            Failure::Malformed(_) => Text("Invalid request", "Ungültige Eingabe", "Saisie non valide"),
            Failure::TooLarge(_) => Text("Request too large", "Anfrage zu groß", "Requête trop volumineuse"),
            Failure::Slow => Text("Timed out", "Zeitüberschreitung", "Délai dépassé"),
            Failure::NotLetIn => Text("Sign-in failed", "Anmeldung fehlgeschlagen", "La connexion a échoué"),
            Failure::Api(ApiError::Refused { status: 400 | 409, .. }) => {
                Text("The relay refused", "Das Relay hat abgelehnt", "Le relais a refusé")
            }
            Failure::Api(_) => {
                Text("The relay does not answer", "Das Relay antwortet nicht", "Le relais ne répond pas")
            }
            Failure::Fault => Text("Something went wrong", "Etwas ging schief", "Une erreur est survenue"),
        };
        language.say(&text)
    }

    /// Says what to do about it.
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
                "Nobody is signed in, or the session has expired.",
                "Niemand ist angemeldet, oder die Sitzung ist abgelaufen.",
                "Personne n’est connecté, ou la session a expiré.",
            ),
            Failure::Forbidden => say(
                "The administrator of the console can give you a role.",
                "Wer die Konsole betreut, kann Ihnen eine Rolle geben.",
                "La personne qui gère la console peut vous donner un rôle.",
            ),
            Failure::Elsewhere => say(
                "Use the address in the configuration (server.public_url).",
                "Benutzen Sie die Adresse, die in der Konfiguration steht (server.public_url).",
                "Utilisez l’adresse de la configuration (server.public_url).",
            ),
            Failure::Malformed(what) => {
                format!("{} {what}", say("Invalid input:", "Ungültige Eingabe:", "Saisie non valide :"))
            }
            Failure::TooLarge(limit) => {
                format!(
                    "{} {}",
                    say("Maximum number of bytes:", "Höchstens so viele Bytes:", "Octets au plus :"),
                    language.number(*limit as u64)
                )
            }
            Failure::Slow => say(
                "Ask for less, for example fewer days.",
                "Fragen Sie nach weniger, etwa weniger Tagen.",
                "Demandez moins, par exemple moins de jours.",
            ),
            Failure::NotLetIn => say(
                "The link was used or has expired, or the identity provider’s response was rejected. Start \
                 again; the log says more.",
                "Der Link wurde bereits benutzt oder ist abgelaufen, oder die Antwort des \
                 Identitätsanbieters wurde abgelehnt. Beginnen Sie neu; Näheres steht im Protokoll.",
                "Le lien a déjà servi ou a expiré, ou la réponse du fournisseur d’identité a été refusée. \
                 Recommencez ; le journal donne les détails.",
            ),
            Failure::Api(ApiError::Refused { detail, .. }) => detail.clone(),
            Failure::Api(ApiError::Unreachable(_)) => say(
                "Mail may be flowing all the same. Check that the relay is running and serves its API, and \
                 that the console has a valid token; the console’s log says more.",
                "E-Mails können trotzdem fließen. Sehen Sie nach, ob das Relay läuft und seine Schnittstelle \
                 anbietet und ob die Konsole ein gültiges Token hat; mehr steht im Protokoll der Konsole.",
                "Les e-mails passent peut-être quand même. Vérifiez que le relais tourne, que son interface \
                 répond et que la console a un jeton valable ; son journal en dit plus.",
            ),
            Failure::Fault => {
                say("The log says more.", "Im Protokoll steht mehr.", "Le journal en dit plus.")
            }
        }
    }
}
