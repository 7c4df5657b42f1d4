//! Single sign-on: the console as a SAML 2.0 service provider.
//!
//! The only file that names samael, which verifies signatures through xmlsec. It parses leniently in places,
//! so every response is first examined by a strict parser ([`outline`]), which establishes that there is one
//! assertion, which signatures there are, and what they cover. All signatures must then verify with the keys
//! in the identity provider's metadata, and only what was verified is read. Promised: metadata without a
//! signing key is rejected, so that verification is never skipped; a request is valid once and for the
//! browser that made it; an assertion is valid once. Absent: encrypted assertions, sign-on started by the
//! identity provider, and the artifact binding.

mod fetch;
mod idp;
mod logout;
mod message;
mod once;
mod outline;
mod sign;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use samael::crypto::AllowedSignatureAlgorithm;
use samael::metadata::EntityDescriptor;
use samael::schema::Assertion;
use samael::service_provider::{ServiceProvider, ServiceProviderBuilder};

use super::query;
use super::rights::Rights;
use super::session::{Federated, Newcomer};
use crate::config::console::{Console as Settings, Saml as Configured};
use crate::consent::Timestamp;
use idp::Idp;
use once::{Pending, Requests, Used};
use outline::Outline;
use sign::Key;

/// The maximum size of a message, in bytes of base64.
pub(super) const MAX_MESSAGE: usize = 256 * 1024;
/// How long a person may take to sign in at the identity provider.
const LOGIN: Duration = Duration::from_secs(600);
/// How long the step from the response to the session may take.
const FINISH: Duration = Duration::from_secs(60);
/// The maximum number of sign-ins in progress.
const MOST: usize = 10_000;

/// Why a person is not signed in. It is logged, and withheld from whoever may be guessing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SamlError {
    /// The message is malformed.
    #[error("malformed message: {0}")]
    Malformed(&'static str),
    /// The message is well-formed but unacceptable.
    #[error("message rejected: {0}")]
    Unfit(&'static str),
    /// The signature is not the identity provider's.
    #[error("a signature does not verify, or samael rejects what it covers: {0}")]
    Unverified(String),
    /// Too many sign-ins are in progress.
    #[error("too many sign-ins are in progress")]
    Full,
}

/// The service provider.
#[derive(Debug)]
pub(super) struct Saml {
    settings: Configured,
    base: String,
    idp: RwLock<Arc<Idp>>,
    key: Option<Key>,
    requests: Requests,
    pending: Pending<Newcomer>,
    used: Used,
}

impl Saml {
    /// Creates the configured service provider, if there is one.
    ///
    /// # Errors
    ///
    /// When the identity provider's metadata is unavailable or has no signing key, or when a key of ours
    /// cannot be used.
    pub(super) async fn of(config: &Settings) -> Result<Option<Arc<Saml>>, String> {
        let Some(settings) = config.saml.clone() else { return Ok(None) };
        let idp = Idp::read(&fetch::metadata(&settings.metadata).await?)?;
        provider(&settings, &config.base(), &idp)?;
        let key = settings.key.as_ref().map(|(certificate, key)| Key::load(certificate, key)).transpose()?;
        let saml = Saml {
            base: config.base(),
            idp: RwLock::new(Arc::new(idp)),
            key,
            requests: Requests::new(LOGIN, MOST),
            pending: Pending::new(FINISH, MOST),
            used: Used::new(MOST * 10),
            settings,
        };
        Ok(Some(Arc::new(saml)))
    }

    /// Refreshes the metadata, for ever. If it cannot be used, that is logged, and the previous metadata
    /// stays in force.
    pub(super) async fn keep_fresh(self: Arc<Saml>) {
        loop {
            tokio::time::sleep(self.settings.refresh).await;
            let read = fetch::metadata(&self.settings.metadata).await.and_then(|text| Idp::read(&text));
            let usable = read.and_then(|idp| provider(&self.settings, &self.base, &idp).map(|_| idp));
            match usable {
                Ok(idp) if idp == *self.idp() => {}
                Ok(idp) => {
                    tracing::info!(
                        keys = idp.certificates.len(),
                        "the metadata of the identity provider has changed and is now in force"
                    );
                    *self.idp.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(idp);
                }
                Err(error) => {
                    tracing::error!(%error, "the metadata of the identity provider cannot be used; the \
                                             previous one stays in force");
                }
            }
        }
    }

    fn idp(&self) -> Arc<Idp> {
        Arc::clone(&self.idp.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn acs(&self) -> String {
        format!("{}/saml/acs", self.base)
    }

    fn logout_url(&self) -> String {
        format!("{}/saml/logout", self.base)
    }

    /// Returns the origin of the identity provider's logout page, if it has one.
    pub(super) fn logout_origin(&self) -> Option<String> {
        let url = url_origin(self.idp().logout.as_deref()?);
        Some(url)
    }

    /// Returns the metadata for the identity provider.
    pub(super) fn metadata(&self) -> String {
        let certificate = self.key.as_ref().map(|key| key.certificate.as_str());
        message::metadata(&self.settings.entity_id, &self.acs(), &self.logout_url(), certificate)
    }

    /// Returns where a browser goes to sign in. `browser` is the value of its cookie.
    pub(super) fn login(&self, browser: &str, now: Instant) -> Option<String> {
        let idp = self.idp();
        let id = format!("_{}", super::session::random()?);
        self.requests.add(&id, browser, now);
        let request =
            message::authn_request(&id, &self.settings.entity_id, &self.acs(), &idp.login, Timestamp::now());
        message::redirect(&idp.login, "SAMLRequest", &request, None, self.key.as_ref())
    }

    /// Verifies a response of the identity provider. Returns the key under which the browser that asked for
    /// it may sign in.
    ///
    /// This computes for milliseconds, on a thread where that blocks nobody.
    pub(super) fn accept(&self, encoded: &str, now: Timestamp, clock: Instant) -> Result<String, SamlError> {
        let idp = self.idp();
        let xml = decoded(encoded)?;
        let outline = Outline::of(&xml, self.settings.signatures)?;
        outline.fits(&idp.entity_id, &self.acs(), now, self.settings.clock_skew)?;
        let browser = self.requests.browser(&outline.in_response_to, clock);
        let browser = browser.ok_or(SamlError::Unfit("unknown or expired request id"))?;
        let assertion = self.verified(&xml, &outline, &idp)?;
        if assertion.id != outline.assertion {
            return Err(SamlError::Unfit("the verified assertion is a different one"));
        }
        let (newcomer, end) = self.read(&assertion, now)?;
        // If two requests bring the same response at once, one of them finds the request gone.
        if !self.requests.take(&outline.in_response_to, clock) {
            return Err(SamlError::Unfit("the request was already answered"));
        }
        self.used.claim(&assertion.id, end, now)?;
        self.pending.add(newcomer, &browser, clock).ok_or(SamlError::Full)
    }

    /// Returns the assertion if all signatures verify. samael treats a key of another type than the
    /// signature's as an error, so the types are tried one after another; this matters while an identity
    /// provider moves, for example, from RSA to elliptic curves.
    fn verified(&self, xml: &str, outline: &Outline, idp: &Idp) -> Result<Assertion, SamlError> {
        let mut refused = SamlError::Unverified("the metadata has no signing key".to_owned());
        for of_kind in idp.by_kind() {
            let provider = provider(&self.settings, &self.base, &of_kind).map_err(SamlError::Unverified)?;
            match provider.parse_xml_response(xml, Some(&[outline.in_response_to.as_str()])) {
                Ok(assertion) => return Ok(assertion),
                Err(error) => refused = SamlError::Unverified(error.to_string()),
            }
        }
        Err(refused)
    }

    /// Returns who signs in with a key, once, if the browser is the one that asked.
    pub(super) fn finish(&self, key: &str, browser: &str, now: Instant) -> Option<Newcomer> {
        self.pending.take(key, browser, now)
    }

    /// Reads the verified assertion, and until when it could be replayed.
    fn read(&self, assertion: &Assertion, now: Timestamp) -> Result<(Newcomer, Timestamp), SamlError> {
        let skew = i64::try_from(self.settings.clock_skew.as_millis()).unwrap_or(i64::MAX);
        if assertion.version != "2.0" {
            return Err(SamlError::Unfit("the assertion has another version"));
        }
        if assertion.issue_instant.timestamp_millis() > now.0 + skew {
            return Err(SamlError::Unfit("the assertion is dated in the future"));
        }
        let conditions =
            assertion.conditions.as_ref().ok_or(SamlError::Unfit("the assertion has no conditions"))?;
        let end = conditions
            .not_on_or_after
            .ok_or(SamlError::Unfit("the conditions have no end"))?
            .timestamp_millis();
        if now.0 >= end + skew
            || conditions.not_before.is_some_and(|start| now.0 < start.timestamp_millis() - skew)
        {
            return Err(SamlError::Unfit("the conditions do not apply now"));
        }
        let audiences = conditions.audience_restrictions.as_deref().unwrap_or_default();
        let is_ours = |text: &String| *text == self.settings.entity_id;
        if audiences.is_empty()
            || !audiences.iter().all(|restriction| restriction.audience.iter().any(is_ours))
        {
            return Err(SamlError::Unfit("the assertion is for another audience"));
        }
        let subject = assertion.subject.as_ref().ok_or(SamlError::Unfit("the assertion has no subject"))?;
        self.confirmed(subject, now, skew)?;
        let name = subject.name_id.as_ref().filter(|name_id| is_name(&name_id.value));
        let name = name.ok_or(SamlError::Unfit("the subject has no name"))?;
        let statement = assertion.authn_statements.as_deref().unwrap_or_default().first();
        let statement =
            statement.ok_or(SamlError::Unfit("the assertion contains no authentication statement"))?;
        let session_end = statement.session_not_on_or_after.map(|end| end.timestamp_millis());
        if session_end.is_some_and(|end| now.0 >= end) {
            return Err(SamlError::Unfit("the session has expired"));
        }
        let at_most = session_end.and_then(|end| u64::try_from(end - now.0).ok()).map(Duration::from_millis);
        let federated = Federated {
            name_id: name.value.clone(),
            format: name.format.clone(),
            index: statement.session_index.clone(),
        };
        let newcomer = Newcomer {
            subject: name.value.clone(),
            rights: self.rights(assertion),
            saml: Some(federated),
            at_most,
        };
        Ok((newcomer, Timestamp(end.saturating_add(skew))))
    }

    /// Checks that the bearer of the assertion is confirmed as its subject. samael checks the same, less
    /// strictly.
    fn confirmed(
        &self,
        subject: &samael::schema::Subject,
        now: Timestamp,
        skew: i64,
    ) -> Result<(), SamlError> {
        let all = subject.subject_confirmations.as_deref().unwrap_or_default();
        let data = all.iter().filter_map(|confirmation| confirmation.subject_confirmation_data.as_ref());
        let mut fitting = data.filter(|data| {
            data.recipient.as_deref() == Some(self.acs().as_str())
                && data.not_on_or_after.is_some_and(|end| now.0 < end.timestamp_millis() + skew)
        });
        fitting.next().map(|_| ()).ok_or(SamlError::Unfit("the subject is not confirmed for us now"))
    }

    fn rights(&self, assertion: &Assertion) -> Rights {
        let statements = assertion.attribute_statements.iter().flatten();
        let attributes = statements.flat_map(|statement| &statement.attributes);
        let pairs: Vec<(&str, &str)> = attributes
            .flat_map(|attribute| {
                let names = [attribute.name.as_deref(), attribute.friendly_name.as_deref()];
                let values: Vec<&str> =
                    attribute.values.iter().filter_map(|value| value.value.as_deref()).collect();
                names
                    .into_iter()
                    .flatten()
                    .flat_map(move |name| values.clone().into_iter().map(move |value| (name, value)))
            })
            .collect();
        Rights::of(&self.settings.roles, pairs.iter().copied())
    }
}

/// Creates a samael instance with the keys of the identity provider, and nothing else from its metadata.
fn provider(settings: &Configured, base: &str, idp: &Idp) -> Result<ServiceProvider, String> {
    let metadata: EntityDescriptor =
        samael::metadata::de::from_str(&idp.bare()).map_err(|error| format!("metadata: {error}"))?;
    let provider = ServiceProviderBuilder::default()
        .entity_id(settings.entity_id.clone())
        .acs_url(format!("{base}/saml/acs"))
        .slo_url(format!("{base}/saml/logout"))
        .idp_metadata(metadata)
        .allow_idp_initiated(false)
        .allowed_signature_algorithms(vec![
            AllowedSignatureAlgorithm::RsaSha256,
            AllowedSignatureAlgorithm::RsaSha384,
            AllowedSignatureAlgorithm::RsaSha512,
            AllowedSignatureAlgorithm::EcdsaSha256,
            AllowedSignatureAlgorithm::EcdsaSha384,
        ])
        .build()
        .map_err(|error| error.to_string())?;
    // Without a key, samael would verify nothing.
    match provider.idp_signing_certs() {
        Ok(Some(keys)) if !keys.is_empty() => Ok(provider),
        _ => Err("the metadata of the identity provider has no signing key".to_owned()),
    }
}

/// Decodes the base64 text of a message.
fn decoded(encoded: &str) -> Result<String, SamlError> {
    if encoded.len() > MAX_MESSAGE {
        return Err(SamlError::Malformed("too large"));
    }
    let bare: String = encoded.chars().filter(|character| !character.is_ascii_whitespace()).collect();
    let bytes = STANDARD.decode(bare).map_err(|_| SamlError::Malformed("not base64"))?;
    String::from_utf8(bytes).map_err(|_| SamlError::Malformed("not UTF-8"))
}

fn is_name(text: &str) -> bool {
    (1..=512).contains(&text.chars().count())
        && !text.contains(|character: char| character.is_control())
        && text.trim() == text
}

/// Returns the scheme, host and port of an address.
fn url_origin(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    format!("{scheme}://{host}")
}

#[cfg(test)]
mod tests;
