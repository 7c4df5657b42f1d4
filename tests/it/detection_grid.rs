//! Places made by a generator: what nobody sees and what has a key for one reader goes, whatever its file is
//! called; what is there to be seen stays.

use pixelward::tracker::{Detector, Inquiry, Signal, Verdict};

/// The verdicts on what stands on the hosts of the generator, in a mail with a logo and some text.
fn verdicts(detector: &Detector, style: &str, body: &str) -> Vec<(String, Verdict)> {
    let raw = format!(
        "From: Club <news@club.example>\r\nTo: eve@home.example\r\nSubject: News\r\nContent-Type: text/html; \
         charset=utf-8\r\n\r\n\
         <html><head><style>{style}</style></head><body><img \
         src=\"https://www.club.example/pictures/brand.png\" width=\"160\" \
         height=\"40\" alt=\"Club\"><p>What is new this week.</p>\r\n{body}\r\n<p>See you \
         soon.</p></body></html>\r\n"
    );
    let analysis = detector.analyse(raw.as_bytes(), &Inquiry::to(&["eve@home.example"]));
    analysis.sightings.iter().map(|sighting| (sighting.url.clone(), sighting.verdict)).collect()
}

/// Ways to draw a picture so that nobody sees it. `SRC` is its address.
const UNSEEN: [(&str, &str); 18] = [
    ("", "<img src=\"SRC\" width=\"1\" height=\"1\" alt=\"\">"),
    ("", "<img src=\"SRC\" width=1 height=1 border=0 alt=\"Club\">"),
    ("", "<img src=\"SRC\" style=\"width:1px;height:1px\">"),
    ("", "<img src=\"SRC\" width=\"0\" height=\"0\">"),
    ("", "<img src=\"SRC\" width=\"3\" height=\"1\">"),
    ("", "<img src=\"SRC\" width=\"3\" height=\"3\">"),
    ("", "<img src=\"SRC\" style=\"display:none\">"),
    ("", "<img src=\"SRC\" width=\"120\" height=\"60\" style=\"display:none\">"),
    ("", "<img src=\"SRC\" style=\"visibility:hidden\">"),
    ("", "<img src=\"SRC\" width=\"80\" height=\"80\" style=\"position:absolute;clip:rect(0,0,0,0)\">"),
    ("", "<img src=\"SRC\" width=\"80\" height=\"80\" style=\"transform:scale(0)\">"),
    ("", "<img src=\"SRC\" style=\"max-height:0;max-width:0\">"),
    ("", "<img src=\"SRC\" style=\"width:calc(1px);height:calc(0px + 1px)\">"),
    (".dot{width:1px;height:1px}", "<img class=\"dot\" src=\"SRC\">"),
    ("#dot{display:none}", "<img id=\"dot\" src=\"SRC\">"),
    ("p, img.dot { width: 1px; height: 1px }", "<img class=\"a dot\" src=\"SRC\">"),
    ("@media screen{.dot{visibility:hidden}}", "<img class=\"dot\" src=\"SRC\">"),
    ("", "<picture><source srcset=\"SRC\"><img src=\"SRC\" width=\"1\" height=\"1\"></picture>"),
];

#[test]
fn whatever_its_file_is_called_nothing_unseen_stays_that_has_a_key() {
    const FOLDERS: [&str; 8] = [
        "https://t.club.example/seen/KEY/FILE",
        "https://mail.club.example/newsletter/impressions/KEY/FILE",
        "https://go.club.example/e/KEY/FILE",
        "https://club.example/hit/v2/KEY/FILE",
        "https://news.club.example/track/open/KEY/FILE",
        "https://cdn.club.example/assets/KEY/FILE",
        "https://m.club.example/o/KEY/FILE",
        "https://club.example/pictures/FILE?r=KEY",
    ];
    const KEYS: [&str; 7] = [
        "730164",
        "TjVhYjk3Qzg1",
        "c0ffee1d2b",
        "4be0643f-1d98-473b-97cd-ca98a65347dd",
        "9b74c9897bac770ffc029102a200c5de",
        "x7Kq2LmPw9",
        "AQICAHhwm0YaISJeRtJm5n1G6uqeekXu",
    ];
    const FILES: [&str; 9] = [
        "banner.png",
        "footer.gif",
        "clear.gif",
        "pixel.png",
        "divider.jpg",
        "1.gif",
        "shim.gif",
        "brand-logo.png",
        "spacer.gif",
    ];
    let detector = Detector::default();
    let (mut made, mut missed) = (0, Vec::new());
    for (folder, key, file) in FOLDERS.iter().flat_map(|folder| {
        KEYS.iter().flat_map(move |key| FILES.iter().map(move |file| (*folder, *key, *file)))
    }) {
        let url = folder.replace("KEY", key).replace("FILE", file);
        for (style, markup) in UNSEEN {
            made += 1;
            let found = verdicts(&detector, style, &markup.replace("SRC", &url));
            let places = markup.matches("SRC").count();
            let gone = found.iter().filter(|(_, verdict)| *verdict == Verdict::Tracker).count();
            if gone != places {
                missed.push(format!("{style} {}", markup.replace("SRC", &url)));
            }
        }
    }
    assert!(made >= 9_000, "{made}");
    assert!(missed.is_empty(), "{} of {made} stay:\n{}", missed.len(), missed.join("\n"));
}

#[test]
fn what_services_keep_to_be_seen_stays() {
    const PICTURES: [(&str, &str); 24] = [
        ("https://tickets.club.example/code/8c6976e5b5410415bde908bd4dee15df", "Admission code"),
        ("https://pay.club.example/v1/requests/pr_5f9a0c21b7e48d5a/qr", "Code to pay with"),
        ("https://post.club.example/label/0Zk3Qw9XvT2aB7LmN8pR/barcode", "Barcode for the parcel shop"),
        ("https://club.zendesk.com/attachments/token/Zk3Qw9XvT2aB7LmN8pRsYd4Hc/?name=photo.jpg", "photo.jpg"),
        ("https://club.freshdesk.com/inline/attachment?token=Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6bV1", "Screen"),
        (
            "https://club.file.force.com/servlet/rtaImage?eid=5003v00002xyzAB&feoid=Body&refid=0EM3v000004lmnO",
            "Plan",
        ),
        ("https://github.com/user-attachments/assets/4be0643f-1d98-473b-97cd-ca98a65347dd", "Diff"),
        (
            "https://uploads.linear.app/4be0643f-1d98-473b-97cd-ca98a65347dd/9c858901-8a57-4791-81fe-4c455b099bc9",
            "Bug",
        ),
        ("https://club.service-now.com/sys_attachment.do?sys_id=9b74c9897bac770ffc029102a200c5de", "Form"),
        (
            "https://imagedelivery.net/Zk3Qw9XvT2aB7LmN8pRsYd/4be0643f-1d98-473b-97cd-ca98a65347dd/public",
            "Hall",
        ),
        ("https://quickchart.io/chart/render/sf-4be0643f-1d98-473b-97cd-ca98a65347dd", "Members by year"),
        (
            "https://api.qrserver.com/v1/create-qr-code/?size=200x200&data=SEAT-41-8C6976E5B5410415",
            "Seat code",
        ),
        (
            "https://firebasestorage.googleapis.com/v0/b/club.appspot.com/o/team%2Fhall.png?alt=media&token=4be0643f-1d98-473b-97cd-ca98a65347dd",
            "Hall",
        ),
        ("https://i.vimeocdn.com/video/987654321-9b74c9897bac770ffc029102a200c5de-d_640", "Film"),
        ("https://shop.club.example/i/9b74c9897bac770ffc029102a200c5de", "Blue scarf"),
        ("https://img.club.example/p/4be0643f1d98473b97cdca98a65347dd", "Red mug"),
        ("https://docs.club.example/thumb/Zk3Qw9XvT2aB7LmN8pRsYd4H", "Minutes of the meeting"),
        (
            "https://maps.club.example/static?center=48.1,11.5&zoom=13&key=AIzaZk3Qw9XvT2aB7LmN8pRsYd4H",
            "How to find us",
        ),
        ("https://math.club.example/render.png?tex=%5Cfrac%7Ba%7D%7Bb%7D&s=9b74c9897bac770f", "a/b"),
        ("https://club.example/media/4be0643f-1d98-473b-97cd-ca98a65347dd/open-house.jpg", "Open house"),
        ("https://placeholder.club.example/600x200/222222/666666", "Coming soon"),
        ("https://avatars.club.example/u/730164?v=4&s=80", "Eve"),
        ("https://files.club.example/9b74c9897bac770ffc029102a200c5de/view/photo_o.png", "Photo"),
        ("https://cdn.club.example/4be0643f-1d98-473b-97cd-ca98a65347dd/log.png", "Tree trunk"),
    ];
    const SHOWN: [&str; 8] = [
        "<img src=\"SRC\" alt=\"ALT\">",
        "<p><img src=\"SRC\" alt=\"ALT\" style=\"border:0;display:block\"></p>",
        "<a href=\"https://club.example/more\"><img src=\"SRC\" alt=\"ALT\"></a>",
        "<img src=\"SRC\" alt=\"\" title=\"ALT\" style=\"max-width:100%\">",
        "<img src=\"SRC\" width=\"560\" height=\"200\">",
        "<img src=\"SRC\" style=\"max-width:100%\">",
        "<figure><img src=\"SRC\"><figcaption>ALT</figcaption></figure>",
        "<table><tr><td><img src=\"SRC\" alt=\"ALT\" width=\"auto\"></td></tr></table>",
    ];
    let detector = Detector::default();
    let (mut made, mut lost) = (0, Vec::new());
    for ((url, text), markup) in PICTURES.iter().flat_map(|one| SHOWN.iter().map(move |how| (*one, *how))) {
        made += 1;
        let markup = markup.replace("SRC", &url.replace('&', "&amp;")).replace("ALT", text);
        if verdicts(&detector, "", &markup).iter().any(|(_, verdict)| *verdict != Verdict::Picture) {
            lost.push(markup);
        }
    }
    assert!(made >= 190, "{made}");
    assert!(lost.len() * 50 <= made, "{} of {made} go:\n{}", lost.len(), lost.join("\n"));
}

#[test]
fn the_readers_address_never_stays_in_what_is_loaded() {
    // "eve@home.example": as it is, encoded once and twice, in base64 and in hexadecimal, and as MD5, SHA-1
    // and SHA-256.
    const TRACES: [&str; 8] = [
        "eve@home.example",
        "eve%40home.example",
        "eve%2540home.example",
        "ZXZlQGhvbWUuZXhhbXBsZQ",
        "65766540686f6d652e6578616d706c65",
        "MD5",
        "SHA1",
        "SHA256",
    ];
    const PLACES: [&str; 10] = [
        "<img src=\"SRC\" width=\"1\" height=\"1\">",
        "<img src=\"SRC\">",
        "<img src=\"SRC\" alt=\"\">",
        "<img src=\"SRC\"><img src=\"SRC\"><img src=\"SRC\">",
        "<img src=\"https://club.example/pictures/a.png\" srcset=\"SRC 1x, SRC 2x\">",
        "<picture><source srcset=\"SRC\"><img src=\"SRC\"></picture>",
        "<div style=\"background:url(SRC)\"></div>",
        "<a href=\"https://club.example/\"><img src=\"SRC\" alt=\"More\"></a>",
        "<img src=\"SRC\" width=\"600\" height=\"200\" alt=\"Hall\">",
        "<div style=\"display:none\"><img src=\"SRC\" width=\"300\" height=\"100\"></div>",
    ];
    let detector = Detector::default();
    let hash = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let address = b"eve@home.example";
    use aws_lc_rs::digest;
    use md5::Digest as _;
    for trace in TRACES {
        let trace = match trace {
            "MD5" => hash(&md5::Md5::digest(address)),
            "SHA1" => hash(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, address).as_ref()),
            "SHA256" => hash(digest::digest(&digest::SHA256, address).as_ref()),
            other => other.to_owned(),
        };
        for form in
            ["https://www.club.example/pictures/FILE?e=TRACE", "https://www.club.example/pictures/TRACE/FILE"]
        {
            for file in ["header.png", "open.gif", "show"] {
                let url = form.replace("TRACE", &trace).replace("FILE", file);
                for markup in PLACES {
                    let found = verdicts(&detector, "", &markup.replace("SRC", &url));
                    let gone = found.iter().filter(|(_, verdict)| *verdict != Verdict::Picture).count();
                    assert_eq!(
                        gone,
                        markup.matches("SRC").count(),
                        "{}: {found:?}",
                        markup.replace("SRC", &url)
                    );
                }
            }
        }
    }
}

#[test]
fn the_document_gives_the_weight_of_every_signal() {
    let document = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/detection.md");
    let text = std::fs::read_to_string(document).unwrap();
    for signal in Signal::ALL {
        let row = format!("| {} | {:+} |", signal.text(), signal.weight());
        assert!(text.contains(&row), "docs/detection.md lacks {row}");
    }
}
