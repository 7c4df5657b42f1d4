//! The structure of a response, as a strict parser sees it, before any signature is examined.
//!
//! The signature verifier parses leniently: it repairs truncated documents, and accepts duplicate parts.
//! Nothing of that kind passes here, so there is only one way to read what was signed.

use std::collections::HashSet;
use std::time::Duration;

use roxmltree::{Document, Node, NodeType, ParsingOptions};

use super::SamlError;
use crate::config::console::Signatures;
use crate::consent::Timestamp;

const PROTOCOL: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
const ASSERTION: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
const EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";
const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
const SUCCESS: &str = "urn:oasis:names:tc:SAML:2.0:status:Success";
/// The accepted signature algorithms.
const METHODS: [&str; 5] = [
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384",
    "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512",
    "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256",
    "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384",
];
/// The accepted digest algorithms.
const DIGESTS: [&str; 3] = [
    "http://www.w3.org/2001/04/xmlenc#sha256",
    "http://www.w3.org/2001/04/xmldsig-more#sha384",
    "http://www.w3.org/2001/04/xmlenc#sha512",
];
/// The maximum number of nodes in a document.
const MAX_NODES: u32 = 20_000;
/// The maximum nesting depth of elements.
const MAX_DEPTH: usize = 64;
/// The maximum number of equals signs: each attribute has one, and searching for duplicates takes time.
const MAX_EQUALS: usize = 4000;
/// The maximum age of a response.
const MAX_AGE: i64 = 90_000;

/// What is known about a response before it is verified.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outline {
    /// The request that it answers.
    pub(super) in_response_to: String,
    /// The id of its only assertion.
    pub(super) assertion: String,
    destination: String,
    issuers: Vec<String>,
    issued: Vec<i64>,
}

impl Outline {
    /// Examines a document.
    pub(super) fn of(xml: &str, wanted: Signatures) -> Result<Outline, SamlError> {
        let document = parsed(xml)?;
        let response = document.root_element();
        if !response.has_tag_name((PROTOCOL, "Response")) {
            return Err(SamlError::Malformed("not a response"));
        }
        unique_ids(&document)?;
        let assertion = only_assertion(&document, response)?;
        signatures(&document, response, assertion, wanted)?;
        succeeded(response)?;
        let required = |node: Node<'_, '_>, name: &str, what| {
            node.attribute(name)
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
                .ok_or(SamlError::Malformed(what))
        };
        for node in [response, assertion] {
            if node.attribute("Version") != Some("2.0") {
                return Err(SamlError::Malformed("another version"));
            }
        }
        let in_response_to = required(response, "InResponseTo", "it answers no request")?;
        confirmations(assertion, &in_response_to)?;
        named(assertion)?;
        Ok(Outline {
            in_response_to,
            assertion: required(assertion, "ID", "the assertion has no id")?,
            destination: required(response, "Destination", "it has no destination")?,
            issuers: vec![issuer(response)?, issuer(assertion)?],
            issued: vec![instant(response, "IssueInstant")?, instant(assertion, "IssueInstant")?],
        })
    }

    /// Checks that it is from this identity provider, for this address, and current.
    pub(super) fn fits(
        &self,
        issuer: &str,
        acs: &str,
        now: Timestamp,
        skew: Duration,
    ) -> Result<(), SamlError> {
        let skew = i64::try_from(skew.as_millis()).unwrap_or(i64::MAX);
        if self.issuers.iter().any(|other| other != issuer) {
            return Err(SamlError::Unfit("from another issuer"));
        }
        if self.destination != acs {
            return Err(SamlError::Unfit("for another address"));
        }
        if self.issued.iter().any(|at| *at > now.0 + skew) {
            return Err(SamlError::Unfit("dated in the future"));
        }
        if self.issued.iter().any(|at| *at + MAX_AGE < now.0) {
            return Err(SamlError::Unfit("too old"));
        }
        Ok(())
    }
}

/// Parses a document without a DTD, instructions, comments and CDATA, of bounded size and depth.
pub(super) fn parsed(xml: &str) -> Result<Document<'_>, SamlError> {
    if depth(xml) > MAX_DEPTH {
        return Err(SamlError::Malformed("elements are nested too deeply"));
    }
    if memchr::memchr_iter(b'=', xml.as_bytes()).count() > MAX_EQUALS {
        return Err(SamlError::Malformed("it has too many attributes"));
    }
    for (mark, what) in [
        ("<!DOCTYPE", "it has a DTD"),
        ("<!ENTITY", "it has a DTD"),
        ("<![CDATA[", "it has CDATA"),
        ("<!--", "it has comments"),
    ] {
        if xml.contains(mark) {
            return Err(SamlError::Malformed(what));
        }
    }
    let options = ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    let document =
        Document::parse_with_options(xml, options).map_err(|_| SamlError::Malformed("malformed XML"))?;
    let is_odd = |node: Node<'_, '_>| matches!(node.node_type(), NodeType::PI | NodeType::Comment);
    match document.descendants().any(is_odd) {
        true => Err(SamlError::Malformed("it has processing instructions or comments")),
        false => Ok(document),
    }
}

/// Returns the maximum nesting depth of elements, counted from the bytes alone: parsers may recurse.
fn depth(xml: &str) -> usize {
    let (mut open, mut most) = (0usize, 0usize);
    let bytes = xml.as_bytes();
    for at in memchr::memchr_iter(b'<', bytes) {
        match bytes.get(at + 1) {
            Some(b'/') => open = open.saturating_sub(1),
            Some(b'?' | b'!') => {}
            _ => {
                let rest = bytes.get(at..).unwrap_or_default();
                let end = memchr::memchr(b'>', rest).unwrap_or(rest.len());
                let is_empty = end > 0 && rest.get(end - 1) == Some(&b'/');
                open += 1;
                most = most.max(open);
                open -= usize::from(is_empty);
            }
        }
    }
    most
}

/// Checks that no id occurs twice, under whatever attribute name.
fn unique_ids(document: &Document<'_>) -> Result<(), SamlError> {
    let mut seen = HashSet::new();
    for attribute in document.descendants().flat_map(|node| node.attributes()) {
        if attribute.name().eq_ignore_ascii_case("id") && !seen.insert(attribute.value()) {
            return Err(SamlError::Malformed("duplicate id"));
        }
    }
    Ok(())
}

/// Returns the only assertion, directly within the response.
fn only_assertion<'a>(document: &'a Document<'a>, response: Node<'a, 'a>) -> Result<Node<'a, 'a>, SamlError> {
    let is = |node: &Node<'_, '_>, name: &str| node.is_element() && node.tag_name().name() == name;
    if document.descendants().any(|node| is(&node, "EncryptedAssertion")) {
        return Err(SamlError::Malformed("encrypted assertions are not accepted"));
    }
    if document.descendants().filter(|node| is(node, "Response")).count() != 1 {
        return Err(SamlError::Malformed("it has a nested response"));
    }
    let mut all = document.descendants().filter(|node| is(node, "Assertion"));
    let only = all.next().ok_or(SamlError::Malformed("it has no assertion"))?;
    if all.next().is_some() {
        return Err(SamlError::Malformed("it has several assertions"));
    }
    match only.has_tag_name((ASSERTION, "Assertion")) && only.parent() == Some(response) {
        true => Ok(only),
        false => Err(SamlError::Malformed("the assertion is misplaced")),
    }
}

/// Checks that signatures are in place, cover their parent, and use accepted algorithms.
fn signatures(
    document: &Document<'_>,
    response: Node<'_, '_>,
    assertion: Node<'_, '_>,
    wanted: Signatures,
) -> Result<(), SamlError> {
    let (mut of_response, mut of_assertion) = (0, 0);
    for node in
        document.descendants().filter(|child| child.is_element() && child.tag_name().name() == "Signature")
    {
        if !node.has_tag_name((DSIG, "Signature")) {
            return Err(SamlError::Malformed("a signature has an unknown type"));
        }
        match node.parent() {
            Some(parent) if parent == response => of_response += 1,
            Some(parent) if parent == assertion => of_assertion += 1,
            _ => return Err(SamlError::Malformed("a signature is misplaced")),
        }
        signature(node)?;
    }
    if of_response > 1 || of_assertion > 1 {
        return Err(SamlError::Malformed("duplicate signature"));
    }
    let is_enough = match wanted {
        Signatures::Both => of_response == 1 && of_assertion == 1,
        Signatures::Response => of_response == 1,
        Signatures::Assertion => of_assertion == 1,
    };
    is_enough.then_some(()).ok_or(SamlError::Unfit("a signature is missing (saml.required_signatures)"))
}

fn signature(signature: Node<'_, '_>) -> Result<(), SamlError> {
    let parent_id = signature.parent().and_then(|parent| parent.attribute("ID")).filter(|id| !id.is_empty());
    let parent_id = parent_id.ok_or(SamlError::Malformed("a signed element has no id"))?;
    let children: Vec<Node<'_, '_>> = signature.children().filter(Node::is_element).collect();
    let known = ["SignedInfo", "SignatureValue", "KeyInfo"];
    if children.iter().any(|child| !known.iter().any(|name| child.has_tag_name((DSIG, *name)))) {
        return Err(SamlError::Malformed("a signature contains something else"));
    }
    let info = one(signature, "SignedInfo")?;
    one(signature, "SignatureValue")?;
    let certificates = signature
        .children()
        .filter(|child| child.has_tag_name((DSIG, "KeyInfo")))
        .flat_map(|info| info.children());
    if certificates.filter(Node::is_element).any(|node| !node.has_tag_name((DSIG, "X509Data"))) {
        return Err(SamlError::Malformed("a signature names its key other than by a certificate"));
    }
    let method = |node: Node<'_, '_>, name, known: &[&str]| -> Result<(), SamlError> {
        let algorithm = one(node, name)?.attribute("Algorithm").unwrap_or_default().to_owned();
        known
            .contains(&algorithm.as_str())
            .then_some(())
            .ok_or(SamlError::Unfit("a signature algorithm is not accepted"))
    };
    method(info, "CanonicalizationMethod", &[EXCLUSIVE])?;
    method(info, "SignatureMethod", &METHODS)?;
    let reference = one(info, "Reference")?;
    method(reference, "DigestMethod", &DIGESTS)?;
    if reference.attribute("URI") != Some(format!("#{parent_id}").as_str()) {
        return Err(SamlError::Malformed("a signature covers something else"));
    }
    let transforms: Vec<Option<&str>> = one(reference, "Transforms")?
        .children()
        .filter(Node::is_element)
        .map(|child| child.attribute("Algorithm").filter(|_| child.has_tag_name((DSIG, "Transform"))))
        .collect();
    match transforms.as_slice() {
        [Some(ENVELOPED), Some(EXCLUSIVE)] => Ok(()),
        _ => Err(SamlError::Unfit("a signature has other transforms")),
    }
}

/// Returns the only child of this name.
fn one<'a>(node: Node<'a, 'a>, name: &'static str) -> Result<Node<'a, 'a>, SamlError> {
    let mut all = node.children().filter(|child| child.has_tag_name((DSIG, name)));
    match (all.next(), all.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(SamlError::Malformed("a part of a signature is missing or duplicate")),
    }
}

fn succeeded(response: Node<'_, '_>) -> Result<(), SamlError> {
    let mut all = response.children().filter(|child| child.has_tag_name((PROTOCOL, "Status")));
    let status = match (all.next(), all.next()) {
        (Some(only), None) => only,
        _ => return Err(SamlError::Malformed("it has no status")),
    };
    let code = status.children().find(|child| child.has_tag_name((PROTOCOL, "StatusCode")));
    let is_success = code.and_then(|code| code.attribute("Value")) == Some(SUCCESS);
    is_success.then_some(()).ok_or(SamlError::Unfit("the identity provider reports a failure"))
}

/// Checks that the subject is confirmed for this request.
fn confirmations(assertion: Node<'_, '_>, request: &str) -> Result<(), SamlError> {
    let mut count = 0;
    for data in
        assertion.descendants().filter(|node| node.has_tag_name((ASSERTION, "SubjectConfirmationData")))
    {
        if data.attribute("InResponseTo") != Some(request) {
            return Err(SamlError::Unfit("the assertion answers another request"));
        }
        count += 1;
    }
    (count > 0).then_some(()).ok_or(SamlError::Unfit("the subject is not confirmed"))
}

/// Checks that the subject has one name, which is nothing but text.
fn named(assertion: Node<'_, '_>) -> Result<(), SamlError> {
    let mut subjects = assertion.children().filter(|child| child.has_tag_name((ASSERTION, "Subject")));
    let (Some(subject), None) = (subjects.next(), subjects.next()) else {
        return Err(SamlError::Malformed("the assertion has no subject, or several"));
    };
    let mut names = subject.children().filter(|child| child.has_tag_name((ASSERTION, "NameID")));
    match (names.next(), names.next()) {
        (Some(name), None) if name.children().all(|child| child.is_text()) => Ok(()),
        _ => Err(SamlError::Malformed("the subject has no name, or several")),
    }
}

/// Returns the issuer.
pub(super) fn issuer(node: Node<'_, '_>) -> Result<String, SamlError> {
    let mut all = node.children().filter(|child| child.has_tag_name((ASSERTION, "Issuer")));
    match (all.next(), all.next()) {
        (Some(only), None) if only.children().all(|child| child.is_text()) => {
            Ok(only.text().unwrap_or_default().trim().to_owned())
        }
        _ => Err(SamlError::Malformed("it has no issuer, or several")),
    }
}

/// Parses a time to milliseconds since 1970.
pub(super) fn instant(node: Node<'_, '_>, name: &str) -> Result<i64, SamlError> {
    let text = node.attribute(name).ok_or(SamlError::Malformed("a time is missing"))?;
    let parsed = Timestamp::parse(text).ok().filter(|_| text.len() > 10 && text.ends_with('Z'));
    parsed.map(|parsed| parsed.0).ok_or(SamlError::Malformed("a time is invalid"))
}
