//! TLS of next hops: whatever is wrong with a certificate, a chain or a handshake, the mail waits with its
//! sender, the log says what is wrong and what to do, and not a word of the mail is said. Right ones beside
//! them take their mail.
//!
//! What rustls does with what could be seen either way: the leaf twice, certificates in the wrong order and
//! ones that have nothing to do with it are taken, since a path is looked for among them; keyUsage is not
//! looked at (as browsers do), extendedKeyUsage is. Revocation is not looked at.

use crate::support::Client;
use crate::tls_hop::{Case, Files, Made, Server};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    KeyUsagePurpose, NameConstraints, SanType,
};

const HOST: &[&str] = &["localhost"];
const UNTRUSTED: &[&str] = &["no trusted authority", "ca_file"];
const NAME: &[&str] = &["its certificate is for", "set host"];
const WEAK: &[&str] = &["no longer secure", "it needs a new one"];
const CHAIN: &[&str] = &["used in a way that it does not permit", "chain"];
const NO_TLS: &[&str] = &["something that is not TLS", "tls = \"required\""];

/// Sends through each next hop, and looks at the answer, the log, and what the next hop heard.
fn check(cases: &[Case]) {
    let mut server = Server::start(cases);
    let relay = server.relay(cases);
    let clients: Vec<_> = (0..cases.len())
        .map(|index| {
            let port = relay.port;
            std::thread::spawn(move || {
                let mut client = Client::greeted(port);
                let reply = client.ask(&format!("MAIL FROM:<{}>", Case::sender(index)));
                if !reply.starts_with('2') {
                    return reply;
                }
                assert_eq!(client.say("RCPT TO:<ann@home.example>"), 250);
                assert_eq!(client.say("DATA"), 354);
                client.send(b"Subject: a\r\n\r\nb\r\n.\r\n");
                client.reply()
            })
        })
        .collect();
    let replies: Vec<String> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let heard = server.heard();
    let mut wrong = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let (name, reply) = (&case.name, &replies[index]);
        if !reply.starts_with(case.answer) {
            wrong.push(format!("{name}: answered {reply}"));
        }
        let place = format!("{}:{}", case.host, server.ports[index]);
        let log = relay.log.all();
        let line = log.iter().find(|line| line.contains("ERROR") && line.contains(&place));
        match (case.fault, line) {
            (None, None) => {}
            (None, Some(line)) => wrong.push(format!("{name}: {line}")),
            (Some(_), None) => wrong.push(format!("{name}: nothing was logged")),
            (Some(words), Some(line)) => {
                let missing = words.iter().filter(|word| !line.contains(**word));
                wrong.extend(missing.map(|word| format!("{name}: {word:?} is missing in {line}")));
            }
        }
        let has_heard = |verb: &str| heard[index].iter().any(|line| line.starts_with(verb));
        let is_delivered = case.fault.is_none();
        if ["MAIL", "RCPT", "DATA"].iter().any(|verb| has_heard(verb) != is_delivered) {
            wrong.push(format!("{name}: the next hop heard {:?}", heard[index]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn nothing(_: &mut CertificateParams) {}

/// An authority, one below it, and a next hop below both.
struct Chain {
    root: Made,
    middle: Made,
    leaf: Made,
}

impl Chain {
    fn new() -> Chain {
        Chain::with(nothing, nothing)
    }

    fn with(middle: impl FnOnce(&mut CertificateParams), leaf: impl FnOnce(&mut CertificateParams)) -> Chain {
        let root = Made::authority("Example Root", None, nothing);
        let middle = Made::authority("Example Authority", Some(&root), middle);
        let leaf = Made::new(HOST, Some(&middle), leaf);
        Chain { root, middle, leaf }
    }

    fn case(&self, files: &Files, name: &str) -> Case {
        files.case(name, &[&self.leaf, &self.middle], &self.root)
    }
}

fn validity(year: i32, until: i32) -> impl FnOnce(&mut CertificateParams) {
    move |item| {
        item.not_before = rcgen::date_time_ymd(year, 1, 1);
        item.not_after = rcgen::date_time_ymd(until, 1, 1);
    }
}

fn only_for(purpose: ExtendedKeyUsagePurpose) -> impl FnOnce(&mut CertificateParams) {
    move |item| item.extended_key_usages = vec![purpose]
}

fn constraints(permitted: &[&str], excluded: &[&str]) -> impl FnOnce(&mut CertificateParams) {
    let trees =
        |names: &[&str]| names.iter().map(|name| GeneralSubtree::DnsName((*name).to_owned())).collect();
    let made = NameConstraints { permitted_subtrees: trees(permitted), excluded_subtrees: trees(excluded) };
    move |item| item.name_constraints = Some(made)
}

/// Certificates that no mail may be handed to.
fn bad_certificates(files: &Files) -> Vec<Case> {
    let root = Made::authority("Example Root", None, nothing);
    let other = Made::authority("Other Root", None, nothing);
    let leaf = |names: &[&str], edit: &dyn Fn(&mut CertificateParams)| Made::new(names, Some(&root), edit);
    let one = |name: &str, leaf: Made| files.case(name, &[&leaf], &root);
    let sound = Chain::new();
    let namesake = Made::authority("Example Root", None, nothing);
    let deep = Made::authority("Deep", Some(&sound.middle), nothing);
    let below_deep = Made::new(HOST, Some(&deep), nothing);
    let short =
        Made::authority("Short", Some(&root), |item| item.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let too_deep = Made::authority("Too Deep", Some(&short), nothing);
    let below_too_deep = Made::new(HOST, Some(&too_deep), nothing);
    let mut cases = vec![
        one("expired", Made::new(HOST, Some(&root), validity(2020, 2021)))
            .fails(&["expired on 2021-01-01", "renew"]),
        one("not yet valid", Made::new(HOST, Some(&root), validity(2098, 2100)))
            .fails(&["valid from 2098-01-01", "clock"]),
        one("wrong name", leaf(&["smtp.next-hop.example"], &nothing)).fails(NAME),
        one("a wildcard below the name", leaf(&["*.localhost"], &nothing)).fails(NAME),
        one("a wildcard for everything", leaf(&["*"], &nothing)).fails(NAME),
        one("a wildcard within a label", leaf(&["local*"], &nothing)).fails(NAME),
        one("the name with more behind it", leaf(&["localhost.home.example"], &nothing)).fails(NAME),
        one(
            "the name in the subject alone",
            leaf(&[], &|parameters| parameters.distinguished_name.push(DnType::CommonName, "localhost")),
        )
        .fails(&["no name at all", "common name does not count"]),
        one(
            "the name as a mail address",
            leaf(&[], &|parameters| {
                parameters.subject_alt_names =
                    vec![SanType::Rfc822Name("mail@localhost".try_into().unwrap())];
            }),
        )
        .fails(NAME),
        one("an address instead of the name", leaf(&["127.0.0.1"], &nothing)).fails(NAME),
        one("the name instead of the address", leaf(HOST, &nothing)).host("127.0.0.1").fails(NAME),
        one(
            "the address written as a name",
            leaf(&[], &|parameters| {
                parameters.subject_alt_names = vec![SanType::DnsName("127.0.0.1".try_into().unwrap())];
            }),
        )
        .host("127.0.0.1")
        .fails(NAME),
        one("another address", leaf(&["127.0.0.2"], &nothing)).host("127.0.0.1").fails(NAME),
        files.case("self-signed", &[&Made::new(HOST, None, nothing)], &root).fails(UNTRUSTED),
        files
            .case(
                "self-signed, and an authority",
                &[&Made::authority("localhost", None, |item| {
                    item.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
                })],
                &root,
            )
            .fails(&["TLS with the next hop failed"]),
        files
            .case("unknown authority", &[&Made::new(HOST, Some(&other), nothing), &other], &root)
            .fails(UNTRUSTED),
        files
            .case(
                "an authority with the same name and another key",
                &[&Made::new(HOST, Some(&namesake), nothing)],
                &root,
            )
            .fails(&["TLS with the next hop failed"]),
        files.case("missing certificate between", &[&sound.leaf], &sound.root).fails(UNTRUSTED),
        files.case("truncated chain", &[&below_deep, &deep], &sound.root).fails(UNTRUSTED),
        files.case("another one's certificate between", &[&sound.leaf, &deep], &sound.root).fails(UNTRUSTED),
        files.case("path length exceeded", &[&below_too_deep, &too_deep, &short], &root).fails(CHAIN),
        Chain::with(|item| item.is_ca = IsCa::ExplicitNoCa, nothing)
            .case(files, "signed by one with CA:false")
            .fails(CHAIN),
        Chain::with(|item| item.is_ca = IsCa::NoCa, nothing)
            .case(files, "signed by one without basicConstraints")
            .fails(CHAIN),
        Chain::with(validity(2020, 2021), nothing)
            .case(files, "expired between")
            .fails(&["expired on 2021-01-01"]),
        Chain::with(constraints(&["shop.example"], &[]), nothing)
            .case(files, "names outside of those permitted")
            .fails(CHAIN),
        Chain::with(constraints(&[], &["localhost"]), nothing)
            .case(files, "names that are excluded")
            .fails(CHAIN),
        Chain::with(only_for(ExtendedKeyUsagePurpose::ClientAuth), nothing)
            .case(files, "an authority for clients alone")
            .fails(&["not meant for servers"]),
    ];
    for (name, purpose) in [
        ("for clients alone", ExtendedKeyUsagePurpose::ClientAuth),
        ("for mail alone", ExtendedKeyUsagePurpose::EmailProtection),
        ("for any purpose, which is none in particular", ExtendedKeyUsagePurpose::Any),
    ] {
        let leaf = Made::new(HOST, Some(&root), only_for(purpose));
        cases.push(files.case(name, &[&leaf], &root).fails(&["not meant for servers"]));
    }
    cases.extend(weak(files));
    cases
}

/// What openssl still makes and nobody should take.
fn weak(files: &Files) -> Vec<Case> {
    let made = |name: &str, authority: &str, bits: &str, digest: &str| {
        let authority = format!(
            "req -x509 -newkey rsa:{authority} -nodes -keyout ca.key -out ca.pem -subj /CN=Example -days \
             3650 -addext basicConstraints=critical,CA:true"
        );
        let request =
            format!("req -new -newkey rsa:{bits} -nodes -keyout own.key -out own.csr -subj /CN=localhost");
        let sign = format!(
            "x509 -req -in own.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out own.pem -days 365 -extfile \
             names -{digest}"
        );
        let folder = files.openssl(&[&authority, &request, &sign]);
        files.case_of(name, &folder.join("own.pem"), &folder.join("own.key"), &folder.join("ca.pem"))
    };
    vec![
        made("signed with SHA-1", "2048", "2048", "sha1").fails(WEAK),
        made("signed with MD5", "2048", "2048", "md5").fails(WEAK),
        made("an RSA key of 1,024 bits", "2048", "1024", "sha256").fails(&["TLS with the next hop failed"]),
        made("an authority with 1,024 bits", "1024", "2048", "sha256").fails(WEAK),
        made("RSA as it should be", "2048", "2048", "sha256"),
    ]
}

/// Certificates that are right, some of them served oddly.
fn good_certificates(files: &Files) -> Vec<Case> {
    let Chain { root, middle, leaf } = Chain::new();
    let stranger = Made::authority("Stranger", None, nothing);
    let address = Made::new(&["127.0.0.1"], Some(&root), nothing);
    let many = Made::new(&["smtp.next-hop.example", "*.next-hop.example", "localhost"], Some(&root), nothing);
    let listed = Made::new(HOST, None, nothing);
    let usage = Made::new(HOST, Some(&root), |item| item.key_usages = vec![KeyUsagePurpose::CrlSign]);
    let constrained = Chain::with(constraints(&["localhost"], &["shop.example"]), nothing);
    vec![
        files.case("right", &[&leaf, &middle], &root),
        files.case("the root sent, too", &[&leaf, &middle, &root], &root),
        files.case("the leaf twice", &[&leaf, &leaf, &middle], &root),
        files.case("in the wrong order", &[&leaf, &root, &middle], &root),
        files.case("a stranger between", &[&leaf, &stranger, &middle], &root),
        files.case("the certificate between is trusted itself", &[&leaf], &middle),
        files.case("the certificate itself is trusted", &[&listed], &listed),
        files.case("right by address", &[&address], &root).host("127.0.0.1"),
        files.case("one of several names", &[&many], &root),
        files.case("keyUsage is not looked at", &[&usage], &root),
        constrained.case(files, "a name that is permitted"),
    ]
}

#[test]
fn a_certificate_that_does_not_fit_defers_with_a_word_on_what_to_do() {
    let files = Files::new();
    let mut cases = bad_certificates(&files);
    assert!(cases.iter().filter(|case| case.fault.is_some()).count() >= 25);
    cases.extend(good_certificates(&files));
    check(&cases);
}

#[test]
fn certificates_count_alike_in_every_mode_of_tls() {
    let files = Files::new();
    let mut cases = Vec::new();
    for tls in ["opportunistic", "implicit"] {
        for case in bad_certificates(&files).into_iter().chain(good_certificates(&files)) {
            let name = format!("{} ({tls})", case.name);
            cases.push(Case { name, ..case.tls(tls).told("implicit", tls == "implicit") });
        }
    }
    check(&cases);
}

#[test]
fn a_handshake_that_fails_defers_with_a_word_on_what_to_do() {
    let files = Files::new();
    let chain = Chain::new();
    let case = |name: &str| chain.case(&files, name);
    let authority = files.pem(&chain.root.pem);
    check(&[
        case("right"),
        case("TLS 1.0 alone").told("most", "TLSv1").fails(&["1.2 or 1.3"]),
        case("TLS 1.1 alone").told("most", "TLSv1_1").fails(&["1.2 or 1.3"]),
        case("no cipher suite in common")
            .told("most", "TLSv1_2")
            .told("ciphers", "AES128-SHA")
            .fails(&["shares no cipher suite"]),
        case("STARTTLS is refused")
            .told("answer", "454 4.7.0 TLS is not available\r\n")
            .fails(&["454 4.7.0", "its log says"]),
        case("STARTTLS is rejected").told("answer", "502 5.5.1 No\r\n").fails(&["502 5.5.1", "its log says"]),
        case("STARTTLS is not offered")
            .told("offers", false)
            .fails(&["does not offer STARTTLS", "tls = \"implicit\""]),
        case("injected in clear")
            .told("answer", "220 2.0.0 Go\r\n250 2.0.0 Ok\r\n")
            .fails(&["in clear after the reply to STARTTLS"]),
        case("half a line injected")
            .told("answer", "220 2.0.0 Go\r\n2")
            .fails(&["in clear after the reply to STARTTLS"]),
        case("text in place of the handshake").told("instead", "250 2.0.0 Ok\r\n").fails(NO_TLS),
        case("garbage in place of the handshake").told("instead", "\0\0\u{ff}\0garbage").fails(NO_TLS),
        case("an alert in place of the handshake")
            .told("instead", "\u{15}\u{3}\u{3}\0\u{2}\u{2}\u{50}")
            .fails(&["its log may say more"]),
        case("a handshake without end")
            .told("hang", true)
            .fails(&["TLS handshake: no reply within 2 s"])
            .answer("451 4.4.1 "),
        case("a handshake cut off in a record")
            .told("cut", 20)
            .fails(&["it closed the connection during the handshake"]),
        case("a handshake cut off behind its first record")
            .told("cut", 127)
            .fails(&["it closed the connection during the handshake"]),
        case("garbage in place of the greeting")
            .told("greeting", "\u{16}\u{3}\u{1}\r\n")
            .fails(&["greeting"])
            .answer("451 4.4.2 "),
        case("TLS from the first byte on at a plain port")
            .told("implicit", true)
            .fails(&["greeting: no reply within 2 s", "tls = \"implicit\""])
            .answer("451 4.4.1 "),
        case("in clear at a port for TLS from the first byte on").tls("implicit").fails(NO_TLS),
        case("a certificate of ours is demanded")
            .told("clients", authority.to_str())
            .fails(&["it requires a client certificate; set certificate and key"]),
        case("a certificate of ours is demanded by TLS 1.2")
            .told("clients", authority.to_str())
            .told("most", "TLSv1_2")
            .fails(&["TLS with the next hop failed"]),
    ]);
}

#[test]
fn what_is_announced_before_tls_does_not_count_behind_it() {
    let files = Files::new();
    let chain = Chain::new();
    let clear =
        serde_json::json!(["DSN", "SIZE 1000000", "8BITMIME", "SMTPUTF8", "PIPELINING", "AUTH PLAIN"]);
    let cases = [
        chain.case(&files, "announced in clear").told("keywords_in_clear", clear),
        chain.case(&files, "announced over TLS").told("keywords", serde_json::json!(["DSN", "SIZE 1000000"])),
    ];
    let mut server = Server::start(&cases);
    let relay = server.relay(&cases);
    for index in 0..2 {
        let mut client = Client::greeted(relay.port);
        assert_eq!(client.say(&format!("MAIL FROM:<{}> SIZE=10 RET=HDRS ENVID=1", Case::sender(index))), 250);
        assert_eq!(client.say("RCPT TO:<ann@home.example> NOTIFY=FAILURE"), 250);
    }
    let heard = server.heard();
    assert_eq!(heard[0][..2], ["MAIL FROM:<news@c0.shop.example>", "RCPT TO:<ann@home.example>"]);
    assert_eq!(
        heard[1][..2],
        [
            "MAIL FROM:<news@c1.shop.example> SIZE=10 RET=HDRS ENVID=1",
            "RCPT TO:<ann@home.example> NOTIFY=FAILURE"
        ]
    );
}
