//! Single sign-on: the console as a SAML 2.0 service provider.
//!
//! The only file that names samael, which verifies signatures through xmlsec. Its way of reading is lenient in places, so every response is first looked
//! at by a strict parser ([`outline`]), which settles that there is one assertion, which signatures there are, and what they cover. All signatures must
//! then verify against the keys of the identity provider's metadata, and only what was verified is read. Promised: no metadata without a signing key is
//! taken, so that verification is never skipped; a request counts once and for the browser that made it; an assertion counts once. Absent: encrypted
//! assertions, sign-on that the identity provider begins, and the artifact binding.

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

/// The largest message that is taken, in bytes of base64.
pub(super) const MAX_MESSAGE: usize = 256 * 1024;
/// How long somebody may take to sign in at the identity provider.
const LOGIN: Duration = Duration::from_secs(600);
/// How long the way from the response to the session may take.
const FINISH: Duration = Duration::from_secs(60);
/// The most who may be on their way at once.
const MOST: usize = 10_000;

/// Why somebody is not let in. It is logged, and not said to those who may be trying.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SamlError {
    /// It is no message as it should be.
    #[error("the message is not as it should be: {0}")]
    Malformed(&'static str),
    /// It is well-formed, and says something that does not go.
    #[error("the message does not count: {0}")]
    Unfit(&'static str),
    /// Its signature is not one of the identity provider's.
    #[error("a signature does not verify, or samael refuses what it covers: {0}")]
    Unverified(String),
    /// There is no memory for more of them at the moment.
    #[error("too many are signing in at the moment")]
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
    /// The service provider of the configuration, where there is to be one.
    ///
    /// # Errors
    ///
    /// When the metadata of the identity provider cannot be had, or has no signing key; or a key of ours cannot be used.
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

    /// Looks for new metadata, for ever. What cannot be used is logged, and the old stays.
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
                        "the metadata of the identity provider has changed and counts from now on"
                    );
                    *self.idp.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(idp);
                }
                Err(error) => {
                    tracing::error!(%error, "the metadata of the identity provider cannot be used; the old stays in force");
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

    /// The origin of the identity provider's page that ends sessions, where it has one.
    pub(super) fn logout_origin(&self) -> Option<String> {
        let url = url_origin(self.idp().logout.as_deref()?);
        Some(url)
    }

    /// The metadata that the identity provider is given.
    pub(super) fn metadata(&self) -> String {
        let certificate = self.key.as_ref().map(|key| key.certificate.as_str());
        message::metadata(&self.settings.entity_id, &self.acs(), &self.logout_url(), certificate)
    }

    /// Where a browser goes to sign in. `browser` is what its cookie holds.
    pub(super) fn login(&self, browser: &str, now: Instant) -> Option<String> {
        let idp = self.idp();
        let id = format!("_{}", super::session::random()?);
        self.requests.add(&id, browser, now);
        let request =
            message::authn_request(&id, &self.settings.entity_id, &self.acs(), &idp.login, Timestamp::now());
        message::redirect(&idp.login, "SAMLRequest", &request, None, self.key.as_ref())
    }

    /// Verifies the response of the identity provider. Gives the key under which the browser that asked for it is let in.
    ///
    /// It computes for milliseconds, on a thread where that keeps nobody.
    pub(super) fn accept(&self, encoded: &str, now: Timestamp, clock: Instant) -> Result<String, SamlError> {
        let idp = self.idp();
        let xml = decoded(encoded)?;
        let outline = Outline::of(&xml, self.settings.signatures)?;
        outline.fits(&idp.entity_id, &self.acs(), now, self.settings.clock_skew)?;
        let browser = self.requests.browser(&outline.in_response_to, clock);
        let browser = browser.ok_or(SamlError::Unfit("no request of ours has this id, or it is too old"))?;
        let assertion = self.verified(&xml, &outline, &idp)?;
        if assertion.id != outline.assertion {
            return Err(SamlError::Unfit("what was verified is another assertion"));
        }
        let (newcomer, end) = self.read(&assertion, now)?;
        // Of two who bring the same response at once, one finds the request gone.
        if !self.requests.take(&outline.in_response_to, clock) {
            return Err(SamlError::Unfit("the request was answered already"));
        }
        self.used.claim(&assertion.id, end, now)?;
        self.pending.add(newcomer, &browser, clock).ok_or(SamlError::Full)
    }

    /// The assertion, where all signatures verify. To samael a key of another kind than the signature's is an error and not a no, so that while an
    /// identity provider goes from RSA to elliptic curves, say, the kinds are tried one after the other.
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

    /// Whom a key lets in, once, where the browser is the one that asked.
    pub(super) fn finish(&self, key: &str, browser: &str, now: Instant) -> Option<Newcomer> {
        self.pending.take(key, browser, now)
    }

    /// What the verified assertion says, and until when it could be brought again.
    fn read(&self, assertion: &Assertion, now: Timestamp) -> Result<(Newcomer, Timestamp), SamlError> {
        let skew = i64::try_from(self.settings.clock_skew.as_millis()).unwrap_or(i64::MAX);
        if assertion.version != "2.0" {
            return Err(SamlError::Unfit("the assertion is of another version"));
        }
        if assertion.issue_instant.timestamp_millis() > now.0 + skew {
            return Err(SamlError::Unfit("the assertion is of the future"));
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
            return Err(SamlError::Unfit("the conditions do not hold now"));
        }
        let audiences = conditions.audience_restrictions.as_deref().unwrap_or_default();
        let is_ours = |text: &String| *text == self.settings.entity_id;
        if audiences.is_empty()
            || !audiences.iter().all(|restriction| restriction.audience.iter().any(is_ours))
        {
            return Err(SamlError::Unfit("the assertion is for others"));
        }
        let subject = assertion.subject.as_ref().ok_or(SamlError::Unfit("the assertion has no subject"))?;
        self.confirmed(subject, now, skew)?;
        let name = subject.name_id.as_ref().filter(|name_id| is_name(&name_id.value));
        let name = name.ok_or(SamlError::Unfit("the subject has no name"))?;
        let statement = assertion.authn_statements.as_deref().unwrap_or_default().first();
        let statement =
            statement.ok_or(SamlError::Unfit("the assertion does not say that somebody signed in"))?;
        let session_end = statement.session_not_on_or_after.map(|end| end.timestamp_millis());
        if session_end.is_some_and(|end| now.0 >= end) {
            return Err(SamlError::Unfit("the session is over"));
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

    /// Whether somebody confirms that the one who brings the assertion is its subject. samael asks the same, with more patience.
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
        fitting.next().map(|_| ()).ok_or(SamlError::Unfit("nobody confirms the subject for us and now"))
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

/// samael with the keys of the identity provider, and nothing else of its metadata.
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
    // Without one samael would verify nothing.
    match provider.idp_signing_certs() {
        Ok(Some(keys)) if !keys.is_empty() => Ok(provider),
        _ => Err("the metadata of the identity provider has no signing key".to_owned()),
    }
}

/// The text of a message in base64.
fn decoded(encoded: &str) -> Result<String, SamlError> {
    if encoded.len() > MAX_MESSAGE {
        return Err(SamlError::Malformed("it is too large"));
    }
    let bare: String = encoded.chars().filter(|character| !character.is_ascii_whitespace()).collect();
    let bytes = STANDARD.decode(bare).map_err(|_| SamlError::Malformed("it is no base64"))?;
    String::from_utf8(bytes).map_err(|_| SamlError::Malformed("it is no UTF-8"))
}

fn is_name(text: &str) -> bool {
    (1..=512).contains(&text.chars().count())
        && !text.contains(|character: char| character.is_control())
        && text.trim() == text
}

/// Scheme, host and port of an address.
fn url_origin(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    format!("{scheme}://{host}")
}

#[cfg(test)]
mod tests;
