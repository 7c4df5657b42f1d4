use super::*;
use crate::consent::StoreKey;

struct Files;

/// Says a question back, over and over.
struct Echo;

impl Answerer for Echo {
    fn answer(&self, question: Vec<u8>) -> Eventually<'_, Result<Vec<u8>, String>> {
        Box::pin(async move {
            match question.is_empty() {
                true => Err("nothing was asked".to_owned()),
                false => Ok(question.repeat(100_000)),
            }
        })
    }
}

impl Giver for Files {
    fn give(&self, folder: &Path) -> io::Result<()> {
        std::fs::create_dir(folder.join("consent"))?;
        std::fs::write(folder.join("store.key"), [7; 32])?;
        std::fs::write(folder.join("empty"), [])?;
        std::fs::write(folder.join("consent/00000001.journal"), vec![5; 3 * PART + 1])
    }
}

/// A relay of a cluster: its folder and its door.
async fn relay(authority: &Authority) -> (tempfile::TempDir, Arc<Invitations>, String) {
    let folder = tempfile::tempdir().unwrap();
    authority.write(folder.path()).unwrap();
    authority.certify_relay("one", folder.path()).unwrap();
    let weeks = Arc::new(Weeks::open(&folder.path().join("weeks"), &StoreKey::new([7; 32])).unwrap());
    weeks.take(&BTreeMap::from([(7, [1; 32]), (8, [2; 32])])).unwrap();
    let invitations = Arc::new(Invitations::default());
    let identity = Identity::load(folder.path()).unwrap();
    let anywhere = "127.0.0.1:0".parse().unwrap();
    let door =
        Door::open(anywhere, &identity, weeks, Arc::clone(&invitations), Arc::new(Files), Arc::new(Echo));
    let door = door.await.unwrap();
    let address = door.address().unwrap().to_string();
    tokio::spawn(door.serve());
    (folder, invitations, address)
}

fn member(authority: &Authority) -> (tempfile::TempDir, Identity) {
    let folder = tempfile::tempdir().unwrap();
    authority.write(folder.path()).unwrap();
    authority.certify_relay("two", folder.path()).unwrap();
    let identity = Identity::load(folder.path()).unwrap();
    (folder, identity)
}

#[tokio::test]
async fn relays_hand_each_other_the_keys_of_the_weeks_and_nobody_else() {
    let authority = Authority::fresh().unwrap();
    let (_folder, _, address) = relay(&authority).await;
    let (_other, identity) = member(&authority);
    let known = weeks(&address, &identity).await.unwrap();
    assert_eq!(known, BTreeMap::from([(7, [1; 32]), (8, [2; 32])]));
    // A relay of another cluster is neither believed nor believes.
    let (_stranger, identity) = member(&Authority::fresh().unwrap());
    assert!(matches!(weeks(&address, &identity).await, Err(PeerError::Io { .. })));
    // Who has no certificate gets no keys.
    let connector = TlsConnector::from(Arc::new(authority::pinned(authority.hash().unwrap()).unwrap()));
    let (answer, _) = asked(&address, &connector, vec![ASKS_WEEKS]).await.unwrap();
    assert!(matches!(answer, Frame::Refused(why) if why.contains("only relays")));
}

#[tokio::test]
async fn relays_answer_each_other_and_nobody_else() {
    let authority = Authority::fresh().unwrap();
    let (_folder, _, address) = relay(&authority).await;
    let (_other, identity) = member(&authority);
    let answer = question(&address, &identity, b"who told ann?", CONNECTS).await.unwrap();
    assert_eq!(answer, b"who told ann?".repeat(100_000));
    let refused = question(&address, &identity, b"", CONNECTS).await;
    assert!(matches!(refused, Err(PeerError::Refused { why, .. }) if why == "nothing was asked"));
    let (_stranger, identity) = member(&Authority::fresh().unwrap());
    assert!(matches!(question(&address, &identity, b"x", CONNECTS).await, Err(PeerError::Io { .. })));
    let connector = TlsConnector::from(Arc::new(authority::pinned(authority.hash().unwrap()).unwrap()));
    let (answer, _) = asked(&address, &connector, vec![ASKS_QUESTION, b'x']).await.unwrap();
    assert!(matches!(answer, Frame::Refused(why) if why.contains("only relays")));
}

#[tokio::test]
async fn a_relay_that_stands_still_is_named_as_silent_soon() {
    let (_folder, identity) = member(&Authority::fresh().unwrap());
    // The system accepts the connection, and nobody speaks.
    let still = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = still.local_addr().unwrap().to_string();
    let brief = Duration::from_millis(50);
    let asked = question(&address, &identity, b"x", brief).await;
    assert!(matches!(asked, Err(PeerError::Silent { after, .. }) if after == brief));
}

#[tokio::test]
async fn an_invitation_brings_every_file_and_holds_once() {
    let authority = Authority::fresh().unwrap();
    let (_folder, invitations, address) = relay(&authority).await;
    let invitation = invitations.make(&address, authority.hash().unwrap()).unwrap();
    let text = invitation.to_string();
    assert_eq!(text.parse(), Ok(invitation.clone()));
    assert!(
        text[..text.len() - 20].parse::<Invitation>().is_err()
            && "pwj2.a.b.c:1".parse::<Invitation>().is_err()
    );

    let wrong = Invitation { secret: [0; 16], ..invitation.clone() };
    let into = tempfile::tempdir().unwrap();
    assert!(matches!(join(&wrong, into.path()).await, Err(PeerError::Refused { .. })));
    let elsewhere = Invitation { authority: [0; 32], ..invitation.clone() };
    assert!(matches!(join(&elsewhere, into.path()).await, Err(PeerError::Io { .. })));

    join(&invitation, into.path()).await.unwrap();
    assert_eq!(std::fs::read(into.path().join("store.key")).unwrap(), [7; 32]);
    assert!(std::fs::read(into.path().join("empty")).unwrap().is_empty());
    assert_eq!(std::fs::read(into.path().join("consent/00000001.journal")).unwrap(), vec![5; 3 * PART + 1]);
    use std::os::unix::fs::PermissionsExt;
    let mode = |name: &str| std::fs::metadata(into.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("store.key"), mode("consent")), (0o600, 0o700));
    let again = tempfile::tempdir().unwrap();
    assert!(matches!(join(&invitation, again.path()).await, Err(PeerError::Refused { .. })));
}

#[test]
fn a_name_of_a_file_leads_nowhere_else() {
    let folder = Path::new("/data");
    assert_eq!(within(folder, "consent/1.journal"), Some(PathBuf::from("/data/consent/1.journal")));
    for name in ["", "/etc/passwd", "../up", "consent/../../up", "."] {
        assert_eq!(within(folder, name), None, "{name}");
    }
}
