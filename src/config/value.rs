//! The small notations of the file: durations, sizes, amounts, addresses. Each has one reader, used by the check that
//! collects every mistake and by the typed value that comes after it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use jiff::tz::TimeZone;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};

use crate::policy::price::cost_decimal;
use crate::wire::json::clip;

/// Checks one notation; the error is a sentence that says how to write it.
pub type Reader = fn(&str) -> Result<(), String>;

/// The reader of text that a schema marks with a `format`.
pub fn format(name: &str) -> Option<Reader> {
    Some(match name {
        "portolan-duration" => |text| duration(text).map(drop),
        "portolan-size" => |text| size(text).map(drop),
        "portolan-decimal" => |text| nano(text).map(drop),
        "portolan-address" => |text| address(text).map(drop),
        "portolan-moment" => |text| moment(text).map(drop),
        "portolan-sha256" => |text| sha256(text).map(drop),
        "portolan-amount" => |text| amount(text).map(drop),
        "portolan-zone" => |text| zone(text).map(drop),
        _ => return None,
    })
}

macro_rules! notation {
    ($(#[$doc:meta])* $name:ident($type:ty), $read:ident, $write:expr, $schema:tt) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub $type);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Written::deserialize(deserializer)?;
                $read(&text.0).map($name).map_err(D::Error::custom)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let write: fn($type) -> String = $write;
                serializer.serialize_str(&write(self.0))
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

notation!(
    /// `500ms`, `5s`, `2m`, `1h`, `30d`.
    Span(Duration), duration, |time| format!("{}ms", time.as_millis()), {
        "type": "string", "format": "portolan-duration", "pattern": "^[0-9]+(ms|s|m|h|d)$",
        "description": "A duration: 500ms, 5s, 2m, 1h, 30d."
    }
);
notation!(
    /// Bytes: `1048576`, `512KiB`, `50MiB`.
    Size(usize), size, |bytes| bytes.to_string(), {
        "type": ["integer", "string"], "minimum": 0, "format": "portolan-size", "pattern": "^[0-9]+ ?(B|KB|KiB|MB|MiB|GB|GiB)$",
        "description": "Bytes: 1048576, 512KiB, 50MiB."
    }
);
notation!(
    /// A decimal amount, in billionths; read digit by digit, never through a float.
    Decimal(u64), nano, cost_decimal, {
        "type": ["number", "string"], "minimum": 0, "format": "portolan-decimal", "pattern": "^[0-9]{1,9}(\\.[0-9]{1,9})?$",
        "description": "A decimal amount with up to nine digits after the point: 0.15 or \"0.15\"."
    }
);
notation!(
    /// A number or an amount of money, in billionths.
    Amount(u128), amount, amount_text, {
        "type": ["number", "string"], "minimum": 0, "format": "portolan-amount", "pattern": "^[0-9]{1,15}(\\.[0-9]{1,9})?$",
        "description": "A number, with up to nine digits after the point where it is of money: 60, 2.50 or \"2.50\"."
    }
);
notation!(
    /// `127.0.0.1:8080`, `[::1]:8080`.
    Address(SocketAddr), address, |address| address.to_string(), {
        "type": "string", "format": "portolan-address",
        "description": "An IP address and a port: 127.0.0.1:8080, 0.0.0.0:8080, [::1]:8080."
    }
);
notation!(
    /// Unix seconds of `2026-12-31` (its first moment, UTC) or `2026-12-31T12:00:00Z`.
    Moment(u64), moment, instant, {
        "type": "string", "format": "portolan-moment",
        "description": "A date (its first moment, UTC) or a date with time and zone: 2026-12-31, 2026-12-31T12:00:00Z."
    }
);
notation!(
    /// 64 hex digits.
    Sha256([u8; 32]), sha256, |digest| super::hex(&digest), {
        "type": "string", "format": "portolan-sha256", "pattern": "^[0-9a-fA-F]{64}$",
        "description": "SHA-256 as 64 hex digits."
    }
);

/// Text, or a whole number as it was written.
struct Written(String);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Written(text)),
            serde_json::Value::Number(number) => Ok(Written(number.to_string())),
            _ => Err(D::Error::custom("expected text or a number")),
        }
    }
}

/// Longest duration: a year. Keeps sums of deadlines far from overflow.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a duration such as 500ms, 5s, 2m, 1h or 30d".to_owned();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "d" => number.checked_mul(86_400_000),
        _ => return Err(wrong()),
    };
    millis.map(Duration::from_millis).filter(|span| *span <= LONGEST).ok_or_else(|| "write less than a year".to_owned())
}

fn size(text: &str) -> Result<usize, String> {
    let wrong = || "write bytes such as 1048576, 512KiB or 50MiB".to_owned();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let number: usize = number.parse().map_err(|_| wrong())?;
    let factor = match unit.trim_start() {
        "" | "B" => 1,
        "KB" => 1000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).filter(|bytes| *bytes <= 1 << 40).ok_or_else(|| "write at most 1024GiB".to_owned())
}

/// Billionths of a decimal.
fn nano(text: &str) -> Result<u64, String> {
    let wrong = || "write a decimal amount such as 0.15 or 3, at most nine digits on each side of the point".to_owned();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let fits = |part: &str| (1..=9).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    if !fits(whole) || !fits(fraction) {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let nanos: u64 = format!("{fraction:0<9}").parse().map_err(|_| wrong())?;
    whole.checked_mul(1_000_000_000).and_then(|whole| whole.checked_add(nanos)).ok_or_else(wrong)
}

/// Billionths of an amount.
fn amount(text: &str) -> Result<u128, String> {
    let wrong = || "write a number such as 60 or 2.50, at most 15 digits before the point and nine after it".to_owned();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let fits = |part: &str, most| (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    if !fits(whole, 15) || !fits(fraction, 9) {
        return Err(wrong());
    }
    format!("{whole}{fraction:0<9}").parse().map_err(|_| wrong())
}

/// As [`amount`] reads it.
fn amount_text(amount: u128) -> String {
    let (whole, part) = (amount / 1_000_000_000, amount % 1_000_000_000);
    if part == 0 { whole.to_string() } else { format!("{whole}.{part:09}").trim_end_matches('0').to_owned() }
}

/// A time zone by its name in the system's data, such as `Europe/Berlin`.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    // Known without the system's data.
    if name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'/');
    let sound = (1..=64).contains(&name.len()) && name.bytes().all(known);
    let found = if sound { TimeZone::get(name).ok() } else { None };
    found.ok_or_else(|| {
        format!("this system knows no zone `{}`: write one such as Europe/Berlin, or UTC", clip(name, 64))
    })
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write an IP address and a port, such as 127.0.0.1:8080 or 0.0.0.0:8080".to_owned())
}

fn moment(text: &str) -> Result<u64, String> {
    let wrong = || "write a date such as 2026-12-31 or 2026-12-31T12:00:00Z".to_owned();
    let stamp = match text.parse::<jiff::civil::Date>() {
        Ok(date) if !text.contains(['T', 't', ' ']) => {
            date.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| wrong())?.timestamp()
        }
        _ => text.parse::<jiff::Timestamp>().map_err(|_| wrong())?,
    };
    u64::try_from(stamp.as_second()).map_err(|_| wrong())
}

/// As [`moment`] reads it.
fn instant(seconds: u64) -> String {
    let stamp = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    stamp.unwrap_or(jiff::Timestamp::MAX).to_string()
}

fn sha256(text: &str) -> Result<[u8; 32], String> {
    let wrong = || "write the SHA-256 of the key as 64 hex digits; `portolan keys new` prints one".to_owned();
    let mut digest = [0; 32];
    if text.len() != 64 {
        return Err(wrong());
    }
    let mut digits = text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()));
    for byte in &mut digest {
        match (digits.next().flatten(), digits.next().flatten()) {
            (Some(high), Some(low)) => *byte = high << 4 | low,
            _ => return Err(wrong()),
        }
    }
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "5", "s", "5 s", "-5s", "1.5s", "99999999999999999999s", "9000h", "5é"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!((size("50MiB"), size("7"), size("1 KB")), (Ok(50 << 20), Ok(7), Ok(1000)));
        for text in ["", "MiB", "-1", "1.5MiB", "5TB", "99999999999GiB", "é"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn amounts_are_exact() {
        assert_eq!(nano("0.1"), Ok(100_000_000));
        assert_eq!(nano("7.12"), Ok(7_120_000_000));
        assert_eq!(nano("0.000000001"), Ok(1));
        assert_eq!(nano("3"), Ok(3_000_000_000));
        assert_eq!(nano("123456789.987654321"), Ok(123_456_789_987_654_321));
        for text in ["", ".5", "5.", "-1", "+1", "1e-6", "0.0000000001", "1234567890", "1,5", ".inf", "٣"] {
            assert!(nano(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        fn round<T: Serialize + for<'de> Deserialize<'de> + PartialEq + std::fmt::Debug>(value: T) {
            let text = serde_json::to_string(&value).unwrap();
            assert_eq!(serde_json::from_str::<T>(&text).unwrap(), value, "{text}");
        }
        round(Span(Duration::from_millis(1_500)));
        round(Size(50 << 20));
        round(Decimal(7_120_000_001));
        round(Amount(123_456_789_012_345_000_000_001));
        round(Amount(60_000_000_000));
        round(Address("[::1]:80".parse().unwrap()));
        round(Moment(1_795_219_201));
        round(Sha256([0xa7; 32]));
    }

    #[test]
    fn larger_amounts_and_zones() {
        assert_eq!(amount("60"), Ok(60_000_000_000));
        assert_eq!(amount("999999999999999.5"), Ok(999_999_999_999_999_500_000_000));
        for text in ["", ".5", "5.", "-1", "1e3", "1234567890123456", "0.0000000001"] {
            assert!(amount(text).is_err(), "{text}");
        }
        assert!(zone("UTC").is_ok());
        for text in ["", "Nowhere/There", "../../etc/passwd", "Europe/Berlin\u{e9}"] {
            assert!(zone(text).is_err(), "{text}");
        }
    }

    #[test]
    fn moments_and_digests() {
        assert_eq!(moment("2026-11-21"), Ok(1_795_219_200));
        assert_eq!(moment("2026-11-21T00:00:01Z"), Ok(1_795_219_201));
        assert_eq!(moment("2026-11-21T01:00:00+01:00"), Ok(1_795_219_200));
        for text in ["", "tomorrow", "2026-13-01", "2026-11-21T00:00:00", "1960-01-01"] {
            assert!(moment(text).is_err(), "{text}");
        }
        assert_eq!(sha256(&"0f".repeat(32)), Ok([0x0f; 32]));
        for text in ["", &"0".repeat(63), &"g".repeat(64), &"é".repeat(32)] {
            assert!(sha256(text).is_err(), "{text}");
        }
    }
}
