use super::*;
use html5gum::{Token as Gum, Tokenizer as GumTokenizer};
use proptest::prelude::*;

/// Tags, attributes and comments as one readable line each.
fn check(src: &str) -> Vec<String> {
    let text = |range: &Range<usize>| src[range.clone()].to_owned();
    let mut tokens = Tokenizer::new(src.as_bytes(), 0..src.len());
    let mut read = Vec::new();
    while let Some(token) = tokens.next() {
        read.push(match token {
            Token::Open { name, .. } => {
                let attributes: Vec<String> = tokens
                    .attributes()
                    .iter()
                    .map(|attribute| format!(" {}={}", text(&attribute.name), text(&attribute.value)))
                    .collect();
                format!("<{}{}>", text(&name), attributes.concat())
            }
            Token::Close { name, .. } => format!("</{}>", text(&name)),
            Token::Comment { content, .. } => format!("<!--{}-->", text(&content)),
            Token::Raw { content } => format!("raw {}", text(&content)),
        });
    }
    read
}

#[test]
fn attributes_are_read_in_every_spelling() {
    assert_eq!(
        check("<IMG/src=a//width='1'\theight = \"1\"alt=x=y hidden =z <=b>"),
        ["<IMG src=a//width='1' height=1 alt=x=y hidden=z <=b>"]
    );
    assert_eq!(check("<img src=a/>"), ["<img src=a/>"]);
    assert_eq!(check("<img src =\n'a>b'>"), ["<img src=a>b>"]);
    assert_eq!(check("<img src=>x"), ["<img src=>"]);
    assert_eq!(check("<img =a=b>"), ["<img =a=b>"]);
}

#[test]
fn comments_end_where_browsers_end_them() {
    assert_eq!(check("<!--><a>"), ["<!---->", "<a>"]);
    assert_eq!(check("<!---><a>"), ["<!---->", "<a>"]);
    assert_eq!(check("<!--a--!><a>"), ["<!--a-->", "<a>"]);
    assert_eq!(check("<!--a--->b<a>"), ["<!--a-->", "<a>"]);
    assert_eq!(check("<!--<!--><a>"), ["<!--<!-->", "<a>"]);
    assert_eq!(check("<!a>b<?c>d</ e><a>"), ["<!--a-->", "<!--c-->", "<!-- e-->", "<a>"]);
    assert_eq!(check("<!--a><a>"), ["<!--a><a>-->"]);
    assert_eq!(check("</><a>< b"), ["<!---->", "<a>"]);
}

#[test]
fn raw_content_holds_no_tags_but_noscript_does() {
    assert_eq!(check("<style>a<b></style ><i>"), ["<style>", "raw a<b>", "</style>", "<i>"]);
    assert_eq!(check("<title><img></title>"), ["<title>", "raw <img>", "</title>"]);
    assert_eq!(check("<noscript><img></noscript>"), ["<noscript>", "<img>", "</noscript>"]);
    assert_eq!(
        check("<script><!--<script></script>--></script><a>"),
        ["<script>", "raw <!--<script></script>-->", "</script>", "<a>"]
    );
    assert_eq!(check("<plaintext><a>"), ["<plaintext>", "raw <a>"]);
}

#[test]
fn nothing_hides_in_a_style_within_svg() {
    assert_eq!(check("<svg><style><img></style></svg>"), ["<svg>", "<style>", "<img>", "</style>", "</svg>"]);
    assert_eq!(check("<svg><![CDATA[<img>]]></svg>")[2], "<img>");
}

/// The same start tags and attributes, as another tokenizer sees them.
fn as_html5gum(src: &str) -> Vec<String> {
    let mut read = Vec::new();
    for token in GumTokenizer::new(src) {
        let Ok(token) = token;
        match token {
            Gum::StartTag(tag) => {
                let name = String::from_utf8_lossy(&tag.name).into_owned();
                let mut attributes: Vec<String> =
                    tag.attributes.keys().map(|key| String::from_utf8_lossy(key).into_owned()).collect();
                attributes.sort();
                read.push(format!("{name} {}", attributes.join(",")));
            }
            Gum::Comment(_) => read.push("comment".to_owned()),
            _ => {}
        }
    }
    read
}

fn as_ours(src: &str) -> Vec<String> {
    let mut tokens = Tokenizer::new(src.as_bytes(), 0..src.len());
    let mut read = Vec::new();
    while let Some(token) = tokens.next() {
        match token {
            Token::Open { name, range } if range.end < src.len() => {
                let mut attributes: Vec<String> = tokens
                    .attributes()
                    .iter()
                    .map(|attribute| src[attribute.name.clone()].to_ascii_lowercase())
                    .collect();
                attributes.sort();
                attributes.dedup();
                read.push(format!("{} {}", src[name].to_ascii_lowercase(), attributes.join(",")));
            }
            Token::Comment { range, .. } if range.len() != 3 || &src[range.clone()] != "</>" => {
                let doctype =
                    src[range.start..].get(..9).is_some_and(|s| s.eq_ignore_ascii_case("<!doctype"));
                if !doctype {
                    read.push("comment".to_owned());
                }
            }
            _ => {}
        }
    }
    read
}

proptest! {
    #[test]
    fn an_independent_tokenizer_sees_the_same_tags(
        src in "(<|</|<!|<!--|-->|--!>|<img|<a|<p>|>|/|=|\"|'| \
                |\n|src|x|-|!|\\?|<td>|</td>|<b/c=d>){0,40}"
    ) {
        // The other tokenizer reports a tag that the end of the input cuts off in one way, browsers in
        // another.
        let src = format!("{src}\"'>--><i>end");
        prop_assert_eq!(as_ours(&src), as_html5gum(&src));
    }

    #[test]
    fn every_offset_lies_within_the_source(src in prop::collection::vec(any::<u8>(), 0..300)) {
        let tokens = Tokenizer::new(&src, 0..src.len());
        let mut last = 0;
        for token in tokens {
            let range = match token {
                Token::Open { range, .. } | Token::Close { range, .. } => range,
                Token::Comment { range, .. } => range,
                Token::Raw { content } => content,
            };
            prop_assert!(range.start >= last && range.end <= src.len());
            last = range.end;
        }
    }
}
