use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as URL};
use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::json;

use super::*;

const NOW: u64 = 1_795_219_200;

/// Keys of all kinds, and what an issuer shows of them.
struct Issuer {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

impl Issuer {
    fn new() -> Issuer {
        let account: Value = serde_json::from_str(include_str!("../../provider/cases/service-account.json")).unwrap();
        let pem: String =
            account["private_key"].as_str().unwrap().lines().filter(|line| !line.starts_with('-')).collect();
        let random = SystemRandom::new();
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Issuer {
            rsa: RsaKeyPair::from_pkcs8(&BASE64_STANDARD.decode(pem).unwrap()).unwrap(),
            ec: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref(), &random).unwrap(),
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
        }
    }

    fn jwks(&self) -> Value {
        let RsaPublicKeyComponents { n, e } = RsaPublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        let point = self.ec.public_key().as_ref();
        json!({"keys": [
            {"kty": "RSA", "kid": "r", "use": "sig", "n": URL.encode(n), "e": URL.encode(e)},
            {"kty": "EC", "kid": "e", "crv": "P-256", "alg": "ES256", "x": URL.encode(&point[1..33]), "y": URL.encode(&point[33..])},
            {"kty": "OKP", "kid": "d", "crv": "Ed25519", "x": URL.encode(self.ed.public_key())},
            {"kty": "oct", "kid": "s", "k": "c2VjcmV0"},
            {"kty": "RSA", "kid": "x", "use": "enc", "n": "AQAB", "e": "AQAB"},
            {"kty": "EC", "kid": "b", "crv": "P-256", "x": "AA", "y": "AA"},
            7,
        ]})
    }

    fn keys(&self) -> Keyring {
        Keyring::parse(self.jwks().to_string().as_bytes()).unwrap()
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", URL.encode(header.to_string()), URL.encode(claims.to_string()));
        let random = SystemRandom::new();
        let rsa = |padding: &'static dyn ring::signature::RsaEncoding| {
            let mut signature = vec![0; self.rsa.public().modulus_len()];
            self.rsa.sign(padding, &random, signed.as_bytes(), &mut signature).unwrap();
            signature
        };
        let signature = match header["alg"].as_str().unwrap() {
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "PS256" => rsa(&RSA_PSS_SHA256),
            "ES256" => self.ec.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
            "EdDSA" => self.ed.sign(signed.as_bytes()).as_ref().to_vec(),
            _ => Vec::new(),
        };
        format!("{signed}.{}", URL.encode(signature))
    }
}

fn rules() -> Rules {
    Rules {
        issuer: "https://login.example.com".into(),
        audiences: vec!["portolan".into(), "other".into()],
        algorithms: vec![Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa],
        skew: 60,
    }
}

fn claims() -> Value {
    json!({"iss": "https://login.example.com", "sub": "ann", "aud": "portolan", "exp": NOW + 300, "iat": NOW,
        "groups": ["a", "b"], "realm_access": {"team": "search"}})
}

fn verified(token: &str, keys: &Keyring) -> Result<Claims, Flaw> {
    Token::read(token)?.verify(&rules(), keys, NOW)
}

#[test]
fn tokens_of_all_kinds_of_keys_are_believed() {
    let issuer = Issuer::new();
    for (algorithm, key) in [("RS256", "r"), ("PS256", "r"), ("ES256", "e"), ("EdDSA", "d")] {
        for header in [json!({"alg": algorithm, "kid": key, "typ": "at+jwt"}), json!({"alg": algorithm})] {
            let claims = verified(&issuer.sign(&header, &claims()), &issuer.keys()).unwrap();
            assert_eq!((claims.sub.as_deref(), claims.expires()), (Some("ann"), Some(NOW + 300)));
            assert_eq!(claims.texts("groups"), ["a", "b"]);
            assert_eq!((claims.texts("realm_access.team"), claims.texts("sub")), (vec!["search"], vec!["ann"]));
            assert!(claims.texts("none.such").is_empty());
        }
    }
}

#[test]
fn no_algorithm_is_chosen_by_who_forges() {
    let issuer = Issuer::new();
    let keys = issuer.keys();
    // RFC 8725 section 2.1: none at all, and the public key taken for a secret.
    for alg in ["none", "None", "HS256", "HS512", "RS1", ""] {
        for kid in ["r", "s"] {
            let token = issuer.sign(&json!({"alg": alg, "kid": kid}), &claims());
            assert_eq!(verified(&token, &keys).unwrap_err(), Flaw::Algorithm, "{alg}");
        }
    }
    let jwks = issuer.jwks();
    let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, jwks["keys"][0]["n"].as_str().unwrap().as_bytes());
    let signed = format!("{}.{}", URL.encode(r#"{"alg":"HS256","kid":"r"}"#), URL.encode(claims().to_string()));
    let forged = format!("{signed}.{}", URL.encode(ring::hmac::sign(&secret, signed.as_bytes())));
    assert_eq!(verified(&forged, &keys).unwrap_err(), Flaw::Algorithm);
    // A key is for the algorithms of its kind, and for the one that it names.
    for (alg, kid) in [("ES256", "r"), ("RS256", "e"), ("EdDSA", "e"), ("RS256", "d")] {
        assert_eq!(
            verified(&issuer.sign(&json!({"alg": alg, "kid": kid}), &claims()), &keys).unwrap_err(),
            Flaw::Signature
        );
    }
    let only = Rules { algorithms: vec![Algorithm::Es256], ..rules() };
    let token = issuer.sign(&json!({"alg": "RS256", "kid": "r"}), &claims());
    assert_eq!(Token::read(&token).unwrap().verify(&only, &keys, NOW).unwrap_err(), Flaw::Algorithm);
}

#[test]
fn what_was_changed_or_is_signed_by_others_is_not_believed() {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let keys = issuer.keys();
    let foreign = other.sign(&json!({"alg": "ES256", "kid": "e"}), &claims());
    assert_eq!(verified(&foreign, &keys).unwrap_err(), Flaw::Signature);
    let rotated = issuer.sign(&json!({"alg": "ES256", "kid": "e2"}), &claims());
    assert_eq!(verified(&rotated, &keys).unwrap_err(), Flaw::UnknownKey);
    let token = issuer.sign(&json!({"alg": "ES256", "kid": "e"}), &claims());
    let parts: Vec<&str> = token.split('.').collect();
    let mut changed = claims();
    changed["sub"] = json!("root");
    let changed = format!("{}.{}.{}", parts[0], URL.encode(changed.to_string()), parts[2]);
    assert_eq!(verified(&changed, &keys).unwrap_err(), Flaw::Signature);
    let unsigned = format!("{}.{}.", parts[0], parts[1]);
    assert_eq!(verified(&unsigned, &keys).unwrap_err(), Flaw::Signature);
    let critical = issuer.sign(&json!({"alg": "ES256", "kid": "e", "crit": ["exp"]}), &claims());
    let logout = issuer.sign(&json!({"alg": "ES256", "kid": "e", "typ": "logout+jwt"}), &claims());
    let long = format!("{}.{}.x", parts[0], "A".repeat(LONGEST));
    for token in [&critical, &logout, &long, "", ".", "..", "a.b", "a.b.c.d", "eyJ.eyJ.eyJ"] {
        assert_eq!(verified(token, &keys).unwrap_err(), Flaw::Malformed, "{token}");
    }
}

#[test]
fn claims_hold_here_and_now_or_not() {
    let issuer = Issuer::new();
    let keys = issuer.keys();
    for (name, value, flaw) in [
        ("iss", json!("https://login.example.com/"), Some(Flaw::Issuer)),
        ("iss", Value::Null, Some(Flaw::Issuer)),
        ("aud", json!("portolan2"), Some(Flaw::Audience)),
        ("aud", json!([]), Some(Flaw::Audience)),
        ("aud", Value::Null, Some(Flaw::Audience)),
        ("aud", json!(["x", "other"]), None),
        ("sub", json!(""), Some(Flaw::Incomplete)),
        ("sub", json!("x".repeat(256)), Some(Flaw::Incomplete)),
        ("exp", Value::Null, Some(Flaw::Incomplete)),
        ("exp", json!(-1), Some(Flaw::Incomplete)),
        ("exp", json!(NOW - 59), None),
        ("exp", json!(NOW - 60), Some(Flaw::Expired)),
        ("nbf", json!(NOW + 60), None),
        ("nbf", json!(NOW + 61), Some(Flaw::NotYet)),
        ("iat", json!(NOW + 61), Some(Flaw::NotYet)),
        ("iat", json!(NOW as f64 + 0.5), None),
    ] {
        let mut claims = claims();
        claims[name] = value.clone();
        let token = issuer.sign(&json!({"alg": "EdDSA", "kid": "d"}), &claims);
        assert_eq!(verified(&token, &keys).err(), flaw, "{name} {value}");
    }
}

#[test]
fn an_introspection_is_read() {
    let active = |json: &Value| Claims::introspected(json.to_string().as_bytes(), NOW + 5);
    let claims = active(&json!({"active": true, "sub": "ann", "aud": "portolan", "exp": NOW + 9})).unwrap();
    assert_eq!((claims.hold(&rules(), NOW), claims.expires()), (Ok(()), Some(NOW + 5)), "as long as it is asked anew");
    for other in [json!({"active": false, "sub": "ann"}), json!({"sub": "ann"}), json!({"active": "true"}), json!(7)] {
        assert!(active(&other).is_none(), "{other}");
    }
}

#[test]
fn keys_that_verify_nothing_are_no_keys() {
    for json in [
        r#"{"keys":[]}"#,
        r#"{"keys":[{"kty":"oct","k":"AA"}]}"#,
        "[]",
        "",
        r#"{"keys":[{"kty":"RSA","alg":"RS1","n":"AQ","e":"AQ"}]}"#,
    ] {
        assert!(Keyring::parse(json.as_bytes()).is_err(), "{json}");
    }
}

proptest! {
    #[test]
    fn any_text_is_survived(text in "[A-Za-z0-9._-]{0,80}", head in 0usize..3) {
        let begin = ["", "eyJhbGciOiJFUzI1NiJ9.", "eyJhbGciOiJFUzI1NiJ9.e30."][head];
        let token = format!("{begin}{text}");
        prop_assert!(verified(&token, &Keyring::default()).is_err());
    }
}
