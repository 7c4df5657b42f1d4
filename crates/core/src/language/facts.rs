//! What the facts say that speak for or against a tracker.

use super::{Language, Text};
use crate::tracker::Signal;

/// A fact in words. English is what the reports of the commands have.
pub fn fact(language: Language, fact: Signal) -> &'static str {
    let (de, fr) = match fact {
        Signal::VendorOpen => {
            ("Adresse einer bekannten Öffnungsmeldung", "adresse d’un signalement d’ouverture connu")
        }
        Signal::RecipientInUrl => ("Adresse des Empfängers in der URL", "adresse du destinataire dans l’URL"),
        Signal::OpenWord => ("URL enthält ein Wort für Öffnung", "l’URL contient un mot d’ouverture"),
        Signal::OpaqueToken => ("nicht lesbares Token in der URL", "jeton opaque dans l’URL"),
        Signal::Identifier => ("Kennung in der URL", "identifiant dans l’URL"),
        Signal::KeyedSpacer => {
            ("Platzhalter mit einer Kennung", "image d’espacement qui porte un identifiant")
        }
        Signal::KeyedPixel => (
            "unsichtbar und doch mit Parametern abgerufen",
            "invisible et pourtant demandé avec des paramètres",
        ),
        Signal::UnseenReader => {
            ("unsichtbar und mit der Adresse des Empfängers", "invisible, avec l’adresse du destinataire")
        }
        Signal::SharedAddress => {
            ("dieselbe Adresse wie ein anderer Tracker", "même adresse qu’un autre traceur")
        }
        Signal::SharedProgram => (
            "fragt dasselbe Programm wie ein anderer Tracker",
            "appelle le même programme qu’un autre traceur",
        ),
        Signal::SharedPicture => (
            "weitere Quelle eines Bildes, das ein Tracker ist",
            "autre source d’une image qui est un traceur",
        ),
        Signal::SharedToken => {
            ("trägt das Token eines anderen Trackers", "porte le jeton d’un autre traceur")
        }
        Signal::Dynamic => ("keine Bilddatei", "pas un fichier image"),
        Signal::Zero => ("ohne Ausdehnung", "taille nulle"),
        Signal::Tiny => ("höchstens drei Pixel groß", "trois pixels au plus"),
        Signal::Dot => ("höchstens fünf Pixel groß", "cinq pixels au plus"),
        Signal::Line => ("eine dünne Linie", "une ligne fine"),
        Signal::Hidden => ("versteckt", "caché"),
        Signal::HiddenAncestor => ("in etwas Verstecktem", "dans un élément caché"),
        Signal::NoSize => ("keine Größe angegeben", "aucune taille indiquée"),
        Signal::Undescribed => ("nichts sagt, was es zeigt", "rien ne dit ce qu’elle montre"),
        Signal::Last => ("das Letzte im Textkörper", "dernière du corps"),
        Signal::Background => ("Hintergrund eines Kastens", "arrière-plan d’un bloc"),
        Signal::Described => ("ein Text sagt, was es zeigt", "un texte dit ce qu’elle montre"),
        Signal::Linked => ("in einem Link", "dans un lien"),
        Signal::Fluid => ("so breit, wie Platz ist", "aussi large que la place le permet"),
        Signal::OutsideBody => ("außerhalb des Textkörpers", "hors du corps"),
        Signal::ShowsNothing => ("zeigt nichts", "ne montre rien"),
        Signal::Listed => ("auf einer Liste des Betreibers", "sur une liste de l’exploitant"),
        Signal::Learnt => {
            ("von Kopie zu Kopie der Kampagne verschieden", "diffère d’une copie à l’autre de la campagne")
        }
        Signal::PersonalPicture => (
            "Adresse eines Anbieters, dessen Bilder für jeden andere sind",
            "adresse d’un fournisseur d’images différentes pour chacun",
        ),
        Signal::VendorLink => {
            ("Adresse einer bekannten Klickmeldung", "adresse d’un signalement de clic connu")
        }
        Signal::CarriesAddress => {
            ("führt zu einer Adresse in ihr weiter", "mène à une adresse qu’elle contient")
        }
        Signal::ClickWord => {
            ("URL enthält ein Wort für einen Klick", "l’URL contient un mot de clic (click)")
        }
        Signal::Visible => ("groß genug, um gesehen zu werden", "assez grand pour être vu"),
        Signal::StaticFile => ("einfache Bilddatei", "simple fichier image"),
        Signal::NamedFile => {
            ("benanntes Bild in einem Ordner mit Token", "image nommée, dans un dossier à jeton")
        }
        Signal::PictureService => ("liegt bei einem Bilderdienst", "hébergé par un service d’images"),
        Signal::SpacerName => ("wie ein Platzhalter benannt", "nommé comme une image d’espacement"),
        Signal::Repeated => ("wiederholt", "répété"),
        Signal::ShownElsewhere => ("anderswo sichtbar gezeigt", "montré ailleurs, visible"),
        Signal::FolderShown => ("ihr Ordner hat sichtbare Bilder", "son dossier sert des images visibles"),
        Signal::Furniture => ("Schrift, Stilvorlage oder Symbol", "police, feuille de style ou icône"),
        Signal::Choice => ("lässt die Person wählen", "offre un choix à la personne"),
        Signal::Idle => ("wird beim Öffnen nicht geladen", "n’est pas chargé à l’ouverture"),
        Signal::LocalHost => ("kein Rechner des öffentlichen Netzes", "pas un hôte du réseau public"),
        Signal::Allowed => ("vom Betreiber erlaubt", "permis par l’exploitant"),
    };
    language.say(&Text(fact.text(), de, fr))
}
