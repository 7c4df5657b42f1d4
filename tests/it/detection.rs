//! Detection from outside: services downstream, exceptions, pictures that tell readers apart, and what a
//! campaign shows.

use crate::support;
use std::time::{Duration, Instant};

use crate::support::{Client, Folder, NextHop, Relay, crlf, newsletter, program};

fn html(body: &str) -> String {
    format!(
        "From: Shop <news@shop.example>\nSubject: News\nList-Id: <news.shop.example>\nContent-Type: \
         text/html\n\n{body}\n"
    )
}

/// Sends one message to somebody who did not agree; gives what the next hop got.
fn check(rest: &str, message: &str) -> String {
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, "", "", rest);
    let reply = Client::greeted(relay.port).message("news@shop.example", &["eve@home.example"], message);
    assert!(reply.starts_with("250"), "{reply}");
    hop.wait(1)[0].below_trace()
}

#[test]
fn a_service_downstream_is_told_not_to_track_those_who_did_not_agree() {
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, "", "esp = \"sendgrid\"", "");
    relay.say("ann@home.example", "granted");
    let mut client = Client::greeted(relay.port);
    let (with, without) = newsletter("list@shop.example");
    let fields = "X-SMTPAPI: {\"category\":\"news\"}\nX-PM-TrackOpens: true\n";
    for to in ["ann@home.example", "eve@home.example"] {
        assert!(client.message("news@shop.example", &[to], &format!("{fields}{with}")).starts_with("250"));
    }
    let deliveries = hop.wait(2);
    assert_eq!(deliveries[0].below_trace(), crlf(&format!("{fields}{with}")));
    let told =
        "X-SMTPAPI: {\"category\":\"news\",\"filters\":{\"opentrack\":{\"settings\":{\"enable\":0}}}}\n";
    assert_eq!(deliveries[1].below_trace(), crlf(&format!("{told}{without}")));
    // A message without any tracker is told of too: the service would add one.
    let plain = "Subject: a\n\nNo picture.\n";
    client.message("news@shop.example", &["eve@home.example"], plain);
    let got = hop.wait(3)[2].below_trace();
    assert!(got.starts_with("X-SMTPAPI: {\"filters\"") && got.ends_with("\r\n\r\nNo picture.\r\n"), "{got}");
    let reply =
        client.message("news@shop.example", &["eve@home.example"], &format!("X-SMTPAPI: junk\n{plain}"));
    assert!(reply.starts_with("550 5.6.0 X-SMTPAPI"), "{reply}");
}

#[test]
fn a_service_without_a_switch_that_holds_stops_the_start_unless_that_is_accepted() {
    let folder = Folder::new();
    let path = support::configuration(&folder, 25, "", "esp = \"brevo\"", "");
    let output = program().args(["run", "--config"]).arg(&path).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("accept_downstream_tracking"), "{said}");

    let hop = NextHop::start();
    let reason = "esp = \"brevo\"\naccept_downstream_tracking = \"open tracking is off in the account\"";
    let relay = Relay::with(hop.port, "", reason, "");
    relay.log.wait("the reason", |line| line.contains("open tracking is off in the account"));
    let (with, without) = newsletter("eve@home.example");
    Client::greeted(relay.port).message("news@shop.example", &["eve@home.example"], &with);
    assert_eq!(hop.wait(1)[0].below_trace(), crlf(&without));
    relay.log.wait("the outcome", |line| line.contains("downstream=\"brevo: open tracking is off"));
}

#[test]
fn check_asks_for_the_service_that_a_host_name_belongs_to() {
    let folder = Folder::new();
    let path =
        folder.file("config.toml", "[next_hop]\nhost = \"smtp.sendgrid.net\"\nconnect_timeout_s = 1\n");
    let output = program().args(["check", "--config"]).arg(&path).current_dir(&folder.0).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("esp = \"sendgrid\""), "{said}");
}

#[test]
fn an_exception_holds_from_a_reload_on_until_it_ends() {
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    let path = relay.folder.0.join("config.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let (with, without) = newsletter("eve@home.example");
    let mut client = Client::greeted(relay.port);
    for (number, (until, wanted)) in [("2020-01-01", &without), ("2999-01-01", &with)].into_iter().enumerate()
    {
        let allow = format!(
            "[[tracker.allow]]\nhost = \"shop.example\"\npath = \"/wf/\"\nreason = \"test \
             {number}\"\nexpires = \"{until}\"\n"
        );
        std::fs::write(&path, format!("{config}{allow}")).unwrap();
        relay.signal("HUP");
        let deadline = Instant::now() + Duration::from_secs(30);
        while relay.log.all().iter().filter(|line| line.contains("were read again")).count() <= number {
            assert!(Instant::now() < deadline, "the configuration was not read again");
            std::thread::yield_now();
        }
        client.message("news@shop.example", &["eve@home.example"], &with);
        assert_eq!(&hop.wait(number + 1)[number].below_trace(), &crlf(wanted), "until {until}");
    }
}

#[test]
fn a_filter_list_of_the_operator_is_evidence() {
    let folder = Folder::new();
    let list = folder.file("own.txt", "! own list\n||metrics.shop.example^$image\n");
    let message = html("<img src=\"https://metrics.shop.example/x.gif\" width=\"1\" height=\"1\"><p>a</p>");
    assert_eq!(check("", &message), crlf(&message));
    let listed = check(&format!("[tracker]\nlists = [{list:?}]"), &message);
    assert_eq!(listed, crlf(&html("<img width=\"1\" height=\"1\"><p>a</p>")));
}

#[test]
fn a_picture_with_the_readers_address_is_treated_as_configured() {
    let picture = |url: &str| html(&format!("<img src=\"{url}\" width=\"600\" height=\"80\" alt=\"Hero\">"));
    let message = picture(
        "https://t.shop.example/i?e=eve@home.example&amp;src=https%3A%2F%2Fcdn.shop.example%2Fhero.png",
    );
    let gone = html("<img width=\"600\" height=\"80\" alt=\"Hero\">");
    for (choice, wanted) in [
        ("auto", picture("https://cdn.shop.example/hero.png")),
        ("unwrap", picture("https://cdn.shop.example/hero.png")),
        ("drop_parameter", picture("https://t.shop.example/i?src=https%3A%2F%2Fcdn.shop.example%2Fhero.png")),
        ("strip", gone),
        ("keep", message.clone()),
    ] {
        assert_eq!(
            check(&format!("[policy]\nidentifying_images = \"{choice}\""), &message),
            crlf(&wanted),
            "{choice}"
        );
    }
}

#[test]
fn links_that_act_for_their_reader_keep_what_they_act_with() {
    for url in [
        "https://shop.example/login?token=Zk3Qw9XvT2aB7LmN8pRsYd4H&amp;return_to=https%3A%2F%2Fshop.example%2Faccount",
        "https://shop.example/reset/Zk3Qw9XvT2aB7LmN8pRsYd4H?next=https%3A%2F%2Fshop.example%2F",
        "https://id.shop.example/oauth/authorize?client_id=Zk3Qw9XvT2aB7LmN8pRsYd4H&amp;\
         redirect_uri=https%3A%2F%2Fshop.example%2F",
        // Nothing says that anybody follows this one up.
        "https://shop.example/orders/Zk3Qw9XvT2aB7LmN8pRsYd4H?back=https%3A%2F%2Fshop.example%2Forders",
    ] {
        let message = html(&format!("<a href=\"{url}\">Continue</a>"));
        assert_eq!(check("", &message), crlf(&message), "{url}");
    }
}

#[test]
fn links_are_unwrapped_unless_told_otherwise_and_those_that_offer_a_choice_never_are() {
    let link = |url: &str, text: &str| format!("<a href=\"{url}\">{text}</a>");
    let tracked = "https://click.shop.example/c/Zk3Qw9XvT2aB7LmN8pRsYd4H?to=https%3A%2F%2Fshop.example%2Fa%3Fb%3D1%26c%3D2";
    let message = html(&format!("{} {}", link(tracked, "Read"), link(tracked, "Unsubscribe")));
    assert_eq!(check("[policy]\nlinks = \"count\"", &message), crlf(&message));
    let unwrapped = html(&format!(
        "{} {}",
        link("https://shop.example/a?b=1&amp;c=2", "Read"),
        link(tracked, "Unsubscribe")
    ));
    assert_eq!(check("", &message), crlf(&unwrapped));
}

#[test]
fn a_picture_that_differs_in_each_copy_of_a_campaign_goes_in_the_end() {
    let copy = |number: u128| {
        let token = format!("{:032x}", (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        html(&format!(
            "<img src=\"https://img.shop.example/b/{token}.png\" width=\"600\" height=\"80\" alt=\"Hero\">"
        ))
    };
    let gone = html("<img width=\"600\" height=\"80\" alt=\"Hero\">");
    for (rest, wanted) in [("", gone.clone()), ("[tracker]\ncampaign_learning = false", copy(200))] {
        let hop = NextHop::start();
        let relay = Relay::with(hop.port, "", "", rest);
        let mut client = Client::greeted(relay.port);
        for number in 0..=200 {
            client.message("news@shop.example", &["eve@home.example"], &copy(number));
        }
        let deliveries = hop.wait(201);
        assert_eq!(deliveries[0].below_trace(), crlf(&copy(0)));
        assert_eq!(deliveries[200].below_trace(), crlf(&wanted), "{rest}");
    }
}
