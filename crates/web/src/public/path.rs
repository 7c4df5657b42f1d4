//! Routes requests by the last segments of their path.

use crate::rewrite::reader_token::TokenKind;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    /// One of our pixels.
    Pixel(TokenKind, &'a str),
    /// One of our links.
    Link(&'a str),
    /// The preference page of a link.
    Page(&'a str),
    /// The page that refuses everything with one press.
    Refuse(&'a str),
    /// What a mail program asks for by itself.
    OneClick(&'a str),
    /// The page for readers without a link.
    NewLink,
    /// A check whether this relay is reached.
    Ping,
    /// The logo of a controller.
    Logo(&'a str),
    /// Something else.
    Nothing,
}

impl<'a> Asked<'a> {
    /// Reads a path from its end.
    pub(super) fn of(path: &'a str) -> Asked<'a> {
        let mut segments = path.rsplit('/');
        let mut next = || segments.next().unwrap_or_default();
        let (last, before, first) = (next(), next(), next());
        match (first, before, last) {
            ("c", token, "withdraw") => Asked::OneClick(token),
            ("c", token, "refuse") => Asked::Refuse(token),
            ("c", "logo", name) => Asked::Logo(name),
            (_, "p", token) => Asked::Pixel(TokenKind::Gate, token),
            (_, "d", token) => Asked::Pixel(TokenKind::Day, token),
            (_, "s", token) => Asked::Pixel(TokenKind::Shared, token),
            (_, "l", token) => Asked::Link(token),
            (_, "c", "") => Asked::NewLink,
            (_, "c", "ping") => Asked::Ping,
            (_, "c", token) => Asked::Page(token),
            _ => Asked::Nothing,
        }
    }

    /// Returns the label used in metrics.
    pub(super) const fn route(self) -> &'static str {
        match self {
            Asked::Pixel(TokenKind::Gate, _) => "gated_pixel",
            Asked::Pixel(TokenKind::Day, _) => "day_pixel",
            Asked::Pixel(TokenKind::Shared | TokenKind::Preference | TokenKind::Link, _) => "shared_pixel",
            Asked::Link(_) => "gated_link",
            Asked::Page(_) => "page",
            Asked::OneClick(_) => "one_click",
            Asked::Refuse(_) => "refuse",
            Asked::NewLink => "new_link",
            Asked::Ping => "ping",
            Asked::Logo(_) => "logo",
            Asked::Nothing => "nothing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_from_its_end() {
        for (path, wanted) in [
            ("/c/t0ken", Asked::Page("t0ken")),
            ("/shop/de/c/t0ken", Asked::Page("t0ken")),
            ("/c/", Asked::NewLink),
            ("/shop/c/", Asked::NewLink),
            ("/c/ping", Asked::Ping),
            ("/c/t0ken/withdraw", Asked::OneClick("t0ken")),
            ("/shop/c/t0ken/refuse", Asked::Refuse("t0ken")),
            ("/shop/c/t0ken/withdraw", Asked::OneClick("t0ken")),
            ("/c/logo/shop", Asked::Logo("shop")),
            ("/p/t0ken", Asked::Pixel(TokenKind::Gate, "t0ken")),
            ("/c/d/t0ken", Asked::Pixel(TokenKind::Day, "t0ken")),
            ("/s/", Asked::Pixel(TokenKind::Shared, "")),
            ("/shop/l/t0ken", Asked::Link("t0ken")),
            ("/", Asked::Nothing),
            ("/c", Asked::Nothing),
            ("", Asked::Nothing),
            ("//", Asked::Nothing),
            ("/c/t0ken/other", Asked::Nothing),
            ("/c/t0ken/", Asked::Nothing),
        ] {
            assert_eq!(Asked::of(path), wanted, "{path}");
        }
    }
}
