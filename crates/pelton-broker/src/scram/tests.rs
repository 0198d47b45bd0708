//! Known exchanges, and that nothing else gets in.

use proptest::prelude::*;

use super::*;

fn iterations(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap()
}

/// The client's side, for the tests.
fn proof(hash: Hash, password: &str, challenge: &str, bare: &str, header: &str) -> String {
    let mut parts = challenge.split(',').map(|part| &part[2..]);
    let (nonce, salt, count) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let salt = BASE64.decode(salt).unwrap();
    let salted = hash.salted(password.as_bytes(), &salt, count.parse().unwrap());
    let client_key = hash.sign(&salted, b"Client Key");
    let stored_key = hash.digest(client_key.as_ref());
    let unproven = format!("c={},r={nonce}", BASE64.encode(header));
    let signed = format!("{bare},{challenge},{unproven}");
    let signature = hash.sign(stored_key.as_ref(), signed.as_bytes());
    let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
    format!("{unproven},p={}", BASE64.encode(proof))
}

#[test]
fn the_exchange_of_rfc_7677_is_answered_as_printed_there() {
    let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let credential = Credential::of_password(Hash::Sha256, "pencil", &salt, iterations(4096));
    let first = ClientFirst::parse(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
    assert_eq!(first.user, "user");
    let nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let (exchange, challenge) = Exchange::begin(Hash::Sha256, &first, credential, nonce);
    assert_eq!(
        challenge,
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    assert_eq!(exchange.finish(last).unwrap(), "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn the_keys_of_a_password_are_those_that_kafka_stores() {
    // Made by Apache Kafka 4.3.1: `kafka-storage format --add-scram SCRAM-SHA-256=[name=alice,password=alice-secret]`.
    let credential =
        Credential::of_password(Hash::Sha256, "alice-secret", b"npq5a9m7zri6l30xja2f86ioa", iterations(4096));
    assert_eq!(credential.stored_key[..10], [239, 71, 79, 32, 122, 32, 100, 195, 58, 21]);
    assert_eq!(credential.server_key[..10], [230, 250, 16, 21, 66, 0, 109, 200, 86, 31]);
    let credential =
        Credential::of_password(Hash::Sha512, "alice-secret", b"ndrxonnym9r0dr72f8hfnps38", iterations(4096));
    assert_eq!(credential.stored_key[..10], [187, 59, 208, 135, 202, 212, 7, 90, 219, 149]);
}

#[test]
fn names_with_commas_and_equals_signs_are_unescaped_and_others_refused() {
    let user = |message: &str| ClientFirst::parse(message.as_bytes()).map(|first| first.user);
    assert_eq!(user("n,,n=a=2Cb=3Dc,r=x").as_deref(), Ok("a,b=c"));
    assert_eq!(user("y,a=u,n=u,r=x,e=more").as_deref(), Ok("u"));
    let refused = [
        "",
        "n",
        "n,",
        "n,,",
        "n,,n=u",
        "n,,n=,r=x",
        "n,,n=u,r=",
        "n,,n=u=41,r=x",
        "n,,n=u=2,r=x",
        "n,,m=x,n=u,r=x",
        "p=tls-unique,,n=u,r=x",
        "n,a=other,n=u,r=x",
        "n,b,n=u,r=x",
        "n,,r=x,n=u",
        "n,,n=u,r=a b",
    ];
    for message in refused {
        assert!(user(message).is_err(), "{message:?}");
    }
}

#[test]
fn a_credential_survives_the_journal_and_shows_no_key() {
    let credential = Credential::of_password(Hash::Sha512, "secret", b"salt", iterations(4096));
    let stored = serde_json::to_string(&credential).unwrap();
    assert_eq!(serde_json::from_str::<Credential>(&stored).unwrap(), credential);
    assert!(credential.fits(Hash::Sha512, "secret") && !credential.fits(Hash::Sha512, "secre"));
    assert_eq!(format!("{credential:?}"), "Credential(4096 iterations)");
}

#[test]
fn a_user_that_does_not_exist_looks_like_one_and_has_no_password() {
    let decoy = |user| Credential::decoy(Hash::Sha256, b"of this process", user);
    assert_eq!(decoy("a"), decoy("a"));
    assert_ne!(decoy("a").salt, decoy("b").salt);
    assert!(!decoy("a").fits(Hash::Sha256, ""));
}

fn started(hash: Hash, password: &str) -> (Exchange, String) {
    let credential = Credential::of_password(hash, password, b"salt", iterations(1));
    let first = ClientFirst::parse(b"n,,n=u,r=client").unwrap();
    Exchange::begin(hash, &first, credential, "server")
}

proptest! {
    #[test]
    fn only_the_right_password_gets_in(password in "\\PC{0,12}", other in "\\PC{0,12}", wide: bool) {
        let hash = if wide { Hash::Sha512 } else { Hash::Sha256 };
        let (exchange, challenge) = started(hash, &password);
        let given = proof(hash, &other, &challenge, "n=u,r=client", "n,,");
        prop_assert_eq!(exchange.finish(given.as_bytes()).is_ok(), password == other);
    }

    #[test]
    fn a_proof_with_any_other_byte_is_refused(at: prop::sample::Index, change in 1..=u8::MAX) {
        let (exchange, challenge) = started(Hash::Sha256, "pencil");
        let good = proof(Hash::Sha256, "pencil", &challenge, "n=u,r=client", "n,,");
        let mut bytes = good.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        prop_assert!(exchange.finish(&bytes).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic_or_let_anybody_in(bytes: Vec<u8>, text in "[nyp=a-c,]{0,40}", last in "c=biws,r=clientserver,p=[A-Za-z0-9+/]{0,60}={0,2}") {
        for message in [&bytes[..], text.as_bytes()] {
            let _ = ClientFirst::parse(message);
            prop_assert!(started(Hash::Sha256, "pencil").0.finish(message).is_err());
        }
        prop_assert!(started(Hash::Sha256, "pencil").0.finish(last.as_bytes()).is_err());
    }
}
