//! What the reader's page says, against what the relay then does: for each kind of controller, mail is sent,
//! the page opened, a button pressed, and mail sent again. Every sentence of the page is in one of three lists
//! here: it claims nothing about the relay, another test holds it to what it says, or its claim is checked.

use std::collections::{BTreeMap, BTreeSet};

use pixelward::consent::Timestamp;
use pixelward::rewrite::reader_token::{self, Holder, Token};

use crate::http::Answer;
use crate::readers::Readers;
use crate::support::{Client, Folder, NextHop, configuration};

/// Texts that say nothing about what the relay does: names of months and buttons, headings, questions, and
/// what only the controller can answer for.
const CLAIMS_NOTHING: &[&str] = &[
    "months",
    "date",
    "first_day",
    "time",
    "title",
    "title_both",
    "title_links",
    "for_purposes",
    "who",
    "recipients",
    "retention",
    "rights",
    "contact",
    "privacy",
    "choice_heading",
    "one_by_one",
    "more_heading",
    "campaign_performance",
    "campaign_performance_text",
    "personalisation",
    "personalisation_text",
    "cross_channel_profile",
    "cross_channel_profile_text",
    "fraud_detection",
    "fraud_detection_text",
    "link_tracking",
    "link_tracking_text",
    "yes",
    "no",
    "save",
    "accept_all",
    "refuse_all",
    "object",
    "stop_heading",
    "stop",
    "back",
    "pixel",
    "new_link",
    "new_link_address",
    "new_link_send",
    "mail_subject",
    "language",
];

/// Sentences that another test holds to what they say, with its file and its name.
const HELD_ELSEWHERE: &[(&str, &str, &str)] = &[
    ("nothing_chosen", "public.rs", "a_choice_is_shown_made_and_taken_back_by_one_press"),
    ("form_used", "public.rs", "a_choice_is_shown_made_and_taken_back_by_one_press"),
    ("old_link", "public.rs", "an_old_link_withdraws_and_grants_nothing"),
    ("trouble", "sentences.rs", "a_link_that_is_none_and_a_form_that_cannot_be_read_change_nothing"),
    ("unusable", "sentences.rs", "a_link_that_is_none_and_a_form_that_cannot_be_read_change_nothing"),
    ("unusable_text", "sentences.rs", "a_link_that_is_none_and_a_form_that_cannot_be_read_change_nothing"),
    ("no_page", "sentences.rs", "a_link_that_is_none_and_a_form_that_cannot_be_read_change_nothing"),
    ("no_page_text", "sentences.rs", "a_link_that_is_none_and_a_form_that_cannot_be_read_change_nothing"),
    ("pixel_text", "public.rs", "a_pixel_that_is_opened_as_a_page_leads_nowhere_and_records_nothing"),
    ("pixel_choice", "public.rs", "a_pixel_that_is_opened_as_a_page_leads_nowhere_and_records_nothing"),
    ("new_link_text", "public.rs", "a_new_link_is_mailed_to_those_who_are_known_and_to_nobody_else"),
    ("new_link_sent", "public.rs", "a_new_link_is_mailed_to_those_who_are_known_and_to_nobody_else"),
    ("new_link_none", "public.rs", "a_new_link_is_mailed_to_those_who_are_known_and_to_nobody_else"),
    ("mail_text", "public.rs", "a_new_link_is_mailed_to_those_who_are_known_and_to_nobody_else"),
];

/// A moment of a reader's story, each with a page and with mail that is sent after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// Ann opens the page, and has said nothing.
    Asked,
    /// She accepts all.
    Accepted,
    /// She opens the page again.
    Granted,
    /// She takes it back, or objects where nothing is asked.
    Withdrawn,
    /// She opens the page again.
    Again,
    /// She accepts all, again.
    AcceptedAgain,
    /// Bob, who has said nothing, refuses all.
    Refused,
    /// Eve agreed once, and that has expired.
    Expired,
    /// Joe says yes to the first purpose, no to the second and nothing to the others.
    Chosen,
}

/// What becomes of the tracker in a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pixel {
    Gone,
    Kept,
    Gate,
    Day,
    Shared,
}

/// What left of one mail.
#[derive(Clone, Debug)]
struct Mail {
    pixel: Pixel,
    /// The path of the gate.
    gate: Option<String>,
    /// Whether the link that contains the address of its page still reports.
    link_reports: bool,
    /// The path of the gate that took its place.
    link_gate: Option<String>,
    /// Whether the one that does not still does.
    other_link_reports: bool,
}

/// A kind of mail.
struct Mailstream {
    /// The local part of its sender.
    name: &'static str,
    lines: &'static str,
    /// Whether it serves a purpose that needs consent.
    asks: bool,
    /// The exemption that it has.
    exemption: &'static str,
}

struct Case {
    controller: &'static str,
    page: &'static str,
    mailstreams: &'static [Mailstream],
    /// Whether its people were informed in time.
    is_informed: bool,
}

const NEWS: Mailstream = Mailstream {
    name: "news",
    lines: "purposes = [\"campaign_performance\", \"personalisation\", \"fraud_detection\"]\n\
            links = \"unwrap\"",
    asks: true,
    exemption: "",
};
const DAY: Mailstream = Mailstream {
    name: "orders",
    lines: "purposes = [\"deliverability\"]\nexemption = \"deliverability\"\n\
            requested = \"requested\"\nlinks = \"unwrap\"",
    asks: false,
    exemption: "deliverability",
};
const LEGAL: Mailstream = Mailstream {
    name: "terms",
    lines: "purposes = [\"legal_notice\"]\nexemption = \"legal_notice\"\njurisdiction = \"it\"",
    asks: false,
    exemption: "legal_notice",
};
const SHARED: Mailstream = Mailstream {
    name: "letter",
    lines: "purposes = [\"aggregate_statistics\"]\n\
            exemption = \"aggregate_statistics\"\njurisdiction = \"it\"",
    asks: false,
    exemption: "aggregate_statistics",
};

/// Every kind of controller: what is asked or not, which exemption has an effect, what a yes leads to.
const CASES: &[Case] = &[
    Case {
        controller: "",
        page: "privacy_url = \"https://shop.example/p\"",
        mailstreams: &[NEWS],
        is_informed: false,
    },
    Case {
        controller: "on_grant = \"keep\"",
        page: "",
        mailstreams: &[Mailstream { lines: "purposes = [\"campaign_performance\"]", ..NEWS }],
        is_informed: false,
    },
    // A yes would lead to nothing.
    Case {
        controller: "on_grant = \"strip\"",
        page: "",
        mailstreams: &[Mailstream {
            lines: "purposes = [\"campaign_performance\"]\nlinks = \"unwrap\"",
            asks: false,
            ..NEWS
        }],
        is_informed: false,
    },
    Case { controller: "", page: "", mailstreams: &[DAY], is_informed: false },
    // Nobody asked for this mail, so the exemption has no effect.
    Case {
        controller: "",
        page: "",
        mailstreams: &[Mailstream {
            lines: "purposes = [\"deliverability\"]\nexemption = \"deliverability\"",
            ..DAY
        }],
        is_informed: false,
    },
    Case { controller: "", page: "", mailstreams: &[SHARED], is_informed: false },
    Case { controller: "", page: "", mailstreams: &[LEGAL], is_informed: false },
    // The rules of France do not know this exemption.
    Case {
        controller: "",
        page: "",
        mailstreams: &[Mailstream {
            lines: "purposes = [\"legal_notice\"]\nexemption = \"legal_notice\"",
            ..LEGAL
        }],
        is_informed: false,
    },
    Case {
        controller: "",
        page: "",
        mailstreams: &[Mailstream {
            name: "login",
            lines: "purposes = [\"auth_security\"]\nexemption = \"auth_security\"",
            asks: false,
            exemption: "auth_security",
        }],
        is_informed: false,
    },
    Case {
        controller: "",
        page: "",
        mailstreams: &[Mailstream {
            lines: "purposes = [\"campaign_performance\"]\n\
            exemption = \"legacy_informed\"\nlinks = \"unwrap\"",
            ..NEWS
        }],
        is_informed: true,
    },
    Case {
        controller: "",
        page: "",
        mailstreams: &[Mailstream {
            lines: "purposes = [\"campaign_performance\"]\nmode = \"observe\"\nlinks = \"unwrap\"",
            ..NEWS
        }],
        is_informed: false,
    },
    Case {
        controller: "",
        page: "",
        mailstreams: &[Mailstream {
            lines: "purposes = [\"campaign_performance\"]\njurisdiction = \"none\"\nlinks = \"unwrap\"",
            ..NEWS
        }],
        is_informed: false,
    },
    Case { controller: "", page: "", mailstreams: &[NEWS, DAY, LEGAL, SHARED], is_informed: false },
    // About links, too: some of them unwrapped, gates, gates alone, and where nobody heeds the answer.
    Case {
        controller: "",
        page: "",
        mailstreams: &[Mailstream {
            lines: "purposes = [\"campaign_performance\", \"link_tracking\"]\nlinks = \"unwrap\"",
            ..NEWS
        }],
        is_informed: false,
    },
    Case {
        controller: "",
        page: "",
        mailstreams: &[
            Mailstream {
                lines: "purposes = [\"campaign_performance\", \"link_tracking\"]\nlinks = \"gate\"",
                ..NEWS
            },
            LEGAL,
        ],
        is_informed: false,
    },
    Case {
        controller: "on_grant = \"keep\"",
        page: "",
        mailstreams: &[Mailstream { lines: "purposes = [\"link_tracking\"]\nlinks = \"gate\"", ..NEWS }],
        is_informed: false,
    },
    Case {
        controller: "on_grant = \"keep\"",
        page: "",
        mailstreams: &[Mailstream {
            lines: "purposes = [\"campaign_performance\", \"link_tracking\"]\nlinks = \"count\"",
            ..NEWS
        }],
        is_informed: false,
    },
    Case {
        controller: "on_grant = \"keep\"",
        page: "",
        mailstreams: &[
            NEWS,
            Mailstream {
                lines: "purposes = [\"legal_notice\"]\nexemption = \"legal_notice\"\njurisdiction = \"it\"\n\
                        links = \"count\"",
                ..LEGAL
            },
        ],
        is_informed: false,
    },
];

/// What was seen of one controller.
struct Story<'a> {
    case: &'a Case,
    /// The names of the texts that stood on the page.
    pages: BTreeMap<Moment, BTreeSet<String>>,
    /// What left of the mail of each mailstream.
    mail: BTreeMap<Moment, Vec<Mail>>,
    /// What was on record.
    states: BTreeMap<Moment, String>,
    /// Whether the gates of what she had got were blank after she withdrew.
    gates_are_blank: bool,
    /// Whether the links of what she had got then led straight to their page.
    links_lead_on: bool,
    /// Whether Bob may be asked again at once, and after six months.
    asks_again: (bool, bool),
}

impl Story<'_> {
    fn mail(&self, moment: Moment) -> impl Iterator<Item = (&Mailstream, &Mail)> {
        self.case.mailstreams.iter().zip(self.mail.get(&moment).into_iter().flatten())
    }

    /// Whether the mail of a mailstream that asks, or of one with this exemption, left so.
    fn any(&self, moment: Moment, exemption: &str, pixel: Pixel) -> bool {
        self.mail(moment).any(|(mailstream, mail)| mailstream.exemption == exemption && mail.pixel == pixel)
    }

    /// Whether she is asked about links.
    fn asks_about_links(&self) -> bool {
        self.states(Accepted).contains("link_tracking=granted")
    }

    fn asks_about_opens(&self) -> bool {
        self.states(Accepted).contains("campaign_performance=granted")
    }

    fn states(&self, moment: Moment) -> &str {
        self.states.get(&moment).map_or("", String::as_str)
    }

    fn is_asked_for(&self) -> bool {
        self.case.mailstreams.iter().any(|mailstream| mailstream.asks)
    }

    /// Whether nothing is reported any more but what is without a yes.
    fn is_withdrawn(&self, moment: Moment) -> bool {
        let mut both = self.mail(moment).zip(self.mail(Moment::Asked));
        !self.states(moment).contains("=granted")
            && both.all(|((_, after), (_, before))| {
                let links_report = after.link_gate.is_some() || after.link_reports && !before.link_reports;
                !links_report && (after.pixel == Pixel::Gone || after.pixel == before.pixel)
            })
    }
}

/// The mail of who has not said yes: what was sent at this moment, or to who had said nothing.
fn unanswered(moment: Moment) -> Moment {
    if matches!(moment, Again | Expired) { moment } else { Asked }
}

type Holds = fn(&Story<'_>, Moment) -> bool;

use Moment::{Accepted, AcceptedAgain, Again, Asked, Chosen, Expired, Granted, Refused, Withdrawn};

/// The claims: wherever a sentence stands, it holds; and at these moments it stands wherever it holds.
const CLAIMS: &[(&str, &[Moment], Holds)] = &[
    ("lead", &[Asked, Again], |story, _| {
        let delivered = story.mail(Refused).count() == story.case.mailstreams.len();
        delivered && (!story.is_asked_for() || story.states(AcceptedAgain).contains("=granted"))
    }),
    // Some links report whatever is said, so where links are asked about, it cannot be said.
    ("lead_only", &[Asked, Again], |story, moment| {
        !story.asks_about_links()
            && story
                .mail(unanswered(moment))
                .all(|(_, mail)| matches!(mail.pixel, Pixel::Gone | Pixel::Shared))
    }),
    ("whose", &[], |_, _| true),
    ("what", &[], |story, _| {
        story.mail(Accepted).any(|(_, mail)| matches!(mail.pixel, Pixel::Kept | Pixel::Gate))
    }),
    ("what_links", &[Asked], |story, _| {
        let reports = |mail: &Mail| mail.link_reports || mail.link_gate.is_some();
        story.asks_about_links()
            && !story.asks_about_opens()
            && story.mail(Accepted).any(|(_, mail)| reports(mail))
    }),
    ("what_links_too", &[Asked], |story, _| {
        let reports = |mail: &Mail| mail.link_reports || mail.link_gate.is_some();
        story.asks_about_links()
            && story.asks_about_opens()
            && story.mail(Accepted).any(|(_, mail)| reports(mail))
    }),
    ("only_yes", &[Asked, Again], |story, moment| {
        !story.asks_about_links()
            && story
                .mail(unanswered(moment))
                .all(|(mailstream, mail)| !mailstream.asks || mail.pixel == Pixel::Gone)
    }),
    ("only_yes_opens", &[Asked, Again], |story, moment| {
        story.asks_about_links()
            && story.asks_about_opens()
            && story
                .mail(unanswered(moment))
                .all(|(mailstream, mail)| !mailstream.asks || mail.pixel == Pixel::Gone)
    }),
    ("long", &[Asked], |story, _| story.asks_again == (false, true) && story.is_withdrawn(Withdrawn)),
    ("priority", &[Asked], |story, _| {
        story.is_asked_for() && story.is_withdrawn(Again) && story.states(AcceptedAgain).contains("=granted")
    }),
    ("see_notice", &[Asked], |story, _| story.case.page.contains("privacy_url")),
    ("mail_stays", &[Asked], |story, _| story.mail(Refused).count() == story.case.mailstreams.len()),
    ("links_all", &[Asked], |story, _| story.mail(Asked).all(|(_, mail)| !mail.link_reports)),
    ("links_some", &[Asked], |story, _| {
        let reporting = story.mail(Asked).filter(|(_, mail)| mail.link_reports).count();
        reporting > 0 && reporting < story.case.mailstreams.len()
    }),
    ("links_none", &[Asked], |story, _| story.mail(Asked).all(|(_, mail)| mail.link_reports)),
    ("last_day", &[Asked, Withdrawn, Again, Refused], |story, moment| {
        let ends = [Withdrawn, Refused].into_iter().all(|end| !story.any(end, "deliverability", Pixel::Day));
        story.any(moment, "deliverability", Pixel::Day) && ends
    }),
    ("exempt_legal", &[Asked, Withdrawn, Again, Refused], |story, moment| {
        story.any(moment, "legal_notice", Pixel::Kept)
    }),
    ("exempt_security", &[Asked, Withdrawn, Again, Refused], |story, moment| {
        story.any(moment, "auth_security", Pixel::Kept)
    }),
    ("exempt_shared", &[Asked, Withdrawn, Again, Refused], |story, moment| {
        story.any(moment, "aggregate_statistics", Pixel::Shared)
    }),
    ("exempt_informed", &[Asked, Withdrawn, Again, Refused], |story, moment| {
        story.any(moment, "", Pixel::Gate) && !story.any(Refused, "", Pixel::Gate)
    }),
    ("unasked", &[Asked, Withdrawn, Again, Refused], |story, moment| story.any(moment, "", Pixel::Kept)),
    ("objected_day", &[Again, AcceptedAgain], |story, moment| {
        story.any(Asked, "deliverability", Pixel::Day) && story.any(moment, "deliverability", Pixel::Gone)
    }),
    ("objected_shared", &[Again, AcceptedAgain], |story, moment| {
        story.any(Asked, "aggregate_statistics", Pixel::Shared)
            && story.any(moment, "aggregate_statistics", Pixel::Gone)
    }),
    ("state_yes", &[Granted], |story, moment| story.states(moment).contains("=granted")),
    ("state_no", &[Again], |story, moment| {
        story.is_asked_for()
            && ["=refused", "=withdrawn"].iter().any(|state| story.states(moment).contains(state))
    }),
    ("state_over", &[Expired], |story, _| {
        let pixels = |moment| story.mail(moment).map(|(_, mail)| mail.pixel).collect::<Vec<_>>();
        story.asks_about_opens() && pixels(Expired) == pixels(Asked)
    }),
    ("state_none", &[Asked], |story, moment| {
        let says_nothing_of_links =
            story.asks_about_links() && !story.states(moment).contains("link_tracking=");
        story.is_asked_for() && (says_nothing_of_links || !story.states(moment).contains('='))
    }),
    ("stop_text", &[Granted], |story, _| story.is_asked_for() && story.is_withdrawn(Withdrawn)),
    ("delivered_gate", &[Granted], |story, _| {
        story.gates_are_blank && story.any(Accepted, "", Pixel::Gate) && !story.any(Accepted, "", Pixel::Kept)
    }),
    ("delivered_keep", &[Granted], |story, _| story.any(Accepted, "", Pixel::Kept)),
    ("delivered_links_gate", &[Granted], |story, _| {
        story.links_lead_on && story.mail(Accepted).any(|(_, mail)| mail.link_gate.is_some())
    }),
    ("delivered_links_keep", &[Granted], |story, _| {
        story.asks_about_links() && story.mail(Accepted).any(|(_, mail)| mail.link_reports)
    }),
    ("recorded", &[Accepted, AcceptedAgain, Chosen], |story, moment| {
        story.states(moment).contains("=granted")
    }),
    ("recorded_at", &[Accepted, Withdrawn, AcceptedAgain, Refused, Chosen], |story, moment| {
        story.states(moment).contains('=')
    }),
    ("recorded_yes", &[Accepted, AcceptedAgain, Chosen], |story, moment| {
        let states = story.states(moment);
        states.contains("campaign_performance=granted") || states.contains("link_tracking=granted")
    }),
    ("recorded_no", &[Chosen], |story, moment| story.states(moment).contains("personalisation=refused")),
    ("recorded_open", &[Chosen], |story, moment| {
        story.mail(Asked).any(|(mailstream, _)| mailstream.lines.contains("fraud_detection"))
            && !story.states(moment).contains("fraud_detection=")
    }),
    ("recorded_change", &[], |story, _| {
        !story.states(Withdrawn).contains("=granted")
            && (!story.is_asked_for() || story.states(AcceptedAgain).contains("=granted"))
    }),
    ("stopped", &[Withdrawn, Refused], |story, moment| story.is_withdrawn(moment)),
    ("stopped_text", &[Withdrawn, Refused], |story, moment| story.is_withdrawn(moment)),
    ("still", &[Withdrawn, Refused], |story, moment| {
        story.mail(moment).any(|(_, mail)| mail.pixel != Pixel::Gone)
    }),
];

/// The texts of a language by their names.
fn texts(code: &str) -> BTreeMap<String, String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/crates/web/src/public/texts");
    toml::from_str(&std::fs::read_to_string(format!("{folder}/{code}.toml")).unwrap()).unwrap()
}

#[test]
fn every_sentence_claims_nothing_or_is_held_to_what_it_says() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it");
    for (name, file, test) in HELD_ELSEWHERE {
        let source = std::fs::read_to_string(format!("{folder}/{file}")).unwrap();
        assert!(source.contains(&format!("#[test]\nfn {test}()")), "{name}: {file} has no test {test}");
    }
    let mut listed: Vec<&str> = CLAIMS_NOTHING.to_vec();
    listed.extend(HELD_ELSEWHERE.iter().map(|held| held.0));
    listed.extend(CLAIMS.iter().map(|claim| claim.0));
    listed.sort_unstable();
    for code in ["de", "en", "es", "fr", "it", "nl"] {
        assert_eq!(listed, texts(code).keys().map(String::as_str).collect::<Vec<_>>(), "{code}");
    }
}

/// The sentences on a page, by the names of those that claim something.
fn sentences(page: &str, code: &str, title: &str) -> BTreeSet<String> {
    let body = page.split("<body>").nth(1).unwrap();
    let mut words = String::new();
    for piece in body.split('<') {
        let text = piece.split_once('>').map_or(piece, |(_, text)| text);
        words.push_str(text);
    }
    let words = words.replace("&amp;", "&").replace("&lt;", "<").replace("&quot;", "\"");
    let stands = |text: &str| {
        let text = text.replace("{controller}", title);
        let mut rest = words.as_str();
        text.split('{').enumerate().all(|(number, piece)| {
            let piece = if number == 0 { piece } else { piece.split_once('}').unwrap().1 };
            let found = rest.find(piece);
            rest = found.map_or(rest, |at| &rest[at + piece.len()..]);
            found.is_some()
        })
    };
    let claims = CLAIMS.iter().map(|claim| claim.0);
    let texts = texts(code);
    claims.filter(|name| stands(&texts[*name])).map(str::to_owned).collect()
}

struct Stage {
    hop: NextHop,
    readers: Readers,
}

impl Stage {
    fn start() -> Stage {
        let hop = NextHop::start();
        let mut rest = String::from(
            "[policy]\non_grant = \"gate\"\n[public]\naddress = \"127.0.0.1:0\"\n\
            [api]\naddress = \"127.0.0.1:0\"\n\
             burst = 100000\nrequests_per_minute = 1000000\n",
        );
        for (number, case) in CASES.iter().enumerate() {
            rest.push_str(&format!(
                "[[controller]]\nname = \"c{number}\"\nsender_domain = \"c{number}.example\"\npublic_url = \
                 \"http://127.0.0.1:1/c{number}\"\njurisdiction = \"fr\"\n{}\n[controller.page]\n\
                 title = \"Shop {number}\"\n{}\n",
                case.controller, case.page
            ));
        }
        for (number, case) in CASES.iter().enumerate() {
            for mailstream in case.mailstreams {
                let name = mailstream.name;
                rest.push_str(&format!(
                    "[[mailstream]]\nname = \"{name}{number}\"\ncontroller = \"c{number}\"\nsender = \
                     \"{name}@c{number}.example\"\n{}\n",
                    mailstream.lines
                ));
            }
        }
        let folder = Folder::new();
        configuration(&folder, hop.port, "", "", &rest);
        Stage { readers: Readers::in_folder(folder), hop }
    }

    fn command(&self, arguments: &[&str]) -> std::process::Output {
        self.readers.served.relay.command(arguments)
    }

    /// Records what is known of somebody beside a choice, or a choice that has expired.
    fn import(&self, row: &str) {
        let columns = "address,state,event_time,controller,evidence,collected_at,notice_sent_at,expires";
        let file = self.readers.served.relay.folder.file("people.csv", &format!("{columns}\n{row}\n"));
        let output = self.command(&["consent", "import", file.to_str().unwrap()]);
        assert!(output.status.success(), "{row}: {}", String::from_utf8_lossy(&output.stdout));
    }

    fn states(&self, number: usize, address: &str) -> String {
        let controller = format!("c{number}");
        let token = self.readers.served.token("consent:read", &controller);
        let body = serde_json::json!({ "address": address }).to_string();
        let path = format!("/v1/controllers/{controller}/consent/lookup");
        let found = self.readers.served.ask(&token, "POST", &path, &body).json();
        let purposes = found["purposes"].as_array().cloned().unwrap_or_default();
        let state = |entry: &serde_json::Value| {
            format!("{}={} ", entry["purpose"].as_str().unwrap(), entry["state"].as_str().unwrap())
        };
        purposes.iter().filter(|entry| entry["state"] != "never_asked").map(state).collect()
    }

    fn link(&self, number: usize, address: &str) -> String {
        let readers = &self.readers;
        let holder = Holder {
            controller: format!("c{number}").parse().unwrap(),
            person: readers.key.person(address),
            issued: Timestamp::now(),
        };
        let token = Token::Preference { holder, hint: reader_token::hint(address) };
        format!("/c{number}/c/{}", readers.mint.seal(&token, 1))
    }

    /// Sends mail of each mailstream; what left of it.
    fn mail(&self, number: usize, address: &str) -> Vec<Mail> {
        let mut client = Client::greeted(self.readers.served.relay.port);
        let send = |mailstream: &Mailstream| {
            let before = self.hop.count();
            let message = format!(
                "From: <{0}@c{number}.example>\nTo: <{address}>\nSubject: News\nMIME-Version: 1.0\n\
                 Content-Type: text/html; charset=utf-8\n\n<html><body><p>News</p>\n\
                 <p><a href=\"https://click.shop.example/r?u=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6\
                 &to=https%3A%2F%2Fshop.example%2Fsale\">\
                 Sale</a></p>\n<p>\
                 <a href=\"https://click.shop.example/ls/click?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6\">\
                 More</a></p>\n\
                 <img src=\"https://click.shop.example/wf/open?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6\" \
                 width=\"1\" height=\"1\" alt=\"\">\n</body></html>\n",
                mailstream.name
            );
            let sender = format!("{}@c{number}.example", mailstream.name);
            let reply = client.message(&sender, &[address], &message);
            assert!(reply.starts_with("250"), "{reply}");
            let data = String::from_utf8(self.hop.wait(before + 1)[before].data.clone()).unwrap();
            let start = format!("http://127.0.0.1:1/c{number}/");
            let gate = data.split(&start).find(|piece| piece.starts_with("p/"));
            let ours = |kind: &str| data.contains(&format!("{start}{kind}/"));
            let pixel = match (data.contains("/wf/open?"), ours("p"), ours("d"), ours("s")) {
                (true, ..) => Pixel::Kept,
                (_, true, ..) => Pixel::Gate,
                (_, _, true, _) => Pixel::Day,
                (.., true) => Pixel::Shared,
                _ => Pixel::Gone,
            };
            Mail {
                pixel,
                gate: gate.map(|path| format!("/c{number}/{}", path.split('"').next().unwrap())),
                link_reports: data.contains("click.shop.example/r?"),
                link_gate: data
                    .split(&start)
                    .find(|piece| piece.starts_with("l/"))
                    .map(|path| format!("/c{number}/{}", path.split('"').next().unwrap())),
                other_link_reports: data.contains("click.shop.example/ls/click?"),
            }
        };
        CASES[number].mailstreams.iter().map(send).collect()
    }

    /// The story of a controller's readers.
    fn story<'a>(&self, number: usize, case: &'a Case) -> Story<'a> {
        let title = format!("Shop {number}");
        let mut story = Story {
            case,
            pages: BTreeMap::new(),
            mail: BTreeMap::new(),
            states: BTreeMap::new(),
            gates_are_blank: true,
            links_lead_on: true,
            asks_again: (false, true),
        };
        let people = ["ann", "bob", "eve", "joe"].map(|name| format!("{name}@c{number}.home.example"));
        let [ann, bob, eve, joe] = &people;
        let controller = format!("c{number}");
        if case.is_informed {
            for address in [ann, bob, eve, joe] {
                self.import(&format!(
                    "{address},never_asked,2026-05-01T00:00:00Z,{controller},form/1,\
            2026-01-05T00:00:00Z,2026-05-01T00:00:00Z,"
                ));
            }
        }
        let links = people.each_ref().map(|address| self.link(number, address));
        let note = |story: &mut Story<'_>, moment: Moment, address: &str, page: &Answer| {
            assert_eq!(page.status, 200, "{number} {moment:?}");
            story.pages.insert(moment, sentences(&page.text(), "en", &title));
            story.mail.insert(moment, self.mail(number, address));
            story.states.insert(moment, self.states(number, address));
        };
        let form = |link: &str| {
            let page = self.readers.get(link).text();
            page.split("name=\"form\" value=\"")
                .nth(1)
                .and_then(|rest| rest.split('"').next())
                .unwrap()
                .to_owned()
        };
        let press = |link: &str, fields: &[(&str, &str)]| {
            let form = form(link);
            self.readers.post(link, &[&[("form", form.as_str())], fields].concat())
        };
        let [anns, bobs, eves, joes] = &links;
        let first = self.readers.get(anns);
        assert!(first.text().contains(&reader_token::hint(ann)), "{}", first.text());
        note(&mut story, Asked, ann, &first);
        // The same sentences in every language.
        for code in ["de", "es", "fr", "it", "nl"] {
            let page = self.readers.get(&format!("{anns}?lang={code}")).text();
            assert_eq!(sentences(&page, code, &title), story.pages[&Asked], "{number} {code}");
        }
        let asks = first.text().contains("value=\"accept\"");
        assert_eq!(asks, story.is_asked_for(), "{number}");
        if asks {
            note(&mut story, Accepted, ann, &press(anns, &[("action", "accept")]));
            let delivered: Vec<String> =
                story.mail(Accepted).filter_map(|(_, mail)| mail.gate.clone()).collect();
            assert!(delivered.iter().all(|gate| self.readers.get(gate).status == 302), "{number}");
            let gated_links: Vec<String> =
                story.mail(Accepted).filter_map(|(_, mail)| mail.link_gate.clone()).collect();
            let reports = |gate: &String| {
                let led = self.readers.get(gate);
                led.header("location").is_some_and(|address| address.contains("click.shop.example"))
            };
            assert!(gated_links.iter().all(reports), "{number}");
            note(&mut story, Granted, ann, &self.readers.get(anns));
            note(&mut story, Withdrawn, ann, &self.readers.post(anns, &[("action", "withdraw")]));
            story.gates_are_blank = delivered.iter().all(|gate| self.readers.get(gate).status == 200);
            story.links_lead_on = gated_links
                .iter()
                .all(|gate| self.readers.get(gate).header("location") == Some("https://shop.example/sale"));
            note(&mut story, Again, ann, &self.readers.get(anns));
            note(&mut story, AcceptedAgain, ann, &press(anns, &[("action", "accept")]));
            self.import(&format!(
                "{eve},granted,2026-05-15T00:00:00Z,{controller},form/2,,,2026-06-01T00:00:00Z"
            ));
            note(&mut story, Expired, eve, &self.readers.get(eves));
            if case.mailstreams.iter().any(|mailstream| mailstream.lines.contains("personalisation")) {
                let answers =
                    [("action", "choose"), ("campaign_performance", "yes"), ("personalisation", "no")];
                note(&mut story, Chosen, joe, &press(joes, &answers));
            }
        } else {
            note(&mut story, Withdrawn, ann, &press(anns, &[("action", "withdraw")]));
            note(&mut story, Again, ann, &self.readers.get(anns));
        }
        note(&mut story, Refused, bob, &press(bobs, &[("action", "refuse")]));
        let may_ask = self.command(&["consent", "may-ask", bob, "--controller", &controller]);
        let said = String::from_utf8_lossy(&may_ask.stdout).into_owned();
        let until = said.split("until ").nth(1).map(|end| end.trim_end().trim_end_matches('.'));
        let until = until.and_then(|end| Timestamp::parse(end).ok()).unwrap_or_else(|| panic!("{said}"));
        let months = Timestamp::now().plus_days(180)..Timestamp::now().plus_days(186);
        story.asks_again = (may_ask.status.success(), months.contains(&until));
        story
    }
}

#[test]
fn the_page_says_what_the_relay_does() {
    let stage = Stage::start();
    let mut shown = BTreeSet::new();
    let mut wrong = Vec::new();
    for (number, case) in CASES.iter().enumerate() {
        let story = stage.story(number, case);
        for (moment, page) in &story.pages {
            for (name, exactly, holds) in CLAIMS {
                let (stands, holds) = (page.contains(*name), holds(&story, *moment));
                if stands {
                    shown.insert(*name);
                }
                if stands && !holds {
                    wrong.push(format!("case {number}, {moment:?}: {name} is said and does not hold"));
                }
                if !stands && holds && exactly.contains(moment) {
                    wrong.push(format!("case {number}, {moment:?}: {name} holds and is not said"));
                }
            }
        }
        // Whatever becomes of the one kind of link, the other reports, as the page says.
        for (_, mail) in story.mail.values().flat_map(|all| case.mailstreams.iter().zip(all)) {
            assert!(mail.other_link_reports, "case {number}");
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let never: Vec<&str> = CLAIMS.iter().map(|claim| claim.0).filter(|name| !shown.contains(name)).collect();
    assert!(never.is_empty(), "never shown: {never:?}");
}

#[test]
fn a_link_that_is_none_and_a_form_that_cannot_be_read_change_nothing() {
    let stage = Stage::start();
    let head = stage.readers.served.relay.folder.0.join("head");
    let before = std::fs::read(&head).ok();
    let has = |answer: &Answer, names: &[&str]| {
        let texts = texts("en");
        assert!(names.iter().all(|name| answer.text().contains(&texts[*name])), "{}", answer.text());
    };
    for address in ["/c0/c/none", "/c0/c/AAAA"] {
        has(&stage.readers.get(address), &["unusable", "unusable_text"]);
        has(&stage.readers.post(address, &[("action", "accept")]), &["unusable", "unusable_text"]);
    }
    has(&stage.readers.get("/c0/elsewhere"), &["no_page", "no_page_text"]);
    let link = stage.link(0, "ann@home.example");
    let unreadable = stage.readers.ask("POST", &link, &[("Content-Type", "text/plain")], "action=accept");
    assert_ne!(unreadable.status, 200);
    has(&unreadable, &["trouble"]);
    assert_eq!(std::fs::read(&head).ok(), before);
}
