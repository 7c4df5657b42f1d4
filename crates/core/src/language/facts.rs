//! What the facts say that speak for or against a tracker.

use super::{Language, Text};
use crate::tracker::Fact;

/// A fact in words. English is what the reports of the commands have.
pub fn fact(language: Language, fact: Fact) -> &'static str {
    let (de, fr) = match fact {
        Fact::VendorOpen => {
            ("Adresse einer bekannten Öffnungsmeldung", "adresse d’un signalement d’ouverture connu")
        }
        Fact::RecipientInUrl => ("Adresse des Empfängers in der URL", "adresse du destinataire dans l’URL"),
        Fact::OpenWord => ("URL enthält ein Wort für Öffnung", "l’URL contient un mot d’ouverture"),
        Fact::OpaqueToken => ("nicht lesbares Token in der URL", "jeton opaque dans l’URL"),
        Fact::Identifier => ("Kennung in der URL", "identifiant dans l’URL"),
        Fact::KeyedSpacer => ("Platzhalter mit einer Kennung", "image d’espacement qui porte un identifiant"),
        Fact::KeyedPixel => (
            "unsichtbar und doch mit Parametern abgerufen",
            "invisible et pourtant demandé avec des paramètres",
        ),
        Fact::SharedToken => ("trägt das Token eines anderen Trackers", "porte le jeton d’un autre traceur"),
        Fact::Dynamic => ("keine Bilddatei", "pas un fichier image"),
        Fact::Zero => ("ohne Ausdehnung", "taille nulle"),
        Fact::Tiny => ("ein oder zwei Pixel groß", "un ou deux pixels"),
        Fact::Line => ("eine dünne Linie", "une ligne fine"),
        Fact::Hidden => ("versteckt", "caché"),
        Fact::HiddenAncestor => ("in etwas Verstecktem", "dans un élément caché"),
        Fact::NoSize => ("keine Größe angegeben", "aucune taille indiquée"),
        Fact::OutsideBody => ("außerhalb des Textkörpers", "hors du corps"),
        Fact::ShowsNothing => ("zeigt nichts", "ne montre rien"),
        Fact::Listed => ("auf einer Liste des Betreibers", "sur une liste de l’exploitant"),
        Fact::Learnt => {
            ("von Kopie zu Kopie der Kampagne verschieden", "diffère d’une copie à l’autre de la campagne")
        }
        Fact::PersonalPicture => (
            "Adresse eines Anbieters, dessen Bilder für jeden andere sind",
            "adresse d’un fournisseur d’images différentes pour chacun",
        ),
        Fact::VendorLink => {
            ("Adresse einer bekannten Klickmeldung", "adresse d’un signalement de clic connu")
        }
        Fact::CarriesAddress => {
            ("führt zu einer Adresse in ihr weiter", "mène à une adresse qu’elle contient")
        }
        Fact::ClickWord => ("URL spricht von einem Klick", "l’URL parle d’un clic"),
        Fact::Visible => ("groß genug, um gesehen zu werden", "assez grand pour être vu"),
        Fact::StaticFile => ("einfache Bilddatei", "simple fichier image"),
        Fact::NamedFile => {
            ("benanntes Bild in einem Ordner mit Token", "image nommée, dans un dossier à jeton")
        }
        Fact::PictureService => ("liegt bei einem Bilderdienst", "hébergé par un service d’images"),
        Fact::SpacerName => ("wie ein Platzhalter benannt", "nommé comme une image d’espacement"),
        Fact::Repeated => ("wiederholt", "répété"),
        Fact::ShownElsewhere => ("anderswo sichtbar gezeigt", "montré ailleurs, visible"),
        Fact::FolderShown => ("ihr Ordner hat sichtbare Bilder", "son dossier sert des images visibles"),
        Fact::Furniture => ("Schrift, Stilvorlage oder Symbol", "police, feuille de style ou icône"),
        Fact::Choice => ("lässt die Person wählen", "offre un choix à la personne"),
        Fact::Idle => ("wird beim Öffnen nicht geladen", "n’est pas chargé à l’ouverture"),
        Fact::LocalHost => ("kein Rechner des öffentlichen Netzes", "pas un hôte du réseau public"),
        Fact::Allowed => ("vom Betreiber erlaubt", "permis par l’exploitant"),
    };
    language.say(&Text(fact.text(), de, fr))
}
