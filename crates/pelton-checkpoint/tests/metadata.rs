//! The text beside every committed offset.

use pelton_checkpoint::{Stamp, StampError, StatePointer, Token};
use proptest::prelude::*;

fn token() -> impl Strategy<Value = Token> {
    "[A-Za-z0-9_.:/,-]{0,40}".prop_map(|text| Token::new(text).expect("the pattern gives tokens only"))
}

fn any_stamp() -> impl Strategy<Value = Stamp> {
    (token(), any::<u32>(), any::<u64>(), token(), token(), token()).prop_map(
        |(uuid, generation, epoch, base, delta, hash)| Stamp {
            uuid,
            generation,
            epoch,
            state: StatePointer { base, delta, hash },
        },
    )
}

proptest! {
    #[test]
    fn every_stamp_comes_back_from_its_text(stamp in any_stamp()) {
        prop_assert_eq!(Stamp::parse(&stamp.encode()), Ok(stamp));
    }

    #[test]
    fn no_text_makes_parsing_panic_and_what_parses_is_its_own_text(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let text = String::from_utf8_lossy(&bytes);
        for text in [text.to_string(), format!("p1;{text}"), with_checksum(&format!("p1;{text}"))] {
            if let Ok(stamp) = Stamp::parse(&text) {
                prop_assert_eq!(stamp.encode(), text);
            }
        }
    }

    #[test]
    fn a_text_with_a_right_checksum_is_still_read_field_by_field(
        fields in prop::collection::vec("[ugebdhx]=[0-9a-f]{0,3}|[ugebdh]", 0..8),
    ) {
        let text = with_checksum(&format!("p1;{}", fields.join(";")));
        if let Ok(stamp) = Stamp::parse(&text) {
            prop_assert_eq!(stamp.encode(), text);
        }
    }

    #[test]
    fn a_text_changed_in_one_byte_is_refused(stamp in any_stamp(), at in any::<prop::sample::Index>(), byte in 32_u8..127) {
        let mut text = stamp.encode().into_bytes();
        let at = at.index(text.len());
        prop_assume!(text[at] != byte);
        text[at] = byte;
        let text = String::from_utf8(text).unwrap();
        prop_assert!(Stamp::parse(&text).is_err(), "{}", text);
    }

    #[test]
    fn a_text_cut_short_is_refused(stamp in any_stamp(), at in any::<prop::sample::Index>()) {
        let text = stamp.encode();
        prop_assert!(Stamp::parse(&text[..at.index(text.len())]).is_err());
    }
}

fn with_checksum(body: &str) -> String {
    format!("{body};c={:08x}", crc32c::crc32c(body.as_bytes()))
}

#[test]
fn the_text_is_the_one_other_versions_read() {
    let stamp = Stamp {
        uuid: Token::new("0d9c").unwrap(),
        generation: 1,
        epoch: 7,
        state: StatePointer {
            base: Token::new("base-3").unwrap(),
            delta: Token::new("0:41").unwrap(),
            hash: Token::new("9f").unwrap(),
        },
    };
    assert_eq!(stamp.encode(), "p1;u=0d9c;g=1;e=7;b=base-3;d=0:41;h=9f;c=590853f6");
}

#[test]
fn each_mistake_has_its_error() {
    let parse = |body: &str| Stamp::parse(&with_checksum(body)).unwrap_err();
    assert_eq!(Stamp::parse("").unwrap_err(), StampError::Foreign);
    assert_eq!(Stamp::parse("consumer lag tool").unwrap_err(), StampError::Foreign);
    assert_eq!(Stamp::parse("p1").unwrap_err(), StampError::Foreign);
    let newer = Stamp::parse("p2;anything;c=00000000").unwrap_err();
    assert_eq!(newer, StampError::Newer { format: "p2".into() });
    assert!(newer.to_string().contains("newer version of pelton"), "{newer}");
    assert_eq!(Stamp::parse("p0;u=a").unwrap_err(), StampError::Foreign);
    assert_eq!(Stamp::parse("p1;u=a").unwrap_err(), StampError::Field { name: "c" });
    assert!(matches!(Stamp::parse("p1;u=a;c=00000000").unwrap_err(), StampError::Checksum { .. }));
    assert_eq!(parse("p1;g=1;u=a;e=1;b=;d=;h="), StampError::Field { name: "u" });
    assert_eq!(parse("p1;u=a;g=1;e=1;b=;d="), StampError::Field { name: "h" });
    assert_eq!(parse("p1;u=a;g=01;e=1;b=;d=;h="), StampError::Number { name: "g" });
    assert_eq!(parse("p1;u=a;g=+1;e=1;b=;d=;h="), StampError::Number { name: "g" });
    assert_eq!(parse("p1;u=a;g=4294967296;e=1;b=;d=;h="), StampError::Number { name: "g" });
    assert_eq!(parse("p1;u=a;g=1;e=1;b=;d=;h=;x=1"), StampError::Trailing);
    assert_eq!(parse("p1;u=ä;g=1;e=1;b=;d=;h="), StampError::TokenByte { at: 0 });
    assert_eq!(Token::new("x".repeat(1025)).unwrap_err(), StampError::TokenTooLong { bytes: 1025 });
    let long = format!("p1;{}", "x".repeat(5000));
    assert_eq!(Stamp::parse(&long).unwrap_err(), StampError::TooLong { bytes: 5003 });
}

#[test]
fn the_longest_stamp_fits_into_what_a_broker_takes_by_default() {
    let longest = Token::new("x".repeat(1024)).unwrap();
    let state = StatePointer { base: longest.clone(), delta: longest.clone(), hash: longest };
    let uuid = Token::new("0".repeat(36)).unwrap();
    let stamp = Stamp { uuid, generation: u32::MAX, epoch: u64::MAX, state };
    assert!(stamp.encode().len() < 4096);
    assert_eq!(Stamp::parse(&stamp.encode()), Ok(stamp));
}
